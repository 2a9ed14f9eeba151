"""Ratings, chats, thumbs, cases and splits through the in-process client, with a real small chat model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from glasshouse.behaviours import evaluate, read_behaviours, save_version, version
from glasshouse.behaviours.behaviour import behaviour_from_json
from glasshouse.behaviours.chats import chat_version, thumbs
from glasshouse.behaviours.ratings import Study
from glasshouse.web import create_app
from glasshouse.web.security import TOKEN_HEADER
from glasshouse.workspace import Workspace
from tests.conftest import copied
from tests.web.conftest import ADDRESS

QUESTION = {"role": "user", "content": "Where does nobody number 3 live?"}
RATINGS = "/api/v1/ratings/small/ticking"


@pytest.fixture(scope="module")
def ws(chatting: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    ws = Workspace.open(copied(chatting, tmp_path_factory.mktemp("people") / "ws"))
    families = [{"family": str(n), "prompts": [f"Where does nobody number {n} live?"]} for n in range(8)]
    form = {"name": "places", "about": "For tests.", "tag": "guard", "good": "up", "margin": 1, "unit": "tokens"}
    form |= {"scorer": "length", "families": families, "settings": {"max_new_tokens": 12}}
    for one in ("small", "ticking"):
        evaluate(version(one, ws), behaviour_from_json(form), ws)
    save_version(ws, "brief", model="small", system="Answer in one word.")
    return ws


@pytest.fixture(scope="module")
def client(ws: Workspace) -> Iterator[TestClient]:
    app = create_app(ws)
    with TestClient(app, base_url=ADDRESS, headers={TOKEN_HEADER: app.state.token}) as client:
        yield client


def talk(client: TestClient, **request: Any) -> tuple[str, str, list[dict]]:
    """The chat's id, the reply, and all events."""
    body = {"version": "small", "turns": [QUESTION], "max_new_tokens": 12, **request}
    answer = client.post("/api/v1/chat", json=body)
    assert answer.status_code == 200, answer.text
    events = [json.loads(line) for line in answer.text.splitlines()]
    said = "".join(event["text"] for event in events if event["event"] == "text")
    return events[0]["chat"], said.strip(), events


def test_a_study_is_rated_over_http(client: TestClient, ws: Workspace) -> None:
    assert client.get(RATINGS).status_code == 404 and "glasshouse rate small ticking" in client.get(RATINGS).text
    Study(ws, version("small", ws), version("ticking", ws)).prepare(count=4)
    assert client.get("/api/v1/ratings").json()[0] == {
        "base": "small", "new": "ticking", "pairs": 4, "ratings": 0, "raters": 0,
    }  # fmt: skip
    shown = client.post(f"{RATINGS}/next", json={"who": "Ada"}).json()
    text = json.dumps(shown)
    assert not any(word in text for word in ("small", "ticking", "base", "new", version("small", ws).hash[:8]))
    after = client.post(RATINGS, json={"who": "Ada", "pair": shown["pair"], "rating": 6}).json()
    assert after["rated"] == 1 and after["pair"] != shown["pair"]
    again = client.post(f"{RATINGS}/back", json={"who": "Ada", "pair": after["pair"]}).json()
    assert (again["pair"], again["rating"]) == (shown["pair"], 6)
    client.post(RATINGS, json={"who": "Ada", "pair": after["pair"], "rating": None})
    found = client.get(RATINGS).json()
    assert found["ratings"] == 1 and found["preferred"]["n"] == 1 and found["verdict"] == "cannot tell"


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        (f"{RATINGS}/next", {"who": ""}, 400),
        (f"{RATINGS}/next", {}, 400),
        (RATINGS, {"who": "Ada", "pair": "none", "rating": 3}, 400),
        (RATINGS, {"who": "Ada", "pair": 3, "rating": 3}, 400),
        (RATINGS, {"who": "Ada", "pair": "none", "rating": "3"}, 400),
        ("/api/v1/ratings/small/none/next", {"who": "Ada"}, 404),
        ("/api/v1/ratings/small/small/next", {"who": "Ada"}, 400),
        ("/api/v1/ratings/small/%2e%2e/next", {"who": "Ada"}, 404),
        ("/api/v1/chat", {"version": "small", "turns": []}, 400),
        ("/api/v1/chat", {"version": "none", "turns": [QUESTION]}, 404),
        ("/api/v1/chat", {"turns": [QUESTION]}, 400),
        ("/api/v1/chat", {"version": "small", "turns": [{"role": "system", "content": "x"}, QUESTION]}, 400),
        ("/api/v1/chat", {"version": "small", "turns": [QUESTION], "temperature": -1}, 400),
        ("/api/v1/chat", {"version": "small", "turns": [QUESTION], "max_new_tokens": 10**6}, 400),
        ("/api/v1/chat", {"chat": "none", "turns": [QUESTION]}, 400),
        ("/api/v1/chat", {"split": "small", "turns": [QUESTION]}, 400),
        ("/api/v1/chat", {"split": {"base": "small", "new": "small"}, "turns": [QUESTION]}, 400),
        ("/api/v1/chat", {"split": {"base": "small", "new": "ticking", "share": 2}, "turns": [QUESTION]}, 400),
        ("/api/v1/thumbs", {"chat": "none", "turns": [QUESTION], "up": True, "who": "Ada"}, 400),
        ("/api/v1/cases", {"chat": "none", "turns": [QUESTION], "kind": "bad-reply", "who": "Ada"}, 400),
    ],
)
def test_mistakes_get_one_line(client: TestClient, ws: Workspace, path: str, body: dict, code: int) -> None:
    Study(ws, version("small", ws), version("ticking", ws)).prepare(count=4)
    answer = client.post(path, json=body)
    assert answer.status_code == code, answer.text
    assert "expected" in answer.json()["error"] and "\n" not in answer.json()["error"]


