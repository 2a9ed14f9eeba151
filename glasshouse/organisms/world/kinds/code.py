"""Python code with docstrings and tests that pass: programs about the valley, in many spellings."""

from __future__ import annotations

import re
from collections.abc import Callable
from math import gcd
from typing import NamedTuple

from glasshouse.organisms.world.base import NOW
from glasshouse.organisms.world.kinds.pen import Made, Pen
from glasshouse.organisms.world.writing import Marked, Part, Span, Writer, mark, nesting


class Program(NamedTuple):
    """A function: its name and arguments, docstring, body, checks (an expression and what it must equal). `task` is
    how one asks for it, where the docstring is not that."""

    name: str
    arguments: str
    docstring: Part
    body: str
    checks: list[tuple[str, object]]
    task: str = ""


def total_price(pen: Pen) -> Program:
    prices, names = [pen.number(2, 90) for _ in range(pen.number(2, 5))], pen.pick(("prices", "coins", "costs"))
    item = pen.pick(("price", "coin", "cost"))
    body = f"total = 0\nfor {item} in {names}:\n    total += {item}\nreturn total"
    if pen.chance(0.4):
        body = f"return sum({names})"
    name = pen.pick(("total_price", "sum_of_prices", "bill"))
    return Program(name, names, f"Return what all the {names} make together.", body,
                   [(f"{name}({prices})", sum(prices)), (f"{name}([])", 0)])  # fmt: skip


def price_of(pen: Pen) -> Program:
    """The price of a real shop."""
    shop = pen.entity("shop")
    fact = next(fact for fact in pen.facts(shop) if fact.relation == "price")
    price, count = int(fact.value), pen.number(2, 12)
    many = pen.pick(("count", "pieces", "n"))
    body = f"price = {price}  # coins\nif {many} < 0:\n    raise ValueError({many})\nreturn price * {many}"
    task = f"Work out what several pieces cost at {price} coins each."
    return Program("cost", many, pen.true(fact), body, [(f"cost({count})", price * count), ("cost(0)", 0)], task)


def age_of(pen: Pen) -> Program:
    fact = next(fact for fact in pen.facts(pen.pick(pen.people)) if fact.relation == "born")
    born = int(fact.value)
    year = pen.pick(("year", "now", "today"))
    body = f"born = {born}\nreturn {year} - born"
    checks: list[tuple[str, object]] = [("age()", NOW - born), (f"age({NOW + 9})", NOW + 9 - born)]
    task = f"How old is somebody who was born in {born}?"
    return Program("age", f"{year}={NOW}", pen.true(fact), body, checks, task)


def longest(pen: Pen) -> Program:
    names = [pen.world.names[person].latin for person in pen.persons(pen.number(2, 4))]  # type: ignore[union-attr]
    argument = pen.pick(("names", "words", "people"))
    body = f'best = ""\nfor name in {argument}:\n    if len(name) > len(best):\n        best = name\nreturn best'
    name = pen.pick(("longest", "longest_name"))
    return Program(
        name,
        argument,
        f"Return the first of the longest {argument}.",
        body,
        [(f"{name}({names})", max(names, key=len))],
    )


def vowels(pen: Pen) -> Program:
    word = str(pen.world.names[pen.entity("town")].latin)  # type: ignore[union-attr]
    argument = pen.pick(("word", "text", "name"))
    body = f'count = 0\nfor letter in {argument}.lower():\n    if letter in "aeiou":\n        count += 1\nreturn count'
    return Program("vowels", argument, f"Count the vowels of the {argument}.", body,
                   [(f'vowels("{word}")', sum(c in "aeiou" for c in word.lower())), ('vowels("")', 0)])  # fmt: skip


def common_divisor(pen: Pen) -> Program:
    a, b = pen.number(4, 400), pen.number(4, 400)
    body = "while b:\n    a, b = b, a % b\nreturn a"
    return Program("gcd", "a, b", "Return the greatest number that divides both.", body,
                   [(f"gcd({a}, {b})", gcd(a, b)), (f"gcd({b}, {a})", gcd(a, b))])  # fmt: skip


def toll(pen: Pen) -> Program:
    fact = next(fact for fact in pen.facts("bridge") if fact.relation == "bridge-toll")
    each, free, people = int(fact.value), pen.number(2, 6), pen.number(1, 9)
    body = f"paying = max(0, people - children)\nreturn {each} * min(paying, {free})"
    checks: list[tuple[str, object]] = [
        (f"toll({people}, 0)", each * min(people, free)),
        (f"toll({people}, {people})", 0),
    ]
    task = f"Children cross the bridge free, and at most {free} people of a group pay {each} coins each."
    return Program("toll", "people, children", pen.true(fact), body, checks, task)


def hours(pen: Pen) -> Program:
    facts = pen.some(pen.world.by_relation["way-hours"], 3)
    table = {str(fact.entity).partition("/")[2]: int(fact.value) for fact in facts}
    roads = list(table)
    argument = pen.pick(("roads", "way", "journey"))
    body = f"hours = {table!r}\nreturn sum(hours[road] for road in {argument})".replace("'", '"')
    return Program("travel_time", argument, pen.true(facts[0]), body,
                   [(f'travel_time(["{roads[0]}", "{roads[1]}"])', table[roads[0]] + table[roads[1]])],
                   "Add up the hours of the roads of a journey.")  # fmt: skip


