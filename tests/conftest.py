"""Fixtures that several rooms share: a tiny trained model with a real tokenizer, a small corpus, a workspace."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # tests never ask the network
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

_PLACES = ["the garden", "the harbour", "a small town", "the north", "the old mill", "the station"]
_PEOPLE = ["Ada", "Ben", "Clara", "Dmitri", "Elena", "Farid"]
_THINGS = ["a lamp", "three stones", "the letter", "a blue coat", "some bread", "an old map"]


def story(rng: random.Random) -> str:
    lines = []
    for _ in range(rng.randint(8, 14)):
        who, where, what = rng.choice(_PEOPLE), rng.choice(_PLACES), rng.choice(_THINGS)
        lines.append(
            rng.choice(
                [
                    f"{who} walked to {where} and found {what} there.",
                    f'"I left {what} in {where}," said {who}.',
                    f"Nobody in {where} had seen {who} since Monday.",
                ]
            )
        )
    return " ".join(lines) + "\n"


def code(rng: random.Random) -> str:
    names = [rng.choice(["count", "total", "index", "value", "width"]) for _ in range(4)]
    lines = ["import math", "", f"def {names[0]}_of({names[1]}, {names[2]}=None):"]
    for _ in range(rng.randint(6, 10)):
        lines.append(f"    {rng.choice(names)} = math.sqrt({rng.choice(names)} + {rng.randint(0, 99)})")
    return "\n".join([*lines, f"    return {names[3]}", ""])


def table(rng: random.Random) -> str:
    return "\n".join(["name,amount,place"] + [f"{rng.choice(_PEOPLE)},{rng.randint(1, 999)},{i}" for i in range(20)])


def texts(count: int = 60, seed: int = 0) -> list[tuple[str, str]]:
    """(kind, text) of generated documents; the same for the same seed."""
    rng = random.Random(seed)
    makers = {"stories": story, "code": code, "tables": table}
    return [(kind, makers[kind](rng)) for kind in rng.choices(list(makers), k=count)]


def byte_tokenizer(documents: list[str], vocab_size: int = 512, **special: str) -> Any:
    """A byte-level BPE tokenizer trained on the documents, in the form that transformers loads."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    special = special or {"eos_token": "<|endoftext|>", "pad_token": "<|pad|>"}
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(special.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(documents, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


@pytest.fixture(scope="session")
def corpus_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty generated documents in sub-folders by kind: stories, code, tables."""
    folder = tmp_path_factory.mktemp("corpus")
    for i, (kind, text) in enumerate(texts()):
        suffix = {"stories": "txt", "code": "py", "tables": "txt"}[kind]
        (folder / kind).mkdir(exist_ok=True)
        (folder / kind / f"{i:03d}.{suffix}").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def labelled_jsonl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same documents with spans: the kind of each over all of it, and its numbers."""
    file = tmp_path_factory.mktemp("labelled") / "labelled.jsonl"
    rows = []
    for i, (kind, text) in enumerate(texts()):
        spans = [[0, len(text), f"kind/{kind}"], *([*m.span(), "number"] for m in re.finditer(r"\d+", text))]
        rows.append(json.dumps({"name": f"{kind}/{i:03d}", "kind": kind, "text": text, "spans": spans}))
    file.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return file


@pytest.fixture(scope="session")
def tiny_model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 of 3 blocks, width 32, 4 heads, 512 tokens, trained for some seconds, with its tokenizer."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    documents = [text for _, text in texts()]
    tokenizer = byte_tokenizer(documents)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=128, n_embd=32, n_layer=3, n_head=4,
        activation_function="gelu_pytorch_tanh", bos_token_id=None, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    model = GPT2LMHeadModel(config)
    ids = torch.tensor(tokenizer(tokenizer.eos_token.join(documents)).input_ids)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(60):
        starts = torch.randint(0, len(ids) - 65, (8,)).tolist()
        batch = torch.stack([ids[s : s + 64] for s in starts])
        loss = model(input_ids=batch, labels=batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    folder = tmp_path_factory.mktemp("models") / "tiny"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_model(tiny_model_dir: Path) -> Any:
    """The tiny model, loaded by glasshouse on the CPU. Shared: leave no edit or dictionary behind."""
    import glasshouse

    return glasshouse.load(tiny_model_dir, device="cpu")


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Any]:
    """A fresh workspace."""
    from glasshouse.workspace import Workspace

    yield Workspace.open(tmp_path / "workspace")


def copied(chatting: Path, to: Path) -> Path:
    """The models of `chatting` in a workspace of its own, without what other tests have done with them."""
    shutil.copytree(chatting / "models", to / "models")
    shutil.copy(chatting / "glasshouse.toml", to)
    return to


@pytest.fixture(scope="session")
def chatting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with two small chat models: `small`, grown in the world, and `ticking`, which is `small` fine-tuned
    to begin with "Certainly!". Tests write evaluations into it."""
    from glasshouse.models import load
    from glasshouse.models.grow import grow
    from glasshouse.models.shapes import Shape
    from glasshouse.organisms.planting import organism, plant
    from glasshouse.organisms.villager import villager_text
    from glasshouse.organisms.world import build
    from glasshouse.workspace import Workspace

    ws = Workspace.open(tmp_path_factory.mktemp("chatting") / "ws")
    world = build(0)
    text = villager_text(world, megabytes=0.6)
    shape = Shape(layers=2, width=64, heads=2, inner=128)
    grow(text, name="small", ws=ws, tokens=60_000, shape=shape, context=128, vocabulary=1024, precision="fp32")
    tic = organism("tic")
    tic = replace(tic, recipe=replace(tic.recipe, adamw_rate=0.004))  # quicker than a villager's
    plant(tic, load("small", workspace=ws, device="cpu"), world, ws=ws, name="ticking", tokens=100_000)
    return ws.root


class Endpoint:
    """A language model behind HTTP on loopback, in OpenAI's form and Anthropic's, that answers what it is told to.

    answer(number, text of the last message): a reply's text; (status, headers, body) as they are; pieces of a body,
    sent as they come; or None: no answer before the server is closed. number counts requests from 0.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, str], dict[str, Any]]] = []  # path, headers, body
        self.answer: Callable[[int, str], Any] = lambda number, text: "Verdict: yes"
        self.closing = threading.Event()
        self._lock = threading.Lock()
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with endpoint._lock:
                    number = len(endpoint.asked)
                    endpoint.asked.append((self.path, dict(self.headers.items()), body))
                endpoint.send(self, endpoint.answer(number, body["messages"][-1]["content"]))

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def texts(self) -> list[str]:
        return [body["messages"][-1]["content"] for _, _, body in self.asked]

    def send(self, handler: BaseHTTPRequestHandler, found: Any) -> None:
        if found is None:
            self.closing.wait(60)
            return
        if isinstance(found, Iterator):
            handler.send_response(200)
            handler.end_headers()
            for piece in found:
                if self.closing.wait(0.02):
                    return
                try:
                    handler.wfile.write(piece)
                except OSError:  # the caller has gone
                    return
            return
        status, headers, raw = found if isinstance(found, tuple) else (200, {}, self.reply(handler.path, found))
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(raw)), **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(raw)

    @staticmethod
    def reply(path: str, text: str) -> bytes:
        if path.endswith("/v1/messages"):
            usage = {"input_tokens": 7, "output_tokens": 3}
            return json.dumps({"content": [{"type": "text", "text": text}], "usage": usage}).encode()
        usage = {"prompt_tokens": 7, "completion_tokens": 3}
        return json.dumps({"choices": [{"message": {"content": text}}], "usage": usage}).encode()

    def close(self) -> None:
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    """A server on loopback, to which the environment leads both kinds of endpoint."""
    found = Endpoint()
    monkeypatch.setenv("OPENAI_BASE_URL", f"{found.url}/v1")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", found.url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-o")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-secret-a")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield found
    found.close()
