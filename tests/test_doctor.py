"""The machine in words, and measured peaks that are of the right size."""

from __future__ import annotations

from pathlib import Path

import pytest

from glasshouse import doctor


def test_the_machine_is_described(tmp_path: Path) -> None:
    found = doctor.describe(tmp_path)
    assert found["cores"] >= 1 and found["memory_bytes"] > 1 << 28 and found["disk_free_bytes"] > 0
    assert found["versions"]["torch"] and found["python"].startswith("3.")
    known = {*doctor.INSTRUCTION_SETS, *doctor.ARM_INSTRUCTION_SETS}
    assert set(found["instruction_sets"]) <= known


def test_instruction_sets_are_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda *_a, **_k: "processor : 0\nflags : fpu avx2 amx_bf16 nothing\n")
    assert doctor.instruction_sets() == ["avx2", "amx_bf16"]


def test_a_product_is_faster_per_operation_when_it_is_large() -> None:
    small, large = (doctor.matmul_tflops("float32", size=size, seconds=0.05) for size in (4, 384))
    assert 0 < small < large < 10_000


def test_the_disk_is_left_clean(tmp_path: Path) -> None:
    assert doctor.disk_rate(tmp_path, 1 << 20) > 0
    assert list(tmp_path.iterdir()) == []


def test_bytes_are_counted_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy that takes 1 s moves its size once in and once out."""
    monkeypatch.setattr(doctor, "_best", lambda *_: 1.0)
    assert doctor.copy_rate(size=1000) == pytest.approx(2e-6)
    assert doctor.matmul_tflops("float32", size=100) == pytest.approx(2e-6)
