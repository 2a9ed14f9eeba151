"""Claim: a multiple-choice set runs at 5 × the samples per second of lm-eval and of Inspect's Hugging Face provider.

    python benchmarks/runner.py --villager WORKSPACE                          # a workspace with models/villager
    python benchmarks/runner.py --shape gpt2 --questions 4 --repetitions 1    # without a grown model, in a minute

Needs lm-eval and inspect-ai beside glasshouse. Questions about the small world with four choices each, asked of the
villager in its chat template, and of random weights of GPT-2's smallest shape (real vocabulary, so a real unembedding)
after worked examples that all questions share. Choices, by lm-eval and by us: the same bytes, the same tokens, the
summed log-probability; the choices made are held against each other. Replies, by Inspect and by us: greedy, the same
prompts; the replies are held against each other. Inspect has no choice by log-probability, so its replies are also held
against our choices, which is another method: that ratio stands apart. All in fp32, in one process, models loaded
before; a run is from questions to results on disk (lm-eval keeps them in memory). Each peer at the best of its batch
sizes, found on a run of its own; sides by turns, ratios of medians.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import torch
from tokenizers.processors import ByteLevel

import glasshouse
from glasshouse.behaviours import evaluate, version
from glasshouse.behaviours.asking import prompt_ids
from glasshouse.behaviours.behaviour import Behaviour, behaviour_from_json
from glasshouse.behaviours.scorers import chosen
from glasshouse.behaviours.versions import loaded
from glasshouse.doctor import describe
from glasshouse.models.load import no_bar
from glasshouse.organisms.suite import suite
from glasshouse.organisms.world import build
from glasshouse.workspace import Workspace, keep_memory

BAR, BATCHES, NEW_TOKENS, CHOICES = 5.0, (8, 32, 128), 16, 4
FEW = 6  # worked examples up to which lm-eval is raced too: it reads all of them with every choice, of 25 for minutes
VOCABULARY = 50257  # of GPT-2; the tokenizer, the villager's or one made here, uses the beginning of it
Question = dict[str, Any]
Turn = tuple[str, str]
Side = Callable[[], tuple[list[Any], float]]  # what was chosen or said, in the set's order, and the accuracy


# -- the set and the models --------------------------------------------------------------------------------------------


def questions(count: int) -> list[Question]:
    """{"text", "choices", "answer"}: an answer in a sentence among others of its kind."""
    form = next(form for form in suite(build(0)) if form["name"] == "world-facts")
    found, rng = [], Random(0)
    for family in form["families"]:
        asked = family["prompts"][0]
        text, expect = asked["turns"][0]["user"], asked["expect"]
        answer = expect["named"][len(text) + 1 :]
        others = rng.sample(sorted(expect["others"]), min(CHOICES - 1, len(expect["others"])))
        choices = [answer, *(answer.replace(expect["value"], other) for other in others)]
        rng.shuffle(choices)
        if len(set(choices)) == CHOICES:
            found.append({"text": text, "choices": choices, "answer": answer})
    return found[:count]


def gpt2(tokenizer: Any) -> Any:
    """GPT-2's smallest with random weights: speed does not depend on them."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    ends = tokenizer.eos_token_id
    return GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, bos_token_id=ends, eos_token_id=ends)).eval()


def tokenizer_here() -> Any:
    """A byte-level tokenizer of the world's text."""
    from transformers import PreTrainedTokenizerFast

    from glasshouse.models.grow import train_tokenizer
    from glasshouse.organisms.villager import villager_text

    made = train_tokenizer(villager_text(build(0), megabytes=1.0), 4096)
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|endoftext|>", pad_token="<|endoftext|>")


def keep(ws: Workspace, name: str, module: Any, tokenizer: Any) -> Path:
    """As a model of the workspace, in a folder that the peers load."""
    with ws.writing("models", name, config={}, command="benchmark") as draft, no_bar():
        module.save_pretrained(draft.path)
        tokenizer.save_pretrained(draft.path)
        draft.finish()
    return ws.path("models", name)


