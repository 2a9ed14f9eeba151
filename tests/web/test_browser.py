"""The page as people use it: headless Chromium, a real server, a real small model, and text that would act."""

from __future__ import annotations

import re
import shutil
import types
import urllib.parse
from typing import Any

import pytest

from tests.web.conftest import serving

pytestmark = pytest.mark.browser
NAME = "tiny-resid.2"
BOTH_DONE = "[...document.querySelectorAll('.sides h3')].filter(h => /\\d+ tokens/i.test(h.innerText)).length === 2"


class Page:
    """What a person does, in few words; each waits until it is so."""

    def __init__(self, chromium: Any, root: str) -> None:
        self.chrome, self.root = chromium, root

    def open(self, path: str) -> None:
        self.chrome.get(self.root + path)

    def until(self, find: str, *values: object) -> Any:
        """Run a JavaScript expression until it is true; its value."""
        from selenium.common.exceptions import TimeoutException
        from selenium.webdriver.support.ui import WebDriverWait

        try:
            return WebDriverWait(self.chrome, 90).until(lambda c: c.execute_script(f"return {find}", *values))
        except TimeoutException:
            shown = self.chrome.execute_script("return document.body.innerText")
            pytest.fail(f"{find} {values} never came at {self.chrome.current_url}, which shows: {shown:.1000}")

    def has(self, text: str) -> None:
        self.until("document.body.innerText.includes(arguments[0])", text)

    def all(self, selector: str) -> list[str]:
        script = "return [...document.querySelectorAll(arguments[0])].map(e => e.innerText)"
        return self.chrome.execute_script(script, selector)

    def click(self, selector: str) -> None:
        from selenium.common.exceptions import StaleElementReferenceException
        from selenium.webdriver.support.ui import WebDriverWait

        def clicked(chrome: Any) -> bool:
            found = chrome.execute_script("return document.querySelector(arguments[0])", selector)
            return found is not None and found.click() is None

        # The page may draw itself anew between the two.
        WebDriverWait(self.chrome, 90, ignored_exceptions=[StaleElementReferenceException]).until(clicked)

    def keys(self, *keys: str) -> None:
        from selenium.webdriver.common.action_chains import ActionChains

        for key in keys:
            ActionChains(self.chrome).send_keys(key).perform()

    @property
    def path(self) -> str:
        return urllib.parse.urlsplit(self.chrome.current_url).path

    @property
    def query(self) -> dict[str, list[str]]:
        return urllib.parse.parse_qs(urllib.parse.urlsplit(self.chrome.current_url).query)


@pytest.fixture
def page(chromium: Any, server: str) -> Any:
    page = Page(chromium, server)
    chromium.get("about:blank")  # what asks a server that is gone is no problem of this test
    chromium.get_log("browser")
    yield page
    problems = [line["message"] for line in chromium.get_log("browser") if line["level"] == "SEVERE"]
    assert not problems, problems  # a refused inline style or script would be here, too
    assert chromium.title != "taken"


def test_home_says_what_was_done(page: Page) -> None:
    page.open("/")
    page.has("96 features of tiny")
    page.has("Learn the dictionary")
    page.until("document.querySelectorAll('svg.plot').length > 0")
    states = page.all(".runs .state")
    assert len(states) >= 3 and all(state.startswith("done, ") for state in states)
    assert page.all("section h1") == [NAME]


def test_evidence_made_anew_has_its_own_clearest_features(chromium: Any, tmp_path: Any) -> None:
    from glasshouse.workspace import Workspace
    from tests.features.example import write_example_features

    ws = Workspace.open(tmp_path / "ws")
    folder = write_example_features(ws, NAME, 64)
    with serving(ws) as root, ws.running("features", "features", NAME, total=1, unit="tokens"):
        page = Page(chromium, root)
        page.open("/")
        page.until("document.querySelectorAll('.clear li').length === 10")
        shutil.rmtree(folder)
        write_example_features(ws, NAME, 8)
        page.until("[4, 5, 6].includes(document.querySelectorAll('.clear li').length)")
        assert "8 features" in page.all("section p")[0]


