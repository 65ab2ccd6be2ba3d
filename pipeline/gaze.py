"""Which tiles of a slide are read for a prediction, and what they add up to.

`drawn` draws once or several times, `most_attended` leaves nothing to chance, and `until_sure` goes
on with one draw until its tiles are enough. See docs/design/uncertainty.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from saccade.models.attention_sampling import AttentionSampling
from saccade.models.des_raj import estimates_by_draw
from saccade.pipeline.config import TilesConfig
from saccade.pipeline.encoding import encode_tiles
from saccade.pipeline.look import Subject, at_places, draw_cells, place_cells, places_offered
from saccade.pipeline.reading import TileReader, TileRequest
from saccade.pipeline.seeds import generator_for
from saccade.pipeline.tasks.task import Task
from saccade.pipeline.uncertainty import MISS, Outcome, looks, spent_at
from saccade.tiling.places import Places, together

MOST_TIMES = 16
"""Tiles that are read at most until a prediction is sure, by those that training read."""

Ended = Literal["sure", "budget", "all read"]


@dataclass(frozen=True, slots=True)
class Gaze:
    """Tiles that were read, and what they add up to.

    Attributes:
        places: each tile once, in the order in which it was drawn first.
        tiles: uint8 (n, side, side, 3).
        features: (n, features).
        weight: float64 (n,) of each tile in the slide's feature, mean over the draws; sums to 1,
            in expectation only where tiles were drawn from more than the attention.
        outcome: the outputs, and their chance.
        draws: how many; 0 where nothing was drawn.
        miss: how often an interval of the outcome may miss.
        ended: why no more tiles were read; None if their number was fixed beforehand.
    """

    places: Places
    tiles: NDArray[np.uint8]
    features: Tensor
    weight: Tensor
    outcome: Outcome
    draws: int
    miss: float = MISS
    ended: Ended | None = None


@dataclass(frozen=True, slots=True)
class Gazer:
    """What looking at one slide takes.

    Attributes:
        model: the networks.
        subject: the slide.
        log_attention: of the slide, (grid rows, grid cols).
        log_proposal: what tiles are drawn from, likewise: the attention itself, or a mixture of it.
        reader: of tiles.
        config: how many tiles, and how large.
        temperature: that outputs are divided by.
        task: what they mean.
    """

    model: AttentionSampling
    subject: Subject
    log_attention: Tensor
    log_proposal: Tensor
    reader: TileReader
    config: TilesConfig
    temperature: float
    task: Task

    @property
    def offered(self) -> int:
        """Places that the slide has."""
        return places_offered(self.log_attention, self.subject.name)

    def drawn(self, seed: int, repeats: int) -> Gaze:
        """Read the tiles of independent draws, each tile once, and take the mean of the draws."""
        draws = [self._draw(seed, number) for number in range(repeats)]
        places, numbers = together(draws)
        tiles, features = self._read(places)
        if len(draws[0]) == self.offered:
            return self._exact(places, tiles, features, draws=1)
        return self._mean(places, tiles, features, numbers)

    def most_attended(self) -> Gaze:
        """Read the most attended tiles, ties by place, and weigh them by their attention alone."""
        log_attention = self.log_attention.flatten().cpu()
        order = log_attention.argsort(descending=True, stable=True)
        cells = order[: min(self.config.per_slide, self.offered)].numpy()
        places = place_cells(log_attention, self.subject, self.config, cells)
        return self._exact(places, *self._read(places), draws=0)

    def until_sure(self, seed: int, margin: float, most: int | None) -> Gaze:
        """Go on with one draw until its tiles are enough.

        It ends with what a draw of as many tiles as were read gives, since the first tiles of a
        longer draw are those of a shorter one.

        Args:
            seed: of the draw.
            margin: as `Outcome.is_sure` wants it.
            most: tiles that may be read; `MOST_TIMES` as many as training read if None.
        """
        first = self.config.per_slide
        order = self._draw(seed, 0, k=MOST_TIMES * first if most is None else most)
        tiles: list[NDArray[np.uint8]] = []
        features: list[Tensor] = []
        for look, count in enumerate(looks(first, len(order)), start=1):
            new = order.take(np.arange(sum(map(len, tiles)), count))
            pixels, found = self._read(new)
            tiles.append(pixels)
            features.append(found)
            seen = order.take(np.arange(count)), np.concatenate(tiles), torch.cat(features)
            if count == self.offered:
                return replace(self._exact(*seen, draws=1), ended="all read")
            gaze = replace(self._mean(*seen, [np.arange(count)]), miss=spent_at(look))
            if gaze.outcome.is_sure(margin, gaze.miss):
                return replace(gaze, ended="sure")
        return replace(gaze, ended="budget")

    def _draw(self, seed: int, number: int, k: int | None = None) -> Places:
        """A draw is known by its number: however many there are, and whoever reads them."""
        names = (seed, number) if number else (seed,)
        generator = generator_for("predict", *names)
        cells = draw_cells(self.log_proposal, self.subject, k or self.config.per_slide, generator)
        return place_cells(self.log_attention, self.subject, self.config, cells)

    def _read(self, places: Places) -> tuple[NDArray[np.uint8], Tensor]:
        request = TileRequest(self.subject.slide, places.corners_l0)
        return encode_tiles(self.model, request, self.reader)

    def _mean(
        self,
        places: Places,
        tiles: NDArray[np.uint8],
        features: Tensor,
        numbers: Sequence[NDArray[np.intp]],
    ) -> Gaze:
        """The mean of draws, given the numbers of the tiles of each."""
        log_probs = at_places(self.log_attention, places)
        log_proposal = at_places(self.log_proposal, places)
        weight = torch.zeros(len(places), dtype=torch.float64, device=features.device)
        outputs, estimates = [], []
        for each in numbers:
            rows = torch.from_numpy(each).to(features.device)
            drawn = log_probs[:, rows], log_proposal[:, rows]
            reading = self.model.weigh(features[rows][None], *drawn)
            weight[rows] += reading.weights[0].double() / len(numbers)
            outputs.append(reading.logits[0].double())
            doubles = (each.double() for each in (features[rows][None], *drawn))
            pooled = estimates_by_draw(*doubles)
            estimates.append(self._head(pooled[0]))
        mean = torch.stack(outputs).mean(dim=0)
        outcome = self._outcome(mean, torch.cat(estimates))
        return Gaze(places, tiles, features, weight, outcome, len(numbers))

    def _exact(
        self, places: Places, tiles: NDArray[np.uint8], features: Tensor, *, draws: int
    ) -> Gaze:
        """Tiles weighed by their attention; all of the slide's, or all that are wanted."""
        weight = at_places(self.log_attention, places)[0].double().softmax(dim=0)
        outputs = self._head(weight @ features.double())
        return Gaze(places, tiles, features, weight, self._outcome(outputs, None), draws)

    def _outcome(self, outputs: Tensor, estimates: Tensor | None) -> Outcome:
        spread = None if estimates is None else estimates / self.temperature
        return Outcome(outputs / self.temperature, spread, self.task)

    def _head(self, pooled: Tensor) -> Tensor:
        head = self.model.head
        return pooled @ head.weight.double().T + head.bias.double()
