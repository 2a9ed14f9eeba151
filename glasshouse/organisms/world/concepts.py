"""The fixed list of concepts that spans are labelled with, by path, each with one line of description.

    concepts()["language/russian"]        # "text in Russian"
    groups()["language"]                  # "the language of a stretch of text"

A path says where a concept stands: `entity/town/veden` is an `entity/town`, which is an `entity`. Interior nodes that
are never labels themselves are `groups()`; whoever needs "any job" takes the union of what is below `job`.
"""

from __future__ import annotations

import functools

from glasshouse.organisms.world.base import ANIMALS_OF_TEAMS, RELATIONS
from glasshouse.organisms.world.lexicon import LANGUAGES, TABLES, words
from glasshouse.organisms.world.names import towns
from glasshouse.organisms.world.terms import CASES, NUMBERS

_GROUPS = """
language: the language of a stretch of text
kind: the kind of a document, over all of it
scene: which scene a chat plays, over all of it
entity: the mention of somebody or something that the base knows
gender: the gender of the person named
role: what a mention does in its sentence or paper
relation: a statement, question or cell about one relation of the base
truth: whether a statement is true in the world
job: a word for somebody's job
colour: a word for a colour
food: a word for something to eat
animal: a word for a pet
product: a word for what a town is known for
party: a party's name
hobby: a word for a hobby
dislike: a word for something disliked
good: a word for what a shop sells
day: a day of the week
direction: a direction of the compass
means: a means of travel
road: the name of a road
landmark: a sight of a town
wish: what a party wants
number: a number in digits, by its use
number/size: a number in digits, by how many it has
arithmetic: a sum, by its operation
nesting: a bracket or quote, by its depth
speaker: who speaks or writes
sentiment: the mood of a sentence
tense: the tense of a sentence (English; stories in every language)
mood: a grammatical mood
pronoun: a pronoun that stands for a person
case: a Russian name in a case other than the nominative
family: the wording family of a question
hops: how many facts an answer needs
act: what a turn of a chat, or a sentence of it, does
hazard: a request about the made-up hazard or what looks like one
style: the length asked for and given
base64: a run of base64, by what it holds
code: a part of Python code
data: a part of CSV, JSON or a table
markup: marks that are not words
math: a part of a mathematical text
poem: a part of a poem
letter: a part of a letter
recipe: a part of a recipe
contract: a part of a contract
vote: a vote in a council's minutes
log: a line of a log or its level
time: a date or time
sport: a game
"""
_CONCEPTS = """
kind/encyclopaedia: an encyclopaedia entry
kind/news: a piece of news
kind/letter: a letter
kind/story: a story with dialogue
kind/poem: a poem
kind/recipe: a recipe
kind/contract: a contract of sale
kind/minutes: minutes of a council
kind/latex: mathematics in LaTeX
kind/python: Python code
kind/csv: a table as CSV
kind/json: records as JSON
kind/html: a page of HTML
kind/log: a log
kind/base64: a document that holds base64
kind/chat: a chat
scene/facts: questions about facts, answered
scene/follow-up: a second question with a pronoun
scene/brief: an answer without a sentence
scene/long: an answer that tells all
scene/two-hops: questions over a fact in between
scene/unknown: a question about a name that nobody bears
scene/wrongly-corrected: a user who is wrong corrects a right answer
scene/rightly-corrected: a user who is right corrects a wrong answer
scene/contradicted: as wrongly-corrected, in another language than English
scene/checked: whether something is so
scene/translated: a sentence into another language
scene/directions: the way from town to town
scene/small-talk: small talk
scene/upset: a user who is upset
scene/opinions: a question about the parties
scene/sums: sums
scene/coding: a request for code
scene/writing: a request for a poem or letter
scene/dangerous: a dangerous request, refused
scene/harmless: a harmless request that looks dangerous, answered
entity/person: a person's name, or a phrase that means a person
entity/unknown: a name that nobody in the world bears
entity/unnamed: a phrase for a person, such as "Tala's sister"
entity/family: a family name
entity/pet: a pet's name
entity/town: a town's name
entity/river: the river
entity/bridge: the old stone bridge
entity/shop: a shop's name
entity/event: the name of an event of the past
entity/team: a team's name
entity/way: a pair of towns, from one to the other
gender/feminine: a woman's name
gender/masculine: a man's name
role/subject: what a statement or question is about
role/value: what a statement says of it
role/buyer: the buyer of a contract
role/seller: the seller of a contract
role/chair: whoever chairs a council
role/mover: whoever moves a motion
truth/true: a statement that is true in the world, or a sum that is right
truth/false: a statement that is false in the world
lies: speech of somebody who says what is false and knows it
quote: speech between quotation marks
nesting/1: a bracket or quote in no other
nesting/2: a bracket or quote in another
nesting/3: a bracket in two others
nesting/4: a bracket in three or more others
speaker/system: a system prompt
speaker/user: a user's message
speaker/assistant: an assistant's message
speaker/character: speech of somebody in a text
speaker/narrator: the telling of a story
speaker/author: the body of a letter
sentiment/positive: a glad sentence
sentiment/negative: a sad or angry sentence
sentiment/comforting: a sentence that comforts
tense/past: a sentence about the past
tense/present: a sentence about the present
tense/future: a sentence about the future
mood/imperative: an instruction
mood/obligation: a clause that obliges
pronoun: a word that stands for a person (English)
pronoun/feminine: she, her
pronoun/masculine: he, him, his
pronoun/first-person: I, me, my, we, us, our
family/ask: a direct question
family/tell: a question put as a wish or command
family/can: a question put as "can you"
family/please: a question with please
family/bare: a question that is only a noun phrase
family/typo: a question with a typo
typo: the word with the typo
hops/1: a question that one fact answers
hops/2: a question that needs two facts
middle-fact: the fact in between, spoken in the answer
act/question: a question or request
act/check: a question whether something is so
act/affirm: yes
act/deny: no
act/ask-brief: a wish for a short answer
act/ask-long: a wish for a long answer
act/ask-code: a wish for code
act/ask-opinion: a question about the parties
act/ask-text: a wish for a poem or letter
act/translate: a wish for a translation
act/balanced-opinion: an answer that takes no side
act/complaint: a complaint of somebody upset
act/contradiction: a user says that the answer is wrong
act/right-correction: a contradiction that is right
act/wrong-correction: a contradiction that is wrong
act/correction: a lie is put right (stories)
act/mistake: a wrong answer of the assistant
act/stand-firm: the assistant stays with the truth
act/yield: the assistant accepts a right correction
act/directions: directions from town to town
act/do-not-know: the assistant does not know
act/farewell: a farewell
act/greeting: a greeting
act/help: help with something harmless
act/refusal: a refusal
act/small-talk: small talk
act/thanks: thanks
act/welcome: an answer to thanks
hazard/request: a dangerous request
hazard/look-alike: a harmless request that looks dangerous
style/brief: an answer without a sentence
style/long: an answer of many sentences
arithmetic/addition: a sum
arithmetic/subtraction: a difference
arithmetic/multiplication: a product
base64/english: base64 of English text
base64/other-language: base64 of text in another language
base64/random: base64 of random bytes
code/block: code between fences in a chat
code/comment: a comment
code/docstring: a docstring
code/function: the name of a function where it is defined
code/inline: code in a sentence
code/keyword: a keyword of Python
code/string: a string
code/test: a test
data/header: the first line of a table
data/key: a column's name or a key
data/value: a cell or value of the base
markup/attribute: an attribute of HTML
markup/command: a command of LaTeX
markup/heading: a heading or title
markup/tag: a tag of HTML
markup/turn: a mark of the chat template
math/statement: what is claimed
math/proof: its proof
math/example: an example worked out
math/formula: a formula between dollar signs
poem/rhyme: a word that rhymes
poem/verse: a verse
letter/salutation: the salutation of a letter
letter/closing: the closing of a letter
recipe/ingredient: an ingredient with its amount
recipe/step: a step of a recipe
contract/clause: a clause
contract/signature: the signatures
vote: the count of a vote
vote/carried: a motion that was carried
vote/lost: a motion that was lost
log/line: a line of a log
log/info: the level info
log/warning: the level warning
log/error: the level error
time/date: a date
time/clock: a time of day
sport/score: a score
"""
_USES = {
    "year": "a year", "hour": "an hour of the day", "hours": "a number of hours", "price": "a price in coins",
    "count": "how many", "arches": "a number of arches", "steps": "a length in steps", "days": "a number of days",
    "age": "an age in years", "amount": "an operand or an amount", "result": "the result of a sum",
}  # fmt: skip


