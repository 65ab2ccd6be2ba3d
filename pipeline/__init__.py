"""Composes tiling and models: train, predict, export, provenance."""
