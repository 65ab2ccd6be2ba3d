"""One file for a model: plain numbers (safetensors) behind a header that says what they are.

The header is JSON under the metadata's key `saccade`, with `format`, the kind of model, and
`version`, that of the kind's description. Loading executes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import safetensors
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import saccade
from saccade.pipeline.errors import ModelFileError
from saccade.pipeline.files import atomic_path

Network = TypeVar("Network", bound=nn.Module)


def write_weights(path: Path, weights: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write a state_dict and its header; the file appears whole or not at all."""
    plain = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    with atomic_path(path) as partial:
        save_file(plain, partial, metadata={"saccade": json.dumps(header)})


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the state_dict of a file."""
    weights: dict[str, Tensor] = load_file(path)
    return weights


def load_network(path: Path, build: Callable[[], Network], *, name: str) -> Network:
    """Build a network and give it the weights of a file.

    Args:
        path: of the file, whose header was read.
        build: makes the network with fresh weights.
        name: what the file's weights have to fit, for messages.

    Raises:
        ModelFileError: if they do not.
    """
    try:
        network = build()
        network.load_state_dict(read_weights(path))
    except (RuntimeError, ValueError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise ModelFileError(
            f"{path.name}: its weights do not fit its {name} ({reason})."
        ) from error
    return network


def read_header(path: Path, *, kind: str, newest: int, wanted: str) -> dict[str, Any]:
    """Read what a model file says of itself.

    Args:
        path: the file.
        kind: the `format` it has to have.
        newest: version of that format up to which this code reads.
        wanted: what the file should have been, for messages.

    Raises:
        ModelFileError: if the file is missing, is no model of that kind, or is of a newer format.
    """
    if not path.is_file():
        raise ModelFileError(f"{path}: there is no such file; wanted {wanted}.")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header: dict[str, Any] = json.loads((file.metadata() or {})["saccade"])
        if header["format"] != kind:
            raise ValueError(header["format"])
        version = int(header["version"])
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ModelFileError(f"{path.name}: is not {wanted}.") from error
    if version > newest:
        raise ModelFileError(
            f"{path.name}: has model format {version}, this Saccade ({saccade.__version__}) "
            f"reads up to {newest}; upgrade Saccade."
        )
    return header
