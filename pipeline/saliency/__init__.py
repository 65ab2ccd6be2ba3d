"""Training a network to say where people look, or where they marked, from a view of the whole."""
