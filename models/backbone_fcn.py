"""A class for each pixel from any trunk that has maps at several strides.

As in FCN-8s a linear layer scores each map, and scores are enlarged and added from the coarsest map
to the finest. What differs suits trunks of all kinds. A view is continued with the mean colour to
whole cells of the coarsest map, at the right and the bottom, instead of lying in 100 pixels of
zeros; so maps of all strides end together, and none has to be cut. And where interpolation looks
beyond the last cell, that cell is repeated.

Source: Long, Shelhamer and Darrell, CVPR 2015, https://arxiv.org/abs/1411.4038; see `fcn.py`.
"""

import functools
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from jaxtyping import Float
from torch import Tensor, nn

from saccade.models.encoders import require_timm_model
from saccade.models.fcn import Scores, zero_scores
from saccade.models.field_of_view import margin_of
from saccade.models.pixels import Numbers, Standardise, Views


class BackboneFCN(nn.Module):
    """Scores of the classes for each pixel, from the maps of a trunk; all zero at first.

    Args:
        trunk: maps standardised views (images, channels, rows, cols), whose sides are multiples of
            the coarsest stride, to a sequence of maps (images, width, rows / stride, cols /
            stride), none finer than the one before.
        widths: channels of each map.
        strides: of each map, in pixels.
        classes: number of classes.
        mean: of the channels that the trunk expects, for pixels in [0, 1].
        std: likewise.
        finest: maps of smaller strides are left out. Of several with one stride the last counts.
        channels_last: the trunk's maps are (images, rows / stride, cols / stride, width) instead.

    Attributes:
        stride: that of the coarsest map. Tiles of a view have to begin at multiples of it.

    Raises:
        ValueError: if no map is left, or a stride is no multiple of the one before.
    """

    def __init__(
        self,
        trunk: nn.Module,
        *,
        widths: Sequence[int],
        strides: Sequence[int],
        classes: int,
        mean: Numbers,
        std: Numbers,
        finest: int = 8,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        places = {stride: place for place, stride in enumerate(strides) if stride >= finest}
        if not places or any(coarse % fine for fine, coarse in pairwise(places)):
            raise ValueError(
                f"wanted a map of stride {finest} or more, and each a multiple of the one before; "
                f"the trunk has the strides {tuple(strides)}."
            )
        self.standardise = Standardise(mean, std)
        self.trunk = trunk
        self.scores = nn.ModuleList(
            zero_scores(widths[place], classes) for place in places.values()
        )
        self.strides, self._places = tuple(places), tuple(places.values())
        self.stride = self.strides[-1]
        self._channels_last = channels_last

    @functools.cached_property
    def margin(self) -> int:
        """Least margin with which tiles come out as in the whole view: a multiple of `stride`.

        Measured when first asked for, which takes a few seconds for a large trunk.

        Raises:
            ValueError: if something in the trunk looks at all of a view, such as squeeze and
                excitation, attention or instance norm: no margin will do then.
        """
        return margin_of(self, self.stride, channels=len(self.standardise.mean))

    def forward(self, views: Views) -> Scores:
        """Scores for each pixel of views of any size, in [0, 1] or bytes.

        Raises:
            ValueError: if the trunk gives other maps than it was said to.
        """
        rows, cols = views.shape[2:]
        beyond = (0, -cols % self.stride, 0, -rows % self.stride)
        *finer, coarsest = self._maps(F.pad(self.standardise(views), beyond))
        *score_finer, score_coarsest = self.scores
        scores: Tensor = score_coarsest(coarsest)
        factors = [coarse // fine for fine, coarse in pairwise(self.strides)]
        for seen, score, factor in zip(
            reversed(finer), reversed(score_finer), reversed(factors), strict=True
        ):
            scores = _enlarge(scores, factor) + score(seen)
        return _enlarge(scores, self.strides[0])[:, :, :rows, :cols]

    def _maps(
        self, x: Float[Tensor, "images channels whole_rows whole_cols"]
    ) -> list[Float[Tensor, "images _ _ _"]]:
        """The chosen maps of the trunk, finest first."""
        seen = self.trunk(x)
        maps = [
            seen[place].movedim(-1, 1) if self._channels_last else seen[place]
            for place in self._places
        ]
        for stride, each in zip(self.strides, maps, strict=True):
            wanted, found = tuple(side // stride for side in x.shape[2:]), tuple(each.shape[2:])
            if wanted != found:
                raise ValueError(
                    f"wanted a map of {wanted} cells of {stride} px from the trunk, got {found}: "
                    "its layers have to pad so that sides are divided exactly."
                )
        return maps


def timm_fcn(
    name: str, *, classes: int, finest: int = 8, pretrained: bool = False, **options: Any
) -> BackboneFCN:
    """Take a timm model as the trunk, with the mean and std that it was trained with.

    Args:
        name: as timm knows it: `resnet18`, `vgg16_bn`.
        classes: number of classes.
        finest: maps of smaller strides are left out.
        pretrained: fetch timm's weights; needs the network or timm's cache.
        options: further ones of `timm.create_model`.

    Raises:
        ValueError: if timm has no such model, or that has no maps of fitting strides.
    """
    import timm  # takes seconds; only those who ask for one of its models wait

    require_timm_model(name)
    trunk: Any = timm.create_model(name, features_only=True, pretrained=pretrained, **options)
    return BackboneFCN(
        trunk,
        widths=trunk.feature_info.channels(),
        strides=trunk.feature_info.reduction(),
        classes=classes,
        mean=tuple(trunk.pretrained_cfg["mean"]),
        std=tuple(trunk.pretrained_cfg["std"]),
        finest=finest,
        channels_last=getattr(trunk, "output_fmt", "NCHW") == "NHWC",
    )


def _enlarge(maps: Tensor, factor: int) -> Tensor:
    """Bilinear interpolation between the centres of cells."""
    return F.interpolate(maps, scale_factor=factor, mode="bilinear", align_corners=False)
