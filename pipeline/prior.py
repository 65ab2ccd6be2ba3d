"""Priors: where else tiles are drawn than where attention says, such as what a saliency map shows.

A prior is a field of one channel over the slide, a density: `saliency.zarr` of `saccade saliency`,
or that of any other stage. It is part of the proposal only; what tiles weigh stays what the
attention says, so that a prior that is wrong costs precision and never the expectation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from saccade.pipeline.errors import RegionError
from saccade.pipeline.glance import Glance
from saccade.pipeline.look import Subject
from saccade.pipeline.stages.field import Field, read_field
from saccade.pipeline.stages.proposal import field_on_grid
from saccade.tiling.hashing import array_hash

PRIOR = "saliency.zarr"
"""Its name in a slide's folder, as `saccade saliency` leaves it."""


@dataclass(frozen=True, slots=True)
class Prior:
    """A field that says where to explore a slide.

    Attributes:
        path: where it lies, for messages.
        field: itself.

    Raises:
        RegionError: if it has several channels, or is negative somewhere.
    """

    path: Path
    field: Field

    def __post_init__(self) -> None:
        if len(self.field.channels) != 1:
            raise RegionError(
                f"{self.path}: a prior wants one channel, found {', '.join(self.field.channels)}."
            )
        lowest = float(np.nanmin(self.field.channel(self.field.channels[0]), initial=0.0))
        if lowest < 0:
            raise RegionError(
                f"{self.path}: a prior is a density and never negative, found {lowest:g}; logits "
                "are none."
            )

    @classmethod
    def read(cls, path: Path) -> Prior:
        """Open the field at `path`.

        Raises:
            ResultsError: if there is none.
            RegionError: if it is no prior.
        """
        return cls(path, read_field(path))

    @property
    def hash(self) -> str:
        """Of its numbers and where they lie."""
        field = self.field
        return array_hash(
            np.concatenate(
                [
                    field.affine_l0.ravel(),
                    np.array(field.grid.shape, np.float64),
                    field.channel(field.channels[0]).astype(np.float64).ravel(),
                ]
            )
        )

    def shown_to(self, subject: Subject, slide_hash: str) -> Subject:
        """The same slide, explored where this says; errors and hash as of `over`."""
        return replace(subject, log_prior=self.over(subject.glance, slide_hash))

    def over(self, glance: Glance, slide_hash: str) -> Tensor:
        """Log of its distribution over the places of a glance, -inf where there is no tissue.

        Args:
            glance: at the slide, float32 (grid rows, grid cols) comes out.
            slide_hash: of the slide's content.

        Raises:
            RegionError: if the prior was made from another slide, or has nothing on the tissue.
        """
        made_from = self.field.provenance.get("slide", slide_hash)
        if made_from != slide_hash:
            raise RegionError(
                f"{self.path}: was made from another slide ({made_from}) than this one "
                f"({slide_hash})."
            )
        shares = torch.from_numpy(field_on_grid(self.field, glance.grid))
        on_tissue = shares.masked_fill(~torch.from_numpy(glance.valid), -torch.inf)
        total = on_tissue.flatten().logsumexp(dim=0)
        if not total.isfinite():
            raise RegionError(
                f"{self.path}: has nothing but zeros on the tissue; leave the prior out."
            )
        return (on_tissue - total).float()
