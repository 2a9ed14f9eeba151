"""Steering: what people write becomes an edit; both units of a strength; dose and response, also worked by hand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from glasshouse import steering
from glasshouse.activations import Reading
from glasshouse.activations.reading import split_reading
from glasshouse.cli.chatting import complete_each
from glasshouse.dictionaries import Dictionary
from glasshouse.dictionaries.dictionary import Threshold
from glasshouse.features.effects import writers
from glasshouse.models import Batch, Edit, add, load, set
from glasshouse.steering import doses as inside
from glasshouse.text import corpus
from glasshouse.types import Site, UserError

WIDTH = 32


def unembedding(model: Any) -> torch.Tensor:
    """What a direction in the final stream adds to each token's logit, less the mean over tokens: (V, D)."""
    rows_VD = (model.module.lm_head.weight * model.module.transformer.ln_f.weight).detach()
    rows_VD = rows_VD - rows_VD.mean(1, keepdim=True)
    return rows_VD - rows_VD.mean(0)


def promoted(model: Any) -> int:
    """The token whose row is longest: no token gains more along that row than it does itself (Cauchy and Schwarz)."""
    return int(unembedding(model).norm(dim=1).argmax())


def planted(model: Any, site: str, name: str = "made") -> Dictionary:
    """Three features: the unembedding of a token, a random direction, and one that has never fired."""
    generator = torch.Generator().manual_seed(0)
    rows_FD = torch.randn(3, WIDTH, generator=generator)
    if not model.is_encoder:
        rows_FD[0] = unembedding(model)[promoted(model)]
    rows_FD = torch.nn.functional.normalize(rows_FD, dim=1)
    return Dictionary(
        name=name,
        site=Site.parse(site),
        model_name=model.name,
        W_enc=rows_FD.T.contiguous(),
        b_enc=torch.zeros(3),
        W_dec=rows_FD,
        b_dec=torch.zeros(WIDTH),
        activation=Threshold(kind="relu"),
        max_activation=torch.tensor([4.0, 2.0, 0.0]),
        typical_norm=10.0,
    )


@pytest.fixture
def steered(tiny_model: Any) -> Iterator[Any]:
    """The tiny model with a planted dictionary at the stream that enters the final norm, and one before block 2."""
    for one in (planted(tiny_model, "resid.3"), planted(tiny_model, "resid.2", "early")):
        tiny_model.attach(one)
    yield tiny_model
    for name in ("made", "early"):
        tiny_model.detach(name)


@pytest.fixture
def held_out(tiny_model: Any, corpus_dir: Path) -> Reading:
    return split_reading(corpus(corpus_dir), tiny_model, tokens=4000, context=32, seed=0, held_out=0.2)[1]


# -- what is asked for -----------------------------------------------------------------------------------------------


def test_what_people_write() -> None:
    assert steering.parse("resid6/1234=8x") == set("resid6/1234", times_max=8.0)
    assert steering.parse("resid6/1234=0.8") == add("resid6/1234", times_norm=0.8)
    assert steering.parse("a-b.c/7=-1.5") == add("a-b.c/7", times_norm=-1.5)
    assert steering.parse("a/7=2", "new") == add("a/7", times_norm=2.0, positions="new")
    assert steering.parse("a/7=2x", "prompt") == set("a/7", times_max=2.0, positions="prompt")


@pytest.mark.parametrize(
    "text", ["", "=8x", "resid6/1234", "resid6/1234=", "resid6/1234=loud", "resid6/1234=nan", "resid6/x=1", "resid6=8x",
             "resid.6@nowhere.safetensors=1", "1e3x", "resid6/1=8xx"],
)  # fmt: skip
def test_what_cannot_be_read_is_one_line(text: str) -> None:
    with pytest.raises(UserError) as caught:
        steering.parse(text)
    assert "\n" not in str(caught.value)


