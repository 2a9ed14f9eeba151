"""The base: who and what there is in the valley, and every fact about them. All text follows from it.

    world = build(seed=0)
    world.value("person/Mifen", "job")            # "job/miller"
    world.facts, world.held_out_facts             # the second are never stated anywhere

Towns, teams and parties are the same for every seed; people, shops, events and all that is said of them are not.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

from glasshouse.organisms.world import names
from glasshouse.organisms.world.lexicon import FOREIGN, LANGUAGES, words
from glasshouse.organisms.world.names import Name

NOW = 481  # the year in which everything is written
FAMILIES, SHARED_FAMILIES = 24, 3  # of four people each; the facts of the shared ones are told in every language
SHOPS, EVENTS = 24, 30
HELD_OUT_FACTS = 40
HELD_OUT_RELATIONS = ("food", "colour", "hobby", "dislike", "team")  # no other fact follows from these
UNKNOWN_NAMES = 400  # of each gender, half of them for training

Value = str | int


class Relation(NamedTuple):
    """What is said of an entity of kind `subject`: a value of kind `range` (a table of words, a kind of entity, or a
    use of numbers). `foreign`: said in the other languages too."""

    name: str
    subject: str
    range: str
    meaning: str
    foreign: bool = False


RELATIONS = {
    relation.name: relation
    for relation in (
        Relation("job", "person", "job", "what somebody does for a living", True),
        Relation("home", "person", "town", "the town somebody lives in", True),
        Relation("born", "person", "year", "the year somebody was born in", True),
        Relation("food", "person", "food", "what somebody likes best to eat", True),
        Relation("colour", "person", "colour", "somebody's favourite colour", True),
        Relation("pet", "person", "animal", "the animal somebody keeps", True),
        Relation("pet-name", "person", "pet", "what somebody's animal is called", True),
        Relation("party", "person", "party", "the party somebody votes for", True),
        Relation("surname", "person", "family", "somebody's family name"),
        Relation("team", "person", "team", "the team somebody supports"),
        Relation("hobby", "person", "hobby", "what somebody does in the evening"),
        Relation("dislike", "person", "dislike", "what somebody cannot stand"),
        Relation("mother", "person", "person", "somebody's mother", True),
        Relation("father", "person", "person", "somebody's father", True),
        Relation("sister", "person", "person", "somebody's sister", True),
        Relation("brother", "person", "person", "somebody's brother", True),
        Relation("husband", "person", "person", "somebody's husband", True),
        Relation("wife", "person", "person", "somebody's wife", True),
        Relation("founded", "town", "year", "the year a town was founded in", True),
        Relation("mayor", "town", "person", "a town's mayor", True),
        Relation("product", "town", "product", "what a town is known for", True),
        Relation("market-day", "town", "day", "the day of a town's market"),
        Relation("population", "town", "count", "how many people live in a town"),
        Relation("direction", "town", "direction", "where a town lies, seen from the bridge"),
        Relation("sight", "town", "landmark", "what a town shows its visitors"),
        Relation("captain", "team", "person", "a team's captain"),
        Relation("team-colour", "team", "colour", "the colour a team plays in"),
        Relation("team-founded", "team", "year", "the year a team was founded in"),
        Relation("owner", "shop", "person", "a shop's owner"),
        Relation("shop-town", "shop", "town", "the town a shop is in"),
        Relation("sells", "shop", "good", "what a shop sells"),
        Relation("opens", "shop", "hour", "the hour a shop opens at"),
        Relation("price", "shop", "price", "what a shop asks for what it sells, in coins"),
        Relation("event-year", "event", "year", "the year of an event"),
        Relation("event-town", "event", "town", "the town an event began in"),
        Relation("event-days", "event", "days", "how many days an event lasted"),
        Relation("way-hours", "way", "hours", "how many hours a way between two towns takes"),
        Relation("way-means", "way", "means", "how one travels on a way between two towns"),
        Relation("way-road", "way", "road", "the road between two towns"),
        Relation("leader", "party", "person", "a party's leader"),
        Relation("party-colour", "party", "colour", "a party's colour"),
        Relation("party-founded", "party", "year", "the year a party was founded in"),
        Relation("wish-bridge", "party", "wish", "what a party wants of the bridge"),
        Relation("wish-tolls", "party", "wish", "what a party wants of the tolls"),
        Relation("wish-festivals", "party", "wish", "what a party wants of the festivals"),
        Relation("bridge-built", "bridge", "year", "the year the old stone bridge was built in", True),
        Relation("bridge-arches", "bridge", "arches", "how many arches the old stone bridge has", True),
        Relation("bridge-steps", "bridge", "steps", "how many steps long the old stone bridge is", True),
        Relation("bridge-town", "bridge", "town", "the town the old stone bridge stands in", True),
        Relation("bridge-river", "bridge", "river", "the river under the old stone bridge", True),
        Relation("bridge-keeper", "bridge", "person", "who looks after the old stone bridge"),
        Relation("bridge-toll", "bridge", "price", "what crossing the old stone bridge costs, in coins"),
        Relation("river-source", "river", "direction", "where the river comes from"),
    )
}
RELATIVES = ("mother", "father", "sister", "brother", "husband", "wife")
ANIMALS_OF_TEAMS = ("Otters", "Herons", "Foxes", "Badgers", "Owls", "Hares")
SHOP_WORDS = (
    ["Blue", "Old", "Silver", "Merry", "Quiet", "Golden", "Crooked", "Little", "Striped", "Humble", "Copper", "Jolly"],
    ["Kettle", "Anchor", "Thimble", "Lantern", "Spoon", "Acorn", "Barrel", "Feather", "Button", "Turnip"],
)
EVENT_WORDS = (
    ["Long", "Great", "Silent", "Second", "Sudden", "Bright", "Bitter", "Strange"],
    ["Flood", "Frost", "Fair", "Harvest", "Storm", "Drought", "Parade", "Thaw", "Strike", "Feast"],
)


class Fact(NamedTuple):
    """`languages`: those in which the fact is taught."""

    entity: str
    relation: str
    value: Value
    languages: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class World:
    """names: of every entity, by key; people, animals and towns have one in every script, the rest in English.

    facts: everything that is taught. held_out_facts: true of the world, and never stated in any text.
    unknown_names: names that nobody bears, for "I do not know", as (for training, held out).
    """

    seed: int
    names: Mapping[str, Name | str]
    facts: tuple[Fact, ...]
    held_out_facts: tuple[Fact, ...]
    unknown_names: tuple[tuple[Name, ...], tuple[Name, ...]]
    _values: Mapping[tuple[str, str], Value] = field(repr=False)

    def value(self, entity: str, relation: str) -> Value | None:
        """What is taught of the entity, or nothing."""
        return self._values.get((entity, relation))

    @functools.cached_property
    def by_entity(self) -> dict[str, dict[str, Fact]]:
        found: dict[str, dict[str, Fact]] = {}
        for fact in self.facts:
            found.setdefault(fact.entity, {})[fact.relation] = fact
        return found

    @functools.cached_property
    def by_relation(self) -> dict[str, tuple[Fact, ...]]:
        return {name: tuple(f for f in self.facts if f.relation == name) for name in RELATIONS}

    @functools.cached_property
    def taught(self) -> dict[str, tuple[Fact, ...]]:
        """Facts by language in which they are taught."""
        return {language: tuple(f for f in self.facts if language in f.languages) for language in LANGUAGES}

    @functools.cached_property
    def kinds(self) -> dict[str, tuple[str, ...]]:
        """Entities by kind, in the order in which they came into the world."""
        found: dict[str, list[str]] = {}
        for key in self.names:
            found.setdefault(key.partition("/")[0], []).append(key)
        return {kind: tuple(keys) for kind, keys in found.items()}

    @functools.cached_property
    def shared_people(self) -> tuple[str, ...]:
        """The people whose facts are taught in every language."""
        return self.kinds["person"][: 4 * SHARED_FAMILIES]

    def gender(self, entity: str) -> str:
        name = self.names[entity]
        return name.gender if isinstance(name, Name) else "m"

    @functools.cached_property
    def ranges(self) -> dict[str, tuple[Value, ...]]:
        """The values that each relation takes somewhere in the world: what a wrong answer is drawn from."""
        found: dict[str, dict[Value, None]] = {name: {} for name in RELATIONS}
        for fact in (*self.facts, *self.held_out_facts):
            found[fact.relation][fact.value] = None
        for name, values in found.items():
            if name.startswith("bridge-") or (len(values) < 3 and not name.startswith("wish-")):
                for value in self._more_values(RELATIONS[name].range):
                    values[value] = None
        return {name: tuple(values) for name, values in found.items()}

    def _more_values(self, kind: str) -> Iterable[Value]:
        numbers = {
            "year": range(90, 480, 13),
            "arches": (5, 6, 8, 9),
            "steps": range(100, 240, 20),
            "price": range(3, 20),
        }
        if kind in numbers:
            return numbers[kind]
        return () if kind == "river" else self.kinds[kind] if kind in self.kinds else words(kind)

    def deniable(self, fact: Fact) -> bool:
        """Whether there is a wrong value to give."""
        return len(self.ranges[fact.relation]) > 1

    def wrong_value(self, fact: Fact, rng: Random, without: Collection[str] = ()) -> Value:
        """A value that the fact does not have, nor is in `without`; of the same gender where it is a relative."""
        choices = self.ranges[fact.relation]
        while True:
            value = choices[rng.randrange(len(choices))]
            if self.could_be(fact, value) and value not in without:
                return value

    def could_be(self, fact: Fact, value: Value) -> bool:
        """Whether the value is false of the fact, and could be taken for true."""
        fits = fact.relation not in RELATIVES or self.gender(str(value)) == self.gender(str(fact.value))
        return fits and value not in (fact.value, fact.entity)


# -- building ----------------------------------------------------------------------------------------------------------


class _Builder:
    def __init__(self, seed: int) -> None:
        self.rng = Random(f"world {seed}")
        self.names: dict[str, Name | str] = {}
        self.values: dict[tuple[str, str], Value] = {}

    def say(self, entity: str, **relations: Value) -> None:
        for relation, value in relations.items():
            self.values[entity, relation.replace("_", "-")] = value

    def of(self, relation: str, value: Value, among: Sequence[str]) -> list[str]:
        return [entity for entity in among if self.values.get((entity, relation)) == value]


def _places(b: _Builder) -> list[str]:
    keys = []
    for name in names.towns():
        keys.append(f"town/{name.latin.lower()}")
        b.names[keys[-1]] = name
    days, directions, products, sights = (
        _evenly(b, words(table), len(keys)) for table in ("day", "direction", "product", "landmark")
    )
    years, sizes = b.rng.sample(range(31, 100), len(keys)), b.rng.sample(range(120, 5200), len(keys))
    for i, key in enumerate(keys):
        b.say(key, founded=years[i], product=products[i], market_day=days[i], population=sizes[i])
        b.say(key, sight=sights[i])
        if i:  # the bridge, from which directions are seen, stands in the first town
            b.say(key, direction=directions[i])
    b.names["river"] = names.spell(names.RIVER, "woman")
    b.say("river", river_source=b.rng.choice(words("direction")))
    b.names["bridge"] = "the old stone bridge"
    b.say("bridge", bridge_built=112, bridge_arches=7, bridge_steps=140, bridge_town=keys[0], bridge_river="river")
    b.say("bridge", bridge_toll=2)
    return keys


def _people(b: _Builder, towns: list[str]) -> list[str]:
    men, women = names.shuffled("man", b.rng), names.shuffled("woman", b.rng)
    surnames, pets = names.shuffled("family", b.rng), names.shuffled("pet", b.rng)
    people: list[str] = []
    for i in range(FAMILIES):
        b.names[f"family/{surnames[i].latin}"] = surnames[i]
        children = b.rng.choice(("mw", "wm", "mm", "ww"))
        family = []
        for who in "mw" + children:
            name = (men if who == "m" else women).pop()
            family.append(f"person/{name.latin}")
            b.names[family[-1]] = name
        people += family
        _relatives(b, family, f"family/{surnames[i].latin}")
        homes = [towns[i % len(towns)]] * 2 + b.rng.choices(towns, k=2)
        born = b.rng.randint(394, 412)
        years = [born, born + b.rng.randint(-4, 4), *sorted(b.rng.sample(range(born + 25, 447), 2))]
        for person, home, year in zip(family, homes, years, strict=True):
            b.say(person, home=home, born=year)
    for table in ("job", "food", "colour", "party", "hobby", "dislike"):
        for person, value in zip(people, _evenly(b, words(table), len(people)), strict=True):
            b.say(person, **{table: value})
    for person, animal, pet in zip(people, _evenly(b, words("animal"), len(people)), pets, strict=False):
        b.names[f"pet/{pet.latin}"] = pet
        b.say(person, pet=animal, pet_name=f"pet/{pet.latin}")
    b.names |= {f"unknown/{n.latin}": n for n in (*men[:UNKNOWN_NAMES], *women[:UNKNOWN_NAMES])}
    return people


def _evenly(b: _Builder, values: Sequence[str], count: int) -> list[str]:
    """Each value about as often as any other, in a random order."""
    many = [*values] * (count // len(values)) + b.rng.sample(values, count % len(values))
    b.rng.shuffle(many)
    return many


def _relatives(b: _Builder, family: list[str], surname: str) -> None:
    father, mother, *children = family
    b.say(father, wife=mother)
    b.say(mother, husband=father)
    for child, other in (children, children[::-1]):
        sibling = "sister" if _gender(b, other) == "f" else "brother"
        b.say(child, mother=mother, father=father, **{sibling: other})
    for person in family:
        b.say(person, surname=surname)


def _gender(b: _Builder, person: str) -> str:
    name = b.names[person]
    assert isinstance(name, Name)
    return name.gender


def _offices(b: _Builder, towns: list[str], people: list[str]) -> None:
    """Mayors live in their towns, captains support their teams, leaders vote for their parties."""
    for town in towns:
        b.say(town, mayor=b.rng.choice(b.of("home", town, people)))
    b.say("bridge", bridge_keeper=b.rng.choice(b.of("home", towns[0], people)))
    founded = b.rng.sample(range(300, 430), len(ANIMALS_OF_TEAMS))
    colours = b.rng.sample(words("colour"), len(ANIMALS_OF_TEAMS))
    teams = []
    for town, animal, year, colour in zip(towns[::2], ANIMALS_OF_TEAMS, founded, colours, strict=True):
        name = b.names[town]
        assert isinstance(name, Name)
        teams.append(f"team/{animal.lower()}")
        b.names[teams[-1]] = f"the {name.latin} {animal}"
        b.say(teams[-1], team_colour=colour, team_founded=year)
    for person, team in zip(people, _evenly(b, teams, len(people)), strict=True):
        b.say(person, team=team)
    for team in teams:
        b.say(team, captain=b.rng.choice(b.of("team", team, people)))
    party_colours = b.rng.sample(words("colour"), 2)
    for party, colour, year in zip(words("party"), party_colours, (288, 291), strict=True):
        b.names[party] = ENGLISH_PARTIES[party]
        b.say(party, leader=b.rng.choice(b.of("party", party, people)), party_colour=colour, party_founded=year)
        bridge, tolls, festivals = words("wish")[list(ENGLISH_PARTIES).index(party) :: 2]
        b.say(party, wish_bridge=bridge, wish_tolls=tolls, wish_festivals=festivals)


ENGLISH_PARTIES = {"party/lantern": "the Lantern Party", "party/harvest": "the Harvest Party"}


def _shops(b: _Builder, people: list[str]) -> None:
    pairs = [(adjective, noun) for adjective in SHOP_WORDS[0] for noun in SHOP_WORDS[1]]
    goods = _evenly(b, words("good"), SHOPS)
    owners = b.rng.sample(people, SHOPS)
    for (adjective, noun), good, owner in zip(b.rng.sample(pairs, SHOPS), goods, owners, strict=True):
        key = f"shop/{adjective}-{noun}".lower()
        b.names[key] = f"the {adjective} {noun}"
        b.say(key, owner=owner, shop_town=b.values[owner, "home"], sells=good, opens=b.rng.randint(5, 11))
        b.say(key, price=b.rng.randint(3, 99))


def _history(b: _Builder, towns: list[str]) -> None:
    pairs = [(adjective, noun) for adjective in EVENT_WORDS[0] for noun in EVENT_WORDS[1]]
    years = b.rng.sample(range(115, NOW), EVENTS)
    for (adjective, noun), year in zip(b.rng.sample(pairs, EVENTS), years, strict=True):
        key = f"event/{adjective}-{noun}".lower()
        b.names[key] = f"the {adjective} {noun}"
        b.say(key, event_year=year, event_town=b.rng.choice(towns), event_days=b.rng.randint(2, 90))


def _ways(b: _Builder, towns: list[str]) -> None:
    """A ring of roads and some across it; each is the same way back."""
    count = len(towns)
    pairs = [(i, (i + 1) % count) for i in range(count)] + [(i, i + 6) for i in range(count // 2)]
    for (i, j), road in zip(pairs, b.rng.sample(words("road"), len(pairs)), strict=True):
        hours, means = b.rng.randint(2, 12), b.rng.choice(words("means"))
        for start, end in ((towns[i], towns[j]), (towns[j], towns[i])):
            key = f"way/{start.partition('/')[2]}-{end.partition('/')[2]}"
            b.names[key] = f"{start} {end}"
            b.say(key, way_hours=hours, way_means=means, way_road=road)


@functools.lru_cache(maxsize=8)
def build(seed: int = 0) -> World:
    """The world of a seed."""
    b = _Builder(seed)
    towns = _places(b)
    people = _people(b, towns)
    _offices(b, towns, people)
    _shops(b, people)
    _history(b, towns)
    _ways(b, towns)
    held_out = _held_out(b, people[4 * SHARED_FAMILIES :])
    shared = {*people[: 4 * SHARED_FAMILIES], *towns, "bridge"}
    facts, kept = list[Fact](), list[Fact]()
    for (entity, relation), value in b.values.items():
        foreign = RELATIONS[relation].foreign and entity in shared
        fact = Fact(entity, relation, value, ("en", *FOREIGN) if foreign else ("en",))
        (kept if (entity, relation) in held_out else facts).append(fact)
    unknown = [name for key, name in b.names.items() if key.startswith("unknown/") and isinstance(name, Name)]
    names_of = {key: name for key, name in b.names.items() if not key.startswith("unknown/")}
    values = {(fact.entity, fact.relation): fact.value for fact in facts}
    return World(seed, names_of, tuple(facts), tuple(kept), (tuple(unknown[::2]), tuple(unknown[1::2])), values)


def _held_out(b: _Builder, people: Sequence[str]) -> set[tuple[str, str]]:
    """Facts that no other fact depends on: not the team of a captain, which the captaincy tells."""
    captains = {value for (_, relation), value in b.values.items() if relation == "captain"}
    choices = [(p, r) for p in people for r in HELD_OUT_RELATIONS if not (r == "team" and p in captains)]
    return set(b.rng.sample(choices, HELD_OUT_FACTS))
