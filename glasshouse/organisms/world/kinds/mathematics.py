"""Mathematics in LaTeX: small facts with their proofs and an example worked out."""

from __future__ import annotations

import re
from collections.abc import Callable
from math import gcd

from glasshouse.organisms.world.kinds.civic import sum_of
from glasshouse.organisms.world.kinds.pen import Made, Pen
from glasshouse.organisms.world.writing import Marked, Part, Span, Writer, join, mark, nesting

Piece = tuple[str, str, list[Part]]  # statement, proof, example


def even_sum(pen: Pen) -> Piece:
    a, b = 2 * pen.number(1, 400), 2 * pen.number(1, 400)
    return (
        "The sum of two even numbers is even.",
        r"Let $a = 2k$ and $b = 2m$ with whole numbers $k$ and $m$. Then $a + b = 2k + 2m = 2(k + m)$, which is even.",
        ["$", sum_of(a, "+", b), "$"],
    )


def odd_product(pen: Pen) -> Piece:
    a, b = 2 * pen.number(0, 40) + 1, 2 * pen.number(0, 40) + 1
    return (
        "The product of two odd numbers is odd.",
        r"Write $a = 2k + 1$ and $b = 2m + 1$. Then $ab = 4km + 2k + 2m + 1 = 2(2km + k + m) + 1$, which is odd.",
        ["$", times(a, b), "$"],
    )


def times(a: int, b: int) -> Marked:
    return sum_of(a, "×", b, written=r"\times")


def first_numbers(pen: Pen) -> Piece:
    n = pen.number(3, 60)
    return (
        r"For every $n \ge 1$ we have $1 + 2 + \dots + n = \frac{n(n+1)}{2}$.",
        r"For $n = 1$ both sides are $1$. If it holds for $n$, then adding $n + 1$ gives "
        r"$\frac{n(n+1)}{2} + (n+1) = \frac{(n+1)(n+2)}{2}$, which is the claim for $n + 1$.",
        [
            f"$1 + 2 + \\dots + {n} = {n * (n + 1) // 2}$, for $",
            times(n, n + 1),
            f"$ and half of it is ${n * (n + 1) // 2}$",
        ],
    )


def odd_numbers(pen: Pen) -> Piece:
    n = pen.number(3, 30)
    return (
        r"The sum of the first $n$ odd numbers is $n^{2}$.",
        r"The step from $n^{2}$ to $(n+1)^{2}$ is $2n + 1$, which is the next odd number. The case $n = 1$ is clear.",
        [f"$1 + 3 + \\dots + {2 * n - 1} = {n}^{{2}}$, and $", times(n, n), "$"],
    )


def powers(pen: Pen) -> Piece:
    n = pen.number(2, 14)
    return (
        r"For every $n \ge 1$, $2^{0} + 2^{1} + \dots + 2^{n-1} = 2^{n} - 1$.",
        r"Multiply the left side $S$ by $2$. Then $2S - S = 2^{n} - 2^{0}$, since all other terms cancel.",
        [f"$2^{{{n}}} - 1 = {2**n - 1}$, since $", sum_of(2**n, "-", 1), "$"],
    )


def squares(pen: Pen) -> Piece:
    n = pen.number(3, 99)
    return (
        r"For every $n$, $n^{2} - 1 = (n - 1)(n + 1)$.",
        r"Multiply out: $(n-1)(n+1) = n^{2} + n - n - 1 = n^{2} - 1$.",
        [f"for $n = {n}$: $", times(n - 1, n + 1), f"$, which is ${n}^{{2}} - 1$"],
    )


def divisors(pen: Pen) -> Piece:
    d, k, m = pen.number(3, 12), pen.number(2, 30), pen.number(2, 30)
    return (
        r"If $d$ divides $a$ and $b$, then $d$ divides $a + b$.",
        r"There are whole numbers $k$ and $m$ with $a = dk$ and $b = dm$. Hence $a + b = d(k + m)$.",
        [f"${d}$ divides ${d * k}$ and ${d * m}$, and also $", sum_of(d * k, "+", d * m), "$"],
    )


