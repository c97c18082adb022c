"""The plots of a study: the front, the band of those without a cut, names, ratios."""

from __future__ import annotations

import itertools
import re
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from study_results import results

from reverie.report.charts import ARM_COLOURS
from reverie.report.forest import Forest, ForestPanel, ForestRow, render_forest
from reverie.report.scatter import (
    COMPACT,
    HALF,
    Dot,
    Scatter,
    front,
    render_scatter,
    render_scatters,
)
from reverie.report.study_figures import arm_slot, blends_plot, cuts_plot, forests
from reverie.study.arms import ARMS
from reverie.study.statistics import Estimate, grouped

SVG = "{http://www.w3.org/2000/svg}"
GROUP = ("latent-35", 3)


def parsed(svg):
    """The drawing as XML."""
    return ET.fromstring(svg)  # noqa: S314 - we wrote it


def exactly(value):
    """A figure without an interval."""
    return Estimate(value, value, value, 1)


def dot(label, x, y, slot=1):
    """An arm without intervals."""
    return Dot(label, slot, exactly(x), exactly(y))


def scatter(*dots, **options):
    """A plot of these."""
    return Scatter("A title", dots, "cuts", "images", **options)


def names_of(svg):
    """The names of arms in the drawing, with their ``(x, y)``."""
    return {
        node.text: (float(node.get("x")), float(node.get("y")))
        for node in parsed(svg).iter(f"{SVG}text")
        if "halo" in node.get("class", "")
    }


def circles(svg):
    """The ``(x, y)`` of all dots, in their order."""
    return [(float(node.get("cx")), float(node.get("cy"))) for node in parsed(svg).iter(f"{SVG}circle")]


def test_the_front_is_what_no_other_beats():
    """More with as little, or as much with less, takes an arm off it; equals stay both."""
    best, dear, beaten, twin = dot("a", 0, 10), dot("b", 5, 12), dot("c", 5, 9), dot("d", 0, 10)
    assert [each.label for each in front([beaten, dear, best, twin])] == ["a", "d", "b"]
    assert front([dot("a", 0, 3), dot("b", 0, 4)])[0].label == "b"
    assert front([]) == []


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=12))
def test_a_front_rises_and_covers_everything(points):
    """Along it more costs more, and whatever is not on it is beaten by something that is."""
    dots = [dot(str(at), x, y) for at, (x, y) in enumerate(points)]
    found = front(dots)
    places = [(each.x.value, each.y.value) for each in found]
    assert all(
        one == other or (one[0] < other[0] and one[1] < other[1]) for one, other in itertools.pairwise(places)
    )
    for each in dots:
        assert any(one.x.value <= each.x.value and one.y.value >= each.y.value for one in found)


def test_the_front_is_drawn_as_steps():
    """Level until the next arm, then up; to the right edge; its arms are filled and bold, others are not."""
    svg = render_scatter(scatter(dot("a", 0, 10), dot("b", 5, 12), dot("c", 7, 9)))
    (ax, ay), (bx, by), _ = circles(svg)
    assert f'class="front" d="M{ax:.1f} {ay:.1f}H{bx:.1f}V{by:.1f}H{HALF.box[2]:.1f}"' in svg
    assert re.findall(r'class="dot" style="(fill:)?', svg) == ["fill:", "fill:", ""]
    assert svg.count('value" style') == 2


@pytest.mark.parametrize("panel", [HALF, COMPACT])
def test_arms_without_a_cut_do_not_hide_each_other(panel):
    """Eight arms at 0 and nearly the same height: every dot and every name has its own place."""
    dots = [dot(f"arm-{at}", 0, 10 + at % 3 * 0.01) for at in range(8)]
    svg = render_scatter(scatter(*dots), panel)
    left, right = panel.band
    assert all(left <= x <= right for x, _ in circles(svg))
    assert len({x for x, _ in circles(svg)}) == panel.lanes
    heights = sorted(y for _, y in names_of(svg).values())
    assert len(heights) == 8
    assert all(b - a >= panel.text for a, b in itertools.pairwise(heights))


@pytest.mark.parametrize("panel", [HALF, COMPACT])
def test_names_beside_dots_do_not_cover_each_other(panel):
    """Five arms with about as many cuts and images."""
    dots = [dot(f"dream-{at}", 20 + at, 10 + at * 0.1) for at in range(5)]
    places = list(names_of(render_scatter(scatter(*dots), panel)).values())
    for one, other in itertools.combinations(places, 2):
        assert abs(one[1] - other[1]) >= panel.text or abs(one[0] - other[0]) > 4 * panel.text
    assert len(places) == 5


def test_intervals_are_whiskers_both_ways():
    """One up and across for each arm that has them; none for a single loop; 0 is the band's edge."""
    wide = Dot("a", 1, Estimate(4, 0, 9, 8), Estimate(5, 4, 6, 8))
    svg = render_scatter(scatter(wide))
    path = re.search(r'class="whisker"[^>]* d="([^"]*)"', svg).group(1)
    assert re.fullmatch(r"M[\d.]+ [\d.]+V[\d.]+M[\d.]+ [\d.]+H[\d.]+", path)
    assert f"M{HALF.band[1]:.1f} " in path
    assert 'class="whisker"' not in render_scatter(scatter(dot("a", 4, 5)))


def test_a_plot_without_values_says_so():
    """Nothing, and values that are no numbers."""
    for empty in (scatter(), scatter(dot("a", float("nan"), 1))):
        svg = render_scatter(empty)
        assert "no values yet" in svg
        assert "<circle" not in svg


