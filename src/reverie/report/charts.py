"""Line charts as SVG, written here: nothing to install, sharp at any size, readable in light and dark.

A chart's colours are CSS variables (``--ink``, ``--soft``, ``--line``, ``--page``, ``--arm0`` ...). Inside
a page the page sets them; a chart saved as a file carries its own style for both colour schemes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from reverie.report.run import Arm, Run

__all__ = [
    "ARM_COLOURS",
    "CHART_STYLE",
    "NARROW",
    "WIDE",
    "Chart",
    "Frame",
    "Scale",
    "Series",
    "arm_slots",
    "effective_images_chart",
    "measure_chart",
    "number",
    "render_svg",
    "similarity_chart",
    "slot_colour",
    "spread",
    "svg_drawing",
    "ticks",
    "x_axis",
]

ARM_COLOURS: tuple[tuple[str, str], ...] = (
    ("#b34a00", "#f2a065"),
    ("#0068a8", "#63b7f2"),
    ("#00735a", "#4fc9a6"),
    ("#8c3f75", "#e29ac7"),
    ("#6b5d00", "#d9c64a"),
)
"""(on light, on dark) for arm slots: the hues of Okabe and Ito's palette, which colour-blind readers
tell apart, darkened or lightened until text in them is legible. Slot 0 is the loop without memory."""

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Series:
    """One line.

    Attributes:
        label: Stands at the line's end.
        slot: Index into `ARM_COLOURS`.
        points: ``(x, y)`` in order of x; y None is a gap.
        marks: x of every injection.
    """

    label: str
    slot: int
    points: Sequence[tuple[float, float | None]]
    marks: Sequence[float] = ()


@dataclass(frozen=True, slots=True)
class Chart:
    """What a chart shows, without any size.

    Attributes:
        title: For screen readers and the file.
        series: The lines; none, or none with a value, gives an empty chart that says so.
        last: Highest x; the axis begins at 0.
        top: y that the axis must reach.
        dots: Also put a dot on the line at every mark.
    """

    title: str
    series: Sequence[Series]
    last: float
    top: float = 1.0
    dots: bool = False


@dataclass(frozen=True, slots=True)
class Frame:
    """The size of a drawing, in its own units.

    Attributes:
        width: Of the whole drawing.
        height: Of the whole drawing.
        right: Room for the labels at the line ends.
        text: Font size.
        steps: About how many ticks on the x axis.
    """

    width: int
    height: int
    right: int
    text: float
    steps: int

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom of the plot itself."""
        return 34.0, 12.0, float(self.width - self.right), float(self.height - 46)


WIDE = Frame(width=1000, height=330, right=132, text=13.0, steps=8)
NARROW = Frame(width=360, height=260, right=90, text=12.0, steps=4)


def arm_slots(arms: Sequence[Arm]) -> list[int]:
    """The colour slot of every arm: 0 for the first without memory, 1, 2 ... for the others."""
    slots: list[int] = []
    others = 0
    for arm in arms:
        if arm.policy == "none" and 0 not in slots:
            slots.append(0)
        else:
            slots.append(1 + others % (len(ARM_COLOURS) - 1))
            others += 1
    return slots


def effective_images_chart(run: Run) -> Chart:
    """Effective images of the recent frames, over time, one line an arm."""
    return measure_chart(run, "effective_images", "Effective images over time", dots=False)


def similarity_chart(run: Run) -> Chart:
    """Mean pairwise similarity of the recent frames, over time; a dot at every injection."""
    return measure_chart(run, "pairwise", "Pairwise similarity over time", dots=True)


def measure_chart(run: Run, measure: str, title: str, *, dots: bool, top: float = 1.0) -> Chart:
    """A measure over time by its name in the journal, one line an arm; other arguments as of `Chart`."""
    series = [
        Series(
            label=arm.title,
            slot=slot,
            points=[(float(record.frame), record.measures.get(measure)) for record in arm.records],
            marks=[float(record.frame) for record in arm.injections],
        )
        for arm, slot in zip(run.arms, arm_slots(run.arms), strict=True)
    ]
    return Chart(title=title, series=series, last=float(run.last), top=top, dots=dots)


