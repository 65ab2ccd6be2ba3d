"""Faster R-CNN as a whole: its size, what it refuses, and that it learns to find things."""

import re
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from saccade.models.detection import (
    Detections,
    FasterRCNN,
    RegionProposalNetwork,
    RoIHead,
    Trunk,
    Truth,
    build_faster_rcnn,
    iou,
    timm_trunk,
)
from saccade.models.region_proposals import TEST, TRAINING, Glimpses, Limits

SQUARES = torch.tensor([[10.0, 12, 25, 27], [60, 14, 79, 33], [30, 58, 53, 81]])  # 16, 20, 24 px
NOTHING = Truth(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))


def small(*, classes: int = 1) -> FasterRCNN:
    """Three narrow convolutions to a stride of 8, and anchors of 16 and 24 px."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for before, after in ((3, 8), (8, 16), (16, 16)):
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.ReLU()]
    return FasterRCNN(
        trunk=Trunk(
            nn.Sequential(*layers), channels=16, stride=8, mean=(0.5,) * 3, std=(0.25,) * 3
        ),
        proposals=RegionProposalNetwork(
            16, stride=8, ratios=[1], scales=[2, 3], min_side_px=5, hidden=32
        ),
        head=RoIHead(16, classes=classes, stride=8, hidden=32),
    )


def image(squares: Tensor) -> Tensor:
    pixels = torch.full((1, 3, 96, 96), 0.2)
    for x1, y1, x2, y2 in squares.int().tolist():
        pixels[:, :, y1 : y2 + 1, x1 : x2 + 1] = 0.9
    return pixels


def learn(model: FasterRCNN, images: Tensor, truths: Sequence[Truth], steps: int) -> list[float]:
    """Total loss before each step."""
    dice = torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(steps):
        loss = model(images, truths, generator=dice).total
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


def found_in(model: FasterRCNN, images: Tensor) -> Detections:
    (found,) = model.eval().detect(images, min_score=0.5)
    return found


def test_with_vgg16_parameters_are_as_many_as_published() -> None:
    with torch.device("meta"):
        model = build_faster_rcnn(timm_trunk("vgg16"), classes=20, hidden=4096)

    assert sum(p.numel() for p in model.parameters()) == 137_078_239


def test_it_learns_to_find_three_squares_and_nothing_else(one_thread: None) -> None:
    model = small()
    pixels = image(SQUARES)

    losses = learn(model, pixels, [Truth(SQUARES, torch.zeros(3, dtype=torch.int64))], 120)

    assert losses[-1] < losses[0] / 5
    found = found_in(model, pixels)
    overlap = iou(found.boxes, SQUARES)
    assert overlap.shape == (3, 3)
    assert (overlap.amax(dim=0) > 0.7).all()
    assert (overlap.amax(dim=1) > 0.7).all()
    assert found.classes.tolist() == [0, 0, 0]


def test_an_image_without_objects_teaches_that_nothing_is_there(one_thread: None) -> None:
    model = small(classes=2)
    pixels = image(SQUARES)
    before = model(pixels, [NOTHING])

    losses = learn(model, pixels, [NOTHING], 10)

    assert before.anchor_boxes.item() == before.boxes.item() == 0
    assert losses[-1] < losses[0] / 2
    assert len(found_in(model, pixels).boxes) == 0


def test_every_part_learns_from_each_kind_of_image() -> None:
    """Without gradients for all parameters, training in several processes would wait for ever."""
    model = small()

    for truth in (NOTHING, Truth(SQUARES, torch.zeros(3, dtype=torch.int64))):
        model.zero_grad()
        model(image(SQUARES), [truth]).total.backward()
        assert all(p.grad is not None for p in model.parameters())


def test_training_takes_more_proposals_than_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small()
    propose, asked = model.proposals.propose, []

    def overheard(seen: Glimpses, size_px: tuple[int, int], limits: Limits) -> list[Tensor]:
        asked.append(limits)
        return propose(seen, size_px, limits)

    monkeypatch.setattr(model.proposals, "propose", overheard)
    model(image(SQUARES), [NOTHING])
    model.detect(image(SQUARES))

    assert asked == [TRAINING, TEST]


def test_a_seed_settles_the_loss_and_bytes_are_the_numbers_they_stand_for() -> None:
    """Wider than high, with an object where only the width reaches, and more than 256 anchors."""
    model = small()
    pixels = torch.randint(0, 256, (2, 3, 160, 224), dtype=torch.uint8)
    right = SQUARES + torch.tensor([130, 0, 130, 0])
    truths = [Truth(right, torch.zeros(3, dtype=torch.int64)), NOTHING]

    def losses(images: Tensor, seed: int) -> list[float]:
        dice = torch.Generator().manual_seed(seed)
        return torch.stack(model(images, truths, generator=dice)).tolist()

    assert losses(pixels, 0) == losses(pixels / 255, 0)
    assert losses(pixels, 0) != losses(pixels, 1)


def test_boxes_may_have_more_digits_than_the_network_and_the_network_fewer() -> None:
    model = small()
    truth = Truth(SQUARES.double(), torch.zeros(3, dtype=torch.int64))
    exact = Truth(SQUARES, truth.classes)

    def losses(truth: Truth) -> list[float]:
        dice = torch.Generator().manual_seed(0)
        return torch.stack(model(image(SQUARES), [truth], generator=dice)).tolist()

    wanted = losses(exact)
    assert losses(truth) == wanted
    with torch.autocast("cpu", torch.bfloat16):
        assert losses(truth) == pytest.approx(wanted, rel=0.05)
        assert model.detect(image(SQUARES))[0].boxes.dtype == torch.float32


@pytest.mark.parametrize(
    ("box", "complaint"),
    [
        ((10.0, 10.0, 9.0, 20.0), "box 1, [10.0, 10.0, 9.0, 20.0], has no pixel"),
        ((10.0, 10.0, 20.0, float("nan")), "has no pixel"),
        ((10.0, 10.0, 20.0, float("inf")), "has no pixel"),
    ],
)
def test_boxes_without_a_pixel_are_refused(
    box: tuple[float, float, float, float], complaint: str
) -> None:
    two = torch.stack([torch.tensor([5.0, 5, 5, 5]), torch.tensor(box)])

    with pytest.raises(ValueError, match=re.escape(complaint)):
        Truth(two, torch.zeros(2, dtype=torch.int64))


def test_classes_have_to_be_as_many_as_boxes_and_to_count_from_zero() -> None:
    with pytest.raises(ValueError, match=re.escape("2 objects need boxes of shape (2, 4)")):
        Truth(SQUARES, torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match=re.escape("classes count from 0, got -1")):
        Truth(SQUARES, torch.tensor([0, -1, 0]))


@pytest.mark.parametrize(
    ("truths", "complaint"),
    [
        ([], "need one truth an image, got 0 for 1 images"),
        ([Truth(SQUARES, torch.tensor([0, 1, 2]))], "class 2 is none of the 2"),
        ([Truth(SQUARES + 15, torch.tensor([0, 0, 0]))], "reaches out of its image of 96 x 96"),
        ([Truth(SQUARES - 11, torch.tensor([0, 0, 0]))], "box 0, [-1.0, 1.0, 14.0, 16.0], reaches"),
    ],
)
def test_truths_have_to_fit_their_images(truths: list[Truth], complaint: str) -> None:
    with pytest.raises(ValueError, match=re.escape(complaint)):
        small(classes=2)(image(SQUARES), truths)


def test_parts_have_to_agree_about_the_stride() -> None:
    model = small()

    with pytest.raises(ValueError, match=re.escape("need one stride, got 8, 8 and 16")):
        FasterRCNN(trunk=model.trunk, proposals=model.proposals, head=RoIHead(16, classes=1))
