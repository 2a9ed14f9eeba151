"""Scores against known concepts, kept in the workspace under evals/; reading them needs no torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glasshouse.text import Corpus, Document
from glasshouse.types import UserError
from glasshouse.workspace import Workspace, write_atomically
from glasshouse.workspace.origin import model_ref, own_model, weights_key

if TYPE_CHECKING:
    from glasshouse.dictionaries import Dictionary
    from glasshouse.features.labelled import Span
    from glasshouse.models import Model

FILE = "concepts.json"
TOKENS = 200_000


def kept_concepts(ws: Workspace, dictionary: str) -> dict[str, Any] | None:
    """The newest scores of the dictionary on its own model, both as they stand now (docs/formats.md), or None."""
    if not ws.exists("dictionaries", dictionary):
        return None
    own = own_model(ws, dictionary)
    now = weights_key(ws, own) if own is not None and ws.exists("models", own) else None
    found = []
    for name in (name for name in ws.names("evals") if name.startswith(_prefix(ws, dictionary))):
        scored = ws.manifest("evals", name)["config"].get("model")
        if scored is not None and scored["name"] == own and now in (scored["weights"], None):
            found.append(name)
    if not found:
        return None
    age = lambda name: (ws.manifest("evals", name)["created"], (ws.path("evals", name) / FILE).stat().st_mtime_ns)
    return _read(ws, max(found, key=age))


def score_concepts(
    ws: Workspace,
    model: Model,
    dictionary: Dictionary,
    corpus: Corpus,
    spans: Sequence[Sequence[Span]],
    *,
    tokens: int = TOKENS,
    seed: int = 0,
) -> dict[str, Any]:
    """Score the features of a dictionary of the workspace against the concepts that the spans name, beside random
    directions, the neurons of the block before, and a probe that is told the answers; kept, and not done again.

    spans[d]: (first character, past the last, concept) of document d. Raises `UserError` for text of which no concept
    is common enough.
    """
    from glasshouse.features import concepts
    from glasshouse.features.labelled import read

    labels = hashlib.sha256(json.dumps([list(own) for own in spans]).encode()).hexdigest()
    of, weights = model_ref(ws, model)
    config = {
        "dictionary": dictionary.name, "model": {"name": of.name, "weights": weights}, "corpus": corpus.hash,
        "spans": labels, "tokens": tokens, "seed": seed,
    }  # fmt: skip
    name = _prefix(ws, dictionary.name) + hashlib.sha256(json.dumps(config).encode()).hexdigest()[:8]
    if ws.done("evals", name, config):
        return _read(ws, name)
    site = model.site(str(dictionary.site))
    before = f"mlp_act.{site.layer - 1}" if site.kind == "resid" and site.layer else None
    before = before if before in model.sites else None
    with (
        ws.writing("evals", name, config=config, command="concepts") as draft,
        ws.running("concepts", "evals", name, total=5, unit="steps") as progress,
    ):
        labelled = read(
            model, site, corpus, spans, tokens=tokens, others=[before] if before else [],
            typical_norm=dictionary.typical_norm, seed=seed,
        )  # fmt: skip
        progress.advance(1, "features")
        codes = concepts.codes(dictionary, labelled.x_PD)
        found = concepts.score(labelled, codes)
        if not found:
            raise UserError(
                f"expected concepts on {concepts.FEWEST_POSITIONS} tokens of {concepts.FEWEST_DOCUMENTS} documents on "
                f"either side of {corpus.source}, found none; give more labelled text or --tokens"
            )
        rows = {"features": concepts.summary(found)}
        progress.advance(2, "random directions")
        active = max(1, round(len(codes.value) / len(labelled.doc_P)))
        random = concepts.random_directions(dictionary, labelled.x_PD, active, seed=seed)
        others = {"random directions": random}
        if before:
            others["neurons"] = concepts.neurons(labelled.others[before])
        for place, (key, units) in enumerate(others.items()):
            rows[key] = concepts.summary(concepts.score(labelled, units))
            progress.advance(3 + place, "a probe" if place + 1 == len(others) else "neurons")
        taught = concepts.probe(labelled)
        rows["probe"] = concepts.probe_summary(taught)
        kept = {
            "dictionary": dictionary.name, "model": model.name, "site": str(site), "text": corpus.source,
            "positions": len(labelled.doc_P), "documents": len(set(labelled.doc_P.tolist())),
            "left_out": labelled.left_out, "rows": rows,
            "concepts": [one.to_json() | {"probe": taught[one.concept].f1.to_json()} for one in found.values()],
        }  # fmt: skip
        write_atomically(draft.path / FILE, json.dumps(kept, indent=1))
        draft.finish(made_from=[ws.ref("dictionaries", dictionary.name), of])
    return kept


def labelled_file(path: str | Path) -> tuple[Corpus, list[list[Span]]]:
    """Labelled text as `python -m glasshouse.organisms.world` writes it: JSON lines with `text` and `spans`.

    Raises `UserError` for a line that is not so.
    """
    documents, spans = [], []
    try:
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file):
                try:
                    row = json.loads(line)
                    text, own = str(row["text"]), [(int(a), int(b), str(c)) for a, b, c in row["spans"]]
                    json.dumps(row, ensure_ascii=False).encode()  # half of a surrogate pair could not be kept
                except (ValueError, KeyError, TypeError, OverflowError) as error:
                    raise UserError(
                        f"expected JSON with text and spans of [first, past the last, concept] in line {number + 1} of "
                        f"{path}, got {line[:60]!r}; make it so, or take it out"
                    ) from error
                documents.append(
                    Document(number, str(row.get("name", f"#{number}")), str(row.get("kind", "text")), text)
                )
                spans.append(own)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"expected labelled text in {path}, could not read it ({error}); give a .jsonl file") from error
    return Corpus(Path(path).name, tuple(documents)), spans


def _read(ws: Workspace, name: str) -> dict[str, Any]:
    kept: dict[str, Any] = json.loads((ws.path("evals", name) / FILE).read_text(encoding="utf-8"))
    return kept


def _prefix(ws: Workspace, dictionary: str) -> str:
    """Of the artefact's name. It carries the dictionary's hash: learnt anew under its name, it is another one."""
    return f"{dictionary[:36]}-concepts-{ws.ref('dictionaries', dictionary).hash[:8]}-"
