"""The alarm that keeps a promise: false alarms of loops that travel, delay when they no longer do.

Run ``python benchmarks/bench_alarm.py [--quick] [--folder DISK]``. A loop of the latent denoiser at strength
.6 travels by itself: 400 frames, each a chance for a false alarm. Then its strength is turned down, to .35 and,
another time, to .5 of the same loop, as a person's hand does: at .35 it stands still at once. The delay is
counted from that frame. It is what the preset `gentle` waits for; the peer is the mean cosine of the last 20
frames above .70, which promises nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from measure import arguments, header
from reverie.cache.aesthetic_matcher import AestheticMatcher
from reverie.diversity import mean_pairwise
from reverie.encoders.descriptor import DescriptorEncoder
from reverie.generators.seed_images import built_in_seeds
from reverie.loop.alarm import Alarm
from reverie.loop.driver import frame_seed
from reverie.loop.spectator import Watch
from reverie.pixels import Pixels
from reverie.study.latent_denoiser import LatentGenerator
from reverie.vectors import Embedding

TRAVELS, STANDS = 400, 60


@dataclass
class Found:
    """Alarms before the strength is turned down, and frames from then to the first; None for none."""

    false: int
    delay: int | None


class Loop:
    """One loop, which is watched by both alarms."""

    def __init__(self, generator: LatentGenerator, start: Pixels, seed: int) -> None:
        self._generator, self._frame, self._seed, self._number = generator, start, seed, 0
        self._matcher = AestheticMatcher(DescriptorEncoder())

    def run(self, strength: float, frames: int) -> list[Embedding]:
        """The vectors of its next frames."""
        rows = []
        for _ in range(frames):
            self._number += 1
            seed = frame_seed(self._seed, self._number)
            self._frame = self._generator.generate(self._frame, strength=strength, seed=seed)
            rows.append(self._matcher.encode_image(self._frame))
        return rows

    def fork(self) -> Loop:
        """The same loop once more, where it is."""
        other = Loop(self._generator, self._frame, self._seed)
        other._number = self._number
        return other


def promised(rows: list[Embedding]) -> Found:
    """The alarm with the promise, as every journal has it."""
    watch = Watch(AestheticMatcher(DescriptorEncoder()))
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
    """Split at the frame where the strength is turned down."""
    late = [number - TRAVELS for number in raised if number > TRAVELS]
    return Found(sum(number <= TRAVELS for number in raised), late[0] if late else None)


def told(name: str, lives: list[Found], frames: int) -> str:
    """One row."""
    delays = [one.delay if one.delay is not None else STANDS for one in lives]
    false, missed = sum(one.false for one in lives), sum(one.delay is None for one in lives)
    return (
        f"| {name} | {false} in {frames:,} | {np.median(delays):.0f} | {np.quantile(delays, 0.9):.0f} | "
        f"{max(delays)} | {missed} |"
    )


def main() -> None:
    """Print the table."""
    options = arguments("False alarms and delays.")
    loops = 3 if options.quick else 16
    print(header(options.folder))
    print(
        f"- {loops} loops (seeds 0 to {loops - 1}), run length promised: {Alarm().run_length:,.0f} frames\n"
    )
    print("| alarm, and what happens to the loop | false alarms | median delay | p90 | longest | missed |")
    print("|---|---|---|---|---|---|")
    generator, seeds = LatentGenerator(built_in_seeds(128)), built_in_seeds(128)
    lives: dict[tuple[str, float], list[Found]] = {}
    for seed in range(loops):
        loop = Loop(generator, seeds[seed % len(seeds)], seed)
        travelled = loop.run(0.6, TRAVELS)
        for strength in (0.35, 0.5):
            rows = travelled + loop.fork().run(strength, STANDS)
            for name, alarm in (("promise", promised), ("pairwise", pairwise)):
                lives.setdefault((name, strength), []).append(alarm(rows))
    for (name, strength), each in lives.items():
        print(told(f"{name}, turned down to {strength:g}", each, loops * TRAVELS))


if __name__ == "__main__":
    main()
