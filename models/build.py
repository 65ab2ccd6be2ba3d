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

AttentionModuleKind = Literal["none"] | AttentionKind


def build_model(
    *,
    classes: int,
    attention: str = "residual",
    attention_options: Mapping[str, int] | None = None,
    encoder: str = "compact",
    encoder_options: Mapping[str, Any] | None = None,
    attention_module: AttentionModuleKind = "none",
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
    return AttentionSampling(
        attention=DensityFirst(network, gain=density_gain) if density_gain else network,
        encoder=close if attention_module == "none" else AttendedEncoder(close, attention_module),
        classes=classes,
        smooth=smooth,
        unit_features=unit_features,
    )
