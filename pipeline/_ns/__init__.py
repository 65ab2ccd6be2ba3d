"""Saccade: whole-slide images read the way an eye reads. See the README."""

__version__ = "0.1.0"
