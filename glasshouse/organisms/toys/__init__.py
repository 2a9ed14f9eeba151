"""Toy models of superposition (`superposition`), and compressed sensing beside them (`sensing`)."""

from glasshouse.organisms.toys.sensing import active_held, features_held, measured, recovered, required_dimensions
from glasshouse.organisms.toys.superposition import (
    POLYTOPES,
    HiddenRows,
    Toy,
    ToyConfig,
    dimensions_per_feature,
    draw,
    feature_dimensions,
    train,
)

__all__ = [
    "POLYTOPES",
    "HiddenRows",
    "Toy",
    "ToyConfig",
    "active_held",
    "dimensions_per_feature",
    "draw",
    "feature_dimensions",
    "features_held",
    "measured",
    "recovered",
    "required_dimensions",
    "train",
]
