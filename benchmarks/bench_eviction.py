"""Eviction policies: time of an add into a full memory, and what each keeps of a synthetic life.

Run ``python benchmarks/bench_eviction.py [--quick] [--folder DISK]``. An add is what a policy does for it: it
learns of the newcomer, names who goes, and forgets that one, in the order in which a cache asks. Images,
index and disk are left aside. The life is 8,000 frames of 33 motifs, visited for about 45 frames
each (`motif_life` of the shipped suites).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import numpy as np

from measure import Bar, Row, Timing, arguments, header, interleave, show
from reverie import registry
from reverie.diversity import vendi
from reverie.protocols import Brief
from reverie.testing.eviction_suite import motif_life
from reverie.vectors import as_embedding

POLICIES = ("oldest", "lru", "reservoir", "maxmin", "rke")
BARS = {75: Bar(at_most=50e-6), 10_000: Bar(at_most=1e-3)}


class Life:
    """A policy that is shown frames one by one, and what it keeps in so many slots."""

    def __init__(self, name: str, rows: np.ndarray, slots: int) -> None:
        self._policy = registry.create("evictions", name)
        self._vectors = [as_embedding(row, encoder="bench") for row in rows]
        self._frames = count()
        self._slots = slots
        self.kept: dict[str, int] = {}

    def add(self) -> None:
        """The next frame comes; past the slots another goes."""
        frame = next(self._frames)
        cache_id = f"cache_{frame + 1:05d}"
        brief = Brief(frame + 1, cache_id, "2025-11-08T10:00:00", frame + 1, pinned=False, byte_size=1)
        place = frame % len(self._vectors)
        if self._policy.needs_vectors:
            self._policy.insert(brief, self._vectors[place])
        if len(self.kept) == self._slots:
            gone = next(self._policy.ranking((cache_id,)))
            self._policy.discard(gone)
            del self.kept[gone]
        if not self._policy.needs_vectors:
            self._policy.insert(brief)
        self.kept[cache_id] = place

    def filled(self) -> Callable[[], None]:
        """`add`, from the first eviction on."""
        for _ in range(self._slots + 2):
            self.add()
        return self.add


def timed(slots: int, rounds: int, calls: int) -> dict[str, Timing]:
    """All policies with full memories of so many slots, interleaved."""
    rows, _ = motif_life(slots + rounds * calls + calls + 100, motifs=max(33, slots // 25))
    return interleave(
        {name: Life(name, rows, slots).filled() for name in POLICIES}, rounds=rounds, calls=calls
    )


def main() -> None:
    """Both sizes, then the life."""
    options = arguments("Time eviction policies, and measure what they keep.")
    print(header(options.folder))
    rows = []
    for slots, rounds, calls in ((75, 20, 200), (10_000, 10, 20)):
        taken = timed(slots, 3 if options.quick else rounds, calls)
        rows += [
            Row(
                f"evict at {slots:,} slots: {name}",
                taken[name],
                None if name == "oldest" else taken["oldest"],
                BARS[slots],
            )
            for name in POLICIES
        ]
    show(rows)
    frames, motifs = motif_life()
    print(f"\n8,000 frames, {len(set(motifs))} motifs, 75 slots: Vendi score and motifs of what is kept")
    for name in POLICIES:
        life = Life(name, frames, 75)
        for _ in frames:
            life.add()
        kept = list(life.kept.values())
        print(f"{name:10} {vendi(frames[kept]):6.1f} {len(set(motifs[kept])):4}")


if __name__ == "__main__":
    main()
