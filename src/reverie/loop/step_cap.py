"""The step cap: no shown frame is further from the one before than is asked, whatever was injected.

A frame that is too far is made again, with the same noise: from an input nearer to what was shown, or, where
there is none or that is of no use, at less strength. Only where the generator cannot come near enough, the
frame is blended with the one before. Shown is always the farthest that keeps the cap, and the loop goes on
from what was shown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from reverie.loop.transition import blend
from reverie.pixels import Pixels
from reverie.vectors import Embedding

__all__ = ["Encode", "Shown", "capped"]

Encode: TypeAlias = Callable[[Sequence[Pixels]], list[Embedding]]
"""Unit vectors of frames, in one batch."""

_INPUT_TRIES = 5  # the share of an input is found to 1/32
_CALM_TRIES = 3  # the share of the strength to 1/8
_BLENDS = 4  # blends that are encoded together
_ROUNDS = 3  # the share of a blend is found to 1/125


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
    """

    pixels: Pixels
    embedding: Embedding
    how: Literal["frame", "input", "calm", "blend"]
    share: float = 1.0
    made: int = 0


def capped(
    before: tuple[Pixels, Embedding] | None,
    frame: tuple[Pixels, Embedding],
    cap: float | None,
    encode: Encode,
    *,
    nearer: Callable[[float], Pixels] | None = None,
    calmer: Callable[[float], Pixels] | None = None,
) -> Shown:
    """What to show of a frame.

    Args:
        before: The frame shown last and its vector; None at the start.
        frame: The frame that was made and its vector.
        cap: Largest step, 1 - cosine, to the frame before; None for any.
        encode: Encodes frames.
        nearer: Makes the frame again from a share in (0, 1) of what is new in its input; None where that
            cannot be done.
        calmer: Makes a frame from the frame before at a share in (0, 1) of the strength; None likewise.

    Returns:
        Of the frames that keep the cap the one farthest on the way; the frame before itself when even
        the faintest blend would not keep it.
    """
    if before is None or cap is None or 1.0 - _cosine(frame[1], before[1]) <= cap:
        return Shown(*frame, "frame")
    made = 0
    ways: tuple[tuple[Literal["input", "calm"], Callable[[float], Pixels] | None, int], ...] = (
        ("input", nearer, _INPUT_TRIES),
        ("calm", calmer, _CALM_TRIES),
    )
    for how, make, tries in ways:
        if make is not None:
            found = _farthest(before[1], cap, encode, make, tries)
            made += tries
            if found is not None:
                return Shown(*found[1:], how, found[0], made)
    share, pixels, embedding = _faintest(before, frame[0], cap, encode)
    return Shown(pixels, embedding, "blend", share, made)


def _farthest(
    before: Embedding, cap: float, encode: Encode, make: Callable[[float], Pixels], tries: int
) -> tuple[float, Pixels, Embedding] | None:
    """The largest share, by bisection, whose frame keeps the cap."""
    low, high, found = 0.0, 1.0, None
    for _ in range(tries):
        share = (low + high) / 2
        pixels = make(share)
        embedding = encode([pixels])[0]
        if 1.0 - _cosine(embedding, before) <= cap:
            low, found = share, (share, pixels, embedding)
        else:
            high = share
    return found


def _faintest(
    before: tuple[Pixels, Embedding], frame: Pixels, cap: float, encode: Encode
) -> tuple[float, Pixels, Embedding]:
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
    return found


def _cosine(a: Embedding, b: Embedding) -> float:
    return float(np.vecdot(np.asarray(a), np.asarray(b)))
