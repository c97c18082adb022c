"""Exact search up to a number of rows, approximate search above."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from reverie import ImageMemory, registry
from reverie.search.automatic import AutomaticSearch
from reverie.testing import SearchSuite
from reverie.testing.search_suite import clustered, expected, first
from reverie.vectors import VectorRows

ROWS = VectorRows.of(range(3000), clustered(3000, 32, 5), "one")


class TestAutomatic(SearchSuite):
    """Below its limit it is exact."""

    def make(self) -> AutomaticSearch:
        return AutomaticSearch()


def ready(searcher: AutomaticSearch, rows: VectorRows) -> None:
    """Let the approximate search take the rows in."""
    searcher.search(rows, rows.matrix[0], 1)
    searcher._approximate.wait()


def test_few_rows_are_searched_exactly() -> None:
    """And it says so."""
    searcher = AutomaticSearch(above=3000)
    found = searcher.search(ROWS, ROWS.matrix[7], 5)
    assert found.places.tolist() == expected(ROWS, ROWS.matrix[7], 5, None, ROWS.alive).places.tolist()
    assert (searcher.in_use, searcher.reason) == (
        "exact",
        "3,000 vectors: approximate search begins above 3,000",
    )
    searcher.close()


def test_many_rows_are_searched_approximately_when_that_is_ready() -> None:
    """Until then exactly: no search waits for an index."""
    searcher = AutomaticSearch(above=2000)
    found = searcher.search(ROWS, ROWS.matrix[7], 5)
    assert found.places.tolist() == expected(ROWS, ROWS.matrix[7], 5, None, ROWS.alive).places.tolist()
    assert searcher.in_use == "exact"
    assert "is being made ready" in searcher.reason
    searcher._approximate.wait()
    assert searcher.search(ROWS, ROWS.matrix[7], 1).places.tolist() == [7]
    assert (searcher.in_use, searcher.reason) == ("ivf", "3,000 vectors: more than 2,000")
    searcher.close()


def test_it_does_not_change_to_and_fro_at_the_limit() -> None:
    """Back only where a fifth is gone."""
    searcher = AutomaticSearch(above=2000)
    ready(searcher, ROWS)
    for count, used in ((2001, "ivf"), (1990, "ivf"), (1601, "ivf"), (1590, "exact"), (1990, "exact")):
        alive = ROWS.alive.copy()
        alive[count:] = False
        searcher.search(replace(ROWS, alive=alive, count=count), ROWS.matrix[0], 1)
        assert searcher.in_use == used, count
    searcher.close()


def test_closing_ends_all_and_can_be_done_twice(tmp_path) -> None:
    """A later search begins again, with what was kept."""
    searcher = AutomaticSearch(folder=tmp_path / "search", above=2000)
    ready(searcher, ROWS)
    worker = searcher._approximate._worker
    searcher.close()
    searcher.close()
    assert not worker.is_alive()
    assert list((tmp_path / "search").glob("*.ivf"))
    assert searcher.search(ROWS, ROWS.matrix[3], 1).places.tolist() == [3]
    assert searcher.in_use == "ivf"
    searcher.close()


def test_a_memory_searches_so_by_itself(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its files stand beside the index; a searcher that was handed in is not closed."""
    monkeypatch.setattr("reverie.search.automatic._ABOVE", 30)
    monkeypatch.setattr("reverie.search.approximate._TAIL", 10)
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (16, 16, 3), dtype=np.uint8) for _ in range(40)]
    with ImageMemory(tmp_path / "cache", max_size=None, search=AutomaticSearch(above=30)) as memory:
        for frame in frames:
            memory.remember(frame)
        exact = [entry.cache_id for entry, _ in memory.recall(frames[5], k=3)]
    with ImageMemory(tmp_path / "cache", max_size=None, search="exact") as memory:
        assert [entry.cache_id for entry, _ in memory.recall(frames[5], k=3)] == exact
    with ImageMemory(tmp_path / "cache", max_size=None) as memory:
        assert memory.searcher.name == "auto"
        memory.recall(frames[5])
    given = registry.create("searchers", "exact")
    closed: list[bool] = []
    monkeypatch.setattr(type(given), "close", lambda _: closed.append(True))
    with ImageMemory(tmp_path / "cache", max_size=None, search=given) as memory:
        memory.recall(frames[5])
    assert closed == []


def test_a_smaller_snapshot_is_answered_too() -> None:
    """A caller may still hold older rows."""
    searcher = AutomaticSearch(above=2000)
    ready(searcher, ROWS)
    older = first(ROWS, 2500)
    assert searcher.search(older, ROWS.matrix[2400], 1).places.tolist() == [2400]
    assert (
        ROWS.matrix[2600].tobytes()
        != older.matrix[searcher.search(older, ROWS.matrix[2600], 1).places[0]].tobytes()
    )
    searcher.close()
