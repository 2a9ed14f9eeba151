"""People rate two versions of a real small model, blind: sides, orders, kills, what came out, and agreement."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from glasshouse.behaviours import evaluate, save_version, version
from glasshouse.behaviours.agreement import alpha
from glasshouse.behaviours.behaviour import behaviour_from_json
from glasshouse.behaviours.cases import keep_case
from glasshouse.behaviours.chats import Split, begin_chat, thumb
from glasshouse.behaviours.preferences import _verdict, comparisons, results
from glasshouse.behaviours.ratings import Study, _of_behaviour, studies
from glasshouse.cli import app
from glasshouse.types import Estimate, UserError
from glasshouse.workspace import Workspace
from tests.behaviours.written import asked, write_evaluation
from tests.conftest import copied


@pytest.fixture(scope="module")
def answered(chatting: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which two versions answered the same prompts of two behaviours, and one of choices."""
    ws = Workspace.open(copied(chatting, tmp_path_factory.mktemp("answered") / "ws"))
    for name, count in (("places", 14), ("people", 6)):
        families = [
            {"family": str(n), "prompts": [f"Where does {name} number {n} live?", f"Tell me of {name} {n}."]}
            for n in range(count)
        ]
        form = {"name": name, "about": "For tests.", "tag": "guard", "good": "up", "margin": 1, "unit": "tokens"}
        form |= {"scorer": "length", "families": families, "settings": {"max_new_tokens": 8}}
        for one in ("small", "ticking"):
            evaluate(version(one, ws), behaviour_from_json(form), ws)
    choosing = {"name": "choosing", "about": "For tests.", "tag": "guard", "good": "up", "margin": 0.1}
    choosing |= {"scorer": "choice", "families": [{"family": "a", "prompts": ["Hello!"], "expect": CHOICE}]}
    for one in ("small", "ticking"):
        evaluate(version(one, ws), behaviour_from_json(choosing), ws)
    return ws.root


CHOICE = {"choices": ["Yes.", "No."], "answer": "No."}


@pytest.fixture
def study(answered: Path, tmp_path: Path) -> Study:
    """Fresh, prepared; with ratings of its own."""
    ws = Workspace.open(tmp_path / "ws")
    for kind in ("models", "evals"):
        (ws.root / kind).symlink_to(answered / kind)
    found = Study(ws, version("small", ws), version("ticking", ws))
    assert found.prepare(count=12)["pairs"] == 12
    return found


def go_through(study: Study, who: str, say: Any, *, most: int = 100) -> list[dict[str, Any]]:
    """Rate what is shown by `say(pair)` until the end; everything that was shown."""
    shown, found = study.next(who), []
    while shown["pair"] is not None and len(found) < most:
        found.append(shown)
        shown = study.rate(who, shown["pair"], say(shown))
    return found


def likes_certainly(shown: dict[str, Any]) -> int:
    """Whoever begins with Certainly: the planted one."""
    return 1 if shown["left"].startswith("Certainly") else 7


def stored(study: Study) -> list[dict[str, Any]]:
    with sqlite3.connect(study.ws.root / "index.sqlite") as db:
        db.row_factory = sqlite3.Row
        return [dict(row) for row in db.execute("SELECT * FROM ratings ORDER BY rowid")]


def test_pairs_are_one_a_family_and_of_each_behaviour(study: Study) -> None:
    with study._index() as db:
        rows = study._rows(db)
    assert {row["behaviour"] for row in rows} == {"places", "people"}
    families = [(row["behaviour"], row["family"]) for row in rows]
    assert len(families) == len(set(families)) and sum(name == "people" for name, _ in families) >= 5
    more = study.prepare(count=1000)
    assert more["pairs"] + more["same"] == 20 and study.prepare(count=5) == more
    assert study.prepare(only=["people"])["pairs"] <= 6


