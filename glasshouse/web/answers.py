"""How the server answers: JSON in which a number that is not finite is null, and errors as one line."""

from __future__ import annotations

import json
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from glasshouse.types import UserError, finite


def dump(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except ValueError:  # the rare answer that holds one: only this one is copied
        return json.dumps(finite(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))


class Json(JSONResponse):
    def render(self, content: Any) -> bytes:
        # Text cut inside a character may hold a lone surrogate, which UTF-8 has no bytes for.
        return dump(content).encode("utf-8", "replace")


def fail(status: int, line: str) -> HTTPException:
    return HTTPException(status, line)


def error_line(status: int, line: str) -> Response:
    return Json({"error": " ".join(line.split())}, status_code=status)


async def on_user_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, UserError)
    return error_line(400, str(error))


async def on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return error_line(error.status_code, error.detail)


async def on_server_error(request: Request, error: Exception) -> Response:
    """A fault of ours: its kind for the reader, its traceback in the terminal, nothing of this machine's paths."""
    return error_line(500, f"the server failed ({type(error).__name__}); its terminal has the details")


HANDLERS: dict[Any, Any] = {UserError: on_user_error, HTTPException: on_http_error, Exception: on_server_error}
