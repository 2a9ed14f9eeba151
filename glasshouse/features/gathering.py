"""The writing half of `features`: one pass of the model over text, and the evidence for every feature from it.

glasshouse features DICTIONARY --corpus notes/ --tokens 2e6         # also on a laptop, also a tiny model

The pass writes every firing to disk in chunks (`spill.py`), each whole or not at all, so that a killed run goes on at
the first chunk that is missing. What follows reads the chunks a block of features at a time, in bounded memory.

Legend: B contexts of a batch, T columns, N rows encoded, K codes of a row, D width, F features.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from glasshouse.activations import expect as expect_reading
from glasshouse.activations.pooling import candidates, median_norms, norm_BT, read_batch, site_widths
from glasshouse.activations.reading import Reading, batches, check_context, choose
from glasshouse.features import effects, labels, neighbours
from glasshouse.features import statistics as stats
from glasshouse.features.columns import Columns, example_columns
from glasshouse.features.examples import choose_examples, firings_of
from glasshouse.features.schema import TableWriter, write_table
from glasshouse.features.spill import Spill
from glasshouse.features.statistics import DENSE, Text
from glasshouse.features.table import Features, features
from glasshouse.features.views import Views, build_views
from glasshouse.features.vocabulary import token_texts
from glasshouse.text import Corpus, tokenise, windows
from glasshouse.types import UserError
from glasshouse.workspace import CHECKPOINTS, Draft, Expectation, Progress, Workspace, write_atomically

OUTLIER = 10.0  # positions over this many typical norms are left out, as in a harvest
BYTES_PER_FIRING = 400  # of a block while it is summarised, measured (benchmarks/features.py)
MOST_FEATURES = 512  # of a block
MEASURED_CONTEXTS = 4
MEASURED_CHUNKS = 32


@dataclass(frozen=True, kw_only=True)
class GatherConfig:
    """How evidence is gathered.

    tokens: positions of text to read
    context: positions of a context, BOS included
    memory: bytes for the tables of a block and of pairs, beside the model and the text
    seed: of the choice of contexts and examples
    measured: features whose removal is measured
    label_tokens: positions that labels are made from and scored on, at most
    batch_tokens: positions of one forward pass, padding included
    """

    tokens: int = 2_000_000
    context: int = 256
    memory: int = 1 << 30
    seed: int = 0
    measured: int = 64
    label_tokens: int = 4_000_000
    batch_tokens: int = 8192

    def __post_init__(self) -> None:
        for field in ("tokens", "context", "label_tokens", "batch_tokens"):
            if getattr(self, field) < 1:
                raise UserError(f"expected {field} of at least 1, got {getattr(self, field)}")
        if self.memory < 1 << 26:
            raise UserError(f"expected memory of at least 67108864 bytes for evidence, got {self.memory}")


def active_features(dictionary: Any) -> float:
    """How many fire on a token, which is what evidence takes disk and time for: k, or as its report has counted, or 32
    where neither says."""
    if dictionary.activation.k is not None:
        return float(min(dictionary.activation.k, dictionary.n_features))
    counted = dictionary.report.get("l0")
    return float(counted["value"]) if isinstance(counted, dict) else 32.0


def expect(
    *, tokens: int, n_features: int, width: int, active: float = 32, memory: int = 1 << 30, tokens_per_second: float,
    device: str = "cpu",
) -> Expectation:  # fmt: skip
    """Time, memory and disk of `gather`. `tokens_per_second` is that of the model's forward pass to the site.

    Encoding takes 2 × width × features operations a token, at some 5e10 a second for each of two cores, and 2e13 on a
    GPU (in fp32).
    """
    encode = 2.0 * width * n_features / (2e13 if device.startswith("cuda") else 1e11)
    after = 25e-6 * active / 32
    return Expectation(
        seconds=tokens * (1 / tokens_per_second + encode + after) + 5,
        memory=memory + (64 << 20) + 40 * tokens + 150 * min(tokens, GatherConfig.label_tokens),
        disk=disk_bytes(tokens, n_features, active),
    )


def expect_of(model: Any, dictionary: Any, *, tokens: int, context: int) -> Expectation:
    """What `gather` of that dictionary will take; the rate of the forward pass is measured on two small batches."""
    site = str(dictionary.site)
    reading = expect_reading(model, [site], tokens=tokens, context=context)
    return expect(
        tokens=tokens, n_features=dictionary.n_features, width=model.sites[site].width,
        active=active_features(dictionary), tokens_per_second=tokens / max(reading.seconds, 1e-9),
        device=str(model.device),
    )  # fmt: skip


def disk_bytes(tokens: int, n_features: int, active: float) -> int:
    """What `gather` writes, the firings that it deletes again among it."""
    return int(tokens * (44 + 8 * active)) + 6000 * n_features


def gather(
    model: Any,
    dictionary: Any,
    corpus: Corpus,
    *,
    ws: Workspace,
    name: str | None = None,
    tokens: int = 2_000_000,
    context: int = 256,
    memory: int = 1 << 30,
    seed: int = 0,
    measured: int = 64,
    batch_tokens: int = 8192,
) -> Features:
    """Gather the evidence for every feature of `dictionary` over about `tokens` positions of `corpus`.

    Writes features/`name` (default: the dictionary's name) and returns it opened. Contexts are a seeded random choice.
    Killed and run again with the same settings it goes on and ends in the same tables; finished already, it opens
    them. A dictionary that came without `max_activation` or `typical_norm` has them filled in from the pass.

    Raises `UserError` for a dictionary of another width than the site's, a site or context the model lacks, a corpus
    too small, a disk too small, or a name being written.
    """
    name = name or dictionary.name
    config = GatherConfig(
        tokens=tokens, context=context, memory=memory, seed=seed, measured=measured, batch_tokens=batch_tokens
    )
    check_context(model, context)
    site = model.site(str(dictionary.site))
    width = site_widths(model, [str(site)])[str(site)]
    if width != dictionary.width:
        raise UserError(
            f"dictionary {dictionary.name} expects width {dictionary.width} but {site} of {model.name} has {width}; "
            f"choose a site of width {dictionary.width}, or train a dictionary at this one"
        )
    record = asdict(config) | {
        "dictionary": dictionary.name, "weights": dictionary.hash, "site": str(site),
        "model": model.name, "model_version": model.version, "corpus": corpus.hash,
    }  # fmt: skip
    if not ws.done("features", name, record):
        active = active_features(dictionary)
        ws.require_disk(disk_bytes(min(tokens, corpus.bytes), dictionary.n_features, active))
        with ws.writing("features", name, config=record, command="features") as draft:
            with draft.threads():
                _Gathering(model, dictionary.to(model.device), site, corpus, config, draft).run()
    table = features(name, ws=ws)
    _fill_in(dictionary, table)
    return table


def _fill_in(dictionary: Any, table: Features) -> None:
    """What an imported dictionary does not say about itself, from the pass."""
    if dictionary.max_activation is None:
        largest = table.arrow()["max_activation"].to_numpy().astype(np.float32)
        dictionary.max_activation = torch.from_numpy(largest.copy()).to(dictionary.W_dec.device)
    if dictionary.typical_norm is None:
        dictionary.typical_norm = float(table.summary["typical_norm"])


class _Gathering:
    """One run of `gather`, from the text to the tables."""

    def __init__(
        self, model: Any, dictionary: Any, site: Any, corpus: Corpus, config: GatherConfig, draft: Draft
    ) -> None:
        self.model, self.dictionary, self.site, self.config, self.draft = model, dictionary, site, config, draft
        self.F: int = dictionary.n_features
        # Four times the tokens wanted, so that the contexts read are a sample of more documents than they fill.
        tokenised = tokenise(corpus, model.tokenizer, max_tokens=4 * config.tokens + config.context)
        text = windows(tokenised, context=config.context, bos_id=model.bos_id, pad_id=model.pad_id)
        self.reading = choose(text, config.tokens, config.seed)
        self.corpus = corpus
        self.spill = Spill(draft.path / CHECKPOINTS / "spill", self.F, config.context, len(self.reading))

    def run(self) -> None:
        total = self.reading.tokens
        # What follows the pass is counted as a quarter of its tokens in the bar.
        with self.draft.ws.running(
            "features", "features", self.draft.name, total=1.25 * total, unit="tokens"
        ) as progress:
            self._read(progress)
            self._write(progress, total)
            progress.advance(1.25 * total, "done")

    # -- the pass ----------------------------------------------------------------------------------------------------

    def _norm(self) -> float:
        """The stream's typical norm: the dictionary's, or measured once on a first sample."""
        if self.dictionary.typical_norm is not None:
            return float(self.dictionary.typical_norm)
        site = str(self.site)
        return self.draft.choose(
            "typical_norm",
            lambda: median_norms(
                self.model, self.reading, [site], skip_bos=True, batch_tokens=self.config.batch_tokens
            )[site],
        )

    def _read(self, progress: Progress) -> None:
        """Write every chunk that is not there yet."""
        done, limit = 0, OUTLIER * self._norm()
        for chunk in range(self.spill.chunks):
            contexts = self.spill.contexts(chunk)
            if not self.spill.path(chunk).is_file():
                self._read_chunk(chunk, np.arange(contexts.start, contexts.stop), limit, done, progress)
            done += int(self.reading.length_W[contexts.start : contexts.stop].sum())
            progress.advance(done, "reading")

    def _read_chunk(self, chunk: int, contexts: NDArray[np.int64], limit: float, done: int, progress: Progress) -> None:
        site, T = str(self.site), self.config.context
        kept_R = np.zeros(len(contexts) * T, bool)
        parts: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]] = []
        for windows_B in batches(self.reading, contexts, self.config.batch_tokens):
            values, mask_BT = read_batch(self.model, self.reading, windows_B, [site])
            x_BTD = values[site]
            kept_BT = candidates(mask_BT, drop_bos=self.reading.bos) & (norm_BT(x_BTD).cpu() <= limit)
            kept_N = kept_BT.flatten().nonzero().squeeze(1)
            x_ND = x_BTD.flatten(0, 1)[kept_N.to(x_BTD.device)]
            with torch.no_grad():
                values_NK, indices_NK = self.dictionary.encode_sparse(x_ND)
            row, slot = (values_NK > 0).nonzero(as_tuple=True)
            row_BT = torch.from_numpy((windows_B - contexts[0]) * T)[:, None] + torch.arange(kept_BT.shape[1])
            row_N = row_BT.flatten()[kept_N]
            kept_R[row_N.numpy()] = True
            parts.append(
                (
                    indices_NK[row, slot].cpu().numpy(),
                    row_N[row.cpu()].numpy(),
                    values_NK[row, slot].float().cpu().numpy(),
                )
            )
            done += int(mask_BT.sum())
            progress.advance(done, "reading")
        feature, row_number, value = (np.concatenate([part[i] for part in parts]) for i in range(3))
        self.spill.write(chunk, feature, row_number, value, kept_R)

    # -- the tables --------------------------------------------------------------------------------------------------

    def _write(self, progress: Progress, total: int) -> None:
        folder, config = self.draft.path, self.config
        step = lambda start, end: (
            lambda share, note="": progress.advance(total * (1 + 0.25 * (start + (end - start) * share)), note)
        )
        texts = token_texts(self.model.tokenizer)
        text, count_F, max_F = self._text(max(len(texts), int(self.reading.ids_WT.max()) + 1))
        texts += [""] * (text.vocabulary - len(texts))
        columns = Columns()
        columns.fixed(effects.direct(self.model, self.site, self.dictionary.W_dec))
        columns.near("near_decoder", "cosine", *neighbours.by_decoder(self.dictionary.W_dec))
        *near, cofiring = neighbours.by_cofiring(
            self.spill, config.memory, advance=lambda s: step(0.0, 0.3)(s, "co-firing")
        )
        columns.near("near_cofiring", "jaccard", *near)
        measured = self._measure(text, count_F, lambda s: step(0.3, 0.45)(s, "removing features"))
        label_contexts = int(np.searchsorted(np.cumsum(text.kept_CT.sum(1)), config.label_tokens)) + 1
        views = build_views(text, texts, min(label_contexts, len(text.ids_CT)), config.seed)
        blocks = self._blocks(count_F)
        tables = {key: TableWriter(folder, key) for key in ("features", "examples")}
        used = np.zeros(len(text.ids_CT), bool)
        flags: dict[str, int] = dict.fromkeys(("live", "dead", "dense", "clear"), 0)
        summarise = lambda block: self._summarise(block, text, max_F, views)
        for number, (block, result) in enumerate(zip(blocks, _parallel(summarise, blocks), strict=True)):
            rows, examples = result
            tables["features"].append(columns.complete(block, rows, measured, max_F))
            if len(examples["feature"]):
                tables["examples"].append(examples)
            used[examples["context"]] = True
            for flag in rows["flag"]:
                flags[flag] += 1
            flags["clear"] += sum(label is not None for label in rows["label"])
            step(0.45, 1.0)((number + 1) / len(blocks), "labels and examples")
        for table in tables.values():
            table.close()
        self._write_text(text, texts, used)
        coverage = {
            "cofiring": cofiring,
            "measured": {"features": len(measured)},
            "labels": {"tokens": len(views.doc_P), "documents": int((np.bincount(views.doc_P) > 0).sum())},
            "left_out": {"outliers": int(self._candidates() - text.tokens)},
        }
        self._finish(text, flags, coverage)

    def _candidates(self) -> int:
        return int(self.reading.rows(skip_bos=True).sum())

    def _text(self, vocabulary: int) -> tuple[Text, NDArray[np.int64], NDArray[np.float32]]:
        """(the text that was read, firings of each feature, largest activation of each)."""
        reading: Reading = self.reading
        kept, count_F, max_F = [], np.zeros(self.F, np.int64), np.zeros(self.F, np.float32)
        for chunk in range(self.spill.chunks):
            start, peak, kept_R = self.spill.read(chunk, "start", "peak", "kept")
            kept.append(kept_R.reshape(-1, self.config.context))
            count_F += np.diff(start)
            np.maximum(max_F, peak, out=max_F)
        documents, doc_C = np.unique(reading.doc_W, return_inverse=True)
        found = [self.corpus.documents[d] for d in documents]
        kinds = sorted({document.kind for document in found})
        number = {kind: i for i, kind in enumerate(kinds)}
        base_D = np.array([document.start for document in found], np.int64)
        text = Text(
            ids_CT=reading.ids_WT, length_C=reading.length_W, doc_C=doc_C.astype(np.int64),
            char_C=reading.char_W + base_D[doc_C], kept_CT=np.concatenate(kept),
            names=[document.name for document in found],
            key_D=np.array([_key(document.text) for document in found], np.uint64),
            kind_D=np.array([number[document.kind] for document in found], np.int64), kinds=kinds,
            bos=reading.bos, vocabulary=vocabulary,
        )  # fmt: skip
        return text, count_F, max_F

    def _budget(self) -> int:
        """Firings of a block."""
        return max(1 << 16, self.config.memory // (BYTES_PER_FIRING * _workers()))

    def _blocks(self, count_F: NDArray[np.int64]) -> list[range]:
        """Consecutive features, as many as memory allows."""
        cuts, have, budget = [0], 0, self._budget()
        for feature, count in enumerate(count_F):
            if feature > cuts[-1] and (have + count > budget or feature - cuts[-1] >= MOST_FEATURES):
                cuts.append(feature)
                have = 0
            have += int(count)
        return [range(a, b) for a, b in zip(cuts, [*cuts[1:], self.F], strict=True)]

    def _parts(self, block: range) -> list[range]:
        """Chunks to read at once: all, but for a single feature whose firings do not fit the memory."""
        chunks = range(self.spill.chunks)
        if len(block) > 1 or self.spill.context * self.spill.n_contexts <= self._budget():
            return [chunks]
        each = max(1, self._budget() // (self.spill.context * self.spill.windows))
        return [chunks[a : a + each] for a in range(0, len(chunks), each)]

    def _summarise(
        self, block: range, text: Text, max_F: NDArray[np.float32], views: Views
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """(columns of features.parquet known from firings, columns of examples.parquet) of a block."""
        spill, seed, parts = self.spill, self.config.seed, self._parts(block)
        read = lambda chunks: spill.block(block.start, block.stop, chunks)
        firings = read(parts[0])
        counts = stats.count(firings, text, max_F[block.start : block.stop])
        for part in parts[1:]:
            counts = counts + stats.count(read(part), text, max_F[block.start : block.stop])
        rates = stats.rates(counts.peaks, text, len(block))
        kind, kinds = stats.kind_columns(rates.pop("kinds"), text)
        examples, bins = choose_examples(counts.peaks, text, len(block), block.start, seed)
        shown = [firings_of(firings if i == 0 else read(part), counts.peaks, examples) for i, part in enumerate(parts)]
        if len(parts) > 1:
            chunks = -(-len(views.index_CT) // spill.windows)
            firings = read(range(min(chunks, spill.chunks)))
        found = labels.label_block(firings, views, len(block), block.start, seed)
        rows = {
            "flag": np.where(rates["firings"] == 0, "dead", np.where(rates["rate"] > DENSE, "dense", "live")).tolist(),
            **rates, "kind": kind, "kinds": kinds,
            "histogram": counts.histogram.tolist(), "positions": counts.positions.tolist(),
            "tokens": stats.top_tokens(counts, text), "bins": bins,
            **{key: [row[key] for row in found] for key in found[0]},
        }  # fmt: skip
        return rows, example_columns(examples, counts.peaks, shown, block.start, text)

    def _measure(self, text: Text, count_F: NDArray[np.int64], advance: Any) -> dict[int, Any]:
        """What removing a feature changes, for a seeded sample of features that fire."""
        if not self.config.measured or "logits" not in self.model.sites:
            return {}
        live = np.flatnonzero(count_F)
        order = np.argsort(stats.seeded_hash(self.config.seed, live), kind="stable")
        cases = []
        for feature in np.sort(live[order[: self.config.measured]]).tolist():
            cases += self._cases(feature, text)
        return effects.measure(
            self.model, self.site, self.dictionary.W_dec, cases, batch_tokens=self.config.batch_tokens // 2,
            advance=advance,
        )  # fmt: skip

    def _cases(self, feature: int, text: Text) -> list[effects.Case]:
        """The contexts with the largest peaks, and as many random ones, of the first chunks."""
        firings = self.spill.block(feature, feature + 1, range(min(self.spill.chunks, MEASURED_CHUNKS)))
        peaks = stats.peaks_of(firings)
        by_peak = np.argsort(-peaks.peak, kind="stable")
        shuffled = np.argsort(stats.seeded_hash(self.config.seed, feature, peaks.context), kind="stable")
        chosen = np.unique(np.r_[by_peak[: MEASURED_CONTEXTS // 2], shuffled[: MEASURED_CONTEXTS // 2]])
        cases = []
        for context, peak in zip(peaks.context[chosen], peaks.column[chosen], strict=True):
            # Up to its peak and the token after: what follows would cost as much again and add little.
            at = (firings.context == context) & (firings.column <= peak)
            ids = text.ids_CT[context, : min(int(text.length_C[context]), int(peak) + 2)].astype(np.int64)
            learnt_T = None if self.reading.learnt_WT is None else self.reading.learnt_WT[context, : len(ids)]
            cases.append(effects.Case(feature, ids, firings.column[at], firings.value[at], learnt_T))
        return cases

    def _write_text(self, text: Text, texts: list[str], used: NDArray[np.bool_]) -> None:
        folder, bos = self.draft.path, int(text.bos)
        write_table(folder, "vocabulary", {"token": list(range(len(texts))), "text": texts})
        write_table(
            folder, "documents",
            {"document": list(range(len(text.names))), "name": list(text.names),
             "kind": [text.kinds[k] for k in text.kind_D]},
        )  # fmt: skip
        writer = TableWriter(folder, "contexts")
        chosen = np.flatnonzero(used)
        for part in np.array_split(chosen, max(1, len(chosen) // 4096)):
            writer.append(
                {"context": part.tolist(), "document": text.doc_C[part].tolist(), "char": text.char_C[part].tolist(),
                 "tokens": [text.ids_CT[c, bos : text.length_C[c]].tolist() for c in part]}
            )  # fmt: skip
        writer.close()

    def _finish(self, text: Text, flags: dict[str, int], coverage: dict[str, Any]) -> None:
        summary = {
            "name": self.draft.name, "model": self.model.name, "site": str(self.site), "n_features": self.F,
            "tokens": text.tokens, "documents": len(text.names), "contexts": len(text.ids_CT),
            "dead": flags["dead"], "dense": flags["dense"], "clear": flags["clear"],
            "unclear": self.F - flags["dead"] - flags["clear"],
            "typical_norm": self._norm(), "coverage": coverage, "kinds": list(text.kinds),
            "kind_tokens": dict(zip(text.kinds, text.tokens_of_kind.tolist(), strict=True)),
            "position_edges": text.position_edges, "position_tokens": text.position_tokens,
        }  # fmt: skip
        write_atomically(self.draft.path / "summary.json", json.dumps(summary, indent=1))
        ws, made_from = self.draft.ws, []
        for kind, name in (("models", self.model.name), ("dictionaries", self.dictionary.name)):
            if ws.exists(kind, name):
                made_from.append(ws.ref(kind, name))
        self.draft.finish(made_from=made_from)


def _key(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def _workers() -> int:
    return max(1, min(2, torch.get_num_threads()))


def _parallel(function: Any, blocks: list[range]) -> Iterator[Any]:
    """Results in order, at most as many blocks in work as there are workers, so that memory stays bounded."""
    workers = _workers()
    with ThreadPoolExecutor(workers) as pool:
        waiting = [pool.submit(function, block) for block in blocks[:workers]]
        for block in [*blocks[workers:], *[None] * workers]:
            if not waiting:
                return
            result = waiting.pop(0).result()
            if block is not None:
                waiting.append(pool.submit(function, block))
            yield result
