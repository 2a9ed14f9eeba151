"""Generated Python run where it can do no harm: a process of its own that sees no files, no network and no other
process.

    outcome = run_code("def add(a, b):\n    return a + b", ["assert add(2, 3) == 5"])
    outcome.passed, outcome.why

On Linux: landlock (nothing but Python's own library can be read, nothing written), namespaces of its own (no network,
no other process to see or signal, no shared memory or queues of others), a filter of system calls (seccomp: no new
process or thread, no way out of the group of processes that is killed at the deadline, no socket, no shared memory,
queue or key that would stay behind, and no change of a file's size, mode, owner, times or attributes, which landlock
lets pass), limits on processor time, memory, open files and the size of files, its output's too (setrlimit), an empty
environment, and a deadline. Where one of these cannot be had nothing is run, and the reply is unscored. It keeps
accidents and plain mischief in; it is no match for an attack on the kernel, nor for cheating at the tests: they run
where the code does, and an object that says it equals everything passes many.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

SECONDS, MEMORY = 5.0, 512_000_000
NOT_CONTAINED = 97  # exit status of a child that could not be contained


@dataclass(frozen=True)
class Outcome:
    """passed: every test ran and held; None if nothing was run. why: what went wrong, in a line."""

    passed: bool | None
    why: str = ""


def run_code(code: str, tests: Sequence[str], *, seconds: float = SECONDS, memory: int = MEMORY) -> Outcome:
    """The code, and then each test (statements that raise where they fail). Never raises for what the code does."""
    if not sys.platform.startswith("linux"):
        return Outcome(None, "code is run on Linux only, where it can be contained")
    word = secrets.token_hex(16)  # said at the end: an early exit is no pass
    given = json.dumps({"code": code, "tests": list(tests), "word": word, "seconds": seconds, "memory": memory})
    # Files, not pipes: what it prints is bounded as files are, and does not fill this process.
    with tempfile.TemporaryFile() as printed, tempfile.TemporaryFile() as complained:
        child = subprocess.Popen(
            [sys.executable, "-I", "-S", "-B", __file__], stdin=subprocess.PIPE, stdout=printed, stderr=complained,
            env={"LC_ALL": "C.UTF-8"}, start_new_session=True, cwd="/",
        )  # fmt: skip
        try:
            child.communicate(given.encode(), timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.communicate()
            return Outcome(False, f"it ran longer than {seconds:g} seconds")
        printed.seek(0)
        complained.seek(0)
        out, err = printed.read(), complained.read()
    said = err.decode(errors="replace").strip().splitlines()
    last = said[-1][:200] if said else ""
    if child.returncode == NOT_CONTAINED:
        return Outcome(None, f"the code was not run: {last}")
    if child.returncode == 0 and out.decode(errors="replace").rstrip().endswith(word):
        return Outcome(True)
    return Outcome(False, last or "it ended before its tests did")


# -- in the child; imports nothing of ours -----------------------------------------------------------------------------

_NEWUSER, _NEWPID, _NEWNET, _NEWIPC = 0x10000000, 0x20000000, 0x40000000, 0x08000000  # sched.h
_CREATE, _ADD_RULE, _RESTRICT = 444, 445, 446  # landlock_*(2), the same numbers on every architecture
_FORKS = {"x86_64": (56, 57, 58, 435), "aarch64": (220, 435)}  # clone, fork, vfork, clone3
_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # audit.h
_ALIKE = (425, 452, 463, 466)  # the same numbers on both: io_uring_setup, fchmodat2, setxattrat, removexattrat
_CHANGES = {
    # truncate, ftruncate, chmod and its like, chown and its like, utime and its like, setxattr …, removexattr …,
    # socket, socketpair, connect, bind
    "x86_64": (76, 77, 90, 91, 268, 92, 93, 94, 260, 132, 235, 261, 280, 188, 189, 190, 197, 198, 199, 41, 53, 42, 49),
    "aarch64": (45, 46, 52, 53, 55, 54, 88, 5, 6, 7, 14, 15, 16, 198, 199, 203, 200),
}
_STAYS = {
    # prctl, setsid, setpgid, shmget, semget, msgget, add_key, request_key, keyctl
    "x86_64": (157, 112, 109, 29, 64, 68, 248, 249, 250),
    "aarch64": (167, 157, 154, 194, 190, 186, 217, 218, 219),
}
_READ = (1 << 2) | (1 << 3)  # of a file, of a directory
_FS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1}  # what each version of landlock can deny


def _contain(seconds: float, memory: int) -> None:
    """Goes on in a process that is contained for good. Raises OSError where a wall cannot be built."""
    import ctypes
    import resource
    import struct

    libc = ctypes.CDLL(None, use_errno=True)

    def must(value: int, what: str) -> int:
        if value < 0:
            raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")
        return value

    must(libc.unshare(_NEWUSER | _NEWNET | _NEWPID | _NEWIPC), "no namespaces of its own")
    if child := os.fork():  # the first process of the new namespace: it sees no other, and cannot signal one
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        if code < 0:
            print(f"it was ended by {signal.Signals(-code).name}", file=sys.stderr, flush=True)
        os._exit(code if code >= 0 else 1)
    must(libc.prctl(1, signal.SIGKILL, 0, 0, 0), "no end with its parent")  # PR_SET_PDEATHSIG
    must(libc.prctl(38, 1, 0, 0, 0), "no_new_privs")  # PR_SET_NO_NEW_PRIVS
    version = must(libc.syscall(_CREATE, None, 0, 1), "no landlock")
    rules = struct.pack("=Q", _FS.get(version, _FS[3]))
    ruleset = must(libc.syscall(_CREATE, rules, len(rules), 0), "landlock")
    for folder in {os.path.dirname(os.__file__), *(path for path in sys.path if os.path.isdir(path))}:
        place = os.open(folder, os.O_PATH | os.O_CLOEXEC)
        must(libc.syscall(_ADD_RULE, ruleset, 1, struct.pack("=Qi", _READ, place), 0), "landlock")
        os.close(place)
    must(libc.syscall(_RESTRICT, ruleset, 0), "landlock")
    os.close(ruleset)
    _forbid_calls(libc, must)
    for limit, value in (
        (resource.RLIMIT_CPU, int(seconds) + 1), (resource.RLIMIT_AS, memory), (resource.RLIMIT_FSIZE, 1_000_000),
        (resource.RLIMIT_NOFILE, 32), (resource.RLIMIT_CORE, 0),
    ):  # fmt: skip
        resource.setrlimit(limit, (value, value))


def _forbid_calls(libc: Any, must: Callable[[int, str], int]) -> None:
    """By a filter of system calls (seccomp(2)): a limit on processes does not bind root, and landlock leaves out what
    does not open a file."""
    import ctypes
    import platform
    import struct

    here = platform.machine()
    forks = _FORKS.get(here, ())
    must(len(forks) - 1, "no filter for this processor")
    calls = (*forks, *_CHANGES[here], *_STAYS[here], *_ALIKE)
    denied = (0x06, 0, 0, 0x00050000 | 11)  # "try again" (EAGAIN)
    lines = [(0x20, 0, 0, 4), (0x15, 1, 0, _ARCH[here]), denied]  # of another processor (int 0x80): other numbers
    lines += [(0x20, 0, 0, 0)]  # load the number of the call
    lines += [(0x15, len(calls) + 1 - i, 0, call) for i, call in enumerate(calls)]  # equal: to the last line
    lines += [(0x35, 1, 0, 0x40000000), (0x06, 0, 0, 0x7FFF0000), denied]  # x32's calls too; else allow
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in lines))
    program = ctypes.create_string_buffer(struct.pack("@HP", len(lines), ctypes.addressof(code)))
    must(libc.prctl(22, ctypes.c_ulong(2), program, 0, 0), "seccomp")  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER


def _child() -> None:
    given = json.loads(sys.stdin.read())
    try:
        _contain(given["seconds"], given["memory"])
    except (OSError, ImportError, ValueError) as error:
        print(error, file=sys.stderr)
        os._exit(NOT_CONTAINED)
    world = {"__name__": "reply"}
    exec(compile(given["code"], "reply", "exec"), world)
    for number, test in enumerate(given["tests"]):
        exec(compile(test, f"test {number + 1}", "exec"), world)
    print(given["word"])


if __name__ == "__main__":
    _child()
