"""The writing half against a count by hand, blocks and chunks of any size, a killed run, and models without logits."""

from __future__ import annotations

import itertools
import shutil
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import glasshouse as gh
from glasshouse.activations.reading import choose
from glasshouse.dictionaries.dictionary import Threshold
from glasshouse.features import gathering, spill
from glasshouse.features.examples import BIN_EXAMPLES, choose_examples
from glasshouse.features.gathering import gather
from glasshouse.features.statistics import Peaks
from glasshouse.text import Corpus, tokenise, windows
from glasshouse.types import UserError
from glasshouse.workspace import drafts
from tests.features.planted import plain_text, random_dictionary

F, CONTEXT, TOKENS = 48, 32, 6000
SETTINGS = {"tokens": TOKENS, "context": CONTEXT, "measured": 6}


@pytest.fixture(scope="module")
def corpus(corpus_dir):
    return gh.corpus(corpus_dir)


@pytest.fixture(scope="module")
def made(tiny_model, corpus, tmp_path_factory):
    """(table, dense codes (C, T, F), windows read)."""
    ws = gh.Workspace.open(tmp_path_factory.mktemp("gathered") / "ws")
    dictionary = random_dictionary(tiny_model.width, F)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spill, "CHUNK_ROWS", 1024)
        table = gather(tiny_model, dictionary, corpus, ws=ws, **SETTINGS)
    tokens = tokenise(corpus, tiny_model.tokenizer, max_tokens=4 * TOKENS + CONTEXT)
    read = choose(windows(tokens, context=CONTEXT, bos_id=tiny_model.bos_id, pad_id=tiny_model.pad_id), TOKENS, seed=0)
    codes = np.zeros((*read.ids_WT.shape, F), np.float32)
    for c in range(len(read)):
        n = read.length_W[c]
        run = tiny_model.run([read.ids_WT[c, :n].tolist()], get=["resid.1"])
        with torch.no_grad():
            x = run["resid.1"].values[0]
            dense = dictionary.encode(x).numpy()
        dense[np.linalg.norm(x.detach().numpy(), axis=1) > 10 * table.summary["typical_norm"]] = 0
        codes[c, :n] = dense
    return table, codes, read, dictionary, ws


def rows(table, name="features"):
    return pq.read_table(table.folder / f"{name}.parquet").to_pylist()


def test_counts_are_those_of_a_dense_count(made):
    table, codes, read, dictionary, _ = made
    fired = codes > 0
    for row in rows(table):
        f = row["feature"]
        assert row["firings"] == fired[..., f].sum()
        assert row["contexts"] == fired[..., f].any(1).sum()
        assert row["documents"] == len(set(read.doc_W[fired[..., f].any(1)]))
        assert row["rate"] == pytest.approx(row["firings"] / read.length_W.sum())
        assert row["rate_low"] <= row["rate"] <= row["rate_high"]
        assert row["max_activation"] == pytest.approx(codes[..., f].max(), rel=1e-5)
        assert sum(row["histogram"]) == sum(row["positions"]) == row["firings"]
        ids, counts = np.unique(read.ids_WT[fired[..., f]], return_counts=True)
        expected = dict(zip(ids.tolist(), counts.tolist(), strict=True))
        for token in row["tokens"]:
            assert expected[token["token"]] == token["count"]
            where = fired[..., f] & (read.ids_WT == token["token"])
            assert token["mean"] == pytest.approx(codes[..., f][where].mean(), rel=1e-4)
        assert sum(one["count"] for one in row["bins"]) == row["contexts"]
    assert rows(table)[F - 1]["flag"] == "dead" and not rows(table)[F - 1]["bins"]
    assert torch.allclose(dictionary.max_activation, torch.tensor(codes.max((0, 1))), rtol=1e-4)


def test_rate_interval_is_the_estimate_clustered_by_document(made):
    table, codes, read, *_ = made
    documents = np.unique(read.doc_W)
    counts = [int(read.length_W[read.doc_W == d].sum()) for d in documents]
    for row in (rows(table)[3], rows(table)[F - 1]):  # the last never fires
        fired = (codes[..., row["feature"]] > 0).sum(1)
        sums = [int(fired[read.doc_W == d].sum()) for d in documents]
        expected = gh.Estimate.clustered_proportion(sums, counts)
        assert row["rate_low"] == pytest.approx(expected.low)
        assert row["rate_high"] == pytest.approx(expected.high)


