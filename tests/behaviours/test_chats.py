"""Chats and thumbs, splits (A/B) and their statistics, and cases kept from what was found."""

from __future__ import annotations

import contextlib
import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from scipy.stats import t

from glasshouse.behaviours import read_behaviours
from glasshouse.behaviours.agreement import alpha
from glasshouse.behaviours.cases import KINDS, cases, keep_case
from glasshouse.behaviours.chats import Split, begin_chat, chat_version, thumb, thumbs
from glasshouse.behaviours.scorers import Sample, scores
from glasshouse.behaviours.splits import Outcome, _verdict, difference, labelled_replies, p_anytime, split_results
from glasshouse.behaviours.versions import Version
from glasshouse.types import Estimate, UserError
from glasshouse.workspace import Workspace

ONE = Version(name="one", model="one", weights="1")
TWO = Version(name="two", model="one", weights="1", system="Be brief.")
TURNS = [{"role": "user", "content": "Where is Veden?"}, {"role": "assistant", "content": "In the north."}]


def test_a_thumb_is_kept_with_who_version_and_turns(workspace: Workspace) -> None:
    chat = begin_chat(workspace, TWO)
    assert chat_version(workspace, chat) == TWO
    thumb(workspace, chat, TURNS, True, who=" Ada ")
    thumb(workspace, chat, TURNS, False, who="Ada", note=" it is in the south ")
    longer = [*TURNS, {"role": "user", "content": "And Aladen?"}, {"role": "assistant", "content": ""}]
    thumb(workspace, chat, longer, True, who="Ben")
    found = thumbs(workspace)
    assert [(one["turn"], one["who"], one["up"]) for one in found] == [(1, "Ada", False), (3, "Ben", True)]
    assert found[0]["note"] == "it is in the south" and found[0]["turns"] == TURNS
    assert found[0]["version"]["hash"] == TWO.hash and found[0]["split"] is None
    assert thumb(workspace, chat, longer, None, who="Ben") == [] and len(thumbs(workspace)) == 1


def test_a_reply_keeps_one_thumb_of_each_person(workspace: Workspace) -> None:
    chat = begin_chat(workspace, ONE)
    thumb(workspace, chat, TURNS, True, who="Ada", note="good")
    first = thumbs(workspace)[0]["given"]
    both = [{"who": "Ada", "up": True, "note": "good"}, {"who": "Ben", "up": False, "note": ""}]
    assert thumb(workspace, chat, TURNS, False, who="Ben") == both
    changed = {"who": "Ada", "up": False, "note": "not so good"}
    assert thumb(workspace, chat, TURNS, False, who="Ada", note="not so good") == [changed, both[1]]
    assert [(one["who"], one["up"]) for one in thumbs(workspace)] == [("Ada", False), ("Ben", False)]
    assert thumbs(workspace)[0]["given"] == first
    assert thumb(workspace, chat, TURNS, None, who="Ben") == [changed]


def test_thumbs_kept_one_a_reply_stay(workspace: Workspace) -> None:
    """An index of before people had a thumb each."""
    chat = begin_chat(workspace, ONE)
    thumb(workspace, chat, TURNS, True, who="Ada")
    with contextlib.closing(workspace.index()) as db, db:
        db.execute("ALTER TABLE thumbs RENAME TO x")
        db.execute(
            "CREATE TABLE thumbs (chat TEXT NOT NULL, turn INTEGER NOT NULL, who TEXT NOT NULL, given REAL NOT NULL,"
            " up INTEGER NOT NULL, note TEXT NOT NULL, turns TEXT NOT NULL, PRIMARY KEY (chat, turn))"
        )
        db.execute("INSERT INTO thumbs SELECT * FROM x")
        db.execute("DROP TABLE x")
    (before,) = thumbs(workspace)
    thumb(workspace, chat, TURNS, False, who="Ben")
    assert thumbs(workspace)[0] == before and [one["who"] for one in thumbs(workspace)] == ["Ada", "Ben"]


