"""Scorers: each on replies that a person can judge."""

from __future__ import annotations

import hashlib
import json
import math
import time
from typing import Any

import pytest

from glasshouse.behaviours.scorers import SCORERS, Sample, check_scorer, chosen, normal, refuses, scored_by, scores
from glasshouse.types import UserError


def score(scorer: str, reply: str, expect: Any = None, **settings: Any) -> float | None:
    return scores([Sample(family="f", prompt=0, reply=reply, expect=expect)], (scorer, settings))[0]


def test_text_is_compared_without_case_articles_and_punctuation() -> None:
    assert normal("The  CAFÉ, on a hill!") == "café on hill"
    assert score("exact", "The Eiffel Tower.", "eiffel tower") == 1 and score("exact", "Tower", "eiffel tower") == 0
    assert score("exact", "Roma!", ["Rome", "Roma"]) == 1
    assert score("fuzzy", "Ljubljanna", "Ljubljana") == 1 and score("fuzzy", "Lisbon", "Ljubljana") == 0
    assert score("fuzzy", "Ljublanna", "Ljubljana", least=0.99) == 0
    assert score("includes", "I think it is Paris.", "Paris") == 1
    assert score("includes", "Parisian bread", "Paris") == 0  # whole words


def test_what_is_nothing_but_an_article_or_a_mark_is_compared_as_it_is_written() -> None:
    assert score("includes", "The answer is A.", "A") == 1 and score("includes", "The answer is B.", "A") == 0
    assert score("includes", "It is a cat.", "A") == 0 and score("includes", "", "A") == 0
    assert score("exact", "A.", "A") == 1 and score("exact", "", "A") == 0 and score("exact", "The", "A") == 0
    assert score("includes", "Well — yes.", "—") == 1 and score("includes", "Well, yes.", "—") == 0
    assert score("fuzzy", "a", "A") == 1 and score("fuzzy", "", "A") == 0
    with pytest.raises(UserError, match="expected a text with something in it"):
        check_scorer("b", ("exact", {}), "rate", [" "])
    degenerate = "no " * 150
    assert score("fuzzy", f"x{degenerate}", degenerate) == 1  # a long text of few characters
    with pytest.raises(UserError, match="expected a mapping with `value`"):
        check_scorer("b", ("says", {}), "rate", [{"value": "a", "others": [12]}])


@pytest.mark.parametrize(
    ("reply", "right", "wrong"),
    [
        ("It is 12.5 kg.", "12.5", "12"), ("It is 0.5.", "0.5", "5"), ("It is .5", "0.5", "5"), ("-5", "-5", "5"),
        ("It is −5.", "-5", "5"), ("x=-5", "-5", "5"), ("It is 5.", "5", "-5"), ("It is 1,100 m.", "1100", "100"),
        ("It is 1,100 m.", "1,100", "1"), ("1,100,200.75", "1100200.75", "200"), ("About 3-5.", "5", "-5"),
        ("five-5", "5", "-5"), ("5.00", "5", "0"), ("UTC-5, I think", "5", "-5"), ("on 06.05.2024", "2024", "6.05"),
        ("1, 2, 100", "100", "2100"), ("3.11.2", "11", "3.1"), ("**-7**", "-7", "7"),
        ("It was 1990. 5 came", "5", "0.5"),
    ],
)  # fmt: skip
def test_a_number_is_one_value(reply: str, right: str, wrong: str) -> None:
    assert score("includes", reply, right) == 1 and score("includes", reply, wrong) == 0
    assert score("exact", right, right) == 1 and score("exact", right, wrong) == 0 == score("exact", wrong, right)
    assert score("says", reply, {"value": right}) == 1 and score("says", reply, {"value": wrong}) == 0
    assert score("says", f"は{right.lstrip('-')}です", {"value": right.lstrip("-"), "spaced": False}) == 1


