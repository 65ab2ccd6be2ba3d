from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch

from saccade.models.attention_sampling import AttentionSampling
from saccade.models.build import build_model
from saccade.pipeline.config import TilesConfig
from saccade.pipeline.glance import Glance, glance_at
from saccade.pipeline.look import Look, Subject, attend, judge, propose
from saccade.pipeline.reading import SlideRef, TileReader
from saccade.pipeline.seeds import generator_for
from saccade.pipeline.thumbnails import ensure_pyramid
from saccade.tiling.errors import SlideError, SlideNotFoundError
from saccade.tiling.grid import CellGrid
from saccade.tiling.lattice import Lattice
from tests.cohort import TINY, TinyCohort

CPU = torch.device("cpu")
TILES = TilesConfig(per_slide=3, size_px=32)


def lively_model(stride: int) -> AttentionSampling:
    """Attention starts out even; this one does not, so that a difference would show."""
    torch.manual_seed(0)
    model = build_model(classes=2, attention_options={"stride": stride}).eval()
    torch.nn.init.normal_(model.attention.score.weight)  # type: ignore[union-attr, arg-type]
    return model


@pytest.fixture
def subjects(cohort: TinyCohort, pyramids: Path) -> list[Subject]:
    return [subject_of(cohort, pyramids, name, stride=2) for name in ("s0", "s3", "s1")]


def subject_of(cohort: TinyCohort, pyramids: Path, name: str, stride: int) -> Subject:
    ref = SlideRef(cohort.path(name))
    with ref.open() as slide:
        pyramid = ensure_pyramid(slide, pyramids / name / "pyramid.zarr", TINY.pyramid)
        glance = glance_at(pyramid, TINY.view, stride=stride, name=name)
        return Subject(name, ref, glance, slide.mpp)


def look(
    model: AttentionSampling, subjects: list[Subject], reader: TileReader
) -> list[Look | SlideError]:
    dice = [generator_for("test", subject.name) for subject in subjects]
    proposal = propose(model, subjects, TILES, dice)
    return judge(model, proposal, reader.read(proposal.requests))


def test_attention_of_a_batch_is_that_of_each_slide_alone(subjects: list[Subject]) -> None:
    model = lively_model(stride=2)
    together = attend(model, subjects, CPU)

    assert len({tuple(each.shape) for each in together}) == 3
    for whole, subject in zip(together, subjects, strict=True):
        (alone,) = attend(model, [subject], CPU)
        assert alone.exp().max() > 3 * alone.exp()[alone.isfinite()].min()
        torch.testing.assert_close(whole, alone)
        assert np.array_equal(whole.isfinite().numpy(), subject.glance.valid)


def test_verdict_of_a_batch_is_that_of_each_slide_alone(subjects: list[Subject]) -> None:
    model = lively_model(stride=2)

    def looked(chosen: list[Subject]) -> list[Look]:
        return [each for each in look(model, chosen, reader) if isinstance(each, Look)]

    with TileReader(size_px=32, mpp=0.5, workers=2) as reader, torch.inference_mode():
        together = looked(subjects)
        alone = [looked([subject])[0] for subject in subjects]
    assert len(together) == 3
    for one, other in zip(together, alone, strict=True):
        assert np.array_equal(one.places.corners_l0, other.places.corners_l0)
        torch.testing.assert_close(one.reading.logits, other.reading.logits)


def test_a_slide_that_cannot_be_read_leaves_the_others_as_they_are(
    subjects: list[Subject],
) -> None:
    model = lively_model(stride=2)
    lost = replace(subjects[1], slide=SlideRef(Path("lost.tiff")))

    with TileReader(size_px=32, mpp=0.5, workers=1) as reader, torch.inference_mode():
        whole = look(model, subjects, reader)
        broken = look(model, [subjects[0], lost, subjects[2]], reader)
    assert isinstance(broken[1], SlideNotFoundError)
    for i in (0, 2):
        one, other = whole[i], broken[i]
        assert isinstance(one, Look)
        assert isinstance(other, Look)
        assert np.array_equal(one.tiles, other.tiles)
        torch.testing.assert_close(one.reading.logits, other.reading.logits)


def test_gradients_reach_attention_and_encoder(subjects: list[Subject]) -> None:
    model = lively_model(stride=2)
    with TileReader(size_px=32, mpp=0.5, workers=1) as reader:
        found = look(model, subjects, reader)
    logits = torch.cat([each.reading.logits for each in found if isinstance(each, Look)])
    logits[:, 0].sum().backward()  # type: ignore[no-untyped-call]

    for part in (model.attention, model.encoder, model.head):
        assert any(p.grad is not None and p.grad.abs().max() > 0 for p in part.parameters())


