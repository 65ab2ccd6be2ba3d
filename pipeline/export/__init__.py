"""From results to other tools."""
