"""The correction of colour drift: what the generator gets next is moved back to what the anchors span.

Means and standard deviations are moved in a perceptual colour space, as Reinhard, Ashikhmin, Gooch and
Shirley (2001), "Color Transfer between Images", do; not to those of one picture, but to the nearest that the
anchors span, so that colours within them are left as they are, bit for bit. The two colour axes share one
factor: hues keep their places to each other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from reverie.errors import UnknownNameError
from reverie.loop.colour import Colours, Span, colours_of, measured, sample
from reverie.oklab import Lab32, from_oklab, recoloured, to_oklab32
from reverie.pixels import Pixels

__all__ = ["Corrected", "Correction", "check_correction", "corrected", "moved_to"]

Correction: TypeAlias = Literal["off", "soft", "hard"]

_SHARES = {"soft": 0.2, "hard": 1.0}  # of the excess that is taken back at a frame
_MARGIN = 0.001  # corrected colours are so far inside of the span: they are not corrected again
_LEAST, _MOST = 0.5, 2.0  # factors of contrast and colour at one frame: more would bring out noise
_FLAT = 0.01  # contrast below which a picture is flat: there is nothing to make more of
_PLAIN = 0.004  # the same of its colours
_ROUNDS = 6  # tries to hit the goal with what a screen can show
_CLOSE = 3e-4  # from the goal is good enough
_HALVINGS = 12  # the factor of the colours is found to 1/2700
_KNEE = 0.5  # no more than the brighter half of the lightness makes room for highlights


@dataclass(frozen=True, slots=True, eq=False)
class Corrected:
    """A frame with its colours put right.

    Attributes:
        pixels: ``(h, w, 3)`` uint8 RGB.
        reason: Why and how, in words.
    """

    pixels: Pixels
    reason: str


def check_correction(name: str) -> Correction:
    """The correction of this name; raises UnknownNameError with those that there are."""
    names = get_args(Correction)
    if name not in names:
        raise UnknownNameError(f"no colour correction is called {name!r}; there are: {', '.join(names)}")
    return next(each for each in names if each == name)


def corrected(pixels: Pixels, span: Span, how: Correction) -> Corrected | None:
    """A frame with its colours moved towards what the anchors span.

    Args:
        pixels: ``(h, w, 3)`` uint8 RGB, of any size.
        span: What the anchors span.
        how: ``off`` does nothing, ``soft`` takes back a fifth of the excess, ``hard`` all of it, as far as
            can be shown and without making a flat picture's noise its content.

    Returns:
        None where nothing is to be done, or can be: the frame is as it should be.
    """
    if how == "off":
        return None
    now = colours_of(pixels)
    drift = span.drift(now)
    if not drift.amount:
        return None
    share, nearest = _SHARES[how], span.nearest(now, _MARGIN)
    goal = Colours(*(value + share * (to - value) for value, to in zip(now, nearest, strict=True)))
    made = moved_to(pixels, goal)
    if np.array_equal(made, pixels):
        return None
    return Corrected(
        made, f"colours put right ({how}): {drift.words}, {drift.amount:.3f} outside the anchors"
    )


def moved_to(pixels: Pixels, goal: Colours) -> Pixels:
    """A picture with other colours: means and standard deviations in Oklab moved to a goal.

    What no screen can show loses chroma, not its hue; lightness rolls off towards black and white instead of
    being cut. The change is sought on the pixels that are measured, until they are what is asked for.

    Args:
        pixels: ``(h, w, 3)`` uint8 RGB, of any size.
        goal: Means, contrast and saturation that it is to have.

    Returns:
        ``(h, w, 3)`` uint8 RGB, as near to the goal as can be: contrast and colours change by no more than
        a factor of 2, and not at all in a picture that has none.
    """
    return recoloured(pixels, _fitted(to_oklab32(sample(pixels)), np.array(goal)))


@dataclass(frozen=True, slots=True)
class _Change:
    """Means from ``before`` to ``after``, deviations by factors; lightness ends at ``low`` and ``high``."""

    before: tuple[float, float, float]
    after: tuple[float, float, float]
    contrast: float
    colour: float
    low: float
    high: float

    def __call__(self, lab: Lab32) -> Lab32:
        factors = (self.contrast, self.colour, self.colour)
        planes = [
            np.float32(after) + np.float32(factor) * (plane - np.float32(before))
            for plane, before, after, factor in zip(lab, self.before, self.after, factors, strict=True)
        ]
        planes[0] = 1 - _rolled(1 - _rolled(planes[0], self.high), 1 - self.low)
        return np.stack(planes)


def _rolled(lightness: NDArray[np.float32], high: float) -> NDArray[np.float32]:
    """Lightness that goes up to ``high``, bent so that it ends at 1: smooth, and brighter stays brighter."""
    if high <= 1:
        return lightness
    knee = max(_KNEE, 3 - 2 * high)
    over = np.maximum(lightness - np.float32(knee), 0)
    bend = np.float32(1 / (1 - knee) - 1 / (high - knee))
    rolled: NDArray[np.float32] = np.minimum(lightness, np.float32(knee)) + over / (1 + over * bend)
    return rolled


def _fitted(lab: Lab32, goal: NDArray[np.float64]) -> _Change:
    """The change that brings these pixels nearest to the goal, all rounding and cutting included."""
    aim = goal
    best, nearest = _change(lab, goal), math.inf
    for _ in range(_ROUNDS):
        change = _change(lab, aim)
        got = np.array(measured(to_oklab32(from_oklab(change(lab)))))
        far = float(np.abs(got - goal).max())
        if far < nearest:
            best, nearest = change, far
        if far < _CLOSE:
            break
        aim = aim + (goal - got)
    return best


def _change(lab: Lab32, aim: NDArray[np.float64]) -> _Change:
    now = measured(lab)
    contrast = float(np.clip(aim[3] / now.contrast, _LEAST, _MOST)) if now.contrast > _FLAT else 1.0
    ends = aim[0] + contrast * (np.array([lab[0].min(), lab[0].max()]) - now.lightness)
    return _Change(
        (now.lightness, now.tint_a, now.tint_b),
        (float(aim[0]), float(aim[1]), float(aim[2])),
        contrast,
        _colour_factor(lab[1:], aim[1:3], float(aim[4])),
        float(ends[0]),
        float(ends[1]),
    )


def _colour_factor(colours: NDArray[np.float32], tint: NDArray[np.float64], saturation: float) -> float:
    """The factor of the deviations from the mean that gives a mean chroma; that grows with it: bisection."""
    apart = colours - colours.mean(axis=1, keepdims=True)
    if float(np.sqrt((apart**2).sum(axis=0).mean())) < _PLAIN:
        return 1.0
    low, high = _LEAST, _MOST
    for _ in range(_HALVINGS):
        factor = (low + high) / 2
        chroma = float(np.hypot(tint[0] + factor * apart[0], tint[1] + factor * apart[1]).mean())
        low, high = (factor, high) if chroma < saturation else (low, factor)
    return (low + high) / 2
