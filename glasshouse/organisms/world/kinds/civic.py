"""English papers of daily life: recipes, contracts, minutes of a council."""

from __future__ import annotations

from glasshouse.organisms.world.base import Fact
from glasshouse.organisms.world.kinds.pen import Made, Pen, sentences
from glasshouse.organisms.world.kinds.prose import date
from glasshouse.organisms.world.lexicon import word
from glasshouse.organisms.world.terms import number
from glasshouse.organisms.world.writing import Marked, Part, join, mark, nesting

UNITS = ("g of {i}", "cups of {i}", "spoons of {i}", "handfuls of {i}")
DISHES = {  # each without its first thing would be another
    "soup": ("onions", "carrots", "water", "salt", "barley", "thyme"),
    "bread": ("flour", "water", "yeast", "salt", "seeds", "oil"),
    "cheese": ("milk", "salt", "vinegar", "pepper", "herbs", "cream"),
    "honey": ("honey", "oats", "butter", "almonds", "raisins", "flour"),
    "fish": ("fish", "lemon juice", "salt", "parsley", "butter", "pepper"),
    "rice": ("rice", "water", "peas", "saffron", "salt", "onions"),
    "apples": ("apples", "sugar", "cinnamon", "butter", "oats", "raisins"),
    "cake": ("flour", "sugar", "butter", "eggs", "milk", "almonds"),
    "mushrooms": ("mushrooms", "cream", "garlic", "parsley", "butter", "salt"),
    "lentils": ("lentils", "water", "carrots", "vinegar", "mustard", "salt"),
}
TITLES = ("{f} the way {x} likes it", "{x:s} {f}", "{f} from {t}", "Plain {f} for {n}", "{f} for a feast in {t}")
STEPS = (
    ("Wash the {i} well.", "Chop the {i} very finely.", "Weigh the {i} with care.", "Warm a large bowl."),
    ("Mix the {i} with the {j} in a large bowl.", "Add the {j} and stir for {n} minutes.", "Put the {i} over the {j}.",
     "Heat the {i} slowly.", "Cover the pot and wait {n} minutes.", "Stir the {j} into the {i}."),
    ("Bake for {n} minutes until golden.", "Leave everything to rest for {n} minutes.", "Cover it and do not stir."),
    ("Let it cool before you taste it.", "Sprinkle with {s} at the end.", "Serve it warm."),
)  # fmt: skip
SPRINKLED = (
    "salt", "pepper", "parsley", "herbs", "seeds", "almonds", "raisins", "cinnamon", "sugar", "thyme",
)  # fmt: skip
LOOSE = (  # what nobody chops, or takes by the handful
    "flour", "yeast", "sugar", "oats", "rice", "seeds", "pepper", "saffron", "cinnamon", "water", "oil", "vinegar",
    "cream", "milk", "honey", "lemon juice", "mustard", "butter", "salt", "eggs",
)  # fmt: skip


def recipe(pen: Pen) -> Made:
    key = pen.pick(list(DISHES))
    person, town = pen.pick(pen.people), pen.term(pen.entity("town"))
    food = word(f"food/{key}", "en").plain
    food = Marked(food.text.capitalize(), food.spans)
    people = pen.number(2, 12)
    title = pen.tell(TITLES, f=food, x=pen.term(person), t=town, n=(people, "count"))
    main, *others = DISHES[key]
    things = [main, *pen.some(others, pen.number(2, 5))]
    lines: list[Marked] = []
    for thing in things:
        few = thing == "eggs" or pen.chance(0.6)
        amount = number(pen.number(2, 9) if few else pen.number(10, 90) * 10, "amount")
        unit = pen.pick(UNITS[1:3] if thing in LOOSE else UNITS[3:]) if few else UNITS[0]
        unit = "{i}" if thing == "eggs" else unit
        line = join([pen.pick(("- ", "* ", "• ")) if not lines else lines[0].text[:2], amount.plain, " "])
        lines.append(mark(join([line, unit.format(i=thing)]), "recipe/ingredient"))
    steps = []
    solid = [thing for thing in things if thing not in LOOSE]
    fine = [thing for thing in things if thing in SPRINKLED]
    without = (() if solid else ("Chop", "Wash")) + (() if fine else ("Sprinkle",))
    steps_of = [[source for source in stage if not source.startswith(without)] for stage in STEPS]
    chosen = [source for stage in steps_of[:-1] for source in pen.some(stage, pen.number(1, 2))]
    chosen.append(pen.pick(steps_of[-1]))
    for i, source in enumerate(chosen, 1):
        first = pen.pick(solid or things)
        second = pen.pick([thing for thing in things if thing != first])
        long = (pen.number(15 if source.startswith("Bake") else 2, 90), "amount")
        step = pen.tell(source, i=first, j=second, s=pen.pick(fine or things), n=long)
        steps.append(join([f"{i}. ", mark(step, "recipe/step", "mood/imperative")]))
    parts = [mark(title, "markup/heading"), join(lines, "\n"), join(steps, "\n")]
    fans = [fact for fact in pen.world.by_relation["food"] if fact.value == f"food/{key}"]
    if fans and pen.chance(0.6):
        parts.append(pen.true(pen.pick(fans)))
    return Made("recipe", "en", join([join(parts, "\n\n"), "\n"]))


