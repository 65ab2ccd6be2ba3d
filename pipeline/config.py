"""The settings of a run: frozen values that refuse what cannot be.

Each section of the YAML file is one dataclass; `saccade.pipeline.yaml_config` reads them.
Lengths carry their unit in the name: `_px` pixels of the array at hand, `mpp` micrometres a pixel.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from saccade.pipeline.config_checks import require, require_not_negative, require_positive
from saccade.pipeline.tasks.config import TaskConfig
from saccade.tiling.lattice import Snap


@dataclass(frozen=True, slots=True)
class PyramidConfig:
    """Thumbnails.

    Attributes:
        finest_mpp: micrometres per pixel of the finest thumbnail.
    """

    finest_mpp: float = 4.0

    def __post_init__(self) -> None:
        require_positive("pyramid.finest_mpp", self.finest_mpp)


@dataclass(frozen=True, slots=True)
class ViewConfig:
    """The one glance at the whole slide.

    Attributes:
        mpp: micrometres per pixel of the view. Choose it by what attention needs to see: cost
            grows with the area of the view, not with the slide's resolution.
        min_tissue: share of a place that must be tissue for it to be looked at; 0 to look
            everywhere, as photographs and satellite scenes want it.
    """

    mpp: float = 16.0
    min_tissue: float = 0.1

    def __post_init__(self) -> None:
        require_positive("view.mpp", self.mpp)
        require(
            0 <= self.min_tissue <= 1, f"view.min_tissue must be in [0, 1], got {self.min_tissue}."
        )


@dataclass(frozen=True, slots=True)
class TilesConfig:
    """The places that are read at full resolution.

    Attributes:
        per_slide: tiles drawn from each slide.
        size_px: side of a tile, in its own pixels.
        mpp: micrometres per pixel of a tile.
        snap: what tiles are moved to: `pixel`, the pixels that are read, by half of one at most;
            `tile`, the slide's own tiles, by as little as makes it touch the fewest; or `none`.
    """

    per_slide: int = 16
    size_px: int = 128
    mpp: float = 0.5
    snap: Snap = "pixel"

    def __post_init__(self) -> None:
        require(self.per_slide >= 1, f"tiles.per_slide must be at least 1, got {self.per_slide}.")
        require(self.size_px >= 16, f"tiles.size_px must be at least 16, got {self.size_px}.")
        require_positive("tiles.mpp", self.mpp)
        known = get_args(Snap)
        require(
            self.snap in known, f"tiles.snap must be one of {', '.join(known)}, got {self.snap}."
        )


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The networks.

    Attributes:
        attention: `paper` (three convolutions) or `residual` (wider view).
        density_gain: how strongly attention is drawn to dense, dark places before it has learned
            anything, in logits per standard deviation of optical density; 0 for not at all.
        encoder: `paper`, `compact`, `residual_attention`, or `timm:NAME` for any timm model.
        attention_module: kind of an attention module behind the last stage of the encoder;
            `none` for none. `residual_attention` has its own.
        spatial_transformer: the encoder looks at the part of each tile that a small network says:
            any `affine` map of the tile, or a scale and a shift alone, `attention`; `none` for
            the whole tile.
        transformer_px: side of what the encoder gets then; that of a tile if None.
        pretrained: start a timm encoder from its published weights (fetched by timm's hub).
        weights: local file of encoder weights (.safetensors, or .pt read as plain tensors), or
            of a trained model with the same encoder.
        smooth: share of attention that is spread evenly over the tissue.
        unit_features: whether tile features are brought to unit length, as in the paper. That
            slows training down where features are alike, as those of tissue are.
    """

    attention: str = "residual"
    density_gain: float = 0.0
    encoder: str = "compact"
    attention_module: Literal["none", "mixed", "channel", "spatial"] = "none"
    spatial_transformer: Literal["none", "affine", "attention"] = "none"
    transformer_px: int | None = None
    pretrained: bool = False
    weights: str | None = None
    smooth: float = 1e-5
    unit_features: bool = False

    def __post_init__(self) -> None:
        require(0 <= self.smooth < 1, f"model.smooth must be in [0, 1), got {self.smooth}.")
        require(
            not (self.pretrained and self.weights),
            "model.pretrained and model.weights exclude each other; choose one.",
        )
        require(
            self.attention_module == "none" or self.encoder not in ("paper", "residual_attention"),
            f"model.attention_module wants an encoder that it can stand behind, compact or "
            f"timm:NAME, got {self.encoder}; leave it at none.",
        )
        require(
            self.transformer_px is None or self.spatial_transformer != "none",
            "model.transformer_px is the size of what a spatial transformer cuts out, and "
            "model.spatial_transformer is none: set it to attention or affine, or leave "
            "transformer_px at null.",
        )
        require(
            self.transformer_px is None or self.transformer_px >= 16,
            f"model.transformer_px must be at least 16, got {self.transformer_px}.",
        )

    @property
    def has_masks(self) -> bool:
        """Whether the encoder has attention modules, of its own or behind it."""
        return self.encoder == "residual_attention" or self.attention_module != "none"

    @property
    def looks_within(self) -> bool:
        """Whether the encoder looks at a part of each tile, that a spatial transformer says."""
        return self.spatial_transformer != "none"


