"""The notebook of docs/ runs from its first cell to its last."""

from __future__ import annotations

from pathlib import Path

import pytest

TOUR = Path(__file__).parent.parent / "docs" / "tour.ipynb"


@pytest.mark.slow
def test_the_tour_runs(tmp_path: Path) -> None:
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(TOUR, as_version=4)
    assert not [cell for cell in notebook.cells if cell.get("outputs")], "kept without outputs, which would go stale"
    NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [out for cell in notebook.cells for out in cell.get("outputs", []) if "text/html" in out.get("data", {})]
    assert len(shown) >= 2, "the table and the feature show themselves"
    assert any("unexplained" in str(cell.get("outputs")) for cell in notebook.cells)
