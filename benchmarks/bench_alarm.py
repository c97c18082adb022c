"""The alarm that keeps a promise: false alarms of loops that travel, and its delay after a collapse.

Run ``python benchmarks/bench_alarm.py [--quick] [--folder DISK]``. A loop of the latent denoiser at strength
.6 travels by itself: 400 frames, each a chance for a false alarm. Then come the frames of another loop that
has collapsed for good (its frames from the 100th on; of the patches at strength .5, of the latent denoiser at
.35), as when a prompt or a setting is changed to one that does not move; the delay is counted from there. The
preset `gentle` waits for this alarm. The peer is the mean cosine of the last 20 frames above .7: it promises
nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from measure import arguments, header
from reverie.cache.aesthetic_matcher import AestheticMatcher
from reverie.diversity import mean_pairwise
from reverie.generators.patches import PatchGenerator
from reverie.generators.seed_images import built_in_seeds
from reverie.loop.alarm import Alarm
from reverie.loop.driver import DreamLoop
from reverie.loop.spectator import Spectator, Watch
from reverie.protocols import Generator
from reverie.study.latent_denoiser import LatentGenerator
from reverie.vectors import Embedding

TRAVELS, SETTLES, STANDS = 400, 100, 60
COLLAPSES = (("patches at .5", PatchGenerator, 0.5), ("latent at .35", LatentGenerator, 0.35))


@dataclass
class Found:
    """Alarms before the collapse, and frames from then to the first; None for none."""

    false: int
    delay: int | None


def live(generator: Generator, strength: float, frames: int, seed: int) -> list[Embedding]:
    """The vectors of a loop without memory."""
    start = generator.seeds[seed % len(generator.seeds)]
    loop = DreamLoop(generator, Spectator(), start=start, strength=strength, seed=seed)
    return [loop.step().observed.embedding for _ in range(frames)]


def promised(rows: list[Embedding]) -> Found:
    """The alarm with the promise, as every journal has it."""
    watch = Watch(AestheticMatcher("descriptor"))
    raised = []
    for number, row in enumerate(rows, start=1):
        if watch.count(row)["since_alarm"] == 0:
            raised.append(number)
    return found(raised)


def pairwise(rows: list[Embedding]) -> Found:
    """Mean cosine of the last 20 frames above .70, off below .60."""
    raised, on = [], False
    matrix = np.stack([np.asarray(row) for row in rows])
    for end in range(10, len(rows) + 1):
        alike = mean_pairwise(matrix[max(0, end - 20) : end])
        if alike > 0.70 and not on:
            raised.append(end)
        on = alike > (0.60 if on else 0.70)
    return found(raised)


def found(raised: list[int]) -> Found:
    """Split at the collapse."""
    late = [number - TRAVELS for number in raised if number > TRAVELS]
    return Found(sum(number <= TRAVELS for number in raised), late[0] if late else None)


def told(name: str, lives: list[Found], frames: int) -> str:
    """One row."""
    delays = [one.delay if one.delay is not None else STANDS for one in lives]
    false, missed = sum(one.false for one in lives), sum(one.delay is None for one in lives)
    middle, most = np.quantile(delays, [0.5, 0.9])
    return f"{name:<28}{false:>6} in {frames:>5,}{middle:>9.0f}{most:>6.0f}{max(delays):>9}{missed:>8}"


def main() -> None:
    """Print the table."""
    options = arguments("False alarms and delays.")
    loops = 3 if options.quick else 16
    print(header(options.folder))
    print(
        f"- {loops} loops (seeds 0 to {loops - 1}), run length promised: {Alarm().run_length:,.0f} frames\n"
    )
    print(f"{'alarm; collapse':<28}{'false alarms':>15}{'median':>9}{'p90':>6}{'longest':>9}{'missed':>8}")
    seeds = built_in_seeds(128)
    traveller = LatentGenerator(seeds)
    lives: dict[tuple[str, str], list[Found]] = {}
    for seed in range(loops):
        travelled = live(traveller, 0.6, TRAVELS, seed)
        for what, kind, strength in COLLAPSES:
            rows = travelled + live(kind(seeds), strength, SETTLES + STANDS, seed)[SETTLES:]
            for name, alarm in (("promise", promised), ("pairwise", pairwise)):
                lives.setdefault((name, what), []).append(alarm(rows))
    for (name, what), each in lives.items():
        print(told(f"{name}; {what}", each, loops * TRAVELS))


if __name__ == "__main__":
    main()
