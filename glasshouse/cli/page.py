"""The page beside a long command: a `glasshouse serve` of its own, from the first second to the last."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

from glasshouse.cli.entry import say
from glasshouse.web.server import HOST, listen
from glasshouse.workspace import Workspace


def end_with_stdin() -> None:
    """Interrupt this process when its standard input closes, as it does when the command that started it is gone."""

    def wait() -> None:
        while sys.stdin.buffer.read(4096):
            pass
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=wait, daemon=True).start()


class Page:
    """The served page, or none. `wait` holds the command open until Ctrl-C."""

    def __init__(self, server: subprocess.Popen[bytes] | None, address: str) -> None:
        self._server, self.address = server, address

    def wait(self, path: str = "") -> None:
        """path: the view to go to."""
        if self._server is None:
            return
        say(f"the page is at {self.address}{path} ; Ctrl-C ends it")
        with contextlib.suppress(KeyboardInterrupt):
            self._server.wait()


@contextlib.contextmanager
def page(ws: Workspace, port: int, *, wanted: bool) -> Iterator[Page]:
    """Serve the workspace from another process while the body runs.

    The server ends with this process however it ends: it reads its standard input, which closes then.
    """
    if not wanted:
        yield Page(None, "")
        return
    command = [sys.executable, "-m", "glasshouse", "serve", "--workspace", str(ws.root), "--until-stdin-closes"]
    with listen(HOST, port) as listener:  # a port in use is found now, before any work; browsers may come from now on
        address, handle = f"http://{HOST}:{listener.getsockname()[1]}", listener.fileno()
        server = subprocess.Popen(
            [*command, "--listener", str(handle)], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, pass_fds=[handle]
        )
    say(f"the page is at {address}")
    try:
        yield Page(server, address)
    finally:
        server.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(10)
