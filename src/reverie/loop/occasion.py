"""Whether to inject at a frame: `When` says, and `occasion` works it out from what a policy is shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from reverie.errors import InputError
from reverie.loop.choosing import moved, one_of
from reverie.protocols import Observation
from reverie.vectors import Vectors

__all__ = ["When", "Whether", "fruitless", "whether"]

Occasion: TypeAlias = Literal["alarm", "promise", "interval", "probability"]

_STAYED = 0.7  # so like where it was that the loop was not freed


@dataclass(frozen=True, slots=True)
class When:
    """Whether to inject at a frame. Cosines are the built-in descriptor's, and moved to other encoders.

    Attributes:
        occasion: On ``alarm`` (the last frames are too much alike), on the alarm that keeps a ``promise``
            (`reverie.loop.alarm.Alarm`), at every multiple of ``interval``, or with a ``probability`` at each
            frame.
        on: Mean pairwise cosine of the last frames above which the alarm goes on.
        off: Below which it goes off again.
        window: Over how many frames that is taken.
        least: How many there must be for it.
        cooldown: Frames between the end of one injection and the beginning of the next.
        interval: In frames.
        probability: In [0, 1].

    Raises:
        InputError: A value out of its range.
    """

    occasion: Occasion = "alarm"
    on: float = 0.40
    off: float = 0.30
    window: int = 20
    least: int = 10
    cooldown: int = 2
    interval: int = 15
    probability: float = 1 / 15

    def __post_init__(self) -> None:
        one_of(self.occasion, get_args(Occasion), "occasion")
        if not -1 <= self.off < self.on <= 1:
            raise InputError(f"expected -1 <= off < on <= 1, got off={self.off}, on={self.on}")
        if not 2 <= self.least <= self.window <= 60:
            raise InputError(
                f"expected 2 <= least <= window <= 60, got least={self.least}, window={self.window}"
            )
        if self.cooldown < 0 or self.interval < 1 or not 0 <= self.probability <= 1:
            raise InputError(
                "cooldown must be at least 0, interval at least 1 and probability in [0, 1], got "
                f"{self.cooldown}, {self.interval}, {self.probability}"
            )


@dataclass(frozen=True, slots=True)
class Whether:
    """An answer.

    Attributes:
        go: Whether to inject.
        reason: Why, or why not.
        numbers: What it was made from.
    """

    go: bool
    reason: str
    numbers: dict[str, float]


def whether(when: When, observation: Observation, rng: np.random.Generator) -> Whether:
    """Whether this frame is an occasion to inject; draws from ``rng`` for a probability only."""
    if when.occasion == "interval":
        wait = -observation.frame % when.interval
        return Whether(not wait, f"every {when.interval} frames", {"wait": float(wait)})
    last = max((past.ended for past in observation.past[-1:]), default=None)
    since = None if last is None else observation.frame - last
    rests = since is not None and since + 1 < when.cooldown
    if when.occasion == "probability":
        drawn = float(rng.random())
        go = drawn < when.probability and not rests
        return Whether(go, f"drawn with probability {when.probability:.3g}", {"drawn": drawn})
    if when.occasion == "promise":
        return _promise(observation, since, rests)
    return _alarm(when, observation, since if rests else None)


def _promise(observation: Observation, since: int | None, rests: bool) -> Whether:
    """On the alarm with the promise, also when it was raised while the policy rested."""
    evidence = observation.measures.get("alarm", 0.0)
    raised = observation.measures.get("since_alarm")
    alarm = raised is not None and (since is None or raised < since)
    numbers = {"evidence": evidence, "alarm": float(alarm)}
    if not alarm:
        return Whether(False, f"the loop moves: evidence against it {evidence:.0f}", numbers)
    if rests:
        return Whether(False, f"alarm, but an injection ended {since} frames ago", numbers)
    return Whether(True, "the loop does not get away from where it is", numbers)


def _alarm(when: When, observation: Observation, since: int | None) -> Whether:
    on, off = (moved(level, observation.unrelated) for level in (when.on, when.off))
    if len(observation.recent) < when.least:
        return Whether(False, "too few frames to judge by", {})
    now = float(_alike(observation.recent[-when.window :], when.window, when.least)[-1])
    alarm = now > on
    if off <= now <= on:  # it is what it was: look back
        alarm = _latched(_alike(observation.recent, when.window, when.least), on, off)
    numbers = {"alike": now, "alarm": float(alarm)}
    if not alarm:
        reason = f"the loop moves: mean cosine {now:.2f}, memory steps in above {on:.2f}"
        return Whether(False, reason, numbers)
    if since is not None:
        return Whether(False, f"the frames are alike, but an injection ended {since} frames ago", numbers)
    return Whether(True, _too_alike(now, on, off), numbers)


def _too_alike(now: float, on: float, off: float) -> str:
    """Why memory steps in, without the word alarm: that is the name of the one that keeps a promise."""
    if now > on:
        return f"the last frames are alike (mean cosine {now:.2f}, memory steps in above {on:.2f})"
    return f"the last frames are still alike (mean cosine {now:.2f}, not yet below {off:.2f})"


def fruitless(observation: Observation) -> int:
    """How many of the last injections, one after the other, left the loop where it was."""
    recent, tries = observation.recent, 0
    stayed = moved(_STAYED, observation.unrelated)
    after = observation.frame
    for past in reversed(observation.past):
        before = len(recent) - 1 - (observation.frame - past.frame)
        if before < 0:
            break
        now = recent[len(recent) - 1 - (observation.frame - after)]
        if float(np.vecdot(now, recent[before])) < stayed:
            break
        tries, after = tries + 1, past.frame
    return tries


def _alike(recent: Vectors, window: int, least: int) -> NDArray[np.float64]:
    """Mean pairwise cosine of the frames up to each one that has enough before it, oldest first.

    From the lengths of sums: |sum of w unit vectors|^2 = w + the cosines of all ordered pairs.
    """
    count = len(recent)
    sums = np.zeros((count + 1, recent.shape[1]))
    np.cumsum(recent, axis=0, dtype=np.float64, out=sums[1:])
    first = least if count < window else window  # in a longer history all windows are full
    ends = np.arange(first, count + 1)
    begins = np.maximum(0, ends - window)
    totals = sums[ends] - sums[begins]
    frames = (ends - begins).astype(np.float64)
    squares: NDArray[np.float64] = np.vecdot(totals, totals)
    return (squares - frames) / (frames * (frames - 1.0))


def _latched(values: NDArray[np.float64], on: float, off: float) -> bool:
    """Whether an alarm is on that goes on above ``on`` and off below ``off``."""
    decisive = values[(values > on) | (values < off)]
    return bool(len(decisive) and decisive[-1] > on)
