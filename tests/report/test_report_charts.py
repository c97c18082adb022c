from __future__ import annotations

import math
import re
from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reverie.report.charts import (
    ARM_COLOURS,
    NARROW,
    WIDE,
    Chart,
    Series,
    effective_images_chart,
    number,
    render_svg,
    segments,
    similarity_chart,
    spread,
    thin,
    ticks,
    wrap,
)

SVG = "{http://www.w3.org/2000/svg}"


def parsed(svg):
    """The drawing as XML."""
    return ET.fromstring(svg)  # noqa: S314 - we wrote it


def chart_of(*points, marks=(), dots=False, label="With memory"):
    """A chart of one line."""
    return Chart("A title", [Series(label, 1, points, marks)], last=10.0, dots=dots)


@pytest.mark.parametrize(
    ("low", "high", "about", "expected"),
    [
        (0, 1, 6, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0, 7.3, 5, [0, 2, 4, 6, 8]),
        (0, 300, 8, [0, 50, 100, 150, 200, 250, 300]),
        (-0.2, 1, 5, [-0.5, 0, 0.5, 1]),
        (0, 0.03, 4, [0, 0.01, 0.02, 0.03]),
        (5, 5, 2, [5, 6]),
    ],
)
def test_ticks_are_round(low, high, about, expected):
    """Steps are 1, 2 or 5 times a power of ten and cover the range."""
    assert ticks(low, high, about) == expected


@given(st.floats(-1e5, 1e5), st.floats(1e-3, 1e5), st.integers(2, 10))
def test_ticks_cover_any_range(low, span, about):
    """Whatever the range, the ticks reach both ends, rise, and are not many."""
    found = ticks(low, low + span, about)
    slack = span * 1e-6
    assert found[0] <= low + slack
    assert found[-1] >= low + span - slack
    assert all(before < after for before, after in pairwise(found))
    assert len(found) <= about + 2


def test_segments_break_at_gaps():
    """None and values that are no numbers make a gap; a lone point stays."""
    points = [(1, None), (2, 0.5), (3, 0.6), (4, None), (5, 0.7), (6, math.nan), (7, None)]
    assert segments(points) == [[(2, 0.5), (3, 0.6)], [(5, 0.7)]]
    assert segments([]) == []


def test_a_gap_breaks_the_line():
    """The path begins anew after a gap, and a lone point is drawn as a dot."""
    svg = render_svg(chart_of((1, 0.5), (2, 0.5), (3, None), (4, 0.5)))
    path = re.search(r'class="line"[^>]* d="([^"]*)"', svg).group(1)
    assert path.count("M") == 2
    assert path.count("L") == 1
    assert path.endswith("h0")


def test_thin_keeps_the_extremes():
    """A long line loses points, never a peak or an end."""
    points = [(float(x), 1.0 if x == 777 else 0.0) for x in range(5000)]
    kept = thin(points, 100)
    assert len(kept) <= 400
    assert (777.0, 1.0) in kept
    assert kept[0] == points[0]
    assert kept[-1] == points[-1]
    assert kept == sorted(kept)
    assert thin(points[:400], 100) == points[:400]


def test_spread_keeps_labels_apart():
    """Labels that would overlap move apart, in order, inside the plot."""
    assert spread([10.0, 12.0, 90.0], 20, 0, 100) == [10.0, 30.0, 90.0]
    assert spread([99.0, 98.0], 20, 0, 100) == [100, 80]
    assert spread([], 20, 0, 100) == []


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.0, "0"),
        (0.5, "0.5"),
        (-0.2, "\N{MINUS SIGN}0.2"),
        (1.40, "1.4"),
        (10.0, "10"),
        (12000.0, "12\u202f000"),
    ],
)
def test_number(value, expected):
    """Numbers carry no trailing zeros and a real minus sign."""
    assert number(value) == expected


def test_wrap():
    """Long labels take two lines and end with an ellipsis."""
    assert wrap("With memory", 20) == ["With memory"]
    assert wrap("With memory", 7) == ["With", "memory"]
    assert wrap("one two three", 5) == ["one", "two…"]
    assert wrap("extraordinary", 6) == ["extra…"]
    assert wrap("", 6) == []


def test_points_stand_where_the_axes_say():
    """The first frame is at the left end, the last at the right; 1 is above 0."""
    svg = render_svg(chart_of((0, 0.0), (10, 1.0)), WIDE)
    left, top, right, bottom = WIDE.box
    assert f'd="M{left:.1f} {bottom:.1f}L{right:.1f} {top:.1f}"' in svg


def test_injections_are_ticks_and_dots(run):
    """Each injection is a tick below the axis; the similarity line has a dot there too."""
    similarity = render_svg(similarity_chart(run))
    effective = render_svg(effective_images_chart(run))
    ticks_drawn = re.search(r'class="mark"[^>]* d="([^"]*)"', similarity).group(1)
    assert ticks_drawn.count("M") == 2
    assert similarity.count("<circle") == 2
    assert effective.count("<circle") == 0


def test_a_mark_in_a_gap_has_no_dot():
    """An injection at a frame without a value keeps its tick and gets no dot."""
    svg = render_svg(chart_of((1, 0.5), (2, None), marks=[2.0], dots=True))
    assert 'class="mark"' in svg
    assert "<circle" not in svg


def test_labels_stand_at_the_line_ends(run):
    """Every arm is named beside its line, with its last value."""
    root = parsed(render_svg(effective_images_chart(run)))
    labels = [node.text for node in root.iter(f"{SVG}text") if node.get("class", "").startswith("label")]
    assert labels[0] == "Without memory"
    assert "With memory" in labels
    assert len(labels) == 4


@pytest.mark.parametrize("frame", [WIDE, NARROW])
@pytest.mark.parametrize("alone", [True, False])
def test_the_drawing_is_well_formed_and_responsive(run, frame, alone):
    """It parses as XML, scales by its viewBox, and has a name for screen readers."""
    root = parsed(render_svg(similarity_chart(run), frame, alone=alone))
    assert root.get("viewBox") == f"0 0 {frame.width} {frame.height}"
    assert root.get("width") == "100%"
    assert root.get("role") == "img"
    assert root.find(f"{SVG}title").text == "Pairwise similarity over time"


def test_a_file_carries_both_colour_schemes(run):
    """A chart on its own has colours for light and dark; inside a page it takes the page's."""
    alone = render_svg(similarity_chart(run), alone=True)
    assert "@media (prefers-color-scheme:dark)" in alone
    assert all(colour in alone for pair in ARM_COLOURS for colour in pair)
    assert "prefers-color-scheme" not in render_svg(similarity_chart(run))


def test_labels_are_escaped():
    """A title from the run cannot break out of the drawing."""
    svg = render_svg(chart_of((0, 0.1), (1, 0.2), label="<b>&x"))
    assert "<b>" not in svg
    parsed(svg)


def test_a_chart_without_values_says_so():
    """No values: axes and a word, no line."""
    svg = render_svg(Chart("Empty", [Series("a", 0, [(1, None)])], last=0.0))
    assert "no values yet" in svg
    assert 'class="line"' not in svg


def _luminance(colour):
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("pair", ARM_COLOURS)
def test_colours_are_legible_on_both_papers(pair):
    """Text in an arm's colour has a contrast of at least 4.5 (WCAG AA) in light and in dark."""
    for colour, paper in zip(pair, ("#faf9f7", "#131316"), strict=True):
        low, high = sorted([_luminance(colour), _luminance(paper)])
        assert (high + 0.05) / (low + 0.05) >= 4.5
