"""Try text and steer, on a real opened model through the in-process client."""

from __future__ import annotations

import errno
import json
import shutil
import threading
from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

import glasshouse as gh
from glasshouse.types import UserError
from glasshouse.web import create_app
from glasshouse.web.library import Library
from glasshouse.web.security import TOKEN_HEADER
from glasshouse.web.workbench import Steering, Strength, Turns, Workbench
from glasshouse.workspace import Workspace
from tests.web.conftest import ADDRESS

NAME = "tiny-resid.2"
TEXT = "Ada walked to the garden and found a lamp there."


@pytest.fixture(scope="module")
def bench(opened) -> Iterator[TestClient]:
    app = create_app(opened)
    with TestClient(app, base_url=ADDRESS, headers={TOKEN_HEADER: app.state.token}) as client:
        yield client


@pytest.fixture(scope="module")
def alive(bench: TestClient) -> int:
    """A feature that fires."""
    return bench.get(f"/api/v1/features/{NAME}?flag=live&limit=1").json()["rows"][0]["index"]


def steer(bench: TestClient, **request: object) -> list[dict]:
    body = {"features": NAME, "prompt": TEXT, "strengths": [], "max_new_tokens": 12, **request}
    answer = bench.post("/api/v1/steer", json=body)
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


def text_of(events: list[dict], side: str) -> str:
    return "".join(event["text"] for event in events if event["event"] == "text" and event["side"] == side)


def test_every_token_has_the_features_that_the_dictionary_finds(bench: TestClient, opened) -> None:
    found = bench.post("/api/v1/try", json={"features": NAME, "text": TEXT}).json()
    assert "".join(token["text"] for token in found["tokens"]) == TEXT
    model = gh.load("tiny", workspace=opened)
    dictionary = gh.dictionary(NAME, ws=opened)
    codes_TF = dictionary.encode(model.run(TEXT, ["resid.2"])["resid.2"].values[0])
    for t, token in enumerate(found["tokens"]):
        active = {pair["index"]: pair["activation"] for pair in token["features"]}
        assert token["active"] == int((codes_TF[t] > 0).sum())
        for index, activation in active.items():
            assert activation == pytest.approx(float(codes_TF[t, index]), rel=1e-4)
            assert str(index) in found["features"]
        assert list(active.values()) == sorted(active.values(), reverse=True)
        assert 0 <= token["error"] < 2


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"features": NAME, "text": ""},
        {"features": NAME, "text": 3},
        {"features": NAME, "text": "a" * 20_001},
        {"features": NAME, "text": "word " * 4000},
        {"features": NAME, "text": "half of \ud83d"},
        [],
    ],
)
def test_try_says_what_is_wrong_in_one_line(bench: TestClient, body: object) -> None:
    answer = bench.post("/api/v1/try", content=json.dumps(body))
    assert answer.status_code == 400 and "expected" in answer.json()["error"]


def test_the_two_sides_are_those_of_generate(bench: TestClient, opened, alive: int) -> None:
    events = steer(bench, strengths=[{"index": alive, "how": "set", "amount": 20}])
    assert [events[0]["event"], events[-1]["event"]] == ["begin", "end"]
    model = gh.load("tiny", workspace=opened)
    model.attach(gh.dictionary(NAME, ws=opened))
    loud = gh.set(f"{NAME}/{alive}", times_max=20)
    assert text_of(events, "plain") == model.generate(TEXT, 12).text
    assert text_of(events, "steered") == model.generate(TEXT, 12, edits=loud).text
    assert text_of(events, "plain") != text_of(events, "steered")
    assert {event["side"] for event in events if event["event"] == "stop"} == {"plain", "steered"}
    events = steer(bench, strengths=[{"index": alive, "how": "set", "amount": 20}], positions="new")
    written = gh.set(f"{NAME}/{alive}", times_max=20, positions="new")
    assert text_of(events, "steered") == model.generate(TEXT, 12, edits=written).text


def test_the_two_sides_come_in_turn(bench: TestClient, alive: int) -> None:
    sides = [e["side"] for e in steer(bench, strengths=[{"index": alive, "how": "add", "amount": 0.5}]) if "text" in e]
    assert sides[:4] == ["plain", "steered", "plain", "steered"]


def test_without_an_edit_both_sides_are_the_same_also_sampled(bench: TestClient) -> None:
    events = steer(bench, temperature=0.9, seed=3)
    assert text_of(events, "plain") == text_of(events, "steered") != ""


