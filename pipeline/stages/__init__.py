"""Dense stages: networks over a whole view, tile by tile, as if the view had gone through in one."""