# ------------------------------------------------------------------------------------ numbers


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers that cover ``[low, high]``, about ``about`` of them.

    The step is 1, 2 or 5 times a power of ten (Heckbert, "Nice numbers for graph labels",
    Graphics Gems, 1990). Equal ends give one step upwards.
    """
    span = high - low if high > low else 1.0
    raw = span / max(1, about - 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * nice for nice in (1, 2, 5, 10) if raw <= power * nice * (1 + 1e-9))
    first = math.floor(low / step + 1e-9)
    final = math.ceil((low + span) / step - 1e-9)
    return [round(at * step, 10) for at in range(first, final + 1)]


def segments(points: Sequence[tuple[float, float | None]]) -> list[list[Point]]:
    """The runs of points between gaps; a run of one point stays."""
    found: list[list[Point]] = [[]]
    for x, y in points:
        if y is None or not math.isfinite(y):
            found.append([])
        else:
            found[-1].append((x, y))
    return [run for run in found if run]


def thin(points: Sequence[Point], columns: int) -> list[Point]:
    """Fewer points that draw the same line at ``columns`` pixels.

    Keeps first, lowest, highest and last of every column (M4: Jugel et al., VLDB 2014); a line of
    at most four points a column comes back as it is.
    """
    if len(points) <= 4 * columns:
        return list(points)
    first, span = points[0][0], points[-1][0] - points[0][0]
    groups: dict[int, list[Point]] = {}
    for point in points:
        groups.setdefault(min(columns - 1, int((point[0] - first) / span * columns)), []).append(point)
    kept: list[Point] = []
    for group in groups.values():
        ends = {group[0], group[-1], min(group, key=_height), max(group, key=_height)}
        kept.extend(sorted(ends))
    return kept


def _height(point: Point) -> float:
    return point[1]


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Positions near the wanted ones, at least ``gap`` apart, inside ``[low, high]`` if they fit.

    The order of the wanted positions is kept.
    """
    order = sorted(range(len(wanted)), key=lambda at: wanted[at])
    placed = [0.0] * len(wanted)
    floor = low
    for at in order:
        placed[at] = max(floor, wanted[at])
        floor = placed[at] + gap
    ceiling = high
    for at in reversed(order):
        placed[at] = min(ceiling, placed[at])
        ceiling = placed[at] - gap
    return placed


def number(value: float) -> str:
    """A number as a tick shows it: no trailing zeros, thousands apart, a real minus sign."""
    text = f"{value:,.10f}".rstrip("0").rstrip(".")
    return text.replace("-", "\N{MINUS SIGN}").replace(",", "\N{NARROW NO-BREAK SPACE}")


# ------------------------------------------------------------------------------------ drawing


@dataclass(frozen=True, slots=True)
class Scale:
    """Where values stand in a drawing.

    Attributes:
        frame: Its size.
        last: Highest x, above 0; the axis begins at 0.
        low: y at the bottom.
        high: y at the top.
    """

    frame: Frame
    last: float
    low: float = 0.0
    high: float = 1.0

    def x(self, value: float) -> float:
        """From the left edge of the drawing."""
        left, _, right, _ = self.frame.box
        return left + (right - left) * value / self.last

    def y(self, value: float) -> float:
        """From its upper edge."""
        _, top, _, bottom = self.frame.box
        return bottom - (bottom - top) * (value - self.low) / (self.high - self.low)


def render_svg(chart: Chart, frame: Frame = WIDE, *, alone: bool = False) -> str:
    """The chart as an SVG element.

    Args:
        chart: What to draw.
        frame: At which size; the drawing scales with its container.
        alone: Carry colours and a background for light and dark, as a file of its own needs.
    """
    steps = ticks(*_range(chart), 6)
    scale = Scale(frame, max(chart.last, 1.0), steps[0], steps[-1])
    parts = [
        _y_axis(scale, steps),
        x_axis(scale, frame.box[3] + 30),
        *(_marks(scale, series) for series in chart.series),
        *(_line(scale, series, dots=chart.dots) for series in chart.series),
        _labels(scale, chart.series),
    ]
    return svg_drawing(chart.title, (frame.width, frame.height), frame.text, "".join(parts), alone=alone)


