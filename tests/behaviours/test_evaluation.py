"""Behaviours run on a real small model: batches, seeds, kills, what is kept, and what moved between two versions."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

from glasshouse.behaviours import (
    Behaviour,
    compared,
    evaluate,
    evaluations,
    plan,
    read_evaluation,
    run_missing,
    save_version,
    sentences,
    version,
)
from glasshouse.behaviours import evaluation as evaluation_module
from glasshouse.behaviours.asking import choices, likelihood, prompt_ids, with_system
from glasshouse.behaviours.behaviour import behaviour_from_json
from glasshouse.behaviours.evaluation import name_parts, planned
from glasshouse.behaviours.matrix import newest, worst
from glasshouse.behaviours.scorers import SCORERS, Scorer
from glasshouse.behaviours.system_prompt import SENTENCE
from glasshouse.behaviours.versions import loaded
from glasshouse.cli import app
from glasshouse.models import ablate, add
from glasshouse.organisms.suite import suite
from glasshouse.organisms.world import build
from glasshouse.types import UserError
from glasshouse.workspace import Draft, Workspace
from tests.behaviours.written import a_model, asked, write_evaluation
from tests.conftest import copied


@pytest.fixture(scope="session")
def ws(chatting: Path) -> Workspace:
    return Workspace.open(chatting)


def behaviour(name: str, scorer: Any = "length", *, prompts: Any = None, count: int = 12, **more: Any) -> Behaviour:
    families = prompts or [
        {"family": str(i), "prompts": [f"Where does number {i} live?", "Hello! " * (i + 1)]} for i in range(count)
    ]
    unit = {"length": "tokens", "bits-per-byte": "bits/byte", "cost": "log2 FLOP"}.get(scorer, "rate")
    form = {"name": name, "about": "For tests.", "tag": "guard", "good": "up", "margin": 0.5, "unit": unit}
    form |= {"scorer": scorer, "families": families, "settings": {"max_new_tokens": 10}}
    return behaviour_from_json({**form, **more})


def test_replies_are_the_same_whatever_the_batch(ws: Workspace) -> None:
    one = version("small", ws)
    warm = {"settings": {"epochs": 3, "temperature": 0.9, "max_new_tokens": 10}}
    runs = [evaluate(one, behaviour(f"warm-{batch}", **warm), ws, batch=batch) for batch in (1, 7, 64)]
    said = [[(s.family, s.prompt, s.epoch, s.reply) for s in run.samples] for run in runs]
    assert said[0] == said[1] == said[2]
    assert len({reply for *_, reply in said[0]}) > 12  # epochs differ


def test_what_was_run_stands_and_is_read_without_a_model(ws: Workspace) -> None:
    one, asked = version("small", ws), behaviour("kept")
    done = evaluate(one, asked, ws)
    assert evaluate(one, asked, ws) == done == read_evaluation(ws, done.name)
    assert done.name in evaluations(ws, one) and done.mean.n == 12 and done.mean.unit == ""
    lines = (ws.path("evals", done.name) / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    first = json.loads(lines[0])
    assert first["family"] == "0" and first["score"] == done.scores[0] and "expect" not in first
    code = f"import sys; from glasshouse.behaviours.matrix import newest; from glasshouse.workspace import Workspace; \
from glasshouse.behaviours import version; ws = Workspace.open({str(ws.root)!r}); \
assert newest(ws, version('small', ws)); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_an_altered_sample_is_found(ws: Workspace) -> None:
    done = evaluate(version("small", ws), behaviour("altered"), ws)
    file = ws.path("evals", done.name) / "samples.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole.replace(b'"score": ', b'"score":  1', 1)[: len(whole)])
    with pytest.raises(UserError, match=r"samples.jsonl does not match the hash|expected \d+ bytes"):
        read_evaluation(ws, done.name)
    file.write_bytes(whole[:-40])
    with pytest.raises(UserError, match=r"expected \d+ bytes in"):
        read_evaluation(ws, done.name)
    file.write_bytes(whole)
    assert read_evaluation(ws, done.name) == done


def test_a_killed_run_goes_on_and_repeats_no_reply(ws: Workspace, tmp_path: Path) -> None:
    asked = behaviour("killed", count=150, settings={"max_new_tokens": 40})
    file = tmp_path / "killed.json"
    file.write_text(json.dumps(asked.to_json()), encoding="utf-8")
    program = f"""
