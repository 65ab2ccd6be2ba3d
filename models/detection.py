"""Faster R-CNN: which objects are in an image, and where.

A trunk turns the image into a map of features; a region proposal network says where objects may be;
a head looks at each of these regions and says what it is, and where exactly. All three learn
together, from boxes and their classes.

Source: Ren, He, Girshick and Sun, "Faster R-CNN: Towards Real-Time Object Detection with Region
Proposal Networks", NeurIPS 2015, https://arxiv.org/abs/1506.01497, and the published code
(rbgirshick/py-faster-rcnn), trained end to end. Each part has a file, which names what it does
differently: trunk.py, boxes.py, anchors.py, region_proposals.py and roi_head.py. Images are taken
at the scale they come in; the paper brought photographs to a shorter side of 600 pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from saccade.models.anchors import RATIOS, SCALES, anchors, assign_anchors
from saccade.models.boxes import Boxes, Size, decode_boxes, edges_of, encode_boxes, iou, pixels_of
from saccade.models.detector import Detector, Found, Known
from saccade.models.pixels import Views
from saccade.models.region_proposals import TEST, TRAINING, Limits, RegionProposalNetwork
from saccade.models.roi_head import Detections, RoIHead
from saccade.models.trunk import Trunk, timm_trunk

__all__ = [
    "Detections",
    "FasterRCNN",
    "Losses",
    "RegionProposalNetwork",
    "RoIHead",
    "Trunk",
    "Truth",
    "anchors",
    "assign_anchors",
    "build_faster_rcnn",
    "decode_boxes",
    "edges_of",
    "encode_boxes",
    "iou",
    "timm_trunk",
]


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """The objects that are in an image; there may be none.

    Attributes:
        boxes: first and last pixels, (x1, y1, x2, y2); shape (0, 4) for none.
        classes: what each is, from 0 on.

    Raises:
        ValueError: if lengths differ, a box has no pixel or is no number, or a class is negative.
    """

    boxes: Float[Tensor, "_ 4"]
    classes: Int64[Tensor, " _"]

    def __post_init__(self) -> None:
        if self.boxes.shape != (len(self.classes), 4):
            raise ValueError(
                f"{len(self.classes)} objects need boxes of shape ({len(self.classes)}, 4), "
                f"got {tuple(self.boxes.shape)}."
            )
        sound = self.boxes.isfinite() & (self.boxes[:, 2:] >= self.boxes[:, :2]).repeat(1, 2)
        _require(
            sound.all(dim=1),
            self.boxes,
            "has no pixel: the last ones (x2, y2) must not lie before the first (x1, y1). "
            "Leave such objects out; of (x, y, width, height) they are x + width - 1 and "
            "y + height - 1",
        )
        if (self.classes < 0).any():
            raise ValueError(f"classes count from 0, got {int(self.classes.min())}.")


class Losses(NamedTuple):
    """What training makes smaller."""

    objectness: Float[Tensor, ""]
    """Log-loss of anchors being objects."""
    anchor_boxes: Float[Tensor, ""]
    """Smooth L1 of the boxes that anchors propose."""
    classes: Float[Tensor, ""]
    """Log-loss of the classes of regions."""
    boxes: Float[Tensor, ""]
    """Smooth L1 of the boxes of regions."""

    @property
    def total(self) -> Float[Tensor, ""]:
        """Their sum."""
        return torch.stack(self).sum()


class FasterRCNN(Detector):
    """Find objects in images.

    Args:
        trunk: gives features of images.
        proposals: says where objects may be.
        head: says what they are.
        limits: how many proposals the head looks at when it is to find objects.
        training_limits: of how many it draws when it learns.

    Raises:
        ValueError: if the parts do not agree about the stride of the features.
    """

    def __init__(
        self,
        *,
        trunk: Trunk,
        proposals: RegionProposalNetwork,
        head: RoIHead,
        limits: Limits = TEST,
        training_limits: Limits = TRAINING,
    ) -> None:
        super().__init__()
        if not trunk.stride == proposals.stride == head.stride:
            raise ValueError(
                f"trunk, proposals and head need one stride, got {trunk.stride}, "
                f"{proposals.stride} and {head.stride}."
            )
        self.trunk = trunk
        self.proposals = proposals
        self.head = head
        self.limits = limits
        self.training_limits = training_limits

    @property
    def backbone(self) -> nn.Module:
        """The network of the trunk."""
        return self.trunk.network

    def forward(
        self,
        images: Views,
        truths: Sequence[Truth],
        *,
        generator: torch.Generator | None = None,
    ) -> Losses:
        """What there is to learn from images whose objects are known, those without any included.

        Args:
            images: RGB in [0, 1] or bytes.
            truths: objects of each image.
            generator: source of randomness of what is looked at, on the CPU.

        Raises:
            ValueError: if there is not one truth an image, or one has a class that the head does
                not know, or a box that reaches out of its image.
        """
        size_px = _size_of(images)
        self._check(truths, len(images), size_px)
        features = self.trunk(images)
        boxes = [
            truth.boxes.to(self.proposals.cell) for truth in truths
        ]  # device and kind of number
        classes = [truth.classes.to(images.device) for truth in truths]
        seen = self.proposals(features)
        of_proposals = self.proposals.losses(seen, boxes, size_px, generator=generator)
        proposed = self.proposals.propose(seen, size_px, self.training_limits)
        of_head = self.head.losses(features, proposed, boxes, classes, generator=generator)
        return Losses(*of_proposals, *of_head)

    @torch.no_grad()
    def detect(self, images: Views, *, min_score: float = 0.05) -> list[Detections]:
        """Objects of each image.

        Args:
            images: RGB in [0, 1] or bytes.
            min_score: probability that a class needs to be named. For a curve of precision and
                recall leave it low.
        """
        size_px = _size_of(images)
        features = self.trunk(images)
        proposed = self.proposals.propose(self.proposals(features), size_px, self.limits)
        return self.head.detect(features, proposed, size_px, min_score=min_score)

    def find(self, tiles: Views, *, min_score: float = 0.05) -> list[Found]:
        """Objects of each tile, as `Detector.find` has it: boxes are edges."""
        detected = self.detect(tiles, min_score=min_score)
        return [Found(edges_of(each.boxes), each.scores, each.classes) for each in detected]

    def loss(
        self, tiles: Views, known: Sequence[Known], *, generator: torch.Generator | None = None
    ) -> Float[Tensor, ""]:
        """The sum of the losses, as `Detector.loss` has it: boxes are edges."""
        truths = [Truth(pixels_of(each.boxes), each.classes) for each in known]
        losses: Losses = self(tiles, truths, generator=generator)
        return losses.total

    def _check(self, truths: Sequence[Truth], images: int, size_px: Size) -> None:
        if len(truths) != images:
            raise ValueError(f"need one truth an image, got {len(truths)} for {images} images.")
        width, height = size_px
        for truth in truths:
            last = truth.boxes.new_tensor((width - 1, height - 1))
            inside = (truth.boxes[:, :2] >= 0) & (truth.boxes[:, 2:] <= last)
            _require(
                inside.all(dim=1),
                truth.boxes,
                f"reaches out of its image of {width} x {height} pixels: clip it, or leave it out",
            )
            if (truth.classes >= self.head.classes).any():
                raise ValueError(
                    f"class {int(truth.classes.max())} is none of the {self.head.classes} that "
                    "the head knows, counted from 0."
                )


def build_faster_rcnn(
    trunk: Trunk,
    *,
    classes: int,
    ratios: Sequence[float] = RATIOS,
    scales: Sequence[float] = SCALES,
    min_side_px: float = 16,
    hidden: int = 1024,
    proposals_hidden: int = 512,
    limits: Limits = TEST,
    training_limits: Limits = TRAINING,
) -> FasterRCNN:
    """Put a proposal network and a head on a trunk.

    With VGG16, 20 classes and `hidden=4096` that is the published detector of 137,078,239
    parameters. Nuclei of 10 to 40 px want, say, a trunk of stride 8, the scales 1.5, 3 and 5, and
    a `min_side_px` of 5.

    Args:
        trunk: gives features of images.
        classes: kinds of objects.
        ratios: of the anchors, heights over widths.
        scales: of the anchors, sides of a square one in strides.
        min_side_px: proposals that are narrower or lower are dropped.
        hidden: width of the head.
        proposals_hidden: channels of the proposal network.
        limits: how many proposals the head looks at when it is to find objects; several go to one
            object, so images with more than some 50 want more than the published 300.
        training_limits: of how many it draws when it learns; fewer take less time.
    """
    return FasterRCNN(
        trunk=trunk,
        proposals=RegionProposalNetwork(
            trunk.channels,
            stride=trunk.stride,
            ratios=ratios,
            scales=scales,
            min_side_px=min_side_px,
            hidden=proposals_hidden,
        ),
        head=RoIHead(trunk.channels, classes=classes, stride=trunk.stride, hidden=hidden),
        limits=limits,
        training_limits=training_limits,
    )


def _size_of(images: Views) -> Size:
    rows, cols = images.shape[2:]
    return cols, rows


def _require(sound: Tensor, boxes: Boxes, complaint: str) -> None:
    """Refuse boxes of which not all are sound, naming the first."""
    if not sound.all():
        number = int((~sound).nonzero()[0])
        raise ValueError(f"box {number}, {boxes[number].tolist()}, {complaint}.")
