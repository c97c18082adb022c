"""Opening the database of the SQLite index: it is made, brought up to date, or refused."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

from reverie.cache.sqlite_errors import SqliteErrors
from reverie.cache.sqlite_schema import APPLICATION_ID, MIGRATIONS, define_functions
from reverie.cache.sqlite_vectors import record_type, vector_type_of
from reverie.errors import ConfigError, IndexCorruptError
from reverie.half import VectorType
from reverie.locks import check_locks
from reverie.storage import partial_name, publish_new

__all__ = ["SqliteOpener", "transaction"]


class SqliteOpener:
    """Opens connections to the database of a cache.

    Args:
        folder: The cache folder, absolute.
        lock_timeout: Seconds that a connection waits for another writer.
        durable: Whether a commit waits until it is on the disk.
        vectors: As what it has to keep the numbers of vectors; None: as it does, a new one as float32.

    Attributes:
        path: The database.
        errors: Makes SQLite's errors ours.
        vectors: As given, until the database was opened.
    """

    def __init__(
        self, folder: Path, lock_timeout: float, *, durable: bool, vectors: VectorType | None
    ) -> None:
        self.path = folder / "metadata" / "cache_index.sqlite"
        self.errors = SqliteErrors(self.path, lock_timeout)
        self.vectors = vectors
        self._images = folder / "images"
        self._timeout = lock_timeout
        self._durable = durable

    def open(self) -> sqlite3.Connection:
        """A connection to the database, which is there and of today's shape from then on.

        Raises:
            ConfigError: It keeps vectors otherwise than asked.
            IndexCorruptError: It is none of ours, or of a newer reverie.
        """
        if not self.path.exists():
            self._create()
        read_only = not os.access(self.path.parent, os.W_OK)
        mode = "mode=rw"
        if read_only:
            # Without a log nobody is writing; SQLite could not make its shared memory here to follow one.
            closed = not self.path.with_name(self.path.name + "-wal").exists()
            mode = "mode=ro&immutable=1" if closed else "mode=ro"
        database = self.connect(self.path, mode)
        try:
            self._prepare(database, read_only)
        except BaseException:
            database.close()
            raise
        return database

    def connect(self, path: Path, mode: str) -> sqlite3.Connection:
        """A connection as SQLite opens it, whatever the file is."""
        return sqlite3.connect(
            f"{path.absolute().as_uri()}?{mode}",
            uri=True,
            timeout=self._timeout,
            isolation_level=None,
            check_same_thread=False,
        )

    def _create(self) -> None:
        """Make the database under another name first: a crash leaves no empty one behind."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        check_locks(self.path.parent)
        temporary = self.path.with_name(partial_name())
        database = self.connect(temporary, "mode=rwc")
        try:
            try:
                self._migrate(database)
                record_type(database, self.vectors or "float32")
                database.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # closing would not say that it failed
            finally:
                database.close()
            publish_new(temporary, self.path)
        finally:
            for ending in ("", "-wal", "-shm"):
                temporary.with_name(temporary.name + ending).unlink(missing_ok=True)

    def _prepare(self, database: sqlite3.Connection, read_only: bool) -> None:
        database.execute(f"PRAGMA synchronous = {'FULL' if self._durable else 'NORMAL'}")
        tables = database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if not tables:
            raise self.errors.corrupt("it is empty")
        if database.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
            raise self.errors.corrupt("a database of another program")
        if self.path.stat().st_size % database.execute("PRAGMA page_size").fetchone()[0]:
            raise self.errors.corrupt("it is cut short")  # SQLite would read zeros there
        shape = database.execute("PRAGMA user_version").fetchone()[0]
        if shape > len(MIGRATIONS):
            raise IndexCorruptError(
                f"{self.path} was written by a newer reverie (shape {shape}, known here {len(MIGRATIONS)}): "
                "update reverie. The file was left as it is"
            )
        if shape < len(MIGRATIONS) and not read_only:
            self._migrate(database)
        found = vector_type_of(database)
        if self.vectors not in (None, found):
            raise ConfigError(
                f"{self.path} keeps vectors as {found}, but vectors={self.vectors!r} was asked: leave it "
                f"out, or convert with: reverie cache convert --vectors {self.vectors} "
                f"--cache {self.path.parent.parent}"
            )
        self.vectors = None  # once is enough: another process may convert it

    def _migrate(self, database: sqlite3.Connection) -> None:
        database.execute("PRAGMA journal_mode = WAL")
        define_functions(database, self._images)
        with transaction(database):
            # Read again: another process may have been first.
            shape = database.execute("PRAGMA user_version").fetchone()[0]
            for statement in chain.from_iterable(MIGRATIONS[shape:]):
                database.execute(statement)
            database.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
            database.execute(f"PRAGMA application_id = {APPLICATION_ID}")


@contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[None]:
    """An immediate transaction; leaving the block by an exception changes nothing."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise
