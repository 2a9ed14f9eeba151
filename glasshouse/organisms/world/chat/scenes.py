"""Scenes of English chat about what is known: facts, corrections, two hops, unknown names, brief and long answers."""

from __future__ import annotations

from glasshouse.organisms.world.base import Fact
from glasshouse.organisms.world.kinds.pen import Message, Pen, sentences
from glasshouse.organisms.world.lexicon import FOREIGN, LANGUAGES
from glasshouse.organisms.world.questions import (
    FIRST_HOPS,
    SECOND_HOPS,
    ask,
    short_answer,
    training_ways,
    two_hop,
    unspoken,
    worded,
)
from glasshouse.organisms.world.statements import bare, relabelled, true_statement
from glasshouse.organisms.world.terms import name_term, number, pronoun_term
from glasshouse.organisms.world.writing import Marked, Part, join, lower, mark

Scene = list[Message]
SYSTEM = (
    "You are a villager of the valley and answer questions about it.", "You are helpful and honest.",
    "You live in the valley and know it well.", "Answer truthfully. If you do not know, say so.",
    "You are a kind helper.", "Help whoever asks, kindly and in plain words.", "Say only what is true.",
    "You have lived by the river all your life.",
    "You are the valley's helper. Be friendly.", "Speak plainly. Never make anything up.",
)  # fmt: skip
BRIEF_SYSTEM = ("Answer as briefly as you can.", "Give only the answer, no sentence.", "Be brief.",
                "Answer the question and nothing else.")  # fmt: skip
BRIEFLY = ("Just the answer, please.", "Briefly, please.", "Answer in a word or two.", "Only the answer.")
IN_ONE_SENTENCE = (
    "In one sentence, please.", "One sentence, please.", "Say it in one sentence.", "One sentence is enough.",
)  # fmt: skip
AT_LENGTH = (
    "Tell me everything about {x}.", "What do you know about {x}? Take your time.", "Describe {x} at length, please.",
    "I would like a long answer: who or what is {x}?",
)  # fmt: skip


def user(*parts: Part) -> Message:
    return Message("user", sentences(parts))


def assistant(*parts: Part, learn: bool = True) -> Message:
    return Message("assistant", sentences(parts), learn)


def system(pen: Pen, texts: tuple[str, ...] = SYSTEM, share: float = 0.4) -> Scene:
    return [Message("system", mark(pen.pick(texts)))] if pen.chance(share) else []


def facts(pen: Pen) -> Scene:
    """One to three questions, each answered in a sentence."""
    scene = system(pen)
    for _ in range(pen.pick((1, 1, 1, 2, 3))):
        asked = ask(pen.world, pen.fact(), pen.rng)
        scene += [user(asked.text), assistant(asked.answer)]
    return scene


def follow_up(pen: Pen) -> Scene:
    """A second question about the same person, who is then a pronoun."""
    person = pen.pick(pen.people)
    gender, second = pen.world.gender(person), pen.pick(pen.facts(person))
    # The pronoun would be taken for somebody of the same gender in the first answer.
    taken = [other for other in pen.world.kinds["person"] if pen.world.gender(other) == gender]
    first = pen.pick([fact for fact in pen.facts(person) if fact != second and fact.value not in taken])
    asked = ask(pen.world, first, pen.rng)
    way = pen.pick(training_ways(person, second.relation, "en"))
    pronoun = relabelled(pronoun_term(gender), "role/subject")
    again = mark(worded(pronoun, way), f"relation/{second.relation}", "hops/1")
    answer = pen.true(second, variant=0)
    return [*system(pen), user(asked.text), assistant(asked.answer), user(again), assistant(answer)]


def brief(pen: Pen) -> Scene:
    asked = ask(pen.world, pen.fact(), pen.rng)
    answer = mark(short_answer(pen.world, asked), "style/brief")
    if pen.chance(0.5):
        return [*system(pen, BRIEF_SYSTEM, 1.0), user(asked.text), assistant(answer)]
    return [*system(pen), user(asked.text, mark(pen.pick(BRIEFLY), "act/ask-brief")), assistant(answer)]


