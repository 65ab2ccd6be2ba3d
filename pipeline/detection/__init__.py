"""Detectors: their networks by name, their model files, and their training on slides."""
