"""How far around itself a pixel of a network's output sees: what a tile's margin has to be.

No paper: our own. A number that is none (NaN) spoils what convolutions, poolings, norms and
activations compute from it, whatever their weights. So half of a view is spoilt, and what is spoilt
in the output of the other half has seen across the border. Counting the kernels of a chain of
layers by hand gives the same. A layer that compares numbers, and puts out something else, hides it.
"""

import copy
import itertools

import torch
from torch import Tensor, nn

# Pixels on each side of the border, at first and at most. A kernel that leaves out more pixels than
# the first view has on a side would not be seen to look beyond it.
_FIRST_PX = 1024
_MOST_PX = 8192


@torch.no_grad()
def margin_of(network: nn.Module, stride: int, *, channels: int = 3) -> int:
    """Least margin, in whole cells, with which every tile comes out as it would in the whole view.

    It holds for tiles that begin at multiples of `stride`, of which those at the edge of the view
    have no margin there and are padded by the network as the whole view is, and for networks in
    evaluation mode. It is measured on a copy in double precision, on the processor.

    Args:
        network: maps views (images, channels, rows, cols) to a number or more for each pixel,
            (images, any, rows, cols).
        stride: pixels of one cell of its coarsest grid.
        channels: of the views.

    Returns:
        Pixels, a multiple of `stride`.

    Raises:
        ValueError: if a pixel sees 8192 pixels far or further, most likely the whole view.
    """
    probe = copy.deepcopy(network).to("cpu", torch.float64).eval()
    return stride * max(
        _cells_seen(probe, stride, channels, ahead=ahead, down=down)
        for ahead, down in itertools.product((False, True), repeat=2)
    )


@torch.no_grad()
def require_same_in_tiles(
    network: nn.Module, stride: int, margin: int, *, channels: int = 3
) -> None:
    """Refuse a network whose tiles come out otherwise although nothing further away is seen.

    Interpolation that lays the corners of the view over each other (`align_corners`) does so: where
    a pixel falls then depends on how large the view is. `margin_of` cannot tell; this looks, at
    pixels drawn at random.

    Args:
        network: as for `margin_of`, with weights that are not all zero.
        stride: pixels of one cell of its coarsest grid.
        margin: as `margin_of` gives it.
        channels: of the views.

    Raises:
        ValueError: if the middle of a view does not come out as it does in a tile.
    """
    probe = copy.deepcopy(network).to("cpu", torch.float64).eval()
    dice = torch.Generator().manual_seed(0)
    size = (1, channels, stride, 2 * margin + 5 * stride)
    strip = torch.rand(size, generator=dice, dtype=torch.float64)
    first = 2 * stride  # of the tile, whose core is as wide as a cell
    tile = strip[..., first : first + 2 * margin + stride]
    for down in (False, True):
        whole, alone = (probe(each.mT).mT if down else probe(each) for each in (strip, tile))
        core = whole[..., first + margin :][..., :stride]
        apart = (alone[..., margin : margin + stride] - core).abs().max()
        if not apart <= 1e-9 * whole.abs().max():
            raise ValueError(
                "what a tile shows depends on the size of the view around it, as interpolation "
                "with align_corners has it. Tiles cannot come out as the whole."
            )


def _cells_seen(probe: nn.Module, stride: int, channels: int, *, ahead: bool, down: bool) -> int:
    """Cells that a cell sees on one side of it: right of it if `ahead`, and below if `down`."""
    cells = -(-_FIRST_PX // stride)
    while cells * stride <= _MOST_PX:
        strip = torch.zeros(1, channels, stride, 2 * cells * stride, dtype=torch.float64)
        strip.chunk(2, dim=3)[1 if ahead else 0].fill_(torch.nan)
        spoilt = _columns_spoilt(probe, strip, down=down).view(2 * cells, stride).any(dim=1)
        further = (spoilt.flip(0) if ahead else spoilt)[cells:].nonzero()
        across = int(further.max()) + 1 if len(further) else 0
        if across < cells:
            return across
        cells *= 2
    raise ValueError(
        f"a pixel sees {_MOST_PX} pixels far or further: something looks at the whole view, such "
        "as a mean over it, or a norm that is not of a batch. Tiles cannot come out as the whole."
    )


def _columns_spoilt(probe: nn.Module, strip: Tensor, *, down: bool) -> Tensor:
    """Columns of a strip whose output is no number; rows of it, turned, if `down`."""
    output = probe(strip.mT).mT if down else probe(strip)
    spoilt: Tensor = output.isnan().any(dim=1).any(dim=1)[0]
    return spoilt
