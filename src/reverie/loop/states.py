"""What a loop is doing, in words a person understands, with hysteresis.

``warming up`` (too few frames to say), ``healthy`` (it moves), ``converging`` (the last frames are alike and
bring little that is new), ``stuck`` (they are nearly one picture, and nothing is new), ``cycling`` (it comes
back to where it was, in between it is elsewhere) and ``drifting`` (it moves away from its start, steadily,
and never comes back). A loop that moves in small steps has frames that are alike too: what tells it from one
that converges is that it gets somewhere new.

A state is left at a lower level than it is entered at, so that it does not flicker. Levels are those of a
`Calibration`: places between what unrelated pictures have with the encoder, and the same picture.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from reverie.loop.calibration import Calibration

__all__ = ["State", "StateName", "States"]

StateName: TypeAlias = Literal["warming up", "healthy", "converging", "stuck", "cycling", "drifting"]

_LEAST = 20  # frames before anything is said
_FOLLOW = 0.1  # share of a new frame in the running mean of the novelty
_NEW_ON, _NEW_OFF = 0.20, 0.25  # novelty, as a share of an unrelated picture's, below which little is new
_NOTHING_ON, _NOTHING_OFF = 0.10, 0.14  # below which nothing is
_RETURNS_ON, _RETURNS_OFF = 0.5, 0.25  # share of the last frames at which the loop was back
_LEAST_DRIFT = 100  # frames before leaving the start counts as drifting
_DRIFT_ON, _DRIFT_OFF = 0.004, 0.002  # growth a frame of the distance to the start, as a share of its range


@dataclass(frozen=True, slots=True)
class State:
    """What a loop is doing.

    Attributes:
        name: In a word or two.
        since: Frame from which on it does.
        why: One sentence with the numbers.
    """

    name: StateName
    since: int
    why: str


class States:
    """Follows the state of a loop from its measures.

    Args:
        calibration: The levels.

    Attributes:
        last: The state of the frame that was observed last.
    """

    def __init__(self, calibration: Calibration | None = None) -> None:
        self.calibration = calibration or Calibration()
        self.last = State("warming up", 1, "no frame yet")
        self._frame = 0
        self._new = 1.0

    def observe(self, measures: Mapping[str, float | None]) -> State:
        """Take in the next frame.

        Args:
            measures: As `reverie.loop.monitor.Monitor.observe` gives them: ``pairwise``,
                ``novelty``, ``returns``, ``cycle``, ``drift_rate``; what is missing or None decides nothing.
        """
        self._frame += 1
        novelty = measures.get("novelty")
        if novelty is not None:
            new = self.calibration.novelty(novelty)
            self._new = new if self._new == 1.0 else (1 - _FOLLOW) * self._new + _FOLLOW * new
        name, why = self._judged({name: value for name, value in measures.items() if value is not None})
        since = self.last.since if name == self.last.name else self._frame
        self.last = State(name, since, why)
        return self.last

    def _judged(self, measures: Mapping[str, float]) -> tuple[StateName, str]:
        if self._frame < _LEAST or "pairwise" not in measures:
            return "warming up", f"{self._frame} of {_LEAST} frames"
        levels, alike = self.calibration, measures["pairwise"]
        said = (
            f"mean cosine of the last frames {alike:.2f}, novelty {self._new:.0%} of an unrelated picture's"
        )
        nothing_new = self._new < self._level("stuck", _NOTHING_ON, _NOTHING_OFF)
        if nothing_new and alike > self._level("stuck", levels.stuck_on, levels.stuck_off):
            return "stuck", f"{said}: nearly one picture"
        back = measures.get("returns", 0.0)
        if back > self._level("cycling", _RETURNS_ON, _RETURNS_OFF):
            every = measures.get("cycle", 0.0)
            return "cycling", f"back where it was at {back:.0%} of the last frames, after {every:.0f} frames"
        little_new = self._new < self._level("converging", _NEW_ON, _NEW_OFF)
        if little_new and alike > self._level("converging", levels.converging_on, levels.converging_off):
            return "converging", f"{said}: alike, and little that is new"
        rate = measures.get("drift_rate", 0.0) / (1.0 - levels.unrelated)
        level = self._level("drifting", _DRIFT_ON, _DRIFT_OFF)
        if self._frame >= _LEAST_DRIFT and rate > level:
            return "drifting", f"ever farther from its start, by {rate:.1%} of the way a frame"
        return "healthy", f"{said}: it moves"

    def _level(self, name: StateName, on: float, off: float) -> float:
        held = self.last.name == name or (name == "converging" and self.last.name == "stuck")
        return off if held else on  # what leaves "stuck" is still converging for a while

    def state(self) -> dict[str, Any]:
        """Everything it knows, as JSON can hold it."""
        return {
            "frame": self._frame,
            "new": self._new,
            "name": self.last.name,
            "since": self.last.since,
            "why": self.last.why,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        self._frame, self._new = state["frame"], state["new"]
        self.last = State(state["name"], state["since"], state["why"])
