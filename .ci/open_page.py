"""Start the installed `glasshouse serve` on an empty workspace and fetch its page and every file the page names."""

import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path


def fetch(address: str, patience: float = 0) -> bytes:
    end = time.monotonic() + patience
    while True:
        try:
            with urllib.request.urlopen(address, timeout=10) as answer:
                return answer.read()
        except (urllib.error.URLError, ConnectionError):
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


def main() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = str(Path(sys.executable).with_name("glasshouse"))
    server = subprocess.Popen([program, "serve", "--workspace", "workspace", "--port", str(port)])
    try:
        root = f"http://127.0.0.1:{port}"
        page = fetch(root + "/", patience=60).decode()
        files = re.findall(r'(?:src|href)="(/?[^":]+\.(?:js|css))"', page)
        assert files, f"the page names no script or style: {page[:300]}"
        sizes = {name: len(fetch(f"{root}/{name.lstrip('./')}")) for name in files}
        assert all(sizes.values()), sizes
        status = fetch(root + "/api/v1/status")
        print(f"page of {len(page)} bytes, files {sizes}, status {status[:60]!r}")
    finally:
        server.terminate()
        server.wait(20)


if __name__ == "__main__":
    main()