def test_a_direction_from_a_file(steered: Any, tmp_path: Path) -> None:
    direction_D = torch.randn(WIDTH, generator=torch.Generator().manual_seed(1))
    save_file({"v": direction_D}, tmp_path / "v.safetensors")
    edit = steering.parse(f"resid.3@{tmp_path}/v.safetensors=0.5")
    before, after = (steered.run("Ada walked", ["resid.3"], edits=e)["resid.3"].values for e in (Edit(), edit))
    expected = direction_D / direction_D.norm() * 0.5 * 10
    torch.testing.assert_close(after - before, expected.expand_as(before), atol=1e-4, rtol=1e-4)
    with pytest.raises(UserError, match="typical norm"):
        steering.parse(f"resid.3@{tmp_path}/v.safetensors=8x")
    save_file({"v": direction_D[None]}, tmp_path / "w.safetensors")
    with pytest.raises(UserError, match=r"found \(1, 32\)"):
        steering.parse(f"resid.3@{tmp_path}/w.safetensors=1")


def test_both_units(steered: Any) -> None:
    dictionary = steered.dictionary("made")
    loud = steering.strength(dictionary, 0, times_max=8)
    assert loud.times_norm == pytest.approx(8 * 4 / 10) and loud.times_max == 8
    soft = steering.strength(dictionary, 1, times_norm=0.8)
    assert soft.times_max == pytest.approx(0.8 * 10 / 2)
    assert str(soft) == "made/1 added at 0.8 × the typical norm (4 × its largest activation)"
    assert str(loud) == "made/0 set to 8 × its largest activation (3.2 × the typical norm)"
    assert steering.strength(dictionary, 2, times_norm=0.8).times_max is None
    with pytest.raises(UserError, match="below 3"):
        steering.strength(dictionary, 3, times_max=1)
    edit = steering.parse("made/0=8x") + steering.parse("made/1=0.8") + add("resid.1", torch.ones(WIDTH))
    assert steering.strengths(steered, edit) == [loud, soft]


# -- with and without ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_completions_with_and_without(steered: Any, temperature: float) -> None:
    said: dict[str, str] = {"plain": "", "steered": ""}

    def on_token(side: str, piece: str) -> None:
        said[side] += piece

    settings: dict[str, Any] = {"max_new_tokens": 8, "temperature": temperature, "seed": 3}
    pair = steering.completions(steered, "Ada walked to", steering.parse("made/0=5"), on_token=on_token, **settings)
    assert pair.plain.ids == steered.generate("Ada walked to", **settings).ids, "the model is as it was"
    said_it = pair.steered.ids.count(promoted(steered))
    assert said_it == 8 if temperature == 0 else said_it > pair.plain.ids.count(promoted(steered))
    assert said == {"plain": pair.plain.text, "steered": pair.steered.text}
    assert [s.times_norm for s in pair.strengths] == [5.0]
    nothing = steering.completions(steered, "Ada walked to", steering.parse("made/0=0"), **settings)
    assert nothing.plain.ids == nothing.steered.ids


# -- dose and response -----------------------------------------------------------------------------------------------


