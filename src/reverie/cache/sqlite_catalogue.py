"""What the SQLite index answers about its entries, each question one query on an index of its own."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from reverie.cache.sqlite_schema import BRIEF, DamagedRowError, brief_of
from reverie.cache.sqlite_vectors import vector_type_of
from reverie.half import VectorType
from reverie.protocols import Brief, Order
from reverie.query import Where, json_path, phrases

__all__ = ["SqliteCatalogue", "at_once", "batches"]

_BATCH = 500  # ids a query, below the limit on variables; one query: Python's lock is won once, not for each
_ORDERS: dict[Order, str] = {"used": "used_ns", "time": "time_ns"}


class SqliteCatalogue:
    """The `Catalogue` of one connection; damaged rows raise DamagedRowError.

    Args:
        database: The connection; inside a transaction it answers with what that wrote.
    """

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def count(self) -> int:
        """How many entries there are."""
        return self._meta("entries")

    def total_bytes(self) -> int:
        """How many bytes their images take."""
        return self._meta("bytes")

    def _meta(self, key: str) -> int:
        return int(self._database.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()[0])

    def find(self, cache_ids: Sequence[str]) -> list[Brief]:
        """The briefs of these ids, in the order asked; ids that are gone are passed over."""
        found = {}
        for marks, part in batches(cache_ids):
            rows = at_once(self._database, BRIEF, f"entries AS e WHERE cache_id IN ({marks})", part)
            found.update({row[1]: brief_of(row) for row in rows})
        return [found[cache_id] for cache_id in cache_ids if cache_id in found]

    def briefs(
        self, where: Where | None = None, *, after: int = 0, limit: int | None = None, newest: bool = False
    ) -> list[Brief]:
        """Entries by number, or from the highest down."""
        tables, number, conditions, values = _asked(where)
        order = f"{number} DESC" if newest else number
        query = f"SELECT {BRIEF} FROM {tables} WHERE {number} > ? {conditions} ORDER BY {order} LIMIT ?"
        rows = self._database.execute(query, (after, *values, -1 if limit is None else limit))
        return [brief_of(row) for row in rows]

    def numbers(self, where: Where) -> NDArray[np.int64]:
        """The numbers of the entries that are meant, in order."""
        tables, number, conditions, values = _asked(where)
        query = f"SELECT {number} FROM {tables} WHERE {number} > 0 {conditions} ORDER BY {number}"
        return np.fromiter((row[0] for row in self._database.execute(query, values)), dtype=np.int64)

    def pinned(self) -> list[str]:
        """Ids of the pinned entries, by number."""
        query = "SELECT cache_id FROM entries WHERE pinned = 1 ORDER BY number"
        return [row[0] for row in self._database.execute(query)]

    def ordered(self, by: Order) -> Iterator[Brief]:
        """The entries that are not pinned, lowest first, ties by number."""
        column = _ORDERS[by]
        query = f"entries AS e WHERE pinned = 0 AND ({column}, number) > (?, ?) ORDER BY {column}, number"
        last, count = (-(2**63), 0), 1
        while rows := at_once(self._database, f"{BRIEF}, {column}", f"{query} LIMIT {count}", last):
            for *brief, key in rows:
                yield brief_of(tuple(brief))
                last = (key, brief[0])
            count = min(4 * count, _BATCH)  # one is enough for an add: the first are asked for one by one

    def vector_type(self) -> VectorType:
        """As what the numbers of vectors are kept."""
        return vector_type_of(self._database)


def at_once(
    database: sqlite3.Connection, columns: str, rest: str, values: Sequence[Any] = ()
) -> list[tuple[Any, ...]]:
    """All rows of a query, in its order, in one step.

    Python's lock is given up and won again at every step: row by row, 500 rows took 760 ms instead of 14
    beside a thread that computes.

    Raises:
        DamagedRowError: A row holds what no row of ours does.
    """
    inner = f"SELECT json_array({columns}) AS found FROM {rest}"
    try:
        (rows,) = database.execute(f"SELECT json_group_array(json(found)) FROM ({inner})", values).fetchone()
        return [tuple(row) for row in orjson.loads(rows)]
    except ValueError as exc:
        raise DamagedRowError(f"a row is damaged: {exc}") from exc


def batches(cache_ids: Sequence[str]) -> Iterator[tuple[str, Sequence[str]]]:
    """Question marks for a query, and the ids they stand for; what cannot be an id is left out."""
    cache_ids = [cache_id for cache_id in cache_ids if _is_text(cache_id)]
    for start in range(0, len(cache_ids), _BATCH):
        part = cache_ids[start : start + _BATCH]
        yield ",".join("?" * len(part)), part


def _is_text(cache_id: object) -> bool:
    """Whether SQLite can look for it; half a surrogate pair it cannot."""
    return isinstance(cache_id, str) and cache_id.encode(errors="replace").decode() == cache_id


def _asked(where: Where | None) -> tuple[str, str, str, list[Any]]:
    """Tables to look in, the column of the number, further conditions, and their values."""
    if where is None:
        return "entries AS e", "e.number", "", []
    tables, number = "entries AS e", "e.number"
    conditions: list[str] = []
    values: list[Any] = []
    if where.words:
        # From the words to the entries, in the order of the words' own list: the newest few cost no more
        # where half of all prompts have the word.
        tables, number = "prompts AS w CROSS JOIN entries AS e ON e.number = w.rowid", "w.rowid"
        conditions.append("prompts MATCH ?")
        values.append(_match(where.words))
    for path, value in where.params.items():
        conditions.append(*_param_is(path, value, values))
    for condition, limit in (("e.time_ns >= ?", where.since), ("e.time_ns < ?", where.until)):
        if limit is not None:
            conditions.append(condition)
            values.append(limit)
    if where.pinned is not None:
        conditions.append(f"e.pinned = {int(where.pinned)}")
    if where.encoder is not None:
        conditions.append("EXISTS (SELECT 1 FROM vectors AS v WHERE v.number = e.number AND v.encoder = ?)")
        values.append(where.encoder)
    return tables, number, "".join(f" AND {each}" for each in conditions), values


def _match(words: str) -> str:
    """The words as FTS5 asks for them."""
    return " AND ".join(
        '"{}"{}'.format(" ".join(side_by_side), "*" if begins else "")
        for side_by_side, begins in phrases(words)
    )


def _param_is(path: str, value: Any, values: list[Any]) -> list[str]:
    """A condition on a parameter; what it takes is added to ``values``."""
    place = "$" + "".join(f"[{step}]" if isinstance(step, int) else f'."{step}"' for step in json_path(path))
    kind = "json_type(e.params, ?)"
    if isinstance(value, bool):
        values.extend([place, str(value).lower()])
        return [f"{kind} = ?"]
    if value is None:
        values.append(place)
        return [f"coalesce({kind}, 'null') = 'null'"]
    kinds = "('text')" if isinstance(value, str) else "('integer', 'real')"
    values.extend([place, place, value])
    return [f"({kind} IN {kinds} AND json_extract(e.params, ?) = ?)"]
