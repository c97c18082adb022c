"""Unit vectors in half precision: two bytes a number, and exactly which float32 vector they stand for.

Rounded to halves, a unit vector has no longer quite the length 1. Halves stand for the float32 vector of
their direction and of length 1: each of them times the inverse of their length, in double precision, rounded
once. Every machine gets the same bits: halves are multiples of 2**-24, so their squares are added without
any rounding, in whatever order. All that is done with stored halves (search, eviction, export) is done
with that vector.

A vector that halves stand for has these halves again. With a length within 2**-12 of 1 that is so for any
halves, as the two differ by less than what rounding takes away; where the length is further off, which takes
most numbers to be rounded the same way, some are rounded the other way (`_settled`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import DTypeLike, NDArray

__all__ = ["HALF", "VECTOR_TYPES", "Halves", "VectorType", "halved", "unit_rows"]

VectorType: TypeAlias = Literal["float32", "float16"]
"""As what the numbers of vectors are kept."""

VECTOR_TYPES: tuple[VectorType, ...] = get_args(VectorType)

HALF = np.dtype(np.float16)

_BLOCK = 256  # rows turned into float32 at once: what the cache of a processor holds
_OFF = 2.0**-12 * (1 - 2.0**-12)  # what a length may be off by


def unit_rows(stored: NDArray[np.float16]) -> NDArray[np.float32]:
    """The float32 vectors of unit length that halves stand for, ``(..., d)`` as given."""
    rows = stored.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # of damaged rows
        rows *= (1.0 / np.sqrt(np.vecdot(rows, rows)))[..., None]
        return rows.astype(np.float32)


def halved(vectors: NDArray[np.float32]) -> NDArray[np.float16]:
    """Unit vectors ``(..., d)`` as halves; what they stand for has these halves again, bit for bit."""
    halves = vectors.astype(np.float16)
    rows = halves.astype(np.float64)
    off = np.abs(np.sqrt(np.vecdot(rows, rows)) - 1.0) > _OFF
    for place in np.argwhere(off):
        at = tuple(place)
        halves[at] = _settled(halves[at], vectors[at])
    return halves


def _settled(halves: NDArray[np.float16], vector: NDArray[np.float32]) -> NDArray[np.float16]:
    """Halves ``(d,)`` of a vector whose length is near enough to 1: as few as need be are rounded otherwise.

    Those that lie nearest to the middle of two halves go first. One step changes the length by less than the
    lengths that are near enough differ by, so none is stepped over.
    """
    before = halves.astype(np.float64)
    longer = np.vecdot(before, before) < 1.0
    other = np.nextafter(halves, np.copysign(np.float16(np.inf), halves) if longer else np.float16(0))
    after = other.astype(np.float64)
    order = np.argsort(-np.abs(vector - before), kind="stable")
    squares = np.vecdot(before, before) + np.cumsum((after * after - before * before)[order])
    off = np.abs(np.sqrt(squares) - 1.0)
    moved = order[: 1 + int(np.argmax(off <= _OFF) if (off <= _OFF).any() else np.argmin(off))]
    settled = halves.copy()
    settled[moved] = other[moved]
    return settled


class Halves:
    """``(n, d)`` halves, seen as the float32 rows of unit length that they stand for.

    Rows are turned into float32 where they are asked for: ``halves[3]`` is ``(d,)``, ``halves[10:20]`` and
    ``halves[[3, 5]]`` are ``(m, d)``, new arrays each time. NumPy takes it as the matrix of all rows, which
    is made then.

    Args:
        stored: ``(n, d)`` float16.
    """

    __slots__ = ("stored",)

    dtype = np.dtype(np.float32)
    ndim = 2

    def __init__(self, stored: NDArray[np.float16]) -> None:
        self.stored = stored

    @property
    def shape(self) -> tuple[int, int]:
        """N and d."""
        count, dimensions = self.stored.shape
        return count, dimensions

    def __len__(self) -> int:
        return len(self.stored)

    def __getitem__(self, rows: Any) -> NDArray[np.float32]:
        return Halves(chosen).whole() if (chosen := self.stored[rows]).ndim > 1 else unit_rows(chosen)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("halves are kept as float16: their float32 rows are always a copy")
        return self.whole().astype(self.dtype if dtype is None else dtype, copy=False)

    def whole(self) -> NDArray[np.float32]:
        """All rows, ``(n, d)`` float32."""
        rows = np.empty(self.stored.shape, dtype=np.float32)
        start = 0
        for block in self.blocks():
            rows[start : start + len(block)] = block
            start += len(block)
        return rows

    def blocks(self, places: NDArray[np.intp] | slice | None = None) -> Iterator[NDArray[np.float32]]:
        """The rows, or those at some places, in blocks of ``(m, d)`` float32 for the cache of a processor."""
        if isinstance(places, slice) or places is None:
            stored = self.stored if places is None else self.stored[places]
            for start in range(0, len(stored), _BLOCK):
                yield unit_rows(stored[start : start + _BLOCK])
        else:
            for start in range(0, len(places), _BLOCK):
                yield unit_rows(self.stored[places[start : start + _BLOCK]])
