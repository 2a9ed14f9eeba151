"""Runs, generation, attached dictionaries, modules of one's own."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from sae import Sae
from torch import Tensor, nn

import glasshouse as gh
from glasshouse.models import Batch, Place, SiteMap, generation
from glasshouse.models.cache import roomy_cache
from glasshouse.models.generation import _chosen, _Row
from glasshouse.models.model import Model
from glasshouse.models.runs import Bound

TEXTS = ["Ada walked to the harbour", "Ben", "import math\ndef total_of(value):"]


@pytest.fixture
def model(tiny_model: Model) -> Iterator[Model]:
    yield tiny_model
    for name in list(tiny_model.attached):
        tiny_model.detach(name)


def test_sites_globs_and_aliases(model: Model) -> None:
    run = model.run(TEXTS, ["z.*", "resid.0"])
    assert list(run) == ["z.0", "z.1", "z.2", "resid.0"]
    assert run["z.1"].values.shape == (3, run.batch.ids_BT.shape[1], 4, 8)
    run = model.run(TEXTS[0], ["blocks.1.hook_resid_post", "blocks.0.attn.hook_z"])
    assert torch.equal(run["resid.2"].values, run["blocks.2.hook_resid_pre"].values)
    assert "z.0" in run and "z.9" not in run
    assert model.sites["mlp_act.1"].width == 128 and model.sites["pattern.0"].shape == "heads × tokens × tokens"
    assert len(model.run(TEXTS, "*")) == len(model.sites)
    for wrong in ("resid.4", "resid_mid.3", "q.*", "nothing", "d/codes"):
        with pytest.raises(gh.UserError):
            model.run(TEXTS, wrong)
    with pytest.raises(gh.UserError, match="sites read"):
        run["resid.0"]


def test_masks_and_positions(model: Model) -> None:
    run = model.run(TEXTS, "resid.1")
    assert run["resid.1"].mask.sum(1).tolist() == run.batch.lengths
    assert run["resid.1"].rows().shape == (sum(run.batch.lengths), 32)
    torch.testing.assert_close(run["resid.1"].mean(), run["resid.1"].rows().mean(0))
    assert ["".join(tokens) for tokens in run.tokens] == TEXTS
    left = Batch(run.batch.ids_BT, run.batch.mask_BT.flip(1))
    assert left.position_BT[1].tolist()[-2:] == [-1, 0] or left.lengths[1] != 1
    again = model.run([run.batch.ids(b) for b in range(3)], "resid.1")
    assert torch.equal(again["resid.1"].rows(), run["resid.1"].rows())


def test_the_ids_of_one_text_are_one_text(model: Model) -> None:
    ids = model.tokens(TEXTS[0]).ids(0)
    assert torch.equal(model.run(ids, "resid.1")["resid.1"].values, model.run(TEXTS[0], "resid.1")["resid.1"].values)


@pytest.mark.parametrize("texts", [[], [""], ["a", ""], ["word " * 200], [[]], ["a\ud800"]])
def test_texts_that_do_not_fit_get_one_line(model: Model, texts: Any) -> None:
    with pytest.raises(gh.UserError, match="expected"):
        model.run(texts, "resid.1")


def test_stop_ends_the_pass(model: Model) -> None:
    seen: list[int] = []
    handles = [
        block.register_forward_pre_hook(lambda *_, n=n: seen.append(n))
        for n, block in enumerate(model.module.transformer.h)
    ]
    stopped = model.run(TEXTS, ["resid.1", "attn_out.1"], stop=True)
    assert seen == [0, 1]
    whole = model.run(TEXTS, ["resid.1", "attn_out.1"])
    assert seen == [0, 1, 0, 1, 2]
    for handle in handles:
        handle.remove()
    assert all(torch.equal(stopped[s].values, whole[s].values) for s in whole)


def test_values_are_the_models_own_tensors_without_graph(model: Model) -> None:
    values = model.run(TEXTS, "resid.1", stop=True)["resid.1"].values
    assert not values.requires_grad and not values.is_inference()


@pytest.mark.parametrize("site", ["embed", "resid.1", "resid_mid.1", "mlp_act.0", "z.1", "attn_out.2", "pattern.1"])
def test_gradients_are_those_of_small_steps(model: Model, site: str) -> None:
    def score(logits: Tensor) -> Tensor:
        return logits[0, -1].log_softmax(-1)[7]

    run = model.run(TEXTS[0], [site, "logits"], grad=True)
    assert torch.equal(run.logits, model.run(TEXTS[0], [site, "logits"]).logits)
    (gradient,) = torch.autograd.grad(score(run.logits), run[site].values)
    direction = torch.randn(gradient.shape, generator=torch.Generator().manual_seed(0))
    values, step = run[site].values.detach(), 1e-2

    def moved(sign: int) -> Tensor:
        source = values + sign * step * direction
        edited = model.run(TEXTS[0], "logits", edits=gh.patch(site, source))
        return score(edited.logits)

    slope = float(moved(1) - moved(-1)) / (2 * step)
    assert slope == pytest.approx(float((gradient * direction).sum()), rel=0.05, abs=2e-3)
    assert not any(p.requires_grad for p in model.module.parameters())


def test_gradients_of_codes_and_errors(model: Model) -> None:
    """Through the decoder for codes, as the stream's own for the error; and no number changes."""
    sae = Sae("d", "resid.1", 32)
    model.attach(sae)
    plain = model.run(TEXTS[0], ["logits", "resid.1"], grad=True)
    (stream,) = torch.autograd.grad(plain.logits[0, -1, 7], plain["resid.1"].values)
    run = model.run(TEXTS[0], ["d/codes", "d/error", "resid.0", "logits"], grad=True)
    assert torch.equal(run.logits, plain.logits)
    codes, error, start = torch.autograd.grad(
        run.logits[0, -1, 7], [run["d/codes"].values, run["d/error"].values, run["resid.0"].values]
    )
    torch.testing.assert_close(codes, stream @ sae.W_dec.T)
    torch.testing.assert_close(error, stream)
    again = model.run(TEXTS[0], ["resid.0", "logits"], grad=True)
    torch.testing.assert_close(start, torch.autograd.grad(again.logits[0, -1, 7], again["resid.0"].values)[0])


