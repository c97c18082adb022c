"""Looking at a cache: `get`, `get_all`, `get_random`, `in`, length, iteration, embeddings, closing."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reverie.cache import session as session_module
from reverie.errors import (
    CacheClosedError,
    EmbeddingError,
    EncoderMismatchError,
    EntryNotFoundError,
    ImageNotFoundError,
    InputError,
    StorageError,
)
from reverie.storage import file_hash
from reverie.testing.samples import picture, vector

Open = Callable[..., Any]


def filled(cache: Any, count: int = 4) -> list[str]:
    """Add ``count`` pictures; their ids."""
    return [cache.add(picture(seed), f"prompt {seed}", {}, vector(seed)) for seed in range(count)]


def test_get_counts_as_a_use_and_get_all_does_not(open_cache: Open, kind: str) -> None:
    """Only what was asked for by name, or drawn, is recently used."""
    cache = open_cache(index=kind)
    ids = filled(cache)
    used = {entry.cache_id: entry.used_ns for entry in cache.get_all()}
    assert [entry.used_ns for entry in cache.get_all()] == list(used.values())
    assert cache.get(ids[1]).used_ns > used[ids[1]]
    assert cache.read_image(ids[2])
    drawn = cache.get_random()
    assert drawn.used_ns > max(used.values())
    changed = {entry.cache_id for entry in cache.get_all() if entry.used_ns != used[entry.cache_id]}
    assert changed == {ids[1], ids[2], drawn.cache_id}


def test_what_can_be_no_id_is_refused(open_cache: Open, kind: str) -> None:
    """A list is no id, wherever one is asked for; another type that is none is just not there."""
    cache = open_cache(index=kind)
    filled(cache, 1)
    asks = [cache.get, cache.read_image, cache.remove, cache.pin, cache.unpin, cache.__contains__]
    for ask in (*asks, lambda cache_id: cache.peek([cache_id])):
        with pytest.raises(InputError, match=r"an id is text, got \['cache_00001'\]"):
            ask(["cache_00001"])
    assert cache.get(5) is None
    assert None not in cache


def test_uses_survive_closing_and_flush_writes_them(open_cache: Open, kind: str) -> None:
    """Last uses are hints: written with the next write, at `flush` and at `close`."""
    cache = open_cache(index=kind)
    ids = filled(cache)
    first = cache.get(ids[0]).used_ns
    cache.flush()
    assert open_cache(index=kind).get_all()[0].used_ns == first
    second = cache.get(ids[1]).used_ns
    cache.close()
    assert open_cache(index=kind).get_all()[1].used_ns == second


def test_the_later_of_two_uses_counts(open_cache: Open, kind: str) -> None:
    """A use that is written late does not undo a later one of another process."""
    cache, other = open_cache(index=kind), open_cache(index=kind)
    (cache_id,) = filled(cache, 1)
    earlier = cache.get(cache_id).used_ns
    later = other.get(cache_id).used_ns
    other.flush()
    assert cache.size() == 1
    assert cache.get_all()[0].used_ns == later > earlier
    cache.pin(cache_id)
    assert cache.peek([cache_id])[0].used_ns == later
    for each in (cache, other, open_cache()):
        assert each.get_all()[0].used_ns == later


def test_uses_go_forward_when_the_clock_goes_back(
    open_cache: Open, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """The system's clock may be set back; what was used last stays last, and is not evicted first."""
    cache = open_cache(max_size=3, index=kind)
    ids = filled(cache, 3)
    past = time.time_ns() - 3_600_000_000_000
    monkeypatch.setattr(session_module.time, "time_ns", lambda: past)
    assert cache.get(ids[0]).used_ns > cache.get_all()[2].used_ns
    cache.add(picture(9))
    assert ids[0] in cache
    assert ids[1] not in cache


