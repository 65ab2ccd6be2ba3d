"""Weights of an encoder that knows single digits, for comparisons that begin where to look.

    python benchmarks/mega_mnist_digits.py --mnist DIR --out digits.safetensors

The encoder `paper` learns the class of single MNIST digits, each anywhere in a tile of 50 px. With
`model.weights: digits.safetensors` and `training.finetune: frozen`, what is left to learn of
Megapixel MNIST is where to look and what the digits of an image add up to, which is what estimators
of the gradient differ in.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from mega_mnist_set import SIDE, read_mnist
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn

from saccade.models.encoders import paper_encoder

_TILE, _BATCH, _RATE = 50, 48, 2e-3


def scattered(
    digits: NDArray[np.float32], chosen: NDArray[np.int64], dice: np.random.Generator
) -> Tensor:
    """Tiles (n, 3, 50, 50), each with one digit wholly in it."""
    tiles = np.zeros((len(chosen), 3, _TILE, _TILE), np.float32)
    for tile, number in zip(tiles, chosen, strict=True):
        row, col = dice.integers(0, _TILE - SIDE + 1, 2)
        tile[:, row : row + SIDE, col : col + SIDE] = digits[number]
    return torch.from_numpy(tiles)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mnist", type=Path, required=True, help="folder of the idx files")
    parser.add_argument("--out", type=Path, required=True, help="a .safetensors file")
    parser.add_argument("--steps", type=int, default=600)
    options = parser.parse_args()
    digits, classes = read_mnist(options.mnist, "train")
    torch.manual_seed(0)
    dice = np.random.default_rng(0)
    encoder, head = paper_encoder(), nn.Linear(32, 10)
    parameters = [*encoder.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=_RATE)
    hits: list[float] = []
    for step in range(options.steps):
        optimizer.param_groups[0]["lr"] = _RATE * min(1, 2 * (1 - step / options.steps))
        chosen = dice.integers(0, len(digits), _BATCH)
        wanted = torch.from_numpy(classes[chosen].astype(np.int64))
        logits = head(encoder(scattered(digits, chosen, dice)))
        optimizer.zero_grad()
        nn.functional.cross_entropy(logits, wanted).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        hits.append(float((logits.argmax(dim=1) == wanted).float().mean()))
    save_file(encoder.trunk.state_dict(), options.out)
    print(f"accuracy over the last 50 steps: {np.mean(hits[-50:]):.3f}")


if __name__ == "__main__":
    main()