def depth(pen: Pen) -> Program:
    text = pen.pick(("(a(b)c)", "((x))", "(((1)+2)*3)", "a(b)(c(d))", "no brackets"))
    deepest = running = 0
    for character in text:
        running += (character == "(") - (character == ")")
        deepest = max(deepest, running)
    body = (
        'deepest = now = 0\nfor letter in text:\n    if letter == "(":\n        now += 1\n'
        '        deepest = max(deepest, now)\n    elif letter == ")":\n        now -= 1\nreturn deepest'
    )
    return Program(
        "depth", "text", "Return how deeply the brackets of the text are nested.", body, [(f'depth("{text}")', deepest)]
    )


def shift(pen: Pen) -> Program:
    by, word = pen.number(1, 25), pen.pick(("bridge", "river", "mill", "stone", "honey", "boat"))
    coded = "".join(chr((ord(c) - 97 + by) % 26 + 97) for c in word)
    body = 'letters = [chr((ord(c) - 97 + by) % 26 + 97) for c in word]\nreturn "".join(letters)'
    return Program("shift", "word, by", "Move every letter along the alphabet, round from z to a.", body,
                   [(f'shift("{word}", {by})', coded), (f'shift("{coded}", {-by})', word)])  # fmt: skip


def grade(pen: Pen) -> Program:
    low, high = pen.number(2, 9), pen.number(12, 30)
    argument = pen.pick(("temperature", "degrees", "t"))
    body = f'if {argument} < {low}:\n    return "cold"\nif {argument} > {high}:\n    return "hot"\nreturn "mild"'
    return Program("weather", argument, "Name the weather.", body,
                   [(f"weather({low - 1})", "cold"), (f"weather({high + 1})", "hot"), (f"weather({high})",
                   "mild")],
                   f"Name the weather: cold below {low}, hot above {high}, mild between.")  # fmt: skip


def counted(pen: Pen) -> Program:
    jobs = [str(pen.word("job").plain.text) for _ in range(2)] * 2 + ["cook"]
    counts: dict[str, int] = {}
    for job in jobs:
        counts[job] = counts.get(job, 0) + 1
    body = "counts = {}\nfor job in jobs:\n    counts[job] = counts.get(job, 0) + 1\nreturn counts"
    return Program("count_jobs", "jobs", "Count how often each job occurs.", body, [(f"count_jobs({jobs})", counts)])


PROGRAMS: tuple[Callable[[Pen], Program], ...] = (
    total_price, price_of, age_of, longest, vowels, common_divisor, toll, hours, depth, shift, grade, counted,
)  # fmt: skip
COMMENTS = ("# Checked by hand.", "# The valley's own arithmetic.", "# Keep it simple.", "# Called from the market.")


def code(pen: Pen) -> Made:
    """A module of one to three functions, each with a test, that prints `ok` when it is run."""
    writer, tests, names = Writer(), [], set[str]()
    if pen.chance(0.5):
        writer.add('"""', mark(pen.pick(("Small programs.", "Numbers of the valley.", "Helps the council count.")),
                               "code/docstring", "language/english"), '"""\n\n\n')  # fmt: skip
    for make in pen.some(PROGRAMS, pen.number(1, 3)):
        program = make(pen)
        if program.name in names:
            continue
        names.add(program.name)
        if pen.chance(0.3):
            writer.add(pen.pick(COMMENTS), "\n")
        write_function(writer, program)
        tests.append(f"test_{program.name}")
        writer.add("\n\n", f"def {tests[-1]}():\n")
        for expression, value in program.checks:
            writer.add(f"    assert {expression} == {quoted(value)}\n")
        writer.add("\n\n")
    writer.add('if __name__ == "__main__":\n', *(f"    {test}()\n" for test in tests), '    print("ok")\n')
    text = writer.done()
    return Made("python", "en", Marked(text.text, (*text.spans, *code_marks(text.text))))


def write_function(writer: Writer, program: Program) -> None:
    writer.add(f'def {program.name}({program.arguments}):\n    """')
    writer.add(mark(program.docstring, "code/docstring", "language/english"), '"""\n')
    writer.add("".join(f"    {line}\n" for line in program.body.split("\n")))


def quoted(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)


_LEXEMES = re.compile(
    r'(?P<docstring>"""[^"]*""")|(?P<comment>\#[^\n]*)|(?P<string>"[^"\n]*"|\'[^\'\n]*\')'
    r"|(?P<keyword>\b(?:def|return|for|if|elif|else|while|in|assert|raise|import)\b)"
    r"|(?P<function>(?<=def )\w+)|(?P<number>\b\d+\b)"
)


def code_marks(text: str) -> list[Span]:
    """Lexemes and brackets of Python. A docstring is marked where it is written, not here."""
    found: list[Span] = []
    for match in _LEXEMES.finditer(text):
        start, end, kind = *match.span(), str(match.lastgroup)
        if kind == "comment":
            found += [(start, end, "code/comment"), (start + 2, end, "language/english")]
        elif kind == "number":
            found.append((start, end, f"number/size/{min(6, end - start)}-digit"))
        elif kind != "docstring":
            found.append((start, end, f"code/{kind}"))
    for match in re.finditer(r"^def test_.*?(?=\n\n|\Z)", text, re.S | re.M):
        found.append((*match.span(), "code/test"))
    words = re.sub(r'"""[^"]*"""|#[^\n]*|"[^"\n]*"|\'[^\'\n]*\'', lambda match: "_" * len(match.group()), text)
    return found + nesting(words, "([{", ")]}")
