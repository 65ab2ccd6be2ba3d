"""Detection on a slide: objects of all tissue, or of some of it, each counted once."""
