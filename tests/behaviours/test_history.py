"""A behaviour over time and over its wordings: cases worked by hand."""

from __future__ import annotations

import shutil

import pytest

from glasshouse.behaviours import history_of, matrix, read_evaluation, save_version, version, wordings
from glasshouse.behaviours.statistics import Scored, parts_of_mean
from glasshouse.types import UserError
from glasshouse.workspace import Workspace
from tests.behaviours.written import a_model, asked, write_evaluation


def test_every_evaluation_stands_in_the_order_of_time(workspace: Workspace) -> None:
    ws = workspace
    a_model(ws)
    plain, brief = version("m", ws), save_version(ws, "brief", model="m", system="Be brief.")
    one = asked("facts", [1, 1, 1, 1])
    write_evaluation(ws, brief, one, [1, 0, 0, None], created="2026-01-02T00:00:00+00:00")
    write_evaluation(ws, plain, one, [1, 1, 1, 0], created="2026-01-03T00:00:00+00:00")
    write_evaluation(ws, plain, one, [None] * 4, created="2026-01-05T00:00:00+00:00", seed=1)
    write_evaluation(ws, plain, asked("facts", [1]), [1], created="2026-01-04T00:00:00+00:00")
    write_evaluation(ws, plain, asked("other", [1]), [1])
    shutil.rmtree(ws.path("models", "m"))
    a_model(ws, said="other weights")  # m is another now
    write_evaluation(ws, version("m", ws), one, [0, 0, 0, 0], created="2026-01-01T00:00:00+00:00")
    found = history_of(ws, "facts")
    rows = found["rows"]
    assert [row["created"][8:10] for row in rows] == ["01", "02", "03", "04", "05"]
    assert [row["name"] for row in rows] == ["m", "brief", "m", "m", "m"]
    assert [row["names"] for row in rows] == [["m"], [], [], [], []], "what has the name now, and what had it"
    assert [row["mean"] and row["mean"]["value"] for row in rows] == [0, pytest.approx(1 / 3), 0.75, 1, None]
    assert [row["unscored"] for row in rows] == [0, 1, 0, 0, 4] and [row["seed"] for row in rows] == [0, 0, 0, 0, 1]
    assert len({row["asked"] for row in rows}) == 2 and rows[3]["asked"] != rows[0]["asked"]
    assert rows[0]["hash"] != rows[2]["hash"] and rows[1]["system"] == "Be brief."
    assert rows[2]["mean"]["low"] < 0.75 < rows[2]["mean"]["high"]
    assert (found["unit"], found["good"], found["margin"]) == ("rate", "up", 0.05)
    with pytest.raises(UserError, match=r"expected a behaviour that was run in .* got 'fact'"):
        history_of(ws, "fact")


def test_one_that_was_altered_says_so_and_the_rest_stands(workspace: Workspace) -> None:
    a_model(workspace)
    plain = version("m", workspace)
    kept = [write_evaluation(workspace, plain, asked("facts", [1, 1]), [1, 0], seed=seed) for seed in (0, 1)]
    file = workspace.path("evals", kept[0]) / "samples.jsonl"
    file.write_text(file.read_text().replace('"score": 0', '"score": 1'))
    rows = {row["evaluation"]: row for row in history_of(workspace, "facts")["rows"]}
    assert "samples.jsonl" in rows[kept[0]]["error"] and rows[kept[1]]["mean"]["value"] == 0.5


def test_what_the_wording_decides(workspace: Workspace) -> None:
    a_model(workspace)
    plain, brief = version("m", workspace), save_version(workspace, "brief", model="m", system="Be brief.")
    one = asked("facts", [2, 2, 1])
    pair = [
        read_evaluation(workspace, write_evaluation(workspace, who, one, scores))
        for who, scores in ((plain, [1, 1, 1, 0, 1]), (brief, [0, 1, 0, 1, 1]))
    ]
    found = wordings(*pair)
    assert found["families"] == 2
    assert found["base"]["spread"]["value"] == 0.5 and found["new"]["spread"]["value"] == 1.0
    assert found["base"]["spread"]["n"] == 2 and found["base"]["spread"]["low"] < 0.5 < found["base"]["spread"]["high"]
    assert [(n["wording"], n["families"], n["base"]["value"], n["new"]["value"]) for n in found["numbers"]] == [
        (0, 2, 1.0, 0.0), (1, 2, 0.5, 1.0),
    ]  # fmt: skip
    assert [row["family"] for row in found["rows"]] == ["f01", "f00"], "the widest on either, then on both"
    assert found["rows"][0]["wordings"][1] == {
        "wording": 1, "turns": [{"role": "user", "content": "Asked 1 in way 1"}], "base": 0.0, "new": 1.0,
    }  # fmt: skip
    assert found["base"]["parts"] == {"families": 0.0, "wordings": pytest.approx(0.05), "sampling": 0.0}


def test_a_gap_on_one_version_comes_before_smaller_ones_on_both(workspace: Workspace) -> None:
    a_model(workspace)
    plain, brief = version("m", workspace), save_version(workspace, "brief", model="m", system="Be brief.")
    one = asked("facts", [2, 2])
    pair = [
        read_evaluation(workspace, write_evaluation(workspace, who, one, scores))
        for who, scores in ((plain, [1, 0.4, 1, 1]), (brief, [0.4, 1, 1, 0]))
    ]
    assert [(row["family"], row["spread"]) for row in wordings(*pair)["rows"]] == [("f01", 1.0), ("f00", 0.6)]


def test_one_wording_a_family_decides_nothing(workspace: Workspace) -> None:
    a_model(workspace)
    done = read_evaluation(
        workspace, write_evaluation(workspace, version("m", workspace), asked("facts", [1, 1]), [1, 0])
    )
    found = wordings(done, done)
    assert found["families"] == 0 and found["rows"] == found["numbers"] == [] and found["base"]["spread"] is None


def test_the_variance_of_one_mean_by_where_it_comes_from() -> None:
    """Two families, two prompts each, two samples each, by hand: sampling of a prompt 0.25 where its samples differ."""
    scores = {("a", "0"): (1, 0), ("a", "1"): (1, 1), ("b", "0"): (0, 0), ("b", "1"): (0, 0)}
    parts = parts_of_mean(Scored(family, prompt, s) for (family, prompt), some in scores.items() for s in some)
    assert parts["sampling"] == pytest.approx(0.25 / 4 / 4)  # one of four prompts, of the mean of four
    assert parts["wordings"] == pytest.approx(0)  # within families 0.125 / 2, less the sampling of 0.0625
    between = (0.375**2) * 2 / 1 - 0.0625 / 2
    assert parts["families"] == pytest.approx(between / 2)


def test_versions_come_as_they_were_first_run(workspace: Workspace) -> None:
    """The base before what was compared with it, whatever their names are."""
    a_model(workspace)
    base, later = version("m", workspace), save_version(workspace, "a-later", model="m", system="Be brief.")
    write_evaluation(workspace, later, asked("facts", [1] * 6), [1.0] * 6, created="2026-01-02T00:00:00")
    write_evaluation(workspace, base, asked("facts", [1] * 6), [1.0] * 6, created="2026-01-01T00:00:00")
    write_evaluation(workspace, base, asked("sums", [1] * 6), [1.0] * 6, created="2026-01-03T00:00:00")
    assert [one.name for one in matrix.tested(workspace)] == ["m", "a-later"]
