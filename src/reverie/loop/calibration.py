"""What "alike" means for an encoder: every threshold of the loop, on one encoder's scale.

A raw cosine is no scale: unrelated pictures average .03 with the built-in descriptor, .47 with
CLIP. Thresholds are therefore places between two anchors, and move with them: the median cosine of
unrelated pictures, and the cosine of two views of the same picture.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from reverie.errors import InputError

__all__ = ["Calibration"]

_COSINES = (
    "stuck_on", "stuck_off", "converging_on", "converging_off", "apart", "same", "leave", "back",
)  # fmt: skip
_LEAST_GAP = 0.05  # between the anchors: below it the encoder cannot tell pictures apart


@dataclass(frozen=True, slots=True)
class Calibration:
    """Thresholds, as cosines on the scale of one encoder; as made, that of the built-in descriptor.

    Attributes:
        unrelated: Median cosine of unrelated pictures: the lower anchor.
        alike: Cosine of two views of the same picture in this loop: the upper anchor.
        stuck_on: Mean pairwise cosine of the last frames above which a loop is stuck, until it falls
            below ``stuck_off``.
        stuck_off: See there.
        converging_on: The same for a loop that is on its way there: the eager alarm.
        converging_off: See there.
        apart: A frame less like all leaders than this begins a motif.
        same: A frame more like an old one than this repeats it.
        leave: A loop that came back was less like where it is than this in between.
        back: A loop is back where it is more like it than this.
        cut: A step (1 - cosine) larger than this is a hard cut.
    """

    unrelated: float = 0.03
    alike: float = 1.0
    stuck_on: float = 0.70
    stuck_off: float = 0.60
    converging_on: float = 0.40
    converging_off: float = 0.30
    apart: float = 0.60
    same: float = 0.95
    leave: float = 0.60
    back: float = 0.85
    cut: float = 0.30

    def __post_init__(self) -> None:
        if not -1 <= self.unrelated <= self.alike - _LEAST_GAP:
            raise InputError(
                f"unrelated pictures must be at least {_LEAST_GAP:g} less alike than two views of the same "
                f"one, got cosines of {self.unrelated:.3f} and {self.alike:.3f}: "
                "this encoder does not tell them apart, or the sample is not of unrelated pictures"
            )
        for on, off in ((self.stuck_on, self.stuck_off), (self.converging_on, self.converging_off)):
            if not off < on:
                raise InputError(f"what goes on at {on:.3f} must go off at less, got {off:.3f}")

    @classmethod
    def from_pairs(cls, unrelated: ArrayLike, alike: ArrayLike | None = None) -> Calibration:
        """The same places between the anchors for another encoder, or for one loop.

        Args:
            unrelated: Cosines of pairs of unrelated pictures, such as all pairs of the seeds: their
                median is the lower anchor. At least 3.
            alike: Cosines of pairs that show the same, such as successive frames at the start of the
                run: their 90th percentile is the upper anchor, for a loop that trembles is never
                quite the same. None takes 1.

        Raises:
            InputError: Too few cosines, not finite, or the anchors are hardly apart.
        """
        low = float(np.median(_checked(unrelated, "unrelated")))
        high = 1.0 if alike is None else min(1.0, float(np.quantile(_checked(alike, "alike"), 0.9)))
        return cls().moved(low, high)

    def moved(self, unrelated: float, alike: float = 1.0) -> Calibration:
        """Every threshold at the same place between two other anchors.

        Raises:
            InputError: The anchors are less than .05 apart.
        """
        if not -1 <= unrelated <= alike - _LEAST_GAP:
            return replace(self, unrelated=unrelated, alike=alike)  # which says what is wrong
        stretch = (alike - unrelated) / (self.alike - self.unrelated)

        def at(cosine: float) -> float:
            return unrelated + (cosine - self.unrelated) * stretch

        places = {name: at(getattr(self, name)) for name in _COSINES}
        return Calibration(unrelated, alike, **places, cut=1 - at(1 - self.cut))

    def novelty(self, value: float) -> float:
        """A novelty (1 - cosine) as a share of what an unrelated picture has, in [0, 1]."""
        return min(1.0, max(0.0, value / (1 - self.unrelated)))


def _checked(cosines: ArrayLike, what: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    values = np.asarray(cosines, dtype=np.float64).ravel()
    if len(values) < 3 or not np.isfinite(values).all():
        raise InputError(f"calibrating needs at least 3 finite cosines of {what} pictures, got {len(values)}")
    return values