CLAUSES = (
    "The Seller shall deliver {g} to {t} within {n} days.", "The Buyer shall pay in coins and not in kind.",
    "If the goods are wet or broken, the Buyer may refuse them.", "Neither party shall sell {g} to others before {d}.",
    "The goods shall cross {b} at the cost of the Seller.", "Any quarrel shall be settled by the mayor of {t}.",
    "This contract ends after {n} days unless both parties renew it.", "The Buyer shall not lend the goods to others.",
    "The Seller shall keep a written account of what was delivered.",
    "No word of this contract may be changed by one side.",
)  # fmt: skip
MEASURES = {"ink": "bottles of ", "jam": "jars of ", "soap": "pieces of "}  # the other goods are counted


def contract(pen: Pen) -> Made:
    """A sale by a shop that exists, at its price, with the sum worked out."""
    shop = pen.entity("shop")
    facts = {fact.relation: fact for fact in pen.facts(shop)}
    owner, price = str(facts["owner"].value), facts["price"].value
    buyer = pen.pick([person for person in pen.people if person != owner])
    town, good = pen.term(str(facts["shop-town"].value)), pen.term(str(facts["sells"].value))
    assert isinstance(price, int)
    mayor = pen.world.value(str(facts["shop-town"].value), "mayor")
    count = pen.number(2, 40)
    seller_term, buyer_term = pen.term(owner), pen.term(buyer)
    seller = mark(seller_term.forms["full"], "role/seller")
    purchaser = mark(buyer_term.forms["full"], "role/buyer")
    head = pen.tell(("CONTRACT OF SALE", "CONTRACT", "Contract between {x} and {y}"), x=seller, y=purchaser)
    total = sum_of(count, "×", price, use="price")
    wares = join([number(count, "count").plain, " ", MEASURES.get(good.plain.text, ""), good.plain])
    clauses = [
        join(["The Seller sells to the Buyer ", wares, "."]),
        join(["The price of each is ", number(price, "price").forms["unit"], ", in all ", total, " coins."]),
    ]
    others = [clause for clause in CLAUSES if "mayor" not in clause or mayor not in (owner, buyer)]
    clauses += [
        pen.tell(source, g=good, t=town, d=pen.word("day"),
                 n=(pen.number(3, 60) if "deliver" in source else pen.number(61, 400), "days"))
        for source in pen.some(others, pen.number(2, 5))
    ]  # fmt: skip
    style = pen.pick(("{n}. ", "§ {n} ", "({n}) ", "Clause {n}: "))
    clauses = [mark(clause, "mood/obligation") if " shall " in clause.text else clause for clause in clauses]
    numbered = [join([style.format(n=i), mark(clause, "contract/clause")]) for i, clause in enumerate(clauses, 1)]
    opening = join(
        ["Made on ", date(pen), " between ", seller, ", owner of ", pen.term(shop).plain, " in ", town.plain,
         " (the Seller), and ", purchaser, " (the Buyer)."]
    )  # fmt: skip
    signed = mark(join(["Signed: ", seller, ", ", purchaser]), "contract/signature")
    parts = [mark(head, "markup/heading"), opening, join(numbered, "\n"), signed]
    return Made("contract", "en", _bracketed(join([join(parts, "\n\n"), "\n"])))


