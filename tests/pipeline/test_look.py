from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from saccade.models.attention_sampling import AttentionSampling
from saccade.models.build import build_model
from saccade.pipeline.config import TilesConfig
from saccade.pipeline.glance import glance_at
from saccade.pipeline.look import Look, Subject, attend, look
from saccade.pipeline.reading import SlideRef, TileReader
from saccade.pipeline.seeds import generator_for
from saccade.pipeline.thumbnails import ensure_pyramid
from saccade.tiling.errors import SlideNotFoundError
from tests.cohort import TINY, TinyCohort

CPU = torch.device("cpu")


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
    model, tiles = lively_model(stride=2), TilesConfig(per_slide=3, size_px=32)

    def looked(chosen: list[Subject]) -> list[Look]:
        dice = [generator_for("test", subject.name) for subject in chosen]
        found = look(model, chosen, reader, tiles, dice)
        return [each for each in found if isinstance(each, Look)]

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
    model, tiles = lively_model(stride=2), TilesConfig(per_slide=3, size_px=32)
    lost = replace(subjects[1], slide=SlideRef(Path("lost.tiff")))

    def looked(chosen: list[Subject]) -> list[object]:
        dice = [generator_for("test", subject.name) for subject in chosen]
        return list(look(model, chosen, reader, tiles, dice))

    with TileReader(size_px=32, mpp=0.5, workers=1) as reader, torch.inference_mode():
        whole, broken = looked(subjects), looked([subjects[0], lost, subjects[2]])
    assert isinstance(broken[1], SlideNotFoundError)
    for i in (0, 2):
        one, other = whole[i], broken[i]
        assert isinstance(one, Look)
        assert isinstance(other, Look)
        assert np.array_equal(one.tiles, other.tiles)
        torch.testing.assert_close(one.reading.logits, other.reading.logits)


def test_gradients_reach_attention_and_encoder(subjects: list[Subject]) -> None:
    model, tiles = lively_model(stride=2), TilesConfig(per_slide=3, size_px=32)
    dice = [generator_for("test", subject.name) for subject in subjects]
    with TileReader(size_px=32, mpp=0.5, workers=1) as reader:
        found = look(model, subjects, reader, tiles, dice)
    logits = torch.cat([each.reading.logits for each in found if isinstance(each, Look)])
    logits[:, 0].sum().backward()  # type: ignore[no-untyped-call]

    for part in (model.attention, model.encoder, model.head):
        assert any(p.grad is not None and p.grad.abs().max() > 0 for p in part.parameters())