@pytest.mark.parametrize(
    ("chat", "turns", "more"),
    [
        ("none", TURNS, {}),
        (None, TURNS[:1], {}),
        (None, [], {}),
        (None, [*TURNS, TURNS[1]], {}),
        (None, [TURNS[0], {"role": "assistant", "content": None}], {}),
        (None, [TURNS[0], {"role": "assistant", "content": "\ud800"}], {}),
        (None, [TURNS[0], "a reply"], {}),
        (None, TURNS, {"who": ""}),
        (None, TURNS, {"who": "x" * 41}),
        (None, TURNS, {"note": "x" * 2001}),
    ],
)
def test_what_is_no_thumb_is_refused(workspace: Workspace, chat: Any, turns: Any, more: dict[str, str]) -> None:
    chat = chat or begin_chat(workspace, ONE)
    with pytest.raises(UserError, match="expected"):
        thumb(workspace, chat, turns, True, **{"who": "Ada", **more})
    assert thumbs(workspace) == []


# -- splits ------------------------------------------------------------------------------------------------------------


def test_a_share_of_chats_goes_to_each(workspace: Workspace) -> None:
    split = Split(ONE, TWO, 0.25)
    went = [split.version(f"{n:x}").hash == TWO.hash for n in range(4000)]
    assert abs(np.mean(went) - 0.25) < 0.03 and split.version("a") == split.version("a")
    chat = begin_chat(workspace, split)
    assert chat_version(workspace, chat) == split.version(chat)
    with pytest.raises(UserError, match=r"expected a share of 0\.25 for two, as in the chats so far, got 0\.5"):
        begin_chat(workspace, Split(ONE, TWO, 0.5))
    with pytest.raises(UserError, match="expected a share of chats between 0 and 1"):
        Split(ONE, TWO, 1.0)


def test_what_came_out_of_a_split(workspace: Workspace) -> None:
    with pytest.raises(UserError, match="expected chats that were split between one and two, found none"):
        split_results(workspace, ONE, TWO)
    begin_chat(workspace, ONE)  # not of the split
    split, counts = Split(ONE, TWO), {ONE.hash: 0, TWO.hash: 0}
    for n in range(120):
        chat = begin_chat(workspace, split)
        is_new = chat_version(workspace, chat) == TWO
        counts[TWO.hash if is_new else ONE.hash] += 1
        if n % 3:  # a third says nothing
            thumb(workspace, chat, TURNS, is_new, who=f"person {n % 20}")
    found = split_results(workspace, ONE, TWO)
    assert [found["sides"][side]["chats"] for side in ("base", "new")] == list(counts.values())
    assert sum(found["sides"][side]["with_thumbs"] for side in ("base", "new")) == 80
    assert found["change"]["value"] == 1.0 and found["change"]["low"] > 0.8 and found["change"]["n"] == 20
    assert found["verdict"] == "two is preferred" and found["p_anytime"] < 1e-6
    assert found["agreement"] == {"alpha": None, "replies": 0}


def test_a_chat_with_thumbs_of_several_is_one_outcome_and_they_may_agree(workspace: Workspace) -> None:
    """Ada's thumbs are Ben's, and Cyn's the other way in one of three; of two replies of a chat each counts half."""
    longer = [*TURNS, {"role": "user", "content": "And Aladen?"}, {"role": "assistant", "content": ""}]
    split, versions = Split(ONE, TWO), []
    for n in range(30):
        chat = begin_chat(workspace, split)
        versions.append(chat_version(workspace, chat).hash)
        is_new = versions[-1] == TWO.hash
        for who, up in (("Ada", is_new), ("Ben", is_new), ("Cyn", is_new != (n % 3 == 0))):
            thumb(workspace, chat, TURNS, up, who=who)
        thumb(workspace, chat, longer, True, who="Ben")
    found = split_results(workspace, ONE, TWO)
    news = [hash_ == TWO.hash for hash_ in versions]
    means = {side: np.mean([n % 3 == 0 for n in range(30) if news[n] is side]) / 3 for side in (False, True)}
    assert found["sides"]["base"]["up"]["value"] == pytest.approx((1 + means[False]) / 2)
    assert found["sides"]["new"]["up"]["value"] == pytest.approx((2 - means[True]) / 2)
    assert sum(found["sides"][side]["with_thumbs"] for side in ("base", "new")) == 30
    units = [[up, up, up != (n % 3 == 0)] for n, up in enumerate(news)]
    assert found["agreement"] == {"alpha": alpha(units).to_json(), "replies": 30}  # type: ignore[union-attr]
    begin_chat(workspace, ONE)
    lines = labelled_replies(workspace, ONE, TWO)
    assert len(lines) == 120 and lines[0] == {
        "prompt": TURNS[:1], "completion": TURNS[1:], "label": news[0], "rater": "Ada", "note": "",
        "version": versions[0], "at": lines[0]["at"],
    }  # fmt: skip


