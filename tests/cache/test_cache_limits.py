"""Limits and eviction: `max_size`, `max_bytes`, pins, `lru` and `oldest`, and ids that never come again."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reverie.cache.convert import convert
from reverie.errors import CacheFullError, StorageError, UnknownNameError
from reverie.testing.samples import picture

Open = Callable[..., Any]
Source = Callable[..., Path]


def filled(cache: Any, count: int) -> list[str]:
    """Add ``count`` pictures; their ids."""
    return [cache.add(picture(seed), f"prompt {seed}") for seed in range(count)]


def test_eviction_takes_file_and_metadata(open_cache: Open, kind: str) -> None:
    """Neither the row nor the picture of an evicted entry stays, in memory and on the disk."""
    cache = open_cache(max_size=2, index=kind)
    filled(cache, 5)
    for each in (cache, open_cache(max_size=2)):
        assert each.ids() == ["cache_00004", "cache_00005"]
        assert sorted(path.stem for path in each.image_dir.iterdir()) == each.ids()
        assert each.get("cache_00001") is None


@pytest.mark.parametrize(("policy", "stays"), [("lru", True), ("oldest", False)])
def test_a_use_saves_from_lru_and_not_from_oldest(
    open_cache: Open, kind: str, policy: str, stays: bool
) -> None:
    """`lru` looks at the last use, `oldest` at the timestamp alone."""
    cache = open_cache(max_size=3, eviction=policy, index=kind)
    ids = filled(cache, 3)
    cache.get(ids[0])
    cache.add(picture(9))
    assert (ids[0] in cache) is stays


@pytest.mark.parametrize("policy", ["lru", "oldest"])
def test_without_uses_both_take_the_oldest_first(open_cache: Open, kind: str, policy: str) -> None:
    """The specification's order, also for what an earlier process added."""
    filled(open_cache(max_size=4, eviction=policy, index=kind), 4)
    cache = open_cache(max_size=4, eviction=policy, index=kind)
    evicted: list[str] = []
    cache.on_evicted.append(lambda entry: evicted.append(entry.cache_id))
    filled(cache, 4)
    assert evicted == [f"cache_{number:05d}" for number in range(1, 5)]


@pytest.mark.parametrize("policy", ["lru", "oldest"])
def test_a_pin_is_never_evicted(open_cache: Open, kind: str, policy: str) -> None:
    """Pinned at the add or later, until it is unpinned; `remove` and `clear` may take it."""
    cache = open_cache(max_size=3, eviction=policy, index=kind)
    first = cache.add(picture(0), pinned=True)
    second = cache.add(picture(1))
    cache.pin(second)
    filled(cache, 6)
    for each in (cache, open_cache(max_size=3, eviction=policy)):
        assert each.ids()[:2] == [first, second]
        assert [entry.pinned for entry in each.get_all()] == [True, True, False]
    cache.unpin(first)
    filled(cache, 1)
    assert first not in cache
    cache.clear(keep_pinned=True)
    assert cache.ids() == [second]
    cache.remove(second)
    assert cache.size() == 0


@pytest.mark.parametrize("limit", [{"max_size": 2}, {"max_size": None, "max_bytes": 900}])
def test_a_cache_full_of_pins_refuses_and_stays_as_it_is(
    open_cache: Open, snapshot: Callable[[Path], Any], kind: str, limit: dict[str, Any]
) -> None:
    """Nothing may go: the add says so and leaves no trace."""
    cache = open_cache(index=kind, **limit)
    for cache_id in filled(cache, 2):
        cache.pin(cache_id)
    before, entries = snapshot(cache.cache_dir), cache.get_all()
    with pytest.raises(CacheFullError, match="pinned"):
        cache.add(picture(5))
    assert (snapshot(cache.cache_dir), cache.get_all()) == (before, entries)


def test_max_bytes_counts_the_images(open_cache: Open, source: Source, kind: str) -> None:
    """As many old ones go as the new one needs, and not one more."""
    small, large = source(1, 8), source(2, 12)
    limit = 3 * small.stat().st_size + 10
    assert small.stat().st_size < large.stat().st_size < limit
    cache = open_cache(max_size=None, max_bytes=limit, index=kind)
    ids = [cache.add(small) for _ in range(3)]
    assert cache.size() == 3
    ids.append(cache.add(large))
    needed = large.stat().st_size
    kept = (limit - needed) // small.stat().st_size
    assert cache.ids() == ids[3 - kept :]
    assert cache.total_bytes() <= limit


def test_an_image_above_max_bytes_is_refused(
    open_cache: Open, source: Source, snapshot: Callable[[Path], Any], kind: str
) -> None:
    """It could never fit: nothing is evicted for it."""
    cache = open_cache(max_size=None, max_bytes=1000, index=kind)
    cache.add(source(1, 8))
    before = snapshot(cache.cache_dir)
    with pytest.raises(CacheFullError, match="more than max_bytes=1,000"):
        cache.add(source(2, 40))
    assert snapshot(cache.cache_dir) == before


def test_without_limits_nothing_goes(open_cache: Open) -> None:
    """`max_size=None` is unbounded (and an SQLite index)."""
    cache = open_cache(max_size=None)
    assert len(filled(cache, 120)) == cache.size() == 120
    assert cache.index_kind == "sqlite"


