"""Artefacts are written whole or not at all, say what made them, and refuse what was changed behind their back."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from glasshouse.types import UserError
from glasshouse.workspace import FORMAT, Expectation, Progress, Workspace, read_manifest, refusal, write_atomically
from glasshouse.workspace.files import BLOCK, SECTOR, content_hash, hash_file, hash_json, write_past_cache


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return Workspace.open(tmp_path / "ws")


def make(ws: Workspace, name: str = "a", **config: object) -> Path:
    with ws.writing("models", name, config=config or {"k": 1}, command="grow") as draft:
        (draft.path / "weights").write_bytes(b"0123456789")
        draft.log(step=1, loss=2.0)
        draft.finish(made_from=[])
    return ws.path("models", name)


def rewrite(folder: Path, **changes: object) -> None:
    """Change a manifest and sign it again, as a newer or hostile program might."""
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest.pop("self")
    manifest |= changes
    manifest["hash"] = content_hash(manifest)
    manifest["self"] = hash_json(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


# -- finding -----------------------------------------------------------------------------------------------------------


def test_the_nearest_workspace_upwards_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Workspace.open(tmp_path / "w")
    (tmp_path / "w" / "deep" / "er").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "w" / "deep" / "er")
    assert Workspace.find() == tmp_path / "w"
    monkeypatch.chdir(tmp_path)
    assert Workspace.find() == tmp_path / "glasshouse-workspace"
    assert Workspace.find("x") == Path("x")


def test_a_folder_of_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(UserError, match="found other files"):
        Workspace.open(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(UserError, match=r"found no glasshouse\.toml"):
        Workspace.open(tmp_path / "none", create=False)
    assert not (tmp_path / "none").exists()


def test_a_folder_that_is_just_being_made_a_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a kill left of the marker is no other file; nor is what another process made since the marker was sought."""
    (tmp_path / ".glasshouse.toml.4711").write_text("format")
    assert (Workspace.open(tmp_path).root / "glasshouse.toml").is_file()
    sought, is_file = [], Path.is_file
    monkeypatch.setattr(Path, "is_file", lambda path: bool(sought.append(path) or sought[1:]) and is_file(path))
    assert Workspace.open(tmp_path).root == tmp_path and len(sought) == 2


def test_a_place_where_no_workspace_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file.txt").write_text("x")
    with pytest.raises(UserError, match=r"at .*file\.txt/x, got Not a directory; give --workspace DIR"):
        Workspace.open(tmp_path / "file.txt" / "x")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(UserError, match="got Permission denied"):
        Workspace.open(tmp_path / "new")


@pytest.mark.parametrize(
    ("text", "message"),
    [(f"format = {FORMAT + 1}", "upgrade glasshouse"), ("format = 'x'", "expected `format"), ("[[", "does not parse")],
)
def test_a_workspace_of_another_version(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "glasshouse.toml").write_text(text)
    with pytest.raises(UserError, match=message):
        Workspace.open(tmp_path)


# -- writing -----------------------------------------------------------------------------------------------------------


def test_an_artefact_appears_whole(ws: Workspace) -> None:
    with ws.writing("models", "a", config={"k": 1}, command="grow") as draft:
        (draft.path / "weights").write_bytes(b"xyz")
        assert not ws.exists("models", "a") and ws.names("models") == []
        draft.finish(made_from=[], extra=7)
    manifest = ws.manifest("models", "a", verify=True)
    assert ws.names("models") == ["a"] and manifest["extra"] == 7 and not ws.partial("models", "a").exists()
    assert manifest["files"]["weights"]["bytes"] == 3 and manifest["hash"] == ws.ref("models", "a").hash


def test_a_folder_that_takes_no_new_file_says_so(tmp_path: Path) -> None:
    """/proc is a folder where every new file is one that is not found; a folder that is not there stays that."""
    with pytest.raises(PermissionError, match=r"/proc/x\.html") as caught:
        write_atomically(Path("/proc/x.html"), "page")
    assert refusal(caught.value) is not None
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "none" / "x.html", "page")


def test_threads_that_write_one_file_leave_it_whole(tmp_path: Path) -> None:
    file, texts = tmp_path / "kept.json", [str(n) * 5000 for n in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: write_atomically(file, texts[n % 4]), range(200)))
    assert file.read_text() in texts and [path.name for path in tmp_path.iterdir()] == ["kept.json"]


