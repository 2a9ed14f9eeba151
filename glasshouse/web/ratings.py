"""The routes of blind ratings. What a rater is sent says nothing of which side is which version; what came out of a
study is a route of its own, which the page does not ask while it is rated."""

from __future__ import annotations

from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from glasshouse.behaviours.preferences import results
from glasshouse.behaviours.ratings import Study, studies
from glasshouse.behaviours.versions import Version, version
from glasshouse.types import NAME_PATTERN, UserError
from glasshouse.web.answers import Json, fail
from glasshouse.web.api import PREFIX, field, read_body
from glasshouse.web.library import Library
from glasshouse.workspace import Workspace


def rating_routes(library: Library) -> list[BaseRoute]:
    ws = library.ws

    def get_studies(request: Request) -> Response:
        return Json(studies(ws))

    def get_results(request: Request) -> Response:
        return Json(results(_study(ws, request)))

    async def post_next(request: Request) -> Response:
        study, who = _study(ws, request), field(await read_body(request), "who", str)
        return Json(await run_in_threadpool(study.next, who))

    async def post_back(request: Request) -> Response:
        study, body = _study(ws, request), await read_body(request)
        pair = None if body.get("pair") is None else field(body, "pair", str)
        return Json(await run_in_threadpool(study.back, field(body, "who", str), pair))

    async def post_rating(request: Request) -> Response:
        study, body = _study(ws, request), await read_body(request)
        rating = None if body.get("rating") is None else field(body, "rating", int)
        return Json(await run_in_threadpool(study.rate, field(body, "who", str), field(body, "pair", str), rating))

    at = f"{PREFIX}/ratings/{{base}}/{{new}}"
    return [
        Route(f"{PREFIX}/ratings", get_studies),
        Route(at, get_results),
        Route(at, post_rating, methods=["POST"]),
        Route(f"{at}/next", post_next, methods=["POST"]),
        Route(f"{at}/back", post_back, methods=["POST"]),
    ]


def _study(ws: Workspace, request: Request) -> Study:
    study = Study(ws, *two_versions(ws, request.path_params["base"], request.path_params["new"]))
    if not any(study.counted.values()):
        names = f"{study.base.name} {study.new.name}"
        raise fail(404, f"expected pairs of {names}, none were prepared; run `glasshouse rate {names}`")
    return study


def two_versions(ws: Workspace, *names: Any) -> list[Version]:
    """404 for what names no version."""
    found = []
    for name in names:
        if not isinstance(name, str) or not NAME_PATTERN.fullmatch(name):
            raise fail(404, f"expected the name of a version, got {str(name)[:80]!r}")
        try:
            found.append(version(name, ws))
        except UserError as error:
            raise fail(404, str(error)) from error
    return found
