"""Masks: what the attention modules of an encoder make stronger within the tiles of a slide."""
