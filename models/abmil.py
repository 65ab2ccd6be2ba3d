"""ABMIL: one verdict for a bag of tiles, and one weight a tile, from gated attention.

Source: Ilse, Tomczak and Welling, "Attention-based Deep Multiple Instance Learning", ICML 2018,
https://arxiv.org/abs/1802.04712, equations 7 and 9. The paper's formula has no biases; neither has
this.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


class BagReading(NamedTuple):
    """What bags were judged to be, and how much each tile counted for it.

    Attributes:
        logits: of the classes.
        attention_logits: attention before its softmax; minus infinity for padding.
    """

    logits: Float[Tensor, "bags classes"]
    attention_logits: Float[Tensor, "bags tiles"]

    @property
    def log_attention(self) -> Float[Tensor, "bags tiles"]:
        """Logarithm of the attention, whose sum over the tiles of a bag is 1."""
        return self.attention_logits.log_softmax(dim=1)

    @property
    def log_probs(self) -> Float[Tensor, "bags classes"]:
        """Logarithm of the probabilities of the classes."""
        return self.logits.log_softmax(dim=1)


class GatedAttentionMIL(nn.Module):
    """Classify bags of tiles, in any order and of any size.

    Args:
        features: length of a tile's features.
        classes: number of classes.
        hidden: width of the attention network.
    """

    def __init__(self, features: int, classes: int, *, hidden: int = 128) -> None:
        super().__init__()
        self.content = nn.Linear(features, hidden, bias=False)
        self.gate = nn.Linear(features, hidden, bias=False)
        self.score = nn.Linear(hidden, 1, bias=False)
        self.classify = nn.Linear(features, classes)

    def forward(
        self,
        tiles: Float[Tensor, "bags tiles features"],
        present: Bool[Tensor, "bags tiles"] | None = None,
    ) -> BagReading:
        """Judge each bag by its attention-weighted mean tile.

        Args:
            tiles: their features, padded along `tiles` to the largest bag.
            present: True for a tile, False for padding, which has no influence; all are tiles if
                None.

        Raises:
            ValueError: if a bag has no tile.
        """
        present = torch.ones_like(tiles[..., 0], dtype=torch.bool) if present is None else present
        if not bool(present.any(dim=1).all()):
            raise ValueError("every bag needs at least one tile.")
        tiles = torch.where(present[..., None], tiles, 0)  # whatever padding holds, NaN too
        gated = self.content(tiles).tanh() * self.gate(tiles).sigmoid()
        scores = self.score(gated).squeeze(-1).masked_fill(~present, -torch.inf)
        mean_tile = torch.einsum("bt,btf->bf", scores.softmax(dim=1), tiles)
        return BagReading(self.classify(mean_tile), scores)


def pad_bags(
    bags: Sequence[Float[Tensor, "_ features"]],
) -> tuple[Float[Tensor, "bags tiles features"], Bool[Tensor, "bags tiles"]]:
    """Bags of different sizes as one batch, with True where there is a tile.

    >>> pad_bags([torch.ones(1, 2), torch.ones(3, 2)])[1]
    tensor([[ True, False, False],
            [ True,  True,  True]])
    """
    tiles = nn.utils.rnn.pad_sequence(list(bags), batch_first=True)
    sizes = torch.tensor([len(bag) for bag in bags], device=tiles.device)
    return tiles, torch.arange(tiles.shape[1], device=tiles.device) < sizes[:, None]
