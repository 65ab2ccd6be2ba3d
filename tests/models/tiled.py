"""Networks over a view in tiles, as the runner of dense stages cuts them."""

import torch
from torch import Tensor, nn

from saccade.pipeline.stages.tile_plan import TilePlan


@torch.no_grad()
def in_tiles(network: nn.Module, view: Tensor, *, tile_px: int, margin: int, stride: int) -> Tensor:
    """What a network makes of one view, of which it sees a tile with its margin at a time."""
    rows, cols = view.shape[2:]
    pieces = []
    plan = TilePlan(shape=(rows, cols), tile_px=tile_px, margin_px=margin, stride=stride)
    for tile in plan.tiles():
        seen = network(view[:, :, *tile.read.slices])
        pieces.append(seen[:, :, *tile.core.seen_from(tile.read).slices])
    across = plan.grid[1]
    bands = [torch.cat(pieces[i : i + across], dim=3) for i in range(0, len(pieces), across)]
    return torch.cat(bands, dim=2)
