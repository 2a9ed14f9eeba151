"""Calls to language models: any OpenAI-compatible endpoint, the Anthropic API, or a chat model of the workspace.

    calls = Calls(ws, budget=Budget(calls=500))
    mini = language_model("openai/gpt-4.1-mini", ws)
    replies = calls.ask([Call(model=mini, messages=(("user", "Is water wet?"),))])
    replies[0].text or replies[0].error

Every answered call is kept in calls.jsonl and never made again. Needs no torch until a local model is asked.
"""

from __future__ import annotations

from glasshouse.types import on_first_use

_HOMES = {
    "Budget": "glasshouse.calls.asking",
    "Calls": "glasshouse.calls.asking",
    "Halted": "glasshouse.calls.asking",
    "Patience": "glasshouse.calls.asking",
    "Reply": "glasshouse.calls.asking",
    "Call": "glasshouse.calls.record",
    "LanguageModel": "glasshouse.calls.record",
    "Record": "glasshouse.calls.record",
    "language_model": "glasshouse.calls.endpoints",
}

__all__ = list(_HOMES)
__getattr__ = on_first_use(__name__, _HOMES)
