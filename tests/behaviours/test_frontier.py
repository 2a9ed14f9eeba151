"""Versions on a plane: axes, who beats whom, sweeps, and what is left out."""

from __future__ import annotations

from typing import Any

import pytest

from glasshouse.behaviours import plane, read_evaluation, save_version, version
from glasshouse.behaviours.frontier import _changes
from glasshouse.behaviours.statistics import paired
from glasshouse.behaviours.versions import Step
from glasshouse.types import UserError
from glasshouse.workspace import Workspace
from tests.behaviours.written import a_model, asked, write_evaluation

DANGER = asked("refuses-danger", [1] * 40)
HARMLESS = asked("refuses-look-alikes", [1] * 40, good="down")


def put(ws: Workspace, name: str, danger: int, harmless: int, **more: Any) -> None:
    """A version that refuses so many of 40 dangerous requests, and so many of 40 harmless ones; times: of so many
    times 40."""
    step, times = more.pop("step", None), more.pop("times", 1)
    made = version("m", ws) if name == "m" else save_version(ws, name, model="m", system=name, step=step)
    for behaviour, count in ((DANGER, danger), (HARMLESS, harmless)):
        asks = behaviour if times == 1 else asked(behaviour.name, [1] * 40 * times, good=behaviour.good)
        write_evaluation(ws, made, asks, ([1.0] * count + [0.0] * (40 - count)) * times, **more)


@pytest.fixture
def ws(workspace: Workspace) -> Workspace:
    a_model(workspace)
    return workspace


def test_the_refusal_frontier_and_who_is_on_it(ws: Workspace) -> None:
    put(ws, "m", 36, 4)
    put(ws, "careful", 40, 24)
    put(ws, "eager", 20, 0)
    put(ws, "worst", 0, 40)
    found = plane(ws)
    assert (found["x"]["axis"], found["y"]["axis"]) == ("refuses-look-alikes", "refuses-danger:not")
    assert found["x"]["good"] == found["y"]["good"] == "down" and found["x"]["margin"] == 0.05
    at = {one["name"]: one for one in found["points"]}
    assert (at["careful"]["x"]["value"], at["careful"]["y"]["value"]) == (0.6, 0.0)
    assert at["eager"]["y"]["low"] < at["eager"]["y"]["value"] == 0.5 < at["eager"]["y"]["high"]
    assert at["worst"]["state"] == "dominated" and set(at["worst"]["by"]) == {"m", "careful", "eager"}
    # careful falls short of m by 20 in 40 on one axis, and what it wins on the other is 4 in 40: one cannot tell.
    assert at["careful"]["state"] == "cannot tell" and at["careful"]["undecided"] == ["m"]
    assert at["m"]["by"] == at["eager"]["by"] == [] and found["left_out"] == []


def test_who_is_worse_on_one_and_equivalent_on_the_other_is_beaten(ws: Workspace) -> None:
    put(ws, "m", 40, 0, times=3)  # of 40 that are all alike a fall of 5% cannot be ruled out
    put(ws, "like-it", 40, 0, times=3)
    put(ws, "refuser", 40, 40, times=3)
    at = {one["name"]: one for one in plane(ws)["points"]}
    assert at["m"]["state"] == at["like-it"]["state"] == "front", "equivalent on both: neither beats the other"
    assert at["refuser"]["state"] == "dominated" and at["refuser"]["by"] == ["like-it", "m"]


def test_a_difference_too_small_to_tell_is_said(ws: Workspace) -> None:
    put(ws, "m", 40, 0)
    put(ws, "perhaps", 40, 3)
    put(ws, "refuser", 40, 40)
    at = {one["name"]: one for one in plane(ws)["points"]}
    assert at["m"]["undecided"] == ["perhaps"] and at["perhaps"]["undecided"] == ["m"]
    assert at["m"]["state"] == at["perhaps"]["state"] == "cannot tell"


def test_who_is_beaten_already_leaves_nothing_open(ws: Workspace) -> None:
    """Between `near` and `far` one cannot tell; but m beats far, and near is equivalent to m."""
    wide = {"good": "down", "margin": 0.2}
    for name, harmless in (("m", 0), ("near", 3), ("far", 9)):
        made = version("m", ws) if name == "m" else save_version(ws, name, model="m", system=name)
        write_evaluation(
            ws, made, asked("refuses-look-alikes", [1] * 40, **wide), [1.0] * harmless + [0.0] * (40 - harmless)
        )
        write_evaluation(ws, made, asked("refuses-danger", [1] * 40, margin=0.2), [1.0] * 40)
    at = {one["name"]: one for one in plane(ws)["points"]}
    assert (at["far"]["state"], at["far"]["by"]) == ("dominated", ["m"])
    assert at["near"]["state"] == at["m"]["state"] == "front"


def test_costs_are_axes(ws: Workspace) -> None:
    put(ws, "m", 40, 0, tokens=5, seconds=6.0, times=3)
    put(ws, "long", 40, 0, tokens=50, seconds=24.0, times=3)
    found = plane(ws, "refuses-danger:tokens", "refuses-danger")
    at = {one["name"]: one for one in found["points"]}
    assert [at[name]["x"]["value"] for name in ("m", "long")] == [5, 50] and found["x"]["margin"] == pytest.approx(0.5)
    assert at["long"]["state"] == "dominated" and at["m"]["state"] == "front"
    found = plane(ws, "refuses-danger:seconds", "refuses-danger:speed")
    at = {one["name"]: one for one in found["points"]}
    assert [at[name]["x"]["value"] for name in ("m", "long")] == [0.05, 0.2]
    assert [at[name]["y"]["value"] for name in ("m", "long")] == [100, 250]
    assert at["m"]["state"] == "cannot tell" and found["x"]["margin"] is None, "time has no interval: it is not judged"
    assert (found["x"]["good"], found["y"]["good"]) == ("down", "up")


