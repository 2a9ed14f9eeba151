"""Tables that the standard library holds or computes, written out as text: scripts, encodings, calendars, numbers."""

from __future__ import annotations

import calendar
import codecs
import datetime
import encodings.aliases
import errno
import html.entities
import http
import importlib
import locale
import math
import mimetypes
import os
import pkgutil
import signal
import unicodedata
from collections.abc import Iterator

Named = Iterator[tuple[str, str]]

LAST_CHARACTER = 0x1FB00  # the planes of ideographs come after
UNNAMED = (
    "CJK UNIFIED",
    "CJK COMPAT",
    "HANGUL SYLL",
    "TANGUT",
    "KHITAN",
    "NUSHU",
    "EGYPTIAN",
    "ANATOLIAN",
    "CUNEIFORM",
)
RUN = 128
ROMAN = (
    *((1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC"), (50, "L"), (40, "XL")),
    *((10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I")),
)


def read_tables() -> Named:
    """(name, text) of every table."""
    for table in (_characters, _encodings, _entities, _calendars, _dates, _numbers, _functions, _system):
        yield from table()


def _characters() -> Named:
    """Unicode's characters with code, category and name, 128 a table; scripts whose names are only numbers left out."""
    for first in range(0, LAST_CHARACTER, RUN):
        lines = [_character(point) for point in range(first, first + RUN)]
        lines = [line for line in lines if line]
        if len(lines) >= 8:
            yield f"unicode/{first:04x}", "\n".join(lines) + "\n"


def _character(point: int) -> str:
    name = unicodedata.name(chr(point), "")
    if not name or name.startswith(UNNAMED):
        return ""
    return f"U+{point:04X} {chr(point)} {unicodedata.category(chr(point))} {name}"


def _encodings() -> Named:
    """The upper half of every one-byte encoding, byte by byte."""
    for module in sorted(found.name for found in pkgutil.iter_modules(importlib.import_module("encodings").__path__)):
        if module in ("mbcs", "oem", "cp65001", "aliases", "undefined"):
            continue
        table = getattr(importlib.import_module(f"encodings.{module}"), "decoding_table", "")
        lines = [
            f"{module} 0x{byte:02X} {character} {unicodedata.name(character, '')}"
            for byte, character in enumerate(table)
            if byte >= 0x80 and character != "\ufffe"
        ]
        if lines:
            yield f"encoding/{module}", "\n".join(lines) + "\n"
    names: dict[str, list[str]] = {}
    for alias, target in sorted(encodings.aliases.aliases.items()):
        names.setdefault(target, []).append(alias)
    lines = [f"{target} is also called {', '.join(others)}" for target, others in sorted(names.items())]
    yield "encoding/aliases", "\n".join(lines) + "\n"
    yield (
        "encoding/marks",
        "\n".join(f"{n} {getattr(codecs, n)!r}" for n in sorted(dir(codecs)) if n[:3] == "BOM") + "\n",
    )


def _entities() -> Named:
    """HTML's named characters, by first letter."""
    groups: dict[str, list[str]] = {}
    for entity, text in sorted(html.entities.html5.items()):
        if entity.endswith(";"):
            said = ", ".join(unicodedata.name(c, "?").lower() for c in text)
            groups.setdefault(entity[0].lower(), []).append(f"&{entity} {text} {said}")
    for letter, lines in sorted(groups.items()):
        yield f"entity/{letter}", "\n".join(lines) + "\n"


def _calendars() -> Named:
    for year in range(1900, 2051, 5):
        yield f"calendar/{year}", calendar.TextCalendar().formatyear(year)


def _dates() -> Named:
    """Every day of some years, in several spellings."""
    for year in range(1969, 2031, 10):
        day, lines = datetime.date(year, 1, 1), []
        while day.year == year:
            week = day.isocalendar()
            lines.append(
                f"{day.isoformat()} {day:%A, %d %B %Y} day {day:%j} week {week.year}-W{week.week:02d}-{week.weekday}"
            )
            day += datetime.timedelta(days=1)
        yield f"dates/{year}", "\n".join(lines) + "\n"


def _numbers() -> Named:
    """Sums, products, powers, primes, and one number in several bases."""
    for a in range(2, 26):
        yield f"times/{a}", "\n".join(f"{a} x {b} = {a * b}" for b in range(1, 41)) + "\n"
        yield f"plus/{a}", "\n".join(f"{7 * a} + {b} = {7 * a + b}" for b in range(1, 41)) + "\n"
        yield f"powers/{a}", "\n".join(f"{a}**{b} = {a**b}" for b in range(1, 21)) + "\n"
    for first in range(0, 2048, 128):
        bases = [f"{n} = 0x{n:x} = 0o{n:o} = 0b{n:b}" for n in range(first, first + 128)]
        yield f"bases/{first}", "\n".join(bases) + "\n"
        roman = [f"{n} is {_roman(n)}" for n in range(first + 1, first + 129)]
        yield f"roman/{first}", "\n".join(roman) + "\n"
    primes = [n for n in range(2, 6000) if all(n % d for d in range(2, math.isqrt(n) + 1))]
    yield "primes", "\n".join(", ".join(map(str, primes[i : i + 10])) for i in range(0, len(primes), 10)) + "\n"


def _roman(number: int) -> str:
    text = ""
    for value, mark in ROMAN:
        text += mark * (number // value)
        number %= value
    return text


def _functions() -> Named:
    """Values of functions, one a line, as a printed table gives them (six digits: the last ones differ by machine)."""
    for name in ("sin", "cos", "tan", "exp", "log1p", "sqrt", "atan", "erf"):
        function = getattr(math, name)
        lines = [f"{name}({i / 50:.2f}) = {function(i / 50):.6f}" for i in range(301)]
        yield f"function/{name}", "\n".join(lines) + "\n"


def _system() -> Named:
    """Names and numbers of errors, signals, answers of web servers, types of files, and places."""
    yield "http", "\n".join(f"{s.value} {s.phrase}: {s.description or s.name}" for s in http.HTTPStatus) + "\n"
    yield "errno", "\n".join(f"{c} {n}: {os.strerror(c)}" for c, n in sorted(errno.errorcode.items())) + "\n"
    yield "signal", "\n".join(f"{s.value} {s.name}: {signal.strsignal(s)}" for s in signal.Signals) + "\n"
    types = mimetypes.MimeTypes(filenames=()).types_map[True]
    yield "mimetypes", "\n".join(f"{suffix} {kind}" for suffix, kind in sorted(types.items())) + "\n"
    places = sorted(locale.locale_alias.items())
    for first in range(0, len(places), 100):
        yield f"locale/{first}", "\n".join(f"{a} = {b}" for a, b in places[first : first + 100]) + "\n"