def test_limits_hold_from_opening_on(open_cache: Open, kind: str) -> None:
    """A smaller limit than what is there is applied at once, pins excepted."""
    cache = open_cache(max_size=None, index=kind)
    ids = filled(cache, 6)
    cache.pin(ids[0])
    cache.get(ids[1])
    cache.close()
    again = open_cache(max_size=3)
    assert again.ids() == [ids[0], ids[1], ids[5]]
    assert sorted(path.stem for path in again.image_dir.iterdir()) == again.ids()
    assert again.check().ok
    again.pin(ids[1])
    assert open_cache(max_size=1).ids() == [ids[0], ids[1]]


def test_an_unwritable_cache_above_its_limit_can_be_looked_at(
    open_cache: Open, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Eviction on opening needs to write; where it cannot, opening still works."""
    filled(open_cache(max_size=None, index=kind), 3)

    def refuse(*arguments: Any) -> Any:
        raise StorageError("read-only")

    with open_cache(max_size=None) as cache:
        monkeypatch.setattr(type(cache._index), "write", refuse)
    assert open_cache(max_size=1).size() == 3


def test_an_unknown_policy_is_named(open_cache: Open) -> None:
    """With the names that exist, before anything is created."""
    with pytest.raises(UnknownNameError, match=r"'fifo'.*lru, maxmin, oldest, reservoir, rke"):
        open_cache(eviction="fifo")


def test_a_file_that_cannot_be_deleted_is_tried_again(
    open_cache: Open, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A crash or an error between commit and deletion leaves the name in the index's trash."""
    cache = open_cache(max_size=1, index=kind)
    filled(cache, 1)

    def refuse(*arguments: Any) -> None:
        raise StorageError("busy")

    with monkeypatch.context() as patch:
        patch.setattr(type(cache._images), "delete", refuse)
        cache.add(picture(1))
    assert (cache.image_dir / "cache_00001.png").exists()
    assert cache.check().ok
    cache.close()
    again = open_cache(max_size=1)
    again.add(picture(2))
    assert [path.name for path in again.image_dir.iterdir()] == ["cache_00003.png"]


# -- ids


def test_ids_never_come_again(open_cache: Open, kind: str) -> None:
    """Not after eviction, removal, clear or a restart."""
    cache = open_cache(max_size=2, index=kind)
    given = filled(cache, 4)
    cache.remove(given[-1])
    given += filled(cache, 1)
    cache.clear()
    given += filled(cache, 2)
    cache.clear()
    cache.close()
    given += filled(open_cache(max_size=2, index=kind), 2)
    assert given == [f"cache_{number:05d}" for number in range(1, 10)]


def test_ids_of_two_managers_and_a_process_never_meet(open_cache: Open, kind: str) -> None:
    """Whoever adds takes the next number."""
    cache, other = open_cache(index=kind), open_cache(index=kind)
    given = [each.add(picture(0)) for _ in range(3) for each in (cache, other)]
    code = (
        "import sys; from reverie import CacheManager; from reverie.testing.samples import picture\n"
        "print(CacheManager(sys.argv[1]).add(picture(1)))"
    )
    run = [sys.executable, "-c", code, str(cache.cache_dir)]
    given.append(subprocess.run(run, capture_output=True, text=True, check=True).stdout.strip())
    given.append(other.add(picture(2)))
    assert given == [f"cache_{number:05d}" for number in range(1, 9)]


def test_ids_survive_a_program_that_drops_our_keys(open_cache: Open) -> None:
    """The specification's own project writes its six keys only: the counter has a second place."""
    cache = open_cache(index="json")
    filled(cache, 5)
    for cache_id in ("cache_00004", "cache_00005"):
        cache.remove(cache_id)
    content = json.loads(cache.index_path.read_bytes())
    del content["next_id"]
    cache.index_path.write_text(json.dumps(content))
    assert cache.add(picture(9)) == "cache_00006"
    assert open_cache().add(picture(9)) == "cache_00007"


@pytest.mark.parametrize("nonsense", [-5, 0, 2.5, "7", None, True, 10**18])
def test_a_nonsense_counter_is_not_believed(open_cache: Open, nonsense: Any) -> None:
    """``next_id`` of a wrong type or size: the ids there are decide."""
    cache = open_cache(index="json")
    filled(cache, 3)
    content = json.loads(cache.index_path.read_bytes())
    cache.index_path.write_text(json.dumps({**content, "next_id": nonsense}))
    cache.index_path.with_name("next_id").unlink()
    assert cache.add(picture(9)) == "cache_00004"


def test_ids_go_on_after_convert(open_cache: Open, kind: str) -> None:
    """The counter comes along, both ways."""
    cache = open_cache(index=kind)
    filled(cache, 3)
    cache.clear()
    cache.close()
    for number in (4, 5):
        convert(cache.cache_dir, "sqlite" if open_cache().index_kind == "json" else "json")
        assert open_cache().add(picture(0)) == f"cache_{number:05d}"


def test_a_file_that_has_the_name_already_is_not_overwritten(open_cache: Open, kind: str) -> None:
    """Someone put a picture into images/: its number is passed over."""
    cache = open_cache(index=kind)
    (cache.image_dir / "cache_00001.png").write_bytes(b"mine")
    assert cache.add(picture(0)) == "cache_00002"
    assert (cache.image_dir / "cache_00001.png").read_bytes() == b"mine"
