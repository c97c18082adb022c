from __future__ import annotations

import pytest
from report_runs import SUMMARY, write_run

from reverie.report.run import load_run
from reverie.report.verdict import MEASURES, Measure, key_figures, verdict


@pytest.fixture
def judge(tmp_path):
    """The verdict on a run whose arms have these effective images in their last 100 frames."""

    def told(without, remembering, *, frames=3, **changes):
        summary = {
            "without": {"effective_images_last_100": without, "hard_cuts": 0},
            "with": {"effective_images_last_100": remembering, **changes.pop("more", {})},
        }
        return verdict(load_run(write_run(tmp_path / "run", frames=frames, summary=summary, **changes)))

    return told


def test_better(judge):
    """Clearly more variety with memory is said with both numbers."""
    told = judge(1.8, 6.2)
    assert told.kind == "better"
    assert told.headline == (
        "With memory the loop showed 6.2 effective images in its 3 frames; without it, 1.8."
    )
    assert told.notes == ("This is one run with one seed: a direction, not a proof.",)


def test_the_same_and_collapsed(judge):
    """When both loops collapse no benefit is claimed, and the specification's policy is explained."""
    told = judge(1.8, 1.9)
    assert told.kind == "same"
    assert told.headline.startswith("The memory did not keep this loop from collapsing: 1.9 effective images")
    assert any("“spec” is the specification's own" in note for note in told.notes)


def test_the_same_and_varied(judge):
    """When both loops stay varied nothing is said of collapse."""
    told = judge(9.0, 9.4)
    assert told.kind == "same"
    assert told.headline.startswith("The memory made no clear difference to this loop: 9.4")
    assert "collaps" not in told.headline


def test_worse(judge):
    """A loop that lost variety with memory is reported as such."""
    told = judge(6.0, 2.0)
    assert told.kind == "worse"
    assert told.headline == (
        "The loop was less varied with memory: 2.0 effective images in its 3 frames, against 6.0 without it."
    )


@pytest.mark.parametrize(
    ("without", "remembering", "kind"),
    [
        (1.0, 1.4, "same"),
        (1.0, 1.6, "better"),
        (10.0, 11.0, "same"),
        (10.0, 12.5, "better"),
        (1.6, 1.0, "worse"),
    ],
)
def test_a_difference_must_be_a_quarter_and_half_an_image(judge, without, remembering, kind):
    """Differences that the next seed could undo are no differences."""
    assert judge(without, remembering).kind == kind


def test_hard_cuts_are_the_price(judge):
    """Variety bought with visible jumps is said to be."""
    told = judge(1.8, 9.0, more={"hard_cuts": 22})
    assert "It jumped visibly 22 times; without memory, never." in told.notes


def test_little_is_called_little(judge):
    """Better than nothing is not called good."""
    assert any("still little variety" in note for note in judge(1.0, 2.0).notes)


def test_long_runs_speak_of_the_last_100_frames(tmp_path):
    """The span that the figure is about is named as it is."""
    folder = write_run(tmp_path / "run", frames=100, size=4)
    assert "in its last 100 frames" in verdict(load_run(folder)).headline


def test_an_interrupted_run_says_so(judge):
    """After Ctrl-C the report does not pretend to be whole."""
    assert "The run was stopped early; this is what there was." in judge(1.0, 5.0, finished=False).notes


def test_arms_of_different_length_are_pointed_out(run_folder):
    """Ctrl-C in the second arm leaves arms that are not quite comparable."""
    journal = run_folder / "with" / "journal.jsonl"
    journal.write_bytes(b"\n".join(journal.read_bytes().splitlines()[:20]) + b"\n")
    for path in sorted((run_folder / "with" / "frames").iterdir())[21:]:
        path.unlink()
    notes = verdict(load_run(run_folder)).notes
    assert "The arms differ in length (40 and 20 frames), so compare them with care." in notes


def test_one_arm_is_not_compared(tmp_path):
    """A single loop gets its figure and no claim about memory."""
    told = verdict(load_run(write_run(tmp_path / "run", arms=("with",))))
    assert told.kind == "single"
    assert told.headline == "The loop with memory showed 6.2 effective images in its 40 frames."
    assert "no arm to compare it with" in told.notes[0]


def test_the_best_of_several_speaks_by_name(tmp_path):
    """With several memories the best one is compared, and named."""
    summary = {**SUMMARY, "random": {"effective_images_last_100": 8.0}}
    run = load_run(write_run(tmp_path / "run", arms=("without", "with", "random"), summary=summary))
    assert verdict(run).headline.startswith("With memory (Random memory) the loop showed 8.0")


def test_nothing_made_is_nothing_claimed(tmp_path):
    """No frame, or no figure: said in words."""
    assert verdict(load_run(write_run(tmp_path / "a", frames=0))).headline.startswith("No frame was made yet")
    few = load_run(write_run(tmp_path / "b", frames=2, summary={}))
    assert verdict(few).kind == "empty"
    assert verdict(few).headline == "2 frames were made, too few for a figure."


def test_key_figures_are_in_reading_order(run):
    """Known figures come in order, with injections counted from the journal; unknown ones come last."""
    run.arms[0].summary["travel_ratio"] = 2.5
    rows = key_figures(run)
    assert [measure.name for measure, _ in rows] == [*(m.name for m in MEASURES), "travel_ratio"]
    assert rows[0][1] == [1.8, 6.2]
    assert {measure.name: values for measure, values in rows}["injections"] == [0.0, 2.0]
    assert rows[-1][0].label == "Travel ratio"
    assert rows[-1][1] == [2.5, None]


@pytest.mark.parametrize(
    ("style", "value", "expected"),
    [
        ("number", 6.24, "6.2"),
        ("ratio", 0.314, "0.31"),
        ("share", 0.124, "12 %"),
        ("count", 1900.0, "1,900"),
        ("number", None, "\N{EN DASH}"),
    ],
)
def test_figures_are_shown_in_their_style(style, value, expected):
    """Each kind of figure is rounded as people read it."""
    assert Measure("x", "X", "", style).show(value) == expected
