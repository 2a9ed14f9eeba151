"""Open a model: from text to the evidence of its features, step by step, each skipped when it is done.

    open_model("path/to/model", ws=Workspace.open(), corpus="notes/")       # load, harvest, learn, gather
    demo(ws, name="demo", budget=DEMO["other"], text=lambda: corpus("python"))     # grow a model first

A step that was killed goes on where it stood; a step that was finished with the same settings is not done again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glasshouse.types import NAME_PATTERN, Site, UserError, check_name
from glasshouse.workspace import Expectation, Workspace

if TYPE_CHECKING:
    from glasshouse.dictionaries import Dictionary
    from glasshouse.text import Corpus

HARVEST_TOKENS = 2_000_000
SAMPLE_TOKENS = 100_000  # of text read for the norms and largest activations of a dictionary that came without them
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How much work `demo` does, in tokens and sizes, so that it is the same work on every machine of a kind.
    grow_plainly: tokens to grow from where no hardware multiplies tiles of matrices (AMX, a GPU): half as fast."""

    shape: str  # of the model, a name of `models.shapes.SHAPES`
    vocabulary: int
    context: int = 256
    grow_tokens: int
    grow_plainly: int
    harvest_tokens: int
    learn_tokens: int
    gather_tokens: int
    features: int
    k: int
    weights: Mapping[str, float] = field(default_factory=dict)  # of kinds of documents


