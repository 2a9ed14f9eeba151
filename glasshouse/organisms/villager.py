"""The villager: the world as text to grow a chat model from.

    text = villager_text(build(0), seed=0)              # a Corpus, with its chats' marks as tokens of their own
    grow(text, name="villager", ws=ws, minutes=MINUTES, shape=SHAPE, context=CONTEXT)

What it learns to write: every text that is no chat, and in a chat what the assistant says (but for mistakes that are
there to be put right). What it is asked, it reads. Held out of the text are all questions of `questions()` that are not
in the split `train`, two-hop paths, half of the unknown names, and the held-out requests.
"""

from __future__ import annotations

from glasshouse.organisms.world import JINJA, ROLES, Mixture, World, WorldDocument, documents
from glasshouse.organisms.world.chat.template import AFTER, END, opening
from glasshouse.organisms.world.writing import Span
from glasshouse.text import Chat, Corpus, Document
from glasshouse.types import UserError

CHAT = Chat((*(opening(role) for role in ROLES), END), END, "{{ bos_token }}" + JINJA)
# Shares of documents. Of the bytes 58% are of English chats, 26% of chats in other languages.
MIXTURE = Mixture(
    texts=0.15, chats=2.0, foreign_texts=0.025, foreign_chats=0.14,
    weights={
        "facts": 96, "two-hops": 50, "unknown": 22, "sums": 18, "harmless": 14, "dangerous": 13,
        "wrongly-corrected": 6, "rightly-corrected": 6,
    },
)  # fmt: skip
MEGABYTES = 12.0  # 2.7 million tokens: no document is read more than two or three times in eight minutes
SHAPE, CONTEXT, MINUTES = "villager", 128, 7.5


def villager_text(
    world: World,
    *,
    seed: int = 0,
    megabytes: float = MEGABYTES,
    mixture: Mixture = MIXTURE,
    chat: bool = True,
    answers_only: bool = True,
) -> Corpus:
    """Documents of the world as a corpus, the same for the same world and seed.

    chat: its marks are special tokens (see `Chat`); without it they are text like any other. answers_only: of a chat
    only the assistant's turns, with the mark that ends them, are learnt. Raises `UserError` for no text.
    """
    if not 0 < megabytes < 10_000:
        raise UserError(f"expected more than 0 megabytes of the world, got {megabytes}; give a positive number")
    found = documents(world, seed=seed, megabytes=megabytes, mixture=mixture)
    made = tuple(as_document(i, d, answers_only=answers_only) for i, d in enumerate(found))
    return Corpus("world", made, chat=CHAT if chat else None)


def as_document(index: int, made: WorldDocument, *, answers_only: bool = True) -> Document:
    """As a corpus holds it, with what is not to be learnt."""
    return Document(index, made.name, made.kind, made.text, unlearned=tuple(_unlearned(made, answers_only)))


def labelled_text(world: World, *, seed: int, megabytes: float) -> tuple[Corpus, list[tuple[Span, ...]]]:
    """Documents of the world as a corpus, with the spans of each: what `features.labelled.read` takes. For text that
    the villager was not grown from, give a seed of its own."""
    found = list(documents(world, seed=seed, megabytes=megabytes))
    made = tuple(Document(i, d.name, d.kind, d.text) for i, d in enumerate(found))
    return Corpus("world", made, chat=CHAT), [d.spans for d in found]


def _unlearned(document: WorldDocument, answers_only: bool) -> list[tuple[int, int]]:
    """Stretches of a chat that are read only: what is not the assistant's, the marks that the template writes, and
    the assistant's mistakes."""
    found: list[tuple[int, int]] = []
    at = begun = 0
    for message in document.messages:
        content = at + len(opening(message.role))
        end = content + len(message.content.text) + len(END)
        if message.learn and (message.role == "assistant" or not answers_only):
            if answers_only:
                found.append((begun, content))
            begun = end
        elif not answers_only:
            found.append((content, end))
        at = end + len(AFTER)
    if answers_only and document.messages:
        found.append((begun, len(document.text)))
    return found
