"""Where models run."""

from __future__ import annotations

import torch

from saccade.pipeline.errors import ConfigError


def choose_device(name: str) -> str:
    """Return a device that is there; `auto` takes a GPU if there is one.

    Raises:
        ConfigError: if the device is unknown or not there.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=torch.device(name))
    except (RuntimeError, AssertionError) as error:
        found = "cpu" + (", cuda" if torch.cuda.is_available() else "")
        raise ConfigError(
            f"device {name!r} is not there; found: {found}. Try --device auto."
        ) from error
    return name
