"""Log-probabilities of endings after prompts: each prompt is read once, whatever the number of its endings.

    log_probabilities(model, [(prompt_ids, [ending_ids, other_ids])])       # [[nats, nats]]

Logits are computed only where an ending's tokens are predicted. Shapes: B prompts, R endings, T tokens, S tokens seen,
V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from glasshouse.models.effects import Pass
from glasshouse.models.generation import Loop, differs_by_text
from glasshouse.models.model import Model
from glasshouse.models.runs import Batch, Bound, forward
from glasshouse.types import Site

TOKENS = 4096  # of all rows of a batch, padding counted
LOGITS = 1 << 27  # numbers held at once: 512 MiB
Asked = tuple[list[int], list[list[int]]]  # tokens of a prompt, and of each ending


def log_probabilities(model: Model, asked: Sequence[Asked]) -> list[list[float]]:
    """Of each (prompt, endings): the summed log-probability of each ending's tokens after the prompt, in nats, in fp32.

    With the edits in force: to them prompt and ending are one text, as in `Model.run`. Where an edit depends on more of
    the text than what comes before (`positions` counted from the end, patches, patterns), every ending is read with its
    prompt. Raises `UserError` for what does not fit, and for an edit that did not fire.
    """
    model._require_logits("a log-probability")
    found: list[list[float]] = [[] for _ in asked]
    bound = Bound(model, model.edits) if model.edits else None
    split = hasattr(model.module, "get_input_embeddings") and not any(
        differs_by_text(effect) or effect.part.positions in ("prompt", "new")
        for effect in (bound.effects if bound else ())
    )
    for some in _batches(asked, model.sites["logits"].width, whole=not split):
        score = _after_prompts if split else _whole
        for i, nats in zip(some, score(model, [asked[i] for i in some], bound), strict=True):
            found[i] = nats
    if bound is not None and asked:
        bound.check_fired()
    return found


def _batches(asked: Sequence[Asked], vocabulary: int, *, whole: bool) -> Iterator[list[int]]:
    """Indices of prompts of like length, as many as fit the budgets."""
    size = {
        i: (len(prompt), max(map(len, endings)), _rows(endings, whole=whole))
        for i, (prompt, endings) in enumerate(asked)
    }
    batch: list[int] = []
    for i in sorted(size, key=lambda i: (size[i][0] + size[i][1], i)):
        every = [size[j] for j in [*batch, i]]
        rows = sum(count for *_, count in every)
        prompt, ending = max(p for p, *_ in every), max(e for _, e, _ in every)
        read = rows * (prompt + ending if whole else ending)
        if batch and (rows * (prompt + ending) > TOKENS or read * vocabulary > LOGITS):
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def _rows(endings: list[list[int]], *, whole: bool) -> int:
    """Rows that a prompt takes: an ending of one token needs none of its own."""
    return len(endings) if whole else max(1, sum(len(ending) > 1 for ending in endings))


def _after_prompts(model: Model, asked: Sequence[Asked], bound: Bound | None) -> list[list[float]]:
    """The prompts in one pass, which gives each ending's first token; the endings after it in another, if any is
    longer."""
    loop = Loop(model, [prompt for prompt, _ in asked], bound)
    first_BV = loop.next_logits().log_softmax(-1)
    found = [[float(first_BV[b, ending[0]]) for ending in endings] for b, (_, endings) in enumerate(asked)]
    longer = [(b, r, ending) for b, (_, each) in enumerate(asked) for r, ending in enumerate(each) if len(ending) > 1]
    if not longer:
        return found
    ids_RT, position_RT = _endings(model, [ending[:-1] for _, _, ending in longer])
    rows_R = torch.tensor([b for b, _, _ in longer])
    loop.past.batch_select_indices(rows_R.to(model.device))
    before_RS = loop.position_BS[rows_R]
    position_RT = torch.where(position_RT >= 0, position_RT + loop.prompt_B[rows_R, None], -1)
    length_R = (before_RS >= 0).sum(1) + (position_RT >= 0).sum(1) + 1
    values, _ = forward(
        model, ids_RT, Pass(position_RT, length_R, model.device), get=[Site("logits")], bound=bound,
        attention_mask=torch.cat([before_RS >= 0, position_RT >= 0], 1), past=loop.past,
    )  # fmt: skip
    for row, (b, r, ending) in enumerate(longer):
        found[b][r] += _summed(values["logits"][row, : len(ending) - 1], ending[1:])
    return found


def _endings(model: Model, rows: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
    """Ids and positions within the endings, padded at the right."""
    ids_RT = torch.full((len(rows), max(map(len, rows))), model.pad_id)
    position_RT = torch.full(ids_RT.shape, -1)
    for r, row in enumerate(rows):
        ids_RT[r, : len(row)] = torch.as_tensor(row)
        position_RT[r, : len(row)] = torch.arange(len(row))
    return ids_RT, position_RT


def _whole(model: Model, asked: Sequence[Asked], bound: Bound | None) -> list[list[float]]:
    """Every ending with its prompt as a text of its own."""
    rows = [(prompt, ending) for prompt, endings in asked for ending in endings]
    batch: Batch = model.tokens([[*prompt, *ending] for prompt, ending in rows])
    at = Pass(batch.position_BT, batch.mask_BT.sum(1), model.device)
    values, _ = forward(model, batch.ids_BT, at, get=[Site("logits")], bound=bound)
    logits_RTV = values["logits"]
    nats = iter(
        [
            _summed(logits_RTV[row, len(prompt) - 1 : len(prompt) + len(ending) - 1], ending)
            for row, (prompt, ending) in enumerate(rows)
        ]
    )
    return [[next(nats) for _ in endings] for _, endings in asked]


def _summed(logits_TV: Tensor, ids: list[int]) -> float:
    logits_TV = logits_TV.float()
    target_T1 = torch.as_tensor(ids, device=logits_TV.device)[:, None]
    return float((logits_TV.gather(1, target_T1)[:, 0] - logits_TV.logsumexp(-1)).sum())
