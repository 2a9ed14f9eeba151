"""The routes under /api/v1, through the in-process client."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from glasshouse.behaviours import evaluate, save_version, version
from glasshouse.behaviours.behaviour import behaviour_from_json
from glasshouse.types import UserError
from glasshouse.web import create_app
from glasshouse.web.answers import dump
from glasshouse.web.progress import metrics, status, thinned
from glasshouse.web.security import TOKEN_HEADER
from glasshouse.web.server import listen
from glasshouse.workspace import Workspace
from tests.behaviours.written import a_model, asked, write_evaluation
from tests.conftest import copied
from tests.web.conftest import ADDRESS

NAME = "tiny-resid.2"


def rows(client: TestClient, **query: object) -> list[dict]:
    return client.get(f"/api/v1/features/{NAME}", params=query).json()["rows"]


def test_lists_are_filtered_sorted_and_paged(client: TestClient) -> None:
    answer = client.get(f"/api/v1/features/{NAME}", params={"limit": 5}).json()
    assert answer["total"] == 64 and len(answer["rows"]) == 5
    rates = [row["rate"] for row in rows(client, sort="rate", order="asc")]
    assert rates == sorted(rates)
    assert [row["index"] for row in rows(client, flag="dead")] == [0]
    assert {row["kind"] for row in rows(client, kind="help")} == {"help"}
    first, second = rows(client, sort="index", order="asc", limit=3), rows(client, sort="index", order="asc", offset=3)
    assert [row["index"] for row in first] == [0, 1, 2] and second[0]["index"] == 3
    low = rows(client, min_rate="0.01", max_rate="0.02")
    assert low and all(0.01 <= row["rate"] <= 0.02 for row in low)
    clear = rows(client, min_score="0.3", sort="kind", order="asc")
    assert clear and [row["kind"] for row in clear] == sorted(row["kind"] for row in clear)


def test_a_feature_holds_all_its_evidence(client: TestClient) -> None:
    found = client.get(f"/api/v1/features/{NAME}/3").json()
    wanted = {"rate", "label", "histogram", "tokens", "positions", "promotes", "suppresses", "measured", "near_decoder"}
    assert wanted | {"near_cofiring", "examples", "kinds"} <= set(found)
    assert found["id"] == f"{NAME}/3" and {"value", "low", "high", "n"} <= set(found["rate"])
    example = found["examples"]["top"][0]
    context = client.get(f"/api/v1/features/{NAME}/contexts/{example['context']}").json()
    start, end = example["start"], example["start"] + len(example["tokens"])
    assert context["tokens"][start:end] == example["tokens"]


@pytest.mark.parametrize(
    ("path", "code"),
    [
        (f"/api/v1/features/{NAME}/64", 404),
        (f"/api/v1/features/{NAME}/99999999999999999999", 404),
        (f"/api/v1/features/{NAME}/contexts/9999999999", 404),
        (f"/api/v1/features/{NAME}/x", 404),
        (f"/api/v1/features/{NAME}/{'9' * 5_000}", 404),
        (f"/api/v1/features/{NAME}/contexts/{'9' * 5_000}", 404),
        (f"/api/v1/features/{NAME}/64/dose", 404),
        (f"/api/v1/features/{NAME}?search=%00", 400),
        ("/api/v1/features/other", 404),
        ("/api/v1/dictionaries/other/report", 404),
        ("/api/v1/versions/none/against/other", 404),
        ("/api/v1/versions/No%20name/against/other", 404),
        ("/api/v1/versions/none/against/other/wordings/facts", 404),
        ("/api/v1/behaviours/facts/history", 404),
        ("/api/v1/behaviours/No%20name/history", 404),
        ("/api/v1/plane?z=facts", 400),
        ("/api/v1/nowhere", 404),
        (f"/api/v1/features/{NAME}?sort=loss", 400),
        (f"/api/v1/features/{NAME}?order=up", 400),
        (f"/api/v1/features/{NAME}?min_rate=nan", 400),
        (f"/api/v1/features/{NAME}?limit=many", 400),
        (f"/api/v1/features/{NAME}?colour=red", 400),
    ],
)
def test_mistakes_get_one_line_and_the_right_status(client: TestClient, path: str, code: int) -> None:
    answer = client.get(path)
    assert answer.status_code == code
    assert list(answer.json()) == ["error"] and "\n" not in answer.json()["error"]


def test_versions_compared(client: TestClient, chatting: Path, tmp_path: Path) -> None:
    assert client.get("/api/v1/versions").json() == []
    copied(chatting, tmp_path / "ws")
    ws = Workspace.open(tmp_path / "ws")
    families = [{"family": str(n), "prompts": [f"Where does nobody number {n} live?"]} for n in range(8)]
    form = {"name": "length", "about": "Length.", "tag": "guard", "good": "up", "margin": 1, "unit": "tokens"}
    asked = behaviour_from_json({**form, "scorer": "length", "settings": {"max_new_tokens": 4}, "families": families})
    small, ticking = version("small", ws), version("ticking", ws)
    done = [evaluate(one, asked, ws) for one in (small, ticking)]
    with TestClient(create_app(ws), base_url=ADDRESS, raise_server_exceptions=False) as other:
        found = {one["name"]: one["behaviours"] for one in other.get("/api/v1/versions").json()}
        assert "length" in found["small"] and "length" in found["ticking"]
        cells = other.get("/api/v1/versions/small/against/ticking").json()["cells"]
        assert {"behaviour", "change", "verdict", "needed", "parts", "worst", "created"} <= set(cells[0])
        samples = ws.path("evals", done[1].name) / "samples.jsonl"
        samples.write_bytes(samples.read_bytes()[:-9])
    with TestClient(create_app(ws), base_url=ADDRESS, raise_server_exceptions=False) as other:
        answer = other.get("/api/v1/versions/small/against/ticking")
        assert answer.status_code == 500 and "bytes in" in answer.json()["error"]


def test_history_wordings_and_the_plane(workspace: Workspace) -> None:
    a_model(workspace)
    plain = version("m", workspace)
    brief, lone = (save_version(workspace, name, model="m", system=name) for name in ("brief", "lone"))
    facts, refusals = asked("facts", [2] * 6), asked("false-refusals", [1] * 6, good="down")
    for who, scores in ((plain, [1] * 12), (brief, [1, 0] * 6)):
        write_evaluation(workspace, who, facts, scores)
        write_evaluation(workspace, who, refusals, [0] * 6, tokens=7)
    altered = write_evaluation(workspace, lone, facts, [0] * 12)
    with TestClient(create_app(workspace), base_url=ADDRESS, raise_server_exceptions=False) as other:
        rows = other.get("/api/v1/behaviours/facts/history").json()["rows"]
        assert sorted(row["mean"]["value"] for row in rows) == [0, 0.5, 1]
        assert {"evaluation", "created", "name", "hash", "names", "asked", "seed", "samples", "unscored"} <= set(
            rows[0]
        )
        found = other.get("/api/v1/versions/m/against/brief/wordings/facts").json()
        assert found["new"]["spread"]["value"] == 1 and len(found["rows"]) == 6 and len(found["numbers"]) == 2
        assert other.get("/api/v1/versions/m/against/lone/wordings/false-refusals").status_code == 404
        found = other.get("/api/v1/plane?x=false-refusals:tokens&y=facts").json()
        assert [(p["name"], p["x"]["value"], p["y"]["value"]) for p in found["points"]] == [
            ("brief", 7, 0.5),
            ("m", 7, 1),
        ]
        assert found["left_out"] == [{"name": "lone", "why": "false-refusals was not run"}]
        answer = other.get("/api/v1/plane?x=lies")
        assert answer.status_code == 400 and "of facts, false-refusals and score, not, tokens" in answer.json()["error"]
        write_evaluation(workspace, lone, refusals, [0] * 6)
        file = workspace.path("evals", altered) / "samples.jsonl"
        file.write_bytes(file.read_bytes()[:-9])
        again = other.get("/api/v1/plane?x=false-refusals:tokens&y=facts").json()  # not what was kept from before
        assert [one["name"] for one in again["left_out"]] == ["lone"] and "bytes in" in again["left_out"][0]["why"]
        answer = other.get("/api/v1/versions/m/against/lone/wordings/facts")
        assert answer.status_code == 500 and "bytes in" in answer.json()["error"]


def test_changing_methods_are_not_there_for_what_is_read(client: TestClient) -> None:
    headers = {TOKEN_HEADER: client.app.state.token, "content-length": "0"}
    assert client.delete(f"/api/v1/features/{NAME}", headers=headers).status_code == 405


def test_numbers_that_are_not_finite_are_null() -> None:
    assert json.loads(dump({"a": [float("nan"), 1.5], "b": float("-inf")})) == {"a": [None, 1.5], "b": None}


def test_a_damaged_artefact_says_so_and_the_rest_is_served(tmp_path, evidence: Workspace) -> None:

    shutil.copytree(evidence.root, tmp_path / "ws")
    ws = Workspace(tmp_path / "ws")
    (ws.path("features", NAME) / "examples.parquet").write_bytes(b"PAR1")
    client = TestClient(create_app(ws), base_url=ADDRESS)
    answer = client.get(f"/api/v1/features/{NAME}")
    assert answer.status_code == 500 and "examples.parquet" in answer.json()["error"]
    assert client.get("/api/v1/status").status_code == 200
    (ws.path("features", NAME) / "summary.json").write_text("[]")
    (found,) = client.get("/api/v1/workspace").json()["features"]
    assert found["name"] == NAME and "expected a summary" in found["error"]


def test_an_artefact_made_anew_is_read_anew(tmp_path) -> None:

    from tests.features.example import write_example_features

    ws = Workspace.open(tmp_path / "ws")
    write_example_features(ws, NAME, 8)
    client = TestClient(create_app(ws), base_url=ADDRESS)
    assert client.get(f"/api/v1/features/{NAME}").json()["total"] == 8
    shutil.rmtree(ws.path("features", NAME))
    write_example_features(ws, NAME, 12)
    assert client.get(f"/api/v1/features/{NAME}").json()["total"] == 12


def test_the_page_may_be_opened_before_anything_is_there(workspace: Workspace) -> None:
    client = TestClient(create_app(workspace), base_url=ADDRESS)
    assert client.get("/api/v1/status").json() == {"busy": False, "runs": []}
    assert client.get("/api/v1/workspace").json()["features"] == []


def test_status_follows_a_run_and_its_curve(workspace: Workspace) -> None:
    client = TestClient(create_app(workspace), base_url=ADDRESS)
    with workspace.writing("models", "small", config={}, command="grow") as draft:
        with workspace.running("grow", "models", "small", total=100, unit="tokens") as progress:
            draft.log(step=1, tokens=10, loss=5.0, bits_per_byte=3.0)
            draft.log(step=1, held_out_bits_per_byte=3.1)
            draft.log(step=1, sample="once <upon>")
            time.sleep(0.6)
            progress.advance(25, "loss 5.00")
            run = client.get("/api/v1/status").json()["runs"][0]
            assert (run["state"], run["done"], run["total"], run["note"]) == ("running", 25, 100, "loss 5.00")
            assert run["rate"] > 0 and 0 < run["left"] < 75 / run["rate"] + 1
            found = client.get("/api/v1/metrics/models/small").json()
            assert found["curve"][0]["loss"] == 5.0 and found["samples"][0]["sample"] == "once <upon>"
            assert found["held_out"][0]["held_out_bits_per_byte"] == 3.1
    done = status(workspace)
    assert not done["busy"] and done["runs"][0]["state"] == "done" and done["runs"][0]["left"] is None


def test_only_the_latest_run_of_an_artefact_is_shown(workspace: Workspace) -> None:
    for _ in range(2):
        with workspace.running("learn", "dictionaries", "d", total=1, unit="tokens"):
            pass
    assert [run["id"] for run in status(workspace)["runs"]] == [2]


def test_curves_are_thinned_and_keep_their_ends(workspace: Workspace) -> None:
    lines = [{"step": i} for i in range(5000)]
    few = thinned(lines, 300)
    assert len(few) == 300 and few[0] == lines[0] and few[-1] == lines[-1]
    assert thinned(lines[:5], 300) == lines[:5]
    assert metrics(workspace, "models", "none") == {"curve": [], "held_out": [], "samples": [], "last": None}


def test_a_port_in_use_is_one_line() -> None:
    held = listen("127.0.0.1", 0)
    with pytest.raises(UserError, match="in use"):
        listen("127.0.0.1", held.getsockname()[1])
    held.close()
    with pytest.raises(UserError, match="expected to listen"):
        listen("127.0.0.1", 99999)


@pytest.mark.parametrize("host", ["127..0.1", "a" * 64 + ".example"])
def test_a_host_that_could_be_no_name_is_one_line(host: str) -> None:
    with pytest.raises(UserError, match="give another --host or --port"):
        listen(host, 0)
