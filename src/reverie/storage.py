"""Writing files so that a crash leaves the old file or the new one, never half of either.

The order is always: write under a temporary name, flush to the disk, rename, flush the folder.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import shutil
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import datetime
from pathlib import Path

import xxhash

from reverie.errors import StorageError

__all__ = [
    "PARTIAL_PREFIX",
    "content_hash",
    "file_hash",
    "file_identity",
    "flush_file",
    "flush_files",
    "is_there",
    "keep_aside",
    "partial_name",
    "publish_new",
    "read_file",
    "replace_file",
    "storage_error",
    "sync_folder",
    "write_new",
]

PARTIAL_PREFIX = ".partial-"
"""Files of this name are unfinished writes; nothing ever reads them."""

_READ = os.O_RDONLY | getattr(os, "O_BINARY", 0)
_COUNTER = itertools.count()
_READ_AT_ONCE = 2**20
_WAITERS = 8  # threads that wait for the disk
_POOLS: dict[int, ThreadPoolExecutor] = {}  # of this process, by its number

_ADVICE = {
    errno.ENOSPC: "the disk is full: free some space",
    errno.EDQUOT: "the disk quota is used up: free some space",
    errno.EFBIG: "the file would be larger than the system allows",
    errno.EROFS: "the file system is read-only: use a folder that can be written",
    errno.EACCES: "permission denied: check who owns the folder",
    errno.EPERM: "permission denied: check who owns the folder",
    errno.ENAMETOOLONG: "the name is too long: use a shorter one",
    errno.ELOOP: "its links lead in a circle: remove them",
}

_FOLDERS_NOT_FLUSHED = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)  # some network and user-space file systems


def storage_error(doing: str, exc: OSError) -> StorageError:
    """Our error for a failed file operation: what was being done, why it failed, what to do."""
    why = _ADVICE.get(exc.errno or 0, exc.strerror or str(exc))
    error = StorageError(f"cannot {doing}: {why}. Nothing was changed")
    error.errno = exc.errno
    return error


def read_file(path: str) -> bytes:
    """All bytes of a file, in a third of the time that a file object takes; raises OSError."""
    file = os.open(path, _READ)
    try:
        size = os.fstat(file).st_size
        parts = [os.read(file, size + 1)]  # one more byte than it has: its end is seen at once
        while parts[-1] and sum(map(len, parts)) != size:
            parts.append(os.read(file, _READ_AT_ONCE))
        return parts[0] if len(parts) == 1 else b"".join(parts)
    finally:
        os.close(file)


def is_there(path: Path) -> bool:
    """Whether anything has that name, a link that leads nowhere not counted.

    Raises:
        StorageError: The system does not tell: no permission, a name that is too long, links in a circle.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as exc:
        raise storage_error(f"look for {path}", exc) from exc
    return True


def content_hash(data: bytes) -> str:
    """What tells a file's content from any other: XXH3 of 128 bits, hexadecimal (as ``xxh128sum`` prints it).

    Finds damage, edits and equal files; it does not protect against forgery. SHA-256 took a seventh of
    the time of a whole durable add.
    """
    return xxhash.xxh3_128_hexdigest(data)


def file_hash(path: Path) -> str:
    """The `content_hash` of a file of any size; raises OSError as the system reports it."""
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while block := file.read(_READ_AT_ONCE):
            digest.update(block)
    return digest.hexdigest()


def partial_name() -> str:
    """A temporary file name that no other thread or process uses."""
    return f"{PARTIAL_PREFIX}{os.getpid()}-{time.time_ns():x}-{next(_COUNTER)}"


def write_new(path: Path, chunks: Iterable[bytes], *, durable: bool = True) -> None:
    """Write a new file and flush it to the disk; on failure no file is left.

    Args:
        path: A name that nothing has.
        chunks: The content, in pieces.
        durable: Wait until it is on the disk. Else the disk is only told to begin, and `flush_file`
            waits for what is left.

    Raises:
        OSError: As the system reports it; `storage_error` makes it ours.
    """
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        try:
            for chunk in chunks:
                _write_all(handle, chunk)
            if durable:
                os.fsync(handle)
            elif hasattr(os, "posix_fadvise"):
                with contextlib.suppress(OSError):  # a hint, where the system takes it
                    os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(handle)
    except BaseException:
        with contextlib.suppress(OSError):
            path.unlink()
        raise


