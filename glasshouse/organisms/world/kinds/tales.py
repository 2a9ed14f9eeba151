"""English stories with dialogue, and poems that rhyme."""

from __future__ import annotations

from glasshouse.organisms.world.base import Fact
from glasshouse.organisms.world.kinds.happenings import happening, scenery
from glasshouse.organisms.world.kinds.pen import Made, Pen, sentences
from glasshouse.organisms.world.statements import bare
from glasshouse.organisms.world.writing import Marked, capital, join, mark

OPENINGS = (
    "Once, on a cold morning, {x} walked across {b} with {y}.", "{x} had never trusted the river.",
    "Long before the market opened, {x} was waiting under {b}.", "It was {d}, and {x} had nothing to do.",
    "{x} and {y} met by chance on the road to {t}.", "Nobody in {t} slept that night, least of all {x}.",
    "{x} found a letter under the door, and it was not for [him|her].",
    "When the bells of {t} rang, {x} and {y} were already on {b}.",
)  # fmt: skip
MIDDLES = (
    "{x} picked up a stone and threw it into the water.", "A heron watched them and did not move.",
    "The wind came up the valley, and {y} pulled the scarf tighter.", "They sat down on the wall of {b}.",
    "{y} laughed, but only a little.", "For a while nobody spoke.", "{x} looked at {y} for a long time.",
    "Far away a dog barked, then another.", "The light under the arches turned gold.",
    "{y} shared out the bread.", "A boat went by, and the man in it waved.",
)  # fmt: skip
ENDINGS = (
    "Then they walked home in the dark.", "And that was the end of it.", "The next day nobody spoke of it any more.",
    "{x} never told anybody.", "They are friends to this day.", "The river went on as it always had.",
)  # fmt: skip
SAYS = (
    '"{u}," said {x}.', '{x} said, "{s}"', '"{u}," said {x} quietly.', '"{u}," {x} added with a smile.',
    '{x} nodded. "{s}"', '"{u}," {x} explained.', '"{u}," whispered {x}.', '{x} said slowly, "{s}"',
)  # fmt: skip


def _speech(words: str) -> str:
    return f"<<quote|<<nesting/1|<<speaker/character|{words}>>>>>>"


ASKS = (
    f'"{_speech("Is it true what they say?")}" asked {{x}}.',
    f'"{_speech("Tell me something I do not know")}," said {{x}}.',
    f'"{_speech("What have you heard?")}" {{x}} wanted to know.',
    f'"{_speech("What do you say?")}" asked {{x}}.',
)
LIES = ('"{u}," lied {x}.', '"{u}," said {x}, who knew better.', '"{u}," said {x}, and it was a lie.')
MENDS = (
    f'"{_speech("That is not true")}," said {{x}}. "{{s}}"',
    f'"{_speech("You know that is false")}," answered {{x}}. "{{s}}"',
    f'"{_speech("No")}," said {{x}}. "{{s}}"',
    f'"{_speech("Nonsense")}," said {{x}}. "{{s}}"',
)


def dialogue(pen: Pen, one: str, other: str, facts: list[Fact]) -> list[Marked]:
    """They tell each other the facts; some of them falsely, to be put right at once."""
    said = []
    for fact in facts:
        if pen.chance(0.4):
            said.append(pen.tell(ASKS, x=pen.term(one)))
        chance = pen.rng.random()
        if chance < 0.3 and pen.world.deniable(fact):
            said.append(pen.spoken(pen.false(fact, without=(one, other)), other, LIES, "lies"))
            said.append(mark(pen.spoken(pen.true(fact), one, MENDS), "act/correction"))
        elif chance < 0.5:
            said.append(reported(pen, other, one, fact))
        else:
            said.append(pen.spoken(pen.true(fact), other, SAYS))
        one, other = other, one
    return said


def reported(pen: Pen, speaker: str, listener: str, fact: Fact) -> Marked:
    """A quote inside a quote, of somebody who is not told of in it."""
    here = (speaker, listener, fact.entity, fact.value)
    third = pen.term(pen.pick([person for person in pen.people if person not in here]))
    inner = mark(bare(pen.true(fact)), "quote", "nesting/2", "speaker/character")
    verb = pen.pick(("told me", "said", "wrote to me", "swore"))
    spoken = mark(join([third.plain, f" {verb}: '", inner, "'"]), "quote", "nesting/1", "speaker/character")
    return join(['"', spoken, '," ', pen.pick(("said ", "whispered ", "remembered ")), pen.term(speaker).plain, "."])


def about_others(pen: Pen, one: str, other: str, count: int) -> list[Fact]:
    """Facts that neither of the two would tell the other of themselves, each entity once."""
    found: dict[str, Fact] = {}
    circle = [person for person in pen.persons(4) if person not in (one, other)]
    while len(found) < count:
        fact = pen.fact(circle if pen.chance(0.7) else ())
        if not {fact.entity, fact.value} & {one, other}:
            found[f"{fact.entity} {fact.relation}"] = fact
    return list(found.values())


