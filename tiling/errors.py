"""What can go wrong with a slide, as a tree that callers can catch.

SlideError
├── SlideNotFoundError      there is no file at that path
├── UnreadableSlideError    the file is there, but no reader opens it, or its pixels cannot be read
├── MissingMppError         microns per pixel are needed, and the slide does not record them
├── NoTissueError           the slide is readable, but shows no tissue to look at
└── PyramidError            the folder holds no pyramid of `build_pyramid`, or another slide's

Each message says what was wanted, what was found and what to do.
"""


class SlideError(Exception):
    """Anything a slide can cause; `except SlideError` costs that slide, never the batch."""


class SlideNotFoundError(SlideError):
    """There is no file at that path."""


class UnreadableSlideError(SlideError):
    """No reader opens the file, or its pixels cannot be read."""


class MissingMppError(SlideError):
    """Microns per pixel are needed, and the slide does not record them."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name}: the file does not record its microns per pixel. If you know the value, "
            "pass it: --mpp 0.25 on the command line, open_slide(path, mpp=0.25) in Python, "
            "or the column mpp of slides.csv."
        )


class NoTissueError(SlideError):
    """The slide is readable, but shows no tissue to look at."""


class PyramidError(SlideError):
    """The folder is not a pyramid of this slide."""
