"""Commands through the real entry point: what they print, how they end, and that they are quick to help."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from glasshouse.cli import app
from glasshouse.cli.entry import count
from glasshouse.cli.screen import few_lines, shaded
from glasshouse.cli.sources import demonstrated, model_name
from glasshouse.features.opening import default_name
from glasshouse.workspace import Workspace

PROGRAM = [sys.executable, "-m", "glasshouse"]
COMMANDS = [
    "demo",
    "grow",
    "tune",
    "open",
    "harvest",
    "learn",
    "features",
    "concepts",
    "chat",
    "serve",
    "export",
    "test",
    "compare",
    "discover",
    "did-it-change",
    "rate",
    "gate",
    "import",
    "doctor",
    "ledger",
]


def invoke(*words: object) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


def succeed(*words: object) -> Any:
    result = invoke(*words)
    assert result.exit_code == 0, result.stderr or repr(result.exception)
    return result


@pytest.fixture(scope="session")
def opened(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path, corpus_dir: Path) -> dict[str, Any]:
    """A workspace that `glasshouse open` filled from the tiny model, and what it printed."""
    folder = tmp_path_factory.mktemp("opened") / "ws"
    words = ["open", tiny_model_dir, "--corpus", corpus_dir, "--tokens", "12k", "--features", 64, "--k", 4]
    words += ["--context", 64, "--workspace", folder, "--no-serve", "--json"]
    result = succeed(*words)
    return {"words": words, "ws": Workspace.open(folder), "found": json.loads(result.stdout), "said": result.stderr}


# -- starting and ending ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
def test_help_comes_without_torch(command: list[str]) -> None:
    code = (
        "import sys\nfrom glasshouse.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n"
        "    heavy = {'torch', 'transformers', 'duckdb', 'pandas'} & set(sys.modules)\n"
        "    sys.exit(f'imported {heavy}' if heavy else end.code)"
    )
    done = subprocess.run([sys.executable, "-c", code, *command, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Usage:" in done.stdout


def test_what_a_person_would_see_nothing_in() -> None:
    from glasshouse.cli.summary import readable

    assert readable(" was built by the river, and nobody") and readable("在河边") and readable("def f(x): return x")
    assert not any(map(readable, ("", "\n\n\n  \n a", "The firstnXnol6n7mnPWozdfnkl+wVWF1ZlphHBTzKUuBp+z")))


def test_commands_are_those_of_this_version() -> None:
    import typer

    group: Any = typer.main.get_command(app)
    assert group.list_commands(None) == COMMANDS
    single = {name: command for name, command in group.commands.items() if not hasattr(command, "commands")}
    for name, command in (single | group.commands["ledger"].commands).items():
        options = {option for parameter in command.params for option in parameter.opts}
        assert "--workspace" in options, name
        assert "--json" in options or name == "serve", name


def test_without_a_command_it_shows_help() -> None:
    assert "Commands:" in succeed().stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["grow"], "Missing argument 'CORPUS'"),
        (["grow", "python", "--tokens", "many"], "expected a count such as 2000000"),
        (["grow", "python", "--tokens", "-3"], "expected a count"),
        (["nothing"], "No such command 'nothing'"),
        (["doctor", "--colour"], "No such option"),
        (["serve", "--port", "99999"], "65535"),
    ],
)
def test_wrong_words_get_one_line(words: list[str], message: str) -> None:
    result = invoke(*words)
    assert result.exit_code == 2 and result.stderr.count("\n") == 1
    assert message in result.stderr and "--help`" in result.stderr and result.stdout == ""


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("glasshouse.doctor.describe", broken)
    assert isinstance(invoke("doctor").exception, ZeroDivisionError)


@pytest.mark.parametrize("refusal", [errno.EACCES, errno.EROFS, errno.ENOSPC])
def test_a_place_that_cannot_be_written_gets_one_line(monkeypatch: pytest.MonkeyPatch, refusal: int) -> None:
    def refused(*_: object) -> None:
        raise OSError(refusal, os.strerror(refusal), "ws/locks")

    monkeypatch.setattr("glasshouse.doctor.describe", refused)
    result = invoke("doctor")
    assert result.exit_code == 2 and result.stderr.count("\n") == 1
    assert f"expected to read and write at ws/locks, got {os.strerror(refusal)}" in result.stderr


def test_ctrl_c_says_how_to_go_on(tmp_path: Path) -> None:
    words = ["grow", "python", "--tokens", "50M", "--shape", "tiny", "--name", "a", "--workspace", tmp_path / "ws"]
    process = subprocess.Popen([*PROGRAM, *map(str, words)], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None and "documents" in process.stderr.readline()
    deadline = time.monotonic() + 60
    while not (tmp_path / "ws" / "models" / ".a.partial" / "draft.json").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130, said
    assert said.rstrip().endswith("stopped; run the same command again to go on") and "Traceback" not in said
    assert (tmp_path / "ws" / "models" / ".a.partial").is_dir()


# -- small things ----------------------------------------------------------------------------------------------------


def test_counts_and_names() -> None:
    assert [count(t) for t in ("7", "2_000_000", "2e6", "2M", "1.5k", "3g")] == [
        7, 2_000_000, 2_000_000, 2_000_000, 1500, 3_000_000_000,
    ]  # fmt: skip
    assert model_name("/data/My Notes.txt") == "my-notes-model" and model_name("/") == "my-model"
    assert (
        demonstrated("world", quick=False)["name"] == "villager"
        and demonstrated("python", quick=False)["name"] == "demo"
    )
    assert demonstrated("world", quick=True)["name"] == "villager-quick"
    own = demonstrated("/data/My Notes.txt", quick=False)
    assert own["name"] == "demo-my-notes-model" and not own["budget"].weights
    assert default_name("m" * 64, "resid.6") == "m" * 56 + "-resid.6"
    for wrong in ("0", "1.5", "1e-3", "many", "9" * 400):
        with pytest.raises(typer.BadParameter, match="expected a count"):
            count(wrong)


def test_text_of_models_is_inert() -> None:
    example = {"tokens": ["a", "[red]\x1b[2J", "\n"], "activations": [0.0, 2.0, 0.5]}
    assert shaded(example, colour=False).plain == "a[[red]�[2J]⏎"
    assert [span.style for span in shaded(example, colour=True).spans] == ["on orange3 bold", "on grey23"]
    assert few_lines("a\n\n \n\nb\n") == "a⏎\nb"


def test_doctor() -> None:
    found = json.loads(succeed("doctor", "--json").stdout)
    assert found["cores"] >= 1 and found["peaks"]["matmul_float32_tflops"] > 0
    assert "versions" in found and found["versions"]["torch"]


# -- the work --------------------------------------------------------------------------------------------------------


def test_open_ends_in_features(opened: dict[str, Any]) -> None:
    found = opened["found"]
    name = f"{found['model']}-{found['site']}"
    assert found["dictionary"] == name and found["site"] == "resid.2"
    ws: Workspace = opened["ws"]
    for kind in ("activations", "dictionaries", "features"):
        assert ws.names(kind) == [name], kind
    assert ws.names("models") == [found["model"]]
    assert found["evidence"]["n_features"] == 64 and 0 < found["report"]["unexplained"]["value"] < 1.5
    assert len(found["features"]) <= 10
    assert "about" in opened["said"] and "memory" in opened["said"] and "disk" in opened["said"]
    if found["steered"]:
        assert found["steered"]["steered"] != found["steered"]["plain"]


def test_open_again_redoes_nothing(opened: dict[str, Any]) -> None:
    def stamps() -> dict[str, int]:
        files = [p for p in opened["ws"].root.rglob("*") if p.is_file() and not p.name.startswith("index.sqlite")]
        return {str(p): p.stat().st_mtime_ns for p in files if "locks" not in p.parts}

    before = stamps()
    assert json.loads(succeed(*opened["words"]).stdout) == opened["found"]
    assert stamps() == before


def test_open_in_words(opened: dict[str, Any]) -> None:
    words = [word for word in opened["words"] if word != "--json"]
    shown = succeed(*words).stdout
    assert "features have a clear label" in shown and "unexplained variance" in shown


def test_the_same_step_by_step(opened: dict[str, Any], corpus_dir: Path) -> None:
    """harvest, learn and features by their own commands, on the model that `open` remembers by name."""
    at = ["--workspace", opened["ws"].root, "--json"]
    model = opened["found"]["model"]
    made = json.loads(
        succeed(
            "harvest", model, "--site", "resid.1", "--site", "mlp_out.0", "--corpus", corpus_dir, "--tokens", "8k",
            "--context", 64, "--name", "two", *at,
        ).stdout
    )  # fmt: skip
    assert made["sites"] == ["resid.1", "mlp_out.0"] and made["rows"] > 1000
    assert "expected --site, one of resid.1, mlp_out.0" in invoke("learn", "two", *at).stderr
    learnt = json.loads(
        succeed(
            "learn", "two", "--site", "resid.1", "--features", 48, "--k", 4, "--batch", 256, "--name", "d", *at
        ).stdout
    )
    assert learnt["features"] == 48 and learnt["report"]["unexplained"]["value"] < 1.5
    seen = json.loads(succeed("features", "d", "--corpus", corpus_dir, "--tokens", "8k", "--context", 64, *at).stdout)
    assert seen["n_features"] == 48 and seen["name"] == "d"


def test_a_dictionary_is_learnt_with_nothing_on_disk(opened: dict[str, Any], corpus_dir: Path) -> None:
    ws, model = opened["ws"], opened["found"]["model"]
    stored = ws.names("activations")
    words = ["--live", corpus_dir, "--tokens", "8k", "--features", 48, "--k", 4, "--batch", 256, "--name", "live"]
    assert (
        "expected --site, such as resid.6, beside --live"
        in invoke("learn", model, *words, "--workspace", ws.root).stderr
    )
    at = ["--site", "resid.1", "--workspace", ws.root, "--json"]
    learnt = json.loads(succeed("learn", model, *words, *at).stdout)
    assert learnt["site"] == "resid.1" and learnt["report"]["unexplained"]["value"] < 1.5
    assert learnt["report"]["loss_recovered"] is not None and ws.names("activations") == stored


def test_a_window_is_what_the_model_reads_unless_told(opened: dict[str, Any], corpus_dir: Path) -> None:
    words = ["--site", "resid.1", "--corpus", corpus_dir, "--tokens", "2k", "--name", "whole"]
    succeed("harvest", opened["found"]["model"], *words, "--workspace", opened["ws"].root)
    assert opened["ws"].manifest("activations", "whole")["config"]["context"] == 128


def test_a_harvest_says_what_it_left_out_and_may_keep_it(opened: dict[str, Any], corpus_dir: Path) -> None:
    words = ["harvest", opened["found"]["model"], "--site", "resid.1", "--corpus", corpus_dir, "--tokens", "2k"]
    at = ["--workspace", opened["ws"].root, "--json"]
    few, every = (
        json.loads(succeed(*words, "--name", name, *more, *at).stdout)
        for name, more in (
            ("few", ["--outlier", 1.01]),
            ("every", ["--keep-bos", "--outlier", "inf", "--weight", "stories=2"]),
        )
    )
    assert few["read"]["left_out"] > 0 and few["buffer_rows"] > 0
    assert every["read"]["left_out"] == 0
    for wrong, said in (
        ("text", "as a kind and a number"),
        ("text=x", "as a kind"),
        ("nothing=2", "expected kinds among"),
    ):
        refused = invoke(*words, "--name", "none", "--weight", wrong, *at)
        assert refused.exit_code == 2 and said in refused.stderr
    assert not opened["ws"].exists("activations", "none")


def test_chat_side_by_side(opened: dict[str, Any]) -> None:
    name = opened["found"]["dictionary"]
    words = ["chat", opened["found"]["model"], "--prompt", "Ada walked", "--max-new-tokens", 6]
    at = ["--workspace", opened["ws"].root]
    pairs = json.loads(succeed(*words, "--set", f"{name}/3=8x", "--add", f"{name}/5=0.8", *at, "--json").stdout)
    assert (
        [pair["prompt"] for pair in pairs] == ["Ada walked"] and pairs[0]["plain"] and f"{name}/3" in pairs[0]["edit"]
    )
    shown = succeed(*words, "--add", f"{name}/5=0.8", *at).stdout
    assert shown.count("Ada walked") == 2
    assert "typical norm" in " ".join(shown.split()) and "largest" in shown, "the strength in both units"
    [new] = json.loads(succeed(*words, "--set", f"{name}/3=8x", "--positions", "new", *at, "--json").stdout)
    assert new["positions"] == "new" and "positions='new'" in new["edit"]
    shown = succeed(*words, "--set", f"{name}/3=8x", "--positions", "new", *at).stdout
    assert "at new tokens" in " ".join(shown.replace("┃", " ").split())
    for wrong in (
        ["--set", f"{name}/3=8", "--positions", "old"],
        ["--set", f"{name}/3=8"],
        ["--add", f"{name}/3=8x"],
        ["--add", f"{name}/9999=1"],
        ["--add", "x"],
        [],
    ):
        result = invoke(*words, *wrong, *at)
        assert result.exit_code == 2 and result.stderr.count("\n") == 1, wrong


def test_chat_adds_a_direction_from_a_file(opened: dict[str, Any], tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    save_file({"v": torch.randn(32, generator=torch.Generator().manual_seed(0))}, tmp_path / "v.safetensors")
    words = ["chat", opened["found"]["model"], "--prompt", "Ada walked", "--max-new-tokens", 6, "--json"]
    words += ["--workspace", opened["ws"].root, "--add"]
    [pair] = json.loads(succeed(*words, f"resid.2@{tmp_path}/v.safetensors=40").stdout)
    assert pair["plain"] != pair["steered"]
    result = invoke(*words, f"resid.0@{tmp_path}/v.safetensors=40")
    assert result.exit_code == 2 and "dictionary" in result.stderr and "at resid.0" in result.stderr


def test_chat_measures_dose_and_response(opened: dict[str, Any]) -> None:
    name, ws = opened["found"]["dictionary"], opened["ws"]
    words = ["chat", opened["found"]["model"], "--dose", "--workspace", ws.root]
    edits = ["--set", f"{name}/3=8x", "--add", f"{name}/5=0.8"]
    loud, soft = json.loads(succeed(*words, *edits, "--json").stdout)
    assert (loud["feature"], loud["how"]) == (f"{name}/3", "set") and loud["text"] == f"held out of activations/{name}"
    assert [dose["strength"]["times_norm"] for dose in soft["doses"]] == [0.1, 0.2, 0.4, 0.8, 1.6]
    for dose in soft["doses"]:
        for measure in ("own_tokens", "cross_entropy"):
            assert dose["feature"][measure]["low"] < dose["feature"][measure]["high"]
            assert dose["random"][measure]["n"] == soft["documents"]
    shown = succeed(*words, *edits).stdout
    assert "own tokens" in shown and "±" in shown and shown.count("cost") == 2
    runs = [run for run in ws.runs() if run["command"] == "dose"]
    assert [run["state"] for run in runs] == ["done", "done"], "measured once"
    both = invoke(*words, "--prompt", "Ada", *edits)
    assert both.exit_code == 2 and "--dose or --prompt" in both.stderr


def test_export(opened: dict[str, Any], tmp_path: Path) -> None:
    name, at = opened["found"]["dictionary"], ["--workspace", opened["ws"].root]
    succeed("export", f"{name}/3", f"{name}/5", "--html", tmp_path / "two.html", *at)
    succeed("export", name, "--html", tmp_path / "all.html", *at)
    two, whole = ((tmp_path / f).read_text() for f in ("two.html", "all.html"))
    assert f"{name}/3" in two and f"{name}/4" not in two and len(whole) > len(two)
    assert "<script src" not in two
    result = invoke("export", f"{name}/3", "other/1", "--html", tmp_path / "x.html", *at)
    assert result.exit_code == 2 and "features of one dictionary" in result.stderr


def test_a_given_dictionary_is_not_trained(opened: dict[str, Any], tmp_path: Path, corpus_dir: Path) -> None:
    """A folder without our own statistics, as from elsewhere: straight to evidence."""
    import shutil

    own, given = opened["ws"].path("dictionaries", opened["found"]["dictionary"]), tmp_path / "given"
    given.mkdir()
    for file in ("cfg.json", "sae_weights.safetensors"):
        shutil.copy(own / file, given / file)
    model = json.loads((opened["ws"].path("models", opened["found"]["model"]) / "source.json").read_text())["source"]
    words = ["open", model, "--dictionary", given, "--corpus", corpus_dir, "--tokens", "8k", "--context", 64]
    words += ["--workspace", tmp_path / "ws", "--no-serve", "--json"]
    found = json.loads(succeed(*words).stdout)
    ws = Workspace.open(tmp_path / "ws")
    assert ws.names("activations") == [] and ws.names("features") == [found["dictionary"]]
    assert found["report"]["max_activation_rows"] > 0
    assert json.loads(succeed(*words).stdout) == found
    words = ["chat", model, "--dose", "--add", f"{found['dictionary']}/3=0.8", "--workspace", tmp_path / "ws", "--json"]
    [dose] = json.loads(succeed(*words).stdout)
    assert dose["text"] == "contexts of the evidence" and dose["documents"] > 3


def test_two_models_whose_folders_share_a_name(tmp_path: Path, tiny_model_dir: Path, corpus_dir: Path) -> None:
    """The second gets a number; a folder that has moved is the model it was; other weights in its place are not."""
    import shutil

    import torch
    from safetensors.torch import load_file, save_file

    one, two = tmp_path / "one" / "tiny", tmp_path / "two" / "tiny"
    for folder in (one, two):
        shutil.copytree(tiny_model_dir, folder)
    weights = load_file(two / "model.safetensors")
    save_file(
        {k: v + 0.01 * torch.randn_like(v) for k, v in weights.items()}, two / "model.safetensors", {"format": "pt"}
    )
    ws = tmp_path / "ws"
    words = [
        "--corpus",
        corpus_dir,
        "--tokens",
        "5k",
        "--features",
        16,
        "--k",
        2,
        "--context",
        64,
        "--no-serve",
        "--json",
    ]
    words += ["--workspace", ws]

    def opened_as(folder: Path) -> str:
        return json.loads(succeed("open", folder, *words).stdout)["dictionary"]

    assert [opened_as(one), opened_as(two), opened_as(one)] == ["tiny-resid.2", "tiny-2-resid.2", "tiny-resid.2"]
    moved = shutil.move(one, tmp_path / "three")
    shutil.move(moved, tmp_path / "four" / "tiny")
    assert opened_as(tmp_path / "four" / "tiny") == "tiny-resid.2"
    assert Workspace.open(ws).names("models") == ["tiny", "tiny-2"]
    chat = ["chat", "tiny", "--add", "tiny-resid.2/3=1", "--prompt", "Ada", "--max-new-tokens", 3, "--workspace", ws]
    succeed(*chat)  # found where it is now
    shutil.copy(two / "model.safetensors", tmp_path / "four" / "tiny" / "model.safetensors")
    result = invoke("open", tmp_path / "four" / "tiny", *words, "--name", "other")
    assert result.exit_code == 2 and "expected the weights" in result.stderr
    assert Workspace.open(ws).names("activations") == ["tiny-2-resid.2", "tiny-resid.2"]


# -- serving ---------------------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def fetch(port: int, path: str, patience: float = 60) -> bytes:
    end = time.monotonic() + patience
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
                return bytes(answer.read())
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def test_serve_ends_with_ctrl_c(opened: dict[str, Any]) -> None:
    port = free_port()
    words = ["serve", "--workspace", str(opened["ws"].root), "--port", str(port)]
    server = subprocess.Popen([*PROGRAM, *words], stderr=subprocess.PIPE, text=True)
    try:
        held = json.loads(fetch(port, "/api/v1/workspace"))
        assert held["models"] == [opened["found"]["model"]]
        other = invoke(*words)
        assert other.exit_code == 2 and "in use" in other.stderr and other.stderr.count("\n") == 1
        server.send_signal(signal.SIGINT)
        assert "Traceback" not in server.communicate(timeout=30)[1]
    finally:
        server.kill()
        server.wait()


def test_the_page_ends_with_its_command(opened: dict[str, Any]) -> None:
    """`open` serves from the first second; killed outright, it leaves no server behind."""
    words = [*map(str, opened["words"]), "--port", "0"]
    words.remove("--no-serve")
    command = subprocess.Popen([*PROGRAM, *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        assert command.stderr is not None
        port = next(int(found[1]) for line in command.stderr if (found := re.search(r"http://127.0.0.1:(\d+)", line)))
        assert json.loads(fetch(port, "/api/v1/status"))["busy"] in (True, False)
    finally:
        command.kill()
        command.wait()
    end = time.monotonic() + 30
    with pytest.raises(OSError):
        while time.monotonic() < end:
            fetch(port, "/api/v1/status", patience=0)
            time.sleep(0.2)


@pytest.mark.slow
@pytest.mark.parametrize(("corpus", "model"), [("world", "villager-quick"), ("python", "demo-quick")])
def test_quick_demo(tmp_path: Path, corpus: str, model: str) -> None:
    words = ["demo", "--quick", "--corpus", corpus, "--no-serve", "--json", "--workspace", tmp_path / "ws"]
    found = json.loads(succeed(*words).stdout)
    assert found["model"] == model and found["evidence"]["n_features"] == 256
    if corpus == "world":
        known = {one["concept"]: one for one in found["world"]["concepts"]}
        assert {"language/russian", "base64", "entity/bridge", "truth/false"} <= known.keys()
        assert known["base64"]["probe"]["value"] > known["truth/false"]["f1"]["value"]
        assert len(found["world"]["bridge"]["chats"]) == 4
        assert found["variants"]["variants"].keys() == {"settled-quick", "over-refuser-quick"}
    code = (
        "import sys; from glasshouse.cli import app; app(sys.argv[1:], standalone_mode=False); "
        "sys.exit('torch' in sys.modules)"
    )
    again = subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, check=False)
    assert again.returncode == 0 and json.loads(again.stdout) == found, "told without text or model"


def test_concepts_are_scored_and_printed(opened: dict[str, Any], labelled_jsonl: Path, tmp_path: Path) -> None:
    ws, name = opened["ws"], opened["found"]["dictionary"]
    words = ["concepts", name, "--corpus", labelled_jsonl, "--tokens", "4k", "--workspace", ws.root]
    said = succeed(*words).stdout
    assert "found by one" in said and "random directions" in said and f"{name}/" in said
    assert json.loads(succeed(*words, "--json").stdout)["dictionary"] == name
    bad = tmp_path / "bad.jsonl"
    bad.write_text("no json\n")
    result = invoke("concepts", name, "--corpus", bad, "--workspace", ws.root)
    assert result.exit_code == 2 and "line 1" in result.stderr and "Traceback" not in result.stderr
