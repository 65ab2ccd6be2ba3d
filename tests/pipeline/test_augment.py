"""A changed slide is one slide still: view, places and tiles go together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from saccade.models.attention_sampling import AttentionSampling
from saccade.models.build import build_model
from saccade.pipeline.augment import STAINS, UNCHANGED, Change, restain, turn
from saccade.pipeline.cohort import Cohort
from saccade.pipeline.config import AugmentConfig, TilesConfig
from saccade.pipeline.fit import _propose, train_epoch, validate
from saccade.pipeline.glance import Glance
from saccade.pipeline.look import Look, Subject, attend, judge, propose
from saccade.pipeline.reading import SlideRef, TileReader
from saccade.pipeline.seeds import generator_for
from saccade.tiling.grid import CellGrid
from tests.bench import bench_of
from tests.cohort import TINY, with_training

CPU = torch.device("cpu")
NONE = AugmentConfig(turn=False, stain=0, colour=0, tile_stain=0)
STRONG = AugmentConfig(stain=0.5, colour=0.5, tile_stain=0.5)
SYMMETRIES = range(8)
SIDE = 32


def subject(rows: int, cols: int, stride: int, seed: int = 0) -> Subject:
    """A slide of uneven tissue, (rows, cols) pixels of the view."""
    dice = np.random.default_rng(seed)
    pixels = dice.integers(0, 256, (rows, cols, 3), dtype=np.uint8)
    tissue = dice.random((rows, cols)) < 0.7
    shape = -(-rows // stride), -(-cols // stride)
    valid = np.array(
        [
            [
                tissue[r * stride : (r + 1) * stride, c * stride : (c + 1) * stride].any()
                for c in range(shape[1])
            ]
            for r in range(shape[0])
        ]
    )
    cell = (32.0 * stride, 32.0 * stride)
    glance = Glance(pixels, tissue, CellGrid(shape, cell), valid)
    return Subject(f"slide{seed}", SlideRef(Path("slide.tiff")), glance, (0.5, 0.5))


def drawn_to_darkness(stride: int) -> AttentionSampling:
    """Each place by its own pixels, so that it does not matter how the view lies."""
    torch.manual_seed(0)
    options = {"stride": stride}
    return build_model(classes=2, attention_options=options, density_gain=2.0).eval()


def lively(stride: int) -> AttentionSampling:
    """Sees how the view lies."""
    model = drawn_to_darkness(stride)
    torch.nn.init.normal_(model.attention.network.score.weight)  # type: ignore[union-attr, arg-type]
    return model


@pytest.mark.parametrize("symmetry", SYMMETRIES)
@pytest.mark.parametrize(("rows", "cols", "stride"), [(6, 9, 1), (7, 5, 2), (5, 11, 3)])
def test_the_same_places_are_drawn_however_the_slide_lies(
    rows: int, cols: int, stride: int, symmetry: int
) -> None:
    model, config = drawn_to_darkness(stride), TilesConfig(per_slide=3, size_px=SIDE)
    # Of several sizes, so that the turned views are padded.
    slides = [subject(rows, cols, stride), subject(cols + 2, rows, stride, seed=1)]

    def drawn(change: Change) -> list[tuple[Tensor, Any]]:
        dice = [generator_for("test", slide.name) for slide in slides]
        proposal = propose(model, slides, config, dice, [change, change])
        return list(zip(proposal.log_attention, proposal.places, strict=True))

    for (turned, there), (plain, here) in zip(
        drawn(Change(symmetry)), drawn(UNCHANGED), strict=True
    ):
        torch.testing.assert_close(turned, plain)
        assert there.corners_l0.tolist() == here.corners_l0.tolist()


@pytest.mark.parametrize("symmetry", SYMMETRIES)
@pytest.mark.parametrize(("rows", "cols", "stride"), [(6, 9, 1), (7, 5, 2)])
def test_attention_sums_to_one_over_the_tissue_however_the_slide_lies(
    rows: int, cols: int, stride: int, symmetry: int
) -> None:
    slide = subject(rows, cols, stride)
    (turned,) = attend(lively(stride), [slide], CPU, [Change(symmetry)])
    (plain,) = attend(lively(stride), [slide], CPU)

    assert np.array_equal(turned.isfinite().numpy(), slide.glance.valid)
    torch.testing.assert_close(turned.exp().sum(), torch.tensor(1.0))
    assert turned.equal(plain) == (symmetry == 0)  # this network has seen it turned


@pytest.mark.parametrize("symmetry", SYMMETRIES)
def test_a_turned_tile_is_what_the_turned_slide_shows_at_its_place(symmetry: int) -> None:
    """The slide is 3 x 2 tiles; each place of the turned slide says which tile it holds."""
    slide = torch.arange(3 * 24 * 16, dtype=torch.int64).remainder(251).byte().view(3, 24, 16)
    number = turn(torch.arange(6).view(3, 2), symmetry)
    turned = turn(slide, symmetry)
    for row, col in np.ndindex(*number.shape):
        r, c = divmod(int(number[row, col]), 2)
        tile = slide[:, 8 * r : 8 * r + 8, 8 * c : 8 * c + 8]
        shown = turned[:, 8 * row : 8 * row + 8, 8 * col : 8 * col + 8]
        assert Change(symmetry).of_tiles(tile[None])[0].equal(shown)


def test_the_eight_symmetries_are_eight() -> None:
    image = torch.arange(9).view(3, 3)
    assert len({tuple(turn(image, each).flatten().tolist()) for each in SYMMETRIES}) == 8


class Seen:
    """What the networks of a model are shown."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.views: list[Tensor] = []
        self.tiles: list[Tensor] = []
        attend, encode = AttentionSampling.attend, AttentionSampling.encode

        def attended(model: AttentionSampling, views: Tensor, tissue: Tensor) -> Tensor:
            self.views.append(views)
            return attend(model, views, tissue)

        def encoded(model: AttentionSampling, tiles: Tensor) -> Tensor:
            self.tiles.append(tiles)
            return encode(model, tiles)

        monkeypatch.setattr(AttentionSampling, "attend", attended)
        monkeypatch.setattr(AttentionSampling, "encode", encoded)


