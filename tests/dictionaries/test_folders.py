"""Folders out and in: ours, SAELens' forms, and what a broken one gets."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from glasshouse.dictionaries import Dictionary, Threshold, dictionary, read_folder, write_folder
from glasshouse.dictionaries.folders import hook_name
from glasshouse.types import Site, UserError
from glasshouse.workspace import Workspace

D, F = 8, 24


def made(activation: Threshold) -> Dictionary:
    draw = torch.Generator().manual_seed(0)
    return Dictionary(
        name="d1",
        site=Site.parse("resid.2"),
        model_name="tiny",
        W_enc=torch.randn(D, F, generator=draw),
        b_enc=torch.randn(F, generator=draw),
        W_dec=torch.randn(F, D, generator=draw),
        b_dec=torch.randn(D, generator=draw),
        activation=activation,
        max_activation=torch.rand(F, generator=draw),
        typical_norm=3.5,
        report={"l0": 4},
    )


FORMS = [
    Threshold(kind="relu"),
    Threshold(kind="topk", k=3),
    Threshold(kind="jumprelu", threshold_F=torch.linspace(0, 2, F)),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_folder(made(FORMS[2]), tmp_path)
    return tmp_path


@pytest.mark.parametrize("activation", FORMS, ids=lambda form: form.kind)
def test_a_folder_brings_back_the_same_dictionary(activation: Threshold, tmp_path: Path) -> None:
    before, x_ND = made(activation), torch.randn(50, D)
    write_folder(before, tmp_path)
    after = read_folder(tmp_path)
    assert torch.equal(after.encode(x_ND), before.encode(x_ND))
    assert torch.equal(after.decode(after.encode(x_ND)), before.decode(before.encode(x_ND)))
    assert (after.name, after.site, after.model_name, after.typical_norm) == ("d1", before.site, "tiny", 3.5)
    assert after.report == {"l0": 4} and torch.equal(after.max_activation, before.max_activation)


@pytest.mark.parametrize(("hook", "centred"), [("blocks.1.hook_resid_post", True), ("blocks.1.attn.hook_z", False)])
def test_what_was_learnt_from_centred_streams_reads_plain_ones(hook: str, centred: bool, folder: Path) -> None:
    """TransformerLens' `center_writing_weights` takes the mean over the width from the stream."""
    config = json.loads((folder / "cfg.json").read_text())
    config |= {"apply_b_dec_to_input": True, "metadata": {"hook_name": hook}}
    (folder / "cfg.json").write_text(json.dumps(config))
    plain, x_ND = read_folder(folder), torch.randn(50, D) + 3
    config["metadata"]["model_from_pretrained_kwargs"] = {"center_writing_weights": True}
    (folder / "cfg.json").write_text(json.dumps(config))
    wanted = plain.encode(x_ND - x_ND.mean(1, keepdim=True) if centred else x_ND)
    assert torch.allclose(read_folder(folder).encode(x_ND), wanted, atol=1e-4)


@pytest.mark.parametrize("activation", FORMS, ids=lambda form: form.kind)
def test_sparse_codes_are_the_dense_ones(activation: Threshold) -> None:
    found, x_ND = made(activation), torch.randn(5000, D)
    values_NK, indices_NK = found.encode_sparse(x_ND)
    assert torch.allclose(torch.zeros(5000, F).scatter_add(1, indices_NK, values_NK), found.encode(x_ND), atol=1e-5)
    assert bool((values_NK.diff(dim=1) <= 0).all()), "largest first"
    assert len(found.encode_sparse(x_ND[:0])[0]) == 0


def test_encode_by_hand() -> None:
    found = Dictionary(
        name="h", site=Site.parse("resid.0"), model_name=None,
        W_enc=torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]]), b_enc=torch.tensor([0.0, -1.0, 0.0]),
        W_dec=torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]), b_dec=torch.tensor([10.0, 20.0]),
        activation=Threshold(kind="jumprelu", threshold_F=torch.tensor([1.5, 0.0, 5.0])),
    )  # fmt: skip
    codes = found.encode(torch.tensor([[2.0, 3.0]]))  # pre-activations 2, 2, 5: the last is not above its threshold
    assert codes.tolist() == [[2.0, 2.0, 0.0]] and found.decode(codes).tolist() == [[12.0, 22.0]]
    assert found.error(torch.tensor([[2.0, 3.0]])).tolist() == [[-10.0, -19.0]]


