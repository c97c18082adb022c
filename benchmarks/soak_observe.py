"""A loop that is observed for a very long time: does anything grow, is anything left open?

Run ``python benchmarks/soak_observe.py [--frames N] [--size PX] [--background] [--folder DISK]``: the
pictures of a loop that wanders between scenes, observed by `wander` with the descriptor, a memory of 75 and a
display; every thousandth frame another reader looks into the memory. Every tenth of the life is a row:
milliseconds an observe (median and p90), resident memory, open files, threads. At the end index, vectors and
files are compared. Asked: resident memory flat within 5 %, no file or thread more than at the start, all
entries and files there, no other.

The exit status is 1 when memory grew, anything was left open, or anything disagrees.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from measure import header
from reverie import CacheManager, ImageMemory, Injector
from reverie.generators.seed_images import built_in_seeds
from reverie.pixels import Pixels
from soak import resident_mb

PARTS = 10


class Pictures:
    """Frames of a loop between the built-in scenes: each is a little nearer to the next one.

    Args:
        size: Side in pixels.
    """

    def __init__(self, size: int) -> None:
        self._scenes = [scene.astype(np.float32) for scene in built_in_seeds(size)]
        self._rng = np.random.default_rng(0)
        self._now, self._next = self._scenes[0], 1

    def make(self, source: Pixels | None) -> Pixels:
        """The frame after ``source``, or after the one before."""
        if source is not None:
            self._now = source.astype(np.float32)
        if self._rng.random() < 0.02:
            self._next = int(self._rng.integers(len(self._scenes)))
        grain = self._rng.integers(-6, 7, self._now.shape)
        self._now = 0.93 * self._now + 0.07 * self._scenes[self._next] + grain
        return np.clip(np.rint(self._now), 0, 255).astype(np.uint8)


def open_files() -> int:
    """Of this process."""
    return len(list(Path("/proc/self/fd").iterdir()))


def live(
    injector: Injector, pictures: Pictures, other: CacheManager, frames: int
) -> tuple[list[float], float]:
    """So many frames; seconds of each observe, and the memory in the middle of twenty looks at it."""
    taken, memory = [], []
    source: Pixels | None = None
    for number in range(frames):
        frame = pictures.make(source)
        start = time.perf_counter()
        injection = injector.observe(frame, prompt=f"prompt {number % 97}", generation_params={"n": number})
        taken.append(time.perf_counter() - start)
        source = None if injection is None else np.asarray(injection.image)
        if number % max(1, frames // 20) == 0:
            memory.append(resident_mb())
        if number % 1000 == 500:
            injector.flush()
            injector.memory.cache.flush()
            assert len(other) == len(injector.memory)
            assert other.get_random() is not None
    return taken, float(np.median(memory))


def agree(cache: CacheManager) -> list[str]:
    """What does not agree at the end."""
    wrong = [f"{problem.kind}: {problem.subject}" for problem in cache.check().problems]
    files = {path.name for path in cache.image_dir.iterdir()}
    entries = {entry.image_path.name for entry in cache}
    if files != entries:
        wrong.append(f"files and entries differ by {sorted(files ^ entries)[:5]}")
    if len(cache.embeddings()) != len(entries):
        wrong.append(f"{len(cache.embeddings())} vectors of {len(entries)} entries")
    return wrong


def main() -> int:
    """Run it and print the table."""
    parser = argparse.ArgumentParser(description="Observe for a very long time.")
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--size", type=int, default=64, help="side of a frame in pixels")
    parser.add_argument("--background", action="store_true", help="observe in the background")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="disk to write to")
    options = parser.parse_args()
    print(header(options.folder), end="\n\n")
    print("| frames so far | observe, median | p90 | resident | files | threads |")
    print("| --- | --- | --- | --- | --- | --- |")
    resident, left = [], []
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        cache = CacheManager(Path(folder) / "cache", 75, index="sqlite", eviction="rke", durability="batched")
        with cache, ImageMemory(cache) as memory:
            other = CacheManager(Path(folder) / "cache", max_size=None)
            injector = Injector(memory, "wander", background=options.background, live=Path(folder) / "live")
            pictures = Pictures(options.size)
            for part in range(PARTS):
                taken, middle = live(injector, pictures, other, options.frames // PARTS)
                resident.append(middle)
                left.append((open_files(), threading.active_count()))
                cells = [f"{np.quantile(taken, share) * 1e3:.2f} ms" for share in (0.5, 0.9)]
                cells += [f"{middle:.0f} MB", *map(str, left[-1])]
                print(f"| {(part + 1) * (options.frames // PARTS):,} | {' | '.join(cells)} |", flush=True)
            injector.close()
            cache.flush()
            wrong = agree(cache)
            observed = injector.last
            if observed is None or observed.frame != PARTS * (options.frames // PARTS):
                wrong.append(f"{observed and observed.frame} frames were counted")
            other.close()
    grown = float(np.mean(resident[-3:]) / np.mean(resident[2:5])) - 1
    opened = max(files for files, _ in left[-3:]) - max(files for files, _ in left[2:5])
    begun = max(threads for _, threads in left[-3:]) - max(threads for _, threads in left[2:5])
    print("\nof the last three tenths, against the third to fifth:")
    print(f"resident memory {grown:+.1%} (asked: within 5 %), open files {opened:+d}, threads {begun:+d}")
    print("index, files and vectors agree" if not wrong else "\n".join(["DISAGREE", *wrong[:20]]))
    return int(grown > 0.05 or opened > 0 or begun > 0 or bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
