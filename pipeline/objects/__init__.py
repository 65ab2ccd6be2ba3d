"""Very many objects of one slide: kept on disk, counted and handed on in bounded memory."""
