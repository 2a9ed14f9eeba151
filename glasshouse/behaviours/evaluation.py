"""A behaviour run on a version: batched, resumable sample by sample, kept under evals/.

    done = evaluate(version("villager", ws), behaviour, ws)
    done.mean                                                # an Estimate over families
    evaluations(ws, version("villager", ws))                 # all that was ever run on it; needs no torch

evals/<behaviour>.<version>.<settings>/ holds behaviour.json (what was asked), samples.jsonl (every reply with its
score, in the behaviour's order), metrics.jsonl (what it took), and of a judge or a classifier agreement.json (how it
agrees with people). A reply depends on its own seed and not on its batch.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glasshouse.behaviours.agreement import Checked
from glasshouse.behaviours.behaviour import Behaviour, behaviour_from_json
from glasshouse.behaviours.judge import calls_each, judged
from glasshouse.behaviours.scorers import RECORDED, SCORERS, Sample, innermost, scored_by, scores
from glasshouse.behaviours.statistics import Scored, mean, pseudo_values
from glasshouse.behaviours.versions import Version, loaded
from glasshouse.calls import Calls, Halted
from glasshouse.types import Estimate, UserError
from glasshouse.workspace import Draft, Workspace, write_atomically

if TYPE_CHECKING:
    from glasshouse.models import Edit, Model

BEHAVIOUR, SAMPLES, REPLIES, CHECKED = "behaviour.json", "samples.jsonl", "replies.jsonl", "agreement.json"
SAID, KEPT = "said", "kept"  # among the choices: when what is scored anew was said, and the evaluation that kept it
BATCH, TOKENS = 32, 8192  # texts at once, and more of them where the model reads so little that they hold fewer tokens
PLAIN = vars(Sample(family="", prompt=0))  # what a line of samples.jsonl leaves out where it is so


@dataclass(frozen=True)
class Evaluation:
    """One behaviour on one version, finished. `name`: of the artefact under evals/; `created`: when the replies were
    made, in UTC. `scorer`: with its version (see `scored_by`), "" of an imported log. `checked`: the judge or the
    classifier."""

    name: str
    created: str
    version: dict[str, Any]
    behaviour: Behaviour
    samples: tuple[Sample, ...]
    scores: tuple[float | None, ...]
    scorer: str
    checked: Checked | None = None

    @property
    def problem(self) -> str:
        """Why its scores do not count, or ""."""
        here = scored_by(self.behaviour.scorer)
        if self.scorer != here and self.behaviour.scorer[0] != RECORDED:
            by = self.scorer or "a scorer whose version is not recorded"
            return f"it was scored by {by}, and here is {here}: run `glasshouse test` again (replies are kept)"
        return self.checked.problem if self.checked is not None else ""

    @property
    def lacking(self) -> float:
        """The share of samples that lack a score."""
        return sum(score is None for score in self.scores) / max(len(self.scores), 1)

    @property
    def scored(self) -> list[Scored]:
        """For statistics; where a score is of several families, as what moves the mean (see `pseudo_values`)."""
        found = [
            Scored(sample.family, f"{sample.prompt}", score)
            for sample, score in zip(self.samples, self.scores, strict=True)
        ]
        return pseudo_values(found, self.behaviour.scoring["degree"])

    @property
    def mean(self) -> Estimate:
        return mean(self.scored, bounded=self.behaviour.bounded, degree=self.behaviour.scoring["degree"])

    def without(self, families: Collection[str]) -> Evaluation:
        """Of the other families alone; a score that is of several families is made of these."""
        kept = [each for each in zip(self.samples, self.scores, strict=True) if each[0].family not in families]
        samples, given = tuple(sample for sample, _ in kept), tuple(score for _, score in kept)
        anew = self.behaviour.scoring["degree"] > 1 and len(given) < len(self.scores)
        return replace(self, samples=samples, scores=tuple(scores(samples, self.behaviour.scorer)) if anew else given)


def evaluate(
    version: Version, behaviour: Behaviour, ws: Workspace, *, seed: int = 0, batch: int | None = None,
    device: str | None = None, opened: tuple[Model, Edit] | None = None, calls: Calls | None = None,
) -> Evaluation:  # fmt: skip
    """Run the behaviour on the version unless that stands; killed, the same call goes on and repeats no reply and no
    answered call to a judge. Where another version of the scorer has scored it, its replies are scored anew.

    batch: texts at once (None: as many as `BATCH` and `TOKENS` say). opened: the version as `loaded` gives it, so as
    not to load it again. calls: how a judge is asked, and the budget.
    Raises `UserError` for a model that lacks what the scorer needs, for a classifier that knows too little, and where a
    judge cannot be asked on: then what was done is kept.
    """
    if behaviour.scorer[0] == RECORDED:
        scores([], behaviour.scorer)  # says that it cannot be run
    config = {
        "version": version.hash, "behaviour": behaviour.hash, "seed": seed, "scorer": scored_by(behaviour.scorer)
    }  # fmt: skip
    name = evaluation_name(version, behaviour, seed)
    if ws.done("evals", name, config):
        return read_evaluation(ws, name)
    calls, scorer = calls or Calls(ws, device=device), SCORERS[behaviour.scorer[0]]
    try:
        with ws.writing("evals", name, config=config, command="test") as draft:
            looks, with_ = innermost(behaviour.scorer)
            checked = SCORERS[looks].check(with_, calls)
            samples = _samples(
                draft, version, behaviour, seed, batch, lambda: opened or loaded(version, ws, device=device)
            )
            if scorer.needs == "verdict":
                total = len(samples) * calls_each(behaviour.scorer[1])
                with ws.running("test", "evals", name, total=total, unit="calls") as progress:
                    samples = judged(samples, behaviour.scorer[1], calls, progress.advance)
            _finish(draft, version, behaviour, samples, checked)
    except Halted as halted:
        raise UserError(str(halted)) from None
    return read_evaluation(ws, name)


def _samples(
    draft: Draft,
    version: Version,
    behaviour: Behaviour,
    seed: int,
    batch: int | None,
    opened: Callable[[], tuple[Model, Edit]],
) -> list[Sample]:
    """With what the scorer needs of the model, from where a killed run has left."""
    wanted = planned(behaviour)
    if not draft.resumed:
        _take_over(draft, version, behaviour, seed)
    found = _replies(draft, wanted)
    left = [sample for sample in wanted if _key(sample) not in found]
    if not left:
        return [found[_key(sample)] for sample in wanted]
    model, edit = opened()
    with draft.ws.running(
        "test", "evals", draft.name, total=len(wanted), unit="samples", done=len(found)
    ) as progress:  # fmt: skip
        started, tokens = time.perf_counter(), 0
        for some in _answered(model, edit, version.system, behaviour, left, seed, batch):
            _keep(draft, some)
            found |= {_key(sample): sample for sample in some}
            tokens += sum(sample.tokens for sample in some)
            progress.advance(len(found))
    draft.log(samples=len(left), tokens=tokens, seconds=time.perf_counter() - started)
    return [found[_key(sample)] for sample in wanted]


def _finish(
    draft: Draft, version: Version, behaviour: Behaviour, samples: Sequence[Sample], checked: Checked | None
) -> None:
    given = scores(samples, behaviour.scorer)
    write_samples(draft.path, behaviour, zip(samples, given, strict=True))
    if checked is not None:
        write_atomically(draft.path / CHECKED, json.dumps(checked.to_json()))
    (draft.path / REPLIES).unlink(missing_ok=True)
    unscored = sum(score is None for score in given)
    errors = sorted({sample.error for sample in samples} - {""})
    draft.finish(
        made_from=[draft.ws.ref("models", version.model)], version=version.to_json(),
        summary={"samples": len(samples), "unscored": unscored, "errors": errors},
    )  # fmt: skip


def _answered(
    model: Model, edit: Edit, system: str, behaviour: Behaviour, left: Sequence[Sample], seed: int, batch: int | None
) -> Iterator[list[Sample]]:
    """Batches of samples with what the scorer needs of the model, prompts of like length together."""
    from glasshouse.behaviours import asking
    from glasshouse.models.beside import side_by_side

    needed = SCORERS[behaviour.scorer[0]].needs
    ask = {
        "reply": asking.replies,
        "verdict": asking.replies,
        "cost": asking.costs,
        "choices": asking.choices,
        "likelihood": asking.likelihood,
    }[needed]
    order = sorted(left, key=lambda sample: (sum(len(content or "") for _, content in sample.turns), _key(sample)))
    batch = batch or max(BATCH, TOKENS // model.context)
    with model.edit(edit), side_by_side(model) as apply:
        yield from apply(
            lambda own, some: ask(own, some, behaviour, system=system, seed=seed),
            [order[first : first + batch] for first in range(0, len(order), batch)],
        )


def evaluation_name(version: Version, behaviour: Behaviour, seed: int) -> str:
    asked = f"{behaviour.hash} {seed} {scored_by(behaviour.scorer)}"
    settings = hashlib.sha256(asked.encode()).hexdigest()
    return f"{behaviour.name}.{version.hash[:10]}.{settings[:8]}"


def name_parts(evaluation: str) -> tuple[str, str, str]:
    """The behaviour (whose name may have dots), the version's hash and that of what was asked, as they begin; empty for
    what is no evaluation of a behaviour."""
    behaviour, _, rest = evaluation.rpartition(".")[0].rpartition(".")
    return (behaviour, rest, evaluation.rpartition(".")[2]) if behaviour else ("", "", "")


def planned(behaviour: Behaviour) -> list[Sample]:
    """The samples without their replies, in order."""
    return [
        Sample(family=p.family, prompt=p.number, epoch=epoch, turns=p.turns, expect=p.expect)
        for p in behaviour.prompts
        for epoch in range(behaviour.settings.epochs)
    ]


def _key(sample: Sample) -> tuple[str, int, int]:
    return sample.family, sample.prompt, sample.epoch


def _replies(draft: Draft, wanted: Sequence[Sample]) -> dict[tuple[str, int, int], Sample]:
    """What a killed run has left; a last line cut short is made again. One that was killed at its very end has scored
    them already."""
    file, known = draft.path / REPLIES, {_key(sample): sample for sample in wanted}
    if not file.is_file():
        scored = (draft.path / SAMPLES).read_text(encoding="utf-8") if (draft.path / SAMPLES).is_file() else ""
        found = {
            _key(sample): sample for line in scored.split("\n")[:-1] if (sample := _sample_from_json(json.loads(line)))
        }
        return {
            key: replace(sample, expect=known[key].expect, turns=sample.turns or known[key].turns)
            for key, sample in found.items()
            if key in known
        }
    whole = list(file.read_text(encoding="utf-8").split("\n")[:-1])
    write_atomically(file, "".join(f"{line}\n" for line in whole))
    return {key: sample for line in whole if (key := _key(sample := _sample_from_json(json.loads(line)))) in known}


def _take_over(draft: Draft, version: Version, behaviour: Behaviour, seed: int) -> None:
    """What the version said when another version of the scorer scored it, as if a killed run had left it here."""
    kept = _scored_otherwise(draft.ws, version, behaviour, seed)
    if kept is not None:
        draft.choose(SAID, lambda: kept.created)
        draft.choose(KEPT, lambda: {"evaluation": kept.name, "hash": draft.ws.manifest("evals", kept.name)["hash"]})
        for line in draft.ws.metrics("evals", kept.name):
            draft.log(**line)
        _keep(draft, [replace(one, judged=()) for one in kept.samples if not one.error])


def _scored_otherwise(ws: Workspace, version: Version, behaviour: Behaviour, seed: int) -> Evaluation | None:
    asked = {"version": version.hash, "behaviour": behaviour.hash, "seed": seed}
    begins = f"{behaviour.name}.{version.hash[:10]}."  # whichever it is: with one seed it said the same
    for name in (one for one in ws.names("evals") if one.startswith(begins)):
        with contextlib.suppress(UserError):  # damaged: what was said then is said again
            if asked.items() <= ws.manifest("evals", name)["config"].items():
                return read_evaluation(ws, name)
    return None


def _keep(draft: Draft, some: Iterable[Sample]) -> None:
    with open(draft.path / REPLIES, "a", encoding="utf-8") as handle:
        handle.writelines(json.dumps(vars(sample), ensure_ascii=False) + "\n" for sample in some)


def write_samples(folder: Path, behaviour: Behaviour, scored: Iterable[tuple[Sample, float | None]]) -> None:
    """behaviour.json and samples.jsonl of an evaluation, in the behaviour's order."""
    lines = (json.dumps({**_sample_json(one), "score": score}, ensure_ascii=False) + "\n" for one, score in scored)
    write_atomically(folder / SAMPLES, "".join(lines))
    write_atomically(folder / BEHAVIOUR, json.dumps(behaviour.to_json(), indent=1, ensure_ascii=False))