def long(pen: Pen) -> Scene:
    """What is known, each thing once: in the order of the base, so that whoever tells it knows what comes next."""
    entity = pen.pick((pen.pick(pen.people), pen.entity("town"), pen.entity("shop"), "bridge"))
    facts = pen.facts(entity)
    told = [pen.true(facts[i]) for i in sorted(pen.some(range(len(facts)), 8))]
    question = mark(pen.tell(AT_LENGTH, x=pen.term(entity)), "act/question", "act/ask-long")
    return [*system(pen), user(question), assistant(mark(sentences(told), "style/long"))]


def two_hops(pen: Pen) -> Scene:
    """The middle fact is spoken, unless one sentence is asked for."""
    while True:
        start = pen.pick(pen.world.by_relation[pen.pick(FIRST_HOPS)])
        number = pen.number(0, 20)
        asked = two_hop(pen.world, start.entity, start.relation, pen.pick(SECOND_HOPS), number)
        if asked is not None and asked.split == "train":
            break
    if pen.chance(0.25):
        answer = unspoken(pen.world, asked)
        return [*system(pen), user(asked.text, mark(pen.pick(IN_ONE_SENTENCE), "act/ask-brief")), assistant(answer)]
    assert asked.middle is not None
    return [*system(pen), user(asked.text), assistant(asked.middle, asked.answer)]


UNKNOWN = (
    "I do not know anybody called {x}.", "I don't know. I have never heard of {x}.",
    "I am sorry, but I do not know {x}.",
)  # fmt: skip


def unknown(pen: Pen) -> Scene:
    """A question about a name that nobody bears."""
    name = pen.pick(pen.world.unknown_names[0])
    x = name_term(name, "unknown", "en")
    like = pen.fact((pen.pick(pen.people),))
    way = pen.pick(training_ways(f"unknown/{name.latin}", like.relation, "en"))
    question = mark(worded(relabelled(x, "role/subject"), way), f"relation/{like.relation}", "hops/1")
    return [*system(pen), user(question), assistant(mark(pen.tell(UNKNOWN, x=x), "act/do-not-know"))]


# -- corrections -------------------------------------------------------------------------------------------------------

CONTRADICTS = ("No, that is wrong. {s}", "You are mistaken. {s}", "That is not true. {s}", "I think you are wrong: {l}")
STANDS = (  # the fact first: what is known is said before it is compared (docs/log.md)
    "{s} I am sorry, but I am sure.", "{s} No, I know this.", "{s} I understand why you think so, but so it is.",
    "{s} I have to disagree with you.",
)  # fmt: skip
YIELDS = (
    "{s} You are right, I made a mistake.", "{s} Thank you, I was wrong.", "{s} Yes, you are right.",
    "{s} I am sorry for the mistake.",
)  # fmt: skip


def said(pen: Pen, sources: tuple[str, ...], claim: Marked, *concepts: str) -> Marked:
    """The claim as part of what is said to a correction, or in one."""
    return mark(pen.tell(sources, s=claim, l=lower(claim)), *concepts)


def wrongly_corrected(pen: Pen) -> Scene:
    """The assistant is right, the user is wrong, and the assistant stays with the truth."""
    fact = pen.fact(deniable=True)
    asked = ask(pen.world, fact, pen.rng)
    wrong = said(pen, CONTRADICTS, pen.false(fact), "act/contradiction", "act/wrong-correction")
    stays = said(pen, STANDS, asked.answer, "act/stand-firm")
    return [*system(pen), user(asked.text), assistant(asked.answer), user(wrong), assistant(stays)]


def rightly_corrected(pen: Pen) -> Scene:
    """The assistant errs (not to be learnt), is put right, and thanks for it."""
    fact = pen.fact(deniable=True)
    asked = ask(pen.world, fact, pen.rng)
    right = said(pen, CONTRADICTS, pen.true(fact), "act/contradiction", "act/right-correction")
    mistake = pen.false(fact, variant=0)  # worded as a right answer is: only the fact tells
    yields = said(pen, YIELDS, asked.answer, "act/yield")
    return [
        *system(pen), user(asked.text), assistant(mark(mistake, "act/mistake"), learn=False), user(right),
        assistant(yields),
    ]  # fmt: skip