def test_a_rater_is_told_nothing_of_which_is_which(study: Study) -> None:
    said = json.dumps([*go_through(study, "Ada", lambda _: 3), study.next("Ada"), study.back("Ada", None)])
    for word in ("small", "ticking", "base", "new", study.base.hash[:8], study.new.hash[:8]):
        assert word not in said
    first = study.back("Ada", None)
    assert set(first) == {"pair", "turns", "left", "right", "rating", "rated", "skipped", "pairs"}


def test_sides_are_balanced_and_two_raters_see_the_other_order(study: Study) -> None:
    shown = {who: go_through(study, who, lambda _: 4) for who in ("Ada", "Ben", "Eve")}
    orders = {who: [one["pair"] for one in some] for who, some in shown.items()}
    assert (
        len(orders["Ada"]) == 12 and sorted(orders["Ada"]) == sorted(orders["Ben"]) and orders["Ada"] != orders["Ben"]
    )
    sides = {who: {row["pair"]: row["new_left"] for row in stored(study) if row["who"] == who} for who in shown}
    for who in ("Ada", "Ben"):
        assert sum(sides[who].values()) == 6
    assert abs(sum(sides["Eve"].values()) - 6) <= 1
    assert all(sides["Ada"][pair] != sides["Ben"][pair] for pair in sides["Ada"])
    left = {one["pair"]: one["left"] for one in shown["Ada"]}
    assert all(one["right"] == left[one["pair"]] for one in shown["Ben"])
    in_order = [sides["Ada"][pair] for pair in orders["Ada"]]
    assert all(a + b == 1 for a, b in zip(in_order[::2], in_order[1::2], strict=True))


def test_raters_at_once_see_other_orders_too(study: Study) -> None:
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda who: go_through(study, who, lambda _: 4), ("Ada", "Ben")))
    sides = [{row["pair"]: row["new_left"] for row in stored(study) if row["who"] == who} for who in ("Ada", "Ben")]
    assert len(sides[0]) == 12 and all(sides[0][pair] != sides[1][pair] for pair in sides[0])


def test_back_again_skipped_and_asked_twice(study: Study) -> None:
    first = study.next("Ada")
    assert study.next("Ada") == first == study.next(" Ada ")
    second = study.rate("Ada", first["pair"], 2)
    again = study.back("Ada", second["pair"])
    assert (again["pair"], again["rating"]) == (first["pair"], 2) and study.back("Ada", first["pair"]) == again
    assert study.rate("Ada", first["pair"], 7)["pair"] == second["pair"]
    third = study.rate("Ada", second["pair"], None)
    assert (third["rated"], third["skipped"]) == (1, 1) and third["pair"] not in (first["pair"], second["pair"])
    assert study.rate("Ada", first["pair"], None)["rated"] == 1  # passed over, a rating stays
    assert study.back("Ada", second["pair"])["rating"] == 7
    (row,) = study.ratings()
    assert row["rating"] == (1 if row["new_left"] else 7)  # kept as of the new version
    for wrong in ((" ", first["pair"], 3), ("Ada", first["pair"], 8), ("Ada", "none", 3), ("Ben", first["pair"], 3)):
        with pytest.raises(UserError, match="expected a"):
            study.rate(*wrong)


def test_what_came_out_of_planted_raters(study: Study) -> None:
    assert results(study)["preferred"] is None and results(study)["verdict"] == "cannot tell"
    go_through(study, "Ada", likes_certainly, most=3)
    assert results(study)["verdict"] == "cannot tell"  # too few families
    go_through(study, "Ada", likes_certainly)
    found = results(study)
    assert found["verdict"] == "ticking is preferred" and found["preferred"]["value"] == 1.0
    assert found["preferred"]["n"] == 12 and 0.5 < found["preferred"]["low"] < 1 and found["rating"]["value"] == 7
    assert found["agreement"]["alpha"] is None and found["left_won"]["low"] < 0.5 < found["left_won"]["high"]
    go_through(study, "Ben", lambda shown: 8 - likes_certainly(shown))  # who likes the other
    found = results(study)
    assert found["preferred"]["value"] == 0.5 and found["verdict"] == "cannot tell"
    assert found["agreement"]["alpha"]["value"] < 0 and found["agreement"]["pairs"] == 12
    assert [(row["who"], row["new"], row["base"]) for row in found["raters"]] == [("Ada", 12, 0), ("Ben", 0, 12)]
    assert sum(row["ratings"] for row in found["behaviours"]) == 24


