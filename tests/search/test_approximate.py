"""Approximate searches: what their index does not give is compared, so nothing is lost on the way into it."""

from __future__ import annotations

import os
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest

from reverie.search.approximate import ApproximateSearch
from reverie.search.codes import coded
from reverie.search.hnsw import HnswSearch
from reverie.search.ivf import IvfSearch
from reverie.search.recall import recall
from reverie.storage import PARTIAL_PREFIX
from reverie.testing import SearchSuite
from reverie.testing.search_suite import clustered, expected, first, targets
from reverie.vectors import VectorRows, Vectors

SIZE = 3000
DIMENSIONS = 32


KINDS = {"hnsw": HnswSearch, "ivf": IvfSearch}


class Settled:
    """Searches when the index has taken in what it will."""

    def search(self, rows, target, k, *, threshold=None, among=None):
        self.prepare(rows)
        self.wait()
        return super().search(rows, target, k, threshold=threshold, among=among)


class SettledHnsw(Settled, HnswSearch):
    """A graph that is whole."""


class SettledIvf(Settled, IvfSearch):
    """Lists that are whole."""


class TestHnsw(SearchSuite):
    dimensions = 48

    def make(self) -> HnswSearch:
        return SettledHnsw(tail=100)


class TestHnswWhileItIsMade(SearchSuite):
    dimensions = 24

    def make(self) -> HnswSearch:
        return HnswSearch(tail=100)


class TestIvf(SearchSuite):
    dimensions = 48

    def make(self) -> IvfSearch:
        return SettledIvf(tail=100)


class TestIvfWhileItIsMade(SearchSuite):
    dimensions = 24

    def make(self) -> IvfSearch:
        return IvfSearch(tail=100)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """The name of an approximate search."""
    return str(request.param)


@pytest.fixture(scope="module")
def matrix() -> Vectors:
    return clustered(SIZE, DIMENSIONS, 0)


def rows_of(matrix: Vectors) -> VectorRows:
    return VectorRows.of(range(len(matrix)), matrix, "some encoder: 1/2")


def without(rows: VectorRows, *gone: slice | int) -> VectorRows:
    alive = rows.alive.copy()
    for each in gone:
        alive[each] = False
    return replace(rows, alive=alive, count=int(alive.sum()))


def make(kind: str, folder: Path | None = None, tail: int = 100) -> ApproximateSearch:
    return KINDS[kind](folder=folder, tail=tail)


def ready(kind: str, rows: VectorRows, folder: Path | None = None, tail: int = 100) -> ApproximateSearch:
    """A searcher whose index holds these rows."""
    searcher = make(kind, folder, tail)
    searcher.prepare(rows)
    searcher.wait()
    assert searcher.prepare(rows)
    return searcher


def nodes(searcher: HnswSearch) -> int:
    return len(searcher._known.keys)


def works(searcher: HnswSearch) -> bool:
    return searcher._worker is not None and searcher._worker.is_alive()


def saved(folder: Path) -> tuple[Path, Path]:
    """The index's file and its header."""
    header = next(folder.glob("*.json"))
    return next(path for path in folder.iterdir() if path.suffix in (".ivf", ".usearch")), header


def test_an_index_answers_where_there_are_many(kind, matrix) -> None:
    """Of 3,000 rows the index gives a few, which are nearly always the true ones."""
    rows = rows_of(matrix)
    searcher = ready(kind, rows)
    near = searcher._known.near(rows, matrix[3], 5, None)
    assert len(near) <= 36
    assert recall(searcher, rows) >= 0.99


def test_the_first_answers_are_those_of_comparing_all(kind, matrix) -> None:
    """While the first index is made, nothing is missing."""
    rows, searcher = rows_of(matrix), make(kind, tail=100)
    for target in targets(matrix, 3):
        assert searcher.search(rows, target, 7).places.tolist() == (
            expected(rows, target, 7, None, rows.alive).places.tolist()
        )
    searcher.close()


def test_what_was_just_added_is_found_at_once(kind, matrix) -> None:
    """A row of the tail is compared like any other."""
    rows = rows_of(matrix)
    searcher = ready(kind, first(rows, SIZE - 50))
    for place in range(SIZE - 50, SIZE):
        assert searcher.search(rows, matrix[place], 1).places.tolist() == [place]
    assert nodes(searcher) == SIZE - 50


def test_the_index_grows_when_the_tail_is_long(kind, matrix) -> None:
    """Rows are taken in beside the search, in the same index."""
    rows = rows_of(matrix)
    searcher = ready(kind, first(rows, 2000))
    index = searcher._known.index
    assert not searcher.prepare(rows)
    searcher.wait()
    assert SIZE - nodes(searcher) <= 100
    assert searcher._known.index is index
    assert recall(searcher, rows) >= 0.99


def test_an_index_answers_while_a_few_wait(kind, matrix) -> None:
    """One row in sixty-four may wait: that is no reason to compare all of them."""
    rows = rows_of(matrix)
    for missing, answers in ((46, True), (47, False)):
        searcher = ready(kind, first(rows, SIZE - missing), tail=10)
        waiting = SIZE - searcher._known.end
        assert (waiting, searcher.prepare(rows)) == (missing, answers)
        searcher.close()


def test_a_stop_while_an_index_is_made_anew_keeps_the_whole_one(kind, matrix, tmp_path) -> None:
    """In memory and in the folder: a part of the new one would be worse."""
    rows = rows_of(matrix)
    searcher = ready(kind, rows, tmp_path)
    file = saved(tmp_path)[0]
    before, index, known = file.read_bytes(), searcher._known.index, searcher._known
    made = searcher.new

    def stopping(dimensions: int):
        fresh = made(dimensions)
        take = fresh.take

        def once(*given: object) -> None:
            take(*given)
            searcher._stopping = True

        fresh.take = once
        return fresh

    searcher.new = stopping
    searcher._build(known, rows)
    assert searcher._stopping
    searcher.close()
    assert searcher._known.index is index
    assert file.read_bytes() == before


def test_a_removal_costs_the_index_nothing(kind, matrix) -> None:
    """A row that is gone is not found, and its node stays until most nodes are of no use."""
    rows = rows_of(matrix)
    searcher = ready(kind, rows)
    less = without(rows, 7)
    assert searcher.search(less, matrix[7], 1).places.tolist() != [7]
    searcher.wait()
    assert nodes(searcher) == SIZE
    few = without(rows, slice(0, 1600))
    searcher.search(few, matrix[7], 1)
    searcher.wait()
    assert nodes(searcher) == 1400
    assert recall(searcher, few) >= 0.99


def test_an_older_snapshot_has_what_was_dropped(kind, matrix) -> None:
    """An index made without the rows that are gone does not answer for the time when they were there."""
    rows = rows_of(matrix)
    searcher = ready(kind, without(rows, slice(0, 1000)))
    assert searcher.search(rows, matrix[7], 1).places.tolist() == [7]


def test_rows_in_new_places_are_known_again(kind, matrix) -> None:
    """A new origin costs a look at the keys: no node is made anew."""
    rows = rows_of(matrix)
    searcher = ready(kind, rows)
    index = searcher._known.index
    order = np.random.default_rng(0).permutation(SIZE)[:2900]
    moved = replace(rows_of(matrix[order]), numbers=rows.numbers[order])
    assert recall(searcher, moved) >= 0.99
    searcher.wait()
    assert searcher._known.index is index
    assert nodes(searcher) == SIZE


def test_an_entry_that_gets_its_old_vector_back(kind, matrix) -> None:
    """The node of a vector is that of the row which is alive."""
    rows = rows_of(matrix)
    searcher = ready(kind, rows)
    for at in (SIZE, SIZE + 150):  # in the tail, and taken in
        more = np.concatenate([matrix, clustered(at - SIZE, DIMENSIONS, 1), matrix[7:8]])
        again = without(replace(rows_of(more), origin=rows.origin), 7)
        again.numbers[at] = rows.numbers[7]
        assert searcher.search(again, matrix[7], 1).places.tolist() == [at]
        searcher.wait()
        assert searcher.search(again, matrix[7], 1).places.tolist() == [at]


@pytest.mark.parametrize("step", [2, 3, 40, 4000])
def test_a_filter_gives_the_true_answer(kind, matrix, step: int) -> None:
    """Whether many or few rows may be found, and where those are all in one place."""
    rows = rows_of(clustered(6000, DIMENSIONS, 0))
    searcher = ready(kind, rows, tail=1000)
    scattered = np.arange(len(rows)) % step == 0
    far = rows.matrix @ rows.matrix[0] < 0.1  # none of the nodes near the target
    for among in (scattered, far):
        for target in rows.matrix[:10]:
            found = searcher.search(rows, target, 5, among=among)
            true = expected(rows, target, 5, None, among)
            assert len(np.intersect1d(found.places, true.places)) >= len(true.places) - 1


def test_everything_is_compared_where_everything_is_wanted(kind, matrix) -> None:
    """Without a number, or with one near the number of rows, nothing is missing."""
    rows = rows_of(matrix)
    searcher = ready(kind, rows)
    for k, threshold in ((None, None), (None, 0.3), (2000, None)):
        found = searcher.search(rows, matrix[0], k, threshold=threshold)
        true = expected(rows, matrix[0], k, threshold, rows.alive)
        assert found.places.tolist() == true.places.tolist()


def test_threads_search_while_the_index_is_made_and_grows(kind, matrix) -> None:
    """Each finds the newest row of its snapshot, whatever is going on."""
    rows, searcher = rows_of(matrix), make(kind, tail=50)
    wrong: list[int] = []

    def work(start: int) -> None:
        for count in range(start, SIZE, 100):
            found = searcher.search(first(rows, count), matrix[count - 1], 1)
            if found.places.tolist() != [count - 1]:
                wrong.append(count)

    threads = [threading.Thread(target=work, args=(start,)) for start in (1000, 1020, 1040, 1060)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    searcher.close()
    assert wrong == []


def test_another_encoder_is_another_index(kind, matrix) -> None:
    """Vectors of another space, as after a change of the encoder, do not meet."""
    rows = rows_of(matrix)
    searcher = ready(kind, rows)
    other = VectorRows.of(range(2000), clustered(2000, 16, 4), "other")
    assert searcher.search(other, other.matrix[9], 1).places.tolist() == [9]
    searcher.wait()
    assert nodes(searcher) == 2000
    assert searcher.search(rows, matrix[9], 1).places.tolist() == [9]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
def test_a_fork_begins_anew(kind, matrix) -> None:
    """The child waits for none of its parent's threads and locks."""
    rows = rows_of(matrix)
    searcher = make(kind, tail=100)
    searcher.prepare(rows)  # forks while the index is being made
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            found = searcher.search(rows, matrix[11], 1).places.tolist()
            os.write(writer, b"same" if found == [11] else b"other")
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        assert answer.read() == b"same"
    assert os.waitpid(pid, 0)[1] == 0
    searcher.close()


def test_closing_ends_the_thread_and_keeps_what_there_is(kind, matrix, tmp_path) -> None:
    """An index that is stopped half made is saved, and gone on with."""
    rows = rows_of(matrix)
    searcher = make(kind, tmp_path, 10)
    searcher.prepare(rows)
    searcher.close()
    searcher.close()
    assert not works(searcher)
    again = ready(kind, rows, tmp_path)
    assert SIZE - nodes(again) <= 100
    assert again.search(rows, matrix[5], 1).places.tolist() == [5]


def test_a_saved_index_is_there_at_once(kind, matrix, tmp_path) -> None:
    """The next process searches in the file itself; nothing is made."""
    rows = rows_of(matrix)
    ready(kind, rows, tmp_path).close()
    again = make(kind, tmp_path, 100)
    assert again.prepare(rows_of(matrix))
    assert again._known.mapped
    assert not works(again)
    assert recall(again, rows) >= 0.99
    endings = {path.suffix for path in tmp_path.iterdir()}
    assert endings == {".json", ".lock", ".usearch" if kind == "hnsw" else ".ivf"}


def test_a_saved_index_follows_what_happened_since(kind, matrix, tmp_path) -> None:
    """Rows that came are the tail, rows that went are passed over, and an index on the disk can grow."""
    rows = rows_of(matrix)
    ready(kind, first(rows, 2500), tmp_path).close()
    again, since = make(kind, tmp_path, 100), without(rows_of(matrix), 3, slice(900, 1000))
    assert len(again._open(since).keys) == 2500
    found = again.search(since, matrix[2999], 1)
    assert found.places.tolist() == [2999]
    again.wait()
    assert not again._known.mapped
    assert nodes(again) >= 2900
    assert again.search(since, matrix[3], 1).places.tolist() != [3]
    assert recall(again, since) >= 0.99
    again.close()
    assert orjson.loads(saved(tmp_path)[1].read_bytes())["count"] == nodes(again)


def test_an_index_is_saved_again_when_it_has_grown(kind, matrix, tmp_path) -> None:
    """By a quarter, beside the search; a little more is not worth it, since the tail makes up for it."""
    rows = rows_of(matrix)
    searcher = ready(kind, first(rows, 2000), tmp_path)
    header = saved(tmp_path)[1]
    assert orjson.loads(header.read_bytes())["count"] == 2000
    for count, held in ((2300, 2000), (2900, 2900)):
        searcher.prepare(first(rows, count))
        searcher.wait()
        assert orjson.loads(header.read_bytes())["count"] == held


def test_a_vector_replaced_while_nobody_looked(kind, matrix, tmp_path) -> None:
    """The saved node is another vector's: the new one is in the tail until it is taken in."""
    ready(kind, rows_of(matrix), tmp_path).close()
    changed = matrix.copy()
    changed[40] = clustered(1, DIMENSIONS, 99)[0]
    rows = rows_of(changed)
    rows.numbers[40] += 10**6
    again = make(kind, tmp_path, 100)
    assert again.search(rows, changed[40], 1).places.tolist() == [40]
    again.wait()
    assert nodes(again) == SIZE + 1
    assert again.search(rows, changed[40], 1).places.tolist() == [40]


def test_an_index_of_another_cache_is_made_anew(kind, matrix, tmp_path) -> None:
    """The same numbers, other vectors: nothing of the file is used."""
    ready(kind, rows_of(matrix), tmp_path).close()
    rows = rows_of(clustered(SIZE, DIMENSIONS, 8))
    other = make(kind, tmp_path, 100)
    assert not other.prepare(rows)
    other.wait()
    assert nodes(other) == SIZE
    assert recall(other, rows) >= 0.99


def flip(at: float):
    def damage(index: Path, header: Path) -> None:
        data = bytearray(index.read_bytes())
        data[int(at * (len(data) - 1))] ^= 0xFF
        index.write_bytes(data)

    return damage


def cut(share: float):
    def damage(index: Path, header: Path) -> None:
        data = index.read_bytes()
        index.write_bytes(data[: int(share * len(data))])

    return damage


def rewrite(**changes: object):
    def damage(index: Path, header: Path) -> None:
        header.write_bytes(orjson.dumps({**orjson.loads(header.read_bytes()), **changes}))

    return damage


DAMAGES = {
    "nothing left": cut(0),
    "cut in the vectors": cut(0.3),
    "cut behind": cut(0.9),
    "a byte more": lambda index, _: index.write_bytes(index.read_bytes() + b"\0"),
    "first byte": flip(0),
    "a vector": flip(0.4),
    "a byte behind": flip(0.95),
    "last byte": flip(1),
    "foreign file": lambda index, _: index.write_bytes(b"SQLite format 3\0" * 4000),
    "no index": lambda index, _: index.unlink(),
    "a folder": lambda index, _: (index.unlink(), index.mkdir()),
    "no header": lambda _, header: header.unlink(),
    "header cut": lambda _, header: header.write_bytes(header.read_bytes()[:40]),
    "header is a list": lambda _, header: header.write_bytes(b"[1, 2]"),
    "header is empty": lambda _, header: header.write_bytes(b"{}"),
    "header of zeros": lambda _, header: header.write_bytes(b"\0" * 300),
    "other parameters": rewrite(connectivity=8),
    "other format": rewrite(format=2),
    "other encoder": rewrite(encoder="another"),
    "other dimensions": rewrite(dimensions=31),
}


@pytest.fixture(scope="module")
def kept(matrix, tmp_path_factory) -> dict[str, dict[str, bytes]]:
    """The files of saved indexes of 1,100 rows."""
    found = {}
    for kind in KINDS:
        folder = tmp_path_factory.mktemp("kept")
        ready(kind, rows_of(matrix[:1100]), folder).close()
        found[kind] = {path.name: path.read_bytes() for path in folder.iterdir()}
    return found


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_never_an_error(kind, matrix, tmp_path, kept, damage) -> None:
    """It counts as missing: all rows are compared, the index is made anew."""
    for name, data in kept[kind].items():
        (tmp_path / name).write_bytes(data)
    index, header = saved(tmp_path)
    damage(index, header)
    rows = rows_of(matrix[:1100])
    searcher = make(kind, tmp_path, 100)
    assert not searcher.prepare(rows)
    assert searcher.search(rows, matrix[5], 1).places.tolist() == [5]
    searcher.wait()
    assert nodes(searcher) == 1100
    assert searcher.search(rows, matrix[5], 1).places.tolist() == [5]
    if not index.is_dir():
        assert make(kind, tmp_path, 100).prepare(rows)  # the new one is in its place


def test_one_process_saves_at_a_time(kind, matrix, tmp_path) -> None:
    """While another one does, nothing is written, and nobody waits."""
    from filelock import FileLock

    rows = rows_of(matrix)
    with FileLock(tmp_path / "graphs.lock"):
        ready(kind, rows, tmp_path).close()
    assert [path.name for path in tmp_path.iterdir()] == ["graphs.lock"]


def test_what_a_killed_process_left_is_cleared_away(kind, matrix, tmp_path) -> None:
    """Half an index under a temporary name goes when the next one is written."""
    left = tmp_path / f"{PARTIAL_PREFIX}1-2-3"
    left.write_bytes(b"half an index")
    ready(kind, rows_of(matrix), tmp_path).close()
    assert not left.exists()


def test_a_disk_that_refuses_is_no_error(kind, matrix, tmp_path) -> None:
    """The index stays in memory."""
    (tmp_path / "file").write_bytes(b"")
    rows = rows_of(matrix)
    searcher = ready(kind, rows, tmp_path / "file" / "search")
    searcher.close()
    assert recall(searcher, rows) >= 0.99


def test_codes_use_all_of_a_byte() -> None:
    """However small the numbers of a vector are, its largest is 127 or -127."""
    codes = coded(clustered(50, 512, 1))
    assert codes.dtype == np.int8
    assert np.abs(codes).max(axis=1).tolist() == [127] * 50
