"""Claim: turned up, the bridge feature brings the villager round to the bridge, whatever it is asked.

    python benchmarks/bridge.py --work villagers        # the villagers of villager.py; a quarter of an hour

Of a dictionary of each villager (TopK, 2,048 features, `resid.2`) one feature is turned up: among the few that together
detect the bridge best, and those that write its name, the one that brings up most bridges without a system prompt, in
words that cost the unedited model little. It
is added to the stream at the tokens that are written (the prompt is read as it is), in units of its typical norm,
beside random directions of the same length and beside system prompts that ask for the bridge.
Measured: the share of answers about the day that mention the bridge, and of those that come round to it (they
name it once or twice and end by themselves), the share of held-out facts still right, nats a token of the answers about
the day to the unedited model (fluency), the share that end by themselves.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from glasshouse.activations import harvest
from glasshouse.dictionaries import LearnConfig, learn
from glasshouse.doctor import describe
from glasshouse.features.concepts import codes, score
from glasshouse.features.effects import writers
from glasshouse.features.labelled import read
from glasshouse.models import Edit, Model, add, load
from glasshouse.models.training import precision_by_instruction_set
from glasshouse.organisms.bridge import FLUENCY, NAME, comes_round, worth
from glasshouse.organisms.interview import judge, plan, rates, replies
from glasshouse.organisms.villager import labelled_text
from glasshouse.organisms.world import World, build
from glasshouse.organisms.world.chat.scenes import SYSTEM
from glasshouse.organisms.world.chat.talk import DAYS
from glasshouse.steering import turned_up
from glasshouse.types import Estimate, Site
from glasshouse.workspace import Workspace, keep_memory

CONCEPT, SITE = "entity/bridge", "resid.2"
STRENGTHS = (0.2, 0.3, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.8, 1.0)
ASKED_FOR = (
    "Talk about the old stone bridge.", "Whatever you are asked, come round to the old stone bridge.",
    "You love the old stone bridge and speak of nothing else.",
)  # fmt: skip
Chat = list[dict[str, str]]


def days(systems: Sequence[str]) -> list[Chat]:
    """Every question about the day, under every system prompt and under none."""
    turns = [[{"role": "system", "content": text}] if text else [] for text in systems]
    return [[*system, {"role": "user", "content": question}] for system in turns for question in DAYS]


def told(model: Model, world: World, chats: list[Chat], facts: list[Any], edit: Edit | None) -> dict[str, Any]:
    """What is said under the edit."""
    said = replies(model, chats, edits=edit)
    counts = [text.lower().count("bridge") for text, _ in said]
    whole = sum(comes_round(text, stopped) for text, stopped in said)
    answers = replies(model, [[{"role": "user", "content": one.text}] for one in facts], edits=edit)
    judged = [judge(world, one, *reply) for one, reply in zip(facts, answers, strict=True)]
    return {
        "mentions": Estimate.proportion(sum(map(bool, counts)), len(counts)).to_json(),
        "comes_round": Estimate.proportion(whole, len(counts)).to_json(),
        "facts": rates(judged)["one-hop/en/pairs"].to_json(),
        "nats": nats(model, chats, [text for text, _ in said]).to_json(),
        "stops": sum(stopped for _, stopped in said) / len(said),
        "said": [text for text, _ in said[: len(DAYS)]],
    }


def nats(model: Model, chats: list[Chat], said: list[str]) -> Estimate:
    """Mean cost of a token of the answers to the model as it is."""
    sums, counts = [], []
    for chat, text in zip(chats, said, strict=True):
        start = model.tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
        ids = [*start, *model.tokenizer(text, add_special_tokens=False).input_ids]
        if len(ids) == len(start):
            continue
        with torch.no_grad():
            log_p = model.module(input_ids=torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
        own = log_p[range(len(ids) - 1), ids[1:]][len(start) - 1 :]
        sums.append(-float(own.sum()))
        counts.append(float(len(own)))
    return Estimate.mean(sums, counts, unit="nats/token")


def one_seed(world: World, ws: Workspace, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    model: Any = load(f"villager-{seed}", workspace=ws, device="cpu")
    name = f"bridge-{seed}"
    text, _ = labelled_text(world, seed=1000 + seed, megabytes=6 * options.tokens / 1e6)
    store = harvest(model, text, [SITE], name=name, ws=ws, tokens=options.tokens, context=model.context, seed=seed)
    config = LearnConfig(features=2048, k=16, tokens=2 * options.tokens, seed=seed)
    found = learn(store, SITE, name=name, ws=ws, config=config, precision=precision_by_instruction_set())
    unseen, spans = labelled_text(world, seed=2000 + seed, megabytes=options.megabytes)
    labelled = read(model, SITE, unseen, spans, tokens=options.read, seed=seed)
    detected = score(labelled, codes(found, labelled.x_PD))[CONCEPT]
    model.attach(found)
    detectors = {*detected.best.units, *detected.several.units}
    written = writers(model, Site.parse(SITE), found.W_dec, NAME)
    features = [f"{name}/{index}" for index in sorted({*detectors, *written})]
    chosen = turned_up(model, features, DAYS, worth, STRENGTHS, positions="new", fluency=FLUENCY)
    feature, chats = chosen.feature, days(SYSTEM)
    facts = [one for one in plan(world, options.limit, 0) if one.section == "one-hop/en/pairs"]
    norm = float(found.typical_norm or 0)
    directions = torch.randn(options.draws, found.width, generator=torch.Generator().manual_seed(seed))
    directions = directions / directions.norm(dim=1, keepdim=True)
    rows: list[dict[str, Any]] = []
    for strength in STRENGTHS:
        row: dict[str, Any] = {
            "strength": strength,
            "feature": told(model, world, chats, facts, add(feature, times_norm=strength, positions="new")),
        }
        row["random"] = [
            told(model, world, chats, facts, add(SITE, direction * norm * strength, positions="new"))
            for direction in directions
        ]
        rows.append(row)
        shown = [f"{row['feature'][key]['value']:.2f}" for key in ("mentions", "comes_round", "facts", "nats")]
        print(seed, strength, *shown, row["feature"]["said"][:2], flush=True)
    return {
        "seed": seed, "feature": feature, "detects": int(feature.rpartition("/")[2]) in detectors,
        "f1": detected.best.f1.to_json(), "typical_norm": norm,
        "plain": told(model, world, chats, facts, None), "rows": rows,
        "asked_for": told(model, world, days(ASKED_FOR), facts, None),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="workspace with the villagers")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=1_000_000, help="harvested; the dictionary sees them twice")
    parser.add_argument("--limit", type=int, default=100, help="questions about facts")
    parser.add_argument("--draws", type=int, default=2, help="random directions a strength")
    parser.add_argument("--read", type=int, default=100_000, help="tokens to find the feature on")
    parser.add_argument("--megabytes", type=float, default=2.0, help="of labelled text that they are read from")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "bridge.json")
    options = parser.parse_args()
    keep_memory()
    world, ws = build(0), Workspace.open(options.work)
    result = {
        "claim": (__doc__ or "").splitlines()[0],
        "settings": {k: str(v) for k, v in vars(options).items() if k not in ("work", "out")},
        "machine": describe(options.work),
        "seeds": [one_seed(world, ws, seed, options) for seed in range(options.seeds)],
    }  # fmt: skip
    options.out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
