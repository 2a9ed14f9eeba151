"""Calls to a real server on loopback that answers well, badly, late or never; and to a model of the workspace."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from glasshouse.calls import Budget, Call, Calls, Halted, LanguageModel, Patience, Record, language_model
from glasshouse.calls.endpoints import _asked_to_wait
from glasshouse.types import UserError
from glasshouse.workspace import Workspace

QUICK = Patience(tries=3, timeout=0.5, first=0.01, longest=3.0, failures=4, at_once=4)


def calls_of(ws: Workspace, count: int, model: str = "openai/mini", **more: Any) -> list[Call]:
    return [Call(model=language_model(model, ws), messages=(("user", f"q{i}"),), **more) for i in range(count)]


def lines(ws: Workspace) -> list[dict[str, Any]]:
    file = ws.root / "calls.jsonl"
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.is_file() else []


def test_what_is_sent_and_what_is_kept(workspace: Workspace, endpoint: Any) -> None:
    messages = (("system", "Be short."), ("user", "Hi?"))
    for kind in ("openai", "anthropic"):
        call = Call(model=language_model(f"{kind}/mini", workspace), messages=messages, max_tokens=9)
        assert Calls(workspace, patience=QUICK).ask([call])[0].text == "Verdict: yes"
    (path, headers, body), (path_a, headers_a, body_a) = endpoint.asked
    assert path == "/v1/chat/completions" and headers["Authorization"] == "Bearer sk-secret-o"
    assert body == {
        "model": "mini", "max_tokens": 9, "temperature": 0.0,
        "messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Hi?"}],
    }  # fmt: skip
    assert path_a == "/v1/messages" and headers_a["x-api-key"] == "sk-secret-a" and headers_a["anthropic-version"]
    assert body_a["system"] == "Be short." and body_a["messages"] == [{"role": "user", "content": "Hi?"}]
    kept = lines(workspace)
    assert [entry["asked"]["kind"] for entry in kept] == ["openai", "anthropic"]
    assert kept[0]["reply"] == "Verdict: yes" and kept[0]["tokens"] == [7, 3] and kept[0]["when"]
    assert "sk-secret" not in (workspace.root / "calls.jsonl").read_text()


def test_a_run_is_answered_again_offline_and_a_call_twice_is_one(workspace: Workspace, endpoint: Any) -> None:
    endpoint.answer = lambda number, text: f"said {text}"
    asked = calls_of(workspace, 5) + calls_of(workspace, 3)
    first = Calls(workspace, patience=QUICK).ask(asked)
    assert [reply.text for reply in first] == [f"said q{i}" for i in (0, 1, 2, 3, 4, 0, 1, 2)]
    assert len(endpoint.asked) == 5
    endpoint.close()
    again = Calls(workspace, patience=QUICK, budget=Budget(calls=0))
    assert again.ask(asked) == first and again.sent == 0


BAD = {
    "never": lambda number, text: None,
    "dripping": lambda number, text: (b" " for _ in itertools.count()),
    "too many": (429, {"Retry-After": "0"}, b"{}"),
    "broken": (500, {}, b"oh"),
    "overloaded": (529, {}, b"{}"),
    "cut": (200, {}, b'{"choices": [{"message": {"cont'),
    "html": (200, {"Content-Type": "text/html"}, b"<html>Welcome</html>"),
    "no choices": (200, {}, b'{"choices": []}'),
    "a list": (200, {}, b"[1, 2]"),
    "nested deep": (200, {}, b"[" * 200_000),
    "endless tokens": (
        200,
        {},
        b'{"usage": {"prompt_tokens": Infinity}, "choices": [{"message": {"content": "yes"}}]}',
    ),
    "tokens back": (200, {}, b'{"usage": {"prompt_tokens": -9}, "choices": [{"message": {"content": "yes"}}]}'),
    "no text": (200, {}, b'{"choices": [{"message": {"content": null}}]}'),
    "shorter than said": (200, {"Content-Length": "5000"}, b'{"choices"'),
    "nonsense": "colourless green ideas",
}


@pytest.mark.parametrize("bad", BAD, ids=list(BAD))
def test_a_bad_answer_is_tried_again_and_never_kept(workspace: Workspace, endpoint: Any, bad: str) -> None:
    wrong = BAD[bad] if callable(BAD[bad]) else lambda number, text: BAD[bad]
    endpoint.answer = wrong
    (call,) = calls_of(workspace, 1)
    asking = Calls(workspace, patience=QUICK)
    failed = asking.ask([call], sensible=lambda text: "yes" in text)[0]
    assert failed.text == "" and failed.error.startswith("openai/mini: ") and len(endpoint.asked) == 3
    assert asking.sent == 3 and not lines(workspace)
    endpoint.answer = lambda number, text: wrong(number, text) if number < 4 else "Verdict: yes"
    assert asking.ask([call], sensible=lambda text: "yes" in text)[0].text == "Verdict: yes"  # nothing bad was kept
    assert len(endpoint.asked) == 5 and len(lines(workspace)) == 1


def test_half_a_character_is_kept_as_a_whole_one(workspace: Workspace, endpoint: Any) -> None:
    endpoint.answer = lambda number, text: (200, {}, b'{"choices": [{"message": {"content": "yes \\ud800"}}]}')
    (first,) = Calls(workspace, patience=QUICK).ask(calls_of(workspace, 1))
    assert first.text == "yes ?" and Calls(workspace).ask(calls_of(workspace, 1)) == [first]


def test_an_endpoint_is_given_the_time_it_asks_for(workspace: Workspace, endpoint: Any) -> None:
    began: list[float] = []

    def answer(number: int, text: str) -> Any:
        began.append(time.monotonic())
        return "yes" if time.monotonic() - began[0] >= 1 else (429, {"Retry-After": "1"}, b"{}")

    endpoint.answer = answer  # its own second try would come after a hundredth of a second
    patience = Patience(tries=2, timeout=5.0, first=0.01)
    assert Calls(workspace, patience=patience).ask(calls_of(workspace, 1))[0].text == "yes"
    assert len(endpoint.asked) == 2
    assert _asked_to_wait("2.5") == 2.5 and _asked_to_wait("-3") == 0 and _asked_to_wait("soon") == 0
    assert _asked_to_wait("Fri, 31 Dec 9999 23:59:59 GMT") > 1e9


def test_a_refused_call_is_not_tried_again(workspace: Workspace, endpoint: Any) -> None:
    endpoint.answer = lambda number, text: (
        "yes" if text == "q1" else (400, {}, b'{"error": "too long for sk-secret-o"}')
    )  # fmt: skip
    replies = Calls(workspace, patience=QUICK).ask(calls_of(workspace, 2))
    assert replies[1].text == "yes" and len(endpoint.asked) == 2
    assert "status 400: " in replies[0].error and "too long" in replies[0].error
    assert "sk-secret" not in replies[0].error


def test_calls_that_an_endpoint_rejects_do_not_take_it_for_down(workspace: Workspace, endpoint: Any) -> None:
    endpoint.answer = lambda number, text: "yes" if text == "q0" else (400, {}, b"filtered")
    asked, one = calls_of(workspace, 12), Patience(tries=1, at_once=1, failures=3)
    for _ in range(2):  # what was answered comes from the record the second time
        replies = Calls(workspace, patience=one).ask(asked)
        assert [bool(reply.error) for reply in replies] == [False] + [True] * 11
    with pytest.raises(Halted, match="failed one after another"):  # one that never answered may be another thing
        Calls(workspace, patience=one).ask(calls_of(workspace, 12, "openai/other")[1:])


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_wrong_key_or_name_stops_it_at_once(workspace: Workspace, endpoint: Any, status: int) -> None:
    endpoint.answer = lambda number, text: (status, {}, b'{"error": "sk-secret-o"}')
    with pytest.raises(Halted, match=f"answers {status} to a call of openai/mini; check") as halted:
        Calls(workspace, patience=QUICK).ask(calls_of(workspace, 40))
    assert len(endpoint.asked) <= QUICK.at_once and "sk-secret" not in str(halted.value)


def test_the_key_and_the_address_come_from_the_environment(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert language_model("openai/a/b", workspace).at == "https://api.openai.com/v1"
    with pytest.raises(Halted, match="OPENAI_API_KEY, which is not set"):  # asked of nobody
        Calls(workspace, patience=QUICK).ask(calls_of(workspace, 1))
    for address in ("ftp://x/v1", "http://key@host/v1", "http://host/v1?key=1", "host"):
        with pytest.raises(UserError, match="OPENAI_BASE_URL to be an address") as error:
            language_model("openai/a", workspace, {"OPENAI_BASE_URL": address})
        assert "key@" not in str(error.value)
    for key in ("ключ", "abc\n", "a b"):
        with pytest.raises(UserError, match="OPENAI_API_KEY to be plain letters") as error:
            language_model("openai/a", workspace, {"OPENAI_API_KEY": key})
        assert key not in str(error.value)
    for name in ("mini", "openai/", "google/mini", "/x"):
        with pytest.raises(UserError, match="openai/NAME"):
            language_model(name, workspace)
    with pytest.raises(UserError, match="expected models/nobody"):
        language_model("local/nobody", workspace)


def test_a_spent_budget_stops_it_and_it_goes_on(workspace: Workspace, endpoint: Any) -> None:
    asked = calls_of(workspace, 20)
    with pytest.raises(Halted, match=r"the budget of 7 calls .* is spent .*run the same again"):
        Calls(workspace, patience=QUICK, budget=Budget(calls=7)).ask(asked)
    assert len(endpoint.asked) == 7 == len(lines(workspace))
    one = Patience(at_once=1, tries=1)
    with pytest.raises(Halted, match="the budget of 35 tokens"):  # ten each
        Calls(workspace, patience=one, budget=Budget(tokens=35)).ask(asked)
    assert len(endpoint.asked) == 11
    assert all(reply.text for reply in Calls(workspace, patience=QUICK).ask(asked))
    assert len(endpoint.asked) == 20 == len(set(endpoint.texts))
    with pytest.raises(UserError, match="0 calls and tokens or more"):
        Budget(calls=-1)


def test_an_endpoint_that_is_down_is_left_alone(workspace: Workspace, endpoint: Any) -> None:
    endpoint.answer = lambda number, text: (503, {}, b"")
    with pytest.raises(Halted, match=r"calls of openai/mini at http.* failed one after another \(status 503\)"):
        Calls(workspace, patience=QUICK).ask(calls_of(workspace, 200))
    assert len(endpoint.asked) < 200
    endpoint.answer = lambda number, text: (503, {}, b"") if int(text[1:]) % 2 else "yes"  # every other one
    one = Patience(tries=1, at_once=1, failures=2)
    replies = Calls(workspace, patience=one).ask(calls_of(workspace, 20))
    assert [bool(reply.error) for reply in replies] == [False, True] * 10
    endpoint.answer = lambda number, text: "nonsense"  # it is up, and says nothing
    replies = Calls(workspace, patience=QUICK).ask(calls_of(workspace, 30, "openai/other"), sensible=lambda text: False)
    assert {reply.error for reply in replies} == {"openai/other: an answer that makes no sense"}


def test_nobody_there(workspace: Workspace, endpoint: Any) -> None:
    asked = calls_of(workspace, 1)
    endpoint.close()
    assert "no connection" in Calls(workspace, patience=QUICK).ask(asked)[0].error


def test_a_killed_run_repeats_no_answered_call(workspace: Workspace, endpoint: Any) -> None:
    endpoint.answer = lambda number, text: f"said {text}" if number < 9 else None  # the tenth hangs
    program = f"""
