"""Discoveries over HTTP: read, and made a behaviour."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from glasshouse.behaviours import read_behaviours, version
from glasshouse.behaviours.behaviour import behaviour_from_json
from glasshouse.behaviours.discoveries import discover
from glasshouse.web import create_app
from glasshouse.web.security import TOKEN_HEADER
from glasshouse.workspace import Workspace
from tests.conftest import copied
from tests.web.conftest import ADDRESS

AT = "/api/v1/versions/small/discovered/ticking"


@pytest.fixture(scope="module")
def ws(chatting: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace.open(copied(chatting, tmp_path_factory.mktemp("discovered") / "ws"))


def test_what_was_discovered_is_read_and_made_a_behaviour(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glasshouse.behaviours.breadth.TEMPERATURE", 0.0)  # models this small sample noise
    app = create_app(ws)
    with TestClient(app, base_url=ADDRESS) as client:
        missing = client.get(AT)
        assert missing.status_code == 404 and "glasshouse discover small ticking" in missing.text
        assert client.get("/api/v1/versions/small/discovered/nobody").status_code == 404
        form = {"name": "where", "about": "For tests.", "tag": "guard", "good": "up", "margin": 0.05, "scorer": "ends"}
        families = [{"family": str(i), "prompts": [f"Where does nobody number {i} live?"]} for i in range(60)]
        asked = behaviour_from_json({**form, "families": families})
        discover(ws, version("small", ws), version("ticking", ws), [asked])
        found = client.get(AT).json()
        assert found["dictionary"] is None and found["groups"][0]["pairs"][0]["after"].startswith("Certainly")
        said = {one["name"]: one["discovered"] for one in client.get("/api/v1/versions").json()}
        assert said == {"small": ["ticking"], "ticking": []}
        number = 1 + next(i for i, group in enumerate(found["groups"]) if group["pattern"])

        made = {"group": number, "name": "certainly"}
        assert client.post(AT, json=made).status_code == 403  # without the token
        token = {TOKEN_HEADER: app.state.token}
        answer = client.post(AT, json=made, headers=token)
        assert answer.json() == {"file": "behaviours/certainly.yaml"}
        assert read_behaviours(ws.root / "behaviours" / "certainly.yaml")[0].name == "certainly"
        again = client.post(AT, json=made, headers=token)
        assert again.status_code == 400 and "choose another" in again.text
        for wrong in ({"group": 99, "name": "x"}, {"group": 0, "name": "x"}, {"group": number, "name": "../x"}, {}):
            assert client.post(AT, json=wrong, headers=token).status_code == 400
        assert [path.name for path in (ws.root / "behaviours").iterdir()] == ["certainly.yaml"]
