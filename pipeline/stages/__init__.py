"""Dense stages: networks over whole views, tile by tile, to the numbers of the whole."""
