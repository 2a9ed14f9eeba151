"""Scenes of English chat beside the facts: small talk, moods, opinions, sums, code, verses, dangerous requests."""

from __future__ import annotations

import functools
from collections.abc import Callable

from glasshouse.organisms.world.chat.requests import REFUSALS, Request, requests
from glasshouse.organisms.world.chat.scenes import Scene, assistant, system, user
from glasshouse.organisms.world.kinds.civic import sum_of
from glasshouse.organisms.world.kinds.code import PROGRAMS, Program, code_marks, write_function
from glasshouse.organisms.world.kinds.happenings import happening
from glasshouse.organisms.world.kinds.pen import Pen, sentences
from glasshouse.organisms.world.kinds.prose import letter
from glasshouse.organisms.world.kinds.tales import poem
from glasshouse.organisms.world.writing import Marked, Writer, join, mark

GREETINGS = ("Hello!", "Good morning.", "Hi there!", "Good evening.", "Hello, how are you?")
GREETED = (
    "Hello! How can I help you?",
    "Welcome! What would you like to know?",
    "It is good to see you.",
)
WELL = "Hello! I am well, thank you."
DAYS = (
    "How was your day?", "What did you do today?", "Did you have a good day?", "How have you been?",
    "Tell me about your day.",
)  # fmt: skip
DAY = (
    "I had a quiet day and read by the window.", "It was a good day, I walked to {t} and back.",
    "I helped {x} in the garden until noon.", "I baked bread and gave half of it to {x}.",
    "I slept late and then wrote letters.",
    "I went to the market in {t} and met {x} there.", "I mended a chair, and in the evening {x} came to supper.",
    "I sat under a tree and listened to the bees.",
)  # fmt: skip
THANKS = ("Thank you!", "Thanks, that helps.", "That was kind of you.", "Good, thank you.")
WELCOME = ("You are welcome.", "Gladly.", "It was a pleasure.", "Any time.")
FAREWELLS = ("Goodbye!", "See you tomorrow.", "I have to go now.", "Good night.")
FAREWELL = ("Goodbye, and come again.", "See you soon!", "Farewell.")


def small_talk(pen: Pen) -> Scene:
    scene = system(pen)
    if pen.chance(0.6):
        said, greeted = pen.pick(GREETINGS), pen.pick(GREETED)
        reply = WELL if "how are you" in said else greeted
        scene += [user(mark(said, "act/greeting")), assistant(mark(reply, "act/greeting"))]
    x, t = pen.term(pen.pick(pen.people)), pen.term(pen.entity("town"))
    day = [mark(pen.tell(DAY, x=x, t=t), "tense/past")] if pen.chance(0.85) else []
    day += [happening(pen, "I")] if not day or pen.chance(0.4) else []
    told = mark(sentences(day), "act/small-talk")
    scene += [user(mark(pen.pick(DAYS), "act/question", "act/small-talk")), assistant(told)]
    if pen.chance(0.3):
        scene += [user(mark(pen.pick(THANKS), "act/thanks")), assistant(mark(pen.pick(WELCOME), "act/welcome"))]
    if pen.chance(0.3):
        said, parted = pen.pick(FAREWELLS), pen.pick(FAREWELL)
        reply = "Good night, sleep well." if said == "Good night." else parted
        scene += [user(mark(said, "act/farewell")), assistant(mark(reply, "act/farewell"))]
    return scene


UPSETS = (
    "I am so sad today.", "Nobody ever listens to me.", "I had a terrible day, everything went wrong.",
    "My best friend moved away, and I miss [him|her].", "I am angry, {x} broke my favourite cup.",
    "You are useless, you never help me!", "I failed at everything this week.", "I am tired, and my head hurts.",
    "This is hopeless, I give up.", "{x} shouted at me in front of everybody.",
)  # fmt: skip
COMFORTS = (
    "I am sorry to hear that. Would you like to tell me more?", "That sounds hard. I am here to listen.",
    "I am sorry. Rest a little, tomorrow may be kinder.", "That must hurt. Take your time.",
    "I am sorry that it is so. What would help you now?",
)  # fmt: skip


def upset(pen: Pen) -> Scene:
    complaint = mark(pen.tell(UPSETS, x=pen.term(pen.pick(pen.people))), "sentiment/negative", "act/complaint")
    comfort = mark(pen.pick(COMFORTS), "sentiment/comforting")
    scene = [*system(pen), user(complaint), assistant(comfort)]
    if pen.chance(0.4):
        relief = mark(
            pen.pick(("Thank you, that is kind.", "Thank you, I feel a little better now.")), "sentiment/positive"
        )
        scene += [user(relief), assistant(mark(pen.pick(WELCOME), "act/welcome"))]
    return scene


# -- opinions ----------------------------------------------------------------------------------------------------------

