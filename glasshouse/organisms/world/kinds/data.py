"""Data of the valley: CSV, JSON, HTML, logs. Values are those of the world, and parse back to them."""

from __future__ import annotations

import json
import re

from glasshouse.organisms.world.base import NOW, Fact
from glasshouse.organisms.world.kinds.pen import Made, Pen
from glasshouse.organisms.world.lexicon import LANGUAGES
from glasshouse.organisms.world.statements import relabelled
from glasshouse.organisms.world.terms import entity_term, name_term, number, value_term
from glasshouse.organisms.world.writing import Marked, Part, Span, Writer, capital, escaped, join, mark, nesting

COLUMNS = {
    "person": ("job", "home", "born", "food", "colour", "pet", "pet-name", "team", "party", "surname", "hobby"),
    "town": ("founded", "mayor", "product", "market-day", "population", "direction", "sight"),
    "shop": ("owner", "shop-town", "sells", "opens", "price"),
    "event": ("event-year", "event-town", "event-days"),
    "way": ("way-hours", "way-means", "way-road"),
    "team": ("captain", "team-colour", "team-founded"),
}
JSON = {'"': '\\"', "\\": "\\\\", "\n": "\\n"}
HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def cell(pen: Pen, fact: Fact | None) -> Part:
    """The plain value of a fact, with its relation; empty where nothing is taught."""
    if fact is None:
        return ""
    value = value_term(pen.world, fact.relation, fact.value, "en").plain
    return mark(value, "role/value", f"relation/{fact.relation}", "data/value")


def rows(pen: Pen, kind: str, columns: list[str], count: int) -> list[list[Part]]:
    found: list[list[Part]] = []
    for key in pen.some(pen.world.kinds[kind], count):
        facts = pen.world.by_entity[key]
        name = relabelled(entity_term(pen.world, key, "en"), "role/subject").plain
        found.append([name, *(cell(pen, facts.get(column)) for column in columns)])
    return found


def csv(pen: Pen) -> Made:
    if pen.chance(0.3):
        return glossary(pen)
    kind = pen.pick(list(COLUMNS))
    columns = pen.some(COLUMNS[kind], pen.number(2, 5))
    between = pen.pick((",", ",", ";"))
    header = [mark(name, "data/key") for name in ("name", *columns)]
    lines = [mark(join(header, between), "data/header")]
    lines += [join(row, between) for row in rows(pen, kind, columns, pen.number(4, 18))]
    return Made("csv", "en", join([join(lines, "\n"), "\n"]))


def glossary(pen: Pen) -> Made:
    """The names of people and towns in every language."""
    header = join([mark(name, "data/key") for name in LANGUAGES.values()], ",")
    lines = [mark(header, "data/header")]
    for key in pen.some([*pen.world.kinds["person"], *pen.world.kinds["town"]], pen.number(5, 16)):
        names = [
            mark(entity_term(pen.world, key, code).plain, f"language/{name}", "data/value")
            for code, name in LANGUAGES.items()
        ]
        lines.append(join(names, ","))
    return Made("csv", "none", join([join(lines, "\n"), "\n"]))


def key_value(key: str, value: Part) -> Marked:
    """A pair of JSON: text between quotes, numbers without."""
    text = value if isinstance(value, str) else value.text
    shown: Part = value if text.isdigit() else join(['"', escaped(value, JSON), '"'])
    return join(['"', mark(key, "data/key"), '": ', shown if text else "null"])


def json_record(pen: Pen) -> Made:
    kind = pen.pick(list(COLUMNS))
    columns = pen.some(COLUMNS[kind], pen.number(2, 5))
    found = rows(pen, kind, columns, pen.number(1, 5))
    wide = pen.chance(0.5)
    gap, inner, last = ("\n  ", "\n    ", "\n  ") if wide else (" ", "", "")
    records = []
    for row in found:
        pairs = [key_value(key, value) for key, value in zip(("name", *columns), row, strict=True)]
        if len(pairs) > 3 and pen.chance(0.5):
            deeper = join(["{", join(pairs[2:], ", "), "}"])
            pairs = [*pairs[:2], join(['"', mark("more", "data/key"), '": ', deeper])]
        records.append(join(["{", inner, join(pairs, f",{inner or ' '}"), last, "}"]))
    listed = join(["[", gap, join(records, f",{gap}"), "\n" if wide else " ", "]"])
    if pen.chance(0.5):
        year = key_value("year", number(NOW, "year").plain)
        listed = join(["{", year, ', "', mark(f"{kind}s", "data/key"), '": ', listed, "}"])
    text = join([listed, "\n"])
    json.loads(text.text)
    return Made("json", "en", Marked(text.text, (*text.spans, *nesting(text.text, "{[", "}]"))))


