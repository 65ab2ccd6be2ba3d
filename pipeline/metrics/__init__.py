"""How good outputs are, held against what is known."""
