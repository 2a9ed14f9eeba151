"""Generated code that loops, forks, fills memory, reads files, calls out: contained, and said what it did."""

from __future__ import annotations

import ctypes
import platform
import sys
import time
from pathlib import Path

import pytest

from glasshouse.behaviours.sandbox import Outcome, run_code

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the sandbox is of Linux")


def test_tests_pass_or_fail() -> None:
    assert run_code("def add(a, b):\n    return a + b", ["assert add(2, 3) == 5"]) == Outcome(True)
    failed = run_code("def add(a, b):\n    return a - b", ["assert add(2, 3) == 5"])
    assert failed.passed is False and failed.why == "AssertionError"
    assert "ZeroDivisionError" in run_code("1 / 0", []).why
    assert run_code("import math, json, re, collections\nx = math.pi", ["assert 3 < x < 4"]).passed


def test_an_early_exit_is_no_pass() -> None:
    for code in ("raise SystemExit(0)", "import os\nos._exit(0)", "print('done')\nimport sys; sys.exit()"):
        assert run_code(code, ["assert False"]).passed is False, code


def test_a_loop_ends_at_its_deadline() -> None:
    started = time.perf_counter()
    found = run_code("while True:\n    pass", [], seconds=1.0)
    assert found == Outcome(False, "it ran longer than 1 seconds") and time.perf_counter() - started < 20


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("x = bytearray(4_000_000_000)", "MemoryError"),
        ("x = []\nwhile True:\n    x.append(bytearray(10_000_000))", "MemoryError"),
        ("import os\nfor _ in range(50):\n    os.fork()", "BlockingIOError"),
        ("import threading\nthreading.Thread(target=print).start()", "can't start new thread"),
        ("import subprocess\nsubprocess.run(['ls'])", "Error"),
        ("open('/etc/passwd').read()", "PermissionError"),
        ("import os\nos.listdir('/')", "PermissionError"),
        ("open('/tmp/left-behind', 'w').write('x')", "PermissionError"),
        (
            "import os, sys\nassert os.getpid() == 1\nfor pid in range(2, 5000):\n    try:\n        os.kill(pid, 9)\n"
            "        sys.exit('killed')\n    except ProcessLookupError:\n        pass",
            "",
        ),
        ("import socket\nsocket.create_connection(('127.0.0.1', 22), 2)", "BlockingIOError"),
        ("import socket\nsocket.socket(socket.AF_INET, socket.SOCK_DGRAM)", "BlockingIOError"),
        ("import socket\nsocket.socket(socket.AF_UNIX).connect('/run/x.sock')", "BlockingIOError"),
        ("print('x' * 3_000_000)", "File too large"),
        ("import os\nos.setsid()", "BlockingIOError"),
        ("import os\nos.setpgid(0, 0)", "BlockingIOError"),
        ("import ctypes\nassert ctypes.CDLL(None).prctl(1, 0, 0, 0, 0) == -1", ""),
        ("import ctypes\nassert ctypes.CDLL(None).shmget(0, ctypes.c_size_t(4096), 0o1666) == -1", ""),
        ("import os\nassert not set(os.environ) - {'LC_ALL'}, os.environ", ""),
    ],
)
def test_it_reaches_nothing(code: str, said: str) -> None:
    found = run_code(code, [], seconds=8.0)
    assert found.passed is (said == "") and said in found.why, found
    assert not Path("/tmp/left-behind").exists()


def test_keys_and_shared_memory_of_others_are_out_of_reach() -> None:
    add_key = {"x86_64": 248, "aarch64": 217}[platform.machine()]
    code = f"import ctypes\nassert ctypes.CDLL(None).syscall({add_key}, b'user', b'left', b'x', 1, -3) == -1"
    assert run_code(code, []) == Outcome(True)
    libc = ctypes.CDLL(None)
    segment = libc.shmget(0, ctypes.c_size_t(4096), 0o1600)
    try:
        assert run_code(f"import ctypes\nassert ctypes.CDLL(None).shmat({segment}, None, 0) == -1", []) == Outcome(True)
    finally:
        libc.shmctl(segment, 0, None)  # IPC_RMID


@pytest.mark.skipif(platform.machine() != "x86_64", reason="has one table of system calls")
def test_the_calls_of_an_older_processor_are_forbidden_too() -> None:
    """By `int 0x80`, which has numbers of its own: getpid, where fork is the same way off."""
    code = (
        "import ctypes, mmap\nplace = mmap.mmap(-1, 4096, prot=7)\n"
        r"place.write(b'\x53\xb8\x14\x00\x00\x00\xcd\x80\x5b\xc3')"
        "\ncall = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(place)))"
        "\nassert call() == -11"
    )
    found = run_code(code, [])
    assert found.passed or "SIGSEGV" in found.why, found  # the kernel may know no such calls


@pytest.mark.parametrize(
    "code",
    [
        "truncate({0!r}, 0)",
        "chmod({0!r}, 0)",
        "utime({0!r}, (0, 0))",
        "setxattr({0!r}, 'user.x', b'y')",
        "chown({0!r}, 1, 1)",
    ],
)
def test_a_file_that_it_cannot_open_is_not_changed_either(tmp_path: Path, code: str) -> None:
    file = tmp_path / "kept.txt"
    file.write_text("kept")
    file.chmod(0o644)
    before = file.stat()
    found = run_code(f"import os\nos.{code.format(str(file))}", [])
    after = file.stat()
    assert found.passed is False and "Error" in found.why, found
    assert (after.st_size, after.st_mode, after.st_mtime_ns, after.st_uid) == (
        before.st_size, before.st_mode, before.st_mtime_ns, before.st_uid,
    )  # fmt: skip


def test_what_reads_as_code_but_is_not_is_told() -> None:
    assert "SyntaxError" in run_code("def", []).why
    assert run_code("\ud800".encode("utf-8", "surrogatepass").decode("utf-8", "replace"), []).passed is False
