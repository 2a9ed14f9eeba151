"""The routes of chats with versions: replies as they come, thumbs, cases kept from what was found, and splits (A/B).

Which version a chat of a split is with is not sent while it goes on, nor with its thumbs.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import partial
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from glasshouse.behaviours.cases import KINDS, cases, keep_case
from glasshouse.behaviours.chats import Split, begin_chat, chat_version, check_turns, thumb, thumbs
from glasshouse.behaviours.splits import split_results
from glasshouse.behaviours.versions import Version, version
from glasshouse.types import UserError
from glasshouse.web.answers import Json, fail
from glasshouse.web.api import PREFIX, field, lines, read_body
from glasshouse.web.library import Library
from glasshouse.web.ratings import two_versions
from glasshouse.web.workbench import Say, Workbench, check_reply, streamed
from glasshouse.workspace import Stopped, Workspace


@dataclass(frozen=True, kw_only=True)
class Talk:
    """What is asked of a version: the chat so far, the last turn the user's, and how to reply."""

    version: Version
    turns: tuple[tuple[str, str | None], ...]
    max_new_tokens: int
    temperature: float
    seed: int
    beside: int = 0  # other models that may stay in memory: of a split, one

    def __post_init__(self) -> None:
        check_reply(self.max_new_tokens, self.temperature)


def chat_routes(library: Library, bench: Workbench) -> list[BaseRoute]:
    ws = library.ws

    async def post_chat(request: Request) -> Response:
        body = await read_body(request)
        turns = check_turns(field(body, "turns", list), "user")
        chat, chosen, beside = await run_in_threadpool(_chat, ws, body)
        talk = Talk(
            version=chosen, turns=tuple((one["role"], one["content"]) for one in turns),
            max_new_tokens=field(body, "max_new_tokens", int, 120), temperature=field(body, "temperature", float, 0.0),
            seed=abs(field(body, "seed", int, 0)) % 2**31, beside=beside,
        )  # fmt: skip
        return lines(streamed(bench, partial(reply, bench, talk)), {"event": "begin", "chat": chat})

    async def post_thumb(request: Request) -> Response:
        body = await read_body(request)
        up = None if body.get("up") is None else field(body, "up", bool)
        kept = partial(thumb, ws, field(body, "chat", str), field(body, "turns", list), up)
        return Json(await run_in_threadpool(kept, who=field(body, "who", str), note=field(body, "note", str, "")))

    async def post_case(request: Request) -> Response:
        body = await read_body(request)
        found = chat_version(ws, field(body, "chat", str))
        kept = await run_in_threadpool(
            partial(
                keep_case, ws, field(body, "turns", list), kind=field(body, "kind", str), who=field(body, "who", str),
                name=field(body, "name", str, "found"), words=field(body, "words", str, ""),
                note=field(body, "note", str, ""), version=f"{found.name} ({found.hash[:12]})",
            )
        )  # fmt: skip
        return Json({**kept, "command": f"glasshouse test VERSION --suite {ws.root / kept['file']}"})

    def get_cases(request: Request) -> Response:
        kinds, name = {name: kind.words for name, kind in KINDS.items()}, request.query_params.get("name")
        return Json({"kinds": kinds, "found": cases(ws, name) if name else []})

    def get_thumbs(request: Request) -> Response:
        found = thumbs(ws)
        return Json([{**one, "version": None if one["split"] else one["version"]} for one in found])

    def get_split(request: Request) -> Response:
        base, new = two_versions(ws, request.path_params["base"], request.path_params["new"])
        try:
            return Json(split_results(ws, base, new))
        except UserError as error:
            raise fail(404, str(error)) from error

    return [
        Route(f"{PREFIX}/chat", post_chat, methods=["POST"]),
        Route(f"{PREFIX}/thumbs", get_thumbs),
        Route(f"{PREFIX}/thumbs", post_thumb, methods=["POST"]),
        Route(f"{PREFIX}/cases", get_cases),
        Route(f"{PREFIX}/cases", post_case, methods=["POST"]),
        Route(f"{PREFIX}/splits/{{base}}/{{new}}", get_split),
    ]


def _chat(ws: Workspace, body: dict[str, Any]) -> tuple[str, Version, int]:
    """The chat's id, new where none is given; the version that it is with; other models that may stay in memory."""
    split = body.get("split")
    beside = int(split is not None)
    if chat := field(body, "chat", str, ""):
        begun = chat_version(ws, chat)
        if version(begun.name, ws).hash != begun.hash:
            raise UserError(f"version {begun.name} is another now than when the chat was begun; begin a new chat")
        return chat, begun, beside
    if split is None:
        (chosen,) = two_versions(ws, field(body, "version", str))
        return begin_chat(ws, chosen), chosen, beside
    if not isinstance(split, dict):
        raise UserError("expected 'split' to be {base, new, share}")
    base, new = two_versions(ws, split.get("base"), split.get("new"))
    chat = begin_chat(ws, Split(base, new, field(split, "share", float, 0.5)))
    return chat, chat_version(ws, chat), beside


def reply(bench: Workbench, talk: Talk, say: Say, cancel: threading.Event) -> None:
    """Say the version's reply as it comes; a reader who goes away stops it."""
    from glasshouse.behaviours.asking import prompt_ids, with_system

    model, edit = bench.version(talk.version, beside=talk.beside)
    ids = prompt_ids(model, with_system(talk.turns, talk.version.system))
    if len(ids) >= model.context:
        raise UserError(
            f"expected a chat below the model's context of {model.context} tokens, got {len(ids)}; begin a new one"
        )

    def on_token(piece: str) -> None:
        say({"event": "text", "text": piece})
        if cancel.is_set():
            raise Stopped

    made = model.generate(
        ids, talk.max_new_tokens, edits=edit, temperature=talk.temperature, seed=talk.seed, on_token=on_token
    )
    say({"event": "stop", "why": made.stopped, "tokens": len(made.ids)})
