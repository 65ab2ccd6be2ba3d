"""What the workflow refuses before the first job: settings that cannot come to anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from saccade.pipeline.config import ModelConfig, RunConfig
from saccade.pipeline.errors import ConfigError, SheetError
from saccade.pipeline.sheet import SheetRow
from saccade.pipeline.training_plan import TrainingPlan
from saccade.tiling.remote import Url


def refuse_what_cannot_be(
    rows: Sequence[SheetRow],
    run: RunConfig,
    settings: Mapping[str, Any],
    training: TrainingPlan | None,
) -> None:
    """Look whether all that is wanted can be done.

    Args:
        rows: of the sheet.
        run: settings of training.
        settings: the workflow's own config.
        training: what is trained on; None if the model is there already.

    Raises:
        InputError: for the first thing that cannot be.
    """
    _refuse_secrets(rows, settings)
    _refuse_lost_slides(rows, settings)
    _refuse_fetching(run, settings, training)
    if training and training.folds and settings["predict"] != "all":
        raise ConfigError(
            f"{settings['run']}: with splits.folds each slide is predicted by the fold that holds "
            f"it out, so predict has to be all; it is {settings['predict']}."
        )
    if settings.get("evidence") and not settings["embed"]:
        raise ConfigError(
            f"evidence is {settings['evidence']}, a model over features, and embed is null. Say in "
            "embed what makes the features that it was trained on."
        )
    if settings["mask"]:
        _refuse_lacking_masks(_model_config(run, settings), settings)
    if training and (lacking := training.lacking()):
        raise SheetError(f"{settings['slides']}: {lacking}")


def _refuse_lost_slides(rows: Sequence[SheetRow], settings: Mapping[str, Any]) -> None:
    places = [row.path for row in rows if isinstance(row.path, Path)]
    if lost := [place for place in places if not place.exists()]:
        raise SheetError(
            f"{settings['slides']}: {len(lost)} of {len(rows)} slides are not where the sheet "
            f"says, the first is {lost[0]}."
        )


def _refuse_lacking_masks(model: ModelConfig, settings: Mapping[str, Any]) -> None:
    if not model.has_masks:
        raise ConfigError(
            f"mask is {settings['mask']}, but the encoder has no attention modules. Set "
            "model.encoder: residual_attention or model.attention_module: mixed in "
            f"{settings['run']}, or leave mask at null."
        )
    if model.looks_within:
        raise ConfigError(
            f"mask is {settings['mask']}, but the encoder looks at a part of each tile, where a "
            "spatial transformer says, and its masks are of that part. Leave mask at null, or take "
            "a model with model.spatial_transformer: none."
        )


def _model_config(run: RunConfig, settings: Mapping[str, Any]) -> ModelConfig:
    """The networks: of the model that is there already, or of the one to be trained."""
    if not settings["model"]:
        return run.model
    from saccade.pipeline.model_file import read_card  # imports torch; few workflows ask

    return read_card(Path(settings["model"])).model


def _refuse_fetching(
    run: RunConfig, settings: Mapping[str, Any], training: TrainingPlan | None
) -> None:
    """Jobs do not reach for weights: nodes have no network, and what is fetched may change."""
    embed = settings.get("embed") or {}
    encoder = str(embed.get("encoder", "")).removeprefix("timm:")
    if training and run.model.pretrained:
        source, key = run.model.encoder, f"model.weights in {settings['run']}, without pretrained"
    elif encoder.startswith(("hf-hub:", "hf_hub:")) and "weights" not in embed:
        source, key = f"timm:{encoder}", "embed: {weights: ...}"
    else:
        return
    raise ConfigError(
        f"the weights of {source} would be fetched by a job, which may have no network. Fetch them "
        f"once, `saccade fetch {source} --out weights`, and name the file in {key}."
    )


def _refuse_secrets(rows: Sequence[SheetRow], settings: Mapping[str, Any]) -> None:
    """Snakemake writes the commands it calls into logs, the whole URL included."""
    for row in rows:
        if isinstance(row.path, Url) and row.path.text != str(row.path):
            raise SheetError(
                f"{settings['slides']}: the URL of slide {row.slide} has a password or a part from "
                f"'?' on, which would stand in the logs: {row.path}. Give the plain URL, and the "
                "credentials to the environment or the protocol's own files."
            )
