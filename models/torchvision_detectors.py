"""torchvision's detectors, by their names there, behind the seam of all detectors.

They begin from random weights; nothing is fetched. Tiles are taken as large as they come, or
enlarged by a factor, but for SSD, which knows one size. Detectors of outlines and of joints are not
among them: they learn from more than boxes.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from saccade.models.detector import Detector, Found, Known
from saccade.models.pixels import Tiles

TORCHVISION_DETECTORS = (
    "fasterrcnn_resnet50_fpn",
    "fasterrcnn_resnet50_fpn_v2",
    "fasterrcnn_mobilenet_v3_large_fpn",
    "fasterrcnn_mobilenet_v3_large_320_fpn",
    "retinanet_resnet50_fpn",
    "retinanet_resnet50_fpn_v2",
    "fcos_resnet50_fpn",
    "ssd300_vgg16",
    "ssdlite320_mobilenet_v3_large",
)
LOWEST_SCORE = 0.01
"""Less likely objects are not looked for, whatever is asked."""


class _AsTheyCome(GeneralizedRCNNTransform):  # type: ignore[misc]
    """Standardises images and puts them into a batch; torchvision's also enlarges to 800 px."""

    def resize(
        self, image: Tensor, target: dict[str, Tensor] | None = None
    ) -> tuple[Tensor, dict[str, Tensor] | None]:
        """Leave an image as large as it is."""
        return image, target


class TorchvisionDetector(Detector):
    """A detector of torchvision.

    Args:
        model: whose class 0 is the background, as torchvision has it.
        classes: kinds of objects, background not among them.
        enlarge: factor by which tiles are made larger first. With a feature pyramid as published
            the smallest anchors are 32 px, so nuclei of 15 px want 2.
    """

    def __init__(self, model: nn.Module, *, classes: int, enlarge: float = 1.0) -> None:
        super().__init__()
        if not enlarge > 0:
            raise ValueError(f"enlarge must be positive, got {enlarge}.")
        self.model = model
        self.classes = classes
        self.enlarge = enlarge

    @property
    def backbone(self) -> nn.Module:
        """The network that torchvision calls so, its feature pyramid included."""
        backbone: nn.Module = self.model.backbone  # type: ignore[assignment]
        return backbone

    @torch.no_grad()
    def find(self, tiles: Tiles, *, min_score: float = 0.05) -> list[Found]:
        """Objects of each tile, as `Detector.find` has it; none below `LOWEST_SCORE`."""
        rows, cols = tiles.shape[2:]
        found = []
        for each in self.model(self._images(tiles)):
            boxes, scores, labels = each["boxes"] / self.enlarge, each["scores"], each["labels"]
            limit = boxes.new_tensor((cols, rows)).repeat(2)
            boxes = boxes.clamp(min=0).minimum(limit)
            kept = (scores >= min_score) & (labels > 0) & (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
            found.append(Found(boxes[kept], scores[kept], labels[kept] - 1))
        return found

    def loss(
        self, tiles: Tiles, known: Sequence[Known], *, generator: torch.Generator | None = None
    ) -> Float[Tensor, ""]:
        """The sum of torchvision's losses, in training mode.

        torchvision draws from torch's own randomness; `generator` says what that begins from here.

        Raises:
            ValueError: if there are not as many `known` as tiles, or one has an unknown class.
        """
        if len(known) != len(tiles):
            raise ValueError(f"need the objects of each tile, got {len(known)} for {len(tiles)}.")
        if any((each.classes >= self.classes).any() for each in known):
            raise ValueError(f"there are {self.classes} classes, counted from 0; got a higher one.")
        targets = [
            {"boxes": each.boxes * self.enlarge, "labels": each.classes + 1}
            for each in (one.to(tiles.device) for one in known)
        ]
        with torch.random.fork_rng():
            if generator is not None:
                torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
            losses = self.model(self._images(tiles), targets)
        return torch.stack(list(losses.values())).sum()

    def _images(self, tiles: Tiles) -> list[Tensor]:
        pixels = tiles if tiles.is_floating_point() else tiles.float() / 255
        if self.enlarge != 1:
            pixels = F.interpolate(
                pixels, scale_factor=self.enlarge, mode="bilinear", align_corners=False
            )
        return list(pixels)


def torchvision_detector(
    name: str, *, classes: int, enlarge: float = 1.0, most: int = 300
) -> TorchvisionDetector:
    """Take one of torchvision's detectors, with random weights.

    Args:
        name: one of `TORCHVISION_DETECTORS`.
        classes: kinds of objects, background not among them.
        enlarge: factor by which tiles are made larger first.
        most: objects of a tile, at most; torchvision's own is 100.

    Raises:
        ValueError: if there is no such detector here.
    """
    if name not in TORCHVISION_DETECTORS:
        known = ", ".join(TORCHVISION_DETECTORS)
        raise ValueError(f"there is no detector {name!r} of torchvision here; there are: {known}.")
    build: Any = getattr(detection, name)
    in_stages = name.startswith("fasterrcnn")
    options: dict[str, Any] = {
        "box_detections_per_img" if in_stages else "detections_per_img": most,
        "box_score_thresh" if in_stages else "score_thresh": LOWEST_SCORE,
    }
    model = build(weights=None, weights_backbone=None, num_classes=classes + 1, **options)
    if not name.startswith("ssd"):
        model.transform = _AsTheyCome(0, 0, model.transform.image_mean, model.transform.image_std)
    return TorchvisionDetector(model, classes=classes, enlarge=enlarge)