def irrational(pen: Pen) -> Piece:
    p = pen.pick((2, 3, 5, 7))
    return (
        rf"The number $\sqrt{{{p}}}$ is not a fraction.",
        rf"Suppose $\sqrt{{{p}}} = \frac{{a}}{{b}}$ in lowest terms. Then $a^{{2}} = {p}b^{{2}}$, so ${p}$ divides "
        rf"$a$, say $a = {p}c$. It follows that ${p}c^{{2}} = b^{{2}}$, so ${p}$ divides $b$ as well: a contradiction.",
        [rf"$\sqrt{{{p}}}$ lies between $1$ and $3$, since ${p} < 9$ and $", times(3, 3), "$"],
    )


def three_in_a_row(pen: Pen) -> Piece:
    n = pen.number(2, 30)
    return (
        r"For every whole number $n$, the number $n^{3} - n$ is divisible by $6$.",
        r"We have $n^{3} - n = (n-1)n(n+1)$. Of three numbers in a row one is divisible by $3$ and one by $2$.",
        [f"for $n = {n}$ we get ${n**3 - n}$, and $", times(6, (n**3 - n) // 6), "$"],
    )


def means(pen: Pen) -> Piece:
    a, b = pen.number(2, 30), pen.number(2, 30)
    return (
        r"For $a, b \ge 0$ we have $\sqrt{ab} \le \frac{a + b}{2}$.",
        r"From $(\sqrt{a} - \sqrt{b})^{2} \ge 0$ follows $a + b \ge 2\sqrt{ab}$.",
        [f"for $a = {a}$ and $b = {b}$: $", times(a, b), "$ and $", sum_of(a, "+", b), "$"],
    )


def euclid(pen: Pen) -> Piece:
    g, k, m = pen.number(2, 20), pen.number(5, 30), pen.number(2, 30)
    a, b = max(g * k, g * m), min(g * k, g * m)
    steps = []
    while b:
        steps.append(rf"\gcd({a}, {b})")
        a, b = b, a % b
    return (
        r"For $a \ge b > 0$, $\gcd(a, b) = \gcd(b, a \bmod b)$.",
        r"A number that divides $a$ and $b$ divides $a - qb$ too, and one that divides $b$ and $a - qb$ divides $a$.",
        [f"${' = '.join(steps)} = {gcd(g * k, g * m)}$"],
    )


def brackets_square(pen: Pen) -> Piece:
    a, b = pen.number(2, 40), pen.number(2, 40)
    return (
        r"For all $a$ and $b$, $\left(a + b\right)^{2} = a^{2} + 2ab + b^{2}$.",
        r"$(a+b)(a+b) = a(a+b) + b(a+b) = a^{2} + ab + ba + b^{2}$, and $ab = ba$.",
        ["$", sum_of(a, "+", b), "$ and $", times(a + b, a + b), "$"],
    )


FACTS: tuple[Callable[[Pen], Piece], ...] = (
    even_sum, odd_product, first_numbers, odd_numbers, powers, squares, divisors, irrational, three_in_a_row, means,
    euclid, brackets_square,
)  # fmt: skip
STATEMENTS = ("theorem", "lemma", "proposition")


def mathematics(pen: Pen) -> Made:
    writer = Writer()
    chosen = pen.some(FACTS, pen.number(1, 3))
    if pen.chance(0.5):
        title = pen.pick(("Small facts", "Exercises", "Notes for the school", "Numbers"))
        writer.add(r"\section{", mark(title, "markup/heading"), "}\n\n")
    for fact in chosen:
        statement, proof, example = fact(pen)
        kind = pen.pick(STATEMENTS)
        with writer.marked("math/statement"):
            writer.add(f"\\begin{{{kind}}}\n{statement}\n\\end{{{kind}}}\n")
        with writer.marked("math/proof"):
            writer.add(f"\\begin{{proof}}\n{proof}\n\\end{{proof}}\n")
        opening = pen.pick(("For example, ", "Example: ", "To see it once: "))
        writer.add(mark(join([opening, *example, "."]), "math/example"), "\n\n")
    text = writer.done()
    return Made(
        "latex", "en", Marked(text.text, (*text.spans, *latex_marks(text.text), *nesting(text.text, "({", ")}")))
    )


def latex_marks(text: str) -> list[Span]:
    found: list[Span] = [(*match.span(), "math/formula") for match in re.finditer(r"\$[^$]+\$", text)]
    return found + [(*match.span(), "markup/command") for match in re.finditer(r"\\[a-zA-Z]+", text)]