def test_attached_dictionaries(model: Model) -> None:
    sae = Sae("d", "mlp_out.1", 32)
    model.attach(sae)
    run = model.run(TEXTS, ["d/*", "d/5", "mlp_out.1"], stop=True)
    x_ND, codes_NF = run["mlp_out.1"].rows(), run["d/codes"].rows()
    torch.testing.assert_close(codes_NF, sae.encode(x_ND))
    torch.testing.assert_close(run["d/error"].rows() + sae.decode(codes_NF), x_ND)
    assert torch.equal(run["d/5"].values, run["d/codes"].values[..., 5])
    model.attach(Sae("heads", "z.1", 32))
    run = model.run(TEXTS, ["heads/error", "z.1"], edits=gh.set("heads/3", 2.0))
    assert run["heads/error"].rows().shape == x_ND.shape
    with pytest.raises(gh.UserError, match=r"expects width 31 but mlp_out\.1 of tiny has 32"):
        model.attach(Sae("wide", "mlp_out.1", 31))
    with pytest.raises(gh.UserError, match="below 24"):
        model.run(TEXTS, "d/24")
    model.detach("d")
    with pytest.raises(gh.UserError, match="attach it with"):
        model.run(TEXTS, "d/codes")


def test_loss_is_transformers_own(model: Model) -> None:
    loss = model.loss(TEXTS)
    assert loss.n == sum(n - 1 for n in model.tokens(TEXTS).lengths)
    for b, text in enumerate(TEXTS):
        ids = torch.tensor([model.tokenizer(text).input_ids])
        if ids.shape[1] > 1:
            own = float(model.module(input_ids=ids, labels=ids).loss)
            assert float(loss.nats_BT[b].sum()) / (ids.shape[1] - 1) == pytest.approx(own, rel=1e-4)
    assert float(model.loss(TEXTS, edits=gh.ablate("resid.2")).nats_BT.sum()) != float(loss.nats_BT.sum())


