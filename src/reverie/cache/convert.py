"""From one kind of index to the other."""

from __future__ import annotations

import os

from reverie import registry
from reverie.cache.folder import check_folder, index_on_disk
from reverie.errors import ConfigError
from reverie.storage import keep_aside

__all__ = ["convert"]


def convert(folder: str | os.PathLike[str], to: str, *, lock_timeout: float = 10.0) -> bool:
    """Write the index of a cache in another kind; everything in it comes along.

    The old index is kept: a database stays where it is, marked as retired, a JSON file gets a name
    that nothing opens. A process that still has the cache open is told at its next write to open it again.

    Args:
        folder: The cache folder.
        to: ``json`` or ``sqlite``.
        lock_timeout: Seconds to wait while another process writes.

    Returns:
        False when the cache is of that kind already.

    Raises:
        ConfigError: Not a path, or there is no index in that folder.
        UnknownNameError: No index of that name.
        IndexCorruptError: The index cannot be read.
        StorageError: The disk refused; the cache is as it was.
    """
    shown, path = check_folder(folder)
    registry.load("indexes", to)
    kind = index_on_disk(path / "metadata")
    if kind is None:
        raise ConfigError(f"{shown!r} holds no cache index: is it a cache folder?")
    if kind == to:
        return False
    source, target = (
        registry.create("indexes", name, path, shown=shown, lock_timeout=lock_timeout) for name in (kind, to)
    )
    try:
        with source.write() as writer:
            source.poll()
            if target.path.exists() and not target.retired():
                keep_aside(target.path, "replaced")  # another program's: this cache did not use it
            records = source.read([brief.cache_id for brief in source.briefs()])
            target.replace_all(records, source.next_number(), source.extra())
            writer.retire()
    finally:
        source.close()
        target.close()
    return True
