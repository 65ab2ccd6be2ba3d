"""MSI-Net: where people look first, from one view of a whole image.

A VGG16 whose last pooling steps keep their resolution sees the image at three depths; dilated
convolutions and the mean over the whole image put each place into its context; a decoder brings
the evidence back to the pixels of the view.

Source: Kroner, Senden, Driessens and Goebel, "Contextual encoder-decoder network for visual
saliency prediction", Neural Networks 129, 2020, https://arxiv.org/abs/1902.06634, and the published
code, whose numbers are met: means of the channels in the order blue, green, red, taken off red,
green, blue; pooling that pads at the bottom and the right; upsampling without a shift by half a
pixel. Two things are added. A view whose sides are no multiples of 8 counts as if the last cells
reached beyond its edge; the published code shrinks images to such sides. And the network comes in
parts, since only the mean over the image and the last scaling look at all of it at once:

    features(view or tile) -> mean over the whole image -> evidence(features, mean) -> normalise

so that a view larger than memory is computed tile by tile, and to the same numbers.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from jaxtyping import Float
from torch import Tensor, nn

from saccade.models.initialise import glorot_uniform
from saccade.models.pixels import Standardise, Views
from saccade.models.vgg16 import VGG16_DEPTHS, VGG16_WIDTHS, convolution, halve, vgg16_blocks

Maps = Float[Tensor, "images 1 rows cols"]
Features = Float[Tensor, "images features grid_rows grid_cols"]

# To the letter: those of blue, green and red, which are taken off red, green and blue.
PUBLISHED_MEANS = (103.939, 116.779, 123.68)
_DILATIONS = (1, 4, 8, 12)  # of the branches that put a place into its context
_TINY = 1e-7


class MSINet(nn.Module):
    """Saliency of each pixel of a view, in [0, 1]. 24,934,209 parameters by default.

    Args:
        widths: channels of the five blocks of the encoder; those of VGG16 by default.
        depths: convolutions of each block, those of VGG16 by default and at most.
        context_width: channels of each branch that looks at the context, and of their sum.
        decoder_widths: channels of the decoder after each of its three doublings.

    Attributes:
        stride: pixels of the view that one cell of the features stands for. Tiles of a view have
            to begin at multiples of it.
        margin: pixels that a tile has to be given beyond its own on each side to come out as it
            would in the whole view: a multiple of `stride`, and no less than half the field of
            view of a pixel.
        feature_margin: the same for `features` alone.

    Raises:
        ValueError: if there are not five blocks of at least one channel and one convolution, or
            one is deeper than VGG16's, as `margin` would be too small for it.
    """

    stride = 8
    margin = 224
    feature_margin = 112

    def __init__(
        self,
        *,
        widths: Sequence[int] = VGG16_WIDTHS,
        depths: Sequence[int] = VGG16_DEPTHS,
        context_width: int = 256,
        decoder_widths: Sequence[int] = (128, 64, 32),
    ) -> None:
        super().__init__()
        _check(widths, depths, context_width, decoder_widths)
        self.standardise = Standardise(PUBLISHED_MEANS, (1.0, 1.0, 1.0))
        self.encoder = vgg16_blocks(widths, depths, dilations=(1, 1, 1, 1, 2))
        seen = sum(widths[2:])
        self.context = nn.ModuleList(
            convolution(seen, context_width, 1 if dilation == 1 else 3, dilation)
            for dilation in _DILATIONS
        )
        self.context.append(convolution(seen, context_width, 1))
        self.merge = convolution(5 * context_width, context_width, 1)
        widths_down = (context_width, *decoder_widths)
        self.decoder = nn.ModuleList(
            convolution(wide, narrow) for wide, narrow in pairwise(widths_down)
        )
        self.score = convolution(decoder_widths[-1], 1)
        glorot_uniform(self)
        for layer in self.encoder.modules():  # no trained VGG16: its signal must not fade
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")

    def forward(self, views: Views) -> Maps:
        """Saliency of whole views, red, green and blue from 0 to 255."""
        rows, cols = views.shape[2:]
        features = self.features(views)
        evidence = self.evidence(features, features.mean(dim=(2, 3)))[:, :, :rows, :cols]
        return self.normalise(evidence, evidence.amin(dim=(1, 2, 3)), evidence.amax(dim=(1, 2, 3)))

    def features(self, views: Views) -> Features:
        """What the encoder sees at three depths: 1280 channels, a cell for each 8 x 8 pixels.

        The last cells may reach beyond the view's edge.
        """
        x = self.standardise(views.to(self.standardise.mean.dtype))
        depths = []
        for number, block in enumerate(self.encoder):
            for layer in cast("Iterable[nn.Module]", block):
                x = layer(x).relu()
            x = halve(x) if number < 3 else _spread(x)
            depths.append(x)
        return torch.cat(depths[2:], dim=1)

    def evidence(
        self, features: Features, context: Float[Tensor, "images features"]
    ) -> Float[Tensor, "images 1 pixel_rows pixel_cols"]:
        """Evidence for each pixel, 8 a cell, on no particular scale.

        Args:
            features: of a view, or of a tile of it.
            context: mean of the features over all cells of the whole view.

        Returns:
            Pixels beyond the edge of a view whose sides are no multiples of 8 included: cut them.
        """
        *near, whole = self.context
        seen = [layer(features).relu() for layer in near]
        seen.append(whole(context[:, :, None, None]).relu().expand_as(seen[0]))
        x = self.merge(torch.cat(seen, dim=1)).relu()
        for layer in self.decoder:
            x = layer(_double(_double(x, dim=2), dim=3)).relu()
        scores: Tensor = self.score(x)
        return scores

    @staticmethod
    def normalise(
        evidence: Maps, low: Float[Tensor, " images"], high: Float[Tensor, " images"]
    ) -> Maps:
        """Scale evidence to [0, 1].

        Args:
            evidence: of views, or of tiles of them.
            low: least evidence in each whole view.
            high: most evidence in each whole view.
        """
        low, high = low[:, None, None, None], high[:, None, None, None]
        return (evidence - low) / (_TINY + (high - low))


def kl_divergence(prediction: Maps, target: Maps) -> Float[Tensor, ""]:
    """How far predicted maps are from true ones, as distributions: the loss of MSI-Net.

    Kullback-Leibler divergence of the target from the prediction (the paper's equation 1), each
    divided by its sum before; the mean over the images. Neither may be negative anywhere.
    """
    p = prediction / (_TINY + prediction.sum(dim=(1, 2, 3), keepdim=True))
    q = target / (_TINY + target.sum(dim=(1, 2, 3), keepdim=True))
    return (q * torch.log(_TINY + q / (_TINY + p))).sum(dim=(1, 2, 3)).mean()


def _check(
    widths: Sequence[int], depths: Sequence[int], context_width: int, decoder_widths: Sequence[int]
) -> None:
    if (len(widths), len(depths), len(decoder_widths)) != (5, 5, 3):
        raise ValueError(
            "MSI-Net has five blocks of an encoder and three steps of a decoder, "
            f"got widths {widths}, depths {depths} and decoder_widths {decoder_widths}."
        )
    if min(*widths, *depths, *decoder_widths, context_width) < 1:
        raise ValueError("every block needs at least one channel and one convolution.")
    if any(depth > most for depth, most in zip(depths, VGG16_DEPTHS, strict=True)):
        raise ValueError(f"depths may be at most VGG16's {VGG16_DEPTHS}, got {depths}.")


def _spread(x: Tensor) -> Tensor:
    """Maximum of each cell, the one below, the one to the right and the one between these."""
    return F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=-torch.inf), 2, stride=1)


def _double(x: Tensor, dim: int) -> Tensor:
    """Twice as many cells: each as it is, and after it the mean of it and the next one.

    Linear interpolation at i / 2. The last cell has no next one, and is repeated.

    >>> _double(torch.tensor([0.0, 1.0, 2.0]), dim=0)
    tensor([0.0000, 0.5000, 1.0000, 1.5000, 2.0000, 2.0000])
    """
    after = torch.cat([x.narrow(dim, 1, x.shape[dim] - 1), x.narrow(dim, -1, 1)], dim)
    return torch.stack([x, (x + after) / 2], dim + 1).flatten(dim, dim + 1)
