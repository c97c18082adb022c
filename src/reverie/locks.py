"""Locks between processes, given by the system (flock); a file system that has none is named.

A lock file that only says by being there that somebody holds it is never used in its place: of a process
that was killed it would stay.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from reverie.errors import LockTimeoutError, StorageError
from reverie.storage import partial_name, storage_error

__all__ = ["check_locks", "file_lock", "held", "no_locks"]

if sys.platform != "win32":  # which locks by itself what is open
    import fcntl

_LOOK_AGAIN = 0.005  # seconds between two tries: a write takes a few milliseconds
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)


def file_lock(path: Path, timeout: float = -1) -> FileLock:
    """The lock of a file, made when it is first held; `held` waits for it.

    Args:
        path: The lock file. It stays.
        timeout: Seconds to wait for another process; below 0 without end.

    Returns:
        A lock that any thread may let go, held as often as it was taken.
    """
    return FileLock(path, timeout=timeout, thread_local=False, fallback_to_soft=False)


@contextmanager
def held(lock: FileLock, busy: str = "") -> Iterator[None]:
    """Hold a lock for the length of a block.

    Args:
        lock: A `file_lock`.
        busy: What to say when another process holds it for too long.

    Raises:
        LockTimeoutError: Another process holds it.
        StorageError: The file system has no locks, or the lock file cannot be made.
    """
    try:
        lock.acquire(poll_interval=_LOOK_AGAIN)
    except Timeout as exc:
        raise LockTimeoutError(busy or f"another process holds {lock.lock_file}") from exc
    except OSError as exc:
        if exc.errno in _NO_LOCKS:
            raise no_locks(Path(lock.lock_file).parent, exc.errno) from exc
        raise storage_error(f"lock {lock.lock_file}", exc) from exc
    try:
        yield
    finally:
        lock.release()


def check_locks(folder: Path) -> None:
    """See whether parts of a file can be locked in a folder, as SQLite does it; a file is made and deleted.

    Raises:
        StorageError: They cannot.
    """
    if sys.platform == "win32":
        return
    path = folder / partial_name()
    try:
        with path.open("xb") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1)
    except OSError as exc:
        if exc.errno in _NO_LOCKS:  # whatever else is wrong here, the next step says
            raise no_locks(folder, exc.errno) from exc
    finally:
        with suppress(OSError):
            path.unlink()


def no_locks(folder: Path, number: int | None = None) -> StorageError:
    """The error for a folder in which two processes cannot keep out of each other's way."""
    error = StorageError(
        f"the file system of {folder} has no locks ({os.strerror(number or errno.ENOLCK)}), as many network "
        "drives: two processes could overwrite each other's entries. Use a folder on a local disk, or mount "
        "the drive with locks (NFS: without `nolock`; SMB: without `nobrl`). Nothing was changed"
    )
    error.errno = number or errno.ENOLCK
    return error