@pytest.mark.parametrize(
    "path", [RATINGS, f"{RATINGS}/next", f"{RATINGS}/back", *map("/api/v1/{}".format, ("chat", "thumbs", "cases"))]
)
def test_what_people_say_needs_the_token(client: TestClient, path: str) -> None:
    assert client.post(path, json={}, headers={TOKEN_HEADER: "x"}).status_code == 403


def test_a_chat_says_what_a_behaviour_would_hear(client: TestClient, ws: Workspace) -> None:
    """The same reply as an evaluation of the version has: same turns, same system prompt, greedy."""
    form = {"name": "heard", "about": "For tests.", "tag": "guard", "good": "up", "margin": 1, "unit": "tokens"}
    form |= {"scorer": "length", "settings": {"max_new_tokens": 12}}
    for name in ("small", "ticking", "brief"):
        chat, first, events = talk(client, version=name)
        assert [events[0]["event"], events[-2]["event"], events[-1]["event"]] == ["begin", "stop", "end"]
        assert chat_version(ws, chat) == version(name, ws)
        turns = [QUESTION, {"role": "assistant", "content": first}, {"role": "user", "content": "Hello!"}]
        same, second, _ = talk(client, version=name, chat=chat, turns=turns)
        asked = [[{one["role"]: one["content"]} for one in some] for some in (turns[:1], turns)]
        families = [{"family": str(i), "prompts": [prompt]} for i, prompt in enumerate(asked)]
        done = evaluate(version(name, ws), behaviour_from_json({**form, "families": families}), ws)
        assert same == chat and [sample.reply for sample in done.samples] == [first, second]


def test_a_model_made_anew_is_loaded_anew(ws: Workspace, tmp_path: Path) -> None:
    """Its version is another, and so is what it says."""
    other = Workspace.open(shutil.copytree(ws.root, tmp_path / "ws"))
    app = create_app(other)
    with TestClient(app, base_url=ADDRESS, headers={TOKEN_HEADER: app.state.token}) as client:
        chat, before, _ = talk(client, version="small")
        shutil.rmtree(other.path("models", "small"))
        shutil.copytree(other.path("models", "ticking"), other.path("models", "small"))
        _, after, _ = talk(client, version="small")
        assert after.startswith("Certainly") and not before.startswith("Certainly")
        answer = client.post("/api/v1/chat", json={"chat": chat, "turns": [QUESTION]})
        assert answer.status_code == 400 and "begin a new chat" in answer.json()["error"]


def test_a_chat_beyond_the_context_says_so(client: TestClient) -> None:
    *_, events = talk(client, turns=[{"role": "user", "content": "word " * 300}])
    assert events[-1]["event"] == "error" and "the model's context of 128 tokens" in events[-1]["error"]


