"""The vectors of a cache in memory: a perfect model, and snapshots that never change."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from reverie.cache.vector_table import VectorTable, entry_numbers
from reverie.errors import EncoderMismatchError
from reverie.vectors import Embedding, as_embedding


def vector(seed: int, encoder: str | None = "one", dimensions: int = 4) -> Embedding:
    """A unit vector."""
    return as_embedding(np.random.default_rng(seed).standard_normal(dimensions), encoder=encoder)


class TableModel(RuleBasedStateMachine):
    """Random puts and discards against a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.table = VectorTable()
        self.model: dict[str, tuple[int, Embedding]] = {}
        self.number = 0
        self.kept: list = []

    def put(self, cache_id: str, number: int, seed: int) -> None:
        """Into both."""
        self.table.put(cache_id, vector(seed), number)
        self.model[cache_id] = (number, vector(seed))

    @rule(count=st.integers(1, 90), seed=st.integers(0, 10**6))
    def add(self, count: int, seed: int) -> None:
        """Entries come."""
        for step in range(count):
            self.number += 1
            self.put(f"id-{self.number}", self.number, seed + step)

    @rule(pick=st.integers(0, 10**6), seed=st.integers(0, 10**6))
    def replace(self, pick: int, seed: int) -> None:
        """An entry gets another vector."""
        if self.model:
            cache_id = sorted(self.model)[pick % len(self.model)]
            self.put(cache_id, self.model[cache_id][0], seed)

    @rule(pick=st.integers(0, 10**6), seed=st.integers(0, 10**6))
    def late(self, pick: int, seed: int) -> None:
        """An entry that had no vector gets one: its number is not the highest."""
        number = pick % (self.number + 1)
        cache_id = f"id-{number}"
        if number and cache_id not in self.model:
            self.put(cache_id, number, seed)

    @rule(count=st.integers(1, 120), oldest=st.booleans(), seed=st.integers(0, 10**6))
    def discard(self, count: int, oldest: bool, seed: int) -> None:
        """Entries go: the oldest ones, or any."""
        ids = sorted(self.model, key=lambda each: self.model[each][0])
        if not oldest:
            np.random.default_rng(seed).shuffle(ids)
        for cache_id in ids[:count]:
            self.table.discard(cache_id)
            del self.model[cache_id]

    @rule()
    def look(self) -> None:
        """Keep snapshots, and what they hold now."""
        rows, shot = self.table.rows("one"), self.table.snapshot("one")
        frozen = (rows.alive.copy(), rows.matrix.copy(), list(rows.ids[: len(rows)]), rows.numbers.copy())
        self.kept = [*self.kept[-3:], (rows, frozen, shot, (shot.ids, shot.matrix.copy()))]

    @invariant()
    def agrees(self) -> None:
        """The set is the model's, oldest first; the rows that are alive are the same."""
        ids = sorted(self.model, key=lambda each: self.model[each][0])
        shot, rows = self.table.snapshot("one"), self.table.rows("one")
        assert list(shot.ids) == ids
        for cache_id, row in zip(ids, shot.matrix, strict=True):
            assert row.tobytes() == self.model[cache_id][1].tobytes()
        alive = {rows.ids[place]: place for place in np.flatnonzero(rows.alive)}
        assert sorted(alive) == sorted(ids)
        assert rows.count == len(ids)
        for cache_id, place in alive.items():
            assert entry_numbers(rows.numbers[place]) == self.model[cache_id][0]
            assert rows.matrix[place].tobytes() == self.model[cache_id][1].tobytes()
        assert len(rows) <= max(64, 4 * len(ids))

    @invariant()
    def snapshots_stay(self) -> None:
        """What was handed out is as it was."""
        for rows, (alive, matrix, ids, numbers), shot, (names, values) in self.kept:
            assert np.array_equal(rows.alive, alive)
            assert np.array_equal(rows.matrix, matrix)
            assert np.array_equal(rows.numbers, numbers)
            assert list(rows.ids[: len(rows)]) == ids
            assert shot.ids == names
            assert np.array_equal(shot.matrix, values)


TestTableModel = TableModel.TestCase
TestTableModel.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)


def test_rows_keep_their_places_while_there_is_room() -> None:
    """A longer snapshot of one origin begins with the rows of the shorter one."""
    table = VectorTable()
    for number in range(1, 40):
        table.put(f"id-{number}", vector(number), number)
    before = table.rows("one")
    table.discard("id-7")
    table.put("id-40", vector(40), 40)
    after = table.rows("one")
    assert after.origin is before.origin
    assert np.array_equal(after.matrix[: len(before)], before.matrix)
    assert (before.count, after.count, bool(after.alive[6])) == (39, 39, False)


def test_places_are_given_anew_when_the_matrix_is_full() -> None:
    """Gaps are closed then: a cache that evicts for ever does not grow."""
    table = VectorTable()
    origins = set()
    for number in range(1, 2001):
        table.put(f"id-{number}", vector(number), number)
        if number > 50:
            table.discard(f"id-{number - (number * 7) % 50}")
            table.discard(f"id-{number - 50}")
        origins.add(table.rows("one").origin)
    assert len(table.rows("one").matrix) <= 128
    assert 10 < len(origins) < 120


def test_every_vector_of_an_entry_has_its_own_number() -> None:
    """In the order of the entries, and the same wherever it is worked out."""
    table, again = VectorTable(), VectorTable()
    for number in (1, 2, 3):
        table.put(f"id-{number}", vector(number), number)
    first = table.rows("one").numbers.tolist()
    table.put("id-2", vector(9), 2)
    numbers = table.rows("one").numbers.tolist()
    assert len(set(numbers)) == 4
    assert entry_numbers(np.array(numbers)).tolist() == [1, 2, 3, 2]
    table.put("id-2", vector(2), 2)
    again.put("id-2", vector(2), 2)
    assert table.rows("one").numbers[-1] == again.rows("one").numbers[0] == first[1]
    assert first == sorted(first)


def test_what_was_handed_out_is_read_only() -> None:
    """Nobody can change the vectors of a cache by its snapshots."""
    table = VectorTable()
    table.put("id-1", vector(1), 1)
    for matrix in (table.rows("one").matrix, table.snapshot("one").matrix):
        with pytest.raises(ValueError, match="read-only"):
            matrix[0] = 0


def test_spaces_stay_apart() -> None:
    """One matrix an encoder; which one has to be said where there are several."""
    table = VectorTable()
    assert (len(table.rows(None)), table.snapshot("none of these").ids) == (0, ())
    table.put("id-1", vector(1), 1)
    table.put("id-2", vector(2, "two", 6), 2)
    assert table.rows("two").matrix.shape == (1, 6)
    with pytest.raises(EncoderMismatchError, match=r"one \(1\), two \(1\)"):
        table.rows(None)
    table.put("id-2", vector(3), 2)
    assert table.snapshot(None).ids == ("id-1", "id-2")
