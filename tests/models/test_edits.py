"""Edits: what each kind does to the numbers, the same in `run` and in `generate`, undone, and never silently idle."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zoo
from conftest import byte_tokenizer, texts
from sae import Sae

import glasshouse as gh
from glasshouse.models import Edit
from glasshouse.models.model import Model

PROMPT = "Ada walked to the old mill and"
PROMPTS = ["Ben", PROMPT, "import math\n"]


@pytest.fixture(scope="module")
def zoo_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    tokenizer = byte_tokenizer([text for _, text in texts(20)], zoo.VOCABULARY)
    folder = tmp_path_factory.mktemp("zoo")
    names = ("gpt2", "neox", "llama", "gemma2", "gemma3", "bert")
    return {name: gh.load(zoo.build(name, folder / name, tokenizer), device="cpu") for name in names}


@pytest.fixture
def model(tiny_model: Model) -> Iterator[Model]:
    tiny_model.attach(Sae("d", "resid.1", 32))
    yield tiny_model
    tiny_model.detach("d")


VECTOR = torch.randn(32, generator=torch.Generator().manual_seed(1))
RANDOM = torch.randn(128, 32, generator=torch.Generator().manual_seed(3))
ROWS = torch.randn(11, 32, generator=torch.Generator().manual_seed(2))

# kind of edit → how it is made for some positions
EDITS: dict[str, Callable[[Model, Any], Edit]] = {
    "add": lambda m, p: gh.add("resid.1", VECTOR, scale=2.0, positions=p),
    "add in place": lambda m, p: gh.add("resid_mid.1", VECTOR, positions=p),
    "add times_norm": lambda m, p: gh.add("d/3", times_norm=0.8, positions=p),
    "set": lambda m, p: gh.set("attn_out.1", VECTOR, positions=p),
    "set feature": lambda m, p: gh.set("d/3", times_max=8, positions=p),
    "ablate": lambda m, p: gh.ablate("mlp_out.1", positions=p),
    "ablate mean": lambda m, p: gh.ablate("resid.2", "mean", mean=VECTOR, positions=p),
    "ablate resample": lambda m, p: gh.ablate("resid.2", "resample", values=ROWS, seed=3, positions=p),
    "ablate head": lambda m, p: gh.ablate("z.1", head=2, positions=p),
    "ablate head of pattern": lambda m, p: gh.ablate("pattern.1", head=1, positions=p),
    "ablate error": lambda m, p: gh.ablate("d/error", positions=p),
    "ablate codes": lambda m, p: gh.ablate("d/codes", positions=p),
    "patch": lambda m, p: gh.patch("resid.2", ROWS, positions=p),
    "logits": lambda m, p: gh.add("logits", 3 * torch.randn(512, generator=torch.Generator().manual_seed(4))),
    "weight": lambda m, p: gh.weight("transformer.h.1.mlp.c_proj.weight", delta=0.3 * RANDOM),
}


@pytest.mark.parametrize("positions", ["all", "prompt", "new", 2, -1])
@pytest.mark.parametrize("kind", list(EDITS))
def test_run_and_generate_agree_with_and_without_cache(model: Model, kind: str, positions: str | int) -> None:
    """Greedy tokens with the cache, without it, and by `run` on the growing text, of which `new` stands in as the
    edit at each position after the prompt."""
    edit = EDITS[kind](model, positions)
    cached = model.generate(PROMPT, 5, edits=edit)
    assert cached.ids == model.generate(PROMPT, 5, edits=edit, use_cache=False).ids
    with model.edit(edit):
        assert model.generate(PROMPT, 5).ids == cached.ids
    prompt = model.tokens(PROMPT).ids(0)
    ids = list(prompt)
    for step, token in enumerate(cached.ids):
        in_text: Edit | None = edit
        if kind not in ("logits", "weight"):
            if positions == "prompt":
                in_text = sum((EDITS[kind](model, p) for p in range(len(prompt))), Edit())
            elif positions == "new":
                in_text = sum((EDITS[kind](model, p) for p in range(len(prompt), len(ids))), Edit())
            elif positions == -1:
                in_text = EDITS[kind](model, len(prompt) - 1)
        if kind == "patch" and positions in ("prompt", "new"):
            in_text = sum((EDITS[kind](model, part.positions) for part in in_text.parts if part.positions < 11), Edit())
        logits_V = model.run([ids], "logits", edits=in_text).logits[0, -1]
        assert int(logits_V.argmax()) == token, step
        ids.append(token)


@pytest.mark.parametrize("kind", [kind for kind in EDITS if kind != "logits"])
def test_every_kind_changes_the_logits_and_is_undone(model: Model, kind: str) -> None:
    plain = model.run(PROMPT, "logits").logits
    with model.edit(EDITS[kind](model, "all")):
        assert not torch.allclose(model.run(PROMPT, "logits").logits, plain, atol=1e-3)
    assert torch.equal(model.run(PROMPT, "logits").logits, plain)


def test_a_list_of_prompts_edits_each_as_if_alone(model: Model) -> None:
    for kind in EDITS:
        for positions in ("new", -1):
            edit = EDITS[kind](model, positions)
            together = model.generate(PROMPTS, 5, edits=edit)
            assert [g.ids for g in together] == [model.generate(p, 5, edits=edit).ids for p in PROMPTS], kind


@pytest.mark.parametrize("name", ["gpt2", "neox", "llama", "gemma2", "gemma3"])
def test_families_agree_with_and_without_cache(zoo_models: dict[str, Model], name: str) -> None:
    model = zoo_models[name]
    edits = [
        Edit(),
        gh.add("resid.1", 3 * VECTOR),
        gh.ablate("z.1", head=1) + gh.ablate("mlp_out.2", positions="new"),
        gh.ablate("pattern.0", head=0),
        gh.add("embed", VECTOR, positions=-1),
    ]
    for edit in edits:
        cached = model.generate(PROMPTS, 8, edits=edit)
        assert [g.ids for g in cached] == [g.ids for g in model.generate(PROMPTS, 8, edits=edit, use_cache=False)]
        assert [g.ids for g in cached] == [model.generate(p, 8, edits=edit).ids for p in PROMPTS]


# -- what the numbers become -----------------------------------------------------------------------------------


def test_add_and_set_by_hand(model: Model) -> None:
    plain = model.run(PROMPT, ["resid.1", "resid_mid.1", "resid.2", "mlp_out.1"])
    added = model.run(PROMPT, ["resid.1", "resid.0"], edits=gh.add("resid.1", VECTOR, scale=2.0, positions=1))
    want = plain["resid.1"].values.clone()
    want[0, 1] += 2 * VECTOR
    torch.testing.assert_close(added["resid.1"].values, want)
    middle = model.run(PROMPT, ["resid_mid.1", "resid.2", "mlp_out.1"], edits=gh.add("resid_mid.1", VECTOR))
    torch.testing.assert_close(middle["resid_mid.1"].values, plain["resid_mid.1"].values + VECTOR)
    torch.testing.assert_close(middle["resid.2"].values, middle["resid_mid.1"].values + middle["mlp_out.1"].values)
    once, twice = gh.set("resid.1", VECTOR), gh.add("resid.1", VECTOR)
    torch.testing.assert_close(model.run("a", "resid.1", edits=once + twice)["resid.1"].values[0, 0], 2 * VECTOR)
    torch.testing.assert_close(model.run("a", "resid.1", edits=twice + once)["resid.1"].values[0, 0], VECTOR)


def test_set_feature_keeps_the_error(model: Model) -> None:
    sae = model.attached["d"]
    plain = model.run(PROMPTS, ["d/codes", "d/error", "d/3", "resid.1"])
    loud = model.run(PROMPTS, ["resid.1"], edits=gh.set("d/3", times_max=8))["resid.1"].rows()
    codes = plain["d/codes"].rows().clone()
    torch.testing.assert_close(plain["d/3"].rows(), codes[:, 3])
    codes[:, 3] = 8 * sae.max_activation[3]
    torch.testing.assert_close(loud, sae.decode(codes) + plain["d/error"].rows())
    soft = model.run(PROMPTS, ["resid.1"], edits=gh.add("d/3", times_norm=0.8))["resid.1"].rows()
    moved = soft - plain["resid.1"].rows()
    torch.testing.assert_close(moved, (0.8 * 3.0 * sae.W_dec[3]).expand_as(moved), atol=1e-5, rtol=1e-5)
    bare = model.run(PROMPTS, ["resid.1"], edits=gh.ablate("d/error"))["resid.1"].rows()
    torch.testing.assert_close(bare, sae.decode(plain["d/codes"].rows()))


def test_ablate_head(model: Model) -> None:
    plain = model.run(PROMPT, ["z.1", "attn_out.1"])
    edited = model.run(PROMPT, ["z.1", "attn_out.1"], edits=gh.ablate("z.1", head=2))
    want = plain["z.1"].values.clone()
    want[:, :, 2] = 0
    assert torch.equal(edited["z.1"].values, want)
    by_pattern = model.run(PROMPT, ["attn_out.1"], edits=gh.ablate("pattern.1", head=2))
    torch.testing.assert_close(by_pattern["attn_out.1"].values, edited["attn_out.1"].values)


def test_a_head_takes_its_own_of_what_was_given_of_all_heads(model: Model) -> None:
    z = model.run(PROMPTS, "z.1")["z.1"]
    for mean in (z.mean(), z.mean().flatten(), z.mean()[2]):
        edited = model.run(PROMPT, "z.1", edits=gh.ablate("z.1", "mean", head=2, mean=mean))["z.1"].rows()
        torch.testing.assert_close(edited[:, 2], z.mean()[2].expand_as(edited[:, 2]))
        torch.testing.assert_close(edited[:, 1], z.text(1)[:, 1])
    of_all, own = (gh.ablate("z.1", "resample", head=2, values=rows) for rows in (z.rows(), z.rows()[:, 2]))
    found = [model.run(PROMPT, "z.1", edits=edit)["z.1"].values for edit in (of_all, own)]
    assert torch.equal(*found) and not torch.allclose(found[0][0, :, 2], z.text(1)[:, 2])


def test_set_takes_numbers_and_vectors_of_any_kind(model: Model) -> None:
    for number in (np.float32(2.5), np.float64(2.5), np.array(2.5), 2.5):
        assert str(gh.set("d/3", number)) == "set('d/3', value=2.5)"
    assert str(gh.set("d/3", np.int64(2))) == "set('d/3', value=2.0)"
    for vector in (VECTOR.numpy(), VECTOR.tolist(), VECTOR):
        values = model.run(PROMPT, "resid.1", edits=gh.set("resid.1", vector))["resid.1"].values
        torch.testing.assert_close(values, VECTOR.expand_as(values))


def test_patch_from_another_run(model: Model) -> None:
    source = model.run("Clara", ["resid.1", "pattern.1", "d/3", "z.0"])
    for site in source:
        n = len(source.batch.ids(0))
        edited = model.run(PROMPTS[1:], [site], edits=gh.patch(site, source))
        for b in range(2):
            got = edited[site].text(b)
            got = got[:, :n, :n] if site.startswith("pattern") else got[:n]
            torch.testing.assert_close(got, source[site].text(0), atol=1e-5, rtol=1e-4)
    everywhere = model.run(PROMPT, ["resid.3"])
    same = model.run("Ben left the letter there", "resid.3", edits=gh.patch("resid.3", everywhere))
    n = min(len(everywhere.batch.ids(0)), len(same.batch.ids(0)))
    torch.testing.assert_close(same["resid.3"].values[0, :n], everywhere["resid.3"].values[0, :n])


def test_resample_is_the_same_in_any_batch(model: Model) -> None:
    edit = gh.ablate("resid.2", "resample", values=ROWS, seed=5)
    together = model.run(PROMPTS, "resid.2", edits=edit)["resid.2"]
    for b, prompt in enumerate(PROMPTS):
        alone = model.run(prompt, "resid.2", edits=edit)["resid.2"]
        assert torch.equal(together.text(b), alone.text(0))
        assert all(any(torch.equal(row, r) for r in ROWS) for row in alone.text(0))


def test_weight_reaches_tied_parameters_and_is_undone(model: Model) -> None:
    name = "transformer.wte.weight"
    before = model.module.transformer.wte.weight
    plain = model.run(PROMPT, "logits").logits
    doubled = model.run(PROMPT, "logits", edits=gh.weight(name, 2 * before.detach()))
    by_delta = model.run(PROMPT, "logits", edits=gh.weight("lm_head.weight", delta=before.detach()))
    assert torch.equal(doubled.logits, by_delta.logits) and not torch.allclose(doubled.logits, plain)
    assert model.module.transformer.wte.weight is before is model.module.lm_head.weight
    assert torch.equal(model.run(PROMPT, "logits").logits, plain)


# -- undone, and never silent -----------------------------------------------------------------------------------


def _clean(model: Model) -> bool:
    return not model.edits and all(not m._forward_hooks and not m._forward_pre_hooks for m in model.module.modules())


def test_undone_after_an_error(model: Model) -> None:
    plain = model.run(PROMPT, "logits").logits
    edit = gh.add("resid.1", VECTOR) + gh.weight("lm_head.weight", delta=torch.ones(512, 32))
    with pytest.raises(ZeroDivisionError), model.edit(edit + gh.ablate("pattern.1", head=0)):
        model.run(PROMPT, "logits")
        raise ZeroDivisionError
    assert _clean(model) and torch.equal(model.run(PROMPT, "logits").logits, plain)
    broken = model.module.transformer.h[2].mlp.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError), model.edit(edit):  # not the complaint that edits did not fire
        model.run(PROMPT, "logits")
    broken.remove()
    assert _clean(model) and torch.equal(model.run(PROMPT, "logits").logits, plain)
    assert model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize(
    ("edit", "options"),
    [
        (gh.add("resid.3", VECTOR), {"stop": True}),
        (gh.add("resid.1", VECTOR, positions="new"), {}),
        (gh.add("resid.1", VECTOR, positions=500), {}),
        (gh.add("logits", torch.zeros(512)), {"stop": True}),
        (gh.weight("transformer.h.2.mlp.c_fc.bias", torch.zeros(128)), {"stop": True}),
        (gh.patch("resid.1", ROWS[:2], positions=5), {}),
    ],
)
def test_an_edit_that_did_not_fire_raises(model: Model, edit: Edit, options: dict[str, bool]) -> None:
    with pytest.raises(gh.UserError, match="did not fire"):
        model.run(PROMPT, "resid.2", edits=edit, **options)
    assert _clean(model)


def test_a_weight_that_is_used_after_the_base_model_fires_in_a_whole_run(zoo_models: dict[str, Model]) -> None:
    model = zoo_models["llama"]
    edit = gh.weight("lm_head.weight", delta=torch.ones(zoo.VOCABULARY, 32))
    model.run(PROMPT, "resid.1", edits=edit)
    with pytest.raises(gh.UserError, match=r"did not fire; the run stopped after resid\.1"):
        model.run(PROMPT, "resid.1", edits=edit, stop=True)


def test_edits_for_new_tokens_are_excused_when_none_was_read(model: Model) -> None:
    edit = gh.add("resid.1", VECTOR, positions="new")
    assert model.generate(PROMPT, 1, edits=edit).ids == model.generate(PROMPT, 1).ids
    with pytest.raises(gh.UserError, match="did not fire"):
        model.generate(PROMPT, 3, edits=gh.add("resid.1", VECTOR, positions=99))


@pytest.mark.parametrize(
    "make",
    [
        lambda: gh.add("resid.1"),
        lambda: gh.add("resid.1", torch.ones(31)),
        lambda: gh.add("nowhere.1", VECTOR),
        lambda: gh.add("resid.9", VECTOR),
        lambda: gh.add("resid.2", VECTOR, times_norm=1.0),
        lambda: gh.add("d/3", VECTOR, times_norm=1.0),
        lambda: gh.add("resid.1", torch.zeros(32), times_norm=1.0),
        lambda: gh.add("other/3", times_norm=1.0),
        lambda: gh.set("d/99", times_max=2),
        lambda: gh.set("d/3"),
        lambda: gh.set("d/3", "loud"),
        lambda: gh.set("d/3", float("nan")),
        lambda: gh.set("d/3", times_max=float("inf")),
        lambda: gh.set("resid.1", [[1.0], [1.0, 2.0]]),
        lambda: gh.set("resid.1", times_max=2),
        lambda: gh.ablate("resid.1", "resample", values=torch.zeros(0, 32)),
        lambda: gh.ablate("pattern.1", "mean", mean=torch.tensor([0.1, 0.2])),
        lambda: gh.add("pattern.1", torch.zeros(3)),
        lambda: gh.set("pattern.1", torch.zeros(3), head=1),
        lambda: gh.patch("pattern.1", torch.zeros(3, 5, 5)),
        lambda: gh.ablate("resid.1", "most"),
        lambda: gh.ablate("resid.1", "mean"),
        lambda: gh.ablate("resid.1", head=1),
        lambda: gh.ablate("z.1", head=4),
        lambda: gh.ablate("z.1", positions="some"),
        lambda: gh.patch("resid.1", torch.ones(3)),
        lambda: gh.patch("resid.1", torch.ones(4, 31)),
        lambda: gh.weight("transformer.h.9", VECTOR),
        lambda: gh.weight("lm_head.weight", VECTOR),
        lambda: gh.weight("lm_head.weight"),
    ],
)
def test_wrong_edits_get_one_line(model: Model, make: Callable[[], Edit]) -> None:
    with pytest.raises(gh.UserError) as error:
        model.run(PROMPT, edits=make())
    assert "\n" not in str(error.value)


def test_a_strength_that_overflows_is_no_reply(model: Model) -> None:
    with pytest.raises(gh.UserError, match="finite logits"):
        model.generate(PROMPT, 3, edits=gh.set("d/3", 1e38) + gh.add("d/3", scale=3e38))
    forbidden = torch.zeros(512)
    forbidden[model.generate(PROMPT, 1).ids] = -torch.inf
    assert model.generate(PROMPT, 1, edits=gh.add("logits", forbidden)).ids != model.generate(PROMPT, 1).ids


def test_an_imported_dictionary_may_know_too_little(model: Model) -> None:
    bare = Sae("bare", "resid.2", 32)
    bare.max_activation = bare.typical_norm = None
    model.attach(bare)
    for edit in (gh.set("bare/1", times_max=2), gh.add("bare/1", times_norm=1.0)):
        with pytest.raises(gh.UserError, match="imported without"):
            model.run(PROMPT, edits=edit)
    assert model.run(PROMPT, "bare/1", edits=gh.set("bare/1", 2.0))["bare/1"].values.shape == (1, 7)
    bare.max_activation, bare.typical_norm = torch.tensor([1.0] + [0.0] * 31), 1.0
    with pytest.raises(gh.UserError, match=r"expected bare/1 to have fired .* give value="):
        model.run(PROMPT, edits=gh.set("bare/1", times_max=2))
    model.detach("bare")


# -- as values -----------------------------------------------------------------------------------


def test_edits_print_and_save(model: Model, tmp_path: Path) -> None:
    assert str(gh.set("d/3", times_max=8) + gh.ablate("z.1", head=3)) == (
        "set('d/3', times_max=8) + ablate('z.1', head=3, how='zero')"
    )
    for kind, make in EDITS.items():
        edit = make(model, "all")
        loaded = gh.load_edit(edit.save(tmp_path / f"{kind}.json"))
        assert str(loaded) == str(edit) and loaded.hash == edit.hash
        assert model.generate(PROMPT, 4, edits=loaded).ids == model.generate(PROMPT, 4, edits=edit).ids
    assert not (tmp_path / "set feature.safetensors").exists()


def test_names_with_dots_do_not_share_tensors(tmp_path: Path) -> None:
    edits = [gh.add("resid.1", factor * VECTOR) for factor in (0.5, 0.8)]
    paths = [edit.save(tmp_path / name) for edit, name in zip(edits, ("steer-0.5", "steer-0.8"), strict=True)]
    assert [gh.load_edit(path).hash for path in paths] == [edit.hash for edit in edits]


def test_edits_that_do_not_read_are_refused(tmp_path: Path) -> None:
    path = gh.add("resid.1", VECTOR).save(tmp_path / "edit.json")
    tensors = path.with_suffix(".safetensors")
    tensors.write_bytes(tensors.read_bytes()[:-4] + b"\0\0\0\0")
    with pytest.raises(gh.UserError, match="does not match its hash"):
        gh.load_edit(path)
    tensors.unlink()
    with pytest.raises(gh.UserError, match="no such file"):
        gh.load_edit(path)
    record = json.loads(path.read_text())
    for changed in ({"format": 99}, {"parts": [{"kind": "melt"}]}, {"parts": 3}, {"format": None}):
        (tmp_path / "other.json").write_text(json.dumps({**record, "tensors": None, **changed}))
        with pytest.raises(gh.UserError):
            gh.load_edit(tmp_path / "other.json")


def test_edits_change_the_version(model: Model) -> None:
    plain = model.version
    with model.edit(gh.ablate("z.1", head=0)):
        assert model.version != plain
    assert model.version == plain


def test_encoders_are_edited_too(zoo_models: dict[str, Model]) -> None:
    model = zoo_models["bert"]
    plain = model.run(PROMPTS, ["resid.3"])["resid.3"].rows()
    for edit in (gh.ablate("attn_out.1"), gh.set("resid_mid.0", VECTOR), gh.ablate("pattern.1", head=0)):
        assert not torch.allclose(model.run(PROMPTS, ["resid.3"], edits=edit)["resid.3"].rows(), plain, atol=1e-3)
