"""Organisms: models whose insides are known, and the small world that they know."""
