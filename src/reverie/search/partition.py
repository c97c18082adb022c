"""Dividing vectors into lists of near ones: spherical k-means (Dhillon and Modha 2001) on bytes.

Centroids are kept as whole numbers like the vectors, so that comparing them reads a quarter of the memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from reverie.search.codes import Codes, Packed, coded, inverse_lengths
from reverie.vectors import normalise

__all__ = ["Centroids", "divided", "halves", "middle"]

_Floats: TypeAlias = NDArray[np.float32]

_ROUNDS = 6  # after which hardly any vector changes its list
_HALVING = 4  # rounds for two lists
_BLOCK = 1024  # vectors that are assigned between two looks at whether to stop


class Centroids(NamedTuple):
    """The middles of lists.

    Attributes:
        codes: ``(l, d)``.
        inverse: ``(l,)`` one over the length of each.
        packed: The codes as many vectors are multiplied with them.
    """

    codes: Codes
    inverse: _Floats
    packed: Packed

    @classmethod
    def of(cls, codes: Codes) -> Self:
        """Of middles in whole numbers."""
        return cls(codes, inverse_lengths(codes), Packed(codes))

    def near(self, codes: Codes) -> _Floats:
        """``(n, l)``: the cosines of vectors ``(n, d)`` with all, each row times the length of its codes."""
        products: _Floats = self.packed.products(codes)
        products *= self.inverse
        return products

    def nearest(self, codes: Codes) -> NDArray[np.intp]:
        """``(n,)``: to which list each of the vectors ``(n, d)`` belongs."""
        found: NDArray[np.intp] = self.near(codes).argmax(axis=1)
        return found


def divided(sample: Codes, count: int, stopping: Callable[[], bool]) -> Centroids:
    """The middles of some lists that some vectors fall into.

    Args:
        sample: ``(n, d)`` in any order, ``n`` at least ``count``.
        count: How many lists.
        stopping: Whether to leave it at any middles.
    """
    rng = np.random.default_rng(0)
    inverse = inverse_lengths(sample)
    centroids = Centroids.of(sample[rng.choice(len(sample), count, replace=False)])
    for _ in range(_ROUNDS):
        which = np.zeros(len(sample), dtype=np.intp)
        for start in range(0, len(sample), _BLOCK):
            if stopping():
                return centroids
            which[start : start + _BLOCK] = centroids.nearest(sample[start : start + _BLOCK])
        order, ends = _lists(which, count)
        middles = np.empty_like(centroids.codes)
        start = 0
        for at, end in enumerate(ends):
            one = order[start:end] if end > start else rng.integers(len(sample), size=1)  # begins anew
            middles[at] = middle(sample[one], inverse[one])
            start = end
        centroids = Centroids.of(middles)
    return centroids


def _lists(which: NDArray[np.intp], count: int) -> tuple[NDArray[np.intp], list[int]]:
    """Vectors in the order of their lists, and where each list ends among them."""
    order = np.argsort(which, kind="stable")
    return order, np.searchsorted(which[order], np.arange(count), side="right").tolist()


def middle(codes: Codes, inverse: _Floats) -> Codes:
    """``(d,)``: the middle of vectors ``(n, d)``."""
    total: _Floats = np.matmul(inverse, codes.astype(np.float32))
    found: Codes = coded(total[None])
    return found.reshape(-1)


def halves(codes: Codes) -> NDArray[np.bool_]:
    """Whether each of at least two vectors ``(n, d)`` goes into the first of two lists; both get some."""
    vectors = normalise(codes.astype(np.float32))
    first, second = vectors[0], vectors[int(np.vecdot(vectors, vectors[0]).argmin())]
    mine = np.zeros(len(vectors), dtype=np.bool_)
    for _ in range(_HALVING):
        mine = np.vecdot(vectors, first - second) > 0
        if mine.all() or not mine.any():  # all alike: any half is as good
            return np.arange(len(vectors)) < len(vectors) // 2
        first, second = (_unit(vectors[each].sum(axis=0)) for each in (mine, ~mine))
    return mine


def _unit(vector: _Floats) -> _Floats:
    return vector / np.float32(max(math.sqrt(np.vecdot(vector, vector)), 1e-30))
