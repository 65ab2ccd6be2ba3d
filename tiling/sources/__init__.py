"""One reader a file format; each offers what `saccade.tiling.slide.Source` asks for."""
