"""Any version of a workspace as a model of Inspect, so that its tasks run on it (needs `inspect-ai`, an extra).

    inspect eval task.py --model glasshouse/brief -M workspace=DIR           # a saved version, or a model
    inspect_ai.eval(task, model="glasshouse/brief", model_args={"workspace": "DIR"})

Inspect finds it by the entry point in pyproject.toml and loads this file; nothing of ours does. Requests that wait at
the same time are generated in one batch. A setting that cannot be honoured is an error.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import anyio
from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessage,
    ChatMessageAssistant,
    GenerateConfig,
    ModelAPI,
    ModelOutput,
    ModelUsage,
    modelapi,
)
from inspect_ai.tool import ToolChoice, ToolInfo

from glasshouse.behaviours.behaviour import Turn
from glasshouse.behaviours.inspect_logs import METADATA
from glasshouse.behaviours.versions import loaded, version
from glasshouse.types import UserError
from glasshouse.workspace import Workspace

HONOURED = {"max_tokens", "temperature", "seed", "stop_seqs", "system_message"}
# What Inspect does itself, around the model.
INSPECTS_OWN = {
    "max_retries", "timeout", "attempt_timeout", "stream_idle_timeout", "max_connections", "adaptive_connections",
    "max_tool_output", "internal_tools", "parallel_tool_calls", "cache", "cache_prompt", "reasoning_history",
    "fail_on_refusal", "fallback_models",
}  # fmt: skip
MOMENT = 0.01  # seconds without a new request after which a batch begins
STOPS = {"end of text": "stop", "max_new_tokens": "max_tokens", "context full": "model_length"}


@dataclass(eq=False)
class _Request:
    ids: list[int]
    seed: int
    tokens: int
    temperature: float
    stops: list[str]
    output: ModelOutput | None = field(default=None)


@modelapi(name="glasshouse")
def glasshouse() -> type[ModelAPI]:
    return GlasshouseAPI


class GlasshouseAPI(ModelAPI):
    """model_name: of a version or a model of the workspace. Model args: `workspace` (a folder; found as by the command
    line without it), `device`, `batch_size` (32)."""

    def __init__(
        self, model_name: str, base_url: str | None = None, api_key: str | None = None,
        config: GenerateConfig = GenerateConfig(),  # noqa: B008  (as Inspect declares it)
        workspace: str | None = None, device: str | None = None, batch_size: int = 32, **model_args: Any,
    ) -> None:  # fmt: skip
        super().__init__(model_name, base_url, api_key, [], config)
        if model_args or base_url:
            unknown = ", ".join([*model_args, *(["base_url"] if base_url else [])])
            raise UserError(f"expected model args among workspace, device and batch_size, got {unknown}")
        if batch_size < 1:
            raise UserError(f"expected a batch_size of 1 or more, got {batch_size}")
        _check(config)
        ws = Workspace.open(workspace, create=False)
        self.version, self.batch_size = version(model_name, ws), batch_size
        self.model, self.edit = loaded(self.version, ws, device=device)
        self.model._require_logits("generation")
        self._waiting: list[_Request] = []
        self._turn = anyio.Lock()
        self._asked: Counter[str] = Counter()

    def max_connections(self) -> int:
        """Samples that Inspect keeps waiting at once: enough to fill the next batch while one is made."""
        return 2 * self.batch_size

    def max_tokens(self) -> int | None:
        return 2048

    def connection_key(self) -> str:
        return self.version.hash

    async def generate(
        self, input: list[ChatMessage], tools: list[ToolInfo], tool_choice: ToolChoice, config: GenerateConfig
    ) -> ModelOutput:
        """Raises `UserError` for tools, for content that is no text, for settings that cannot be honoured and for
        prompts that do not fit into the context: a sample's error, and no empty reply that would be scored."""
        if tools:
            raise UserError(f"expected no tools for {self.model_name}, which calls none, got {tools[0].name}")
        _check(config)
        request = self._request(_turns(input), config)
        self._waiting.append(request)
        try:
            async with self._turn:  # whoever is next makes the batch for all that wait
                if request.output is None:
                    await self._gathered()
                    await anyio.to_thread.run_sync(self._make, self._batch(request))
        finally:
            if request in self._waiting:
                self._waiting.remove(request)
        assert request.output is not None
        return request.output

    def _request(self, turns: list[Turn], config: GenerateConfig) -> _Request:
        from glasshouse.behaviours.asking import prompt_ids, with_system

        ids = prompt_ids(self.model, with_system(turns, self.version.system))
        if len(ids) >= self.model.context:
            raise UserError(f"a prompt of {len(ids)} tokens, the context of {self.model_name} is {self.model.context}")
        key = hashlib.sha256(json.dumps([config.seed or 0, ids]).encode()).hexdigest()
        number, self._asked[key] = self._asked[key], self._asked[key] + 1  # the same again, in another epoch
        seed = int(hashlib.sha256(f"{key} {number}".encode()).hexdigest()[:12], 16)
        tokens = config.max_tokens or self.max_tokens() or 1
        return _Request(ids, seed, tokens, config.temperature or 0.0, config.stop_seqs or [])

    async def _gathered(self) -> None:
        """Wait while requests go on coming and the batch is not full."""
        seen = 0
        while seen < len(self._waiting) < self.batch_size:
            seen = len(self._waiting)
            await anyio.sleep(MOMENT)

    def _batch(self, first: _Request) -> list[_Request]:
        """Requests that can be made with `first`, prompts of like length together."""
        alike = [r for r in self._waiting if (r.tokens, r.temperature) == (first.tokens, first.temperature)]
        alike.sort(key=lambda r: (abs(len(r.ids) - len(first.ids)), r is not first))
        chosen = alike[: self.batch_size]
        return chosen if first in chosen else [first, *chosen[:-1]]

    def _make(self, batch: list[_Request]) -> None:
        started = time.perf_counter()
        with self.model.edit(self.edit):
            made = self.model.generate(
                [r.ids for r in batch], batch[0].tokens, temperature=batch[0].temperature, seed=[r.seed for r in batch]
            )
        seconds = time.perf_counter() - started
        for request, one in zip(batch, made, strict=True):
            text, count, why = self._cut(one.ids, STOPS[one.stopped], request.stops)
            message = ChatMessageAssistant(content=text, model=self.model_name, source="generate")
            size = len(request.ids)
            request.output = ModelOutput(
                model=self.model_name, time=seconds, metadata={METADATA: self.version.to_json()},
                choices=[ChatCompletionChoice(message=message, stop_reason=why)],  # type: ignore[arg-type]
                usage=ModelUsage(input_tokens=size, output_tokens=count, total_tokens=size + count),
            )  # fmt: skip
            self._waiting.remove(request)

    def _cut(self, ids: list[int], why: str, stops: list[str]) -> tuple[str, int, str]:
        """Text, tokens and reason, up to the first of the texts that end a reply, which is left out."""
        text = self._text(ids)
        at = min((text.find(stop) for stop in stops if stop in text), default=-1)
        if at < 0:
            return text.strip(), len(ids), why
        count = next(n for n in range(1, len(ids) + 1) if any(stop in self._text(ids[:n]) for stop in stops))
        return text[:at].strip(), count, "stop"

    def _text(self, ids: list[int]) -> str:
        return str(self.model.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def _check(config: GenerateConfig) -> None:
    given = {key for key, value in config.model_dump(exclude_none=True).items() if value not in (False, [], {})}
    given -= {key for key, plain in (("top_p", 1.0), ("num_choices", 1)) if getattr(config, key) == plain}
    if wrong := sorted(given - HONOURED - INSPECTS_OWN):
        have = ", ".join(sorted(HONOURED))
        raise UserError(f"expected generation settings that glasshouse honours ({have}), got {', '.join(wrong)}")


def _turns(messages: list[ChatMessage]) -> list[Turn]:
    found: list[Turn] = []
    for message in messages:
        other = message.role not in ("system", "user", "assistant")
        if other or not (isinstance(message.content, str) or all(part.type == "text" for part in message.content)):
            what = f"a message of role {message.role}" if other else "content that is no text"
            raise UserError(f"expected turns of text by system, user and assistant, got {what}")
        found.append((message.role, message.text))
    return found
