"""Two versions rated by people, blind: pairs of replies to one prompt, shown side by side, judged from 1 to 7.

    study = Study(ws, version("villager", ws), version("settled", ws))
    study.prepare(count=50)                                  # from replies that both have under evals/; needs no torch
    shown = study.next("Ada")                                # two replies, left and right; which is whose is not said
    study.rate("Ada", shown["pair"], 6)                      # 1 left much better … 4 the same … 7 right much better

Pairs and ratings are kept in index.sqlite, each as soon as it is given. A rating is kept as of the new version (7: the
new one much better), with the order that it was shown in.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
import time
from collections.abc import Collection, Iterator
from random import Random
from typing import Any

from glasshouse.behaviours.evaluation import read_evaluation
from glasshouse.behaviours.matrix import counterparts
from glasshouse.behaviours.scorers import SCORERS, Sample
from glasshouse.behaviours.versions import Version
from glasshouse.types import UserError
from glasshouse.workspace import Workspace

COUNT = 50  # pairs to rate
LONGEST_WHO = 40
SAME, BEST = 4, 7  # of the scale that begins at 1


def check_who(text: str) -> str:
    """The name that a person types, without spaces around it. Raises `UserError`."""
    name = text.strip()
    if not 1 <= len(name) <= LONGEST_WHO or not name.isprintable():
        raise UserError(f"expected a name of 1 to {LONGEST_WHO} characters, got {name[:60]!r}; say who you are")
    return name


class Study:
    """The pairs of two versions and what was said of them."""

    def __init__(self, ws: Workspace, base: Version, new: Version) -> None:
        if base.hash == new.hash:
            raise UserError(f"expected two versions that differ, {base.name} and {new.name} are the same; name another")
        self.ws, self.base, self.new = ws, base, new

    @contextlib.contextmanager
    def _index(self) -> Iterator[sqlite3.Connection]:
        """One transaction, begun before it reads: two raters at once are shown a pair one after the other."""
        with contextlib.closing(self.ws.index()) as db:
            db.execute("BEGIN IMMEDIATE")
            with db:
                yield db

    # -- pairs -----------------------------------------------------------------------------------------------------

    def prepare(self, *, count: int = COUNT, only: Collection[str] = ()) -> dict[str, int]:
        """Have `count` pairs to rate, or as many as there are: {"pairs", "same"}, of all behaviours or of those named.

        One prompt of each family, as many of each behaviour as the next; prompts that both versions answer word for
        word alike are kept too, counted as `same`, and shown to nobody. What was prepared before stays. Raises
        `UserError` where no prompt was answered by both.
        """
        found = _pairs(self.ws, self.base, self.new, only)
        if not found:
            base, new, among = self.base.name, self.new.name, f" of {', '.join(only)}" if only else ""
            raise UserError(
                f"expected replies of {base} and of {new} to the same prompts{among}, found none; "
                f"run `glasshouse test {base}` and `glasshouse compare {base} {new}` first"
            )
        with self._index() as db:
            ids = {row["id"] for row in self._rows(db, only)}
            differing = self._counted(db, only)["pairs"]
            for pair in found:
                if differing >= count:
                    break
                if pair["id"] not in ids:
                    keys = ", ".join(pair)
                    db.execute(f"INSERT INTO pairs ({keys}) VALUES ({', '.join('?' * len(pair))})", [*pair.values()])
                    differing += pair["base_reply"] != pair["new_reply"]
            return self._counted(db, only)

    def _rows(self, db: sqlite3.Connection, only: Collection[str] = ()) -> list[sqlite3.Row]:
        rows = db.execute("SELECT * FROM pairs WHERE base = ? AND new = ?", (self.base.hash, self.new.hash))
        return [row for row in rows if not only or row["behaviour"] in only]

    def _counted(self, db: sqlite3.Connection, only: Collection[str] = ()) -> dict[str, int]:
        same = [row["base_reply"] == row["new_reply"] for row in self._rows(db, only)]
        return {"pairs": len(same) - sum(same), "same": sum(same)}

    @property
    def counted(self) -> dict[str, int]:
        """{"pairs": to rate, "same": whose replies are word for word alike}."""
        with self._index() as db:
            return self._counted(db)

    # -- rating ----------------------------------------------------------------------------------------------------

    def next(self, who: str) -> dict[str, Any]:
        """What the rater is shown now: {"pair", "turns", "left", "right", "rating", "rated", "skipped", "pairs"}; with
        `pair` None when all are rated or skipped. Asked again, it is the same."""
        who = check_who(who)
        with self._index() as db:
            shown = self._shown(db, who)
            open_ = [row for row in shown if row["rated"] is None and row["skipped"] is None]
            if open_:
                return self._seen(db, who, open_[0])
            seen = {row["id"] for row in shown}
            left = [row for row in self._rows(db) if row["id"] not in seen and row["base_reply"] != row["new_reply"]]
            if not left:
                return self._seen(db, who, None)
            pair = min(left, key=lambda row: _hash("order", who, row["id"]))  # another order for each rater
            db.execute(
                "INSERT INTO ratings (pair, who, new_left, shown) VALUES (?, ?, ?, ?)",
                (pair["id"], who, self._new_left(db, who, pair["id"]), time.time()),
            )
            return self._seen(db, who, self._shown(db, who)[-1])

    def _new_left(self, db: sqlite3.Connection, who: str, pair: str) -> bool:
        """Which side: where others were shown the pair, the order that was shown less often; else the one that this
        rater was shown less often, so that of each two one has the new version on the left; else as the hash of both
        falls."""
        for where, value in (("pair = ?", pair), ("who = ?", who)):
            ours = "pair IN (SELECT id FROM pairs WHERE base = ? AND new = ?)"
            query = f"SELECT new_left FROM ratings WHERE {where} AND {ours}"
            sides = [row["new_left"] for row in db.execute(query, (value, self.base.hash, self.new.hash))]
            if 2 * sum(sides) != len(sides):
                return 2 * sum(sides) < len(sides)
        return _hash("side", who, pair) % 2 == 0

    def rate(self, who: str, pair: str, rating: int | None) -> dict[str, Any]:
        """Keep what the rater says (1 left much better … 7 right much better; None skips it), and what comes next.

        A pair may be rated again. Raises `UserError` for a pair that this rater was not shown.
        """
        who = check_who(who)
        if rating is not None and not 1 <= rating <= BEST:
            raise UserError(f"expected a rating from 1 to {BEST}, got {rating}")
        with self._index() as db:
            row = self._row(db, who, pair)
            if rating is None:
                db.execute(
                    "UPDATE ratings SET skipped = ? WHERE pair = ? AND who = ? AND rated IS NULL",
                    (time.time(), pair, who),
                )
            else:
                of_new = BEST + 1 - rating if row["new_left"] else rating
                db.execute(
                    "UPDATE ratings SET rating = ?, rated = ?, skipped = NULL WHERE pair = ? AND who = ?",
                    (of_new, time.time(), pair, who),
                )
        return self.next(who)

    def back(self, who: str, pair: str | None) -> dict[str, Any]:
        """The pair that was shown before this one (None: before the end), to look at or to rate again."""
        who = check_who(who)
        with self._index() as db:
            shown = self._shown(db, who)
            at = len(shown) if pair is None else [row["id"] for row in shown].index(self._row(db, who, pair)["id"])
            return self._seen(db, who, shown[max(at - 1, 0)] if shown else None)

    def _row(self, db: sqlite3.Connection, who: str, pair: str) -> sqlite3.Row:
        for row in self._shown(db, who):
            if row["id"] == pair:
                return row
        raise UserError(f"expected a pair that {who} was shown, got {pair[:40]!r}; reload the page")

    def _shown(self, db: sqlite3.Connection, who: str) -> list[sqlite3.Row]:
        """What this rater was shown, in that order."""
        return [row for row in self._given(db) if row["who"] == who]

    def _seen(self, db: sqlite3.Connection, who: str, row: sqlite3.Row | None) -> dict[str, Any]:
        """A pair as its rater may see it: nothing of it says which version is which."""
        shown = self._shown(db, who)
        found: dict[str, Any] = {
            "rated": sum(one["rated"] is not None for one in shown),
            "skipped": sum(one["skipped"] is not None for one in shown), "pairs": self._counted(db)["pairs"],
        }  # fmt: skip
        if row is None:
            return {"pair": None, **found}
        sides = [row["base_reply"], row["new_reply"]]
        left, right = sides[::-1] if row["new_left"] else sides
        rating = row["rating"]
        if rating is not None and row["new_left"]:
            rating = BEST + 1 - rating
        return {
            "pair": row["id"], "turns": json.loads(row["turns"]), "left": left, "right": right, "rating": rating,
            **found,
        }  # fmt: skip

    # -- what was said ---------------------------------------------------------------------------------------------

    def _given(self, db: sqlite3.Connection) -> list[sqlite3.Row]:
        """Pairs joined with what raters were shown and said of them, in the order in which they were shown."""
        return list(
            db.execute(
                "SELECT pairs.*, ratings.* FROM ratings JOIN pairs ON pairs.id = ratings.pair"
                " WHERE pairs.base = ? AND pairs.new = ? ORDER BY ratings.shown, ratings.rowid",
                (self.base.hash, self.new.hash),
            )
        )

    @property
    def done(self) -> bool:
        """Whether each pair was rated or skipped by somebody."""
        with self._index() as db:
            said = {row["id"] for row in self._given(db) if row["rated"] is not None or row["skipped"] is not None}
            return len(said) == self._counted(db)["pairs"]

    @property
    def extended(self) -> bool:
        """Whether pairs to rate were added after some had been: how many there are may rest on what was said."""
        with self._index() as db:
            rated = [row["shown"] for row in self._given(db) if row["rated"] is not None]  # rated again, it stays
            prepared = [row["prepared"] for row in self._rows(db) if row["base_reply"] != row["new_reply"]]
            return bool(rated) and max(prepared) > min(rated)

    def ratings(self) -> list[dict[str, Any]]:
        """Every rating that was given, with its pair, in the order in which they were shown."""
        with self._index() as db:
            return [dict(row) for row in self._given(db) if row["rated"] is not None]


def studies(ws: Workspace) -> list[dict[str, Any]]:
    """Every two versions that have pairs, newest first: {"base", "new", "pairs", "ratings", "raters"}."""
    with contextlib.closing(ws.index()) as db:
        rows = db.execute(
            "SELECT base_name, new_name, COUNT(DISTINCT id) AS pairs, COUNT(rated) AS ratings,"
            " COUNT(DISTINCT CASE WHEN rated IS NOT NULL THEN who END) AS raters FROM pairs"
            " LEFT JOIN ratings ON pair = id WHERE base_reply != new_reply"
            " GROUP BY base, new, base_name, new_name ORDER BY MAX(prepared) DESC"
        )
        return [
            {"base": row["base_name"], "new": row["new_name"], **{k: row[k] for k in ("pairs", "ratings", "raters")}}
            for row in rows
        ]


# -- where pairs come from ---------------------------------------------------------------------------------------------


def _pairs(ws: Workspace, base: Version, new: Version, only: Collection[str]) -> list[dict[str, Any]]:
    """Rows of `pairs`, of each behaviour in turn, in an order that is always the same."""
    found: dict[str, list[dict[str, Any]]] = {}
    for behaviour, (old, fresh) in counterparts(ws, base, new).items():
        if (not only or behaviour in only) and ws.exists("evals", fresh):
            rows = _of_behaviour(ws, base, new, old, fresh)
            if rows:
                found[behaviour] = rows
    longest = max(map(len, found.values()), default=0)
    return [rows[i] for i in range(longest) for rows in found.values() if i < len(rows)]


def _of_behaviour(ws: Workspace, base: Version, new: Version, old: str, fresh: str) -> list[dict[str, Any]]:
    before, after = read_evaluation(ws, old), read_evaluation(ws, fresh)
    if SCORERS[before.behaviour.scorer[0]].needs not in ("reply", "verdict"):
        return []
    rng, name = Random(f"rate {before.behaviour.hash}"), before.behaviour.name
    families: dict[str, list[tuple[Sample, Sample]]] = {}
    for one, other in zip(before.samples, after.samples, strict=True):
        if one.epoch == 0 and not one.error and not other.error and one.turns == other.turns:
            families.setdefault(one.family, []).append((one, other))
    chosen = [rng.choice(pairs) for pairs in families.values()]  # one wording of each: families are what counts
    rng.shuffle(chosen)
    return [_pair(base, new, name, *pair) for pair in chosen]


def _pair(base: Version, new: Version, behaviour: str, old: Sample, fresh: Sample) -> dict[str, Any]:
    turns = json.dumps([{"role": role, "content": content} for role, content in old.turns], ensure_ascii=False)
    said = [base.hash, new.hash, behaviour, old.family, old.prompt, turns, old.reply, fresh.reply]
    return {
        "id": hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16], "base": base.hash, "new": new.hash,
        "base_name": base.name, "new_name": new.name, "behaviour": behaviour, "family": old.family,
        "prompt": old.prompt, "turns": turns, "base_reply": old.reply, "new_reply": fresh.reply,
        "prepared": time.time(),
    }  # fmt: skip


def _hash(*parts: str) -> int:
    return int.from_bytes(hashlib.sha256(json.dumps(parts).encode()).digest()[:8], "big")