def test_get_of_an_unknown_id_is_none(open_cache: Open, kind: str) -> None:
    """Never added, empty, another type: no entry, no error."""
    cache = open_cache(index=kind)
    filled(cache, 1)
    for unknown in ("cache_00002", "", "\ud83e", 5, None):
        assert cache.get(unknown) is None
        assert unknown not in cache


def test_an_entry_is_a_snapshot_of_ones_own(open_cache: Open, kind: str) -> None:
    """Changing what was returned changes nothing in the cache."""
    cache = open_cache(index=kind)
    cache_id = cache.add(picture(0), "p", {"list": [1]})
    entry = cache.get(cache_id)
    entry.prompt = "changed"
    entry.generation_params["list"].append(2)
    assert cache.get(cache_id).prompt == "p"
    assert cache.get(cache_id).generation_params == {"list": [1]}


def test_get_random_is_even(open_cache: Open) -> None:
    """Chi-square over 2,000 draws from 10 entries: 9 degrees of freedom, 27.88 is passed once in 1,000."""
    cache = open_cache(seed=5)
    ids = filled(cache, 10)
    drawn = [cache.get_random().cache_id for _ in range(2000)]
    counts = np.array([drawn.count(cache_id) for cache_id in ids])
    assert counts.sum() == 2000
    assert ((counts - 200) ** 2 / 200).sum() < 27.88


def test_get_random_repeats_with_its_seed(open_cache: Open) -> None:
    """Seeded draws are the same, others are not, an empty cache gives None."""
    assert open_cache().get_random() is None
    filled(open_cache(), 10)
    draws = [
        [open_cache(seed=seed).get_random().cache_id]
        + [cache.get_random().cache_id for cache in [open_cache(seed=seed)] for _ in range(8)]
        for seed in (1, 1, 2)
    ]
    assert draws[0] == draws[1] != draws[2]


def test_a_cache_is_a_collection(open_cache: Open, kind: str) -> None:
    """Length, membership and iteration, oldest first; entries that come meanwhile do not disturb it."""
    cache = open_cache(index=kind, max_size=None)
    ids = filled(cache, 3)
    assert (len(cache), cache.size(), ids[1] in cache, "never" in cache) == (3, 3, True, False)
    seen = []
    for entry in cache:
        seen.append(entry.cache_id)
        cache.add(picture(len(seen)))
    assert seen == ids
    assert cache.ids() == [entry.cache_id for entry in cache.get_all()] == [entry.cache_id for entry in cache]


def test_content_hashes_are_those_of_the_files(open_cache: Open, kind: str) -> None:
    """One for every content that is there, in pages or not; what is removed goes."""
    cache = open_cache(index=kind)
    first, *_ = [cache.add(picture(number % 3)) for number in range(4)]
    cache.add(picture(7))
    assert cache.content_hashes() == {file_hash(path) for path in cache.image_dir.iterdir()}
    assert len(cache.content_hashes()) == 4
    cache.remove(first)
    assert len(cache.content_hashes()) == 4
    cache.clear()
    assert cache.content_hashes() == set()


def test_total_bytes_is_what_the_files_take(open_cache: Open, kind: str) -> None:
    """The sum over the files, kept right through removal."""
    cache = open_cache(index=kind)
    ids = filled(cache, 3)
    cache.remove(ids[1])
    assert cache.total_bytes() == sum(path.stat().st_size for path in cache.image_dir.iterdir())


def test_a_closed_cache_says_so(open_cache: Open, kind: str) -> None:
    """Every method refuses; closing again is fine; `with` closes."""
    with open_cache(index=kind) as cache:
        filled(cache, 1)
    cache.close()
    calls: list[Callable[[], Any]] = [
        lambda: cache.add(picture(0)),
        lambda: cache.get("cache_00001"),
        cache.get_all,
        cache.get_random,
        cache.size,
        cache.flush,
        cache.check,
        cache.clear,
        cache.embeddings,
        lambda: cache.pin("cache_00001"),
        lambda: cache.remove("cache_00001"),
        lambda: "cache_00001" in cache,
        lambda: list(cache),
        lambda: len(cache),
    ]
    for call in calls:
        with pytest.raises(CacheClosedError, match="closed"):
            call()
    assert "closed" in repr(cache)
    assert not [path for path in cache.image_dir.iterdir() if path.name.startswith(".")]