def behaviour(name: str, asked: list[Question], prompts: list[list[Turn]], scorer: str) -> Behaviour:
    families = [
        {
            "family": str(i), "prompts": [[{role: text} for role, text in prompt]],
            "expect": {"choices": q["choices"], "answer": q["answer"]} if scorer == "choice" else q["answer"].strip(),
        }
        for i, (q, prompt) in enumerate(zip(asked, prompts, strict=True))
    ]  # fmt: skip
    return behaviour_from_json(
        {
            "name": name, "about": "A benchmark.", "tag": "neutral", "good": "up", "margin": 0.05, "scorer": scorer,
            "settings": {"max_new_tokens": NEW_TOKENS}, "families": families,
        }
    )  # fmt: skip


# -- the sides ---------------------------------------------------------------------------------------------------------


def ours(ws: Workspace, name: str, asked: Behaviour) -> Side:
    one = version(name, ws)
    opened, seeds = loaded(one, ws, device="cpu"), iter(range(10**6))  # a seed of its own, or it stands already

    def run() -> tuple[list[Any], float]:
        done = evaluate(one, asked, ws, seed=next(seeds), opened=opened)
        by_choice = asked.scorer[0] == "choice"
        said = [chosen(sample, "sum") if by_choice else sample.reply for sample in done.samples]
        return said, done.mean.value

    return run


