"""The model behind the page: try text and steer, in one worker thread, loaded when first asked for.

Nothing here is imported with the server: a page that only reads evidence starts without torch.
Legend: T tokens, D width, K features active on a token.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from glasshouse.behaviours.chats import begin_chat
from glasshouse.behaviours.versions import Version, edited
from glasshouse.types import NAME_PATTERN, FeatureId, UserError
from glasshouse.web.library import Library
from glasshouse.workspace import Stopped, refusal

MAX_TEXT = 20_000  # characters
MAX_NEW_TOKENS = 400
MAX_EDITS = 16
TOP_FEATURES = 24  # of a token, strongest first
MAX_AMOUNT = 1000.0
SIDES = ("plain", "steered")
HOW = ("add", "set")
Result = TypeVar("Result")
Say = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, kw_only=True)
class Strength:
    """One feature to steer with: `set` it to `amount` × its largest activation, or `add` its direction at `amount` ×
    the stream's typical norm."""

    index: int
    how: str
    amount: float

    def __post_init__(self) -> None:
        if self.how not in HOW:
            raise UserError(f"expected to set or to add a feature, got {self.how!r}")
        if not abs(self.amount) <= MAX_AMOUNT:
            raise UserError(f"expected a strength within ±{MAX_AMOUNT:g}, got {self.amount}")


@dataclass(frozen=True, kw_only=True)
class Steering:
    """What the page asks for: a prompt, the strengths, and how to generate."""

    features: str
    prompt: str
    strengths: tuple[Strength, ...]
    max_new_tokens: int = 60
    temperature: float = 0.0
    seed: int = 0
    chat: bool = True  # the prompt is a user's turn, where the model has a template for it
    positions: str = "all"  # or "prompt", or "new"

    def __post_init__(self) -> None:
        if not self.prompt or len(self.prompt) > MAX_TEXT:
            raise UserError(f"expected a prompt of 1 to {MAX_TEXT} characters, got {len(self.prompt)}")
        if len(self.strengths) > MAX_EDITS:
            raise UserError(f"expected at most {MAX_EDITS} features to steer with, got {len(self.strengths)}")
        check_reply(self.max_new_tokens, self.temperature)


def check_reply(max_new_tokens: int, temperature: float) -> None:
    """Raises `UserError` for a reply that is too long or drawn too wildly."""
    if not 1 <= max_new_tokens <= MAX_NEW_TOKENS:
        raise UserError(f"expected 1 to {MAX_NEW_TOKENS} new tokens, got {max_new_tokens}")
    if not 0 <= temperature <= 10:
        raise UserError(f"expected a temperature from 0 to 10, got {temperature}")


