"""Scatter plots of arms, with intervals both ways, the front, and a band for those that have none of it.

Of many policies no loop has a single cut: at 0 they would lie on top of each other. They stand side by side
in a band, where only the height means something, named in a column beside it; right of the band the axis is
log(1 + x).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from reverie.report.charts import number, slot_colour, spread, svg_drawing, ticks
from reverie.study.statistics import Estimate

__all__ = ["COMPACT", "HALF", "Dot", "Panel", "Scatter", "front", "render_scatter", "render_scatters"]

_ROUND_TICKS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


@dataclass(frozen=True, slots=True)
class Dot:
    """One arm.

    Attributes:
        label: Its name.
        slot: Index into `reverie.report.charts.ARM_COLOURS`.
        x: What one wants little of, with its interval; at least 0.
        y: What one wants much of, with its interval; at least 0.
    """

    label: str
    slot: int
    x: Estimate
    y: Estimate


@dataclass(frozen=True, slots=True)
class Scatter:
    """What a plot shows, without any size.

    Attributes:
        title: For screen readers.
        dots: The arms; those with a value that is no number are left out.
        across: What x is, in words.
        up: What y is, in words.
        unit: Stands behind the numbers of x.
        limit: Of x, drawn as a line; None for none.
    """

    title: str
    dots: Sequence[Dot]
    across: str
    up: str
    unit: str = ""
    limit: float | None = None


@dataclass(frozen=True, slots=True)
class Panel:
    """The size of a plot, in its own units.

    Attributes:
        width: Of the whole plot.
        height: Of the whole plot.
        text: Font size.
        names: Width of the column of names.
        lanes: How many dots fit beside each other in the band.
    """

    width: int
    height: int
    text: float
    names: int
    lanes: int

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom of the plot itself."""
        return 30.0, 34.0, float(self.width - 10), float(self.height - 48)

    @property
    def band(self) -> tuple[float, float]:
        """Left and right of the band of those that have none."""
        left = self.box[0] + self.names
        return left, left + _LANE * self.lanes + 8


_LANE = 14
_DOT = 5.0

HALF = Panel(width=490, height=380, text=13.0, names=122, lanes=5)
COMPACT = Panel(width=360, height=340, text=12.0, names=112, lanes=4)


def front(dots: Sequence[Dot]) -> list[Dot]:
    """The dots that no other beats: none has as little of x and more of y, or less of x and as much of y.

    In order of x; of dots with the same x and y all.
    """
    return sorted(
        (one for one in dots if not any(_beats(other, one) for other in dots)),
        key=lambda dot: (dot.x.value, dot.y.value, dot.label),
    )


def _beats(one: Dot, other: Dot) -> bool:
    no_worse = one.x.value <= other.x.value and one.y.value >= other.y.value
    return no_worse and (one.x.value < other.x.value or one.y.value > other.y.value)


# ------------------------------------------------------------------------------------ drawing


@dataclass(frozen=True, slots=True)
class _Scale:
    panel: Panel
    most: float
    top: float

    def x(self, value: float) -> float:
        """Right of the band; 0 and below is its edge."""
        left, right = self.panel.band[1], self.panel.box[2] - 8
        return left + (right - left) * math.log1p(max(0.0, value)) / math.log1p(self.most)

    def y(self, value: float) -> float:
        _, top, _, bottom = self.panel.box
        return bottom - (bottom - top) * value / self.top


@dataclass(frozen=True, slots=True)
class _Placed:
    dot: Dot
    x: float
    y: float
    best: bool  # on the front


