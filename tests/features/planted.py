"""Dictionaries and texts whose features are known, for tests of what is gathered from them."""

from __future__ import annotations

import numpy as np
import torch

from glasshouse.dictionaries.dictionary import Dictionary, Threshold
from glasshouse.features.statistics import Text
from glasshouse.types import Site


def random_dictionary(
    width: int, n_features: int, *, site: str = "resid.1", k: int = 4, name: str = "rnd"
) -> Dictionary:
    """Random directions, TopK; the last feature can never fire."""
    draw = torch.Generator().manual_seed(0)
    W_dec = torch.nn.functional.normalize(torch.randn(n_features, width, generator=draw), dim=1)
    b_enc = torch.zeros(n_features)
    b_enc[-1] = -1e6
    return Dictionary(
        name="rnd", site=Site.parse(site), model_name=None, W_enc=W_dec.T.contiguous(), b_enc=b_enc, W_dec=W_dec,
        b_dec=torch.zeros(width), activation=Threshold(kind="topk", k=k),
    )  # fmt: skip


def plain_text(ids: np.ndarray, documents: int, *, kinds: int = 2, vocabulary: int = 64) -> Text:
    """Contexts of equal length, dealt out to documents in turn; every position encoded, no BOS."""
    contexts = len(ids)
    return Text(
        ids_CT=ids.astype(np.int32),
        length_C=np.full(contexts, ids.shape[1], np.int32),
        doc_C=np.arange(contexts, dtype=np.int64) % documents,
        char_C=np.zeros(contexts, np.int64),
        kept_CT=np.ones(ids.shape, bool),
        names=[f"d{d}" for d in range(documents)],
        key_D=np.arange(documents, dtype=np.uint64),
        kind_D=np.arange(documents, dtype=np.int64) % kinds,
        kinds=[f"kind{k}" for k in range(kinds)],
        bos=False,
        vocabulary=vocabulary,
    )
