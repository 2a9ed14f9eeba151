"""What is active inside: a planted direction is found, small shifts are none, and foreign dictionaries are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from glasshouse.behaviours import Behaviour, evaluate, version
from glasshouse.behaviours.asking import asked_ids
from glasshouse.behaviours.breadth import widely
from glasshouse.behaviours.discoveries import fitting
from glasshouse.behaviours.discovery import EMBEDDING, discovered
from glasshouse.behaviours.insides import insides, readings
from glasshouse.dictionaries import Dictionary
from glasshouse.dictionaries.dictionary import Threshold
from glasshouse.models import load
from glasshouse.types import Site, UserError
from glasshouse.workspace import Workspace
from tests.behaviours.test_evaluation import behaviour


@pytest.fixture(scope="module")
def ws(chatting: Path) -> Workspace:
    return Workspace.open(chatting)


def asked() -> Behaviour:
    families = [{"family": str(i), "prompts": [f"Where does number {i} live?"]} for i in range(60)]
    return widely([behaviour("kinds", prompts=families)], count=60, max_new_tokens=6)


def toward(gap_D: torch.Tensor, middle_D: torch.Tensor) -> Dictionary:
    """Two features: the way from one model to the other, measured from half way, and one that is always on."""
    unit_D = gap_D / gap_D.norm()
    W_enc = torch.stack([unit_D, torch.zeros_like(unit_D)], 1)
    return Dictionary(
        name="toward", site=Site.parse("resid.2"), model_name="small", W_enc=W_enc,
        b_enc=torch.tensor([-float(middle_D @ unit_D), 1.0]), W_dec=W_enc.T.contiguous(), b_dec=torch.zeros(len(gap_D)),
        activation=Threshold(kind="relu"), max_activation=torch.tensor([float(gap_D.norm()) / 2, 1.0]),
    )  # fmt: skip


def test_what_fine_tuning_moved_inside_is_found_with_what_it_says(ws: Workspace) -> None:
    small, ticking = version("small", ws), version("ticking", ws)
    runs = evaluate(small, asked(), ws), evaluate(ticking, asked(), ws)
    states = []
    for name in ("small", "ticking"):
        model = load(name, workspace=ws, device="cpu")
        ids = [asked_ids(model, sample) for sample in runs[0].samples]
        run = model.run(ids, ["resid.2"])["resid.2"]
        states.append(torch.stack([run.values[i, len(one) - 1] for i, one in enumerate(ids)]).mean(0))
    dictionary = toward(states[1] - states[0], (states[0] + states[1]) / 2)
    found = insides(ws, small, ticking, runs[0], dictionary)
    assert found.after_PF.shape == (60, 2) and found.names == ["toward/0", "toward/1"]
    assert found.after_PF[:, 0].mean() > found.before_PF[:, 0].mean() + 0.5
    assert (found.after_PF[:, 1] == found.before_PF[:, 1]).all()  # on in both
    shown = discovered(*runs, inside=found)["groups"]
    inside = [one for one in shown if "toward/0" in [one["name"], *one["also"]]]
    assert inside and not any("toward/1" in [one["name"], *one["also"]] for one in shown)
    assert not [one for one in discovered(*runs)["groups"] if "toward/0" in [one["name"], *one["also"]]]


def test_a_shift_of_less_than_a_quarter_is_none(ws: Workspace) -> None:
    small, ticking = version("small", ws), version("ticking", ws)
    run = evaluate(small, asked(), ws)
    wide = replace(toward(torch.ones(64), torch.zeros(64)), max_activation=torch.tensor([1e6, 1.0]))
    found = insides(ws, small, ticking, run, wide)
    assert (found.after_PF == found.before_PF).all()


def test_replies_are_embedded_as_the_base_reads_them(ws: Workspace) -> None:
    small, ticking = version("small", ws), version("ticking", ws)
    runs = evaluate(small, asked(), ws), evaluate(ticking, asked(), ws)
    read = readings(ws, small, runs[0], runs[0]), readings(ws, small, runs[0], runs[1])
    model = load("small", workspace=ws, device="cpu")
    prompt, reply = (
        asked_ids(model, runs[1].samples[7]),
        model.tokenizer(runs[1].samples[7].reply, add_special_tokens=False).input_ids,
    )
    site = f"resid.{(model.n_layers + 1) // 2}"
    alone = model.run([[*prompt, *reply]], [site])[site].values[0, len(prompt) :].mean(0)
    torch.testing.assert_close(torch.from_numpy(read[1][7]), alone, atol=1e-4, rtol=1e-4)
    found = discovered(*runs, read=read)
    assert found["embedded"]["share"]["low"] > 0.6 and found["embedded"]["p"] < 0.01
    assert [one for one in found["groups"] if EMBEDDING in [one["name"], *one["also"]]]
    silent = replace(runs[1], samples=(replace(runs[1].samples[0], reply=""), *runs[1].samples[1:]))
    assert not readings(ws, small, runs[0], silent)[0].any()
    same = discovered(runs[0], runs[0], read=(read[0], read[0]))["embedded"]
    assert same["share"]["value"] == 0.5 and same["p"] == 1


def test_a_way_of_speaking_is_a_difference_by_its_embedding_alone(ws: Workspace) -> None:
    """Every word is another; that they lie in another direction is what differs."""
    run = evaluate(version("small", ws), asked(), ws)
    rng = np.random.default_rng(0)
    say = lambda some: replace(run, samples=tuple(replace(s, reply=f"{i} {some}") for i, s in enumerate(run.samples)))
    runs = say("yes"), say("yes;")
    old_PD = rng.normal(size=(60, 8)).astype(np.float32)
    noise_PD = rng.normal(size=(60, 8)).astype(np.float32)
    (found,) = discovered(*runs, read=(old_PD, old_PD + noise_PD + 2 * np.eye(8, dtype=np.float32)[3]))["groups"]
    assert found["name"] == EMBEDDING and found["change"]["low"] > 0 and found["pattern"] is None
    assert found["base"]["low"] < 0 < found["base"]["high"]
    assert not discovered(*runs, read=(old_PD, old_PD + noise_PD))["groups"]
    assert not discovered(runs[0], runs[0], read=(old_PD, old_PD + 1e-6 * noise_PD))["groups"]


def test_a_dictionary_of_another_model_is_refused(ws: Workspace) -> None:
    small, ticking = version("small", ws), version("ticking", ws)
    run = evaluate(small, asked(), ws)
    good = toward(torch.ones(64), torch.zeros(64))
    with pytest.raises(UserError, match=r"that ticking comes from \(ticking, small\), toward is of elsewhere"):
        insides(ws, ticking, small, run, replace(good, model_name="elsewhere"))
    with pytest.raises(UserError, match="expected largest activations in toward, found none"):
        insides(ws, small, ticking, run, replace(good, max_activation=None))
    assert fitting(ws, small, ticking) is None
