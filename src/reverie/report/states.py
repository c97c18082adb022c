"""What the loops of a run were doing, and when the alarm was raised: read from the journals, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from reverie.loop.alarm import Alarm
from reverie.report.run import Arm, FrameRecord, Run
from reverie.report.verdict import DASH

__all__ = [
    "LOOKS",
    "PROMISE",
    "Look",
    "Span",
    "alarms",
    "coarse",
    "has_states",
    "highest_evidence",
    "look",
    "shares",
    "spans",
]

PROMISE = Alarm().run_length
"""Healthy frames that pass on average, at least, before the alarm is raised in error."""


@dataclass(frozen=True, slots=True)
class Look:
    """How a state is told and drawn.

    Attributes:
        words: One sentence.
        light: Colour on light paper.
        dark: Colour on dark paper.
        texture: Width and dashes of a line through the band, in its units, so that states differ
            without their colours too; empty for none.
    """

    words: str
    light: str
    dark: str
    texture: tuple[float, str] | tuple[()] = ()


LOOKS: Mapping[str, Look] = {
    "warming up": Look("Too few frames yet to say anything.", "#8b867f", "#75757f", (14.0, "1 3")),
    "healthy": Look("It moves, and keeps finding something new.", "#178a68", "#45c09b"),
    "converging": Look(
        "The last frames are alike, and little that is new comes.", "#a97a00", "#e2b23c", (14.0, "1.5 7")
    ),
    "stuck": Look("Nearly one picture, and nothing new comes.", "#b01845", "#f5668a", (14.0, "1.5 3")),
    "cycling": Look(
        "It comes back to where it was, again and again, and is elsewhere in between.",
        "#8544ad",
        "#c58cec",
        (4.0, "4 5"),
    ),
    "drifting": Look(
        "It moves away from its start, steadily, and never comes back.", "#4a5fc1", "#8fa2ff", (2.0, "")
    ),
}
"""By name, in reading order."""

_UNKNOWN = Look("", "#8b867f", "#75757f")


def look(name: str) -> Look:
    """Of a state; a plain one, without a sentence, for a name that is not known here."""
    return LOOKS.get(name, _UNKNOWN)


@dataclass(frozen=True, slots=True)
class Span:
    """Frames in a row in one state.

    Attributes:
        name: The state.
        first: Number of the first frame.
        last: Number of the last.
        why: Why, at the first; may be empty.
    """

    name: str
    first: int
    last: int
    why: str = ""

    @property
    def frames(self) -> str:
        """Which frames, in words."""
        return (
            f"frame {self.first:,}"
            if self.first == self.last
            else f"frames {self.first:,}{DASH}{self.last:,}"
        )


def has_states(run: Run) -> bool:
    """Whether any journal of the run says what its loop was doing."""
    return any(record.doing is not None for arm in run.arms for record in arm.records)


def spans(records: Sequence[FrameRecord]) -> list[Span]:
    """The states over time; frames without one are in no span."""
    found: list[Span] = []
    for record in records:
        if record.doing is None:
            continue
        name, before = record.doing.name, found[-1] if found else None
        if before is not None and before.name == name and before.last == record.frame - 1:
            found[-1] = Span(name, before.first, record.frame, before.why)
        else:
            found.append(Span(name, record.frame, record.frame, record.doing.why))
    return found


def coarse(listed: Sequence[Span], most: int) -> list[Span]:
    """At most ``most`` spans: of more, frames are put into that many columns, each in its commonest state."""
    if len(listed) <= most:
        return list(listed)
    first, last = listed[0].first, listed[-1].last
    edges = [first + (last + 1 - first) * at // most for at in range(most + 1)]
    found: list[Span] = []
    at = 0
    for begin, end in pairwise(edges):
        held: Counter[str] = Counter()
        while at < len(listed) and listed[at].first < end:
            held[listed[at].name] += min(listed[at].last + 1, end) - max(listed[at].first, begin)
            if listed[at].last >= end:
                break
            at += 1
        if not held:
            continue
        name = max(held, key=lambda each: (held[each], each))
        if found and found[-1].name == name and found[-1].last == begin - 1:
            found[-1] = Span(name, found[-1].first, end - 1)
        else:
            found.append(Span(name, begin, end - 1))
    return found


def shares(arm: Arm) -> dict[str, float]:
    """Share of an arm's frames in each state, of those that have one; known states first, in their order."""
    held = Counter(record.doing.name for record in arm.records if record.doing is not None)
    total = held.total()
    order = [*(name for name in LOOKS if name in held), *sorted(held.keys() - LOOKS.keys())]
    return {name: held[name] / total for name in order}


def alarms(arm: Arm) -> list[int]:
    """The frames at which the alarm was raised."""
    raised, found = 0.0, []
    for record in arm.records:
        now = record.measures.get("alarms", raised)
        if now > raised:
            found.append(record.frame)
        raised = now
    return found


def highest_evidence(arm: Arm) -> float | None:
    """How near its evidence came to raising the alarm, in [0, 1]; None when the journal does not say."""
    values = [record.measures["alarm"] for record in arm.records if "alarm" in record.measures]
    return min(1.0, max(values) / PROMISE) if values else None
