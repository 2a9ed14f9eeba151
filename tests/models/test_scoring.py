"""Log-probabilities of endings: whatever is read once for many, each is what its whole text gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from conftest import byte_tokenizer, texts
from zoo import DECODERS, VOCABULARY, build

from glasshouse.models import Edit, Model, ablate, add, generation, load, patch, scoring, weight
from glasshouse.models.scoring import log_probabilities
from glasshouse.types import UserError

COMMON = list(range(40, 66))  # longer than the window of the families that have one
ENDINGS = [[80], [90, 91, 92, 93], [90, 91, 94, 93], [90, 95], [96, 91, 92, 97]]  # some begin alike
ASKED = [(COMMON + [70 + i] * (1 + i % 4), ENDINGS[: 2 + i % 4]) for i in range(9)]


@pytest.fixture(scope="module", params=DECODERS)
def model(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Model:
    tokenizer = byte_tokenizer([text for _, text in texts()], vocab_size=VOCABULARY)
    return load(build(request.param, tmp_path_factory.mktemp(request.param), tokenizer), device="cpu")


def whole(model: Model, asked: Any = ASKED) -> list[list[float]]:
    """Each ending's log-probability from a run of its whole text alone."""
    found = []
    for prompt, endings in asked:
        found.append([])
        for ending in endings:
            logits_TV = model.run([[*prompt, *ending]], ["logits"]).logits[0].float().log_softmax(-1)
            at = range(len(prompt) - 1, len(prompt) + len(ending) - 1)
            found[-1].append(sum(float(logits_TV[t, token]) for t, token in zip(at, ending, strict=True)))
    return found


def close(found: list[list[float]], expected: list[list[float]]) -> bool:
    return all(one == pytest.approx(other, rel=1e-4, abs=1e-4) for one, other in zip(found, expected, strict=True))


def test_of_every_family_as_of_whole_texts(model: Model) -> None:
    assert close(log_probabilities(model, ASKED), whole(model))
    assert close(log_probabilities(model, ASKED[:1]), whole(model, ASKED[:1]))


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Model:
    tokenizer = byte_tokenizer([text for _, text in texts()], vocab_size=VOCABULARY)
    return load(build("gpt2", tmp_path_factory.mktemp("one"), tokenizer), device="cpu")


def edits(model: Model) -> dict[str, Edit]:
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(model.width, generator=generator)
    source = torch.randn(50, model.width, generator=generator)
    return {
        "everywhere": add("resid.1", direction), "at a position of the prompt": add("resid.1", direction, positions=5),
        "in the prompt, to which a choice belongs": add("resid.1", direction, positions="prompt"),
        "from the end": add("resid.1", direction, positions=-2), "a head": ablate("z.1", head=2),
        "resampled": ablate("resid.2", "resample", values=source), "a pattern": ablate("pattern.1", head=1),
        "patched": patch("resid.1", source), "logits": add("logits", torch.randn(VOCABULARY, generator=generator)),
        "a weight": weight("transformer.h.1.ln_1.bias", delta=direction),
    }  # fmt: skip


def test_with_edits_as_with_whole_texts(gpt2: Model) -> None:
    plain = log_probabilities(gpt2, ASKED)
    for name, edit in edits(gpt2).items():
        with gpt2.edit(edit):
            found = log_probabilities(gpt2, ASKED)
            assert close(found, whole(gpt2)), name
        assert not close(found, plain), f"{name}: does nothing"
    with gpt2.edit(add("resid.1", torch.ones(gpt2.width), positions="new")):
        with pytest.raises(UserError, match="did not fire"):
            log_probabilities(gpt2, ASKED)


def test_prompts_are_read_once(gpt2: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    read, call = [], Model.call

    def counted(self: Model, ids_BT: torch.Tensor, *given: Any, **more: Any) -> Any:
        read.append(ids_BT.numel())
        return call(self, ids_BT, *given, **more)

    monkeypatch.setattr(Model, "call", counted)
    log_probabilities(gpt2, ASKED)
    widest = 3 + 1 + 3  # of the first long ending, of the second, which begins like it, and of the last
    assert read == [len(COMMON), 4 * len(ASKED), widest * len(ASKED)]
    read.clear()
    log_probabilities(gpt2, [(prompt, [[token] for token in range(20)]) for prompt, _ in ASKED])
    assert sum(read) <= len(COMMON) + 4 * len(ASKED)  # single tokens cost nothing more
    prompts = [prompt for prompt, _ in ASKED]
    read.clear()
    gpt2.generate(prompts, 1)
    assert sum(read) <= len(COMMON) + 4 * len(ASKED)


def test_the_same_whatever_the_budget(gpt2: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = log_probabilities(gpt2, ASKED)
    for tokens in (1, 100, 700):
        monkeypatch.setattr(scoring, "TOKENS", tokens)
        assert close(log_probabilities(gpt2, ASKED), expected)
    monkeypatch.setattr(scoring, "LOGITS", 1)
    assert close(log_probabilities(gpt2, ASKED), expected)


def test_replies_do_not_depend_on_what_is_read_once(gpt2: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = [prompt for prompt, _ in ASKED]
    direction = torch.randn(gpt2.width, generator=torch.Generator().manual_seed(1))
    for edit in (Edit(), add("resid.1", direction, positions="new"), add("resid.1", direction, positions="prompt"),
                 add("resid.1", direction, positions=-1)):  # fmt: skip
        some = [one.ids for one in gpt2.generate(prompts, 8, edits=edit, temperature=0.7)]
        with monkeypatch.context() as patched:
            patched.setattr(generation, "SHARED_TOKENS", 10**9)
            assert some == [one.ids for one in gpt2.generate(prompts, 8, edits=edit, temperature=0.7)]
