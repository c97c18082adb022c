"""Encoders of the reindexing tests, and a process that reindexes: ``reindex_worker.py <folder> <batch>``."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reverie import AestheticMatcher, CacheManager
from reverie.reindex import Reindexing, ReindexReport


@dataclass
class Seeded:
    """A vector for every picture, from its sum: another one for every name."""

    name: str = "new"
    dimensions: int = 12

    def encode_batch(self, frames: Sequence[Any]) -> Any:
        """One row a frame."""
        return np.array([self.vector(frame) for frame in frames], np.float32).reshape(-1, self.dimensions)

    def vector(self, frame: Any) -> Any:
        """The row of one frame."""
        seed = [int(frame.sum()), *self.name.encode()]
        row = np.random.default_rng(seed).standard_normal(self.dimensions)
        return (row / np.linalg.norm(row)).astype(np.float32)


def say(**facts: Any) -> None:
    """One line of JSON for the test that waits for it."""
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def work(folder: str, batch: str) -> None:
    """Reindex as soon as a line arrives; say what is on the disk after every batch."""

    def tell(report: ReindexReport) -> None:
        say(encoded=report.encoded, already=report.already, total=report.total, finished=report.finished)

    with CacheManager(folder, max_size=None, lock_timeout=30) as cache:
        # A clock that stands still: every batch is written at once.
        job = Reindexing(
            cache, AestheticMatcher(Seeded()), batch=int(batch), progress=tell, clock=lambda: 0.0
        )
        say(ready=True)
        sys.stdin.readline()
        job.run()


if __name__ == "__main__":
    work(*sys.argv[1:])
