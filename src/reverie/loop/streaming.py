"""Measures of a whole run in flat memory and time: its effective images, and its motifs.

Both take one unit vector a frame, however long the run; their ``state`` is arrays and numbers, and
goes on from there bit for bit. Products are ``numpy.vecdot`` only (see `reverie.vectors`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reverie.diversity import Visits, entropy_of, vendi_of_gram

__all__ = ["LifeRke", "MotifCounter"]

_BLOCK = 64  # frames that wait together before they enter the sum
_MOTIFS = 512  # leaders that are kept


class LifeRke:
    """Effective images of order 2 (`reverie.diversity.rke`) of every frame there ever was.

    RKE = n^2 / F with F the sum of all squared cosines, which one more frame x raises by
    2 x'Cx + (x'x)^2, C the sum of the outer products xx' of the frames before. C is exact in double
    precision: frames wait in blocks of 64, and a waiting block enters C a few rows a frame, so that
    no frame costs more than another.
    """

    def __init__(self) -> None:
        self.count = 0
        self._energy = 0.0
        self._trace = 0.0
        self._allocate(0)

    def _allocate(self, dimensions: int) -> None:
        self._sum = np.zeros((dimensions, dimensions))
        self._next = np.zeros((dimensions, dimensions))  # the sum with the waiting block
        self._waiting = np.zeros((_BLOCK, dimensions))
        self._filling = np.zeros((_BLOCK, dimensions))
        self._columns = np.zeros((dimensions, _BLOCK))  # the waiting block, turned

    def add(self, vector: NDArray[np.floating]) -> float:
        """Take in ``(d,)``, the next frame; returns `value`."""
        x = vector.astype(np.float64)
        if not self.count:
            self._allocate(len(x))
        seen = float(np.vecdot(x, np.vecdot(self._sum, x)))
        for block in (self._waiting, self._filling):
            cosines = np.vecdot(block, x)
            seen += float(np.vecdot(cosines, cosines))
        own = float(np.vecdot(x, x))
        self._energy += 2 * seen + own * own
        self._trace += own
        place = self.count % _BLOCK
        self._fold(place)
        self._filling[place] = x
        self.count += 1
        if place == _BLOCK - 1:
            self._turn()
        return self.value

    def _fold(self, stripe: int) -> None:
        """Let the waiting block into one of 64 stripes of the next sum."""
        high = -(-len(self._sum) // _BLOCK)
        rows = slice(stripe * high, (stripe + 1) * high)
        added = np.vecdot(self._columns[rows, None, :], self._columns)
        np.add(self._sum[rows], added, out=self._next[rows])

    def _turn(self) -> None:
        self._sum, self._next = self._next, self._sum
        self._waiting, self._filling = self._filling, np.zeros_like(self._filling)
        self._columns = np.ascontiguousarray(self._waiting.T)

    @property
    def value(self) -> float:
        """RKE so far, between 1 and min(n, d); 0 before the first frame."""
        if not self.count:
            return 0.0
        score = self._trace * self._trace / self._energy
        return min(max(1.0, score), float(min(self.count, len(self._sum))))

    def vendi(self, order: float = 1.0) -> float:
        """Vendi score of all frames so far, of any order: O(d^3), so on demand.

        Raises:
            InputError: The order is below 0 or NaN.
        """
        blocks = np.concatenate((self._waiting, self._filling))
        return vendi_of_gram(self._sum + blocks.T @ blocks, self.count, order)

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs: arrays and numbers, copies."""
        return {
            "count": self.count,
            "energy": self._energy,
            "trace": self._trace,
            "sum": self._sum.copy(),
            "waiting": self._waiting.copy(),
            "filling": self._filling.copy(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`."""
        self.count = int(state["count"])
        self._energy = float(state["energy"])
        self._trace = float(state["trace"])
        self._sum = np.array(state["sum"])
        self._next = np.zeros_like(self._sum)
        self._waiting = np.array(state["waiting"])
        self._filling = np.array(state["filling"])
        self._columns = np.ascontiguousarray(self._waiting.T)
        for stripe in range(self.count % _BLOCK):
            self._fold(stripe)


class MotifCounter:
    """`reverie.diversity.visits` of every frame there ever was.

    Args:
        apart: A frame whose cosine to all leaders is below this leads a new motif.
        most: Leaders that are kept. Once there are that many, a frame that would lead a new motif
            counts for the one it is most like: the count stays, it never says too many.
    """

    def __init__(self, apart: float = 0.6, most: int = _MOTIFS) -> None:
        self._apart = apart
        self._most = most
        self._frames = 0
        self._count = 0
        self._last = -1
        self._entropy = 0.0
        self._leaders = np.zeros((0, 0), np.float32)
        self._visits = np.zeros(0, np.int64)

    def add(self, vector: NDArray[np.float32]) -> Visits:
        """Take in ``(d,)``, the next frame; what there was up to now."""
        self._frames += 1
        motif = self._motif_of(vector)
        if motif != self._last:
            self._visits[motif] += 1
            self._entropy = entropy_of(self._visits[: self._count])
            self._last = motif
        return Visits(self._count, self._entropy, self._frames / int(self._visits.sum()))

    def _motif_of(self, vector: NDArray[np.float32]) -> int:
        if self._count:
            cosines = np.vecdot(self._leaders[: self._count], vector)
            nearest = int(cosines.argmax())
            if float(cosines[nearest]) >= self._apart or self._count == self._most:
                return nearest
        if self._count == len(self._leaders):
            self._grow(len(vector))
        self._leaders[self._count] = vector
        self._count += 1
        return self._count - 1

    def _grow(self, dimensions: int) -> None:
        room = min(self._most, max(16, 2 * self._count))
        leaders, visits = np.zeros((room, dimensions), np.float32), np.zeros(room, np.int64)
        if self._count:
            leaders[: self._count], visits[: self._count] = self._leaders, self._visits
        self._leaders, self._visits = leaders, visits

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs: arrays and numbers, copies."""
        return {
            "frames": self._frames,
            "last": self._last,
            "leaders": self._leaders[: self._count].copy(),
            "visits": self._visits[: self._count].copy(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`."""
        self._frames = int(state["frames"])
        self._last = int(state["last"])
        self._leaders = np.array(state["leaders"])
        self._visits = np.array(state["visits"])
        self._count = len(self._visits)
        self._entropy = entropy_of(self._visits)
