"""Rows in one byte a number, and by how much a product of such rows may be off.

A row x is stored as c = round(x / s), s = max|x| / 127, so x = s c + e with a known length |e|; a target q
likewise as t g + f. Then, by the triangle and the Cauchy-Schwarz inequality::

    |x.q - (s c).(t g)| = |x.f + e.(t g)| <= |x| |f| + |e| |t g|

The product c.g of whole numbers is below 2**24 for up to 1,040 dimensions, so float32 holds it exactly;
beyond, and for a comparison in float32 itself, the error of summing d terms is at most d 2**-24 and is added.

Many rows are first turned into coordinates in a subspace that holds most of them, and the length of the rest
(`Subspace`): a quarter of the bytes or less, of which the product is never below the cosine.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Self, TypeAlias, TypeVar

import numkong
import numpy as np
from numpy.typing import NDArray

from reverie.vectors import Rows, VectorRows, Vectors

__all__ = ["Codes", "Mirror", "Packed", "Subspace", "Target", "coded", "dots", "inverse_lengths"]

Codes: TypeAlias = NDArray[np.int8]
_Floats: TypeAlias = NDArray[np.float32]
Array = TypeVar("Array", Codes, _Floats)

_BLOCK = 1024  # rows turned into bytes at once
_PACKED = 4096  # rows in one pack: short rows are read four times faster so
_TAIL = 2048, 1024, 512  # rows in the packs of those behind the last one of that many
_UNIT = 2.0**-24  # half the distance of float32 numbers near 1


class Target(NamedTuple):
    """What is looked for, as a `Mirror` compares it.

    Attributes:
        code: ``(1, w)`` int8.
        scale: What the mirror makes of a row, multiplied with it, is about the cosine.
        bound: How much the cosine may be above that.
    """

    code: Codes
    scale: float
    bound: float


class Packed:
    """Rows of codes, laid out so that several others are multiplied with all of them at once.

    Args:
        codes: ``(n, d)``.
    """

    def __init__(self, codes: Codes) -> None:
        self._pack = numkong.dots_pack(codes) if len(codes) else None

    def products(self, codes: Codes) -> _Floats:
        """``(m, n)``: those of codes ``(m, d)`` with all of them."""
        if self._pack is None:
            return np.empty((len(codes), 0), dtype=np.float32)
        return np.asarray(numkong.dots_packed(codes, self._pack)).astype(np.float32)


def dots(codes: Codes, others: Codes, out: _Floats) -> None:
    """Put the products of codes ``(m, d)`` and ``(n, d)`` into ``(m, n)``; both hold at least one row."""
    numkong.cdist(codes, others, metric="dot", out=out, out_dtype="float32")


def inverse_lengths(codes: Codes) -> _Floats:
    """``(n,)``: one over the length of each of the codes ``(n, d)``."""
    floats = codes.astype(np.float32)
    lengths = np.sqrt(np.vecdot(floats, floats))
    inverse: _Floats = np.float32(1) / np.maximum(lengths, np.float32(1))
    return inverse


def coded(matrix: Vectors) -> Codes:
    """Rows as whole numbers from -127 to 127; their lengths do not matter to a cosine."""
    scales = np.float32(127) / np.maximum(np.abs(matrix).max(axis=1, keepdims=True), np.float32(1e-30))
    codes: Codes = np.rint(matrix * scales).astype(np.int8)
    return codes


class Subspace:
    """Directions in which rows differ most, and what of a row lies outside, as one number.

    With U of orthonormal columns, x = U a + (the rest), x.q = a.b + rest.rest' <= a.b + r r', where r is the
    length of the rest. So the product of (a, r) and (b, r') is never below the cosine, and near it where
    the subspace holds most of a row. The directions are those of the largest variance of some rows (subspace
    iteration; Halko, Martinsson & Tropp 2011), turned at random so that no number is much larger than others.

    In float32 a and b are off by at most ``off`` (summing, and columns that are not quite orthonormal), which
    makes their product uncertain by 2 ``off`` + ``off``**2 and the square of r by 2 ``off``: r is taken so
    much longer.

    Args:
        rows: ``(n, d)`` unit vectors, of which some are looked at.
    """

    WIDTH = 128
    """Numbers of a row in it."""

    _REST = 16  # of which so many are a part of the length of the rest, so that none is large
    _LOOKED_AT = 2048
    _ROUNDS = 3

    def __init__(self, rows: Rows) -> None:
        rng = np.random.default_rng(0)
        some = np.linspace(0, len(rows) - 1, min(len(rows), self._LOOKED_AT)).astype(int)
        sample = rows[some].astype(np.float64)
        width = self.WIDTH - self._REST
        found = rng.standard_normal((rows.shape[1], width))
        for _ in range(self._ROUNDS):
            found, _ = np.linalg.qr(sample.T @ (sample @ found))
        turned, _ = np.linalg.qr(rng.standard_normal((width, width)))
        self._directions = np.ascontiguousarray((found @ turned).T, dtype=np.float32)
        exact = self._directions.astype(np.float64)
        askew = float(np.linalg.norm(exact @ exact.T - np.eye(width)))
        summing = 1.01 * rows.shape[1] * _UNIT
        self._off = math.sqrt(width) * summing + askew
        self._longer = 2.1 * self._off + 4 * summing
        self.bound = 2.1 * self._off + 2 * self._off**2

    def of(self, rows: Vectors) -> Vectors:
        """``(n, WIDTH)`` of rows ``(n, d)``."""
        joined = np.empty((len(rows), self.WIDTH), dtype=np.float32)
        joined[:, : -self._REST] = inside = rows @ self._directions.T
        outside = np.maximum(np.vecdot(rows, rows) - np.vecdot(inside, inside), 0)
        rest = np.sqrt(outside + np.float32(self._longer)) / np.float32(math.sqrt(self._REST))
        joined[:, -self._REST :] = rest[:, None]
        return joined

    def of_one(self, vector: _Floats) -> _Floats:
        """``(WIDTH,)`` of one row ``(d,)``; in few steps, and wakes no other thread."""
        joined = np.empty(self.WIDTH, dtype=np.float32)
        inside = np.vecdot(self._directions, vector, out=joined[: -self._REST])
        outside = float(np.vecdot(vector, vector)) - float(np.vecdot(inside, inside))
        joined[-self._REST :] = math.sqrt((max(outside, 0.0) + self._longer) / self._REST)
        return joined


class Mirror:
    """Rows in one byte a number, as far as they are turned into bytes; one that is read is never changed.

    Args:
        origin: `VectorRows.origin` of the rows.
        dimensions: Of a row.
        subspace: Where their coordinates are kept instead of the rows; None: the rows themselves.
    """

    def __init__(self, origin: object, dimensions: int, subspace: Subspace | None = None) -> None:
        self._origin = origin
        self.subspace = subspace
        self.width = dimensions if subspace is None else subspace.WIDTH
        self._packs: tuple[numkong.PackedMatrix, ...] = ()
        self._codes = np.empty((0, self.width), dtype=np.int8)  # with room behind; begins after the packs
        self._tail: tuple[numkong.PackedMatrix, ...] = ()  # of some of these codes, from the first on
        self._scales = np.empty(0, dtype=np.float32)
        self._count = 0
        self._error = 0.0  # greatest distance between a row and its code

    def __len__(self) -> int:
        return self._count

    def known(self, rows: VectorRows) -> int:
        """How many of these rows it holds."""
        return self._count if rows.origin is self._origin else 0

    def followed(self, rows: VectorRows) -> Self:
        """One that holds these rows, and maybe later ones; of other rows than it has, nothing is kept."""
        count = len(rows)
        if rows.origin is self._origin and count <= self._count:
            return self
        grown = type(self)(rows.origin, rows.matrix.shape[1], self.subspace)
        base = self if rows.origin is self._origin else grown
        known, first = base._count, base._first
        grown._packs, grown._tail = base._packs, base._tail
        grown._count, grown._error = count, base._error
        grown._codes = _with_room(base._codes, known - first, count - first)
        grown._scales = _with_room(base._scales, known, count)
        for start in range(known, count, _BLOCK):
            stop = min(start + _BLOCK, count)
            part = rows.matrix[start:stop]
            codes, scales, errors = _coded(part if self.subspace is None else self.subspace.of(part))
            grown._codes[start - first : stop - first], grown._scales[start:stop] = codes, scales
            grown._error = max(grown._error, float(errors.max()))
        if self.subspace is not None:
            grown._pack(known - first)
        return grown

    @property
    def _first(self) -> int:
        """The first row that is in no pack."""
        return len(self._packs) * _PACKED

    def _pack(self, known: int) -> None:
        """Pack what can be; ``known`` codes were there before."""
        count = self._count - self._first
        if count // _TAIL[-1] == known // _TAIL[-1]:
            return
        whole, left = divmod(count, _PACKED)
        packs = tuple(numkong.dots_pack(each) for each in _parts(self._codes, [_PACKED] * whole))
        self._packs += packs
        if whole:
            self._codes = self._codes[whole * _PACKED :].copy()
        sizes = [size for size in _TAIL if left & size]
        self._tail = tuple(numkong.dots_pack(each) for each in _parts(self._codes, sizes))

    def target(self, vector: _Floats) -> Target:
        """A unit vector ``(d,)`` as it is compared with these rows."""
        summing = 4 * vector.size * _UNIT
        if self.subspace is not None:
            vector = self.subspace.of_one(vector)
            summing += self.subspace.bound
        scale = float(np.float32(max(float(vector.max()), -float(vector.min()), 1e-30) / 127))
        whole = np.rint(vector * np.float32(1 / scale))
        off = vector - whole * np.float32(scale)
        error = math.sqrt(np.vecdot(off, off))
        bound = 1.01 * error + self._error * (1.01 + error)
        return Target(whole.astype(np.int8)[None], scale, 1.001 * bound + summing)

    def scan(self, target: Target, near: _Floats, part: slice) -> None:
        """Put what the cosines of some rows are about, divided by the target's scale, into their places.

        Args:
            target: As `target` made it.
            near: ``(n,)`` of all rows.
            part: Which rows; begins and ends at a multiple of 4,096 or at the end.
        """
        start = part.start
        packs = self._packs[start // _PACKED : part.stop // _PACKED]
        for pack in packs if part.stop < self._count else packs + self._tail:
            products = np.asarray(numkong.dots_packed(target.code, pack))[0]
            at = slice(start, start + len(products))
            np.multiply(products, self._scales[at], out=near[at], dtype=np.float32, casting="unsafe")
            start = at.stop
        if start < part.stop:
            at = slice(start, part.stop)
            dots(target.code, self._codes[start - self._first : at.stop - self._first], near[None, at])
            near[at] *= self._scales[at]


def _parts(codes: Codes, sizes: Sequence[int]) -> Iterator[Codes]:
    """Some after some, from the first on."""
    start = 0
    for size in sizes:
        yield codes[start : start + size]
        start += size


def _with_room(array: Array, used: int, count: int) -> Array:
    """The array, or one with what is used of it and room for so many rows and later ones."""
    if count <= len(array):
        return array
    room = max(count, min(2 * len(array), len(array) + 2**16))
    more = np.empty((room, *array.shape[1:]), dtype=array.dtype)
    more[:used] = array[:used]
    return more


def _coded(matrix: Vectors) -> tuple[Codes, _Floats, _Floats]:
    """Rows as whole numbers from -127 to 127, what to multiply them with, and how far off that is."""
    scales = np.maximum(np.abs(matrix).max(axis=1), np.float32(1e-30)) / np.float32(127)
    whole = np.rint(matrix / scales[:, None])
    off = matrix - whole * scales[:, None]
    return whole.astype(np.int8), scales, np.sqrt(np.vecdot(off, off))
