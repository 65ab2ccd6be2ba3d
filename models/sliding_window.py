"""Detection by a sliding window: a classifier of small images is asked at every place.

Windows of a few sizes go over the tile in steps; each is brought to one size and classified, and of
windows that overlap the likeliest stays. That is how objects were found before regions were
proposed and boxes corrected: Papageorgiou and Poggio, "A trainable system for object detection",
IJCV 2000; with a network, Sermanet et al., "OverFeat", ICLR 2014, https://arxiv.org/abs/1312.6229.
Here it is what better detectors are held against. Its boxes are its windows, so they fit no better
than sizes and step let them, and each window costs a run of the network.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.ops import box_iou, nms

from saccade.models.anchors import BACKGROUND, IGNORED, OBJECT, sample
from saccade.models.detector import Detector, Found, Known
from saccade.models.encoders import Encoder
from saccade.models.pixels import Tiles
from saccade.models.region_proposals import log_loss

_OBJECT_FROM, _BACKGROUND_BELOW = 0.5, 0.3  # IoU with an object
_OVERLAP = 0.3  # IoU above which a better window of the same class suppresses another
_AT_ONCE = 512  # windows


class SlidingWindow(Detector):
    """A classifier over windows.

    Args:
        encoder: gives features of windows.
        classes: kinds of objects, background not among them.
        sides_px: of the windows, which are square.
        step_px: from one window to the next; half a side, where that is less.
        look_px: side that windows are brought to for the encoder.
        drawn: windows of a tile that the loss looks at, up to half of them objects.

    Raises:
        ValueError: if a length is not positive, or there is no class.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        classes: int,
        sides_px: Sequence[float],
        step_px: float = 8,
        look_px: int = 32,
        drawn: int = 64,
    ) -> None:
        super().__init__()
        if not sides_px or min(*sides_px, step_px, look_px, classes) <= 0:
            raise ValueError(
                "wanted sides, a step and classes above 0, "
                f"got {tuple(sides_px)}, {step_px} and {classes}."
            )
        self.encoder = encoder
        self.classes = classes
        self.sides_px = tuple(sides_px)
        self.step_px = step_px
        self.look_px = look_px
        self.drawn = drawn
        self.score = nn.Linear(encoder.features, 1 + classes)

    @property
    def backbone(self) -> nn.Module:
        """The trunk of the encoder."""
        return self.encoder.trunk

    def forward(
        self, tile: Float[Tensor, "3 rows cols"], windows: Float[Tensor, "n 4"]
    ) -> Float[Tensor, "n all_classes"]:
        """Logits of background and the classes of windows, edges in pixels of the tile."""
        seen = torch.cat([self._cut(tile, part) for part in torch.split(windows, _AT_ONCE)])
        logits: Tensor = self.score(seen)
        return logits

    @torch.no_grad()
    def find(self, tiles: Tiles, *, min_score: float = 0.05) -> list[Found]:
        """Objects of each tile, as `Detector.find` has it."""
        return [self._of_tile(tile, min_score) for tile in _light(tiles)]

    def loss(
        self, tiles: Tiles, known: Sequence[Known], *, generator: torch.Generator | None = None
    ) -> Float[Tensor, ""]:
        """Log-loss of windows that are drawn, the mean over tiles.

        A window is an object if it overlaps one by an IoU of 0.5, and background if it overlaps
        none by 0.3. The windows that objects would have themselves are among them.

        Raises:
            ValueError: if there are not as many `known` as tiles, or one has an unknown class.
        """
        if len(known) != len(tiles):
            raise ValueError(f"need the objects of each tile, got {len(known)} for {len(tiles)}.")
        losses = []
        for tile, one in zip(_light(tiles), known, strict=True):
            windows, labels = self._lesson(tile, one.to(tile.device))
            both = torch.cat(
                sample(labels.clamp(max=OBJECT), self.drawn, share=0.5, generator=generator)
            )
            losses.append(log_loss(self(tile, windows[both]), labels[both]))
        return torch.stack(losses).mean()

    def windows(self, rows: int, cols: int) -> Float[Tensor, "n 4"]:
        """All windows of a tile, edges (x1, y1, x2, y2); each lies within it.

        The last of a row or column ends with the tile, however long the step to it is. Sides that
        are longer than the tile are left out.
        """
        parts = []
        for side in self.sides_px:
            step = min(self.step_px, side / 2)
            x, y = (_starts(length, side, step) for length in (cols, rows))
            yy, xx = torch.meshgrid(y, x, indexing="ij")
            corner = torch.stack([xx, yy], dim=-1).reshape(-1, 2)
            parts.append(torch.cat([corner, corner + side], dim=1))
        return torch.cat(parts)

    def _lesson(self, tile: Tensor, known: Known) -> tuple[Tensor, Tensor]:
        """Windows, and what each is: 0 background, from 1 on the classes, or IGNORED."""
        if (known.classes >= self.classes).any():
            raise ValueError(f"there are {self.classes} classes, counted from 0; got a higher one.")
        windows = torch.cat([self.windows(*tile.shape[1:]).to(tile), known.boxes.to(tile)])
        if not len(known.boxes):
            return windows, windows.new_full((len(windows),), BACKGROUND, dtype=torch.int64)
        best, nearest = box_iou(windows, known.boxes.to(tile)).max(dim=1)
        labels = torch.full_like(nearest, IGNORED)
        labels[best < _BACKGROUND_BELOW] = BACKGROUND
        is_object = best >= _OBJECT_FROM
        labels[is_object] = 1 + known.classes[nearest[is_object]]
        return windows, labels

    def _cut(self, tile: Tensor, windows: Tensor) -> Tensor:
        """Features of windows, each brought to `look_px` by lines between pixels."""
        rows, cols = tile.shape[1:]
        steps = (torch.arange(self.look_px, device=tile.device) + 0.5) / self.look_px
        x = windows[:, :1] + steps * (windows[:, 2:3] - windows[:, :1])
        y = windows[:, 1:2] + steps * (windows[:, 3:] - windows[:, 1:2])
        grid = torch.stack(
            [
                (2 * x / cols - 1)[:, None].expand(-1, self.look_px, -1),
                (2 * y / rows - 1)[:, :, None].expand(-1, -1, self.look_px),
            ],
            dim=-1,
        )
        looked = F.grid_sample(
            tile.expand(len(windows), -1, -1, -1), grid, padding_mode="border", align_corners=False
        )
        features: Tensor = self.encoder(looked)
        return features

    def _of_tile(self, tile: Tensor, min_score: float) -> Found:
        windows = self.windows(*tile.shape[1:]).to(tile)
        if not len(windows):
            return Found(windows, windows.new_zeros(0), windows.new_zeros(0, dtype=torch.int64))
        likely = self(tile, windows).softmax(dim=1)[:, 1:]
        parts = []
        for number in range(self.classes):
            good = (likely[:, number] >= min_score).nonzero().squeeze(1)
            kept = good[nms(windows[good], likely[good, number], _OVERLAP)]
            parts.append((windows[kept], likely[kept, number], torch.full_like(kept, number)))
        return Found(*(torch.cat(each) for each in zip(*parts, strict=True)))


def _starts(length: int, side: float, step: float) -> Tensor:
    """Where windows of a side begin along a length, the last one ending with it."""
    room = length - side
    if room < 0:
        return torch.zeros(0)
    regular = torch.arange(int(room / step) + 1, dtype=torch.float32) * step
    return regular if float(regular[-1]) == room else torch.cat([regular, torch.tensor([room])])


def _light(tiles: Tiles) -> Tensor:
    return tiles if tiles.is_floating_point() else tiles.float() / 255
