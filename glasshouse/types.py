"""Nouns that two rooms share, and the one error a user's mistake raises. Imports nothing of ours and no torch."""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
NUMBER = re.compile(r"[0-9]{1,9}")  # of a layer, feature or device: neither the digits of other scripts nor thousands

LAYERED_SITES = ("resid", "resid_mid", "attn_out", "mlp_in", "mlp_act", "mlp_out", "z", "pattern")
PLAIN_SITES = ("embed", "logits")

# TransformerLens' hook names, accepted as aliases (https://transformerlensorg.github.io/TransformerLens/). Its
# `hook_mlp_in` stands before the norm, where ours of that name stands after it.
_TRANSFORMER_LENS = {
    "hook_resid_pre": "resid",
    "hook_resid_mid": "resid_mid",
    "hook_attn_out": "attn_out",
    "hook_mlp_in": "resid_mid",
    "hook_mlp_out": "mlp_out",
    "mlp.hook_post": "mlp_act",
    "attn.hook_z": "z",
    "attn.hook_pattern": "pattern",
}


class UserError(Exception):
    """A user's mistake, in one line: what was expected, what came, what to do. The command line exits with 2."""


def is_text(value: Any) -> bool:
    """Whether it is text that UTF-8 can encode: half of a surrogate pair, as JSON may hold one, cannot be kept or
    read by a tokenizer."""
    return isinstance(value, str) and not re.search("[\ud800-\udfff]", value)


def check_text(text: str) -> str:
    """The text itself if it `is_text`; else `UserError`."""
    if not is_text(text):
        raise UserError("expected text that UTF-8 can encode, got a lone surrogate in it; take it out")
    return text


def check_name(name: str) -> str:
    """The name itself if it may name a model, dictionary or run; else `UserError`."""
    if not NAME_PATTERN.fullmatch(name):
        raise UserError(
            f"expected a name of 1 to 64 characters from a-z 0-9 . _ - that starts with a letter or digit, "
            f"got {name!r}; choose another with --name"
        )
    return name


STREAM_KINDS = ("embed", "resid", "resid_mid", "attn_out", "mlp_out")  # sites whose values are added to the stream


@dataclass(frozen=True, order=True)
class Site:
    """A named place in a model: `resid.6`, `embed`; or a place that an attached dictionary adds: `resid6/codes`."""

    kind: str
    layer: int | None = None
    dictionary: str | None = None

    @classmethod
    def parse(cls, text: str) -> Site:
        """`resid.6`, `embed`, `NAME/codes`, `NAME/error`, `NAME/1234`, or a TransformerLens hook name.

        Raises `UserError` if the text names no kind of site. Whether a given model has it, the model says.
        `blocks.N.hook_resid_post` becomes `resid.N+1`, `blocks.N.hook_mlp_in` becomes `resid_mid.N`. `hook_embed` is
        refused: with learnt positions it is another tensor than `embed`, and a name alone does not tell.
        """
        if "/" in text:
            name, _, kind = text.rpartition("/")
            if kind in ("codes", "error") or NUMBER.fullmatch(kind):
                return cls(kind=kind, dictionary=check_name(name))
        if text in PLAIN_SITES:
            return cls(text)
        if text == "hook_embed":
            raise UserError(
                "expected a site such as embed, what the first block gets, got hook_embed, which lacks GPT-2's "
                "positions; write embed if the model has no learnt positions"
            )
        if match := re.fullmatch(rf"blocks\.({NUMBER.pattern})\.(.+)", text):
            layer, hook = int(match[1]), match[2]
            if hook == "hook_resid_post":
                return cls("resid", layer + 1)
            if hook in _TRANSFORMER_LENS:
                return cls(_TRANSFORMER_LENS[hook], layer)
        if (match := re.fullmatch(rf"([a-z_]+)\.({NUMBER.pattern})", text)) and match[1] in LAYERED_SITES:
            return cls(match[1], int(match[2]))
        raise UserError(
            f"expected a site such as resid.6, mlp_out.3, z.0, embed or logits, got {text!r}; "
            f"kinds with a layer are {', '.join(LAYERED_SITES)}"
        )

    def __str__(self) -> str:
        if self.dictionary is not None:
            return f"{self.dictionary}/{self.kind}"
        return self.kind if self.layer is None else f"{self.kind}.{self.layer}"


