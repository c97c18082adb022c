"""Pictures of a cache whose index is gone, and that a new index knows nothing of.

An index can be deleted, and a process can be killed in its first add before there is one. Opening such a
folder must not fail, for a loop has to go on, and must not lose anything: the names of the pictures that are
there are written down before an index is begun anew. Their numbers are not used again, and
`reverie.cache.check` makes entries of them instead of moving them away.
"""

from __future__ import annotations

import os
import re
import warnings
from contextlib import closing
from pathlib import Path

from reverie import registry
from reverie.entry import cache_number
from reverie.errors import StorageError
from reverie.protocols import IndexBackend
from reverie.storage import is_there, replace_file, storage_error

__all__ = ["LostIndexWarning", "forget_lost", "highest_number", "lost_pictures", "note_lost"]

_NAME = "pictures-without-index.txt"
_KINDS = ("json", "sqlite")
_OURS = re.compile(r"cache_\d+(?:_\d+)?\.\w+")
_HIGHEST = 10_000_000  # of a number that is passed over: a name with a higher one is none of ours


class LostIndexWarning(UserWarning):
    """A cache folder holds pictures but no index: a new one is begun beside them."""


def note_lost(folder: Path, kind: str, lock_timeout: float) -> frozenset[str]:
    """Write down the pictures of a cache folder that is about to get a new index, and warn of them.

    Args:
        folder: The cache folder, with ``images/`` and ``metadata/`` in it.
        kind: Of the index that is about to be opened.
        lock_timeout: Seconds to wait for another process that may be in its first add.

    Returns:
        The names that are written down, now or before; of a folder with an index only those from before.

    Raises:
        StorageError: The folder cannot be looked into or written, by someone who may write to it.
    """
    metadata = folder / "metadata"
    known = lost_pictures(metadata)
    if kind not in _KINDS or is_there(metadata / f"cache_index.{kind}"):
        return known
    found = _pictures(folder / "images")
    if not found or _begun_meanwhile(folder, kind, lock_timeout):
        return known
    if not found <= known and os.access(metadata, os.W_OK):
        replace_file(metadata / _NAME, [f"{name}\n".encode() for name in sorted(known | found)])
    warnings.warn(
        f"{folder} holds {len(found)} pictures but no index: a new one is begun, and they are kept. To make "
        f"entries of them: reverie cache check --fix --cache {folder}",
        LostIndexWarning,
        stacklevel=3,
    )
    return known | found


def _begun_meanwhile(folder: Path, kind: str, lock_timeout: float) -> bool:
    """Whether the pictures are of another process that only now made the index.

    A database is there before the first picture; a JSON file comes after it, while the writer has its place.
    """
    if kind == "json" and os.access(folder / "metadata", os.W_OK):
        index: IndexBackend = registry.create("indexes", kind, folder, lock_timeout=lock_timeout)
        with closing(index), index.write():
            pass
    return is_there(folder / "metadata" / f"cache_index.{kind}")


def _pictures(images: Path) -> frozenset[str]:
    try:
        return frozenset(name for name in os.listdir(images) if _OURS.fullmatch(name))  # noqa: PTH208 - names only
    except OSError as exc:
        raise storage_error(f"list {images}", exc) from exc


def lost_pictures(metadata: Path) -> frozenset[str]:
    """The names that `note_lost` wrote down, mostly none; raises StorageError where they cannot be read."""
    try:
        return frozenset((metadata / _NAME).read_text(encoding="utf-8", errors="replace").splitlines())
    except FileNotFoundError:
        return frozenset()
    except OSError as exc:
        raise StorageError(f"cannot read {metadata / _NAME}: {exc.strerror or exc}") from exc


def forget_lost(metadata: Path) -> None:
    """Nothing is lost any more; raises StorageError where that cannot be written."""
    try:
        (metadata / _NAME).unlink(missing_ok=True)
    except OSError as exc:
        raise storage_error(f"delete {metadata / _NAME}", exc) from exc


def highest_number(names: frozenset[str]) -> int:
    """The highest number of a cache id among names of pictures; 0 without any."""
    numbers = (cache_number(Path(name).stem) for name in names)
    return max((number for number in numbers if number <= _HIGHEST), default=0)