def test_a_prompt_in_chat_is_a_turn_of_the_user(steered: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    edit = steering.parse("made/0=5")
    as_it_is = steering.completions(steered, "Ada", edit, max_new_tokens=8)
    assert steering.completions(steered, "Ada", edit, max_new_tokens=8, chat=True).plain.ids == as_it_is.plain.ids
    template = "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}[assistant]"
    monkeypatch.setattr(steered.tokenizer, "chat_template", template, raising=False)
    ids = steered.tokenizer("[user] Ada\n[assistant]", add_special_tokens=False).input_ids
    answered = steering.completions(steered, "Ada", edit, max_new_tokens=8, chat=True)
    assert answered.prompt == "Ada"
    assert answered.plain.ids == steered.generate([ids], 8)[0].ids != as_it_is.plain.ids
    assert answered.steered.ids == steered.generate([ids], 8, edits=edit)[0].ids
    assert steering.completions(steered, "Ada", edit, max_new_tokens=8).plain.ids == as_it_is.plain.ids


def test_what_writes_a_token_is_turned_up(steered: Any) -> None:
    token = promoted(steered)
    text = steered.tokenizer.decode([token])
    found = steered.dictionary("made")
    assert steered.tokenizer(text, add_special_tokens=False).input_ids == [token]
    assert writers(steered, found.site, found.W_dec, text, 1) == [0]
    longer = Dictionary(**{**vars(found), "W_dec": found.W_dec * torch.tensor([[0.01], [50.0], [1.0]])})
    assert writers(steered, found.site, longer.W_dec, text, 1) == [0], "whatever the length of the rows"
    assert writers(steered, Site.parse("z.1"), found.W_dec, text) == []
    worth = lambda made: float(made.ids.count(token) > 20)
    best = steering.turned_up(steered, ["made/2", "made/0"], ["import os", "def f"], worth, (4.0, 0.001, 8.0))
    assert best == ("made/0", 4.0, 2)
    everywhere, written = (
        steered.generate("Ada walked", 40, edits=add("made/1", times_norm=8.0, positions=at)).ids
        for at in ("all", "new")
    )
    worth = lambda made: float(made.ids == written)
    found = [
        steering.turned_up(steered, ["made/1"], ["Ada walked"], worth, (8.0,), positions=at) for at in ("all", "new")
    ]
    assert everywhere != written and [one.worth for one in found] == [0, 1]
    # Of two that are worth the same otherwise the one whose reply costs the model less.
    prompt = steered.tokens(["Ada walked"]).ids(0)
    nats = [
        float(steered.loss([[*prompt, *ids]]).nats_BT[0, len(prompt) - 1 : len(prompt) + 39].mean())
        for ids in (steered.generate("Ada walked", 40, edits=add("made/1", times_norm=s)).ids for s in (0.001, 8.0))
    ]
    best = steering.turned_up(steered, ["made/1"], ["Ada walked"], lambda made: 1.0, (8.0, 0.001), fluency=0.2)
    assert nats[0] < nats[1] and best == ("made/1", 0.001, pytest.approx(1 - 0.2 * nats[0], abs=1e-4))


def by_hand(model: Any, reading: Reading, windows: int, change: Any) -> tuple[float, float]:
    """(own-token log-probability, cross-entropy) changes of the final stream, straight through norm and unembedding."""
    own = cost = count = 0.0
    for window in range(windows):
        ids_T = torch.from_numpy(reading.ids_WT[window, : reading.length_W[window]]).long()
        with torch.no_grad():
            stream_TD = model.run([ids_T.tolist()], ["resid.3"])["resid.3"].values[0]
            logp = [
                model.module.lm_head(model.module.transformer.ln_f(x)).log_softmax(-1)[:-1]
                for x in (stream_TD, change(stream_TD))
            ]
        own += float((logp[1] - logp[0])[:, promoted(model)].sum())
        cost -= float((logp[1] - logp[0]).gather(-1, ids_T[1:, None]).sum())
        count += len(ids_T) - 1
    return own / count, cost / count


@pytest.mark.parametrize("how", ["add", "set"])
def test_the_feature_is_measured_as_by_hand(steered: Any, held_out: Reading, how: str) -> None:
    row_D = steered.dictionary("made").W_dec[0]

    def change(x_TD: torch.Tensor) -> torch.Tensor:
        if how == "add":
            return x_TD + 0.3 * 10 * row_D
        code_T = (x_TD @ row_D).relu()
        return x_TD + (0.75 * 4 - code_T)[:, None] * row_D

    amount = 0.3 if how == "add" else 0.75
    found = steering.dose_response(
        steered, "made/0", [amount], held_out=held_out, how=how, tokens=[promoted(steered)], windows=7, batch_tokens=64
    )
    own, cost = by_hand(steered, held_out, 7, change)
    [dose] = found.doses
    assert dose.feature["own_tokens"].value == pytest.approx(own, abs=1e-4)
    assert dose.feature["cross_entropy"].value == pytest.approx(cost, abs=1e-4)
    assert dose.feature["own_tokens"].n == found.documents == len({*held_out.doc_W[:7].tolist()})


def test_dose_and_response(steered: Any, held_out: Reading) -> None:
    shares: list[float] = []
    found = steering.dose_response(
        steered, "made/0", [0.0, 0.1, 0.2, 0.4], held_out=held_out, windows=12, draws=3, advance=shares.append
    )
    assert promoted(steered) in found.own_tokens and len(found.own_tokens) == 10
    nothing, *doses = found.doses
    assert abs(nothing.feature["own_tokens"].value) < 1e-5 and abs(nothing.random["cross_entropy"].value) < 1e-5
    effects = [dose.feature["own_tokens"].value for dose in doses]
    assert 0 < effects[0] < effects[1] < effects[2]
    costs = [dose.feature["cross_entropy"].value for dose in doses]
    assert costs[2] > costs[1] and costs[2] > 0.05
    for dose in doses:
        assert dose.feature["own_tokens"].low > dose.random["own_tokens"].high, "a random direction does less"
    assert shares[-1] == 1.0 and shares == sorted(shares)
    again = steering.dose_response(steered, "made/0", [0.0, 0.1, 0.2, 0.4], held_out=held_out, windows=12, draws=3)
    assert again == found, "the same seed, the same numbers"
    said = json.loads(json.dumps(found.to_json()))
    assert said["doses"][1]["strength"]["how"] == "add"
    assert [one["token"] for one in said["own_tokens"]] == list(found.own_tokens), "in order of effect"
    assert not steered.edits


def test_a_random_direction_is_as_long_as_what_the_feature_writes(steered: Any, held_out: Reading) -> None:
    """With one draw that happens to be the feature's own direction, both columns are the same numbers."""
    for how, amount in (("add", 0.4), ("set", 2.0)):
        trial = inside._Trial(steered, steered.dictionary("made"), 0, how, steered.dictionary("made").W_dec[:1], [7])
        for batch, scored_BT, _ in inside._batches(steered, held_out, 5, 64):
            trial.read(batch, scored_BT)
            dose = steering.strength(
                steered.dictionary("made"), 0, **{"times_norm" if how == "add" else "times_max": amount}
            )
            ours, same = trial.feature(dose), trial.random(dose, 0)
            for key in ours:
                torch.testing.assert_close(ours[key][0], same[key][0], atol=1e-3, rtol=1e-3)


def test_what_the_text_does_not_teach_costs_nothing(steered: Any, held_out: Reading) -> None:
    learnt_WT = np.zeros(held_out.ids_WT.shape, np.bool_)
    learnt_WT[:, 5] = True
    found = steering.dose_response(
        steered, "made/0", [0.4], held_out=replace(held_out, learnt_WT=learnt_WT), windows=12
    )
    ids_WT, mask_WT = (part[:12] for part in held_out.tensors())
    assert bool(mask_WT[:, 5].all())
    before, after = (
        steered.loss(Batch(ids_WT, mask_WT), edits=edit).nats_BT[:, 4].mean()
        for edit in (Edit(), add("made/0", times_norm=0.4))
    )
    assert found.doses[0].feature["cross_entropy"].value == pytest.approx(float(after - before), abs=1e-4)


def test_what_was_read_is_kept(steered: Any, held_out: Reading, tmp_path: Path) -> None:
    """Stopped in the middle, the same call goes on where it stood and ends in the same numbers."""
    settings: dict[str, Any] = {"held_out": held_out, "windows": 12, "batch_tokens": 64}
    whole = steering.dose_response(steered, "made/0", [0.1, 0.4], **settings)
    shares: list[float] = []

    def stop(share: float) -> None:
        shares.append(share)
        if share > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        steering.dose_response(steered, "made/0", [0.1, 0.4], sums=tmp_path / "sums.json", advance=stop, **settings)
    half = len(shares)
    again = steering.dose_response(
        steered, "made/0", [0.1, 0.4], sums=tmp_path / "sums.json", advance=shares.append, **settings
    )
    assert again == whole
    assert shares == sorted({*shares}) and half < len(shares), "no part was read twice"


def test_texts_do_as_well(steered: Any) -> None:
    found = steering.dose_response(steered, "early/0", [0.5], held_out=["Ada walked to the mill.", "Ben had a lamp."])
    assert found.documents == 2 and found.doses[0].feature["cross_entropy"].n == 2


def test_what_is_kept_is_of_one_model(steered: Any, workspace: Any, tiny_model_dir: Path) -> None:
    """Another model with the same dictionary is measured anew; what is kept is read back for the dictionary's own."""
    for kind, name, fields in (("models", steered.name, {}), ("dictionaries", "made", {"model": steered.name})):
        with workspace.writing(kind, name, config={}, command="open") as draft:
            draft.finish(**fields)
    other = load(tiny_model_dir, device="cpu", name="other")
    other.module.transformer.wte.weight.mul_(1.5)
    other.attach(steered.dictionary("made"))
    texts = [steered.tokens(text).ids(0) for text in ("Ada walked to the mill.", "Ben had a lamp and some bread.")]
    ask = lambda model: json.loads(
        json.dumps(steering.measure_dose(workspace, model, "made/0", otherwise=lambda _: texts))
    )
    assert steering.kept_dose(workspace, "made/0", "add") is None
    its = ask(other)
    assert steering.kept_dose(workspace, "made/0", "add") is None
    mine = ask(steered)
    assert mine["doses"] != its["doses"] and ask(other) == its
    assert steering.kept_dose(workspace, "made/0", "add") == mine == ask(steered)
    assert [run["command"] for run in workspace.runs()] == ["dose", "dose"], "each measured once"
    of = [workspace.manifest("evals", name)["made_from"][1] for name in workspace.names("evals")]
    assert {(ref["kind"], ref["name"]) for ref in of} == {("models", "other"), ("models", steered.name)}


def test_stored_contexts_are_read_as_they_are(steered: Any, workspace: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Halves of a character in their ids, as long as the model reads, its BOS before them."""
    with workspace.writing("dictionaries", "made", config={}, command="open") as draft:
        draft.finish(model=steered.name)
    half = steered.tokens("Ada saw 🐟.").ids(0)[:-2]
    asked: list[Any] = []
    tokens = type(steered).tokens
    monkeypatch.setattr(steered, "bos_id", 0)
    monkeypatch.setattr(type(steered), "tokens", lambda self, texts: asked.append(texts) or tokens(self, texts))
    steering.measure_dose(workspace, steered, "made/0", otherwise=lambda _: [half, [5] * (steered.context - 1)])
    assert asked[0] == [[0, *half], [0] + [5] * (steered.context - 1)]


def test_mistakes(steered: Any, held_out: Reading) -> None:
    with pytest.raises(UserError, match="attached"):
        steering.dose_response(steered, "other/0", held_out=held_out)
    with pytest.raises(UserError, match="below 3"):
        steering.dose_response(steered, "made/3", held_out=held_out)
    with pytest.raises(UserError, match="'add' or 'set'"):
        steering.dose_response(steered, "made/0", held_out=held_out, how="push")
    inner = planted(steered, "z.1", "heads")
    steered.attach(inner)
    try:
        cost = steering.dose_response(steered, "heads/0", [0.5], held_out=held_out, windows=3)
        assert not cost.own_tokens and list(cost.doses[0].feature) == ["cross_entropy"], "no direct effect to measure"
        given = steering.dose_response(steered, "heads/0", [0.5], held_out=held_out, windows=3, tokens=[5])
        assert list(given.own_tokens) == [5]
    finally:
        steered.detach("heads")


# -- an encoder ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def encoder(tiny_model: Any) -> Any:
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=512, hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64
    )
    model = load(BertModel(config).eval(), tokenizer=tiny_model.tokenizer, name="encoder", device="cpu")
    model.attach(planted(model, "resid.1"))
    return model


def test_an_encoder_reports_the_change_of_the_embedding(encoder: Any) -> None:
    texts = ["Ada walked to the mill.", "Ben had a lamp and some bread.", "Nobody had seen Clara."]
    found = steering.dose_response(encoder, "made/1", [0.0, 0.2, 0.8], held_out=texts)
    none, some, much = (dose.feature["embedding_cosine"] for dose in found.doses)
    assert none.value == pytest.approx(1, abs=1e-5) and 1 > some.value > much.value
    assert found.doses[0].feature.keys() == {"embedding_cosine"} and not found.own_tokens
    change = steering.embedding_change(encoder, texts, add("made/1", times_norm=0.8))
    assert change.value == pytest.approx(much.value, abs=1e-5)
    _, moved_B = steering.embedding_moves(encoder, texts, add("made/1", times_norm=0.8))
    assert moved_B.shape == (3,) and bool((moved_B > 0.01).all())
    [said] = complete_each(encoder, add("made/1", times_norm=0.8), iter(texts[:1]), {})
    assert said["moved"] == pytest.approx(float(moved_B[0]), rel=1e-4) and "plain" not in said, "as `chat` says it"
    with pytest.raises(UserError, match="not defined"):
        steering.completions(encoder, texts[0], add("made/1", times_norm=0.8))
