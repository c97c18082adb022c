"""`durability="batched"`: an add is taken into memory and stored later; nobody can tell by looking."""

from __future__ import annotations

import gc
import itertools
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from reverie.cache.adding import NewEntry
from reverie.cache.background import Background
from reverie.cache.check import check_cache
from reverie.cache.local_images import LocalImages
from reverie.cache.manager import CacheManager
from reverie.cache.write_behind import WriteBehind
from reverie.errors import (
    CacheClosedError,
    CacheFullError,
    EmbeddingError,
    ImageError,
    ParamsError,
    StorageError,
)
from reverie.pixels import ImageFile, to_pixels
from reverie.query import Where
from reverie.testing.samples import picture, png_bytes, vector

Open = Callable[..., CacheManager]


@pytest.fixture
def batched(open_cache: Open, kind: str) -> Callable[..., CacheManager]:
    """``batched(**options)``: a cache of each kind that has stored one entry already."""

    def make(**options: Any) -> CacheManager:
        cache = open_cache(index=kind, durability="batched", **options)
        cache.add(picture(99), "first", embedding=vector(99))
        cache.add(picture(98), "second", embedding=vector(98))
        cache.flush()
        return cache

    return make


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """No thread stores anything: what is found was stored by whoever looked."""
    monkeypatch.setattr(Background, "wake", lambda _self, _job: None)


