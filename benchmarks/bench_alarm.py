"""The alarm that keeps a promise: false alarms of loops that travel, and its delay after a collapse.

Run ``python benchmarks/bench_alarm.py [--quick] [--folder DISK]``. A loop of the latent denoiser at
strength .6 travels by itself, 400 frames, but for the places where it does not: a frame is healthy when
the second descriptor (`reverie.study.judge`), which no alarm sees, finds the last 20 frames less alike
than .6, half way between loops that travel (.28) and loops that stand (.91). An alarm at a healthy frame
is a false one. Then come the frames of another loop that has collapsed for good (its frames from the
100th on; of the patches at strength .5, of the latent denoiser at .35), as when a prompt or a setting is
changed to one that does not move; the delay is counted from there. The preset `gentle` waits for this
alarm. The peer is the mean cosine of the last 20 frames above .7: it promises nothing.
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
from reverie.loop.driver import DreamLoop, FrameDone
from reverie.loop.spectator import Spectator, Watch
from reverie.protocols import Generator
from reverie.study.judge import ScatteringEncoder
from reverie.study.latent_denoiser import LatentGenerator
from reverie.vectors import Embedding

TRAVELS, SETTLES, STANDS = 400, 100, 60
MOVES = 0.6
COLLAPSES = (("patches at .5", PatchGenerator, 0.5), ("latent at .35", LatentGenerator, 0.35))


@dataclass
class Found:
    """False alarms before the collapse, and frames from then to the first; None for none."""

    false: int
    delay: int | None


def live(generator: Generator, strength: float, frames: int, seed: int) -> list[FrameDone]:
    """A loop without memory."""
    start = generator.seeds[seed % len(generator.seeds)]
    loop = DreamLoop(generator, Spectator(), start=start, strength=strength, seed=seed)
    return [loop.step() for _ in range(frames)]


def healthy(frames: list[FrameDone], judge: ScatteringEncoder) -> set[int]:
    """Numbers of the frames at which the second descriptor sees a loop that moves."""
    rows = judge.encode_batch([frame.pixels for frame in frames])
    alike = {end: mean_pairwise(rows[max(0, end - 20) : end]) for end in range(5, len(rows) + 1)}
    return {1, 2, 3, 4} | {end for end, value in alike.items() if value < MOVES}


def promised(rows: list[Embedding]) -> list[int]:
    """Frames at which the alarm with the promise is raised, as every journal has it."""
    watch = Watch(AestheticMatcher("descriptor"))
    return [number for number, row in enumerate(rows, start=1) if watch.count(row)["since_alarm"] == 0]


def pairwise(rows: list[Embedding]) -> list[int]:
    """Frames at which the mean cosine of the last 20 rises above .70; it goes off below .60."""
    raised, on = [], False
    matrix = np.stack([np.asarray(row) for row in rows])
    for end in range(10, len(rows) + 1):
        alike = mean_pairwise(matrix[max(0, end - 20) : end])
        if alike > 0.70 and not on:
            raised.append(end)
        on = alike > (0.60 if on else 0.70)
    return raised


def found(raised: list[int], moves: set[int]) -> Found:
    """Split at the collapse."""
    late = [number - TRAVELS for number in raised if number > TRAVELS]
    return Found(sum(number in moves for number in raised), late[0] if late else None)


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
    seeds, judge = built_in_seeds(128), ScatteringEncoder()
    traveller = LatentGenerator(seeds)
    lives: dict[tuple[str, str], list[Found]] = {}
    frames = 0
    for seed in range(loops):
        travelled = live(traveller, 0.6, TRAVELS, seed)
        moves = healthy(travelled, judge)
        frames += len(moves)
        for what, kind, strength in COLLAPSES:
            stands = live(kind(seeds), strength, SETTLES + STANDS, seed)[SETTLES:]
            rows = [frame.observed.embedding for frame in travelled + stands]
            for name, alarm in (("promise", promised), ("pairwise", pairwise)):
                lives.setdefault((name, what), []).append(found(alarm(rows), moves))
    for (name, what), each in lives.items():
        print(told(f"{name}; {what}", each, frames))


if __name__ == "__main__":
    main()
