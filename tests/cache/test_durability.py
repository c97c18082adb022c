"""When what `add` returned is on the disk: by then, or with `durability="batched"` a moment later."""

from __future__ import annotations

import gc
import os
import shutil
import sqlite3
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reverie import storage
from reverie.cache import flushing
from reverie.cache.check import check_cache
from reverie.cache.local_images import LocalImages
from reverie.cache.manager import CacheManager
from reverie.errors import ConfigError, StorageError
from reverie.storage import content_hash
from reverie.testing.samples import picture, vector

Open = Callable[..., CacheManager]


class Disk:
    """What of the files that reverie writes itself is on the disk, and how often somebody waited for it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.waits: list[tuple[str, str]] = []
        self.lock = threading.Lock()
        flush_file, sync_folder = storage.flush_file, storage.sync_folder

        def flush(path: Path) -> None:
            flush_file(path)
            self.note("file", path)

        def sync(folder: Path) -> None:
            sync_folder(folder)
            self.note("folder", folder)

        monkeypatch.setattr(storage, "flush_file", flush)
        monkeypatch.setattr(storage, "sync_folder", sync)
        for module in ("json_index", "sqlite_index"):
            monkeypatch.setattr(f"reverie.cache.{module}.flush_file", flush)
            monkeypatch.setattr(f"reverie.cache.{module}.sync_folder", sync)

    def note(self, kind: str, path: Path) -> None:
        """Something is on the disk."""
        with self.lock:
            self.waits.append((kind, path.name))

    def took(self) -> list[tuple[str, str]]:
        """What was waited for since the last question."""
        with self.lock:
            waits, self.waits = self.waits, []
            return sorted(waits)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """A `Disk` that watches."""
    return Disk(monkeypatch)


@pytest.fixture
def no_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flush in the background comes only when it is asked for."""
    monkeypatch.setattr(flushing, "WINDOW", 3600.0)


# ----------------------------------------------------------------------------- full


def test_an_add_waits_for_its_image_and_the_folder_then_for_its_row(open_cache: Open, disk: Disk) -> None:
    """The image and the names of the folder at the same time, then SQLite's own wait for the log."""
    cache = open_cache(index="sqlite")
    disk.took()
    cache.add(picture(1))
    assert disk.took() == [("file", "cache_00001.png"), ("folder", "images")]
    assert cache._index._writing.execute("PRAGMA synchronous").fetchone() == (2,)
    assert cache.durability == "full"


def test_a_batch_waits_for_the_folder_once(open_cache: Open, disk: Disk) -> None:
    """However many images there are."""
    from reverie.cache.adding import NewEntry

    cache = open_cache(index="sqlite")
    disk.took()
    cache.add_many([NewEntry(picture(seed)) for seed in range(5)])
    assert disk.took() == [
        *(("file", f"cache_0000{number}.png") for number in range(1, 6)),
        ("folder", "images"),
    ]


