"""Embedding: features of all tissue tiles of a slide, for models that learn from features."""