class Gate:
    """Images can be staged only while it is open; counts who stands before it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open = threading.Event()
        self.reached = threading.Event()
        self.error: BaseException | None = None
        stage = LocalImages.stage

        def slow(images: LocalImages, image: Any, texts: Any) -> Any:
            self.reached.set()
            assert self.open.wait(60)
            if self.error is not None:
                raise self.error
            return stage(images, image, texts)

        monkeypatch.setattr(LocalImages, "stage", slow)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Gate]]:
    """``gate()``: closes a gate before the disk; opened after the test."""
    made: list[Gate] = []

    def make() -> Gate:
        made.append(Gate(monkeypatch))
        return made[-1]

    yield make
    for each in made:
        each.error = None
        each.open.set()


# ----------------------------------------------------------------------------- taking in


def test_an_add_does_not_wait_for_its_image(batched: Open, gate: Callable[[], Gate]) -> None:
    """It has its id while the disk has not begun; the next ones queue up behind it, in order."""
    cache = batched()
    disk = gate()
    ids = [cache.add(picture(seed), f"prompt {seed}") for seed in range(3)]
    assert ids == ["cache_00003", "cache_00004", "cache_00005"]
    assert disk.reached.wait(30)
    assert not list(cache.image_dir.glob("cache_00003*"))
    disk.open.set()
    assert cache.ids() == ["cache_00001", "cache_00002", *ids]
    assert [entry.prompt for entry in cache.peek(ids)] == ["prompt 0", "prompt 1", "prompt 2"]


LOOKS: dict[str, Callable[[CacheManager, str], bool]] = {
    "get": lambda cache, new: cache.get(new) is not None,
    "get_all": lambda cache, new: cache.get_all()[-1].cache_id == new,
    "peek": lambda cache, new: cache.peek([new])[0].cache_id == new,
    "read_image": lambda cache, new: len(cache.read_image(new)) > 0,
    "embeddings": lambda cache, new: cache.embeddings().ids[-1] == new,
    "vector_rows": lambda cache, _: cache.vector_rows().count == 3,
    "encoders": lambda cache, _: cache.encoders()[0][2] == 3,
    "select": lambda cache, new: [each.cache_id for each in cache.select(Where("third"))] == [new],
    "among": lambda cache, _: cache.among(cache.vector_rows(), Where("third")).sum() == 1,
    "ids": lambda cache, new: cache.ids()[-1] == new,
    "size": lambda cache, _: cache.size() == 3,
    "len": lambda cache, _: len(cache) == 3,
    "contains": lambda cache, new: new in cache,
    "iter": lambda cache, new: [each.cache_id for each in cache][-1] == new,
    "total_bytes": lambda cache, _: (
        cache.total_bytes() == sum(path.stat().st_size for path in cache.image_dir.iterdir())
    ),
    "get_random": lambda cache, new: (
        new in {entry.cache_id for _ in range(60) if (entry := cache.get_random()) is not None}
    ),
    "pin": lambda cache, new: cache.pin(new) is None and cache.pinned() == {new},
    "set_embeddings": lambda cache, new: cache.set_embeddings({new: vector(1)}) == [new],
    "remove": lambda cache, new: cache.remove(new) is None and new not in cache,
    "clear": lambda cache, _: cache.clear() is None and cache.size() == 0,
    "flush": lambda cache, _: cache.flush() is None and len(list(cache.image_dir.iterdir())) == 3,
    "eviction_state": lambda cache, _: (
        cache.eviction_state() is not None and len(list(cache.image_dir.iterdir())) == 3
    ),
    "check": lambda cache, _: cache.check().ok and cache.check().entries == 3,
    "add_many": lambda cache, new: (
        cache.add_many([NewEntry(picture(8))]) == ["cache_00004"]
        and {path.stem for path in cache.image_dir.iterdir()} >= {new, "cache_00004"}
    ),
}


@pytest.mark.usefixtures("idle")
@pytest.mark.parametrize("look", LOOKS)
def test_whoever_looks_finds_it(batched: Open, look: str) -> None:
    """Although no thread has stored it: what waits is stored before anything is read or changed."""
    cache = batched()
    new = cache.add(picture(0), "third", embedding=vector(0))
    assert not list(cache.image_dir.glob(f"{new}*"))
    assert LOOKS[look](cache, new)


@pytest.mark.usefixtures("idle")
def test_what_was_added_is_what_it_was_then(batched: Open, tmp_path: Path) -> None:
    """The file may go, the pixels may be painted over, the caller's mapping may change."""
    cache = batched()
    path = tmp_path / "gone.png"
    path.write_bytes(png_bytes(1))
    pixels, image, params = picture(2), Image.fromarray(picture(3)), {"steps": 4}
    image.info["parameters"] = "a text"
    ids = [cache.add(path, "", params), cache.add(pixels), cache.add(image)]
    path.unlink()
    pixels[:] = 0
    image.paste((0, 0, 0), (0, 0, *image.size))
    params["steps"] = 5
    assert cache.read_image(ids[0]) == png_bytes(1)
    assert cache.peek(ids)[0].generation_params == {"steps": 4}
    for cache_id, seed in zip(ids[1:], (2, 3), strict=True):
        entry = cache.peek([cache_id])[0]
        assert np.array_equal(to_pixels(entry.image_path), picture(seed))
    assert Image.open(cache.peek(ids)[2].image_path).text == {"parameters": "a text"}  # type: ignore[attr-defined]


@pytest.mark.usefixtures("idle")
def test_metadata_of_a_pil_image_survives_the_copy(batched: Open, tmp_path: Path) -> None:
    """EXIF of a TIFF, which keeps it elsewhere, too; a mode that PNG does not have becomes RGB."""
    cache = batched()
    exif = Image.Exif()
    exif[0x010E] = "a description"
    path = tmp_path / "image.tif"
    Image.fromarray(picture(1)).save(path, exif=exif)
    with Image.open(path) as image:
        ids = [cache.add(image), cache.add(Image.fromarray(picture(2)).convert("CMYK"))]
    described, converted = cache.peek(ids)
    with Image.open(described.image_path) as stored:
        assert stored.getexif()[0x010E] == "a description"
    with Image.open(converted.image_path) as stored:
        assert stored.mode == "RGB"


