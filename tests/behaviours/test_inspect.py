"""Versions as models of Inspect, and its logs imported: real tasks on a small grown model."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from glasshouse.behaviours import compared, evaluations, save_version, version
from glasshouse.behaviours.asking import prompt_ids
from glasshouse.behaviours.provenance import touched
from glasshouse.behaviours.versions import loaded
from glasshouse.cli import app
from glasshouse.models import ablate
from glasshouse.types import UserError
from glasshouse.workspace import Workspace

inspect_ai = pytest.importorskip("inspect_ai", reason="inspect-ai is not installed: pip install 'glasshouse[inspect]'")

from glasshouse.behaviours.inspect_logs import import_log  # noqa: E402

ASKED = [f"Where does number {i} live?" for i in range(8)]


@pytest.fixture(scope="module")
def ws(chatting: Path) -> Workspace:
    ws = Workspace.open(chatting)
    save_version(ws, "kindly", model="small", system="Be kind.", edit=ablate("attn_out.0"))
    return ws


def run(ws: Workspace, folder: Path, of: str = "small", *, epochs: int = 1, form: str = "json", **config: Any) -> Any:
    """The task run on the version: (log, file). Each reply is right that has an `e` in it."""
    from inspect_ai import Task, eval
    from inspect_ai.dataset import Sample
    from inspect_ai.scorer import match
    from inspect_ai.solver import generate

    samples = [Sample(input=text, target="Certainly", id=f"q{i}") for i, text in enumerate(ASKED)]
    task = Task(name="replies", dataset=samples, solver=generate(), scorer=match(location="begin"), epochs=epochs)
    (log,) = eval(
        task, model=f"glasshouse/{of}", model_args={"workspace": str(ws.root), "device": "cpu"}, display="none",
        log_dir=str(folder), log_format=form, fail_on_error=False, max_tokens=10, **config,
    )  # fmt: skip
    return log, next(iter(sorted(folder.glob(f"*.{form}"), key=lambda file: file.stat().st_mtime)[-1:]))


def replies(log: Any) -> dict[Any, str]:
    return {(sample.id, sample.epoch): sample.output.completion for sample in log.samples}


def test_a_version_with_its_prompt_and_edit_answers(ws: Workspace, tmp_path: Path) -> None:
    log, _ = run(ws, tmp_path, "kindly")
    assert log.status == "success", log.error
    model, edit = loaded(version("kindly", ws), ws, device="cpu")
    for i, text in enumerate(ASKED):
        ids = prompt_ids(model, [("system", "Be kind."), ("user", text)])
        with model.edit(edit):
            made = model.generate(ids, 10)
        sample = next(one for one in log.samples if one.id == f"q{i}")
        assert sample.output.completion == model.tokenizer.decode(made.ids, skip_special_tokens=True).strip()
        assert (sample.output.usage.input_tokens, sample.output.usage.output_tokens) == (len(ids), len(made.ids))
        assert sample.output.stop_reason == ("stop" if made.stopped == "end of text" else "max_tokens")
        assert sample.output.metadata["glasshouse"] == version("kindly", ws).to_json()


def test_samples_wait_for_one_batch(ws: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from glasshouse.behaviours.inspect_provider import GlasshouseAPI

    sizes, make = [], GlasshouseAPI._make
    monkeypatch.setattr(GlasshouseAPI, "_make", lambda self, batch: (sizes.append(len(batch)), make(self, batch))[1])
    log, _ = run(ws, tmp_path, epochs=3, temperature=0.9, seed=3)
    assert sum(sizes) == 24 and len(sizes) < 12
    again, _ = run(ws, tmp_path, epochs=3, temperature=0.9, seed=3, max_connections=1)
    assert sorted(replies(log).values()) == sorted(replies(again).values())  # whatever the batch
    assert len({replies(log)["q0", epoch] for epoch in (1, 2, 3)}) > 1
    other, _ = run(ws, tmp_path, epochs=3, temperature=0.9, seed=4)
    assert sorted(replies(log).values()) != sorted(replies(other).values())


def test_what_cannot_be_honoured_is_an_error(ws: Workspace, tmp_path: Path) -> None:
    from inspect_ai.model import get_model

    at = {"workspace": str(ws.root)}
    with pytest.raises(UserError, match=r"honours .*, got top_k"):
        get_model("glasshouse/small", config=inspect_ai.model.GenerateConfig(top_k=3), **at)
    with pytest.raises(UserError, match="expected model args among workspace, device and batch_size, got hurry"):
        get_model("glasshouse/small", hurry=True, **at)
    with pytest.raises(UserError, match="expected a version or a model in"):
        get_model("glasshouse/nobody", **at)
    with pytest.raises(UserError, match="got top_p"):
        run(ws, tmp_path, top_p=0.5)
    log, _ = run(ws, tmp_path, system_message="word " * 200)
    assert all("the context of small is 128" in sample.error.message for sample in log.samples)


def test_a_text_that_ends_the_reply(ws: Workspace, tmp_path: Path) -> None:
    plain, _ = run(ws, tmp_path)
    stop = next(reply for reply in replies(plain).values() if len(reply) > 4)[2:4].strip()
    cut, _ = run(ws, tmp_path, stop_seqs=[stop])
    for key, reply in replies(plain).items():
        assert replies(cut)[key] == reply.split(stop)[0].strip()
        sample = next(one for one in cut.samples if (one.id, one.epoch) == key)
        assert (sample.output.stop_reason == "stop") >= (stop in reply)


@pytest.mark.parametrize("form", ["json", "eval"])
def test_a_log_is_imported_and_compared(ws: Workspace, tmp_path: Path, form: str) -> None:
    settings = {"epochs": 2, "temperature": 0.5 if form == "eval" else 0.6}
    _, old = run(ws, tmp_path / "old", form=form, **settings)
    log, new = run(ws, tmp_path / "new", "ticking", form=form, **settings)
    first, second = import_log(old, ws), import_log(new, ws)
    assert import_log(old, ws) == first and not first.said and not first.incomplete
    assert first.evaluation.version == version("small", ws).to_json()
    assert second.evaluation.mean.value == pytest.approx(log.results.scores[0].metrics["accuracy"].value)
    assert [(s.family, s.epoch) for s in second.evaluation.samples][:3] == [("q0", 0), ("q0", 1), ("q1", 0)]
    rows = {row["behaviour"]: row for row in compared(ws, version("small", ws), version("ticking", ws))["cells"]}
    assert rows["replies-match"]["verdict"] == "improved" and rows["replies-match"]["prompts"] == 8
    status = CliRunner().invoke(app, ["compare", "small", "ticking", "--workspace", str(ws.root), "--json"])
    assert status.exit_code == 0 and "replies-match" in status.stdout
    status = CliRunner().invoke(app, ["compare", "small", "kindly", "--workspace", str(ws.root), "--json"])
    assert status.exit_code == 0 and "replies-match" in json.loads(status.stdout)["missing"]


def altered(file: Path, change: Any) -> Path:
    found = json.loads(file.read_text(encoding="utf-8"))
    change(found)
    made = file.with_name(f"altered-{len(list(file.parent.iterdir()))}.json")
    made.write_text(json.dumps(found), encoding="utf-8")
    return made


def test_the_header_is_not_believed(ws: Workspace, tmp_path: Path) -> None:
    save_version(ws, "header", model="small", system="Header.")
    _, file = run(ws, tmp_path, "header")

    def praise(log: dict[str, Any]) -> None:
        log["results"]["scores"][0]["metrics"]["accuracy"]["value"] = 0.99
        log["results"]["total_samples"] = 100
        log["samples"][2]["error"] = {"message": "lost", "traceback": "", "traceback_ansi": ""}
        log["samples"][3]["scores"] = {"match": {"value": "perhaps"}}

    found = import_log(altered(file, praise), ws)
    assert found.said == {"accuracy": 0.99} and found.incomplete == 92
    by_family = dict(zip([s.family for s in found.evaluation.samples], found.evaluation.scores, strict=True))
    errors = {s.family: s.error for s in found.evaluation.samples if s.error}
    assert by_family["q2"] is None and by_family["q3"] is None and by_family["q0"] is not None
    assert errors == {"q2": "lost", "q3": "a score that is no number: 'perhaps'"}
    with pytest.raises(UserError, match="exists with other settings"):
        import_log(file, ws)  # the same task and version with another log


def test_who_judges_is_of_what_is_compared(ws: Workspace, kept_log: Path) -> None:
    hashes = []
    for judge in ("rule/a", "rule/b"):

        def judged(log: dict[str, Any], judge: str = judge) -> None:
            log["eval"]["model_roles"] = {"grader": {"model": judge}}

        hashes.append(import_log(altered(kept_log, judged), ws).evaluation.behaviour.hash)
    assert hashes[0] != hashes[1]


def test_scores_on_another_scale_are_points(ws: Workspace, tmp_path: Path) -> None:
    """As a judge gives them from 1 to 5; two logs are compared in points."""
    save_version(ws, "scaled", model="small", system="Of points.")

    def rate(up: int) -> Any:
        return lambda log: [s["scores"]["match"].update(value=1 + i % 4 + up) for i, s in enumerate(log["samples"])]

    means = []
    for name, up in (("small", 0), ("scaled", 1)):
        _, file = run(ws, tmp_path / name, name, message_limit=40)
        found = import_log(altered(file, rate(up)), ws, margin=0.5).evaluation
        assert found.behaviour.unit == "points" and not found.behaviour.bounded and not found.problem
        means.append(found.mean.value)
    assert means == [2.5, 3.5]
    rows = compared(ws, version("small", ws), version("scaled", ws))["cells"]
    (row,) = [row for row in rows if row["unit"] == "points"]
    assert row["change"]["value"] == 1 and row["verdict"] == "improved"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda log: log["samples"].clear(), "expected samples in"),
        (lambda log: log["samples"].append(log["samples"][0]), "found one twice"),
        (lambda log: log["samples"][0]["output"]["metadata"]["glasshouse"].update(system="Lie."), "of one version"),
        (lambda log: [s["output"]["metadata"]["glasshouse"].update(system="Lie.") for s in log["samples"]], "altered"),
        (
            lambda log: [s.update(scores={}, error={"message": "lost", "traceback": "", "traceback_ansi": ""})
            for s in log["samples"]], "without an error in the log, found none; the first says: lost",
        ),
        (lambda log: [s["scores"].update(other={"value": 1}) for s in log["samples"]], "one of match, other, got none"),
        (lambda log: [s.update(scores={}) for s in log["samples"]], "expected scores in the log's samples"),
        (lambda log: log.pop("eval"), "could not read it"),
    ],
)  # fmt: skip
def test_logs_that_are_refused(ws: Workspace, kept_log: Path, change: Any, message: str) -> None:
    before = evaluations(ws, version("small", ws))
    with pytest.raises(UserError, match=message):
        import_log(altered(kept_log, change), ws)
    assert evaluations(ws, version("small", ws)) == before


@pytest.fixture(scope="module")
def kept_log(ws: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(ws, tmp_path_factory.mktemp("logs"), message_limit=50)[1]


def test_a_foreign_model_gets_a_name(ws: Workspace, kept_log: Path) -> None:
    def elsewhere(log: dict[str, Any]) -> None:
        log["eval"]["model"] = "openai/great"
        for sample in log["samples"]:
            sample["output"]["metadata"] = None

    file = altered(kept_log, elsewhere)
    words = ["import", str(file), "--workspace", str(ws.root)]
    assert "expected --name for the version that the log is of (openai/great)" in CliRunner().invoke(app, words).stderr
    done = CliRunner().invoke(app, [*words, "--name", "great", "--json"])
    assert done.exit_code == 0 and json.loads(done.stdout)["version"]["foreign"] == "openai/great"
    great = version("great", ws)
    assert evaluations(ws, great) and great.hash != version("small", ws).hash
    behaviour = import_log(file, ws, name="great").evaluation.behaviour
    assert touched(ws, great, behaviour).unknown == ("openai/great",)
    for words in (["test", "great"], ["compare", "small", "great"]):
        done = CliRunner().invoke(app, [*words, "--workspace", str(ws.root)])
        assert done.exit_code in (0, 2) and (done.exit_code == 0 or "imported logs only" in done.stderr), done.stderr


def test_the_gate_takes_no_log_for_evidence(ws: Workspace, kept_log: Path, tmp_path: Path) -> None:
    name = import_log(kept_log, ws).evaluation.behaviour.name
    policy = tmp_path / "policy.yaml"
    policy.write_text(
        "policy: p\nversion: '1'\ndate: 2026-01-01\nabout: For a test.\nlevels: [{level: 1, about: Nothing.}]\n"
        "thresholds:\n  - {threshold: t, about: A test., evidence: {behaviour: " + name + "}, "
        "crossed: {below: 0.1}, ruled_out: {above: 0.2}, then: 1}\nregressions: {against: small}\n"
    )
    words = ["gate", str(policy), "kindly", "--workspace", str(ws.root), "--json"]
    done = CliRunner().invoke(app, words)
    reasons = json.loads(done.stdout)["reasons"]
    assert not [one for one in reasons if one["rule"] == f"regression: {name}"]  # not missing, and not unsound
    assert any(one["rule"].startswith("t") and one["holds"] is not True for one in reasons)


def test_a_margin_that_is_no_number_keeps_nothing(ws: Workspace, kept_log: Path) -> None:
    before = evaluations(ws, version("small", ws))
    for margin in ("nan", "inf"):
        words = ["import", str(kept_log), "--margin", margin, "--workspace", str(ws.root)]
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 2 and "expected a margin above 0, and finite" in done.stderr
    assert evaluations(ws, version("small", ws)) == before


def test_what_is_no_log_is_said(ws: Workspace, tmp_path: Path) -> None:
    file = tmp_path / "not.eval"
    with pytest.raises(UserError, match="expected a log of Inspect at"):
        import_log(file, ws)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a", "b")
    with pytest.raises(UserError, match="could not read it"):
        import_log(file, ws)
