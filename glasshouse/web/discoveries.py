"""The routes of discoveries: what nobody named, and a behaviour made of it."""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from glasshouse.behaviours.discoveries import keep_behaviour, kept
from glasshouse.web.answers import Json, fail
from glasshouse.web.api import PREFIX, field, read_body
from glasshouse.web.library import Library
from glasshouse.web.ratings import two_versions


def discovery_routes(library: Library) -> list[BaseRoute]:
    def get_discovery(request: Request) -> Response:
        base, new = two_versions(library.ws, request.path_params["base"], request.path_params["new"])
        found = kept(library.ws, base, new)
        if found is None:
            names = f"{base.name} {new.name}"
            raise fail(404, f"expected a discovery between {names}, found none; run `glasshouse discover {names}`")
        return Json(found)

    async def post_behaviour(request: Request) -> Response:
        base, new = two_versions(library.ws, request.path_params["base"], request.path_params["new"])
        body = await read_body(request)
        group, name = field(body, "group", int), field(body, "name", str)
        file = await run_in_threadpool(keep_behaviour, library.ws, base, new, group=group, name=name)
        return Json({"file": str(file.relative_to(library.ws.root))})

    at = f"{PREFIX}/versions/{{base}}/discovered/{{new}}"
    return [Route(at, get_discovery), Route(at, post_behaviour, methods=["POST"])]