def test_a_thumb_and_a_case_of_a_chat(client: TestClient, ws: Workspace) -> None:
    chat, said, _ = talk(client, version="ticking")
    turns = [QUESTION, {"role": "assistant", "content": said}]
    body = {"chat": chat, "turns": turns, "who": "Ada"}
    given = client.post("/api/v1/thumbs", json={**body, "up": False, "note": "Certainly not"}).json()
    assert given == [{"who": "Ada", "up": False, "note": "Certainly not"}]
    (one,) = [each for each in client.get("/api/v1/thumbs").json() if each["chat"] == chat]
    assert one["version"]["name"] == "ticking" and (one["up"], one["note"]) == (False, "Certainly not")
    kept = client.post("/api/v1/cases", json={**body, "kind": "must-not-say", "words": "Certainly"}).json()
    assert kept["families"] == 1 and client.get("/api/v1/cases").json()["found"] == []
    (listed,) = client.get("/api/v1/cases?name=found").json()["found"]
    assert listed["expect"] == "Certainly" and "Ada" in listed["note"] and "of ticking" in listed["note"]
    assert client.get("/api/v1/cases?name=..%2Fno").status_code == 400
    (found,) = read_behaviours(ws.root / kept["file"])
    scores = [evaluate(version(name, ws), found, ws).scores for name in ("ticking", "small")]
    assert scores == [(1.0,), (0.0,)]


def test_a_split_chat_does_not_say_which_it_is(client: TestClient, ws: Workspace) -> None:
    assert client.get("/api/v1/splits/small/ticking").status_code == 404
    split = {"base": "small", "new": "ticking", "share": 0.5}
    for n in range(12):
        chat, said, events = talk(client, version=None, split=split)
        name = chat_version(ws, chat).name
        assert "ticking" not in json.dumps(events) and "small" not in json.dumps(events)
        assert said.startswith("Certainly") == (name == "ticking")  # it is with whom the hash says
        turns = [QUESTION, {"role": "assistant", "content": said}]
        up = not said.startswith("Certainly")
        client.post("/api/v1/thumbs", json={"chat": chat, "turns": turns, "up": up, "who": f"person {n}"})
        _, more, _ = talk(client, version=None, split=split, chat=chat)
        assert more == said
    ours = [one for one in thumbs(ws) if one["split"]]
    shown = [one for one in client.get("/api/v1/thumbs").json() if one["split"]]
    assert len(ours) == 12 and all(one["version"] is None for one in shown)
    found = client.get("/api/v1/splits/small/ticking").json()
    sides = [sum(one["version"]["name"] == name for one in ours) for name in ("small", "ticking")]
    assert [found["sides"][side]["with_thumbs"] for side in ("base", "new")] == sides
    assert found["change"] is None or found["change"]["value"] == -1.0


def test_a_steered_reply_takes_a_thumb_as_a_version(opened: Workspace) -> None:
    app = create_app(opened)
    with TestClient(app, base_url=ADDRESS, headers={TOKEN_HEADER: app.state.token}) as client:
        strengths = [{"index": 1, "how": "add", "amount": 0.5}]
        body = {"features": "tiny-resid.2", "prompt": "Ada walked", "strengths": strengths, "max_new_tokens": 4}
        begin = json.loads(client.post("/api/v1/steer", json=body).text.splitlines()[0])
        turns = [{"role": "user", "content": "Ada walked"}, {"role": "assistant", "content": "to"}]
        for side, up in (("plain", True), ("steered", False)):
            said = {"chat": begin["chats"][side], "turns": turns, "up": up, "who": "Ada"}
            assert client.post("/api/v1/thumbs", json=said).status_code == 200
        plain, steered = (chat_version(opened, begin["chats"][side]) for side in ("plain", "steered"))
        assert plain == version("tiny", opened) and steered.edit and steered.weights == plain.weights
        other = {**body, "strengths": [{**strengths[0], "amount": 0.6}]}
        again = json.loads(client.post("/api/v1/steer", json=other).text.splitlines()[0])
        assert chat_version(opened, again["chats"]["steered"]).hash != steered.hash
        raw = json.loads(client.post("/api/v1/steer", json={**body, "chat": False}).text.splitlines()[0])
        assert raw["chats"] is None
