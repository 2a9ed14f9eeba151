"""Attention patterns: one attention function, registered with transformers together with its mask function.

While a run reads or edits `pattern.N`, the model computes attention with `pattern_attention` instead of a fused kernel.
Shapes: B texts, H heads, K key-value heads, T tokens asking, S tokens seen, D width of a head.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

IMPLEMENTATION = "glasshouse"

Watcher = Callable[[Tensor, Tensor | None], Tensor]  # of the pattern, and where it may look (None: everywhere)
_WATCHERS: weakref.WeakKeyDictionary[nn.Module, Watcher] = weakref.WeakKeyDictionary()


def register() -> None:
    """Tell transformers of the function *and* of its mask: for a name without a mask function transformers builds no
    mask at all, and attention silently stops being causal."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, eager_mask

    AttentionInterface.register(IMPLEMENTATION, pattern_attention)
    AttentionMaskInterface.register(IMPLEMENTATION, eager_mask)


def pattern_attention(
    module: nn.Module,
    query_BHTD: Tensor,
    key_BKSD: Tensor,
    value_BKSD: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Tensor, Tensor]:
    """Softmax attention with the pattern in hand. Returns (B, T, H, D) and the pattern (B, H, T, S)."""
    causal = getattr(module, "is_causal", False)
    assert attention_mask is not None or not causal or query_BHTD.shape[2] == 1, "causal attention came without a mask"
    groups = query_BHTD.shape[1] // key_BKSD.shape[1]
    key_BHSD, value_BHSD = (x.repeat_interleave(groups, 1) if groups > 1 else x for x in (key_BKSD, value_BKSD))
    scores_BHTS = query_BHTD @ key_BHSD.transpose(-1, -2) * (scaling or query_BHTD.shape[-1] ** -0.5)
    if softcap is not None:
        scores_BHTS = torch.tanh(scores_BHTS / softcap) * softcap
    seen = None
    if attention_mask is not None:
        added = attention_mask[..., : key_BHSD.shape[2]]
        scores_BHTS, seen = scores_BHTS + added, added > torch.finfo(added.dtype).min / 2
    pattern_BHTS = torch.softmax(scores_BHTS, -1, dtype=torch.float32).to(query_BHTD.dtype)
    watch = _WATCHERS.get(module)
    if watch is not None:
        pattern_BHTS = watch(pattern_BHTS, seen)
    pattern_used = nn.functional.dropout(pattern_BHTS, dropout, module.training)
    return (pattern_used @ value_BHSD).transpose(1, 2).contiguous(), pattern_BHTS


@contextlib.contextmanager
def watching(watchers: dict[nn.Module, Watcher], configs: Iterable[Any]) -> Iterator[None]:
    """Within, attention runs through `pattern_attention`, and each watched module hands its pattern to its watcher."""
    if not watchers:
        yield
        return
    register()
    before = [(config, config._attn_implementation) for config in configs]
    try:
        for config, _ in before:
            config._attn_implementation = IMPLEMENTATION
        _WATCHERS.update(watchers)
        yield
    finally:
        for config, implementation in before:
            config._attn_implementation = implementation
        for module in watchers:
            _WATCHERS.pop(module, None)