def _sample_json(sample: Sample) -> dict[str, Any]:
    """Without what behaviour.json has and what is as always."""
    found = {k: v for k, v in vars(sample).items() if k in ("family", "prompt", "epoch", "reply") or v != PLAIN[k]}
    found.pop("expect", None)
    if not any(role == "assistant" for role, _ in sample.turns):
        found.pop("turns", None)
    return found


def _sample_from_json(found: dict[str, Any]) -> Sample:
    found = {k: v for k, v in found.items() if k != "score"}
    turns = tuple((role, content) for role, content in found.pop("turns", ()))
    choices = tuple((nats, tokens, size) for nats, tokens, size in found.pop("choices", ()))
    judged = tuple((key, text) for key, text in found.pop("judged", ()))
    return Sample(turns=turns, choices=choices, judged=judged, **found)


# -- reading -----------------------------------------------------------------------------------------------------------


def read_evaluation(ws: Workspace, name: str) -> Evaluation:
    """Raises `UserError` for one that is missing, altered or cut short, or another's that was put under the name."""
    manifest = ws.manifest("evals", name, verify=True)
    if manifest["name"] != name:
        raise UserError(f"expected the evaluation {name} in its folder, found {manifest['name']}; put it back")
    folder = ws.path("evals", name)
    behaviour = behaviour_from_json(json.loads((folder / BEHAVIOUR).read_text(encoding="utf-8")), f"{name}/{BEHAVIOUR}")
    asked = {(p.family, p.number): p for p in behaviour.prompts}
    samples, given = [], []
    for line in (folder / SAMPLES).read_text(encoding="utf-8").split("\n")[:-1]:
        found = json.loads(line)
        sample = _sample_from_json(found)
        prompt = asked[sample.family, sample.prompt]
        samples.append(replace(sample, expect=prompt.expect, turns=sample.turns or prompt.turns))
        given.append(found["score"])
    file = folder / CHECKED
    checked = Checked.from_json(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else None
    created, scorer = manifest["choices"].get(SAID, manifest["created"]), manifest["config"].get("scorer", "")
    return Evaluation(
        name, created, manifest["version"], behaviour, tuple(samples), tuple(given), scorer, checked
    )  # fmt: skip


def evaluations(ws: Workspace, version: Version) -> list[str]:
    """Names of every evaluation of the version, oldest first."""
    names = [name for name in ws.names("evals") if f".{version.hash[:10]}." in name]
    return sorted(names, key=lambda name: (created(ws, name), name))


def created(ws: Workspace, name: str) -> str:
    """As the manifest says, unchecked: what is damaged is listed too, and refused when it is read."""
    try:
        return str(json.loads((ws.path("evals", name) / "manifest.json").read_text(encoding="utf-8"))["created"])
    except (ValueError, KeyError, TypeError):
        return ""
