"""What a large cache costs beside its search: adding, opening, conditions, eviction, several threads.

Run ``python benchmarks/bench_store.py [--quick] [--folder DISK] [--entries N]``. A durable add copies a
picture of 400 kB with a vector of 512 numbers; sides are interleaved, each on a cache of its own, the small
one of 75 entries, the large one of 100,000 (quick: 20,000, or as told). The peer of "large" is the small
cache, that of four threads four that hold one lock while they add.
"""

from __future__ import annotations

import gc
import itertools
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path

import numpy as np
from PIL import Image

from measure import Bar, Row, Timing, arguments, header, interleave, settle, show
from reverie.cache.manager import CacheManager
from reverie.cache.sqlite_index import SqliteIndex
from reverie.query import Where
from reverie.search.automatic import AutomaticSearch
from reverie.testing.samples import record
from reverie.vectors import as_embedding

DIMENSIONS = 512
WORDS = [f"word{number}" for number in range(5000)]


def filled(folder: Path, entries: int) -> Path:
    """A cache of so many rows without images: prompts with a word distribution like a language's."""
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    often = 1 / np.arange(1, len(WORDS) + 1)
    index = SqliteIndex(folder)
    index.poll()
    for start in range(1, entries + 1, 10_000):
        chosen = rng.choice(len(WORDS), size=(10_000, 12), p=often / often.sum())
        vectors = rng.standard_normal((10_000, DIMENSIONS)).astype(np.float32)
        with index.write() as writer:
            for words, vector in zip(chosen, vectors, strict=True):
                number = writer.next_number()
                if number > entries:
                    break
                prompt = " ".join(WORDS[word] for word in words) + (" fox" if number % 3 == 0 else "")
                writer.put(record(number, prompt=prompt, embedding=as_embedding(vector, encoder="e")))
        print(f"  {min(start + 9_999, entries):,} rows", file=sys.stderr)
    index.close()
    return folder


def adding(cache: CacheManager, picture: Path) -> Callable[[], object]:
    """A call that adds the picture with the next vector."""
    rng, numbers = np.random.default_rng(1), itertools.count()
    vectors = [as_embedding(rng.standard_normal(DIMENSIONS), encoder="e") for _ in range(256)]
    return lambda: cache.add(picture, "a prompt of some words", {"steps": 4}, vectors[next(numbers) % 256])


def by_threads(folder: Path, picture: Path, lock: AbstractContextManager[object], adds: int) -> float:
    """Seconds an add, of four threads that share a cache; each add holds the lock."""
    with CacheManager(folder, max_size=None) as cache:
        calls = [adding(cache, picture) for _ in range(4)]

        def work(call: Callable[[], object]) -> None:
            for _ in range(adds // len(calls)):
                with lock:
                    call()

        threads = [threading.Thread(target=work, args=(call,)) for call in calls]
        start = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return (time.perf_counter() - start) / adds


def evicting(folder: Path, entries: int) -> list[float]:
    """Seconds that a reader waits while all but a few entries are evicted."""
    with CacheManager(folder, max_size=None) as cache:
        waited, done = [], threading.Event()

        def read() -> None:
            while not done.is_set():
                start = time.perf_counter()
                cache.get_random()
                waited.append(time.perf_counter() - start)

        gc.collect()
        gc.freeze()  # a pass of the collector over all that this script imported takes 40 ms
        reader = threading.Thread(target=read)
        reader.start()
        cache.max_size = max(1, entries // 100)
        cache._enforce_max_size()
        done.set()
        reader.join()
        gc.unfreeze()
        return waited


def main() -> None:
    """Print the table."""
    options = arguments("Time what a large cache costs beside its search.", entries=100_000)
    entries = 20_000 if options.quick else options.entries
    rounds = 3 if options.quick else 12
    print(header(options.folder), end="\n\n")
    work = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        picture = work / "picture.png"
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (360, 370, 3), dtype=np.uint8)).save(
            picture
        )
        large = filled(work / "large", entries)
        show(add_rows(work, large, picture, entries, rounds))
        show([*open_rows(large, entries), *word_rows(large, entries)], head=False)
        show([thread_row(work, picture, 4 if options.quick else 8)], head=False)
        waited = np.array(evicting(large, entries))
        longest = Timing(waited.max(keepdims=True))
        show(
            [
                Row(f"a read while {entries:,} entries are evicted", Timing(waited)),
                Row("the longest of these reads", longest, bar=Bar(at_most=50e-3)),
            ],
            head=False,
        )
    finally:
        shutil.rmtree(work)