def test_strengths_are_shown_in_both_units(bench: TestClient, opened, alive: int) -> None:
    dictionary = gh.dictionary(NAME, ws=opened)
    body = {"features": NAME, "strengths": [{"index": alive, "how": "set", "amount": 3}]}
    one = bench.post("/api/v1/strengths", json=body).json()["strengths"][0]
    written = 3 * float(dictionary.max_activation[alive]) * float(dictionary.W_dec[alive].norm())
    assert one["times_max"] == 3
    assert one["times_norm"] == pytest.approx(written / dictionary.typical_norm, rel=1e-5)


def test_strengths_start_no_model(opened, alive: int, monkeypatch) -> None:
    """A steering address asks for them as soon as it is opened."""
    monkeypatch.setattr("glasshouse.models.load", lambda *_, **__: pytest.fail("the model was loaded"))
    bench = Workbench(Library(opened))
    strength = Strength(index=alive, how="add", amount=0.2)
    (one,) = bench.strengths(Steering(features=NAME, prompt="-", strengths=(strength,)))
    assert one["times_norm"] == 0.2 and one["times_max"] > 0
    bench.close()


def made_anew(ws: Workspace, kind: str, name: str, **config: object) -> None:
    """The artefact with the same files and other settings, so that its hash is another."""
    folder = ws.path(kind, name).rename(ws.root / "before")
    with ws.writing(kind, name, config={"again": True, **config}, command="open") as draft:
        for file in folder.iterdir():
            if file.name != "manifest.json":
                shutil.copy(file, draft.path)
        draft.finish()
    shutil.rmtree(folder)


def test_a_dictionary_made_anew_is_attached_to_the_model_made_anew(opened, tmp_path) -> None:
    ws = Workspace.open(shutil.copytree(opened.root, tmp_path / "ws"))
    bench = Workbench(Library(ws))
    before = bench.open(NAME)
    assert all(a is b for a, b in zip(before, bench.open(NAME), strict=True))
    made_anew(ws, "models", "tiny")
    made_anew(ws, "dictionaries", NAME)
    after = bench.open(NAME)
    assert all(a is not b for a, b in zip(before, after, strict=True))
    assert NAME in after[0].attached
    bench.close()


def test_a_folder_with_other_weights_than_it_was_opened_with_is_refused(opened, tmp_path) -> None:
    ws = Workspace.open(shutil.copytree(opened.root, tmp_path / "ws"))
    made_anew(ws, "models", "tiny", version="of other weights")
    bench = Workbench(Library(ws))
    for _ in range(2):
        with pytest.raises(UserError, match="found others"):
            bench.open(NAME)
    bench.close()


def test_a_model_that_has_gone_from_the_workspace_is_not_looked_for_elsewhere(opened, tmp_path, monkeypatch) -> None:
    ws = Workspace.open(shutil.copytree(opened.root, tmp_path / "ws"))
    shutil.rmtree(ws.path("models", "tiny"))
    monkeypatch.setattr("glasshouse.models.load", lambda *_, **__: pytest.fail("it was looked for"))
    app = create_app(ws)
    with TestClient(app, base_url=ADDRESS, headers={TOKEN_HEADER: app.state.token}) as client:
        for route in ("try", "steer"):
            body = {"features": NAME, "text": TEXT, "prompt": TEXT}
            answer = client.post(f"/api/v1/{route}", json=body)
            assert answer.status_code == 400 and "expected model tiny in the workspace" in answer.json()["error"]
        shutil.rmtree(ws.path("dictionaries", NAME))
        answer = client.post("/api/v1/dose", json={"features": NAME, "index": 1})
        assert answer.status_code == 404 and "expected one of dictionaries" in answer.json()["error"]


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": ""},
        {"max_new_tokens": 0},
        {"max_new_tokens": 10**9},
        {"temperature": -1},
        {"strengths": [{"index": 10**6, "how": "set", "amount": 1}]},
        {"strengths": [{"index": 1, "how": "shout", "amount": 1}]},
        {"strengths": [{"index": 1, "how": "set", "amount": 1e9}]},
        {"strengths": [{"index": 1, "how": "set", "amount": 10**400}]},
        {"strengths": [{"index": 10**400, "how": "set", "amount": 1}]},
        {"strengths": [{"index": 1}]},
        {"temperature": 10**400},
        {"prompt": "half of \ud83d"},
        {"strengths": [{"index": 1, "how": "set", "amount": 1}], "positions": "old"},
        {"strengths": "loud"},
        {"prompt": "word " * 3000},
    ],
)
def test_steer_says_what_is_wrong_in_one_line(bench: TestClient, change: dict) -> None:
    body = {"features": NAME, "prompt": "The", "strengths": [], **change}
    answer = bench.post("/api/v1/steer", content=json.dumps(body))
    line = answer.json()["error"] if answer.status_code == 400 else json.loads(answer.text.splitlines()[-1])["error"]
    assert "expected" in line and "\n" not in line


