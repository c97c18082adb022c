"""Several entries in one commit: of one call, and of threads that add at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reverie.cache.adding import Arrivals, NewEntry
from reverie.cache.local_images import LocalImages
from reverie.cache.manager import CacheManager
from reverie.errors import (
    CacheFullError,
    EmbeddingError,
    ImageBatchError,
    ImageError,
    InputError,
    ParamsError,
    StorageError,
)
from reverie.testing.samples import picture, vector

Open = Callable[..., CacheManager]
Source = Callable[..., Path]


def count_commits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each commit brings, from now on."""
    commits: list[int] = []
    commit = LocalImages.commit

    def counted(self: LocalImages, named: Any, **options: Any) -> None:
        commits.append(len(named))
        commit(self, named, **options)

    monkeypatch.setattr(LocalImages, "commit", counted)
    return commits


# ----------------------------------------------------------------------------- one call


def test_a_batch_is_stored_in_order_and_in_one_commit(
    open_cache: Open, source: Source, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each entry is what `add` would have stored; a listener hears of each."""
    told: list[str] = []
    cache = open_cache(index=kind, max_size=None, on_added=[lambda entry: told.append(entry.cache_id)])
    commits = count_commits(monkeypatch)
    batch = [
        NewEntry(source(1), "one", {"steps": 4}, vector(1), parents=["cache_00009"]),
        NewEntry(picture(2), "two", pinned=True),
        NewEntry(str(source(3)), embedding=[1, 2, 2], encoder="mine"),
    ]
    assert cache.add_many(batch) == told == ["cache_00001", "cache_00002", "cache_00003"]
    assert commits == [3]
    for manager in (cache, open_cache()):
        one, two, three = manager.get_all()
        assert (one.prompt, one.generation_params, one.parents) == ("one", {"steps": 4}, ("cache_00009",))
        assert np.array_equal(one.embedding, vector(1))
        assert one.image_path.read_bytes() == source(1).read_bytes()
        assert (two.prompt, two.pinned, two.embedding) == ("two", True, None)
        assert (three.encoder, three.embedding.tolist()) == ("mine", pytest.approx([1 / 3, 2 / 3, 2 / 3]))
    assert cache.check().ok


def test_nothing_is_stored_of_no_entries(open_cache: Open, kind: str) -> None:
    """An empty batch is fine."""
    assert open_cache(index=kind).add_many([]) == []
    assert open_cache().size() == 0


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (NewEntry(picture(9), prompt=7), InputError),
        (NewEntry(picture(9), generation_params={"a": object()}), ParamsError),
        (NewEntry(picture(9), embedding=[np.nan, 1.0]), EmbeddingError),
        (NewEntry(picture(9), embedding=vector(1, 5)), EmbeddingError),
        (NewEntry(picture(9), parents="cache_00001"), InputError),
        (NewEntry("nowhere.png"), ImageBatchError),
        (NewEntry(np.zeros((3, 3))), ImageBatchError),
    ],
)
def test_one_bad_entry_of_a_batch_stores_none(  # noqa: PLR0917 - fixtures
    open_cache: Open, source: Source, kind: str, bad: NewEntry, error: type[Exception], snapshot: Any
) -> None:
    """After the error the cache is as it was, and ids go on."""
    cache = open_cache(index=kind, max_size=2)
    cache.add(picture(0), embedding=vector(0))
    before = snapshot(cache.cache_dir)
    with pytest.raises(error):
        cache.add_many([NewEntry(source(1), embedding=vector(1)), bad, NewEntry(picture(2))])
    assert snapshot(cache.cache_dir) == before
    assert cache.add_many([NewEntry(picture(1)), NewEntry(picture(2))]) == ["cache_00002", "cache_00003"]


def test_the_broken_images_of_a_batch_are_all_named(open_cache: Open, source: Source, tmp_path: Path) -> None:
    """By their places, so that the others can be stored without them."""
    (tmp_path / "text.png").write_bytes(b"no picture")
    batch = [NewEntry(each) for each in (tmp_path / "text.png", source(1), tmp_path / "gone.png", source(2))]
    cache = open_cache()
    with pytest.raises(
        ImageBatchError, match=r"2 of 4 images cannot be used, the first at place 0: .*text"
    ) as info:
        cache.add_many(batch)
    assert sorted(info.value.failures) == [0, 2]
    assert all(isinstance(each, ImageError) for each in info.value.failures.values())
    assert len(cache.add_many([batch[place] for place in info.value.indices])) == 2


def test_a_batch_larger_than_the_cache_leaves_the_last(open_cache: Open, kind: str) -> None:
    """As if they had come one by one: what went is told, with its picture gone and its number used up."""
    gone: list[Any] = []
    cache = open_cache(index=kind, max_size=3, on_evicted=[gone.append])
    cache.add(picture(0), "first")
    ids = cache.add_many([NewEntry(picture(seed), str(seed)) for seed in range(1, 8)])
    assert len(ids) == 7
    for manager in (cache, open_cache(max_size=3)):
        assert manager.ids() == ids[-3:]
        assert [entry.prompt for entry in manager.get_all()] == ["5", "6", "7"]
    assert [entry.cache_id for entry in gone] == ["cache_00001", *ids[:4]]
    assert gone[1].prompt == "1"
    assert sorted(path.stem for path in cache.image_dir.iterdir()) == ids[-3:]
    assert cache.check().ok


@pytest.mark.parametrize("eviction", ["lru", "oldest", "reservoir", "rke", "maxmin"])
def test_a_batch_evicts_what_single_adds_would(
    open_cache: Open, tmp_path: Path, kind: str, eviction: str
) -> None:
    """Every policy: the same entries are left."""
    one, many = (open_cache(tmp_path / each, index=kind, max_size=6, eviction=eviction) for each in "ab")
    new = [
        NewEntry(picture(seed), str(seed), embedding=vector(seed % 5 * 10 + seed // 5)) for seed in range(20)
    ]
    for each in new:
        one.add(each.image, each.prompt, embedding=each.embedding)
    many.add_many(new[:4])
    many.add_many(new[4:])
    assert many.ids() == one.ids()
    for each in (one, many):
        each.add(picture(30), embedding=vector(30))
    assert many.ids() == one.ids()


def test_what_all_pinned_entries_leave_no_room_for_stores_none(open_cache: Open, kind: str) -> None:
    """The second does not fit: the first is not stored either, and nothing was evicted for it."""
    cache = open_cache(index=kind, max_size=2)
    cache.add(picture(0), pinned=True)
    kept = cache.add(picture(1))
    with pytest.raises(CacheFullError):
        cache.add_many([NewEntry(picture(2), pinned=True), NewEntry(picture(3))])
    assert cache.ids() == ["cache_00001", kept]
    assert cache.check().ok


# ----------------------------------------------------------------------------- several threads


def together(
    cache: CacheManager, calls: list[Callable[[], Any]], monkeypatch: pytest.MonkeyPatch
) -> list[Any]:
    """What the calls gave when all came while one more add held the writer's place."""
    arrived = threading.Semaphore(0)
    join = Arrivals.join

    def joined(self: Arrivals, adding: Any) -> None:
        join(self, adding)
        arrived.release()

    monkeypatch.setattr(Arrivals, "join", joined)
    results: list[Any] = [None] * len(calls)

    def run(place: int) -> None:
        try:
            results[place] = calls[place]()
        except Exception as exc:  # noqa: BLE001 - it is the result
            results[place] = exc

    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(calls))]
    with cache._turn:
        for thread in threads:
            thread.start()
            arrived.acquire()
    for thread in threads:
        thread.join()
    return results