def test_the_hash_is_of_content_not_of_time(ws: Workspace) -> None:
    make(ws, "a", k=1)
    time.sleep(1.1)  # `created` has whole seconds
    make(ws, "b", k=1)
    make(ws, "c", k=2)
    a, b, c = (ws.manifest("models", n) for n in "abc")
    assert a["created"] != b["created"] and a["hash"] == b["hash"] != c["hash"]


def test_finished_work_is_known_by_its_settings(ws: Workspace) -> None:
    assert not ws.done("models", "a", {"k": 1})
    make(ws, "a", k=1)
    assert ws.done("models", "a", {"k": 1})
    with pytest.raises(UserError, match="k: 1 then, 2 now"):
        ws.done("models", "a", {"k": 2})
    with pytest.raises(UserError, match="exists already"):
        make(ws, "a", k=1)


def test_a_choice_is_measured_once(ws: Workspace) -> None:
    for _ in range(2):  # the second time is the resumed run
        with ws.writing("models", "a", config={}, command="grow") as draft:
            assert draft.choose("precision", lambda: os.urandom(8).hex()) == draft.choices["precision"]
            first = draft.choices["precision"]
    with ws.writing("models", "a", config={}, command="grow") as draft:
        assert draft.resumed and draft.choose("precision", lambda: "other") == first


def test_a_resumed_run_computes_with_the_threads_it_was_begun_with(ws: Workspace) -> None:
    before = torch.get_num_threads()
    for asked, used in ((before + 1, before + 1), (None, before + 1)):  # the second time is the resumed run
        with ws.writing("models", "a", config={}, command="grow") as draft:
            with draft.threads(asked):
                assert torch.get_num_threads() == used
            assert torch.get_num_threads() == before


def test_other_settings_do_not_go_on_with_a_draft(ws: Workspace) -> None:
    with ws.writing("models", "a", config={"k": 1}, command="grow"):
        pass
    with (
        pytest.raises(UserError, match="begun with other settings"),
        ws.writing("models", "a", config={"k": 2}, command="grow"),
    ):
        pass
    assert ws.partial("models", "a").is_dir()


@pytest.mark.parametrize("name", ["..", "../x", "a/b", ".hidden", ""])
def test_no_name_leaves_the_workspace(ws: Workspace, name: str) -> None:
    with pytest.raises(UserError, match="expected a name"):
        ws.path("models", name)


WRITER = """
import sys, time
import torch
from glasshouse.workspace import Workspace

ws = Workspace.open(sys.argv[1])
with ws.writing("models", "a", config={}, command="grow") as draft, ws.running(
    "grow", "models", "a", total=200, unit="steps"
) as progress:
    step = (draft.load_checkpoint() or (0, {}, {}))[0]
    total = draft.choose("total", lambda: 200)
    print("from", step, flush=True)
    for step in range(step + 1, total + 1):
        draft.log(step=step, loss=1 / step)
        draft.save_checkpoint(step, {"x": torch.full((4,), float(step))}, {"step": step})
        progress.advance(step)
        print(step, flush=True)
        time.sleep(float(sys.argv[2]))
    (draft.path / "sum").write_text(str(step))
    draft.finish()
"""


def writer(ws: Workspace, pause: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WRITER), str(ws.root), str(pause)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_killed_between_writes_it_goes_on(ws: Workspace) -> None:
    """kill -9 in the middle, then the same command: it starts at the newest whole checkpoint and ends the same."""
    first = writer(ws, 0.01)
    assert first.stdout is not None
    for line in first.stdout:
        if line.strip() == "20":
            break
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert not ws.exists("models", "a") and ws.runs()[-1]["state"] == "killed"
    second = writer(ws, 0)
    out, err = second.communicate()
    assert second.returncode == 0, err
    start = int(out.split()[1])
    assert start >= 19
    steps = [line["step"] for line in ws.metrics("models", "a")]
    assert steps == list(range(1, 201)), "no step lost and none twice"
    assert (ws.path("models", "a") / "sum").read_text() == "200"
    assert not (ws.path("models", "a") / "checkpoints").exists() and ws.runs()[-1]["state"] == "done"


