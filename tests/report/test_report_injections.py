from __future__ import annotations

import re

import orjson
import pytest
from report_runs import write_run

from reverie.report.injections import ended, injections_section
from reverie.report.run import load_run

WAY = {"way": {"leg": {"step": 1}}}
CUT = {"way": {"leg": None}}
OUT = {"cache_id": "cache_00003", "kind": "memory", "similarity": -0.001, "source": "frames/000002.png"}
NEW = {"cache_id": None, "kind": "imagined", "similarity": 0.2, "source": "imagined/000004.png"}


def run_of(tmp_path, *lines, frames=8):
    """A run of one arm with memory and these lines in its journal."""
    folder = write_run(tmp_path / "run", frames=frames, size=8, arms=("with",))
    (folder / "with" / "journal.jsonl").write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    return load_run(folder)


def text_of(run):
    """The section's words, in reading order."""
    return " ".join(re.sub(r"<[^>]+>", " ", injections_section(run)).split())


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([{"frame": 4, "injected": OUT, "state": WAY}, {"frame": 7, "arrived": True}], (7, "")),
        ([{"frame": 4, "injected": OUT, "state": WAY}, {"frame": 8}], (8, "on the way")),
        ([{"frame": 8, "injected": OUT, "state": WAY}], (8, "not made")),
        ([{"frame": 4, "injected": OUT, "state": CUT}], (5, "")),
        ([{"frame": 8, "injected": OUT, "state": CUT}], (9, "not made")),
        (
            [{"frame": 4, "injected": OUT}, {"frame": 6, "injected": OUT}, {"frame": 7, "arrived": True}],
            (5, ""),
        ),
    ],
)
def test_where_an_injection_ends(tmp_path, lines, expected):
    """A way ends where the journal says so, a cut at the next frame; older journals know cuts only."""
    (arm,) = run_of(tmp_path, *lines).arms
    assert ended(arm, arm.injections[0]) == expected


def test_a_way_is_told_in_three_pictures(tmp_path):
    """The frame it left from, what it went towards, the frame at the end, with numbers and the reason."""
    run = run_of(
        tmp_path,
        {"frame": 4, "injected": OUT, "state": WAY, "reason": "the last frames are alike"},
        {"frame": 7, "arrived": True},
    )
    section = injections_section(run)
    assert [
        f'alt="{words}"' in section for words in ("Frame 4", "Towards: frame 2 cache_00003", "Frame 7")
    ] == [True] * 3
    assert (
        "frame 4 frame 2 cache_00003 frame 7 In 3 frames, similarity 0.00 the last frames are alike"
        in text_of(run)
    )


def test_something_imagined_says_so(tmp_path):
    """A picture that was never shown has no id; that its file is gone is no harm."""
    words = text_of(run_of(tmp_path, {"frame": 4, "injected": NEW, "state": WAY}))
    assert "frame 4 imagined never shown before frame 8 on the way The run ended on the way" in words


def test_a_real_run_arrives(dreamt):
    """In a run of today every way that ended does so after its start, at a frame that is there."""
    arm = load_run(dreamt).arms[1]
    ends = [ended(arm, record) for record in arm.injections]
    assert ends
    assert all(record.frame < end <= arm.last for record, (end, _) in zip(arm.injections, ends, strict=True))


def test_a_loop_without_injections_has_no_section(tmp_path):
    """Nothing was injected, nothing is told."""
    assert injections_section(run_of(tmp_path, {"frame": 1})) == ""
