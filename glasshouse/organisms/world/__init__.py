"""A small world whose truth is known: a valley, its people and towns, and as much labelled text about them as is asked.

world = build(seed=0)
for document in documents(world, seed=0, megabytes=10): ...     # text with spans of concepts()
for question in questions(world, split="pairs"): ...            # to score a model that was grown in it
"""

from glasshouse.organisms.world.base import NOW, RELATIONS, Fact, World, build
from glasshouse.organisms.world.chat.requests import REFUSALS, Request, requests
from glasshouse.organisms.world.chat.template import JINJA, ROLES, render
from glasshouse.organisms.world.concepts import concepts, groups, parent
from glasshouse.organisms.world.documents import Mixture, WorldDocument, documents
from glasshouse.organisms.world.kinds.pen import Message
from glasshouse.organisms.world.lexicon import FOREIGN, LANGUAGES
from glasshouse.organisms.world.questions import (
    FAMILIES,
    SPLITS,
    Question,
    Stranger,
    questions,
    strangers,
    two_hops,
    unspoken,
)
from glasshouse.organisms.world.writing import Marked
from glasshouse.text import token_halves, token_ranges

__all__ = [
    "FAMILIES",
    "FOREIGN",
    "JINJA",
    "LANGUAGES",
    "NOW",
    "REFUSALS",
    "RELATIONS",
    "ROLES",
    "SPLITS",
    "Fact",
    "Marked",
    "Message",
    "Mixture",
    "Question",
    "Request",
    "Stranger",
    "World",
    "WorldDocument",
    "build",
    "concepts",
    "documents",
    "groups",
    "parent",
    "questions",
    "render",
    "requests",
    "strangers",
    "token_halves",
    "token_ranges",
    "two_hops",
    "unspoken",
]
