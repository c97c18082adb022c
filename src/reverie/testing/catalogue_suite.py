"""What every index must answer about its entries, as tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from reverie.entry import timestamp_ns
from reverie.protocols import IndexBackend, IndexWriter
from reverie.query import Where
from reverie.testing.index_steps import assert_same, index_write, put, take_out
from reverie.testing.samples import record

__all__ = ["CatalogueSuite"]


class CatalogueSuite:
    """Tests of the `Catalogue` of an index, a part of `IndexSuite`."""

    def make(self, folder: Path, lock_timeout: float = 10.0) -> IndexBackend:
        """As in `IndexSuite`."""
        raise NotImplementedError

    def test_totals_follow_every_write(self, index: IndexBackend, other: IndexBackend) -> None:
        """Count and bytes, in a write as in both objects after it."""
        put(index, record(1), record(2, pinned=True), record(3))
        with index_write(index) as writer:
            writer.remove(["cache_00003"])
            writer.put(record(4, byte_size=1000))
            assert (writer.count(), writer.total_bytes()) == (3, 101 + 102 + 1000)
        for reader in (index, other):
            reader.poll()
            assert (reader.count(), reader.total_bytes()) == (3, 101 + 102 + 1000)
            assert reader.pinned() == ["cache_00002"]

    def test_what_is_not_committed_is_not_seen(self, index: IndexBackend) -> None:
        """The same object answers with what is committed while it writes; the writer with what it wrote."""
        put(index, record(1))
        with index_write(index) as writer:
            writer.put(record(2))
            writer.pin("cache_00001", True)
            assert [brief.cache_id for brief in writer.briefs()] == ["cache_00001", "cache_00002"]
            assert writer.pinned() == ["cache_00001"]
            assert [brief.cache_id for brief in index.briefs()] == ["cache_00001"]
            assert index.find(["cache_00002"]) == []
            assert index.read(["cache_00002"]) == []
            assert index.pinned() == []
        assert index.count() == 2

    def test_a_part_of_a_write_is_undone_alone(self, tmp_path: Path, index: IndexBackend) -> None:
        """What came before it and what comes after it is committed; its numbers are free again."""
        put(index, record(1), record(2))

        def fail(writer: IndexWriter) -> None:
            with writer.attempt():
                writer.put(record(writer.next_number()))
                writer.remove(["cache_00001"])
                raise ZeroDivisionError

        with index_write(index) as writer:
            writer.pin("cache_00002", True)
            with pytest.raises(ZeroDivisionError):
                fail(writer)
            assert (writer.count(), writer.next_number(), list(writer.trash())) == (2, 3, [])
            with writer.attempt():
                writer.put(record(3))
        fresh = self.make(tmp_path)
        fresh.poll()
        expected = [record(1), record(2, pinned=True), record(3)]
        assert_same(fresh.read(["cache_00001", "cache_00002", "cache_00003"]), expected)
        fresh.close()

    def test_entries_are_found_by_id_and_listed_from_both_ends(self, index: IndexBackend) -> None:
        """In the order asked, without those that are gone or can be no id; in parts, by number."""
        put(index, *(record(number) for number in range(1, 8)))
        take_out(index, "cache_00004")
        found = index.find(["cache_00003", "never", "cache_00004", "cache_00001", "\ud800"])
        assert [brief.cache_id for brief in found] == ["cache_00003", "cache_00001"]
        assert [brief.number for brief in index.briefs(after=2, limit=3)] == [3, 5, 6]
        assert [brief.number for brief in index.briefs(limit=2, newest=True)] == [7, 6]
        assert [brief.number for brief in index.briefs(after=6)] == [7]
        assert index.briefs(limit=0) == index.briefs(after=7) == []

    def test_orders_of_eviction_leave_pinned_entries_out(self, index: IndexBackend) -> None:
        """By last use or by the time of the add, ties by number; in a write with the uses that it wrote."""
        put(
            index,
            record(1, timestamp="2025-11-08T12:00:00"),
            record(2, timestamp="2025-11-08T11:00:00+00:00", pinned=True),
            record(3, timestamp="2025-11-08T10:00:00.5"),
            record(4, timestamp="2025-11-08T10:00:00"),
            record(5, timestamp="2025-11-08T12:00:00.000000"),
        )
        with index_write(index) as writer:
            writer.use({"cache_00001": record(9).used_ns})
            assert [brief.number for brief in writer.ordered("used")] == [3, 4, 5, 1]
            assert [brief.number for brief in writer.ordered("time")] == [4, 3, 1, 5]
            writer.pin("cache_00002", False)
        assert [brief.number for brief in index.ordered("used")] == [2, 3, 4, 5, 1]

    def test_sizes_that_nobody_wrote_down_are_looked_up(self, tmp_path: Path, index: IndexBackend) -> None:
        """Other programs record none: the total is that of the files, where they are there."""
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "images" / "cache_00001.png").write_bytes(b"x" * 70)
        index.replace_all([record(1, byte_size=0), record(2, byte_size=0), record(3, byte_size=5)], 4, {})
        index.poll()
        assert [brief.byte_size for brief in index.briefs()] == [70, 0, 5]
        assert index.total_bytes() == 75
        take_out(index, "cache_00001")
        assert index.total_bytes() == 5

    @pytest.mark.parametrize(
        ("where", "expected"),
        [
            (Where(), [1, 2, 3, 4, 5]),
            (Where("fox"), [1, 3]),
            (Where("FOX blue"), [1]),
            (Where("fox*"), [1, 2, 3]),
            (Where('"blue fox"'), [1]),
            (Where('"fox blue"'), []),
            (Where("ecole"), [4]),
            (Where("cafe-creme 10"), [4]),
            (Where("o'clock"), [5]),
            (Where("NEAR OR"), [5]),
            (Where(params={"steps": 4}), [1, 3]),
            (Where(params={"steps": 4.0, "sampler.name": "euler"}), [3]),
            (Where(params={"loras[1]": "b"}), [2]),
            (Where(params={"hires": True}), [2]),
            (Where(params={"hires": 1}), [4]),
            (Where(params={"seed": None}), [1, 2, 3, 4, 5]),
            (Where(params={"sampler": None}), [1, 2, 4, 5]),
            (Where(params={"steps": "4"}), [5]),
            (Where(pinned=True), [2]),
            (Where(pinned=False, words="fox*"), [1, 3]),
            (Where(encoder="suite-1"), [1, 2, 3, 5]),
            (
                Where(since=timestamp_ns("2025-11-08T10:02:00"), until=timestamp_ns("2025-11-08T10:04:00.5")),
                [2, 3, 4],
            ),
            (Where("nothing"), []),
        ],
    )
    def test_conditions_on_entries(self, index: IndexBackend, where: Where, expected: list[int]) -> None:
        """Words, parameters, time, pins and encoder; from both ends, and as numbers."""
        put(
            index,
            record(1, prompt="A blue FOX, running", params=b'{"steps":4}'),
            record(2, prompt="foxes", params=b'{"steps":5,"loras":["a","b"],"hires":true}', pinned=True),
            record(3, prompt="the fox (and a hound) blues", params=b'{"steps":4,"sampler":{"name":"euler"}}'),
            record(4, prompt="\u00c9cole caf\u00e9-cr\u00e8me, f/10 ", params=b'{"hires":1}', embedding=None),
            record(5, prompt="five o'clock near, or not", params=b'{"steps":"4"}'),
        )
        put(index, record(6, prompt="fox blue"))
        take_out(index, "cache_00006")
        assert index.numbers(where).tolist() == expected
        assert [brief.number for brief in index.briefs(where)] == expected
        newest = [brief.number for brief in index.briefs(where, limit=2, newest=True)]
        assert newest == expected[::-1][:2]