@pytest.mark.usefixtures("idle")
def test_what_is_wrong_is_said_at_once(batched: Open, tmp_path: Path) -> None:
    """A broken image, a vector of another length, parameters that are no JSON: nothing waits afterwards."""
    cache = batched()
    broken = tmp_path / "broken.png"
    broken.write_bytes(png_bytes(1, 64, 64)[:-900])
    closed = Image.fromarray(picture(1))
    closed.close()
    wrong: list[tuple[type[Exception], dict[str, Any]]] = [
        (ImageError, {"image_path": broken}),
        (ImageError, {"image_path": tmp_path / "nothing.png"}),
        (ImageError, {"image_path": np.zeros((4, 4))}),
        (ImageError, {"image_path": Image.new("RGB", (0, 4))}),
        (ImageError, {"image_path": closed}),
        (EmbeddingError, {"image_path": picture(1), "embedding": [1.0, 2.0]}),
        (ParamsError, {"image_path": picture(1), "generation_params": {"a": object()}}),
    ]
    for error, arguments in wrong:
        with pytest.raises(error):
            cache.add(**arguments)
    assert len(cache._arrivals) == 0
    assert cache.size() == 2


def test_a_cache_full_of_pins_refuses_at_once(batched: Open) -> None:
    """By count and by bytes; what may be evicted makes room."""
    cache = batched(max_size=3)
    cache.pin("cache_00001")
    cache.pin("cache_00002")
    third = cache.add(picture(1))
    fourth = cache.add(picture(2))
    assert (third in cache, fourth in cache) == (False, True)
    cache.pin(fourth)
    with pytest.raises(CacheFullError):
        cache.add(picture(3))
    cache.max_size = 4
    cache.max_bytes = cache.total_bytes()
    with pytest.raises(CacheFullError):
        cache.add(picture(3))
    assert cache.size() == 3


def test_a_linked_file_is_linked_at_once(batched: Open, tmp_path: Path) -> None:
    """The file may go a moment later, and then there would be nothing to link."""
    cache = batched()
    path = tmp_path / "linked.png"
    path.write_bytes(png_bytes(1))
    new = cache.add(ImageFile(str(path), link=True))
    assert (cache.image_dir / f"{new}.png").samefile(path)


def test_a_closed_cache_takes_nothing(batched: Open) -> None:
    """As any other."""
    cache = batched()
    cache.close()
    with pytest.raises(CacheClosedError):
        cache.add(picture(1))


# ----------------------------------------------------------------------------- ids


def test_ids_go_on_without_a_gap(open_cache: Open, kind: str) -> None:
    """Numbers that were taken in advance and not used are given back at the end."""
    for start in (1, 4, 7):
        cache = open_cache(index=kind, durability="batched")
        assert [cache.add(picture(seed)) for seed in range(3)] == [
            f"cache_{number:05d}" for number in range(start, start + 3)
        ]
        cache.close()
    assert open_cache().add(picture(9)) == "cache_00010"


def test_ids_are_given_once_among_several(open_cache: Open, kind: str) -> None:
    """Two batched caches and a durable one on a folder: no id twice, nothing lost, no number comes again."""
    caches = [
        open_cache(index=kind, durability=each, max_size=None) for each in ("batched", "full", "batched")
    ]
    ids = [cache.add(picture(turn)) for turn in range(12) for cache in caches]
    for cache in caches:
        cache.flush()
    assert len(set(ids)) == len(ids)
    assert sorted(ids) == caches[1].ids()
    for cache in caches:
        cache.close()
    after = open_cache(max_size=None)
    assert after.add(picture(1)) > max(ids)
    assert after.check().ok


def test_a_file_that_has_the_name_already_is_left_alone(batched: Open) -> None:
    """Its number is passed over."""
    cache = batched()
    foreign = cache.image_dir / "cache_00003.png"
    foreign.write_bytes(b"somebody else's")
    assert cache.add(picture(1)) == "cache_00004"
    cache.flush()
    assert foreign.read_bytes() == b"somebody else's"