@dataclass(frozen=True, slots=True)
class _Box:
    left: float
    top: float
    right: float
    bottom: float

    def shared(self, other: _Box) -> float:
        """The area that both cover."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(0.0, width) * max(0.0, height)


def render_scatter(scatter: Scatter, panel: Panel = HALF, *, alone: bool = False) -> str:
    """The plot as an SVG element; `alone` as in `reverie.report.charts.svg_drawing`."""
    size = (panel.width, panel.height)
    return svg_drawing(scatter.title, size, panel.text, _body(scatter, panel), alone=alone)


def render_scatters(title: str, scatters: Sequence[Scatter], panel: Panel = HALF) -> str:
    """Plots beside each other as one SVG file."""
    step = panel.width + 20
    drawn = "".join(
        f'<svg x="{step * at}" y="0" width="{panel.width}" height="{panel.height}">'
        f"{_body(scatter, panel)}</svg>"
        for at, scatter in enumerate(scatters)
    )
    return svg_drawing(title, (step * len(scatters) - 20, panel.height), panel.text, drawn, alone=True)


def _body(scatter: Scatter, panel: Panel) -> str:
    dots = [dot for dot in scatter.dots if math.isfinite(dot.x.value) and math.isfinite(dot.y.value)]
    steps = ticks(0.0, max([1.0, *(dot.y.high for dot in dots)]), 6)
    most = max([1.0, scatter.limit or 0.0, *(dot.x.high for dot in dots)]) * 1.1
    scale = _Scale(panel, most, steps[-1])
    placed = _placed(scale, dots)
    return "".join(
        [
            _up_axis(scale, scatter, steps),
            _across_axis(scale, scatter),
            _limit(scale, scatter),
            _front_line(scale, placed),
            *(_whiskers(scale, one) for one in placed),
            _names_of_band(scale, placed),
            _names_right(scale, placed),
            *(_mark(one) for one in placed),
            "" if placed else _nothing(panel),
        ]
    )


def _nothing(panel: Panel) -> str:
    left, top, right, bottom = panel.box
    x, y = (left + right) / 2, (top + bottom) / 2
    return f'<text class="tick mid" x="{x:.1f}" y="{y:.1f}">no values yet</text>'


def _placed(scale: _Scale, dots: Sequence[Dot]) -> list[_Placed]:
    best = front(dots)
    lanes = _lanes(scale, [dot for dot in dots if dot.x.value == 0])
    left = scale.panel.band[0] + 4 + _LANE / 2
    return [
        _Placed(
            dot,
            left + _LANE * lanes[dot.label] if dot.label in lanes else scale.x(dot.x.value),
            scale.y(dot.y.value),
            dot in best,
        )
        for dot in dots
    ]


def _lanes(scale: _Scale, dots: Sequence[Dot]) -> dict[str, int]:
    """A lane for each dot of the band, so that whiskers do not lie on each other.

    Dots whose names stand at their height are placed first, the furthest left: so no line from a name to
    its dot crosses another dot.
    """
    heights = dict(zip((dot.label for dot in dots), _name_heights(scale, dots), strict=True))
    taken: list[list[_Box]] = [[] for _ in range(scale.panel.lanes)]
    found = {}
    for dot in sorted(dots, key=lambda dot: abs(heights[dot.label] - scale.y(dot.y.value))):
        middle = scale.y(dot.y.value)
        spot = _Box(0, middle - _DOT - 2, 20, middle + _DOT + 2)  # as wide as it counts against a whisker
        whisker = _Box(0, scale.y(dot.y.high), 1, scale.y(dot.y.low))
        costs = [sum(mine.shared(other) for mine in (spot, whisker) for other in lane) for lane in taken]
        lane = costs.index(min(costs))
        taken[lane] += [spot, whisker]
        found[dot.label] = lane
    return found


def _name_heights(scale: _Scale, dots: Sequence[Dot]) -> list[float]:
    _, top, _, bottom = scale.panel.box
    return spread([scale.y(dot.y.value) for dot in dots], scale.panel.text * 1.2, top + 4, bottom - 6)


def _up_axis(scale: _Scale, scatter: Scatter, steps: Sequence[float]) -> str:
    left, top, right, _ = scale.panel.box
    drawn = [f'<text class="name" x="0" y="{top - 20:.1f}">{escape(scatter.up)}</text>']
    for value in steps:
        y = scale.y(value)
        name = "grid" if value else "axis"
        drawn.append(f'<path class="{name}" d="M{left:g} {y:.1f}H{right:g}"/>')
        drawn.append(f'<text class="tick end" x="{left - 7:g}" y="{y + 4:.1f}">{number(value)}</text>')
    return "".join(drawn)


def _across_axis(scale: _Scale, scatter: Scatter) -> str:
    _, top, right, bottom = scale.panel.box
    left, edge = scale.panel.band
    drawn = [
        f'<path class="band" d="M{left:.1f} {top:.1f}H{edge:.1f}V{bottom:.1f}H{left:.1f}Z"/>',
        f'<text class="tick mid" x="{(left + edge) / 2:.1f}" y="{bottom + 19:.1f}">0{scatter.unit}</text>',
        f'<text class="name end" x="{right:.1f}" y="{bottom + 40:.1f}">{escape(scatter.across)}</text>',
    ]
    last = edge - 2
    for value in _ROUND_TICKS:
        text, x = f"{number(value)}{scatter.unit}", scale.x(value)
        half = _width(text, scale.panel.text) / 2
        if value <= scale.most and x - half > last + 6:
            drawn.append(f'<path class="grid" d="M{x:.1f} {top:g}V{bottom + 4:g}"/>')
            drawn.append(f'<text class="tick mid" x="{x:.1f}" y="{bottom + 19:.1f}">{text}</text>')
            last = x + half
    return "".join(drawn)


def _limit(scale: _Scale, scatter: Scatter) -> str:
    if scatter.limit is None:
        return ""
    _, top, _, bottom = scale.panel.box
    x = scale.x(scatter.limit)
    words = f"asked: at most {number(scatter.limit)}{scatter.unit}"
    end = x + _width(words, scale.panel.text) + 6 > scale.panel.width
    return (
        f'<path class="limit" d="M{x:.1f} {top - 8:g}V{bottom:g}"/>'
        f'<text class="tick{" end" if end else ""}" x="{x + (-5 if end else 5):.1f}" y="{top - 4:.1f}">'
        f"{words}</text>"
    )


def _front_line(scale: _Scale, placed: Sequence[_Placed]) -> str:
    """A step line: what can be had with at most so much of x."""
    best = sorted((one for one in placed if one.best), key=lambda one: one.dot.x.value)
    if not best:
        return ""
    path = f"M{best[0].x:.1f} {best[0].y:.1f}" + "".join(f"H{one.x:.1f}V{one.y:.1f}" for one in best[1:])
    return f'<path class="front" d="{path}H{scale.panel.box[2]:.1f}"/>'


def _whiskers(scale: _Scale, one: _Placed) -> str:
    x, y = one.dot.x, one.dot.y
    path = ""
    if y.high > y.low:
        path += f"M{one.x:.1f} {scale.y(y.low):.1f}V{scale.y(y.high):.1f}"
    if x.high > x.low and x.value > 0:
        path += f"M{scale.x(x.low):.1f} {one.y:.1f}H{scale.x(x.high):.1f}"
    return f'<path class="whisker" style="stroke:{slot_colour(one.dot.slot)}" d="{path}"/>' if path else ""


def _mark(one: _Placed) -> str:
    colour = slot_colour(one.dot.slot)
    fill = f"fill:{colour};" if one.best else ""
    return (
        f'<circle class="dot" style="{fill}stroke:{colour}" cx="{one.x:.1f}" cy="{one.y:.1f}" '
        f'r="{_DOT - 0.5:g}"/>'
    )


def _names_of_band(scale: _Scale, placed: Sequence[_Placed]) -> str:
    inside = [one for one in placed if one.dot.x.value == 0]
    right = scale.panel.band[0] - 14
    drawn = []
    for one, y in zip(inside, _name_heights(scale, [one.dot for one in inside]), strict=True):
        drawn.append(_leader(one, right + 3, y, straight=7))
        drawn.append(_name(one, right, y + scale.panel.text * 0.35, end=True))
    return "".join(drawn)


def _names_right(scale: _Scale, placed: Sequence[_Placed]) -> str:
    """Names beside the dots that are not in the band, where they cover least."""
    outside = [one for one in placed if one.dot.x.value != 0]
    taken = [box for one in placed for box in _drawn_boxes(scale, one)]
    drawn = []
    for one in sorted(outside, key=lambda one: (one.y, one.x)):
        places = _places(scale, one)
        costs = [_cost(box, taken, scale.panel) + 2 * at for at, (box, _) in enumerate(places)]
        box, end = places[costs.index(min(costs))]
        taken.append(box)
        x, y = box.right if end else box.left, (box.top + box.bottom) / 2
        if abs(y - one.y) > 1.6 * scale.panel.text:
            drawn.append(_leader(one, x, y))
        drawn.append(_name(one, x, box.bottom - scale.panel.text * 0.3, end=end))
    return "".join(drawn)


def _places(scale: _Scale, one: _Placed) -> list[tuple[_Box, bool]]:
    """Boxes that the name may have, the best first, and whether it ends at the dot."""
    width, height = _width(one.dot.label, scale.panel.text), scale.panel.text * 1.25
    found = []
    for away in (0.0, 0.6, 1.2, 2.0, 3.0):
        for up in (True, False):
            top = one.y - 3 - height * (1 + away) if up else one.y + 3 + height * away
            for end in (False, True):
                left = one.x - 7 - width if end else one.x + 7
                found.append((_Box(left, top, left + width, top + height), end))
    return found


def _cost(box: _Box, taken: Sequence[_Box], panel: Panel) -> float:
    left, top, right, bottom = panel.band[1], *panel.box[1:]
    area = (box.right - box.left) * (box.bottom - box.top)
    outside = area - box.shared(_Box(left, top - 6, right + 8, bottom))
    return 20 * outside + sum(box.shared(other) for other in taken)


def _drawn_boxes(scale: _Scale, one: _Placed) -> list[_Box]:
    x, y = one.dot.x, one.dot.y
    boxes = [_Box(one.x - _DOT, one.y - _DOT, one.x + _DOT, one.y + _DOT)]
    boxes.append(_Box(one.x - 2, scale.y(y.high), one.x + 2, scale.y(y.low)))
    if x.value > 0:
        boxes.append(_Box(scale.x(x.low), one.y - 2, scale.x(x.high), one.y + 2))
    return boxes


def _leader(one: _Placed, x: float, y: float, straight: float = 0) -> str:
    """A line from a name to its dot."""
    return (
        f'<path class="leader" style="stroke:{slot_colour(one.dot.slot)}" '
        f'd="M{x:.1f} {y:.1f}h{straight:g}L{one.x:.1f} {one.y:.1f}"/>'
    )


def _name(one: _Placed, x: float, y: float, *, end: bool) -> str:
    style = f"label halo{' end' if end else ''}{' value' if one.best else ''}"
    return (
        f'<text class="{style}" style="fill:{slot_colour(one.dot.slot)}" x="{x:.1f}" y="{y:.1f}">'
        f"{escape(one.dot.label)}</text>"
    )


def _width(text: str, size: float) -> float:
    """About how wide a text is."""
    return len(text) * size * 0.56
