"""Networks that judge a slide by the features of its tiles, and say which tiles counted.

Two heads: gated attention over a bag (`abmil.py`), and a spatially attentive output layer over the
grid that the tiles lie on (`spatial_output.py`), in which a tile knows its neighbours. Features
come in any scale, so both take the mean over the training tiles off and divide by the deviation.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from saccade.models.abmil import GatedAttentionMIL
from saccade.models.spatial_output import SpatialOutput, SpatialReading

Features = Float[Tensor, "tiles features"]
Cells = Int64[Tensor, "tiles 2"]


class SlideReading(NamedTuple):
    """What a slide was judged to be, and its tiles' part in it.

    Attributes:
        log_probs: of the classes.
        attention_logits: of the tiles, before the softmax over all of them.
        log_classes: how like each class each tile is; None from a head that does not say.
    """

    log_probs: Float[Tensor, " classes"]
    attention_logits: Float[Tensor, " tiles"]
    log_classes: Float[Tensor, "classes tiles"] | None


class FeatureScale(nn.Module):
    """Features less their mean, by their deviation; both are buffers, and travel with the weights.

    Args:
        features: how many there are.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("std", torch.ones(features))

    def set(self, mean: Float[Tensor, " features"], std: Float[Tensor, " features"]) -> None:
        """Use these; what never changes keeps its scale."""
        self.mean.copy_(mean)
        self.std.copy_(torch.where(std > 0, std, torch.ones_like(std)))

    def forward(self, tiles: Features) -> Features:
        """Scale the features of tiles."""
        return (tiles - self.mean) / self.std


class BagHead(nn.Module):
    """Gated attention over the tiles of a slide, wherever they lie.

    Args:
        features: length of a tile's features.
        classes: number of classes.
        width: of the attention network.
    """

    def __init__(self, *, features: int, classes: int, width: int = 128) -> None:
        super().__init__()
        self.scale = FeatureScale(features)
        self.head = GatedAttentionMIL(features=features, classes=classes, hidden=width)

    def forward(self, tiles: Features, cells: Cells) -> SlideReading:
        """Judge a slide; `cells` do not count."""
        found = self.head(self.scale(tiles)[None])
        return SlideReading(found.log_probs[0], found.attention_logits[0], None)


class GridHead(nn.Module):
    """A spatially attentive output layer over the grid of a slide's tiles.

    Its normalisation looks at one tile at a time, as one over the batch would take from a slide
    what sets it apart from others.

    Args:
        features: length of a tile's features.
        classes: number of classes.
        width: channels of each convolution between.
        side: of the convolutions, tiles; 1 judges each tile by itself.

    Attributes:
        margin: rows that a piece has to be given beyond its own on each side.
    """

    def __init__(self, *, features: int, classes: int, width: int = 128, side: int = 3) -> None:
        super().__init__()
        self.scale = FeatureScale(features)
        self.head = SpatialOutput(features, classes, mid=width, side=side, norm="layer")
        self.margin = self.head.margin

    def forward(self, tiles: Features, cells: Cells) -> SlideReading:
        """Judge a slide, or a piece of it.

        Args:
            tiles: features.
            cells: row and column of each tile on the grid, not negative.
        """
        first = cells.amin(dim=0)
        row, col = (cells - first).T
        rows, cols = (int(n) + 1 for n in (cells.amax(dim=0) - first))
        # Between the tiles lies nothing: 0, which is the mean tile, and no attention.
        grid = tiles.new_zeros(rows, cols, tiles.shape[1])
        grid[row, col] = self.scale(tiles)
        present = torch.zeros(rows, cols, dtype=torch.bool, device=tiles.device)
        present[row, col] = True
        found: SpatialReading = self.head(grid.movedim(-1, 0)[None], present[None])
        return SlideReading(
            found.log_probs[0],
            found.attention_logits[0, row, col],
            found.log_classes[0][:, row, col],
        )


SlideHead = BagHead | GridHead
