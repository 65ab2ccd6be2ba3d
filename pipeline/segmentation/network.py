"""Networks of segmentation by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, cast

from torch import Tensor, nn

from saccade.models.backbone_fcn import timm_fcn
from saccade.models.fcn import FCN, FCN8s, FCN16s, FCN32s
from saccade.models.pixels import InUnitRange
from saccade.models.smp_networks import smp_network

_FCNS: Mapping[str, type[FCN]] = {"fcn8s": FCN8s, "fcn16s": FCN16s, "fcn32s": FCN32s}
KNOWN = "fcn8s, fcn16s, fcn32s, fcn:NAME for a trunk of timm, or smp:ARCH/ENCODER"


class Segmenter(Protocol):
    """A network that scores the classes of each pixel.

    Attributes:
        stride: pixels that tiles of a view have to begin at multiples of.
        margin: pixels that a tile needs around itself to come out as in the whole view; asking for
            it raises ValueError where something looks at the whole view.
        trunk: the part that sees pixels, and may have learnt from other images.
    """

    @property
    def stride(self) -> int: ...  # noqa: D102
    @property
    def margin(self) -> int: ...  # noqa: D102
    @property
    def trunk(self) -> nn.Module: ...  # noqa: D102
    def __call__(self, pixels: Tensor) -> Tensor:
        """Scores (n, classes, rows, cols) of pixels (n, 3, rows, cols), bytes or in [0, 1]."""


def segmentation_network(
    name: str, *, classes: int, options: Mapping[str, Any] | None = None
) -> nn.Module:
    """Build a network with random weights; it is a `Segmenter`.

    Args:
        name: `fcn8s`, `fcn16s` and `fcn32s` are those of the paper, on a VGG16; `fcn:NAME` is the
            same sum of scores on any trunk of timm, `fcn:resnet18`; `smp:ARCH/ENCODER` is one of
            segmentation_models_pytorch, `smp:unet/resnet18`.
        classes: number of classes.
        options: of the network: `widths` and `hidden`; `finest` and what timm takes; what the
            library's class takes.

    Raises:
        ImportError: if segmentation_models_pytorch is asked for, and not installed.
        ValueError: if there is no such network, or it does not take these options.
    """
    family, _, rest = name.partition(":")
    try:
        return _maker(name, family, rest)(classes=classes, **options or {})
    except TypeError as error:
        raise ValueError(f"network {name} does not take its options ({error}).") from error


def as_segmenter(network: nn.Module) -> Segmenter:
    """A network of `segmentation_network`, for those that call it."""
    return cast("Segmenter", network)


def _maker(name: str, family: str, rest: str) -> Callable[..., nn.Module]:
    if name in _FCNS:
        return lambda **options: InUnitRange(_FCNS[name](**options))
    if family == "fcn" and rest:
        return lambda **options: timm_fcn(rest, **options)
    arch, _, encoder = rest.partition("/")
    if family == "smp" and encoder:
        return lambda **options: smp_network(arch, encoder, **options)
    raise ValueError(f"there is no network {name!r}; wanted {KNOWN}.")
