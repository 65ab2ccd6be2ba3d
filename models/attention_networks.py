"""Networks that look at a coarse view and say where a closer look may pay.

All of them follow one rule: what lies outside `valid` is zero before each convolution. So padding
and background are the same nothing everywhere, and neither reaches the logit of any valid place.
Norms over a whole image would break that rule, so there are none.
"""

from collections.abc import Callable

import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from jaxtyping import Bool, Float
from torch import Tensor, nn

from saccade.models.initialise import glorot_uniform
from saccade.models.pixels import Standardise, Views, typical_pixels


def pool_valid(
    valid: Bool[Tensor, "images rows cols"], stride: int
) -> Bool[Tensor, "images grid_rows grid_cols"]:
    """Shrink a mask: a cell of `stride` x `stride` pixels is valid if any of its pixels is.

    Cells at the right and the bottom edge may reach beyond the view.
    """
    if stride == 1:
        return valid
    return F.max_pool2d(valid.float(), stride, ceil_mode=True).bool()


class AttentionNetwork(nn.Module):
    """What all attention networks share: one logit for each `stride` x `stride` pixels of a view.

    Attributes:
        stride: edge length of a place, in pixels of the view.
    """

    stride: int = 1

    def grid_shape(self, rows: int, cols: int) -> tuple[int, int]:
        """(rows, cols) of the places of a view; the last ones may reach beyond its edge.

        >>> ResidualAttention(stride=4).grid_shape(8, 9)
        (2, 3)
        """
        return -(-rows // self.stride), -(-cols // self.stride)

    def forward(
        self,
        views: Views,
        valid: Bool[Tensor, "images rows cols"],
    ) -> Float[Tensor, "images grid_rows grid_cols"]:
        """Return a logit for each place; those outside `valid` mean nothing."""
        raise NotImplementedError


class PaperAttention(AttentionNetwork):
    """Three 3 x 3 convolutions of 8, 8 and 1 channels, tanh between them: 737 parameters on grey.

    Source: Katharopoulos and Fleuret, ICML 2019, network of the Megapixel MNIST experiment.
    Pixels enter as they are, in [0, 1].

    Args:
        in_channels: channels of a view.
    """

    def __init__(self, *, in_channels: int = 3) -> None:
        super().__init__()
        self.standardise = Standardise((0.0,) * in_channels, (1.0,) * in_channels)
        self.first = nn.Conv2d(in_channels, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.score = _unseen_bias(nn.Conv2d(8, 1, 3, padding=1))
        glorot_uniform(self)

    def forward(
        self,
        views: Views,
        valid: Bool[Tensor, "images rows cols"],
    ) -> Float[Tensor, "images rows cols"]:
        """Return a logit for each pixel."""
        x = self.standardise(views)
        inside = valid[:, None].to(x.dtype)
        x = x * inside
        x = self.first(x).tanh() * inside
        x = self.second(x).tanh() * inside
        logits: Tensor = self.score(x).squeeze(1)
        return logits


class ResidualAttention(AttentionNetwork):
    """Dilated residual convolutions: each place sees a wide surrounding at little cost.

    Four blocks of dilation 1, 2, 4 and 8 see 31 x 31 places. The last layer starts at zero, so
    that training begins with even attention, and every place has its chance to be drawn.

    Args:
        in_channels: channels of a view.
        channels: width of the network.
        stride: edge length of a place, in pixels of the view.

    Raises:
        ValueError: if `channels` or `stride` is not positive.
    """

    def __init__(self, *, in_channels: int = 3, channels: int = 16, stride: int = 1) -> None:
        super().__init__()
        if channels < 1 or stride < 1:
            raise ValueError(f"channels and stride must be positive, got {channels} and {stride}.")
        self.stride = stride
        self.standardise = Standardise(*typical_pixels(in_channels))
        self.stem = nn.Conv2d(in_channels, channels, stride, stride=stride)
        self.blocks = nn.ModuleList(_DilatedBlock(channels, dilation) for dilation in (1, 2, 4, 8))
        self.score = _unseen_bias(nn.Conv2d(channels, 1, 1))
        glorot_uniform(self)
        nn.init.zeros_(self.score.weight)

    def forward(
        self,
        views: Views,
        valid: Bool[Tensor, "images rows cols"],
    ) -> Float[Tensor, "images grid_rows grid_cols"]:
        """Return a logit for each place."""
        x = self.standardise(views)
        inside = pool_valid(valid, self.stride)[:, None].to(x.dtype)
        x = self.stem(self._whole_cells(x * valid[:, None])) * inside
        for block in self.blocks:
            x = block(x, inside)
        logits: Tensor = self.score(x.relu()).squeeze(1)
        return logits

    def _whole_cells(
        self, x: Float[Tensor, "images channels rows cols"]
    ) -> Float[Tensor, "images channels whole_rows whole_cols"]:
        rows, cols = x.shape[2:]
        return F.pad(x, (0, -cols % self.stride, 0, -rows % self.stride))


class _DilatedBlock(nn.Module):
    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.look = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation)
        self.project = nn.Conv2d(channels, channels, 1)

    def forward(
        self,
        x: Float[Tensor, "images channels rows cols"],
        inside: Float[Tensor, "images 1 rows cols"],
    ) -> Float[Tensor, "images channels rows cols"]:
        seen: Tensor = self.project(self.look(x).relu())
        return x + seen * inside


def _unseen_bias(score: nn.Conv2d) -> nn.Conv2d:
    """Let the bias of a last layer be, since the softmax over places does not see it.

    Its gradient would be rounding and nothing else, of which AdamW makes steps as long as any.
    """
    assert score.bias is not None
    score.bias.requires_grad_(False)
    return score


def build_attention(name: str, *, in_channels: int = 3, **options: int) -> AttentionNetwork:
    """Build an attention network by name: `paper` or `residual`.

    Args:
        name: which.
        in_channels: channels of a view.
        options: `channels` and `stride` of the residual one.

    Raises:
        ValueError: if there is no network of that name.
    """
    networks: dict[str, Callable[..., AttentionNetwork]] = {
        "paper": PaperAttention,
        "residual": ResidualAttention,
    }
    if name not in networks:
        raise ValueError(f"no attention network {name!r}; there are: {', '.join(networks)}.")
    return networks[name](in_channels=in_channels, **options)
