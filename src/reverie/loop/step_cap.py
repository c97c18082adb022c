"""The step cap: no shown frame is further from the one before than is asked, whatever was injected.

A frame that is too far is made again, with the same noise: from an input that holds less of what is new; at
less strength; or from the frame before at less strength. Only where the generator cannot come near enough, it
is blended with the one before. The share is looked for where a power of it that fits the steps seen so far
says, and the first frame near the cap is shown: one or two frames more, mostly. The loop goes on from it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, Protocol, TypeAlias

import numpy as np

from reverie.loop.transition import blend
from reverie.pixels import Pixels
from reverie.vectors import Embedding

__all__ = ["Encode", "Shown", "capped"]

Encode: TypeAlias = Callable[[Sequence[Pixels]], list[Embedding]]
"""Unit vectors of frames, in one batch."""

_TRIES = 3  # frames made again in one way before the next way is tried
_AIM, _NEAR = 0.9, 0.7  # of the cap: what is aimed at, and from where on it is near enough
_STRENGTH = 2.0  # the step grows about as the square of the strength
_HELD = 0.6  # of the cap: how far an input may be by itself, to be worked on at less strength
_BLENDS = 4  # blends that are encoded together
_ROUNDS = 3  # the share of a blend is found to 1/125


class Remake(Protocol):
    """Makes the frame again, with the same noise."""

    def __call__(self, source: Pixels, calm: float) -> Pixels:
        """From this input, at ``calm`` in (0, 1] of the strength."""


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """What is shown in the place of a frame.

    Attributes:
        pixels: ``(h, w, 3)`` uint8 RGB.
        embedding: Its unit vector.
        how: ``frame`` (as it was made), ``input`` (made again from a nearer input), ``calm`` (made again at
            less strength) or ``blend``.
        share: Of the input, of the strength or of the blend, in [0, 1]; 1 for the frame itself, 0 for the
            frame before again.
        made: How many more frames the generator made for it.
        taken: How much of what was new in the frame's input is in its own, in [0, 1]; of a blend its share.
    """

    pixels: Pixels
    embedding: Embedding
    how: Literal["frame", "input", "calm", "blend"]
    share: float = 1.0
    made: int = 0
    taken: float = 1.0


def capped(
    before: tuple[Pixels, Embedding] | None,
    frame: tuple[Pixels, Embedding],
    cap: float | None,
    encode: Encode,
    *,
    again: Remake | None = None,
    inputs: Callable[[float], Pixels] | None = None,
    calm_first: bool = False,
) -> Shown:
    """What to show of a frame.

    Args:
        before: The frame shown last and its vector; None at the start.
        frame: The frame that was made and its vector.
        cap: Largest step, 1 - cosine, to the frame before; None for any.
        encode: Encodes frames.
        again: Makes the frame again; None where that cannot be done: then it can only be blended.
        inputs: The input with a share in [0, 1] of what was new in the frame's; None when that was the
            frame before.
        calm_first: Whether less strength is tried before a nearer input, as when that was of use last time.

    Returns:
        A frame that keeps the cap; the frame before itself when even the faintest blend would not.
    """
    step = 0.0 if before is None else 1.0 - _cosine(frame[1], before[1])
    if before is None or cap is None or step <= cap:
        return Shown(*frame, "frame")
    made, found = 0, None
    if again is not None:
        search = _Search(before[1], cap, encode)
        found = _remade(search, before[0], step, again, _ways(inputs, calm_first))
        made = search.made
    return replace(found or _faintest(before, frame[0], cap, encode), made=made)


_Way: TypeAlias = Callable[["_Search", float, Remake], Shown | None]


class _Search:
    """Looks for the share at which a frame keeps the cap, and hardly more.

    Args:
        before: Vector of the frame shown last.
        cap: Largest step.
        encode: Encodes frames.

    Attributes:
        made: Frames made.
    """

    def __init__(self, before: Embedding, cap: float, encode: Encode) -> None:
        self.made = 0
        self.cap = cap
        self._before = before
        self._encode = encode

    def steps(self, frames: Sequence[Pixels]) -> list[tuple[float, Embedding]]:
        """The step to each of some pictures, and its vector, in one batch."""
        return [(1.0 - _cosine(each, self._before), each) for each in self._encode(frames)]

    def farthest(
        self, make: Callable[[float], Pixels], largest: float, least: float | None, power: float
    ) -> tuple[float, Pixels, Embedding] | None:
        """The best share that was found, with its frame; None when none keeps the cap.

        Args:
            make: Makes the frame of a share in (0, 1).
            largest: Step at share 1, above the cap.
            least: Step at share 0; None when it is not known.
            power: Of the share with which the step grows, until two steps say so themselves.
        """
        low, high, found = (0.0, least), (1.0, largest), None
        for _ in range(_TRIES):
            share = 0.5 if least is None else _between(low, high, least, _AIM * self.cap, power)
            pixels = make(share)
            self.made += 1
            ((step, embedding),) = self.steps([pixels])
            if step <= self.cap:
                low, found = (share, step), (share, pixels, embedding)
                if step >= _NEAR * self.cap:
                    break
            else:
                high = (share, step)
            if least is None:
                least = step - (largest - step) * share / (1.0 - share)  # on the line through both
                if least > self.cap:
                    break
        return found


def _between(
    low: tuple[float, float | None], high: tuple[float, float], least: float, aim: float, power: float
) -> float:
    """The share where ``least + a share^p`` through two shares with their steps is ``aim``; well inside."""
    tiny = 1e-6
    rise = max(high[1] - least, tiny)
    below = 0.0 if low[0] == 0.0 or low[1] is None else max(low[1] - least, tiny)
    if below:
        power = min(8.0, max(0.25, math.log(rise / below) / math.log(high[0] / low[0])))
    share = high[0] * math.pow(max(aim - least, tiny) / rise, 1.0 / power)
    inside = 0.1 * (high[0] - low[0])
    return min(high[0] - inside, max(low[0] + inside, share))


def _remade(search: _Search, shown: Pixels, step: float, again: Remake, ways: Sequence[_Way]) -> Shown | None:
    """The frame made again, in the first way that keeps the cap; at last without anything new."""
    for way in ways:
        found = way(search, step, again)
        if found is not None:
            return found
    rest = search.farthest(lambda calm: again(shown, calm), step, 0.0, _STRENGTH)
    return None if rest is None else Shown(*rest[1:], "calm", rest[0], taken=0.0)


def _ways(inputs: Callable[[float], Pixels] | None, calm_first: bool) -> list[_Way]:
    if inputs is None:
        return []
    ways: list[_Way] = [partial(_from_nearer, inputs), partial(_calmly, inputs)]
    return ways[::-1] if calm_first else ways


def _from_nearer(
    inputs: Callable[[float], Pixels], search: _Search, step: float, again: Remake
) -> Shown | None:
    """From an input with less of what is new."""
    found = search.farthest(lambda share: again(inputs(share), 1.0), step, None, 1.0)
    return None if found is None else Shown(*found[1:], "input", found[0], taken=found[0])


def _calmly(inputs: Callable[[float], Pixels], search: _Search, step: float, again: Remake) -> Shown | None:
    """At less strength, from as much of what is new as is near by itself."""
    part, source, least = _held(search, inputs)
    if part == 0.0:
        return None
    found = search.farthest(lambda calm: again(source, calm), step, least, _STRENGTH)
    return None if found is None else Shown(*found[1:], "calm", found[0], taken=part)


def _held(search: _Search, inputs: Callable[[float], Pixels]) -> tuple[float, Pixels, float]:
    """The largest share of what is new in the input that is near by itself, that input, and its step."""
    shares = (1.0, 0.75, 0.5, 0.25)
    sources = [inputs(share) for share in shares]
    for share, source, (step, _) in zip(shares, sources, search.steps(sources), strict=True):
        if step <= _HELD * search.cap:
            return share, source, step
    return 0.0, sources[0], 0.0


def _faintest(before: tuple[Pixels, Embedding], frame: Pixels, cap: float, encode: Encode) -> Shown:
    """The strongest blend that keeps the cap, looked for in rounds, each encoded in one batch."""
    low, high, found = 0.0, 1.0, (0.0, *before)
    for _ in range(_ROUNDS):
        shares = np.linspace(low, high, _BLENDS + 2)[1:-1].tolist()
        blends = [blend(before[0], frame, share) for share in shares]
        for share, pixels, embedding in zip(shares, blends, encode(blends), strict=True):
            if 1.0 - _cosine(embedding, before[1]) > cap:
                high = share
                break
            low, found = share, (share, pixels, embedding)
    return Shown(*found[1:], "blend", found[0], taken=found[0])


def _cosine(a: Embedding, b: Embedding) -> float:
    return float(np.vecdot(np.asarray(a), np.asarray(b)))