def test_what_is_not_there_cannot_be_changed(open_cache: Open, kind: str) -> None:
    """`remove`, `pin`, `unpin` and `read_image` name the id."""
    cache = open_cache(index=kind)
    for method in (cache.remove, cache.pin, cache.unpin, cache.read_image):
        with pytest.raises(EntryNotFoundError, match="cache_00007"):
            method("cache_00007")
        with pytest.raises(KeyError):
            method("cache_00007")


def test_closing_never_fails_for_the_sake_of_last_uses(
    open_cache: Open, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """On a disk that became read-only a cache can be looked at and closed; `flush` says what is wrong."""
    cache = open_cache(index=kind)
    filled(cache, 1)
    monkeypatch.setattr(type(cache._index), "write", refuse_to_write)
    cache.get("cache_00001")
    with pytest.raises(StorageError, match="read-only"):
        cache.flush()
    cache.close()


def refuse_to_write(*arguments: Any) -> Any:
    """Stands in for an index on a read-only disk."""
    raise StorageError("read-only")


def test_a_vanished_image_is_named(open_cache: Open, kind: str) -> None:
    """The entry stays; reading its picture says that the file is gone."""
    cache = open_cache(index=kind)
    (cache_id,) = filled(cache, 1)
    cache.get(cache_id).image_path.unlink()
    with pytest.raises(ImageNotFoundError, match=r"cache_00001\.png is gone"):
        cache.read_image(cache_id)
    assert cache.get(cache_id).prompt == "prompt 0"
    cache.remove(cache_id)
    assert cache.size() == 0


# -- embeddings


def test_embeddings_are_a_snapshot_in_order(open_cache: Open, kind: str) -> None:
    """Ids and rows belong together, oldest first; entries without vector and later changes are not in it."""
    cache = open_cache(index=kind, max_size=5)
    ids = filled(cache, 3)
    without = cache.add(picture(8))
    found = cache.embeddings()
    assert (list(found.ids), found.encoder, found.matrix.dtype) == (ids, "suite-1", np.float32)
    assert np.array_equal(found.matrix, np.stack([vector(seed) for seed in range(3)]))
    assert not found.matrix.flags.writeable
    before = found.matrix.copy()
    for seed in range(20, 90):
        cache.add(picture(seed), embedding=vector(seed))
    assert np.array_equal(found.matrix, before)
    now = cache.embeddings()
    assert without not in cache
    assert list(now.ids) == cache.ids()
    assert np.array_equal(now.matrix, np.stack([vector(seed) for seed in range(85, 90)]))


def test_embeddings_of_two_writers_stay_in_order(open_cache: Open, kind: str) -> None:
    """What another process added first comes first, whoever looks when."""
    cache, other = open_cache(index=kind), open_cache(index=kind)
    cache.add(picture(0), embedding=vector(0))
    assert len(cache.embeddings()) == len(other.embeddings()) == 1
    for seed in range(1, 9):
        (cache if seed % 2 else other).add(picture(seed), embedding=vector(seed))
    for each in (cache, other):
        found = each.embeddings()
        assert list(found.ids) == each.ids()
        assert np.array_equal(found.matrix, np.stack([vector(seed) for seed in range(9)]))


def test_no_embeddings_are_an_empty_set(open_cache: Open, kind: str) -> None:
    """An empty cache, and an encoder nobody used."""
    cache = open_cache(index=kind)
    assert len(cache.embeddings()) == 0
    filled(cache, 1)
    assert len(cache.embeddings("never used")) == 0


def test_encoders_are_not_mixed(open_cache: Open, kind: str) -> None:
    """With vectors of two encoders one has to be named; the error names both."""
    cache = open_cache(index=kind)
    cache.add(picture(0), embedding=vector(0, 8, "clip-b32"))
    cache.add(picture(1), embedding=vector(1, 16, "descriptor-1"))
    for each in (cache, open_cache()):
        with pytest.raises(EncoderMismatchError, match=r"clip-b32 \(1\), descriptor-1 \(1\)"):
            each.embeddings()
        assert each.embeddings("descriptor-1").ids == ("cache_00002",)
        assert each.embeddings("clip-b32").matrix.shape == (1, 8)
    with pytest.raises(EmbeddingError, match="'clip-b32' in this cache have 8"):
        cache.add(picture(2), embedding=vector(2, 16, "clip-b32"))


def test_an_emptied_cache_takes_vectors_of_another_length(open_cache: Open, kind: str) -> None:
    """The length is that of the vectors there are, also as seen by another manager."""
    cache, other = open_cache(index=kind), open_cache(index=kind)
    cache.add(picture(0), embedding=[1.0, 2.0])
    other.clear()
    other.add(picture(1), embedding=[1.0, 2.0, 3.0])
    with pytest.raises(EmbeddingError, match="has 2 numbers, but the vectors in this cache have 3"):
        cache.add(picture(2), embedding=[1.0, 2.0])
    assert cache.embeddings().matrix.shape == (1, 3)


def test_a_reader_keeps_up_without_growing(open_cache: Open, kind: str) -> None:
    """Following a busy writer, a manager that never asks for embeddings keeps no list of what it missed."""
    cache, other = open_cache(index=kind, max_size=4), open_cache(index=kind, max_size=4)
    for seed in range(40):
        other.add(picture(seed), embedding=vector(seed))
        assert cache.size() == other.size()
    assert len(cache._mirror._unread) <= 4


def test_what_is_kept_in_memory_has_a_limit_that_nobody_sees(
    open_cache: Open, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """More entries than are kept at a time: all are given, in the order asked, by every way."""
    monkeypatch.setattr("reverie.cache.mirror._KEPT_RECORDS", 4)
    monkeypatch.setattr("reverie.cache.mirror._READ_AT_ONCE", 3)
    cache = open_cache(index=kind, max_size=None)
    ids = filled(cache, 11)
    assert len(cache._mirror._kept) <= 4
    for asked in ([ids[0], ids[10]], [ids[10], ids[0], ids[9], ids[1]], ids, ids[::-1], ids[:1] * 3):
        assert [entry.cache_id for entry in cache.peek(asked)] == asked
    assert [entry.cache_id for entry in cache] == [entry.cache_id for entry in cache.get_all()] == ids
    assert len(cache._mirror._kept) <= 4


def test_a_new_manager_reads_bodies_when_they_are_needed(open_cache: Open, tmp_path: Path, kind: str) -> None:
    """An old entry, a random one and all of them are the same whoever wrote them."""
    first = open_cache(index=kind, max_size=None)
    ids = filled(first, 12)
    fresh = open_cache(index=kind, max_size=None)
    assert fresh.get(ids[7]).prompt == "prompt 7"
    assert [entry.prompt for entry in fresh] == [f"prompt {seed}" for seed in range(12)]
    assert np.array_equal(fresh.get(ids[3]).embedding, vector(3))


def test_peek_is_not_a_use(open_cache: Open, kind: str) -> None:
    """Entries in the order asked; ids that are gone are passed over; nothing counts as used."""
    cache = open_cache(index=kind)
    ids = filled(cache)
    before = [entry.used_ns for entry in cache.get_all()]
    assert [entry.cache_id for entry in cache.peek([ids[2], "cache_09999", ids[0]])] == [ids[2], ids[0]]
    assert [entry.used_ns for entry in cache.get_all()] == before
    assert cache.peek([]) == []