def test_the_report_shows_what_is_unexplained(bench: TestClient) -> None:
    report = bench.get(f"/api/v1/dictionaries/{NAME}/report").json()
    assert report["finished"] and 0 < report["report"]["unexplained"]["value"] < 2
    assert report["config"]["k"] == 6


def test_a_reader_who_goes_away_stops_the_work(opened, alive: int) -> None:
    bench, cancel, said = Workbench(Library(opened)), threading.Event(), []

    def say(event: dict) -> None:
        said.append(event)
        if len(said) == 4:
            cancel.set()

    strength = Strength(index=alive, how="add", amount=0.2)
    steering = Steering(features=NAME, prompt="Ada", strengths=(strength,), max_new_tokens=100)
    bench.steer(steering, say, cancel)
    assert len(said) < 10 and not any(event["event"] == "stop" for event in said)
    bench.close()


@pytest.fixture
def unmeasured(opened) -> None:
    """No dose kept, whatever other tests measured in this workspace."""
    for folder in opened.root.glob("evals/*-dose-*"):
        shutil.rmtree(folder)


@pytest.mark.usefixtures("unmeasured")
def test_dose_and_response_is_measured_once_and_kept(bench: TestClient, alive: int) -> None:
    address = f"/api/v1/features/{NAME}/{alive}/dose"
    assert bench.get(address).json() == {"add": None, "set": None}
    answer = bench.post("/api/v1/dose", json={"features": NAME, "index": alive, "how": "set"})
    *shares, dose, end = [json.loads(line) for line in answer.text.splitlines()]
    assert [shares[-1], end] == [{"event": "progress", "share": 1.0}, {"event": "end"}]
    found = dose["dose"]
    assert found["feature"] == f"{NAME}/{alive}" and len(found["own_tokens"]) == 10
    assert [one["strength"]["times_max"] for one in found["doses"]] == [1, 2, 4, 8, 16]
    assert bench.get(address).json() == {"add": None, "set": found}
    again = bench.post("/api/v1/dose", json={"features": NAME, "index": alive, "how": "set"})
    assert [json.loads(line)["event"] for line in again.text.splitlines()] == ["dose", "end"]
    for body in ({"index": 96}, {"index": -1}, {"index": alive, "how": "push"}, {}):
        wrong = bench.post("/api/v1/dose", json={"features": NAME, **body})
        assert wrong.status_code == 400 and "expected" in wrong.json()["error"]


@pytest.mark.usefixtures("unmeasured")
def test_a_dose_that_cannot_be_kept_is_said_and_ends_the_stream(bench: TestClient, alive: int, monkeypatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", "/kept/evals")

    monkeypatch.setattr(Workspace, "writing", refused)
    answer = bench.post("/api/v1/dose", json={"features": NAME, "index": alive, "how": "set"})
    (said,) = [json.loads(line) for line in answer.text.splitlines()]
    assert said["event"] == "error" and said["error"].startswith("expected to read and write at /kept/evals, got Read-")


@pytest.mark.usefixtures("unmeasured")
def test_a_reader_who_goes_away_stops_the_measuring(opened, alive: int, monkeypatch) -> None:
    from glasshouse.steering.doses import dose_response
    from glasshouse.types import FeatureId
    from glasshouse.workspace import Stopped

    monkeypatch.setitem(dose_response.__wrapped__.__kwdefaults__, "batch_tokens", 64)  # several batches, of little text
    bench, gone, said = Workbench(Library(opened)), threading.Event(), []
    gone.set()
    with pytest.raises(Stopped):
        bench.dose(FeatureId(NAME, alive), "add", said.append, gone)
    assert [event["event"] for event in said] == ["progress"]
    stopped = [run for run in opened.runs() if run["command"] == "dose"][-1]
    assert stopped["state"] == "stopped"
    bench.dose(FeatureId(NAME, alive), "add", said.append, threading.Event())
    assert said[-1]["event"] == "dose" and said[1]["share"] > said[0]["share"], "it goes on"
    bench.close()


def test_turns_go_round_and_skip_who_has_left() -> None:
    turns, order = Turns(("a", "b")), []

    def run(name: str, times: int) -> None:
        for _ in range(times):
            turns.wait(name)
            order.append(name)
            turns.pass_on(name)
        turns.wait(name)
        turns.leave(name)

    threads = [threading.Thread(target=run, args=pair, daemon=True) for pair in (("a", 2), ("b", 4))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert order == ["a", "b", "a", "b", "b", "b"]
