"""Writing files so that a crash leaves the old file or the new one, never half of either.

The order is always: write under a temporary name, flush to the disk, rename, flush the folder.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterable
from pathlib import Path

from reverie.errors import StorageError

__all__ = ["PARTIAL_PREFIX", "partial_name", "replace_file", "storage_error", "sync_folder", "write_new"]

PARTIAL_PREFIX = ".partial-"
"""Files of this name are unfinished writes; nothing ever reads them."""

_ADVICE = {
    errno.ENOSPC: "the disk is full: free some space",
    errno.EDQUOT: "the disk quota is used up: free some space",
    errno.EFBIG: "the file would be larger than the system allows",
    errno.EROFS: "the file system is read-only: use a cache folder that can be written",
    errno.EACCES: "permission denied: check who owns the cache folder",
    errno.EPERM: "permission denied: check who owns the cache folder",
}


def storage_error(doing: str, exc: OSError) -> StorageError:
    """Our error for a failed file operation: what was being done, why it failed, what to do."""
    why = _ADVICE.get(exc.errno or 0, exc.strerror or str(exc))
    error = StorageError(f"cannot {doing}: {why}. Nothing was changed")
    error.errno = exc.errno
    return error


def partial_name() -> str:
    """A temporary file name that no other thread or process uses."""
    return f"{PARTIAL_PREFIX}{os.getpid()}-{secrets.token_hex(6)}"


def write_new(path: Path, chunks: Iterable[bytes], *, durable: bool = True) -> None:
    """Write a new file and flush it to the disk; on failure no file is left.

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
        finally:
            os.close(handle)
    except BaseException:
        with contextlib.suppress(OSError):
            path.unlink()
        raise


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


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk, where the system can (Windows does it by itself)."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