def test_options_of_saelens_are_folded_in(folder: Path) -> None:
    tensors, config = load_file(folder / "sae_weights.safetensors"), json.loads((folder / "cfg.json").read_text())
    config |= {"architecture": "topk", "k": 3, "rescale_acts_by_decoder_norm": True, "apply_b_dec_to_input": True}
    (folder / "cfg.json").write_text(json.dumps(config))
    x_ND, norm_F = torch.randn(40, D), tensors["W_dec"].norm(dim=1)
    pre_NF = ((x_ND - tensors["b_dec"]) @ tensors["W_enc"] + tensors["b_enc"]) * norm_F
    best = pre_NF.topk(3, dim=1)
    want_NF = torch.zeros_like(pre_NF).scatter(1, best.indices, best.values.relu())
    found = read_folder(folder)
    assert torch.allclose(found.encode(x_ND), want_NF, atol=1e-4)
    want_ND = want_NF @ (tensors["W_dec"] / norm_F[:, None]) + tensors["b_dec"]
    assert torch.allclose(found.decode(found.encode(x_ND)), want_ND, atol=1e-4)


def test_a_row_of_zeros_is_rescaled_to_one(folder: Path) -> None:
    tensors, config = load_file(folder / "sae_weights.safetensors"), json.loads((folder / "cfg.json").read_text())
    tensors["W_dec"][5] = 0
    save_file(tensors, folder / "sae_weights.safetensors")
    (folder / "cfg.json").write_text(json.dumps(config | {"rescale_acts_by_decoder_norm": True}))
    found = read_folder(folder)
    assert found.W_dec[5].eq(0).all() and found.decode(found.encode(torch.randn(40, D))).isfinite().all()


def test_an_option_that_is_missing_is_as_saelens_has_it(folder: Path) -> None:
    config, x_ND = json.loads((folder / "cfg.json").read_text()), torch.randn(40, D)
    said = {}
    for subtracted in (True, False, None):
        given = config | {"apply_b_dec_to_input": subtracted}
        (folder / "cfg.json").write_text(json.dumps({k: v for k, v in given.items() if v is not None}))
        said[subtracted] = read_folder(folder).encode(x_ND)
    assert torch.equal(said[None], said[True]) and not torch.equal(said[None], said[False])


@pytest.mark.parametrize(
    ("site", "hook"),
    [
        ("resid.0", "blocks.0.hook_resid_pre"),
        ("resid.3", "blocks.2.hook_resid_post"),  # the same tensor as blocks.3.hook_resid_pre, if there is a block 3
        ("resid_mid.3", "blocks.3.hook_resid_mid"),
        ("mlp_out.3", "blocks.3.hook_mlp_out"),
        ("mlp_in.3", "mlp_in.3"),
        ("embed", "blocks.0.hook_resid_pre"),
    ],
)
def test_sites_are_exported_under_the_name_of_the_same_tensor(site: str, hook: str, tmp_path: Path) -> None:
    assert hook_name(Site.parse(site)) == hook
    write_folder(replace(made(FORMS[0]), site=Site.parse(site)), tmp_path)
    assert str(read_folder(tmp_path).site) == site


def test_a_hash_tells_dictionaries_apart_that_differ_in_their_activation_alone() -> None:
    forms = [
        Threshold(kind="relu"), Threshold(kind="topk", k=3), Threshold(kind="topk", k=4),
        *(Threshold(kind="jumprelu", threshold_F=torch.full((F,), at)) for at in (0.0, 1.0)),
    ]  # fmt: skip
    assert len({made(form).hash for form in forms}) == 5
    assert made(forms[4]).hash == replace(made(forms[4]), name="other", report={}).hash


def test_a_folder_without_statistics_says_none(folder: Path) -> None:
    (folder / "statistics.safetensors").unlink()
    found = read_folder(folder)
    assert found.max_activation is None and found.typical_norm is None
    known = found.with_statistics(torch.ones(F), 2)
    assert known.typical_norm == 2.0 and found.typical_norm is None


# SAELens' configs before version 6: what of them makes a TopK of 3
OLD_TOPK = [
    {"architecture": "standard", "activation_fn_str": "topk", "activation_fn_kwargs": {"k": 3}},
    {"architecture": "standard", "activation_fn": "topk", "activation_fn_kwargs": {"k": 3}},
    {"architecture": "topk", "activation_fn_kwargs": {"k": 3}},
    {"architecture": "topk", "activation_fn_str": "relu", "activation_fn_kwargs": {"k": 3}},
]


