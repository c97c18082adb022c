"""Exact search while it is fast enough, approximate search beyond."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reverie import registry
from reverie.protocols import Found, PreparingSearcher, Searcher
from reverie.vectors import VectorRows

__all__ = ["AutomaticSearch"]

_ABOVE = 100_000  # living rows that exact search compares in some two milliseconds
_BACK = 0.8  # of them: where entries come and go at the limit, nothing changes


class AutomaticSearch:
    """Searches exactly or approximately, by how many rows there are (``auto``).

    Approximate search answers once it has taken the rows in; until then exact search does.

    Args:
        folder: Where the approximate search keeps its files; None: in memory only.
        above: Most living rows that are searched exactly.

    Attributes:
        in_use: The name of the search that answered last, ``exact`` or ``ivf``.
        reason: Why that one, in a sentence.
    """

    name = "auto"
    exact = False

    def __init__(self, *, folder: Path | None = None, above: int = _ABOVE) -> None:
        self._folder = folder
        self._above = above
        self._lock = threading.Lock()
        self._exact: Searcher | None = None
        self._approximate: PreparingSearcher | None = None
        self._many = False
        self.in_use = "exact"
        self.reason = "nothing was searched yet"

    def search(
        self,
        rows: VectorRows,
        target: NDArray[np.float32],
        k: int | None,
        *,
        threshold: float | None = None,
        among: NDArray[np.bool_] | None = None,
    ) -> Found:
        """The rows most like a vector; see `Searcher.search`."""
        return self._chosen(rows).search(rows, target, k, threshold=threshold, among=among)

    def close(self) -> None:
        """Close the searches it made; a later search makes them anew."""
        with self._lock:
            made, self._exact, self._approximate = (self._exact, self._approximate), None, None
        for searcher in made:
            if searcher is not None:
                searcher.close()

    def _chosen(self, rows: VectorRows) -> Searcher:
        with self._lock:
            self._many = rows.count > (self._above * _BACK if self._many else self._above)
            count = f"{rows.count:,} vectors"
            approximate = self._prepared() if self._many else None
            if approximate is None:
                self.reason = f"{count}: approximate search begins above {self._above:,}"
            elif approximate.prepare(rows):
                self.in_use, self._exact = approximate.name, None
                self.reason = f"{count}: more than {self._above:,}"
                return approximate
            else:
                self.reason = f"{count}: approximate search is being made ready"
            if self._exact is None:
                self._exact = registry.create("searchers", "exact", folder=self._folder)
            self.in_use = self._exact.name
            return self._exact

    def _prepared(self) -> PreparingSearcher:
        """The approximate search."""
        if self._approximate is None:
            self._approximate = registry.create("searchers", "ivf", folder=self._folder)
        return self._approximate