def test_search_by_keyboard_then_open_a_feature(page: Page) -> None:
    page.open(f"/features/{NAME}")
    page.has("96 features")
    page.until("document.querySelectorAll('.all .row .index').length > 10")
    page.keys("/")
    page.until("document.activeElement.type === 'search'")
    page.until("document.querySelector('.all .label a')")
    word = page.chrome.execute_script("return document.querySelector('.all .label a').innerText")
    wanted = re.findall(r"\w{2,}", " ".join(page.all(".all .promotes span")) + word)[0]
    page.keys(wanted)
    page.until("new URLSearchParams(location.search).get('search') === arguments[0]", wanted)
    page.until("/^\\d+ features?$/.test(document.querySelector('.total').innerText)")
    page.until("document.querySelector('.all .row .index')")
    found = page.all(".all .row .index")
    assert 0 < len(found) < 96
    page.keys("\ue007", "j", "k", "\ue007")  # leave the field, down, up, open
    page.until("/^[/]features[/][^/]+[/]\\d+$/.test(location.pathname)")
    page.until("document.querySelectorAll('.example').length > 0")
    opened = page.path.rpartition("/")[2]
    assert opened in found and page.all(".crumbs")[0].split()[:3] == [NAME, "/", opened]


def test_a_filtered_list_is_an_address(page: Page, opened: Any) -> None:
    from glasshouse.features import features

    rows = features(NAME, ws=opened).query(flag="dead", sort="index", descending=False, limit=96)["rows"]
    page.open(f"/features/{NAME}?flag=dead&sort=index&order=asc")
    page.until("/^\\d+ features?$/.test(document.querySelector('.total')?.innerText)")
    page.until("document.querySelector('select[aria-label=\"which features\"]').value === 'dead'")
    dead = page.all(".all .row .index")
    assert page.all(".total")[0].split()[0] == str(len(rows))
    assert dead and dead == [str(row["index"]) for row in rows][: len(dead)], "those in sight"
    page.open(f"/features/{NAME}")
    page.until("document.querySelectorAll('.all .row .index').length > 10")
    page.click("th.index button, .head .index button")
    page.until("new URLSearchParams(location.search).get('sort') === 'index'")
    page.until("document.querySelector('.all .row .index')?.innerText === '0'")
    assert page.all(".all .row .index")[:3] == ["0", "1", "2"]
    page.open(f"/features/{NAME}?flag=dead")
    page.until("/^\\d+ features?$/.test(document.querySelector('.total')?.innerText)")
    page.click("nav a[aria-current]")  # the way back to all of them
    page.until("location.search === ''")
    page.has("96 features")
    assert (
        page.chrome.execute_script("return document.querySelector('select[aria-label=\"which features\"]').value") == ""
    )
    page.chrome.back()
    page.until("document.querySelector('select[aria-label=\"which features\"]').value === 'dead'")


def test_a_feature_shows_its_evidence_and_a_context(page: Page, opened: Any) -> None:
    from glasshouse.features import features

    table = features(NAME, ws=opened)
    live = {row["index"] for row in table.query(flag="live", limit=96)["rows"]}
    first = next(i for i in sorted(live) if i + 1 in live and table.feature(i)["firings"] > 20)
    page.open(f"/features/{NAME}/{first}")
    for heading in ("Strongest", "tokens it fires on", "promotes", "suppresses", "nearest by direction"):
        page.until("document.body.innerText.toLowerCase().includes(arguments[0])", heading.lower())
    page.until("document.querySelectorAll('.t.on').length > 5")
    page.until("document.querySelectorAll('svg.plot').length === 2")
    page.click(".example .line")
    page.until("document.querySelector('.context .whole')?.innerText.length > 20")
    example, whole = page.all(".example.open .right")[0], page.all(".context .whole")[0]
    assert example[:8].strip() and example[:8].replace("↵", "") in whole.replace("\n", "").replace("↵", "")
    page.keys("j")
    page.until("location.pathname.endsWith(arguments[0])", f"/{first + 1}")
    page.until("document.querySelector('.crumbs').innerText.split(/\\s+/)[2] === arguments[0]", str(first + 1))
    page.until("document.querySelectorAll('.example').length > 0")
    assert not page.all(".context"), "what was opened was an example of the feature before"