def test_threads_that_wait_for_each_other_share_a_commit(
    open_cache: Open, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever gets the writer's place takes all along who wait; each hears of its own, in its thread."""
    told: dict[int, list[str]] = {}

    def hear(entry: Any) -> None:
        told.setdefault(threading.get_ident(), []).append(entry.prompt)

    cache = open_cache(index=kind, on_added=[hear])
    commits = count_commits(monkeypatch)
    calls = [lambda seed=seed: cache.add(picture(seed), str(seed)) for seed in range(4)]
    ids = together(cache, calls, monkeypatch)
    assert commits == [4]
    assert [cache.peek([cache_id])[0].prompt for cache_id in ids] == ["0", "1", "2", "3"]
    assert sorted(told.values()) == [["0"], ["1"], ["2"], ["3"]]
    assert cache.check().ok


def test_what_is_wrong_with_one_is_told_to_that_one_only(
    open_cache: Open, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others of the commit are stored; also with a policy that had taken it into account."""
    cache = open_cache(index=kind, max_size=2, eviction="rke")
    cache.add(picture(0), embedding=vector(0), pinned=True)
    calls = [
        lambda: cache.add(picture(1), embedding=vector(1)),
        lambda: cache.add(picture(2), embedding=vector(2, 5)),
        lambda: cache.add_many([NewEntry(picture(3), pinned=True), NewEntry(picture(4))]),
        lambda: cache.add(picture(5), embedding=vector(5)),
    ]
    first, second, third, fourth = together(cache, calls, monkeypatch)
    assert isinstance(second, EmbeddingError)
    assert isinstance(third, CacheFullError)
    assert cache.ids() == ["cache_00001", fourth]
    assert first not in cache
    with cache._writing() as write:
        ranking = list(cache._evictions.ranking(write, ()))
    assert [brief.cache_id for brief in ranking] == [fourth]
    assert cache.check().ok


def test_a_refusal_of_the_disk_is_told_to_all(
    open_cache: Open, kind: str, monkeypatch: pytest.MonkeyPatch, snapshot: Any
) -> None:
    """None is stored, nothing is left behind, and all can try again."""
    cache = open_cache(index=kind)
    cache.add(picture(9))
    before = snapshot(cache.cache_dir)

    def refuse(*_: Any, **__: Any) -> None:
        raise StorageError("no space left")

    calls = [lambda seed=seed: cache.add(picture(seed), str(seed)) for seed in range(3)]
    with monkeypatch.context() as patch:
        patch.setattr(LocalImages, "commit", refuse)
        results = together(cache, calls, monkeypatch)
    assert [str(each) for each in results] == ["no space left"] * 3
    assert snapshot(cache.cache_dir) == before
    assert [call() for call in calls] == ["cache_00002", "cache_00003", "cache_00004"]


def test_an_interrupted_leader_tells_those_it_took_along(
    open_cache: Open, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the thread that writes for several: the others hear that theirs was not stored."""
    cache = open_cache(index=kind)

    class InterruptError(BaseException):
        """Stands for Ctrl-C."""

    def interrupt(*_: Any, **__: Any) -> None:
        raise InterruptError

    def call(seed: int) -> Any:
        try:
            return cache.add(picture(seed))
        except InterruptError:
            return "interrupted"

    with monkeypatch.context() as patch:
        patch.setattr(LocalImages, "commit", interrupt)
        results = together(cache, [lambda seed=seed: call(seed) for seed in range(3)], monkeypatch)
    assert sorted(str(each).split(" (")[0] for each in results) == [
        "interrupted",
        "the thread that wrote for several was interrupted",
        "the thread that wrote for several was interrupted",
    ]
    assert list(cache.image_dir.iterdir()) == []
    assert cache.add(picture(1)) == "cache_00001"


# ----------------------------------------------------------------------------- reading meanwhile


def test_readers_do_not_wait_for_the_disk(
    open_cache: Open, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """While an add waits for the disk, every question is answered, with what is committed."""
    cache = open_cache(index=kind)
    first = cache.add(picture(0), "a", embedding=vector(0))
    inside, go_on = threading.Event(), threading.Event()
    commit = LocalImages.commit

    def slow(self: LocalImages, named: Any, **options: Any) -> None:
        inside.set()
        assert go_on.wait(30)
        commit(self, named, **options)

    monkeypatch.setattr(LocalImages, "commit", slow)
    thread = threading.Thread(target=cache.add, args=(picture(1), "b", {}, vector(1)))
    thread.start()
    assert inside.wait(30)
    assert (cache.ids(), cache.size(), len(cache.embeddings())) == ([first], 1, 1)
    assert cache.get(first).prompt == "a"
    assert cache.get_random().cache_id == first
    assert [entry.cache_id for entry in cache] == [first]
    assert "cache_00002" not in cache
    go_on.set()
    thread.join()
    assert (cache.size(), len(cache.embeddings())) == (2, 2)


def test_a_reader_that_looks_between_commit_and_its_notice(
    open_cache: Open, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """What it took over from the disk, another's removal too, is not undone by the writer's own notice."""
    cache, other = open_cache(index=kind), open_cache(index=kind)
    cache.add(picture(0), embedding=vector(0))
    assert len(cache.embeddings()) == 1
    follow = type(cache._mirror).follow

    def late(self: Any, write: Any) -> None:
        if self is cache._mirror and write.added:
            other.remove(write.added[0].cache_id)
            cache.size()
        follow(self, write)

    monkeypatch.setattr(type(cache._mirror), "follow", late)
    gone = cache.add(picture(1), embedding=vector(1))
    assert cache.get(gone) is None
    assert cache.ids() == ["cache_00001"]
    assert cache.embeddings().ids == ("cache_00001",)


def test_a_use_while_an_add_goes_on_is_kept(
    open_cache: Open, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """The add writes the uses from before; the one meanwhile is written by the next."""
    cache = open_cache(index=kind)
    ids = [cache.add(picture(seed)) for seed in range(2)]
    cache.get(ids[0])
    used: list[int] = []
    commit = LocalImages.commit

    def use(self: LocalImages, named: Any, **options: Any) -> None:
        used.append(cache.get(ids[0]).used_ns)
        commit(self, named, **options)

    with monkeypatch.context() as patch:
        patch.setattr(LocalImages, "commit", use)
        cache.add(picture(2))
    cache.flush()
    assert open_cache().get_all()[0].used_ns == used[0]