@pytest.mark.parametrize("form", OLD_TOPK)
def test_an_old_topk_is_read_as_one(form: dict[str, object], folder: Path) -> None:
    write_folder(made(FORMS[1]), folder)
    wanted, x_ND = read_folder(folder), torch.randn(40, D)
    config = json.loads((folder / "cfg.json").read_text())
    del config["k"]
    (folder / "cfg.json").write_text(json.dumps(config | form))
    found = read_folder(folder)
    assert found.activation.kind == "topk" and torch.equal(found.encode(x_ND), wanted.encode(x_ND))


@pytest.mark.parametrize("key", ["finetuning_scaling_factor", "scaling_factor"])
def test_a_fine_tuned_scale_is_of_what_is_written_and_not_of_the_codes(key: str, folder: Path) -> None:
    plain, x_ND, scale_F = read_folder(folder), torch.randn(40, D), torch.linspace(0.5, 2, F)
    _config(finetuning_scaling_factor=True)(folder)
    save_file(load_file(folder / "sae_weights.safetensors") | {key: scale_F}, folder / "sae_weights.safetensors")
    found, codes_NF = read_folder(folder), plain.encode(x_ND)
    assert torch.equal(found.encode(x_ND), codes_NF)
    assert torch.allclose(found.decode(codes_NF), (codes_NF * scale_F) @ plain.W_dec + plain.b_dec, atol=1e-4)


def _scaled(folder: Path) -> None:
    weights = load_file(folder / "sae_weights.safetensors") | {"scaling_factor": torch.full((F,), 2.0)}
    save_file(weights, folder / "sae_weights.safetensors")


def _empty(folder: Path) -> None:
    _config(d_sae=0)(folder)
    shapes = {"W_enc": (D, 0), "b_enc": (0,), "W_dec": (0, D), "b_dec": (D,), "threshold": (0,)}
    save_file({key: torch.zeros(shape) for key, shape in shapes.items()}, folder / "sae_weights.safetensors")


def _statistics(maximum: float, norm: float):  # type: ignore[no-untyped-def]
    def write(folder: Path) -> None:
        tensors = {"max_activation": torch.full((F,), maximum), "typical_norm": torch.tensor(norm, dtype=torch.float64)}
        save_file(tensors, folder / "statistics.safetensors")

    return write


def _report(text: str):  # type: ignore[no-untyped-def]
    return lambda folder: (folder / "report.json").write_text(text)


def _truncate(folder: Path) -> None:
    file = folder / "sae_weights.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def _drop(folder: Path) -> None:
    tensors = load_file(folder / "sae_weights.safetensors")
    save_file({k: v.clone() for k, v in tensors.items() if k != "threshold"}, folder / "sae_weights.safetensors")


def _narrow(folder: Path) -> None:
    tensors = load_file(folder / "sae_weights.safetensors")
    tensors["W_dec"] = tensors["W_dec"][:, :-1].contiguous()
    save_file(tensors, folder / "sae_weights.safetensors")


def _nan(folder: Path) -> None:
    tensors = load_file(folder / "sae_weights.safetensors")
    tensors["b_enc"][3] = float("nan")
    save_file(tensors, folder / "sae_weights.safetensors")


def _config(**changes: object):  # type: ignore[no-untyped-def]
    def change(folder: Path) -> None:
        config = json.loads((folder / "cfg.json").read_text())
        (folder / "cfg.json").write_text(json.dumps({**config, **changes}))

    return change


