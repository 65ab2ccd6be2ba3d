"""A saliency run learns, resumes to the same weights, and shows pictures as it was told."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from saccade.models.saliency import MSINet
from saccade.pipeline.errors import ConfigError, DivergedError, ResultsError
from saccade.pipeline.saliency.config import NetworkConfig, SaliencyTrainingConfig, TargetsConfig
from saccade.pipeline.saliency.fit import Example, Picture, make_bench, train_epoch, validate
from saccade.pipeline.saliency.network import card_of, fresh_network
from saccade.pipeline.saliency.run import run_epochs
from saccade.pipeline.saliency_model import load_saliency_model

NETWORK = NetworkConfig(width=8, convolutions=1)
SETTINGS = SaliencyTrainingConfig(epochs=3, batch=2, learning_rate=1e-3, turn="none")


def picture(seed: int) -> Picture:
    """A bright square on noise: it is what has to be found."""
    dice = np.random.default_rng(seed)
    pixels = dice.integers(0, 60, (24, 32, 3)).astype(np.uint8)
    target = np.zeros((24, 32), np.float32)
    row, col = dice.integers(0, (16, 24))
    pixels[row : row + 8, col : col + 8] = 250
    target[row : row + 8, col : col + 8] = 1 / 64
    return Picture(pixels, target)


EXAMPLES = [Example(str(seed), picture(seed)) for seed in range(6)]


def run(out: Path, epochs: int = 3, key: str = "a", **options: Any) -> list[dict[str, Any]]:
    settings = dataclasses.replace(SETTINGS, epochs=epochs)
    model, card = fresh_network(NETWORK, seed=0), card_of(NETWORK, mpp=8.0)
    return run_epochs(settings, model, card, EXAMPLES[:4], EXAMPLES[4:], out, key=key, **options)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    run(folder)
    return folder


def test_it_learns_to_find_what_is_bright(one_thread: None) -> None:
    settings = dataclasses.replace(SETTINGS, turn="all")
    bench = make_bench(settings, fresh_network(NETWORK, seed=0))
    before = validate(bench, EXAMPLES[4:])
    for epoch in range(15):
        train_epoch(bench, EXAMPLES, epoch)

    after = validate(bench, EXAMPLES[4:])
    assert after["loss"] < 0.5 * before["loss"]
    assert after["cc"] > 0.7


def test_a_run_that_was_cut_off_ends_the_same(finished: Path, tmp_path: Path) -> None:
    run(tmp_path, epochs=1)  # constant rate: the first epoch of three is that of one

    history = run(tmp_path)

    assert [line["epoch"] for line in history] == [1, 2, 3]
    for name in ("model.safetensors", "last.safetensors", "metrics.jsonl"):
        assert (tmp_path / name).read_bytes() == (finished / name).read_bytes(), name


def test_the_best_epoch_is_the_one_with_the_least_validation_loss(finished: Path) -> None:
    history = run(finished)  # nothing is left to do
    losses = [line["val"]["loss"] for line in history]
    model, card = load_saliency_model(finished / "model.safetensors")

    assert card.training["epoch"] == 1 + losses.index(min(losses))
    assert validate(make_bench(SETTINGS, model), EXAMPLES[4:])["loss"] == min(losses)


def test_another_run_is_not_written_over(finished: Path, tmp_path: Path) -> None:
    run(tmp_path, epochs=1)
    with pytest.raises(ResultsError, match="--replace"):
        run(tmp_path, epochs=1, key="b")

    assert len(run(tmp_path, epochs=1, key="b", replace=True)) == 1


def test_early_stopping_ends_the_run(tmp_path: Path, one_thread: None) -> None:
    settings = dataclasses.replace(SETTINGS, epochs=9, learning_rate=1e-12, early_stopping=2)
    model = fresh_network(NETWORK, seed=0)
    history = run_epochs(
        settings, model, card_of(NETWORK, mpp=None), EXAMPLES, EXAMPLES, tmp_path, key=""
    )

    assert len(history) < 9


def test_the_gradient_of_a_batch_is_the_mean_of_its_pictures(one_thread: None) -> None:
    """One step of plain descent on two pictures is the mean of the steps on each alone."""

    def step(examples: list[Example], batch: int) -> torch.Tensor:
        settings = dataclasses.replace(SETTINGS, batch=batch, clip_norm=0.0)
        bench = make_bench(settings, fresh_network(NETWORK, seed=0))
        optimizer = torch.optim.SGD(bench.model.parameters(), lr=1.0)
        train_epoch(dataclasses.replace(bench, optimizer=optimizer), examples, 0)
        return torch.nn.utils.parameters_to_vector(bench.model.parameters()).detach()

    both = step(EXAMPLES[:2], 2)
    alone = [step([example], 1) for example in EXAMPLES[:2]]
    torch.testing.assert_close(both, (alone[0] + alone[1]) / 2, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("symmetry", "mirrored"), [(0, False), (4, True)])
def test_view_and_target_are_turned_alike(symmetry: int, mirrored: bool) -> None:
    view, target = picture(0).tensors(symmetry)

    assert view.shape == (1, 3, 24, 32)
    assert target.shape == (1, 1, 24, 32)
    assert torch.equal(view[0, 0] == 250, target[0, 0] > 0)
    assert torch.equal(target, picture(0).tensors()[1].flip(-1)) is mirrored


def test_a_loss_that_is_no_number_stops_the_run(one_thread: None) -> None:
    model = fresh_network(NETWORK, seed=0)
    torch.nn.init.constant_(model.score.weight, float("nan"))

    with pytest.raises(DivergedError, match=r"Lower training\.learning_rate"):
        train_epoch(make_bench(SETTINGS, model), EXAMPLES[:1], 0)


def test_maps_that_stay_flat_stop_the_run(one_thread: None) -> None:
    model = fresh_network(NETWORK, seed=0)
    torch.nn.init.zeros_(model.score.weight)
    settings = dataclasses.replace(SETTINGS, learning_rate=1e-30)

    with pytest.raises(DivergedError, match="every map of epoch 1 is flat"):
        train_epoch(make_bench(settings, model), EXAMPLES[:2], 0)


def test_the_default_network_is_the_papers() -> None:
    card = card_of(NetworkConfig(), mpp=8.0)

    with torch.device("meta"):
        shapes = [[p.shape for p in each.parameters()] for each in (card.build(), MSINet())]
    assert shapes[0] == shapes[1]


def test_a_run_may_begin_from_another_ones_model(finished: Path) -> None:
    path = str(finished / "last.safetensors")

    begun = fresh_network(dataclasses.replace(NETWORK, weights=path), seed=5)
    trained, _ = load_saliency_model(Path(path))
    assert all(map(torch.equal, begun.parameters(), trained.parameters()))
    with pytest.raises(ConfigError, match="blocks of"):
        fresh_network(NetworkConfig(width=4, convolutions=1, weights=path), seed=0)


def test_a_vgg16_of_another_kind_is_refused(finished: Path) -> None:
    with pytest.raises(ConfigError, match=r"network.vgg16: .* wanted the state dict of a VGG16"):
        fresh_network(NetworkConfig(vgg16=str(finished / "last.safetensors")), seed=0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NetworkConfig(width=3), "even and positive"),
        (lambda: NetworkConfig(convolutions=4), "must be 1, 2 or 3"),
        (lambda: NetworkConfig(vgg16="a", weights="b"), "exclude each other"),
        (lambda: NetworkConfig(width=32, vgg16="a"), "width 64 with 3"),
        (lambda: TargetsConfig(blur_um=-1.0), "blur_um must be finite and not negative"),
        (lambda: TargetsConfig(kind="attention"), "goes with targets.kind attention"),
        (lambda: TargetsConfig(teacher="a"), "goes with targets.kind attention"),
        (lambda: SaliencyTrainingConfig(epochs=0), "at least 1"),
        (lambda: SaliencyTrainingConfig(learning_rate=0.0), "positive and finite"),
    ],
)
def test_impossible_settings_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()