@dataclass(frozen=True, slots=True)
class AugmentConfig:
    """Random changes of the training slides; view and tiles of a slide are changed alike.

    Attributes:
        turn: whether a slide is shown in any of the eight symmetries of the square.
        stain: how much stronger or weaker each stain of H&E may be: the standard deviation of the
            log of its factor. 0 for slides without stains, such as photographs.
        colour: the same of brightness and of saturation.
        tile_stain: as `stain`, drawn for each tile by itself, on top.
    """

    turn: bool = True
    stain: float = 0.2
    colour: float = 0.05
    tile_stain: float = 0.05

    def __post_init__(self) -> None:
        for name in ("stain", "colour", "tile_stain"):
            require(
                0 <= getattr(self, name) <= 1,
                f"augment.{name} must be in [0, 1], got {getattr(self, name)}.",
            )


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """How the model is fitted.

    Attributes:
        epochs: passes over the training slides.
        batch: slides that a process looks at at once.
        accumulate: batches a step.
        checkpoint_steps: steps within an epoch after which a killed run goes on.
        precision: what the networks compute in; weights, attention and loss are float32 anyhow.
        learning_rate: of AdamW, at its highest.
        schedule: `cosine` falls to zero over the run, `constant` stays.
        warmup_epochs: over which the rate rises from zero.
        weight_decay: of AdamW; norms and biases do not decay.
        finetune: what of the encoder learns: `all`, its `last_block`, or nothing if `frozen`.
        layer_decay: by how much slower each layer of the encoder learns than the one after it; 1
            for alike.
        clip_norm: bound on the global norm of the gradient; 0 for none.
        class_weights: `balanced` counts each class equally, `none` each slide.
        entropy: strength of the regulariser that keeps attention from collapsing early.
        entropy_first: its strength at first, which comes evenly to `entropy`; `entropy` throughout
            if None.
        entropy_epochs: over which it does.
        explore: share of the draws that is spread evenly over the tissue at first, whatever the
            attention; the weights make up for that. At least 0 and less than 1.
        explore_epochs: over which that share falls to nothing.
        priors: folder that holds `<slide>/saliency.zarr`: where that share goes instead of evenly.
        early_stopping: epochs without a better validation loss before training ends; 0 for never.
        seed: of initialisation, order and draws.
        workers: threads that read tiles.
        read_ahead: batches whose tiles are read while others are computed. Their places are drawn
            from attention as it was so many steps before; the weights make up for that.
    """

    epochs: int = 100
    batch: int = 8
    accumulate: int = 1
    checkpoint_steps: int = 100
    precision: Literal["float32", "bf16"] = "float32"
    learning_rate: float = 1e-3
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup_epochs: int = 0
    weight_decay: float = 0.01
    finetune: Literal["all", "last_block", "frozen"] = "all"
    layer_decay: float = 1.0
    clip_norm: float = 1.0
    class_weights: Literal["balanced", "none"] = "balanced"
    entropy: float = 1e-4
    entropy_first: float | None = None
    entropy_epochs: int = 10
    explore: float = 0.0
    explore_epochs: int = 10
    priors: str | None = None
    early_stopping: int = 0
    seed: int = 0
    workers: int = 2
    read_ahead: int = 0

    def __post_init__(self) -> None:
        for name in (
            *("epochs", "batch", "accumulate", "checkpoint_steps"),
            *("workers", "entropy_epochs", "explore_epochs"),
        ):
            require(
                getattr(self, name) >= 1,
                f"training.{name} must be at least 1, got {getattr(self, name)}.",
            )
        require_positive("training.learning_rate", self.learning_rate)
        require(0 <= self.explore < 1, f"training.explore must be in [0, 1), got {self.explore}.")
        require(
            self.priors is None or self.explore > 0,
            "training.priors says where to explore, and training.explore is 0: nothing would be "
            "drawn from them. Set it to a share, such as 0.2.",
        )
        require(
            0 < self.layer_decay <= 1,
            f"training.layer_decay must be in (0, 1], got {self.layer_decay}.",
        )
        names = ("warmup_epochs", "weight_decay", "clip_norm", "entropy", "early_stopping")
        for name in (*names, "entropy_first", "read_ahead"):
            value = getattr(self, name)
            if value is not None:
                require_not_negative(f"training.{name}", value)


@dataclass(frozen=True, slots=True)
class SplitsConfig:
    """Cross-validation.

    Attributes:
        folds: parts that the slides are dealt into; each is held out once, chooses the epoch once,
            and is fitted to otherwise. 0 to train once, by the splits of the sheet.
        seed: of the deal.
    """

    folds: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        require(
            self.folds == 0 or self.folds >= 3,
            "splits.folds must be 0, or at least 3: one part is held out, one chooses the epoch, "
            f"the others are fitted to; got {self.folds}.",
        )
        require(self.seed >= 0, f"splits.seed must not be negative, got {self.seed}.")


@dataclass(frozen=True, slots=True)
class RunConfig:
    """Everything that a training run can be told."""

    task: TaskConfig = field(default_factory=TaskConfig)
    pyramid: PyramidConfig = field(default_factory=PyramidConfig)
    view: ViewConfig = field(default_factory=ViewConfig)
    tiles: TilesConfig = field(default_factory=TilesConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    splits: SplitsConfig = field(default_factory=SplitsConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def __post_init__(self) -> None:
        cut = self.model.transformer_px
        require(
            cut is None or cut <= self.tiles.size_px,
            f"model.transformer_px must be at most tiles.size_px, {self.tiles.size_px}, got {cut}: "
            "what is cut out of a tile has no more pixels than the tile.",
        )
        if self.task.kind != "survival":
            return
        batch, accumulate = self.training.batch, self.training.accumulate
        require(
            batch > 1,
            "task.kind survival compares the slides of a batch with each other, so training.batch "
            f"must be at least 2, better 16 or more; got {batch}.",
        )
        require(
            accumulate == 1,
            "task.kind survival compares all slides of a step with each other, and several batches "
            f"are never there together: training.accumulate must be 1, got {accumulate}. "
            f"Take training.batch {batch * accumulate}, with fewer tiles.per_slide if need be.",
        )