def test_first_thumbs_and_all_thumbs_have_to_say_the_same() -> None:
    """The p-value is of the first thumb of each chat; where all thumbs lean to the other side nothing is told."""
    for value, lean, said in ((0.3, 9.0, "two"), (-0.3, 9.0, None), (0.0, 9.0, None), (-0.3, -9.0, "one")):
        change = Estimate(value, value - 0.1, value + 0.1, 0.95, 20, "", "")
        assert _verdict(ONE, TWO, change, 0.001, lean) == (f"{said} is preferred" if said else "cannot tell")


def test_a_difference_of_people_who_each_have_one_chat_is_welchs() -> None:
    rng = np.random.default_rng(1)
    scores_ = [rng.normal(0, 1, 12), rng.normal(1, 3, 30)]
    outcomes = [Outcome(f"{side} {i}", bool(side), x) for side in (0, 1) for i, x in enumerate(scores_[side])]
    found = difference(outcomes, bounded=False)
    error = math.sqrt(sum(x.var(ddof=1) / len(x) for x in scores_))
    assert found.value == pytest.approx(scores_[1].mean() - scores_[0].mean()) and found.n == 42
    freedom = (1 / 12 + 1 / 30) ** 2 / (1 / (12**2 * 11) + 1 / (30**2 * 29))  # Welch's, of one variance
    assert (found.high - found.low) / 2 == pytest.approx(float(t.ppf(0.975, freedom)) * error, rel=1e-9)
    with pytest.raises(UserError, match="expected chats with thumbs of both versions"):
        difference(outcomes[:5])


def test_the_interval_of_a_difference_holds_also_where_people_differ() -> None:
    """Twelve people of different temper, with chats on either side, most of them of one person."""
    rng = np.random.default_rng(2)
    held, draws = 0, 300
    for _ in range(draws):
        outcomes = []
        for person in range(12):
            rate = rng.beta(2, 1)
            for _ in range(int(rng.integers(1, 9))):
                outcomes.append(Outcome(f"{person}", bool(rng.random() < 0.5), float(rng.random() < rate)))
        if len({one.new for one in outcomes}) == 2:
            found = difference(outcomes)
            held += found.low <= 0 <= found.high
    assert held / draws >= 0.94


def test_looking_after_every_chat_gives_no_false_alarm() -> None:
    """At a share of 30%, people of whom 80% are content with either version."""
    rng = np.random.default_rng(3)
    alarms = 0
    for _ in range(400):
        outcomes = [(bool(rng.random() < 0.3), float(rng.random() < 0.8)) for _ in range(150)]
        alarms += p_anytime(outcomes, 0.3) <= 0.05  # the most that it ever was: as if looked at every time
    assert alarms / 400 <= 0.05
    assert p_anytime([(n % 3 == 0, float(n % 3 == 0)) for n in range(150)], 1 / 3) < 0.001
    assert p_anytime([], 0.5) == 1.0


# -- cases -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_finding_becomes_a_case_that_is_read_and_scored(workspace: Workspace, kind: str) -> None:
    words = "the north" if KINDS[kind].words else ""
    kept = keep_case(workspace, TURNS, kind=kind, who="Ada", words=words, note="odd", version="one (0123)")
    assert kept == {"file": f"behaviours/found-{kind}.yaml", "families": 1, "added": True}
    (found,) = read_behaviours(workspace.root / kept["file"])
    (prompt,) = found.prompts
    assert found.name == f"found-{kind}" and prompt.turns == (("user", "Where is Veden?"),)
    text = (workspace.root / kept["file"]).read_text(encoding="utf-8")
    (listed,) = cases(workspace, "found")
    assert listed["note"].startswith("Ada, 20") and listed["note"].endswith(" UTC, of one (0123): odd")
    assert (listed["kind"], listed["file"], listed["asked"]) == (kind, kept["file"], "Where is Veden?")
    assert listed["note"] in text and listed["expect"] == str(prompt.expect or "") and not cases(workspace, "other")
    sample = Sample(family=prompt.family, prompt=0, expect=prompt.expect, reply=TURNS[1]["content"])
    (score,) = scores([sample], found.scorer)
    assert found.settings.max_new_tokens == 400  # as long as the page lets a reply be
    wrong = {"should-refuse": 0.0, "should-answer": 0.0, "must-say": 1.0, "must-not-say": 1.0, "bad-reply": 1.0}
    assert score == wrong[kind]


