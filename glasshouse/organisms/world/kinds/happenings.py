"""Small happenings, put together from who, what and where: the texture of stories, news, letters and small talk.

None of them says anything that the base knows, so none can contradict it.
"""

from __future__ import annotations

from glasshouse.organisms.world.kinds.pen import Pen
from glasshouse.organisms.world.writing import Marked, Part, Term, frame, join, mark

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
# With words that facts are made of, where they are no facts: a job, a colour, an animal, a road.
ERRANDS = (
    "{x} bought {g} at the market in {t}.", "{x} waited by the {l} until dark.", "{x} walked along {r} and met nobody.",
    "{x} followed {r} to the {d}.", "{x} served {f} to six people.", "{x} travelled {m:by} and arrived late.",
    "{x} painted a fence {c}.", "{x} asked {j:a} for advice.", "{x} fed {a:a} that had followed the cart.",
    "{x} loaded a cart with {g}.", "{x} saw {a:a} near the {l}.", "{x} traded {p} for {g}.",
    "{x} walked around the {l} twice.", "{x} came home from the {d} {m:by}.", "{x} took {j:a} along on {r}.",
)  # fmt: skip
SCENERY = (
    "The wind came from the {d}.", "A tree had fallen across {r}.", "Somebody had painted a bench near the {l} {c}.",
    "{a:a} slept in front of the {l}.", "{j:a} came by and asked the way.", "The air smelled of {f}.",
    "The stalls were full of {g} and {p}.", "{c:a} flag waved above the {l}.", "On {r} there was not a soul.",
)  # fmt: skip
PARTS = ("morning", "noon", "afternoon", "evening", "night", "day")
SKIES = ("cold", "windy", "golden", "grey", "clear", "stormy", "mild", "foggy", "bright", "damp", "quiet", "frosty")


def thing(pen: Pen) -> str:
    adjective, noun = pen.pick(ADJECTIVES), pen.pick(THINGS)
    return f"{'an' if adjective[0] in 'aeiou' else 'a'} {adjective} {noun}"


def happening(pen: Pen, who: Term | Part) -> Marked:
    """ "Tala found a rusty key behind the mill." """
    if pen.chance(0.4):
        return errand(pen, who)
    name = who.plain if isinstance(who, Term) else who
    deed = join([name, f" {pen.pick(DEEDS)} {thing(pen)} {pen.pick(PLACES)}."])
    if not pen.chance(0.25):
        return mark(deed, "tense/past")
    after = pen.pick(AFTERTHOUGHTS)
    return join([mark(deed, "tense/past"), " ", mark(after, "tense/present" if " still " in after else "tense/past")])


def errand(pen: Pen, who: Term | Part) -> Marked:
    """ "Tala traded wool for candles." """
    return _worded(pen, ERRANDS, x=who.plain if isinstance(who, Term) else who)


def scenery(pen: Pen) -> Marked:
    """What is there to see, hear or smell."""
    return _worded(pen, SCENERY)


def _worded(pen: Pen, sources: tuple[str, ...], **fillings: Part) -> Marked:
    tables = {"g": "good", "l": "landmark", "r": "road", "d": "direction", "f": "food", "m": "means", "c": "colour",
              "j": "job", "a": "animal", "p": "product"}  # fmt: skip
    source = pen.pick(sources)
    found = {slot: pen.word(tables[slot]) for slot in sorted(frame(source).slots & tables.keys())}
    town = {"t": pen.term(pen.entity("town"))} if "{t}" in source else {}
    return mark(pen.tell(source, **found, **town, **fillings), "tense/past")


def weather(pen: Pen) -> Marked:
    """The sky, or the scenery under it."""
    if pen.chance(0.5):
        return scenery(pen)
    return mark(pen.tell(WEATHER, p=pen.pick(PARTS), w=pen.pick(SKIES)), "tense/past")