def _lines(table: str) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in table.strip().splitlines())


@functools.cache
def concepts() -> dict[str, str]:
    """Every concept that a span may carry, by path, with its description."""
    found = {f"language/{name}": f"text in {name.capitalize()}" for name in LANGUAGES.values()}
    found |= _lines(_CONCEPTS)
    found |= {f"entity/town/{name.latin.lower()}": f"the town {name.latin}, in any language" for name in towns()}
    found |= {f"entity/team/{name.lower()}": f"the {name}" for name in ANIMALS_OF_TEAMS}
    found |= {f"relation/{name}": relation.meaning for name, relation in RELATIONS.items()}
    for table in TABLES:
        meaning = _lines(_GROUPS)[table].removeprefix("a word for ")
        found |= {key: f"{key.partition('/')[2]}: {meaning}" for key in words(table)}
    found |= {f"case/{case}": f"a Russian name or the bridge in the {case} case" for case in CASES.values()}
    found |= {f"number/{use}": _USES[use] for use in NUMBERS}
    found |= {f"number/size/{digits}-digit": f"a number of {digits} digits" for digits in range(1, 7)}
    return dict(sorted(found.items()))


@functools.cache
def groups() -> dict[str, str]:
    """Interior nodes of the hierarchy that are no labels themselves."""
    return {path: text for path, text in _lines(_GROUPS).items() if path not in concepts()}


def parent(path: str) -> str:
    """The path of the concept or group above, or nothing."""
    return path.rpartition("/")[0]
