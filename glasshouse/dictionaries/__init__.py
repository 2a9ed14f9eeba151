"""Dictionaries: sparse codes of the activations at a site, and back. See docs/dictionaries.md."""

from glasshouse.dictionaries.dictionary import Dictionary, Threshold
from glasshouse.dictionaries.folders import dictionary, read_folder, write_folder
from glasshouse.dictionaries.learning import Source, expect, learn
from glasshouse.dictionaries.reports import held_out_report, report
from glasshouse.dictionaries.training import LearnConfig, LossTerm, dead_features, squared_error

__all__ = [
    "Dictionary",
    "LearnConfig",
    "LossTerm",
    "Source",
    "Threshold",
    "dead_features",
    "dictionary",
    "expect",
    "held_out_report",
    "learn",
    "read_folder",
    "report",
    "squared_error",
    "write_folder",
]