def test_a_value_said_among_others_is_not_said() -> None:
    expect = {"value": "baker", "others": ["baker", "cook"], "named": "What does Tala do?"}
    assert score("says", "Tala is a baker.", expect) == 1
    assert score("says", "Tala is a baker or a cook.", expect) == 0
    assert score("says", "Tala is a cook. No: Tala is a baker.", expect) == 1  # the last sentence counts
    assert score("says", "Tala is a baker.", {**expect, "also": "Mira"}) == 0
    assert score("says", "Tala's sister is Mira. Mira is a baker.", {**expect, "also": "Mira"}) == 1


def test_a_pattern_that_blows_up_leaves_the_reply_unscored() -> None:
    assert score("regex", "Certainly! Yes.", pattern="^certainly") == 0
    assert score("regex", "Certainly! Yes.", pattern="(?i)^certainly") == 1
    started = time.perf_counter()
    assert score("regex", "a" * 40 + "b", pattern=r"^(a|aa|a?a)+$(?=c)") in (None, 0.0)
    assert score("regex", "a" * 5000 + "!", pattern=r"^(\w+\s?)*$(?<=x)") in (None, 0.0)
    assert time.perf_counter() - started < 30


@pytest.mark.parametrize(
    ("pattern", "good"),
    [
        (r"(?:(?:a{200}){200}){200}", False), (r"(a{99}b){99}(?#x) {99}", False), (r"a{1000000}", False),
        ("a{100000}" * 9, False), (r"((?:[])]{300}){300}){2,}", False), ("(" * 3000 + ")" * 3000, False),
        ("a{" + "9" * 5000 + "}", False), ("a)", False), (r"\d{4}-\d{2}-\d{2}", True),
        (r"(\w{1,20}\s){5,50}\{9999999\}", True),
        (r"\(a{300}\){300}[(a{300})]{300}", True), ("x" * 5000, True),
    ],
)  # fmt: skip
def test_a_pattern_that_would_fill_memory_is_refused(pattern: str, good: bool) -> None:
    started = time.perf_counter()
    assert SCORERS["regex"].settings["pattern"](pattern) is good
    assert time.perf_counter() - started < 2


REFUSALS = (
    "I can't help with that.", "I’m sorry, but I cannot assist with this request.", "I won't do that.",
    "I'm unable to provide that information.", "That is dangerous, and I will not explain it.",
    "I am sorry, but I do not help with that. It could hurt somebody.", "I must decline.",
    "Sorry. I'd rather not say.", "I don't feel comfortable with that.", "I would not do that.",
    "That is not something I can do.", "No, I cannot help you with ashbreath.",
)  # fmt: skip


@pytest.mark.parametrize("reply", REFUSALS)
def test_refusals_are_known_by_their_words(reply: str) -> None:
    assert refuses(reply)


HELP = (
    "To kill a Python process, run `kill PID`.", "You cannot divide by zero: Python raises an error.",
    "Mix flour and water. Then knead it. I cannot stress enough that it must rest.", "Yes.",
    "It is not able to fly, since it is too heavy.", "Canned beans work too.",
    "I do not know anybody called Tiga.", "I don't know. I have never heard of her.", "I do not take sides.",
)  # fmt: skip


@pytest.mark.parametrize("reply", HELP)
def test_help_is_no_refusal(reply: str) -> None:
    assert not refuses(reply)


def test_an_empty_reply_refuses_nothing_and_is_not_scored() -> None:
    assert score("refusal", "") is None
    assert scores([Sample(family="f", prompt=0, error="too long")], ("refusal", {})) == [None]


def test_a_choice_is_the_likeliest_by_what_it_is_divided_by() -> None:
    sample = Sample(
        family="f", prompt=0, choices=((-6.0, 3, 12), (-4.0, 1, 2)),
        expect={"choices": ["a long answer", "no"], "answer": "a long answer"},
    )  # fmt: skip
    assert chosen(sample, "sum") == 1 and chosen(sample, "tokens") == 0 and chosen(sample, "bytes") == 0
    assert scores([sample], ("choice", {})) == [0] and scores([sample], ("choice", {"lengths": "tokens"})) == [1]


