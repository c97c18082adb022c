"""Colour drift in the report: a line a loop, and a chart where it was measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
from html_pages import HOSTILE, Page
from report_runs import write_run

from reverie.report.colours import colour_lines, drift_chart
from reverie.report.html import render_html
from reverie.report.run import Run, load_run

WITHIN = "within the colours of the anchors"
Told = Sequence[tuple[float, str, str | None]]
"""Drift, its words and why it was put right, a frame."""


def coloured(folder: Path, told: dict[str, Told], **settings: Any) -> Run:
    """A run whose loops had these colours."""
    write_run(folder, frames=max(len(each) for each in told.values()), size=16, arms=tuple(told))
    for name, frames in told.items():
        path = folder / name / "journal.jsonl"
        lines = [orjson.loads(line) for line in path.read_bytes().splitlines()]
        for line, (drift, words, corrected) in zip(lines, frames, strict=True):
            line["colour"] = {"drift": words, "corrected": corrected}
            line["measures"]["colour_drift"] = drift
        path.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    record = orjson.loads((folder / "run.json").read_bytes())
    record["settings"] |= settings
    (folder / "run.json").write_bytes(orjson.dumps(record))
    return load_run(folder)


IN: Told = [(0.0, WITHIN, None)] * 24
OUT: Told = [(0.0, WITHIN, None)] * 8 + [(0.1, "much darker, more magenta", "put right")] * 16
BACK: Told = [(0.1, "paler", "put right")] + [(0.0, WITHIN, None)] * 23


def test_a_line_a_loop(tmp_path):
    """How it ended, against what, how often it was outside, and whether that was put right."""
    run = coloured(tmp_path / "run", {"without": OUT, "with": IN}, remember_seeds=True, colour="off")
    assert colour_lines(run) == [
        (
            "Without memory: colours at the end much darker, more magenta than the seed pictures, "
            "outside of them in 16 of 24 frames."
        ),
        "With memory: colours stayed within those of the seed pictures; no correction was on.",
    ]


@pytest.mark.parametrize(
    ("told", "settings", "expected"),
    [
        (OUT, {"colour": "soft"}, "; the soft correction acted 16 times."),
        (BACK, {"colour": "hard"}, "; the hard correction acted once."),
        (IN, {"colour": "hard"}, "; the hard correction never acted."),
        (IN, {"remember_seeds": False}, "Colours stayed within those of the start picture."),
        (IN, {}, "Colours stayed within those of the pictures that it was measured against."),
        (
            BACK,
            {"remember_seeds": True},
            "those of the seed pictures at the end, outside of them in 1 of 24 frames.",
        ),
        (OUT[8:], {"remember_seeds": True}, "than the seed pictures, outside of them in every frame."),
    ],
)
def test_what_a_single_loop_says(tmp_path, told, settings, expected):
    """Other ends, other anchors, other corrections; what is not known is not said."""
    (line,) = colour_lines(coloured(tmp_path / "run", {"with": told}, **settings))
    assert expected in line
    assert ("correction" in line) == ("colour" in settings)


def test_the_page_tells_and_draws_it(tmp_path):
    """The lines stand in the head, the chart among the others; words of the journal cannot become markup."""
    hostile: Told = [(0.1, HOSTILE, HOSTILE)] * 24
    run = coloured(tmp_path / "run", {"without": IN, "with": hostile}, remember_seeds=True, colour="soft")
    page = Page(render_html(run))
    assert "Without memory: colours stayed within those of the seed pictures." in page.text
    assert "the soft correction acted 24 times." in page.text
    assert "Colour drift over time" in page.text
    assert not page.has("script")
    assert page.stack == []
    chart = drift_chart(run)
    assert chart is not None
    assert [[y for _, y in series.points] for series in chart.series] == [[0.0] * 24, [0.1] * 24]


def test_a_journal_of_before_colours_says_nothing(run):
    """Neither line nor chart."""
    assert colour_lines(run) == []
    assert drift_chart(run) is None
    assert "olour" not in Page(render_html(run)).text


def test_a_real_run_tells_its_colours(dreamt):
    """What `dream` writes today: a line for both loops, against the seeds that the policy remembers."""
    without, remembering = colour_lines(load_run(dreamt))
    assert without.startswith("Without memory: colours ")
    assert "the seed pictures" in without
    assert remembering.endswith("; no correction was on.")
