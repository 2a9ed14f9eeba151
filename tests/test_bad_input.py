"""What bad input gets: one clear line, exit status 2, and a workspace that is as it was."""

from __future__ import annotations

import fcntl
import gzip
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from glasshouse.cli import app
from glasshouse.workspace import FORMAT, Workspace


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path, corpus_dir: Path) -> Path:
    """A workspace with a harvest and a dictionary of the tiny model, under the names `h` and `d`."""
    root = tmp_path_factory.mktemp("filled") / "ws"
    at = ["--workspace", str(root)]
    text = ["--corpus", str(corpus_dir), "--tokens", "6k", "--context", "64"]
    for words in (
        ["harvest", str(tiny_model_dir), "--site", "resid.1", *text, "--name", "h"],
        ["learn", "h", "--features", "32", "--k", "4", "--batch", "256", "--name", "d"],
    ):
        result = CliRunner().invoke(app, [*words, *at])
        assert result.exit_code == 0, result.stderr or repr(result.exception)
    return root


@pytest.fixture
def ws(filled: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    import shutil

    return Path(shutil.copytree(filled, tmp_path / "ws"))


def contents(root: Path) -> dict[str, bytes]:
    """Every file but the lock files and SQLite's own."""
    files = [p for p in root.rglob("*") if p.is_file() and "locks" not in p.parts and "sqlite" not in p.name]
    return {str(p.relative_to(root)): p.read_bytes() for p in files}


@pytest.fixture
def refused(ws: Path) -> Callable[..., str]:
    """Run a command that must be refused; the line it printed."""

    def run(*words: object) -> str:
        before = contents(ws)
        result = CliRunner().invoke(app, [*map(str, words), "--workspace", str(ws)])
        assert result.exit_code == 2, (result.exit_code, result.stderr, repr(result.exception))
        lines = [line for line in result.stderr.splitlines() if line.startswith("glasshouse: ")]
        assert len(lines) == 1 and result.stderr.rstrip().splitlines()[-1] == lines[0], result.stderr
        assert "Traceback" not in result.stderr and result.stdout == ""
        assert contents(ws) == before
        return lines[0]

    return run


def open_words(model: object, corpus: object, *more: object) -> list[object]:
    return ["open", model, "--corpus", corpus, "--tokens", "6k", "--context", 64, "--no-serve", *more]


# -- models and sites --------------------------------------------------------------------------------------------------


def test_a_model_that_does_not_exist(refused: Callable[..., str], corpus_dir: Path) -> None:
    assert "expected" in refused(*open_words("no-such/model-anywhere", corpus_dir))
    assert "expected a folder" in refused(*open_words("/no/such/folder", corpus_dir))


def test_nothing_is_made_for_a_mistake(tmp_path: Path, corpus_dir: Path) -> None:
    root = tmp_path / "new"
    words = open_words("/no/such/folder", corpus_dir, "--workspace", root)
    assert CliRunner().invoke(app, [str(w) for w in words]).exit_code == 2
    assert not root.exists()


def test_an_architecture_outside_the_table(refused: Callable[..., str], tmp_path: Path, corpus_dir: Path) -> None:
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "config.json").write_text(
        json.dumps({"model_type": "opt", "architectures": ["OPTForCausalLM"]})
    )
    (tmp_path / "odd" / "model.safetensors").write_bytes(b"")
    line = refused(*open_words(tmp_path / "odd", corpus_dir))
    assert "GPT-2" in line and "SiteMap" in line


def test_a_site_the_model_lacks(refused: Callable[..., str], tiny_model_dir: Path, corpus_dir: Path) -> None:
    assert "resid.9" in refused(*open_words(tiny_model_dir, corpus_dir, "--site", "resid.9"))
    assert "expected a site" in refused(*open_words(tiny_model_dir, corpus_dir, "--site", "residue"))


def test_a_folder_whose_weights_are_others_now(
    refused: Callable[..., str], ws: Path, corpus_dir: Path, labelled_jsonl: Path
) -> None:
    """The workspace knows them; a command later than the one that opened the folder asks."""
    import shutil

    here = Workspace.open(ws)
    (name,) = here.names("models")
    note = (here.path("models", name) / "source.json").read_bytes()
    shutil.rmtree(here.path("models", name))
    with here.writing("models", name, config={"version": "of other weights"}, command="open") as draft:
        (draft.path / "source.json").write_bytes(note)
        draft.finish()
    text = ["--corpus", corpus_dir, "--tokens", "6k"]
    assert "found others" in refused("learn", "h", "--features", 32, "--k", 4, "--name", "new")
    assert "found others" in refused("features", "d", *text, "--context", 64)
    assert "found others" in refused("concepts", "d", "--corpus", labelled_jsonl, "--tokens", "2k")


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "cpu:x"])
def test_a_device_that_is_not_here(refused: Callable[..., str], corpus_dir: Path, device: str) -> None:
    assert "expected device" in refused("grow", corpus_dir, "--tokens", "5k", "--device", device)
    assert "expected device" in refused("doctor", "--device", device)


