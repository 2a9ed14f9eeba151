"""What this machine has, and how fast it is: the peaks that the other commands' rates are held against.

    glasshouse doctor

Torch is imported when something is measured, not before.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from glasshouse.workspace import human_bytes, version_of

# Instruction sets that decide which precision and kernels pay (Linux names of /proc/cpuinfo flags).
INSTRUCTION_SETS = ("avx2", "fma", "f16c", "avx512f", "avx512_bf16", "avx512_vnni", "amx_tile", "amx_bf16", "amx_int8")
ARM_INSTRUCTION_SETS = ("asimd", "bf16", "i8mm", "sve", "sve2", "sme")
PACKAGES = (
    "glasshouse",
    "torch",
    "transformers",
    "tokenizers",
    "safetensors",
    "numpy",
    "duckdb",
    "pyarrow",
    "starlette",
)


def instruction_sets() -> list[str]:
    """Those of the sets above that the processor has, as the kernel tells it; empty where there is no /proc."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            have = set(value.split())
            return [name for name in (*INSTRUCTION_SETS, *ARM_INSTRUCTION_SETS) if name in have]
    return []


def processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def cores() -> int:
    """Processors that this process may use, by its affinity and by its control group's quota."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="utf-8").split()
    except (OSError, ValueError):
        return count
    return count if quota == "max" else max(1, min(count, int(quota) // int(period)))


def memory_bytes() -> int:
    """Memory that this process may use: the machine's, or its control group's limit if that is less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="utf-8").strip()
    except OSError:
        return total
    return total if limit == "max" else min(total, int(limit))


def describe(folder: Path) -> dict[str, Any]:
    """The machine in words and numbers; `folder` is where the disk is looked at."""
    return {
        "platform": platform.platform(),
        "python": sys.version.split()[0],
        "processor": processor(),
        "cores": cores(),
        "instruction_sets": instruction_sets(),
        "memory_bytes": memory_bytes(),
        "disk_free_bytes": shutil.disk_usage(folder).free,
        "gpus": _gpus(),
        "versions": {name: version_of(name) for name in PACKAGES},
    }


def words(found: dict[str, Any]) -> str:
    """A description, with `peaks` if measured, as lines for a person."""
    gpus = [f"{gpu['name']} with {human_bytes(gpu['memory_bytes'])}" for gpu in found["gpus"]]
    lines = [
        f"{found['platform']}, Python {found['python']}",
        f"{found['processor']}: {found['cores']} cores; {' '.join(found['instruction_sets']) or 'no known extensions'}",
        f"GPU: {', '.join(gpus) or 'none'}",
        f"{human_bytes(found['memory_bytes'])} memory, {human_bytes(found['disk_free_bytes'])} disk free",
        ", ".join(f"{name} {version or 'not installed'}" for name, version in found["versions"].items()),
    ]
    return "\n".join(lines + [f"{PEAKS[key]}: {value:.3g}" for key, value in found.get("peaks", {}).items()])


def _gpus() -> list[dict[str, Any]]:
    import torch

    if not torch.cuda.is_available():
        return []
    found = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return [{"name": p.name, "memory_bytes": p.total_memory} for p in found]


PEAKS = {
    "matmul_float32_tflops": "matrix product in float32, TFLOP/s",
    "matmul_bfloat16_tflops": "matrix product in bfloat16, TFLOP/s",
    "memory_gbytes_per_second": "memory copied, GB/s",
    "disk_write_mbytes_per_second": "disk written and synced, MB/s",
}


# -- measuring -------------------------------------------------------------------------------------------------------


def measure(folder: Path, *, device: str = "cpu", seconds: float = 1.0) -> dict[str, float]:
    """Peaks of this machine, each the best of repeats within about `seconds`.

    `matmul_float32_tflops` and `matmul_bfloat16_tflops` (a square product, 2n³ operations), `memory_gbytes_per_second`
    (a copy: read and written bytes counted), `disk_write_mbytes_per_second` (64 MB into `folder`, synced, removed).
    """
    return {
        "matmul_float32_tflops": matmul_tflops("float32", device=device, seconds=seconds),
        "matmul_bfloat16_tflops": matmul_tflops("bfloat16", device=device, seconds=seconds),
        "memory_gbytes_per_second": copy_rate(device=device, seconds=seconds),
        "disk_write_mbytes_per_second": disk_rate(folder),
    }


def matmul_tflops(dtype: str, *, device: str = "cpu", size: int | None = None, seconds: float = 1.0) -> float:
    import torch

    size = size or (8192 if device.startswith("cuda") else 1536)
    a_NN = torch.randn(size, size, device=device).to(getattr(torch, dtype))
    out_NN = torch.empty_like(a_NN)
    return 2 * size**3 / _best(lambda: torch.mm(a_NN, a_NN, out=out_NN), device, seconds) / 1e12


def copy_rate(*, device: str = "cpu", size: int = 1 << 28, seconds: float = 1.0) -> float:
    import torch

    from_N = torch.zeros(size, dtype=torch.uint8, device=device)
    to_N = torch.empty_like(from_N)
    return 2 * size / _best(lambda: to_N.copy_(from_N), device, seconds) / 1e9


def disk_rate(folder: Path, size: int = 1 << 26) -> float:
    file = folder / f".doctor-{os.getpid()}"
    block = os.urandom(1 << 20)
    start = time.perf_counter()
    try:
        with open(file, "wb") as handle:
            for _ in range(size >> 20):
                handle.write(block)
            handle.flush()
            os.fsync(handle.fileno())
        return size / (time.perf_counter() - start) / 1e6
    finally:
        file.unlink(missing_ok=True)


def _best(work: Callable[[], object], device: str, seconds: float) -> float:
    """Seconds of the fastest of repeated calls; the first call warms up and is not counted."""
    import torch

    wait = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    work()
    wait()
    best, end = float("inf"), time.perf_counter() + seconds
    while True:
        start = time.perf_counter()
        work()
        wait()
        best = min(best, time.perf_counter() - start)
        if time.perf_counter() > end:
            return best
