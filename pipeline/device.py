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


def require_precision(precision: str, device: str) -> None:
    """Refuse a precision that the device does not compute in.

    Raises:
        ConfigError: if `precision` is `bf16` and the processor or the GPU lacks it. A processor
            without it would emulate it at best, and stop at an instruction it does not know at
            worst.
    """
    if precision == "float32":
        return
    if not _computes_in_bf16(torch.device(device).type):
        raise ConfigError(
            f"training.precision: {precision} wants a device that computes in it (an NVIDIA GPU "
            f"since Ampere, a processor with AVX-512); {device} does not. Choose float32."
        )


def _computes_in_bf16(kind: str) -> bool:
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    mkldnn = kind == "cpu" and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return mkldnn and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
