"""Which vectors come from files, and when they are put there."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from reverie.cache.vector_files import Shelf, StoredSpace, VectorFiles
from reverie.cache.vector_table import VectorTable, entry_numbers
from reverie.errors import CacheError
from reverie.half import HALF, unit_rows
from reverie.protocols import Changes, IndexBackend, Mark
from reverie.vectors import to_bytes

__all__ = ["Shelves"]

_MUCH = 16_384  # rows that are in no file yet, from which on they are put there
_LITTLE = 2_048  # the same when the cache is closed
_LOOKED_AT = 16  # rows of each encoder that are compared with the index before files are used


class Shelves:
    """The files of the vectors of one cache. Not thread-safe: its owner locks.

    Args:
        folder: Where they are.
    """

    def __init__(self, folder: Path) -> None:
        self._files = VectorFiles(folder)
        self._saving: threading.Thread | None = None
        self._saved: list[tuple[object, Shelf]] = []

    def table(self, index: IndexBackend, unread: dict[str, None]) -> VectorTable:
        """All vectors: from the files where they fit the index, else from the index.

        Args:
            index: What the cache has.
            unread: Gets the ids whose vectors may have changed since the files were written.
        """
        vector_type = index.vector_type()
        if index.mark() is not None:
            with contextlib.suppress(OSError):
                found = self._files.load()
                changes = None if found is None else self._fitting(index, *found)
                if found is not None and changes is not None:
                    table = VectorTable.adopted(found[1], vector_type)
                    for cache_id in changes.removed:
                        table.discard(cache_id)
                    unread.update((brief.cache_id, None) for brief in changes.briefs)
                    return table
        table = VectorTable(vector_type)
        for brief, vector in index.vectors():
            table.put(brief.cache_id, vector, brief.number)
        return table

    def _fitting(self, index: IndexBackend, mark: Mark, spaces: Sequence[StoredSpace]) -> Changes | None:
        """What changed since the files were written; None where they are not those of this index."""
        changes = index.since(mark)
        if changes.complete:
            return None
        if any(space.matrix.dtype != np.dtype(index.vector_type()) for space in spaces):
            return None
        changed = {*(brief.cache_id for brief in changes.briefs), *changes.removed}
        for space in spaces:
            living = np.flatnonzero(space.alive)
            some = living[np.linspace(0, len(living) - 1, min(len(living), _LOOKED_AT)).astype(int)]
            rows = {space.ids[row]: row for row in some.tolist() if space.ids[row] not in changed}
            there = {brief.cache_id: (brief.number, vector) for brief, vector in index.vectors(list(rows))}
            for cache_id, row in rows.items():
                number, vector = there.get(cache_id, (0, None))
                same = vector is not None and vector.encoder == space.encoder
                if not same or number != entry_numbers(space.numbers[row]):
                    return None
                stored = space.matrix[row]
                stored = unit_rows(stored.view(np.float16)) if stored.dtype == HALF else stored
                if vector is not None and to_bytes(vector) != to_bytes(stored.view(np.float32)):
                    return None
        return changes

    def keep(self, index: IndexBackend, table: VectorTable, *, last: bool) -> None:
        """Put what is new in a large table into files, in a thread of its own.

        Args:
            index: What the cache has.
            table: Its vectors, all of them up to `IndexBackend.mark`.
            last: Nothing more comes: also little is kept, and it is waited for.
        """
        if self._saving is not None:
            if self._saving.is_alive() and not last:
                return
            self._saving.join()
            self._saving = None
            for origin, shelf in self._saved:
                table.kept(origin, shelf)
        if table.unkept() < (_LITTLE if last else _MUCH):
            return
        with contextlib.suppress(CacheError):
            mark = index.mark()
            if mark is not None:
                spaces = table.stored()
                self._saving = threading.Thread(
                    target=self._save, args=(mark, spaces), name="reverie-vectors", daemon=True
                )
                self._saving.start()
                if last:
                    self._saving.join()

    def _save(self, mark: Mark, spaces: Sequence[tuple[object, StoredSpace]]) -> None:
        self._saved = []
        with contextlib.suppress(OSError, CacheError):  # read-only, full: the vectors are in the index, too
            shelves = self._files.save(mark, [space for _, space in spaces])
            if shelves is not None:
                self._saved = list(zip((origin for origin, _ in spaces), shelves, strict=True))
