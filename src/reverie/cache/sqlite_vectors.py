"""As what the SQLite index keeps the numbers of its vectors, and changing that."""

from __future__ import annotations

import contextlib
import sqlite3
from datetime import datetime
from pathlib import Path

from reverie.cache.sqlite_schema import DamagedRowError
from reverie.errors import EmbeddingError
from reverie.half import VectorType
from reverie.storage import flush_file, partial_name, sync_folder
from reverie.vectors import from_bytes, to_bytes

__all__ = ["compact", "copy_aside", "record_type", "recorded_type", "rewrite_vectors", "vector_type_of"]

_BITS: dict[VectorType, int] = {"float32": 32, "float16": 16}
_AT_ONCE = 1000  # rows


def vector_type_of(database: sqlite3.Connection) -> VectorType:
    """What the database says; one of a shape before that question knows only float32."""
    row = database.execute("SELECT value FROM meta WHERE key = 'vector_bits'").fetchone()
    for vector_type, bits in _BITS.items():
        if row is None or row[0] == bits:
            return vector_type
    raise DamagedRowError(f"its vectors have {row[0]!r} bits a number")


def recorded_type(database: sqlite3.Connection) -> VectorType | None:
    """The same of a database that may be damaged; None where it cannot be read."""
    with contextlib.suppress(sqlite3.Error, DamagedRowError, UnicodeDecodeError):
        return vector_type_of(database)
    return None


def rewrite_vectors(database: sqlite3.Connection, vector_type: VectorType) -> None:
    """Keep all vectors as such numbers; in a transaction of the caller.

    Raises:
        DamagedRowError: One is none.
    """
    record_type(database, vector_type)
    query = "SELECT number, data FROM vectors WHERE number > ? ORDER BY number LIMIT ?"
    last = -1
    while rows := database.execute(query, (last, _AT_ONCE)).fetchall():
        last = rows[-1][0]
        changed = [(_rewritten(number, data, vector_type), number) for number, data in rows]
        database.executemany("UPDATE vectors SET data = ? WHERE number = ?", changed)


def record_type(database: sqlite3.Connection, vector_type: VectorType) -> None:
    """Say as what the vectors are kept, of a database without any or one in which they change."""
    database.execute("UPDATE meta SET value = ? WHERE key = 'vector_bits'", (_BITS[vector_type],))


def _rewritten(number: int, data: bytes, vector_type: VectorType) -> bytes:
    try:
        return to_bytes(from_bytes(data), vector_type)
    except (EmbeddingError, TypeError) as exc:
        raise DamagedRowError(f"the vector of entry {number} is damaged: {exc}") from exc


def copy_aside(database: sqlite3.Connection, path: Path, why: str) -> Path:
    """Copy a database, as this connection reads it, to ``<name>.<why>-<time>``, a name that nothing opens."""
    aside = path.with_name(f"{path.name}.{why}-{datetime.now().strftime('%Y%m%d-%H%M%S-%f')}")
    temporary = path.with_name(partial_name())
    try:
        database.execute("VACUUM INTO ?", (str(temporary),))
        flush_file(temporary)
        temporary.replace(aside)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)
    return aside


def compact(database: sqlite3.Connection) -> None:
    """Give back the room that became free; whatever hinders it, it is used by later entries."""
    with contextlib.suppress(sqlite3.Error):
        database.execute("VACUUM")
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
