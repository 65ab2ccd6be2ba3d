"""What holds of every detector: its boxes, its errors, and what of it learns."""

import pytest
import torch
from torch import Tensor, nn

from saccade.models.detection import Truth, build_faster_rcnn
from saccade.models.detector import Known
from saccade.models.trunk import Trunk, use_group_norms

NOTHING = Known(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))


def small_detector() -> nn.Module:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1)
    )
    trunk = Trunk(network, channels=8, stride=4, mean=(0.5,) * 3, std=(0.2,) * 3)
    return build_faster_rcnn(trunk, classes=2, scales=[2, 4], min_side_px=2, hidden=16)


@pytest.mark.parametrize(
    ("boxes", "classes", "message"),
    [
        ([[0.0, 0, 4, 4]], [], "0 objects need boxes of shape"),
        ([[0.0, 0, 4, 4], [3, 3, 3.5, 9]], [0, 0], "box 1, .* is less than a pixel wide"),
        ([[0.0, 0, 4, 4]], [-1], "count from 0, got -1"),
    ],
)
def test_impossible_objects_are_refused(
    boxes: list[list[float]], classes: list[int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Known(torch.tensor(boxes), torch.tensor(classes, dtype=torch.int64))


def test_edges_are_the_published_pixels_and_one_more() -> None:
    """Faster R-CNN counts pixels inside, and edges towards others."""
    detector = small_detector()
    tiles = torch.rand(2, 3, 32, 40)
    edges = Known(torch.tensor([[4.0, 4, 12, 20]]), torch.tensor([1]))
    pixels = Truth(torch.tensor([[4.0, 4, 11, 19]]), torch.tensor([1]))
    nothing = Truth(NOTHING.boxes, NOTHING.classes)

    loss = detector.loss(tiles, [edges, NOTHING], generator=torch.Generator().manual_seed(1))
    losses = detector(tiles, [pixels, nothing], generator=torch.Generator().manual_seed(1))
    assert torch.equal(loss, losses.total)

    detector.eval()
    found, detected = detector.find(tiles, min_score=0.0), detector.detect(tiles, min_score=0.0)
    assert sum(len(each.boxes) for each in found) > 0
    for ours, theirs in zip(found, detected, strict=True):
        torch.testing.assert_close(ours.boxes, theirs.boxes + torch.tensor([0.0, 0, 1, 1]))
        assert (ours.boxes[:, 2:] <= torch.tensor([40, 32])).all()
        assert torch.equal(ours.classes, theirs.classes)


def test_what_is_frozen_stays_bit_for_bit() -> None:
    detector = small_detector()
    detector.freeze(["0.weight", "0.bias", "1.weight", "1.bias"])
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in detector.parameters() if p.requires_grad], lr=0.1)

    detector.train().loss(torch.rand(1, 3, 32, 32), [NOTHING]).backward()
    optimizer.step()

    changed = {
        name
        for name, value in detector.state_dict().items()
        if not torch.equal(value, before[name])
    }
    assert not any(name.startswith(("trunk.network.0.", "trunk.network.1.")) for name in changed)
    assert "trunk.network.3.weight" in changed


def test_group_norms_see_no_other_tile_and_keep_what_norms_have_learned() -> None:
    class Inner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(6)

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(x)  # type: ignore[no-any-return]

    network = nn.Sequential(nn.Conv2d(3, 6, 3), Inner())
    nn.init.constant_(network[1].norm.weight, 2.0)
    use_group_norms(network, groups=4)
    tiles = torch.rand(3, 3, 8, 8)

    assert isinstance(network[1].norm, nn.GroupNorm)
    assert network[1].norm.num_groups == 3  # 4 does not divide 6
    torch.testing.assert_close(network(tiles)[:1], network(tiles[:1]))
    assert float(network(tiles).detach().std()) == pytest.approx(2, rel=0.05)


def test_the_norms_of_timm_still_activate() -> None:
    from timm.layers import BatchNormAct2d

    network = nn.Sequential(BatchNormAct2d(4))
    use_group_norms(network)

    assert network(torch.randn(2, 4, 5, 5)).min().item() == 0
