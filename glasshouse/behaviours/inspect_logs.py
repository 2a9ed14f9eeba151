"""A log of Inspect as an evaluation of the workspace: its samples with their scores; its header is not believed.

    found = import_log(Path("logs/…_facts_….eval"), ws)          # needs inspect-ai, an extra
    found.evaluation.mean                                        # recomputed from the samples
    found.said                                                   # what the header claims, where it claims otherwise

A log that our provider made names its version in every sample. Any other is of a foreign version, saved under a name.
The behaviour is made of the log's task, scorer, inputs and targets, so that two logs of one task can be compared.
"""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from glasshouse.behaviours.behaviour import LONGEST_NAME, Behaviour, Prompt, Settings, Turn
from glasshouse.behaviours.evaluation import Evaluation, evaluation_name, read_evaluation, write_samples
from glasshouse.behaviours.scorers import RECORDED, Sample
from glasshouse.behaviours.versions import Version, save_foreign, version
from glasshouse.types import UserError
from glasshouse.workspace import Workspace, hash_file

METADATA = "glasshouse"  # key of a reply's metadata that holds the version's card
WORDS = {"c": 1.0, "yes": 1.0, "true": 1.0, "p": 0.5, "i": 0.0, "n": 0.0, "no": 0.0, "false": 0.0}
GENERATION = ("max_tokens", "temperature", "top_p", "top_k", "stop_seqs", "system_message", "reasoning_effort")
APART = 1e-6  # what a recomputed mean may differ from the header's by rounding


@dataclass(frozen=True)
class Imported:
    """said: by the name of a metric, what the header claims where the samples say otherwise. incomplete: samples that
    the header counts and the log lacks."""

    evaluation: Evaluation
    said: dict[str, float]
    incomplete: int


def import_log(
    path: Path, ws: Workspace, *, scorer: str | None = None, name: str | None = None,
    good: Literal["up", "down"] = "up", margin: float = 0.05,
) -> Imported:  # fmt: skip
    """Keep the log's samples as an evaluation; the same log again is the same.

    scorer: which of the log's; needed where it has several. name: of the version, for a log of a model that is not
    ours. Where one is outside [0, 1] scores count points. Raises `UserError` for what is no log, has no samples, or was
    altered.
    """
    log = _read(path)
    if not log.samples:
        raise UserError(f"expected samples in {path}, found none: metrics are computed from them; log them")
    chosen = _scorer(log, scorer)
    samples = sorted(log.samples, key=lambda one: (str(one.id), one.epoch))
    keys = [(str(one.id), one.epoch) for one in samples]
    if len(set(keys)) < len(keys):
        raise UserError(f"expected each sample once an epoch in {path}, found one twice; the log was altered")
    made = _version(log, ws, name)
    rows = [_sample(one, chosen) for one in samples]
    rated = all(0 <= score <= 1 for _, score in rows if score is not None)
    behaviour = _behaviour(log, chosen, good, margin, "rate" if rated else "points")
    evaluation = _kept(ws, made, behaviour, rows, path)
    return Imported(evaluation, _disagreement(log, chosen, rows), max(_counted(log) - len(rows), 0))


def _read(path: Path) -> Any:
    try:
        from inspect_ai.log import read_eval_log
    except ImportError:
        raise UserError(
            "expected inspect-ai to read its logs, found it missing; pip install 'glasshouse[inspect]'"
        ) from None
    if not path.is_file():
        raise UserError(f"expected a log of Inspect at {path}, found none; check the path")
    try:
        return read_eval_log(str(path.resolve()), resolve_attachments=True)
    except Exception as error:  # zip's, JSON's, pydantic's or Inspect's own: no common base
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"expected a log of Inspect (.eval or .json) at {path}, could not read it: {reason}") from None