def test_a_second_look_sees_the_slide_as_the_first_did(monkeypatch: pytest.MonkeyPatch) -> None:
    slide, model, seen = subject(6, 9, 1), lively(1), Seen(monkeypatch)
    change = Change.draw(STRONG, tiles=3, generator=generator_for("seven"))
    assert change.symmetry != 0
    tiles = np.random.default_rng(2).integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)
    config = TilesConfig(per_slide=3, size_px=SIDE)
    proposal = propose(model, [slide], config, [generator_for("test")], [change])
    (first,), (again,) = (judge(model, proposal, [tiles], anew=anew) for anew in (False, True))

    assert isinstance(first, Look)
    assert isinstance(again, Look)
    assert first.log_attention.equal(again.log_attention)
    torch.testing.assert_close(first.reading.logits, again.reading.logits)
    (before, after), (one, other) = seen.views, seen.tiles
    view = torch.from_numpy(slide.glance.pixels).permute(2, 0, 1)
    assert before.equal(after)
    assert before[0].equal(change.of_view(turn(view, change.symmetry)))
    assert one.equal(other)
    assert one[0].equal(change.of_tiles(torch.from_numpy(tiles).permute(0, 3, 1, 2)))


def test_view_and_tiles_of_a_slide_have_the_same_colours() -> None:
    config = replace(STRONG, tile_stain=0)
    image = torch.randint(256, (3, 8, 8), generator=generator_for("image"), dtype=torch.uint8)
    for number in range(20):
        change = Change.draw(config, tiles=2, generator=generator_for("change", number))
        (first, second) = change.of_tiles(torch.stack([image, image]))
        assert first.equal(change.of_view(turn(image, change.symmetry)))
        assert first.equal(second)


def test_tiles_may_differ_a_little_besides() -> None:
    image = torch.full((3, 8, 8), 120, dtype=torch.uint8)
    change = Change.draw(replace(NONE, tile_stain=0.5), tiles=3, generator=generator_for("change"))
    first, second = change.of_tiles(torch.stack([image, image]))  # fewer than were foreseen
    assert not first.equal(second)
    assert change.of_view(image).equal(image)


def test_what_a_tile_has_of_its_own_comes_on_top() -> None:
    image = torch.randint(256, (2, 3, 8, 8), generator=generator_for("image"), dtype=torch.uint8)
    slide, own = torch.tensor([0.2, -0.1, 0.0]), torch.tensor([[0.1, 0.3, 0.2], [0.0, -0.2, 0.4]])

    for tile, shown, gains in zip(
        image, Change(stain=slide, tile_stain=own).of_tiles(image), slide + own, strict=True
    ):
        assert shown.equal(Change(stain=gains).of_view(tile))