HOSTILE = [
    "yes", "null", "1.5", "- a\n- b", "a: b # c", "{x: &y 1}", "*y", "'\"", "a\n\n  b\n", "\ttab", "\u2028\u0085x",
    "\x07", "🦉 ñ", " lead", "trail ", "---", "? x", "!tag", "%dir", "a" * 400, "line\r\nline", "```py\nx = 1\n```",
    "<script>",
]  # fmt: skip


def test_whatever_is_said_is_kept_as_it_was_said(workspace: Workspace) -> None:
    for said in HOSTILE:
        for turns in (
            [{"role": "user", "content": said}, TURNS[1]],
            [*TURNS, {"role": "user", "content": said}, TURNS[1]],
        ):
            keep_case(workspace, turns, kind="bad-reply", who="Ada", note=said)
        reply = [TURNS[0], {"role": "assistant", "content": said}]
        keep_case(workspace, reply, kind="bad-reply", who="Ada")
    (found,) = read_behaviours(workspace.root / "behaviours")
    assert [p.turns[-1][1] for p in found.prompts[::3]] == HOSTILE
    assert [p.turns[-1][1] for p in found.prompts[1::3]] == HOSTILE
    assert [p.expect for p in found.prompts[2::3]] == HOSTILE
    noted = [one["note"].partition(" UTC")[2].removeprefix(": ") for one in cases(workspace, "found")]
    assert noted[::3] == [said.strip() for said in HOSTILE]


def test_what_people_wrote_in_the_file_stays_and_nothing_comes_twice(workspace: Workspace) -> None:
    first = keep_case(workspace, TURNS, kind="should-answer", who="Ada", name="mine")
    file = workspace.root / first["file"]
    file.write_text(file.read_text().replace("margin: 0.05", "margin: 0.2  # mine"))
    assert not keep_case(workspace, TURNS, kind="should-answer", who="Ben", name="mine")["added"]
    other = [{"role": "user", "content": "And Aladen?"}, TURNS[1]]
    assert keep_case(workspace, other, kind="should-answer", who="Ben", name="mine")["families"] == 2
    assert "margin: 0.2  # mine" in file.read_text()
    whole = file.read_text() + "unit: rate\n"  # after the families: a case cannot be added at the end
    file.write_text(whole)
    with pytest.raises(UserError, match=r"mine-should-answer.yaml, line \d+: expected"):
        keep_case(
            workspace, [{"role": "user", "content": "New?"}, TURNS[1]], kind="should-answer", who="Ben", name="mine"
        )
    assert file.read_text() == whole


def test_two_who_keep_a_case_at_once_keep_two(workspace: Workspace) -> None:
    def keep(n: int) -> None:
        turns = [{"role": "user", "content": f"Where is {n}?"}, TURNS[1]]
        keep_case(workspace, turns, kind="should-refuse", who="Ada")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(keep, range(24)))
    assert read_behaviours(workspace.root / "behaviours" / "found-should-refuse.yaml")[0].families == 24


def test_what_is_no_case_is_refused(workspace: Workspace) -> None:
    for more, said in (
        ({"kind": "odd"}, "expected a kind of case among should-refuse"),
        ({"kind": "must-say"}, "expected what a reply has to have for must-say, got nothing"),
        ({"kind": "bad-reply", "turns": [TURNS[0], {**TURNS[1], "content": ""}]}, "expected a reply with words in it"),
        ({"kind": "bad-reply", "name": "../x"}, "expected a name of 1 to 64"),
        ({"kind": "should-answer", "name": "x" * 30}, "expected a behaviour's name of at most 26 characters"),
        ({"kind": "bad-reply", "who": ""}, "expected a name of 1 to 40"),
    ):
        with pytest.raises(UserError, match=said):
            keep_case(workspace, **{"turns": TURNS, "who": "Ada", **more})  # type: ignore[arg-type]
    assert not (workspace.root / "behaviours").exists()