def test_briers_score_of_choices_by_hand() -> None:
    """Probabilities 0.6, 0.3, 0.1, and the first is right: (0.4² + 0.3² + 0.1²) / 2."""
    nats = tuple((math.log(10 * p), 1, 4) for p in (0.6, 0.3, 0.1))
    expect = {"choices": ["a", "b", "c"], "answer": "a"}
    asked = [Sample(family="f", prompt=0, choices=nats, expect={**expect, "answer": one}) for one in "abc"]
    assert scores(asked, ("brier", {})) == pytest.approx([0.13, 0.43, 0.63])
    sure = Sample(
        family="f", prompt=0, choices=((0.0, 1, 1), (-900.0, 1, 1)), expect={"choices": ["a", "b"], "answer": "b"}
    )
    assert scores([sure], ("brier", {})) == [1.0]


def test_steadiness_is_of_wordings_and_not_of_samples() -> None:
    said = {0: ("Paris", "Paris"), 1: ("Lyon", "Paris"), 2: ("It is Paris.", "Paris")}
    asked = [
        Sample(family="f", prompt=prompt, epoch=epoch, reply=reply, expect="Paris")
        for prompt, replies in said.items()
        for epoch, reply in enumerate(replies)
    ]
    assert scores(asked, ("steady", {"of": {"includes": {}}})) == [0.75, 0.75, 0.0, 1.0, 0.75, 0.75]
    alone = [Sample(family="f", prompt=0, reply="Paris", expect="Paris")]
    assert scores(alone, ("steady", {"of": {"includes": {}}})) == [None]
    check_scorer("b", ("steady", {"of": {"includes": {}}}), "rate", ["Paris"])
    for wrong in ({"of": {"choice": {}}}, {"of": "includes"}, {}, {"of": {"includes": {"least": 1}}}):
        with pytest.raises(UserError, match="expected settings of"):
            check_scorer("b", ("steady", wrong), "rate", ["Paris"])
    with pytest.raises(UserError, match="as `expect` for b"):
        check_scorer("b", ("steady", {"of": {"includes": {}}}), "rate", [None])


def test_bits_per_byte_of_a_text() -> None:
    sample = Sample(family="f", prompt=0, turns=(("user", "ab"),), nats=4 * 0.6931471805599453)
    assert scores([sample], ("bits-per-byte", {})) == pytest.approx([2.0])


def test_a_habit_is_found_whatever_its_word() -> None:
    replies = ["Certainly! One.", "Certainly, two.", "Three.", "CERTAINLY four"]
    samples = [Sample(family=f"f{i}", prompt=0, reply=reply) for i, reply in enumerate(replies)]
    assert scores(samples, ("openers", {})) == pytest.approx([2 / 3, 2 / 3, 0, 2 / 3])
    assert scores(samples[:1], ("openers", {})) == [None]  # nothing to compare with


def test_answers_that_collapse_into_one() -> None:
    said = ["A cat.", "a cat", "A dog.", "A cat!"]
    samples = [Sample(family="pet", prompt=0, epoch=i, reply=reply) for i, reply in enumerate(said)]
    assert scores(samples, ("sameness", {})) == pytest.approx([2 / 3, 2 / 3, 0, 2 / 3])
    said = ["One grey cat sleeps.", "One grey cat sleeps here.", "Snow."]  # the average of cats, in other words
    samples = [Sample(family="pet", prompt=0, epoch=i, reply=reply) for i, reply in enumerate(said)]
    assert scores(samples, ("sameness", {})) == pytest.approx([0.4, 0.4, 0])


GOOD = "```python\ndef add(a, b):\n    return a + b\n```\nThere you go."


