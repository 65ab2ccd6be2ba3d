"""Networks that turn an image into a map of features, for what has to be found in places of it."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from jaxtyping import Float
from torch import Tensor, nn

from saccade.models.encoders import require_timm_model
from saccade.models.pixels import Numbers, Standardise, Views

Norm = Literal["batch", "group"]


class Trunk(nn.Module):
    """Standardise images, then run a network over them that keeps rows and columns.

    Args:
        network: maps standardised images (images, channels, height, width) to features
            (images, features, rows, cols), or to a list of which these are all.
        channels: of the features.
        stride: pixels of the image that a cell of the features stands for.
        mean: of the channels of the image, for pixels in [0, 1].
        std: likewise.
        channels_last: the network gives (images, rows, cols, features) instead.
        merge: makes the features from all maps that the network gives, if not from one.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        channels: int,
        stride: int,
        mean: Numbers,
        std: Numbers,
        channels_last: bool = False,
        merge: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.standardise = Standardise(mean, std)
        self.network = network
        self.channels = channels
        self.stride = stride
        self.channels_last = channels_last
        self.merge = merge

    def forward(self, images: Views) -> Float[Tensor, "images features grid_rows grid_cols"]:
        """Return the features of images, RGB in [0, 1] or bytes."""
        features: Any = self.network(self.standardise(images))
        maps = [features] if isinstance(features, Tensor) else list(features)
        if self.channels_last:
            maps = [each.movedim(-1, 1) for each in maps]
        if self.merge is None:
            (merged,) = maps
        else:
            merged = self.merge(maps)
        return merged


class TopDown(nn.Module):
    """Give fine features what coarse ones know: the finest map of a feature pyramid.

    Each map is brought to as many channels by a convolution of 1 x 1; from the coarsest on the sum
    so far is enlarged, each cell repeated, and added to the next finer map. A convolution of 3 x 3
    smooths the last sum.

    Source: Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017,
    https://arxiv.org/abs/1612.03144, section 3, of whose maps only the finest is made here: objects
    of one slide at one scale differ less in size than those of photographs.

    Args:
        channels: of the maps, from the finest to the coarsest.
        merged: channels of the result.
    """

    def __init__(self, channels: Sequence[int], merged: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(each, merged, 1) for each in channels)
        self.smooth = nn.Conv2d(merged, merged, 3, padding=1)

    def forward(
        self, maps: Sequence[Float[Tensor, "images _ _ _"]]
    ) -> Float[Tensor, "images merged rows cols"]:
        """Merge maps, the finest first; the result has its rows and columns."""
        merged, *finer = [look(each) for look, each in zip(self.lateral, maps, strict=True)][::-1]
        for each in finer:
            merged = each + F.interpolate(merged, size=each.shape[2:], mode="nearest")
        smooth: Tensor = self.smooth(merged)
        return smooth


def timm_trunk(
    name: str,
    *,
    stride: int = 16,
    coarsest: int | None = None,
    merged: int = 128,
    pretrained: bool = False,
    norm: Norm = "batch",
    **options: Any,
) -> Trunk:
    """Take a timm model up to its last layer of a stride, with the mean and std of its training.

    Args:
        name: as timm knows it: `vgg16`, `resnet18`.
        stride: pixels that a cell stands for. Small objects want a small one.
        coarsest: stride up to which coarser features are merged into these, see `TopDown`; what a
            cell knows of its surroundings comes from there. None for those of `stride` alone.
        merged: channels of the merged features.
        pretrained: fetch timm's weights; needs the network or timm's cache.
        norm: `group` puts group norms in place of batch norms, see `use_group_norms`.
        options: further ones of `timm.create_model`, say `dynamic_img_size=True` for a transformer.

    Raises:
        ValueError: if timm has no such model, or that has no features of such strides.
    """
    import timm  # takes seconds; only those who ask for one of its models wait

    require_timm_model(name)
    with torch.device("meta"):  # only a built model knows its strides; this one weighs nothing
        unweighed: Any = timm.create_model(name, features_only=True, **options)
    info = unweighed.feature_info
    levels = _levels(name, info.out_indices, info.reduction(), stride, coarsest or stride)
    network: Any = timm.create_model(
        name, pretrained=pretrained, features_only=True, out_indices=levels, **options
    )
    if norm == "group":
        use_group_norms(network)
    channels = network.feature_info.channels()
    return Trunk(
        network,
        channels=merged if coarsest else channels[0],
        stride=stride,
        mean=tuple(network.pretrained_cfg["mean"]),
        std=tuple(network.pretrained_cfg["std"]),
        channels_last=getattr(network, "output_fmt", "NCHW") == "NHWC",
        merge=TopDown(channels, merged) if coarsest else None,
    )


def _levels(
    name: str, indices: Sequence[int], strides: Sequence[int], finest: int, coarsest: int
) -> tuple[int, ...]:
    """Numbers of the layers that have features from one stride to another: the last of each."""
    for each in (finest, coarsest):
        if each not in strides:
            raise ValueError(
                f"timm's {name!r} has features of the strides {strides}, not of {each}."
            )
    last = {stride: index for index, stride in zip(indices, strides, strict=True)}
    levels = tuple(last[each] for each in sorted(last) if finest <= each <= coarsest)
    if not levels:
        raise ValueError(
            f"features of stride {coarsest} are finer than those of stride {finest} that they are "
            "to be merged into."
        )
    return levels


def use_group_norms(network: nn.Module, *, groups: int = 32) -> None:
    """Put a group norm in place of each batch norm; the network then learns from few tiles a batch.

    What a tile gives then hangs on nothing else in its batch. Weights and biases of the norms stay;
    the statistics that batch norms have gathered go, so weights of a network with batch norms have
    to learn on.

    Source: Wu and He, "Group Normalization", ECCV 2018, https://arxiv.org/abs/1803.08494.

    Args:
        network: changed in place.
        groups: of channels; where they do not divide the channels, the most that do.
    """
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(parent, name, _group_norm(child, groups))


def _group_norm(norm: nn.BatchNorm2d, groups: int) -> nn.Module:
    channels = norm.num_features
    most = max(n for n in range(1, groups + 1) if channels % n == 0)
    group = nn.GroupNorm(most, channels, eps=norm.eps, affine=norm.affine)
    if norm.affine:
        group.weight, group.bias = norm.weight, norm.bias
    # Those of timm also drop and activate.
    further = [getattr(norm, part) for part in ("drop", "act") if hasattr(norm, part)]
    return nn.Sequential(group, *further) if further else group