def html(pen: Pen) -> Made:
    """A page about one thing: a heading, sentences, a table or list."""
    kind = pen.pick(list(COLUMNS))
    key = pen.entity(kind)
    facts = pen.facts(key)
    pen.rng.shuffle(facts)
    x = entity_term(pen.world, key, "en")
    title = capital(x.forms.get("full", x.plain))
    writer = Writer()
    if pen.chance(0.5):
        writer.add("<!DOCTYPE html>\n")
    writer.add(
        "<html>\n<head><title>", title, "</title></head>\n<body>\n<h1>", mark(title, "markup/heading"), "</h1>\n"
    )
    for fact in facts[: pen.number(1, 4)]:
        writer.add("<p>", mark(escaped(pen.true(fact), HTML), "language/english"), "</p>\n")
    if pen.chance(0.5):
        writer.add('<table class="facts">\n')
        for fact in facts:
            writer.add("<tr><th>", mark(fact.relation, "data/key"), "</th><td>", cell(pen, fact), "</td></tr>\n")
        writer.add("</table>\n")
    else:
        others = pen.some([other for other in pen.world.kinds[kind] if other != key], pen.number(2, 5))
        writer.add("<ul>\n")
        for other in others:
            link = other.replace("/", "-").lower()
            writer.add(f'<li><a href="{link}.html">', entity_term(pen.world, other, "en").plain, "</a></li>\n")
        writer.add("</ul>\n")
    if pen.chance(0.4):
        town = pen.term(pen.entity("town")).plain
        writer.add(
            "<footer>", mark(join(["Town library of ", town, " &amp; friends"]), "language/english"), "</footer>\n"
        )
    text = writer.add("</body>\n</html>\n").done()
    return Made("html", "en", Marked(text.text, (*text.spans, *html_marks(text.text))))


def html_marks(text: str) -> list[Span]:
    tags: list[Span] = [(*match.span(), "markup/tag") for match in re.finditer(r"<[^>]+>", text)]
    return tags + [(*match.span(1), "markup/attribute") for match in re.finditer(r' (\w+="[^"]*")', text)]


CLOSED = 20  # the hour at which every shop is shut
EVENTS: tuple[tuple[str, str, str], ...] = (
    ("info", "toll", "{x} paid {p} at {b}"), ("info", "toll", "{n} people crossed {b}"),
    ("info", "shop", "{s} had a visitor"), ("info", "shop", "{s} sold {g} for {c}"),
    ("info", "post", "letter for {x} left {t}"),
    ("info", "gate", "{x} entered {t}"), ("info", "gate", "{x} left {t}"),
    ("warning", "river", "water {h} steps below {b}"), ("warning", "shop", "{s} is out of {g}"),
    ("warning", "gate", "cart of {x} is too wide for {b}"), ("error", "toll", "{x} crossed {b} without paying"),
    ("error", "post", "no such person in {t}: {u}"), ("error", "river", "gauge under {b} does not answer"),
)  # fmt: skip


def log(pen: Pen) -> Made:
    """Lines of a day, in the order of their times. Shops are told of while they are open."""
    toll = pen.world.value("bridge", "bridge-toll")
    assert isinstance(toll, int)
    second, lines = pen.number(14_400, 36_000), []
    day, month = pen.number(1, 36), pen.number(1, 10)
    walkers, low, empty = pen.some(pen.people, 24), pen.number(2, 6), set[str]()
    upper, style = pen.chance(0.5), pen.pick(("{d} {t} {l} {c}: ", "[{d} {t}] {l} {c} ", "{t} {l} [{c}] "))
    for _ in range(pen.number(5, 24)):
        second += pen.number(1, 2400)
        hour = second // 3600
        if hour == 24:
            break
        level, part, source = pen.pick(EVENTS)
        shop = pen.entity("shop")
        sells, price, opens = (pen.world.by_entity[shop][relation] for relation in ("sells", "price", "opens"))
        assert isinstance(opens.value, int)
        if part == "shop" and (shop in empty or not opens.value <= hour < CLOSED):
            continue
        if "is out of" in source:
            empty.add(shop)
        stranger = name_term(pen.pick(pen.world.unknown_names[0]), "unknown", "en")
        message = pen.tell(
            source, x=pen.term(walkers.pop()), t=pen.term(pen.entity("town")), s=pen.term(shop), u=stranger,
            n=(pen.number(2, 400), "count"), h=(low, "steps"), p=number(toll, "price").forms["unit"],
            g=value_term(pen.world, "sells", sells.value, "en"),
            c=value_term(pen.world, "price", price.value, "en").forms["unit"],
        )  # fmt: skip
        time = f"{hour:02d}:{second // 60 % 60:02d}:{second % 60:02d}"
        head = style.split("{d}") if "{d}" in style else ["", style]
        line = Writer().add(head[0])
        if "{d}" in style:
            line.add(mark(f"{NOW}-{month:02d}-{day:02d}", "time/date"))
        between = head[1].split("{t}")
        line.add(between[0], mark(time, "time/clock"))
        before, after = between[1].split("{l}")
        line.add(
            before,
            mark(level.upper() if upper else level, f"log/{level}"),
            after.replace("{c}", part),
            mark(message, "language/english"),
        )
        lines.append(line.done("log/line"))
    return Made("log", "en", join([join(lines, "\n"), "\n"]))