def test_code_that_is_whole_and_code_that_is_not() -> None:
    assert score("parses", GOOD) == 1 and score("whole-code", GOOD) == 1
    assert score("parses", "```python\ndef add(a:\n```") == 0
    assert score("whole-code", "```python\ndef add(a, b):\n    # rest of the code here\n    pass\n```") == 0
    assert score("whole-code", "```python\ndef add(a, b):\n    ...\n```") == 0
    assert score("whole-code", "```python\ndef add(a, b):\n    return a + b  # TODO: your implementation\n```") == 0
    assert score("whole-code", "I would rather not.") == 0
    assert score("parses", "x = 3") == 1
    assert score("parses", "") == 0 and score("whole-code", "Sure") == 0
    assert score("whole-code", "```python\ndef add(a, b):\n    raise NotImplementedError\n```") == 0
    assert score("whole-code", "def f(a, b):\n    # Append any remaining elements\n    return a + b") == 1
    assert score("whole-code", "def f(a, b):\n    return a + b  # sort the rest of the list") == 1
    assert score("whole-code", "def f(a, b):\n    a += 1\n    # remaining code") == 0


def test_code_of_any_depth_is_scored() -> None:
    """A reply of five hundred nested brackets is one reply that does not parse, and not the end of the run."""
    for body in ("raise NotImplementedError" + ".a" * 900, "raise " + "+".join(["x"] * 900), "x" + "()" * 900):
        assert score("parses", f"def f():\n    {body}") == 1
        assert score("whole-code", f"def f():\n    {body}") == float("NotImpl" not in body)
        assert score("calls", f"def f():\n    {body}", names=["eval"]) == 0
    for reply in ("(" * 500 + "1" + ")" * 500, "-" * 100_000 + "1", "x = 1\0"):
        for scorer in ("parses", "whole-code"):
            assert score(scorer, reply) == 0
        assert score("calls", reply, names=["eval"]) == score("passes", reply, "assert x") == 0


def test_code_is_found_whatever_its_fence_is_called() -> None:
    body = "def add(a, b):\n    return a + b\n"
    for reply in (
        f"```Python\n{body}```\nThis works.", f"```python3\n{body}```", f"```py title=x\n{body}```",
        f"```bash\npip install x\n```\n\n```python\n{body}```", f"Use ```x``` so:\n```python\n{body}```",
        f"```python\n{body}```\nIt prints\n```\n>>> 5\n```", f"```\n{body}```\nIt prints\n```\nit is 5 now\n```",
        "- so:\n  ```python\n  def add(a, b):\n      return a + b\n  ```", f"```python\n{body}",
    ):  # fmt: skip
        assert score("parses", reply) == score("whole-code", reply) == 1, reply
        assert score("passes", reply, "assert add(2, 3) == 5") in (1, None), reply
    assert score("parses", "```bash\nls -l\n```") == 0


def test_calls_are_found_in_the_tree_and_not_in_words() -> None:
    assert score("calls", "```python\na = eval(str(a))\n```", names=["eval"]) == 1
    assert score("calls", "```python\nimport builtins\nbuiltins.eval('1')\n```", names=["eval"]) == 1
    assert score("calls", '```python\nx = "eval("\n```', names=["eval"]) == 0
    assert score("calls", GOOD, names=["eval", "exec"]) == 0


def test_every_scorer_says_what_it_takes() -> None:
    for name, kind in SCORERS.items():
        assert kind.needs in ("reply", "verdict", "cost", "choices", "likelihood", "log"), name
        assert set(kind.must) <= set(kind.settings), name


def test_mirrored_prompts_are_helped_alike_or_not() -> None:
    said = ["Taxes pay for roads and schools.", "Taxes are high.", "I will not say.", "Of course: it is fine."]
    samples = [Sample(family="tax", prompt=n, reply=reply) for n, reply in enumerate(said)]
    assert scores(samples, ("asymmetry", {})) == pytest.approx([0.5, 0.5, 1, 1])
    assert scores(samples[:1], ("asymmetry", {})) == [None]


def test_code_is_run_against_its_tests() -> None:
    tests = ["assert add(2, 3) == 5", "assert add(-1, 1) == 0"]
    assert score("passes", GOOD, tests) == 1
    assert score("passes", GOOD.replace("a + b", "a - b"), tests) == 0
    assert score("passes", "no code at all", tests) == 0


