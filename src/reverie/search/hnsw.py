"""Approximate search in a graph of near neighbours (HNSW, Malkov and Yashunin 2018), by usearch.

usearch lets no search in while it adds, so a graph that is searched grows by one at a time. It can mark
nodes as removed, but their memory and the steps through them stay (unum-cloud/USearch#726, #355): they are
passed over.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np

from reverie.search.approximate import ApproximateSearch, Keys
from reverie.search.codes import Codes
from reverie.search.graph_library import Index

__all__ = ["HnswSearch"]

_MADE: Final[dict[str, Any]] = {
    "metric": "cos",
    "dtype": "i8",
    "connectivity": 16,
    "expansion_add": 96,
}
_EXPANSION = 48, 16  # nodes looked at in a search of 100,000, and more for each ten times as many
_STEP = 16  # rows are compared in the time of a step through the graph


class HnswSearch(ApproximateSearch):
    """Finds rows in a graph (``hnsw``): nearly always the true answer, in a time that hardly grows."""

    name = "hnsw"
    made: ClassVar[dict[str, Any]] = {"format": 1, **_MADE}

    def new(self, dimensions: int) -> _Graph:
        """An empty graph."""
        return _Graph(Index(ndim=dimensions, expansion_search=_EXPANSION[0], **_MADE), self._threads)


class _Graph:
    """A graph of usearch as `ApproximateSearch` uses it."""

    outgrown = False

    def __init__(self, index: Index, threads: int) -> None:
        self._index = index
        self._threads = threads

    @property
    def keys(self) -> Keys:
        return np.asarray(self._index.keys[:], dtype=np.uint64)

    def begin(self, sample: Codes, count: int) -> None:
        """A graph needs to know nothing beforehand."""

    def take(self, keys: Keys, codes: Codes) -> None:
        self._index.add(keys, codes, threads=self._threads)

    def settle(self) -> None:
        """It is ready at any time."""

    def grow(self, keys: Keys, codes: Codes) -> None:
        for key, code in zip(keys, codes, strict=True):
            self._index.add(key, code, threads=1)

    def nearest(self, code: Codes, k: int, share: float, wider: int) -> tuple[Keys, bool] | None:
        count = len(self._index)
        fetch = int(wider * max(_expansion(count), 2 * k) / share)
        if fetch * _STEP > count * share:
            return None
        keys = self._index.search(code, fetch, threads=1).keys
        return keys, len(keys) < fetch

    def get(self, keys: Keys) -> Codes:
        held: Any = self._index.get(keys)
        return np.asarray(held)

    def copy(self) -> _Graph:
        return _Graph(self._index.copy(), self._threads)

    def save(self, path: Path) -> object:
        return self._index.save(path)

    def view(self, path: Path) -> object:
        return self._index.view(path)


def _expansion(nodes: int) -> int:
    """Nodes looked at for an answer: the more there are, the more for the same recall."""
    least, more = _EXPANSION
    return least + int(more * max(0.0, math.log10(max(nodes, 1) / 100_000)))