def test_bins_are_exact_quantiles_of_peaks(made):
    table, codes, *_ = made
    for row in rows(table):
        peaks = np.sort(codes[..., row["feature"]].max(1))
        peaks = peaks[peaks > 0]
        for one, part in zip(row["bins"], _bins(peaks, len(row["bins"])), strict=True):
            assert one["count"] == len(part)
            assert (one["low"], one["high"]) == (pytest.approx(part[0]), pytest.approx(part[-1]))


def _bins(values, number):
    edges = [i * len(values) // number for i in range(number + 1)] if number else [0]
    return [values[a:b] for a, b in itertools.pairwise(edges)]


def test_examples_point_to_what_fired_and_show_no_text_twice(made):
    table, codes, read, *_ = made
    bins = {row["feature"]: row["bins"] for row in rows(table)}
    seen: dict[int, set] = {}
    for example in rows(table, "examples"):
        f, c = example["feature"], example["context"]
        values = codes[c, :, f]
        assert example["fires_at"] == np.flatnonzero(values).tolist()
        assert example["activations"] == pytest.approx(values[values > 0].tolist(), rel=1e-5)
        assert example["peak"] == max(example["activations"])
        assert example["position"] == int(values.argmax())
        if example["bin"] >= 0:
            one = bins[f][example["bin"]]
            assert one["low"] <= example["peak"] <= one["high"]
        at = example["position"]
        text = tuple(read.ids_WT[c, max(0, at - 8) : at + 3].tolist())
        assert text not in seen.setdefault(f, set()), (f, text)
        seen[f].add(text)
    tops = [e for e in rows(table, "examples") if e["feature"] == 3 and e["bin"] == -1]
    assert [e["peak"] for e in tops] == sorted((e["peak"] for e in tops), reverse=True)
    assert tops[0]["peak"] == pytest.approx(codes[..., 3].max(), rel=1e-5)


def test_examples_of_a_bin_of_few_peaks_are_not_its_lowest():
    """50 features of 40 peaks each: bins of 8, of which three are drawn."""
    features, peaks = 50, 40
    text = plain_text(np.random.default_rng(0).integers(0, 64, (features * peaks, 12)), 100)
    number = np.arange(features * peaks)
    every = Peaks(number // peaks, number, np.full_like(number, 6), (number % peaks + 1).astype(np.float32), number)
    examples, bins = choose_examples(every, text, features, 0, seed=0)
    assert all(one["count"] == 8 for row in bins for one in row)
    lowest = examples.bin == 0
    places = every.peak[examples.peak[lowest]].astype(int) - 1
    assert np.bincount(examples.feature[lowest]).tolist() == [BIN_EXAMPLES] * features
    assert np.bincount(places, minlength=8).min() > 8, "each of the eight about as often"


def test_contexts_are_stored_once_and_lead_to_the_document(made, corpus):
    table, _, read, *_ = made
    contexts = rows(table, "contexts")
    used = {example["context"] for example in rows(table, "examples")}
    assert [row["context"] for row in contexts] == sorted(used)
    by_name = {document.name: document for document in corpus.documents}
    texts = {row["token"]: row["text"] for row in rows(table, "vocabulary")}
    documents = {row["document"]: row for row in rows(table, "documents")}
    for row in contexts[:40]:
        source = by_name[documents[row["document"]]["name"]]
        assert source.kind == documents[row["document"]]["kind"]
        text = "".join(texts[token] for token in row["tokens"])
        assert source.text[row["char"] : row["char"] + len(text)] == text
        assert row["tokens"] == read.ids_WT[row["context"], : read.length_W[row["context"]]].tolist()


def test_neighbours_are_exact(made):
    table, codes, _, dictionary, _ = made
    assert table.summary["coverage"]["cofiring"] == {"exact": True, "tokens": table.summary["tokens"]}
    fired = (codes > 0).reshape(-1, F).astype(np.float64)
    both = fired.T @ fired
    n = fired.sum(0)
    jaccard = both / np.maximum(n[:, None] + n - both, 1)
    np.fill_diagonal(jaccard, -1)
    cosine = (dictionary.W_dec @ dictionary.W_dec.T).numpy()
    np.fill_diagonal(cosine, -2)
    for row in rows(table):
        f = row["feature"]
        got = [near["jaccard"] for near in row["near_cofiring"]]
        allowed = np.sort(jaccard[f][both[f] >= 3])[::-1]
        assert got == pytest.approx(allowed[: len(got)].tolist(), rel=1e-5)
        assert [near["cosine"] for near in row["near_decoder"]] == pytest.approx(np.sort(cosine[f])[::-1][:8].tolist())


def test_cofiring_in_blocks_is_a_sample_and_says_so(made, monkeypatch, tmp_path):
    _, codes, read, *_ = made
    monkeypatch.setattr(spill, "CHUNK_ROWS", 1024)
    kept = spill.Spill(tmp_path, F, CONTEXT, len(read))
    for chunk in range(kept.chunks):
        part = codes[kept.contexts(chunk).start : kept.contexts(chunk).stop].reshape(-1, F)
        row, feature = part.nonzero()
        kept.write(chunk, feature, row, part[row, feature], np.ones(len(part), bool))
    *_, exact = gathering.neighbours.by_cofiring(kept, 1 << 30)
    assert exact["exact"]
    *_, sampled = gathering.neighbours.by_cofiring(kept, 4 * (F + 1) * (F // 4))
    assert not sampled["exact"] and sampled["tokens"] < exact["tokens"]
    table_BF = gathering.neighbours._count(kept, list(range(kept.chunks)), 0, F)
    part_BF = gathering.neighbours._count(kept, list(range(kept.chunks)), 10, 20)
    off = ~torch.eye(F, dtype=torch.bool)[10:20]
    assert torch.equal(table_BF[10:20][off], part_BF[off])


def test_the_disk_asked_for_follows_what_fires_on_a_token(tiny_model, corpus, workspace, monkeypatch):
    asked = []

    def refuses(size):
        asked.append(size)
        raise UserError("expected more disk")

    monkeypatch.setattr(workspace, "require_disk", refuses)
    for k in (4, 40):
        with pytest.raises(UserError, match="more disk"):
            gather(tiny_model, random_dictionary(tiny_model.width, F, k=k), corpus, ws=workspace, **SETTINGS)
    assert asked[1] - asked[0] == 8 * 36 * TOKENS
    other = replace(random_dictionary(8, F), activation=Threshold(kind="relu"))
    assert gathering.active_features(other) == 32
    other.report = {"l0": {"value": 7.5}}
    assert gathering.active_features(other) == 7.5


def test_features_silent_in_a_chunk_are_read_back(tmp_path):
    """The last feature fires in the first chunk only, the first in none; a third chunk has no firing at all."""
    kept = spill.Spill(tmp_path, 3, spill.CHUNK_ROWS, 3)
    none = np.zeros(0, np.int64)
    for chunk, feature in enumerate(([1, 2], [1], none)):
        values = np.ones(len(feature), np.float32)
        kept.write(chunk, np.array(feature), np.arange(len(feature)), values, np.ones(spill.CHUNK_ROWS, bool))
    contexts = [kept.block(f, f + 1, range(3)).context.tolist() for f in range(3)]
    assert contexts == [[], [0, 1], [0]] and len(kept.block(0, 3, range(3))) == 3


def test_a_dictionary_that_never_fires_has_evidence(tiny_model, corpus, workspace):
    silent = random_dictionary(tiny_model.width, 8)
    silent.b_enc[:] = -1e6
    table = gather(tiny_model, silent, corpus, ws=workspace, **SETTINGS)
    assert [row["flag"] for row in rows(table)] == ["dead"] * 8 and table.feature(7)["examples"]["top"] == []


def test_pairs_are_counted_in_bounded_parts(monkeypatch):
    rng = np.random.default_rng(0)
    active = [np.sort(rng.choice(40, size, replace=False)) for size in rng.integers(0, 30, 200)]
    feature, row = np.concatenate(active), np.repeat(np.arange(200), [len(own) for own in active])
    monkeypatch.setattr(gathering.neighbours, "PAIR_BYTES", 8 * 20 * 20 * 5)
    parts = list(gathering.neighbours._padded(feature, row, 40))
    assert all(len(part) == 1 or 8 * len(part) * part.shape[1] ** 2 <= 8 * 20 * 20 * 5 for part in parts)
    found = sorted(tuple(f for f in own if f < 40) for part in parts for own in part.tolist())
    assert found == sorted(tuple(own.tolist()) for own in active if len(own) > 1)


def test_evidence_of_another_activation_function_is_not_taken_for_it(made, tiny_model, corpus):
    *_, ws = made
    other = random_dictionary(tiny_model.width, F, k=5)
    with pytest.raises(UserError, match="weights: "):
        gather(tiny_model, other, corpus, ws=ws, **SETTINGS)


def test_copies_of_a_document_are_one_where_labels_are_made(tiny_model, corpus, workspace):
    some = corpus.documents[:12]
    copies = [replace(one, index=i, name=f"{i}") for i, one in enumerate([*some, *some])]
    table = gather(
        tiny_model, random_dictionary(tiny_model.width, F), Corpus("twice", tuple(copies)), ws=workspace,
        tokens=100_000, context=CONTEXT, measured=0,
    )  # fmt: skip
    assert table.summary["documents"] == 24 and table.summary["coverage"]["labels"]["documents"] == 12


def test_direct_and_measured_effects(made, tiny_model):
    table, codes, read, dictionary, _ = made
    logits = tiny_model.unembed(dictionary.W_dec).numpy()
    logits -= logits.mean(1, keepdims=True)
    found = [row for row in rows(table) if row["measured"] is not None]
    assert len(found) == 6
    for row in rows(table):
        f = row["feature"]
        assert [p["logit"] for p in row["promotes"]] == pytest.approx(np.sort(logits[f])[::-1][:10].tolist(), abs=1e-4)
    # One case by hand: the feature's contribution taken away where it fires, nothing else.
    f = found[0]["feature"]
    c = int(codes[..., f].max(1).argmax())
    n = int(read.length_W[c])
    columns = np.flatnonzero(codes[c, :, f])
    case = gathering.effects.Case(f, read.ids_WT[c, :n].astype(np.int64), columns, codes[c, columns, f])
    result = gathering.effects.measure(tiny_model, dictionary.site, dictionary.W_dec, [case])
    tiny_model.attach(named := random_dictionary(tiny_model.width, F))
    try:
        ids = [case.ids.tolist()]
        plain = tiny_model.run(ids, get=["logits"]).logits[0].log_softmax(-1)
        without = tiny_model.run(ids, get=["logits"], edits=gh.ablate(f"{named.name}/{f}")).logits[0].log_softmax(-1)
    finally:
        tiny_model.detach(named.name)
    change = (without - plain)[columns].mean(0)
    for token, value in result[f][0]:
        assert value == pytest.approx(float(change[token]), abs=1e-4)
    # Of the tokens that follow a firing, the cost is of those that the text teaches to write.
    learnt = np.arange(n) % 2 == 0
    taught = [t for t in columns + 1 if t < n and learnt[t]]
    cost = [float((plain - without)[t - 1, ids[0][t]]) for t in taught]
    for mask, wanted in ((learnt, pytest.approx(np.mean(cost), abs=1e-4)), (learnt & False, None)):
        part = replace(case, learnt_T=mask)
        assert gathering.effects.measure(tiny_model, dictionary.site, dictionary.W_dec, [part])[f] == (
            result[f][0],
            wanted,
        )


def _same(a, b):
    for name in ("features", "examples", "contexts", "documents", "vocabulary"):
        assert pq.read_table(a / f"{name}.parquet").equals(pq.read_table(b / f"{name}.parquet")), name


def test_a_mistake_before_any_chunk_leaves_no_draft(tiny_model, corpus, workspace, monkeypatch):
    def refuses(*args):
        raise UserError("expected something else")

    monkeypatch.setattr(gathering, "read_batch", refuses)
    with pytest.raises(UserError, match="something else"):
        gather(tiny_model, random_dictionary(tiny_model.width, F), corpus, ws=workspace, **SETTINGS)
    assert not workspace.partial("features", "rnd").exists()


def test_killed_run_goes_on_and_ends_the_same(made, tiny_model, corpus, workspace, monkeypatch):
    monkeypatch.setattr(spill, "CHUNK_ROWS", 1024)
    write, written = spill.Spill.write, []

    def dies(self, chunk, *args):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(chunk)
        write(self, chunk, *args)

    def killed(files):
        raise KeyboardInterrupt

    monkeypatch.setattr(spill.Spill, "write", dies)
    dictionary = random_dictionary(tiny_model.width, F)
    with pytest.raises(KeyboardInterrupt):
        gather(tiny_model, dictionary, corpus, ws=workspace, **SETTINGS)
    assert not workspace.exists("features", "rnd")
    chunks = sorted((workspace.partial("features", "rnd") / "checkpoints" / "spill").glob("0*"))
    assert len(chunks) == 2
    again = []
    monkeypatch.setattr(spill.Spill, "write", lambda self, chunk, *a: (again.append(chunk), write(self, chunk, *a)))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(drafts, "hash_files", killed)
        gather(
            tiny_model, dictionary, corpus, ws=workspace, **SETTINGS
        )  # the tables are written, and it dies at the end
    assert again and 0 not in again and 1 not in again
    again.clear()
    table = gather(tiny_model, dictionary, corpus, ws=workspace, **SETTINGS)
    assert not again
    _same(table.folder, made[0].folder)
    assert not (table.folder / "checkpoints").exists()
    before = (table.folder / "features.parquet").stat().st_mtime_ns
    assert gather(tiny_model, dictionary, corpus, ws=workspace, **SETTINGS).folder == table.folder
    assert (table.folder / "features.parquet").stat().st_mtime_ns == before


def test_any_block_size_gives_the_same_tables(made, tiny_model, corpus, workspace, monkeypatch):
    monkeypatch.setattr(spill, "CHUNK_ROWS", 1024)
    monkeypatch.setattr(gathering._Gathering, "_budget", lambda self: 300)  # less than one feature's firings
    monkeypatch.setattr(gathering._Gathering, "_parts", lambda self, block: _single(self.spill.chunks))
    table = gather(tiny_model, random_dictionary(tiny_model.width, F), corpus, ws=workspace, **SETTINGS)
    a, b = rows(table), rows(made[0])
    for one, other in zip(a, b, strict=True):
        for t, u in zip(one.pop("tokens"), other.pop("tokens"), strict=True):
            assert t["token"] == u["token"] and t["mean"] == pytest.approx(u["mean"], rel=1e-6)
        assert one == other
    assert rows(table, "examples") == rows(made[0], "examples")


def _single(chunks):
    return [range(c, c + 1) for c in range(chunks)]


def test_wrong_width_and_bad_settings_leave_the_workspace_alone(tiny_model, corpus, workspace):
    cases = [
        (random_dictionary(16, 8), SETTINGS, "width"),
        (random_dictionary(tiny_model.width, 8, site="resid.9"), SETTINGS, "resid"),
        (random_dictionary(tiny_model.width, 8), SETTINGS | {"context": 4096}, "context"),
        (random_dictionary(tiny_model.width, 8), SETTINGS | {"memory": 1000}, "memory"),
    ]
    for dictionary, settings, words in cases:
        with pytest.raises(UserError, match=words) as caught:
            gather(tiny_model, dictionary, corpus, ws=workspace, **settings)
        assert "\n" not in str(caught.value)
    assert not (workspace.root / "features").exists()


def test_an_encoder_has_features_but_no_logits(corpus, workspace, tmp_path):
    from transformers import BertConfig, BertModel, BertTokenizerFast

    words = sorted({word for d in corpus.documents for word in d.text.lower().split() if word.isalpha()})
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]))
    tokenizer = BertTokenizerFast(str(tmp_path / "vocab.txt"))
    torch.manual_seed(0)
    module = BertModel(
        BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=64,
        )
    ).eval()
    model = gh.load(module, tokenizer=tokenizer, name="tiny-bert", device="cpu")
    table = gather(model, random_dictionary(16, 24), corpus, ws=workspace, tokens=2000, context=32)
    live = [row for row in rows(table) if row["flag"] != "dead"]
    assert live and all(row["promotes"] == [] and row["measured"] is None for row in rows(table))
    feature = table.feature(live[0]["feature"])
    assert feature["promotes"] == [] and feature["measured"] is None
    assert table.summary["coverage"]["measured"] == {"features": 0}
    shutil.rmtree(table.folder)