def _scorer(log: Any, wanted: str | None) -> str:
    """Name of a score, or NAME/KEY of one that is a mapping."""
    have: dict[str, None] = {}
    for sample in log.samples:
        for name, score in (sample.scores or {}).items():
            keys = [f"{name}/{key}" for key in score.value] if isinstance(score.value, dict) else [name]
            have.update(dict.fromkeys(keys))
    if wanted in have or (wanted is None and len(have) == 1):
        return wanted or next(iter(have))
    errors = [_one_line(sample.error.message) for sample in log.samples if sample.error is not None]
    if not have and len(errors) == len(log.samples):
        raise UserError(f"expected a sample without an error in the log, found none; the first says: {errors[0]}")
    if not have:
        raise UserError("expected scores in the log's samples, found none; score it first with `inspect score`")
    raise UserError(f"expected --scorer, one of {', '.join(have)}, got {wanted or 'none'}; choose one")


def _behaviour(log: Any, scorer: str, good: Literal["up", "down"], margin: float, unit: str) -> Behaviour:
    task = log.eval.task.rpartition("/")[2]
    name = re.sub(r"[^a-z0-9]+", "-", f"{task}-{scorer}".lower()).strip("-")[:LONGEST_NAME].strip("-")
    first = {str(sample.id): sample for sample in sorted(log.samples, key=lambda one: one.epoch, reverse=True)}
    prompts = tuple(Prompt(key, 0, _turns(first[key].input), _expect(first[key])) for key in sorted(first))
    return Behaviour(
        name=name or "inspect", about=f"The task {task} of Inspect, scored by {scorer}.", tag="neutral", good=good,
        margin=margin, unit=unit, scorer=(RECORDED, {"task": task, "scorer": scorer, "config": _config(log)}),
        prompts=prompts, settings=Settings(epochs=max(sample.epoch for sample in log.samples)),
    )  # fmt: skip


def _config(log: Any) -> dict[str, Any]:
    """What of the run could change a score, beside the version: of two logs to be compared it has to be the same."""
    spec, found = log.eval, dict[str, Any]()
    for config in (spec.model_generate_config, log.plan.config):  # what the task says, over what the run was given
        found |= {key: getattr(config, key) for key in GENERATION if getattr(config, key, None) is not None}
    found |= {"task_version": spec.task_version, "task_args": spec.task_args, "solver": spec.solver}
    found["roles"] = {role: one.model for role, one in (getattr(spec, "model_roles", None) or {}).items()}  # a judge's
    options = {one.name: one.options for one in getattr(spec, "scorers", None) or () if one.options}
    found |= {"scorers": options} if options else {}
    kept = {key: value for key, value in found.items() if value not in (None, {}, [], "")}
    return dict(json.loads(json.dumps(kept, default=str)))


def _turns(given: Any) -> tuple[Turn, ...]:
    """The input as turns; one that is no chat ending with a user's turn is one text."""
    if isinstance(given, str):
        return (("user", given),)
    turns = [(message.role, message.text) for message in given]
    if turns and turns[-1][0] == "user" and all(role in ("system", "user", "assistant") for role, _ in turns):
        return tuple(turns)
    return (("user", "\n".join(f"{role}: {text}" for role, text in turns)),)


def _expect(sample: Any) -> dict[str, Any]:
    found = {"target": sample.target}
    return {**found, "choices": sample.choices} if sample.choices else found


# -- samples -----------------------------------------------------------------------------------------------------------


def _sample(one: Any, scorer: str) -> tuple[Sample, float | None]:
    output = one.output
    usage = output.usage.output_tokens if output.usage is not None else 0
    found = Sample(
        family=str(one.id), prompt=0, epoch=one.epoch - 1, reply=output.completion, tokens=usage,
        stopped=not output.choices or output.stop_reason not in ("max_tokens", "model_length"),
        error=_one_line(one.error.message) if one.error is not None else "",
    )  # fmt: skip
    if found.error:
        return found, None
    score, why = _score(one, scorer)
    return replace(found, error=why), score


