"""Lists of near vectors: how many are read is measured, long ones are divided, growing disturbs nobody."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from reverie.search import ivf
from reverie.search.codes import coded, inverse_lengths
from reverie.search.ivf import IvfSearch
from reverie.search.partition import Centroids, divided, halves, middle
from reverie.search.recall import recall
from reverie.testing.search_suite import clustered, first
from reverie.vectors import VectorRows, Vectors, normalise

KEYS = np.arange(20_000, dtype=np.uint64)


def rows_of(matrix: Vectors) -> VectorRows:
    return VectorRows.of(range(len(matrix)), matrix, "e")


def ready(rows: VectorRows, folder: Path | None = None) -> IvfSearch:
    searcher = IvfSearch(folder=folder, tail=100)
    searcher.prepare(rows)
    searcher.wait()
    return searcher


def lists(searcher: IvfSearch) -> list[int]:
    """How long they are."""
    return [each.count for each in searcher._known.index._state.lists]


def scattered(count: int, dimensions: int = 64) -> Vectors:
    """Vectors in no clusters, in some directions more than in others, as those of pictures."""
    rng = np.random.default_rng(0)
    return normalise(rng.standard_normal((count, dimensions)) / np.arange(1, dimensions + 1) ** 0.7)


def test_few_lists_are_read_where_vectors_lie_in_clusters() -> None:
    """And more where they do not: the recall is much the same."""
    read = []
    for matrix in (clustered(8000, 64, 0), scattered(8000)):
        rows = rows_of(matrix)
        searcher = ready(rows)
        read.append(searcher._known.index._read)
        assert recall(searcher, rows) >= 0.97
        assert sum(lists(searcher)) == 8000
    assert 4 <= read[0] < read[1] <= len(lists(searcher)) / 8


def test_the_same_picture_for_hours_makes_no_long_list() -> None:
    """Its list is divided whenever it is too long, though its vectors are alike; all of them are found."""
    matrix = np.concatenate([clustered(3000, 32, 0), np.repeat(clustered(1, 32, 7), 3000, axis=0)])
    rows = rows_of(matrix)
    searcher = ready(first(rows, 3100))
    before = len(lists(searcher))
    searcher.prepare(rows)
    searcher.wait()
    longest = searcher._known.index._longest
    assert len(lists(searcher)) > before
    assert max(lists(searcher)) <= longest
    assert sum(lists(searcher)) >= 5900
    found = searcher.search(rows, matrix[-1], 50)
    assert (found.places >= 3000).all()


def test_lists_are_made_anew_when_they_hold_twice_what_they_were_made_for() -> None:
    """What has come may be unlike what there was."""
    rows = rows_of(np.concatenate([clustered(1500, 32, 0), clustered(6000, 32, 1)]))
    searcher = ready(first(rows, 1500))
    index = searcher._known.index
    searcher.prepare(first(rows, 2900))
    searcher.wait()
    assert searcher._known.index is index
    searcher.prepare(rows)
    searcher.wait()
    assert searcher._known.index is not index
    assert searcher._known.index._planned >= 3000
    assert recall(searcher, rows) >= 0.99


def test_what_was_stopped_is_measured_later(tmp_path: Path) -> None:
    """Until then many lists are read; a stop while the middles are sought leaves nothing behind."""
    index = IvfSearch().new(16)
    codes = coded(clustered(4000, 16, 3))
    index.begin(codes, 8000)
    index._stopping = lambda: True
    index.take(KEYS[:4000], codes)
    index.settle()
    assert index._read == len(index._state.lists) / 8
    index._stopping = lambda: False
    index.grow(KEYS[4000:4300], coded(clustered(300, 16, 4)))
    assert index._read < len(index._state.lists) / 8
    stopped = IvfSearch(folder=tmp_path, tail=100)
    stopped._stopping = True
    stopped._build(stopped._open(rows_of(clustered(3000, 16, 3))), rows_of(clustered(3000, 16, 3)))
    assert list(tmp_path.iterdir()) == []


def test_a_search_that_reads_a_list_is_not_disturbed() -> None:
    """What a reader holds has the same vectors, however the list grows and divides."""
    index = IvfSearch().new(32)
    codes = coded(clustered(2000, 32, 0))
    index.begin(codes, 2000)
    index.take(KEYS[:2000], codes)
    index.settle()
    held = list(index._state.lists)
    before = [[part.copy() for part in each.used] for each in held]
    more = coded(np.repeat(clustered(1, 32, 5), 1000, axis=0))
    for start in range(0, 1000, 50):
        index.grow(KEYS[2000 + start : 2050 + start], more[start : start + 50])
    assert len(index._state.lists) > len(held)
    for each, parts in zip(held, before, strict=True):
        for now, then in zip(each.used, parts, strict=True):
            assert np.array_equal(now, then)
    assert np.array_equal(np.sort(index.keys), KEYS[:3000])


def test_a_file_is_searched_where_it_lies(tmp_path: Path) -> None:
    """Its bytes are mapped; a list that grows is the only one that is copied, and the file stays as it is."""
    matrix = clustered(3000, 32, 0)
    ready(rows_of(matrix), tmp_path).close()
    path = next(tmp_path.glob("*.ivf"))
    before = path.read_bytes()
    searcher = IvfSearch(folder=tmp_path, tail=100)
    more = np.concatenate([matrix, np.repeat(matrix[:1], 150, axis=0)])
    assert not searcher.prepare(rows_of(more))
    searcher.wait()
    mapped = [not each.codes.flags.owndata for each in searcher._known.index._state.lists]
    assert 0.5 < np.mean(mapped) < 1
    assert path.read_bytes() == before
    assert sum(lists(searcher)) == 3150


def test_lists_say_what_is_in_them() -> None:
    """Keys have the codes they came with, wherever those are by now."""
    index = IvfSearch().new(32)
    codes = coded(clustered(3000, 32, 0))
    index.begin(codes, 3000)
    for start in range(0, 3000, 700):
        index.take(KEYS[start : min(3000, start + 700)], codes[start : start + 700])
    wanted = np.array([2999, 0, 17, 1234], dtype=np.uint64)
    assert np.array_equal(index.get(wanted), codes[wanted.astype(int)])


def test_a_filter_reads_more_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many more as fewer rows may be found; where that is most of them, all are compared."""
    rows = rows_of(clustered(12_000, 32, 0))
    index = ready(rows)._known.index
    code = coded(rows.matrix[:1])
    read: list[int] = []
    scanned = ivf._scanned
    monkeypatch.setattr(ivf, "_scanned", lambda *given: read.append(len(given[1])) or scanned(*given))
    few, _ = index.nearest(code, 5, 1.0, 1)
    more, _ = index.nearest(code, 5, 0.5, 1)
    assert (len(few), len(more)) == (36, 72)
    assert read == [4, 8]
    assert index.nearest(code, 5, 0.02, 1) is None


