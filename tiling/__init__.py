"""Where pixels are, and reading them. Never torch."""

from saccade.tiling.describe import describe
from saccade.tiling.open import open_slide
from saccade.tiling.slide import Level, Slide, SlideInfo

__all__ = ["Level", "Slide", "SlideInfo", "describe", "open_slide"]
