"""Networks of segmentation_models_pytorch: U-Net, SegFormer, UPerNet and more, by name.

Source: Iakubovskii, "Segmentation Models Pytorch",
https://github.com/qubvel-org/segmentation_models.pytorch; the papers of the networks are named in
its documentation. They are used as they are; this wraps them so that they take pixels of any size
and say how far they see.
"""

import difflib
import functools
import inspect
from typing import Any, cast

import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor, nn

from saccade.models.fcn import Scores
from saccade.models.field_of_view import margin_of, require_same_in_tiles
from saccade.models.pixels import Numbers, Standardise, Views

IMAGENET_MEAN: Numbers = (0.485, 0.456, 0.406)
IMAGENET_STD: Numbers = (0.229, 0.224, 0.225)


class SmpNetwork(nn.Module):
    """A network of segmentation_models_pytorch; a view is continued to whole strides.

    What lies beyond the right and the lower edge of the view has the mean colour.

    Args:
        network: with an `encoder`.
        mean: of the channels, for pixels in [0, 1].
        std: likewise.

    Attributes:
        stride: pixels of one cell of its coarsest map. Tiles of a view have to begin at multiples
            of it.
    """

    def __init__(
        self, network: nn.Module, *, mean: Numbers = IMAGENET_MEAN, std: Numbers = IMAGENET_STD
    ) -> None:
        super().__init__()
        self.standardise = Standardise(mean, std)
        self.network = network
        self.stride = int(cast("Any", network).encoder.output_stride)

    @property
    def trunk(self) -> nn.Module:
        """The part that sees pixels, and may have learnt from other images."""
        encoder: Any = self.network.encoder
        return cast("nn.Module", getattr(encoder, "model", encoder))  # one of timm's lies within

    @functools.cached_property
    def margin(self) -> int:
        """Least margin with which tiles come out as in the whole view: a multiple of `stride`.

        Measured when first asked for, which takes some seconds.

        Raises:
            ValueError: if something looks at all of a view, such as attention or a pooling over
                it, or depends on where the view ends: no margin will do then.
        """
        margin = margin_of(self, self.stride)
        require_same_in_tiles(self, self.stride, margin)
        return margin

    def forward(self, views: Views) -> Scores:
        """Scores for each pixel of views of any size, in [0, 1] or bytes."""
        rows, cols = views.shape[2:]
        beyond = (0, -cols % self.stride, 0, -rows % self.stride)
        scores: Tensor = self.network(F.pad(self.standardise(views), beyond))
        return scores[:, :, :rows, :cols]


def smp_network(arch: str, encoder: str, *, classes: int, **options: Any) -> SmpNetwork:
    """Build a network with random weights.

    Args:
        arch: `unet`, `unetplusplus`, `linknet`, `fpn`, `segformer`, `upernet` and others.
        encoder: as the library knows it: `resnet18`, `mit_b0`, or `tu-NAME` for a model of timm.
        classes: number of classes.
        options: further ones of the network's class, such as `encoder_depth`.

    Raises:
        ImportError: if the library is not installed.
        ValueError: if it has no such network or encoder, or the options do not fit.
    """
    smp = _library()
    _require_known("network", arch, smp.MODEL_ARCHITECTURES_MAPPING)
    if not encoder.startswith("tu-"):  # those of timm take what timm takes
        _require_known("encoder", encoder, smp.encoders.encoders)
        taken = inspect.signature(smp.MODEL_ARCHITECTURES_MAPPING[arch]).parameters
        for option in options:
            _require_known(f"option of {arch}", option, taken)
    try:
        network = smp.create_model(
            arch, encoder_name=encoder, encoder_weights=None, classes=classes, **options
        )
    except (AssertionError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"segmentation_models_pytorch makes no {arch} on {encoder} with {options} ({error})."
        ) from error
    return SmpNetwork(network)


def _library() -> Any:
    try:
        import segmentation_models_pytorch as smp  # seconds; only who asks for its networks waits
    except ImportError as error:
        raise ImportError(
            "networks named smp:... are those of segmentation_models_pytorch, which is not "
            'installed; pip install "saccade[segmentation]".'
        ) from error
    return smp


def _require_known(what: str, name: str, known: Any) -> None:
    if name not in known:
        close = difflib.get_close_matches(name, known, n=3) or sorted(known)[:12]
        raise ValueError(
            f"segmentation_models_pytorch has no {what} {name!r}; some that it has: "
            f"{', '.join(close)}."
        )
