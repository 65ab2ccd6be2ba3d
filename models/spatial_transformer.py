"""Spatial transformer: a network that says where to look, and the view as seen from there.

A small network looks at an image and gives an affine map from places of the output to places of the
image; the output is the image, interpolated at these places. All of it has gradients, so that where
to look is learnt from what is made of it: a crop without a draw.

Source: Jaderberg, Simonyan, Zisserman and Kavukcuoglu, "Spatial Transformer Networks", NeurIPS
2015, https://arxiv.org/abs/1506.02025: equation 1 (affine) or 2 (attention), sampled by equation 5.
"""

from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from jaxtyping import Float
from torch import Tensor, nn

Images = Float[Tensor, "images channels rows cols"]
Maps = Float[Tensor, "images 2 3"]
Form = Literal["affine", "attention"]

_IDENTITY = {"affine": (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), "attention": (1.0, 0.0, 0.0)}
# Of the small network: channels, cells a side that are left of an image, and features.
_WIDTH, _CELLS, _FEATURES = 16, 4, 32
_LEAK = 0.1  # of what is negative: without it, most of the few features died in training
_GLANCE_PX = 32  # an image is halved, or reduced to a third and so on, until no side is longer


class SpatialTransformer(nn.Module):
    """Look at images from where a network says; a fresh one gives them as they are.

    Args:
        form: `affine` for any affine map, [[a, b, x], [c, d, y]]; `attention` for a scale and a
            shift alone, [[s, 0, x], [0, s, y]].
        localisation: maps images to features (images, features); a small network by default.
        features: how many; has to be given with `localisation`.
        channels: of the images, for the network by default.
        size_px: (width, height) of what it gives; those of the images if None.

    Raises:
        ValueError: if there is no such form, or only one of `localisation` and `features`.
    """

    def __init__(
        self,
        *,
        form: str = "affine",
        localisation: nn.Module | None = None,
        features: int | None = None,
        channels: int = 3,
        size_px: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        if form not in _IDENTITY:
            raise ValueError(f"no form {form!r}; there are: {', '.join(_IDENTITY)}.")
        if (localisation is None) != (features is None):
            raise ValueError("localisation and features have to be given together.")
        self.form = form
        self.size_px = size_px
        self.localisation = small_localisation(channels) if localisation is None else localisation
        begin = torch.tensor(_IDENTITY[form])
        self.regress = nn.Linear(features or _FEATURES, len(begin))
        nn.init.zeros_(self.regress.weight)
        with torch.no_grad():
            self.regress.bias.copy_(begin)

    def forward(self, images: Images) -> Float[Tensor, "images channels out_rows out_cols"]:
        """Return the images as seen from where the network says.

        Under autocast, too, all is computed as finely as without: of a place, bf16 has eight bits.
        """
        with torch.autocast(images.device.type, enabled=False):
            return look(images, self.where(images), size_px=self.size_px)

    def where(self, images: Images) -> Maps:
        """Affine map of each image, from output to image; see `look`.

        What is looked at may be another image of the same place, such as a finer one.
        """
        theta: Tensor = self.regress(self.localisation(images))
        if self.form == "attention":
            scale, x, y = theta.unbind(dim=1)
            zero = torch.zeros_like(scale)
            theta = torch.stack([scale, zero, x, zero, scale, y], dim=1)
        return theta.view(-1, 2, 3)


def look(
    images: Images, where: Maps, *, size_px: tuple[int, int] | None = None
) -> Float[Tensor, "images channels out_rows out_cols"]:
    """Interpolate images bilinearly at places that an affine map gives.

    The identity gives an image of the same size exactly as it is, and has the gradient of
    interpolation all the same. Anything else is exact but for the rounding of places.

    Args:
        images: beyond their edges there are zeros.
        where: map (x, y, 1) of the output to (x, y) of the image. In both, -1 and 1 are the outer
            edges of the first and the last pixel. [[s, 0, x], [0, s, y]] sees a window of s times
            the image's sides around (x, y).
        size_px: (width, height) of the output; those of the images if None.

    >>> row = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 1, 1, 4)
    >>> half = torch.tensor([[[0.5, 0.0, 0.5], [0.0, 1.0, 0.0]]])
    >>> look(row, half, size_px=(2, 1))
    tensor([[[[3., 4.]]]])
    """
    width, height = size_px or (images.shape[3], images.shape[2])
    shape = [*images.shape[:2], height, width]
    grid = F.affine_grid(where, shape, align_corners=False)
    seen = F.grid_sample(images, grid, mode="bilinear", align_corners=False)
    return seen if seen.shape != images.shape else _unrounded(images, where, seen)


def _unrounded(images: Images, where: Maps, seen: Images) -> Images:
    """What was seen, without its rounding where nothing was moved; gradients are those of it."""
    still = (where == torch.eye(2, 3, device=where.device)).flatten(1).all(dim=1)
    exact = images.detach() + (seen - seen.detach())
    return torch.where(still[:, None, None, None], exact, seen)


def tile_transformer(
    form: Form, *, channels: int = 3, size_px: int | None = None
) -> SpatialTransformer:
    """A transformer for tiles, whose small network sees them from afar: no side above 32 px.

    Args:
        form: `affine` or `attention`.
        channels: of the tiles.
        size_px: side of what it gives; that of the tiles if None.
    """
    return SpatialTransformer(
        form=form,
        localisation=nn.Sequential(_Glance(), *small_localisation(channels)),
        features=_FEATURES,
        size_px=None if size_px is None else (size_px, size_px),
    )


class _Glance(nn.Module):
    """Means of squares of pixels."""

    def forward(self, images: Images) -> Float[Tensor, "images channels fewer_rows fewer_cols"]:
        return F.avg_pool2d(images, -(-max(images.shape[2:]) // _GLANCE_PX), ceil_mode=True)


def small_localisation(channels: int = 3) -> nn.Sequential:
    """Three strided convolutions, then all of 4 x 4 cells: where something is has to be kept.

    Args:
        channels: of the images.

    Returns:
        A network from images of any size to 32 features.
    """
    return nn.Sequential(
        nn.Conv2d(channels, _WIDTH, 3, stride=2, padding=1),
        nn.LeakyReLU(_LEAK),
        nn.Conv2d(_WIDTH, _WIDTH, 3, stride=2, padding=1),
        nn.LeakyReLU(_LEAK),
        nn.Conv2d(_WIDTH, _WIDTH, 3, stride=2, padding=1),
        nn.LeakyReLU(_LEAK),
        nn.AdaptiveAvgPool2d(_CELLS),
        nn.Flatten(),
        nn.Linear(_WIDTH * _CELLS**2, _FEATURES),
        nn.LeakyReLU(_LEAK),
    )