def test_numbers_that_are_none(refused: Callable[..., str], corpus_dir: Path) -> None:
    for words, said in (
        (["--tokens", "1e30"], "expected a budget"),
        (["--minutes", "nan"], "expected a budget"),
        (["--minutes", "-1"], "expected a budget"),
        (["--tokens", "5k", "--seed", "-1"], "--seed"),
        (["--tokens", "5k", "--seed", "99999999999999999999"], "--seed"),
    ):
        assert said in refused("grow", corpus_dir, "--shape", "tiny", *words)
    assert "--context" in refused("harvest", "m", "--site", "resid.1", "--corpus", corpus_dir, "--context", 0)


def test_a_workspace_inside_a_file(tmp_path: Path, corpus_dir: Path) -> None:
    (tmp_path / "file.txt").write_text("x")
    words = ["grow", corpus_dir, "--tokens", "5k", "--workspace", tmp_path / "file.txt" / "x"]
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 2 and "Not a directory; give --workspace DIR" in result.stderr, repr(result.exception)


# -- text --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["grow", "open"])
def test_text_that_is_none(refused: Callable[..., str], tiny_model_dir: Path, tmp_path: Path, command: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "binary.txt").write_bytes(bytes(range(256)) * 40)
    (tmp_path / "short.txt").write_text("One short line.\n")
    (tmp_path / "bad.txt").write_bytes(b"caf\xe9 \xff\xfe" * 50)
    for name in ("empty", "binary.txt", "short.txt", "bad.txt", "missing"):
        source = tmp_path / name
        words = ["grow", source, "--tokens", "5k", "--shape", "tiny"] if command == "grow" else None
        line = refused(*(words or open_words(tiny_model_dir, source)))
        assert "expected" in line, name


def test_undecodable_files_are_skipped_and_counted(tiny_model_dir: Path, corpus_dir: Path, tmp_path: Path) -> None:
    import shutil

    folder = Path(shutil.copytree(corpus_dir, tmp_path / "mixed"))
    (folder / "bad.txt").write_bytes(b"caf\xe9 \xff\xfe" * 50)
    words = ["harvest", tiny_model_dir, "--site", "resid.1", "--corpus", folder, "--tokens", "6k", "--context", "64"]
    result = CliRunner().invoke(app, [*map(str, words), "--workspace", str(tmp_path / "w")])
    assert result.exit_code == 0 and "skipped 1" in result.stderr, result.stderr
    manifest = next((tmp_path / "w" / "activations").glob("*/manifest.json"))
    assert sum(json.loads(manifest.read_text())["skipped"].values()) == 1
    words = open_words(tiny_model_dir, folder, "--workspace", tmp_path / "o")
    assert "skipped 1" in CliRunner().invoke(app, list(map(str, words))).stderr


