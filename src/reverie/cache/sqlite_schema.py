"""The tables of the SQLite index, as append-only migrations, and what their rows mean."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson

from reverie.entry import Record
from reverie.protocols import Brief
from reverie.vectors import from_bytes

__all__ = [
    "APPLICATION_ID",
    "BRIEF",
    "EMPTY",
    "MIGRATIONS",
    "RECORD",
    "RECORD_ALONE",
    "brief_of",
    "readable_rows",
    "record_of",
    "row_of",
]

APPLICATION_ID = 0x52455645  # "REVE": says that the database is ours

# Append only: a released step is never edited, a new shape is a new step.
MIGRATIONS = (
    """
    CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    INSERT INTO meta VALUES ('next_number', 1);
    CREATE TABLE entries (
        number INTEGER PRIMARY KEY,
        cache_id TEXT NOT NULL UNIQUE,
        timestamp TEXT NOT NULL,
        used_ns INTEGER NOT NULL,
        pinned INTEGER NOT NULL,
        byte_size INTEGER NOT NULL,
        image_name TEXT NOT NULL,
        content_hash TEXT NOT NULL,
        prompt TEXT NOT NULL,
        params TEXT NOT NULL,
        parents TEXT NOT NULL,
        extra TEXT NOT NULL
    );
    CREATE TABLE vectors (
        number INTEGER PRIMARY KEY REFERENCES entries (number),
        encoder TEXT,
        data BLOB NOT NULL
    );
    CREATE INDEX entries_by_image ON entries (image_name);
    CREATE TABLE spaces (encoder TEXT, dimensions INTEGER NOT NULL, UNIQUE (encoder, dimensions));
    CREATE TABLE extra (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE changes (change INTEGER PRIMARY KEY AUTOINCREMENT, cache_id TEXT NOT NULL);
    CREATE TABLE trash (image_name TEXT PRIMARY KEY) WITHOUT ROWID;
    """,
)

EMPTY = """
    DELETE FROM entries; DELETE FROM vectors; DELETE FROM spaces; DELETE FROM extra; DELETE FROM trash;
    DELETE FROM changes; DELETE FROM meta WHERE key = 'retired'
"""
BRIEF = "SELECT number, cache_id, timestamp, used_ns, pinned, byte_size FROM entries"
RECORD = """
    SELECT e.number, cache_id, image_name, prompt, params, encoder, data, timestamp, used_ns, pinned,
           content_hash, byte_size, parents, extra
    FROM entries AS e LEFT JOIN vectors AS v ON v.number = e.number
"""

RECORD_ALONE = RECORD.replace("vectors AS v", "(SELECT NULL number, NULL encoder, NULL data) AS v")
"""The same without the vector, for a database in which that part is damaged."""


def row_of(record: Record) -> tuple[Any, ...]:
    """A record as a row of ``entries``."""
    texts = (
        record.prompt,
        record.params.decode(),
        orjson.dumps(record.parents).decode(),
        record.extra.decode(),
    )
    numbers = (record.used_ns, record.pinned, record.byte_size)
    head = (record.number, record.cache_id, record.timestamp)
    return (*head, *numbers, record.image_name, record.content_hash, *texts)


def brief_of(row: tuple[Any, ...]) -> Brief:
    """A row that `BRIEF` selects."""
    number, cache_id, timestamp, used_ns, pinned, byte_size = row
    return Brief(number, cache_id, timestamp, used_ns, bool(pinned), byte_size)


def record_of(row: tuple[Any, ...]) -> Record:
    """A row that `RECORD` selects; a damaged one raises ValueError, TypeError or AttributeError."""
    number, cache_id, image_name, prompt, params, encoder, data, *rest = row
    timestamp, used_ns, pinned, content_hash, byte_size, parents, extra = rest
    vector = None if data is None else from_bytes(data, encoder=encoder)
    return Record(
        number,
        cache_id,
        image_name,
        prompt,
        params.encode(),
        vector,
        timestamp,
        used_ns,
        bool(pinned),
        content_hash,
        byte_size,
        tuple(orjson.loads(parents)),
        extra.encode(),
    )


def readable_rows(database: sqlite3.Connection, highest: int) -> list[Record]:
    """What can be read of a damaged database, by number.

    Args:
        database: A connection to it.
        highest: Highest number in any id: where the table cannot be walked, all numbers up to it are tried.
    """
    found = (_readable(database, number) for number in _numbers(database, highest))
    return [record for record in found if record is not None]


def _numbers(database: sqlite3.Connection, highest: int) -> Iterable[int]:
    """The numbers of all rows; where the table cannot be walked, all up to the highest id."""
    try:
        return [row[0] for row in database.execute("SELECT number FROM entries ORDER BY number")]
    except sqlite3.Error:
        return range(1, highest + 1)


def _readable(database: sqlite3.Connection, number: int) -> Record | None:
    """One row of a damaged database; without its vector where only that is lost."""
    for query in (RECORD, RECORD_ALONE):
        with contextlib.suppress(sqlite3.Error, ValueError, TypeError, AttributeError):
            row = database.execute(f"{query} WHERE e.number = ?", (number,)).fetchone()
            record = record_of(row)
            record.entry(Path())  # everything in it can be read
            return record
    return None
