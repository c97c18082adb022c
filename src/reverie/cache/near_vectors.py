"""Groups of vectors that are near one of them: all pairs compared, in bounded memory.

Groups are not chained. The oldest vector leads a group, every later one within the threshold *of it*
joins it, and so on with the oldest that is left: a row of small steps never makes one group of pictures
that have nothing in common.

Most pairs are ruled out with 64 numbers of a vector instead of all d. Let Q be d x 63 with orthonormal
columns, and split a vector into x1 = Q'x and the length r(x) of the rest, r(x)**2 = |x|**2 - |x1|**2.
By the Cauchy-Schwarz inequality::

    x.y <= x1.y1 + r(x) r(y)

whatever Q is, so what stays below the threshold on the right does so on the left. Q only decides how many
pairs are ruled out: it spans where the vectors are longest (a randomised range finder with two power
iterations; Halko, Martinsson, Tropp 2011, algorithm 4.3). The others are compared in float32. Where that
could be off by rounding, the pair's own product decides: the groups are, bit for bit, those of
`reverie.vectors.similarities`, on any number of threads.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from reverie.vectors import Vectors

__all__ = ["Leaders", "group_near", "processors"]

_SHORT = 64  # numbers of a vector that rule most pairs out
_ROWS = 1024  # leaders compared at once
_COLUMNS = 2048  # with so many others: 8 MB of products a thread, which the cache of a processor holds
_SAMPLE = 4096  # vectors that say where the others are longest
_PAIRS = 4096  # pairs whose vectors are copied at once
_PAIR_COST = 40  # a pair compared by itself takes so many times what it takes in a matrix product
_THREADS = 8

Indices = NDArray[np.intp]


class Leaders:
    """Who leads whom, as it is found.

    Args:
        matrix: ``(n, d)`` float32, rows of unit length, oldest first.
        threshold: Lowest cosine of a member and its leader, inclusive, compared in float32.

    Attributes:
        of: ``(n,)`` the leader of every row, itself for a leader; -1 while it is not known.
        cosine: ``(n,)`` float32, the cosine with the leader; 1 for a leader.
    """

    def __init__(self, matrix: Vectors, threshold: float) -> None:
        count, dimensions = matrix.shape
        self.of: Indices = np.full(count, -1, dtype=np.intp)
        self.cosine = np.ones(count, dtype=np.float32)
        self._matrix = matrix
        self._threshold = np.float32(threshold)
        self._slack = np.float32(4 * dimensions * 2.0**-24 + 1e-6)  # of summing, and of a length near 1
        self._short = _shortened(matrix) if dimensions > 2 * _SHORT else matrix

    def lead(self, rows: Indices) -> Indices:
        """Settle who leads whom among these rows, the oldest first; those that lead."""
        near = self._near(rows, rows)
        if near is not None:
            for at in np.flatnonzero(near.sum(axis=1) > 1):
                if self.of[rows[at]] < 0:
                    joining = rows[at + 1 :][near[at, at + 1 :]]
                    self._join(rows[at], joining[self.of[joining] < 0])
        leaders = rows[self.of[rows] < 0]
        self.of[leaders] = leaders
        return leaders

    def join(self, leaders: Indices, rows: Indices) -> None:
        """Let later rows without a leader join the oldest of these that is near."""
        near = self._near(leaders, rows)
        if near is None:
            return
        joining = np.flatnonzero(near.any(axis=0))
        self._join(leaders[near[:, joining].argmax(axis=0)], rows[joining])

    def _join(self, leaders: Indices | np.intp, rows: Indices) -> None:
        self.of[rows] = leaders
        self.cosine[rows] = self._cosines(leaders, rows)

    def _near(self, first: Indices, second: Indices) -> NDArray[np.bool_] | None:
        """``(len(first), len(second))`` whether two rows are near; None where none are."""
        lowest = self._threshold - self._slack
        bounds = self._short[first] @ self._short[second].T
        if not bounds.size or bounds.max() < lowest:
            return None
        near: NDArray[np.bool_] = bounds >= lowest
        at, to = np.flatnonzero(near.any(axis=1)), np.flatnonzero(near.any(axis=0))
        if np.count_nonzero(near) * _PAIR_COST > len(at) * len(to):
            products = self._matrix[first[at]] @ self._matrix[second[to]].T
            near[np.ix_(at, to)] = products >= self._threshold + self._slack
            inside, beside = np.nonzero(abs(products - self._threshold) <= self._slack)
            ones, others = at[inside], to[beside]
        else:
            ones, others = np.nonzero(near)
        for start in range(0, len(ones), _PAIRS):
            one, other = ones[start : start + _PAIRS], others[start : start + _PAIRS]
            near[one, other] = self._cosines(first[one], second[other]) >= self._threshold
        return near

    def _cosines(self, first: Indices | np.intp, second: Indices) -> NDArray[np.float32]:
        cosines: NDArray[np.float32] = np.vecdot(self._matrix[first], self._matrix[second])
        return cosines.clip(-1.0, 1.0, out=cosines)


def group_near(
    matrix: Vectors,
    threshold: float,
    *,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Leaders:
    """Who leads whom among unit vectors, the oldest leading.

    Memory on top of the matrix: 64 numbers and two more a row, and 30 MB a thread.

    Args:
        matrix: ``(n, d)`` float32, rows of unit length, oldest first; n may be 0.
        threshold: Lowest cosine of a member and its leader, inclusive, compared in float32.
        threads: That compare, each with BLAS on one thread; None takes one a processor, 8 at most.
        progress: Called now and then with how many of how many pairs are settled.
    """
    threads = threads or processors()
    pairs = len(matrix) * (len(matrix) - 1) // 2
    with threadpool_limits(limits=1, user_api="blas"), ThreadPoolExecutor(threads, "reverie-near") as pool:
        groups = Leaders(matrix, threshold)
        left: Indices = np.arange(len(matrix))
        while len(left):
            leaders, left = groups.lead(left[:_ROWS]), left[_ROWS:]
            deque(pool.map(partial(groups.join, leaders), _parts(left)), maxlen=0)  # raises what one raised
            left = left[groups.of[left] < 0]
            if progress is not None:
                progress(pairs - len(left) * (len(left) - 1) // 2, pairs)
    return groups


def processors() -> int:
    """How many processors this process may use, 8 at most."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(_THREADS, allowed)


def _parts(rows: Indices) -> Iterator[Indices]:
    return (rows[start : start + _COLUMNS] for start in range(0, len(rows), _COLUMNS))


def _shortened(matrix: Vectors) -> Vectors:
    """``(n, 64)`` float32: 63 coordinates of every row, and the length of its rest."""
    basis = _basis(matrix[:: max(1, len(matrix) // _SAMPLE)][:_SAMPLE].astype(np.float64))
    short = np.empty((len(matrix), _SHORT), dtype=np.float32)
    for start in range(0, len(matrix), _SAMPLE):
        rows = matrix[start : start + _SAMPLE].astype(np.float64)
        inner = rows @ basis
        rest = np.vecdot(rows, rows) - np.vecdot(inner, inner)
        short[start : start + _SAMPLE, :-1] = inner
        short[start : start + _SAMPLE, -1] = np.sqrt(rest.clip(0.0))
    return short


def _basis(sample: NDArray[np.float64]) -> NDArray[np.float64]:
    """``(d, 63)`` orthonormal columns about where the sample's rows are longest."""
    rng = np.random.default_rng(0)
    basis = rng.standard_normal((sample.shape[1], _SHORT - 1))
    for _ in range(2):
        basis = np.linalg.qr(sample.T @ (sample @ basis))[0]
    return basis
