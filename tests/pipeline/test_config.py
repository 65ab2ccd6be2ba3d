import re
from pathlib import Path
from typing import Any

import pytest

from saccade.pipeline.config import ModelConfig, RunConfig, TilesConfig
from saccade.pipeline.errors import ConfigError
from saccade.pipeline.saliency.config import SaliencyConfig
from saccade.pipeline.yaml_config import load_any_config, load_config, parse_config


def test_an_empty_file_means_all_defaults() -> None:
    assert parse_config("") == RunConfig()


def test_what_is_left_out_keeps_its_default() -> None:
    config = parse_config("tiles:\n  per_slide: 5\n")

    assert config.tiles == TilesConfig(per_slide=5)
    assert config.view == RunConfig().view


def test_numbers_are_read_as_people_write_them() -> None:
    config = parse_config("training: {learning_rate: 1e-4, weight_decay: 0}\nview: {mpp: 8}")

    assert config.training.learning_rate == 1e-4
    assert config.training.weight_decay == 0.0
    assert config.view.mpp == 8.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tiles:\n  sise_px: 3", "run.yaml, line 2: unknown key tiles.sise_px; known here: "),
        ("tyles: {}", "line 1: unknown key tyles; known here: augment, model, "),
        ("tiles:\n  size_px: big", "line 2: tiles.size_px must be a whole number, found 'big'"),
        ("tiles: {size_px: 64.0}", "tiles.size_px must be a whole number, found 64.0"),
        ("augment: {turn: 1}", "augment.turn must be true or false, found 1"),
        ("augment: {stain: 1.5}", "augment.stain must be in [0, 1], got 1.5"),
        ("training: {schedule: step}", "must be one of cosine, constant, found 'step'"),
        ("tiles: {snap: grid}", "tiles.snap must be one of none, pixel, tile, found 'grid'"),
        ("training: {finetune: head}", "must be one of all, last_block, frozen, found 'head'"),
        ("training: {layer_decay: 0}", "training.layer_decay must be in (0, 1], got 0"),
        ("splits: {folds: 2}", "splits.folds must be 0, or at least 3: one part is held out"),
        ("splits: {seed: -1}", "splits.seed must not be negative"),
        ("training: {read_ahead: -1}", "training.read_ahead must be finite and not negative"),
        ("tiles:\n\n  per_slide: 0", "line 3: tiles.per_slide must be at least 1, got 0"),
        ("view: {mpp: -1}", "view.mpp must be positive"),
        ("view: {mpp: .nan}", "view.mpp must be positive"),
        ("view: {mpp: .inf}", "view.mpp must be positive"),
        ("view: 3", "line 1: view must be a mapping of settings"),
        ("- 1", "the file must be a mapping"),
        ("view: {mpp: 1, mpp: 2}", "view.mpp is given twice"),
        ("view: {mpp: [}", "is not YAML"),
        ("model: {weights: w.pt, pretrained: true}", "exclude each other"),
        ("model: {attention_module: soft}", "must be one of none, mixed, channel, spatial"),
        (
            "model: {encoder: residual_attention, attention_module: mixed}",
            "wants an encoder that it can stand behind, compact or timm:NAME, got residual_attent",
        ),
        ("model: {spatial_transformer: projective}", "must be one of none, affine, attention"),
        ("model: {transformer_px: 32}", "model.spatial_transformer is none: set it to attention"),
        ("model: {spatial_transformer: affine, transformer_px: 8}", "must be at least 16, got 8"),
        (
            "tiles: {size_px: 64}\nmodel: {spatial_transformer: affine, transformer_px: 65}",
            "model.transformer_px must be at most tiles.size_px, 64, got 65",
        ),
        ("model: !!python/object/apply:os.system ['true']", "must be a mapping"),
        ("tiles: {per_slide: !!python/name:os.system }", "tiles.per_slide"),
    ],
)
def test_mistakes_are_named_with_their_line(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        parse_config(text, name="run.yaml")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"run\.yaml: cannot be read"):
        load_config(tmp_path / "run.yaml")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", RunConfig),
        ("tiles: {per_slide: 5}", RunConfig),
        ("kind: slides\ntiles: {per_slide: 5}", RunConfig),
        ("kind: saliency", SaliencyConfig),
        ("kind: saliency\nnetwork: {width: 8}", SaliencyConfig),
    ],
)
def test_the_kind_says_which_settings_a_file_holds(
    tmp_path: Path, text: str, wanted: type[RunConfig | SaliencyConfig]
) -> None:
    (tmp_path / "run.yaml").write_text(text)

    assert type(load_any_config(tmp_path / "run.yaml")) is wanted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "\nkind: cats",
            "run.yaml, line 2: kind must be one of slides, saliency, features, "
            "segmentation, detection, found 'cats'",
        ),
        ("kind: saliency\ntiles: {}", "unknown key tiles; known here: network, pyramid, targets,"),
        ("kind: slides\nnetwork: {}", "unknown key network"),
        ("- 1", "the file must be a mapping"),
    ],
)
def test_a_kind_knows_its_own_settings(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "run.yaml").write_text(text)

    with pytest.raises(ConfigError, match=re.escape(message)):
        load_any_config(tmp_path / "run.yaml")


def test_where_slides_are_wanted_saliency_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("kind: saliency")

    with pytest.raises(
        ConfigError, match=r"run\.yaml: is of kind saliency; wanted settings of kind"
    ):
        load_config(tmp_path / "run.yaml")


@pytest.mark.parametrize(
    ("model", "has"),
    [
        ({}, False),
        ({"encoder": "residual_attention"}, True),
        ({"attention_module": "spatial"}, True),
    ],
)
def test_an_encoder_has_masks_of_its_own_or_of_a_module_behind_it(
    model: dict[str, Any], has: bool
) -> None:
    assert ModelConfig(**model).has_masks is has