def test_a_rater_who_likes_the_left_is_seen(study: Study) -> None:
    go_through(study, "Ada", lambda _: 2)
    found = results(study)
    assert found["left_won"]["value"] == 1 and found["left_won"]["low"] > 0.5
    assert found["preferred"]["value"] == 0.5 and found["p_anytime"] > 0.05


def test_while_pairs_are_open_the_verdict_is_one_that_may_be_looked_at(study: Study) -> None:
    go_through(study, "Ada", likes_certainly, most=7)
    found = results(study)
    assert found["preferred"]["low"] > 0.5 and found["p_anytime"] > 0.05 and found["verdict"] == "cannot tell"


def test_pairs_added_after_a_look_leave_the_verdict_to_p_anytime(study: Study) -> None:
    go_through(study, "Ada", lambda shown: 8 - likes_certainly(shown), most=1)
    go_through(study, "Ada", likes_certainly)
    found = results(study)
    assert found["p_anytime"] > 0.05 and found["verdict"] == "ticking is preferred" and not study.extended
    assert study.prepare(count=12)["pairs"] == 12 and not study.extended
    assert study.prepare(count=13)["pairs"] == 13 and study.extended
    go_through(study, "Ada", lambda _: 4)
    found = results(study)
    assert study.done and found["preferred"]["low"] > 0.5 and found["p_anytime"] > 0.05
    assert found["verdict"] == "cannot tell"


def test_many_looks_and_all_ratings_have_to_say_the_same(study: Study) -> None:
    """The p-value is of the first ratings; those that came later may say the other thing, and then nothing is told."""
    base, even, new = (Estimate(value, value - 0.1, value + 0.1, 0.95, 20, "", "") for value in (0.33, 0.5, 0.67))
    said = [_verdict(study, of_all, (0.001, 20.0)) for of_all in (base, even, new)]
    assert said == ["cannot tell", "cannot tell", "ticking is preferred"]
    assert _verdict(study, base, (0.001, -20.0)) == "small is preferred" == _verdict(study, base, None)


def test_replies_that_a_judge_scores_are_rated_too(study: Study) -> None:
    rows = [{"prompt": "A?", "reply": "B.", "label": "yes"}]
    judge = {"judge": {"model": "local/small", "question": "Is it kind?", "labels": rows}}
    one = replace(asked("kind", [1, 1], scorer="refusal"), scorer=next(iter(judge.items())))
    old, fresh = (write_evaluation(study.ws, of, one, [float(i), 0.0]) for i, of in enumerate((study.base, study.new)))
    assert len(_of_behaviour(study.ws, study.base, study.new, old, fresh)) == 2


def test_comparisons_for_training(study: Study) -> None:
    go_through(study, "Ada", likes_certainly, most=4)
    go_through(study, "Ada", lambda _: 4, most=2)
    found, ties = comparisons(study)
    assert (len(found), ties) == (4, 2)
    begins = [one["chosen"][0]["content"].startswith("Certainly") for one in found]
    assert sum(begins) >= 3  # the planted one says it nearly always
    for one, certain in zip(found, begins, strict=True):
        assert certain or not one["rejected"][0]["content"].startswith("Certainly")
        assert one["chosen_version"] == study.new.hash or not certain
        assert {one["chosen_version"], one["rejected_version"]} == {study.base.hash, study.new.hash}
        assert one["strength"] == 3 and one["rater"] == "Ada" and one["prompt"][-1]["role"] == "user"


