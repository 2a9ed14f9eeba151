"""A small real workspace, a server in its own process, and headless Chromium."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from glasshouse.web import create_app
from glasshouse.workspace import Workspace
from tests.features.example import write_example_features

ADDRESS = "http://127.0.0.1:8421"
CHROMIUM_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--window-size=1400,900",
)  # fmt: skip


@pytest.fixture(scope="session")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with evidence of 64 features and no model: what a page that only reads needs."""
    ws = Workspace.open(tmp_path_factory.mktemp("evidence") / "ws")
    write_example_features(ws, "tiny-resid.2", 64)
    return ws


@pytest.fixture
def client(evidence: Workspace) -> Iterator[TestClient]:
    with TestClient(create_app(evidence), base_url=ADDRESS, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="session")
def opened(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path, corpus_dir: Path) -> Workspace:
    """A workspace in which a tiny model was opened: dictionary learnt, evidence gathered, under `tiny-resid.2`."""
    from glasshouse.features.opening import open_model

    folder = tmp_path_factory.mktemp("opened")
    model = shutil.copytree(tiny_model_dir, folder / "tiny")
    hostile = shutil.copytree(corpus_dir, folder / "corpus")
    for i in range(8):  # text that would act, were it ever markup
        text = f"<script>document.title = 'taken'</script> <img src=x onerror=\"alert({i})\"> said Ada.\n" * 12
        (hostile / "code" / f"hostile{i}.py").write_text(text, encoding="utf-8")
    ws = Workspace.open(folder / "ws")
    open_model(
        model, ws=ws, corpus=hostile, site="resid.2", tokens=4_000, learn_tokens=8_000, gather_tokens=4_000,
        context=64, features=96, k=6, precision="fp32",
    )  # fmt: skip
    return ws


@pytest.fixture(scope="session")
def server(opened: Workspace) -> Iterator[str]:
    """The address of a real `glasshouse serve` on the opened workspace."""
    with serving(opened) as address:
        yield address


class serving:
    """`glasshouse serve` in a process of its own, on a free port, while the body runs."""

    def __init__(self, ws: Workspace) -> None:
        command = [sys.executable, "-m", "glasshouse", "serve", "--workspace", str(ws.root), "--port", "0"]
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    def __enter__(self) -> str:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if found := re.search(r"http://[\d.]+:\d+", line):
                return found[0]
        raise AssertionError("the server ended before it said where it is")

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(20)


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Headless Chromium with an empty profile. Skips where there is none."""
    driver, browser = shutil.which("chromedriver"), shutil.which("chromium") or shutil.which("google-chrome")
    if driver is None or browser is None:
        pytest.skip("needs chromium and chromedriver")
    if not (Path(sys.modules["glasshouse"].__file__ or "").parent / "web/static/index.html").is_file():
        pytest.skip("needs the built page: python hatch_build.py")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (*CHROMIUM_FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = webdriver.Chrome(options=options, service=Service(driver))
    yield chrome
    chrome.quit()
