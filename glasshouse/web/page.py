"""The built page: one HTML file that carries this process's token, and hashed assets beside it."""

from __future__ import annotations

from html import escape
from pathlib import Path

from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from glasshouse.web.answers import fail

STATIC = Path(__file__).parent / "static"
TOKEN_PLACE = "GLASSHOUSE_TOKEN"
VIEWS = (
    "features",
    "try",
    "steer",
    "concepts",
    "report",
    "behaviours",
    "chat",
    "rate",
)  # the page's own addresses, which all open the same file
NOT_BUILT = "The page is not built in this checkout; run `python hatch_build.py`, then reload.\n"


def page_routes(token: str, static: Path = STATIC) -> list[BaseRoute]:
    """Routes for the page's addresses and assets; nothing outside `static` is ever served."""

    def page(request: Request) -> Response:
        index = static / "index.html"
        if not index.is_file():
            return PlainTextResponse(NOT_BUILT, status_code=503)
        markup = index.read_text(encoding="utf-8").replace(TOKEN_PLACE, escape(token, quote=True))
        return HTMLResponse(markup, headers={"cache-control": "no-store"})

    def elsewhere(request: Request) -> Response:
        raise fail(404, f"expected an address of the page or the API, got {request.url.path[:100]!r}")

    return [
        Route("/", page),
        *(Route(f"/{view}", page) for view in VIEWS),
        *(Route(f"/{view}/{{rest:path}}", page) for view in VIEWS),
        Mount("/assets", _Assets(directory=static / "assets", check_dir=False)),
        Route("/{rest:path}", elsewhere),
    ]


class _Assets(StaticFiles):
    """Files named by their content, so that a browser may keep them for good."""

    async def get_response(self, path: str, scope: object) -> Response:  # type: ignore[override]
        response = await super().get_response(path, scope)  # type: ignore[arg-type]
        response.headers["cache-control"] = "public, max-age=31536000, immutable"
        return response
