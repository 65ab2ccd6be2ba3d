"""Ways to choose tiles, on a slide whose answer by all of its tiles is known."""

import csv
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from saccade.pipeline.config import ModelConfig, RunConfig, TilesConfig, ViewConfig
from saccade.pipeline.errors import ConfigError
from saccade.pipeline.gaze import Gaze, Gazer
from saccade.pipeline.glance import glance_at
from saccade.pipeline.look import Subject, attend, exploring, judge, propose
from saccade.pipeline.model_file import ModelCard, load_model, save_model
from saccade.pipeline.options import PredictOptions
from saccade.pipeline.predict import predict_slide
from saccade.pipeline.reading import SlideRef, TileReader
from saccade.pipeline.seeds import generator_for
from saccade.pipeline.tasks.classes import Classes
from saccade.pipeline.thumbnails import ensure_pyramid
from tests.slides import tissue_like, write_pyramid_tiff

CARD = ModelCard.of(
    RunConfig(
        view=ViewConfig(mpp=16.0),
        tiles=TilesConfig(per_slide=8, size_px=16, mpp=1.0),
        model=ModelConfig(attention="paper", encoder="compact", unit_features=True),
    ),
    Classes(("pale", "dark")),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A slide, and a model that looks unevenly and whose tiles differ in what they say."""
    folder = tmp_path_factory.mktemp("gaze")
    write_pyramid_tiff(folder / "slide.tiff", tissue_like(640, 512))
    torch.manual_seed(1)
    model = CARD.build()
    torch.nn.init.normal_(model.attention.get_submodule("score").weight, std=3)  # type: ignore[arg-type]
    torch.nn.init.normal_(model.head.weight, std=3)
    save_model(folder / "model.safetensors", model.state_dict(), CARD)
    return folder


@pytest.fixture
def gazer(folder: Path) -> Any:
    model, card = load_model(folder / "model.safetensors")
    ref = SlideRef(folder / "slide.tiff")
    with ref.open() as slide:
        pyramid = ensure_pyramid(slide, folder / "pyramid.zarr", RunConfig().pyramid)
        glance = glance_at(pyramid, card.view, stride=model.attention.stride, name="slide")
        subject = Subject("slide", ref, glance, slide.mpp)
    with torch.inference_mode(), TileReader(size_px=16, mpp=1.0, workers=1) as reader:
        (log_attention,) = attend(model, [subject], torch.device("cpu"))
        yield Gazer(
            model, subject, log_attention, log_attention, reader, card.tiles, 1.0, card.task
        )


def everything(gazer: Gazer) -> Gaze:
    return replace(gazer, config=replace(gazer.config, per_slide=10_000)).drawn(0, 1)


def test_one_draw_is_what_the_walk_of_training_gives(gazer: Gazer) -> None:
    """To the last bit, and whatever is said of its chance beside it."""
    proposal = propose(gazer.model, [gazer.subject], gazer.config, [generator_for("predict", 0)])
    with torch.inference_mode():
        (wanted,) = judge(gazer.model, proposal, gazer.reader.read(proposal.requests))
    found = gazer.drawn(0, 1)

    assert not isinstance(wanted, Exception)
    assert found.outcome.outputs.equal(wanted.reading.logits[0].double())
    assert found.weight.equal(wanted.reading.weights[0].double())
    assert np.array_equal(found.places.cells, wanted.places.cells)


def test_the_spread_is_about_the_outcome_itself(gazer: Gazer) -> None:
    outcome = gazer.drawn(0, 3).outcome

    assert outcome.estimates is not None
    assert len(outcome.estimates) == 3 * 8
    torch.testing.assert_close(outcome.estimates.mean(0), outcome.outputs, rtol=0, atol=1e-5)


def test_the_first_draws_of_many_are_the_draws_of_few(gazer: Gazer) -> None:
    few, many = gazer.drawn(0, 2), gazer.drawn(0, 5)

    count = len(few.places)
    assert np.array_equal(many.places.cells[:count], few.places.cells)
    assert few.outcome.estimates is not None
    assert many.outcome.estimates is not None
    torch.testing.assert_close(many.outcome.estimates[: 2 * 8], few.outcome.estimates)


def test_a_tile_of_several_draws_is_read_once_and_weighs_its_mean(gazer: Gazer) -> None:
    once, together = gazer.drawn(0, 1), gazer.drawn(0, 6)

    assert len(together.places) < 6 * 8
    assert len(set(together.places.cells.tolist())) == len(together.places)
    assert len(together.tiles) == len(together.features) == len(together.places)
    assert float(together.weight.sum()) == pytest.approx(1, abs=1e-6)
    pooled = together.weight @ together.features.double()
    logits = gazer.model.head(pooled.float())
    torch.testing.assert_close(logits.double(), together.outcome.outputs, rtol=0, atol=1e-5)
    assert np.array_equal(together.places.cells[:8], once.places.cells)


def test_all_tiles_give_the_attention_weighted_mean_and_leave_nothing_to_chance(
    gazer: Gazer,
) -> None:
    whole = everything(gazer)
    probability = torch.from_numpy(whole.places.probability.copy())

    assert len(whole.places) == gazer.offered > 50
    torch.testing.assert_close(whole.weight, probability, rtol=1e-5, atol=0)
    assert np.ptp(whole.outcome.intervals(), axis=1).tolist() == [0, 0]


def test_draws_come_to_what_all_tiles_give(gazer: Gazer) -> None:
    truth = everything(gazer).outcome.outputs.softmax(0).numpy()

    inside = []
    for seed in range(40):
        low, high = gazer.drawn(seed, 1).outcome.intervals().T
        inside.append(bool(((low <= truth) & (truth <= high)).all()))
    assert sum(inside) >= 35
    low, high = gazer.drawn(0, 60).outcome.intervals().T
    assert (high - low < 0.1).all()
    assert ((low <= truth) & (truth <= high)).all()


SHARE = 0.5


def away_from_attention(gazer: Gazer) -> Gazer:
    """The same, with a proposal of which half goes where the attention is lowest."""
    low = -gazer.log_attention.masked_fill(gazer.log_attention.isneginf(), torch.inf)
    prior = low.flatten().log_softmax(0).view_as(low)
    subject = replace(gazer.subject, log_prior=prior)
    proposal = exploring(gazer.log_attention, subject, SHARE)
    return replace(gazer, subject=subject, log_proposal=proposal)


def test_a_draw_from_more_than_attention_is_what_the_walk_of_training_gives(gazer: Gazer) -> None:
    """That one is unbiased, as tests of the walk show by all of its draws."""
    away = away_from_attention(gazer)
    generators = [generator_for("predict", 0)]
    proposal = propose(away.model, [away.subject], away.config, generators, explore=SHARE)
    with torch.inference_mode():
        (wanted,) = judge(away.model, proposal, away.reader.read(proposal.requests))
    found = away.drawn(0, 1)

    assert not isinstance(wanted, Exception)
    assert found.outcome.outputs.equal(wanted.reading.logits[0].double())
    assert found.weight.equal(wanted.reading.weights[0].double())
    assert found.places.cells.tolist() == wanted.places.cells.tolist()
    assert found.places.cells.tolist() != gazer.drawn(0, 1).places.cells.tolist()


def test_tiles_drawn_from_more_keep_their_attention(gazer: Gazer) -> None:
    found = away_from_attention(gazer).drawn(0, 2)
    estimates = found.outcome.estimates
    assert estimates is not None
    attention = gazer.log_attention.flatten().double().exp().numpy()
    np.testing.assert_allclose(found.places.probability, attention[found.places.cells])
    assert len(estimates) == 2 * 8
    torch.testing.assert_close(estimates.mean(0), found.outcome.outputs, rtol=0, atol=1e-5)


def test_the_most_attended_are_read_and_weighed_by_attention(gazer: Gazer) -> None:
    found = gazer.most_attended()
    attention = gazer.log_attention.flatten().exp()
    highest = attention.sort(descending=True).values[:8]

    assert found.draws == 0
    torch.testing.assert_close(attention[torch.from_numpy(found.places.cells.copy())], highest)
    torch.testing.assert_close(found.weight, (highest / highest.sum()).double())
    assert np.array_equal(found.places.cells, gazer.most_attended().places.cells)


def test_ties_of_attention_go_by_place(gazer: Gazer) -> None:
    offered = gazer.log_attention.isfinite()
    even = torch.where(offered, -math.log(gazer.offered), -torch.inf)
    found = replace(gazer, log_attention=even).most_attended()

    assert found.places.cells.tolist() == np.flatnonzero(offered.numpy())[:8].tolist()


def leaning(gazer: Gazer, lead: float) -> Gazer:
    """All tiles give class 1 so many logits more than class 0."""
    outputs = everything(gazer).outcome.outputs
    with torch.no_grad():
        gazer.model.head.bias[0] += float(outputs[1] - outputs[0]) - lead
    return gazer


def test_a_clear_slide_is_sure_at_the_first_look(gazer: Gazer) -> None:
    found = leaning(gazer, 30.0).until_sure(0, 0.0, None)

    assert (found.ended, len(found.places)) == ("sure", 16)
    assert found.outcome.outputs.argmax() == 1


def test_what_it_ends_with_is_a_draw_of_as_many_tiles(gazer: Gazer) -> None:
    found = leaning(gazer, 0.0).until_sure(3, 0.0, 40)
    config = replace(gazer.config, per_slide=40)
    wanted = replace(gazer, config=config).drawn(3, 1)

    assert found.ended == "budget"
    assert np.array_equal(found.places.cells, wanted.places.cells)
    torch.testing.assert_close(found.outcome.outputs, wanted.outcome.outputs, rtol=0, atol=1e-5)
    torch.testing.assert_close(found.weight, wanted.weight)
    wider, narrower = (np.ptp(g.outcome.intervals(g.miss), axis=1) for g in (found, wanted))
    assert (wider > narrower).all()  # it has been looked at several times


def test_a_slide_without_a_winner_is_read_to_its_end(gazer: Gazer) -> None:
    found = leaning(gazer, 0.0).until_sure(0, 0.0, 10_000)

    assert (found.ended, len(found.places)) == ("all read", gazer.offered)
    assert np.ptp(found.outcome.intervals(found.miss), axis=1).tolist() == [0, 0]


def test_a_wider_margin_takes_more_tiles(gazer: Gazer) -> None:
    leaning(gazer, 1.0)
    tight, loose = (len(gazer.until_sure(0, margin, None).places) for margin in (0.2, 0.0))

    assert tight > loose


def test_a_temperature_divides_outputs_and_what_is_said_of_them(gazer: Gazer) -> None:
    plain, warm = gazer.drawn(0, 2).outcome, replace(gazer, temperature=4.0).drawn(0, 2).outcome

    assert plain.estimates is not None
    assert warm.estimates is not None
    torch.testing.assert_close(warm.outputs * 4, plain.outputs)
    torch.testing.assert_close(warm.estimates * 4, plain.estimates)


def predicted(folder: Path, out: Path, **options: Any) -> dict[str, Any]:
    chosen = PredictOptions(**{"workers": 1, **options})
    predict_slide(SlideRef(folder / "slide.tiff"), folder / "model.safetensors", out, chosen)
    found: dict[str, Any] = json.loads((out / "prediction.json").read_text())
    return found


@pytest.mark.parametrize("change", [{"repeats": 2}, {"top": True}, {"until_sure": 0.0}])
def test_a_prediction_with_other_options_is_not_taken_as_done(
    folder: Path, tmp_path: Path, change: dict[str, Any]
) -> None:
    slide, model = SlideRef(folder / "slide.tiff"), folder / "model.safetensors"
    plain, other = PredictOptions(workers=1), PredictOptions(workers=1, **change)

    assert predict_slide(slide, model, tmp_path, plain)
    assert predict_slide(slide, model, tmp_path, other)
    assert not predict_slide(slide, model, tmp_path, other)


def test_files_say_how_tiles_were_chosen(folder: Path, tmp_path: Path) -> None:
    drawn = predicted(folder, tmp_path)
    repeated = predicted(folder, tmp_path, repeats=4)
    with (tmp_path / "tiles.csv").open(newline="") as file:
        tiles = list(csv.DictReader(file))
    top = predicted(folder, tmp_path, top=True)
    sure = predicted(folder, tmp_path, until_sure=0.0, tiles=24)

    assert [each["mode"] for each in (drawn, repeated, top, sure)] == [
        *("drawn", "drawn", "top", "until sure")
    ]
    assert [each["draws"] for each in (drawn, repeated, top, sure)] == [1, 4, 0, 1]
    assert (drawn["tiles_read"], top["tiles_read"]) == (8, 8)
    assert top["intervals_95"] is None
    assert top["attention_read"] >= drawn["attention_read"]
    assert len(tiles) == repeated["tiles_read"] > 8
    assert sum(float(tile["weight"]) for tile in tiles) == pytest.approx(1, abs=1e-6)
    for each in (drawn, repeated, sure):
        for name, (low, high) in each["intervals_95"].items():
            assert low < each["probabilities"][name] < high
    assert sure["ended"] in ("sure", "budget")
    assert sure["tiles_read"] in (16, 24)


def test_a_temperature_in_the_model_file_calms_the_probabilities(
    folder: Path, tmp_path: Path
) -> None:
    model, card = load_model(folder / "model.safetensors")
    warm = replace(card, temperature=3.0, calibration="fitted")
    save_model(tmp_path / "model.safetensors", model.state_dict(), warm)
    (tmp_path / "slide.tiff").symlink_to(folder / "slide.tiff")
    plain = predicted(folder, tmp_path / "plain")
    calm = predicted(tmp_path, tmp_path / "calm")

    odds, calmer = (
        np.log(each["probabilities"]["pale"] / each["probabilities"]["dark"])
        for each in (plain, calm)
    )
    assert calmer * 3 == pytest.approx(odds, rel=1e-6)
    assert (calm["temperature"], calm["calibration"]) == (3.0, "fitted")


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        ({"repeats": 0}, "repeats must be at least 1"),
        ({"until_sure": 0.5}, "below 0.5"),
        ({"until_sure": -0.1}, "at least 0"),
        ({"until_sure": float("nan")}, "at least 0"),
        ({"top": True, "repeats": 2}, "leave repeats out"),
        ({"top": True, "until_sure": 0.0}, "Leave top out"),
        ({"until_sure": 0.0, "repeats": 2}, "Leave repeats out"),
    ],
)
def test_options_that_exclude_each_other_say_what_to_leave_out(
    options: dict[str, Any], advice: str
) -> None:
    with pytest.raises(ConfigError, match=advice):
        PredictOptions(**options)