PLACES = 5


@pytest.fixture
def strip() -> Subject:
    """A slide of five places in a row; what is left is to draw them."""
    dice = np.random.default_rng(0)
    pixels = dice.integers(0, 256, (1, PLACES, 3), dtype=np.uint8)
    everywhere = np.ones((1, PLACES), bool)
    glance = Glance(pixels, everywhere, CellGrid((1, PLACES), (32.0, 32.0)), everywhere)
    return Subject("strip", SlideRef(Path("strip.tiff")), glance, (0.5, 0.5))


def chance_of(draw: tuple[int, ...], proposal: torch.Tensor) -> torch.Tensor:
    """Of drawing these places in this order, one after the other."""
    chance, left = torch.tensor(1.0, dtype=proposal.dtype), proposal.sum()
    for place in draw:
        chance, left = chance * proposal[place] / left, left - proposal[place]
    return chance


def gradients(value: torch.Tensor, model: AttentionSampling) -> list[torch.Tensor]:
    learned = [each for each in model.parameters() if each.requires_grad]
    return list(torch.autograd.grad(value, learned, materialize_grads=True))


@pytest.mark.parametrize(
    ("explore", "prior"),
    [(0.0, None), (0.6, None), (0.6, [0.0, 0.5, 0.0, 0.3, 0.2])],
    ids=["attention", "explores evenly", "explores by a prior"],
)
@pytest.mark.parametrize("anew", [False, True])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_over_all_draws_a_slide_is_judged_by_its_attention_as_it_is_now(
    strip: Subject,
    monkeypatch: pytest.MonkeyPatch,
    k: int,
    anew: bool,
    explore: float,
    prior: list[float] | None,
) -> None:
    """The model changes between draw and verdict: value and gradients are unbiased all the same.

    Every ordered draw is judged, and counts as often as the model before it was changed draws it,
    exploring or not.
    """
    even = torch.full((PLACES,), 1 / PLACES, dtype=torch.float64)
    explored = even if prior is None else torch.tensor(prior, dtype=torch.float64)
    if prior is not None:
        strip = replace(strip, log_prior=explored.log()[None])
    model = lively_model(stride=1).double()
    model.smooth = 0.05
    dice = np.random.default_rng(1)
    looks = dice.integers(0, 256, (PLACES, 32, 32, 3), dtype=np.uint8)
    draws = list(permutations(range(PLACES), k))
    drawn = []
    for cells in draws:
        monkeypatch.setattr(
            "saccade.pipeline.look.draw_places", lambda *_, cells=cells, **__: torch.tensor([cells])
        )
        config = replace(TILES, per_slide=k)
        drawn.append(propose(model, [strip], config, [generator_for("test")], explore=explore))
    before = drawn[0].log_attention[0].detach().exp().flatten()
    if anew:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.3 * torch.randn(parameter.shape, dtype=parameter.dtype)

    (now,) = attend(model, [strip], CPU)
    assert bool((now.exp().flatten() - before).abs().max() > 0.05) == anew
    chances = (1 - explore) * before + explore * explored
    (features,) = model.encode(torch.from_numpy(looks).permute(0, 3, 1, 2)[None])
    wanted = model.head(now.exp().flatten() @ features)[0]

    found = torch.zeros((), dtype=torch.float64)
    for cells, proposal in zip(draws, drawn, strict=True):
        (seen,) = judge(model, proposal, [looks[list(cells)]], anew=anew)
        assert isinstance(seen, Look)
        found = found + chance_of(cells, chances) * seen.reading.logits[0, 0]
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-9)
    for one, other in zip(gradients(found, model), gradients(wanted, model), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)


def test_places_are_where_the_lattice_has_them(subjects: list[Subject]) -> None:
    """And what is read is what is recorded."""
    model = lively_model(stride=2)
    lattice = Lattice((5000, 5000), (32.0, 32.0), 7)
    snapped = [replace(subject, lattice=lattice) for subject in subjects]
    dice, again = ([generator_for("test", s.name) for s in subjects] for _ in range(2))

    free, moved = propose(model, subjects, TILES, dice), propose(model, snapped, TILES, again)
    for one, other, request in zip(free.places, moved.places, moved.requests, strict=True):
        assert np.array_equal(other.corners_l0, lattice.snap(one.corners_l0))
        assert not np.array_equal(other.corners_l0, one.corners_l0)
        assert np.array_equal(request.corners_l0, other.corners_l0)
        assert np.array_equal(one.cells, other.cells)
