"""Exact search: the true answer, whatever the rows are."""

from __future__ import annotations

import os
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reverie.search.codes import Mirror, Subspace, _coded
from reverie.search.exact import ExactSearch, _Question
from reverie.testing import SearchSuite
from reverie.testing.search_suite import clustered, expected, targets
from reverie.vectors import VectorRows, normalise, similarities


class TestExact(SearchSuite):
    def make(self) -> ExactSearch:
        return ExactSearch()


class TestExactOnManyThreads(SearchSuite):
    size = 20_000
    dimensions = 260  # in a subspace; whole rows where that does not tell them apart

    @pytest.fixture(autouse=True)
    def small_parts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Split early."""
        monkeypatch.setattr("reverie.search.exact._SPLIT_FROM", 2**20)
        monkeypatch.setattr("reverie.search.exact._HEAD_START", 2**19)

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
    elif kind == "two":  # two directions, and nothing else
        rows = rng.standard_normal((count, 2)) @ rng.standard_normal((2, dimensions))
    else:
        rows = rng.standard_normal((count, dimensions))
    return normalise(rows)


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["spikes", "axes", "near ties", "opposites", "even", "two"]),
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
    kind=st.sampled_from(["spikes", "axes", "near ties", "opposites", "even", "two"]),
    dimensions=st.sampled_from([256, 512]),
    k=st.integers(1, 40),
    seed=st.integers(0, 2**32 - 1),
)
def test_it_is_the_comparison_of_all_rows_in_a_subspace(kind, dimensions, k, seed) -> None:
    """Bit for bit, too, whether it holds the rows or nothing of them; also for rows that came later."""
    rng = np.random.default_rng(seed)
    late = VectorRows.of(range(5000), awkward(kind, 5000, dimensions, rng))
    early = replace(
        late, **{each: getattr(late, each)[:1100] for each in ("numbers", "matrix", "alive")}, count=1100
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("reverie.search.exact._SUBSPACE_FROM", (1024, 256))
        searcher = ExactSearch(threads=1)
        for rows in (early, late, late):
            target = targets(rows.matrix, 1, seed)[0]
            found = searcher.search(rows, target, k)
            true = expected(rows, target, k, None, rows.alive)
            assert found.places.tolist() == true.places.tolist()
            assert found.scores.tolist() == true.scores.tolist()
        assert searcher._inside.known(early) >= 1100


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(["spikes", "axes", "near ties", "opposites", "even", "two"]),
    dimensions=st.sampled_from([2, 17, 512, 1536]),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_bound_holds(kind, dimensions, seed) -> None:
    """No cosine is further above its estimate than the scan says; that of whole rows neither below."""
    rows = VectorRows.of(range(300), awkward(kind, 300, dimensions, np.random.default_rng(seed)))
    target = targets(rows.matrix, 1, seed)[0]
    true = similarities(rows.matrix, target)
    near, code = ExactSearch(threads=1)._scan(Mirror(object(), dimensions).followed(rows), target)
    assert np.abs(near * code.scale - true).max() <= code.bound
    if dimensions >= 256:
        inside = Mirror(object(), dimensions, Subspace(rows.matrix))
        near, code = ExactSearch(threads=1)._scan(inside.followed(rows), target)
        assert (true - near * code.scale).max() <= code.bound < 0.1


@pytest.mark.parametrize("count", [5000, 9000], ids=["whole", "in a subspace"])
def test_the_bound_is_tight_enough_to_rule_out_nearly_all(count) -> None:
    """Of thousands of rows in clusters of a hundred little more than a hundred are compared in float32."""
    rows = VectorRows.of(range(count), clustered(count, 512, 0))
    searcher = ExactSearch()
    asked = [_Question(target, 5, None, None) for target in targets(rows.matrix, 20)]
    counts = [len(searcher._candidates(rows, each)) for each in asked]
    assert max(counts) < 150
    assert (len(searcher._whole) > 0) == (count < 8192)


def test_rows_that_no_subspace_tells_apart_are_scanned_whole() -> None:
    """After one that did not pay the subspace is left out for a while, then tried again."""
    rows = VectorRows.of(range(9000), awkward("even", 9000, 300, np.random.default_rng(0)))
    searcher = ExactSearch()
    for number in range(70):
        searcher.search(rows, rows.matrix[number], 3)
    assert len(searcher._whole) == len(searcher._inside) == 9000
    assert 0 < searcher._left_out < 64


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
    before = searcher._whole
    searcher.search(whole, target, 5)
    assert searcher._whole is before
    assert len(before) == 4000


def test_rows_in_packs_stay_when_more_come() -> None:
    """What is read meanwhile does not change; packs are made of 4,096 rows, later ones join them."""
    matrix = clustered(10_000, 256, 1)
    whole = VectorRows.of(range(10_000), matrix)
    some = replace(
        whole, numbers=whole.numbers[:4500], matrix=matrix[:4500], alive=whole.alive[:4500], count=4500
    )
    few = Mirror(some.origin, 256, Subspace(matrix)).followed(some)
    codes = few._codes.copy()
    many = few.followed(whole)
    assert (len(few._packs), len(many._packs)) == (1, 2)
    assert many._packs[0] is few._packs[0]
    assert np.array_equal(few._codes[: 4500 - 4096], codes[: 4500 - 4096])
    assert many.followed(some) is many
    at_once = Mirror(whole.origin, 256, few.subspace).followed(whole)
    scanned = [ExactSearch(threads=1)._scan(each, matrix[7])[0] for each in (many, at_once)]
    assert np.allclose(scanned[0], scanned[1], rtol=1e-6, atol=1e-2)


def test_rows_behind_the_last_whole_pack_are_packed_too() -> None:
    """In packs of 2,048, 1,024 and 512; however they came, they are scanned as if they had come at once."""
    matrix = clustered(6000, 256, 1)
    whole = VectorRows.of(range(6000), matrix)
    subspace = Subspace(matrix)
    grown = Mirror(whole.origin, 256, subspace)
    packs = {
        300: (0, 0),
        600: (0, 1),
        640: (0, 1),
        1500: (0, 1),
        1600: (0, 2),
        4000: (0, 3),
        4097: (1, 0),
        6000: (1, 2),
    }
    for count, made in packs.items():
        some = replace(
            whole,
            numbers=whole.numbers[:count],
            matrix=matrix[:count],
            alive=whole.alive[:count],
            count=count,
        )
        grown = grown.followed(some)
        assert (len(grown._packs), len(grown._tail)) == made
        at_once = Mirror(whole.origin, 256, subspace).followed(some)
        ours, theirs = (ExactSearch(threads=1)._scan(each, matrix[7])[0] for each in (grown, at_once))
        assert np.allclose(ours, theirs, rtol=1e-6, atol=1e-2)
        assert np.argmax(ours) == 7


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
        assert len(searcher._whole) == bytes_there
    grown = VectorRows.of(range(4000), clustered(4000, 48, 1))
    searcher.search(replace(grown, origin=rows.origin), rows.matrix[5], 4)
    assert len(searcher._whole) == 4000
    for each in answers[1:]:
        assert each.places.tolist() == answers[0].places.tolist()
        assert each.scores.tobytes() == answers[0].scores.tobytes()
