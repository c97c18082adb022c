"""SQLite's errors as ours: what was being done, why it failed, what to do."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reverie.cache.sqlite_schema import DamagedRowError
from reverie.errors import CacheError, IndexCorruptError, LockTimeoutError, ReverieError, StorageError
from reverie.locks import check_locks, no_locks
from reverie.storage import storage_error

__all__ = ["SqliteErrors"]

_LOCK_FAILED = (
    sqlite3.SQLITE_IOERR_LOCK,
    sqlite3.SQLITE_IOERR_RDLOCK,
    sqlite3.SQLITE_IOERR_CHECKRESERVEDLOCK,
    sqlite3.SQLITE_IOERR_SHMLOCK,
)


class SqliteErrors:
    """Maps the errors of one database.

    Args:
        path: The database.
        timeout: Seconds that a connection waits for another writer.
    """

    def __init__(self, path: Path, timeout: float) -> None:
        self._path = path
        self._timeout = timeout

    @contextmanager
    def mapped(self, doing: str) -> Iterator[None]:
        """The one place where SQLite's errors become ours."""
        try:
            yield
        except ReverieError:
            raise
        except DamagedRowError as exc:
            raise self.corrupt(str(exc)) from exc
        except sqlite3.Error as exc:
            raise self._ours(doing, exc) from exc
        except UnicodeDecodeError as exc:  # SQLite quotes what it cannot read
            raise self.corrupt(str(exc)) from exc
        except OSError as exc:
            raise storage_error(f"{doing} {self._path}", exc) from exc

    def _ours(self, doing: str, exc: sqlite3.Error) -> CacheError:
        extended = getattr(exc, "sqlite_errorcode", 0)
        code = extended & 0xFF
        if extended in _LOCK_FAILED:
            return no_locks(self._path.parent)
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            try:
                check_locks(self._path.parent)  # a file system that has none can look busy to SQLite
            except StorageError as none:
                return none
            return LockTimeoutError(
                f"another process is writing to {self._path} for more than {self._timeout:g} s: "
                "wait for it, or raise lock_timeout"
            )
        unreadable = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)
        if code in unreadable or (code == 0 and isinstance(exc, sqlite3.OperationalError)):
            return self.corrupt(str(exc))  # no code: text that is not UTF-8
        reasons = {
            sqlite3.SQLITE_FULL: "the disk is full: free some space",
            sqlite3.SQLITE_READONLY: "it is read-only: use a cache folder that can be written",
            sqlite3.SQLITE_CANTOPEN: "it cannot be opened: check that the cache folder exists and is yours",
        }
        return StorageError(
            f"cannot {doing} {self._path}: {reasons.get(code, str(exc))}. Nothing was changed"
        )

    def corrupt(self, what: str) -> IndexCorruptError:
        """The error for a database that cannot be read."""
        return IndexCorruptError(
            f"{self._path} is not a readable cache index: {what}. The file was left as it is. To keep it "
            "aside and rebuild the index from the images: "
            f"reverie cache check --fix --cache {self._path.parent.parent}"
        )
