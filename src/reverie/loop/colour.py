"""Colour drift: how far the colours of a loop are outside of what its anchors span, and in which way.

Loops of img2img turn magenta, darken or burn: every pass through the generator moves the colours a little.
Five numbers of every frame are taken in Oklab and compared with those of the anchors, which are the pictures
that the loop is to stay true to. Drift is not the distance to their mean: what one anchor or another has, and
all between them, is none. Each anchor stands for pictures of about its colours, so that a single one also
leaves room to move.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reverie.errors import InputError
from reverie.oklab import Lab32, to_oklab32
from reverie.pixels import Pixels

__all__ = ["ABOUT", "ColourMeter", "Colours", "Drift", "Span", "colours_of", "measured", "sample"]

_POINTS = 4096  # pixels that are looked at: their mean lightness is that of all to about 0.002
_SLIGHTLY, _MUCH = 0.5, 2.0  # excess, in widths of an anchor, below and above which words say so


class Colours(NamedTuple):
    """The colours of a picture in five numbers, all in Oklab.

    Attributes:
        lightness: Mean L, in [0, 1].
        tint_a: Mean a: green (-) to red (+).
        tint_b: Mean b: blue (-) to yellow (+).
        contrast: Standard deviation of L, in [0, 0.5].
        saturation: Mean chroma, from 0.
    """

    lightness: float
    tint_a: float
    tint_b: float
    contrast: float
    saturation: float


ABOUT = Colours(lightness=0.05, tint_a=0.02, tint_b=0.02, contrast=0.03, saturation=0.025)
"""How far from an anchor a picture still has about its colours."""

_HUES = {
    "pink": 0, "red": 29, "orange": 60, "yellow": 105, "green": 142, "cyan": 195, "blue": 260, "violet": 300,
    "magenta": 330,
}  # fmt: skip  # degrees in Oklab

_WAYS = {
    "lightness": ("darker", "brighter"),
    "contrast": ("less contrast", "more contrast"),
    "saturation": ("paler", "more saturated"),
}


def colours_of(pixels: Pixels) -> Colours:
    """The colours of a picture, from 4,096 of its pixels; all of them where it has no more.

    Args:
        pixels: ``(h, w, 3)`` uint8 RGB, of any size from 1 x 1.
    """
    return measured(to_oklab32(sample(pixels)))


def sample(pixels: Pixels) -> NDArray[np.uint8]:
    """``(3, n)`` uint8: the pixels that stand for a picture, the same places in all of its size.

    A change of colours that looks at every pixel by itself changes the sample as it does the picture, and no
    pattern of the generator can hide in between: the places follow the R2 sequence (Roberts 2018).
    """
    height, width = pixels.shape[:2]
    flat = pixels.reshape(-1, 3)
    return (flat if len(flat) <= _POINTS else flat[_places(height, width)]).T


@lru_cache(maxsize=8)
def _places(height: int, width: int) -> NDArray[np.intp]:
    number = np.arange(_POINTS)
    down, right = ((0.5 + number * step) % 1.0 for step in (0.5698402909980532, 0.7548776662466927))
    return (down * height).astype(np.intp) * width + (right * width).astype(np.intp)


def measured(lab: Lab32) -> Colours:
    """The five numbers of ``(3, n)`` L, a, b, n at least 1."""
    light, a, b = lab.mean(axis=1, dtype=np.float64).tolist()
    chroma = np.sqrt(lab[1] * lab[1] + lab[2] * lab[2])
    contrast = lab[0].std(dtype=np.float64)
    return Colours(light, a, b, float(contrast), float(chroma.mean(dtype=np.float64)))


@dataclass(frozen=True, slots=True)
class Span:
    """What anchors span: of each number the range from the least to the greatest.

    Attributes:
        low: The least.
        high: The greatest.
    """

    low: Colours
    high: Colours

    @classmethod
    def of(cls, anchors: Sequence[Colours]) -> Span:
        """Of some anchors, each widened by `ABOUT`; raises InputError for none."""
        if not anchors:
            raise InputError("no anchors: there is nothing that colours could drift from")
        rows, about = np.array(anchors), np.array(ABOUT)
        low, high = rows.min(axis=0) - about, rows.max(axis=0) + about
        return cls(Colours(*low.tolist()), Colours(*high.tolist()))

    def nearest(self, colours: Colours, margin: float = 0.0) -> Colours:
        """The nearest colours in the span, ``margin`` from its edges where those given are outside."""
        within = self._within(colours, [margin] * len(colours))
        outside = self.drift(colours).excess
        return Colours(*(to if over else at for at, to, over in zip(colours, within, outside, strict=True)))

    def _within(self, colours: Colours, margins: Sequence[float]) -> Colours:
        """Cut to the ranges, each less its margin."""
        rows = zip(colours, self.low, self.high, margins, strict=True)
        return Colours(*(min(max(value, low + less), high - less) for value, low, high, less in rows))

    def drift(self, colours: Colours) -> Drift:
        """How far some colours are outside."""
        span, anchors = self._within(colours, [0.0] * len(colours)), self._within(colours, ABOUT)
        return Drift(colours, _minus(colours, span), _minus(colours, anchors))


def _minus(a: Colours, b: Colours) -> Colours:
    return Colours(*(one - other for one, other in zip(a, b, strict=True)))


@dataclass(frozen=True, slots=True)
class Drift:
    """How far a frame's colours are outside of what the anchors span.

    Attributes:
        colours: Of the frame.
        excess: How far each number is above (+) or below (-) the span; 0 inside.
        away: The same from the anchors themselves, without the room about them: the hue of a tint is seen
            from there.
    """

    colours: Colours
    excess: Colours
    away: Colours

    @property
    def amount(self) -> float:
        """All of the excess in one number, its length: 0 inside, plain to see from about 0.02."""
        return math.hypot(*self.excess)

    def measures(self) -> dict[str, float | None]:
        """By name, for the journal: ``colour_drift`` (`amount`) and the five numbers of `Colours`."""
        return {"colour_drift": self.amount, **self.colours._asdict()}

    @property
    def words(self) -> str:
        """In words: ``darker, slightly more magenta``, or ``burnt: more contrast and more saturated``."""
        said = [self._said(name) for name in ("contrast", "saturation")]
        ways = [name for name in said if name]
        if len(ways) == 2 and self.excess.contrast * self.excess.saturation > 0:
            kind = "burnt" if self.excess.contrast > 0 else "washed out"
            ways = [f"{kind}: {' and '.join(ways)}"]
        ways = [each for each in (*ways, self._said("lightness"), self._tint()) if each]
        return ", ".join(ways) if ways else "within the colours of the anchors"

    def _said(self, name: str) -> str:
        excess = getattr(self.excess, name)
        less, more = _WAYS[name]
        return _graded(less if excess < 0 else more, abs(excess) / getattr(ABOUT, name))

    def _tint(self) -> str:
        hue = math.degrees(math.atan2(self.away.tint_b, self.away.tint_a))
        name = min(_HUES, key=lambda each: abs((hue - _HUES[each] + 180) % 360 - 180))
        return _graded(f"more {name}", math.hypot(self.excess.tint_a, self.excess.tint_b) / ABOUT.tint_a)


def _graded(way: str, widths: float) -> str:
    if not widths:
        return ""
    return f"slightly {way}" if widths < _SLIGHTLY else f"much {way}" if widths > _MUCH else way


class ColourMeter:
    """Measures a loop's frames, one at a time, against anchors; without any, against the first frame.

    Args:
        anchors: Colours of the pictures that the loop is to stay true to.

    Attributes:
        anchors: As given; may be changed between frames.
        start: Colours of the first frame; None before it.
    """

    def __init__(self, anchors: Sequence[Colours] = ()) -> None:
        self.anchors = tuple(anchors)
        self.start: Colours | None = None
        self._spanned: tuple[tuple[Colours, ...], Span] | None = None

    def observe(self, pixels: Pixels) -> Drift:
        """Take in the next frame, ``(h, w, 3)`` uint8 RGB of any size."""
        colours = colours_of(pixels)
        if self.start is None:
            self.start = colours
        return self.span.drift(colours)

    @property
    def span(self) -> Span:
        """What the anchors span; raises InputError where there are none and no frame either."""
        start = () if self.start is None else (self.start,)
        anchors = self.anchors or start
        if self._spanned is None or self._spanned[0] != anchors:
            self._spanned = (anchors, Span.of(anchors))
        return self._spanned[1]

    def state(self) -> dict[str, Any]:
        """What `restore` needs besides the anchors, as JSON can hold it."""
        return {"start": None if self.start is None else list(self.start)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave; if that is of a run without colours, the next frame is first."""
        start = state.get("start")
        self.start = None if start is None else Colours(*start)