def add_rows(work: Path, large: Path, picture: Path, entries: int, rounds: int) -> list[Row]:
    """Adds to a small and a large cache, waited for and not."""
    opened = {
        "small": CacheManager(work / "small", max_size=75, index="sqlite"),
        "large": CacheManager(large, max_size=entries),
        "batched": CacheManager(work / "batched", max_size=None, index="sqlite", durability="batched"),
    }
    sides = {name: adding(cache, picture) for name, cache in opened.items()}
    for call in sides.values():
        for _ in range(80):
            call()
    taken = interleave(sides, rounds=rounds, calls=20, before=settle)
    opened["batched"].flush()
    paced = at_30_a_second(sides["batched"], 20 * rounds)
    for cache in opened.values():
        cache.close()
    return [
        Row("add to 75 entries, durable", taken["small"]),
        Row(f"add to {entries:,} entries, durable", taken["large"], taken["small"], Bar(slower=1.3)),
        Row("add, batched, one after the other", taken["batched"], taken["small"]),
        Row("add, batched, 30 a second", paced, taken["small"], Bar(at_most=0.5e-3)),
    ]


def at_30_a_second(add: Callable[[], object], count: int) -> Timing:
    """What a loop that makes 30 frames a second waits for."""
    seconds = []
    for _ in range(count):
        start = time.perf_counter()
        add()
        seconds.append(time.perf_counter() - start)
        time.sleep(max(0.0, 1 / 30 - seconds[-1]))
    return Timing(np.array(seconds))


def open_rows(large: Path, entries: int) -> list[Row]:
    """Opening a cache, from nothing to the first answer."""
    target = as_embedding(np.random.default_rng(2).standard_normal(DIMENSIONS).astype(np.float32))
    seconds = []
    for _ in range(6):
        start = time.perf_counter()
        with CacheManager(large, max_size=None) as cache, closing(AutomaticSearch()) as searcher:
            rows = cache.vector_rows()
            found = searcher.search(rows, target, 5)
            entry = cache.peek([rows.ids[place] for place in found.places])[0]
            seconds.append(time.perf_counter() - start)
        assert (rows.count, len(entry.prompt) > 0) == (entries, True)
    return [
        Row(
            f"open {entries:,} entries, to the first search",
            Timing(np.array(seconds[1:])),
            bar=Bar(at_most=2),
        )
    ]


def word_rows(large: Path, entries: int) -> list[Row]:
    """The newest 20 entries with words."""
    with CacheManager(large, max_size=None) as cache:
        asked = {"a word of one in three": "fox", "two words": "word3 word17", "a phrase": '"word1 word2"'}
        sides = {
            name: lambda words=words: cache.select(Where(words), limit=20, newest=True)
            for name, words in asked.items()
        }
        taken = interleave(sides, rounds=5, calls=20)
    return [
        Row(f"{name} in {entries:,} prompts", each, bar=Bar(at_most=20e-3)) for name, each in taken.items()
    ]


def thread_row(work: Path, picture: Path, rounds: int) -> Row:
    """Four threads whose adds share commits, against four that hold one lock for an add."""
    locks = {"grouped": nullcontext(), "one lock": threading.Lock()}
    taken: dict[str, list[float]] = {name: [] for name in locks}
    for turn in range(rounds):
        for name in list(locks)[:: 1 if turn % 2 else -1]:
            settle()
            taken[name].append(by_threads(work / f"threads-{turn}-{name}", picture, locks[name], 200))
    grouped, alone = (Timing(np.array(taken[name])) for name in locks)
    return Row("add, 4 threads with one commit for several", grouped, alone, Bar(faster=1.3))


if __name__ == "__main__":
    main()
