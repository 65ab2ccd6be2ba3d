"""Segmentation of a slide: class map, areas, outlines and objects."""
