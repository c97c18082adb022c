"""What a loop is doing, frame by frame: streaming measures over its embeddings."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reverie.diversity import return_time, slope, travel_of_gram, vendi_of_gram
from reverie.errors import InputError
from reverie.loop.calibration import Calibration
from reverie.loop.streaming import LifeRke, MotifCounter
from reverie.vectors import Embedding, Vectors

__all__ = ["Measures", "Monitor"]

Measures = dict[str, float | None]
"""Measure by name; None while too few frames have been seen."""

_REPLAY_LAG = 30
_DISPLACED = (3, 8)  # frames back, first and last, from which "displacement" is taken
_EVERY_FRAME = 50  # effective images of no more frames than this are cheap


class Monitor:
    """Follows a loop. Memory and time a frame stay the same however long it runs.

    Args:
        window: Frames over which "pairwise", "travel", "cycle" and "returns" are taken.
        horizon: Frames over which "effective_images", "rke" and "drift_rate" are taken.
        history: Frames that are kept; "novelty" and "replay" look back on them.
        gap: "novelty" counts frames at least this far back.
        every: "effective_images" of more than 50 frames is taken anew every this many frames.
        calibration: What counts as a cut, a repetition, a motif, a return.

    Raises:
        InputError: A number below 1, or a ``window`` or ``horizon`` longer than the history.
    """

    def __init__(
        self,
        *,
        window: int = 20,
        horizon: int = 100,
        history: int = 1000,
        gap: int = 10,
        every: int = 4,
        calibration: Calibration | None = None,
    ) -> None:
        if min(window, horizon, gap, every) < 1 or max(window, horizon) > history:
            raise InputError(
                "window, horizon, gap and every must be at least 1, window and horizon no longer than the "
                f"history; got window={window}, horizon={horizon}, history={history}, gap={gap}, "
                f"every={every}"
            )
        self._window = window
        self._horizon = horizon
        self._history = history
        self._gap = gap
        self._every = every
        self._calibration = calibration or Calibration()
        self._life = LifeRke()
        self._motifs = MotifCounter(self._calibration.apart)
        self._frames = 0
        self._effective = 0.0
        self._cuts = 0
        self._replays = 0
        self._far = 0.0  # sum of all distances to the start
        self._distances: deque[float] = deque(maxlen=horizon)
        self._returns: deque[int] = deque(maxlen=window)
        self._allocate(0)

    def _allocate(self, dimensions: int) -> None:
        near = max(self._window, self._horizon)
        self._rows = np.empty((2 * self._history, dimensions), np.float32)
        self._stored = 0
        self._near = np.zeros((near, dimensions))  # the last frames, each in the slot frame % near
        self._gram = np.zeros((near, near))  # their cosines, slot by slot
        self._start = np.zeros(dimensions)

    def observe(self, embedding: Embedding) -> Measures:
        """Take in the next frame.

        Args:
            embedding: ``(d,)`` unit vector.

        Returns:
            Of this frame, None while there are too few:

            * ``step``: 1 - cosine to the frame before, in [0, 2].
            * ``novelty``: 1 - highest cosine to any frame at least ``gap`` back, in [0, 2].
            * ``displacement``: mean distance (1 - cosine) to the frames 3 to 8 back, in [0, 2]: how fast the
              loop gets away from where it is. Of fewer frames those that there are; None for less than 4.

            Of the last ``window`` frames:

            * ``pairwise``: mean cosine of all pairs, in [-1, 1].
            * ``travel``: how much farther distant frames are than neighbours; see
              `reverie.diversity.travel`. None until the window is full.
            * ``returns``: share of these frames at which the loop was back where it had been, having
              been elsewhere in between.
            * ``cycle``: after how many frames, their median; 0 when it does not come back.

            Of the last ``horizon`` frames:

            * ``effective_images``: Vendi score, from 1. Of more than 50 frames it is taken anew every
              ``every`` frames, and stays in between.
            * ``rke``: the same of order 2, from 1, at every frame.
            * ``drift_rate``: slope a frame of the distance to the start; None for fewer than 3 frames.

            Of the whole run:

            * ``drift``: mean distance (1 - cosine) to the start, in [0, 2].
            * ``life_rke``: effective images of order 2, from 1.
            * ``motifs``, ``motif_entropy``, ``dwell``: as `reverie.diversity.visits`.
            * ``replay``: share of frames that repeat one at least 30 before, in [0, 1].
            * ``hard_cuts``: how many steps were cuts.

        Raises:
            InputError: Not ``(d,)`` of the frames before, NaN or infinite; it was not counted.
        """
        x = np.asarray(embedding, dtype=np.float32)
        exact = x.astype(np.float64)
        if x.ndim != 1 or (self._frames and len(x) != len(self._start)):
            raise InputError(f"expected one vector like those before, got shape {x.shape}")
        with np.errstate(all="ignore"):  # said better below
            finite = np.isfinite(np.vecdot(exact, exact))
        if not finite:
            raise InputError("the vectors hold NaN or infinity")
        if not self._frames:
            self._allocate(len(x))
            self._start = exact
        measures = self._looking_back(x)
        self._remember(x, exact)
        measures |= self._lately()
        measures |= self._so_far(x, exact, measures["step"])
        return measures

    def _remember(self, x: NDArray[np.float32], exact: NDArray[np.float64]) -> None:
        if self._stored == len(self._rows):
            kept = self.recent(self._history)
            self._rows = np.empty_like(self._rows)  # views that were handed out stay as they are
            self._rows[: len(kept)] = kept
            self._stored = len(kept)
        self._rows[self._stored] = x
        self._stored += 1
        slot = self._frames % len(self._near)
        self._near[slot] = exact
        self._gram[slot] = self._gram[:, slot] = np.vecdot(self._near, exact)
        self._frames += 1

    def _looking_back(self, x: NDArray[np.float32]) -> Measures:
        cosines = np.vecdot(self.recent(self._history), x) if self._frames else np.empty(0, np.float32)
        old = cosines[: max(0, len(cosines) + 1 - self._gap)]
        older = cosines[: max(0, len(cosines) + 1 - _REPLAY_LAG)]
        if older.size:
            self._replays += _distance(older.max()) < 1 - self._calibration.same
        seen = self._frames + 1 - _REPLAY_LAG
        return {
            "novelty": _distance(old.max()) if old.size else None,
            "replay": self._replays / seen if seen > 0 else None,
        }

    def _slots(self, count: int) -> NDArray[np.intp]:
        """Slots of the last frames, the newest first."""
        return np.arange(self._frames - 1, max(-1, self._frames - 1 - count), -1) % len(self._near)

    def _lately(self) -> Measures:
        slots = self._slots(len(self._near))
        recent = slots[: self._window]
        block = self._gram[np.ix_(recent, recent)]
        count = len(block)
        here = self._gram[slots[0], slots[1:]]
        self._returns.append(return_time(here, self._calibration.leave, self._calibration.back))
        came, (near, far) = [lag for lag in self._returns if lag], _DISPLACED
        pairs = (float(block.sum()) - float(np.trace(block))) / max(1, count * (count - 1))
        return {
            "step": _distance(here[0]) if len(here) else None,
            "displacement": _distance(here[near - 1 : far].mean()) if len(here) >= near else None,
            "pairwise": min(1.0, max(-1.0, pairs)) if count > 1 else None,
            "travel": travel_of_gram(block) if count == self._window > 1 else None,
            "returns": len(came) / len(self._returns) if count > 1 else None,
            "cycle": (float(np.median(came)) if came else 0.0) if count > 1 else None,
            **self._variety(slots[: self._horizon]),
        }

    def _variety(self, slots: NDArray[np.intp]) -> Measures:
        count = len(slots)
        gram = self._gram[np.ix_(slots, slots)] if count < len(self._gram) else self._gram
        if count <= _EVERY_FRAME or self._frames % self._every == 0:
            self._effective = vendi_of_gram(gram, count)
        trace = float(np.trace(gram))
        rke = trace * trace / float(np.vecdot(gram, gram).sum())
        most = float(min(count, len(self._start)))
        return {"effective_images": min(self._effective, most), "rke": min(max(1.0, rke), most)}

    def _so_far(self, x: NDArray[np.float32], exact: NDArray[np.float64], step: float | None) -> Measures:
        if step is not None:
            self._cuts += step > self._calibration.cut
            self._distances.append(_distance(np.vecdot(self._start, exact)))
            self._far += self._distances[-1]
        visits = self._motifs.add(x)
        return {
            "drift": self._far / (self._frames - 1) if self._frames > 1 else None,
            "drift_rate": slope(np.array(self._distances)) if self._frames > 2 else None,
            "life_rke": self._life.add(exact),
            "motifs": float(visits.motifs),
            "motif_entropy": visits.entropy,
            "dwell": visits.dwell,
            "hard_cuts": float(self._cuts) if self._frames > 1 else None,
        }

    def recent(self, count: int) -> Vectors:
        """The last ``count`` vectors, oldest first, ``(m, d)`` read-only; ``(0, 0)`` before any frame."""
        rows = self._rows[max(0, self._stored - min(count, self._history)) : self._stored]
        rows.flags.writeable = False
        return rows

    def life_vendi(self, order: float = 1.0) -> float:
        """Vendi score of the whole run, of any order; takes its time (O(d^3)).

        Raises:
            InputError: The order is below 0 or NaN.
        """
        return self._life.vendi(order)

    def _settings(self) -> dict[str, float]:
        calibration = self._calibration
        return {
            "window": self._window,
            "horizon": self._horizon,
            "history": self._history,
            "gap": self._gap,
            "every": self._every,
            **{name: getattr(calibration, name) for name in ("apart", "same", "leave", "back", "cut")},
        }

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs: arrays and numbers by name, copies."""
        return {
            **{f"settings.{name}": value for name, value in self._settings().items()},
            "frames": self._frames,
            "effective": self._effective,
            "cuts": self._cuts,
            "replays": self._replays,
            "far": self._far,
            "distances": np.array(self._distances),
            "returns": np.array(self._returns, dtype=np.int64),
            "rows": self.recent(self._history).copy(),
            "near": self._near.copy(),
            "gram": self._gram.copy(),
            "start": self._start.copy(),
            **{f"life.{name}": value for name, value in self._life.state().items()},
            **{f"motifs.{name}": value for name, value in self._motifs.state().items()},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`, bit for bit as if there had been no break.

        Raises:
            InputError: The state is of a monitor with other settings.
        """
        for name, value in self._settings().items():
            if state[f"settings.{name}"] != value:
                raise InputError(
                    f"this monitor has {name}={value:g}, the state was made with "
                    f"{float(state[f'settings.{name}']):g}: make the monitor with the same settings"
                )
        self._allocate(len(state["start"]))
        self._start = np.array(state["start"])
        self._frames = int(state["frames"])
        self._effective = float(state["effective"])
        self._cuts = int(state["cuts"])
        self._replays = int(state["replays"])
        self._far = float(state["far"])
        self._distances = deque(map(float, state["distances"]), self._horizon)
        self._returns = deque(map(int, state["returns"]), self._window)
        self._stored = len(state["rows"])
        self._rows[: self._stored] = state["rows"]
        self._near = np.array(state["near"])
        self._gram = np.array(state["gram"])
        self._life.restore(_part(state, "life."))
        self._motifs.restore(_part(state, "motifs."))


def _distance(cosine: np.floating) -> float:
    return min(2.0, max(0.0, 1.0 - float(cosine)))


def _part(state: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {name[len(prefix) :]: value for name, value in state.items() if name.startswith(prefix)}