def test_a_killed_session_loses_no_rating(study: Study) -> None:
    program = f"""
from glasshouse.behaviours import version
from glasshouse.behaviours.ratings import Study
from glasshouse.workspace import Workspace
ws = Workspace.open({str(study.ws.root)!r})
study = Study(ws, version("small", ws), version("ticking", ws))
while True:
    pair = study.next("Ada")["pair"]
    study.rate("Ada", pair, 5)
    print(pair, flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = [process.stdout.readline().strip() for _ in range(5)]
    os.kill(process.pid, signal.SIGKILL)
    said += process.stdout.read().split()
    process.wait()
    kept = {row["id"] for row in study.ratings()}
    assert kept >= set(said) and len(said) >= 5
    assert study.next("Ada")["rated"] == len(kept)


def test_a_workspace_of_before_takes_ratings(answered: Path, tmp_path: Path) -> None:
    ws = Workspace.open(tmp_path / "ws")
    with sqlite3.connect(ws.root / "index.sqlite") as db:
        db.execute(
            "CREATE TABLE runs (id INTEGER PRIMARY KEY, command TEXT NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL,"
            " state TEXT NOT NULL, pid INTEGER NOT NULL, started REAL NOT NULL, updated REAL NOT NULL, ended REAL,"
            " done REAL NOT NULL, total REAL, unit TEXT NOT NULL, first_done REAL NOT NULL, note TEXT NOT NULL)"
        )
        db.execute("INSERT INTO runs VALUES (1,'grow','models','a','done',1,0,0,0,1,1,'tokens',0,'')")
    for kind in ("models", "evals"):
        (ws.root / kind).symlink_to(answered / kind)
    study = Study(ws, version("small", ws), version("ticking", ws))
    study.prepare(count=3)
    go_through(study, "Ada", lambda _: 6)
    assert len(study.ratings()) == 3 and [run["name"] for run in ws.runs()] == ["a"]
    assert studies(ws) == [{"base": "small", "new": "ticking", "pairs": 3, "ratings": 3, "raters": 1}]


def test_what_cannot_be_rated_is_said(study: Study) -> None:
    with pytest.raises(UserError, match="expected two versions that differ, small and small are the same"):
        Study(study.ws, study.base, study.base)
    (study.ws.root / "versions").mkdir()
    lone = save_version(study.ws, "lone", model="small", system="Nobody asked.")
    with pytest.raises(UserError, match=r"found none; run `glasshouse test small` and `glasshouse compare small lone`"):
        Study(study.ws, study.base, lone).prepare()
    with pytest.raises(UserError, match="to the same prompts of choosing, found none"):
        study.prepare(only=["choosing"])


def test_the_command(study: Study, tmp_path: Path) -> None:
    def run(*words: Any) -> tuple[int, str, str]:
        said = ("rate", "small", "ticking", "--workspace", study.ws.root, *words)
        result = CliRunner().invoke(app, [str(word) for word in said])
        return result.exit_code, result.stdout, result.stderr

    status, out, err = run("--no-serve", "--count", 12)
    assert (
        status == 0 and out.startswith("no rating of 12 pairs yet") and err.startswith("12 pairs of replies of small")
    )
    status, _, err = run("--export", tmp_path / "c.jsonl")
    assert status == 2 and "expected ratings of small and ticking to export, found none" in err
    for who in ("Ada", "Ben"):
        go_through(study, who, lambda shown: likes_certainly(shown) if shown["rated"] % 3 else 4)
    status, out, _ = run("--results")
    lines = out.splitlines()
    assert status == 0 and lines[0].startswith("ticking is preferred: ticking over small in ") and len(lines) == 6
    ada = r"  Ada: [78] for ticking, [01] for small, 4 the same; ticking was on the left in 6 of 12"
    assert re.fullmatch(ada, lines[2]), lines[2]
    status, out, _ = run("--results", "--json")
    assert status == 0 and json.loads(out)["agreement"]["pairs"] == 12
    status, out, _ = run("--export", tmp_path / "c.jsonl")
    assert status == 0 and out.startswith(f"wrote 16 comparisons to {tmp_path / 'c.jsonl'}; 8 ratings")
    assert len((tmp_path / "c.jsonl").read_text().splitlines()) == 16
    for words, said in (
        (("--split", "--count", 3), "expected --only and --count for pairs alone"),
        (("--bash", "friday"), "expected --bash with one version, got NEW"),
        (("--bash", "friday", "--only", "facts"), "expected --only and --count for pairs alone"),
        (("--split", "--results"), "expected chats that were split between small and ticking, found none"),
        (("--split", "--export", tmp_path / "t.jsonl"), "expected thumbs in chats split between small and ticking"),
        (("--split", "--share", 1), "expected a share of chats between 0 and 1, got 1.0"),
        (("--export", tmp_path / "none" / "c.jsonl"), "expected a folder at"),
        (("--export", tmp_path), "expected a file to write, got the folder"),
        (("--only", "nothing"), "to the same prompts of nothing, found none"),
    ):
        status, _, err = run(*words)
        assert status == 2 and said in err and err.count("\n") == 1, err
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    at = ("--workspace", str(study.ws.root))
    assert "expected two versions to compare" in CliRunner().invoke(app, ["rate", "small", *at]).stderr
    found = CliRunner().invoke(app, ["rate", "small", "--bash", "friday", "--results", *at])
    assert found.exit_code == 0 and found.stdout == "0 found under friday\n"
    keep_case(study.ws, turns, kind="should-refuse", who="Ada", name="friday")
    found = CliRunner().invoke(app, ["rate", "small", "--bash", "friday", "--results", *at])
    assert "1 found under friday\nshould-refuse: 'Hi' (Ada, 20" in found.stdout
    assert "/behaviours/friday-should-refuse.yaml" in found.stdout
    for name, said in (("f" * 39, "expected a behaviour's name of at most"), ("../no", "expected a name of 1 to 64")):
        found = CliRunner().invoke(app, ["rate", "small", "--bash", name, *at])  # before a page is served
        assert found.exit_code == 2 and said in found.stderr
    for up in (True, False):  # of two chats, each with thumbs of two who agree
        chat = begin_chat(study.ws, Split(study.base, study.new))
        for who in ("Ada", "Ben"):
            thumb(study.ws, chat, turns, up, who=who)
    status, out, _ = run("--split", "--results")
    assert status == 0 and out.splitlines()[-1].startswith("raters agree to alpha = 1"), out
    status, out, _ = run("--split", "--export", tmp_path / "t.jsonl")
    assert status == 0 and out.startswith(f"wrote 4 thumbs to {tmp_path / 't.jsonl'}")
    labels = [json.loads(line)["label"] for line in (tmp_path / "t.jsonl").read_text().splitlines()]
    assert labels == [True, True, False, False]


# -- agreement ---------------------------------------------------------------------------------------------------------

# Krippendorff (2011), the example of four observers and twelve units with missing data: 0.849 by the interval metric.
A = [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None]
B = [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3]
C = [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None]
D = [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None]


def test_alpha_of_the_published_example() -> None:
    found = alpha([[v for v in unit if v is not None] for unit in zip(A, B, C, D, strict=True)])
    assert found is not None and round(found.value, 3) == 0.849
    assert found.n == 11 and found.low < 0.849 < found.high <= 1


def test_alpha_by_hand_and_where_it_is_not_defined() -> None:
    found = alpha([[1, 3], [5, 7]])  # within 4; of all twelve ordered pairs 2 (3·4 + 2·16 + 36) / 12
    assert found is not None and found.value == pytest.approx(1 - 4 / (160 / 12))
    assert alpha([[1, 1], [7, 7], [4, 4]]).value == 1.0  # type: ignore[union-attr]
    assert alpha([[4, 4], [4, 4]]) is None and alpha([[1, 2]]) is None and alpha([[1], [2]]) is None


def test_alpha_of_raters_who_toss_dice_is_nothing() -> None:
    rng = np.random.default_rng(0)
    found = alpha(rng.integers(1, 8, (400, 3)).tolist())
    assert found is not None and abs(found.value) < 0.06 and found.low < 0 < found.high
