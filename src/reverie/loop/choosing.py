"""Which memory to inject: `Which` says, and a logarithmic weight for each memory follows from it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from reverie.cache.similarity import check_cut
from reverie.errors import InputError
from reverie.protocols import Observation
from reverie.vectors import similarities

__all__ = ["Choices", "Which", "choices_of", "merit", "moved", "one_of"]

Choice: TypeAlias = Literal["least-visited", "novel", "dissimilar", "band", "similar", "text", "random"]

_Floats: TypeAlias = NDArray[np.float64]

_SCALE = 0.03  # the cosine of unrelated pictures for which all thresholds here are given
_FORGET = 1000.0  # frames after which a use counts for 1/e
_CLOSE = 0.8  # what is this much like the current frame is hardly elsewhere


@dataclass(frozen=True, slots=True)
class Which:
    """Which memory to inject. Cosines are the built-in descriptor's, and moved to other encoders.

    Attributes:
        choice: ``least-visited`` (where the last frames were least), ``novel`` (drawn by its distance to
            all of them), ``dissimilar`` (unlike the current frame), ``band`` (between two percentiles of
            likeness to it), ``similar`` (the specification), ``text`` (like what the loop is to tend to;
            least visited where nothing is said) or ``random``.
        band: Two percentiles, 0 to 100.
        threshold: Lowest cosine of ``similar``.
        top_k: From how many of the most similar is drawn.
        sharpness: How strongly the best is preferred: 0 draws evenly.
        repeat: How much a memory loses for each time it was used, in the unit of the draw's logarithm.
        depth: How much it loses for each doubling of its generations from a picture of outside.
        rest: Frames for which what was just kept is left alone.
        back: Frames looked back on.
        escalate: Whether injections that did not free the loop are followed by stronger ones: what is
            unlike the current frame, then a pinned seed, then something imagined.
        reheat: Strength, in (0, 1], at which something new is imagined when no memory would be new
            enough, or nothing is remembered; None never imagines.
        fresh: How new a memory must be, 1 - cosine to the frames looked back on, not to be passed over
            for something imagined.
        stops: Memories to pass on the way: 0 or 1.

    Raises:
        InputError: A value out of its range.
    """

    choice: Choice = "least-visited"
    band: tuple[float, float] = (20.0, 60.0)
    threshold: float = 0.7
    top_k: int = 5
    sharpness: float = 1.0
    repeat: float = 0.7
    depth: float = 0.0
    rest: int = 15
    back: int = 120
    escalate: bool = True
    reheat: float | None = None
    fresh: float = 0.6
    stops: int = 0

    def __post_init__(self) -> None:
        one_of(self.choice, get_args(Choice), "choice")
        check_cut(self.threshold, self.top_k)
        if len(self.band) != 2 or not 0 <= self.band[0] < self.band[1] <= 100:
            raise InputError(f"band is two rising percentiles from 0 to 100, got {self.band!r}")
        if self.reheat is not None and not 0 < self.reheat <= 1:
            raise InputError(f"reheat is a strength in (0, 1], or None, got {self.reheat!r}")
        if min(self.repeat, self.depth, self.rest, self.fresh, self.sharpness) < 0:
            raise InputError("repeat, depth, rest, fresh and sharpness must be 0 or more")
        if not 1 <= self.back <= 120 or self.stops not in (0, 1):
            raise InputError(
                f"back must be from 1 to 120 and stops 0 or 1, got {self.back!r} and {self.stops!r}"
            )


@dataclass(frozen=True, slots=True)
class Choices:
    """What there is to choose from, row by row.

    Attributes:
        rows: Of the candidates.
        current: Cosine to the current frame.
        place: The same on the built-in descriptor's scale.
        nearest: Highest cosine to the frames looked back on.
        visited: How much those frames were there: mean of the fourth power of their cosines.
        uses: How often it was injected, what is long ago counting less.
        depths: Generations from a picture of outside.
        pinned: Whether it is a seed.
        asked: Cosine to what the loop is to tend to; None when nothing was asked for.
    """

    rows: NDArray[np.intp]
    current: _Floats
    place: _Floats
    nearest: _Floats
    visited: _Floats
    uses: _Floats
    depths: _Floats
    pinned: NDArray[np.bool_]
    asked: _Floats | None

    @property
    def freshness(self) -> _Floats:
        """How new each would be to the last frames, less for what was used before."""
        return 1.0 - self.nearest - 0.1 * self.uses


def merit(choice: str, which: Which, choices: Choices) -> _Floats:
    """Logarithm of the weight of each row; -inf for what is no choice."""
    weight = which.sharpness * _PREFERENCES[choice](choices)
    if choice != "similar":
        weight = weight - 50.0 * np.maximum(0.0, choices.place - _CLOSE)
    weight = weight - which.repeat * choices.uses - which.depth * np.log2(1.0 + choices.depths)
    return np.where(_allowed(choice, which, choices), weight, -np.inf)


def _allowed(choice: str, which: Which, choices: Choices) -> NDArray[np.bool_]:
    if choice == "pinned":
        return choices.pinned
    if choice == "band":
        low, high = map(float, np.percentile(choices.current, which.band))
        return np.logical_and(choices.current >= low, choices.current <= high)
    if choice == "similar":
        ranks = np.argsort(np.argsort(-choices.place, kind="stable"))
        allowed: NDArray[np.bool_] = (choices.place >= which.threshold) & (ranks < which.top_k)
        return allowed
    return np.ones(len(choices.rows), dtype=bool)


def _asked(choices: Choices) -> _Floats:
    """By likeness to what was asked for, in deviations from its mean: scales of texts differ."""
    if choices.asked is None:
        return -choices.visited / 0.05
    spread = float(choices.asked.std())
    return 3.0 * (choices.asked - choices.asked.mean()) / spread if spread > 1e-9 else 0.0 * choices.asked


_PREFERENCES: dict[str, Callable[[Choices], _Floats]] = {
    "least-visited": lambda choices: -choices.visited / 0.05,
    "pinned": lambda choices: -choices.visited / 0.05,
    "imagine": lambda choices: -choices.visited / 0.05,
    "novel": lambda choices: np.log(np.maximum(1.0 - choices.nearest, 1e-6)),
    "dissimilar": lambda choices: -choices.place / 0.05,
    "similar": lambda choices: np.log(np.maximum(choices.current, 1e-6)),
    "text": _asked,
    "band": lambda choices: 0.0 * choices.current,
    "random": lambda choices: 0.0 * choices.current,
}


def choices_of(observation: Observation, which: Which) -> Choices:
    """What may be chosen now: not this frame, nor what was kept just before it."""
    candidates, newest = observation.candidates, observation.frame - which.rest
    rows = np.array(
        [row for row, each in enumerate(candidates.ids) if observation.kept.get(each, newest) <= newest],
        dtype=np.intp,
    )
    ids = [candidates.ids[row] for row in rows]
    recent = observation.recent[-which.back :]
    matrix = candidates.matrix.reshape(-1, recent.shape[1])[rows]  # an empty memory has no dimensions yet
    cosines = (matrix @ recent.T).astype(np.float64)
    uses = dict.fromkeys(ids, 0.0)
    for past in observation.past:
        if past.cache_id in uses:
            uses[past.cache_id] += math.exp((past.frame - observation.frame) / _FORGET)
    towards = observation.towards
    return Choices(
        rows=rows,
        current=cosines[:, -1],
        place=_place(cosines[:, -1], observation.unrelated),
        nearest=cosines.max(axis=1, initial=-1.0),
        visited=(np.maximum(0.0, _place(cosines, observation.unrelated)) ** 4).mean(axis=1),
        uses=np.array(list(uses.values())),
        depths=np.array([observation.depths.get(each, 0.0) for each in ids]),
        pinned=np.array([each in observation.pinned for each in ids], dtype=bool),
        asked=None if towards is None else similarities(matrix, towards).astype(np.float64),
    )


def moved(cosine: float, unrelated: float) -> float:
    """A cosine of the descriptor's scale, at the same place between unrelated pictures and 1 on another."""
    return unrelated + (cosine - _SCALE) * (1.0 - unrelated) / (1.0 - _SCALE)


def _place(cosines: _Floats, unrelated: float) -> _Floats:
    """Cosines of another scale on the descriptor's."""
    return _SCALE + (cosines - unrelated) * (1.0 - _SCALE) / (1.0 - unrelated)


def one_of(value: object, allowed: tuple[str, ...], what: str) -> None:
    """Raise InputError unless it is."""
    if value not in allowed:
        raise InputError(f"{what} must be {', '.join(allowed)}; got {value!r}")
