"""Activations: tokens through a model to rows, shuffled across documents, on disk or as a live stream."""

from glasshouse.activations.harvesting import HarvestConfig, expect, harvest
from glasshouse.activations.reading import Reading
from glasshouse.activations.storage import Store, store
from glasshouse.activations.streaming import Stream, stream

__all__ = ["HarvestConfig", "Reading", "Store", "Stream", "expect", "harvest", "store", "stream"]
