"""One write to the SQLite index, statement by statement."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import orjson

from reverie.cache.reembedding import without_vector_keys
from reverie.cache.sqlite_catalogue import SqliteCatalogue, batches
from reverie.cache.sqlite_schema import row_of
from reverie.entry import Record
from reverie.half import VectorType
from reverie.vectors import Embedding, to_bytes

__all__ = ["SqliteWriter", "next_number"]

_KEPT_CHANGES = 100_000


class SqliteWriter(SqliteCatalogue):
    """The `IndexWriter` of one transaction.

    Args:
        database: A connection in a transaction that the caller ends.
    """

    def __init__(self, database: sqlite3.Connection) -> None:
        super().__init__(database)
        self._number: int | None = None
        self._changed: list[str] = []
        self._vector_type: VectorType | None = None

    def vector_type(self) -> VectorType:
        """As what the numbers of vectors are kept."""
        if self._vector_type is None:
            self._vector_type = super().vector_type()
        return self._vector_type

    def next_number(self) -> int:
        """The next number that no entry ever had; counts up with each call."""
        if self._number is None:
            self._number = next_number(self._database)
        self._number += 1
        return self._number - 1

    def give_back(self, numbers: range) -> None:
        """Numbers that no entry got after all: they are given out again, unless higher ones were."""
        if next_number(self._database) == numbers.stop:
            self._number = numbers.start

    def retire(self) -> None:
        """Another index takes this one's place."""
        self._database.execute("INSERT OR REPLACE INTO meta VALUES ('retired', 1)")

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """A part of the write: leaving its block by an exception undoes that part alone."""
        number, changed = self._number, len(self._changed)
        self._database.execute("SAVEPOINT attempt")
        try:
            yield
        except BaseException:
            self._database.execute("ROLLBACK TO attempt")
            self._number = number
            del self._changed[changed:]
            raise
        finally:
            self._database.execute("RELEASE attempt")

    def put(self, record: Record) -> None:
        """Insert a record."""
        self._database.execute(
            "INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            row_of(record),
        )
        if record.embedding is not None:
            self._put_vector(record.number, record.embedding)
        self._changed.append(record.cache_id)

    def _put_vector(self, number: int, vector: Embedding) -> None:
        data = to_bytes(vector, self.vector_type())
        self._database.execute(
            "INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)", (number, vector.encoder, data)
        )
        self._database.execute(
            "INSERT INTO spaces SELECT ?, ? WHERE NOT EXISTS "
            "(SELECT 1 FROM spaces WHERE encoder IS ? AND dimensions = ?)",
            (vector.encoder, vector.size) * 2,
        )

    def embed(self, cache_id: str, embedding: Embedding | None) -> None:
        """Replace the vector of a record; an id that is gone is passed over."""
        row = self._database.execute(
            "SELECT number, extra FROM entries WHERE cache_id = ?", (cache_id,)
        ).fetchone()
        if row is None:
            return
        number, extra = row[0], row[1].encode()
        kept = without_vector_keys(extra)
        if kept != extra:
            self._database.execute("UPDATE entries SET extra = ? WHERE number = ?", (kept.decode(), number))
        if embedding is not None:
            self._put_vector(number, embedding)
        else:
            self._database.execute("DELETE FROM vectors WHERE number = ?", (number,))
            self._forget_spaces()
        self._changed.append(cache_id)

    def _forget_spaces(self) -> None:
        """Without vectors, any length is right again."""
        self._database.execute("DELETE FROM spaces WHERE NOT EXISTS (SELECT 1 FROM vectors)")

    def remove(self, cache_ids: Sequence[str]) -> None:
        """Take records out; their files become trash."""
        if not cache_ids:
            return
        for marks, part in batches(cache_ids):
            self._database.execute(
                f"INSERT OR IGNORE INTO trash SELECT image_name FROM entries WHERE cache_id IN ({marks})",
                part,
            )
            self._database.execute(
                "DELETE FROM vectors WHERE number IN "
                f"(SELECT number FROM entries WHERE cache_id IN ({marks}))",
                part,
            )
            self._database.execute(f"DELETE FROM entries WHERE cache_id IN ({marks})", part)
        self._database.execute(
            "DELETE FROM trash WHERE EXISTS (SELECT 1 FROM entries AS e WHERE image_name = trash.image_name)"
        )
        self._changed.extend(cache_ids)
        self._forget_spaces()

    def pin(self, cache_id: str, pinned: bool) -> None:
        """Pin or unpin a record."""
        self._database.execute("UPDATE entries SET pinned = ? WHERE cache_id = ?", (pinned, cache_id))
        self._changed.append(cache_id)

    def use(self, uses: Mapping[str, int]) -> None:
        """Set last uses where they are later than what is there."""
        for _, part in batches(list(uses)):
            given = f"WITH given (cache_id, used_ns) AS (VALUES {','.join(['(?, ?)'] * len(part))})"
            values = [value for cache_id in part for value in (cache_id, uses[cache_id])]
            later = "e.cache_id = given.cache_id AND e.used_ns < given.used_ns"
            found = self._database.execute(
                f"{given} SELECT json_group_array(e.cache_id) FROM given JOIN entries AS e ON {later}", values
            ).fetchone()
            if found != ("[]",):
                self._database.execute(
                    f"{given} UPDATE entries AS e SET used_ns = given.used_ns FROM given WHERE {later}",
                    values,
                )
                self._changed.extend(orjson.loads(found[0]))

    def trash(self) -> Sequence[str]:
        """Image names whose files may still be there."""
        return [row[0] for row in self._database.execute("SELECT image_name FROM trash")]

    def forget_trash(self, image_names: Sequence[str]) -> None:
        """Those files are deleted."""
        for marks, part in batches(image_names):
            self._database.execute(f"DELETE FROM trash WHERE image_name IN ({marks})", part)

    @property
    def changes(self) -> int:
        """How many rows were changed."""
        return len(self._changed)

    def finish(self) -> int:
        """Write the counter and the log of changes; the number of the last change, or -1."""
        database = self._database
        if self._number is not None:
            database.execute("UPDATE meta SET value = ? WHERE key = 'next_number'", (self._number,))
        last = -1
        for _, part in batches(self._changed):
            rows = ",".join(["(?)"] * len(part))
            last = database.execute(f"INSERT INTO changes (cache_id) VALUES {rows}", part).lastrowid or -1
        if last > 0 and last % 1000 < len(self._changed):
            database.execute("DELETE FROM changes WHERE change <= ?", (last - _KEPT_CHANGES,))
        return last


def next_number(database: sqlite3.Connection) -> int:
    """The next number that no entry ever had, as the database has it."""
    return int(database.execute("SELECT value FROM meta WHERE key = 'next_number'").fetchone()[0])
