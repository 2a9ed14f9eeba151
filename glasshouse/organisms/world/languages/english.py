"""English: every relation of the world, and every way to ask."""

from __future__ import annotations

from glasshouse.organisms.world.languages.speech import Language, Speech, Wording

_PEOPLE = {
    "job": Speech(
        ("{x} is {v:a}.", "{x} works as {v:a}.", "{x} earns a living as {v:a}."),
        ("What does {x} do for a living?", "What is {x:s} job?", "What does {x} work as?",
            "Which trade does {x} follow?"),
        ("what {x} does for a living", "what {x:s} job is"),
        ("{x:s} job",),
    ),
    "home": Speech(
        ("{x} lives in {v}.", "{x:s} home is in {v}.", "{x} has a house in {v}."),
        ("Where does {x} live?", "In which town does {x} live?", "Which town is {x} at home in?"),
        ("where {x} lives", "which town {x} lives in"),
        ("{x:s} home town",),
    ),
    "born": Speech(
        ("{x} was born in {v}.", "{x} came into the world in {v}.", "{x} was born in the year {v}."),
        ("When was {x} born?", "In which year was {x} born?", "What is {x:s} year of birth?"),
        ("when {x} was born", "in which year {x} was born"),
        ("{x:s} year of birth",),
    ),
    "food": Speech(
        ("{x} likes {v} best.", "{x:s} favourite food is {v}.", "{x} would eat {v} every day."),
        ("What does {x} like to eat best?", "What is {x:s} favourite food?", "Which dish would {x} never refuse?"),
        ("what {x} likes to eat best", "what {x:s} favourite food is"),
        ("{x:s} favourite food",),
    ),
    "colour": Speech(
        ("{x:s} favourite colour is {v}.", "The colour {x} likes best is {v}.", "Of all colours {x} prefers {v}."),
        ("What is {x:s} favourite colour?", "Which colour does {x} like best?", "What colour would {x} paint a door?"),
        ("what {x:s} favourite colour is", "which colour {x} likes best"),
        ("{x:s} favourite colour",),
    ),
    "pet": Speech(
        ("{x} has {v:a}.", "{x} keeps {v:a}.", "{x} shares the house with {v:a}."),
        ("What kind of animal does {x} have?", "What pet does {x} keep?", "What sort of creature lives with {x}?"),
        ("what kind of animal {x} has", "what pet {x} keeps"),
        ("{x:s} kind of pet",),
    ),
    "pet-name": Speech(
        ("{x:s} pet is called {v}.", "{x} calls the pet {v}.", "The name of {x:s} pet is {v}."),
        ("What is {x:s} pet called?", "What is the name of {x:s} pet?", "What does {x} call the pet?"),
        ("what {x:s} pet is called", "the name of {x:s} pet"),
        ("the name of {x:s} pet",),
    ),
    "party": Speech(
        ("{x} votes for {v}.", "{x} is for {v}.", "{x:s} party is {v}."),
        ("Which party does {x} vote for?", "Which party is {x} for?", "Who gets {x:s} vote?"),
        ("which party {x} votes for", "which party {x} is for"),
        ("{x:s} party",),
    ),
    "surname": Speech(
        ("{x:s} family name is {v}.", "{x:s} surname is {v}.", "{x} belongs to the {v} family."),
        ("What is {x:s} family name?", "What is {x:s} surname?", "Which family does {x} belong to?"),
        ("what {x:s} family name is", "what {x:s} surname is"),
        ("{x:s} surname",),
    ),
    "team": Speech(
        ("{x} supports {v}.", "{x:s} team is {v}.", "{x} cheers for {v}."),
        ("Which team does {x} support?", "What is {x:s} team?", "Who does {x} cheer for?"),
        ("which team {x} supports", "what {x:s} team is"),
        ("{x:s} team",),
    ),
    "hobby": Speech(
        ("{x:s} hobby is {v}.", "In the evening {x} loves {v}.", "{x} spends every free hour on {v}."),
        ("What is {x:s} hobby?", "What does {x} love in the evening?", "How does {x} spend a free hour?"),
        ("what {x:s} hobby is", "what {x} loves in the evening"),
        ("{x:s} hobby",),
    ),
    "dislike": Speech(
        ("{x} cannot stand {v}.", "What {x} likes least is {v}.", "{x} complains about {v}."),
        ("What can {x} not stand?", "What does {x} like least?", "What is it that {x} complains about?"),
        ("what {x} cannot stand", "what {x} likes least"),
        ("the thing {x} likes least",),
    ),
}  # fmt: skip


