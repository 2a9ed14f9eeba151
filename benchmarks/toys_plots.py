"""The page of plots of the toy models: one SVG, written by hand, readable on light and dark.

python benchmarks/toys_plots.py      # draws docs/images/toys.svg again from benchmarks/results/toys.json
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "docs" / "images" / "toys.svg"
WIDTH, LEFT, RIGHT, PANEL_W, PANEL_H = 1180, 70, 660, 470, 250
STYLE = """
 svg { --paper: #ffffff; --ink: #1f2328; --soft: #59636e; --line: #d1d9e0; --a: #0b62c9; --b: #b4470a; --c: #1a7f37 }
 @media (prefers-color-scheme: dark) {
  svg { --paper: #12161c; --ink: #e8edf3; --soft: #a3adb8; --line: #363f4a; --a: #6cb0ff; --b: #ffa05c; --c: #5fd080 }
 }
 text { font-family: system-ui, "Segoe UI", "DejaVu Sans", sans-serif; font-size: 13px; fill: var(--ink) }
 .h { font-size: 22px; font-weight: 600 } .t { font-size: 15px; font-weight: 600 } .s { fill: var(--soft) }
 .paper { fill: var(--paper) } .frame { fill: none; stroke: var(--soft) } .grid { stroke: var(--line) }
 .ref { stroke: var(--ink); stroke-dasharray: 5 4; fill: none } .ring { fill: none; stroke: var(--line) }
 .a { stroke: var(--a); fill: var(--a) } .b { stroke: var(--b); fill: var(--b) } .c { stroke: var(--c); fill: var(--c) }
 .line { fill: none; stroke-width: 2 } .thin { stroke-width: 1 } .dot { stroke: none } .faint { opacity: 0.4 }
 text.a, text.b, text.c { stroke: none }
"""


def line(x0: float, y0: float, x1: float, y1: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}"/>'


def text(x: float, y: float, words: str, kind: str = "", anchor: str = "start", turn: int = 0) -> str:
    turned = f' transform="rotate({turn} {x:.1f} {y:.1f})"' if turn else ""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{turned}>{escape(words)}</text>'


def dot(x: float, y: float, kind: str, radius: float = 3.5) -> str:
    return f'<circle class="dot {kind}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}"/>'


def path(points: Iterable[tuple[float, float]], kind: str) -> str:
    return f'<polyline class="{kind}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}"/>'


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A frame with scales; `x` and `y` give the place of a value on the page."""

    left: float
    top: float
    across: tuple[float, float]
    up: tuple[float, float]
    log_x: bool = False
    log_y: bool = False

    def x(self, value: float) -> float:
        return self.left + PANEL_W * share(value, self.across, self.log_x)

    def y(self, value: float) -> float:
        return self.top + PANEL_H * (1 - share(value, self.up, self.log_y))

    def curve(self, points: Iterable[tuple[float, float]], kind: str) -> str:
        return path(((self.x(x), self.y(y)) for x, y in points), f"line {kind}")

    def interval(self, x: float, estimate: dict[str, Any], kind: str) -> list[str]:
        """A dot at the value and a bar over the interval."""
        ends = [min(max(estimate[key], self.up[0]), self.up[1]) for key in ("low", "high")]
        bar = line(self.x(x), self.y(ends[0]), self.x(x), self.y(ends[1]), kind)
        return [bar, dot(self.x(x), self.y(estimate["value"]), kind)]

    def level(self, value: float, words: str) -> list[str]:
        y = self.y(value)
        return [line(self.left, y, self.left + PANEL_W, y, "ref"), text(self.left + PANEL_W + 6, y + 4, words, "s")]

    def frame(
        self,
        title: str,
        x_name: str,
        y_name: str,
        x_ticks: dict[float, str] | Sequence[float],
        y_ticks: Sequence[float],
    ) -> list[str]:
        right, bottom = self.left + PANEL_W, self.top + PANEL_H
        out = [text(self.left, self.top - 14, title, "t")]
        named = x_ticks if isinstance(x_ticks, dict) else {at: f"{at:g}" for at in x_ticks}
        for at, words in named.items():
            out += [line(self.x(at), self.top, self.x(at), bottom, "grid")]
            out += [text(self.x(at), bottom + 18, words, "s", "middle")]
        for at in y_ticks:
            out += [line(self.left, self.y(at), right, self.y(at), "grid")]
            out += [text(self.left - 8, self.y(at) + 4, f"{at:g}", "s", "end")]
        out += [f'<rect class="frame" x="{self.left}" y="{self.top}" width="{PANEL_W}" height="{PANEL_H}"/>']
        out += [text(self.left + PANEL_W / 2, bottom + 38, x_name, "", "middle")]
        return [*out, text(self.left - 46, self.top + PANEL_H / 2, y_name, "", "middle", -90)]


def share(value: float, ends: tuple[float, float], log: bool) -> float:
    low, high, at = (math.log(v) for v in (*ends, value)) if log else (*ends, value)
    return (at - low) / (high - low)


def legend(x: float, y: float, entries: dict[str, str]) -> list[str]:
    """Coloured words one under the other, by the class of their colour."""
    return [text(x, y + 18 * i, words, kind) for i, (words, kind) in enumerate(entries.items())]


def arrows(x: float, y: float, W: list[list[float]], kinds: Sequence[str], radius: float) -> list[str]:
    """Feature directions in two hidden dimensions; the ring has length 1."""
    out = [f'<circle class="ring" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}"/>']
    for (along, up), kind in zip(W, kinds, strict=True):
        end = x + radius * along, y - radius * up
        out += [line(x, y, *end, f"line {kind}"), dot(*end, kind, 4)]
    return out


# -- panels ----------------------------------------------------------------------------------------------------------


def sweep(results: dict[str, Any], top: float) -> list[str]:
    found = results["sweep"]
    out = [text(LEFT, top, "Five features in two dimensions, from dense to sparse: the best of many (seed 0)", "t")]
    count = len(found["probabilities"])
    for i, (p, run) in enumerate(zip(found["probabilities"], found["runs"][0], strict=True)):
        x = LEFT + (i + 0.5) * (WIDTH - LEFT - 50) / count
        out += arrows(x, top + 95, run["W"], "aaaaa", 52)
        out += [text(x, top + 182, f"1/(1−S) = {1 / p:.3g}", "", "middle")]
        out += [text(x, top + 200, f"{run['represented']} represented", "s", "middle")]
    return out


def sticky(results: dict[str, Any], top: float) -> list[str]:
    found = results["sticky"]
    words = f"D* sticks at 1 and 1/2 (n = {found['features']}, m = {found['hidden']}, {len(found['runs'])} seeds)"
    panel = Panel(left=LEFT, top=top, across=(1, 10), up=(0, 1.1), log_x=True)
    out = panel.frame(
        words, "1/(1−S), sparser to the right", "D* = m / |W|²", [1, 2, 3, 5, 10], [0, 0.25, 0.5, 0.75, 1]
    )
    out += panel.level(1, "1") + panel.level(0.5, "1/2")
    for run in found["runs"]:
        points = list(zip(found["inverse_density"], run["d_star"], strict=True))
        out += [panel.curve(points, "a thin"), *(dot(panel.x(x), panel.y(y), "a", 2.5) for x, y in points)]
    return out


def dimensionalities(results: dict[str, Any], top: float) -> list[str]:
    found = results["sticky"]
    panel = Panel(left=RIGHT, top=top, across=(1, 10), up=(0, 1.1), log_x=True)
    title = "Dimensionality of every feature in the same toys"
    out = panel.frame(
        title, "1/(1−S), sparser to the right", "D of a feature", [1, 2, 3, 5, 10], [0, 0.25, 0.5, 0.75, 1]
    )
    names = {0.75: "3/4", 2 / 3: "2/3", 0.5: "1/2", 0.4: "2/5", 0.375: ""}
    for fraction, words in names.items():
        out += panel.level(fraction, words)
    out += [text(RIGHT + PANEL_W + 6, panel.y(0.33) + 4, "3/8", "s")]
    for run in found["runs"]:
        for x, all_d in zip(found["inverse_density"], run["dimensions"], strict=True):
            for i, d in enumerate(all_d):  # side by side, so that many at one place show as a bar
                out.append(dot(panel.x(x) - 6 + 12 * i / max(1, len(all_d) - 1), panel.y(d), "a faint", 1.8))
    return out


def small(results: dict[str, Any], top: float) -> list[str]:
    found = results["small"]
    panel = Panel(left=LEFT, top=top, across=(0, len(found)), up=(0.3, 0.85))
    ticks = {i + 0.5: name.replace("square ", "sq. ") for i, name in enumerate(found)}
    out = panel.frame("Small toys: the best of many is the named shape (3 seeds)", "", "D of a feature", ticks, [])
    for i, one in enumerate(found.values()):
        words = f"n = {one['features']}, m = {one['hidden']}", f"1−S = {one['probability']:g}"
        for j, word in enumerate(words):
            out += [text(panel.x(i + 0.5), panel.top + PANEL_H + 36 + 17 * j, word, "s", "middle")]
        y = panel.y(one["fraction"])
        out += [line(panel.x(i + 0.05), y, panel.x(i + 0.95), y, "ref")]
        out += [text(panel.x(i + 0.05), y - 8, f"{one['fraction']:.3g}", "s")]
        for j, run in enumerate(one["runs"]):
            out += [dot(panel.x(i + 0.3 + 0.2 * j), panel.y(d), "a faint") for d in run["dimensions"]]
    return out


def related(results: dict[str, Any], top: float) -> list[str]:
    found = results["related"]
    out = [text(RIGHT, top - 14, "Two pairs of features in two dimensions (seed 0)", "t")]
    for i, (relation, says) in enumerate({"correlated": "orthogonal", "anticorrelated": "opposite"}.items()):
        x = RIGHT + 110 + i * 240
        out += arrows(x, top + 105, found[relation]["runs"][0]["W"], "aabb", 85)
        within = found[relation]["within"]
        out += [text(x, top + 222, f"{relation}: {says}", "", "middle")]
        out += [text(x, top + 242, f"cosine within a pair {within['value']:.2f}", "s", "middle")]
    return [*out, text(RIGHT, top + 272, "one pair blue, the other orange; the ring has length 1", "s")]


def transition(results: dict[str, Any], top: float, curve: Callable[[float, bool], float]) -> list[str]:
    panel = Panel(left=LEFT, top=top, across=(0, 1), up=(0, 1))
    title = "Recovery of sparse features: theory (lines), measured (dots)"
    ticks = [0, 0.2, 0.4, 0.6, 0.8, 1]
    out = panel.frame(title, "M / N, dimensions for each feature", "K / M, active for each dimension", ticks, ticks)
    for signed, kind in ((False, "a"), (True, "b")):
        shares = [i / 100 for i in range(2, 99)]
        out += [panel.curve([(delta, curve(delta, signed)) for delta in shares], f"{kind} thin")]
        for point in results["sensing"]["points"]:
            if point["signed"] == signed:
                m, size = point["dimensions"], {100: 2.5, 200: 3.5, 400: 5}[point["features"]]
                at = panel.x(m / point["features"]), panel.y(point["measured"]["value"] / m)
                out += [dot(*at, f"{kind} faint", size)]
    out += legend(LEFT + 20, top + 24, {"non-negative features": "a", "signed features": "b"})
    return [*out, text(LEFT + 20, top + 62, "larger dots: N = 100, 200, 400", "s")]


def capacity(results: dict[str, Any], top: float) -> list[str]:
    rows = results["sensing"]["capacity"]
    panel = Panel(left=RIGHT, top=top, across=(2, 7), up=(16, 1000), log_y=True)
    title, ticks = f"How many features {rows[0]['dimensions']} dimensions hold", [20, 50, 100, 200, 500, 1000]
    out = panel.frame(title, "active features K", "N recovered half of the time", [3, 4, 5, 6], ticks)
    for row in rows:
        y = panel.y(row["theory"])
        out += [line(panel.x(row["active"]) - 14, y, panel.x(row["active"]) + 14, y, "ref")]
        out += panel.interval(row["active"], row["measured"], "a")
    return [*out, *legend(RIGHT + 290, top + 24, {"measured, 95% interval": "a", "theory for large N: dashes": "s"})]


def dictionary(results: dict[str, Any], top: float) -> list[str]:
    found = results["dictionary"]
    panel = Panel(left=LEFT, top=top, across=(0.5, 6.5), up=(0, 1.05))
    title = f"A dictionary finds the {found['features']} features of a toy (m = {found['hidden']})"
    out = panel.frame(title, f"k of the dictionary (features on: {found['active_on_average']} on average)",
                      "share found (cosine ≥ 0.9)", [1, 2, 3, 4, 5, 6], [0, 0.25, 0.5, 0.75, 1])  # fmt: skip
    for size, kind in ((64, "b"), (128, "a")):
        rows = [row for row in found["rows"] if row["dictionary_features"] == size]
        out += [panel.curve([(row["k"], row["found"]["value"]) for row in rows], f"{kind} thin")]
        for row in rows:
            out += panel.interval(row["k"], row["found"], kind)
        out += [panel.curve([(row["k"], row["random_found"]["value"]) for row in rows], "c thin")]
    entries = {"128 dictionary features": "a", "64 dictionary features": "b", "random directions, either": "c"}
    return [*out, *legend(LEFT + 20, top + PANEL_H - 62, entries)]


def linear(results: dict[str, Any], top: float) -> list[str]:
    found = results["linear"]
    panel = Panel(left=RIGHT, top=top, across=(-1, found["features"]), up=(0, 1.1))
    title = f"A linear model (m = {found['hidden']}) keeps the top {found['hidden']} features"
    out = panel.frame(title, "feature, the most important first", "|W| of a feature", [0, 4, 9, 14, 19], [0, 0.5, 1])
    for j, norms in enumerate(found["norms"]):
        out += [dot(panel.x(i - 0.2 + 0.2 * j), panel.y(norm), "a faint") for i, norm in enumerate(norms)]
    return out


def phases(results: dict[str, Any], top: float) -> list[str]:
    found = results["phases"]
    panel = Panel(left=LEFT, top=top, across=(0.85, 60), up=(0.08, 12.5), log_x=True, log_y=True)
    title = "Two features in one dimension: what the best of many keeps (3 seeds)"
    out = panel.frame(title, "1/(1−S), sparser to the right", "importance of the second / first", [1, 2, 5, 10, 20, 50],
                      [0.1, 0.3, 1, 3, 10])  # fmt: skip
    kinds = {"first": "a", "second": "b", "both": "c"}
    for i, ratio in enumerate(found["importance"]):
        for j, p in enumerate(found["probabilities"]):
            for seed, run in enumerate(found["runs"]):
                x, y = panel.x(1 / p) + 7 * (seed - 1), panel.y(ratio)
                out += [dot(x, y, kinds[run[i][j]], 3)] if run[i][j] in kinds else []
    ratios = [0.08 * (12.5 / 0.08) ** (i / 100) for i in range(101)]
    edge = [(1 / (4 * r / (2 + 5 * r)), ratio) for ratio in ratios for r in (min(ratio, 1 / ratio),)]
    out += [path(((panel.x(x), panel.y(y)) for x, y in edge), "ref")]
    out += [line(panel.x(1), panel.y(1), panel.x(7 / 4), panel.y(1), "ref")]
    names = {"keeps the first": "a", "keeps the second": "b", "both, opposite": "c"}
    return [*out, *legend(RIGHT, top + 24, {**names, "dashes: where theory puts the change": "s"})]


def page(results: dict[str, Any]) -> str:
    """The whole page as text. Everything on it is in the results, but the curve of theory."""
    from glasshouse.organisms.toys import active_held

    def curve(delta: float, signed: bool) -> float:
        return active_held(1000, round(1000 * delta), signed=signed) / (1000 * delta)

    rows = [346, 704, 1080, 1438, 1796]
    body = [text(LEFT, 44, "Toy models of superposition", "h"), *sweep(results, 84)]
    body += [*sticky(results, rows[0]), *dimensionalities(results, rows[0])]
    body += [*small(results, rows[1]), *related(results, rows[1])]
    body += [*transition(results, rows[2], curve), *capacity(results, rows[2])]
    body += [*dictionary(results, rows[3]), *linear(results, rows[3])]
    body += phases(results, rows[4])
    height = rows[4] + PANEL_H + 60
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">'
    paper = f'<rect class="paper" width="{WIDTH}" height="{height}"/>'
    return "\n".join([head, f"<style>{STYLE}</style>", paper, *body, "</svg>"]) + "\n"


if __name__ == "__main__":
    stored = Path(__file__).parent / "results" / "toys.json"
    PAGE.write_text(page(json.loads(stored.read_text())), encoding="utf-8")