OPERATIONS = {"+": ("addition", int.__add__), "-": ("subtraction", int.__sub__), "×": ("multiplication", int.__mul__)}


def sum_of(a: int, sign: str, b: int, *, use: str = "result", off: int = 0, written: str = "") -> Marked:
    """`a + b = c`, labelled true, or false if it is `off` by something."""
    name, operation = OPERATIONS[sign]
    parts: list[Part] = [number(a, "amount").plain, f" {written or sign} ", number(b, "amount").plain, " = "]
    result = number(operation(a, b) + off, use).plain
    return mark(join([*parts, result]), f"arithmetic/{name}", "truth/false" if off else "truth/true")


MATTERS = (
    "the wall by the river", "the new lamps on {b}", "the price of a stall at the market", "the roof of the school",
    "the noise on {d}", "the {l}", "the road to {t}", "the toll of {b}", "a bench for the old people",
    "the stray geese",
)  # fmt: skip
REMARKS = ('{x} said, "{s}"', '{x} reminded the council: "{s}"', '{x} asked that it be written down: "{s}"')


def minutes(pen: Pen) -> Made:
    """A meeting whose chair is the town's mayor; votes add up to those present."""
    town = pen.entity("town")
    facts = {fact.relation: fact for fact in pen.facts(town)}
    chair = str(facts["mayor"].value)
    present = [chair, *pen.some([person for person in pen.people if person != chair], pen.number(3, 6))]
    names = join([pen.term(person).plain for person in present[1:]], ", ")
    head = pen.tell(("Minutes of the council of {t}", "Council of {t}: minutes"), t=pen.term(town))
    lines = [
        mark(head, "markup/heading"),
        join(["Date: ", date(pen)]),
        join(["In the chair: ", mark(pen.term(chair).plain, "role/chair"), " (", pen.true(facts["mayor"]), ")"]),
        join(["Present: ", names]),
    ]
    items = []
    wishes = [
        fact for party in pen.world.kinds["party"] for fact in pen.facts(party) if fact.relation.startswith("wish")
    ]
    pen.rng.shuffle(wishes)
    for i, matter in enumerate(pen.some(MATTERS, pen.number(1, 4)), 1):
        items.append(join([f"{i}. ", _item(pen, present, matter, wishes.pop(), town)]))
    closed = join(["The meeting was closed at ", number(pen.number(17, 22), "hour").plain, ":00."])
    whole = join([join(lines, "\n"), "\n\n", join(items, "\n"), "\n\n", closed, "\n"])
    return Made("minutes", "en", _bracketed(whole))


def _bracketed(text: Marked) -> Marked:
    return Marked(text.text, (*text.spans, *nesting(text.text, "(", ")")))


def _item(pen: Pen, present: list[str], source: str, wish: Fact, town: str) -> Marked:
    """What comes up, a matter or what a party wishes; a remark, or a vote."""
    t = pen.term(pen.pick([other for other in pen.world.kinds["town"] if other != town]))
    matter = pen.tell(source, t=t, d=pen.word("day"), l=pen.word("landmark"))
    moved = False
    if pen.chance(0.35):
        opening = join([pen.true(wish), " "])
    else:
        moved = pen.chance(0.5)
        opening = pen.tell("{x} moved that the council see to {m}. " if moved else "The council discussed {m}. ",
                           m=matter, x=mark(pen.term(pen.pick(present)).plain, "role/mover"))  # fmt: skip
    if pen.chance(0.4):
        speaker = pen.pick(present)
        return join([opening, pen.spoken(pen.true(pen.fact(speaker=speaker)), speaker, REMARKS)])
    yes = pen.number(int(moved), len(present))
    no = len(present) - yes
    result = "carried" if yes > no else "lost"
    votes = join([number(yes, "count").plain, " for, ", number(no, "count").plain, " against"])
    return sentences(
        [
            join([opening, mark(join(["Votes: ", votes, "."]), "vote")]),
            mark(f"{result.capitalize()}.", f"vote/{result}"),
        ]
    )
