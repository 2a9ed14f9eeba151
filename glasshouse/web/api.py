"""The routes under /api/v1: every number on the page, as JSON. `docs/formats.md` pins them."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from glasshouse.features.kept import kept_concepts
from glasshouse.steering import kept_dose
from glasshouse.types import NAME_PATTERN, NUMBER, FeatureId, UserError, is_text
from glasshouse.web.answers import Json, dump, fail
from glasshouse.web.library import Library
from glasshouse.web.progress import metrics, status
from glasshouse.web.workbench import HOW, Steering, Strength, Workbench, streamed
from glasshouse.workspace import KINDS

PREFIX = "/api/v1"
MAX_LIMIT = 1000  # rows of one answer


def api_routes(library: Library, bench: Workbench) -> list[BaseRoute]:
    """Plain functions run in Starlette's thread pool, so that a slow read holds nobody up."""

    def get_status(request: Request) -> Response:
        return Json(status(library.ws))

    def get_workspace(request: Request) -> Response:
        return Json(library.contents())

    def get_metrics(request: Request) -> Response:
        kind, name = request.path_params["kind"], request.path_params["name"]
        if kind not in KINDS or not NAME_PATTERN.fullmatch(name):
            raise fail(404, f"expected metrics of {', '.join(KINDS)} and a name, got {kind[:40]!r}, {name[:80]!r}")
        return Json(metrics(library.ws, kind, name))

    def get_features(request: Request) -> Response:
        table = library.table(request.path_params["name"])
        return Json(table.query(**list_query(request)))

    def get_summary(request: Request) -> Response:
        return Json(library.table(request.path_params["name"]).summary)

    def get_feature(request: Request) -> Response:
        place = feature_at(library, request)
        return Json(library.table(place.dictionary).feature(place.index))

    def get_context(request: Request) -> Response:
        table = library.table(request.path_params["name"])
        try:
            return Json(table.context(numbered(request, "id")))
        except UserError as error:
            raise fail(404, str(error)) from error

    def get_concepts(request: Request) -> Response:
        library.require("features", request.path_params["name"])
        return Json(kept_concepts(library.ws, request.path_params["name"]))

    def get_versions(request: Request) -> Response:
        return Json(library.versions())

    def get_comparison(request: Request) -> Response:
        return Json(library.compared(named(request, "base"), named(request, "new")))

    def get_wordings(request: Request) -> Response:
        return Json(library.wordings(*(named(request, key) for key in ("base", "new", "behaviour"))))

    def get_history(request: Request) -> Response:
        return Json(library.history(named(request, "behaviour")))

    def get_plane(request: Request) -> Response:
        given = request.query_params
        if strange := sorted(set(given) - {"x", "y", "of"}):
            raise UserError(f"expected only x, y, of, got {strange[0][:40]!r}")
        return Json(library.plane(*(given.get(key) or None for key in ("x", "y", "of"))))

    def get_report(request: Request) -> Response:
        return Json(library.report(request.path_params["name"]))

    async def post_try(request: Request) -> Response:
        body = await read_body(request)
        name, text = field(body, "features", str), field(body, "text", str)
        library.require("features", name)
        return Json(await bench.work(bench.try_text, name, text))

    async def post_strengths(request: Request) -> Response:
        steering = read_steering({**await read_body(request), "prompt": "-"})
        library.require("features", steering.features)
        return Json({"strengths": await bench.work(bench.strengths, steering)})

    async def post_steer(request: Request) -> Response:
        steering = read_steering(await read_body(request))
        library.require("features", steering.features)
        begin = await bench.work(bench.prepare, steering)
        return lines(streamed(bench, partial(bench.steer, steering)), begin)

    def get_dose(request: Request) -> Response:
        place = feature_at(library, request)
        learnt = library.ws.exists("dictionaries", place.dictionary)  # without it there is nothing to steer with
        return Json({how: kept_dose(library.ws, place, how) if learnt else None for how in HOW})

    async def post_dose(request: Request) -> Response:
        body = await read_body(request)
        name, index, how = field(body, "features", str), field(body, "index", int), field(body, "how", str, "add")
        library.require("features", name)
        library.require("dictionaries", name)
        size = len(library.table(name))
        if how not in HOW or not 0 <= index < size:
            raise UserError(f"expected a feature from 0 to {size - 1}, to {' or to '.join(HOW)}; got {index}, {how!r}")
        return lines(streamed(bench, partial(bench.dose, FeatureId(name, index), how)))

    def nothing(request: Request) -> Response:
        raise fail(404, f"expected a route of the API, got {request.url.path[:100]!r}; docs/formats.md lists them")

    return [
        Route(f"{PREFIX}/status", get_status),
        Route(f"{PREFIX}/workspace", get_workspace),
        Route(f"{PREFIX}/metrics/{{kind}}/{{name}}", get_metrics),
        Route(f"{PREFIX}/features/{{name}}", get_features),
        Route(f"{PREFIX}/features/{{name}}/summary", get_summary),
        Route(f"{PREFIX}/features/{{name}}/concepts", get_concepts),
        Route(f"{PREFIX}/features/{{name}}/{{index}}", get_feature),
        Route(f"{PREFIX}/features/{{name}}/{{index}}/dose", get_dose),
        Route(f"{PREFIX}/features/{{name}}/contexts/{{id}}", get_context),
        Route(f"{PREFIX}/dictionaries/{{name}}/report", get_report),
        Route(f"{PREFIX}/versions", get_versions),
        Route(f"{PREFIX}/versions/{{base}}/against/{{new}}", get_comparison),
        Route(f"{PREFIX}/versions/{{base}}/against/{{new}}/wordings/{{behaviour}}", get_wordings),
        Route(f"{PREFIX}/behaviours/{{behaviour}}/history", get_history),
        Route(f"{PREFIX}/plane", get_plane),
        Route(f"{PREFIX}/try", post_try, methods=["POST"]),
        Route(f"{PREFIX}/strengths", post_strengths, methods=["POST"]),
        Route(f"{PREFIX}/steer", post_steer, methods=["POST"]),
        Route(f"{PREFIX}/dose", post_dose, methods=["POST"]),
        Route("/api/{rest:path}", nothing),
    ]


