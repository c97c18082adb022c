"""The tables of the SQLite index, as append-only migrations, and what their rows mean."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from reverie.entry import Record, timestamp_ns
from reverie.protocols import Brief
from reverie.vectors import from_bytes

__all__ = [
    "APPLICATION_ID",
    "BRIEF",
    "EMPTY",
    "MIGRATIONS",
    "RECORD",
    "RECORD_ALONE",
    "DamagedRowError",
    "brief_of",
    "define_functions",
    "image_size",
    "readable_rows",
    "record_of",
    "row_of",
]

APPLICATION_ID = 0x52455645  # "REVE": says that the database is ours

# Append only: a released step is never edited, a new shape is a new step.
MIGRATIONS = (
    (
        "CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
        "INSERT INTO meta VALUES ('next_number', 1)",
        """CREATE TABLE entries (
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
        )""",
        """CREATE TABLE vectors (
            number INTEGER PRIMARY KEY REFERENCES entries (number),
            encoder TEXT,
            data BLOB NOT NULL
        )""",
        "CREATE INDEX entries_by_image ON entries (image_name)",
        "CREATE TABLE spaces (encoder TEXT, dimensions INTEGER NOT NULL, UNIQUE (encoder, dimensions))",
        "CREATE TABLE extra (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
        "CREATE TABLE changes (change INTEGER PRIMARY KEY AUTOINCREMENT, cache_id TEXT NOT NULL)",
        "CREATE TABLE trash (image_name TEXT PRIMARY KEY) WITHOUT ROWID",
    ),
    # Nothing is read whole any more: orders of eviction, totals and the words of the prompts are kept.
    # `time_ns` and `size_of` are functions of ours: a timestamp in nanoseconds, the size of an image file.
    (
        "ALTER TABLE entries ADD COLUMN time_ns INTEGER NOT NULL DEFAULT 0",
        "UPDATE entries SET time_ns = time_ns(timestamp)",
        "UPDATE entries SET byte_size = size_of(image_name) WHERE byte_size = 0",
        "CREATE INDEX entries_by_use ON entries (used_ns, number) WHERE pinned = 0",
        "CREATE INDEX entries_by_time ON entries (time_ns, number) WHERE pinned = 0",
        "CREATE INDEX entries_pinned ON entries (number) WHERE pinned = 1",
        "CREATE INDEX vectors_by_encoder ON vectors (encoder, number)",
        "INSERT INTO meta VALUES ('identity', random())",
        "INSERT INTO meta SELECT 'entries', count(*) FROM entries",
        "INSERT INTO meta SELECT 'bytes', coalesce(sum(byte_size), 0) FROM entries",
        """CREATE VIRTUAL TABLE prompts USING fts5 (
            prompt, content = 'entries', content_rowid = 'number', tokenize = 'unicode61 remove_diacritics 2'
        )""",
        "INSERT INTO prompts (prompts) VALUES ('rebuild')",
        """CREATE TRIGGER entry_added AFTER INSERT ON entries BEGIN
            UPDATE meta SET value = value + 1 WHERE key = 'entries';
            UPDATE meta SET value = value + NEW.byte_size WHERE key = 'bytes';
            INSERT INTO prompts (rowid, prompt) VALUES (NEW.number, NEW.prompt);
        END""",
        """CREATE TRIGGER entry_removed AFTER DELETE ON entries BEGIN
            UPDATE meta SET value = value - 1 WHERE key = 'entries';
            UPDATE meta SET value = value - OLD.byte_size WHERE key = 'bytes';
            INSERT INTO prompts (prompts, rowid, prompt) VALUES ('delete', OLD.number, OLD.prompt);
        END""",
    ),
    # Vectors may be kept as halves, an odd number of bytes (`reverie.vectors.to_bytes`). A program that
    # had the database open before must not add others.
    (
        "INSERT INTO meta VALUES ('vector_bits', 32)",
        """CREATE TRIGGER vector_added BEFORE INSERT ON vectors
        WHEN (length(NEW.data) % 2 = 1) != (SELECT value = 16 FROM meta WHERE key = 'vector_bits') BEGIN
            SELECT RAISE(ABORT, 'its vectors are kept as other numbers by now: open the cache again');
        END""",
    ),
)

EMPTY = (
    "DELETE FROM entries",
    "DELETE FROM vectors",
    "DELETE FROM spaces",
    "DELETE FROM extra",
    "DELETE FROM trash",
    "DELETE FROM changes",
    "DELETE FROM meta WHERE key = 'retired'",
)
BRIEF = "e.number, e.cache_id, e.timestamp, e.used_ns, e.pinned, e.byte_size, e.content_hash"
"""The columns that `brief_of` takes, of ``entries AS e``."""

RECORD = """
    SELECT e.number, cache_id, image_name, prompt, params, encoder, data, timestamp, used_ns, pinned,
           content_hash, byte_size, parents, extra
    FROM entries AS e LEFT JOIN vectors AS v ON v.number = e.number
"""

RECORD_ALONE = RECORD.replace("vectors AS v", "(SELECT NULL number, NULL encoder, NULL data) AS v")
"""The same without the vector, for a database in which that part is damaged."""


class DamagedRowError(ValueError):
    """A row holds what it cannot."""


def define_functions(database: sqlite3.Connection, images: Path) -> None:
    """What the migrations call."""
    database.create_function("time_ns", 1, timestamp_ns, deterministic=True)
    database.create_function("size_of", 1, partial(image_size, images))


def image_size(images: Path, image_name: str) -> int:
    """Bytes of an image file, for those whose size other programs did not write down; 0 without a file."""
    with contextlib.suppress(OSError, ValueError):
        return (images / image_name).stat().st_size
    return 0


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
    name = (record.image_name, record.content_hash)
    return (*head, *numbers, *name, *texts, timestamp_ns(record.timestamp))


def brief_of(row: tuple[Any, ...]) -> Brief:
    """A row that `BRIEF` selects; raises DamagedRowError."""
    number, cache_id, timestamp, used_ns, pinned, byte_size, content_hash = row
    if None in row:
        raise DamagedRowError(f"row {number} is damaged")
    return Brief(number, cache_id, timestamp, used_ns, bool(pinned), byte_size, content_hash)


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
