"""Asking language models many things at once: from the record, else with patience, within a budget.

A call that fails (no answer in time, 429, 5xx, nonsense) is tried again, later and later, is never kept, and ends as a
reply with an error. Where no call can succeed (a wrong key, an endpoint that is down) or the budget is spent, asking
stops with `Halted`; what was answered is kept, and the same run goes on from there.
"""

from __future__ import annotations

import random
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from glasshouse.calls.endpoints import Failed, Refused, Said, send
from glasshouse.calls.record import FILE, Call, LanguageModel, Record
from glasshouse.types import UserError
from glasshouse.workspace import Stopped, Workspace

if TYPE_CHECKING:
    import httpx

    from glasshouse.models import Model

SENSELESS = "an answer that makes no sense"
LOCAL_BATCH = 16


class Halted(Stopped):
    """Asking cannot go on; one line that says why, and what to do."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What one run may send: calls, tries that failed among them, and tokens (of messages and replies, as the endpoints
    count them; the calls that are under way when they are spent come on top)."""

    calls: int = 10_000
    tokens: int | None = None

    def __post_init__(self) -> None:
        if self.calls < 0 or (self.tokens is not None and self.tokens < 0):
            raise UserError(f"expected a budget of 0 calls and tokens or more, got {self}")


@dataclass(frozen=True, kw_only=True)
class Patience:
    """tries: of one call. timeout: seconds for an answer. first, longest: seconds to wait before the second try,
    doubled with every one after, and the most (also of what an endpoint asks for). failures: calls that fail one after
    another, with all their tries, before the endpoint counts as down. at_once: calls under way."""

    tries: int = 5
    timeout: float = 60.0
    first: float = 0.5
    longest: float = 60.0
    failures: int = 10
    at_once: int = 8


@dataclass(frozen=True)
class Reply:
    """key: of the call. error: why there is no text, or ""."""

    key: str
    text: str = ""
    error: str = ""