BROKEN = {
    "truncated": (_truncate, "truncated"),
    "tensor missing": (_drop, "found no threshold"),
    "wrong shape": (_narrow, "expected W_dec of shape"),
    "not a number": (_nan, "expected finite numbers"),
    "wrong width": (_config(d_in=9), "expected d_in = 9"),
    "another architecture": (_config(architecture="gated"), "found 'gated'"),
    "no k": (_config(architecture="topk", k=None), "whole number k"),
    "k of none": (_config(architecture="topk", k=0), "at least 1"),
    "k below none": (_config(architecture="topk", k=-1), "at least 1"),
    "an activation of another kind": (_config(architecture="standard", activation_fn_str="tanh-relu"), "'tanh-relu'"),
    "two activations": (_config(architecture="standard", activation_fn_str="relu", activation_fn="topk"), "one activ"),
    "jumps and topk": (_config(activation_fn="topk", activation_fn_kwargs={"k": 3}), "found 'topk'"),
    "no k of an activation": (_config(architecture="standard", activation_fn="topk"), "whole number k"),
    "arguments of another kind": (_config(architecture="topk", activation_fn_kwargs=[4]), "activation_fn_kwargs"),
    "a scale that is not there": (_config(finetuning_scaling_factor=True), "found none"),
    "a scale that is not said": (_scaled, "expected finetuning_scaling_factor true"),
    "architecture in a list": (_config(architecture=["topk"]), "found list"),
    "architecture in an object": (_config(architecture={}), "found dict"),
    "metadata of text": (_config(metadata="x"), "JSON object as metadata"),
    "metadata in a list": (_config(metadata=[1]), "JSON object as metadata"),
    "model's arguments of text": (_config(model_from_pretrained_kwargs="x"), "model_from_pretrained_kwargs"),
    "no features": (_empty, "at least one feature"),
    "nested without end": (lambda folder: (folder / "cfg.json").write_text("[" * 100_000), "nested"),
    "a report in a list": (_report("[]"), "JSON object in"),
    "a report of words": (_report('{"l0": {"value": "x"}}'), "expected l0"),
    "a report without intervals": (_report('{"dead": {"value": 1}}'), "expected dead"),
    "a report of endless codes": (_report('{"l0": NaN}'), "expected l0"),
    "a norm of nothing": (_statistics(1, 0), "typical_norm above 0"),
    "a norm below nothing": (_statistics(1, -1), "typical_norm above 0"),
    "a norm that is no number": (_statistics(1, float("nan")), "typical_norm above 0"),
    "largest codes that are no numbers": (_statistics(float("nan"), 1), "max_activation at least 0"),
    "largest codes below 0": (_statistics(-1, 1), "max_activation at least 0"),
    "normalised inputs": (_config(normalize_activations="layer_norm"), "'layer_norm'"),
    "no site": (_config(metadata={}), "expected the site"),
    "an unknown site": (_config(metadata={"hook_name": "blocks.x"}), "expected a site"),
    "config cut short": (lambda folder: (folder / "cfg.json").write_text("{"), "expected JSON"),
    "config of another kind": (lambda folder: (folder / "cfg.json").write_text("[1]"), "JSON object"),
    "no config": (lambda folder: (folder / "cfg.json").unlink(), "no cfg.json"),
    "no weights": (lambda folder: (folder / "sae_weights.safetensors").unlink(), "no such file"),
    "statistics truncated": (lambda folder: (folder / "statistics.safetensors").write_bytes(b"12"), "truncated"),
    "no folder": (lambda folder: shutil.rmtree(folder), "no such folder"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_folder_gets_one_clear_line(case: str, folder: Path) -> None:
    breaks, words = BROKEN[case]
    breaks(folder)
    with pytest.raises(UserError) as caught:
        read_folder(folder)
    assert words in str(caught.value) and "\n" not in str(caught.value), caught.value


def test_activations_of_another_width_are_refused(folder: Path) -> None:
    with pytest.raises(UserError, match="expects activations of width 8, got 9"):
        read_folder(folder).encode(torch.zeros(2, 9))


def test_a_name_is_looked_up_in_the_workspace(workspace: Workspace, folder: Path) -> None:
    with pytest.raises(UserError, match="dictionaries/resid6"):
        dictionary("resid6", ws=workspace)
    with workspace.writing("dictionaries", "resid6", config={}, command="test") as draft:
        write_folder(replace(made(FORMS[0]), name="resid6"), draft.path)
        draft.finish()
    assert dictionary("resid6", ws=workspace).name == "resid6"
    assert dictionary(folder, ws=workspace).activation.kind == "jumprelu"
    with open(workspace.path("dictionaries", "resid6") / "sae_weights.safetensors", "ab") as handle:
        handle.truncate(200)
    with pytest.raises(UserError, match=r"expected \d+ bytes"):
        dictionary("resid6", ws=workspace)


@pytest.mark.parametrize("activation", FORMS, ids=lambda form: form.kind)
def test_saelens_loads_our_folder_and_gives_the_same_codes(activation: Threshold, tmp_path: Path) -> None:
    saelens = pytest.importorskip("sae_lens", reason="pip install sae-lens, to read our folders with it")
    ours, x_ND = made(activation), torch.randn(50, D)
    write_folder(ours, tmp_path)
    theirs = saelens.SAE.load_from_disk(str(tmp_path), device="cpu")
    with torch.no_grad():
        codes_NF = theirs.encode(x_ND)
        codes_NF = codes_NF.to_dense() if codes_NF.is_sparse else codes_NF
        assert torch.allclose(codes_NF, ours.encode(x_ND), atol=1e-5)
        assert torch.allclose(theirs.decode(codes_NF), ours.decode(ours.encode(x_ND)), atol=1e-4)
    theirs.save_model(str(tmp_path / "back"))
    assert torch.allclose(read_folder(tmp_path / "back").encode(x_ND), ours.encode(x_ND), atol=1e-5)
