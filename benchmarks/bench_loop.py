"""What a frame costs beside its generator: measures, state and alarm, and the decision.

Run ``python benchmarks/bench_loop.py [--quick] [--folder DISK]``. The frames are those of a synthetic life
that visits motifs (`motif_life` of the shipped suites), 512 numbers each. ``decide, alarm on`` is a frame
at which `wander` chooses among 75 memories; ``alarm off`` one at which it only looks. A Vendi score of 400
frames from eigenvalues is the peer of the whole-life RKE, which says nearly the same of any number of frames.
``colours`` measures a frame of 512 x 512 against 24 anchors; ``colours put right`` is what a frame that is
outside of them costs more, and no other.
"""

from __future__ import annotations

from itertools import count

import numpy as np

from measure import Bar, Row, arguments, header, interleave, show
from reverie.diversity import vendi
from reverie.loop.alarm import Alarm
from reverie.loop.colour import ColourMeter, colours_of
from reverie.loop.monitor import Monitor
from reverie.loop.presets import policy
from reverie.loop.recolour import corrected
from reverie.loop.states import States
from reverie.loop.streaming import LifeRke
from reverie.protocols import Observation, PastInjection
from reverie.registry import create
from reverie.testing.eviction_suite import motif_life
from reverie.vectors import EmbeddingSet, as_embedding


class Watching:
    """Monitor, states and alarm, frame by frame."""

    def __init__(self, rows: np.ndarray) -> None:
        self._rows = [as_embedding(row, encoder="bench") for row in rows]
        self._frames = count()
        self._monitor, self._states, self._alarm = Monitor(), States(), Alarm()
        for _ in range(1200):
            self.measure()

    def measure(self) -> dict[str, float | None]:
        """The next frame's measures."""
        return self._monitor.observe(self._rows[next(self._frames) % len(self._rows)])

    def judge(self) -> None:
        """State and alarm of a frame."""
        self._states.observe({"pairwise": 0.6, "novelty": 0.3, "returns": 0.1, "drift_rate": 0.0})
        self._alarm.observe(0.3)


class Deciding:
    """A policy at frame after frame, the loop at rest or on the move."""

    def __init__(self, rows: np.ndarray, *, still: bool) -> None:
        ids = tuple(f"cache_{number:05d}" for number in range(75))
        spread = rows[:: len(rows) // 120][:120]
        recent = np.repeat(rows[:6], 20, axis=0) if still else np.ascontiguousarray(spread)
        self._policy, self._rng = policy("wander"), np.random.default_rng(0)
        self._observation = Observation(
            frame=4000,
            embedding=as_embedding(recent[-1]),
            recent=recent,
            candidates=EmbeddingSet(ids, np.ascontiguousarray(rows[:: len(rows) // 75][:75])),
            past=tuple(
                PastInjection(20 * number, ids[number % 75], 20 * number + 9) for number in range(190)
            ),
        )

    def decide(self) -> None:
        """One decision."""
        self._policy.decide(self._observation, self._rng)


class Colouring:
    """Frames of 512 x 512, darker than all anchors, measured and put right."""

    def __init__(self) -> None:
        self._seeds = create("generators", "patches", size=512).seeds
        self._meter = ColourMeter([colours_of(seed) for seed in self._seeds])
        self._frame = (self._seeds[0] // 3).astype(np.uint8)

    def measure(self) -> None:
        """The colours of a frame."""
        self._meter.observe(self._frame)

    def put_right(self) -> None:
        """The next input."""
        assert corrected(self._frame, self._meter.span, "hard") is not None


def main() -> None:
    """All of it in one interleaved run."""
    options = arguments("Time what a frame costs beside its generator.")
    print(header(options.folder))
    frames, _ = motif_life()
    watching, life = Watching(frames), LifeRke()
    vectors, numbers = frames.astype(np.float64), count()
    on, off, colouring = Deciding(frames, still=True), Deciding(frames, still=False), Colouring()
    taken = interleave(
        {
            "measures": watching.measure,
            "state and alarm": watching.judge,
            "decide, alarm on": on.decide,
            "decide, alarm off": off.decide,
            "colours": colouring.measure,
            "colours put right": colouring.put_right,
            "whole-life RKE": lambda: life.add(vectors[next(numbers) % len(vectors)]),
            "Vendi score of 400 frames": lambda: vendi(frames[:400]),
        },
        rounds=3 if options.quick else 15,
        calls=40,
    )
    peers = {"whole-life RKE": "Vendi score of 400 frames"}
    bars = {
        "whole-life RKE": Bar(at_most=0.3e-3),
        "decide, alarm on": Bar(at_most=1e-3),
        "decide, alarm off": Bar(at_most=1e-3),
        "colours": Bar(at_most=1e-3),
    }
    show([Row(name, one, taken.get(peers.get(name, "")), bars.get(name)) for name, one in taken.items()])


if __name__ == "__main__":
    main()
