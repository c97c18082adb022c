"""The index as an SQLite database: a row an add, whatever the size of the cache.

Write-ahead log with ``synchronous=FULL``: a commit is on the disk when it returns (``NORMAL`` where that is
not asked for: then `SqliteIndex.flush` waits for it). Readers never wait for a writer. This object reads and
writes through two connections, so that one thread of a process reads what is committed while another writes.
Other processes' changes are found by ``PRAGMA data_version`` and read from an append-only table ``changes``,
so following a busy cache costs what changed, not what it holds. The schema grows by append-only migrations
counted in ``PRAGMA user_version``.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from reverie.cache.sqlite_catalogue import SqliteCatalogue, at_once, batches
from reverie.cache.sqlite_opener import SqliteOpener, transaction
from reverie.cache.sqlite_schema import (
    BRIEF,
    EMPTY,
    RECORD,
    brief_of,
    image_size,
    readable_rows,
    record_of,
)
from reverie.cache.sqlite_vectors import (
    compact,
    copy_aside,
    record_type,
    recorded_type,
    rewrite_vectors,
    vector_type_of,
)
from reverie.cache.sqlite_writer import SqliteWriter, next_number
from reverie.entry import Record, highest_id
from reverie.errors import CacheClosedError, CacheError, IndexCorruptError
from reverie.half import VectorType
from reverie.protocols import Brief, Changes, IndexWriter, Mark, Order
from reverie.query import Where
from reverie.storage import file_identity, flush_file, partial_name, storage_error, sync_folder
from reverie.vectors import Embedding, from_bytes

__all__ = ["SqliteIndex"]

_LONG_LOG = 128  # rows changed, after which the log is emptied
_LONGEST_LOG = 20_000  # pages, after which a write empties it itself


class SqliteIndex:
    """One database in ``<folder>/metadata/`` (``sqlite``).

    Args:
        folder: The cache folder, absolute.
        shown: Not used: a database records file names only.
        lock_timeout: Seconds to wait for another writer.
        durable: Whether a commit waits until it is on the disk; else `flush` does.
        vectors: As what it keeps the numbers of vectors; None: as it does, a new one as float32.
    """

    kind = "sqlite"

    def __init__(
        self,
        folder: Path,
        *,
        shown: str = "",  # noqa: ARG002 - same call for every index
        lock_timeout: float = 10.0,
        durable: bool = True,
        vectors: VectorType | None = None,
    ) -> None:
        self._folder = folder
        self._timeout = lock_timeout
        self._opener = SqliteOpener(folder, lock_timeout, durable=durable, vectors=vectors)
        self._errors = self._opener.errors
        self._database: sqlite3.Connection | None = None
        self._writing: sqlite3.Connection | None = None  # opened for the first write
        self._logged = 0  # rows changed since the log was last emptied
        self._emptying: threading.Thread | None = None
        self._version = -1
        self._last_change = -1
        self._file: tuple[int, int] | None = None

    @property
    def path(self) -> Path:
        """The database."""
        return self._opener.path

    # -- opening

    def _connection(self) -> sqlite3.Connection:
        if self._database is None:
            with self._errors.mapped("open"):
                identity = file_identity(self.path)
                self._database = self._opener.open()
                self._file = identity or file_identity(self.path)
            weakref.finalize(self, _close_own, self._database, os.getpid())
        return self._database

    def _writing_connection(self) -> sqlite3.Connection:
        self._connection()
        if self._writing is None:
            self._writing = self._opener.open()
            self._writing.execute(f"PRAGMA wal_autocheckpoint = {_LONGEST_LOG}")
            weakref.finalize(self, _close_own, self._writing, os.getpid())
        return self._writing

    def flush(self) -> None:
        """Wait until the log of what was committed is on the disk; raises StorageError."""
        log = self.path.with_name(self.path.name + "-wal")
        try:
            flush_file(log)
        except FileNotFoundError:
            return  # SQLite flushes what it takes over into the database
        except OSError as exc:
            raise storage_error(f"write {log}", exc) from exc

    def close(self) -> None:
        """Close the database."""
        if self._emptying is not None:
            self._emptying.join()
        for database in (self._writing, self._database):
            if database is not None:
                database.close()
        self._writing = self._database = None
        self._version = self._last_change = -1

    # -- reading

    def poll(self) -> Changes | None:
        """What others committed since the last poll; at first, that anything may have been.

        Raises:
            IndexCorruptError: Not a database, damaged, or another program's.
        """
        database = self._connection()
        with self._errors.mapped("read"):
            version = database.execute("PRAGMA data_version").fetchone()[0]
            if version == self._version:
                return None
            changes = self._changes(database)
            self._version = version
            return changes

    def _changes(self, database: sqlite3.Connection) -> Changes | None:
        ends = "SELECT (SELECT min(change) FROM changes), (SELECT max(change) FROM changes)"
        first, last = database.execute(ends).fetchone()
        if last is None:
            first, last = 1, 0
        if self._last_change < 0 or first > self._last_change + 1:
            self._last_change = last
            return Changes(True)
        if last <= self._last_change:
            return None
        before, self._last_change = self._last_change, last
        return self._between(database, before, last)

    def _between(self, database: sqlite3.Connection, before: int, last: int) -> Changes:
        """The changes behind one, up to another."""
        rows = at_once(database, "cache_id", "changes WHERE change > ? AND change <= ?", (before, last))
        changed = list(dict.fromkeys(cache_id for (cache_id,) in rows))
        briefs = sorted(SqliteCatalogue(database).find(changed))
        present = {brief.cache_id for brief in briefs}
        return Changes(False, briefs, [cache_id for cache_id in changed if cache_id not in present])

    def mark(self) -> Mark | None:
        """Up to where `poll` and own writes are known."""
        with self._errors.mapped("read"):
            query = "SELECT value FROM meta WHERE key = 'identity'"
            return Mark(self._connection().execute(query).fetchone()[0], self._last_change)

    def since(self, mark: Mark) -> Changes:
        """What changed since a mark; ``complete`` where the log does not go back that far."""
        now = self.mark()
        with self._errors.mapped("read"):
            database = self._connection()
            first = database.execute("SELECT coalesce(min(change), 1) FROM changes").fetchone()[0]
            if now is None or now.identity != mark.identity or not first - 1 <= mark.change <= now.change:
                return Changes(True)
            return self._between(database, mark.change, now.change)

    def count(self) -> int:
        """How many entries there are."""
        with self._reading() as catalogue:
            return catalogue.count()

    def total_bytes(self) -> int:
        """How many bytes their images take."""
        with self._reading() as catalogue:
            return catalogue.total_bytes()

    def find(self, cache_ids: Sequence[str]) -> list[Brief]:
        """The briefs of these ids, in the order asked; ids that are gone are passed over."""
        with self._reading() as catalogue:
            return catalogue.find(cache_ids)

    def briefs(
        self, where: Where | None = None, *, after: int = 0, limit: int | None = None, newest: bool = False
    ) -> list[Brief]:
        """Entries by number, or from the highest down."""
        with self._reading() as catalogue:
            return catalogue.briefs(where, after=after, limit=limit, newest=newest)

    def numbers(self, where: Where) -> NDArray[np.int64]:
        """The numbers of the entries that are meant, in order."""
        with self._reading() as catalogue:
            return catalogue.numbers(where)

    def pinned(self) -> list[str]:
        """Ids of the pinned entries, by number."""
        with self._reading() as catalogue:
            return catalogue.pinned()

    def ordered(self, by: Order) -> Iterator[Brief]:
        """The entries that are not pinned, lowest first, ties by number."""
        with self._reading() as catalogue:
            yield from catalogue.ordered(by)

    def vector_type(self) -> VectorType:
        """As what the numbers of vectors are kept."""
        with self._reading() as catalogue:
            return catalogue.vector_type()

    @contextmanager
    def _reading(self) -> Iterator[SqliteCatalogue]:
        with self._errors.mapped("read"):
            yield SqliteCatalogue(self._connection())

    def read(self, cache_ids: Sequence[str]) -> list[Record]:
        """The records of these ids, in the order asked; ids that are gone are passed over."""
        with self._errors.mapped("read"):
            found = {row[1]: self._decoded(row) for row in self._select(f"{RECORD} WHERE", cache_ids)}
        return [found[cache_id] for cache_id in cache_ids if cache_id in found]

    def _decoded(self, row: tuple[Any, ...]) -> Record:
        try:
            return record_of(row)
        except (ValueError, TypeError, AttributeError) as exc:
            raise self._errors.corrupt(f"the entry {row[1]!r} is damaged: {exc}") from exc

    def _select(self, query: str, cache_ids: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        database = self._connection()
        for marks, part in batches(cache_ids):
            yield from database.execute(f"{query} cache_id IN ({marks})", part).fetchall()

    def vectors(self, cache_ids: Sequence[str] | None = None) -> Iterator[tuple[Brief, Embedding]]:
        """Each entry that has a vector with it, by number: of these ids, or of all."""
        query = f"SELECT {BRIEF}, encoder, data FROM vectors AS v JOIN entries AS e ON e.number = v.number"
        with self._errors.mapped("read"):
            if cache_ids is None:
                rows: Iterable[tuple[Any, ...]] = self._connection().execute(f"{query} ORDER BY v.number")
            else:
                rows = sorted(self._select(f"{query} WHERE", cache_ids))
            for *brief, encoder, data in rows:
                try:
                    vector = from_bytes(data, encoder=encoder)
                except (ValueError, TypeError) as exc:
                    raise self._errors.corrupt(f"the vector of {brief[1]!r} is damaged: {exc}") from exc
                yield brief_of(tuple(brief)), vector

    def spaces(self) -> set[tuple[str | None, int]]:
        """Encoder name and dimensions of the vectors this index ever held."""
        with self._errors.mapped("read"):
            return set(self._connection().execute("SELECT encoder, dimensions FROM spaces"))

    def extra(self) -> dict[str, Any]:
        """Keys of the whole index that another program wrote."""
        with self._errors.mapped("read"):
            rows = self._connection().execute("SELECT key, value FROM extra").fetchall()
        return {key: orjson.loads(value) for key, value in rows}

    def next_number(self) -> int:
        """The next number that no entry ever had."""
        with self._errors.mapped("read"):
            return next_number(self._connection())

    def verify(self) -> None:
        """Read every page, also those that no entry needs; raises IndexCorruptError."""
        with self._errors.mapped("read"):
            found = self._connection().execute("PRAGMA integrity_check(1)").fetchone()[0]
        if found != "ok":
            raise self._errors.corrupt(found)

    def salvage(self) -> tuple[list[Record], int]:
        """Row by row what a damaged database still gives, and a number above all ids seen in it."""
        highest = 0
        for file in (self.path, self.path.with_name(self.path.name + "-wal")):
            with contextlib.suppress(OSError):
                highest = max(highest, highest_id(file.read_bytes()))
        records: list[Record] = []
        with contextlib.suppress(sqlite3.Error):
            database = self._opener.connect(self.path, "mode=ro")
            try:
                # With it SQLite also reads a file that is shorter than its header says.
                database.execute("PRAGMA writable_schema = ON")
                records = readable_rows(database, highest)
            finally:
                database.close()
        return records, highest + 1

    # -- writing

    def write(self) -> AbstractContextManager[IndexWriter]:
        """One immediate transaction.

        Raises:
            LockTimeoutError: Another connection kept writing for ``lock_timeout`` seconds.
            StorageError: The disk refused; nothing was changed.
        """
        return self._write()

    @contextmanager
    def _write(self) -> Iterator[IndexWriter]:
        with self._errors.mapped("write"):
            database = self._writing_connection()
            with transaction(database):
                self._refuse_if_gone(database)
                before = self._last(database)
                writer = SqliteWriter(database)
                yield writer
                last = writer.finish()
        if self._last_change == before:  # all that came before is known, so the own changes are too
            self._last_change = max(before, last)
        self._logged += writer.changes
        if self._logged >= _LONG_LOG:
            self._empty_log()

    def settle(self) -> bool:
        """Write over what a commit that failed left in the log: reading that again would take it for done."""
        with contextlib.suppress(CacheError), self._errors.mapped("write"):
            database = self._writing_connection()
            with transaction(database):
                database.execute(
                    "INSERT INTO meta VALUES ('settled', 1) ON CONFLICT (key) DO UPDATE SET value = value + 1"
                )
            return True
        return False

    def _empty_log(self) -> None:
        """Bring the log into the database in a thread of its own: the next write does not wait for it."""
        if self._emptying is None or not self._emptying.is_alive():
            self._logged = 0
            emptying = threading.Thread(target=_checkpoint, args=(self.path,), name="reverie-log")
            with contextlib.suppress(RuntimeError):  # the program ends: no thread starts any more
                emptying.start()
                self._emptying = emptying

    def _last(self, database: sqlite3.Connection) -> int:
        """The number of the last change."""
        return int(database.execute("SELECT coalesce(max(change), 0) FROM changes").fetchone()[0])

    def _refuse_if_gone(self, database: sqlite3.Connection) -> None:
        if _is_retired(database):
            what = "was converted to another kind of index by another process"
        elif file_identity(self.path) != self._file:
            what = "was deleted or replaced while it was open"
        else:
            return
        raise CacheClosedError(f"{self.path} {what}: open the cache again")

    def retired(self) -> bool:
        """Whether another index took this one's place."""
        with self._errors.mapped("read"):
            return _is_retired(self._connection())

    def replace_all(
        self,
        records: Iterable[Record],
        next_number: int,
        extra: Mapping[str, Any],
        vectors: VectorType | None = None,
    ) -> None:
        """Make this the whole content, in one step.

        A readable database is changed in place, in one transaction, so that processes which have it
        open follow. A damaged one is replaced by a new file: close other programs that use it first.

        Raises:
            StorageError: The disk refused; nothing was changed.
        """
        records = list(records)
        with contextlib.suppress(IndexCorruptError):
            if self.path.exists():
                self.verify()
                self._fill(records, next_number, extra, vectors)
                return
        self.close()
        vectors = vectors or self._recorded_type()
        fresh = SqliteIndex(self._folder, lock_timeout=self._timeout)
        fresh._opener.path = self.path.with_name(partial_name())
        try:
            fresh._fill(records, next_number, extra, vectors)
            fresh.close()
            with self._errors.mapped("replace"):
                for companion in ("-wal", "-shm"):
                    self.path.with_name(self.path.name + companion).unlink(missing_ok=True)
                fresh.path.replace(self.path)
                sync_folder(self.path.parent)
        finally:
            fresh.close()
            fresh.path.unlink(missing_ok=True)

    def _recorded_type(self) -> VectorType | None:
        """As what a damaged database kept vectors, where it still says so; as asked where there is none."""
        with contextlib.suppress(sqlite3.Error):
            database = self._opener.connect(self.path, "mode=ro")
            with contextlib.closing(database):
                return recorded_type(database)
        return self._opener.vectors

    def _fill(
        self,
        records: Iterable[Record],
        next_number: int,
        extra: Mapping[str, Any],
        vectors: VectorType | None,
    ) -> None:
        with self._errors.mapped("write"), transaction(database := self._writing_connection()):
            for statement in EMPTY:
                database.execute(statement)
            if vectors is not None:
                record_type(database, vectors)
            database.execute("UPDATE meta SET value = ? WHERE key = 'next_number'", (next_number,))
            rows = [(key, orjson.dumps(value).decode()) for key, value in extra.items()]
            database.executemany("INSERT INTO extra VALUES (?, ?)", rows)
            writer = SqliteWriter(database)
            for record in records:
                size = record.byte_size or image_size(self._folder / "images", record.image_name)
                writer.put(replace(record, byte_size=size))
            _break_log(database)
            writer.finish()

    def set_vector_type(self, vectors: VectorType) -> Path | None:
        """Keep all vectors as such numbers, in one transaction; who has it open reads everything again.

        Returns:
            For float16, which loses digits, a copy of the database as it was; else None.

        Raises:
            LockTimeoutError: Another connection kept writing for ``lock_timeout`` seconds.
            IndexCorruptError: A vector cannot be read; nothing was changed.
            StorageError: The disk refused; nothing was changed.
        """
        aside = None
        with self._errors.mapped("convert"):
            database = self._writing_connection()
            with transaction(database):
                self._refuse_if_gone(database)
                if vector_type_of(database) == vectors:
                    return None
                if vectors == "float16":
                    aside = copy_aside(self._connection(), self.path, "float32")
                rewrite_vectors(database, vectors)
                _break_log(database)
            compact(database)
        return aside


def _break_log(database: sqlite3.Connection) -> None:
    """Note a change that is not there any more: who sees the gap in the log reads everything again."""
    database.execute("INSERT INTO changes (cache_id) VALUES ('')")
    database.execute("DELETE FROM changes")
    database.execute("INSERT INTO changes (cache_id) VALUES ('')")


def _checkpoint(path: Path) -> None:
    """Bring the log of a database into it; whatever hinders it, the next one does it."""
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA wal_checkpoint(PASSIVE)")


def _is_retired(database: sqlite3.Connection) -> bool:
    return database.execute("SELECT 1 FROM meta WHERE key = 'retired'").fetchone() is not None


def _close_own(database: sqlite3.Connection, pid: int) -> None:
    """Close a connection that nobody holds any more; one inherited by a fork is its parent's."""
    if os.getpid() == pid:
        database.close()
