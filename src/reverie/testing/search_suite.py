"""What every searcher must do, as tests."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from reverie.half import Halves, halved
from reverie.protocols import Found, Searcher
from reverie.vectors import Rows, VectorRows, Vectors, normalise, similarities, top_k

__all__ = ["SearchSuite"]


class SearchSuite:
    """Tests of a `Searcher`; a subclass says how to make one.

    Attributes:
        size: Rows of most tests: enough for the searcher to do what it is for.
        recall: Least share of the true answer that is found; an ``exact`` one finds all of it, in its order.
    """

    size = 3000
    dimensions = 96
    recall = 0.95

    def make(self) -> Searcher:
        """A new searcher."""
        raise NotImplementedError

    def rows(self, count: int | None = None, seed: int = 0) -> VectorRows:
        """Rows in clusters, as pictures are: about 50 to a cluster, cosine about .7 in it."""
        matrix = clustered(self.size if count is None else count, self.dimensions, seed)
        return VectorRows.of([f"id-{row}" for row in range(len(matrix))], matrix)

    def agree(
        self,
        found: Found,
        rows: VectorRows,
        target: NDArray[np.float32],
        k: int | None,
        *,
        threshold: float | None = None,
        among: NDArray[np.bool_] | None = None,
    ) -> float:
        """The share of the true answer that was found, everything else about it checked."""
        keep = rows.alive if among is None else rows.alive & among
        true = expected(rows, target, k, threshold, keep)
        assert np.array_equal(found.scores, similarities(rows.matrix, target, found.places))
        assert keep[found.places].all()
        assert len(set(found.places.tolist())) == len(found.places) <= len(true.places)
        assert (np.diff(found.scores) <= 0).all()
        if threshold is not None:
            assert (found.scores >= np.float32(threshold)).all()
        if self.make().exact:
            assert found.places.tolist() == true.places.tolist()
        both = len(np.intersect1d(found.places, true.places))
        return both / len(true.places) if len(true.places) else 1.0

    def check(
        self, searcher: Searcher, rows: VectorRows, k: int | None = 5, threshold: float | None = None
    ) -> None:
        """Search for thirty vectors like those there are; on average enough must be found."""
        shares = []
        for target in targets(rows.matrix, 30):
            found = searcher.search(rows, target, k, threshold=threshold)
            shares.append(self.agree(found, rows, target, k, threshold=threshold))
        assert np.mean(shares) >= (1.0 if searcher.exact else self.recall)

    def test_it_says_what_it_is(self) -> None:
        """A name, and whether its answers are always true."""
        searcher = self.make()
        assert isinstance(searcher.name, str)
        assert isinstance(searcher.exact, bool)

    @pytest.mark.parametrize("k", [1, 5, 60])
    def test_it_finds_the_most_similar(self, k: int) -> None:
        """The k most similar rows, with their cosines in float32, high to low."""
        self.check(self.make(), self.rows(), k)

    @pytest.mark.parametrize("count", [0, 1, 2, 75])
    def test_few_rows(self, count: int) -> None:
        """However few there are; no row more than there are."""
        rows, searcher = self.rows(count), self.make()
        target = clustered(1, self.dimensions, 9)[0]
        assert self.agree(searcher.search(rows, target, 5), rows, target, 5) == 1.0

    def test_a_threshold_cuts(self) -> None:
        """Only what reaches it, inclusive; all of it where no number is given."""
        rows, searcher = self.rows(), self.make()
        self.check(searcher, rows, 5, 0.6)
        target = rows.matrix[7]
        found = searcher.search(rows, target, None, threshold=0.5)
        assert self.agree(found, rows, target, None, threshold=0.5) >= (
            1.0 if searcher.exact else self.recall
        )
        assert searcher.search(rows, target, 5, threshold=1.5).places.tolist() == []

    def test_all_rows_and_none(self) -> None:
        """Without a number and a threshold every row that is alive is found; 0 finds none."""
        rows, searcher = self.rows(), self.make()
        everything = searcher.search(rows, rows.matrix[0], None)
        assert sorted(everything.places.tolist()) == list(range(len(rows)))
        assert searcher.search(rows, rows.matrix[0], 0).places.tolist() == []

    def test_rows_that_are_gone_are_not_found(self) -> None:
        """A searcher that knew a row passes over it once it is gone, however many go."""
        rows, searcher = self.rows(), self.make()
        self.check(searcher, rows)
        alive = rows.alive.copy()
        for gone in (slice(0, 40), slice(100, len(rows), 3), slice(0, len(rows) - 9)):
            alive[gone] = False
            less = replace(rows, alive=alive.copy(), count=int(alive.sum()))
            self.check(searcher, less)
        self.check(searcher, rows)  # a snapshot is as it was

    def test_a_filter_is_applied_before_the_cut(self) -> None:
        """The most similar of those that may be found, not those of the most similar that may."""
        rows, searcher = self.rows(), self.make()
        for step in (2, 50, len(rows)):
            among = np.zeros(len(rows), dtype=np.bool_)
            among[::step] = True
            shares = [
                self.agree(searcher.search(rows, target, 5, among=among), rows, target, 5, among=among)
                for target in targets(rows.matrix, 20)
            ]
            assert np.mean(shares) >= (1.0 if searcher.exact else self.recall)

    def test_rows_may_come_at_any_time(self) -> None:
        """What was searched before is found beside what came since; an older snapshot stays as it was."""
        whole, searcher = self.rows(), self.make()
        for count in (self.size // 2, self.size // 2 + 1, self.size - 7, self.size, self.size // 3):
            self.check(searcher, first(whole, count))

    def test_places_may_be_given_anew(self) -> None:
        """Another ``origin``: nothing known of places holds, though the entries are the same."""
        rows, searcher = self.rows(), self.make()
        self.check(searcher, rows)
        order = np.random.default_rng(3).permutation(len(rows))[: len(rows) - 50]
        renewed = replace(
            VectorRows.of([rows.ids[row] for row in order], rows.matrix[order]), numbers=rows.numbers[order]
        )
        self.check(searcher, renewed)

    def test_a_row_may_be_replaced(self) -> None:
        """An entry gets another vector: its row goes, and another one comes with the same number."""
        rows, searcher = self.rows(), self.make()
        self.check(searcher, rows)
        fresh = clustered(1, self.dimensions, 77)
        alive = np.append(rows.alive, True)
        alive[5] = False
        changed = VectorRows(
            [*rows.ids, "id-5"],
            np.append(rows.numbers, rows.numbers[5]),
            np.concatenate([rows.matrix, fresh]),
            alive,
            rows.encoder,
            rows.count,
            rows.origin,
        )
        found = searcher.search(changed, fresh[0], 1)
        assert found.places.tolist() == [len(rows)]
        self.check(searcher, changed)

    def test_equal_rows_are_found_in_their_order(self) -> None:
        """Of fifty copies the first ones; an approximation may find any of them."""
        rows, searcher = self.rows(), self.make()
        matrix = np.array(rows.matrix)
        copies = np.arange(11, 11 + 50 * 20, 20)
        matrix[copies] = matrix[11]
        same = VectorRows.of(rows.ids, matrix)
        found = searcher.search(same, matrix[11], 5)
        assert found.scores.tolist() == [found.scores[0]] * 5
        assert set(found.places.tolist()) <= set(copies.tolist())
        if searcher.exact:
            assert found.places.tolist() == copies[:5].tolist()

    def test_halves_are_searched_as_the_rows_they_stand_for(self) -> None:
        """A matrix kept as float16 gives float32 rows where it is asked: the same answers, bit for bit."""
        plain = self.rows()
        halves = Halves(halved(np.asarray(plain.matrix)))
        rows, searcher = VectorRows.of(plain.ids, halves), self.make()
        self.check(searcher, rows)
        self.check(searcher, rows, 5, 0.6)
        self.check(searcher, first(VectorRows.of(plain.ids, halves.whole()), self.size - 7))
        among = np.arange(len(rows)) % 7 == 0
        target = targets(halves, 1)[0]
        self.agree(searcher.search(rows, target, 5, among=among), rows, target, 5, among=among)
        everything = searcher.search(rows, target, None)
        cosines = np.vecdot(halves.whole(), target).clip(-1, 1)
        assert np.array_equal(everything.scores, np.sort(cosines)[::-1])

    def test_many_threads_search_while_rows_come_and_go(self) -> None:
        """Each gets the answer of its own snapshot."""
        whole, searcher = self.rows(), self.make()
        failed: list[BaseException] = []

        def work(seed: int) -> None:
            rng = np.random.default_rng(seed)
            try:
                for _ in range(10):
                    part = first(whole, int(rng.integers(self.size // 2, self.size)))
                    target = targets(part.matrix, 1, seed)[0]
                    self.agree(searcher.search(part, target, 5), part, target, 5)
            except BaseException as exc:
                failed.append(exc)
                raise

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == []


def clustered(count: int, dimensions: int, seed: int) -> Vectors:
    """Unit vectors around centres, about 50 each; cosine about .7 in a cluster and 0 across."""
    rng = np.random.default_rng(seed)
    centres = normalise(rng.standard_normal((max(1, count // 50), dimensions)))
    noise = normalise(rng.standard_normal((max(1, count), dimensions)))
    near = centres[rng.integers(len(centres), size=count)]
    return normalise(near + 0.65 * noise[:count]) if count else near


def targets(matrix: Rows, count: int, seed: int = 5) -> Vectors:
    """Vectors like some of the rows."""
    rng = np.random.default_rng(seed)
    noise = normalise(rng.standard_normal((count, matrix.shape[1])))
    return normalise(matrix[rng.integers(len(matrix), size=count)] + 0.3 * noise)


def first(rows: VectorRows, count: int) -> VectorRows:
    """An earlier snapshot of rows that are all alive."""
    return replace(
        rows,
        numbers=rows.numbers[:count],
        matrix=rows.matrix[:count],
        alive=rows.alive[:count],
        count=count,
    )


def expected(
    rows: VectorRows,
    target: NDArray[np.float32],
    k: int | None,
    threshold: float | None,
    keep: NDArray[np.bool_],
) -> Found:
    """The true answer."""
    places = np.flatnonzero(keep)
    scores = similarities(rows.matrix, target, places)
    order = top_k(scores, threshold, k)
    return Found(places[order], scores[order])