def test_text_that_unpacks_to_too_much(
    refused: Callable[..., str], tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = json.dumps({"text": "a" * 1000}) + "\n"
    (tmp_path / "big.jsonl.gz").write_bytes(gzip.compress(row.encode() * 2000))
    monkeypatch.setattr(
        "glasshouse.text.corpora.corpus.__kwdefaults__", {"text_column": "text", "max_unpacked": 1 << 20}
    )
    assert "expected" in refused(*open_words(tiny_model_dir, tmp_path / "big.jsonl.gz"))


# -- disk and files ----------------------------------------------------------------------------------------------------


def test_a_path_that_is_too_long(refused: Callable[..., str], tiny_model_dir: Path, corpus_dir: Path) -> None:
    for words in (open_words(tiny_model_dir, "a" * 5000), open_words("a" * 5000, corpus_dir)):
        line = refused(*words)
        assert "File name too long" in line and len(line) < 400


def test_nothing_is_made_at_a_path_that_is_too_long(tmp_path: Path) -> None:
    root = tmp_path / "new"
    words = ["grow", "a" * 5000, "--tokens", "5k", "--shape", "tiny", "--workspace", str(root)]
    assert CliRunner().invoke(app, words).exit_code == 2 and not root.exists()


def test_a_disk_too_small(
    refused: Callable[..., str], tiny_model_dir: Path, corpus_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    full = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr("shutil.disk_usage", lambda _: full)
    assert "free disk" in refused(*open_words(tiny_model_dir, corpus_dir, "--name", "new"))
    assert "free disk" in refused("grow", corpus_dir, "--tokens", "5k", "--shape", "tiny")


def test_a_truncated_shard(refused: Callable[..., str], ws: Path) -> None:
    shard = next((ws / "activations" / "h").glob("shard-*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-100])
    assert "bytes" in refused("learn", "h", "--features", 32, "--k", 4, "--name", "other")


def test_a_manifest_edited_by_hand(refused: Callable[..., str], ws: Path, corpus_dir: Path) -> None:
    file = ws / "dictionaries" / "d" / "manifest.json"
    file.write_text(file.read_text().replace('"k": 4', '"k": 5'))
    assert "edited" in refused("features", "d", "--corpus", corpus_dir, "--tokens", "6k", "--context", 64)


def test_a_dictionary_of_the_wrong_width(
    refused: Callable[..., str], ws: Path, tmp_path: Path, tiny_model_dir: Path, corpus_dir: Path
) -> None:
    import torch
    from safetensors.torch import save_file

    folder = tmp_path / "wide"
    folder.mkdir()
    config: dict[str, Any] = json.loads((ws / "dictionaries" / "d" / "cfg.json").read_text())
    config |= {"d_in": 48, "d_sae": 64, "architecture": "topk", "k": 4}
    (folder / "cfg.json").write_text(json.dumps(config))
    tensors = {"W_enc": torch.ones(48, 64), "b_enc": torch.zeros(64), "W_dec": torch.ones(64, 48)}
    save_file({**tensors, "b_dec": torch.zeros(48)}, folder / "sae_weights.safetensors")
    line = refused(*open_words(tiny_model_dir, corpus_dir, "--dictionary", folder))
    assert "width 48" in line and "32" in line


def test_a_port_in_use(refused: Callable[..., str], tiny_model_dir: Path, corpus_dir: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        words = [word for word in open_words(tiny_model_dir, corpus_dir) if word != "--no-serve"]
        assert "in use" in refused(*words, "--port", port)
        assert "in use" in refused("serve", "--port", port)
        new = tmp_path / "new"
        result = CliRunner().invoke(app, ["serve", "--port", str(port), "--workspace", str(new)])
        assert result.exit_code == 2 and "in use" in result.stderr and not new.exists()


def test_a_newer_workspace(ws: Path, corpus_dir: Path) -> None:
    (ws / "glasshouse.toml").write_text(f"format = {FORMAT + 1}\n")
    result = CliRunner().invoke(app, ["grow", str(corpus_dir), "--tokens", "5k", "--workspace", str(ws)])
    assert result.exit_code == 2 and "upgrade glasshouse" in result.stderr


def test_an_artefact_that_another_process_writes(refused: Callable[..., str], ws: Path) -> None:
    with open(ws / "locks" / "dictionaries.new", "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        handle.write("4242")
        handle.flush()
        assert "being written by process 4242" in refused("learn", "h", "--k", 4, "--batch", 256, "--name", "new")
        assert Workspace.open(ws).manifest("dictionaries", "d")  # reading goes on beside it


def test_names_cannot_leave_the_workspace(refused: Callable[..., str], tmp_path: Path, corpus_dir: Path) -> None:
    assert "expected a name" in refused("grow", corpus_dir, "--tokens", "5k", "--name", "../../outside")
    assert "expected" in refused("features", "../../etc", "--corpus", corpus_dir)
    assert "expected" in refused("export", "../up/3", "--html", tmp_path / "x.html")
    assert not (tmp_path / "x.html").exists()


def test_control_sequences_of_bad_input_are_inert(refused: Callable[..., str], corpus_dir: Path) -> None:
    line = refused("grow", corpus_dir, "--tokens", "5k", "--name", "a\x1b[31m\nb")
    assert "\x1b" not in line


@pytest.mark.parametrize("command", ["grow", "tune"])
def test_a_text_too_short_leaves_no_workspace_behind(tmp_path: Path, tiny_model_dir: Path, command: str) -> None:
    (tmp_path / "short.txt").write_text("Too short.", encoding="utf-8")
    words = [command, *([tiny_model_dir] if command == "tune" else []), tmp_path / "short.txt", "--tokens", "5k"]
    result = CliRunner().invoke(app, [*map(str, words), "--workspace", str(tmp_path / "new")])
    assert result.exit_code == 2 and not (tmp_path / "new").exists(), result.stderr


def test_learning_live_as_it_cannot_be_leaves_no_model_behind(
    tmp_path: Path, tiny_model_dir: Path, corpus_dir: Path
) -> None:
    words = ["learn", tiny_model_dir, "--live", corpus_dir, "--site", "resid.1", "--features", "16", "--k", "100"]
    result = CliRunner().invoke(app, [*map(str, words), "--workspace", str(tmp_path / "new")])
    assert result.exit_code == 2 and "expected more features than k = 100" in result.stderr
    assert not (tmp_path / "new").exists()
