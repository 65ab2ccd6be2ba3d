"""Segmentation as a dense stage: a probability of each class for each pixel.

The softmax is over the classes of a pixel, so nothing of the whole view is asked for. Probabilities
are rounded to 255ths, and kept as 16-bit floats: NaN says what was not judged, and a map whose
numbers are few packs well. What tiles change by the last bit of a sum may be a step of these then.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from saccade.pipeline.errors import ConfigError, DivergedError
from saccade.pipeline.segmentation.model_file import SegmentationCard
from saccade.pipeline.segmentation.network import as_segmenter
from saccade.pipeline.stages.stage import Stage, StageSpec

STEPS = 255
"""Probabilities are multiples of one by this number; of two classes, only one has the more."""

TILE_PX = 1024
"""Side of the tiles of a network whose margin is known: margins cost the less the larger it is."""

OVERLAP_PX = 64
"""What tiles of other networks see around themselves."""


class SegmentationStage(Stage):
    """A network that scores the classes of each pixel, over a view.

    A network that looks at all of what it sees has no margin with which tiles come out as the
    whole. Its tiles are those that it was trained on, and see `overlap_px` around themselves; what
    it says depends on where they lie.

    Args:
        network: a `Segmenter` in evaluation mode, on its device.
        card: of the model.
        tile_px: side of the tiles; a size that suits the network if None.
        overlap_px: what tiles see around themselves if the network's margin is not known.

    Attributes:
        exact: whether tiles come out as the whole view would.

    Raises:
        ConfigError: if the tile is no multiple of the network's stride.
    """

    def __init__(
        self,
        network: nn.Module,
        card: SegmentationCard,
        *,
        tile_px: int | None = None,
        overlap_px: int = OVERLAP_PX,
    ) -> None:
        self._network = network
        stride = as_segmenter(network).stride
        try:
            margin, self.exact, usual = as_segmenter(network).margin, True, TILE_PX
        except ValueError:
            margin, self.exact, usual = -(-overlap_px // stride) * stride, False, card.tile_px
        if tile_px is not None and tile_px % stride:
            raise ConfigError(
                f"tile wants a multiple of {stride} pixels, the stride of the network; got "
                f"{tile_px}."
            )
        self.spec = StageSpec(
            name="segmentation",
            mpp=card.mpp,
            tile_px=tile_px or -(-usual // stride) * stride,
            stride=stride,
            margin_px=margin,
            kind="probability",
            channels=card.classes,
            dtype="float16",
        )

    def decode(self, features: Tensor, survey: None) -> Tensor:
        """Probabilities of the classes, in steps of 1/255.

        Raises:
            DivergedError: if the scores of the network are no numbers.
        """
        scores: Tensor = self._network(features).float()
        if not torch.isfinite(scores).all():
            raise DivergedError(
                "the scores of the model are not numbers. Its training diverged: train again with "
                "a lower learning rate."
            )
        return (scores.softmax(dim=1) * STEPS).round() / STEPS
