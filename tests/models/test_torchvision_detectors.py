"""torchvision's detectors behind the seam of ours; one of them is trained for a step."""

import pytest
import torch
from torch import Tensor, nn

from saccade.models.detector import Known
from saccade.models.torchvision_detectors import TorchvisionDetector, torchvision_detector

KNOWN = [
    Known(torch.tensor([[8.0, 8, 40, 40]]), torch.tensor([1])),
    Known(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)),
]


class Fixed(nn.Module):
    """Finds the same whatever it sees, and notes what it was shown."""

    def forward(self, images: list[Tensor], targets: object = None) -> object:
        self.shown, self.targets = images, targets
        if targets is not None:
            return {"a": torch.tensor(1.0), "b": torch.tensor(2.0)}
        boxes = torch.tensor([[2.0, 4, 20, 30], [-4, 0, 70, 8], [0, 0, 9, 9], [50, 1, 50, 9]])
        found = {
            "boxes": boxes,
            "scores": torch.tensor([0.9, 0.8, 0.02, 0.7]),
            "labels": torch.tensor([2, 1, 1, 1]),
        }
        return [found for _ in images]


def test_boxes_come_back_in_pixels_of_the_tile_and_classes_count_from_0() -> None:
    detector = TorchvisionDetector(Fixed(), classes=2, enlarge=2).eval()

    (found,) = detector.find(torch.zeros(1, 3, 16, 32, dtype=torch.uint8))

    assert detector.model.shown[0].shape == (3, 32, 64)  # type: ignore[union-attr,index]
    assert found.boxes.tolist() == [[1, 2, 10, 15], [0, 0, 32, 4]]
    assert found.classes.tolist() == [1, 0]
    assert found.scores.tolist() == pytest.approx([0.9, 0.8])


def test_objects_are_told_as_torchvision_counts_them() -> None:
    detector = TorchvisionDetector(Fixed(), classes=2, enlarge=2)

    assert detector.loss(torch.zeros(2, 3, 48, 48), KNOWN).item() == 3
    first, second = detector.model.targets  # type: ignore[union-attr,misc]
    assert first["boxes"].tolist() == [[16, 16, 80, 80]]
    assert first["labels"].tolist() == [2]
    assert second["boxes"].shape == (0, 4)


def test_one_of_torchvision_learns_for_a_step_and_finds() -> None:
    torch.manual_seed(0)
    detector = torchvision_detector("fasterrcnn_mobilenet_v3_large_320_fpn", classes=2)
    tiles = torch.rand(2, 3, 64, 96)

    loss = detector.train().loss(tiles, KNOWN)
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in detector.parameters())
    found = detector.eval().find(tiles, min_score=0.0)
    assert len(found) == 2
    for each in found:
        assert (each.boxes >= 0).all()
        assert (each.boxes <= torch.tensor([96, 64, 96, 64])).all()
        assert ((each.classes >= 0) & (each.classes < 2)).all()


class Chance(nn.Module):
    """Draws what its loss is, as torchvision draws the regions that count."""

    def forward(self, images: list[Tensor], targets: object) -> dict[str, Tensor]:
        return {"drawn": torch.rand(())}


def test_what_is_drawn_hangs_on_the_generator_alone() -> None:
    detector, tiles = TorchvisionDetector(Chance(), classes=2), torch.zeros(2, 3, 48, 48)
    torch.manual_seed(1)
    wanted = torch.rand(())
    torch.manual_seed(1)

    first, again, other = (
        detector.loss(tiles, KNOWN, generator=torch.Generator().manual_seed(seed)).item()
        for seed in (3, 3, 4)
    )

    assert first == again != other
    assert torch.rand(()) == wanted  # nobody else's draws have changed


def test_tiles_are_shown_as_large_as_they_are() -> None:
    detector = torchvision_detector("retinanet_resnet50_fpn", classes=1).eval()
    images, _ = detector.model.transform([torch.rand(3, 64, 96)])  # type: ignore[operator]
    assert images.image_sizes == [(64, 96)]


def test_unknown_detectors_classes_and_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"no detector 'maskrcnn_resnet50_fpn' .* retinanet"):
        torchvision_detector("maskrcnn_resnet50_fpn", classes=1)
    with pytest.raises(ValueError, match="enlarge must be positive"):
        TorchvisionDetector(Fixed(), classes=1, enlarge=0)
    detector = TorchvisionDetector(Fixed(), classes=1)
    with pytest.raises(ValueError, match="there are 1 classes"):
        detector.loss(torch.zeros(2, 3, 48, 48), KNOWN)
    with pytest.raises(ValueError, match="got 2 for 1"):
        detector.loss(torch.zeros(1, 3, 48, 48), KNOWN)