@dataclass(frozen=True, order=True)
class FeatureId:
    """One feature of one dictionary, written `NAME/1234`."""

    dictionary: str
    index: int

    @classmethod
    def parse(cls, text: str) -> FeatureId:
        name, slash, index = text.rpartition("/")
        if not slash or not NUMBER.fullmatch(index):
            raise UserError(f"expected a feature written DICTIONARY/NUMBER such as resid6/1234, got {text!r}")
        return cls(check_name(name), int(index))

    def __str__(self) -> str:
        return f"{self.dictionary}/{self.index}"


@dataclass(frozen=True)
class ArtifactRef:
    """An artefact of a workspace and the hash it had when something was made from it."""

    kind: str
    name: str
    hash: str


@dataclass(frozen=True)
class Estimate:
    """A number that people compare, with its interval. `n` counts clusters (documents or prompts)."""

    value: float
    low: float
    high: float
    level: float
    n: int
    unit: str
    method: str

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]{' ' + self.unit if self.unit else ''}"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def mean(cls, sums: Sequence[float], counts: Sequence[float], *, unit: str = "", level: float = 0.95) -> Estimate:
        """Ratio estimate Σsums / Σcounts over clusters, with the linearised (cluster-robust) normal interval.

        `sums[i]` and `counts[i]` belong to cluster i (a document). Cochran, Sampling Techniques (1977), §6.3.
        With fewer than two clusters the interval is infinite: nothing is known of the spread.
        """
        total = float(sum(counts))
        if total <= 0:
            return cls(math.nan, -math.inf, math.inf, level, 0, unit, "clustered ratio")
        value = float(sum(sums)) / total
        n = sum(1 for c in counts if c > 0)
        if n < 2:
            return cls(value, -math.inf, math.inf, level, n, unit, "clustered ratio")
        squares = sum((s - value * c) ** 2 for s, c in zip(sums, counts, strict=True))
        half = _z(level) * math.sqrt(n / (n - 1) * squares) / total
        return cls(value, value - half, value + half, level, n, unit, "clustered ratio")

    @classmethod
    def proportion(cls, hits: float, n: float, *, unit: str = "", level: float = 0.95) -> Estimate:
        """Wilson's score interval for `hits` of `n` (Wilson 1927); `n` may be an effective sample size."""
        if n <= 0:
            return cls(math.nan, 0.0, 1.0, level, 0, unit, "wilson")
        p, z = hits / n, _z(level)
        centre = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return cls(p, max(0.0, centre - half), min(1.0, centre + half), level, int(n), unit, "wilson")

    @classmethod
    def clustered_proportion(cls, hits: Sequence[float], counts: Sequence[float], *, level: float = 0.95) -> Estimate:
        """The proportion Σhits / Σcounts of answers, in clusters that stand or fall together; n counts the clusters.

        Wilson's interval at the effective number of answers: that of independent ones whose proportion would vary as
        much as this one does by `mean`, at most that of all answers (as Korn and Graubard 1998 do with Clopper and
        Pearson's). Where all or none hit, and nothing is seen of how they vary, at that of the clusters.
        """
        found, total = cls.mean(hits, counts, level=level), float(sum(counts))
        half, spread = found.high - found.value, found.value * (1 - found.value)
        effective = min(total, spread * (_z(level) / half) ** 2 if half > 0 else total) if spread > 0 else found.n
        inside = cls.proportion(found.value * effective, effective, level=level)
        return replace(found, low=inside.low, high=inside.high, method="wilson, clustered")


def _z(level: float) -> float:
    """Two-sided standard normal quantile."""
    from statistics import NormalDist

    return NormalDist().inv_cdf(0.5 + level / 2)


def on_first_use(module: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """A module's `__getattr__` (PEP 562) that loads each name, on its first use, from the module it lives in."""

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        return getattr(importlib.import_module(homes[name]), name)

    return load


def finite(value: Any) -> Any:
    """The same JSON value with NaN and infinities as null: JSON has no word for them, and an interval that knows
    nothing of the spread is infinite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value


def plain(text: str) -> str:
    """Text safe to print in a terminal: control characters (but newline and tab) shown as `�`, escapes inert."""
    return "".join(c if c in "\n\t" or (c.isprintable() and c != "\x9b") else "�" for c in text)
