"""Endpoints over HTTP: what is sent, and what a reply must look like. A row of `ENDPOINTS` is one kind.

The address of an endpoint and its key come from the environment and from nowhere else: a behaviour's file, which may be
somebody else's, names a model and cannot say where the key goes.
"""

from __future__ import annotations

import email.utils
import json
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from glasshouse.calls.record import Call, LanguageModel
from glasshouse.types import UserError
from glasshouse.workspace import Workspace

if TYPE_CHECKING:
    import httpx

LARGEST = 4_000_000  # bytes of an answer
REFUSED = {401: "its key", 403: "its key", 404: "the model's name and the address"}  # what to check


class Said(NamedTuple):
    """text: the reply. tokens: of the messages and of the reply, as the endpoint counts."""

    text: str
    tokens: tuple[int, int]


class Failed(Exception):
    """A call without a reply. again: another try may do better. wait: seconds that the endpoint asked for. down: it
    did not answer as an endpoint does."""

    def __init__(self, why: str, *, again: bool = True, wait: float = 0.0, down: bool = True) -> None:
        super().__init__(why)
        self.again, self.wait, self.down = again, wait, down


class Refused(Exception):
    """No call of this model can succeed: a wrong key, an unknown model."""


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """home: the address, unless the environment's variable `base` has another. key: the variable of the key. read: the
    text and the tokens of a reply; raises LookupError, TypeError, ValueError or OverflowError for what is none."""

    home: str
    base: str
    key: str
    path: str
    headers: Callable[[str], dict[str, str]]
    body: Callable[[Call, bool], dict[str, Any]]
    read: Callable[[Any], Said]


def _openai_body(call: Call, home: bool) -> dict[str, Any]:
    """OpenAI's newer models take the limit under a newer name only, other servers mostly know the older one."""
    messages = [{"role": role, "content": content} for role, content in call.messages]
    limit = "max_completion_tokens" if home else "max_tokens"
    return {"model": call.model.name, "messages": messages, limit: call.max_tokens, **_temperature(call)}


def _openai_read(found: Any) -> Said:
    usage = found.get("usage") or {}
    text = found["choices"][0]["message"]["content"]
    return Said(text, (_count(usage, "prompt_tokens"), _count(usage, "completion_tokens")))


def _count(usage: Any, of: str) -> int:
    """Fewer than none would give back what was spent."""
    count = int(usage.get(of, 0))
    if count < 0:
        raise ValueError(f"{of}: {count}")
    return count


def _anthropic_body(call: Call, home: bool) -> dict[str, Any]:
    messages = [{"role": role, "content": content} for role, content in call.messages if role != "system"]
    system = "\n\n".join(content for role, content in call.messages if role == "system")
    body = {"model": call.model.name, "messages": messages, "max_tokens": call.max_tokens, **_temperature(call)}
    return {**body, "system": system} if system else body


def _anthropic_read(found: Any) -> Said:
    usage = found.get("usage") or {}
    text = "".join(part["text"] for part in found["content"] if part["type"] == "text")
    return Said(text, (_count(usage, "input_tokens"), _count(usage, "output_tokens")))


def _temperature(call: Call) -> dict[str, Any]:
    return {} if call.temperature is None else {"temperature": call.temperature}


ENDPOINTS = {
    "openai": Endpoint(
        home="https://api.openai.com/v1", base="OPENAI_BASE_URL", key="OPENAI_API_KEY", path="/chat/completions",
        headers=lambda key: {"Authorization": f"Bearer {key}"} if key else {}, body=_openai_body, read=_openai_read,
    ),
    "anthropic": Endpoint(
        home="https://api.anthropic.com", base="ANTHROPIC_BASE_URL", key="ANTHROPIC_API_KEY", path="/v1/messages",
        headers=lambda key: {"anthropic-version": "2023-06-01", **({"x-api-key": key} if key else {})},
        body=_anthropic_body, read=_anthropic_read,
    ),
}  # fmt: skip
KINDS = (*ENDPOINTS, "local")


def is_model_name(text: Any) -> bool:
    """Whether it is written KIND/NAME, such as openai/gpt-4.1-mini or local/villager."""
    kind, slash, name = text.partition("/") if isinstance(text, str) else ("", "", "")
    return bool(slash) and kind in KINDS and bool(name.strip())