KILLED = """
import os, shutil, signal, sys
import torch
from glasshouse.workspace import Workspace

ws, at = Workspace.open(sys.argv[1]), sys.argv[2]
replace, rmtree = os.replace, shutil.rmtree

def kill_before(work):
    def killed(*names, **options):
        if any(str(name).endswith(at) for name in names):
            os.kill(os.getpid(), signal.SIGKILL)
        return work(*names, **options)
    return killed

os.replace, shutil.rmtree = kill_before(os.replace), kill_before(shutil.rmtree)
if ws.done("models", "a", {"k": 1}):
    sys.exit("it stands")
with ws.writing("models", "a", config={"k": 1}, command="grow") as draft:
    found = draft.load_checkpoint()
    print("from", found[0] if found else 0, flush=True)
    draft.choose("precision", lambda: "fp32")
    for step in range(found[0] + 1 if found else 1, 4):
        draft.log(step=step)
        draft.save_checkpoint(step, {"x": torch.full((4,), float(step))}, {"step": step})
    (draft.path / "weights").write_bytes(b"0123456789")
    draft.finish()
"""


@pytest.mark.parametrize(
    ("at", "then"), [(".a.partial/manifest.json", "from 3"), ("checkpoints", ""), ("models/a", "")]
)
def test_killed_while_it_is_finished_nothing_is_done_twice(tmp_path: Path, at: str, then: str) -> None:
    """kill -9 before each of the last steps of `finish`, then the same command: the artefact of a run left alone."""

    def run(root: Path, at: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", KILLED, str(root), at]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    whole, cut = Workspace.open(tmp_path / "whole"), Workspace.open(tmp_path / "cut")
    assert run(whole.root, "nowhere").returncode == 0
    assert run(cut.root, at).returncode == -signal.SIGKILL and not cut.exists("models", "a")
    assert cut.begun("models", "a") == {"k": 1}
    with pytest.raises(UserError, match=r"begun with other settings \(k: 1 then, 2 now\)"):
        with cut.writing("models", "a", config={"k": 2}, command="grow"):
            pass
    again = run(cut.root, "nowhere")
    assert (again.stdout.strip(), again.stderr.strip()) == (then, "" if then else "it stands")
    untouched, ended = whole.path("models", "a"), cut.path("models", "a")
    files = {p.name: p.read_bytes() for p in untouched.iterdir() if p.name != "manifest.json"}
    assert files == {p.name: p.read_bytes() for p in ended.iterdir() if p.name != "manifest.json"}
    first, second = (ws.manifest("models", "a", verify=True) | {"created": ""} for ws in (whole, cut))
    assert first == second
    assert not cut.partial("models", "a").exists()


def test_a_draft_without_its_record_is_no_rubbish(ws: Workspace) -> None:
    """Killed before the renaming and damaged since, it is gone on with, not put in its place and not thrown away."""
    make(ws)
    os.replace(ws.path("models", "a"), ws.partial("models", "a"))
    (ws.partial("models", "a") / "weights").write_bytes(b"012345678X")  # not what its manifest says
    assert not ws.done("models", "a", {"k": 1})
    with ws.writing("models", "a", config={"k": 1}, command="grow") as draft:
        assert draft.resumed and (draft.path / "weights").is_file()
        (draft.path / "weights").write_bytes(b"0123456789")
        draft.finish()
    assert ws.done("models", "a", {"k": 1}) and ws.manifest("models", "a", verify=True)


def test_a_mistake_in_the_middle_leaves_the_checkpoints(ws: Workspace) -> None:
    for step, left in ((0, False), (1, True)):
        with (
            pytest.raises(UserError, match="the loss became nan"),
            ws.writing("models", "a", config={}, command="grow") as draft,
        ):
            if step:
                draft.save_checkpoint(step, {"x": torch.zeros(1)}, {})
            raise UserError("the loss became nan")
        assert ws.partial("models", "a").exists() == left


def test_one_writer_at_a_time_and_readers_beside_it(ws: Workspace) -> None:
    make(ws, "other")
    first = writer(ws, 0.05)
    assert first.stdout is not None and first.stdout.readline().startswith("from")
    try:
        with (
            pytest.raises(UserError, match=f"being written by process {first.pid}"),
            ws.writing("models", "a", config={}, command="grow"),
        ):
            pass
        assert ws.names("models") == ["other"] and ws.manifest("models", "other")
        assert ws.runs()[-1]["state"] == "running"
    finally:
        first.kill()
        first.communicate()


# -- reading what was changed ----------------------------------------------------------------


def test_an_edited_manifest_is_refused(ws: Workspace) -> None:
    file = make(ws) / "manifest.json"
    file.write_text(file.read_text().replace('"k": 1', '"k": 2'))
    with pytest.raises(UserError, match="it was edited"):
        ws.manifest("models", "a")


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"format": 1}', "\x00"])
def test_a_manifest_that_is_none(ws: Workspace, text: str) -> None:
    (make(ws) / "manifest.json").write_text(text)
    with pytest.raises(UserError, match="does not read"):
        ws.manifest("models", "a")


