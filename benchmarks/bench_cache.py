"""The cache against the specification's figures and a naive peer: add, get, open.

Run ``python benchmarks/bench_cache.py [--quick] [--folder DISK]``. The peer flushes nothing to the
disk; ours has every entry on it when `add` returns. The parts of an add are timed by themselves too.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from measure import Bar, Row, Timing, arguments, header, interleave, scratch, settle, show
from naive import NaiveCache, NaiveEntry
from reverie.cache.local_images import LocalImages
from reverie.cache.manager import CacheManager
from reverie.cache.sqlite_index import SqliteIndex
from reverie.entry import Record, encode_params
from reverie.storage import sync_folder, write_new
from reverie.vectors import Embedding, as_embedding

SIZE = 75
MANY = 100_000
LOG_BYTES = 65_536  # what one add writes to SQLite's log
PROMPT = "an ethereal angel over a neon city, volumetric light, ultra detailed, film grain"
PARAMS: dict[str, Any] = {"denoise": 0.4, "steps": 4, "cfg": 1.5, "seed": 1234567, "sampler": "euler"}


def frame() -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A 512 x 512 frame, a gradient with grain, that is a PNG of about 400 kB."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:512, 0:512]
    gradient = np.stack((x / 2, y / 2, (x + y) / 4), axis=-1)
    grain = rng.integers(0, 10, gradient.shape)
    return (gradient + grain).clip(0, 255).astype(np.uint8)


def vector(number: int) -> Embedding:
    """The unit vector of an entry."""
    return as_embedding(
        np.random.default_rng(number).standard_normal(512).astype(np.float32), encoder="bench"
    )


def records(count: int) -> Iterator[Record]:
    """Entries without files: what opening and adding see does not depend on them."""
    params = encode_params(PARAMS)
    now = time.time_ns()
    for number in range(1, count + 1):
        cache_id = f"cache_{number:05d}"
        second = f"2026-01-01T{number // 3600 % 24:02d}:{number // 60 % 60:02d}:{number % 60:02d}"
        yield Record(
            number, cache_id, f"{cache_id}.png", PROMPT, params, vector(number % 1000), second, now + number,
            content_hash=f"{number:064x}", byte_size=400_000,
        )  # fmt: skip


def filled(folder: Path, count: int) -> Path:
    """A cache folder whose database holds ``count`` entries."""
    with closing(SqliteIndex(folder)) as index:
        index.replace_all(records(count), count + 1, {})
    return folder


def naive_75(folder: Path, max_size: int = SIZE) -> NaiveCache:
    """The peer with 75 entries; their ids are its own, of another second."""
    peer = NaiveCache(folder, max_size)
    for number in range(1, SIZE + 1):
        name = f"cache_{number:05d}_0"
        path, second = str(peer.images / f"{name}.png"), "2026-01-01T00:00:00"
        peer.entries[name] = NaiveEntry(name, path, PROMPT, PARAMS, vector(number).tolist(), second)
    return peer


def ours_75(folder: Path, index: str, image: Path, max_size: int | None = SIZE) -> CacheManager:
    """Our cache with 75 entries, all added by `add`."""
    cache = CacheManager(folder, max_size, index=index)
    for number in range(SIZE):
        cache.add(image, PROMPT, PARAMS, vector(number))
    return cache


def adds(folder: Path, image: Path, rounds: int, *, full: bool) -> list[Row]:
    """`add` at 75 entries: into a full cache, where every add of ours evicts, or into one without limit."""
    embedding = vector(0)
    numbers = embedding.tolist()
    peer = naive_75(folder / "naive", SIZE if full else 10**9)
    limit = SIZE if full else None
    json, sqlite = (ours_75(folder / kind, kind, image, limit) for kind in ("json", "sqlite"))

    def back_to_75() -> None:
        for cache in (json, sqlite):
            for cache_id in cache.ids()[SIZE:]:
                cache.remove(cache_id)
        for cache_id in list(peer.entries)[SIZE:]:
            del peer.entries[cache_id]
        settle()

    with json, sqlite:
        taken = interleave(
            {
                "peer": lambda: peer.add(image, PROMPT, PARAMS, numbers),
                "json": lambda: json.add(image, PROMPT, PARAMS, embedding),
                "sqlite": lambda: sqlite.add(image, PROMPT, PARAMS, embedding),
            },
            rounds=rounds,
            calls=4,
            before=back_to_75,
        )
    state = "full" if full else "with room"
    return [
        Row(f"add a PNG at 75, {state}, JSON", taken["json"], taken["peer"], Bar(faster=8)),
        Row(f"add a PNG at 75, {state}, SQLite", taken["sqlite"], taken["peer"], Bar(faster=30)),
    ]


def array_adds(folder: Path, image: Path, rounds: int) -> list[Row]:
    """`add` of an array: encoding the PNG is most of it. The peer needs a file: it saves one."""
    pixels, embedding = frame(), vector(0)
    numbers = embedding.tolist()
    incoming = folder / "incoming.png"
    peer = naive_75(folder / "naive")
    json, sqlite = (ours_75(folder / kind, kind, image) for kind in ("json", "sqlite"))

    def save_and_add() -> None:
        Image.fromarray(pixels).save(incoming)
        peer.add(incoming, PROMPT, PARAMS, numbers)

    with json, sqlite:
        taken = interleave(
            {
                "peer": save_and_add,
                "json": lambda: json.add(pixels, PROMPT, PARAMS, embedding),
                "sqlite": lambda: sqlite.add(pixels, PROMPT, PARAMS, embedding),
            },
            rounds=max(2, rounds // 3),
            calls=4,
            before=settle,
        )
    return [
        Row("add an array at 75, full, JSON", taken["json"], taken["peer"]),
        Row("add an array at 75, full, SQLite", taken["sqlite"], taken["peer"]),
    ]


class Floor:
    """What no durable add can go below: the same bytes in the same order, and nothing else done."""

    def __init__(self, folder: Path, data: bytes) -> None:
        folder.mkdir(parents=True)
        self.folder, self.data, self.count = folder, data, 0
        write_new(folder / "log", [bytes(LOG_BYTES)])  # an SQLite log is written over again and again
        self.log = os.open(folder / "log", os.O_WRONLY)

    def add(self) -> None:
        """Write and flush the picture, rename it and flush the folder, write and flush a log record."""
        self.count += 1
        new = self.folder / "new"
        write_new(new, [self.data])
        new.rename(self.folder / str(self.count))
        sync_folder(self.folder)
        os.lseek(self.log, 0, os.SEEK_SET)
        os.write(self.log, self.data[:LOG_BYTES])
        os.fsync(self.log)


def parts(folder: Path, image: Path, rounds: int) -> list[Row]:
    """Where an add spends its time: the image store and one transaction, each alone."""
    store = LocalImages(folder / "images")
    index = SqliteIndex(folder)
    rows = records(10**9)
    index.poll()
    staged = iter([store.stage(image) for _ in range(4 * (rounds + 1))])
    numbers = iter(range(10**9))

    floor = Floor(folder / "floor", image.read_bytes())

    def transaction() -> None:
        with index.write() as (writer, _):
            writer.put(next(rows))

    with closing(index):
        taken = interleave(
            {
                "stage": lambda: store.stage(image),
                "commit": lambda: store.commit(next(staged), f"{next(numbers)}.png"),
                "index": transaction,
                "floor": floor.add,
            },
            rounds=rounds,
            calls=4,
            before=settle,
        )
    return [
        Row("- of it: read, check, hash, write the image", taken["stage"]),
        Row("- of it: rename, flush image and folder", taken["commit"]),
        Row("- of it: the SQLite transaction", taken["index"]),
        Row("- the disk alone: write, rename, log, each flushed", taken["floor"]),
    ]


def flat(folder: Path, image: Path, rounds: int) -> list[Row]:
    """`add` with SQLite at 75 and at 100,000 entries, without a limit and at the limit."""
    few, many = filled(folder / "few", SIZE), filled(folder / "many", MANY)
    embedding = vector(0)
    found = []
    for what, limits in (("no limit", (None, None)), ("full", (SIZE, MANY))):
        with CacheManager(few, limits[0]) as small, CacheManager(many, limits[1]) as large:
            taken = interleave(
                {
                    "small": lambda small=small: small.add(image, PROMPT, PARAMS, embedding),
                    "large": lambda large=large: large.add(image, PROMPT, PARAMS, embedding),
                },
                rounds=rounds,
                calls=4,
                before=settle,
            )
        row = Row(
            f"add at 100,000 against 75, SQLite, {what}", taken["large"], taken["small"], Bar(slower=1.5)
        )
        found.append(row)
    return found


def gets(folder: Path, image: Path, rounds: int) -> list[Row]:
    """`get` of any of 75 entries: many in a row, and one after a pause, as a loop does once a frame."""
    peer = naive_75(folder / "naive")
    peer_ids = list(peer.entries)
    chosen = random.Random(0).choices
    found = []
    for kind in ("json", "sqlite"):
        with ours_75(folder / kind, kind, image) as cache:
            ids = cache.ids()
            calls = 2000
            wanted = iter(chosen(ids, k=(rounds + 1) * calls))
            also = iter(chosen(peer_ids, k=(rounds + 1) * calls))
            taken = interleave(
                {
                    "ours": lambda cache=cache, wanted=wanted: cache.get(next(wanted)),
                    "peer": lambda also=also: peer.get(next(also)),
                },
                rounds=rounds,
                calls=calls,
            )
            found.append(Row(f"get, {kind}", taken["ours"], taken["peer"], Bar(at_most=5e-6)))
            found.append(Row(f"get after a pause of 1 ms, {kind}", rested(cache, ids, 20 * rounds)))
    return found


def rested(cache: CacheManager, ids: list[str], calls: int) -> Timing:
    """`get` after a pause: it looks for changes of other processes first."""
    spent = []
    for cache_id in random.Random(1).choices(ids, k=calls):
        time.sleep(0.001)
        start = time.perf_counter_ns()
        cache.get(cache_id)
        spent.append(time.perf_counter_ns() - start)
    return Timing(np.array(spent) / 1e9)


def opening(folder: Path, rounds: int) -> list[Row]:
    """Open 100,000 entries that the system has in its file cache; then the whole matrix."""
    filled(folder, MANY)
    first: list[int] = []

    def open_cache() -> None:
        with CacheManager(folder, None) as cache:
            assert len(cache) == MANY

    def open_and_search() -> None:
        with CacheManager(folder, None) as cache:
            start = time.perf_counter_ns()
            assert len(cache.embeddings()) == MANY
            first.append(time.perf_counter_ns() - start)

    taken = interleave({"open": open_cache}, rounds=rounds)
    interleave({"search": open_and_search}, rounds=rounds)
    return [
        Row("open 100,000 entries, SQLite", taken["open"], bar=Bar(at_most=1.0)),
        Row("- then the matrix of their vectors, once", Timing(np.array(first[1:]) / 1e9)),
    ]


def main() -> None:
    """Print the table."""
    options = arguments("Time the cache against a naive peer.")
    rounds = 4 if options.quick else 20
    print(header(options.folder))
    with scratch(options.folder) as folder:
        image = folder / "frame.png"
        Image.fromarray(frame()).save(image)
        print(f"- image: 512 x 512 PNG of {image.stat().st_size:,} bytes; embeddings of 512 numbers\n")
        show(adds(folder / "full", image, rounds, full=True))
        show(adds(folder / "room", image, rounds, full=False), head=False)
        show(parts(folder / "parts", image, rounds), head=False)
        show(array_adds(folder, image, rounds), head=False)
        show(flat(folder / "flat", image, rounds), head=False)
        show(gets(folder / "get", image, min(rounds, 10)), head=False)
        show(opening(folder / "open", 2 if options.quick else 5), head=False)


if __name__ == "__main__":
    main()