def test_the_log_is_emptied_in_the_background(open_cache: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database catches up without an add that waits for it; another connection reads it there."""
    monkeypatch.setattr("reverie.cache.sqlite_index._LONG_LOG", 4)
    cache = open_cache(index="sqlite")
    for seed in range(6):
        cache.add(picture(seed))
    cache._index._emptying.join()
    assert cache._index._writing.execute("PRAGMA wal_autocheckpoint").fetchone()[0] > 10_000
    shutil.copy(cache.index_path, cache.index_path.with_name("copy.sqlite"))  # without its log
    with sqlite3.connect(cache.index_path.with_name("copy.sqlite")) as copy:
        assert copy.execute("SELECT count(*) FROM entries").fetchone()[0] >= 4
    copy.close()


# ----------------------------------------------------------------------------- batched


def test_batched_adds_wait_for_nothing(open_cache: Open, disk: Disk, no_clock: None, kind: str) -> None:
    """Others see them when they are stored; `flush` waits, images first; another flush has nothing to do."""
    cache, other = open_cache(index=kind, durability="batched"), open_cache(index=kind)
    disk.took()
    ids = [cache.add(picture(seed), embedding=vector(seed)) for seed in range(3)]
    assert cache.ids() == other.ids() == ids
    assert disk.took() == []
    assert cache.durability == "batched"
    cache.flush()
    took = disk.took()
    assert [name for what, name in took if what == "file"][:3] == [f"{each}.png" for each in ids]
    assert ("folder", "images") in took
    assert len([name for _, name in took if name.startswith("cache_index")]) == 1
    cache.flush()
    assert disk.took() == []


def test_batched_adds_come_to_the_disk_by_themselves(
    open_cache: Open, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A moment later, in the background; what was evicted is deleted then, after its row's end is there."""
    monkeypatch.setattr(flushing, "WINDOW", 0.0)
    done = threading.Event()
    steps: list[str] = []
    flush, delete = LocalImages.flush, LocalImages.delete
    monkeypatch.setattr(
        LocalImages, "flush", lambda self, names: (flush(self, names), steps.append("flush"), None)[-1]
    )

    def deleted(self: LocalImages, names: Any) -> None:
        delete(self, names)
        if names:
            steps.append("delete")
            done.set()

    monkeypatch.setattr(LocalImages, "delete", deleted)
    cache = open_cache(index=kind, durability="batched", max_size=1)
    cache.add(picture(0))
    cache.add(picture(1))
    assert done.wait(30)
    assert steps[-1] == "delete"
    assert [path.name for path in cache.image_dir.iterdir()] == ["cache_00002.png"]
    cache.add(picture(2))
    cache.flush()
    assert [path.name for path in cache.image_dir.iterdir()] == ["cache_00003.png"]
    assert cache.check().ok


def test_closing_waits_for_the_disk(open_cache: Open, disk: Disk, no_clock: None, kind: str) -> None:
    """And ends the thread."""
    cache = open_cache(index=kind, durability="batched")
    cache.add(picture(0))
    disk.took()
    cache.close()
    assert ("file", "cache_00001.png") in disk.took()
    for each in (cache._writer, cache._flusher._thread):
        assert each._thread is None or not each._thread.is_alive()


def test_a_failure_in_the_background_is_told(
    open_cache: Open, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """To whoever adds next, once; nothing is forgotten: the next flush tries again."""
    monkeypatch.setattr(flushing, "WINDOW", 0.0)
    failed, healed = threading.Event(), threading.Event()
    flush = LocalImages.flush
    flushed: list[str] = []

    def refuse(self: LocalImages, names: Any) -> None:
        if not healed.is_set():
            failed.set()
            raise StorageError("the disk is full")
        flush(self, names)
        flushed.extend(names)

    monkeypatch.setattr(LocalImages, "flush", refuse)
    cache = open_cache(index=kind, durability="batched")
    cache.add(picture(0))
    assert cache.size() == 1
    assert failed.wait(30)
    while cache._flusher._failure is None:
        pass
    with pytest.raises(StorageError, match=r"may not be on the disk: the disk is full.*next flush"):
        cache.add(picture(1))
    healed.set()
    cache.add(picture(2))
    cache.flush()
    assert sorted(set(flushed)) == ["cache_00001.png", "cache_00002.png"]


def test_closing_tells_what_may_be_lost(
    open_cache: Open, monkeypatch: pytest.MonkeyPatch, no_clock: None, kind: str
) -> None:
    """Last uses are hints and are dropped in silence; an entry is not."""
    cache = open_cache(index=kind, durability="batched")
    cache.add(picture(0))

    def refuse(*_: Any) -> None:
        raise StorageError("the disk is full")

    monkeypatch.setattr(LocalImages, "flush", refuse)
    with pytest.raises(StorageError, match="the disk is full"):
        cache.close()
    cache.close()


def test_a_forgotten_cache_leaves_no_thread(tmp_path: Path) -> None:
    """A manager that nobody closed and nobody has any more takes its thread along."""
    cache = CacheManager(tmp_path / "cache", durability="batched", index="sqlite")
    cache.add(picture(0))
    assert cache.size() == 1
    cache.add(picture(1))
    threads = [cache._flusher._thread._thread, cache._writer._thread]
    gone = weakref.ref(cache)
    del cache
    for thread in threads:
        while gone() is not None and thread.is_alive():  # the writer has it until all is stored
            gc.collect()
        thread.join(30)
        assert not thread.is_alive()
    assert gone() is None
    with CacheManager(tmp_path / "cache") as after:
        assert after.size() == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_child_flushes_its_own(open_cache: Open, no_clock: None, kind: str) -> None:
    """It has none of its parent's threads, and starts its own."""
    cache = open_cache(index=kind, durability="batched")
    cache.add(picture(0))
    pid = os.fork()
    if not pid:
        try:
            cache.add(picture(1))
            cache.flush()
            os._exit(0 if cache.size() == 2 else 1)
        finally:
            os._exit(2)
    assert os.waitpid(pid, 0)[1] == 0
    assert cache.size() == 2


@pytest.mark.parametrize("durability", ["none", "", None, "FULL", True])
def test_an_unknown_durability_is_refused(tmp_path: Path, durability: Any) -> None:
    """With the two that there are, before anything is created."""
    with pytest.raises(ConfigError, match="one of full, batched"):
        CacheManager(tmp_path / "cache", durability=durability)
    assert not (tmp_path / "cache").exists()


# ----------------------------------------------------------------------------- a power cut


class PowerCut:
    """The folder as a power cut may leave it: what was waited for, and any part of the rest.

    Of the files of images: whole when the file was flushed, else any part of it; under its last name when the
    folder was flushed since, else under that or the one before. Of the log of the database: what it held at
    the last commit, and any part of what came after. The database itself is written only from a log that is
    on the disk already.
    """

    def __init__(self, folder: Path, disk: Disk, rng: np.random.Generator) -> None:
        self.folder, self.disk, self.rng = folder, disk, rng
        self.log = folder / "metadata" / "cache_index.sqlite-wal"
        self.sure = 0
        self.whole: set[str] = set()

    def committed(self) -> None:
        """A commit returned: the log is on the disk as it is."""
        self.sure = self.log.stat().st_size

    def strike(self, target: Path) -> None:
        """The folder after a power cut now."""
        self.whole.update(name for kind, name in self.disk.waits if kind == "file")
        shutil.copytree(self.folder, target)
        log = target / "metadata" / self.log.name
        length = int(self.rng.integers(self.sure, log.stat().st_size + 1))
        with log.open("r+b") as file:
            file.truncate(length)
        (target / "metadata" / f"{self.log.name[:-4]}-shm").unlink()
        for path in sorted((target / "images").iterdir()):
            if path.name not in self.whole:
                data = path.read_bytes()
                path.write_bytes(data[: int(self.rng.integers(0, len(data) + 1))])


@pytest.mark.parametrize("seed", range(4))
def test_after_a_power_cut_every_acknowledged_entry_is_there(
    open_cache: Open, tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """At any step: the folder opens, all that `add` had returned is whole, and a repair loses nothing."""
    monkeypatch.setattr(
        "reverie.cache.sqlite_index._LONG_LOG", 10**9
    )  # the log keeps growing: its length tells
    rng = np.random.default_rng(seed)
    cache = open_cache(index="sqlite", max_size=6)
    cut = PowerCut(cache.cache_dir, disk, rng)
    known: dict[str, str] = {}
    struck: list[tuple[Path, dict[str, str], set[str]]] = []
    leaving: set[str] = set()

    def moment() -> None:
        if rng.random() < 0.2:
            target = tmp_path / f"cut-{len(struck)}"
            cut.strike(target)
            struck.append((target, dict(known), set(leaving)))

    steps = [(LocalImages, "stage"), (LocalImages, "commit"), (LocalImages, "delete")]
    steps += [(type(cache._mirror), "follow"), (storage, "_flush")]
    for place, name in steps:
        real = getattr(place, name)

        def step(*arguments: Any, real: Any = real, **options: Any) -> Any:
            moment()
            done = real(*arguments, **options)
            moment()
            return done

        monkeypatch.setattr(place, name, step)
    for number in range(25):
        leaving = {cache.ids()[0]} if cache.size() == 6 else set()
        cache_id = cache.add(picture(number), f"prompt {number}", embedding=vector(number))
        cut.committed()
        known[cache_id] = content_hash(cache.read_image(cache_id, as_use=False))
        for each in leaving:
            del known[each]
    assert len(struck) > 10
    for target, expected, going in struck:
        after = CacheManager(target, max_size=None)
        ids = after.ids()
        assert set(expected) - going <= set(ids)
        for cache_id in set(expected) & set(ids):
            if cache_id not in going:
                assert content_hash(after.read_image(cache_id)) == expected[cache_id]
                assert after.peek([cache_id])[0].embedding is not None
        after.close()
        check_cache(target, fix=True)
        assert check_cache(target).ok
        with CacheManager(target, max_size=None) as repaired:
            assert set(expected) - going <= set(repaired.ids())


def test_a_power_cut_of_a_batched_cache_takes_the_last_moment_only(
    open_cache: Open, tmp_path: Path, disk: Disk, no_clock: None
) -> None:
    """What was flushed is whole; of what came after, rows may lack their image: a check finds them."""
    cache = open_cache(index="sqlite", durability="batched")
    kept = [cache.add(picture(seed), embedding=vector(seed)) for seed in range(3)]
    cache.flush()
    cut = PowerCut(cache.cache_dir, disk, np.random.default_rng(1))
    cut.committed()
    late = [cache.add(picture(seed)) for seed in range(3, 6)]
    assert cache.size() == 6
    cut.strike(tmp_path / "cut")
    for name in ("cache_00004.png", "cache_00005.png"):
        (tmp_path / "cut" / "images" / name).write_bytes(b"")
    shutil.copy(cache.image_dir / "cache_00006.png", tmp_path / "cut" / "images")
    shutil.copy(cut.log, tmp_path / "cut" / "metadata")  # here the log came to the disk first
    report = check_cache(tmp_path / "cut", fix=True)
    assert {"cache_00004", "cache_00005"} <= {problem.subject for problem in report.problems}
    with CacheManager(tmp_path / "cut") as after:
        assert kept == after.ids()[:3]
        assert set(after.ids()) <= {*kept, *late}
        assert after.check().ok
        for cache_id, seed in zip(kept, range(3), strict=True):
            assert after.read_image(cache_id) == cache.read_image(cache_id)
            assert np.array_equal(after.peek([cache_id])[0].embedding, vector(seed))


# ----------------------------------------------------------------------------- much at once


def test_much_is_evicted_in_parts(
    open_cache: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A limit far below what is there: several writes, between which others read, write and are told."""
    from reverie.cache.adding import NewEntry

    monkeypatch.setattr("reverie.cache.storing.AT_ONCE", 4)
    with open_cache(index=kind, max_size=None) as cache:
        cache.add_many([NewEntry(picture(seed), pinned=seed == 2) for seed in range(15)])
    other = open_cache(max_size=None)
    sizes: list[int] = []
    told: list[str] = []

    def hear(entry: Any) -> None:
        told.append(entry.cache_id)
        sizes.append(other.size())
        assert not entry.image_path.exists()

    cache = open_cache(max_size=3, on_evicted=[hear])
    assert cache.ids() == ["cache_00003", "cache_00014", "cache_00015"]
    assert sizes == [11] * 4 + [7] * 4 + [3] * 4
    assert told == [f"cache_{number:05d}" for number in range(1, 14) if number != 3]
    cache.max_size = 2
    cache.add(picture(20))
    assert cache.ids() == ["cache_00003", "cache_00016"]
    assert cache.check().ok


def test_a_cache_is_cleared_in_parts(open_cache: Open, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """What others add meanwhile stays, and so do pinned entries that are to be kept."""
    from reverie.cache.adding import NewEntry

    monkeypatch.setattr("reverie.cache.manager.AT_ONCE", 3)
    cache, other = open_cache(index=kind, max_size=None), open_cache(index=kind, max_size=None)
    cache.add_many([NewEntry(picture(seed), pinned=seed == 4) for seed in range(10)])
    delete = LocalImages.delete

    def add_between(self: LocalImages, names: Any) -> None:
        delete(self, names)
        if other.size() < 9:
            other.add(picture(40))

    with monkeypatch.context() as patch:
        patch.setattr(LocalImages, "delete", add_between)
        cache.clear(keep_pinned=True)
    assert cache.ids()[0] == "cache_00005"
    assert len(cache.ids()) > 1
    assert all(int(cache_id[-5:]) > 10 for cache_id in cache.ids()[1:])
    cache.clear()
    assert cache.size() == 0
    assert cache.check().ok