class Calls:
    """Language models as one run asks them. `sent` and `tokens` count what it has spent."""

    def __init__(
        self, ws: Workspace, *, budget: Budget | None = None, patience: Patience | None = None,
        device: str | None = None,
    ) -> None:  # fmt: skip
        self.ws, self.budget, self.patience, self.device = ws, budget or Budget(), patience or Patience(), device
        self.sent = self.tokens = self._failed = 0
        self._why = ""
        self._answering: set[LanguageModel] = set()  # those that have answered at least once
        self._record: Record | None = None
        self._local: dict[LanguageModel, Model] = {}
        self._lock, self._halt = threading.Lock(), threading.Event()

    def ask(
        self, calls: Sequence[Call], *, sensible: Callable[[str], bool] = bool,
        done: Callable[[int], None] = lambda count: None,
    ) -> list[Reply]:  # fmt: skip
        """The reply to every call, in order. What stands in the record is not asked again.

        sensible: whether a text is an answer; what is not is a failure like any other. done(count): told how many are
        answered or have failed. Raises `Halted`, and `UserError` for a record that does not read.
        """
        self._record = self._record or Record(self.ws.root / FILE)
        found: dict[str, Reply] = {}
        left: dict[str, Call] = {}
        for call in calls:
            text = self._record.get(call.key)
            if text is not None and sensible(text):
                found[call.key] = Reply(call.key, text)
                self._answering.add(call.model)
            else:
                left.setdefault(call.key, call)
        self._halt.clear()
        self._failed, self._why = 0, "stopped"
        local = [call for call in left.values() if call.model.kind == "local"]
        remote = [call for call in left.values() if call.model.kind != "local"]
        for some, ask in ((local, self._locally), (remote, self._remotely)):
            if some:
                ask(some, sensible, found, done)
        return [found[call.key] for call in calls]

    # -- endpoints -----------------------------------------------------------------------------------------------------

    def _remotely(self, calls: Sequence[Call], sensible: Any, found: dict[str, Reply], done: Any) -> None:
        httpx = _httpx()
        with httpx.Client() as client, ThreadPoolExecutor(self.patience.at_once) as pool:
            futures = [pool.submit(self._answered, client, call, sensible) for call in calls]
            try:
                for future in as_completed(futures):
                    reply = future.result()
                    found[reply.key] = reply
                    done(len(found))
            except BaseException:  # Ctrl-C too: nothing new is begun, and nobody waits for another try
                self._halt.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _answered(self, client: httpx.Client, call: Call, sensible: Callable[[str], bool]) -> Reply:
        patience, last = self.patience, Failed("")
        for attempt in range(patience.tries):
            if attempt:
                backoff = patience.first * 2 ** (attempt - 1) * random.uniform(0.75, 1.25)
                self._halt.wait(min(max(last.wait, backoff), patience.longest))
            self._spend()
            try:
                return self._kept(call, send(client, call, patience.timeout), sensible)
            except Refused as refused:
                raise self._halted(str(refused)) from None
            except Failed as failed:
                last = failed
                if not failed.again:
                    break
        if last.down and (last.again or call.model not in self._answering):  # else it is this call that it rejects
            self._count_failure(call.model, str(last))
        return Reply(call.key, error=f"{call.model}: {last}")

    def _halted(self, why: str) -> Halted:
        """Nothing more is sent, by whichever thread; all of them say the same."""
        if not self._halt.is_set():
            self._why = why
            self._halt.set()
        return Halted(self._why)

    def _count_failure(self, model: LanguageModel, why: str) -> None:
        with self._lock:
            self._failed += 1
        if self._failed >= self.patience.failures:
            raise self._halted(
                f"{self._failed} calls of {model} at {model.at} failed one after another ({why}); what was answered is "
                "kept: see whether it is up, and run the same again to go on"
            )

    def _spend(self) -> None:
        with self._lock:
            if self._halt.is_set():
                raise Halted(self._why)
            calls, tokens = self.budget.calls, self.budget.tokens
            if self.sent >= calls or (tokens is not None and self.tokens >= tokens):
                spent = f"{calls:,} calls" if self.sent >= calls else f"{tokens:,} tokens"
                raise self._halted(
                    f"the budget of {spent} of language models is spent ({self.sent:,} calls, {self.tokens:,} tokens); "
                    "what was answered is kept: run the same again to go on, or with a larger one (--max-calls, "
                    "--max-call-tokens)"
                )
            self.sent += 1

    def _kept(self, call: Call, said: Said, sensible: Callable[[str], bool]) -> Reply:
        """Raises `Failed` for a text that is no answer, which is paid for like any other, and not kept."""
        assert self._record is not None
        with self._lock:
            self.tokens += sum(said.tokens)
            self._failed = 0
            if not sensible(said.text):
                raise Failed(SENSELESS, down=False)
            self._record.keep(call, said.text, tokens=said.tokens)
            self._answering.add(call.model)
        return Reply(call.key, said.text)

    # -- models of the workspace ---------------------------------------------------------------------------------------

    def _locally(self, calls: Sequence[Call], sensible: Any, found: dict[str, Reply], done: Any) -> None:
        """One try each: the same model says the same again."""
        alike: dict[Any, list[Call]] = defaultdict(list)
        for call in calls:
            alike[call.model, call.max_tokens, call.temperature].append(call)
        for group in alike.values():
            while group:
                size = max(1, min(LOCAL_BATCH, self.budget.calls - self.sent))  # what is begun is kept
                some, group = group[:size], group[size:]
                for call, said in zip(some, self._generated(some), strict=True):
                    try:
                        if isinstance(said, Failed):
                            raise said
                        found[call.key] = self._kept(call, said, sensible)
                    except Failed as failed:
                        found[call.key] = Reply(call.key, error=f"{call.model}: {failed}")
                done(len(found))

    def _generated(self, calls: Sequence[Call]) -> list[Said | Failed]:
        """Of calls of one model with the same settings."""
        from glasshouse.models.generation import chat_ids

        model = self._opened(calls[0].model)
        chats = [[{"role": role, "content": content} for role, content in call.messages] for call in calls]
        ids = [chat_ids(model, chat) for chat in chats]
        if None in ids:
            raise Halted(f"expected a chat model, {calls[0].model} has no chat template; name another")
        prompts = {i: one for i, one in enumerate(ids) if one is not None and len(one) < model.context}
        for _ in prompts:
            self._spend()
        made = prompts and model.generate(
            list(prompts.values()), calls[0].max_tokens, temperature=calls[0].temperature or 0.0,
            seed=[int(calls[i].key[:12], 16) for i in prompts],
        )  # fmt: skip
        said = {
            i: Said(one.text.strip(), (len(prompts[i]), len(one.ids))) for i, one in zip(prompts, made, strict=True)
        }
        beyond = f"a prompt beyond the model's context of {model.context} tokens"
        return [said.get(i) or Failed(beyond) for i in range(len(calls))]

    def _opened(self, of: LanguageModel) -> Model:
        if of not in self._local:
            from glasshouse.models import load

            self._local[of] = load(of.name, workspace=self.ws, device=self.device)
        return self._local[of]


def _httpx() -> Any:
    try:
        import httpx
    except ModuleNotFoundError:
        raise Halted("calls to language models need httpx; pip install 'glasshouse[judges]'") from None
    return httpx