class Workbench:
    """Runs one job at a time on the model that a dictionary belongs to. Close it to end its thread."""

    def __init__(self, library: Library, *, model: Any = None) -> None:
        self.library = library
        self._given = model
        self._loaded: dict[str, Any] = {}
        self._weights: dict[str, str] = {}  # hashes of the artefacts that were loaded
        self._dictionaries: dict[str, tuple[str, Any, Any]] = {}  # those attached: hash, model, dictionary
        self._read: dict[str, tuple[str, Any]] = {}  # the one read last, attached or not
        self._versions: dict[str, tuple[Any, Any]] = {}
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")

    def close(self) -> None:
        self._worker.shutdown(wait=False, cancel_futures=True)

    async def work(self, job: Callable[..., Result], *values: Any) -> Result:
        """Run `job(*values)` in the worker thread."""
        return await asyncio.get_running_loop().run_in_executor(self._worker, job, *values)

    # -- in the worker thread --------------------------------------------------------------------------------------

    def open(self, name: str) -> tuple[Any, Any]:
        """The model and the dictionary of that name, attached to it; loaded the first time."""
        stamp, found = self.dictionary(name)
        held = self._dictionaries.get(name)
        if held is None or held[0] != stamp:
            model = self._model(found.model_name or self.library.table(name).summary["model"])
            model.attach(found)
            held = self._dictionaries[name] = (stamp, model, found)
        return held[1], held[2]

    def dictionary(self, name: str) -> tuple[str, Any]:
        """The hash of the dictionary's artefact and the dictionary, without its model; read again when made anew."""
        self.library.require("dictionaries", name)
        ws = self.library.ws
        stamp = ws.manifest("dictionaries", name)["hash"]
        held = self._read.get(name)
        if held is None or held[0] != stamp:
            from glasshouse.dictionaries import dictionary

            held = stamp, dictionary(name, ws=ws)
            self._read = {name: held}
        return held

    def _model(self, name: str, *, beside: int = 0) -> Any:
        """The model of that name, loaded the first time, and again when it was made anew; loaded, it leaves so many
        others in memory (none: one model at a time). Raises `UserError` if a folder that it was opened from holds other
        weights now."""
        if self._given is not None and self._given.name == name:
            return self._given
        ws = self.library.ws
        if NAME_PATTERN.fullmatch(name) and not ws.exists("models", name):  # the hub is not asked for it
            raise UserError(
                f"expected model {name} in the workspace, found {', '.join(ws.names('models')) or 'none'}; copy it "
                "back to models/, or open it again"
            )
        stamp = ws.manifest("models", name)["hash"] if ws.exists("models", name) else ""
        if self._weights.get(name) != stamp:
            self._loaded.pop(name, None)
        if name not in self._loaded:
            from glasshouse.models import load
            from glasshouse.models.origins import check_known

            while len(self._loaded) > beside:
                self._loaded.pop(next(iter(self._loaded)))
            self._dictionaries.clear()
            self._versions.clear()
            model = load(name, workspace=ws)
            check_known(model, ws)
            self._loaded[name], self._weights[name] = model, stamp
        return self._loaded[name]

    def version(self, version: Version, *, beside: int = 0) -> tuple[Any, Any]:
        """The version's model and its edits. beside: as many other models may stay in memory."""
        from glasshouse.behaviours.versions import loaded

        model = self._model(version.model, beside=beside)
        if version.hash not in self._versions:
            self._versions[version.hash] = loaded(version, self.library.ws, model=model)
        return self._versions[version.hash]

    def try_text(self, name: str, text: str) -> dict[str, Any]:
        """Every token of a text with its strongest features, and the share of it that the dictionary leaves
        unexplained. `features` describes each feature named."""
        if not text or len(text) > MAX_TEXT:
            raise UserError(f"expected a text of 1 to {MAX_TEXT} characters, got {len(text)}")
        briefs = self.library.briefs(name)
        model, dictionary = self.open(name)
        batch = model.tokens(text)
        acts_TD = model.run(batch, [str(dictionary.site)], stop=True)[str(dictionary.site)].values[0].float()
        values_TK, indices_TK = dictionary.encode_sparse(acts_TD)
        missed_T = dictionary.error(acts_TD).norm(dim=1) / acts_TD.to(dictionary.device).norm(dim=1).clamp(min=1e-9)
        ids, vocabulary = batch.ids(0), self.library.table(name).vocabulary
        special = set(getattr(model.tokenizer, "all_special_ids", ()))
        tokens: list[dict[str, Any]] = []
        for t, token in enumerate(ids):
            pairs = list(zip(indices_TK[t].tolist(), values_TK[t].tolist(), strict=True))
            active = [{"index": i, "activation": a} for i, a in pairs if a > 0]
            shown = vocabulary.get(int(token)) or model.token_strings(batch)[0][t]
            tokens.append(
                {
                    "text": shown,
                    "special": int(token) in special,
                    "error": float(missed_T[t]),
                    "active": len(active),
                    "features": active[:TOP_FEATURES],
                }
            )
        named = {pair["index"] for token in tokens for pair in token["features"]}
        return {
            "name": name,
            "site": str(dictionary.site),
            "model": model.name,
            "tokens": tokens,
            "features": {str(i): briefs[i] for i in sorted(named) if i in briefs},
        }

    def strengths(self, steering: Steering) -> list[dict[str, Any]]:
        """Each strength in both units: the code in multiples of the feature's largest activation, and the length of
        what is written on the stream in multiples of its typical norm."""
        from glasshouse.steering import strength

        dictionary = self.dictionary(steering.features)[1]
        out = []
        for s in steering.strengths:
            both = strength(dictionary, s.index, **{"times_max" if s.how == "set" else "times_norm": s.amount})
            units = {"times_max": both.times_max, "times_norm": both.times_norm}
            out.append({"index": s.index, "how": s.how, "amount": s.amount, **units})
        return out

    def edit(self, steering: Steering) -> Any:
        """The strengths as one edit of the model. Raises `UserError` for a feature or a number that does not fit."""
        from glasshouse.models import add, set
        from glasshouse.models.edits import Edit

        model, _ = self.open(steering.features)
        edit = Edit()
        for s in steering.strengths:
            place = f"{steering.features}/{s.index}"
            if s.how == "set":
                edit += set(place, times_max=s.amount, positions=steering.positions)
            else:
                edit += add(place, times_norm=s.amount, positions=steering.positions)
        with model.edit(edit):  # says now what is wrong with it
            pass
        return edit

    def prepare(self, steering: Steering) -> dict[str, Any]:
        """Check the whole request and say what it means, before the first token."""
        model, dictionary = self.open(steering.features)
        edit = self.edit(steering)
        return {
            "event": "begin",
            "chats": self.chats(model, steering, edit),
            "kind": "embedding" if model.is_encoder else "completion",
            "chat": self.asked(model, steering) is not steering.prompt,
            "model": model.name,
            "site": str(dictionary.site),
            "strengths": self.strengths(steering),
        }

    def chats(self, model: Any, steering: Steering, edit: Any) -> dict[str, str] | None:
        """The chat that each side is, for thumbs on its reply; None where the prompt is no user's turn, or the model
        is not the workspace's own and so no version."""
        ws = self.library.ws
        if model.is_encoder or not steering.chat or not ws.exists("models", model.name):
            return None
        if not os.access(ws.root, os.W_OK):  # one that may only be read keeps no chats
            return None
        sides = ((model.name, None), (f"{model.name} steered", edit or None))
        return {
            side: begin_chat(ws, edited(ws, name, model=model.name, edit=one))
            for side, (name, one) in zip(SIDES, sides, strict=True)
        }

    def asked(self, model: Any, steering: Steering) -> Any:
        """The prompt as the model gets it."""
        from glasshouse.steering import asked

        return asked(model, steering.prompt) if steering.chat else steering.prompt

    def steer(self, steering: Steering, say: Say, cancel: threading.Event) -> None:
        """Say the two completions as they come, one token of each in turn; for an encoder the embedding's change."""
        model = self.open(steering.features)[0]
        edit = self.edit(steering)
        if model.is_encoder:
            from glasshouse.steering import embedding_moves

            cosine, moved = (float(values[0]) for values in embedding_moves(model, [steering.prompt], edit))
            say({"event": "embedding", "site": f"resid.{model.n_layers}", "cosine": cosine, "moved": moved})
            return
        prompt = self.asked(model, steering)
        turns = Turns(SIDES)
        failures: list[BaseException] = []

        def complete(side: str, edits: Any) -> None:
            def on_token(piece: str) -> None:
                say({"event": "text", "side": side, "text": piece})
                turns.pass_on(side)
                turns.wait(side)
                if cancel.is_set():
                    raise Stopped

            turns.wait(side)
            try:
                made = model.generate(
                    prompt, steering.max_new_tokens, edits=edits, temperature=steering.temperature,
                    seed=steering.seed, on_token=on_token,
                )  # fmt: skip
                say({"event": "stop", "side": side, "why": made.stopped, "tokens": len(made.ids)})
            except Stopped:
                pass
            except BaseException as error:
                failures.append(error)
            finally:
                turns.leave(side)

        beside = threading.Thread(target=complete, args=("plain", None), name="model-plain")
        beside.start()
        complete("steered", edit)
        beside.join()
        if failures:
            raise failures[0]

    def dose(self, place: FeatureId, how: str, say: Say, cancel: threading.Event) -> None:
        """Measure dose and response of a feature, unless it stands; a reader who goes away stops it."""
        from glasshouse.steering import measure_dose

        def advance(share: float) -> None:
            say({"event": "progress", "share": share})
            if cancel.is_set() and share < 1:
                raise Stopped

        model = self.open(place.dictionary)[0]
        otherwise = self.library.table(place.dictionary).ids
        found = measure_dose(self.library.ws, model, place, how, otherwise=otherwise, advance=advance)
        say({"event": "dose", "dose": found})


