"""Grouping vectors that look the same, against multiplying all of them with each other.

Run ``python benchmarks/bench_duplicates.py [--quick]``: 100,000 vectors of 512 numbers (quick: 20,000), each
side once a round. They are what a cache of loops holds: walks of 1,000 frames whose neighbours have a cosine
of about .966, and two in a hundred are another one with a little grain. Threshold .98; both sides must find
the same groups.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from measure import Bar, Row, arguments, header, interleave, show
from reverie.cache.duplicates import DEFAULT_LOOK
from reverie.cache.near_vectors import group_near, processors

DIMENSIONS = 512
WALK = 1000
NEXT = 0.966
"""Median cosine of a frame and the one before, by the built-in descriptor."""

Vectors: TypeAlias = NDArray[np.float32]


def frames(count: int) -> Vectors:
    """``(count, 512)`` float32 of unit length: walks, and near copies of two in a hundred."""
    rng = np.random.default_rng(0)
    walks = np.empty((WALK, count // WALK, DIMENSIONS), dtype=np.float32)
    walks[0] = _unit(rng.standard_normal(walks[0].shape, dtype=np.float32))
    for now, after in itertools.pairwise(walks):
        side = _unit(rng.standard_normal(now.shape, dtype=np.float32))
        after[:] = _unit(NEXT * now + np.sqrt(1 - NEXT**2) * side)
    rows = walks.transpose(1, 0, 2).reshape(-1, DIMENSIONS).copy()
    first, second = rng.choice(len(rows), (2, len(rows) // 50), replace=False)
    grain = _unit(rng.standard_normal((len(first), DIMENSIONS), dtype=np.float32))
    rows[second] = _unit(rows[first] + 0.1 * grain)
    return rows


def _unit(rows: Vectors) -> Vectors:
    lengths: Vectors = np.linalg.norm(rows, axis=-1, keepdims=True)
    return rows / lengths


def multiplied(matrix: Vectors, threshold: float, block: int = 1024) -> list[int]:
    """The leader of every row by whole products of blocks; half of the pairs, as nobody needs them twice."""
    of = np.full(len(matrix), -1, dtype=np.intp)
    for start in range(0, len(matrix), block):
        rows = matrix[start : start + block]
        near = matrix[start:] @ rows.T >= threshold
        for at in range(len(rows)):
            if of[start + at] < 0:
                joining = start + at + np.flatnonzero(near[at:, at])
                of[joining[of[joining] < 0]] = start + at
    return of.tolist()


def rows(count: int, rounds: int) -> list[Row]:
    """The table."""
    matrix = frames(count)
    found: dict[str, list[int]] = {}

    def ours(threads: int) -> list[int]:
        return group_near(matrix, DEFAULT_LOOK, threads=threads).of.tolist()

    def keeping(name: str, group: Callable[..., list[int]], *given: object) -> Callable[[], None]:
        return lambda: found.update({name: group(*given)})

    taken = interleave(
        {
            "peer": keeping("peer", multiplied, matrix, DEFAULT_LOOK),
            "one": keeping("one", ours, 1),
            "all": keeping("all", ours, processors()),
        },
        rounds=rounds,
        warm_up=0,
    )
    assert found["peer"] == found["one"] == found["all"], "the sides found different groups"
    alike = sum(leader != at for at, leader in enumerate(found["one"]))
    print(f"- {count:,} x {DIMENSIONS}, walks of {WALK:,}; {alike:,} look like an older one\n")
    what = f"group the same look among {count:,}"
    return [
        Row(f"{what}, 1 thread", taken["one"], taken["peer"], Bar(faster=2)),
        Row(f"{what}, {processors()} threads", taken["all"], taken["peer"]),
    ]


def main() -> None:
    """Print the table."""
    options = arguments("Time the grouping of vectors that look the same.")
    print(header(options.folder))
    show(rows(20_000, 3) if options.quick else rows(100_000, 3))


if __name__ == "__main__":
    main()