def test_brightness_is_a_factor_and_saturation_leaves_grey_alone() -> None:
    grey = torch.full((3, 2, 2), 100, dtype=torch.uint8)
    pink = torch.tensor([200, 100, 150], dtype=torch.uint8).view(3, 1, 1)

    assert Change(brightness=1.2).of_view(grey).unique().tolist() == [120]
    assert Change(saturation=1.5).of_view(grey).equal(grey)
    more, less = (Change(saturation=s).of_view(pink).int().flatten() for s in (1.5, 0.5))
    assert more.amax() - more.amin() == 150
    assert less.amax() - less.amin() == 50


@pytest.mark.parametrize("number", range(10))
def test_white_stays_white_under_any_stain(number: int) -> None:
    white = torch.full((2, 3, 4, 4), 255, dtype=torch.uint8)
    config = replace(NONE, stain=1.0, tile_stain=1.0)
    change = Change.draw(config, tiles=2, generator=generator_for("stain", number))

    assert change.of_view(white[0]).equal(white[0])
    assert change.of_tiles(white).equal(white)


@pytest.mark.parametrize("stain", range(3))
def test_a_stain_twice_as_strong_is_twice_as_dense_and_leaves_the_others(stain: int) -> None:
    """Beer and Lambert: light is exp(-sum of amount times density)."""
    amount = torch.tensor([0.3, 0.5, 0.2], dtype=torch.float64)
    twice = torch.ones(3, dtype=torch.float64)
    twice[stain] = 2
    before, after = ((-(a @ STAINS)).exp().view(3, 1, 1) for a in (amount, amount * twice))

    torch.testing.assert_close(restain(before, twice.log()), after)


def test_strength_zero_is_the_identity_bit_for_bit() -> None:
    change = Change.draw(NONE, tiles=2, generator=generator_for("any"))
    image = torch.randint(256, (2, 3, 8, 8), generator=generator_for("image"), dtype=torch.uint8)

    assert change.of_view(image[0]).equal(image[0])
    assert change.of_tiles(image).equal(image)
    assert turn(image, change.symmetry).equal(image)


def test_one_strength_does_not_shift_what_else_is_drawn() -> None:
    def drawn(config: AugmentConfig) -> Change:
        return Change.draw(config, tiles=2, generator=generator_for("change"))

    whole, turned, lit = drawn(STRONG), drawn(replace(NONE, turn=True)), replace(NONE, colour=0.5)
    assert turned.symmetry == whole.symmetry != 0
    assert (drawn(lit).brightness, drawn(lit).saturation) == (whole.brightness, whole.saturation)


def test_validation_shows_slides_as_they_are(loaded: Cohort, reader: TileReader) -> None:
    found = [
        validate(bench_of(replace(TINY, augment=augment), loaded, reader), loaded.train)
        for augment in (STRONG, NONE)
    ]
    assert found[0] == found[1]


@pytest.mark.parametrize(
    "augment",
    [
        replace(NONE, turn=True),
        replace(NONE, stain=0.3),
        replace(NONE, colour=0.3),
        replace(NONE, tile_stain=0.3),
    ],
)
def test_each_setting_changes_training(
    loaded: Cohort, reader: TileReader, augment: AugmentConfig
) -> None:
    with_it, without = (
        train_epoch(bench_of(replace(TINY, augment=each), loaded, reader), loaded.train, 0)["loss"]
        for each in (augment, NONE)
    )
    assert with_it != without


def test_a_slide_is_changed_alike_in_any_batch_and_anew_at_each_epoch(
    loaded: Cohort, reader: TileReader
) -> None:
    bench = bench_of(with_training(batch=4), loaded, reader)

    def changes(count: int, epoch: int, purpose: str = "train") -> list[Change]:
        batch = _propose(bench, loaded.train[-count:], purpose, epoch, fixed=True)
        return list(batch.proposal.changes)

    (alone,) = changes(1, 0)
    together, later = changes(4, 0), changes(4, 1)
    assert repr(alone) == repr(together[-1])
    assert len({repr(each) for each in [*together, *later]}) == 8
    assert changes(4, 0, "validate") == [UNCHANGED] * 4