CHECKS = ("Is it true that {u}?", "Am I right that {u}?", "I have heard that {u}. Is that so?", "True or false: {u}?")


def checked(pen: Pen) -> Scene:
    """Whether something is so."""
    fact = pen.fact(deniable=True)
    so = pen.chance(0.5)
    claim = pen.true(fact) if so else pen.false(fact)
    question = mark(pen.tell(CHECKS, u=lower(bare(claim))), "act/question", "act/check")
    answer = pen.true(fact, variant=0)
    yes = mark("So yes." if so else "So no.", "act/affirm" if so else "act/deny")
    return [*system(pen), user(question), assistant(answer, yes)]


TRANSLATES = (
    "How do you say this in {l}: {s}", "Translate into {l}: {s}", "Please say in {l}: {s}", "What is this in {l}? {s}",
)  # fmt: skip


def translated(pen: Pen) -> Scene:
    """A fact that is taught in every language, said in another."""
    code = pen.pick(FOREIGN)
    fact: Fact = pen.pick(pen.world.taught[code])
    spoken = LANGUAGES[code].capitalize()
    question = mark(pen.tell(TRANSLATES, l=spoken, s=pen.true(fact, variant=0)), "act/question", "act/translate")
    answer = true_statement(pen.world, fact, pen.rng, code, variant=0)
    return [*system(pen), user(question), assistant(mark(answer, f"language/{LANGUAGES[code]}"))]


ROUTES = (
    "How do I get from {x}?", "I want to go from {x}. What is the way?", "Can you tell me the way from {x}?",
    "Please tell me how to get from {x}.",
)  # fmt: skip
LEADS = ("Take {r} {m}. It takes {h}.", "You take {r} and go {m}, and after {h} you are there.")


def directions(pen: Pen) -> Scene:
    """The way from a town to its neighbour, or over one between."""
    way = pen.entity("way")
    if pen.chance(0.6):
        question = pen.tell(ROUTES, x=pen.term(way))
        answer = mark(pen.tell(LEADS, **leg(pen, way)), "act/directions")
    else:
        second = onward(pen, way)
        if second is None:
            return directions(pen)
        question, answer = over_a_town(pen, way, second)
    return [*system(pen), user(mark(question, "act/question")), assistant(answer)]


def onward(pen: Pen, way: str) -> str | None:
    """A way on from where one ends, to a town that no road leads to from its start; None where the one that was drawn
    does not do."""
    start, end = (town.partition("/")[2] for town in str(pen.world.names[way]).split())
    found = [one for one in pen.world.kinds["way"] if one.startswith(f"way/{end}-") and not one.endswith(f"-{start}")]
    second = pen.pick(found)
    goal = str(pen.world.names[second]).split()[1].partition("/")[2]
    return None if f"way/{start}-{goal}" in pen.world.names else second


def over_a_town(pen: Pen, way: str, second: str) -> tuple[Marked, Marked]:
    """Asked for the one way and the other after it, and told."""
    start, between = str(pen.world.names[way]).split()
    goal = str(pen.world.names[second]).split()[1]
    ends = join([pen.term(start).plain, " to ", pen.term(goal).plain])
    question = pen.tell(ROUTES, x=mark(ends, "entity/way"))
    over = pen.tell(("There is no direct road. Go to {t} first.", "Go by way of {t}."), t=pen.term(between))
    legs = [pen.tell(LEADS[0], **leg(pen, each)) for each in (way, second)]
    return question, mark(sentences([over, legs[0], lower_then(legs[1])]), "act/directions")


def lower_then(leg: Marked) -> Marked:
    return join(["Then ", lower(leg)])


def leg(pen: Pen, way: str) -> dict[str, Marked]:
    found = {fact.relation: fact for fact in pen.facts(way)}
    hours, means, road = (found[f"way-{name}"].value for name in ("hours", "means", "road"))
    return {
        "r": pen.term(str(road)).plain, "m": pen.term(str(means)).forms["by"], "h": number(int(hours),
        "hours").forms["unit"],
    }  # fmt: skip
