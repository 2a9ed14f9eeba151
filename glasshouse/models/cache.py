"""Keys and values of the tokens that were read, with room for those to come.

transformers' own cache copies everything that it holds for every new token, a tenth to a quarter of the time of a reply
(docs/log.md). Shapes: B prompts, H heads, S tokens seen, D width of a head.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer

ROOM = 64  # tokens for which there is room before everything is copied again


def roomy_cache(config: Any) -> DynamicCache:
    """A cache for the model of this config; layers whose attention has a window keep their own kind, which is short."""
    cache = DynamicCache(config=config)
    cache.layers = [_RoomyLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


class _RoomyLayer(DynamicLayer):
    """`keys` and `values`, (B, H, S, D), are the beginnings of longer tensors."""

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        self.keys, self.values = _appended(self.keys, key_states), _appended(self.values, value_states)
        return self.keys, self.values


def _appended(held_BHSD: Tensor | None, new_BHTD: Tensor) -> Tensor:
    """Held and new as one, in place where what is held is the beginning of a tensor with room left."""
    batch, heads, count, width = new_BHTD.shape
    held = held_BHSD if held_BHSD is not None and held_BHSD.numel() else new_BHTD[:, :, :0]
    seen = held.shape[2]
    whole = held._base
    if whole is None or whole.shape[:2] != (batch, heads) or whole.shape[2] < seen + count or not seen:
        whole = new_BHTD.new_empty(batch, heads, seen + count + ROOM, width)
        whole[:, :, :seen] = held
    whole[:, :, seen : seen + count] = new_BHTD
    return whole[:, :, : seen + count]
