"""A classifier trained on labelled text: what kind a reply is, by its words and runs of characters. No torch.

    scorer: {classifier: {says: polite, labels: tone.csv}}   # columns: text, label

Logistic regression on TF-IDF of words, pairs of words and runs of 1 to 4 characters within words, with labels weighted
evenly. It is trained where it is used and kept nowhere: the behaviour holds the labelled text, and the same text gives
the same classifier. scikit-learn (extra `classifier`) is loaded on first use.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glasshouse.behaviours.agreement import Checked
from glasshouse.types import UserError

FOLDS, FEWEST = 5, 10  # of cross-validation; texts of a label
Settings = dict[str, Any]


def classified(texts: Sequence[str], settings: Settings) -> list[bool]:
    """Whether each text is of the kind that `says` names."""
    if not texts:
        return []
    model = _trained(settings["labels"])
    return [str(label) == settings["says"] for label in model.predict(list(texts))]


def check(settings: Settings, calls: Any = None) -> Checked:
    """Every labelled text as it is classified by what was trained on the other folds. Raises `UserError` for a
    classifier that agrees too little with the labels."""
    rows, says = settings["labels"], settings["says"]
    labels = [row["label"] for row in rows]
    given: list[float] = [0.0] * len(rows)
    folds = _sklearn("model_selection").StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    for train, test in folds.split(labels, labels):
        model = _trained([rows[i] for i in train])
        for i, label in zip(test, model.predict([rows[i]["text"] for i in test]), strict=True):
            given[i] = float(label == says)
    pairs = tuple((float(label == says), score) for label, score in zip(labels, given, strict=True))
    found = Checked(by={"classifier": says}, pairs=pairs)
    if problem := found.agreement.problem:
        accuracy = found.agreement.accuracy
        raise UserError(
            f"expected a classifier of {says!r} that knows held-out texts, {problem} (right on {accuracy.value:.0%}); "
            "label more texts, or plainer ones"
        )
    return found


def told_apart(learnt: Sequence[tuple[str, str]], asked: Sequence[tuple[str, str]]) -> list[float]:
    """Of pairs of an old and a new text: by how much the new one reads more like new ones than the old one does, in
    log-odds, to a classifier trained on other pairs; 0 where the two are the same, or where too few of those differ.
    Above 0 it tells them apart."""
    differ = [pair for pair in learnt if pair[0] != pair[1]]
    if len(differ) < FEWEST:
        return [0.0] * len(asked)
    model = _trained([{"text": text, "label": side} for pair in differ for text, side in zip(pair, "ab", strict=True)])
    old, new = (model.decision_function(list(texts)) for texts in zip(*asked, strict=True))
    return [float(b - a) if x != y else 0.0 for a, b, (x, y) in zip(old, new, asked, strict=True)]


def direction_apart(learnt_PD: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """As `told_apart`, of embeddings, the new text's less the old one's: the direction (D,) along which an embedding is
    the log-odds that its text is new. Logistic regression without intercept on the differences, each dimension by its
    spread; 0 where too few differ."""
    differ_PD = learnt_PD[(learnt_PD != 0).any(1)]
    if len(differ_PD) < FEWEST:
        return np.zeros(learnt_PD.shape[1])
    scale_D = differ_PD.std(0) + 1e-6
    both_PD = np.concatenate([differ_PD, -differ_PD]) / scale_D
    regression = _sklearn("linear_model").LogisticRegression(C=0.01, fit_intercept=False, max_iter=1000)
    model = regression.fit(both_PD, np.arange(len(both_PD)) < len(differ_PD))
    return np.asarray(model.coef_[0] / scale_D, np.float64)


def _trained(rows: Sequence[dict[str, str]]) -> Any:
    vectors, pipeline = _sklearn("feature_extraction.text").TfidfVectorizer, _sklearn("pipeline")
    words = vectors(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\b\w+\b")
    characters = vectors(analyzer="char_wb", ngram_range=(1, 4), sublinear_tf=True)
    regression = _sklearn("linear_model").LogisticRegression(C=10.0, class_weight="balanced", max_iter=1000)
    texts, labels = [row["text"] for row in rows], [row["label"] for row in rows]
    return pipeline.make_pipeline(pipeline.make_union(words, characters), regression).fit(texts, labels)


def _sklearn(part: str) -> Any:
    try:
        return importlib.import_module(f"sklearn.{part}")
    except ModuleNotFoundError:
        raise UserError("the scorer `classifier` needs scikit-learn; pip install 'glasshouse[classifier]'") from None


def wrong(settings: Settings, expects: Sequence[Any]) -> str:
    """What is wrong with the labelled texts, or ""."""
    seen: dict[str, str] = {}
    for number, row in enumerate(settings["labels"], 1):
        text, label = row.get("text"), row.get("label")
        if not isinstance(text, str) or not isinstance(label, str) or not text.strip():
            return f"text and label, both texts, in row {number} of `labels`, got {row!r:.60}"
        if text in seen:  # it would be held out from itself
            return f"each text once in `labels`, got the one of row {number} again"
        seen[text] = label
    counts = Counter(seen.values())
    if settings["says"] not in counts or len(counts) < 2 or min(counts.values()) < FEWEST:
        have = ", ".join(f"{label!r}: {count}" for label, count in counts.most_common())
        return f"{FEWEST} texts or more of {settings['says']!r} and of each other label, got {have:.120}"
    return ""
