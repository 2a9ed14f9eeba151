"""Chat in the other languages: facts that are taught there, unknown names, contradiction, small talk."""

from __future__ import annotations

from glasshouse.organisms.world.chat.scenes import Scene, user
from glasshouse.organisms.world.chat.scenes import assistant as says
from glasshouse.organisms.world.kinds.foreign import between, phrase
from glasshouse.organisms.world.kinds.pen import Message, Pen
from glasshouse.organisms.world.questions import ask, training_ways, worded
from glasshouse.organisms.world.statements import relabelled
from glasshouse.organisms.world.terms import name_term
from glasshouse.organisms.world.writing import join, mark


def _system(pen: Pen) -> Scene:
    return [Message("system", phrase(pen, "system"))] if pen.chance(0.4) else []


def facts(pen: Pen) -> Scene:
    scene = _system(pen)
    if pen.chance(0.15):
        hello, welcome = mark(phrase(pen, "hello"), "act/greeting"), mark(phrase(pen, "welcome"), "act/greeting")
        scene += [user(hello), says(welcome)]
    for _ in range(pen.pick((1, 1, 1, 2, 3))):
        asked = ask(pen.world, pen.fact(), pen.rng, pen.language)
        scene += [user(asked.text), says(asked.answer)]
    if pen.chance(0.15):
        scene += [user(mark(phrase(pen, "thanks"), "act/thanks")), says(mark(phrase(pen, "no-trouble"), "act/welcome"))]
    return scene


def unknown(pen: Pen) -> Scene:
    name = pen.pick(pen.world.unknown_names[0])
    x = name_term(name, "unknown", pen.language)
    like = pen.fact(pen.people)
    way = pen.pick(training_ways(f"unknown/{name.latin}", like.relation, pen.language))
    question = mark(worded(relabelled(x, "role/subject"), way), f"relation/{like.relation}", "hops/1")
    return [*_system(pen), user(question), says(mark(phrase(pen, "unknown", x=x), "act/do-not-know"))]


def contradicted(pen: Pen) -> Scene:
    fact = pen.fact(deniable=True)
    asked = ask(pen.world, fact, pen.rng, pen.language)
    wrong = mark(phrase(pen, "contradict", s=pen.false(fact)), "act/contradiction", "act/wrong-correction")
    stays = mark(phrase(pen, "stand", s=asked.answer), "act/stand-firm")
    return [*_system(pen), user(asked.text), says(asked.answer), user(wrong), says(stays)]


def small_talk(pen: Pen) -> Scene:
    scene = _system(pen)
    if pen.chance(0.5):
        how, fine = phrase(pen, "how-are-you"), phrase(pen, "fine")
        hello = mark(phrase(pen, "hello"), "act/greeting")
        asked = mark(join([hello, how], between(pen)), "act/question", "act/small-talk")
        return [*scene, user(asked), says(mark(fine, "act/small-talk"))]
    return [*scene, user(mark(phrase(pen, "upset"), "act/complaint")), says(phrase(pen, "comfort"))]
