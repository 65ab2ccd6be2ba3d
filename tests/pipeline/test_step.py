"""A step of several small batches is the step of one large batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from saccade.models.attention_sampling import AttentionSampling
from saccade.pipeline import fit
from saccade.pipeline import train as training
from saccade.pipeline.cohort import Cohort, Example
from saccade.pipeline.config import ModelConfig, RunConfig
from saccade.pipeline.device import require_precision
from saccade.pipeline.errors import ConfigError
from saccade.pipeline.fit import train_epoch
from saccade.pipeline.reading import TileReader
from saccade.pipeline.step import Seen, Step
from saccade.pipeline.tasks.cox import PartialLikelihood
from saccade.pipeline.tasks.labels import Labels
from saccade.pipeline.tasks.regression import Regression
from saccade.pipeline.tasks.survival import Survival
from saccade.pipeline.tasks.task import Criterion, Task, mean_loss
from saccade.tiling.errors import SlideError
from tests.bench import bench_of
from tests.cohort import TINY, with_training


@pytest.fixture
def double() -> Iterator[None]:
    """Single precision rounds otherwise for other batches, and then another pixel is a maximum."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def gradients(
    config: RunConfig,
    examples: Sequence[Example],
    loaded: Cohort,
    reader: TileReader,
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[list[list[Tensor]], dict[str, Any]]:
    """Of every step of an epoch, with weights that stay as they are; and what the epoch said."""
    bench = bench_of(config, loaded, reader)
    found: list[list[Tensor]] = []

    def noted(*_: Any) -> None:
        found.append([p.grad.clone() for p in bench.model.parameters() if p.grad is not None])

    monkeypatch.setattr(bench.optimizer, "step", noted)
    return found, train_epoch(bench, examples, 0)


@pytest.mark.usefixtures("double")
# Classes of 3 and 2 slides, so that weights of classes do not cancel.
@pytest.mark.parametrize(("batch", "accumulate"), [(2, 3), (1, 5), (3, 2)])
def test_gradients_of_small_batches_add_up_to_those_of_a_large_one(
    loaded: Cohort,
    reader: TileReader,
    monkeypatch: pytest.MonkeyPatch,
    batch: int,
    accumulate: int,
) -> None:
    examples = [*loaded.train, loaded.val[0]]
    loose = replace(TINY.training, clip_norm=0.0, entropy=0.1, batch=5)
    large = replace(TINY, training=loose)
    small = replace(TINY, training=replace(loose, batch=batch, accumulate=accumulate))

    wanted, said = gradients(large, examples, loaded, reader, monkeypatch)
    found, said_too = gradients(small, examples, loaded, reader, monkeypatch)

    assert len(wanted) == len(found) == 1
    for one, other in zip(wanted[0], found[0], strict=True):
        torch.testing.assert_close(other, one, rtol=1e-9, atol=1e-12)
    assert said_too == pytest.approx(said, rel=1e-9)


