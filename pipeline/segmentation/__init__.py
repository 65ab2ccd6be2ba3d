"""Segmentation: a class for each pixel, and objects. Training, model files, and splitting."""
