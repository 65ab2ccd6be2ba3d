"""An encoder whose last map goes through an attention module before it is summed up.

The module is that of the Residual Attention Network (`saccade.models.residual_attention`), with
group norm. It begins as `(1 + M) * x`, so an encoder that has learned already says at first what it
said before, scaled. It is new, and learns in full whatever of the encoder stays frozen.
"""

from math import isqrt
from typing import Any

from jaxtyping import Float
from torch import Tensor, cat, nn

from saccade.models.encoders import Encoder, MeanAndMax
from saccade.models.pixels import Tiles
from saccade.models.residual_attention import (
    AttentionKind,
    AttentionModule,
    Maps,
    group_norm,
    mask_branches,
    start_at_identity,
)


class AttendedEncoder(Encoder):
    """An encoder with an attention module behind its last stage.

    Of a timm model that sums tiles up in a class token the features are the mean over all other
    tokens: the class token has seen the tile before the mask did.

    Args:
        encoder: the compact one, or one of timm; its trunk becomes part of this.
        attention: kind of the module's mask.

    Raises:
        ValueError: if the encoder has masks already, or no map to be masked.
    """

    def __init__(self, encoder: Encoder, attention: AttentionKind) -> None:
        super().__init__(
            encoder.trunk,
            features=encoder.features,
            mean=tuple(encoder.mean.tolist()),
            std=tuple(encoder.std.tolist()),
        )
        self.channels = _channels_of(encoder)
        module = AttentionModule(self.channels, attention=attention, norm=group_norm)
        self.attention = start_at_identity(module)

    def forward(self, tiles: Tiles) -> Float[Tensor, "n features"]:
        """Return the features of tiles, RGB in [0, 1] or bytes."""
        trunk: Any = self.trunk
        pixels = self.looked_at(tiles)
        if isinstance(trunk, nn.Sequential):
            compact: Tensor = trunk[-1](self.attention(trunk[:-1](pixels)))
            return compact
        seen = trunk.forward_features(pixels)
        features: Tensor = self._tokens(seen) if seen.ndim == 3 else self._map(seen)
        return features

    def _map(self, seen: Tensor) -> Tensor:
        """Features of a map, whose channels some models of timm have last."""
        trunk: Any = self.trunk
        last = seen.shape[1] != self.channels
        attended = self.attention(seen.permute(0, 3, 1, 2) if last else seen)
        features: Tensor = trunk.forward_head(attended.permute(0, 2, 3, 1) if last else attended)
        return features

    def _tokens(self, seen: Tensor) -> Tensor:
        """Features of a transformer's tokens, those that stand for no place in front."""
        trunk: Any = self.trunk
        spare = getattr(trunk, "num_prefix_tokens", 0)
        attended: Tensor = self.attention(_on_a_square(seen[:, spare:]))
        attended = attended.flatten(2).transpose(1, 2)
        if getattr(trunk, "global_pool", None) == "token":
            return attended.mean(dim=1)
        features: Tensor = trunk.forward_head(cat([seen[:, :spare], attended], dim=1))
        return features


def _channels_of(encoder: Encoder) -> int:
    trunk: Any = encoder.trunk
    if mask_branches(trunk):
        raise ValueError("the encoder has attention modules of its own; it needs no other.")
    if isinstance(trunk, nn.Sequential) and isinstance(trunk[-1], MeanAndMax):
        return encoder.features // 2
    if hasattr(trunk, "forward_features"):
        return int(trunk.num_features)
    raise ValueError(
        "the encoder has no map behind its last stage for an attention module to work on; "
        "take compact or timm:NAME."
    )


def _on_a_square(tokens: Float[Tensor, "n places channels"]) -> Maps:
    side = isqrt(tokens.shape[1])
    if side**2 != tokens.shape[1]:
        raise ValueError(
            f"{tokens.shape[1]} tokens do not lie on a square, so they are no map that an "
            "attention module can work on; take another timm model."
        )
    return tokens.transpose(1, 2).reshape(len(tokens), -1, side, side)