# -- generation --------------------------------------------------------------------------------------------------------


def test_greedy_is_transformers_own(model: Model) -> None:
    for text in TEXTS:
        inputs = model.tokenizer(text, return_tensors="pt")
        own = model.module.generate(
            input_ids=inputs.input_ids, attention_mask=inputs.attention_mask, max_new_tokens=12, do_sample=False
        )
        assert model.generate(text, 12).ids == own[0, inputs.input_ids.shape[1] :].tolist()


def test_sampling_is_seeded_and_does_not_depend_on_neighbours(model: Model) -> None:
    one = model.generate(TEXTS[0], 12, temperature=1.0, seed=5)
    assert one.ids == model.generate(TEXTS[0], 12, temperature=1.0, seed=5, use_cache=False).ids
    assert one.ids == model.generate(TEXTS, 12, temperature=1.0, seed=5)[0].ids
    assert one.ids != model.generate(TEXTS[0], 12, temperature=1.0, seed=6).ids
    twins = model.generate([TEXTS[0]] * 2, 12, temperature=1.0, seed=5)
    assert twins[0].ids == one.ids != twins[1].ids
    with pytest.raises(gh.UserError, match="one seed, or one for each of 2 prompts, got 1"):
        model.generate([TEXTS[0]] * 2, 12, temperature=1.0, seed=[5])


def test_a_temperature_near_zero_takes_the_likeliest(model: Model) -> None:
    logits_V = torch.tensor([-3.0, 25.0, 24.9, float("-inf")])
    for temperature in (0.0, 1e-5, 1e-39, 1e-300):
        assert _chosen([_Row(model, [1], 0)], logits_V[None], temperature) == [1]


def test_models_that_hardly_differ_choose_alike_with_one_seed(model: Model) -> None:
    """A draw takes the largest of chance / exponential noise, and the noise is the seed's: two models' draws differ
    about as often as their chances do, which discovery relies on."""
    draws = [
        _chosen([_Row(model, [1], seed) for seed in range(400)], torch.tensor([[0.0, tip, -1.0]]).expand(400, -1), 1.0)
        for tip in (-0.05, 0.05)
    ]
    assert draws[0].count(1) > 100 and sum(a != b for a, b in zip(*draws, strict=True)) < 30


