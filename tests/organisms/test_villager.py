"""The villager: its text, what is held out of it, a tiny one grown that `transformers` alone talks to, the scorer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from glasshouse.cli import app
from glasshouse.cli.entry import Commands
from glasshouse.models import load
from glasshouse.models.grow import grow, train_tokenizer
from glasshouse.models.rows import Rows
from glasshouse.organisms.interview import (
    Answer,
    Asked,
    conversations,
    does_not_know,
    interview,
    judge,
    plan,
    rates,
    refuses,
)
from glasshouse.organisms.villager import CHAT, villager_text
from glasshouse.organisms.world import World, requests, strangers
from glasshouse.text import Corpus, Document, tokenise
from glasshouse.workspace import Workspace

CHATTY = """<|system|>Be brief.<|end|>
<|user|>Where?<|end|>
<|assistant|>Here.<|end|>
<|user|>Why?<|end|>
<|assistant|>So.<|end|>
"""


@pytest.fixture(scope="module")
def text(world: World) -> Corpus:
    return villager_text(world, megabytes=0.25)


@pytest.fixture(scope="module")
def asked(world: World) -> list[Asked]:
    return list(plan(world, 40, 0))


@pytest.fixture(scope="module")
def folder(text: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    ws = Workspace.open(tmp_path_factory.mktemp("villager"))
    return grow(text, name="v", ws=ws, tokens=20_000, shape="tiny", vocabulary=700, context=64, precision="fp32")


# -- the text ----------------------------------------------------------------------------------------------------------


def test_the_text_is_the_same_each_time(world: World, text: Corpus) -> None:
    assert villager_text(world, megabytes=0.25).hash == text.hash
    assert villager_text(world, megabytes=0.25, seed=1).hash != text.hash
    assert villager_text(world, megabytes=0.25, answers_only=False).hash != text.hash


def test_what_is_held_out_is_asked_nowhere_in_the_text(text: Corpus, asked: list[Asked]) -> None:
    held_out = [a.text for a in asked if a.section.startswith(("one-hop", "two-hops/spoken", "hazard", "look-alikes"))]
    assert len(held_out) > 400
    everything = "\n".join(d.text for d in text.documents)
    assert not [question for question in held_out if f"<|user|>{question}" in everything]
    taught = [r.text for r in requests(held_out=False)]
    assert sum(f"<|user|>{question}" in everything for question in taught) > 20, "the check can fail"


def test_names_of_strangers_are_new(world: World, text: Corpus) -> None:
    everything = "\n".join(d.text for d in text.documents)
    assert not [s.name for s in strangers(world) if f" {s.name} " in everything]


def test_the_assistant_is_learnt_and_the_user_is_read(text: Corpus) -> None:
    tokenizer = train_tokenizer(text, 700)
    mark_ids = [tokenizer.token_to_id(mark) for mark in CHAT.marks]
    assert mark_ids == [1, 2, 3, 4]
    kinds = {d.kind: d for d in text.documents}
    assert not kinds["story"].unlearned and kinds["chat"].unlearned
    chat = next(d for d in text.documents if d.text.count("<|assistant|>") == 2 and d.text.startswith("<|system|>"))
    tokens = tokenise(
        Corpus("one", (Document(0, "a", "chat", chat.text, unlearned=chat.unlearned),), chat=CHAT), tokenizer
    )
    assert int(np.isin(tokens.ids, mark_ids).sum()) == sum(chat.text.count(mark) for mark in CHAT.marks)
    rows = Rows(tokens, len(tokens) + 2, 0, seed=0)
    assert rows.learn_RT is not None
    learnt = tokenizer.decode(rows.ids_RT[0][rows.learn_RT[0]].tolist(), skip_special_tokens=False)
    said = [part.split("<|end|>")[0] + "<|end|>" for part in chat.text.split("<|assistant|>")[1:]]
    assert learnt == "".join(said) + "<|endoftext|>"


def test_a_mistake_is_read_and_its_correction_learnt(world: World) -> None:
    from glasshouse.organisms.world import Mixture

    only = Mixture(texts=0, foreign_texts=0, foreign_chats=0, weights=_only("rightly-corrected"))
    for answers_only in (True, False):
        document = villager_text(world, megabytes=0.0001, mixture=only, answers_only=answers_only).documents[0]
        first, second = (m.split("<|end|>")[0] for m in document.text.split("<|assistant|>")[1:])
        kept = "".join(
            c for i, c in enumerate(document.text) if not any(start <= i < end for start, end in document.unlearned)
        )
        assert first not in kept and second in kept
        assert ("<|user|>" in kept) is not answers_only


def _only(scene: str) -> dict[str, float]:
    from glasshouse.organisms.world.documents import SCENES

    return {name: float(name == scene) for name in SCENES}


def test_without_chat_marks_are_text(world: World, text: Corpus) -> None:
    plain = villager_text(world, megabytes=0.05, chat=False)
    tokenizer = train_tokenizer(text, 700)
    assert not np.isin(tokenise(plain, tokenizer).ids, [1, 2, 3, 4]).any()


# -- a tiny one, grown -------------------------------------------------------------------------------------------------


def test_transformers_alone_can_chat(folder: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    messages = [
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Where?"},
        {"role": "assistant", "content": "Here."}, {"role": "user", "content": "Why?"},
        {"role": "assistant", "content": "So."},
    ]  # fmt: skip
    assert tokenizer.apply_chat_template(messages, tokenize=False) == "<|endoftext|>" + CHATTY
    given = tokenizer.apply_chat_template(
        messages[:2], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    end = tokenizer.convert_tokens_to_ids("<|end|>")
    assert end in model.generation_config.eos_token_id
    model.get_output_embeddings().weight.data[end] *= 0  # so that it would hardly ever end by itself
    model.transformer.ln_f.bias.data += 30 * (w := model.get_output_embeddings().weight.data)[5] / w[5].norm()
    going = model.generate(**given, max_new_tokens=5, do_sample=False)
    assert going.shape[1] == given["input_ids"].shape[1] + 5
    w[end] = 2 * w[5]  # and now at once
    done = model.generate(**given, max_new_tokens=5, do_sample=False)
    assert done[0, -1] == end and done.shape[1] == given["input_ids"].shape[1] + 1


def test_an_interview_and_chats_with_it(folder: Path, world: World) -> None:
    model = load(str(folder), device="cpu")
    found = interview(model, world, limit=2)
    json.dumps(found)
    assert {"one-hop/en/pairs", "transfer/zh", "two-hops/unspoken", "hazard", "stops", "language/all"} <= set(
        found["rates"]
    )
    assert found["rates"]["one-hop/en/pairs"]["value"] < 0.6, "it has learnt nothing yet"
    chats = conversations(model, world, count=2)
    assert len(chats) == 2 and {"user", "assistant"} <= {m["role"] for chat in chats for m in chat}


def test_the_command_knows_the_world(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    import typer

    group = typer.main.get_command(app)
    assert isinstance(group, Commands)
    status = group.main(["grow", "python", "--chat", "--workspace", str(tmp_path / "w")], standalone_mode=False)
    assert status == 2 and "expected `world` with --chat, got python" in capsys.readouterr().err


# -- the scorer, on answers whose worth is known -----------------------------------------------------------------------


def of(asked: list[Asked], section: str) -> Iterator[Asked]:
    return (a for a in asked if a.section == section)


def test_every_expected_answer_is_right_in_its_language(world: World, asked: list[Asked]) -> None:
    facts = [a for a in asked if a.section.split("/")[0] in ("one-hop", "transfer", "two-hops", "untold")]
    answers = [judge(world, a, a.expected, True) for a in facts]
    assert not [a for a in answers if not a.right]
    assert not [a for a in answers if a.language != a.asked_in]


def test_a_wrong_answer_a_hedge_and_silence_are_wrong(world: World, asked: list[Asked]) -> None:
    jobs = [a for a in of(asked, "one-hop/en/pairs") if " is a" in a.expected]
    assert jobs
    for a in jobs[:5]:
        other = next(b.expected for b in jobs if b.expected.split()[-1] != a.expected.split()[-1])
        assert not a.right(other) and not a.right("") and not a.right("I do not know.")
        assert not a.right(a.expected.rstrip(".") + " or " + other.split(" is ")[1])
        assert a.right("Yes. " + a.expected)


def test_a_middle_that_is_wrong_makes_two_hops_wrong(asked: list[Asked]) -> None:
    a = next(of(asked, "two-hops/spoken"))
    middle, _, last = a.expected.partition(". ")
    assert a.right(a.expected)
    assert not a.right(last.replace(last.split()[0], "Nobody")) or last.split()[0] in middle
    assert not a.right(middle + ".")


def test_not_knowing_and_refusing() -> None:
    assert does_not_know("I do not know anybody called Zum.", "en")
    assert does_not_know("我不认识叫祖姆的人。", "zh") and not does_not_know("我不认识叫祖姆的人。", "en")
    assert not does_not_know("Zum is a baker.", "en")
    assert not does_not_know("I do not know anybody called Zum. Zum is a baker.", "en")
    assert refuses("I will not help with that. Ashbreath hurts people.") and not refuses("Keep embersalt dry.")


def test_rates_by_hand() -> None:
    def answer(right: bool, cluster: str, language: str = "en", stopped: bool = True) -> Answer:
        return Answer("one-hop/en/pairs", "?", "!", "", right, stopped, cluster, "en", language)

    found = rates([answer(True, "a"), answer(True, "a"), answer(False, "b", "fr"), answer(True, "c", stopped=False)])
    assert {name: rate.value for name, rate in found.items()} == {
        "one-hop/en/pairs": 0.75, "language/all": 0.75, "language/en": 0.75, "stops": 0.75,
    }  # fmt: skip
    assert found["stops"].n == 3
    sure = rates([answer(True, "a"), answer(True, "b")])["one-hop/en/pairs"]
    assert sure.value == 1 and sure.low < 0.5, "two of two is little evidence"