def flush_file(path: Path) -> None:
    """Wait until a written file is on the disk; raises OSError as the system reports it."""
    access = os.O_RDWR if os.name == "nt" else os.O_RDONLY  # Windows flushes what it may write
    handle = os.open(path, access | getattr(os, "O_BINARY", 0))
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def flush_files(paths: Sequence[Path], folder: Path) -> None:
    """Wait until written files and the names in their folder are on the disk; a file that is gone is fine.

    All at once: a file system with a log takes what waits at the same time into one step.

    Raises:
        OSError: As the system reports it.
    """
    waiting: list[Future[None]] = []
    try:
        for flush, path in [(sync_folder, folder), *((_flush, path) for path in paths[1:])]:
            try:
                waiting.append(_flushers().submit(flush, path))
            except RuntimeError:  # the program ends: no thread starts any more
                flush(path)
        for path in paths[:1]:
            _flush(path)
    finally:
        wait(waiting)
    for each in waiting:
        each.result()


def _flush(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        flush_file(path)


def _flushers() -> ThreadPoolExecutor:
    """Threads that wait for the disk; a fork has none of its parent's."""
    pool = _POOLS.get(os.getpid())
    if pool is None:
        _POOLS.clear()
        pool = _POOLS[os.getpid()] = ThreadPoolExecutor(_WAITERS, "reverie-flush")
    return pool


def _write_all(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def replace_file(path: Path, chunks: Iterable[bytes], *, durable: bool = True) -> None:
    """Put new content in the place of ``path`` in one step: readers see the old file or the new one.

    Args:
        path: The file; it need not exist.
        chunks: Its new content, in pieces.
        durable: Also survive a power cut (costs two flushes).

    Raises:
        StorageError: The disk refused; the old file is untouched.
    """
    temporary = path.with_name(partial_name())
    try:
        write_new(temporary, chunks, durable=durable)
        try:
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        if durable:
            sync_folder(path.parent)
    except OSError as exc:
        raise storage_error(f"write {path}", exc) from exc


def publish_new(temporary: Path, path: Path) -> None:
    """Give a finished file its name unless another process made that file meanwhile; never replaces one.

    Raises:
        OSError: As the system reports it.
    """
    try:
        os.link(temporary, path)
    except FileExistsError:
        return
    except OSError:  # a file system without hard links
        if not path.exists():
            temporary.rename(path)
    sync_folder(path.parent)


def file_identity(path: Path) -> tuple[int, int] | None:
    """What tells a file from another one that took its name; None when there is none."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_dev, stat.st_ino


def keep_aside(path: Path, why: str, *, companions: Iterable[str] = ()) -> Path:
    """Copy a file to ``<name>.<why>-<time>``, a name that nothing opens.

    Args:
        path: The file.
        why: One word for the name of the copy, such as ``damaged``.
        companions: Endings of files that belong to it and are copied along where they exist.

    Returns:
        The copy.

    Raises:
        StorageError: The disk refused.
    """
    aside = path.with_name(f"{path.name}.{why}-{datetime.now().strftime('%Y%m%d-%H%M%S-%f')}")
    try:
        shutil.copy2(path, aside)
        for ending in companions:
            companion = path.with_name(path.name + ending)
            if companion.exists():
                shutil.copy2(companion, aside.with_name(aside.name + ending))
        sync_folder(path.parent)
    except OSError as exc:
        raise storage_error(f"keep {path} aside", exc) from exc
    return aside


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk, where the system can (Windows does it by itself)."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as exc:
        if exc.errno not in _FOLDERS_NOT_FLUSHED:
            raise
    finally:
        os.close(handle)