def svg_drawing(title: str, size: tuple[float, float], text: float, body: str, *, alone: bool = False) -> str:
    """A drawing as an SVG element that scales with its container.

    Args:
        title: For screen readers and the file.
        size: Width and height in the drawing's own units.
        text: Font size.
        body: What is drawn, as SVG.
        alone: Carry colours and a background for light and dark, as a file of its own needs.
    """
    style = CHART_STYLE + (_scheme() if alone else "")
    title = escape(title)
    paper = f'<rect class="paper" width="{size[0]:g}" height="{size[1]:g}"/>' if alone else ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size[0]:g} {size[1]:g}" '
        f'width="100%" role="img" aria-label="{title}" class="chart" font-size="{text:g}">'
        f"<title>{title}</title><style>{style}</style>{paper}{body}</svg>"
    )


def _range(chart: Chart) -> tuple[float, float]:
    values = [y for series in chart.series for run in segments(series.points) for _, y in run]
    return min([0.0, *values]), max([chart.top, *values])


def _x_ticks(last: float, about: int) -> list[float]:
    return [value for value in ticks(0.0, last, about) if value <= last and value == int(value)]


def _y_axis(scale: Scale, steps: Sequence[float]) -> str:
    left, _, right, _ = scale.frame.box
    drawn = []
    for value in steps:
        y = scale.y(value)
        name = "axis" if value == scale.low else "grid"
        drawn.append(f'<path class="{name}" d="M{left:g} {y:.1f}H{right:g}"/>')
        drawn.append(f'<text class="tick end" x="{left - 8:g}" y="{y + 4:.1f}">{number(value)}</text>')
    return "".join(drawn)


def x_axis(scale: Scale, y: float) -> str:
    """The frame numbers, their base line at ``y``."""
    right = scale.frame.box[2]
    drawn = [
        f'<text class="tick mid" x="{scale.x(value):.1f}" y="{y:.1f}">{number(value)}</text>'
        for value in _x_ticks(scale.last, scale.frame.steps)
    ]
    drawn.append(f'<text class="tick" x="{right + 20:.1f}" y="{y:.1f}">frame</text>')
    return "".join(drawn)


def _marks(scale: Scale, series: Series) -> str:
    if not series.marks:
        return ""
    bottom = scale.frame.box[3]
    path = "".join(f"M{scale.x(x):.1f} {bottom + 4:g}v7" for x in series.marks)
    return f'<path class="mark" {_stroke(series)} d="{path}"/>'


def _line(scale: Scale, series: Series, *, dots: bool) -> str:
    runs = segments(series.points)
    columns = scale.frame.width
    path = "".join(_path(scale, thin(run, columns)) for run in runs)
    if not path:
        return ""
    drawn = f'<path class="line" {_stroke(series)} d="{path}"/>'
    if dots:
        known = {x: y for run in runs for x, y in run}
        drawn += "".join(
            f'<circle class="dot" {_stroke(series)} cx="{scale.x(x):.1f}" '
            f'cy="{scale.y(known[x]):.1f}" r="3"/>'
            for x in series.marks
            if x in known
        )
    return drawn


def _path(scale: Scale, points: Sequence[Point]) -> str:
    placed = [f"{scale.x(x):.1f} {scale.y(y):.1f}" for x, y in points]
    # A lone point is a line of no length: its round cap shows as a dot.
    return f"M{placed[0]}h0" if len(placed) == 1 else "M" + "L".join(placed)


