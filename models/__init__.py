"""Tensors in, tensors out. Never files."""
