"""A cache that evicts for a very long time: does it grow, does it slow down, does it agree with itself?

Run ``python benchmarks/soak.py [--adds N] [--max-size N] [--durability full|batched]``: pictures of 32x32
with a vector each come into a cache that is full from then on; every hundredth add is followed by what else a
life brings (uses, a pin, a search, conditions, another manager that reads). Every tenth of the life is a row:
milliseconds an add (median and p90), resident memory, bytes of the index. At the end index, vectors and files
are compared. Asked: resident memory flat within 5 %, time within 20 %, all entries and files there, no other.

The exit status is 1 when memory grew or anything disagrees; of time it is only printed.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from measure import header
from reverie.cache.manager import CacheManager
from reverie.query import Where
from reverie.search.exact import ExactSearch
from reverie.vectors import as_embedding

PARTS = 10
SIDE = 32
DIMENSIONS = 512


def resident_mb() -> float:
    """Memory of this process."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def index_mb(cache: CacheManager) -> float:
    """Bytes of the database and its log."""
    files = cache.metadata_dir.glob("cache_index*")
    return sum(path.stat().st_size for path in files) / 1e6


def live(
    cache: CacheManager, other: CacheManager, rng: np.random.Generator, adds: int
) -> tuple[list[float], float]:
    """So many adds; seconds of each, and the memory in the middle of twenty looks at it.

    One look would say where in its turn a matrix of vectors is that is made anew now and then.
    """
    taken: list[float] = []
    memory: list[float] = []
    searcher = ExactSearch()
    for number in range(adds):
        frame = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        vector = as_embedding(rng.standard_normal(DIMENSIONS).astype(np.float32), encoder="soak")
        start = time.perf_counter()
        cache_id = cache.add(frame, f"a prompt {number % 997} of the soak", {"seed": number}, vector)
        taken.append(time.perf_counter() - start)
        if number % max(1, adds // 20) == 0:
            memory.append(resident_mb())
        if number % 100 == 50:
            cache.get_random()
            cache.pin(cache_id)
            cache.unpin(cache_id)
            rows = cache.vector_rows("soak")
            assert rows.ids[searcher.search(rows, vector, 3).places[0]] == cache_id
            cache.select(Where("soak"), limit=3, newest=True)
            assert cache_id in other
            assert other.get(cache_id) is not None
    return taken, float(np.median(memory))


def agree(cache: CacheManager) -> list[str]:
    """What does not agree at the end."""
    wrong = [f"{problem.kind}: {problem.subject}" for problem in cache.check().problems]
    files = {path.name for path in cache.image_dir.iterdir()}
    entries = {entry.image_path.name for entry in cache}
    if files != entries:
        wrong.append(
            f"{len(files - entries)} files without an entry, {len(entries - files)} entries without a file"
        )
    rows = cache.vector_rows("soak")
    if rows.count != len(entries):
        wrong.append(f"{rows.count} vectors of {len(entries)} entries")
    return wrong


def main() -> int:
    """Run it and print the table."""
    parser = argparse.ArgumentParser(description="Add for a very long time.")
    parser.add_argument("--adds", type=int, default=1_000_000)
    parser.add_argument("--max-size", type=int, default=10_000)
    parser.add_argument("--durability", choices=["full", "batched"], default="batched")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="disk to write to")
    options = parser.parse_args()
    print(header(Path.cwd()), end="\n\n")
    print("| adds so far | add, median | p90 | resident | index |\n| --- | --- | --- | --- | --- |")
    rng = np.random.default_rng(0)
    medians, resident = [], []
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        sizes = {"max_size": options.max_size, "index": "sqlite", "durability": options.durability}
        with CacheManager(Path(folder) / "cache", **sizes) as cache:
            other = CacheManager(Path(folder) / "cache", max_size=None)
            for part in range(PARTS):
                taken, memory = live(cache, other, rng, options.adds // PARTS)
                medians.append(float(np.median(taken)))
                resident.append(memory)
                cells = [f"{medians[-1] * 1e3:.2f} ms", f"{np.quantile(taken, 0.9) * 1e3:.2f} ms"]
                cells += [f"{resident[-1]:.0f} MB", f"{index_mb(cache):.0f} MB"]
                print(f"| {(part + 1) * (options.adds // PARTS):,} | {' | '.join(cells)} |", flush=True)
            cache.flush()
            wrong = agree(cache)
            other.close()
    # The cache is full and the allocator has settled after the first parts: nothing may grow from there on.
    grown = float(np.mean(resident[-3:]) / np.mean(resident[2:5])) - 1
    slower = float(np.mean(medians[-3:]) / np.mean(medians[2:5])) - 1
    print("\nof the last three tenths, against the third to fifth:")
    print(f"resident memory {grown:+.1%} (asked: within 5 %), time of an add {slower:+.1%} (within 20 %)")
    print("index, files and vectors agree" if not wrong else "\n".join(["DISAGREE", *wrong[:20]]))
    return int(grown > 0.05 or bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
