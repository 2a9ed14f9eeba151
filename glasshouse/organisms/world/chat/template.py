"""The chat template: the only place that knows how messages are written out as text.

<|user|>Where does Tala live?<|end|>
<|assistant|>Tala lives in Veden.<|end|>
"""

from __future__ import annotations

from collections.abc import Sequence

from glasshouse.organisms.world.kinds.pen import Message
from glasshouse.organisms.world.writing import Marked, Writer, mark

ROLES = ("system", "user", "assistant")
END = "<|end|>"
AFTER = "\n"  # between messages
# The same for `transformers`.
JINJA = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}" + END + "\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def opening(role: str) -> str:
    return f"<|{role}|>"


def render(messages: Sequence[Message]) -> Marked:
    """The chat as one text; each content is labelled with who speaks, each mark as such."""
    writer = Writer()
    for message in messages:
        writer.add(mark(opening(message.role), "markup/turn"))
        writer.add(mark(message.content, f"speaker/{message.role}"))
        writer.add(mark(END, "markup/turn"), AFTER)
    return writer.done()