def test_a_truncated_or_missing_file_is_found(ws: Workspace) -> None:
    file = make(ws) / "weights"
    file.write_bytes(b"01234")
    with pytest.raises(UserError, match=r"expected 10 bytes .* found 5 bytes"):
        ws.manifest("models", "a")
    file.write_bytes(b"012345678X")
    assert ws.manifest("models", "a")
    with pytest.raises(UserError, match="does not match the hash"):
        ws.manifest("models", "a", verify=True)
    file.unlink()
    with pytest.raises(UserError, match="no such file"):
        ws.manifest("models", "a")


def test_a_manifest_cannot_name_files_outside(ws: Workspace, tmp_path: Path) -> None:
    folder = make(ws)
    (tmp_path / "secret").write_bytes(b"0123456789")
    manifest = json.loads((folder / "manifest.json").read_text())
    rewrite(folder, files={"../../../secret": manifest["files"]["weights"]})
    with pytest.raises(UserError, match="lies outside its folder"):
        read_manifest(folder)


def test_a_newer_manifest_is_refused(ws: Workspace) -> None:
    rewrite(make(ws), format=FORMAT + 1)
    with pytest.raises(UserError, match="upgrade glasshouse"):
        ws.manifest("models", "a")


@pytest.mark.parametrize("form", ["1", None, 1.5])
def test_a_manifest_of_no_format(ws: Workspace, form: object) -> None:
    rewrite(make(ws), format=form)
    with pytest.raises(UserError, match="expected a format such as 1"):
        ws.manifest("models", "a")


def test_a_copied_workspace_opens(ws: Workspace, tmp_path: Path) -> None:
    make(ws)
    moved = tmp_path / "elsewhere"
    ws.root.rename(moved)
    assert Workspace.open(moved, create=False).manifest("models", "a", verify=True)["name"] == "a"


# -- disk, log, small things ----------------------------------------------------------------


def test_a_disk_too_small_is_found_before_anything(ws: Workspace) -> None:
    ws.require_disk(1)
    with pytest.raises(UserError, match="of free disk"):
        ws.require_disk(1 << 62)


def test_a_failed_run_says_so(ws: Workspace) -> None:
    with pytest.raises(ValueError), ws.running("grow", "models", "a", total=1, unit="tokens"):
        raise ValueError
    with pytest.raises(KeyboardInterrupt), ws.running("grow", "models", "a", total=1, unit="tokens"):
        raise KeyboardInterrupt
    assert [r["state"] for r in ws.runs()] == ["failed", "stopped"]


def test_a_workspace_that_cannot_be_written_is_read() -> None:
    """As another user, who may look and not write; `tmp_path` may not even be looked into by one."""
    with tempfile.TemporaryDirectory() as folder:
        ws = Workspace.open(Path(folder) / "w s%")
        bare = Workspace.open(Path(folder) / "bare")
        make(ws)
        with ws.running("grow", "models", "a", total=1, unit="tokens"):
            pass
        whole = [(row["command"], row["state"]) for row in ws.runs()]
        for place in (Path(folder), *Path(folder).rglob("*")):
            place.chmod(0o555 if place.is_dir() else 0o444)
        root = os.geteuid() == 0
        try:
            if root:
                os.seteuid(65534)
            assert [(row["command"], row["state"]) for row in ws.runs()] == whole == [("grow", "done")]
            for one in (ws, bare):
                with contextlib.closing(one.index()) as db:
                    assert db.execute("SELECT * FROM thumbs").fetchall() == []
                with pytest.raises(UserError, match="readonly database; see that you may write"):
                    with one.running("grow", "models", "b", total=1, unit="tokens"):
                        pass
        finally:
            if root:
                os.seteuid(0)
            for place in (Path(folder), *Path(folder).rglob("*")):
                place.chmod(0o755)


