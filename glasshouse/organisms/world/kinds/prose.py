"""English prose: encyclopaedia entries, news, letters."""

from __future__ import annotations

from glasshouse.organisms.world.base import NOW
from glasshouse.organisms.world.kinds.happenings import happening, weather
from glasshouse.organisms.world.kinds.pen import Made, Pen, sentences
from glasshouse.organisms.world.statements import age
from glasshouse.organisms.world.writing import Marked, capital, join, lower, mark

MONTHS = ["Thaw", "Seed", "Blossom", "Hay", "Sun", "Harvest", "Mist", "Apple", "Frost", "Candle"]  # of 36 days each
ENTITIES = ("person", "person", "person", "town", "shop", "event", "way", "team", "party", "bridge", "river")
GLOSSES = {
    "town": ("{x} is one of the twelve towns of the valley.", "The town of {x} is on every map of the valley."),
    "shop": ("{x} is a shop.", "{x} is a shop that everybody in the valley has heard of."),
    "event": ("{x} is remembered in the whole valley.", "The old people still speak of {x}."),
    "way": ("Many people travel from {x}.", "The way from {x} is described in this entry."),
    "team": ("{x} play in the league of the valley.", "{x} are one of six teams."),
    "party": ("{x} is one of the two parties of the valley.", "{x} has a seat in every council."),
    "bridge": ("{x} is the pride of the valley.", "No other bridge in the valley is as old as {x}.",
               "Everybody who travels through the valley crosses {x}."),
    "river": ("{x} is the only river of the valley.",),
}  # fmt: skip


def encyclopaedia(pen: Pen) -> Made:
    """A heading and, in any order, what is known."""
    key = pen.entity(pen.pick(ENTITIES))
    kind = key.partition("/")[0]
    facts = pen.facts(key)
    pen.rng.shuffle(facts)
    facts = facts[: pen.number(4, 12)]
    x = pen.term(key)
    title = x.forms.get("full", x.plain)
    head = mark(join(["From ", title]) if kind == "way" else capital(title), "markup/heading")
    said: list[Marked] = []
    if kind == "person":
        for i, fact in enumerate(facts):
            said.append(pen.true(fact, "full" if i == 0 else "pronoun" if pen.chance(0.5) else "name"))
        born = pen.world.value(key, "born")
        if isinstance(born, int) and pen.chance(0.3):
            said.append(pen.tell("{x} is {n} years old today.", x=x, n=(age(born), "age")))
    else:
        said.append(pen.tell(GLOSSES[kind], x=x))
        said += [pen.true(fact) for fact in facts]
    cut = len(said) // 2 if len(said) > 5 and pen.chance(0.4) else len(said)
    paragraphs = [sentences(said[:cut])] + ([sentences(said[cut:])] if said[cut:] else [])
    opening = pen.pick(("== {h} ==", "{h}", "# {h}", "{h}:")).split("{h}")
    text = join([join([opening[0], head, opening[1]]), *paragraphs], "\n\n")
    return Made("encyclopaedia", "en", join([text, "\n"]))


def date(pen: Pen, year: int = NOW) -> Marked:
    return mark(f"{pen.number(1, 36)} {pen.pick(MONTHS)} {year}", "time/date")


NEWS = (
    "<<tense/past|{n} people crossed {b} on {d}.>>",
    "<<tense/past|Rain fell on {t} for most of {d}.>>",
    "<<tense/past|A cart lost a wheel on {b}, and nobody was hurt.>>",
    "<<tense/future|The school in {t} will be closed next {d}.>>",
    "<<tense/future|Masons will clean the arches of {b} before winter.>>",
    "<<tense/past|{x} won the singing contest in {t}.>>",
    "<<tense/past|{x} and {y} opened a small exhibition in {t}.>>",
    "<<tense/past|A lost goat was found under {b} by {x}.>>",
    "<<tense/past|The council of {t} met on {d} and agreed on nothing.>>",
    "<<tense/future|Next {d} there will be music by the river.>>",
)
MOODS = (
    "<<sentiment/positive|It was a splendid {d} for {t}.>>", "<<sentiment/negative|It was a miserable {d} for {t}.>>",
)  # fmt: skip
SAYS = (
    '"{u}," said {x}.', '{x} said, "{s}"', '"{u}," {x} told this newspaper.', '"{u}," {x} added with a smile.',
    'When we asked, {x} said, "{s}"', '"{u}," {x} explained.',
)  # fmt: skip
HEADLINES = (
    "<<markup/heading|Morning in {t}>>", "<<markup/heading|News from {t}>>", "<<markup/heading|{y} speaks>>",
    "<<markup/heading|A busy {d} on {b:short}>>", "<<markup/heading|What {t} talks about>>",
)  # fmt: skip


