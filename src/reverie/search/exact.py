"""Exact search: always the true answer, at a quarter of the memory traffic of a float32 product.

Every row is kept a second time in one byte a number. A scan of those bytes gives each cosine within a
bound that holds always; only rows that the bound does not rule out are compared in float32. So the answer
is, bit for bit, that of comparing all rows in float32.

The bound. A unit row x is stored as c = round(x / s), s = max|x| / 127, so x = s c + e with a known
length |e|; the target q likewise as t g + f. Then, by the triangle and the Cauchy-Schwarz inequality::

    |x.q - (s c).(t g)| = |x.f + e.(t g)| <= |x| |f| + |e| |t g|

The product c.g of whole numbers is below 2**24 for up to 1,040 dimensions, so float32 holds it exactly;
beyond, and for the float32 comparison itself, the error of summing d terms is at most d 2**-24 and is added.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

import numkong
import numpy as np
from numpy.typing import NDArray

from reverie.protocols import Found
from reverie.vectors import VectorRows, Vectors, similarities, top_k

__all__ = ["ExactSearch"]

_Codes: TypeAlias = NDArray[np.int8]
_Floats: TypeAlias = NDArray[np.float32]

_SCAN_FROM = 1024  # rows: below, comparing in float32 is as fast
_SPLIT_FROM = 8192  # rows: from here on a second thread pays
_HEAD_START = 2048  # rows that the caller's thread scans while the others wake
_FEW = 8  # where fewer than one row in so many may be found, they are compared at once
_MANY = 16_384  # rows: more are turned into bytes at their second search, which takes as long as five
_BLOCK = 1024  # rows turned into bytes at once
_THREADS = 4  # reading memory is what takes the time: more threads read it no faster


class ExactSearch:
    """Compares a vector with all rows (``exact``).

    Args:
        threads: That scan from 8,192 rows on; None takes the processor's cores, 4 at most.
        folder: Not needed: what is made of the rows is made anew in a second.

    Several threads may search at once.
    """

    name = "exact"
    exact = True

    def __init__(self, *, threads: int | None = None, folder: Path | None = None) -> None:  # noqa: ARG002
        self._threads = threads or min(os.cpu_count() or 1, _THREADS)
        self._lock = threading.Lock()
        self._mirror = _Mirror(object(), 0)
        self._asked: object = None  # origin of the rows that were searched last
        self._pool: ThreadPoolExecutor | None = None
        self._pid = 0

    def search(
        self,
        rows: VectorRows,
        target: _Floats,
        k: int | None,
        *,
        threshold: float | None = None,
        among: NDArray[np.bool_] | None = None,
    ) -> Found:
        """The rows most like a vector.

        Args:
            rows: Where to look.
            target: ``(d,)`` float32 of unit length.
            k: How many at most; None takes all.
            threshold: Lowest cosine that counts, inclusive; None takes all.
            among: ``(n,)`` whether a row may be found; None: any.

        Returns:
            Rows and their cosines, high to low, ties in the order of the rows; only rows that are alive.
        """
        places = self._candidates(rows, target, k, threshold, among)
        scores = similarities(rows.matrix, target, places)
        order = top_k(scores, threshold, k)
        return Found(order if places is None else places[order], scores[order])

    def _candidates(
        self,
        rows: VectorRows,
        target: _Floats,
        k: int | None,
        threshold: float | None,
        among: NDArray[np.bool_] | None,
    ) -> NDArray[np.intp] | None:
        """Rows of which the answer is a part; None: all of them."""
        keep = rows.findable(among)
        if len(rows) < _SCAN_FROM or (k is None and threshold is None):
            return None if keep is None else np.flatnonzero(keep)
        if keep is not None:
            places = np.flatnonzero(keep)
            if len(places) * _FEW < len(rows):
                return places
        mirror = self._followed(rows)
        if mirror is None:
            return None if keep is None else np.flatnonzero(keep)
        near, bound = self._scan(mirror, target)
        near = near[: len(rows)]
        if keep is not None:
            np.copyto(near, -np.inf, where=~keep)
        return np.flatnonzero(near >= _lowest(near, bound, k, threshold))

    def _followed(self, rows: VectorRows) -> _Mirror | None:
        """The rows in bytes; None for many that are searched for the first time, and maybe the last."""
        with self._lock:
            new = self._asked is not rows.origin and len(rows) - self._mirror.known(rows) > _MANY
            self._asked = rows.origin
            if new:
                return None
            self._mirror = self._mirror.followed(rows)
            return self._mirror

    def _scan(self, mirror: _Mirror, target: _Floats) -> tuple[_Floats, float]:
        """Cosines of all rows, and by how much they may be off."""
        code, scale, error = _coded(target[None])
        near = np.empty(len(mirror), dtype=np.float32)
        parts = self._parts(len(mirror))

        def scan(part: slice) -> None:
            numkong.cdist(code, mirror.codes[part], metric="dot", out=near[None, part], out_dtype="float32")
            near[part] *= mirror.scales[part]

        if len(parts) == 1:
            scan(parts[0])
        else:
            waiting = [self._workers().submit(scan, part) for part in parts[1:]]
            scan(parts[0])
            for each in waiting:
                each.result()
        near *= scale[0]
        summing = 4 * target.size * 2.0**-24
        return near, 1.001 * float(error[0] + mirror.error * (1 + error[0])) + summing

    def _parts(self, count: int) -> list[slice]:
        if count < _SPLIT_FROM or self._threads == 1:
            return [slice(0, count)]
        size = (count - _HEAD_START) // self._threads
        own = count - size * (self._threads - 1)
        return [slice(0, own), *(slice(start, start + size) for start in range(own, count, size))]

    def close(self) -> None:
        """End the threads; a later search begins new ones."""
        with self._lock:
            if self._pool is not None and self._pid == os.getpid():
                self._pool.shutdown()
            self._pool = None

    def _workers(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._pool is None or self._pid != os.getpid():  # a fork has none of its parent's threads
                self._pool = ThreadPoolExecutor(max(1, self._threads - 1), "reverie-search")
                self._pid = os.getpid()
            return self._pool


class _Mirror:
    """Rows in one byte a number, as far as they are turned into bytes.

    Attributes:
        codes: ``(n, d)`` int8.
        scales: ``(n,)`` what a code is multiplied with.
        error: Greatest distance between a row and its code.
    """

    def __init__(self, origin: object, dimensions: int) -> None:
        self._origin = origin
        self._room: tuple[_Codes, _Floats] = (
            np.empty((0, dimensions), dtype=np.int8),
            np.empty(0, dtype=np.float32),
        )
        self._count = 0
        self.error = 0.0

    def __len__(self) -> int:
        return self._count

    @property
    def codes(self) -> _Codes:
        return self._room[0][: self._count]

    @property
    def scales(self) -> _Floats:
        return self._room[1][: self._count]

    def known(self, rows: VectorRows) -> int:
        """How many of these rows it holds."""
        return self._count if rows.origin is self._origin else 0

    def followed(self, rows: VectorRows) -> _Mirror:
        """One that holds these rows, and maybe later ones; this one stays as it is for who is reading it."""
        count = len(rows)
        if rows.origin is self._origin and count <= self._count:
            return self
        base = self if rows.origin is self._origin else _Mirror(rows.origin, rows.matrix.shape[1])
        grown = _Mirror(rows.origin, rows.matrix.shape[1])
        grown._room, grown._count, grown.error = base._enough(count), count, base.error
        for start in range(base._count, count, _BLOCK):
            stop = min(start + _BLOCK, count)
            codes, scales, errors = _coded(rows.matrix[start:stop])
            grown.codes[start:stop], grown.scales[start:stop] = codes, scales
            grown.error = max(grown.error, float(errors.max()))
        return grown

    def _enough(self, count: int) -> tuple[_Codes, _Floats]:
        """Room for so many rows, with those that are there."""
        codes = self._room[0]
        if count <= len(codes):
            return self._room
        room = max(count, min(2 * len(codes), len(codes) + 2**16))
        more = np.empty((room, codes.shape[1]), dtype=np.int8), np.empty(room, dtype=np.float32)
        more[0][: self._count], more[1][: self._count] = self.codes, self.scales
        return more


def _coded(matrix: Vectors) -> tuple[_Codes, _Floats, _Floats]:
    """Rows as whole numbers from -127 to 127, what to multiply them with, and how far off that is."""
    scales = np.maximum(np.abs(matrix).max(axis=1), np.float32(1e-30)) / np.float32(127)
    whole = np.rint(matrix / scales[:, None])
    off = matrix - whole * scales[:, None]
    return whole.astype(np.int8), scales, np.sqrt(np.vecdot(off, off))


def _lowest(near: _Floats, bound: float, k: int | None, threshold: float | None) -> float:
    """What a row must come near to for it to be among the answers."""
    lowest = -np.inf if threshold is None else threshold - bound
    if k and k < len(near):
        lowest = max(lowest, float(np.partition(near, len(near) - k)[len(near) - k]) - 2 * bound)
    # Rows that may not be found are at -inf, below whatever is near a cosine; the bound is never that tight.
    return max(lowest, -2.0) - 1e-6
