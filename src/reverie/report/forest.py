"""Forest plots: the ratio of every arm to one other arm, with its interval, a panel a generator."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from reverie.report.charts import number, slot_colour, svg_drawing
from reverie.report.verdict import DASH
from reverie.study.statistics import Estimate

__all__ = ["Forest", "ForestPanel", "ForestRow", "render_forest"]

_TICKS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0)
_LEAST, _MOST = 0.1, 20.0  # what lies outside is cut there
_ROW, _HEAD, _FOOT, _GAP = 25, 30, 34, 18
_VALUE = 40  # room for the number at the end of a row


@dataclass(frozen=True, slots=True)
class ForestRow:
    """One arm.

    Attributes:
        label: Its name.
        slot: Index into `reverie.report.charts.ARM_COLOURS`.
        ratio: How many times the other arm's figure it has; not a number where it did not run.
        second: The same by another judge, drawn hollow; None for none.
    """

    label: str
    slot: int
    ratio: Estimate
    second: Estimate | None = None


@dataclass(frozen=True, slots=True)
class ForestPanel:
    """All arms with one generator; every panel of a plot has the same arms in the same order."""

    title: str
    rows: Sequence[ForestRow]


@dataclass(frozen=True, slots=True)
class Forest:
    """What a plot shows, without any size.

    Attributes:
        title: For screen readers and the file.
        panels: At least one.
    """

    title: str
    panels: Sequence[ForestPanel]


@dataclass(frozen=True, slots=True)
class _Layout:
    columns: int
    names: float
    width: float
    step: float
    low: float
    high: float

    def x(self, ratio: float) -> float:
        """From the left of the panel; what lies outside stands at the edge."""
        inside = min(max(ratio, self.low), self.high)
        share = math.log(inside / self.low) / math.log(self.high / self.low)
        return (self.step - _GAP - _VALUE) * share


def render_forest(forest: Forest, *, narrow: bool = False, alone: bool = False) -> str:
    """The plot as an SVG element: panels beside each other, or one below the other when it is narrow.

    Args:
        forest: What to draw.
        narrow: For a phone.
        alone: As in `reverie.report.charts.svg_drawing`.
    """
    layout, text = _layout(forest, narrow=narrow), 12.0 if narrow else 13.0
    rows = max(len(panel.rows) for panel in forest.panels)
    tall = _HEAD + rows * _ROW + _FOOT
    drawn = []
    for at, panel in enumerate(forest.panels):
        line, column = divmod(at, layout.columns)
        inner = _names(panel, layout) if column == 0 else ""
        inner += f'<g transform="translate({layout.names + column * layout.step:.1f} 0)">'
        inner += f"{_panel(panel, layout)}</g>"
        drawn.append(f'<g transform="translate(0 {line * tall:.1f})">{inner}</g>')
    lines = -(-len(forest.panels) // layout.columns)
    return svg_drawing(forest.title, (layout.width, lines * tall), text, "".join(drawn), alone=alone)


def _layout(forest: Forest, *, narrow: bool) -> _Layout:
    width, names = (360.0, 118.0) if narrow else (1000.0, 136.0)
    count = len(forest.panels)
    columns = 1 if narrow else -(-count // -(-count // 4))
    ends = [
        value
        for panel in forest.panels
        for row in panel.rows
        for each in (row.ratio, row.second)
        if each is not None
        for value in (each.low, each.high)
        if math.isfinite(value)
    ]
    low = max(_LEAST, min([0.5, *ends]) / 1.06)
    high = min(_MOST, max([2.0, *ends]) * 1.06)
    return _Layout(columns, names, width, (width - names) / columns, low, high)


def _names(panel: ForestPanel, layout: _Layout) -> str:
    return "".join(
        f'<text class="label end" style="fill:{slot_colour(row.slot)}" x="{layout.names - 14:.1f}" '
        f'y="{_middle(at) + 4.5:.1f}">{escape(row.label)}</text>'
        for at, row in enumerate(panel.rows)
    )


def _middle(at: int) -> float:
    return _HEAD + (at + 0.5) * _ROW


def _panel(panel: ForestPanel, layout: _Layout) -> str:
    bottom = _HEAD + len(panel.rows) * _ROW
    right = layout.x(layout.high)
    drawn = [f'<text class="name" x="0" y="17">{escape(panel.title)}</text>']
    last = -math.inf
    for value in _TICKS:
        x = layout.x(value)
        if layout.low <= value <= layout.high and x - last > 30:
            name = "axis" if value == 1 else "grid"
            drawn.append(f'<path class="{name}" d="M{x:.1f} {_HEAD}V{bottom + 4}"/>')
            drawn.append(f'<text class="tick mid" x="{x:.1f}" y="{bottom + 19}">{number(value)}x</text>')
            last = x
    drawn += [_row(row, layout, _middle(at)) for at, row in enumerate(panel.rows)]
    drawn.append(f'<path class="grid" d="M0 {bottom}H{right:.1f}"/>')
    return "".join(drawn)


def _row(row: ForestRow, layout: _Layout, y: float) -> str:
    right = layout.step - _GAP
    if not math.isfinite(row.ratio.value):
        return f'<text class="tick end" x="{right:.1f}" y="{y + 4.5:.1f}">{DASH}</text>'
    apart = 4.0 if row.second is not None else 0.0
    drawn = _mark(row.slot, row.ratio, layout, y - apart, hollow=False)
    if row.second is not None and math.isfinite(row.second.value):
        drawn += _mark(row.slot, row.second, layout, y + apart, hollow=True)
    clear = row.ratio.low > 1 or row.ratio.high < 1
    style = "label end value" if clear and row.ratio.count > 1 else "label end"
    return drawn + (
        f'<text class="{style}" style="fill:{slot_colour(row.slot)}" x="{right:.1f}" y="{y + 4.5:.1f}">'
        f"{row.ratio.value:.2f}</text>"
    )


def _mark(slot: int, ratio: Estimate, layout: _Layout, y: float, *, hollow: bool) -> str:
    colour = slot_colour(slot)
    drawn = ""
    if ratio.high > ratio.low:
        path = f"M{layout.x(ratio.low):.1f} {y:.1f}H{layout.x(ratio.high):.1f}"
        drawn = f'<path class="whisker" style="stroke:{colour}" d="{path}"/>'
    fill = "" if hollow else f"fill:{colour};"
    size = 3.0 if hollow else 4.0
    return drawn + (
        f'<circle class="dot" style="{fill}stroke:{colour}" cx="{layout.x(ratio.value):.1f}" '
        f'cy="{y:.1f}" r="{size:g}"/>'
    )
