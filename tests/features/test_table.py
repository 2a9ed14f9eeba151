"""The reading half: lists, one feature, contexts, what bad input gets, and that no torch is loaded."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import glasshouse as gh
from glasshouse.types import UserError
from tests.features.example import write_example_features

N = 64


@pytest.fixture
def table(workspace):
    write_example_features(workspace, "tiny-resid.2", N)
    return gh.features("tiny-resid.2", ws=workspace)


def test_the_room_is_also_the_function(workspace, table):
    assert len(gh.features("tiny-resid.2", ws=workspace)) == N  # a second time: the submodule is an attribute now
    assert len(gh.features(table.folder)) == N


def test_a_name_is_the_workspaces_before_a_folder_here(workspace, table, tmp_path, monkeypatch):
    """Also in a folder that has another artefact of that name, such as the workspace's dictionaries/."""
    other = tmp_path / "here" / "tiny-resid.2"
    other.mkdir(parents=True)
    (other / "manifest.json").write_text("{}")
    monkeypatch.chdir(other.parent)
    assert gh.features("tiny-resid.2", ws=workspace).folder == table.folder
    with pytest.raises(UserError, match="does not read"):
        gh.features("tiny-resid.2")
    with pytest.raises(UserError, match="does not read"):
        gh.features(Path("tiny-resid.2"), ws=workspace)


def test_reading_needs_no_torch():
    code = "import sys, glasshouse.features.table, glasshouse.features.export; print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


def test_a_feature_by_a_number_of_its_own_table(table):
    plain, number = repr(table[3]), table.arrow()["index"].to_pylist().index(3)
    assert repr(table[np.int64(3)]) == plain == repr(table[table.arrow()["index"][number]])
    for wrong in ("3", 3.0, None):
        with pytest.raises(UserError, match="expected the number of a feature of"):
            table[wrong]


def test_query_filters_and_sorts(table):
    everything = table.query(limit=N)
    assert everything["total"] == N == len(everything["rows"])
    rates = [row["rate"] for row in everything["rows"]]
    assert rates == sorted(rates, reverse=True)
    assert [row["index"] for row in table.query(flag="dead")["rows"]] == [0]
    assert [row["index"] for row in table.query(flag="dense")["rows"]] == [1]
    labelled = table.query(flag="labelled", sort="label", descending=False, limit=N)["rows"]
    assert [r["label"].lower() for r in labelled] == sorted(r["label"].lower() for r in labelled)
    assert all(row["label"] is None for row in table.query(flag="unclear", limit=N)["rows"])
    assert {row["kind"] for row in table.query(kinds=["help"], limit=N)["rows"]} == {"help"}
    low, high = 0.001, 0.01
    assert all(low <= r["rate"] <= high for r in table.query(min_rate=low, max_rate=high, limit=N)["rows"])
    for key in ("kind", "flag"):
        found = [row[key] for row in table.query(sort=key, descending=False, limit=N)["rows"]]
        assert found == sorted(found, key=lambda one: (one is None, one or ""))
    clear = table.query(min_score=0.3, limit=N)["rows"]
    assert clear and all(row["label"] and row["score"] >= 0.3 for row in clear)
    page = table.query(limit=10, offset=60)
    assert page["total"] == N and len(page["rows"]) == 4
    assert table.query(limit=10, offset=1000) == {"total": N, "rows": []}


def test_search_takes_labels_and_promoted_tokens_as_plain_text(table):
    assert [row["index"] for row in table.query(search="ONERROR")["rows"]] == [2]
    token = table.feature(7)["promotes"][3]["token"]
    assert 7 in [row["index"] for row in table.query(search=token, limit=N)["rows"]]
    for hostile in ("%", "_x_", "' OR 1=1 --", "\\", '"; DROP TABLE catalogue'):
        found = table.query(search=hostile, limit=N)["rows"]
        assert all(hostile.lower() in (row["label"] or "").lower() for row in found) or len(found) < N
    assert table.query(limit=1)["total"] == N


def test_search_lowers_as_the_list_does(table):
    with table._lock:
        table._db.execute("UPDATE catalogue SET label_text = lower('İSTANBUL ΣΑΣ') WHERE index = 3")
    assert [row["index"] for row in table.query(search="İSTANBUL ΣΑΣ")["rows"]] == [3]


def test_a_feature_is_json_with_every_key(table):
    feature = json.loads(json.dumps(table.feature(7), allow_nan=False))
    assert feature["id"] == "tiny-resid.2/7" and feature["flag"] == "live"
    assert feature["rate"]["low"] <= feature["rate"]["value"] <= feature["rate"]["high"]
    assert len(feature["histogram"]["edges"]) == len(feature["histogram"]["counts"]) + 1
    assert sum(feature["histogram"]["counts"]) == feature["firings"]
    assert sum(feature["positions"]["counts"]) == feature["firings"]
    assert sum(one["count"] for one in feature["examples"]["bins"]) == feature["contexts"]
    for example in feature["examples"]["top"]:
        assert len(example["tokens"]) == len(example["activations"]) <= 41
        assert max(example["activations"]) == pytest.approx(example["peak"])
        assert example["activations"][example["position"] - example["start"]] == pytest.approx(example["peak"])
    assert table.feature(8)["measured"] is None and table.feature(0)["label"] is None
    assert json.dumps(table.feature(0), allow_nan=False)


def test_context_on_demand(table):
    example = table.feature(7)["examples"]["top"][0]
    context = table.context(example["context"])
    assert context["tokens"][example["start"] : example["start"] + len(example["tokens"])] == example["tokens"]
    with pytest.raises(UserError, match="stored"):
        table.context(10**6)


def test_ids_are_those_stored_and_spread_over_all(table):
    stored = pq.read_table(table.folder / "contexts.parquet")["tokens"].to_pylist()
    assert table.ids(10**6) == stored
    count = len(stored) * 2 // 3
    places = [stored.index(ids) for ids in table.ids(count)]
    assert len(places) == count and places[0] == 0 and places[-1] == len(stored) - 1


def test_bad_input_gets_one_line(table, workspace):
    for bad in (lambda: table.feature(N), lambda: table.feature(-1), lambda: table.query(sort="rate; DROP")):
        with pytest.raises(UserError) as caught:
            bad()
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="flag"):
        table.query(flag="nice")
    with pytest.raises(UserError, match="expected features/other"):
        gh.features("other", ws=workspace)
    path = table.folder / "features.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="bytes"):
        gh.features("tiny-resid.2", ws=workspace)


def test_threads_share_a_table(table):
    wanted = table.feature(7)
    results = []
    threads = [
        threading.Thread(target=lambda: results.append((table.feature(7) == wanted, table.query()["total"])))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [(True, N)] * 8


def test_notebook(table):
    assert table.arrow().num_rows == N
    card = table[7]._repr_html_()
    assert "tiny-resid.2/7" in card and "rgba(var(--hot)" in card
    try:
        import pandas  # noqa: F401
    except ImportError:
        with pytest.raises(UserError, match="pip install"):
            table.df()
    else:
        assert table.df().loc[7, "flag"] == "live"
    assert repr(table).startswith(f"<Features {table.name}: {len(table)} of tiny at resid.2")
    shown = table._repr_html_()
    assert "&lt;img" in shown or "clear label" in shown
    assert "<img" not in shown and shown.count("<tr>") == 11, "a line of heads and ten features"
