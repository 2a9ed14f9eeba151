"""Who may speak to the server: its own page, on this machine. Refusals are JSON with one line.

A page of another site can reach 127.0.0.1 through the visitor's browser: by a name that resolves here (DNS rebinding,
so `Host` must be ours), by a cross-site request (so `Origin` must be ours), or by a form (so whatever starts work needs
a token that only our own page was given).
"""

from __future__ import annotations

import ipaddress
import json
import secrets
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

TOKEN_HEADER = "x-glasshouse-token"
SAFE_METHODS = ("GET", "HEAD")
MAX_BODY = 1 << 20  # bytes of a request; texts to try are far smaller

# No inline script or style, nothing from elsewhere, no frames, no forms; markup is made by the page's own code only.
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


def new_token() -> str:
    """A token for one process: whoever holds it was given our page."""
    return secrets.token_urlsafe(32)


def host_is_ours(host: str, bound: str = "127.0.0.1") -> bool:
    """Whether a `Host` header names this machine by a name that nobody else can point at it.

    Any port will do (a tunnel may use another). An IP address cannot be rebound; when the server was bound to an
    outside address by its user, any address and that very name are accepted.
    """
    try:
        parts = urlsplit(f"//{host}")
        name, port = parts.hostname or "", parts.port
    except ValueError:  # a port that is none, such as 8421:3
        return False
    if host.lower() not in {f"{shown}{tail}" for shown in (name, f"[{name}]") for tail in ("", f":{port}")}:
        return False  # with a user, a path, or anything else that belongs into no Host
    if name in ("localhost", bound):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or not _is_loopback(bound)


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


class Guard:
    """ASGI middleware: checks Host, Origin and token before anything else runs, and adds the security headers."""

    def __init__(self, app: ASGIApp, *, token: str, bound: str = "127.0.0.1") -> None:
        self.app, self._token, self._bound = app, token, bound

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # no websockets here; a closed door needs no reason
            return
        headers = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in scope["headers"]}
        refusal = self.refusal(scope["method"], scope["path"], headers)
        if refusal is not None:
            await _refuse(send, *refusal)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                have = {key for key, _ in message["headers"]}
                extra = [(k.encode(), v.encode()) for k, v in HEADERS.items() if k.encode() not in have]
                message = {**message, "headers": [*message["headers"], *extra]}
            await send(message)

        await self.app(scope, receive, send_with_headers)

    def refusal(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, str] | None:
        """(status, one line) for a request that must not pass, else None."""
        host = headers.get("host", "")
        if not host_is_ours(host, self._bound):
            return 421, f"expected a request to this machine's own address, got Host {host[:100]!r}; open 127.0.0.1"
        origin = headers.get("origin")
        if origin is not None and origin != f"http://{host}":
            return 403, f"expected a request from this page, got Origin {origin[:100]!r}"
        if path.startswith("/api/") and headers.get("sec-fetch-site") in ("cross-site", "same-site"):
            return 403, "expected a request from this page, got one from another site"
        if method not in SAFE_METHODS:
            given = headers.get(TOKEN_HEADER, "")
            if not secrets.compare_digest(given.encode("latin-1"), self._token.encode()):
                return 403, "expected the token of this page; reload the page (the server was started again)"
            length = headers.get("content-length", "")
            if not length.isdigit() or int(length) > MAX_BODY:
                return 413, f"expected a body of stated length up to {MAX_BODY} bytes, got {length[:20] or 'none'}"
        return None


async def _refuse(send: Send, status: int, line: str) -> None:
    body = json.dumps({"error": line}).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body)), **HEADERS}
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [(k.encode(), v.encode()) for k, v in headers.items()],
        }
    )
    await send({"type": "http.response.body", "body": body})
