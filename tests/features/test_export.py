"""The exported page: whole, self-contained, and deaf to hostile text."""

from __future__ import annotations

import math
from html.parser import HTMLParser

import pytest

import glasshouse as gh
from glasshouse.features.export import _text, export_html, feature_card
from glasshouse.types import UserError
from tests.features.example import write_example_features

ALLOWED = {
    *("html", "head", "meta", "title", "style", "body", "h1", "h2", "h3", "p", "nav", "a", "main", "article"),
    *("div", "table", "tr", "td", "code", "svg", "rect", "b", "u", "i"),
}


class Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.attributes, self.open, self.text = set(), [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += [(tag, *attr) for attr in attrs]
        if tag not in ("meta", "rect"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.add(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture
def table(workspace):
    write_example_features(workspace, "tiny-resid.2", 32)
    return gh.features("tiny-resid.2", ws=workspace)


def test_an_interval_that_knows_nothing_is_left_out(table):
    feature = table.feature(7)
    assert "% of tokens [" in feature_card(feature)
    feature["rate"] |= {"low": -math.inf, "high": math.inf}
    card = feature_card(feature)
    assert "% of tokens ·" in card and "inf" not in card.partition("</style>")[2].partition("<table>")[0]


def test_page_is_whole_and_runs_nothing(table, tmp_path):
    out = export_html(table, [2, 7, 0], tmp_path / "out.html")
    reader = Reader()
    reader.feed(out.read_text("utf-8"))
    assert not reader.open and reader.tags <= ALLOWED, reader.tags - ALLOWED
    names = {name for _, name, _ in reader.attributes}
    assert not any(name.startswith("on") for name in names) and "src" not in names
    assert all(value.startswith("#") for _, name, value in reader.attributes if name == "href")
    policy = next(v for t, n, v in reader.attributes if t == "meta" and n == "content" and "default-src" in v)
    assert "default-src 'none'" in policy and "script" not in policy
    text = "".join(reader.text)
    assert '<img src=x onerror="alert(1)">' in text  # the hostile label, shown as text
    assert "prefers-color-scheme:dark" in text and "tiny-resid.2/7" in text


def test_whole_dictionary_and_too_much(table, tmp_path, monkeypatch):
    out = export_html(table, None, tmp_path / "all.html")
    assert out.read_text("utf-8").count("<article") == 31  # all but the dead one
    monkeypatch.setattr("glasshouse.features.export.MOST", 5)
    with pytest.raises(UserError, match="1 to 5"):
        export_html(table, None, tmp_path / "all.html")
    with pytest.raises(UserError, match="expected a feature"):
        export_html(table, [99], tmp_path / "no.html")
    with pytest.raises(UserError, match="folder"):
        export_html(table, [1], tmp_path / "no" / "out.html")
    assert not (tmp_path / "no.html").exists()


def test_direction_and_control_characters_are_drawn():
    assert _text("a\u202eb\x1b[2J\n<i>") == "a‹202E›b‹1B›[2J\n&lt;i&gt;"
