"""The sliding window asks everywhere, finds what is planted, and learns from windows."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from saccade.models.detector import Known
from saccade.models.encoders import Encoder
from saccade.models.sliding_window import SlidingWindow


class Darkness(nn.Module):
    """The darkness of a window, and that of its border: known in advance."""

    def forward(self, windows: Tensor) -> Tensor:
        dark = 1 - windows.mean(dim=1)
        rim = torch.cat([dark[:, 0], dark[:, -1], dark[:, :, 0], dark[:, :, -1]], dim=1)
        return torch.stack([dark.mean(dim=(1, 2)), rim.mean(dim=1)], dim=1)


def detector(**changes: object) -> SlidingWindow:
    encoder = Encoder(Darkness(), features=2, mean=(0.0,) * 3, std=(1.0,) * 3)
    settings: dict[str, object] = {"classes": 1, "sides_px": (8, 16), "step_px": 4, "look_px": 16}
    return SlidingWindow(encoder, **(settings | changes))  # type: ignore[arg-type]


def test_windows_lie_within_the_tile_and_leave_no_pixel_out() -> None:
    windows = detector(sides_px=(7, 10.5, 90)).windows(33, 50)

    assert (windows[:, :2] >= 0).all()
    assert (windows[:, 2:] <= torch.tensor([50.0, 33.0])).all()
    sides = windows[:, 2:] - windows[:, :2]
    assert sorted(set(sides.flatten().tolist())) == [7, 10.5]
    for side in (7, 10.5):
        of_side = windows[sides[:, 0] == side]
        assert of_side[:, 2].max() == 50
        assert of_side[:, 3].max() == 33
        x, y = (sorted(set(of_side[:, i].tolist())) for i in (0, 1))
        assert len(of_side) == len(x) * len(y)
        assert max(b - a for each in (x, y) for a, b in pairwise(each)) <= 4


def test_a_planted_square_is_found_where_it_is_once() -> None:
    tiles = torch.ones(2, 3, 40, 48)
    tiles[0, :, 12:20, 24:32] = 0
    planted = detector(look_px=8)
    with torch.no_grad():  # what is dark by half is an object
        planted.score.weight.copy_(torch.tensor([[0.0, 0.0], [20.0, 0.0]]))
        planted.score.bias.copy_(torch.tensor([0.0, -9.0]))

    one, none = planted.eval().find(tiles, min_score=0.5)

    assert one.boxes.tolist() == [[24, 12, 32, 20]]
    assert one.classes.tolist() == [0]
    assert float(one.scores) == pytest.approx(torch.tensor(11.0).sigmoid().item(), abs=1e-4)
    assert len(none.boxes) == 0


def test_it_learns_squares_from_tiles() -> None:
    torch.manual_seed(0)
    learner = detector(sides_px=(8,))
    dice = torch.Generator().manual_seed(0)
    tiles = torch.full((1, 3, 40, 48), 255, dtype=torch.uint8)
    tiles[0, :, 12:20, 24:32] = 0
    known = [Known(torch.tensor([[24.0, 12, 32, 20]]), torch.tensor([0]))]
    optimizer = torch.optim.Adam(learner.parameters(), lr=0.3)
    for _ in range(60):
        optimizer.zero_grad()
        learner.loss(tiles, known, generator=dice).backward()
        optimizer.step()

    (found,) = learner.eval().find(tiles, min_score=0.5)

    assert [24, 12, 32, 20] in found.boxes.tolist()
    assert len(found.boxes) <= 2


def test_a_tile_smaller_than_its_windows_has_nothing() -> None:
    (found,) = detector().find(torch.zeros(1, 3, 6, 30))
    assert found.boxes.shape == (0, 4)


@pytest.mark.parametrize("change", [{"sides_px": ()}, {"step_px": 0}, {"classes": 0}])
def test_impossible_windows_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="wanted sides, a step and classes above 0"):
        detector(**change)


def test_unknown_classes_and_missing_objects_are_refused() -> None:
    tiles = torch.zeros(1, 3, 20, 20)
    with pytest.raises(ValueError, match="there are 1 classes"):
        detector().loss(tiles, [Known(torch.tensor([[0.0, 0, 8, 8]]), torch.tensor([1]))])
    with pytest.raises(ValueError, match="got 0 for 1"):
        detector().loss(tiles, [])
