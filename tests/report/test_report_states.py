from __future__ import annotations

from itertools import pairwise
from typing import get_args

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_runs import tell, write_run

from reverie.loop.states import StateName
from reverie.report.run import Doing, FrameRecord, load_run
from reverie.report.states import LOOKS, Span, alarms, coarse, has_states, highest_evidence, shares, spans


def records(*names):
    """One record a name, None for a frame that has no state."""
    return [
        FrameRecord(number, doing=None if name is None else Doing(name, f"why {number}"))
        for number, name in enumerate(names, 1)
    ]


def luminance(colour):
    """Relative luminance of a colour (WCAG 2.2)."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_every_state_of_the_loop_has_a_look():
    """Each has its sentence, its colours and a texture of its own: colour is never all."""
    assert tuple(LOOKS) == get_args(StateName)
    assert all(look.words.endswith(".") for look in LOOKS.values())
    assert len({look.texture for look in LOOKS.values()}) == len(LOOKS)


@pytest.mark.parametrize("name", LOOKS)
def test_colours_stand_out_on_both_papers(name):
    """A band has a contrast of at least 3 (WCAG AA for graphics) in light and in dark."""
    for colour, paper in ((LOOKS[name].light, "#faf9f7"), (LOOKS[name].dark, "#131316")):
        low, high = sorted([luminance(colour), luminance(paper)])
        assert (high + 0.05) / (low + 0.05) >= 3


def test_spans_are_frames_in_a_row():
    """A span keeps why it began; a frame without a state parts two."""
    found = spans(records("a", "a", "b", None, "b"))
    assert found == [Span("a", 1, 2, "why 1"), Span("b", 3, 3, "why 3"), Span("b", 5, 5, "why 5")]
    assert [span.frames for span in found[:2]] == ["frames 1\N{EN DASH}2", "frame 3"]
    assert spans([]) == []


def test_few_spans_stay_as_they_are():
    """Only what is too much to be drawn is made coarser."""
    found = spans(records("a", "b", "a"))
    assert coarse(found, 3) == found


@given(st.lists(st.sampled_from(["a", "b", None]), max_size=60), st.integers(1, 12))
def test_coarse_spans_stay_in_order(names, most):
    """However many there are, at most so many come out, in order, apart, and inside the same frames."""
    found = spans(records(*names))
    drawn = coarse(found, most)
    assert len(drawn) <= most
    assert all(span.first <= span.last for span in drawn)
    assert all(before.last < after.first for before, after in pairwise(drawn))
    if found:
        assert found[0].first <= drawn[0].first
        assert drawn[-1].last <= found[-1].last


def test_a_column_shows_what_there_was_most_of():
    """Of a hundred frames in ten columns, a state of nine frames out of ten wins each."""
    found = spans(records(*(["a"] * 9 + ["b"]) * 10))
    assert coarse(found, 10) == [Span("a", 1, 100)]


def test_shares_and_alarms(tmp_path):
    """Shares add up to one in reading order; an alarm is where the count goes up."""
    folder = tell(write_run(tmp_path / "run", size=8), "with", ("warming up", 10), ("stuck", 20), alarms=[22])
    plain, told = load_run(folder).arms
    assert shares(told) == {"warming up": 10 / 30, "stuck": 20 / 30}
    assert alarms(told) == [22]
    assert highest_evidence(told) == 0.25
    assert (shares(plain), alarms(plain), highest_evidence(plain)) == ({}, [], None)


def test_a_state_that_is_not_known_comes_last(tmp_path):
    """A newer journal may have states that this report has no words for."""
    run = load_run(tell(write_run(tmp_path / "run", size=8), "with", ("asleep", 30), ("healthy", 10)))
    assert list(shares(run.arms[1])) == ["healthy", "asleep"]


def test_a_run_without_states_has_none(run):
    """A journal of before there were states."""
    assert not has_states(run)


@pytest.mark.parametrize(
    ("loop", "words"),
    [("stuck", "'loop' must be an object or null, got str"), ({"name": 3}, "'name' must be text, got int")],
)
def test_a_wrong_type_is_an_error(run_folder, loop, words):
    """A state that is none is named with its line, like all else in a journal."""
    with (run_folder / "with" / "journal.jsonl").open("ab") as journal:
        journal.write(orjson.dumps({"frame": 41, "loop": loop}) + b"\n")
    with pytest.raises(ValueError, match=f"line 41: {words}"):
        load_run(run_folder)