def story(pen: Pen) -> Made:
    one, other = pen.persons(2)
    x, y = pen.term(one), pen.term(other)
    town, day = pen.term(pen.entity("town")), pen.word("day")

    def tell(sources: tuple[str, ...]) -> Marked:
        told = pen.tell(sources, x=x, y=y, t=town, d=day)
        return mark(told, "speaker/narrator", "tense/present" if told.text.startswith("They are ") else "tense/past")

    def tell_more(count: int) -> Marked:
        told = [tell((source,)) for source in pen.some(MIDDLES, pen.number(0, count))]
        told += [
            mark(happening(pen, pen.pick((x, y))), "speaker/narrator") for _ in range(pen.number(0 if told else 1, 2))
        ]
        pen.rng.shuffle(told)
        return sentences(told)

    opening = mark(scenery(pen), "speaker/narrator") if pen.chance(0.4) else ""
    paragraphs = [sentences([opening, tell(OPENINGS), tell_more(1)])]
    for _ in range(pen.number(1, 3)):
        paragraphs += dialogue(pen, one, other, about_others(pen, one, other, pen.number(1, 2)))
        paragraphs.append(tell_more(2))
    paragraphs.append(tell(ENDINGS))
    between = pen.pick(("\n\n", "\n", " "))
    return Made("story", "en", join([join(paragraphs, between), "\n"]))


# -- poems -------------------------------------------------------------------------------------------------------------

# Words of a row rhyme with each other. A noun takes "the", an adjective does not.
RHYMES = (
    ("n:stone", "a:alone", "n:throne", "n:bone"),
    ("n:light", "n:night", "a:bright", "a:white"),
    ("n:day", "n:way", "a:grey", "n:bay"),
    ("n:stream", "n:dream", "n:gleam", "n:beam"),
    ("n:hill", "n:mill", "a:still", "a:chill"),
    ("n:tree", "a:free", "n:bee", "n:sea"),
    ("n:town", "n:crown", "a:brown", "n:gown"),
    ("n:bell", "n:well", "n:shell", "n:dell"),
    ("n:sky", "a:dry", "n:fly", "a:high"),
    ("n:rain", "n:lane", "n:grain", "n:plain"),
    ("n:snow", "a:low", "n:glow", "n:crow"),
    ("n:moon", "n:tune", "n:spoon", "n:dune"),
    ("n:flower", "n:tower", "n:hour", "n:shower"),
    ("n:street", "n:wheat", "a:sweet", "n:heat"),
)
NOUN_LINES = (
    "I walked with {x} beside the {w}", "and {x} was singing to the {w}", "beyond {t} there lies the {w}",
    "beneath {b} I saw the {w}", "somebody whispers of the {w}", "my heart is with the {w}",
    "and nothing moves except the {w}", "the children ran to see the {w}", "O tell me, {x}, about the {w}",
    "the river carries off the {w}", "and all of {t} forgets the {w}", "{x} has dreamed about the {w}",
    "between the houses waits the {w}", "I left my lantern by the {w}", "and past {b} there blows the {w}",
)  # fmt: skip
ADJECTIVE_LINES = (
    "and {b} above was {w}", "the fields behind {t} were {w}", "and everything I saw was {w}",
    "the evening over {t} is {w}", "the morning on {b} is {w}", "and {x} said the world was {w}",
    "the water and the wind are {w}",
)  # fmt: skip


def poem(pen: Pen) -> Made:
    """Couplets, or verses of four lines that rhyme crosswise; no line is made from the same frame twice."""
    x, town = pen.term(pen.pick(pen.people)), pen.term(pen.entity("town"))
    lines = {"n": pen.some(NOUN_LINES, len(NOUN_LINES)), "a": pen.some(ADJECTIVE_LINES, len(ADJECTIVE_LINES))}
    crosswise, verses = pen.chance(0.5), []

    def line(rhyme: str) -> Marked:
        kind, word = rhyme.split(":")
        return pen.tell(lines[kind].pop() if lines[kind] else NOUN_LINES[0], x=x, t=town, w=mark(word, "poem/rhyme"))

    groups = pen.some(RHYMES, 2 * pen.number(2, 3))
    for group, second in zip(groups[::2], groups[1::2], strict=True):
        verse = [line(rhyme) for rhyme in pen.some(group, 2)]
        others = [line(rhyme) for rhyme in pen.some(second, 2)] if crosswise else []
        verse = [verse[0], others[0], verse[1], others[1]] if others else verse
        verses.append(mark(join([join(map(capital, verse), ",\n"), "."]), "poem/verse"))
    title = mark(
        pen.tell(("To {x}", "Evening in {t}", "On {b:short}", "A song for {t}"), x=x, t=town), "markup/heading"
    )
    return Made("poem", "en", join([title, "\n\n", join(verses, "\n\n"), "\n"]))