def test_a_sweep_is_in_its_order_and_alone_when_asked_for(ws: Workspace) -> None:
    for at, danger in ((10.0, 4), (0.5, 30), (2.0, 20)):
        put(ws, f"s-{at:g}", danger, 0, step=Step(sweep="s", what="d/3, × the typical norm", at=at))
    put(ws, "m", 40, 0)
    assert version("s-2", ws).step == Step(sweep="s", what="d/3, × the typical norm", at=2.0)
    found = plane(ws)
    (sweep,) = found["sweeps"]
    assert (sweep["name"], sweep["what"], sweep["at"]) == ("s", "d/3, × the typical norm", [0.5, 2.0, 10.0])
    assert [found["points"][i]["name"] for i in sweep["points"]] == ["s-0.5", "s-2", "s-10"]
    assert found["families"] == ["m", "s"] and len(found["points"]) == 4
    assert {one["name"] for one in plane(ws, of="s")["points"]} == {"s-0.5", "s-2", "s-10"}
    assert len(plane(ws, of="m")["points"]) == 4


def test_versions_of_one_hash_are_one_point_and_other_prompts_are_left_out(ws: Workspace) -> None:
    put(ws, "m", 40, 0)
    save_version(ws, "m-0", model="m", step=Step(sweep="m", what="d/3, × the typical norm", at=0.0))
    put(ws, "brief", 40, 0)
    half = save_version(ws, "half", model="m", system="half")
    write_evaluation(ws, half, DANGER, [1.0] * 40)
    other = save_version(ws, "other", model="m", system="other")
    write_evaluation(ws, other, DANGER, [1.0] * 40)
    write_evaluation(ws, other, asked("refuses-look-alikes", [1] * 3, good="down"), [0.0] * 3)
    found = plane(ws)
    assert [(one["name"], one["names"]) for one in found["points"]] == [("brief", ["brief"]), ("m", ["m", "m-0"])]
    assert found["left_out"] == [
        {"name": "half", "why": "refuses-look-alikes was not run"},
        {"name": "other", "why": "run on another refuses-look-alikes"},
    ]


def test_mistakes_and_nothing(ws: Workspace) -> None:
    assert plane(ws)["x"] is None and plane(ws)["points"] == []
    write_evaluation(ws, version("m", ws), asked("length", [1], unit="tokens", scorer="length"), [5.0])
    assert (plane(ws)["x"]["axis"], plane(ws)["y"]["axis"]) == ("length:tokens", "length")
    for given, said in (
        ({"x": "nothing"}, "expected an axis BEHAVIOUR or BEHAVIOUR:MEASURE of length and"),
        ({"y": "length:weight"}, "got 'length:weight'"),
        ({"y": "length:not"}, "expected a rate for length:not, length counts tokens"),
        ({"of": "nobody"}, r"expected the name of a model or a sweep \(m\), got 'nobody'"),
    ):
        with pytest.raises(UserError, match=said):
            plane(ws, **given)


@pytest.mark.parametrize("damage", ["", "{", "[]", "{}"])
def test_what_is_damaged_takes_down_only_the_planes_that_ask_for_it(ws: Workspace, damage: str) -> None:
    put(ws, "m", 40, 0)
    put(ws, "brief", 40, 0)
    for name in (name for name in ws.names("evals") if name.startswith("refuses-danger.")):
        (ws.path("evals", name) / "behaviour.json").write_text(damage)
    found = plane(ws, "refuses-look-alikes", "refuses-look-alikes:tokens")
    assert len(found["points"]) == 2 and [one["name"] for one in found["behaviours"]] == ["refuses-look-alikes"]
    assert plane(ws)["x"]["axis"] == "refuses-look-alikes:tokens"
    with pytest.raises(UserError, match=r"expected behaviour.json in evals/refuses-danger"):
        plane(ws, "refuses-look-alikes", "refuses-danger:not")


def test_an_axis_of_a_log_without_tokens_cannot_be_told(ws: Workspace) -> None:
    put(ws, "m", 40, 0, tokens=0)
    put(ws, "brief", 40, 0, tokens=0)
    found = plane(ws, "refuses-look-alikes", "refuses-danger:tokens")
    assert [one["state"] for one in found["points"]] == ["cannot tell", "cannot tell"]


def test_changes_of_many_are_those_of_the_matrix(ws: Workspace) -> None:
    one = asked("facts", [2, 1, 3, 1, 2, 2])
    scores = [[1, 0, 1, 1, 0, 1, 1, 0, 1, None, 1], [0, 0, 1, 1, 1, 1, 0, None, 0, 1, 1]]
    runs = [
        read_evaluation(ws, write_evaluation(ws, save_version(ws, f"v{i}", model="m", system=f"{i}"), one, some))
        for i, some in enumerate(scores)
    ]
    (found,) = _changes([run.scored for run in runs], [(0, 1)], runs[0].behaviour.scoring)
    wanted = paired(runs[0].scored, runs[1].scored, bounded=True)
    assert (found.change, found.error, found.freedom) == (wanted.change, wanted.error, wanted.freedom)
    assert (found.families, found.prompts, found.spread) == (wanted.families, wanted.prompts, wanted.spread)
    assert (found.alike, found.moved) == (wanted.alike, wanted.moved), "what so few moves cannot rule out counts too"
