"""From scores of a network to what its classes' probabilities are, as a map shows them."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from saccade.pipeline.segmentation.model_file import SegmentationCard


def shown_probabilities(
    scores: Float[Tensor, "n classes rows cols"], card: SegmentationCard
) -> Float[Tensor, "n shown rows cols"]:
    """Softmax over the classes, in the order of `card.shown`.

    The probability of the rim, if the model has one, is added to that of the class it is part of.
    """
    probabilities = scores.softmax(dim=1)
    if card.rim is None:
        return probabilities
    # No model comes without: a rim belongs to a class of instances.
    whole, rim = card.classes.index(str(card.instances)), card.classes.index(card.rim)
    probabilities[:, whole] += probabilities[:, rim]
    kept = [place for place, name in enumerate(card.classes) if name != card.rim]
    return probabilities[:, kept]