def _labels(scale: Scale, listed: Sequence[Series]) -> str:
    ends = [(series, runs[-1][-1]) for series in listed if (runs := segments(series.points))]
    _, top, right, bottom = scale.frame.box
    if not ends:
        middle = (scale.frame.box[0] + right) / 2
        return f'<text class="tick mid" x="{middle:.1f}" y="{(top + bottom) / 2:.1f}">no values yet</text>'
    line = scale.frame.text * 1.25
    room = int((scale.frame.right - 12) / (scale.frame.text * 0.54))
    texts = [[*wrap(series.label, room), number(round(y, 2))] for series, (_, y) in ends]
    gap = line * max(len(lines) for lines in texts) + 4
    half = gap / 2 - line * 0.6
    centres = spread([scale.y(y) for _, (_, y) in ends], gap, top + half, bottom - half)
    drawn = []
    for (series, _), lines, centre in zip(ends, texts, centres, strict=True):
        fill = f"fill:{slot_colour(series.slot)}"
        first = centre - line * (len(lines) - 1) / 2 + scale.frame.text * 0.35
        drawn += [
            f'<text class="label{" value" if at == len(lines) - 1 else ""}" style="{fill}" '
            f'x="{right + 12:.1f}" y="{first + at * line:.1f}">{escape(text)}</text>'
            for at, text in enumerate(lines)
        ]
    return "".join(drawn)


def wrap(text: str, room: int, lines: int = 2) -> list[str]:
    """The text in at most ``lines`` lines of about ``room`` characters; what is cut ends with an ellipsis."""
    words = text.split()
    wrapped: list[str] = []
    for word in words:
        if wrapped and len(wrapped[-1]) + 1 + len(word) <= room:
            wrapped[-1] += f" {word}"
        else:
            wrapped.append(word)
    kept = [line if len(line) <= room else f"{line[: room - 1]}…" for line in wrapped[:lines]]
    if len(wrapped) > lines:
        kept[-1] = f"{kept[-1].rstrip('…')[: room - 1]}…"
    return kept


def slot_colour(slot: int) -> str:
    """The colour of an arm's slot in a drawing, as CSS."""
    return f"var(--arm{slot},{ARM_COLOURS[slot][0]})"


def _stroke(series: Series) -> str:
    return f'style="stroke:{slot_colour(series.slot)}"'


CHART_STYLE = (
    ".chart{font-family:-apple-system,BlinkMacSystemFont,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif;"
    "font-variant-numeric:tabular-nums}"
    ".chart .paper{fill:var(--page,#faf9f7)}"
    ".chart .grid{stroke:var(--line,#e5e1da);stroke-width:1}"
    ".chart .axis{stroke:var(--soft,#6d6862);stroke-width:1}"
    ".chart .tick{fill:var(--soft,#6d6862)}.chart .mid{text-anchor:middle}.chart .end{text-anchor:end}"
    ".chart .line{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}"
    ".chart .mark{fill:none;stroke-width:1.5}"
    ".chart .dot{fill:var(--page,#faf9f7);stroke-width:1.75}"
    ".chart .value{font-weight:650}"
    ".chart .whisker{fill:none;stroke-width:1.5;opacity:.55}"
    ".chart .leader{fill:none;stroke-width:1;opacity:.45}"
    ".chart .front{fill:none;stroke:var(--ink,#1d1b19);stroke-width:1.5;stroke-dasharray:1 4;"
    "stroke-linecap:round}"
    ".chart .limit{fill:none;stroke:var(--soft,#6d6862);stroke-width:1;stroke-dasharray:4 4}"
    ".chart .band{fill:var(--soft,#6d6862);opacity:.08}"
    ".chart .halo{paint-order:stroke;stroke:var(--page,#faf9f7);stroke-width:4;stroke-linejoin:round}"
    ".chart .name{fill:var(--ink,#1d1b19);font-weight:600}"
)
"""What every drawing of this module carries."""


def scheme_variables(dark: bool) -> str:
    """The CSS variables of one colour scheme, as declarations."""
    shade: Mapping[str, str] = _DARK if dark else _LIGHT
    named = "".join(f"--{name}:{value};" for name, value in shade.items())
    return named + "".join(f"--arm{slot}:{pair[dark]};" for slot, pair in enumerate(ARM_COLOURS))


_LIGHT = {"page": "#faf9f7", "card": "#ffffff", "ink": "#1d1b19", "soft": "#6b665f", "line": "#e5e1da"}
_DARK = {"page": "#131316", "card": "#1b1b20", "ink": "#ececef", "soft": "#9c9ca8", "line": "#2d2d35"}


def _scheme() -> str:
    return (
        f":root{{{scheme_variables(dark=False)}}}"
        f"@media (prefers-color-scheme:dark){{:root{{{scheme_variables(dark=True)}}}}}"
    )
