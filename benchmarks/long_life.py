"""A loop of 10,000 frames: does it stay diverse, and does it cost the same at the end as at the beginning?

Run ``python benchmarks/long_life.py [--frames N] [--loops N] [--generator NAME] [--policy NAME]``; the loops
run side by side, one a processor. Every tenth of a life is a row: effective images of 100 frames (mean of its
hundreds), motifs so far, milliseconds a frame (and of those of memory and decision), resident memory.
Asked: 60 motifs, the second half at least 80 % as varied as the first, memory and time flat.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from measure import header
from reverie.admission import MaximumSimilarity
from reverie.diversity import vendi
from reverie.loop.driver import DreamLoop, FrameDone
from reverie.loop.injector import Injector
from reverie.loop.presets import memory_settings
from reverie.memory import ImageMemory
from reverie.protocols import LatentSpace
from reverie.study.design import GENERATORS

PARTS = 10


@dataclass
class Life:
    """What came of one loop, part by part."""

    seed: int
    variety: list[float] = field(default_factory=list)  # of every 100 frames
    motifs: list[float] = field(default_factory=list)
    frame_ms: list[float] = field(default_factory=list)  # median of each part
    own_ms: list[float] = field(default_factory=list)
    resident_mb: list[float] = field(default_factory=list)
    largest_step: float = 0.0
    entries: int = 0


def live(seed: int, frames: int, generator: str, policy: str) -> Life:
    """One loop, in a process of its own; no frame is kept but those in memory."""
    dreamer, suits, life = GENERATORS[generator], memory_settings(policy), Life(seed)
    with tempfile.TemporaryDirectory() as folder:
        made = dreamer.make(Path(folder) / "models")
        admission = None if suits.admission is None else MaximumSimilarity(suits.admission)
        with ImageMemory(
            Path(folder) / "cache",
            75,
            seed=seed,
            admission=admission,
            eviction=suits.eviction,
            index="sqlite",
        ) as memory:
            for picture in made.seeds if suits.remember_seeds else ():
                memory.remember(picture, pinned=True)
            latents = made if isinstance(made, LatentSpace) else None
            injector = Injector(memory, policy, seed=seed, latents=latents)
            start = made.seeds[seed % len(made.seeds)]
            loop = DreamLoop(made, injector, start=start, strength=dreamer.strength, seed=seed)
            for _ in range(PARTS):
                part(life, [one(loop, life) for _ in range(frames // PARTS)])
            life.entries = len(memory)
    return life


def one(loop: DreamLoop, life: Life) -> tuple[FrameDone, float]:
    """A frame and its milliseconds."""
    started = time.perf_counter()
    done = loop.step()
    life.largest_step = max(life.largest_step, done.observed.measures["step"] or 0.0)
    return done, (time.perf_counter() - started) * 1e3


def part(life: Life, frames: list[tuple[FrameDone, float]]) -> None:
    """Note what came of one part."""
    rows = np.stack([np.asarray(done.observed.embedding) for done, _ in frames])
    life.variety += [vendi(rows[first : first + 100]) for first in range(0, len(rows) - 99, 100)]
    life.motifs.append(frames[-1][0].observed.measures["motifs"] or 0.0)
    life.frame_ms.append(float(np.median([spent for _, spent in frames])))
    own = [sum(ms for step, ms in done.times_ms.items() if step in ("store", "decide")) for done, _ in frames]
    life.own_ms.append(float(np.median(own)))
    pages = int(Path("/proc/self/statm").read_text().split()[1]) if Path("/proc/self/statm").exists() else 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    life.resident_mb.append(pages * os.sysconf("SC_PAGE_SIZE") / 2**20 if pages else peak)


def told(life: Life) -> str:
    """The table of one life."""
    per = len(life.variety) // PARTS
    lines = [f"seed {life.seed}: {life.entries} entries at the end, largest step {life.largest_step:.3f}"]
    lines.append(f"{'part':>6}{'images of 100':>16}{'motifs':>9}{'ms a frame':>13}{'own ms':>9}{'MB':>8}")
    for number in range(PARTS):
        variety = float(np.mean(life.variety[number * per : (number + 1) * per]))
        lines.append(
            f"{number + 1:>6}{variety:>16.1f}{life.motifs[number]:>9.0f}{life.frame_ms[number]:>13.1f}"
            f"{life.own_ms[number]:>9.2f}{life.resident_mb[number]:>8.0f}"
        )
    half = len(life.variety) // 2
    kept = np.mean(life.variety[half:]) / np.mean(life.variety[:half])
    grown = life.resident_mb[-1] / life.resident_mb[1]
    slower = np.mean(life.frame_ms[PARTS // 2 :]) / np.mean(life.frame_ms[: PARTS // 2])
    lines.append(
        f"second half against first: {kept:.0%} as varied, {slower:.0%} of the time; in the end {grown:.0%} "
        f"of the second part's memory; {life.motifs[-1]:.0f} motifs"
    )
    return "\n".join(lines)


def main() -> None:
    """Print the lives."""
    parser = argparse.ArgumentParser(description="Long loops.")
    parser.add_argument("--frames", type=int, default=10_000, help="of each loop, in thousands")
    parser.add_argument("--loops", type=int, default=5)
    parser.add_argument("--generator", default="latent-50", choices=sorted(GENERATORS))
    parser.add_argument("--policy", default="wander")
    options = parser.parse_args()
    if options.frames < 1000 or options.frames % 1000:
        parser.error("--frames must be a multiple of 1000")
    print(header(Path(tempfile.gettempdir())))
    print(f"- {options.generator}, {options.policy}, {options.frames:,} frames\n", flush=True)
    jobs = [(seed, options.frames, options.generator, options.policy) for seed in range(options.loops)]
    with ProcessPoolExecutor(os.cpu_count(), mp_context=multiprocessing.get_context("spawn")) as pool:
        for life in pool.map(live, *zip(*jobs, strict=True)):
            print(told(life), "\n", flush=True)


if __name__ == "__main__":
    main()