def _score(one: Any, scorer: str) -> tuple[float | None, str]:
    name, _, key = scorer.partition("/")
    scores = one.scores or {}
    value = scores[scorer].value if scorer in scores else None
    if value is None and name in scores and isinstance(scores[name].value, dict):
        value = scores[name].value.get(key)
    if isinstance(value, str):
        try:
            value = WORDS[value.lower()] if value.lower() in WORDS else float(value)
        except ValueError:
            return None, _one_line(f"a score that is no number: {value!r:.60}")
    if not isinstance(value, int | float) or not math.isfinite(value):
        return None, "no score in the log"
    return float(value), ""


def _one_line(text: str) -> str:
    return " ".join(text.split())[:200]


# -- the version -------------------------------------------------------------------------------------------------------


def _version(log: Any, ws: Workspace, name: str | None) -> Version:
    cards = [(sample.output.metadata or {}).get(METADATA) for sample in log.samples if sample.output.choices]
    kinds = {json.dumps(card, sort_keys=True) for card in cards if card is not None}
    if not kinds:
        if name is None:
            raise UserError(f"expected --name for the version that the log is of ({log.eval.model}), got none; name it")
        return save_foreign(ws, name, model=log.eval.model, args=log.eval.model_args)
    if len(kinds) > 1 or None in cards:
        raise UserError("expected samples of one version in the log, found several; the log was altered")
    card = json.loads(kinds.pop())
    try:
        made = Version.from_json(card)
    except (KeyError, TypeError):
        made = None
    if made is None or made.hash != card.get("hash"):
        raise UserError(f"the log's card of version {card.get('name')} does not match its own hash: it was altered")
    if name is not None and name != made.name:
        raise UserError(f"expected no --name for a log of the version {made.name}, got {name}; leave it out")
    here = version(made.name, ws)
    if here.hash != made.hash:
        raise UserError(
            f"the log is of version {made.name} with the hash {made.hash[:8]}, {ws.root} has one of that name with "
            f"{here.hash[:8]}; import it into the workspace that it was run in"
        )
    return made


# -- keeping -----------------------------------------------------------------------------------------------------------


def _kept(
    ws: Workspace, made: Version, behaviour: Behaviour, rows: list[tuple[Sample, float | None]], path: Path
) -> Evaluation:
    config = {"version": made.hash, "behaviour": behaviour.hash, "seed": 0, "log": hash_file(path)}
    name = evaluation_name(made, behaviour, 0)
    if not ws.done("evals", name, config):
        with ws.writing("evals", name, config=config, command="import") as draft:
            write_samples(draft.path, behaviour, rows)
            unscored = sum(score is None for _, score in rows)
            errors = sorted({sample.error for sample, _ in rows} - {""})
            draft.finish(
                made_from=[ws.ref("versions", made.name) if made.foreign else ws.ref("models", made.model)],
                version=made.to_json(),
                summary={"samples": len(rows), "unscored": unscored, "errors": errors, "imported": path.name},
            )
    return read_evaluation(ws, name)


def _disagreement(log: Any, scorer: str, rows: list[tuple[Sample, float | None]]) -> dict[str, float]:
    """What the header says of the mean (over samples of the mean over epochs) where the samples say otherwise."""
    by_id: dict[str, list[float]] = defaultdict(list)
    for sample, score in rows:
        if score is not None:
            by_id[sample.family].append(score)
    means = [math.fsum(some) / len(some) for some in by_id.values()]
    mean = math.fsum(means) / len(means) if means else math.nan
    found = {}
    for score in log.results.scores if log.results is not None else ():
        if score.name != scorer or score.reducer not in (None, "mean"):
            continue
        for metric in ("accuracy", "mean"):
            if metric in score.metrics and not abs(score.metrics[metric].value - mean) <= APART:
                found[metric] = float(score.metrics[metric].value)
    return found


def _counted(log: Any) -> int:
    return int(log.results.total_samples) if log.results is not None else 0