def test_the_last_step_is_as_short_as_what_is_left(
    loaded: Cohort, reader: TileReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, said = gradients(
        with_training(batch=1, accumulate=3), loaded.train, loaded, reader, monkeypatch
    )

    assert len(found) == 2
    assert said["tiles_read"] == 4 * TINY.tiles.per_slide


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("last", [0, 4])
def test_a_slide_that_cannot_be_read_leaves_the_step_of_the_others(
    loaded: Cohort, reader: TileReader, monkeypatch: pytest.MonkeyPatch, last: int
) -> None:
    """Found out in the first small batch or in the last, when the others have been added."""
    config = with_training(batch=1, accumulate=5, clip_norm=0.0, entropy=0.0)
    examples = [*loaded.train, loaded.val[0]]
    order = fit._in_order(bench_of(config, loaded, reader), examples, 0)
    others = [e for e in examples if e is not order[last]]
    wanted, _ = gradients(config, others, loaded, reader, monkeypatch)
    bad = order[last].subject.slide.path
    judge = fit.judge

    def judged(model: AttentionSampling, proposal: Any, tiles: Any, **rest: Any) -> Any:
        if proposal.subjects[0].slide.path == bad:
            tiles = [SlideError("torn")]
        return judge(model, proposal, tiles, **rest)

    monkeypatch.setattr(fit, "judge", judged)
    found, _ = gradients(config, examples, loaded, reader, monkeypatch)

    for one, other in zip(wanted[0], found[0], strict=True):
        torch.testing.assert_close(other, one, rtol=1e-9, atol=1e-12)


def test_networks_compute_in_few_bits_and_sums_in_many(
    loaded: Cohort, reader: TileReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What autocast is told, and what comes out of it, on a processor that may lack bf16."""
    model = training._on_device(
        training._fresh_model(TINY, 2), with_training(precision="bf16"), "cpu"
    )
    asked: list[torch.dtype] = []
    weigh = model.weigh

    class Autocast:
        def __init__(self, device: str, dtype: torch.dtype) -> None:
            assert device == "cpu"
            asked.append(dtype)

        def __enter__(self) -> None:
            pass

        def __exit__(self, *_: object) -> None:
            pass

    def halved(_: Any, __: Any, output: Tensor) -> Tensor:
        return output.bfloat16()

    def weighed(features: Tensor, log_probs: Tensor, *rest: Any) -> Any:
        assert features.dtype == log_probs.dtype == torch.float32
        return weigh(features, log_probs, *rest)

    monkeypatch.setattr(torch, "autocast", Autocast)
    monkeypatch.setattr(model, "weigh", weighed)
    for network in (model.attention, model.encoder):
        network.register_forward_hook(halved)
    bench = training._bench(with_training(precision="bf16"), model, loaded, reader)
    said = train_epoch(bench, loaded.train, 0)

    assert asked == [torch.bfloat16] * 4  # two steps, two networks
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert said["tiles_read"] == 4 * TINY.tiles.per_slide


def test_bf16_is_refused_where_the_processor_lacks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)

    require_precision("float32", "cpu")
    with pytest.raises(ConfigError, match=r"training\.precision: bf16 .* cpu does not"):
        require_precision("bf16", "cpu")
    with pytest.raises(ConfigError, match="AVX-512"):
        training.train(with_training(precision="bf16"), [], Path("nowhere"))


def test_bf16_learns_as_float32_does(loaded: Cohort, reader: TileReader) -> None:
    try:
        require_precision("bf16", "cpu")
    except ConfigError:
        pytest.skip("this processor does not compute in bf16")
    losses = []
    for precision in ("float32", "bf16"):
        config = with_training(precision=precision)
        model = training._on_device(training._fresh_model(config, 2), config, "cpu")
        bench = training._bench(config, model, loaded, reader)
        losses.append(train_epoch(bench, loaded.train, 0)["loss"])
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


@pytest.mark.gpu
def test_bf16_on_a_gpu(loaded: Cohort, reader: TileReader) -> None:
    if not torch.cuda.is_available():
        pytest.skip("there is no GPU here")
    require_precision("bf16", "cuda")
    config = with_training(precision="bf16")
    model = training._on_device(training._fresh_model(config, 2), config, "cuda")
    bench = training._bench(config, model, loaded, reader)
    assert train_epoch(bench, loaded.train, 0)["tiles_read"] == 4 * TINY.tiles.per_slide


def test_a_batch_norm_is_warned_of() -> None:
    model = ModelConfig(encoder="timm:resnet10t")
    for accumulate in (1, 2):
        config = replace(with_training(accumulate=accumulate), model=model)
        expected = (
            pytest.warns(UserWarning, match="2 times as many") if accumulate > 1 else nullcontext()
        )
        with expected:
            training._on_device(training._fresh_model(config, 2), config, "cpu")


def test_weights_lie_as_tiles_do() -> None:
    model = training._on_device(training._fresh_model(TINY, 2), TINY, "cpu")
    for weight in (p for p in model.parameters() if p.ndim == 4):
        assert weight.is_contiguous(memory_format=torch.channels_last)


NAN = float("nan")
TASKS: list[tuple[Task, list[tuple[float, ...]]]] = [
    (Labels(("x", "y")), [(1, NAN), (0, 1), (0, NAN), (1, 0), (NAN, 1)]),
    (Regression(("x",), (3.0,), (2.0,)), [(1,), (2,), (NAN,), (4,), (9,)]),
    (Survival(), [(3, 1), (1, 0), (2, 1), (5, 0), (4, 0)]),
]


def a_step(criterion: Criterion, outputs: Tensor, targets: Tensor) -> Step:
    """Of slides whose outputs are what learns."""
    bench: Any = SimpleNamespace(
        criterion=criterion,
        failures={},
        model=nn.Linear(1, 1),
        optimizer=torch.optim.SGD([outputs]),
    )
    examples: list[Any] = [
        SimpleNamespace(subject=SimpleNamespace(name=str(i)), target=target)
        for i, target in enumerate(targets.tolist())
    ]
    return Step(bench, examples, entropy=0.0)


def seen(outputs: Tensor, targets: Tensor) -> Seen:
    return Seen(outputs, targets, torch.zeros(len(targets)), 0)


@dataclass(frozen=True)
class Known:
    """A task whose loss and gradient are known: those of all slides at once."""

    criterion: Criterion
    outputs: Tensor
    targets: Tensor

    @classmethod
    def of(cls, task: Task, targets: list[tuple[float, ...]]) -> Known:
        known = torch.tensor(targets, dtype=torch.float64)
        outputs = torch.linspace(-1, 2, 5 * len(task.names)).reshape(5, -1).requires_grad_()
        return cls(task.criterion(known, "balanced"), outputs, known)

    @property
    def wanted(self) -> tuple[float, Tensor]:
        loss = mean_loss(self.criterion, self.outputs, self.targets)
        (gradient,) = torch.autograd.grad(loss, self.outputs)
        return loss.item(), gradient


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize(("task", "targets"), TASKS[:2])
def test_a_step_divides_by_the_weight_of_all_its_slides(
    task: Task, targets: list[tuple[float, ...]]
) -> None:
    """Batches of 3 and 2 add up to one of 5; survival does not, so settings refuse it."""
    known = Known.of(task, targets)
    loss, gradient = known.wanted

    step = a_step(known.criterion, known.outputs, known.targets)
    for part in (slice(0, 3), slice(3, 5)):
        step.add(seen(known.outputs[part], known.targets[part]))

    assert step.loss == pytest.approx(loss, rel=1e-12)
    assert known.outputs.grad is not None
    torch.testing.assert_close(known.outputs.grad, gradient)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize(("task", "targets"), TASKS)
def test_processes_that_see_a_part_each_make_the_step_of_all(
    task: Task, targets: list[tuple[float, ...]]
) -> None:
    """The outputs of the others come as numbers; what each process learns adds up."""
    known = Known.of(task, targets)
    loss, gradient = known.wanted

    step = a_step(known.criterion, known.outputs, known.targets)
    for rank in range(2):
        own = torch.arange(5) % 2 == rank
        joined = torch.where(own[:, None], known.outputs, known.outputs.detach())
        step.loss = 0.0  # of this process
        step.add(seen(joined, known.targets))
        assert step.loss == pytest.approx(loss, rel=1e-12)

    assert known.outputs.grad is not None
    torch.testing.assert_close(known.outputs.grad, gradient)


def test_a_step_without_an_event_teaches_nothing() -> None:
    outputs = torch.zeros(2, 1, requires_grad=True)
    targets = torch.tensor([[3.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    step = a_step(PartialLikelihood(), outputs, targets)
    step.add(seen(outputs, targets))
    assert step.loss == 0
    assert outputs.grad is not None
    assert not outputs.grad.any()