def test_rows_that_have_stopped_are_fed_no_more(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once half of a batch has stopped the other half goes on by itself, and says what each row says alone."""
    from glasshouse.models.generation import Loop

    fed: list[int] = []
    next_logits = Loop.next_logits
    monkeypatch.setattr(Loop, "next_logits", lambda loop: fed.append(len(loop.ids_BS)) or next_logits(loop))
    rng = torch.Generator().manual_seed(0)
    lengths = (127, 10, 126, 125, 3, 100)  # the context is 128: three are full within three tokens
    prompts = [torch.randint(1, 200, (n,), generator=rng).tolist() for n in lengths]
    loud = torch.zeros(model.sites["logits"].width)
    loud[model.tokenizer.eos_token_id] = 1e4
    mute = gh.add("logits", -loud)
    everywhere = mute + gh.add("resid.1", torch.randn(model.width, generator=rng), positions="new")
    own = mute + gh.patch("resid.1", torch.randn(len(prompts), 2, model.width, generator=rng))
    for edits in (mute, everywhere):
        for use_cache in (True, False):
            alone = [model.generate(p, 40, edits=edits, temperature=1.0, seed=7).ids for p in prompts]
            fed.clear()
            together = model.generate(prompts, 40, edits=edits, temperature=1.0, seed=[7] * 6, use_cache=use_cache)
            assert [one.ids for one in together] == alone and fed == [6] * 3 + [3] * 37
    fed.clear()
    model.generate(prompts, 40, edits=own)
    assert fed == [6] * 40, "a text's own values stay in their rows"


def test_text_streams_in_whole_characters(model: Model) -> None:
    """The pieces joined are the text; a character of several tokens comes at once."""
    smile = model.tokenizer("é☃ é☃", add_special_tokens=False).input_ids
    forced = iter([*smile, *smile])
    bias = torch.zeros(model.sites["logits"].width)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generation, "_chosen", lambda rows, logits_BV, temperature: [next(forced) for _ in rows])
        pieces: list[str] = []
        made = model.generate("Ada", len(smile) * 2, on_token=pieces.append, edits=gh.add("logits", bias))
    assert "".join(pieces) == made.text == "é☃ é☃é☃ é☃"
    assert not any("�" in piece for piece in pieces) and len(smile) > 4
    by_prompt: dict[int, str] = {0: "", 1: ""}
    both = model.generate(TEXTS[:2], 6, on_token=lambda i, piece: by_prompt.update({i: by_prompt[i] + piece}))
    assert [g.text for g in both] == list(by_prompt.values())


def test_the_cache_holds_what_was_put_into_it_and_has_room_for_more(model: Model) -> None:
    layer = roomy_cache(model.config).layers[0]
    parts = [torch.randn(3, 2, count, 4) for count in (5, 1, 1, 70, 1)]
    held = []
    for part in parts[:2]:
        held.append(layer.update(part, part + 1)[0].data_ptr())
    assert held[0] == held[1], "nothing was copied"
    layer.batch_select_indices(torch.tensor([2, 0]))  # other tensors from here on
    for part in parts[2:]:
        keys, values = layer.update(part[[2, 0]], part[[2, 0]] + 1)
    whole = torch.cat(parts, 2)[[2, 0]]
    assert torch.equal(keys, whole) and torch.equal(values, whole + 1) and layer.get_seq_length() == 78


def test_generation_stops_at_the_end_of_text_and_of_the_context(model: Model) -> None:
    end = model.tokenizer.eos_token_id
    loud = torch.zeros(model.sites["logits"].width)
    loud[end] = 1e4
    made = model.generate("Ada", 10, edits=gh.add("logits", loud))
    assert (made.ids, made.stopped, made.text) == ([end], "end of text", "")
    mute = gh.add("logits", -loud)
    prompt = "Ada " * 61
    length = len(model.tokens(prompt).ids(0))
    assert model.context == 128 and length < 128
    for use_cache in (True, False):
        full = model.generate([prompt, "Ben"], 100, edits=mute, use_cache=use_cache)
        assert (full[0].stopped, len(full[0].ids)) == ("context full", 128 - length)
        assert (full[1].stopped, len(full[1].ids)) == ("max_new_tokens", 100)
        assert full[1].ids == model.generate("Ben", 100, edits=mute).ids
    grown = ("Ada" + " Ada" * n for n in range(200))
    with pytest.raises(gh.UserError, match="below the context"):
        model.generate(next(text for text in grown if len(model.tokenizer(text).input_ids) == 128), 5)


def test_threads_do_not_see_each_others_edits(model: Model) -> None:
    plain, edit = model.generate(TEXTS[0], 15).ids, gh.ablate("resid.2")
    edited = model.generate(TEXTS[0], 15, edits=edit).ids
    found: dict[str, list[Any]] = {"plain": [], "edited": []}

    def work(kind: str) -> None:
        for _ in range(3):
            if kind == "plain":
                found[kind].append(model.generate(TEXTS[0], 15).ids)
            else:
                with model.edit(edit):
                    found[kind].append(model.generate(TEXTS[0], 15).ids)

    threads = [threading.Thread(target=work, args=(kind,)) for kind in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {"plain": [plain] * 3, "edited": [edited] * 3} and plain != edited


def test_weights_are_not_read_in_the_middle_of_an_edited_pass(model: Model) -> None:
    name = "transformer.wte.weight"
    edit = gh.weight(name, delta=torch.ones(512, 32))
    reads: list[Any] = [lambda: model.version, lambda: Bound(model, edit).new_parameters[name].tolist()]
    alone = [read() for read in reads]
    model._weights_hash = None
    found: dict[int, Any] = {}
    threads = [threading.Thread(target=lambda i=i: found.update({i: reads[i]()})) for i in range(2)]

    def meanwhile(*_: Any) -> None:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(0.2)

    hook = model.module.transformer.h[0].register_forward_hook(meanwhile)
    model.run(TEXTS[0], edits=edit)
    hook.remove()
    for thread in threads:
        thread.join()
    assert [found[i] for i in range(2)] == alone


# -- a module of one's own ---------------------------------------------------------------------------------------------


class _Block(nn.Module):
    """Returns a list, as some modules do; the MLP adds to the stream."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(width), nn.Linear(width, 20), nn.Linear(20, width)

    def forward(self, x: Tensor) -> list[Tensor]:
        return [x + self.down(torch.relu(self.up(self.norm(x)))), x]


class _Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 12)
        self.blocks = nn.ModuleList([_Block(12), _Block(12)])
        self.norm, self.head = nn.LayerNorm(12), nn.Linear(12, 50)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x)[0]
        return self.head(self.norm(x))


