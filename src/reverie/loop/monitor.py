"""What a loop is doing, frame by frame: streaming measures over its embeddings."""

from __future__ import annotations

from collections import deque

import numpy as np

from reverie.diversity import mean_pairwise, novelty, steps, vendi
from reverie.errors import InputError
from reverie.vectors import Embedding, Vectors

__all__ = ["Measures", "Monitor"]

Measures = dict[str, float | None]
"""Measure by name; None while too few frames have been seen."""


class Monitor:
    """Follows a loop. Memory and time a frame stay the same however long it runs.

    Args:
        window: Frames over which "pairwise" is taken.
        horizon: Frames over which "effective_images" is taken.
        history: Frames that are kept; "novelty" looks back on them.
        gap: "novelty" counts frames at least this far back.

    Raises:
        InputError: A number below 1, or a ``window`` or ``horizon`` longer than the history.
    """

    def __init__(self, *, window: int = 20, horizon: int = 100, history: int = 1000, gap: int = 10) -> None:
        if min(window, horizon, gap) < 1 or max(window, horizon) > history:
            raise InputError(
                "window, horizon and gap must be at least 1, window and horizon no longer than the history; "
                f"got window={window}, horizon={horizon}, history={history}, gap={gap}"
            )
        self._window = window
        self._horizon = horizon
        self._gap = gap
        self._rows: deque[Embedding] = deque(maxlen=history)

    def observe(self, embedding: Embedding) -> Measures:
        """Take in the next frame.

        Args:
            embedding: ``(d,)`` unit vector.

        Returns:
            ``step``: 1 - cosine to the frame before, in [0, 2]. ``pairwise``: mean cosine of all
            pairs of the last ``window`` frames, in [-1, 1]. ``effective_images``: Vendi score of
            the last ``horizon`` frames, from 1. ``novelty``: 1 - highest cosine to any frame at
            least ``gap`` back, in [0, 2]. None while there are too few frames.
        """
        old = self._old()
        self._rows.append(embedding)
        return {
            "step": None if len(self._rows) < 2 else steps(self.recent(2))[0],
            "pairwise": None if len(self._rows) < 2 else mean_pairwise(self.recent(self._window)),
            "effective_images": vendi(self.recent(self._horizon)),
            "novelty": None if old is None else novelty(np.asarray(embedding), old),
        }

    def _old(self) -> Vectors | None:
        count = len(self._rows) + 1 - self._gap
        if count < 1:
            return None
        rows = list(self._rows)[:count]
        return np.stack([np.asarray(row) for row in rows])

    def recent(self, count: int) -> Vectors:
        """The last ``count`` vectors, oldest first, ``(m, d)`` with ``m <= count``; ``(0, 0)`` for none."""
        rows = list(self._rows)[max(0, len(self._rows) - count) :]
        return np.stack([np.asarray(row) for row in rows]) if rows else np.empty((0, 0), dtype=np.float32)
