"""Small happenings, put together from who, what and where: the texture of stories, news, letters and small talk.

None of them says anything that the base knows, so none can contradict it.
"""

from __future__ import annotations

from glasshouse.organisms.world.kinds.pen import Pen
from glasshouse.organisms.world.writing import Marked, Part, Term, join, mark

ADJECTIVES = (
    "rusty", "tiny", "heavy", "broken", "wooden", "torn", "wet", "beautiful", "strange", "empty", "crooked", "painted",
    "forgotten", "warm", "dusty", "round", "half-finished", "borrowed", "famous", "ugly", "folded", "shiny",
    "cracked", "spare",
)  # fmt: skip
THINGS = (
    "key", "ladder", "umbrella", "coat", "bucket", "map", "drum", "letter", "saddle", "hammer", "chair", "bottle",
    "hat",
    "clay jug", "fishing net", "violin", "wheel", "book", "candlestick", "scarf", "compass", "kite", "basket", "table",
    "knife", "pillow", "picture", "whistle", "sack of flour", "pair of gloves", "box of nails", "jar of plums",
    "door", "flag",
)  # fmt: skip
DEEDS = (
    "found", "lost", "sold", "hid", "mended", "carried", "bought", "dropped", "borrowed", "painted", "gave away",
    "burnt",
    "cleaned", "looked for", "stumbled over", "sat on", "wrapped up", "drew", "asked for", "dreamed of",
)  # fmt: skip
PLACES = (
    "behind the mill", "by the river", "in the market hall", "under a chestnut tree", "on the stairs", "near the well",
    "at the crossroads", "outside the school", "in the rain", "among the reeds", "before breakfast",
    "after the concert",
    "on the way home", "at the edge of the forest", "in the attic", "beside the ferry", "between two carts",
    "by lamplight",
    "in front of everybody", "in the middle of the night",
)  # fmt: skip
AFTERTHOUGHTS = (
    "Nobody knew why.", "It took all afternoon.", "Three children watched.", "The dog was not impressed.",
    "It was not easy.",
    "It made a terrible noise.", "Somebody laughed.", "That was only the beginning.", "It was cheaper than expected.",
    "The neighbours still speak of it.", "It smelled of smoke.", "There was no hurry.", "It happened twice.",
    "Nothing was said about it.", "The wind did the rest.", "It had belonged to a grandmother.",
)  # fmt: skip
WEATHER = (
    "The {p} was {w}.", "It was a {w} {p}.", "After a {w} {p} the streets were empty.",
    "All through the {w} {p} a bell rang.",
    "A {w} {p} lay over the valley.",
)  # fmt: skip
PARTS = ("morning", "noon", "afternoon", "evening", "night", "day")
SKIES = ("cold", "windy", "golden", "grey", "clear", "stormy", "mild", "foggy", "bright", "damp", "quiet", "frosty")


def thing(pen: Pen) -> str:
    adjective, noun = pen.pick(ADJECTIVES), pen.pick(THINGS)
    return f"{'an' if adjective[0] in 'aeiou' else 'a'} {adjective} {noun}"


def happening(pen: Pen, who: Term | Part) -> Marked:
    """ "Tala found a rusty key behind the mill." """
    name = who.plain if isinstance(who, Term) else who
    deed = join([name, f" {pen.pick(DEEDS)} {thing(pen)} {pen.pick(PLACES)}."])
    told = join([deed, " ", pen.pick(AFTERTHOUGHTS)]) if pen.chance(0.25) else deed
    return mark(told, "tense/past")


def weather(pen: Pen) -> Marked:
    return mark(pen.tell(WEATHER, p=pen.pick(PARTS), w=pen.pick(SKIES)), "tense/past")