def test_an_index_that_is_none_gets_one_line(ws: Workspace) -> None:
    (ws.root / "index.sqlite").write_text("no database " * 100)
    with pytest.raises(UserError, match="not a database"):
        ws.runs()


def test_another_process_of_the_same_number_is_not_the_run(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    progress = Progress(ws, "grow", "models", "a", None, "tokens", 0)
    assert ws.runs()[-1]["state"] == "running"
    monkeypatch.setattr("glasshouse.workspace.progress._began", lambda pid: time.time() + 60)  # a container made anew
    assert ws.runs()[-1]["state"] == "killed"
    progress.close("done")


def test_a_line_cut_by_a_kill_is_left_out(ws: Workspace) -> None:
    with ws.writing("models", "a", config={}, command="grow") as draft:
        draft.log(step=1)
        with open(draft.path / "metrics.jsonl", "a") as handle:
            handle.write('{"step": 2, "lo')
    assert ws.metrics("models", "a") == [{"step": 1}]


def test_files_are_replaced_whole(tmp_path: Path) -> None:
    write_atomically(tmp_path / "f", "one")
    write_atomically(tmp_path / "f", b"two")
    assert (tmp_path / "f").read_text() == "two" and len(list(tmp_path.iterdir())) == 1


def test_a_link_or_a_pipe_stays_one(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    file, link, pipe = tmp_path / "there" / "f", tmp_path / "link", tmp_path / "pipe"
    link.symlink_to(file)
    for text in ("one", "two"):  # also where nothing is there yet
        write_atomically(link, text)
        assert link.is_symlink() and file.read_text() == text
    os.mkfifo(pipe)
    reader = subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE)
    write_atomically(pipe, "three")
    assert reader.communicate(timeout=20)[0] == b"three" and pipe.is_fifo()
    assert {p.name for p in tmp_path.rglob("*")} == {"there", "f", "link", "pipe"}
    with pytest.raises(IsADirectoryError):
        write_atomically(tmp_path / "there", "four")


@pytest.mark.parametrize("refused", ["nothing", "opening", "writing"])
@pytest.mark.parametrize("sizes", [[], [0], [1], [SECTOR, 7], [BLOCK - 1, 2], [5, 2 * BLOCK, SECTOR]])
def test_bytes_written_past_the_cache(
    sizes: list[int], refused: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also on file systems that do not open, or do not write, past the page cache."""
    opened, written, past = os.open, os.write, getattr(os, "O_DIRECT", 0)

    def refuse_to_open(path: Path, flags: int, mode: int) -> int:
        if flags & past:
            raise OSError(errno.EINVAL, "Invalid argument")
        return opened(path, flags, mode)

    def refuse_to_write(file: int, block: memoryview) -> int:
        if fcntl.fcntl(file, fcntl.F_GETFL) & past:
            raise OSError(errno.EINVAL, "Invalid argument")
        return written(file, block)

    if refused == "opening":
        monkeypatch.setattr(os, "open", refuse_to_open)
    elif refused == "writing":
        monkeypatch.setattr(os, "write", refuse_to_write)
    parts = [os.urandom(size) for size in sizes]
    file = tmp_path / "f"
    file.write_bytes(b"what was left of a killed run" * 1000)
    digest = write_past_cache(file, map(memoryview, parts))
    assert file.read_bytes() == b"".join(parts)
    assert digest == hash_file(file)


def test_expectations_add_up() -> None:
    total = Expectation(seconds=60, memory=2, disk=3) + Expectation(seconds=60, memory=5, disk=4)
    assert (total.seconds, total.memory, total.disk) == (120, 5, 7)
    assert str(Expectation(seconds=120, memory=10**9, disk=5 * 10**6)) == "about 2 min, 1 GB memory, 5 MB disk"
