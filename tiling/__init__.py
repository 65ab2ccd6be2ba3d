"""Where pixels are, and reading them. Never torch."""

from saccade.tiling.counting import ReadCount
from saccade.tiling.describe import describe
from saccade.tiling.open import open_slide
from saccade.tiling.slide import Slide
from saccade.tiling.source import Level, SlideInfo

__all__ = ["Level", "ReadCount", "Slide", "SlideInfo", "describe", "open_slide"]