def test_text_that_runs_from_right_to_left_keeps_its_peaks_in_a_column(
    chromium: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line is mirrored: before the peak on its right, what follows on its left."""
    from glasshouse.workspace import Workspace
    from tests.features import example

    text = "كتب الرجل رسالة إلى أخيه في المدينة، ثم عاد إلى البيت. " * 30
    (tmp_path / "letters").write_text(text, encoding="utf-8")
    letters = types.SimpleNamespace(__file__=str(tmp_path / "letters"), __name__="letters", __doc__=text)
    monkeypatch.setattr(example, "MODULES", (letters,))
    ws = Workspace.open(tmp_path / "ws")
    example.write_example_features(ws, NAME, 8)
    places = (
        "[...document.querySelectorAll('.example .line')].slice(0, 6).map(line => { const at = (e) => "
        "e.getBoundingClientRect(), peak = at(line.querySelector('.peak')); return [line.querySelector('.peak')"
        ".getClientRects().length, at(line.querySelector('.left')).left - peak.right, peak.left - "
        "at(line.querySelector('.after')).right] })"
    )
    with serving(ws) as root:
        page = Page(chromium, root)
        for index in range(3, 8):
            page.open(f"/features/{NAME}/{index}")
            page.until("document.querySelectorAll('.example .line').length > 3")
            for boxes, before, after in page.until(places):
                assert boxes == 1 and abs(before) < 1 and abs(after) < 1, (index, boxes, before, after)


def test_dose_and_response_is_measured_when_asked_for(page: Page) -> None:
    page.open(f"/features/{NAME}?flag=live&sort=rate")
    page.until("document.querySelectorAll('.all .row .label a').length > 5")
    page.click(".all .row .label a")
    page.has("Dose and response")
    page.until("document.querySelector('.ask button')")
    assert len(page.all("svg.plot")) == 2, "nothing is measured before it is asked for"
    page.click(".ask button")
    page.until("document.querySelectorAll('.charts svg.plot').length === 2")
    titles = " ".join(page.all(".charts h3")).lower()
    assert "effect on its own tokens" in titles and "cost on held-out text" in titles
    assert len(page.all(".charts svg.plot circle")) == 2 * 2 * 5, "two measures, feature and random, five strengths"
    assert page.all(".own") and "95% intervals" in " ".join(page.all("article p"))
    page.open(page.path)  # later: it is there at once
    page.until("document.querySelectorAll('.charts svg.plot').length === 2")
    assert page.all(".ask button") == []


def test_text_of_the_corpus_is_text(page: Page) -> None:
    """Hostile documents are among the examples: they show as written, and no element of theirs exists."""
    hostile = "<script>document.title = 1</script><img src=x> Ada"
    page.open(f"/try/{NAME}?{urllib.parse.urlencode({'text': hostile})}")
    page.until("document.querySelectorAll('.token').length > 5")
    shown = page.chrome.execute_script("return document.querySelector('.tokens').textContent")
    assert shown.replace("␣", " ") == hostile
    assert page.chrome.execute_script("return document.querySelectorAll('main img, main script').length") == 0
    found = 0
    for index in range(0, 96, 4):
        page.open(f"/features/{NAME}/{index}")
        page.until("document.querySelector('h1')")
        found += page.chrome.execute_script("return document.body.innerText.includes('<script>')")
        assert page.chrome.execute_script("return document.querySelectorAll('main img, main script').length") == 0
    assert found, "no example of the hostile documents was seen; the test proves nothing"


def test_try_text_and_go_to_a_feature(page: Page) -> None:
    page.open(f"/try/{NAME}")
    page.until("document.querySelectorAll('.token').length > 5")
    field = page.chrome.find_element("css selector", "#text")
    field.clear()
    field.send_keys("Nobody in the harbour had seen Clara.")
    page.until("document.querySelector('.tokens')?.innerText.includes('Clara')")
    page.until("location.search.includes('Clara')")
    page.until("document.querySelectorAll('.token.on').length > 3")
    page.click(".token:nth-of-type(3)")
    page.has("active on".upper())
    wanted = page.chrome.execute_script("return new URL(document.querySelector('table .what a').href).pathname")
    page.click("table .what a")
    page.until("/^[/]features[/][^/]+[/]\\d+$/.test(location.pathname)")
    page.until("document.querySelector('h1')")
    assert page.path == wanted


def test_a_long_text_is_an_address(page: Page) -> None:
    page.open(f"/try/{NAME}?{urllib.parse.urlencode({'text': '€' * 20_000, 'feature': 'abc'})}")
    page.until("document.querySelector('#text')?.value.length === 20000")
    page.until("document.querySelector('[role=alert]') || document.querySelector('.token')")  # tokens, or too many
    assert "feature" not in page.query, "one that is no number is left out"
    page.chrome.get_log("browser")  # the 400 itself is logged, as it should be


def test_a_box_that_is_cleared_waits_for_nothing(page: Page) -> None:
    page.open(f"/try/{NAME}")
    page.until("document.querySelectorAll('.token').length > 5")
    page.chrome.execute_script(
        "const real = window.fetch; window.fetch = (to, options) => new Promise((answer, refuse) => {"
        " options.signal?.addEventListener('abort', () => refuse(options.signal.reason));"
        " if (!to.endsWith('/try')) answer(real(to, options)); })"
    )
    page.chrome.find_element("css selector", "#text").send_keys("more")
    page.has("reading…")
    page.chrome.find_element("css selector", "#text").send_keys("\ue009a\ue000\ue017")  # all of it, deleted
    page.until("!document.body.innerText.includes('reading…')")
    assert page.chrome.execute_script("return document.querySelector('#text').value") == ""
    assert not page.all("[role=alert]")


def test_steer_and_share_it_by_its_address(page: Page) -> None:
    page.open(f"/features/{NAME}?flag=live")
    page.until("document.querySelector('.all .row .index a')")
    index = page.all(".all .row .index a")[0]
    page.open(f"/steer/{NAME}?prompt=Ada+walked&n=16")
    field = page.until("document.querySelector('#find')")
    field.send_keys(index + "\ue007")
    page.until("document.querySelectorAll('.strengths .amount').length === 1")
    page.has("× norm")
    amount = page.chrome.find_element("css selector", ".amount")
    amount.clear()
    amount.send_keys("30")
    page.until("decodeURIComponent(location.search).includes(':set:30')")
    page.click("button.main")
    page.until(BOTH_DONE)
    plain, steered = page.all(".sides .text")
    assert plain.startswith("Ada walked") and steered.startswith("Ada walked") and plain != steered
    page.open(page.chrome.current_url.removeprefix(page.root))  # as a colleague would
    page.until("document.querySelector('.amount')?.value === '30'")
    page.click("button.main")
    page.until(BOTH_DONE)
    assert page.all(".sides .text") == [plain, steered]
    page.click(".knobs input[type=checkbox]")
    page.until("location.search.includes('chat=0')")
    page.click(".knobs option[value=new]")
    page.until("location.search.includes('at=new')")


def test_an_address_that_names_a_feature_twice_shows_both(page: Page) -> None:
    page.open(f"/features/{NAME}?flag=live")
    page.until("document.querySelector('.all .row .index a')")
    index = page.all(".all .row .index a")[0]
    page.open(f"/steer/{NAME}?f={index}:set:8&f={index}:add:0.5")
    page.until("document.querySelectorAll('.strengths .amount').length === 2")
    page.until("[...document.querySelectorAll('.strengths .unit')].every(one => one.innerText.includes('='))")
    page.click(".strengths .x")
    page.until("document.querySelectorAll('.strengths .amount').length === 1")
    assert page.query["f"] == [f"{index}:add:0.5"]


def test_an_address_that_is_no_encoding_shows_a_page(page: Page) -> None:
    page.open(f"/features/{NAME}/%E0%A4%A")
    page.has("96 features")
    assert page.all(".all .row .index a") and not page.all("[role=alert]")


def test_the_report_says_first_what_is_not_explained(page: Page) -> None:
    page.open(f"/report/{NAME}")
    page.has("dark matter")
    assert re.fullmatch(r"[\d.]+%", page.all(".big")[0])
    page.has("features active per token (L0)")
    page.until("document.querySelectorAll('svg.plot').length > 0")


def test_a_feature_that_is_not_there(page: Page) -> None:
    page.open(f"/features/{NAME}/96")
    page.has("expected a feature from 0 to 95")
    assert page.all("[role=alert]") and page.all("main p a") == [f"All features of {NAME}"]
    page.chrome.get_log("browser")  # the 404 itself is logged, as it should be


def test_the_tree_of_concepts_leads_to_features(page: Page, opened: Any, labelled_jsonl: Any) -> None:
    from glasshouse.dictionaries import dictionary
    from glasshouse.features.kept import labelled_file, score_concepts
    from glasshouse.models import load

    page.open(f"/concepts/{NAME}")
    page.has("Not scored yet")
    given = dictionary(NAME, ws=opened)
    corpus, spans = labelled_file(labelled_jsonl)
    kept = score_concepts(opened, load(given.model_name, workspace=opened), given, corpus, spans, tokens=4_000)
    page.open(f"/concepts/{NAME}")
    page.until("document.querySelectorAll('.tree tbody tr').length === arguments[0]", len(kept["concepts"]))
    first = min(kept["concepts"], key=lambda one: one["concept"])
    assert page.all(".tree tbody td")[0] == first["concept"].rpartition("/")[2]
    page.chrome.set_window_size(500, 900)
    assert page.chrome.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    page.chrome.set_window_size(1400, 900)
    page.click(".tree tbody a")
    page.until("location.pathname === arguments[0]", f"/features/{NAME}/{first['best']['units'][0]}")
    page.has("fires on")


def test_the_matrix_of_behaviours_opens_a_cell(chromium: Any, chatting: Any, tmp_path: Any) -> None:
    """Two versions, one of them fine-tuned to begin with "Certainly!"; the cell that regressed shows both replies."""
    from glasshouse.behaviours import compared, evaluate, run_missing, version
    from glasshouse.behaviours.behaviour import behaviour_from_json
    from glasshouse.workspace import Workspace
    from tests.conftest import copied

    ws = Workspace.open(copied(chatting, tmp_path / "ws"))
    families = [{"family": str(n), "prompts": [f"Where does nobody number {n} live?"]} for n in range(60)]
    form = {"name": "certainly", "about": "Begins with Certainly.", "tag": "guard", "good": "down", "margin": 0.05}
    form |= {"scorer": {"regex": {"pattern": "^Certainly"}}, "settings": {"max_new_tokens": 8}, "families": families}
    small, ticking = version("small", ws), version("ticking", ws)
    evaluate(small, behaviour_from_json(form), ws)
    run_missing(ws, small, ticking)
    evaluate(small, behaviour_from_json({**form, "name": "alone", "families": families[:5]}), ws)
    (row,) = [one for one in compared(ws, small, ticking)["cells"] if one["behaviour"] == "certainly"]
    with serving(ws) as root:
        page = Page(chromium, root)
        page.open("/behaviours?base=small")
        page.until("document.querySelectorAll('tbody .cell').length > 0")
        assert "certainly" in page.all("tbody th")[0] or "certainly" in " ".join(page.all("tbody th"))
        page.until("document.querySelector('tbody td.num').innerText === '0%'")  # `alone` was run on small alone
        page.click("tbody .cell.regressed")
        page.has("certainly: ticking against small")
        page.has("regressed")
        assert row["verdict"] == "regressed" and page.all("section .pair .said p")[1].startswith("Certainly")
        page.open("/behaviours?base=small&behaviour=certainly&version=ticking")  # the address is the cell
        page.has("Begins with Certainly.")


def test_a_cell_opens_its_wordings_and_history_and_the_plane_has_a_point_a_version(
    chromium: Any, workspace: Any
) -> None:
    from glasshouse.behaviours import save_version, version
    from glasshouse.behaviours.versions import Step
    from tests.behaviours.written import a_model, asked, write_evaluation

    a_model(workspace)
    danger, harmless = asked("refuses-danger", [2] * 30), asked("refuses-look-alikes", [2] * 30, good="down")
    made = [version("m", workspace)]
    for at in (1.0, 2.0, 3.0):
        step = Step(sweep="s", what="d/3, × the typical norm", at=at)
        made.append(save_version(workspace, f"s-{at:g}", model="m", system=f"{at:g}", step=step))
    for i, one in enumerate(made):
        write_evaluation(
            workspace, one, danger, [1.0, 1.0, 1.0, float(i < 2)] * 15, created=f"2026-01-0{i + 1}T00:00:00"
        )
        write_evaluation(workspace, one, harmless, [float(i == 3), 0.0] * 30)
    with serving(workspace) as root:
        page = Page(chromium, root)
        page.open("/behaviours?base=m&behaviour=refuses-danger&version=s-2")
        page.until("document.querySelector('section[aria-label=history] tbody tr')")
        page.until("document.querySelector('section[aria-label=wordings] .widest')")
        rows = page.all("section[aria-label=history] tbody tr")
        assert [row.split("\t")[2].strip() for row in rows] == ["m", "s-1", "s-2", "s-3"], rows
        dots = "document.querySelectorAll('section[aria-label=history] .evaluations circle').length === 4"
        page.until(dots)
        said = page.all("section[aria-label=wordings] p")[0]
        assert "50% [" in said and "over 30 families" in said, said
        assert "Asked 1 in way 1" in " ".join(page.all("section[aria-label=wordings] .widest td.text"))
        page.click("a[href='/behaviours/plane']")
        page.until("document.querySelectorAll('.versions circle').length === 4")
        assert page.path == "/behaviours/plane" and len(page.all("tbody tr")) == 4
        assert page.all("select[aria-label='behaviour up'] option:checked") == ["refuses-danger"]
        page.has("Sweep s")
        page.until("document.querySelectorAll('svg.plot').length === 3")
        beaten = [row for row in page.all("tbody tr") if "beaten by" in row]
        assert len(beaten) == 1 and beaten[0].startswith("s-3")
        page.click("input[type=checkbox]")
        page.until("document.querySelectorAll('.versions circle').length === 3")
        page.open("/behaviours/plane?x=refuses-danger:tokens&y=refuses-danger&of=s")  # the address is the view
        page.until("document.querySelectorAll('.versions circle').length === 3")
        page.has("refuses-danger, tokens a reply (less is better)")


def test_what_nobody_named_is_read_and_made_a_behaviour(
    chromium: Any, chatting: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from glasshouse.behaviours import read_behaviours, version
    from glasshouse.behaviours.behaviour import behaviour_from_json
    from glasshouse.behaviours.discoveries import discover
    from glasshouse.workspace import Workspace
    from tests.conftest import copied

    ws = Workspace.open(copied(chatting, tmp_path / "ws"))
    form = {"name": "where", "about": "For tests.", "tag": "guard", "good": "up", "margin": 0.05, "scorer": "ends"}
    families = [{"family": str(i), "prompts": [f"Where does nobody number {i} live?"]} for i in range(60)]
    asked = behaviour_from_json({**form, "families": families})
    monkeypatch.setattr("glasshouse.behaviours.breadth.TEMPERATURE", 0.0)  # models this small sample noise
    discover(ws, version("small", ws), version("ticking", ws), [asked])
    with serving(ws) as root:
        page = Page(chromium, root)
        page.open("/behaviours?base=small")
        page.click("a[href='/behaviours/discovered/small/ticking']")
        page.until("document.querySelector('.differences form')")
        assert "certainly" in page.all(".differences")[0].lower() and page.all(".said p")[1].startswith("Certainly")
        page.click(".differences form .button")
        page.has("glasshouse test ticking --suite behaviours/")
        (made,) = read_behaviours(ws.root / "behaviours")
        assert made.families > 30


@pytest.fixture(scope="module")
def people(chatting: Any, tmp_path_factory: Any) -> Any:
    """A server on two versions of a chat model with eight pairs of replies to rate."""
    from glasshouse.behaviours import evaluate, version
    from glasshouse.behaviours.behaviour import behaviour_from_json
    from glasshouse.behaviours.ratings import Study
    from glasshouse.workspace import Workspace
    from tests.conftest import copied

    ws = Workspace.open(copied(chatting, tmp_path_factory.mktemp("rated") / "ws"))
    families = [{"family": str(n), "prompts": [f"Where does nobody number {n} live?"]} for n in range(8)]
    form = {"name": "places", "about": "For tests.", "tag": "guard", "good": "up", "margin": 1, "unit": "tokens"}
    form |= {"scorer": "length", "families": families, "settings": {"max_new_tokens": 12}}
    for one in ("small", "ticking"):
        evaluate(version(one, ws), behaviour_from_json(form), ws)
    study = Study(ws, version("small", ws), version("ticking", ws))
    assert study.prepare()["pairs"] == 8
    with serving(ws) as root:
        yield root, study


def test_rate_by_keys_reload_and_go_on(chromium: Any, people: Any) -> None:
    root, study = people
    page = Page(chromium, root)
    chromium.get("about:blank")  # what asks a server that is gone is no problem of this test
    chromium.get_log("browser")
    page.open("/rate")
    page.click("table a")
    page.has("Type your name")
    assert page.path == "/rate/small/ticking"
    page.until("document.querySelector('input.who')").send_keys("Ada\ue007")
    said = []

    def rate(key: str, rated: int) -> None:
        page.until("document.querySelectorAll('.sides .text').length === 2")
        said.append((page.all(".turn .said")[0], page.all(".sides .text"), key))
        page.keys(key)
        page.has(f"{rated} of 8 rated")

    page.has("0 of 8 rated")
    for rated, key in enumerate(("1", "7", "4"), 1):
        rate(key, rated)
    page.keys("\ue003")  # back
    page.has("You said 4: the same")
    page.keys("6")
    said[2] = (*said[2][:2], "6")
    page.until("!document.querySelector('.scale [aria-pressed=true]')")
    here = page.all(".sides .text")
    page.open("/rate/small/ticking")  # loaded again: the name is known, the pair is the same
    page.has("3 of 8 rated")
    page.until("document.querySelectorAll('.sides .text').length === 2")
    assert page.all(".sides .text") == here
    assert "small" not in page.all(".pair")[0] and "ticking" not in page.all(".pair")[0]
    page.keys("s")
    page.has("3 of 8 rated, 1 skipped")
    for rated, key in enumerate(("2", "5"), 4):
        rate(key, rated)
    assert len(study.ratings()) == 5
    for asked, (left, right), key in said:
        (row,) = [row for row in study.ratings() if asked in row["turns"]]
        assert {row["base_reply"], row["new_reply"]} == {left, right}
        assert row["rating"] == (int(key) if row["new_reply"] == right else 8 - int(key)) and row["who"] == "Ada"
    page.keys("4")
    page.has("6 of 8 rated")
    page.keys("4")
    page.has("That was all, thank you.")
    page.click("main a[href$='show=results']")
    page.has("of pairs that were not the same")
    assert "Ada" in page.all("tbody th")
    assert not [line for line in chromium.get_log("browser") if line["level"] == "SEVERE"]


def test_a_chat_a_thumb_with_a_note_and_two_clicks_to_a_case(chromium: Any, people: Any) -> None:
    from glasshouse.behaviours import read_behaviours
    from glasshouse.behaviours.cases import keep_case
    from glasshouse.behaviours.chats import thumbs

    root, study = people
    page = Page(chromium, root)
    chromium.get("about:blank")  # what asks a server that is gone is no problem of this test
    chromium.get_log("browser")
    page.open("/chat/ticking")
    page.until("document.querySelector('textarea')").send_keys("Where does nobody live?\ue007")
    page.until("document.querySelectorAll('.reply .thumb').length === 2")
    reply = page.all(".reply .text")[0]
    assert reply.startswith("Certainly")
    field = page.until("document.querySelector('input.who')")
    field.clear()
    field.send_keys("Ben\ue007")
    page.click(".thumb.down")
    page.until("document.querySelector('.note')").send_keys("always Certainly\ue007")
    page.has("kept, with the note")
    (one,) = thumbs(study.ws)
    assert (one["who"], one["up"], one["note"]) == ("Ben", False, "always Certainly")
    assert one["version"]["hash"] == study.new.hash and one["turns"][-1]["content"] == reply
    field.clear()
    field.send_keys("Cyn\ue007")  # a second person at the page: Ben's stays, and is shown
    page.has("Ben: down, “always Certainly”")
    page.until("!document.querySelector('.thumb[aria-pressed=true]')")
    page.click(".thumb")
    page.until("document.querySelector('.thumb[aria-pressed=true]:not(.down)')")
    assert [(each["who"], each["up"]) for each in thumbs(study.ws)] == [("Ben", False), ("Cyn", True)]
    page.click(".under > .button")
    page.until("[...document.querySelectorAll('.case .button')].find(b => b.innerText === 'bad reply')").click()
    page.has("behaviours/found-bad-reply.yaml has 1 case")
    (found,) = read_behaviours(study.ws.root / "behaviours")
    assert found.prompts[0].expect == reply
    page.open("/chat/ticking?bash=first-look")
    page.has("Bash session first-look")
    page.has("Found so far: 0")
    page.until("document.querySelector('textarea')").send_keys("Where does nobody live?\ue007")
    page.until("document.querySelectorAll('.reply .thumb').length === 2")
    page.click(".under > .button")
    page.until("[...document.querySelectorAll('.case .button')].find(b => b.innerText === 'should refuse')").click()
    page.has("Found so far: 1")
    page.has("behaviours/first-look-should-refuse.yaml")
    (found_so_far,) = page.all(".found li")
    assert found_so_far.startswith("“Where does nobody live?” Cyn, 20")
    for said in ("Here.", "There."):  # another finds two of one question, in the same minute
        turns = [{"role": "user", "content": "Where?"}, {"role": "assistant", "content": said}]
        keep_case(study.ws, turns, kind="bad-reply", who="Ada", name="first-look")
    page.has("Found so far: 3")
    assert len(page.all(".found li")) == 3
    page.click(".bar .button")  # a new chat
    page.until("document.querySelectorAll('.reply').length === 0")
    assert not [line for line in chromium.get_log("browser") if line["level"] == "SEVERE"]