# For two cores of 2023, nothing beside them: `world` in 6 minutes of growing and 5 for all that follows, any other text
# in 3 and 1.
DEMO = {
    "world": Budget(
        shape="villager", vocabulary=4096, context=128, grow_tokens=5_500_000, grow_plainly=2_400_000,
        harvest_tokens=900_000, learn_tokens=1_800_000, gather_tokens=400_000, features=2048, k=16,
    ),
    "other": Budget(
        shape="default", vocabulary=4096, grow_tokens=3_000_000, grow_plainly=2_000_000, harvest_tokens=1_200_000,
        learn_tokens=3_600_000, gather_tokens=1_000_000, features=1024, k=16,
    ),
    "quick": Budget(
        shape="tiny", vocabulary=1024, grow_tokens=150_000, grow_plainly=150_000, harvest_tokens=50_000,
        learn_tokens=100_000, gather_tokens=40_000, features=256, k=8,
    ),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Opened:
    """What stands in the workspace now."""

    model: str
    dictionary: str
    site: str
    report: dict[str, Any]


def open_model(
    source: str | Path,
    *,
    ws: Workspace,
    site: str | None = None,
    corpus: str | Path | Corpus = "python",
    tokens: int = HARVEST_TOKENS,
    learn_tokens: int | None = None,
    gather_tokens: int | None = None,
    context: int | None = None,
    dictionary: str | Path | None = None,
    name: str | None = None,
    features: int | None = None,
    k: int = 32,
    seed: int = 0,
    device: str | None = None,
    dtype: str | None = None,
    precision: str | None = None,
    text_column: str = "text",
    say: Say = lambda _: None,
) -> Opened:
    """Load a model, harvest `tokens` tokens at `site`, learn a dictionary there and gather its features' evidence.

    source, dtype: as `gh.load`. site: None for the stream entering the middle block. corpus: folder, file or "python".
    learn_tokens: activations that the dictionary is trained on (None: twice `tokens`). gather_tokens: tokens that the
    evidence is gathered over (None: `tokens`). context: tokens a window (None: 256, or what the model reads if less).
    dictionary: a folder, ours or SAELens'; then nothing is trained, and its site and name hold. name: of what is made
    (None: `<model>-<site>`). features, k: the dictionary's size and active features per token. precision: in which the
    dictionary is trained, "fp32" or "bf16" (None: the faster, measured once and stored). `say` is given lines
    for a person: what is expected, what is being done.

    Raises `UserError` for a model, site, corpus or dictionary that does not fit, or a disk too small, before any work.
    """
    from glasshouse.models import load
    from glasshouse.models.origins import check_known
    from glasshouse.text import corpus as read_corpus

    model = load(source, device=device, dtype=dtype, workspace=ws)
    check_known(model, ws)
    given = None if dictionary is None else _given_dictionary(dictionary, model, site, ws, name)
    place = str(given.site if given else model.site(site or middle(model.n_layers)))
    called = check_name(given.name if given else name or default_name(model.name, place))
    if isinstance(corpus, (str, Path)):
        corpus = read_corpus(corpus, text_column=text_column)
        say(str(corpus))
    text = corpus
    window = context or min(256, model.context)
    job = _Job(
        ws=ws,
        model=model,
        source=source,
        text=text,
        site=place,
        name=called,
        context=window,
        seed=seed,
        say=say,
        precision=precision,
    )
    amounts = {"tokens": tokens, "learn": learn_tokens or 2 * tokens, "gather": gather_tokens or tokens}
    job.announce(amounts, features=features, k=k, given=given)
    found = job.adopt(given) if given else job.learn(amounts, features=features, k=k)
    job.gather(found, amounts["gather"])
    return Opened(model=model.name, dictionary=called, site=place, report=found.report)


def demo(
    ws: Workspace, *, name: str, budget: Budget, text: Callable[[], Corpus], say: Say = lambda _: None
) -> Opened:  # fmt: skip
    """Grow a small model from the text, and open it on the same text. Budgets are in tokens; precision, and how much is
    grown, are by instruction set, not measured, so that a demo is the same wherever the processor is alike. What was
    begun elsewhere goes on as it was begun. Finished already, it is told from the manifests, without reading text or
    model again."""
    if (stands := _standing(ws, name, budget)) is not None:
        return stands

    from glasshouse.activations.harvesting import disk_bytes as activations_disk
    from glasshouse.features.gathering import disk_bytes as evidence_disk
    from glasshouse.models.grow import expect, grow
    from glasshouse.models.load import default_device
    from glasshouse.models.shapes import SHAPES
    from glasshouse.models.training import multiplies_tiles, precision_by_instruction_set

    read, begun = text(), ws.begun("models", name).get("tokens")
    tokens = budget.grow_tokens if multiplies_tiles(default_device()) else budget.grow_plainly
    if begun in (budget.grow_tokens, budget.grow_plainly):
        tokens = begun
    sizes: dict[str, Any] = {
        "shape": budget.shape, "tokens": tokens, "vocabulary": budget.vocabulary,
        "context": budget.context,
    }  # fmt: skip
    if not ws.exists("models", name):
        said = expect(**sizes)
        rows = activations_disk({"": SHAPES[budget.shape].width}, budget.harvest_tokens)
        ws.require_disk(said.disk + rows + evidence_disk(budget.gather_tokens, budget.features, budget.k))
        say(str(read))
        say(f"growing {name}: {said}")
    grow(read, name=name, ws=ws, precision="auto-isa", weights=budget.weights, **sizes)
    return open_model(
        name, ws=ws, corpus=read.weighted(budget.weights) if budget.weights else read, tokens=budget.harvest_tokens,
        learn_tokens=budget.learn_tokens, gather_tokens=budget.gather_tokens, features=budget.features, k=budget.k,
        precision=precision_by_instruction_set(default_device()), say=say,
    )  # fmt: skip


def _standing(ws: Workspace, name: str, budget: Budget) -> Opened | None:
    """The demo as it stands finished, made with these budgets and each artefact from the one before; else None."""
    if not ws.exists("models", name):
        return None
    grown = ws.manifest("models", name)
    place = middle(int(grown["config"]["shape"]["layers"]))
    called = default_name(name, place)
    chain = [("activations", called), ("dictionaries", called), ("features", called)]
    if not all(ws.exists(kind, name) for kind, name in chain):
        return None
    stored, learnt, gathered = (ws.manifest(kind, name) for kind, name in chain)
    if grown["config"].get("tokens") not in (budget.grow_tokens, budget.grow_plainly):
        return None
    amounts = (
        (grown, "vocabulary", budget.vocabulary),
        (grown, "context", budget.context),
        (grown, "weights", dict(budget.weights)),
        (stored, "tokens", budget.harvest_tokens), (learnt, "tokens", budget.learn_tokens),
        (learnt, "features", budget.features), (learnt, "k", budget.k), (gathered, "tokens", budget.gather_tokens),
    )  # fmt: skip
    links = ((stored, grown), (learnt, stored), (gathered, learnt))
    if any(made["config"].get(key) != amount for made, key, amount in amounts) or any(
        source["hash"] not in {ref["hash"] for ref in made["made_from"]} for made, source in links
    ):
        return None
    report = json.loads((ws.path("dictionaries", called) / "report.json").read_text(encoding="utf-8"))
    return Opened(model=name, dictionary=called, site=place, report=report)


def middle(layers: int) -> str:
    """The stream entering the middle block: late enough for meanings, early enough to act on what follows."""
    return f"resid.{(layers + 1) // 2}"


def default_name(model: str, site: str) -> str:
    """`<model>-<site>`, the model's part cut to what a name may hold."""
    return f"{model[: 63 - len(site)]}-{site}"


# -- the steps -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Job:
    """One model at one site with one corpus."""

    ws: Workspace
    model: Any
    source: str | Path
    text: Corpus
    site: str
    name: str
    context: int
    seed: int
    say: Say
    precision: str | None

    def announce(self, amounts: dict[str, int], *, features: int | None, k: int, given: Dictionary | None) -> None:
        """Say what is left to do, with time, memory and disk; `UserError` now if the disk is too small for it."""
        from glasshouse.activations import expect as expect_harvest

        if self.ws.exists("features", self.name):
            return
        reading = expect_harvest(self.model, [self.site], tokens=amounts["tokens"], context=self.context)
        rate = amounts["tokens"] / max(reading.seconds, 1e-9)
        steps: list[Expectation] = []
        if given is None and not self.ws.exists("activations", self.name):
            steps.append(reading)
        if given is None and not self.ws.exists("dictionaries", self.name):
            steps.append(self._expect_learning(amounts["learn"], features, k))
        steps.append(self._expect_evidence(amounts["gather"], rate, features, k, given))
        total = steps[0]
        for step in steps[1:]:
            total += step
        self.ws.require_disk(total.disk)
        self.say(f"opening {self.model.name} at {self.site} as {self.name}: {total}")

    def _expect_learning(self, tokens: int, features: int | None, k: int) -> Expectation:
        from glasshouse.dictionaries import LearnConfig, expect

        config = LearnConfig(features=features, k=k, tokens=tokens, seed=self.seed)
        return expect(config, self.model.sites[self.site].width, device=str(self.model.device))

    def _expect_evidence(
        self, tokens: int, rate: float, features: int | None, k: int, given: Dictionary | None
    ) -> Expectation:
        from glasshouse.dictionaries import LearnConfig
        from glasshouse.features.gathering import active_features, expect

        width = self.model.sites[self.site].width
        count = given.n_features if given else LearnConfig(features=features, k=k).resolved(width).features
        assert count is not None
        active = active_features(given) if given else k
        device = str(self.model.device)
        return expect(
            tokens=tokens, n_features=count, width=width, active=active, tokens_per_second=rate, device=device
        )  # fmt: skip

    def learn(self, amounts: dict[str, int], *, features: int | None, k: int) -> Dictionary:
        from glasshouse.activations import harvest
        from glasshouse.dictionaries import LearnConfig, learn
        from glasshouse.models.origins import remember

        rows = harvest(
            self.model, self.text, [self.site], name=self.name, ws=self.ws, tokens=amounts["tokens"],
            context=self.context, seed=self.seed,
        )  # fmt: skip
        remember(self.model, self.source, self.ws)
        config = LearnConfig(features=features, k=k, tokens=amounts["learn"], seed=self.seed)
        device = str(self.model.device)
        return learn(
            rows, self.site, name=self.name, ws=self.ws, config=config, model=self.model, precision=self.precision,
            device=device,
        )  # fmt: skip

    def adopt(self, given: Dictionary) -> Dictionary:
        """The given dictionary as one of the workspace; norms and report are measured if it came without."""
        from glasshouse.activations import stream
        from glasshouse.dictionaries import read_folder, write_folder
        from glasshouse.models.origins import remember

        folder = self.ws.path("dictionaries", self.name)
        if _is_the_workspaces_own(given, self.ws):
            return given
        config = {"adopted": given.hash, "model": self.model.name, "site": self.site}
        if self.ws.done("dictionaries", self.name, config):
            return read_folder(folder, name=self.name)
        with self.ws.writing("dictionaries", self.name, config=config, command="open") as draft:
            if given.max_activation is None or given.typical_norm is None or not given.report:
                source = stream(
                    self.model, self.text, [self.site], tokens=SAMPLE_TOKENS, context=self.context, seed=self.seed
                )
                given = _completed(given, source, self.model)
            remember(self.model, self.source, self.ws)
            write_folder(replace(given, name=self.name, model_name=self.model.name), draft.path)
            draft.finish(site=self.site, model=self.model.name)
        return read_folder(folder, name=self.name)

    def gather(self, found: Dictionary, tokens: int) -> None:
        from glasshouse.features.gathering import gather

        gather(
            self.model, found, self.text, ws=self.ws, name=self.name, tokens=tokens, context=self.context,
            seed=self.seed,
        )  # fmt: skip


def _completed(given: Dictionary, source: Any, model: Any) -> Dictionary:
    """With what it came without; what came is kept."""
    from glasshouse.dictionaries import LearnConfig, held_out_report
    from glasshouse.dictionaries.learning import largest_activations

    there, found = given.to(model.device), dict(given.report)
    maxima_F, norm = given.max_activation, given.typical_norm
    if maxima_F is None:
        maxima_F, rows = largest_activations(there, source, LearnConfig(tokens=SAMPLE_TOKENS, batch=1, k=1))
        found["max_activation_rows"] = rows
    if not given.report:
        found |= held_out_report(there, source, model=model)
    if norm is None:
        norm = source.typical_norm(str(given.site))
    return replace(given.with_statistics(maxima_F, norm), report=found)


def _given_dictionary(source: str | Path, model: Any, site: str | None, ws: Workspace, name: str | None) -> Dictionary:
    """The user's dictionary, checked against the model: it names a site there, of its own width."""
    from glasshouse.dictionaries import dictionary

    found = dictionary(source, ws=ws)
    if site is not None and str(Site.parse(site)) != str(found.site):
        raise UserError(f"expected no --site, or {found.site} as dictionary {found.name} says, got {site}")
    place = str(model.site(str(found.site)))
    width = model.sites[place].width
    if width != found.width:
        raise UserError(
            f"dictionary {found.name} expects width {found.width} but {place} of {model.name} has {width}; "
            f"choose the model it was made for"
        )
    if name is None and not ws.exists("dictionaries", found.name) and not NAME_PATTERN.fullmatch(found.name):
        name = default_name(model.name, place)
    return replace(found, name=name or found.name)


def _is_the_workspaces_own(given: Dictionary, ws: Workspace) -> bool:
    """Whether it was learnt here, and is not a copy of a dictionary from elsewhere."""
    from glasshouse.dictionaries import read_folder

    if not ws.exists("dictionaries", given.name) or "adopted" in ws.manifest("dictionaries", given.name)["config"]:
        return False
    return read_folder(ws.path("dictionaries", given.name)).hash == given.hash
