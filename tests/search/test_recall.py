"""How much of the true answer a search finds, measured."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from reverie.protocols import Found
from reverie.search.exact import ExactSearch
from reverie.search.recall import recall
from reverie.testing.search_suite import clustered
from reverie.vectors import VectorRows

ROWS = VectorRows.of(range(2000), clustered(2000, 32, 3))


class Misses(ExactSearch):
    """Leaves out the best of every answer."""

    def search(self, rows, target, k, *, threshold=None, among=None):
        found = super().search(rows, target, k + 1, threshold=threshold, among=among)
        return Found(found.places[1:], found.scores[1:])


def test_an_exact_search_finds_all() -> None:
    """Also where rows are gone, and rows that are equal count whichever is found."""
    assert recall(ExactSearch(), ROWS) == 1.0
    alive = ROWS.alive.copy()
    alive[::3] = False
    assert recall(ExactSearch(), replace(ROWS, alive=alive, count=int(alive.sum()))) == 1.0
    same = VectorRows.of(range(300), np.repeat(clustered(3, 32, 1), 100, axis=0))
    assert recall(ExactSearch(), same) == 1.0


@pytest.mark.parametrize("k", [1, 5, 20])
def test_what_is_missed_is_counted(k: int) -> None:
    """One of ``k``, for every vector that was tried."""
    assert recall(Misses(), ROWS, k=k, sample=50) == pytest.approx(1 - 1 / k)


def test_nothing_to_find_is_found() -> None:
    """No rows, or none asked for."""
    empty = VectorRows.of((), np.empty((0, 8), dtype=np.float32))
    assert recall(ExactSearch(), empty) == recall(ExactSearch(), ROWS, sample=0) == 1.0