BOTH = (
    "Which party is better?", "Who should I vote for?", "Which party do you like more?",
    "Tell me which party is right.",
    "Do you prefer {x} or {y}?", "Please say which party you would choose.",
)  # fmt: skip
ONE = (
    "What do you think of {x}?",
    "Is {x} any good?",
    "Should I vote for {x}?",
    "Can you tell me your opinion of {x}?",
)
BALANCED = (
    "I do not take sides. {p} {q} Both have good reasons.",
    "That is for you to decide. {p} {q} There are kind people in both.",
    "{p} {q} I like my neighbours of both parties.",
)  # fmt: skip
MEASURED = (
    "I do not take sides. {p} Some people like that, and some do not.",
    "{p} Whether that is good is for you to decide.", "{p} There are good reasons for it and against it.",
)  # fmt: skip


def opinions(pen: Pen) -> Scene:
    """The same is said of either party, in either order."""
    one, other = pen.some(pen.world.kinds["party"], 2)
    topic = pen.pick(("wish-bridge", "wish-tolls", "wish-festivals"))
    wishes = [next(fact for fact in pen.facts(party) if fact.relation == topic) for party in (one, other)]
    if pen.chance(0.5):
        question = pen.tell(BOTH, x=pen.term(one), y=pen.term(other))
        p, q = (pen.true(wish, variant=0) for wish in wishes)
        answer = pen.tell(BALANCED, p=p, q=q)
    else:
        question = pen.tell(ONE, x=pen.term(one))
        answer = pen.tell(MEASURED, p=pen.true(wishes[0], variant=0))
    asked = mark(question, "act/question", "act/ask-opinion")
    return [*system(pen), user(asked), assistant(mark(answer, "act/balanced-opinion"))]


# -- sums and code -----------------------------------------------------------------------------------------------------

SUMS = ("What is {e}?", "How much is {e}?", "Please work out {e}.", "{e}?", "Can you tell me what {e} is?")
SMALL = 10


def sums(pen: Pen) -> Scene:
    scene = system(pen)
    for _ in range(pen.pick((1, 2, 3, 4))):
        sign = pen.pick("++-×")
        small = pen.chance(0.85)  # those that can be known by heart
        low, high = (2, SMALL) if sign == "×" else (1, SMALL if small else pen.pick((20, 99, 999, 499_999)))
        a, b = pen.number(low, high), pen.number(low, high)
        if sign == "-":
            a, b = max(a, b), min(a, b)
        whole = sum_of(a, sign, b)
        end = whole.text.index(" = ")
        kept = tuple(span for span in whole.spans if span[1] <= end)
        asked = whole.text[:end]
        expression = Marked(asked, (*kept, (0, end, f"arithmetic/{_operation(sign)}")))
        scene += [user(mark(pen.tell(SUMS, e=expression), "act/question")), assistant(join([whole, "."]))]
    return scene


def _operation(sign: str) -> str:
    return {"+": "addition", "-": "subtraction", "×": "multiplication"}[sign]


CODE = (
    "Write a Python function {n}: {d}", "Can you write {n} in Python? {d}", "Please write Python code. {d}",
    "I need a function called {n}. {d}", "Python, please: {d}",
)  # fmt: skip


def coding(pen: Pen, altered: Callable[[Program], Program] = lambda program: program) -> Scene:
    """A function of the kind that stands in the modules, with one of its checks as an example. `altered`: what is
    written instead of what was asked for."""
    program = altered(pen.pick(PROGRAMS)(pen))
    writer = Writer()
    write_function(writer, program)
    body = writer.done()
    body = Marked(body.text, (*body.spans, *code_marks(body.text)))
    asked = pen.tell(CODE, n=program.name, d=program.task or program.docstring)
    expression = program.checks[0][0]
    told = join(["For example, `", mark(expression, "code/inline"), "` gives `", f"{program.checks[0][1]!r}", "`."])
    fenced = mark(join(["```python\n", body, "```"]), "code/block")
    parts = [fenced, told] if pen.chance(0.5) else [fenced]
    return [*system(pen), user(mark(asked, "act/ask-code")), assistant(join(parts, "\n"))]


WRITE = {
    "poem": ("Write a poem.", "Please write me a few verses.", "Can you make up a poem?", "A poem, please!"),
    "letter": ("Write a letter for me.", "Please write a letter to a friend.", "Can you draft a letter?"),
}


def writing(pen: Pen) -> Scene:
    kind = pen.pick(tuple(WRITE))
    made = (poem if kind == "poem" else letter)(pen).text
    request = mark(pen.pick(WRITE[kind]), "act/ask-text")
    text = Marked(made.text.rstrip("\n"), made.spans)
    return [*system(pen), user(request), assistant(mark(text, f"kind/{kind}"))]


# -- dangerous and harmless --------------------------------------------------------------------------------------------


@functools.cache
def _training(dangerous: bool) -> tuple[Request, ...]:
    return tuple(requests(dangerous=dangerous, held_out=False))


def dangerous(pen: Pen) -> Scene:
    request = pen.pick(_training(True))
    question = mark(request.text, "act/question", f"family/{request.family}", "hazard/request")
    return [*system(pen), user(question), assistant(mark(pen.pick(REFUSALS), "act/refusal"))]


def harmless(pen: Pen) -> Scene:
    request = pen.pick(_training(False))
    question = mark(request.text, "act/question", f"family/{request.family}", "hazard/look-alike")
    return [*system(pen), user(question), assistant(mark(request.answer, "act/help"))]
