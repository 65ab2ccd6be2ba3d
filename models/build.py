"""Models from plain names and numbers."""

from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor

from saccade.models.attended_encoder import AttendedEncoder
from saccade.models.attention_networks import build_attention
from saccade.models.attention_sampling import AttentionSampling
from saccade.models.density import DensityFirst
from saccade.models.encoders import build_encoder
from saccade.models.residual_attention import AttentionKind
from saccade.models.spatial_transformer import Form, tile_transformer

AttentionModuleKind = Literal["none"] | AttentionKind
TransformerForm = Literal["none"] | Form


def build_model(
    *,
    classes: int,
    attention: str = "residual",
    attention_options: Mapping[str, int] | None = None,
    encoder: str = "compact",
    encoder_options: Mapping[str, Any] | None = None,
    attention_module: AttentionModuleKind = "none",
    spatial_transformer: TransformerForm = "none",
    transformer_px: int | None = None,
    pretrained: bool = False,
    state_dict: Mapping[str, Tensor] | None = None,
    in_channels: int = 3,
    density_gain: float = 0.0,
    smooth: float = 1e-5,
    unit_features: bool = True,
) -> AttentionSampling:
    """Build an attention sampling model; after `torch.manual_seed` always the same one.

    Args:
        classes: number of classes.
        attention: name for `build_attention`, its options in `attention_options`.
        attention_options: `channels` and `stride` of the residual network.
        encoder: name for `build_encoder`, its options in `encoder_options`.
        encoder_options: `width` of the compact encoder; those of `timm.create_model`.
        attention_module: kind of the mask of a module behind the encoder's last stage
            (`AttendedEncoder`); `none` leaves it out.
        spatial_transformer: form of the maps by which the encoder looks at a part of each tile
            (`tile_transformer`); `none` leaves it out.
        transformer_px: side of what the encoder then gets; that of a tile if None.
        pretrained: fetch the weights of a timm encoder.
        state_dict: weights of a timm encoder at hand.
        in_channels: channels of views and tiles.
        density_gain: logits of attention per standard deviation of optical density, to begin
            with (`DensityFirst`); 0 leaves it out.
        smooth: share of the attention that is spread evenly over the valid places.
        unit_features: scale each tile's features to length one, as the paper does.
    """
    network = build_attention(attention, in_channels=in_channels, **(attention_options or {}))
    close = build_encoder(
        encoder,
        in_channels=in_channels,
        pretrained=pretrained,
        state_dict=state_dict,
        **(encoder_options or {}),
    )
    if attention_module != "none":
        close = AttendedEncoder(close, attention_module)
    if spatial_transformer != "none":
        close.transformer = tile_transformer(
            spatial_transformer, channels=in_channels, size_px=transformer_px
        )
    return AttentionSampling(
        attention=DensityFirst(network, gain=density_gain) if density_gain else network,
        encoder=close,
        classes=classes,
        smooth=smooth,
        unit_features=unit_features,
    )
