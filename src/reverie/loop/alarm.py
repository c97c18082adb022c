"""An alarm with a promise: how long a healthy loop runs on average before it is raised in error.

The e-detector of Shiryaev-Roberts type (Shin, Ramdas and Rinaldo, "E-detectors: a nonparametric framework
for sequential change detection", arXiv 2203.03532). Healthy means: the displacement v of a frame, its mean
distance to the frames 3 to 8 before it as a share of the distance of unrelated pictures, has a conditional
mean of at least ``healthy`` whatever went before. Then for every bet 0 <= l <= 1/(1-healthy)

    1 + l (healthy - v)

is never negative and has a conditional mean of at most 1: a fair bet against the loop, and so is the mean
over several. With M_0 = 0 and

    M_t = (M_{t-1} + 1) (1 + l (healthy - v_t))

M_t - t is a supermartingale, and by optional stopping the first time that M, or a mean of
such M, reaches A comes after at least A frames on average: the average run length to a false alarm is at
least A. Nothing is assumed of the distribution, and frames may depend on one another in any other way.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from reverie.errors import InputError

__all__ = ["Alarm"]

_BETS = (0.7, 0.95)  # shares of the largest bet that cannot lose everything


class Alarm:
    """Raised when a loop does not get away from where it is.

    Args:
        healthy: What the mean displacement of a healthy loop does not fall below, in (0, 1): as a share of
            the distance of unrelated pictures (`Calibration.novelty`).
        run_length: How many healthy frames pass on average, at least, before a false alarm.

    Attributes:
        run_length: As given: the promise.
        raised: How often it was.

    Raises:
        InputError: ``healthy`` is not in (0, 1), or ``run_length`` is below 1.
    """

    def __init__(self, healthy: float = 0.36, run_length: float = 2000.0) -> None:
        if not 0.0 < healthy < 1.0:
            raise InputError(f"healthy must be above 0 and below 1, got {healthy!r}")
        if not run_length >= 1.0:
            raise InputError(f"run_length must be at least 1 frame, got {run_length!r}")
        self.run_length = float(run_length)
        self.raised = 0
        self._healthy = float(healthy)
        self._bets = np.array(_BETS) / (1.0 - self._healthy)
        self._evidence = np.zeros(len(_BETS))

    @property
    def evidence(self) -> float:
        """M: 0 at the start and after an alarm; at ``run_length`` the next is raised."""
        return float(self._evidence.mean())

    def observe(self, displacement: float | None) -> bool:
        """Take in the next frame; whether the alarm is raised. It then begins anew.

        Args:
            displacement: Of the frame, in [0, 1]; None, while there is none, changes nothing.

        Raises:
            InputError: ``displacement`` is not in [0, 1].
        """
        if displacement is None:
            return False
        if not 0.0 <= displacement <= 1.0:
            raise InputError(f"displacement must be in [0, 1], got {displacement!r}")
        self._evidence = (self._evidence + 1.0) * (1.0 + self._bets * (self._healthy - displacement))
        if self.evidence < self.run_length:
            return False
        self._evidence[:] = 0.0
        self.raised += 1
        return True

    def state(self) -> dict[str, Any]:
        """Everything it knows, as JSON can hold it."""
        return {"evidence": self._evidence.tolist(), "raised": self.raised}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave, bit for bit."""
        self._evidence = np.array(state["evidence"], dtype=np.float64)
        self.raised = int(state["raised"])