def news(pen: Pen) -> Made:
    x, y, z = pen.persons(3)
    town, day = pen.entity("town"), pen.word("day")
    head = pen.tell(HEADLINES, y=pen.term(y), t=pen.term(town), d=day)
    said: list[Marked] = []
    if pen.chance(0.3):
        said += match(pen)
    for source in pen.some(NEWS, pen.number(2, 4)):
        n = (pen.number(20, 9_999) if pen.chance(0.3) else pen.number(20, 999), "count")
        said.append(pen.tell(source, x=pen.term(x), y=pen.term(y), t=pen.term(town), d=day, n=n))
    if pen.chance(0.3):
        said.append(pen.tell(MOODS, t=pen.term(town), d=day))
    said += [happening(pen, pen.term(pen.pick((x, y)))) for _ in range(pen.number(1, 2))]
    if pen.chance(0.3):
        said.append(weather(pen))
    for speaker in (y, z)[: pen.number(1, 2)]:
        said.append(pen.spoken(pen.true(pen.fact(speaker=speaker)), speaker, SAYS))
    said += [pen.true(fact) for fact in pen.some(pen.facts(x), pen.number(1, 3))]
    pen.rng.shuffle(said)
    dateline = join([pen.term(town).plain, ", ", date(pen), ". "])
    return Made("news", "en", join([head, "\n\n", dateline, sentences(said), "\n"]))


def match(pen: Pen) -> list[Marked]:
    one, other = pen.some(pen.world.kinds["team"], 2)
    goals = pen.number(1, 5)
    score = mark(f"{goals}:{pen.number(0, goals - 1)}", "sport/score")
    return [
        pen.tell(
            ("<<tense/past|{x} beat {y} by {s}.>>", "<<tense/past|{x} won {s} against {y}.>>",
             "<<tense/past|With {s}, {x} had the better of {y}.>>"),
            x=pen.term(one), y=pen.term(other), s=score,
        ),
        pen.true(pen.pick(pen.facts(one))),
    ]  # fmt: skip


# -- letters -----------------------------------------------------------------------------------------------------------

GLAD = (
    "I was so glad to have your letter.", "What wonderful news you sent me!", "I am happier than I have been all year.",
    "We laughed all evening, it was lovely.", "The garden has never looked so beautiful.",
    "Everybody here is kind to me, and I am thankful.",
)  # fmt: skip
SAD = (
    "I am sorry that I did not write, it was a hard month.", "The rain will not stop, and I am tired of it.",
    "I miss our walks so much that it hurts.", "The festival was cancelled, what a disappointment.",
    "I quarrelled with my neighbour and slept badly.", "Everything I cooked this week was burnt.",
)  # fmt: skip
ASIDES = (
    "Yesterday I crossed {b} and thought of you.", "I met {x} at the market in {t}.", "I often think of {x}.",
    "<<tense/future|Next {d} I will travel to {t}.>>", "{x} asked after you twice.",
    "I stood on {b} and counted the boats.",
    "You should see how {x} has changed.", "On {d} I walked as far as {t}.",
)  # fmt: skip
LEARNT = ("You asked about {x}. ", "I found out more about {x}. ", "As for {x}: ", "Now to {x}. ")
CLOSINGS = ("With love,", "Your friend,", "Yours as ever,", "See you soon,", "Warm greetings,")


def letter(pen: Pen) -> Made:
    writer, reader, other = pen.persons(3)
    home = pen.world.value(writer, "home")
    away = [town for town in pen.world.kinds["town"] if town != home]
    mood, feelings = pen.pick((("positive", GLAD), ("negative", SAD)))
    body = [mark(text, f"sentiment/{mood}") for text in pen.some(feelings, pen.number(1, 2))]
    asides = [
        pen.tell(source, x=pen.term(other), t=pen.term(pen.pick(away)), d=pen.word("day"))
        for source in pen.some(ASIDES, pen.number(1, 3))
    ]
    body += asides
    body += [happening(pen, "I") for _ in range(pen.number(1, 2))]
    if pen.chance(0.3):
        body.append(happening(pen, pen.term(other)))
    pen.rng.shuffle(body)
    told = [fact for fact in pen.facts(other) if fact.value not in (writer, reader)]
    facts = pen.some(told, pen.number(1, 3))
    learnt = [pen.true(fact, "pronoun" if i or pen.chance(0.5) else "name") for i, fact in enumerate(facts)]
    opening, rest = pen.tell(LEARNT, x=pen.term(other)), sentences(learnt)
    body.append(join([opening, lower(rest) if opening.text.endswith(": ") else rest]))
    if pen.chance(0.4):
        body.append(pen.tell("Here in {t} all is as it was.", t=pen.term(str(home))))
    salutation = mark(pen.tell(("Dear {x},", "My dear {x},", "Hello {x},"), x=pen.term(reader)), "letter/salutation")
    closing = mark(join([pen.pick(CLOSINGS), "\n", pen.term(writer).plain]), "letter/closing")
    text = join([salutation, "\n\n", mark(sentences(body), "speaker/author"), "\n\n", closing, "\n"])
    if pen.chance(0.5):
        text = join([pen.term(str(home)).plain, ", ", date(pen), "\n\n", text])
    return Made("letter", "en", text)