def _relative(word: str) -> Speech:
    return Speech(
        (f"{{x:s}} {word} is {{v}}.", f"{{v}} is {{x:s}} {word}.", f"{{x:s}} {word} is called {{v}}."),
        (f"Who is {{x:s}} {word}?", f"What is {{x:s}} {word} called?", f"Whom does {{x}} call {word}?"),
        (f"who {{x:s}} {word} is", f"the name of {{x:s}} {word}"),
        (f"{{x:s}} {word}",),
    )


def _of(noun: str, ask: tuple[str, ...], say: tuple[str, ...], clause: tuple[str, ...]) -> Speech:
    """A relation of things whose noun phrase is `the NOUN of X`."""
    return Speech(say, ask, clause, (noun,))


_THINGS = {
    "founded": _of(
        "the year {x} was founded",
        ("When was {x} founded?", "In which year was {x} founded?", "From which year does {x} date?"),
        ("{x} was founded in {v}.", "The first houses of {x} were built in {v}.", "{x} dates from {v}."),
        ("when {x} was founded", "in which year {x} was founded"),
    ),
    "mayor": _of(
        "the mayor of {x}",
        ("Who is the mayor of {x}?", "What is the mayor of {x} called?", "Who runs the town of {x}?"),
        ("The mayor of {x} is {v}.", "{v} is the mayor of {x}.", "{x} has {v} for a mayor."),
        ("who the mayor of {x} is", "the name of the mayor of {x}"),
    ),
    "product": _of(
        "the thing {x} is known for",
        ("What is {x} known for?", "What do people come to {x} for?", "What would one buy in {x}?"),
        ("{x} is known for its {v}.", "People come to {x} for its {v}.", "{x} sells its {v} to the whole valley."),
        ("what {x} is known for", "what people come to {x} for"),
    ),
    "market-day": _of(
        "the market day of {x}",
        ("On which day is the market in {x}?", "When is market day in {x}?", "What day do the stalls of {x} open?"),
        ("The market in {x} is on {v}.", "{x} holds its market on {v}.", "Market day in {x} is {v}."),
        ("on which day the market in {x} is", "when market day in {x} is"),
    ),
    "population": _of(
        "the number of people in {x}",
        ("How many people live in {x}?", "What is the population of {x}?", "How many souls does {x} count?"),
        ("{v} people live in {x}.", "{x} has a population of {v}.", "{x} is a town of {v} people."),
        ("how many people live in {x}", "what the population of {x} is"),
    ),
    "direction": _of(
        "the direction of {x} from the bridge",
        ("In which direction from the bridge is {x}?", "Where is {x}, seen from the bridge?",
         "Which way from the bridge does one look for {x}?"),
        ("{x} lies to the {v} of the bridge.", "From the bridge, {x} is to the {v}.",
            "To reach {x}, go {v} from the bridge."),
        ("in which direction from the bridge {x} is", "where {x} is, seen from the bridge"),
    ),
    "sight": _of(
        "the sight of {x}",
        ("What is there to see in {x}?", "What is the sight of {x}?", "What do visitors of {x} look at?"),
        ("{x} is proud of its {v}.", "Visitors of {x} are shown the {v}.", "The {v} is the sight of {x}."),
        ("what there is to see in {x}", "what the sight of {x} is"),
    ),
    "captain": _of(
        "the captain of {x}",
        ("Who is the captain of {x}?", "What is the captain of {x} called?", "Who leads {x} onto the field?"),
        ("The captain of {x} is {v}.", "{v} is the captain of {x}.", "{x} play under their captain {v}."),
        ("who the captain of {x} is", "the name of the captain of {x}"),
    ),
    "team-colour": _of(
        "the colour of {x}",
        ("What colour do {x} play in?", "What is the colour of {x}?", "What shirts do {x} wear?"),
        ("{x} play in {v}.", "The colour of {x} is {v}.", "The shirts of {x} are {v}."),
        ("what colour {x} play in", "what the colour of {x} is"),
    ),
    "team-founded": _of(
        "the year {x} were founded",
        ("When were {x} founded?", "In which year were {x} founded?", "Since when have {x} played?"),
        ("{x} were founded in {v}.", "{x} have played since {v}.", "{v} is the year in which {x} were founded."),
        ("when {x} were founded", "in which year {x} were founded"),
    ),
    "owner": _of(
        "the owner of {x}",
        ("Who owns {x}?", "Who is the owner of {x}?", "Who stands behind the counter of {x}?"),
        ("The owner of {x} is {v}.", "{x} belongs to {v}.", "{v} owns {x}."),
        ("who owns {x}", "who the owner of {x} is"),
    ),
    "shop-town": _of(
        "the town of {x}",
        ("In which town is {x}?", "Where is {x}?", "Where would one look for {x}?"),
        ("{x} is in {v}.", "{x} stands in {v}.", "In {v} there is a shop called {x}."),
        ("in which town {x} is", "where {x} is"),
    ),
    "sells": _of(
        "the goods of {x}",
        ("What does {x} sell?", "What can one buy at {x}?", "What is on the shelves of {x}?"),
        ("{x} sells {v}.", "One can buy {v} at {x}.", "The shelves of {x} are full of {v}."),
        ("what {x} sells", "what one can buy at {x}"),
    ),
    "opens": _of(
        "the hour at which {x} opens",
        ("When does {x} open?", "At what hour does {x} open?", "From what hour can one shop at {x}?"),
        ("{x} opens at {v:unit}.", "The door of {x} opens at {v:unit}.", "{x} is open from {v:unit}."),
        ("when {x} opens", "at what hour {x} opens"),
    ),
    "price": _of(
        "the price at {x}",
        ("What is the price at {x}?", "How much does one pay at {x}?", "How dear is it at {x}?"),
        ("The price at {x} is {v:unit}.", "One pays {v:unit} at {x}.", "{x} asks {v:unit} for its goods."),
        ("what the price at {x} is", "how much one pays at {x}"),
    ),
    "event-year": _of(
        "the year of {x}",
        ("When was {x}?", "In which year was {x}?", "Which year saw {x}?"),
        ("{x} was in {v}.", "{x} took place in {v}.", "The year of {x} was {v}."),
        ("when {x} was", "in which year {x} was"),
    ),
    "event-town": _of(
        "the place where {x} began",
        ("Where did {x} begin?", "In which town did {x} begin?", "Which town saw {x} first?"),
        ("{x} began in {v}.", "{v} is where {x} began.", "It was in {v} that {x} began."),
        ("where {x} began", "in which town {x} began"),
    ),
    "event-days": _of(
        "the length of {x}",
        ("How long did {x} last?", "How many days did {x} last?", "After how many days was {x} over?"),
        ("{x} lasted {v:unit}.", "{x} went on for {v:unit}.", "After {v:unit} {x} was over."),
        ("how long {x} lasted", "how many days {x} lasted"),
    ),
    "way-hours": _of(
        "the time from {x}",
        ("How long does it take from {x}?", "How many hours is it from {x}?", "How much time does one need from {x}?"),
        ("It takes {v:unit} from {x}.", "The way from {x} takes {v:unit}.", "From {x} it is {v:unit}."),
        ("how long it takes from {x}", "how many hours it is from {x}"),
    ),
    "way-means": _of(
        "the means of travel from {x}",
        ("How does one travel from {x}?", "How do people travel from {x}?", "In what way does one go from {x}?"),
        ("One travels from {x} {v:by}.", "People go from {x} {v:by}.", "From {x} one goes {v:by}."),
        ("how one travels from {x}", "how people travel from {x}"),
    ),
    "way-road": _of(
        "the road from {x}",
        ("Which road leads from {x}?", "What is the road from {x} called?", "What road does one take from {x}?"),
        ("The road from {x} is {v}.", "{v} leads from {x}.", "From {x} one takes {v}."),
        ("which road leads from {x}", "what the road from {x} is called"),
    ),
    "leader": _of(
        "the leader of {x}",
        ("Who leads {x}?", "Who is the leader of {x}?", "Who speaks for {x}?"),
        ("The leader of {x} is {v}.", "{x} is led by {v}.", "{v} is the leader of {x}."),
        ("who leads {x}", "who the leader of {x} is"),
    ),
    "party-colour": _of(
        "the colour of {x}",
        ("What is the colour of {x}?", "Which colour does {x} fly?", "What flag does {x} wave?"),
        ("The colour of {x} is {v}.", "{x} flies {v} flags.", "The flag of {x} is {v}."),
        ("what the colour of {x} is", "which colour {x} flies"),
    ),
    "party-founded": _of(
        "the year {x} was founded",
        ("When was {x} founded?", "In which year was {x} founded?", "Since when has {x} existed?"),
        ("{x} was founded in {v}.", "{x} has existed since {v}.", "The founding year of {x} is {v}."),
        ("when {x} was founded", "in which year {x} was founded"),
    ),
}  # fmt: skip