def test_a_name_that_somebody_took_after_it_was_promised(
    batched: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The entry keeps its id and gets a picture of another name; the file that has it is left alone."""
    cache = batched(max_size=None)
    monkeypatch.setattr(Background, "wake", lambda _self, _job: None)  # `flush` stores, nobody else
    cache_id = cache.add(picture(1), "mine")
    foreign = cache.image_dir / f"{cache_id}.png"
    foreign.write_bytes(b"somebody else's")
    cache.flush()
    entry = cache.get(cache_id)
    assert entry is not None
    assert entry.prompt == "mine"
    assert np.array_equal(to_pixels(entry.image_path), picture(1))
    assert entry.image_path != foreign
    assert foreign.read_bytes() == b"somebody else's"
    cache.add(picture(2))
    cache.flush()
    cache.remove(cache_id)
    cache.flush()
    assert not entry.image_path.exists()
    assert foreign.exists()


def test_no_caller_waits_for_numbers(batched: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are taken where entries are stored; names of other people's files among them are passed over."""
    cache = batched(max_size=None)
    for number in (40, 41, 60):
        (cache.image_dir / f"cache_{number:05d}.png").write_bytes(b"somebody else's")
    promise, take = WriteBehind._promise, WriteBehind._take_numbers
    promising, taken = threading.Event(), []

    def promised(own: WriteBehind, suffix: str) -> tuple[int, str]:
        promising.set()
        try:
            return promise(own, suffix)
        finally:
            promising.clear()

    def taking(own: WriteBehind) -> None:
        taken.append(promising.is_set())
        take(own)

    monkeypatch.setattr(WriteBehind, "_promise", promised)
    monkeypatch.setattr(WriteBehind, "_take_numbers", taking)
    monkeypatch.setattr(Background, "wake", lambda _self, _job: None)  # `flush` stores, nobody else
    ids = []
    for seed in range(96):
        ids.append(cache.add(picture(seed)))
        if seed % 8 == 7:
            cache.flush()
    free = [number for number in range(3, 102) if number not in (40, 41, 60)]
    assert ids == [f"cache_{number:05d}" for number in free]
    assert not any(taken[1:])  # the first ones nobody could take before
    assert len(taken) >= 3
    cache.close()


def test_many_threads_add_at_once(batched: Open) -> None:
    """Each id once, each image its own, oldest first as they were numbered."""
    cache = batched(max_size=None)
    added: dict[str, int] = {}

    def work(first: int) -> None:
        for seed in range(first, first + 25):
            added[cache.add(picture(seed), str(seed))] = seed

    threads = [threading.Thread(target=work, args=(start,)) for start in range(0, 100, 25)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(added) == 100
    assert cache.size() == 102
    for entry in cache.get_all()[2:]:
        assert entry.prompt == str(added[entry.cache_id])
        assert np.array_equal(to_pixels(entry.image_path), picture(added[entry.cache_id]))
    assert cache.check().ok


# ----------------------------------------------------------------------------- storing


@pytest.mark.parametrize("eviction", ["lru", "rke"])
def test_it_is_the_cache_that_waits(open_cache: Open, tmp_path: Path, kind: str, eviction: str) -> None:
    """Random steps on it and on a durable one: the same ids, entries, uses and evictions."""
    rng = np.random.default_rng(5)
    pair = [
        open_cache(
            tmp_path / durability, index=kind, durability=durability, max_size=8, eviction=eviction, seed=3
        )
        for durability in ("batched", "full")
    ]
    told: list[list[str]] = [[], []]
    for cache, heard in zip(pair, told, strict=True):
        cache.on_evicted.append(lambda entry, heard=heard: heard.append(entry.cache_id))
    for _ in range(150):
        step, seed = int(rng.integers(9)), int(rng.integers(10_000))
        results = []
        for cache in pair:
            ids = [] if step < 5 else cache.ids()
            chosen = ids[seed % len(ids)] if ids else "none"
            if step < 5:
                results.append(cache.add(picture(seed), f"prompt {seed}", {"n": seed}, vector(seed)))
            elif step == 5:
                results.append(None if (entry := cache.get(chosen)) is None else entry.prompt)
            elif step == 6:
                results.append(None if (entry := cache.get_random()) is None else entry.cache_id)
            elif step == 7 and ids:
                results.append(cache.set_embeddings({chosen: vector(seed + 1)}))
            elif step == 8 and ids:
                (cache.unpin if seed % 2 else cache.pin)(chosen)
        assert len(results) < 2 or results[0] == results[1]
    waiting, durable = pair
    assert waiting.ids() == durable.ids()
    assert told[0] == told[1]
    for one, other in zip(waiting.get_all(), durable.get_all(), strict=True):
        assert (one.prompt, one.generation_params, one.pinned) == (
            other.prompt,
            other.generation_params,
            other.pinned,
        )
        assert np.array_equal(one.embedding, other.embedding)
        assert one.image_path.read_bytes() == other.image_path.read_bytes()
    assert waiting.check().ok


def test_listeners_hear_of_it_when_it_is_stored(batched: Open) -> None:
    """Once each, of what was added and of what went for it; they may use the cache."""
    cache = batched(max_size=2)
    heard: list[tuple[str, str]] = []
    cache.on_added.append(lambda entry: heard.append(("added", entry.cache_id)))
    cache.on_evicted.append(lambda entry: heard.append(("evicted", f"{entry.cache_id} of {cache.size()}")))
    new = cache.add(picture(1))
    cache.flush()
    assert cache.close() is None
    assert heard == [("added", new), ("evicted", "cache_00001 of 2")]


def test_no_more_than_a_bound_waits(batched: Open, monkeypatch: pytest.MonkeyPatch, idle: None) -> None:
    """By entries and by bytes: then whoever adds stores what waits."""
    cache = batched(max_size=None)
    monkeypatch.setattr("reverie.cache.write_behind._WAITING", 3)
    longest = 0
    for seed in range(10):
        cache.add(picture(seed))
        longest = max(longest, len(cache._arrivals))
    assert longest == 4
    cache.flush()
    monkeypatch.setattr("reverie.cache.write_behind._WAITING_BYTES", 10)
    cache.add(picture(1))
    cache.add(picture(2))
    assert len(cache._arrivals) == 1


def test_what_the_disk_refused_waits_until_it_does_not(batched: Open, gate: Callable[[], Gate]) -> None:
    """The next add says so and is not taken; reads go on; nothing is lost and the order is kept."""
    cache = batched()
    disk = gate()
    disk.error = StorageError("the disk is full")
    disk.open.set()
    first = cache.add(picture(1), "kept")
    assert cache.ids() == ["cache_00001", "cache_00002"]
    with pytest.raises(
        StorageError, match=r"1 entries added before are not stored yet: the disk is full.*tried again"
    ):
        cache.add(picture(2), "not taken")
    with pytest.raises(StorageError, match="not stored yet"):
        cache.flush()
    disk.error = None
    second = cache.add(picture(3), "after")
    cache.flush()
    assert [entry.prompt for entry in cache.peek([first, second])] == ["kept", "after"]
    assert cache.size() == 4
    assert cache.check().ok


def test_closing_says_what_is_lost(batched: Open, gate: Callable[[], Gate]) -> None:
    """By its id; the cache is closed all the same, and what was stored before is there."""
    cache = batched()
    disk = gate()
    disk.error = StorageError("the disk is full")
    disk.open.set()
    lost = cache.add(picture(1))
    with pytest.raises(StorageError, match=f"{lost}, added last, could not be stored: the disk is full"):
        cache.close()
    cache.close()
    with CacheManager(cache.cache_dir) as after:
        assert after.size() == 2
        assert after.check().ok


def test_what_can_never_be_stored_is_named_and_given_up(batched: Open, gate: Callable[[], Gate]) -> None:
    """Once, by the next add; the one after it is taken."""
    cache = batched()
    disk = gate()
    disk.error = ImageError("no PNG can be made of it")
    disk.open.set()
    lost = cache.add(picture(1))
    assert cache.size() == 2
    disk.error = None
    with pytest.raises(ImageError, match=f"{lost}, added before, could not be stored: no PNG"):
        cache.add(picture(2))
    assert cache.add(picture(3)) in cache
    assert lost not in cache


# ----------------------------------------------------------------------------- the end

ENDS = """
import os, signal, sys
from reverie.cache.manager import CacheManager
from reverie.testing.samples import picture, vector
cache = CacheManager(sys.argv[1], None, index=sys.argv[2], durability="batched")
for seed in range(12):
    cache.add(picture(seed), str(seed), embedding=vector(seed))
if sys.argv[3] == "kill":
    cache.flush()
    print("flushed", flush=True)
    for seed in range(10_000):
        cache.add(picture(seed), str(seed))
        print(seed, flush=True)
"""


def test_a_program_that_ends_without_closing_loses_nothing(tmp_path: Path, kind: str) -> None:
    """What waits is stored and brought to the disk before it ends, in silence."""
    done = subprocess.run(
        [sys.executable, "-c", ENDS, str(tmp_path / "cache"), kind, "end"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == ("", "")
    with CacheManager(tmp_path / "cache", None) as after:
        assert [entry.prompt for entry in after] == [str(seed) for seed in range(12)]
        assert after.check().ok


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL")
def test_a_killed_program_loses_its_last_moment_only(tmp_path: Path, kind: str) -> None:
    """What was flushed is there, what came after is there up to some point; others go on."""
    child = subprocess.Popen(
        [sys.executable, "-c", ENDS, str(tmp_path / "cache"), kind, "kill"], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    lines = list(itertools.islice(child.stdout, 40))
    child.send_signal(signal.SIGKILL)
    child.stdout.close()
    child.wait()
    with CacheManager(tmp_path / "cache", None) as after:
        check_cache(tmp_path / "cache", fix=True)
        prompts = [entry.prompt for entry in after]
        assert lines[0] == "flushed\n"
        assert prompts[:12] == [str(seed) for seed in range(12)]
        assert prompts[12:] == [str(seed) for seed in range(len(prompts) - 12)]
        assert after.check().ok
        assert after.add(picture(1)) not in after.ids()[:-1]


def test_a_forgotten_cache_stores_what_waits_first(
    tmp_path: Path, gate: Callable[[], Gate], kind: str
) -> None:
    """It lives until then; afterwards neither it nor its threads are there."""
    cache = CacheManager(tmp_path / "cache", index=kind, durability="batched")
    cache.add(picture(0))
    cache.flush()
    disk = gate()
    cache.add(picture(1))
    assert disk.reached.wait(30)
    gone, threads = weakref.ref(cache), [cache._writer._thread, cache._flusher._thread._thread]  # type: ignore[union-attr]
    del cache
    gc.collect()
    assert gone() is not None
    disk.open.set()
    while gone() is not None:
        gc.collect()
    for thread in threads:
        assert thread is not None
        thread.join(30)
        assert not thread.is_alive()
    with CacheManager(tmp_path / "cache") as after:
        assert after.size() == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.usefixtures("idle")
def test_a_forked_child_leaves_what_waits_to_its_parent(batched: Open) -> None:
    """It is stored once, by the parent, and the child's own adds have ids of their own."""
    cache = batched(max_size=None)
    new = cache.add(picture(0), "the parent's")
    pid = os.fork()
    if not pid:
        try:
            mine = cache.add(picture(1), "the child's")
            cache.flush()
            os._exit(0 if mine != new and cache.size() == 3 else 1)
        finally:
            os._exit(2)
    assert os.waitpid(pid, 0)[1] == 0
    assert sorted(entry.prompt for entry in cache.get_all()) == [
        "first",
        "second",
        "the child's",
        "the parent's",
    ]
    assert cache.check().ok
