"""What is active inside as a reply begins: a dictionary's features, for every prompt of a run. And how the base reads
replies.

    both = insides(ws, base, new, evaluation, dictionary("villager-resid.2", ws=ws))
    both.names[792], both.before_PF[:, 792].mean(), both.after_PF[:, 792].mean()

Both versions read the same tokens: the chat up to the reply, as it went with the base. What differs is then no echo of
what they said. Where a feature moves by less than a quarter of its largest activation it is taken not to have moved, as
any fine-tuning shifts all of them a little.

Legend: P prompts, F features, D width of the site.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from glasshouse.behaviours.asking import asked_ids
from glasshouse.behaviours.evaluation import Evaluation
from glasshouse.behaviours.provenance import descent
from glasshouse.behaviours.scorers import Sample
from glasshouse.behaviours.versions import Version, loaded
from glasshouse.dictionaries import Dictionary
from glasshouse.features import features
from glasshouse.types import UserError
from glasshouse.workspace import Workspace

MOVES = 0.25  # of a feature's largest activation
BATCH = 32


class Insides(NamedTuple):
    """names: of the features, with their labels. before_PF, after_PF: the activation of each in the base and in the new
    version, as a share of its largest, from 0 to 1."""

    names: list[str]
    before_PF: NDArray[np.float32]
    after_PF: NDArray[np.float32]


def insides(
    ws: Workspace, base: Version, new: Version, asked: Evaluation, dictionary: Dictionary, *, device: str | None = None
) -> Insides:
    """asked: the base's run. Raises `UserError` for a dictionary of a model that one of the two does not come from, and
    for one that does not know its features' largest activations."""
    for one in (base, new):
        from_models = [ancestor.name for ancestor in descent(ws, one.model)]
        if dictionary.model_name not in from_models:
            raise UserError(
                f"expected a dictionary of a model that {one.name} comes from ({', '.join(from_models)}), "
                f"{dictionary.name} is of {dictionary.model_name}; its features mean nothing elsewhere"
            )
    if dictionary.max_activation is None:
        raise UserError(f"expected largest activations in {dictionary.name}, found none; gather its features first")
    before_PF, after_PF = (_shares(ws, one, asked.samples, dictionary, device) for one in (base, new))
    after_PF = np.where(np.abs(after_PF - before_PF) < MOVES, before_PF, after_PF)
    labels = features(dictionary.name, ws=ws).labels if ws.exists("features", dictionary.name) else {}
    names = [
        f"{dictionary.name}/{i}" + (f" ({labels[i]})" if labels.get(i) else "") for i in range(dictionary.n_features)
    ]
    return Insides(names, before_PF, after_PF)


def readings(
    ws: Workspace, base: Version, asked: Evaluation, replied: Evaluation, *, device: str | None = None
) -> NDArray[np.float32]:
    """An embedding of every reply of `replied`, as the base reads it after its own chat, that of `asked`, without
    system prompt or edits: the mean of its middle stream over the reply's tokens, P × D; of no reply, 0."""
    model, _ = loaded(base, ws, device=device)
    site = f"resid.{(model.n_layers + 1) // 2}"
    rows: list[list[int]] = []
    lengths: list[int] = []
    for old, new in zip(asked.samples, replied.samples, strict=True):
        said = list(model.tokenizer(new.reply, add_special_tokens=False, verbose=False).input_ids)[: model.context // 2]
        rows.append([*asked_ids(model, old), *said][-model.context :])
        lengths.append(len(said))
    found_PD = np.zeros((len(rows), model.width), np.float32)
    order = [i for i in sorted(range(len(rows)), key=lambda i: len(rows[i])) if lengths[i]]
    for first in range(0, len(order), BATCH):
        some = order[first : first + BATCH]
        run: Any = model.run([rows[i] for i in some], [site], stop=True)
        for i, values_SD, mask_S in zip(some, run[site].values, run[site].mask, strict=True):
            found_PD[i] = values_SD[mask_S][-lengths[i] :].float().mean(0).cpu().numpy()
    return found_PD


def _shares(
    ws: Workspace, version: Version, samples: Sequence[Sample], dictionary: Dictionary, device: str | None
) -> NDArray[np.float32]:
    """Of every sample in order: the features' activations at the last token before the reply."""
    model, edit = loaded(version, ws, device=device)
    assert dictionary.max_activation is not None
    largest_F = dictionary.max_activation.where(dictionary.max_activation > 0, math.inf)  # never seen to fire: 0
    rows = [asked_ids(model, sample, version.system)[-model.context :] for sample in samples]
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    found_PF = np.zeros((len(rows), dictionary.n_features), np.float32)
    site = str(dictionary.site)
    for first in range(0, len(order), BATCH):
        some = order[first : first + BATCH]
        with model.edit(edit):
            run: Any = model.run([rows[i] for i in some], [site], stop=not version.edit)
        last_B = run[site].mask.long().cumsum(1).argmax(1)
        last_BD = run[site].values[torch.arange(len(some)), last_B]
        found_PF[some] = (dictionary.encode(last_BD) / largest_F).clamp(max=1.0).cpu().numpy()
    return found_PF