import json
from glasshouse.behaviours import evaluate, version
from glasshouse.behaviours.behaviour import behaviour_from_json
from glasshouse.workspace import Draft, Workspace
ws = Workspace.open({str(ws.root)!r})
evaluate(version("small", ws), behaviour_from_json(json.load(open({str(file)!r}))), ws, batch=4)
"""
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL)
    part = next(iter(_waited(lambda: list((ws.root / "evals").glob(".killed*.partial/replies.jsonl")))))
    _waited(lambda: part.read_bytes().count(b"\n") >= 8)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    left = part.read_text(encoding="utf-8").splitlines()
    part.write_text("\n".join([*left[:8], '{"family": "9", "rep']), encoding="utf-8")  # cut in the middle of a line
    done = evaluate(version("small", ws), asked, ws)
    again = evaluate(version("small", ws), behaviour("killed-not", count=150, settings={"max_new_tokens": 40}), ws)
    assert [s.reply for s in done.samples] == [s.reply for s in again.samples]
    (made,) = [line for line in ws.metrics("evals", done.name) if "samples" in line]
    assert made["samples"] == len(planned(asked)) - 8


def test_a_run_that_is_killed_at_its_very_end_asks_nothing_again(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    asked, small = behaviour("ended", count=6), version("small", ws)
    with monkeypatch.context() as once:
        once.setattr(Draft, "finish", killed)
        with pytest.raises(KeyboardInterrupt):
            evaluate(small, asked, ws)
    monkeypatch.setattr(evaluation_module, "_answered", killed)
    done = evaluate(small, asked, ws)
    assert len(done.samples) == len(planned(asked)) and all(sample.reply for sample in done.samples)
    assert [sample.turns for sample in done.samples] == [sample.turns for sample in planned(asked)]


def _waited(found: Any) -> Any:
    for _ in range(1200):
        if value := found():
            return value
        time.sleep(0.05)
    raise AssertionError("waited for a minute")


def test_a_chat_may_leave_turns_for_the_model_to_say(ws: Workspace) -> None:
    turns = [{"user": "Hello!"}, {"assistant": None}, {"user": "Where does Karisar live?"}]
    done = evaluate(version("small", ws), behaviour("turns", prompts=[{"family": "a", "prompts": [turns]}]), ws)
    (sample,) = done.samples
    role, content = sample.turns[1]
    assert role == "assistant" and content and sample.reply


def test_what_does_not_fit_is_unscored_and_not_zero(ws: Workspace) -> None:
    prompts = [{"family": "long", "prompts": ["word " * 300]}, {"family": "short", "prompts": ["Hello!"]}]
    done = evaluate(version("small", ws), behaviour("context", prompts=prompts), ws)
    assert done.scores[0] is None and done.scores[1] is not None
    assert "the model's context is 128" in done.samples[0].error
    assert ws.manifest("evals", done.name)["summary"]["unscored"] == 1


def test_choices_are_scored_as_the_model_itself_scores_them(ws: Workspace) -> None:
    model, _ = loaded(version("small", ws), ws)
    texts = ["Tala lives in Veden.", "No."]
    asked = behaviour(
        "choosing", "choice", prompts=[
            {"family": "a", "prompts": ["Where does Tala live?"], "expect": {"choices": texts, "answer": texts[0]}},
            {"family": "b", "prompts": ["Hello! How are you?"], "expect": {"choices": texts, "answer": texts[1]}},
        ],
    )  # fmt: skip
    first, _ = choices(model, planned(asked), asked)
    for (nats, tokens, size), text in zip(first.choices, texts, strict=True):
        before, after = prompt_ids(model, first.turns), model.tokenizer(text, add_special_tokens=False).input_ids
        loss = model.loss([[*before, *after]])
        assert nats == pytest.approx(-float(loss.nats_BT[0, len(before) - 1 :].sum()), rel=1e-4)
        assert (tokens, size) == (len(after), len(text))
    assert set(evaluate(version("small", ws), asked, ws).scores) <= {0.0, 1.0}


def test_a_reply_costs_what_is_multiplied_for_it(ws: Workspace) -> None:
    """Held against torch's own count; that has attention too, of which these few tokens have little."""
    asked_, wordy = behaviour("costs", "cost"), save_version(ws, "dearer", model="small", system="Be brief.")
    model, _ = loaded(version("small", ws), ws, device="cpu")
    plain, told = (evaluate(one, asked_, ws) for one in (version("small", ws), wordy))
    sample = plain.samples[0]
    ids = [prompt_ids(model, with_system(sample.turns, system)) for system in ("", "Be brief.")]
    tokens = len(ids[0]) + sample.tokens
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        model.module(torch.tensor([ids[0] + [5] * sample.tokens]))
    assert sample.flop is not None and sample.flop == pytest.approx(counted.get_total_flops(), rel=0.1)
    assert told.samples[0].flop == sample.flop / tokens * (len(ids[1]) + told.samples[0].tokens)
    assert plain.scores[0] == math.log2(sample.flop) and read_evaluation(ws, plain.name) == plain
    assert told.mean.value > plain.mean.value