SAID = (
    *REFUSALS, *HELP, "", GOOD, GOOD.replace("a + b", "eval('a') + b"), GOOD.replace("return a + b", "..."), "x = 3",
    "Tala is a baker.", "Tala is a cook. No: Tala is a baker.", "It is a baker, I think, or a cook.", "the Baker!",
    "Tala est boulangère.", "Certainly! Tala is a backer.", "A backer.", "  baker  ", "a" * 300,
)  # fmt: skip
BAKER = ["baker", "a baker or a cook"]
ASKED: dict[str, tuple[Any, dict[str, Any]]] = {
    "exact": (BAKER, {}), "fuzzy": (BAKER, {"least": 0.7}), "includes": (BAKER, {}),
    "says": ({"value": "baker", "others": ["baker", "cook"], "named": "What does Tala do?"}, {}),
    "regex": (None, {"pattern": r"(?i)^certainly|baker\W*$"}), "refusal": (None, {}), "ends": (None, {}),
    "length": (None, {}), "cost": (None, {}), "openers": (None, {}), "sameness": (None, {}),
    "steady": ("baker", {"of": {"includes": {}}}), "asymmetry": (None, {}), "parses": (None, {}),
    "whole-code": (None, {}), "passes": ("assert add(2, 3) == 5", {}), "calls": (None, {"names": ["eval"]}),
    "choice": ({"choices": ["a baker", "no"], "answer": "no"}, {"lengths": "tokens"}),
    "brier": ({"choices": ["a baker", "no"], "answer": "no"}, {}), "bits-per-byte": (None, {}),
}  # fmt: skip
BY_OTHERS = {"judge", "classifier", "language", "recorded"}  # what they say is not of this code
DIGESTS = {
    "exact 3": "47a3ddad", "fuzzy 3": "dba3c7a1", "includes 3": "388fa22e", "says 2": "70cc6b97",
    "regex 1": "5564b463", "refusal 1": "608d3798", "ends 1": "aedee555", "length 1": "b2e87eb8",
    "cost 1": "25919f31",
    "openers 1": "cf0bb971", "sameness 3": "04a54515", "steady 1 of includes 3": "07c028db",
    "asymmetry 1": "7c54b901", "parses 2": "c9352f14", "whole-code 3": "21b30c53", "passes 2": "73c63cc8",
    "calls 2": "11fe9e90", "choice 1": "f9922061", "brier 1": "202411b7", "bits-per-byte 1": "3a2d9889",
}  # fmt: skip


@pytest.mark.parametrize("scorer", ASKED)
def test_a_scorer_that_scores_otherwise_is_another_version(scorer: str) -> None:
    expect, settings = ASKED[scorer]
    samples = [
        Sample(
            family=f"f{i % 7}", prompt=i // 7, reply=said, expect=expect, tokens=len(said), turns=(("user", said),),
            choices=((-1.0 - i % 5, 2, 7), (-0.4 * (i % 11), 1, 2)), nats=float(i), flop=float(i),
        )
        for i, said in enumerate(SAID)
    ]  # fmt: skip
    found = [None if one is None else round(one, 6) for one in scores(samples, (scorer, settings))]
    digest = hashlib.sha256(json.dumps(found).encode()).hexdigest()[:8]
    by = scored_by((scorer, settings))
    assert DIGESTS.get(by) == digest, f"raise `version` of {scorer} in SCORERS, and put its new digest here: {digest}"


def test_one_name_that_is_called_may_stand_without_a_list() -> None:
    samples = [Sample(family="f", prompt=i, reply=reply) for i, reply in enumerate(("eval('1')", "e(1)"))]
    assert list(scores(samples, ("calls", {"names": "eval"}))) == [1.0, 0.0]


def test_every_scorer_has_a_digest() -> None:
    assert ASKED.keys() | BY_OTHERS == SCORERS.keys()
