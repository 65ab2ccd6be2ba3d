"""Slides as bags of tiles whose features are there already: training on them, and what they say."""