_MAP = SiteMap(
    name="own",
    blocks="blocks",
    stream=None,
    final_norm="norm",
    unembedding="head",
    context=32,
    places={
        "embed": Place("embed"),
        "resid": Place("blocks.{n}", "in"),
        "resid_final": Place("norm", "in"),
        "mlp_act": Place("blocks.{n}.down", "in"),
        "mlp_out": Place("blocks.{n}.down"),
        "logits": Place(""),
    },
)


def test_any_module_with_a_site_map() -> None:
    torch.manual_seed(0)
    module = _Own()
    model = gh.load(module, sites=_MAP, name="own")
    ids = [[1, 2, 3, 4], [5, 6]]
    run = model.run(ids, ["resid.*", "mlp_out.0", "logits"])
    assert torch.equal(run["resid.0"].text(1) + run["mlp_out.0"].text(1), run["resid.1"].text(1))
    assert torch.equal(run.logits[0], module(torch.tensor([ids[0]]))[0])
    stopped = model.run(ids, ["resid.1"], stop=True, edits=gh.ablate("mlp_out.0"))
    assert torch.equal(stopped["resid.1"].rows(), run["resid.0"].rows())
    assert model.unembed(torch.eye(12)).shape == (12, 50)
    assert model.sites["mlp_act.1"].width == 20
    with pytest.raises(gh.UserError, match=r"has .*embed.*, got z"):
        model.run(ids, "z.0")
    with pytest.raises(gh.UserError, match="without a tokenizer"):
        model.run("text", "resid.0")
    with pytest.raises(gh.UserError, match="families GPT-2, GPT-NeoX"):
        gh.load(module)
    assert all(p.requires_grad for p in module.parameters()), "a module of the user's is not frozen"