def language_model(text: str, ws: Workspace, environment: Mapping[str, str] = os.environ) -> LanguageModel:
    """openai/NAME (at OPENAI_BASE_URL, else OpenAI), anthropic/NAME (at ANTHROPIC_BASE_URL, else Anthropic), or
    local/NAME, a model of the workspace. Asks nobody. Raises `UserError`."""
    if not is_model_name(text):
        raise UserError(f"expected a model written openai/NAME, anthropic/NAME or local/NAME, got {text!r:.60}")
    kind, _, name = text.partition("/")
    if kind == "local":
        return LanguageModel(kind=kind, name=name, at=ws.manifest("models", name)["hash"])
    endpoint = ENDPOINTS[kind]
    at = environment.get(endpoint.base, "").rstrip("/") or endpoint.home
    if not re.fullmatch(r"https?://[^\s/@?#]+(/[^\s@?#]*)?", at):
        raise UserError(f"expected {endpoint.base} to be an address such as {endpoint.home}, without a key in it")
    _key(endpoint, environment)
    return LanguageModel(kind=kind, name=name, at=at)


def _key(endpoint: Endpoint, environment: Mapping[str, str]) -> str:
    """Raises `UserError` for one that no header can hold, and does not show it."""
    key = environment.get(endpoint.key, "")
    if not re.fullmatch("[!-~]*", key):
        raise UserError(f"expected {endpoint.key} to be plain letters, digits and marks, got others; set it again")
    return key


def send(client: httpx.Client, call: Call, seconds: float, environment: Mapping[str, str] = os.environ) -> Said:
    """Ask once, the whole answer within `seconds`. Raises `Failed` and `Refused`, and `UserError` for a key."""
    import httpx

    endpoint, at = ENDPOINTS[call.model.kind], call.model.at
    key = _key(endpoint, environment)
    if not key and at == endpoint.home:
        raise Refused(f"expected the key of {call.model.kind} in {endpoint.key}, which is not set; set it")
    body = endpoint.body(call, at == endpoint.home)
    try:
        with client.stream(
            "POST", f"{at}{endpoint.path}", json=body, headers=endpoint.headers(key), timeout=seconds
        ) as response:
            raw = _within(response, seconds)
    except httpx.TimeoutException:
        raise Failed(f"no answer within {seconds:g} s") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Failed(f"no connection ({type(error).__name__})") from None
    if response.status_code != 200:
        raise _wrong(call, endpoint, response, raw.decode("utf-8", "replace").replace(key or "\0", "…"))
    try:
        said = endpoint.read(json.loads(raw))
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError):
        raise Failed("an answer that is not the JSON of a reply") from None
    if not isinstance(said.text, str):
        raise Failed("an answer without text", down=False)
    return said._replace(text=said.text.encode("utf-8", "replace").decode("utf-8"))  # JSON can hold half characters


def _within(response: httpx.Response, seconds: float) -> bytes:
    """The answer's body; httpx's own timeout begins anew with every piece."""
    ends, raw = time.monotonic() + seconds, bytearray()
    for piece in response.iter_bytes():
        raw += piece
        if time.monotonic() > ends:
            raise Failed(f"no whole answer within {seconds:g} s")
        if len(raw) > LARGEST:
            raise Failed(f"an answer of more than {LARGEST:,} bytes")
    return bytes(raw)


def _wrong(call: Call, endpoint: Endpoint, response: httpx.Response, text: str) -> Exception:
    """What a status other than 200 means: 408, 409, 429 and 5xx pass, as both vendors' libraries have it."""
    status = response.status_code
    if status in REFUSED:
        return Refused(
            f"{call.model.at} answers {status} to a call of {call.model}; check {REFUSED[status]} "
            f"({endpoint.key}, {endpoint.base})"
        )
    if status in (408, 409, 429) or status >= 500:
        return Failed(f"status {status}", wait=_asked_to_wait(response.headers.get("retry-after", "")))
    return Failed(f"status {status}: {' '.join(text.split())[:160]}", again=False)


def _asked_to_wait(said: str) -> float:
    """Seconds of a Retry-After header, which has seconds or a date (RFC 9110, 10.2.3)."""
    try:
        return max(float(said), 0.0)
    except ValueError:
        pass
    try:
        return max(email.utils.parsedate_to_datetime(said).timestamp() - time.time(), 0.0)
    except ValueError:
        return 0.0
