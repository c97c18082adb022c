"""Colour drift of the loops of a run in words: one line a loop, from what its journal says of every frame."""

from __future__ import annotations

from collections.abc import Sequence

from reverie.report.charts import Chart, measure_chart
from reverie.report.page_parts import times
from reverie.report.run import Arm, FrameRecord, Run

__all__ = ["colour_lines", "drift_chart"]

_DRIFT = "colour_drift"
_END = 20  # frames at the end whose middle one, by drift, speaks for them
_PLAIN = 0.02  # a drift that is plain to see: the axis reaches past it
_OFF = "off"


def colour_lines(run: Run) -> list[str]:
    """A sentence for each loop whose journal holds colours, plain text; none for runs of before there were.

    It says how the colours were at the end, how often they were outside of those of the anchors, and for a
    loop with memory whether a correction was on and how often it acted.
    """
    anchors, many = _anchors(run), len(run.arms) > 1
    lines = []
    for arm in run.arms:
        measured = [record for record in arm.records if _DRIFT in record.measures]
        if measured:
            said = f"{_drift(measured, anchors)}{_correction(run, arm, measured)}."
            lines.append(f"{arm.title}: {said}" if many else f"{said[0].upper()}{said[1:]}")
    return lines


def drift_chart(run: Run) -> Chart | None:
    """Colour drift over time, one line an arm; None for runs of before it was measured."""
    if not any(_DRIFT in record.measures for arm in run.arms for record in arm.records):
        return None
    return measure_chart(run, _DRIFT, "Colour drift over time", dots=False, top=3 * _PLAIN)


def _anchors(run: Run) -> str:
    remembered = run.settings.get("remember_seeds")
    if remembered is None:
        return "the pictures that it was measured against"
    return "the seed pictures" if remembered else "the start picture"


def _drift(measured: Sequence[FrameRecord], anchors: str) -> str:
    outside = sum(record.measures[_DRIFT] > 0 for record in measured)
    if not outside:
        return f"colours stayed within those of {anchors}"
    end = sorted(measured[-_END:], key=_amount)
    last = end[len(end) // 2]
    often = f"outside of them in {_share(outside, len(measured))}"
    if not _amount(last) or not last.drift:
        return f"colours were within those of {anchors} at the end, {often}"
    return f"colours at the end {last.drift} than {anchors}, {often}"


def _amount(record: FrameRecord) -> float:
    return record.measures[_DRIFT]


def _share(part: int, whole: int) -> str:
    if part == whole:
        return "every frame"
    return f"{part:,} of {whole:,} frames"


def _correction(run: Run, arm: Arm, measured: Sequence[FrameRecord]) -> str:
    """What was done about it, after the drift; nothing for a loop without memory, which is left to itself."""
    how = run.settings.get("colour")
    if arm.policy == "none" or not isinstance(how, str):
        return ""
    if how == _OFF:
        return "; no correction was on"
    acted = sum(record.recoloured for record in measured)
    return f"; the {how} correction " + (f"acted {times(acted)}" if acted else "never acted")