from glasshouse.calls import Call, Calls, Patience, language_model
from glasshouse.workspace import Workspace
ws = Workspace.open({str(workspace.root)!r})
model = language_model("openai/mini", ws)
Calls(ws, patience=Patience(at_once=1)).ask([Call(model=model, messages=(("user", f"q{{i}}"),)) for i in range(25)])
"""
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(endpoint.asked) < 10 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert len(lines(workspace)) == 9
    with open(workspace.root / "calls.jsonl", "ab") as handle:  # as if it had been killed while writing
        handle.write(b'{"key": "0f", "asked": {"kind')
    endpoint.answer = lambda number, text: f"said {text}"
    replies = Calls(workspace, patience=QUICK).ask(calls_of(workspace, 25))
    assert [reply.text for reply in replies] == [f"said q{i}" for i in range(25)]
    assert len(endpoint.asked) == 26 and endpoint.texts.count("q9") == 2  # only the one that was under way
    assert len(lines(workspace)) == 25  # the line that was cut is gone


def test_an_altered_record_is_found(workspace: Workspace, endpoint: Any) -> None:
    Calls(workspace, patience=QUICK).ask(calls_of(workspace, 3))
    file = workspace.root / "calls.jsonl"
    whole = file.read_text()
    for was, becomes in (
        ('"content": "q', '"content": "p'), ('{"key"', "{key"), ("Verdict: yes", "Verdict: no"),
        ('"tokens": [7', '"tokens": [1'), ('"asked": ', '"asked": ' + "[" * 100_000),
    ):  # fmt: skip
        altered = whole.replace(was, becomes, 1)
        assert altered != whole
        file.write_text(altered)
        with pytest.raises(UserError, match=r"calls.jsonl, line 1: expected a call with its key"):
            Calls(workspace, patience=QUICK).ask(calls_of(workspace, 3))


def test_a_record_of_lines_without_a_hash_is_read(workspace: Workspace, endpoint: Any) -> None:
    asked = calls_of(workspace, 3)
    first = Calls(workspace, patience=QUICK).ask(asked)
    old = [{key: value for key, value in entry.items() if key != "hash"} for entry in lines(workspace)]
    (workspace.root / "calls.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in old))
    assert Calls(workspace, patience=QUICK, budget=Budget(calls=0)).ask(asked) == first


def test_the_call_on_the_page_of_formats_is_read(tmp_path: Path) -> None:
    page = (Path(__file__).parent.parent.parent / "docs" / "formats.md").read_text(encoding="utf-8")
    (line,) = [line for line in page.splitlines() if line.startswith('{"key": ')]
    (tmp_path / "calls.jsonl").write_text(line + "\n", encoding="utf-8")
    entry = json.loads(line)
    model = LanguageModel(**{key: entry["asked"][key] for key in ("kind", "name", "at")})
    messages = tuple((one["role"], one["content"]) for one in entry["asked"]["messages"])
    call = Call(model=model, messages=messages, max_tokens=2048)
    assert Record(tmp_path / "calls.jsonl").get(call.key) == entry["reply"]


def test_a_model_of_the_workspace(chatting: Path) -> None:
    ws = Workspace.open(chatting)
    model = language_model("local/small", ws)
    assert model.at == ws.manifest("models", "small")["hash"]
    texts = ["Where does Tala live?", "Hello!", "word " * 500]
    asked = [Call(model=model, messages=(("user", text),), max_tokens=12) for text in texts]
    asking = Calls(ws, device="cpu")
    replies = asking.ask(asked)
    assert replies[0].text and replies[1].text and "beyond the model's context of 128 tokens" in replies[2].error
    assert asking.sent == 2 and asking.tokens > 10
    other = Calls(ws)
    assert other.ask(asked[:2]) == replies[:2] and not other._local  # of the record: no model was opened
    senseless = Call(model=model, messages=(("user", "Hello!"),), max_tokens=11)
    assert "makes no sense" in asking.ask([senseless], sensible=lambda text: False)[0].error
    more = [Call(model=model, messages=(("user", f"Hello {n}!"),), max_tokens=12) for n in range(5)]
    with pytest.raises(Halted, match="the budget of 3 calls"):
        Calls(ws, budget=Budget(calls=3), device="cpu").ask(more)
    again = Calls(ws, budget=Budget(calls=3), device="cpu")
    assert all(reply.text for reply in again.ask(more)) and again.sent == 2  # what was paid for is kept
    with pytest.raises(Halted, match="the budget of 0 calls"):
        Calls(ws, budget=Budget(calls=0), device="cpu").ask([senseless])
