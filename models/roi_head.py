"""What each proposed region is, and where exactly: the second half of Faster R-CNN.

Features within each region are brought to a grid of 7 x 7; two layers look at it, and say its
class, background being one, and for each class where the object would be.

Source: Girshick, "Fast R-CNN", ICCV 2015, https://arxiv.org/abs/1504.08083, section 2, with the
numbers of the published code of Faster R-CNN. Two things are as others do them today: features are
interpolated at the region (RoIAlign of He et al., "Mask R-CNN", ICCV 2017) instead of rounding it
to cells; and there is no dropout.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torchvision.ops import roi_align

from saccade.models.anchors import assign_proposals, sample
from saccade.models.boxes import (
    Boxes,
    ManyBoxes,
    Size,
    clip,
    decode_boxes,
    edges_of,
    encode_boxes,
    sizes_of,
    smooth_l1,
    suppress,
)
from saccade.models.region_proposals import begin, log_loss

_DRAWN = 128  # regions of an image that the loss looks at
_SHARE = 0.25  # of objects among them, at most
_SIGMA = 1.0
_SPREAD = (0.1, 0.1, 0.2, 0.2)  # of the codes of proposals; the network says them in units of it
_OVERLAP = 0.3  # IoU above which a better object of the same class suppresses another


class Detections(NamedTuple):
    """Objects found in an image; those of a class are together, the likeliest first."""

    boxes: Float[Tensor, "n 4"]
    """First and last pixels, (x1, y1, x2, y2), within the image."""
    classes: Int64[Tensor, " n"]
    """From 0 on."""
    scores: Float[Tensor, " n"]
    """Probability of the class."""


class RoIHead(nn.Module):
    """Classes and boxes of regions.

    Args:
        channels: of the feature map.
        classes: kinds of objects; background is none of them.
        stride: pixels of the image from one cell of the feature map to the next.
        hidden: width of the two layers; VGG16 as published has 4096.
        side: of the grid that regions are brought to.
        background_from: IoU with some object that regions need to be learned as background. All
            are by default, as where the published code trains end to end; its training in
            alternation left out those below 0.1.
    """

    spread: Tensor

    def __init__(
        self,
        channels: int = 512,
        *,
        classes: int,
        stride: int = 16,
        hidden: int = 1024,
        side: int = 7,
        background_from: float = 0.0,
    ) -> None:
        super().__init__()
        if classes < 1:
            raise ValueError(f"there has to be at least one kind of objects, got {classes}.")
        self.stride = stride
        self.classes = classes
        self.side = side
        self.background_from = background_from
        self.look = nn.Linear(channels * side**2, hidden)
        self.think = nn.Linear(hidden, hidden)
        self.score = nn.Linear(hidden, 1 + classes)
        self.code = nn.Linear(hidden, 4 * (1 + classes))
        begin(self.score, std=0.01)
        begin(self.code, std=0.001)
        self.register_buffer("spread", torch.tensor(_SPREAD))

    def forward(
        self, features: Float[Tensor, "images channels rows cols"], regions: ManyBoxes
    ) -> tuple[Float[Tensor, "regions all_classes"], Float[Tensor, "regions all_classes 4"]]:
        """Look at regions of each image; those of all images come one after the other.

        Returns:
            Logits of background and the classes; and for each of them where the object is
            relative to the region, in units of `spread`.
        """
        grids = roi_align(
            features,
            [edges_of(boxes) for boxes in regions],
            self.side,
            spatial_scale=1 / self.stride,
            aligned=True,
        )
        x = self.think(self.look(grids.flatten(start_dim=1)).relu()).relu()
        return self.score(x), self.code(x).unflatten(1, (1 + self.classes, 4))

    def losses(
        self,
        features: Float[Tensor, "images channels rows cols"],
        proposals: ManyBoxes,
        truths: ManyBoxes,
        classes: Sequence[Int64[Tensor, " _"]],
        *,
        generator: torch.Generator | None = None,
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Loss of the classes and of the boxes.

        Of each image up to 128 regions count, up to a quarter of them objects: proposals, and the
        truths themselves. Log-loss of the classes, and smooth L1 (sigma 1) of the codes of objects
        for their class, both divided by the number of regions that count.

        Args:
            features: of the images.
            proposals: for each image.
            truths: boxes of the objects of each image.
            classes: of these objects, from 0 on.
            generator: source of randomness of the draw of regions, on the CPU.
        """
        regions, labels, wanted = [], [], []
        for proposed, boxes, of_boxes in zip(proposals, truths, classes, strict=True):
            candidates = torch.cat([proposed, boxes])
            assigned = assign_proposals(candidates, boxes, background_from=self.background_from)
            objects, background = sample(assigned.labels, _DRAWN, share=_SHARE, generator=generator)
            nearest = assigned.nearest[objects]
            regions.append(candidates[torch.cat([objects, background])])
            labels += [1 + of_boxes[nearest], torch.zeros_like(background)]
            codes = encode_boxes(boxes[nearest], candidates[objects]) / self.spread
            wanted.append(codes)
        label = torch.cat(labels)
        scores, codes = self(features, regions)
        objects = label.nonzero().squeeze(1)
        found = codes[objects, label[objects]]
        of_codes = smooth_l1(found, torch.cat(wanted), sigma=_SIGMA) / max(1, len(label))
        return log_loss(scores, label), of_codes

    def detect(
        self,
        features: Float[Tensor, "images channels rows cols"],
        proposals: ManyBoxes,
        size_px: Size,
        *,
        min_score: float,
    ) -> list[Detections]:
        """Objects of each image.

        Args:
            features: of the images.
            proposals: for each image.
            size_px: (width, height) of the images.
            min_score: probability that a class needs to be named; a region may have several.
        """
        scores, codes = self(features, proposals)
        counts = [len(boxes) for boxes in proposals]
        found = []
        for boxes, likely, moves in zip(
            proposals, scores.softmax(dim=1).split(counts), codes.split(counts), strict=True
        ):
            found.append(self._of_image(boxes, likely, moves, size_px, min_score))
        return found

    def _of_image(
        self,
        regions: Boxes,
        likely: Float[Tensor, "n all_classes"],
        codes: Float[Tensor, "n all_classes 4"],
        size_px: Size,
        min_score: float,
    ) -> Detections:
        of_classes = []
        for number in range(self.classes):
            boxes = clip(decode_boxes(codes[:, 1 + number] * self.spread, regions), size_px)
            scores = likely[:, 1 + number]
            good = (scores >= min_score) & (sizes_of(boxes).amin(dim=1) >= 1)
            boxes, scores = boxes[good], scores[good]
            kept = suppress(boxes, scores, _OVERLAP)
            of_classes.append((boxes[kept], torch.full_like(kept, number), scores[kept]))
        return Detections(*(torch.cat(each) for each in zip(*of_classes, strict=True)))
