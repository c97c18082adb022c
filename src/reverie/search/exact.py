"""Exact search: always the true answer, at a quarter of the memory traffic of a float32 product, or far less.

Every row is kept a second time in one byte a number (`reverie.search.codes`), of many rows only what they are
in a subspace. A scan of those bytes says what each cosine may be at most; the rows that come out highest are
compared in float32, and then all that may reach what the ``k``-th of these reaches. So the answer is, bit for
bit, that of comparing all rows in float32.

Where the subspace does not tell rows apart (they differ in all directions alike), whole rows are scanned.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from reverie.protocols import Found
from reverie.search.codes import Mirror, Subspace, Target
from reverie.vectors import VectorRows, similarities, top_k

__all__ = ["ExactSearch"]

_Floats: TypeAlias = NDArray[np.float32]

_SCAN_FROM = 1024  # rows: below, comparing in float32 is as fast
_SUBSPACE_FROM = 8192, 256  # rows and dimensions: below, whole rows are read as fast
_SPLIT_FROM = 2**22  # bytes: from here on a second thread pays
_HEAD_START = 2**20  # bytes that the caller's thread scans while the others wake
_FEW = 8  # where fewer than one row in so many may be found, they are compared at once
_MANY = 16_384  # rows: more are turned into bytes at their second search, which takes as long as five
_TELLS_APART = (
    16  # the subspace leaves fewer than one row in so many to be compared, or whole rows are scanned
)
_LEFT_OUT = 64  # searches without the subspace after it did not tell rows apart
_PART = 4096  # a thread's part begins at a multiple of so many rows
_GROUP = 16  # cosines of which the highest is taken before the k highest are looked for
_THREADS = 4  # reading memory is what takes the time: more threads read it no faster


class _Question(NamedTuple):
    """What `ExactSearch.search` is asked; ``keep``: whether each row may be found, None: any may."""

    target: _Floats
    k: int | None
    threshold: float | None
    keep: NDArray[np.bool_] | None


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
        self._whole = Mirror(object(), 0)
        self._inside = Mirror(object(), 0)  # in a subspace
        self._fitted = 0  # rows that the subspace was made for
        self._left_out = 0  # searches that go without it
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
        places = self._candidates(rows, _Question(target, k, threshold, rows.findable(among)))
        scores = similarities(rows.matrix, target, places)
        order = top_k(scores, threshold, k)
        return Found(order if places is None else places[order], scores[order])

    def _candidates(self, rows: VectorRows, asked: _Question) -> NDArray[np.intp] | None:
        """Rows of which the answer is a part; None: all of them."""
        places = None if asked.keep is None else np.flatnonzero(asked.keep)
        if len(rows) < _SCAN_FROM or (asked.k is None and asked.threshold is None):
            return places
        if places is not None and len(places) * _FEW < len(rows):
            return places
        if not self._worthwhile(rows):
            return places
        inside = self._in_subspace(rows)
        if inside is not None:
            near = self._may_be(inside, rows, asked)
            if len(near) * _TELLS_APART < len(rows):
                return near
            self._left_out = _LEFT_OUT
        with self._lock:
            self._whole = whole = self._whole.followed(rows)
        return self._may_be(whole, rows, asked)

    def _worthwhile(self, rows: VectorRows) -> bool:
        """Not of many rows that are searched for the first time, and maybe the last."""
        with self._lock:
            known = max(self._whole.known(rows), self._inside.known(rows))
            new = self._asked is not rows.origin and len(rows) - known > _MANY
            self._asked = rows.origin
            return not new

    def _in_subspace(self, rows: VectorRows) -> Mirror | None:
        """The rows in a subspace; None where that is not quicker."""
        fewest, narrowest = _SUBSPACE_FROM
        if len(rows) < fewest or rows.matrix.shape[1] < narrowest:
            return None
        with self._lock:
            if self._left_out:
                self._left_out -= 1
                if not self._left_out and len(rows) >= 2 * self._fitted:
                    self._fitted = 0  # many rows are new since: there may be a better one
                return None
            known = self._inside.known(rows)
            if not known or not self._fitted:
                self._inside = Mirror(rows.origin, rows.matrix.shape[1], Subspace(rows.matrix))
                self._fitted = len(rows)
            self._inside = self._inside.followed(rows)
            return self._inside

    def _may_be(self, mirror: Mirror, rows: VectorRows, asked: _Question) -> NDArray[np.intp]:
        """The rows that may be among the answers, going by their bytes."""
        near, target = self._scan(mirror, asked.target)
        near = near[: len(rows)]
        if asked.keep is not None:
            np.copyto(near, -np.inf, where=~asked.keep)
        lowest, k = -np.inf if asked.threshold is None else asked.threshold, asked.k
        if k and k < len(near):
            best = np.flatnonzero(near >= max(_reached(near, k), -2 / target.scale))[: 4 * k]
            if len(best) >= k:
                scores = similarities(rows.matrix, asked.target, best)
                lowest = max(lowest, float(np.partition(scores, len(scores) - k)[len(scores) - k]))
        # Rows that may not be found are at -inf, below whatever is near a cosine: no bound reaches so far.
        return np.flatnonzero(near >= (max(lowest - target.bound, -2.0) - 1e-6) / target.scale)

    def _scan(self, mirror: Mirror, vector: _Floats) -> tuple[_Floats, Target]:
        """What the cosines of all rows are about, divided by the scale of the target."""
        target = mirror.target(vector)
        near = np.empty(len(mirror), dtype=np.float32)
        parts = self._parts(len(mirror), mirror.width)
        if len(parts) == 1:
            mirror.scan(target, near, parts[0])
        else:
            waiting = [self._workers().submit(mirror.scan, target, near, part) for part in parts[1:]]
            mirror.scan(target, near, parts[0])
            for each in waiting:
                each.result()
        return near, target

    def _parts(self, count: int, width: int) -> list[slice]:
        if count * width < _SPLIT_FROM or self._threads == 1:
            return [slice(0, count)]
        blocks = count // _PART
        size = max(0, count - _HEAD_START // width) // self._threads // _PART
        own = blocks - size * (self._threads - 1)
        starts = [0, *(at * _PART for at in range(own, blocks, size or blocks))]
        return [slice(start, stop) for start, stop in zip(starts, [*starts[1:], count], strict=True)]

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


def _reached(near: _Floats, k: int) -> float:
    """What ``k`` rows at least reach: their ``k``-th highest, or a little less where many are asked.

    The highest of each group are compared first: that many rows reach what the ``k``-th of them reaches.
    """
    while len(near) > _GROUP * max(64 * k, 256):
        count = len(near) // _GROUP
        near = near[: count * _GROUP].reshape(_GROUP, count).max(axis=0)
    return float(np.partition(near, len(near) - k)[len(near) - k])