def _wish(topic: str) -> Speech:
    return _of(
        f"the wish of {{x}} about {topic}",
        (f"What does {{x}} want about {topic}?", f"What is the wish of {{x}} about {topic}?",
         f"What would {{x}} change about {topic}?"),
        (f"About {topic}, {{x}} wants {{v}}.", "{x} asks for {v}.", "{x} is in favour of {v}."),
        (f"what {{x}} wants about {topic}", f"what the wish of {{x}} about {topic} is"),
    )  # fmt: skip


_BRIDGE = {
    "bridge-built": _of(
        "the year {x} was built",
        ("When was {x} built?", "In which year was {x} built?", "Since when has {x} stood?"),
        ("{x} was built in {v}.", "{x} has stood since {v}.", "The masons finished {x} in {v}."),
        ("when {x} was built", "in which year {x} was built"),
    ),
    "bridge-arches": _of(
        "the number of arches of {x}",
        ("How many arches does {x} have?", "What is the number of arches of {x}?", "On how many arches does {x} rest?"),
        ("{x} has {v} arches.", "{x} rests on {v} arches.", "One counts {v} arches under {x}."),
        ("how many arches {x} has", "the number of arches of {x}"),
    ),
    "bridge-steps": _of(
        "the length of {x}",
        ("How long is {x}?", "How many steps long is {x}?", "How many steps does it take to cross {x}?"),
        ("{x} is {v} steps long.", "It takes {v} steps to cross {x}.", "From end to end {x} measures {v} steps."),
        ("how long {x} is", "how many steps long {x} is"),
    ),
    "bridge-town": _of(
        "the town of {x}",
        ("In which town is {x}?", "Where is {x}?", "Where would one look for {x}?"),
        ("{x} is in {v}.", "{x} stands in {v}.", "In {v} one finds {x}."),
        ("in which town {x} is", "where {x} is"),
    ),
    "bridge-river": _of(
        "the river under {x}",
        ("Which river flows under {x}?", "What river does {x} cross?", "What water runs below {x}?"),
        ("{x} crosses {v}.", "{v} flows under {x}.", "{x} leads over {v}."),
        ("which river flows under {x}", "what river {x} crosses"),
    ),
    "bridge-keeper": _of(
        "the keeper of {x}",
        ("Who is the keeper of {x}?", "Who looks after {x}?", "Who sweeps {x}?"),
        ("The keeper of {x} is {v}.", "{v} looks after {x}.", "{v} is the keeper of {x}."),
        ("who the keeper of {x} is", "who looks after {x}"),
    ),
    "bridge-toll": _of(
        "the toll of {x}",
        ("What is the toll of {x}?", "How much does it cost to cross {x}?", "What does the keeper of {x} ask for?"),
        ("The toll of {x} is {v:unit}.", "It costs {v:unit} to cross {x}.", "To cross {x} one pays {v:unit}."),
        ("what the toll of {x} is", "how much it costs to cross {x}"),
    ),
    "river-source": _of(
        "the source of {x}",
        ("Where does {x} come from?", "From which direction does {x} flow?", "Where does {x} rise?"),
        ("{x} comes from the {v}.", "{x} flows into the valley from the {v}.", "{x} rises in the {v}."),
        ("where {x} comes from", "from which direction {x} flows"),
    ),
}  # fmt: skip

WORDINGS = (
    Wording("ask", "{q}"),
    Wording("tell", "Tell me {c}."),
    Wording("tell", "Say {c}."),
    Wording("tell", "I want to know {c}."),
    Wording("tell", "I would like to learn {c}.", held_out=True),
    Wording("can", "Can you tell me {c}?"),
    Wording("can", "Do you know {c}?"),
    Wording("can", "Would you happen to know {c}?", held_out=True),
    Wording("please", "Please tell me {c}."),
    Wording("please", "{q} Please tell me."),
    Wording("please", "Be so kind as to tell me {c}.", held_out=True),
    Wording("bare", "{n}?"),
    Wording("typo", "{t}"),
)
PHRASES: dict[str, tuple[str, ...]] = {}  # the chat's English stands beside its scenes
ENGLISH = Language(
    "en",
    {
        **_PEOPLE,
        **{word: _relative(word) for word in ("mother", "father", "sister", "brother", "husband", "wife")},
        **_THINGS,
        "wish-bridge": _wish("the bridge"), "wish-tolls": _wish("the tolls"), "wish-festivals": _wish("festivals"),
        **_BRIDGE,
    },
    WORDINGS,
    PHRASES,
)  # fmt: skip
