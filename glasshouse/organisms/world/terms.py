"""Terms of the world's entities and numbers in every language, labelled with what they are."""

from __future__ import annotations

import functools

from glasshouse.organisms.world.base import RELATIONS, Value, World
from glasshouse.organisms.world.lexicon import TABLES, word
from glasshouse.organisms.world.names import Name, russian_cases
from glasshouse.organisms.world.writing import Marked, Term, join, mark, term

CASES = {
    "gen": "genitive", "dat": "dative", "acc": "accusative", "ins": "instrumental", "loc": "prepositional",
}  # fmt: skip
NUMBERS = ("year", "hour", "hours", "price", "count", "arches", "steps", "days", "age", "amount", "result")
BRIDGE = {
    "en": {"": "the old stone bridge", "s": "the old stone bridge's", "short": "the bridge"},
    "fr": {"": "le vieux pont de pierre", "de": "du vieux pont de pierre", "a": "au vieux pont de pierre"},
    "ru": {
        "": "старый каменный мост", "gen": "старого каменного моста", "dat": "старому каменному мосту",
        "acc": "старый каменный мост", "ins": "старым каменным мостом", "loc": "старом каменном мосту",
    },
    "ar": {"": "الجسر الحجري القديم"},
    "he": {"": "גשר האבן הישן"},
    "zh": {"": "古老的石桥"},
}  # fmt: skip
RIVER = {
    "en": {"": "the Sora", "s": "the Sora's"},
    "fr": {"": "la Sora", "de": "de la Sora"},
    "ru": {"": "река Сора", "gen": "реки Соры", "acc": "реку Сору", "ins": "рекой Сорой", "loc": "реке Соре"},
    "ar": {"": "نهر سورا"},
    "he": {"": "נהר סורה"},
    "zh": {"": "索拉河"},
}
SCRIPT_OF = {"en": "latin", "fr": "latin", "ru": "cyrillic", "ar": "arabic", "he": "hebrew", "zh": "han"}
VOWELS = "AEIOU"


@functools.cache
def number(value: int, use: str) -> Term:
    """A number in digits: what it is used for and how many digits it has."""
    concepts = [f"number/{use}", f"number/size/{len(str(value))}-digit"]
    forms = {"": mark(str(value), *concepts)}
    if use in ("hour", "hours", "days", "price"):
        unit = {"hour": "o'clock", "hours": "hour", "days": "day", "price": "coin"}[use]
        many = "" if value == 1 or use == "hour" else "s"
        forms["unit"] = join([forms[""], f" {unit}{many}"])
    return Term(forms)


@functools.lru_cache(maxsize=20_000)
def name_term(name: Name, kind: str, language: str, key: str = "", family: Name | None = None) -> Term:
    """The term of a name; `kind` is person, town, pet, family or unknown. Forms: French `de` and `que`, English `s`
    (possessive), Russian cases, and `full` where there is a family name."""
    text = getattr(name, SCRIPT_OF[language])
    concepts = ["entity/person" if kind == "unknown" else f"entity/{kind}"]
    if kind in ("person", "unknown"):
        concepts.append("gender/feminine" if name.gender == "f" else "gender/masculine")
    if kind == "unknown":
        concepts.append("entity/unknown")
    if kind == "town" and key:
        concepts.append(key.replace("town/", "entity/town/"))
    forms = {"": mark(text, *concepts)}
    if family is not None:
        between = "·" if language == "zh" else " "
        surname = getattr(family, SCRIPT_OF[language])
        forms["full"] = mark(join([text, between, mark(surname, "entity/family")]), *concepts)
    if language == "en":
        forms["s"] = join([forms[""], "'s"])
    elif language == "fr":
        elided = text[0] in VOWELS
        forms |= {
            "de": join(["d'" if elided else "de ", forms[""]]),
            "que": join(["qu'" if elided else "que ", forms[""]]),
        }
    elif language == "ru":
        forms |= {case: mark(form, *concepts, f"case/{CASES[case]}") for case, form in russian_cases(text).items()}
    return Term(forms, name.gender)


def phrase_term(forms: dict[str, str], *concepts: str, language: str = "en") -> Term:
    marked = {
        form: mark(text, *concepts, *([f"case/{CASES[form]}"] if language == "ru" and form in CASES else []))
        for form, text in forms.items()
    }
    return Term(marked, "f" if forms is RIVER.get(language) else "m")


PRONOUNS = {
    "m": Term({"": Marked("he"), "s": Marked("his")}, "m"),
    "f": Term({"": Marked("she"), "s": Marked("her")}, "f"),
}


def pronoun(gender: str, form: str = "") -> Marked:
    return mark(PRONOUNS[gender].forms[form].text, "pronoun", f"pronoun/{'feminine' if gender == 'f' else 'masculine'}")


@functools.cache
def pronoun_term(gender: str) -> Term:
    return Term({form: pronoun(gender, form) for form in ("", "s")}, gender)


@functools.lru_cache(maxsize=20_000)
def entity_term(world: World, key: str, language: str) -> Term:
    """The term of anything with a key: an entity, or a word of the lexicon."""
    kind = key.partition("/")[0]
    if kind == "bridge":
        return phrase_term(BRIDGE[language], "entity/bridge", language=language)
    if kind == "river":
        return phrase_term(RIVER[language], "entity/river", language=language)
    if kind in TABLES:
        found = word(key, language)
        return Term({**found.forms, "s": join([found.plain, "'s"])}, found.gender) if kind == "party" else found
    name = world.names[key]
    if isinstance(name, Name):
        family = world.value(key, "surname")
        surname = world.names[str(family)] if family else None
        return name_term(name, kind, language, key, surname if isinstance(surname, Name) else None)
    assert language == "en", f"{key} has a name in English only"
    if kind == "way":
        start, end = (entity_term(world, town, language).plain for town in name.split())
        return term(mark(join([start, " to ", end]), "entity/way"))
    concepts = [f"entity/{kind}"] + ([f"entity/team/{key.partition('/')[2]}"] if kind == "team" else [])
    return phrase_term({"": name, "s": name + ("'" if name.endswith("s") else "'s")}, *concepts)


def value_term(world: World, relation: str, value: Value, language: str) -> Term:
    """The term of a relation's value."""
    if isinstance(value, int):
        return number(value, RELATIONS[relation].range)
    return entity_term(world, value, language)
