"""Groups of near vectors: those of comparing every pair, never chained, on any number of threads."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from reverie.cache import near_vectors
from reverie.cache.near_vectors import group_near
from reverie.vectors import similarities

Vectors = NDArray[np.float32]


def plainly(matrix: Vectors, threshold: float) -> tuple[list[int], list[float]]:
    """Leader and cosine of every row, one comparison after the other."""
    of, cosine = [-1] * len(matrix), [1.0] * len(matrix)
    for row in range(len(matrix)):
        if of[row] < 0:
            of[row] = row
            scores = similarities(matrix, matrix[row])
            for later in np.flatnonzero(scores >= np.float32(threshold)).tolist():
                if later > row and of[later] < 0:
                    of[later], cosine[later] = row, float(scores[later])
    return of, cosine


def clustered(count: int, dimensions: int, spread: float) -> Vectors:
    """Unit vectors around a tenth as many centres, in mixed order, a twentieth of them exact copies."""
    rng = np.random.default_rng(7)
    centres = rng.standard_normal((max(1, count // 10), dimensions))
    rows = centres[rng.integers(len(centres), size=count)]
    rows += spread * rng.uniform(0, 1, (count, 1)) * rng.standard_normal(rows.shape)
    originals, copies = rng.choice(count, (2, count // 20), replace=False)
    rows[copies] = rows[originals]
    unit: Vectors = (rows / np.linalg.norm(rows, axis=1)[:, None]).astype(np.float32)
    return unit


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("threshold", [-1.0, 0.3, 0.9, 0.999, 1.0])
@pytest.mark.parametrize("dimensions", [3, 64, 200])
def test_groups_are_those_of_comparing_every_pair(
    dimensions: int, threshold: float, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Leaders and cosines bit for bit, across many blocks, with and without shortened vectors."""
    monkeypatch.setattr(near_vectors, "_ROWS", 50)
    monkeypatch.setattr(near_vectors, "_COLUMNS", 70)
    matrix = clustered(400, dimensions, 0.6)
    found = group_near(matrix, threshold, threads=threads)
    of, cosine = plainly(matrix, threshold)
    assert found.of.tolist() == of
    assert found.cosine.tolist() == cosine


@pytest.mark.parametrize("cost", [0, 10**9])
def test_both_ways_to_compare_give_the_same(cost: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pair by pair or as one product: the groups do not depend on what is faster."""
    monkeypatch.setattr(near_vectors, "_PAIR_COST", cost)
    matrix = clustered(300, 200, 0.4)
    assert group_near(matrix, 0.95).of.tolist() == plainly(matrix, 0.95)[0]


def test_groups_are_not_chained() -> None:
    """A row of small steps: each member is near the oldest, so the far end is a group of its own."""
    angles = np.radians([0, 10, 20, 30, 40])
    matrix = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    found = group_near(matrix, np.cos(np.radians(15)))
    assert found.of.tolist() == [0, 0, 2, 2, 4]


def test_a_member_of_two_groups_joins_the_older() -> None:
    """The oldest leader that is near wins, not the nearest."""
    angles = np.radians([0, 18, 10])
    matrix = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    assert group_near(matrix, np.cos(np.radians(12))).of.tolist() == [0, 1, 0]


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_to_compare(count: int) -> None:
    """No vectors and one vector make no pairs."""
    found = group_near(np.ones((count, 1), dtype=np.float32), 0.5)
    assert found.of.tolist() == list(range(count))


def test_progress_counts_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """It grows to all pairs; rows that found their leader need not be compared any more."""
    monkeypatch.setattr(near_vectors, "_ROWS", 10)
    told: list[tuple[int, int]] = []
    matrix = np.eye(25, 200, dtype=np.float32)
    matrix[12:] = matrix[0]
    group_near(matrix, 0.9, progress=lambda done, total: told.append((done, total)))
    assert told == [(300 - 1, 300), (300, 300)]
