"""Carries out what a policy wants: makes the way to a target, keeps the step cap, imagines.

The policy says whether and where to. From there on every frame goes through here: what is shown of it
(`reverie.loop.step_cap`), how much of the way it took (`reverie.loop.transition`), and what the generator
gets next.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from reverie.entry import CacheEntry
from reverie.loop.step_cap import Encode, Shown, capped
from reverie.loop.transition import Transition, TransitionSettings, blend
from reverie.pixels import Pixels
from reverie.protocols import LatentSpace
from reverie.vectors import Embedding, Vectors

__all__ = ["Actuator", "Again", "Target", "imagine"]

_IMAGINED = 2  # pictures to choose from


class Again(Protocol):
    """Makes the frame that was just observed once more, from another input."""

    def __call__(
        self, source: Pixels, *, strength: float | None = None, calm: float = 1.0, variation: int = 0
    ) -> Pixels:
        """Generate with the frame's own noise.

        Args:
            source: The input, ``(h, w, 3)`` uint8 RGB.
            strength: Another strength than the loop's, in [0, 1].
            calm: The strength is multiplied by this, in (0, 1].
            variation: Other noise: the same number gives the same noise, 0 the frame's own.
        """


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """Where a loop is going.

    Attributes:
        pixels: ``(h, w, 3)`` uint8 RGB, as large as the frames.
        embedding: Its unit vector.
        entry: The memory; None for a picture that was imagined.
        similarity: Its cosine to the frame that was shown when it was decided.
        reason: Why there.
    """

    pixels: Pixels
    embedding: Embedding
    entry: CacheEntry | None
    similarity: float
    reason: str


class Actuator:
    """The way of one loop, frame by frame: `show`, then `took`, perhaps `begin`, then `input`.

    Args:
        settings: How.
        encode: Encodes frames.
        latents: The generator's, where it has them.

    Attributes:
        shown: The frame shown last and its vector; None at the start.
        stops: Where the loop is going, the next stop first; empty while it goes where it likes.
        started: The frame at which that was decided.
        step: Frames made on the way, the one that is made next included.
        corrected: What is shown with its colours put right, where that is the next input.
    """

    def __init__(
        self, settings: TransitionSettings, encode: Encode, latents: LatentSpace | None = None
    ) -> None:
        self.settings = settings
        self.shown: tuple[Pixels, Embedding] | None = None
        self.stops: list[Target] = []
        self.started = 0
        self.step = 0
        self.corrected: Pixels | None = None
        self._encode = encode
        self._latents = latents
        self._seed = 0
        self._leg: Transition | None = None
        self._calm = False  # whether the frame before was made at less strength

    @property
    def cuts(self) -> bool:
        """Whether a target is simply the next input, and the loop is free again after it."""
        return self.settings.path == "cut" and self.settings.cap is None

    @property
    def part(self) -> float:
        """How much of the next input is the next stop's, in [0, 1]; 0 when there is none."""
        return 0.0 if self._leg is None else self._leg.part()

    @property
    def covered(self) -> float:
        """Share of the way to the next stop that is taken, in [0, 1]; 0 when there is none."""
        return 0.0 if self._leg is None else self._leg.covered

    def similarity(self, embedding: Embedding) -> float:
        """Cosine of a frame to the next stop, in [-1, 1]; 0 when there is none."""
        return 0.0 if self._leg is None else self._leg.similarity(embedding)

    def show(self, pixels: Pixels, embedding: Embedding, again: Again | None) -> Shown:
        """What to show of a frame; changes nothing.

        Args:
            pixels: The frame that was made of `input`.
            embedding: Its unit vector.
            again: Makes it once more; None where that cannot be done: then it can only be blended.
        """
        before = self.shown
        if before is not None and before[0].shape != pixels.shape:
            before = None  # the loop changed its size: there is no way from the one to the other
        made = (pixels, embedding)
        if before is None or again is None:
            return capped(before, made, self.settings.cap, self._encode)
        return capped(
            before,
            made,
            self.settings.cap,
            self._encode,
            again=lambda source, calm: again(source, calm=calm),
            inputs=self._inputs(before[0]),
            calm_first=self._calm,
        )

    def _inputs(self, shown: Pixels) -> Callable[[float], Pixels] | None:
        """The input with a share in [0, 1] of what was new in it; None when that was the frame shown."""
        leg, right = self._leg, self.corrected
        if leg is not None:
            return lambda share: leg.input(shown, share)
        return None if right is None else lambda share: blend(shown, right, share)

    def took(self, shown: Shown, *, on_way: bool = True) -> Target | None:
        """Take note of what is shown; gives the target when this is the end of the way to it.

        Args:
            shown: What is shown.
            on_way: False for a frame that was made before the loop knew of the way.
        """
        self.shown, self.corrected = (shown.pixels, shown.embedding), None
        self._calm = shown.how == "calm"
        leg = self._leg
        if leg is None or not on_way:
            return None
        leg.took(0.0 if shown.how == "blend" else shown.taken, shown.embedding)
        fits = leg.target.shape == shown.pixels.shape
        if fits and not self._over(leg, shown):
            leg.advance()
            self.step += 1
            return None
        passed = self.stops.pop(0)
        if self.stops and fits:
            self._set_out(self.step + 1)
            return None
        self.stops, self._leg, self.step = [], None, 0
        return passed

    def _over(self, leg: Transition, shown: Shown) -> bool:
        """Whether the way to the next stop ends with this frame."""
        return leg.over(shown.embedding)

    def begin(self, stops: Sequence[Target], frame: int, seed: int) -> None:
        """Set out from what is shown.

        Args:
            stops: What to pass on the way, and last where to.
            frame: Number of the frame at which it was decided.
            seed: Of what is random on the way, in [0, 2^63).
        """
        self.stops, self.started, self._seed = list(stops), frame, seed
        self._set_out(1)

    def _set_out(self, step: int) -> None:
        self._leg = self._leg_to(self.stops[0])
        self._leg.advance()
        self.step = step

    def _leg_to(self, target: Target) -> Transition:
        seed = self._seed + len(self.stops)  # every leg its own forms
        return Transition(target.pixels, target.embedding, self.settings, seed, self._latents)

    def input(self) -> Pixels | None:
        """What the generator gets next; None when it goes on from what is shown."""
        if self._leg is None or self.shown is None:
            return None
        return self._leg.input(self.shown[0])

    def state(self) -> dict[str, Any]:
        """How far it is, as JSON can hold it; the stops and what is shown are for the caller to keep."""
        leg = None if self._leg is None else self._leg.state()
        return {
            "started": self.started,
            "step": self.step,
            "seed": self._seed,
            "calm": self._calm,
            "leg": leg,
        }

    def restore(
        self, state: Mapping[str, Any], stops: Sequence[Target], shown: tuple[Pixels, Embedding] | None
    ) -> None:
        """Go on from what `state` gave, with the stops and what was shown at that time."""
        self.shown, self.stops, self.corrected = shown, list(stops), None
        self.started, self.step, self._seed = state["started"], state["step"], state["seed"]
        self._calm = bool(state["calm"])
        self._leg = None
        if state["leg"] is not None:
            self._leg = self._leg_to(self.stops[0])
            self._leg.restore(state["leg"])


def imagine(
    shown: Pixels, strength: float, again: Again, encode: Encode, known: Sequence[Vectors]
) -> tuple[Pixels, Embedding, float]:
    """A picture that is not shown: of some that the generator makes of a frame, the one least like all known.

    Args:
        shown: The frame.
        strength: How far from it, in (0, 1].
        again: Makes pictures.
        encode: Encodes them.
        known: ``(n, d)`` unit vectors of what was seen or is remembered.

    Returns:
        The picture, its vector, and how new it is: 1 - its highest cosine to anything known, in [0, 2].
    """
    made = [again(shown, strength=strength, variation=number) for number in range(1, _IMAGINED + 1)]
    vectors = encode(made)
    nearest = [
        max((_highest(rows, vector) for rows in known if len(rows)), default=-1.0) for vector in vectors
    ]
    best = int(np.argmin(nearest))
    return made[best], vectors[best], 1.0 - nearest[best]


def _highest(rows: Vectors, vector: Embedding) -> float:
    return float(np.vecdot(rows, np.asarray(vector)).max())
