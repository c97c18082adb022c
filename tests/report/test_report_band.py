from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest
from report_runs import tell, write_run

from reverie.report.band import render_band, states_block
from reverie.report.charts import NARROW, WIDE
from reverie.report.run import load_run

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def told(tmp_path):
    """A run whose loop without memory gets stuck, with an alarm, and whose other loop is well."""
    folder = write_run(tmp_path / "run", size=8)
    tell(folder, "without", ("warming up", 10), ("healthy", 10), ("stuck", 20), alarms=[30, 31])
    return tell(folder, "with", ("warming up", 10), ("healthy", 30))


def parsed(run, frame=WIDE):
    """The bands as XML."""
    return ET.fromstring(render_band(run, frame))  # noqa: S314 - we wrote it


@pytest.mark.parametrize("frame", [WIDE, NARROW])
def test_bands_lie_on_the_axis_of_the_charts(told, frame):
    """The first begins where the axis does, the last ends where it ends, and none overlaps the next."""
    rects = [
        (float(node.get("x")), float(node.get("width")))
        for node in parsed(load_run(told), frame).iter(f"{SVG}rect")
    ]
    left, _, right, _ = frame.box
    assert rects[0][0] == left
    assert rects[2][0] + rects[2][1] == pytest.approx(right, abs=2)
    assert rects[0][0] + rects[0][1] < rects[1][0] == pytest.approx(left + (right - left) / 4, abs=0.1)


def test_every_piece_says_what_it_is(told):
    """Each has a title with frames, state and reason; where there is room its name stands above."""
    root = parsed(load_run(told))
    titles = [node.text for node in root.iter(f"{SVG}title")]
    assert titles[2] == "frames 21\N{EN DASH}40: stuck. stuck at frame 21"
    assert "The alarm was raised at frame 30" in titles
    words = [node.text for node in root.iter(f"{SVG}text")]
    assert words.count("healthy") == 2
    assert {"stuck", "Without memory", "With memory", "alarm", "frame"} <= set(words)
    assert root.get("aria-label").startswith(
        "Without memory: 25 % warming up, 25 % healthy, 50 % stuck, alarm"
    )


def test_alarms_that_are_close_share_their_word(told):
    """Two triangles side by side, one word."""
    svg = render_band(load_run(told), WIDE)
    assert svg.count('class="alarm"') == 2
    assert svg.count(">alarm<") == 1


def test_words_shares_and_the_promise(told):
    """What a person asks: what does it mean, how much of the time, was there an alarm, what is that worth?"""
    text = re.sub(r"<[^>]+>", " ", states_block(load_run(told)))
    text = " ".join(text.split())
    for words in (
        "Stuck Nearly one picture, and nothing new comes. 50 % 0 %",
        "Healthy It moves, and keeps finding something new. 25 % 75 %",
        "runs 2,000 frames on average, at least, before a false alarm. twice at frames 30, 31",
        "never evidence up to 25 %",
        "Every change, and why",
        "stuck frames 21\N{EN DASH}40 stuck at frame 21",
    ):
        assert words in text
    assert "Cycling" not in text


def test_a_flickering_loop_stays_small(tmp_path):
    """Hundreds of changes are drawn as columns, and told up to a limit that is named."""
    folder = write_run(tmp_path / "run", frames=300, size=4, arms=("with",))
    tell(folder, "with", *(("healthy" if at % 2 else "stuck", 1) for at in range(300)))
    run = load_run(folder)
    assert render_band(run, WIDE).count("<rect") <= 200
    text = states_block(run)
    assert "200 more are in its journal." in text
    assert len(text) < 200_000


def test_an_arm_without_states_beside_one_with(tmp_path):
    """Dashes for the one that says nothing; the other is told."""
    run = load_run(tell(write_run(tmp_path / "run", size=8), "with", ("healthy", 40)))
    text = " ".join(re.sub(r"<[^>]+>", " ", states_block(run)).split())
    assert "something new. \N{EN DASH} 100 %" in text
    assert parsed(run).get("aria-label") == "Without memory: no states. With memory: 100 % healthy"


def test_a_run_without_states_has_no_bands(run):
    """Nothing is drawn of what is not known."""
    assert states_block(run) == ""


def test_hostile_names_stay_text(tmp_path):
    """A state cannot break out of the drawing, whatever it is called."""
    run = load_run(tell(write_run(tmp_path / "run", size=8), "with", ("<b>&\"x'", 40)))
    parsed(run)
    assert '<b>&"' not in states_block(run)
