"""One process, one workspace, one page: Starlette and uvicorn on 127.0.0.1.

serve(Workspace.open("glasshouse-workspace"))            # http://127.0.0.1:8421
"""

from __future__ import annotations

import contextlib
import errno
import socket
import sys
import threading
import webbrowser
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware

from glasshouse.types import UserError
from glasshouse.web.answers import HANDLERS
from glasshouse.web.api import api_routes
from glasshouse.web.chats import chat_routes
from glasshouse.web.discoveries import discovery_routes
from glasshouse.web.library import Library
from glasshouse.web.page import page_routes
from glasshouse.web.ratings import rating_routes
from glasshouse.web.security import Guard, new_token
from glasshouse.web.workbench import Workbench
from glasshouse.workspace import Workspace

HOST, PORT = "127.0.0.1", 8421
LONGEST_ADDRESS = 1 << 18  # bytes, with the headers: the page writes a text to try into its own, up to 12 a character


def create_app(ws: Workspace, *, model: Any = None, host: str = HOST) -> Starlette:
    """The page and API of a workspace. model: already loaded, used for dictionaries that name it.

    `app.state.token` is what changing requests must carry in `X-Glasshouse-Token`.
    """
    token = new_token()
    library = Library(ws)
    bench = Workbench(library, model=model)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        bench.close()

    app = Starlette(
        routes=[
            *rating_routes(library),
            *chat_routes(library, bench),
            *discovery_routes(library),
            *api_routes(library, bench),
            *page_routes(token),
        ],
        middleware=[Middleware(Guard, token=token, bound=host)],
        exception_handlers=HANDLERS,
        lifespan=lifespan,
    )
    app.state.token = token
    return app


def listen(host: str, port: int) -> socket.socket:
    """A socket bound to the address, so that a port in use is one line now. Port 0 takes any free one."""
    if not 0 <= port <= 65535:  # the system would take it modulo 65536
        raise UserError(f"expected to listen on a port from 0 to 65535, got {port}; give another --port")
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)  # the connections of an eager browser wait here while we start
    except (OSError, OverflowError, UnicodeError) as error:  # UnicodeError: a host that could be no name
        used = getattr(error, "errno", None) == errno.EADDRINUSE
        reason = "it is in use (another glasshouse?)" if used else str(error)
        other = "--port" if used else "--host or --port"
        raise UserError(f"expected to listen on {host}:{port}, but {reason}; give another {other}") from None
    return listener


def serve(
    ws: Workspace,
    host: str = HOST,
    port: int = PORT,
    open_browser: bool = False,
    *,
    model: Any = None,
    listener: int | None = None,
    quiet: bool = False,
) -> None:
    """Serve the page until interrupted. Raises `UserError` if the port is in use.

    port: 0 takes a free one. listener: file descriptor of a socket that listens already, instead of host and port.
    quiet: do not say where the page is.
    """
    door = listen(host, port) if listener is None else socket.socket(fileno=listener)
    address = f"http://{f'[{host}]' if ':' in host else host}:{door.getsockname()[1]}/"
    config = uvicorn.Config(
        create_app(ws, model=model, host=host), log_level="warning", access_log=False, timeout_graceful_shutdown=2,
        http="h11", h11_max_incomplete_event_size=LONGEST_ADDRESS,
    )  # fmt: skip
    if not quiet:
        print(f"the page is at {address} (Ctrl-C stops it)", file=sys.stderr, flush=True)
    if open_browser:
        threading.Timer(0.5, webbrowser.open, [address]).start()
    with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C is how it is meant to end
        uvicorn.Server(config).run(sockets=[door])
