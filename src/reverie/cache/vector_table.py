"""The vectors of a cache as matrices in memory, one a space, kept in step with adds and evictions.

A search gets a snapshot that never changes while later adds and evictions go on: rows are only
ever appended behind what a snapshot can see, and closing gaps or putting rows in order makes a new array.
"""

from __future__ import annotations

import numpy as np

from reverie.errors import EncoderMismatchError
from reverie.vectors import Embedding, EmbeddingSet

__all__ = ["VectorTable"]


class _Space:
    """The vectors of one encoder. Removing the oldest is O(1).

    Other gaps are closed at the next look, and rows that came out of turn find their place then.
    """

    def __init__(self, encoder: str | None, dimensions: int) -> None:
        self.encoder = encoder
        self._rows = np.empty((64, dimensions), dtype=np.float32)
        self._ids: list[str] = []  # the id of every row up to now, also of rows that are gone
        self._numbers: list[int] = []  # and its entry's number
        self._in_order = True
        self._row_of: dict[str, int] = {}
        self._start = 0
        self._gaps = 0  # rows behind start that are gone
        self._snapshot: EmbeddingSet | None = None

    def __len__(self) -> int:
        return len(self._row_of)

    def add(self, cache_id: str, vector: Embedding, number: int) -> None:
        if len(self._ids) == len(self._rows):
            self._rebuild(max(64, 2 * len(self)))
        self._in_order = self._in_order and (not self._numbers or self._numbers[-1] <= number)
        self._rows[len(self._ids)] = vector
        self._row_of[cache_id] = len(self._ids)
        self._ids.append(cache_id)
        self._numbers.append(number)
        self._snapshot = None

    def holds(self, cache_id: str, vector: Embedding) -> bool:
        row = self._row_of.get(cache_id)
        return row is not None and np.array_equal(self._rows[row], vector)

    def discard(self, cache_id: str) -> bool:
        row = self._row_of.pop(cache_id, None)
        if row is None:
            return False
        self._snapshot = None
        if row == self._start:
            self._start += 1
        else:
            self._gaps += 1
        return True

    def _rebuild(self, capacity: int) -> None:
        kept = sorted(self._row_of.values(), key=self._numbers.__getitem__)
        rows = np.empty((max(capacity, len(kept)), self._rows.shape[1]), dtype=np.float32)
        rows[: len(kept)] = self._rows[kept]
        self._ids = [self._ids[row] for row in kept]
        self._numbers = [self._numbers[row] for row in kept]
        self._in_order = True
        self._row_of = {cache_id: row for row, cache_id in enumerate(self._ids)}
        self._rows, self._start, self._gaps = rows, 0, 0

    def snapshot(self) -> EmbeddingSet:
        if self._snapshot is None:
            if self._gaps or not self._in_order:
                self._rebuild(len(self._rows))
            matrix = self._rows[self._start : len(self._ids)]
            matrix.flags.writeable = False
            self._snapshot = EmbeddingSet(tuple(self._ids[self._start :]), matrix, self.encoder)
        return self._snapshot


class VectorTable:
    """All vectors, by encoder. Not thread-safe: its owner locks."""

    def __init__(self) -> None:
        self._spaces: dict[tuple[str | None, int], _Space] = {}

    def put(self, cache_id: str, vector: Embedding | None, number: int) -> None:
        """Make this the vector of an entry, in the matrix of its encoder at the place of its number."""
        if vector is None:
            self.discard(cache_id)
            return
        key = (vector.encoder, vector.size)
        space = self._spaces.get(key)
        if space is not None and space.holds(cache_id, vector):
            return
        self.discard(cache_id)
        if key not in self._spaces:
            self._spaces[key] = _Space(*key)
        self._spaces[key].add(cache_id, vector, number)

    def discard(self, cache_id: str) -> None:
        """Take a vector out; an id without vector is fine."""
        for key, space in self._spaces.items():
            if space.discard(cache_id):
                if not len(space):
                    del self._spaces[key]
                return

    def snapshot(self, encoder: str | None) -> EmbeddingSet:
        """The vectors of one encoder, oldest first; None asks for the only one there is.

        Raises:
            EncoderMismatchError: None was asked and there are several.
        """
        found = [space for space in self._spaces.values() if encoder is None or space.encoder == encoder]
        if not found:
            return EmbeddingSet((), np.empty((0, 0), dtype=np.float32), encoder)
        if len(found) > 1:
            listed = ", ".join(f"{space.encoder or 'unknown'} ({len(space)})" for space in found)
            raise EncoderMismatchError(
                f"this cache holds vectors of several encoders: {listed}. They cannot be compared with "
                "each other: name one, as in cache.embeddings(encoder=...)"
            )
        return found[0].snapshot()
