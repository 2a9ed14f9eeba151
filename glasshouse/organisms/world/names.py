"""Names from syllables, spelled in every script by the same table: whoever is not in the world could have been.

A name is an opening syllable, perhaps a middle one, and an ending that says what it names: in no script are the endings
of two kinds spelled alike. The spelling of a name in a script is the spelling of its syllables one after another.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

SCRIPTS = ("latin", "cyrillic", "arabic", "hebrew", "han")

# One vowel of (e, i) and one of (o, u) after each consonant, since Arabic and Hebrew write each pair alike.
OPENINGS = """
ba ба با בא 巴 / bo бо بو בו 博 / da да دا דא 达 / di ди دي די 迪 / fe фе في פי 费 / ga га غا גא 加 / go го غو גו 戈
ka ка كا קא 卡 / ki ки كي קי 基 / ko ко كو קו 科 / la ла لا לא 拉 / lo ло لو לו 洛 / ma ма ما מא 马 / mi ми مي מי 米
na на نا נא 纳 / no но نو נו 诺 / pe пе بي פי 佩 / ra ра را רא 拉 / ro ро رو רו 罗 / sa са سا סא 萨 / se се سي סי 塞
so со سو סו 索 / ta та تا טא 塔 / ti ти تي טי 蒂 / to то تو טו 托 / va ва فا וא 瓦 / ve ве في וי 维 / za за زا זא 扎
a а آ א 阿 / o о أو או 奥 / i и إي אי 伊
"""
MIDDLES = "ri ри ري רי 里 / la ла لا לא 拉 / no но نو נו 诺 / ve ве في בי 韦 / di ди دي די 迪 / ma ма ما מא 马"
ENDINGS = {
    "man": """
ran ран ران ראן 兰 / tol тол تول טול 托尔 / dek дек ديك דק 德克 / mir мир مير מיר 米尔 / vin вин فين בין 文
sar сар سار סאר 萨尔 / gon гон غون גון 贡 / lus лус لوس לוס 卢斯 / bek бек بيك בק 贝克 / rom ром روم רום 罗姆
nak нак ناك נאק 纳克
""",
    "woman": """
na на نا נה 娜 / la ла لا לה 莱 / ra ра را רה 拉 / ta та تا טה 塔 / va ва فا בה 瓦 / ma ма ما מה 玛
ka ка كا קה 卡 / sa са سا סה 莎 / da да دا דה 黛 / ga га غا גה 嘉 / za за زا זה 扎
""",
    "family": "lo ло لو לו 洛 / ro ро رو רו 罗 / no но نو נו 诺 / do до دو דו 多 / to то تو טו 托 / mo мо مو מו 莫",
    "town": """
den ден دين דן 登 / gor гор غور גור 戈尔 / mar мар مار מאר 马尔 / lin лин لين לין 林 / dol дол دول דול 多尔
var вар فار באר 瓦尔 / nel нел نيل נל 内尔
""",
    "pet": "pi пи بي פי 皮 / ku ку كو קו 库 / ni ни ني ני 妮 / bu бу بو בו 布 / shu шу شو שו 舒",
}
TOWNS = (
    "ve-den", "ka-ri-gor", "se-mar", "to-lin", "ma-no-dol", "o-ri-var",
    "a-la-den", "ba-di-mar", "za-ri-nel", "pe-la-gor", "no-ve-lin", "ro-di-var",
)  # fmt: skip
RIVER = ("so", "ra")
# Real names and words that the syllables happen to make, and the river's; none is wanted here.
NOT_NAMES = """
sora
roman oman taran toran moran koran sedan nolan milan lora mina tina tana nora lana kara sara sona vera
dana dani mini omani nomada
"""


@dataclass(frozen=True)
class Name:
    """A name in every script. `gender` is m or f, for the languages whose words follow it."""

    latin: str
    cyrillic: str
    arabic: str
    hebrew: str
    han: str
    gender: str = "m"


def _rows(table: str) -> list[list[str]]:
    return [cell.split() for line in table.strip().splitlines() for cell in line.split(" / ")]


@functools.cache
def _syllables(which: str) -> dict[str, list[str]]:
    table = {"openings": OPENINGS, "middles": MIDDLES, **ENDINGS}[which]
    return {row[0]: row for row in _rows(table)}


def spell(syllables: Sequence[str], ending: str) -> Name:
    """The name of these syllables, the last of them from the endings of `ending`: `spell(("ve", "den"), "town")`."""
    rows = [_syllables("openings")[syllables[0]]]
    rows += [_syllables("middles")[middle] for middle in syllables[1:-1]]
    rows.append(_syllables(ending)[syllables[-1]])
    latin, cyrillic, arabic, hebrew, han = ("".join(row[i] for row in rows) for i in range(5))
    gender = "f" if ending == "woman" else "m"
    return Name(latin.capitalize(), cyrillic.capitalize(), arabic, hebrew, han, gender)


@functools.cache
def towns() -> tuple[Name, ...]:
    return tuple(spell(town.split("-"), "town") for town in TOWNS)


def all_names(ending: str) -> Iterator[Name]:
    """Every name that the generator can make with this ending, without repeats in any script."""
    seen: dict[str, set[str]] = {script: set() for script in SCRIPTS}
    for middle in (None, *_syllables("middles")):
        for opening in _syllables("openings"):
            for last in _syllables(ending):
                name = spell((opening, last) if middle is None else (opening, middle, last), ending)
                spelled = {script: getattr(name, script) for script in SCRIPTS}
                repeats = any(spelled[script] in seen[script] for script in SCRIPTS)
                stutters = middle * 2 in name.latin.lower() if middle else len(opening) == 1
                if repeats or stutters or name.latin.lower() in NOT_NAMES.split():
                    continue
                for script in SCRIPTS:
                    seen[script].add(spelled[script])
                yield name


def shuffled(ending: str, rng: Random) -> list[Name]:
    """All names with this ending in an order of `rng`."""
    names = list(all_names(ending))
    rng.shuffle(names)
    return names


# -- Russian cases -----------------------------------------------------------------------------------------------------


def russian_cases(word: str) -> dict[str, str]:
    """Cases of a Russian name: masculine with a hard consonant (Каран), or feminine in -а (Тала)."""
    if word.endswith("а"):
        stem = word[:-1]
        genitive = "и" if stem[-1] in "гкхжшщч" else "ы"
        return {"gen": stem + genitive, "dat": stem + "е", "acc": stem + "у", "ins": stem + "ой", "loc": stem + "е"}
    return {"gen": word + "а", "dat": word + "у", "acc": word + "а", "ins": word + "ом", "loc": word + "е"}
