"""How good found objects are, pixel by pixel: panoptic quality, aggregated Jaccard, F1.

Sources: Kirillov et al., "Panoptic Segmentation", CVPR 2019, https://arxiv.org/abs/1801.00868,
equation 1, for one class; Kumar et al., "A Dataset and a Technique for Generalized Nuclear
Segmentation for Computational Pathology", IEEE Trans. Med. Imaging 36, 2017, algorithm 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from saccade.pipeline.metrics.detection import Hits

Numbers = NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True)
class InstanceTally:
    """What images add up to; the tally of several images is the sum of theirs.

    Attributes:
        hits: pairs of a found and a true object that overlap (IoU) by more than one half, and what
            is left over. No object can be in two pairs.
        iu: sum of the overlaps of the pairs.
        common: pixels that each true object shares with the found one that it overlaps most.
        union: pixels of either, and of those found objects that no true one overlaps most.
    """

    hits: Hits
    iu: float
    common: int
    union: int

    @classmethod
    def of(cls, found: Numbers, truth: Numbers) -> Self:
        """Count an image.

        Args:
            found: number of the object of each pixel, 0 for none, (rows, cols).
            truth: likewise.

        Raises:
            ValueError: if the two differ in shape.
        """
        if found.shape != truth.shape:
            raise ValueError(f"maps must have one shape, got {found.shape} and {truth.shape}.")
        table = _shared_pixels(found, truth)
        shared, of_truth, of_found = table[1:, 1:], table[1:].sum(axis=1), table[:, 1:].sum(axis=0)
        union = of_truth[:, None] + of_found - shared
        iu = np.divide(shared, union, out=np.zeros(shared.shape), where=union > 0)
        pairs = iu > 0.5
        count = int(pairs.sum())
        hits = Hits(count, len(of_found) - count, len(of_truth) - count)
        common, either = _aggregated(shared, union, iu, of_truth, of_found)
        return cls(hits, float(iu[pairs].sum()), common, either)

    def __add__(self, other: InstanceTally) -> InstanceTally:
        hits = Hits(
            self.hits.found + other.hits.found,
            self.hits.wrong + other.hits.wrong,
            self.hits.missed + other.hits.missed,
        )
        return InstanceTally(
            hits, self.iu + other.iu, self.common + other.common, self.union + other.union
        )

    @property
    def panoptic_quality(self) -> float:
        """Mean overlap of the pairs, times F1; 1 if nothing is there and nothing was found."""
        return self.hits.f1 * (self.iu / self.hits.found if self.hits.found else 1.0)

    @property
    def aggregated_jaccard(self) -> float:
        """Shared pixels over pixels of either; 1 if nothing is there and nothing was found."""
        return self.common / self.union if self.union else 1.0


def _shared_pixels(found: Numbers, truth: Numbers) -> NDArray[np.int64]:
    """(1 + true objects, 1 + found objects) pixels of both; row and column 0 are of none."""
    (true_names, true), (found_names, named) = (
        np.unique(np.append(each.ravel(), 0), return_inverse=True) for each in (truth, found)
    )
    rows, cols = len(true_names), len(found_names)
    counts = np.bincount(true * cols + named, minlength=rows * cols)
    counts[0] -= 1  # the pixel of no object that was added, so that there is one
    return counts.reshape(rows, cols)


def _aggregated(
    shared: NDArray[np.int64],
    union: NDArray[np.int64],
    iu: NDArray[np.float64],
    of_truth: NDArray[np.int64],
    of_found: NDArray[np.int64],
) -> tuple[int, int]:
    """Pixels shared with the most alike, and pixels of either, with what is left over."""
    if not shared.size:
        return 0, int(of_truth.sum() + of_found.sum())
    alike = iu.argmax(axis=1)
    met = iu.max(axis=1) > 0
    rows, cols = np.flatnonzero(met), alike[met]
    left_over = np.ones(len(of_found), bool)
    left_over[cols] = False
    either = union[rows, cols].sum() + of_truth[~met].sum() + of_found[left_over].sum()
    return int(shared[rows, cols].sum()), int(either)