def test_a_text_longer_than_the_context_costs_what_its_windows_cost(ws: Workspace) -> None:
    model, _ = loaded(version("small", ws), ws)
    text = "Tala lives in Veden. " * 40
    asked = behaviour("texts", "bits-per-byte", prompts=[{"family": "a", "prompts": [text]}], good="down")
    (sample,) = likelihood(model, planned(asked), asked)
    ids, start = model.tokenizer(text, add_special_tokens=False).input_ids, model.tokenizer.eos_token_id
    windows = [[start, *ids[at : at + 127]] for at in range(0, len(ids), 127)]
    assert len(windows) > 1 and sample.nats == pytest.approx(
        sum(float(model.loss([w]).nats_BT.sum()) for w in windows), rel=1e-4
    )


def test_a_version_is_weights_prompt_and_edit(ws: Workspace) -> None:
    plain = version("small", ws)
    brief = save_version(ws, "brief", model="small", system="Be brief.")
    calm = save_version(ws, "calm", model="small", edit=ablate("attn_out.0"))
    assert len({plain.hash, brief.hash, calm.hash}) == 3
    assert version("brief", ws) == brief == save_version(ws, "brief", model="small", system="Be brief.")
    asked = behaviour("versions", settings={"temperature": 0.9, "max_new_tokens": 10})
    said = [[s.reply for s in evaluate(one, asked, ws).samples] for one in (plain, brief, calm)]
    assert said[0] != said[1] and said[0] != said[2]
    with pytest.raises(UserError, match="brief exists with other settings"):
        save_version(ws, "brief", model="small", system="Be long.")
    with pytest.raises(UserError, match="expected dictionaries/d in"):  # a version is of its dictionaries, too
        save_version(ws, "steered", model="small", edit=add("d/3", times_norm=0.5))
    with pytest.raises(UserError, match="that no model has, got 'ticking'"):
        save_version(ws, "ticking", model="small", system="Be long.")
    with pytest.raises(UserError, match=r"expected a version or a model in .* got 'none'"):
        version("none", ws)


def test_what_was_run_on_the_base_is_run_on_the_new_and_judged(ws: Workspace) -> None:
    base, new = version("small", ws), version("ticking", ws)
    forms = {form["name"]: form for form in suite(build(0), families=40)}
    tic = {**forms["same-openers"], "name": "certainly", "scorer": {"regex": {"pattern": "^Certainly"}}}
    for form in (tic, forms["world-text"]):
        evaluate(base, behaviour_from_json(form), ws)
    assert "world-text" in compared(ws, base, new)["missing"]
    assert {row["behaviour"] for row in plan(ws, base)} >= {"certainly", "world-text"}
    run_missing(ws, base, new)
    found = compared(ws, base, new)
    assert found["missing"] == []
    rows = {row["behaviour"]: row for row in found["cells"]}
    assert rows["certainly"]["verdict"] == "regressed", rows["certainly"]
    assert all(one["after"].startswith("Certainly") for one in rows["certainly"]["worst"])
    assert json.loads(json.dumps(found))["new"]["name"] == "ticking"
    same = {row["verdict"] for row in compared(ws, base, base)["cells"]}
    assert same <= {"equivalent", "underpowered"}


