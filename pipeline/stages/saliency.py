"""Saliency (MSI-Net) as a dense stage: two passes, and a last one that scales.

What MSI-Net asks of the whole view is the mean of its features, which the first pass gathers, and
the least and most evidence, which the second does. Margins are the network's own.
"""

from __future__ import annotations

import torch
from torch import Tensor

from saccade.models.saliency import MSINet
from saccade.pipeline.errors import DivergedError
from saccade.pipeline.stages.stage import Stage, StageSpec
from saccade.pipeline.stages.statistics import Extremes, Mean

TILE_PX = 1024
"""Side of a tile: with its margins, 2.2 million pixels, about as many as go through whole."""

WHOLE_PX = 2_000_000
"""The largest view that goes through in one piece; takes about 2.5 GB with the published widths."""


class SaliencyStage(Stage):
    """MSI-Net over a view.

    Args:
        model: in evaluation mode, on its device.
        mpp: micrometres per pixel of the view.
        tile_px: side of the tiles of a view that is too large to go through in one piece.
        whole_px: pixels of the largest view that does.
    """

    survey = Mean
    closing = Extremes

    def __init__(
        self, model: MSINet, mpp: float, *, tile_px: int = TILE_PX, whole_px: int = WHOLE_PX
    ) -> None:
        self._model = model
        self.spec = StageSpec(
            name="saliency",
            mpp=mpp,
            tile_px=tile_px,
            stride=model.stride,
            margin_px=model.margin,
            survey_margin_px=model.feature_margin,
            kind="density",
            channels=("saliency",),
            whole_px=whole_px,
        )

    def encode(self, tiles: Tensor) -> Tensor:
        """Features of tiles, a cell for each 8 x 8 pixels."""
        return self._model.features(tiles)

    def decode(self, features: Tensor, survey: Mean) -> Tensor:
        """Evidence, given the mean of the features over the whole view."""
        context = torch.from_numpy(survey.value).to(features)
        return self._model.evidence(features, context.expand(len(features), -1))

    def finalise(self, values: Tensor, closing: Extremes) -> Tensor:
        """Evidence scaled to [0, 1] over the whole view.

        Raises:
            DivergedError: if the evidence is not a number.
        """
        low, high = (torch.from_numpy(each).to(values) for each in (closing.low, closing.high))
        if not torch.isfinite(high - low).all():
            raise DivergedError(
                "the saliency of the model is not a number. Its training diverged: train again "
                "with a lower learning rate."
            )
        return self._model.normalise(values[None], low, high)[0]
