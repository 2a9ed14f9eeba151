"""Log-probabilities of endings after prompts: what prompts, and the endings of one, have in common is read once.

    log_probabilities(model, [(prompt_ids, [ending_ids, other_ids])])       # [[nats, nats]]

The endings of a prompt are read in one row, as a tree: every token sees the prompt and what comes before it in its own
ending, and nothing else (the tree attention of SpecInfer, Miao et al. 2023, arXiv:2305.09781). Logits are made only
where an ending's tokens are predicted. Shapes: B prompts, N tokens of a tree, S tokens seen before it, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
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
Tree = dict[tuple[int, int], int]  # (number of the token before, token): its own number; 0 is the prompt's last


def log_probabilities(model: Model, asked: Sequence[Asked]) -> list[list[float]]:
    """Of each (prompt, endings): the summed log-probability of each ending's tokens after the prompt, in nats, in fp32.

    With the edits in force: to them prompt and ending are one text, as in `Model.run`. Where an edit depends on more of
    the text than what comes before (`positions` counted from the end, patches, patterns), every ending is read with its
    prompt. Raises `UserError` for what does not fit, and for an edit that did not fire.
    """
    model._require_logits("a log-probability")
    found: list[list[float]] = [[] for _ in asked]
    bound = Bound(model, model.edits) if model.edits else None
    trees = any(len(endings) > 1 for _, endings in asked) and _takes_masks(model, bound)
    for some in _batches(asked, model.sites["logits"].width, trees=trees):
        score = _as_trees if trees else _whole
        for i, nats in zip(some, score(model, [asked[i] for i in some], bound), strict=True):
            found[i] = nats
    if bound is not None and asked:
        bound.check_fired()
    return found


def _takes_masks(model: Model, bound: Bound | None) -> bool:
    """Whether a row may hold several texts, told apart by a mask of ours."""
    return (
        model.takes_cache
        and getattr(model.config, "_attn_implementation", None) in ("eager", "sdpa")
        and not any(
            differs_by_text(effect) or effect.part.positions in ("prompt", "new")
            for effect in (bound.effects if bound else ())
        )
    )


def _batches(asked: Sequence[Asked], vocabulary: int, *, trees: bool) -> Iterator[list[int]]:
    """Indices of prompts of like length, as many as fit the budgets."""
    size = {}
    for i, (prompt, endings) in enumerate(asked):
        longest = max(map(len, endings))
        # rows, columns, and of them those whose logits are made
        n = len(_tree(endings)[0]) if trees else 0
        size[i] = (1, len(prompt) + n, n) if trees else (len(endings), *[len(prompt) + longest] * 2)
    batch: list[int] = []
    for i in sorted(size, key=lambda i: (size[i][1], i)):
        rows, columns, predicted = zip(*(size[j] for j in [*batch, i]), strict=True)
        if batch and (sum(rows) * max(columns) > TOKENS or sum(rows) * max(predicted) * vocabulary > LOGITS):
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def _tree(endings: Sequence[list[int]]) -> tuple[Tree, list[list[int]]]:
    """The tokens that are read after a prompt, each after the one before it; and of each ending the numbers after which
    its tokens are predicted. The last token of an ending need not be read."""
    tree: Tree = {}
    paths = []
    for ending in endings:
        path = [0]
        for token in ending[:-1]:
            path.append(tree.setdefault((path[-1], token), len(tree) + 1))
        paths.append(path)
    return tree, paths


def _as_trees(model: Model, asked: Sequence[Asked], bound: Bound | None) -> list[list[float]]:
    """The prompts in one pass, which gives each ending's first token; the trees in another, unless they are empty."""
    loop = Loop(model, [prompt for prompt, _ in asked], bound)
    log_p_BNV = loop.next_logits().log_softmax(-1)[:, None]
    trees, paths = zip(*(_tree(endings) for _, endings in asked), strict=True)
    if width := max(map(len, trees)):
        read = _read(model, loop, trees, width, bound)
        log_p_BNV = torch.cat([log_p_BNV, read.float().cpu().log_softmax(-1)], 1)
    at = [
        (b, n, token)
        for b, (_, endings) in enumerate(asked)
        for path, ending in zip(paths[b], endings, strict=True)
        for n, token in zip(path, ending, strict=True)
    ]
    nats = iter(log_p_BNV[tuple(torch.tensor(at).T)].tolist())
    return [[sum(next(nats) for _ in ending) for ending in endings] for _, endings in asked]


def _read(model: Model, loop: Loop, trees: Sequence[Tree], width: int, bound: Bound | None) -> Tensor:
    """Logits (B, N, V) after every token of every tree, padded at the right."""
    ids = np.full((len(trees), width), model.pad_id)
    position = np.full(ids.shape, -1)
    among = np.repeat(np.eye(width, dtype=bool)[None], len(trees), axis=0)  # which tokens of a tree a token sees
    for b, (tree, prompt) in enumerate(zip(trees, loop.prompt_B.tolist(), strict=True)):
        for (before, token), number in tree.items():
            n, parent = number - 1, before - 1
            ids[b, n] = token
            position[b, n] = 1 + (position[b, parent] if before else prompt - 1)
            if before:
                among[b, n] |= among[b, parent]
    ids_BN, position_BN, among_BNN = map(torch.from_numpy, (ids, position, among))
    prompt_BNS = (loop.position_BS >= 0)[:, None].expand(-1, width, -1)
    key_BS = torch.cat([loop.position_BS, position_BN], 1)
    masks = _masks(model, loop, torch.cat([prompt_BNS, among_BNN], 2), position_BN, key_BS)
    values, _ = forward(
        model, ids_BN, Pass(position_BN, loop.prompt_B, model.device), get=[Site("logits")], bound=bound,
        attention_mask=masks, past=loop.past,
    )  # fmt: skip
    return values["logits"]


def _masks(
    model: Model, loop: Loop, seen_BNS: Tensor, position_BN: Tensor, key_BS: Tensor
) -> Tensor | dict[str, Tensor]:
    """What is added to the attention's scores, (B, 1, N, S); where layers have a window, for either kind of layer."""
    dtype = next(model.module.parameters()).dtype
    added = lambda seen: torch.zeros(seen.shape, dtype=dtype).masked_fill_(~seen, torch.finfo(dtype).min)[:, None]
    near = [layer for layer in loop.past.layers if layer.is_sliding]
    if not near:
        return added(seen_BNS)
    window, kept = near[0].sliding_window, near[0].keys.shape[-2] + position_BN.shape[1]
    within_BNS = seen_BNS & (position_BN[:, :, None] - key_BS[:, None] < window)
    sliding = added(within_BNS[..., -kept:])
    if len(near) == len(loop.past.layers):
        return sliding
    return {"full_attention": added(seen_BNS), "sliding_attention": sliding}


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
