"""Exact search: the true answer, whatever the rows are."""

from __future__ import annotations

import os
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reverie.search.exact import ExactSearch, _coded
from reverie.testing import SearchSuite
from reverie.testing.search_suite import clustered, expected, targets
from reverie.vectors import VectorRows, normalise, similarities


class TestExact(SearchSuite):
    def make(self) -> ExactSearch:
        return ExactSearch()


class TestExactOnManyThreads(SearchSuite):
    size = 9000
    dimensions = 40

    def make(self) -> ExactSearch:
        return ExactSearch(threads=3)


def awkward(kind: str, count: int, dimensions: int, rng: np.random.Generator):
    """Rows that are hard to put into one byte a number, or hard to tell apart."""
    if kind == "spikes":  # one large number, all others below a code's step
        rows = 1e-3 * rng.standard_normal((count, dimensions))
        rows[np.arange(count), rng.integers(dimensions, size=count)] += 1
    elif kind == "axes":
        rows = np.zeros((count, dimensions))
        rows[np.arange(count), rng.integers(dimensions, size=count)] = rng.choice([-1.0, 1.0], count)
    elif kind == "near ties":
        rows = np.ones((count, dimensions)) + 1e-4 * rng.standard_normal((count, dimensions))
    elif kind == "opposites":
        rows = np.repeat(rng.standard_normal((1, dimensions)), count, axis=0)
        rows[::2] *= -1
    else:
        rows = rng.standard_normal((count, dimensions))
    return normalise(rows)


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["spikes", "axes", "near ties", "opposites", "even"]),
    count=st.integers(1024, 1500),
    dimensions=st.sampled_from([2, 3, 17, 64, 512, 1536]),
    k=st.one_of(st.none(), st.integers(0, 40)),
    threshold=st.one_of(st.none(), st.floats(-1, 1)),
    seed=st.integers(0, 2**32 - 1),
)
def test_it_is_the_comparison_of_all_rows(*, kind, count, dimensions, k, threshold, seed) -> None:
    """Bit for bit the answer of a float32 product, ties included, for rows of every kind."""
    rng = np.random.default_rng(seed)
    rows = VectorRows.of(range(count), awkward(kind, count, dimensions, rng))
    target = targets(rows.matrix, 1, seed)[0]
    found = ExactSearch(threads=1).search(rows, target, k, threshold=threshold)
    true = expected(rows, target, k, threshold, rows.alive)
    assert found.places.tolist() == true.places.tolist()
    assert found.scores.tolist() == true.scores.tolist()


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(["spikes", "axes", "near ties", "opposites", "even"]),
    dimensions=st.sampled_from([2, 17, 512, 1536]),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_bound_holds(kind, dimensions, seed) -> None:
    """No cosine is further from its estimate than the scan says."""
    rows = VectorRows.of(range(300), awkward(kind, 300, dimensions, np.random.default_rng(seed)))
    searcher = ExactSearch(threads=1)
    target = targets(rows.matrix, 1, seed)[0]
    near, bound = searcher._scan(searcher._mirror.followed(rows), target)
    assert np.abs(near - similarities(rows.matrix, target)).max() <= bound


def test_the_bound_is_tight_enough_to_rule_out_nearly_all() -> None:
    """Of 5,000 rows in clusters some hundred are compared in float32, not thousands."""
    rows = VectorRows.of(range(5000), clustered(5000, 512, 0))
    searcher = ExactSearch()
    counts = [len(searcher._candidates(rows, target, 5, None, None)) for target in targets(rows.matrix, 20)]
    assert max(counts) < 150


def test_a_code_is_the_nearest_whole_number() -> None:
    """Codes go from -127 to 127, the largest number of a row is exactly one of them."""
    rows = normalise(np.random.default_rng(0).standard_normal((50, 33)))
    codes, scales, errors = _coded(rows)
    assert codes.dtype == np.int8
    assert np.abs(codes).max(axis=1).tolist() == [127] * 50
    assert np.abs(codes * scales[:, None] - rows).max() <= scales.max() / 2 * 1.001
    assert np.allclose(errors, np.linalg.norm(codes * scales[:, None] - rows, axis=1), atol=1e-6)


def test_what_was_turned_into_bytes_is_not_done_again() -> None:
    """A thousand rows more cost a thousand rows; an older snapshot costs nothing."""
    matrix = clustered(4000, 64, 1)
    whole = VectorRows.of(range(4000), matrix)
    searcher = ExactSearch()
    target = targets(matrix, 1)[0]
    searcher.search(whole, target, 5)
    before = searcher._mirror
    searcher.search(whole, target, 5)
    assert searcher._mirror is before
    assert len(before) == 4000


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
def test_a_fork_searches_with_threads_of_its_own() -> None:
    """The child has none of its parent's threads and does not wait for them."""
    rows = VectorRows.of(range(9000), clustered(9000, 32, 2))
    searcher = ExactSearch(threads=2)
    target = targets(rows.matrix, 1)[0]
    here = searcher.search(rows, target, 5).places.tolist()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            found = searcher.search(rows, target, 5).places.tolist()
            os.write(writer, b"same" if found == here else b"other")
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        assert answer.read() == b"same"
    assert os.waitpid(pid, 0)[1] == 0


def test_many_rows_are_turned_into_bytes_at_their_second_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that searches once does not wait for what only a second search would be faster by."""
    monkeypatch.setattr("reverie.search.exact._MANY", 2000)
    rows = VectorRows.of(range(3000), clustered(3000, 48, 1))
    searcher = ExactSearch()
    answers = []
    for bytes_there in (0, 3000, 3000):
        answers.append(searcher.search(rows, rows.matrix[5], 4))
        assert len(searcher._mirror) == bytes_there
    grown = VectorRows.of(range(4000), clustered(4000, 48, 1))
    searcher.search(replace(grown, origin=rows.origin), rows.matrix[5], 4)
    assert len(searcher._mirror) == 4000
    for each in answers[1:]:
        assert each.places.tolist() == answers[0].places.tolist()
        assert each.scores.tobytes() == answers[0].scores.tobytes()