@pytest.mark.parametrize("count", [1, 2, 3, 40])
def test_any_number_of_lists(count: int) -> None:
    """Each middle is near the vectors that are nearest to it, and no list gets lost."""
    codes = coded(clustered(200, 16, 0))
    middles = divided(codes, count, lambda: False)
    which = middles.nearest(codes)
    assert middles.codes.shape == (count, 16)
    cosines = (codes.astype(float) @ middles.codes.T.astype(float)) * middles.inverse
    assert np.array_equal(cosines[np.arange(200), which], cosines.max(axis=1))


def test_rounds_bring_middles_nearer() -> None:
    """Vectors are nearer to their middles than to vectors drawn at random."""
    matrix = clustered(3000, 32, 0)
    codes = coded(matrix)
    drawn = Centroids.of(codes[np.random.default_rng(0).choice(3000, 64, replace=False)])
    found = divided(codes, 64, lambda: False)
    assert found.near(codes).max(axis=1).mean() > 1.05 * drawn.near(codes).max(axis=1).mean()


def test_halves_of_two_clusters_are_the_clusters() -> None:
    """And of vectors that are all alike, two halves."""
    two = normalise(np.repeat(np.eye(2, 16), 30, axis=0) + 0.05 * clustered(60, 16, 0))
    first_half = halves(coded(two))
    assert sorted([first_half[:30].mean(), first_half[30:].mean()]) == [0, 1]
    assert halves(np.full((7, 16), 5, dtype=np.int8)).sum() == 3


def test_a_middle_does_not_depend_on_lengths() -> None:
    """The codes of a vector with one large number are short; it counts as much as any other."""
    codes = np.array([[127, 0, 0, 0], [90, 90, 90, 90]], dtype=np.int8)
    expected = coded(normalise(codes.astype(np.float32)).sum(axis=0, keepdims=True))[0]
    assert middle(codes, inverse_lengths(codes)).tolist() == expected.tolist()