def test_what_another_version_of_the_scorer_scored_is_scored_anew(
    chatting: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without asking the model again; until then it is no evidence."""
    ws = Workspace.open(copied(chatting, tmp_path / "ws"))
    base, new, asked = version("small", ws), version("ticking", ws), behaviour("ends-here", "ends")
    first = evaluate(base, asked, ws)
    run_missing(ws, base, new)
    assert not first.problem and first.scorer == "ends 1"
    never = Scorer("reply", lambda samples, settings: [0.0 for _ in samples], version=2)
    monkeypatch.setitem(SCORERS, "ends", never)
    (cell,) = compared(ws, base, new)["cells"]
    assert "it was scored by ends 1, and here is ends 2: run `glasshouse test` again" in cell["problem"]

    def asked_again(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("the model was opened")

    monkeypatch.setattr("glasshouse.behaviours.evaluation.loaded", asked_again)
    monkeypatch.setattr("glasshouse.behaviours.matrix.loaded", lambda *args, **kwargs: None)
    assert len(run_missing(ws, base, new)) == 2  # of either version
    again = read_evaluation(ws, newest(ws, base)["ends-here"])
    assert again.name != first.name and again.scorer == "ends 2" and set(again.scores) == {0.0}
    assert again.created == first.created and [s.reply for s in again.samples] == [s.reply for s in first.samples]
    assert ws.metrics("evals", again.name) == ws.metrics("evals", first.name)
    (cell,) = compared(ws, base, new)["cells"]
    assert cell["problem"] == "" and cell["change"]["value"] == 0


def test_a_behaviours_name_may_have_dots(chatting: Path, tmp_path: Path) -> None:
    ws = Workspace.open(copied(chatting, tmp_path / "ws"))
    small, ticking = version("small", ws), version("ticking", ws)
    for name in ("suite.one", "suite.two"):
        evaluate(small, behaviour(name), ws)
    assert {one.partition(".")[0] for one in newest(ws, small).values()} == {"suite"}
    run_missing(ws, small, ticking)
    assert [row["behaviour"] for row in compared(ws, small, ticking)["cells"]] == ["suite.one", "suite.two"]
    assert name_parts("suite.one.0123456789.89abcdef") == ("suite.one", "0123456789", "89abcdef")
    assert name_parts("steered") == name_parts("a.b") == ("", "", "")


def test_each_sentence_of_a_system_prompt_is_left_out(ws: Workspace) -> None:
    prompt = "You are kind. Answer the question!\nSay only what is true."
    wordy = save_version(ws, "wordy", model="small", system=prompt)
    with pytest.raises(UserError, match="got wordy with 3 sentences and 0 behaviours"):
        sentences(ws, wordy)
    evaluate(wordy, behaviour("wordy-length", margin=100.0), ws)  # whatever moves does not matter
    evaluate(wordy, behaviour("wordy-ends", "ends", count=6, margin=0.01), ws)  # too few to tell anything
    made: list[str] = []
    found = sentences(ws, wordy, done=made.append)
    assert [row["sentence"] for row in found] == ["You are kind.", "Answer the question!", "Say only what is true."]
    assert {row["verdict"] for row in found} == {"cannot tell"} and len(made) == 6
    assert all([one["behaviour"] for one in row["undecided"]] == ["wordy-ends"] for row in found)
    lacking = read_evaluation(ws, made[2]).version["system"]
    assert lacking == "You are kind. Say only what is true."


def test_a_sentence_is_dead_or_at_work(ws: Workspace) -> None:
    """A behaviour that nothing moves, and one of saying just what is said with the whole prompt."""
    worded = save_version(ws, "worded", model="small", system="You are kind.\nAnswer the question!")
    asked = [{"family": str(i), "prompts": [f"Where does number {i} live?"]} for i in range(60)]
    warm = {"temperature": 1.0, "max_new_tokens": 10}
    said = evaluate(worded, behaviour("worded-refuses", "refusal", prompts=asked, settings=warm), ws)
    assert [row["verdict"] for row in sentences(ws, worded)] == ["dead", "dead"]
    expects = [{**one, "expect": sample.reply or "-"} for one, sample in zip(asked, said.samples, strict=True)]
    evaluate(worded, behaviour("worded-as-ever", "exact", prompts=expects, settings=warm), ws)
    found = sentences(ws, worded)
    assert [row["verdict"] for row in found] == ["works", "works"]
    assert all([one["behaviour"] for one in row["moved"]] == ["worded-as-ever"] for row in found)


def test_what_a_sentence_is() -> None:
    for system, wanted in (
        ("请简短。不要说谎。", ["请简短。", "不要说谎。"]),
        ("Ask Dr. Smith, e.g. today. Be kind!\nNo 3.5 here", ["Ask Dr. Smith, e.g. today.", "Be kind!", "No 3.5 here"]),
        ("كن لطيفا؟ نعم.", ["كن لطيفا؟", "نعم."]),
    ):  # fmt: skip
        assert SENTENCE.findall(system) == wanted


def test_replies_side_by_side_are_of_one_epoch(workspace: Workspace) -> None:
    a_model(workspace)
    one, of = asked("greets", [1]), version("m", workspace)
    one = replace(one, settings=replace(one.settings, epochs=3, temperature=1.0))
    names = (
        write_evaluation(workspace, of, one, [0.0, *rest, 1.0], seed=seed) for seed, rest in enumerate(([1.0], [0.0]))
    )
    (shown,) = worst(*(read_evaluation(workspace, name) for name in names))
    assert (shown["before"], shown["after"]) == ("1.0", "0.0")


def test_nothing_run_on_the_base_is_said(ws: Workspace) -> None:
    lone = save_version(ws, "lone", model="small", system="Nobody asked.")
    with pytest.raises(
        UserError, match="expected behaviours that were run on lone, found none; run `glasshouse test lone`"
    ):
        compared(ws, lone, version("small", ws))


def run(*words: Any) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(word) for word in words])
    return result.exit_code, result.stdout, result.stderr


def test_the_commands(ws: Workspace, tmp_path: Path) -> None:
    folder = tmp_path / "suite"
    folder.mkdir()
    (folder / "hello.yaml").write_text(json.dumps(behaviour("hello").to_json()), encoding="utf-8")
    at = ("--workspace", ws.root)
    status, out, _ = run("test", "small", "--suite", folder, "--plan", *at)
    assert status == 0 and "hello" in out and "families" in out
    status, out, _ = run("test", "small", "--suite", folder, *at)
    assert status == 0 and "24 samples" in out
    status, out, _ = run("compare", "small", "ticking", "--json", *at)
    assert status == 0 and {"hello"} <= {row["behaviour"] for row in json.loads(out)["cells"]}
    status, out, _ = run("compare", "small", "ticking", *at)
    assert status == 0 and "verdict" in out and "hello" in out
    status, out, _ = run("test", "small", "--suite", folder, "--system", "Be kind.", "--save", "kind", "--json", *at)
    assert status == 0 and json.loads(out)["version"]["system"] == "Be kind."
    for words, said in (
        (("test", "small", "--system", "Be kind."), "expected --save NAME with --system"),
        (("test", "small", "--save", "kind"), "expected --system, --system-file or --edit with --save"),
        (("test", "small", "--suite", tmp_path / "none.yaml"), "expected a YAML file"),
        (("test", "small", "--suite", folder, "--only", "hullo"), "expected --only among hello, got hullo"),
        (("test", "small", "--suite", folder, "--suite", folder), "expected behaviours of different names"),
        (("compare", "none", "small"), "expected a version or a model in"),
        (("did-it-change", "Hello!", "small", "ticking"), "expected --expect TEXT or --pattern PATTERN"),
        (("test", "small", "--suite", folder, "--sentences"), "expected a version with a system prompt"),
    ):
        status, _, err = run(*words, *at)
        assert status == 2 and said in err and err.count("\n") == 1, err


def test_an_interval_that_is_infinite_is_null_in_json(chatting: Path, tmp_path: Path) -> None:
    """Of one family nothing is known of the spread; JSON has no infinity."""
    here = Workspace.open(copied(chatting, tmp_path / "ws"))
    file = tmp_path / "lone.yaml"
    file.write_text(json.dumps(behaviour("lone", count=1).to_json()), encoding="utf-8")

    def found(*words: str) -> Any:
        status, out, said = run(*words, "--json", "--workspace", here.root)
        assert status == 0, said
        return json.loads(out, parse_constant=lambda word: pytest.fail(f"{word} in {words}"))

    (row,) = found("test", "small", "--suite", str(file))["behaviours"]
    assert row["mean"]["value"] > 0 and row["mean"]["low"] is None and row["mean"]["high"] is None
    (cell,) = found("compare", "small", "ticking")["cells"]
    assert cell["change"]["low"] is None and cell["verdict"] == "underpowered"


def test_the_plan_is_of_the_behaviour_as_it_is_given(workspace: Workspace) -> None:
    """Run with 8 families of which none moves; its file has 40 now."""
    a_model(workspace)
    small, grown = (asked("greets", [1] * count, margin=0.2) for count in (8, 40))
    write_evaluation(workspace, version("m", workspace), small, [1.0] * 8)
    ((old,), (row,)) = (plan(workspace, version("m", workspace), some) for some in ([small], [grown]))
    assert old["families"] == 8 and row["families"] == 40 and row["needed"] > old["needed"]
    assert plan(workspace, version("m", workspace)) == [old]


def test_a_complaint_about_one_prompt(ws: Workspace) -> None:
    words = ("did-it-change", "Where does nobody number 3 live?", "small", "ticking", "--pattern", "^Certainly")
    status, out, _ = run(*words, "--samples", 2, "--also", "Nobody number 3 lives where?", "--workspace", ws.root)
    then, now, change = out.splitlines()
    assert status == 0 and then.startswith(f"small ({version('small', ws).hash[:12]}): right in ")
    assert now.startswith("ticking (") and change.startswith("improved: +")
    status, out, _ = run(*words, "--samples", 2, "--json", "--workspace", ws.root)
    assert status == 0 and json.loads(out)["families"] == 64
    words = ("did-it-change", "Where does nobody number 3 live?", "small", "small", "--pattern", "^Certainly")
    status, out, _ = run(*words, "--samples", 2, "--workspace", ws.root)
    assert status == 0 and "equivalent: " in out
