"""Randomness that depends on names, never on the order of work."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def seed_for(*parts: int | str) -> int:
    """A 63-bit seed from names and numbers; equal parts give equal seeds on every machine."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator_for(*parts: int | str) -> torch.Generator:
    """A CPU generator for one purpose, so that workers and batches never change a result."""
    import torch  # 500 MB, and the plan of a workflow wants seeds only

    return torch.Generator().manual_seed(seed_for(*parts))
