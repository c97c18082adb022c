"""From one kind of index to the other, and from one type of vectors to the other."""

from __future__ import annotations

import os
from pathlib import Path

from reverie import registry
from reverie.cache.folder import check_folder, index_on_disk
from reverie.cache.settings import check_vector_type
from reverie.errors import ConfigError
from reverie.half import VectorType
from reverie.protocols import IndexBackend
from reverie.storage import keep_aside

__all__ = ["convert"]


def convert(
    folder: str | os.PathLike[str],
    to: str | None = None,
    *,
    vectors: VectorType | None = None,
    lock_timeout: float = 10.0,
) -> bool:
    """Write the index of a cache in another kind, or its vectors as other numbers; all in it comes along.

    The old index is kept: a database stays where it is, marked as retired, a JSON file gets a name
    that nothing opens. A process that still has the cache open is told at its next write to open it again.

    Where the index stays of its kind, its vectors are changed in place, all or none; who has the cache open
    sees them from then on. Where that rounds them, to float16, a copy of the index as it was stays beside it,
    under a name that nothing opens (``cache_index.sqlite.float32-...``): delete it once it is not needed.

    Args:
        folder: The cache folder.
        to: ``json`` or ``sqlite``; None: as it is.
        vectors: ``float32`` or ``float16``; None: as they are, in JSON as float32.
        lock_timeout: Seconds to wait while another process writes.

    Returns:
        False when everything is so already.

    Raises:
        ConfigError: Not a path, there is no index in that folder, or that kind cannot keep such vectors.
        UnknownNameError: No index of that name.
        IndexCorruptError: The index cannot be read.
        StorageError: The disk refused; the cache is as it was.
    """
    shown, path = check_folder(folder)
    check_vector_type(vectors)
    kind = index_on_disk(path / "metadata")
    if kind is None:
        raise ConfigError(f"{shown!r} holds no cache index: is it a cache folder?")
    to = to or kind
    registry.load("indexes", to)
    if kind == to:
        return vectors is not None and _change(kind, path, shown, vectors, lock_timeout)
    source, target = (
        registry.create("indexes", name, path, shown=shown, lock_timeout=lock_timeout) for name in (kind, to)
    )
    try:
        with source.write() as writer:
            source.poll()
            if target.path.exists() and not target.retired():
                keep_aside(target.path, "replaced")  # another program's: this cache did not use it
            records = source.read([brief.cache_id for brief in source.briefs()])
            target.replace_all(records, source.next_number(), source.extra(), vectors or "float32")
            writer.retire()
    finally:
        source.close()
        target.close()
    return True


def _change(kind: str, path: Path, shown: str, vectors: VectorType, lock_timeout: float) -> bool:
    """Keep vectors as other numbers; False when they are so already."""
    index: IndexBackend = registry.create("indexes", kind, path, shown=shown, lock_timeout=lock_timeout)
    try:
        index.poll()
        if index.vector_type() == vectors:
            return False
        index.set_vector_type(vectors)
        return True
    finally:
        index.close()