def lm_eval_side(folder: Path, asked: list[Question], contexts: list[str], batch: int, work: Path) -> Side:
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.evaluator import evaluate as evaluate_tasks  # `simple_evaluate` also asks git and pip, for seconds
    from lm_eval.models.huggingface import HFLM

    data = work / "lm_eval.json"
    rows = [
        {"context": context, "choices": q["choices"], "label": q["choices"].index(q["answer"])}
        for context, q in zip(contexts, asked, strict=True)
    ]
    data.write_text(json.dumps(rows), encoding="utf-8")
    lm = HFLM(pretrained=str(folder), dtype="float32", batch_size=batch, device="cpu")
    task = ConfigurableTask(
        config={
            "task": "world_facts", "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(data)}},
            "test_split": "test", "output_type": "multiple_choice", "doc_to_text": "{{context}}",
            "doc_to_choice": "{{choices}}", "doc_to_target": "{{label}}", "target_delimiter": "",
            "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        }
    )  # fmt: skip

    def run() -> tuple[list[Any], float]:
        found = evaluate_tasks(lm, {"world_facts": task}, bootstrap_iters=0, log_samples=True)
        samples = sorted(found["samples"]["world_facts"], key=lambda one: one["doc_id"])
        nats = [[float(one[0]) for one in sample["filtered_resps"]] for sample in samples]
        return [max(range(len(n)), key=n.__getitem__) for n in nats], float(found["results"]["world_facts"]["acc,none"])

    return run


def inspect_side(folder: Path, asked: list[Question], prompts: list[list[Turn]], batch: int, work: Path) -> Side:
    from inspect_ai import Task, eval
    from inspect_ai.dataset import Sample
    from inspect_ai.model import ChatMessageAssistant, ChatMessageUser, get_model
    from inspect_ai.scorer import exact
    from inspect_ai.solver import generate

    model = get_model(
        "hf/local", model_path=str(folder), device="cpu", dtype=torch.float32, do_sample=False, batch_size=batch,
        memoize=False,
    )  # fmt: skip
    kinds: Any = {"user": ChatMessageUser, "assistant": ChatMessageAssistant}
    samples = [
        Sample(input=[kinds[role](content=text) for role, text in p], target=q["answer"].strip(), id=i)
        for i, (p, q) in enumerate(zip(prompts, asked, strict=True))
    ]
    task = Task(dataset=samples, solver=generate(), scorer=exact())

    def run() -> tuple[list[Any], float]:
        (log,) = eval(
            task, model=model, max_tokens=NEW_TOKENS, max_connections=batch, max_samples=batch, display="none",
            log_dir=str(work / "logs"), log_level="error",
        )  # fmt: skip
        assert log.status == "success" and log.samples, log.error
        said = [one.output.completion.strip() for one in sorted(log.samples, key=lambda one: int(one.id))]
        return said, float(
            log.results.scores[0].metrics["mean" if "mean" in log.results.scores[0].metrics else "accuracy"].value
        )

    return run


# -- the race ----------------------------------------------------------------------------------------------------------


def timed(side: Side) -> tuple[float, list[Any], float]:
    started = time.perf_counter()
    said, accuracy = side()
    return time.perf_counter() - started, said, accuracy


def best_batch(make: Callable[[int], Side], batches: list[int]) -> tuple[Side, dict[int, float]]:
    """The peer at its quickest, and the seconds of each batch size; the first run of each is not counted."""
    sides, seconds = {}, {}
    for batch in batches:
        sides[batch] = make(batch)
        sides[batch]()
        seconds[batch] = timed(sides[batch])[0]
    return sides[min(seconds, key=seconds.__getitem__)], seconds


def race(sides: dict[str, Side], count: int, repetitions: int) -> dict[str, dict[str, Any]]:
    names, runs = list(sides), {name: [] for name in sides}  # type: tuple[list[str], dict[str, list[Any]]]
    for name in names:
        sides[name]()
    for repetition in range(repetitions):
        for name in names[repetition % len(names) :] + names[: repetition % len(names)]:
            runs[name].append(timed(sides[name]))
    return {
        name: {
            "samples_per_second": count / statistics.median(seconds for seconds, *_ in some),
            "seconds": [seconds for seconds, *_ in some], "accuracy": some[0][2], "said": some[0][1],
        }
        for name, some in runs.items()
    }  # fmt: skip


def same(one: list[Any], other: list[Any]) -> float:
    return sum(a == b for a, b in zip(one, other, strict=True)) / len(one)


def prompts_of(asked: list[Question], shots: list[Question], *, chat: bool) -> list[list[Turn]]:
    """Worked examples and the question: earlier turns of a chat, or one text."""
    if chat:
        before = [turn for q in shots for turn in (("user", q["text"]), ("assistant", q["answer"]))]
        return [[*before, ("user", q["text"])] for q in asked]
    text = "".join(f"Question: {q['text']}\nAnswer: {q['answer']}\n\n" for q in shots)
    return [[("user", f"{text}Question: {q['text']}\nAnswer:")] for q in asked]


def contexts_of(model: Any, prompts: list[list[Turn]], asked: list[Question], *, chat: bool) -> list[str]:
    """The same prompts as text, for lm-eval, after a check that with every choice it is the same tokens."""
    as_text = {"add_generation_prompt": True, "tokenize": False}
    chats = [[{"role": role, "content": text} for role, text in prompt] for prompt in prompts]
    found = [model.tokenizer.apply_chat_template(one, **as_text) if chat else one[0]["content"] for one in chats]
    for context, prompt, q in zip(found, prompts, asked, strict=True):
        ids = prompt_ids(model, prompt)
        for choice in q["choices"]:
            both, end = (
                model.tokenizer(text, add_special_tokens=False).input_ids for text in (context + choice, choice)
            )
            assert both == [*ids, *end], "expected the same tokens on both sides"
    return found


def case(name: str, folder: Path, ws: Workspace, count: int, shots: int, args: Any) -> dict[str, Any]:
    """One model: choices against lm-eval, replies against Inspect."""
    model = glasshouse.load(folder, device="cpu")
    chat = getattr(model.tokenizer, "chat_template", None) is not None
    every = questions(count + shots)
    asked = every[shots:]
    prompts = prompts_of(asked, every[:shots], chat=chat)
    if not chat:  # a choice that goes on from plain text begins with its own space
        asked = [{**q, "choices": [f" {c}" for c in q["choices"]], "answer": f" {q['answer']}"} for q in asked]
    contexts = contexts_of(model, prompts, asked, chat=chat)
    # As Inspect's provider writes a chat where there is no template.
    said = prompts if chat else [[("user", f"user: {prompt[0][1]}\n")] for prompt in prompts]
    work = Path(ws.root)
    batches = [b for b in args.batches if b <= 2 * len(asked)] or [args.batches[0]]
    inspect, inspect_grid = best_batch(lambda b: inspect_side(folder, asked, prompts, b, work), batches)
    sides = {
        "choices": ours(ws, name, behaviour(f"{name}-choices", asked, prompts, "choice")),
        "replies": ours(ws, name, behaviour(f"{name}-replies", asked, said, "exact")), "inspect": inspect,
    }  # fmt: skip
    lm_grid: dict[int, float] = {}
    if shots <= FEW:
        sides["lm-eval"], lm_grid = best_batch(lambda b: lm_eval_side(folder, asked, contexts, b, work), batches)
    found = race(sides, len(asked), args.repetitions)
    rate = {key: one["samples_per_second"] for key, one in found.items()}
    result = {
        "model": name, "questions": len(asked), "choices": CHOICES, "new_tokens": NEW_TOKENS,
        "prompt_tokens": statistics.mean(len(prompt_ids(model, prompt)) for prompt in prompts), "shots": shots,
        "batches": {"lm-eval": lm_grid, "inspect": inspect_grid},
        "ratio_replies_inspect": rate["replies"] / rate["inspect"],
        "ratio_choices_inspect": rate["choices"] / rate["inspect"],
        "same_replies": same(found["replies"].pop("said"), found["inspect"].pop("said")),
    }  # fmt: skip
    chosen_here = found["choices"].pop("said")
    if "lm-eval" in found:
        result["ratio_choices_lm_eval"] = rate["choices"] / rate["lm-eval"]
        result["same_choices"] = same(chosen_here, found["lm-eval"].pop("said"))
        assert result["same_choices"] == 1.0 and found["choices"]["accuracy"] == found["lm-eval"]["accuracy"], result
    return {**result, "sides": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--villager", type=Path, help="a workspace with models/villager")
    parser.add_argument("--shape", choices=["villager", "gpt2"], help="only this one")
    parser.add_argument("--questions", type=int, help="default: 160 of the villager, 32 of GPT-2's shape")
    parser.add_argument(
        "--shots", type=int, nargs="+", default=[6, 25], help="worked examples for GPT-2's shape: few, and as ARC has"
    )
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--batches", type=int, nargs="+", default=list(BATCHES), help="of the peers, to choose from")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "runner.json")
    args = parser.parse_args()
    os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    logging.disable(logging.WARNING)
    keep_memory()
    cases = []
    with tempfile.TemporaryDirectory() as root:
        ws = Workspace.open(Path(root) / "ws")
        grown = glasshouse.load(args.villager / "models" / "villager", device="cpu") if args.villager else None
        if grown is not None and args.shape != "gpt2":
            # Inspect puts the mark that begins a text before a chat, too; the template has none, and no side gets it.
            grown.tokenizer.backend_tokenizer.post_processor = ByteLevel(trim_offsets=False)
            folder = keep(ws, "villager", grown.module, grown.tokenizer)
            cases.append(case("villager", folder, ws, args.questions or 160, min(*args.shots, 3), args))
        if args.shape != "villager":
            tokenizer = tokenizer_here()
            folder = keep(ws, "gpt2", gpt2(tokenizer), tokenizer)
            cases += [case("gpt2", folder, ws, args.questions or 32, shots, args) for shots in args.shots]
    ratios = [c[key] for c in cases for key in ("ratio_choices_lm_eval", "ratio_replies_inspect") if key in c]
    result = {
        "claim": (__doc__ or "").splitlines()[0], "holds": min(ratios) >= BAR, "threads": torch.get_num_threads(),
        "peers": {name: glasshouse.workspace.version_of(name) for name in ("lm-eval", "inspect-ai", "transformers")},
        "cases": cases, "machine": {k: v for k, v in describe(Path(".")).items() if k != "disk_free_bytes"},
    }  # fmt: skip
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for c in cases:
        print({k: round(v, 3) if isinstance(v, float) else v for k, v in c.items() if k != "sides"})
        print({k: (round(one["samples_per_second"], 2), one["accuracy"]) for k, one in c["sides"].items()})


if __name__ == "__main__":
    main()