def test_unequal_prompts_need_a_forward_that_can_be_told_of_padding(tiny_model_dir: Path) -> None:
    from transformers import GPT2LMHeadModel

    own = gh.load(_Own(), sites=_MAP, name="own")
    assert [g.ids for g in own.generate([[1, 2], [3, 4]], 4)] == [own.generate(ids, 4).ids for ids in ([1, 2], [3, 4])]
    with pytest.raises(gh.UserError, match="of equal length, since _Own takes no attention_mask and no position_ids"):
        own.generate([[1, 2, 3], [4]], 4)

    class Masked(GPT2LMHeadModel):
        def forward(self, input_ids: Any, attention_mask: Any = None) -> Any:
            return super().forward(input_ids, attention_mask=attention_mask)

    class Passed(GPT2LMHeadModel):
        def forward(self, input_ids: Any, **kwargs: Any) -> Any:
            return super().forward(input_ids, **kwargs)

    tokenizer = gh.load(tiny_model_dir, device="cpu").tokenizer
    masked, passed = (
        gh.load(kind.from_pretrained(tiny_model_dir), tokenizer=tokenizer, device="cpu") for kind in (Masked, Passed)
    )
    with pytest.raises(gh.UserError, match="since Masked takes no position_ids"):
        masked.generate(TEXTS, 4)
    torch.testing.assert_close(masked.run(TEXTS, "logits").logits[1, 0], masked.run(TEXTS[1], "logits").logits[0, 0])
    assert [g.ids for g in passed.generate(TEXTS, 8)] == [passed.generate(text, 8).ids for text in TEXTS]


def test_own_maps_are_checked() -> None:
    """The sum of contributions, where the map promises it; places that never fire; maps too short for the check."""
    torch.manual_seed(0)
    module = _Own()
    gh.load(module, sites=replace(_MAP, stream="sum"))
    wrong = {**_MAP.places, "mlp_out": Place("blocks.{n}.norm")}
    with pytest.raises(gh.UserError, match=r"mlp_out\.0 fails the check"):
        gh.load(module, sites=replace(_MAP, stream="sum", places=wrong))
    with pytest.raises(gh.UserError, match="say stream=None"):
        gh.load(module, sites=replace(_MAP, stream="sum", places={"resid": _MAP.places["resid"]}))
    module.unused = nn.Linear(12, 12)
    with pytest.raises(gh.UserError, match="embed did not"):
        gh.load(module, sites=replace(_MAP, places={**_MAP.places, "embed": Place("unused")}))


def test_gradients_flow_in_a_module_that_is_being_trained() -> None:
    torch.manual_seed(0)
    module = _Own()
    model = gh.load(module, sites=_MAP)
    run = model.run([[1, 2, 3]], ["resid.1", "logits"], grad=True)
    run.logits.sum().backward()
    assert run["resid.1"].values.grad is not None and module.embed.weight.grad is not None


def test_a_forward_that_calls_its_cache_by_another_name(tiny_model_dir: Path) -> None:
    """`past_key_values` up to transformers 5.23, `cache` since: one that is not handed over must not go unseen."""
    from transformers import GPT2LMHeadModel

    name = "cache" if "cache" in inspect.signature(GPT2LMHeadModel.forward).parameters else "past_key_values"
    for mine in ("cache", "past_key_values"):
        given: list[Any] = []

        class Renamed(GPT2LMHeadModel):
            def forward(self, input_ids: Any = None, **kwargs: Any) -> Any:
                kwargs[name] = kwargs.pop(mine)  # noqa: B023
                given.append(kwargs[name])  # noqa: B023
                return super().forward(input_ids, **kwargs)

        kinds = dict.fromkeys([mine, "attention_mask", "position_ids", "use_cache", "logits_to_keep"])
        Renamed.forward.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [inspect.Parameter(key, inspect.Parameter.POSITIONAL_OR_KEYWORD) for key in ["self", "input_ids", *kinds]]
        )
        tokenizer = gh.load(tiny_model_dir, device="cpu").tokenizer
        model = gh.load(Renamed.from_pretrained(tiny_model_dir), tokenizer=tokenizer, name="renamed", device="cpu")
        given.clear()
        cached = model.generate(["Ada walked to", "Ben"], 8)
        assert given and all(one is not None for one in given)
        assert [g.ids for g in cached] == [g.ids for g in model.generate(["Ada walked to", "Ben"], 8, use_cache=False)]
