"""The vectors of a cache as matrices in memory, one a space, kept in step with adds and evictions.

Rows are only ever appended behind what a reader can see, and a row that goes is only marked. So a search
works on what it was given while adds and evictions go on, and following a change costs the change alone.
Places are given anew when the matrix is full, or mostly gaps.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self, TypeVar

import numpy as np
import xxhash
from numpy.typing import NDArray

from reverie.cache.vector_files import Shelf, StoredRows, StoredSpace
from reverie.errors import EncoderMismatchError
from reverie.half import HALF, Halves, VectorType, unit_rows
from reverie.vectors import Embedding, EmbeddingSet, VectorRows, Vectors, to_bytes

__all__ = ["WORTH", "VectorTable", "entry_numbers"]

WORTH = 20_000
"""Vectors from which on they are kept in files: fewer are read from the index in no time."""

_Array = TypeVar("_Array", bound=StoredRows)

_ROOM = 64  # rows at the least
_EDITION_BITS = 12  # a number of an entry, below 10**15, leaves so many


class _Space:
    """The vectors of one encoder, as float32 or as halves: what is put in comes out of halves as it was."""

    def __init__(self, encoder: str | None, dimensions: int, dtype: np.dtype[Any]) -> None:
        self._encoder = encoder
        self._dtype = dtype
        self._row_of: dict[str, int] = {}
        self._ids: list[str] = []  # the id of every row up to now, also of rows that are gone
        self._allot(_ROOM, dimensions)
        self._begin()

    @classmethod
    def adopted(cls, stored: StoredSpace) -> Self:
        """The rows of files, with their places."""
        count, (room, dimensions) = len(stored.numbers), stored.matrix.shape
        space = cls(stored.encoder, dimensions, stored.matrix.dtype)
        space._matrix = stored.matrix
        space._numbers = np.empty(room, dtype=np.int64)
        space._numbers[:count] = stored.numbers
        space._alive = np.zeros(room, dtype=np.bool_)
        space._alive[:count] = stored.alive
        space._ids = list(stored.ids)
        living = np.flatnonzero(stored.alive)
        space._row_of = {space._ids[row]: row for row in living.tolist()}
        space._start = int(living[0]) if living.size else count
        space._gaps = count - space._start - living.size
        space._in_order = bool((np.diff(stored.numbers[space._start :]) >= 0).all())
        space.shelf = stored.shelf
        return space

    def _allot(self, capacity: int, dimensions: int) -> None:
        self._matrix: StoredRows = np.empty((capacity, dimensions), dtype=self._dtype)
        self._numbers = np.empty(capacity, dtype=np.int64)
        self._alive = np.zeros(capacity, dtype=np.bool_)

    def _begin(self) -> None:
        """Rows have their places from here on."""
        self._origin = object()
        self.shelf: Shelf | None = None  # where the rows are kept, from the first on
        self._start = 0  # rows before it are gone
        self._gaps = 0  # rows behind it that are gone
        self._in_order = True
        self._changed()

    def _changed(self) -> None:
        self._rows: VectorRows | None = None
        self._set: EmbeddingSet | None = None

    @property
    def encoder(self) -> str | None:
        return self._encoder

    @property
    def length(self) -> int:
        """Rows, those of entries that are gone with them."""
        return len(self._ids)

    def stored(self) -> StoredSpace:
        """The rows as they are now, to be kept."""
        rows = self.rows()
        count = len(rows)
        matrix = _frozen(self._matrix[:count])
        return StoredSpace(self._encoder, self._ids[:count], rows.numbers, matrix, rows.alive, self.shelf)

    def __len__(self) -> int:
        return len(self._row_of)

    def add(self, cache_id: str, vector: Embedding, number: int) -> None:
        row = len(self._ids)
        if row == len(self._matrix):
            self._rebuild()
            row = len(self._ids)
        self._in_order = self._in_order and (row == self._start or self._numbers[row - 1] <= number)
        self._matrix[row] = vector
        self._numbers[row] = number
        self._alive[row] = True
        self._row_of[cache_id] = row
        self._ids.append(cache_id)
        self._changed()

    def holds(self, cache_id: str, vector: Embedding) -> bool:
        row = self._row_of.get(cache_id)
        if row is None:
            return False
        known = self._matrix[row]
        return np.array_equal(unit_rows(known) if known.dtype == HALF else known, vector)

    def discard(self, cache_id: str) -> bool:
        row = self._row_of.pop(cache_id, None)
        if row is None:
            return False
        if self._rows is not None:
            self._alive = self._alive.copy()  # a reader has the old one
        self._alive[row] = False
        if row == self._start:
            self._start += 1
        else:
            self._gaps += 1
        self._changed()
        if len(self._ids) > max(_ROOM, 4 * len(self)):
            self._rebuild()
        return True

    def _order(self) -> NDArray[np.intp]:
        """The rows that are there, oldest first."""
        kept = self._start + np.flatnonzero(self._alive[self._start : len(self._ids)])
        return kept if self._in_order else kept[np.argsort(self._numbers[kept], kind="stable")]

    def _rebuild(self) -> None:
        """Close the gaps, and leave room for a third more at least."""
        kept = self._order()
        matrix, numbers, count = self._matrix, self._numbers, len(kept)
        capacity = _ROOM
        while 4 * count > 3 * capacity:
            capacity *= 2
        self._allot(capacity, matrix.shape[1])
        np.take(matrix, kept, axis=0, out=self._matrix[:count])
        self._numbers[:count] = numbers[kept]
        self._alive[:count] = True
        self._ids = [self._ids[row] for row in kept]
        self._row_of = {cache_id: row for row, cache_id in enumerate(self._ids)}
        self._begin()

    def rows(self) -> VectorRows:
        if self._rows is None:
            count = len(self._ids)
            self._rows = VectorRows(
                self._ids,
                self._numbers[:count],
                self._seen(slice(0, count)),
                self._alive[:count],
                self._encoder,
                len(self),
                self._origin,
            )
        return self._rows

    def snapshot(self) -> EmbeddingSet:
        if self._set is None:
            if self._gaps or not self._in_order:
                kept = self._order()
                ids, matrix = tuple(self._ids[row] for row in kept), self._seen(kept)
            else:
                ids, matrix = tuple(self._ids[self._start :]), self._seen(slice(self._start, len(self._ids)))
            self._set = EmbeddingSet(
                ids, _frozen(matrix.whole() if isinstance(matrix, Halves) else matrix), self._encoder
            )
        return self._set

    def _seen(self, places: slice | NDArray[np.intp]) -> Vectors | Halves:
        """Rows as others see them."""
        rows = _frozen(self._matrix[places])
        return Halves(rows.view(np.float16)) if rows.dtype == HALF else rows.view(np.float32)


class VectorTable:
    """All vectors, by encoder. Not thread-safe: its owner locks.

    Args:
        vector_type: As what they are kept in memory. Halves take what the index gives, which is what halves
            stand for.
    """

    def __init__(self, vector_type: VectorType = "float32") -> None:
        self._dtype = np.dtype(vector_type)
        self._spaces: dict[tuple[str | None, int], _Space] = {}

    @classmethod
    def adopted(cls, spaces: Iterable[StoredSpace], vector_type: VectorType = "float32") -> Self:
        """A table of what was kept in files."""
        table = cls(vector_type)
        for stored in spaces:
            table._spaces[stored.encoder, stored.matrix.shape[1]] = _Space.adopted(stored)
        return table

    def unkept(self) -> int:
        """How many rows are in no file; 0 in a table so small that it is not worth it."""
        spaces = self._spaces.values()
        if sum(map(len, spaces)) < WORTH:
            return 0
        return sum(space.length - (0 if space.shelf is None else space.shelf.count) for space in spaces)

    def stored(self) -> list[tuple[object, StoredSpace]]:
        """All rows as they are now, to be kept; each space with its `VectorRows.origin`."""
        return [(space.rows().origin, space.stored()) for space in self._spaces.values()]

    def kept(self, origin: object, shelf: Shelf) -> None:
        """The rows of that origin are in files now."""
        for space in self._spaces.values():
            if space.rows().origin is origin:
                space.shelf = shelf

    def put(self, cache_id: str, vector: Embedding | None, number: int) -> None:
        """Make this the vector of an entry, in the matrix of its encoder at the place of its number.

        In the matrix it is numbered by its entry and, in the lowest 12 bits, by a hash of its bytes: so two
        vectors that an entry has one after the other have the same number one time in 4096 only.
        """
        if vector is None:
            self.discard(cache_id)
            return
        key = (vector.encoder, vector.size)
        space = self._spaces.get(key)
        if space is not None and space.holds(cache_id, vector):
            return
        self.discard(cache_id)
        if key not in self._spaces:
            self._spaces[key] = _Space(*key, self._dtype)
        self._spaces[key].add(cache_id, vector, number << _EDITION_BITS | _edition(vector))

    def discard(self, cache_id: str) -> None:
        """Take a vector out; an id without vector is fine."""
        for key, space in self._spaces.items():
            if space.discard(cache_id):
                if not len(space):
                    del self._spaces[key]
                return

    def spaces(self) -> list[tuple[str | None, int, int]]:
        """Encoder, dimensions and number of the vectors of each."""
        return [(*key, len(space)) for key, space in self._spaces.items()]

    def snapshot(self, encoder: str | None) -> EmbeddingSet:
        """The vectors of one encoder, oldest first; None asks for the only one there is.

        Raises:
            EncoderMismatchError: None was asked and there are several.
        """
        space = self._space(encoder)
        return EmbeddingSet((), _nothing(), encoder) if space is None else space.snapshot()

    def rows(self, encoder: str | None) -> VectorRows:
        """The same as a search takes them: gaps and order as they are; raises as `snapshot`."""
        space = self._space(encoder)
        return VectorRows.of((), _nothing(), encoder) if space is None else space.rows()

    def _space(self, encoder: str | None) -> _Space | None:
        found = [space for space in self._spaces.values() if encoder is None or space.encoder == encoder]
        if len(found) > 1:
            listed = ", ".join(f"{space.encoder or 'unknown'} ({len(space)})" for space in found)
            raise EncoderMismatchError(
                f"this cache holds vectors of several encoders: {listed}. They cannot be compared with "
                "each other: name one, as in cache.embeddings(encoder=...)"
            )
        return found[0] if found else None


def entry_numbers(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """The numbers of the entries whose vectors have these numbers."""
    return numbers >> _EDITION_BITS


def _edition(vector: Embedding) -> int:
    return xxhash.xxh32_intdigest(to_bytes(vector)) & ((1 << _EDITION_BITS) - 1)


def _frozen(matrix: _Array) -> _Array:
    matrix.flags.writeable = False
    return matrix


def _nothing() -> NDArray[np.float32]:
    return np.empty((0, 0), dtype=np.float32)