class Turns:
    """Threads that take turns: the model carries one edit at a time, so only one of them may run it."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names, self._turn = list(names), names[0]
        self._changed = threading.Condition()

    def wait(self, name: str) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._turn == name)

    def pass_on(self, name: str) -> None:
        with self._changed:
            at = self._names.index(name)
            self._turn = self._names[(at + 1) % len(self._names)]
            self._changed.notify_all()

    def leave(self, name: str) -> None:
        with self._changed:
            following = self._names[(self._names.index(name) + 1) % len(self._names)]
            self._names.remove(name)
            if self._turn == name:
                self._turn = following
            self._changed.notify_all()


async def streamed(bench: Workbench, work: Callable[[Say, threading.Event], None]) -> AsyncIterator[dict[str, Any]]:
    """The events of `work(say, cancel)` as they come, then `end`; a reader who goes away cancels the work."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
    cancel = threading.Event()

    def say(event: dict[str, Any] | None) -> None:
        loop.call_soon_threadsafe(queue.put_nowait, event)

    def job() -> None:
        try:
            if not cancel.is_set():
                work(say, cancel)
            say({"event": "end"})
        except Stopped:
            pass
        except Exception as error:
            told = str(error) if isinstance(error, UserError) else refusal(error)
            failed = f"the server failed ({type(error).__name__}); its terminal has the details"
            say({"event": "error", "error": failed if told is None else " ".join(told.split())})
            if told is None:
                raise
        finally:
            say(None)

    working = loop.run_in_executor(bench._worker, job)
    try:
        while (event := await queue.get()) is not None:
            yield event
        await working
    finally:
        cancel.set()
