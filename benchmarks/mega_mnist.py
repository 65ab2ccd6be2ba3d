"""Megapixel MNIST, trained by `saccade train` with one estimator of the gradient or another.

    python benchmarks/mega_mnist.py train --set DIR --out DIR --estimator published --seed 1
    python benchmarks/mega_mnist.py table DIR [DIR ...]

`train` is the command of that name on a folder of `mega_mnist_set.py`, with its `run.yaml` and what
`--set-key` changes of it; a run that was stopped goes on. Estimators:

* saccade: without replacement, unbiased towards features and attention;
* replacement: with replacement;
* published: without replacement, with the gradient towards the attention of the published
  implementation, which is biased (`estimators.py` says by how much).

Only what is drawn and weighed is exchanged; reading, networks, optimiser and files are Saccade's in
all three. `table` prints the error on the test images by epoch, and the epochs to 50 % and to 10 %.
Nothing is chosen by the test images: every figure is of the last weights of an epoch.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import measure
import torch
import yaml
from estimators import published_weights
from torch import Tensor

from saccade.cli.tables import epoch_line
from saccade.models import attention_sampling
from saccade.models.attention_sampling import (
    draw_places_with_replacement,
    sampling_weights_with_replacement,
)
from saccade.pipeline import look
from saccade.pipeline.sheet import read_sheet
from saccade.pipeline.train import train
from saccade.pipeline.yaml_config import parse_config

ESTIMATORS = ("saccade", "replacement", "published")


def use(estimator: str) -> None:
    """Exchange what is drawn and how it is weighed, for this process."""
    if estimator == "replacement":
        look.draw_places = _drawn_again
        attention_sampling.sampling_weights = sampling_weights_with_replacement
    if estimator == "published":
        attention_sampling.sampling_weights = published_weights


def _drawn_again(
    log_proposal: Tensor, k: int, *, generator: torch.Generator | None = None
) -> Tensor:
    return draw_places_with_replacement(log_proposal, k, generator=generator)


def _changed(text: str, changes: Sequence[str], seed: int) -> str:
    settings = yaml.safe_load(text)
    for change in [*changes, f"training.seed={seed}"]:
        key, _, value = change.partition("=")
        section, _, name = key.partition(".")
        settings[section][name] = yaml.safe_load(value)
    return yaml.safe_dump(settings)


def run(options: argparse.Namespace) -> None:
    use(options.estimator)
    text = (options.set / "run.yaml").read_text()
    config = parse_config(_changed(text, options.set_key, options.seed))
    rows = read_sheet(options.set / "slides.csv")
    chosen = [row for row in rows if row.split == "train"][: options.train]
    chosen += [row for row in rows if row.split == "val"][: options.test]
    train(
        config, chosen, options.out, pyramids=options.set / "pyramids",
        report=lambda line: print(epoch_line(line, config.training.epochs), flush=True),
    )  # fmt: skip


def errors_of(run: Path) -> list[float]:
    """Error on the test images after each epoch."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [1 - json.loads(line)["val"]["accuracy"] for line in lines]


def _epochs_to(errors: Sequence[float], wanted: float) -> str:
    reached = [epoch for epoch, error in enumerate(errors, start=1) if error <= wanted]
    return f"{reached[0]}" if reached else f"> {len(errors)}"


def table(folders: Sequence[Path]) -> None:
    """A row a run: error by epoch, and when it fell below marks."""
    rows = []
    for folder in folders:
        errors = errors_of(folder)
        shown = [f"{errors[i]:.2f}" for i in _some(len(errors))]
        marks = [_epochs_to(errors, mark) for mark in (0.5, 0.2, 0.1)]
        last = f"{median(errors[-3:]):.3f}"
        rows.append([folder.name, f"{len(errors)}", " ".join(shown), last, *marks])
    columns = ["run", "epochs", "error by epoch", "median of the last three"]
    columns += ["to 50 %", "to 20 %", "to 10 %"]
    measure.table("Error on the test images", columns, rows)


def _some(count: int, most: int = 12) -> list[int]:
    """At most so many epochs, evenly chosen, the last among them."""
    step = -(-count // most)
    return list(range(count - 1, -1, -step))[::-1]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    training = commands.add_parser("train")
    training.add_argument("--set", type=Path, required=True, help="folder of mega_mnist_set.py")
    training.add_argument("--out", type=Path, required=True)
    training.add_argument("--estimator", choices=ESTIMATORS, default="saccade")
    training.add_argument("--seed", type=int, default=0)
    training.add_argument("--train", type=int, default=None, help="images; all of them if absent")
    training.add_argument("--test", type=int, default=None, help="images; all of them if absent")
    training.add_argument("--set-key", nargs="*", default=[], metavar="SECTION.KEY=VALUE")
    tables = commands.add_parser("table")
    tables.add_argument("runs", type=Path, nargs="+")
    options = parser.parse_args()
    if options.command == "train":
        run(options)
    else:
        table(options.runs)


if __name__ == "__main__":
    main()
