import pytest
import torch
from torch import Tensor, nn

from saccade.models.attended_encoder import AttendedEncoder
from saccade.models.build import build_model
from saccade.models.encoders import Encoder, build_encoder
from saccade.models.finetune import choose_what_learns, parameter_groups
from saccade.models.residual_attention import watched_masks

# Maps with channels first and last, tokens that are summed up by a mean.
NAMES = ["compact", "timm:test_resnet", "timm:test_efficientnet", "timm:test_mambaout"]
SIDE = 160  # of a tile; the vision transformer takes no other


class Nothing(nn.Module):
    """A mask that finds nothing."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


@torch.inference_mode()
def pair(name: str) -> tuple[Encoder, AttendedEncoder, Tensor]:
    """An encoder, the same with a module behind it, and tiles."""
    torch.manual_seed(0)
    encoder = build_encoder(name).eval()
    return encoder, AttendedEncoder(encoder, "mixed").eval(), torch.rand(2, 3, SIDE, SIDE)


@pytest.mark.parametrize("name", NAMES)
@torch.inference_mode()
def test_where_the_mask_finds_nothing_the_encoder_says_what_it_says_alone(name: str) -> None:
    encoder, attended, tiles = pair(name)
    attended.attention.mask = Nothing()

    torch.testing.assert_close(attended(tiles), encoder(tiles))


@pytest.mark.parametrize("name", NAMES)
@torch.inference_mode()
def test_the_mask_has_a_say_in_the_features(name: str) -> None:
    encoder, attended, tiles = pair(name)
    with watched_masks(attended) as masks:
        features = attended(tiles)

    assert features.shape == (2, encoder.features)
    assert not torch.allclose(features, encoder(tiles), rtol=0.1)
    assert [mask.shape[:2] for mask in masks] == [(2, attended.channels)]
    assert masks[0].shape[2] == masks[0].shape[3] > 1


@pytest.mark.parametrize(("pool", "same"), [("token", False), ("avg", True)])
@torch.inference_mode()
def test_tokens_of_a_transformer_are_a_map(pool: str, same: bool) -> None:
    """A class token saw the tile before the mask did: then all others are summed up instead."""
    torch.manual_seed(0)
    encoder = build_encoder("timm:test_vit", global_pool=pool).eval()
    attended = AttendedEncoder(encoder, "mixed").eval()
    attended.attention.mask = Nothing()
    tiles = torch.rand(2, 3, SIDE, SIDE)

    tokens = encoder.trunk.forward_features(encoder.standardise(tiles))  # type: ignore[operator]
    expected = encoder(tiles) if same else tokens[:, 1:].mean(dim=1)
    torch.testing.assert_close(attended(tiles), expected)


def test_tokens_keep_their_places() -> None:
    """Row by row: what the mask does to one place, it does to the token of that place."""
    encoder = build_encoder("timm:test_vit", global_pool="avg").eval()
    attended = AttendedEncoder(encoder, "mixed").eval()
    seen = []
    attended.attention.register_forward_hook(lambda _, args, __: seen.append(args[0]))
    tokens = torch.arange(101.0)[None, :, None].expand(1, 101, 64)  # a class token and 10 x 10
    attended._tokens(tokens)

    assert torch.equal(seen[0][0, 0], torch.arange(1.0, 101).view(10, 10))


def test_the_module_learns_in_full_while_the_encoder_stays_as_it_is() -> None:
    model = build_model(classes=2, encoder="timm:test_resnet", attention_module="spatial")
    choose_what_learns(model.encoder, "frozen")
    groups = parameter_groups(model, weight_decay=0.1, layer_decay=0.5)
    learning = {id(p): group["lr_scale"] for group in groups for p in group["params"]}

    assert isinstance(model.encoder, AttendedEncoder)
    module = [p for p in model.encoder.attention.parameters() if p.requires_grad]
    assert {learning[id(p)] for p in module} == {1}
    assert len(module) == len(list(model.encoder.attention.parameters()))
    assert not any(p.requires_grad for p in model.encoder.trunk.parameters())


def test_a_model_has_the_module_that_was_asked_for() -> None:
    tiles = torch.rand(1, 1, 3, 64, 64)
    for kind, count in (("none", 0), ("channel", 1)):
        model = build_model(classes=2, attention_module=kind)  # type: ignore[arg-type]
        with watched_masks(model) as masks:
            model.encode(tiles)
        assert len(masks) == count


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("residual_attention", "attention modules of its own"),
        ("paper", "take compact or timm:NAME"),
    ],
)
def test_encoders_that_a_module_cannot_stand_behind_are_refused(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AttendedEncoder(build_encoder(name), "mixed")


def test_tokens_off_a_square_are_refused() -> None:
    encoder = build_encoder("timm:test_vit")
    with pytest.raises(ValueError, match="7 tokens do not lie on a square"):
        AttendedEncoder(encoder, "mixed")._tokens(torch.zeros(1, 8, 64))
