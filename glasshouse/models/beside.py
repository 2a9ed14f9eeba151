"""Two forward passes beside each other, each with half the threads: how a CPU runs a small model best."""

from __future__ import annotations

import contextlib
import copy
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch

from glasshouse.models.model import Model

T = TypeVar("T")
R = TypeVar("R")


@contextlib.contextmanager
def side_by_side(model: Model) -> Iterator[Callable[[Callable[[Model, T], R], Iterable[T]], Iterator[R]]]:
    """`apply(f, items)` within: f(a model, item) for every item, the results in the order of the items.

    On a CPU with two threads or more two items are worked on at a time, each by half of the threads and a model of its
    own with the same weights: the many small operations of a forward pass gain less from a second thread than another
    pass does (docs/log.md). Elsewhere, where the module cannot be copied, and of a single item, one after the other,
    with the model itself. The edits in force here are in force there, and what f computes depends on the item, on
    whether it is the only one, and on the number of threads alone.
    """
    threads = torch.get_num_threads()
    other = replica(model) if model.device.type == "cpu" and threads > 1 else None
    if other is None:
        yield lambda f, items: (f(model, item) for item in items)
        return
    own, models, edits = threading.local(), iter([model, other]), model.edits

    def begin() -> None:
        torch.set_num_threads(threads // 2)
        own.model = next(models)
        own.edited = own.model.edit(edits)
        own.edited.__enter__()  # in this thread, and gone with it

    def apply(f: Callable[[Model, T], R], items: Iterable[T]) -> Iterator[R]:
        if len(items := list(items)) < 2:
            return (f(model, item) for item in items)
        return pool.map(lambda item: f(own.model, item), items)

    with ThreadPoolExecutor(2, initializer=begin) as pool:
        try:
            yield apply
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(threads)  # MKL has one number for all


def replica(model: Model) -> Model | None:
    """The same weights in modules of its own, whose hooks are not the model's, and a tokenizer of its own; None for a
    module or a tokenizer that cannot be copied (it holds a lock, or a tensor that is computed from others)."""
    with model.lock:  # not while another thread's pass has hooks or edited weights in it
        kept: dict[int, Any] = {id(t): t for t in itertools.chain(model.module.parameters(), model.module.buffers())}
        try:
            module = copy.deepcopy(model.module, kept)
            # A fast tokenizer must not be set, to pad or to cut, while another thread encodes with it.
            tokenizer = copy.deepcopy(model.tokenizer)
        except (TypeError, RuntimeError):
            return None
    made = Model(module, tokenizer, model.family, name=model.name)
    made.attached, made.sites, made.width = model.attached, model.sites, model.width
    return made
