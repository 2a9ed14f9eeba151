"""Models whose insides are known."""
