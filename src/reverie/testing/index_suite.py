"""What every index must do, as tests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reverie.errors import CacheClosedError, ConfigError, IndexCorruptError, LockTimeoutError
from reverie.protocols import IndexBackend
from reverie.testing.catalogue_suite import CatalogueSuite
from reverie.testing.index_steps import assert_same, follow, index_write, put, take_out
from reverie.testing.samples import record, vector
from reverie.vectors import stored_as

__all__ = ["IndexSuite"]


class IndexSuite(CatalogueSuite):
    """Tests of an `IndexBackend`; a subclass says how to make one.

    Attributes:
        one_file: Whether the index is one file at its ``path``, so that damage can be tried on it.
    """

    one_file = True

    def make(self, folder: Path, lock_timeout: float = 10.0) -> IndexBackend:
        """The index of a cache folder: a new object at every call, on the same content."""
        raise NotImplementedError

    @pytest.fixture
    def index(self, tmp_path: Path) -> Iterator[IndexBackend]:
        """An empty index, already looked at."""
        index = self.make(tmp_path)
        index.poll()
        yield index
        index.close()

    @pytest.fixture
    def other(self, tmp_path: Path, index: IndexBackend) -> Iterator[IndexBackend]:
        """A second object on the same index, as another process would have."""
        assert index.next_number() == 1  # the first one is open
        other = self.make(tmp_path)
        other.poll()
        yield other
        other.close()

    # -- reading what was written

    def test_an_empty_index_has_nothing_and_says_so(self, tmp_path: Path) -> None:
        """The first look gives everything, which is nothing; ids start at 1."""
        index = self.make(tmp_path)
        first = index.poll()
        assert first is not None
        assert first.complete
        assert index.briefs() == []
        assert (index.count(), index.total_bytes(), index.pinned()) == (0, 0, [])
        assert list(index.ordered("used")) == []
        assert list(index.vectors()) == []
        assert index.next_number() == 1
        assert index.read(["cache_00001"]) == []
        assert index.spaces() == set()
        assert not index.retired()
        index.close()

    def test_a_record_comes_back_as_it_was_put(self, index: IndexBackend) -> None:
        """Every field is kept, the bits of the vector included, in this object and in a new one."""
        records = [record(1), record(2, embedding=None, parents=(), extra=b"{}"), record(3, pinned=True)]
        put(index, *records)
        assert_same(index.read([each.cache_id for each in records]), records)

    def test_a_new_object_reads_what_another_wrote(self, tmp_path: Path, index: IndexBackend) -> None:
        """What was committed is on the disk."""
        put(index, record(1), record(2))
        fresh = self.make(tmp_path)
        changes = fresh.poll()
        assert changes is not None
        assert changes.complete
        assert [brief.cache_id for brief in fresh.briefs()] == ["cache_00001", "cache_00002"]
        assert_same(fresh.read(["cache_00002", "cache_00001"]), [record(2), record(1)])
        fresh.close()

    @pytest.mark.parametrize(
        "text",
        ["", "\0zero", "line\nbreak", '"quoted" \\ {', "émoji 🦊", "'; DROP TABLE entries; --", "x" * 70_000],
    )
    def test_any_text_is_kept(self, index: IndexBackend, text: str) -> None:
        """Prompts hold whatever people write."""
        put(index, record(1, prompt=text, parents=(text,)))
        (found,) = index.read(["cache_00001"])
        assert (found.prompt, found.parents) == (text, (text,))

    def test_records_come_in_the_order_asked_and_gone_ids_are_passed_over(self, index: IndexBackend) -> None:
        """`read` answers like the question."""
        put(index, record(1), record(2), record(3))
        found = index.read(["cache_00003", "never", "cache_00001"])
        assert [each.cache_id for each in found] == ["cache_00003", "cache_00001"]
        assert index.read([]) == []

    def test_briefs_say_what_the_records_say(self, index: IndexBackend) -> None:
        """`briefs` lists all entries by number."""
        put(index, record(1, pinned=True), record(2), record(5))
        for brief, whole in zip(index.briefs(), [record(1, pinned=True), record(2), record(5)], strict=True):
            assert brief.cache_id == whole.cache_id
            assert (brief.timestamp, brief.used_ns) == (whole.timestamp, whole.used_ns)
            assert (brief.pinned, brief.byte_size) == (whole.pinned, whole.byte_size)
            assert brief.content_hash == whole.content_hash != ""
        assert sorted(brief.number for brief in index.briefs()) == [brief.number for brief in index.briefs()]

    def test_many_entries_are_read_in_one_call(self, index: IndexBackend) -> None:
        """No limit on the ids of one question."""
        with index.write() as writer:
            for number in range(1, 1502):
                writer.put(record(number, embedding=None))
        ids = [f"cache_{number:05d}" for number in range(1501, 0, -1)]
        assert [each.cache_id for each in index.read(ids)] == ids

    # -- vectors

    def test_vectors_come_by_number_with_their_encoder(self, index: IndexBackend) -> None:
        """Entries without one are passed over; `spaces` names each encoder and length once."""
        put(index, record(1), record(2, embedding=None), record(3, embedding=vector(3, 4, None)), record(4))
        found = list(index.vectors())
        assert [brief.cache_id for brief, _ in found] == ["cache_00001", "cache_00003", "cache_00004"]
        assert [each.encoder for _, each in found] == ["suite-1", None, "suite-1"]
        assert np.array_equal(found[1][1], vector(3, 4, None))
        assert index.spaces() == {("suite-1", 8), (None, 4)}

    def test_vectors_come_back_as_the_index_says(self, tmp_path: Path, index: IndexBackend) -> None:
        """As `stored_as` has them, whole or of halves; kept anew as they came, they stay the same."""
        kind = index.vector_type()
        put(index, record(1), record(2, embedding=vector(2, 512)))
        with index_write(index) as writer:
            assert writer.vector_type() == kind
            writer.embed("cache_00001", vector(3, 512))
        expected = [stored_as(vector(seed, 512), kind) for seed in (3, 2)]
        for _ in range(2):
            fresh = self.make(tmp_path)
            fresh.poll()
            assert fresh.vector_type() == kind
            found = [each for _, each in fresh.vectors()]
            for one, two in zip(found, expected, strict=True):
                assert np.array_equal(one, two)
                assert (one.encoder, one.flags.writeable) == ("suite-1", False)
            with index_write(fresh) as writer:
                for number, each in enumerate(found, 1):
                    writer.embed(f"cache_{number:05d}", each)
            fresh.close()

    def test_the_type_of_vectors_is_changed_or_refused(
        self, index: IndexBackend, other: IndexBackend
    ) -> None:
        """Going to halves rounds, and says where a copy is; who has the index open sees it at once."""
        put(index, record(1), record(2, embedding=None))
        before = index.read(["cache_00001"])[0].embedding
        assert before is not None
        other.poll()
        try:
            copies = [index.set_vector_type(kind) for kind in ("float16", "float16", "float32")]
        except ConfigError:
            assert index.vector_type() == "float32"
            assert_same(index.read(["cache_00001"]), [record(1)])
            return
        assert copies[1:] == [None, None]
        changes = other.poll()
        assert changes is not None
        assert changes.complete
        assert other.vector_type() == "float32"
        rounded = record(1, embedding=stored_as(before, "float16"))
        assert_same(other.read(["cache_00001", "cache_00002"]), [rounded, record(2, embedding=None)])

    def test_an_index_without_vectors_takes_any_length_again(self, index: IndexBackend) -> None:
        """When the last vector is gone, so is what its length meant."""
        put(index, record(1))
        take_out(index, "cache_00001")
        assert index.spaces() == set()

    def test_a_vector_is_replaced_added_and_taken_away(
        self, index: IndexBackend, other: IndexBackend
    ) -> None:
        """`embed` changes the vector alone, whatever encoder and length it has; others read it too."""
        put(index, record(1), record(2, embedding=None), record(3))
        new = vector(9, 5, "suite-2")
        with index_write(index) as writer:
            for cache_id, embedding in (("cache_00002", new), ("never", new), ("cache_00003", None)):
                writer.embed(cache_id, embedding)
            writer.embed("cache_00001", new)
        expected = [record(1, embedding=new), record(2, embedding=new), record(3, embedding=None)]
        for reader in (index, other):
            reader.poll()
            assert_same(reader.read([each.cache_id for each in expected]), expected)
            assert [brief.cache_id for brief, _ in reader.vectors()] == ["cache_00001", "cache_00002"]
            some = list(reader.vectors(["cache_00002", "never", "cache_00003"]))
            assert [brief.cache_id for brief, _ in some] == ["cache_00002"]
            assert ("suite-2", 5) in reader.spaces()

    def test_a_new_vector_takes_the_place_of_what_another_program_wrote(
        self, tmp_path: Path, index: IndexBackend
    ) -> None:
        """A mapping, or numbers of double precision, would hide the vector; all other keys stay."""
        put(
            index,
            record(1, embedding=None, extra=b'{"embedding":{"colour":[0.1]},"encoder":"theirs","mine":[1]}'),
            record(2, embedding=vector(2), extra=b'{"embedding":[0.1,0.2]}'),
            record(3, embedding=vector(3), extra=b'{"mine":2,"embedding":[0.1,0.2]}'),
        )
        with index_write(index) as writer:
            writer.embed("cache_00001", vector(4))
            writer.embed("cache_00002", vector(5))
            writer.embed("cache_00003", None)
        fresh = self.make(tmp_path)
        fresh.poll()
        expected = [
            record(1, embedding=vector(4), extra=b'{"mine":[1]}'),
            record(2, embedding=vector(5), extra=b"{}"),
            record(3, embedding=None, extra=b'{"mine":2}'),
        ]
        assert_same(fresh.read([each.cache_id for each in expected]), expected)
        fresh.close()

    def test_an_index_whose_vectors_were_taken_away_takes_any_length_again(self, index: IndexBackend) -> None:
        """The same as when the last entry with a vector is removed."""
        put(index, record(1), record(2))
        for number in (1, 2):
            assert index.spaces() == {("suite-1", 8)}
            with index_write(index) as writer:
                writer.embed(f"cache_{number:05d}", None)
        assert index.spaces() == set()

    # -- writing

    def test_a_write_that_fails_changes_nothing(self, tmp_path: Path, index: IndexBackend) -> None:
        """Leaving the block by an exception commits nothing: no row, no number, no trash."""
        put(index, record(1), record(2))

        def fail() -> None:
            with index.write() as writer:
                writer.next_number()
                writer.put(record(3))
                writer.remove(["cache_00001"])
                writer.pin("cache_00002", True)
                writer.embed("cache_00002", vector(7))
                raise ZeroDivisionError

        expected = (index.next_number(), [*index.briefs()])
        with pytest.raises(ZeroDivisionError):
            fail()
        assert (index.next_number(), [*index.briefs()]) == expected
        with index.write() as writer:
            assert index.poll() is None
            assert list(writer.trash()) == []
        fresh = self.make(tmp_path)
        fresh.poll()
        assert_same(fresh.read(["cache_00001", "cache_00002", "cache_00003"]), [record(1), record(2)])
        fresh.close()

    def test_numbers_count_up_and_never_come_again(self, tmp_path: Path, index: IndexBackend) -> None:
        """Not in one write, not after removal, not in another object."""
        with index.write() as writer:
            numbers = [writer.next_number(), writer.next_number()]
            for number in numbers:
                writer.put(record(number))
        take_out(index, "cache_00001", "cache_00002")
        fresh = self.make(tmp_path)
        fresh.poll()
        assert (numbers, index.next_number(), fresh.next_number()) == ([1, 2], 3, 3)
        with fresh.write() as writer:
            assert writer.next_number() == 3
        fresh.close()

    def test_numbers_given_back_come_again_unless_higher_ones_were_given(self, index: IndexBackend) -> None:
        """Those that no entry got; what was put under a higher number in between keeps them from coming."""
        with index.write() as writer:
            assert [writer.next_number() for _ in range(4)] == [1, 2, 3, 4]
            writer.put(record(1))
        with index.write() as writer:
            writer.give_back(range(2, 5))
            assert writer.next_number() == 2
        with index.write() as writer:
            assert [writer.next_number() for _ in range(3)] == [3, 4, 5]
            writer.put(record(5))
        with index.write() as writer:
            writer.give_back(range(3, 5))
            assert writer.next_number() == 6

    def test_removed_files_are_remembered_until_they_are_deleted(
        self, tmp_path: Path, index: IndexBackend
    ) -> None:
        """Between a commit and the deletion of a file a crash may come: the name stays in the trash."""
        put(index, record(1), record(2), record(3))
        with index.write() as writer:
            writer.remove(["cache_00001", "cache_00003"])
            assert set(writer.trash()) == {"cache_00001.png", "cache_00003.png"}
        fresh = self.make(tmp_path)
        fresh.poll()
        with fresh.write() as writer:
            assert set(writer.trash()) == {"cache_00001.png", "cache_00003.png"}
            writer.forget_trash(["cache_00001.png", "never.png"])
        with index_write(index) as writer:
            assert list(writer.trash()) == ["cache_00003.png"]
        fresh.close()

    def test_a_file_of_two_entries_goes_with_the_last(self, index: IndexBackend) -> None:
        """Other programs name one file twice; removing one entry must not condemn the picture."""
        put(index, record(1, image_name="shared.png"), record(2, image_name="shared.png"))
        take_out(index, "cache_00001")
        with index_write(index) as writer:
            assert list(writer.trash()) == []
        take_out(index, "cache_00002")
        with index_write(index) as writer:
            assert list(writer.trash()) == ["shared.png"]

    def test_pins_and_uses_are_written(self, index: IndexBackend, other: IndexBackend) -> None:
        """A pin is set and taken away; a last use only goes forward; ids that are gone are passed over."""
        put(index, record(1), record(2))
        later = record(9).used_ns
        with index_write(index) as writer:
            writer.pin("cache_00001", True)
            writer.use({"cache_00002": later, "never": later, "cache_00001": 5})
        for reader in (index, other):
            reader.poll()
            assert_same(
                reader.read(["cache_00001", "cache_00002"]),
                [record(1, pinned=True), record(2, used_ns=later)],
            )
        with index_write(index) as writer:
            writer.pin("cache_00001", False)
        assert_same(index.read(["cache_00001"]), [record(1)])

    def test_many_are_changed_in_one_write(self, index: IndexBackend, other: IndexBackend) -> None:
        """More than one statement takes: each is used, removed or seen once, whatever its id looks like."""
        odd = [replace(record(1301), cache_id='"quoted", it\'s'), replace(record(1302), cache_id="zero\0é")]
        put(index, *(record(number) for number in range(1, 1301)), *odd)
        other.poll()
        later = record(2000).used_ns
        ids = [f"cache_{number:05d}" for number in range(1, 1301)] + [each.cache_id for each in odd]
        with index_write(index) as writer:
            writer.use(dict.fromkeys([*ids[:1200], *ids[-2:], "never"], later))
        changes = other.poll()
        for reader in (index, other):
            found = reader.find(ids)
            assert [brief.cache_id for brief in found] == ids
            late = [brief.cache_id for brief in found if brief.used_ns == later]
            assert late == [*ids[:1200], *ids[-2:]]
            assert [brief.cache_id for brief in reader.ordered("used")][:100] == ids[1200:1300]
        assert changes is not None
        assert changes.complete or {brief.cache_id for brief in changes.briefs} == {*late}
        take_out(index, *ids[100:])
        changes = other.poll()
        assert changes is not None
        assert changes.complete or sorted(changes.removed) == sorted(ids[100:])
        for reader in (index, other):
            assert [brief.cache_id for brief in reader.briefs()] == ids[:100]
            by_time = sorted(reader.briefs(), key=lambda brief: (brief.timestamp, brief.number))
            assert [brief.cache_id for brief in reader.ordered("time")] == [each.cache_id for each in by_time]
        with index_write(index) as writer:
            assert len(writer.trash()) == 1202
            writer.forget_trash([record(number).image_name for number in range(101, 1301)])
            assert sorted(writer.trash()) == sorted(each.image_name for each in odd)

    # -- following others

    def test_nothing_new_is_none(self, index: IndexBackend, other: IndexBackend) -> None:
        """Looking again without a change costs nothing; own writes are known already."""
        assert index.poll() is None
        put(index, record(1))
        assert index.poll() is None
        assert other.poll() is not None
        assert other.poll() is None

    def test_others_changes_are_seen(self, index: IndexBackend, other: IndexBackend) -> None:
        """A reader that applies what it is told knows what the writer knows."""
        seen: dict[str, Any] = {}
        put(index, record(1), record(2))
        follow(seen, other)
        with index_write(index) as writer:
            writer.remove(["cache_00001"])
            writer.put(record(3))
            writer.pin("cache_00002", True)
        follow(seen, other)
        with index_write(index) as writer:
            writer.embed("cache_00003", vector(8))
        changes = other.poll()
        assert changes is not None
        assert changes.complete or "cache_00003" in [brief.cache_id for brief in changes.briefs]
        assert {cache_id: brief.pinned for cache_id, brief in seen.items()} == {
            "cache_00002": True,
            "cache_00003": False,
        }

    def test_a_writer_is_told_what_happened_before_its_turn(
        self, index: IndexBackend, other: IndexBackend
    ) -> None:
        """In a write `poll` gives the changes up to now, so that nobody writes over what another wrote."""
        put(index, record(1))
        with other.write() as writer:
            changes = other.poll()
            assert changes is not None
            assert changes.complete or [brief.cache_id for brief in changes.briefs] == ["cache_00001"]
            assert [brief.cache_id for brief in writer.find(["cache_00001"])] == ["cache_00001"]
            assert writer.next_number() == 2
            writer.put(record(2))
        index.poll()
        assert [brief.cache_id for brief in index.briefs()] == ["cache_00001", "cache_00002"]

    def test_one_writer_at_a_time(self, tmp_path: Path, index: IndexBackend) -> None:
        """A second writer waits as long as it was told, then says who is in the way."""
        put(index, record(1))
        hasty = self.make(tmp_path, lock_timeout=0.02)
        hasty.poll()

        def write() -> None:
            with hasty.write():
                pass

        with index.write():
            with pytest.raises(LockTimeoutError, match="another process is writing"):
                write()
            assert_same(hasty.read(["cache_00001"]), [record(1)])
        write()
        hasty.close()

    # -- the whole content at once

    def test_all_can_be_replaced_in_one_step(self, index: IndexBackend, other: IndexBackend) -> None:
        """New records, next number and foreign keys; one who has it open forgets what was there."""
        put(index, record(1), record(2), record(3))
        seen: dict[str, Any] = {}
        other.poll()
        seen.update({brief.cache_id: brief for brief in other.briefs()})
        index.replace_all([record(2), record(7)], 40, {"owner": "somebody", "nested": {"a": [1, 2.5]}})
        follow(seen, other)
        assert sorted(seen) == ["cache_00002", "cache_00007"]
        assert (other.next_number(), other.extra()) == (40, {"owner": "somebody", "nested": {"a": [1, 2.5]}})
        assert_same(other.read(["cache_00007", "cache_00003"]), [record(7)])

    def test_all_can_be_replaced_by_nothing(self, index: IndexBackend, other: IndexBackend) -> None:
        """An empty content is a content too."""
        put(index, record(1))
        seen: dict[str, Any] = {}
        other.poll()
        seen.update({brief.cache_id: brief for brief in other.briefs()})
        index.replace_all([], 2, {})
        follow(seen, other)
        assert (seen, other.next_number(), other.extra()) == ({}, 2, {})

    def test_foreign_keys_survive_writes(self, tmp_path: Path, index: IndexBackend) -> None:
        """What another program noted in the index stays there."""
        index.replace_all([record(1)], 2, {"owner": [1, None, "x"]})
        put(index, record(2))
        fresh = self.make(tmp_path)
        fresh.poll()
        assert fresh.extra() == {"owner": [1, None, "x"]}
        fresh.close()

    def test_everything_sound_can_be_salvaged(self, tmp_path: Path, index: IndexBackend) -> None:
        """Of an undamaged index salvage gives all, and a number above every id."""
        put(index, record(1), record(30))
        fresh = self.make(tmp_path)
        found, number = fresh.salvage()
        assert_same(found, [record(1), record(30)])
        assert number > 30
        fresh.close()

    def test_nobody_writes_to_a_retired_index(self, index: IndexBackend, other: IndexBackend) -> None:
        """After another index took its place, a write is refused until it is filled again."""
        put(index, record(1))
        other.poll()
        with index_write(index) as writer:
            writer.retire()
        Path(other.path.with_suffix(".sqlite")).touch()  # what takes the place of a JSON index

        def write() -> None:
            with other.write():
                pass

        with pytest.raises(CacheClosedError):
            write()
        index.replace_all([record(1)], 2, {})
        assert not index.retired()

    def test_damage_is_reported_every_time_and_never_written_over(
        self, tmp_path: Path, index: IndexBackend
    ) -> None:
        """Rubbish in the place of the index: each look and each write refuses, the bytes stay."""
        if not self.one_file:
            return
        put(index, record(1))
        index.close()
        for leftover in index.path.parent.glob(f"{index.path.name}-*"):
            leftover.unlink()
        rubbish = b"this is no index at all" * 300
        index.path.write_bytes(rubbish)
        broken = self.make(tmp_path)

        def write() -> None:
            with broken.write() as writer:
                writer.put(record(2))

        for attempt in (broken.poll, write, broken.poll, write):
            with pytest.raises(IndexCorruptError, match=str(index.path)):
                attempt()
        assert index.path.read_bytes() == rubbish
        broken.close()