def test_names_and_titles_are_escaped():
    """Neither an arm nor an axis can become markup."""
    bad = "<b>&x"
    for svg in (
        render_scatter(Scatter(bad, [dot(bad, 0, 1), dot(f"{bad}2", 3, 2)], bad, bad)),
        render_forest(Forest(bad, [ForestPanel(bad, [ForestRow(bad, 1, exactly(1.0))])])),
    ):
        assert "<b>" not in svg
        assert bad in [node.text for node in parsed(svg).iter(f"{SVG}text")]


def test_a_group_as_plots():
    """Cuts and blends of each arm in the order of the tables; what is asked of blends is a line."""
    arms = grouped(results())[GROUP]
    cuts, blends = cuts_plot(GROUP, arms), blends_plot(GROUP, arms)
    assert [each.label for each in cuts.dots] == ["none", "restart", "control", "wander"]
    assert [each.x.value for each in cuts.dots] == [0, 12, 0, 0]
    assert [each.label for each in front(cuts.dots)] == ["wander"]
    assert [round(each.x.value, 6) for each in blends.dots] == [0, 0, 10, 4]
    assert [each.label for each in front(blends.dots)] == ["restart", "wander"]
    assert cuts.dots[3].y.value == pytest.approx(16.5)
    assert cuts.dots[3].y.low < 16.5 < cuts.dots[3].y.high
    svg = render_scatter(blends)
    assert "asked: at most 5%" in svg
    assert set(names_of(svg)) == {"none", "restart", "control", "wander"}


def test_both_plots_in_one_file():
    """Beside each other, with the colours of both schemes."""
    arms = grouped(results())[GROUP]
    root = parsed(svg := render_scatters("Both", [cuts_plot(GROUP, arms), blends_plot(GROUP, arms)]))
    assert root.get("viewBox") == f"0 0 {2 * HALF.width + 20} {HALF.height}"
    assert len(root.findall(f"{SVG}svg")) == 2
    assert "@media (prefers-color-scheme:dark)" in svg


def test_ratios_are_to_the_control_by_generator():
    """A panel a generator, the control left out; where no seed picture is known to the loop left alone."""
    found = results(groups=[("latent-35", 3), ("patches-35", 3)])
    found += results(("none", "wander"), groups=[("patches-35", 0)])
    plots = forests(grouped(found))
    assert list(plots) == [3, 0]
    assert [panel.title for panel in plots[3].panels] == ["latent-35", "patches-35"]
    rows = plots[3].panels[0].rows
    assert [(row.label, round(row.ratio.value, 6)) for row in rows] == [
        ("none", 0.2),
        ("restart", 0.8),
        ("wander", 1.5),
    ]
    assert [round(row.second.value, 6) for row in rows] == [0.2, 0.8, 1.5]
    assert [(row.label, round(row.ratio.value, 6)) for row in plots[0].panels[0].rows] == [("wander", 7.5)]


def test_a_generator_without_the_control_leaves_a_dash():
    """Half a study: the arm stands there, without a number."""
    found = results(groups=[("latent-35", 3)]) + results(("none", "wander"), groups=[("patches-35", 3)])
    svg = render_forest(forests(grouped(found))[3])
    assert svg.count("<circle") == 6
    words = [node.text for node in parsed(svg).iter(f"{SVG}text")]
    assert words.count("\N{EN DASH}") == 3
    assert "1.50" in words
    assert forests(grouped(results(("control",)))) == {}
    assert forests({}) == {}


def test_ratios_stand_where_the_axis_says():
    """1 on the line, more right of it, whatever lies outside at the edge."""
    rows = [ForestRow(str(value), 1, exactly(value)) for value in (1.0, 2.0, 0.001)]
    svg = render_forest(Forest("Ratios", [ForestPanel("all", rows)]))
    (one, _), (two, _), (none, _) = circles(svg)
    axis = float(re.search(r'class="axis" d="M([\d.]+)', svg).group(1))
    assert one == pytest.approx(axis)
    assert none == 0 < one < two


def test_bold_is_what_leaves_out_one():
    """An interval on one side of 1; never a single loop."""
    listed = [Estimate(1.2, 1.1, 1.3, 8), Estimate(1.2, 0.9, 1.4, 8), exactly(1.2)]
    rows = [ForestRow(str(at), 1, value) for at, value in enumerate(listed)]
    svg = render_forest(Forest("Ratios", [ForestPanel("all", rows)]), narrow=True)
    assert re.findall(r'class="label end( value)?"[^>]*>1\.20<', svg) == [" value", "", ""]


def test_panels_fill_their_lines():
    """Six generators make two lines of three; on a phone six of one."""
    forest = Forest("Ratios", [ForestPanel(str(at), [ForestRow("a", 1, exactly(1.0))]) for at in range(6)])
    heights = [
        float(parsed(render_forest(forest, narrow=narrow)).get("viewBox").split()[3]) for narrow in (0, 1)
    ]
    assert heights[1] == 3 * heights[0]


def test_every_arm_has_a_colour():
    """Families share one, and the arms that are compared have others than ours."""
    slots = {name: arm_slot(name) for name in ARMS}
    assert set(slots.values()) == set(range(len(ARM_COLOURS)))
    assert slots["wander"] == slots["gentle"] == slots["restless"] == slots["reheat"]
    assert slots["wander"] not in {slots[name] for name in ("none", "spec", "control", "dream-gen")}