def lines(events: AsyncIterator[dict[str, Any]], *first: dict[str, Any]) -> Response:
    """Events as lines of JSON, each sent when it comes."""

    async def said() -> AsyncIterator[str]:
        for event in first:
            yield dump(event) + "\n"
        async for event in events:
            yield dump(event) + "\n"

    return StreamingResponse(said(), media_type="application/x-ndjson", headers={"cache-control": "no-store"})


# -- what a request says ---------------------------------------------------------------------------------------------


def named(request: Request, key: str) -> str:
    """The name in an address; 404 for what could not be one."""
    name: str = request.path_params[key]
    if not NAME_PATTERN.fullmatch(name):
        raise fail(404, f"expected a name for {key}, got {name[:80]!r}")
    return name


def numbered(request: Request, key: str) -> int:
    """The number in an address; 404 for what could not be one of ours."""
    text: str = request.path_params[key]
    if not NUMBER.fullmatch(text):
        raise fail(404, f"expected a number of at most 9 digits for {key}, got {text[:40]!r}")
    return int(text)


def feature_at(library: Library, request: Request) -> FeatureId:
    """The feature in an address; 404 for one that there is not."""
    table, index = library.table(request.path_params["name"]), numbered(request, "index")
    if index >= len(table):
        raise fail(404, f"expected a feature from 0 to {len(table) - 1} of {table.name}, got {index}")
    return FeatureId(table.name, index)


def list_query(request: Request) -> dict[str, Any]:
    """The arguments of `Features.query` from an address. Raises `UserError` for one that does not read."""
    given = request.query_params
    known = {"search", "kind", "flag", "sort", "order", "min_rate", "max_rate", "min_score", "limit", "offset"}
    if strange := sorted(set(given) - known):
        raise UserError(f"expected only {', '.join(sorted(known))}, got {strange[0][:40]!r}")
    order = given.get("order", "desc")
    if order not in ("asc", "desc"):
        raise UserError(f"expected order asc or desc, got {order[:40]!r}")
    search = given.get("search", "")[:200]
    if "\0" in search:
        raise UserError(f"expected text to search for, got {search[:40]!r}, which no text holds")
    return {
        "search": search,
        "kinds": given.getlist("kind"),
        "flag": given.get("flag", ""),
        "sort": given.get("sort", "rate"),
        "descending": order == "desc",
        "min_rate": number(given.get("min_rate")),
        "max_rate": number(given.get("max_rate")),
        "min_score": number(given.get("min_score")),
        "limit": int(min(MAX_LIMIT, max(0.0, number(given.get("limit")) or 0.0))) if "limit" in given else 50,
        "offset": _small(int(max(0.0, number(given.get("offset")) or 0.0))),
    }


def number(text: str | None) -> float | None:
    """A finite number, or None for nothing. Raises `UserError`."""
    if text is None or not text.strip():
        return None
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not abs(value) < 1e15:
        raise UserError(f"expected a number, got {text[:40]!r}")
    return value


def _small(value: int) -> int:
    return min(value, 2**31 - 1)


async def read_body(request: Request) -> dict[str, Any]:
    """A JSON object. Raises `UserError` for anything else."""
    try:
        body = json.loads(await request.body())
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise UserError("expected a JSON object as the request's body, got something else")
    return body


def field(body: dict[str, Any], key: str, kind: type, default: Any = None) -> Any:
    """`body[key]`, of the kind wanted; whole numbers pass as floats. Raises `UserError`."""
    value = body.get(key, default)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) < 2**1000 else math.inf
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise UserError(f"expected {key!r} of type {kind.__name__} in the request, got {json.dumps(value)[:60]}")
    if kind is str and not is_text(value):
        raise UserError(f"expected {key!r} of whole characters in the request, got half of one; leave it out")
    return value


def read_steering(body: dict[str, Any]) -> Steering:
    strengths = field(body, "strengths", list, [])
    if not all(isinstance(item, dict) for item in strengths):
        raise UserError("expected 'strengths' to be a list of {index, how, amount}")
    return Steering(
        features=field(body, "features", str),
        prompt=field(body, "prompt", str),
        strengths=tuple(
            Strength(index=field(item, "index", int), how=field(item, "how", str), amount=field(item, "amount", float))
            for item in strengths
        ),
        max_new_tokens=field(body, "max_new_tokens", int, 60),
        temperature=field(body, "temperature", float, 0.0),
        seed=_small(abs(field(body, "seed", int, 0))),
        chat=field(body, "chat", bool, True),
        positions=field(body, "positions", str, "all"),
    )
