"""The contact sheet of a study: which loop it shows, and what stands on it."""

from __future__ import annotations

import pytest
from PIL import Image
from study_results import results, write_strips

from reverie.errors import InputError
from reverie.report.study_sheet import draw_sheet, representative_seed, study_sheet
from reverie.study.design import Trial
from reverie.study.run import strip_path
from reverie.study.statistics import grouped

GROUP = ("latent-35", 3)


def arms_of(found):
    """The figures of the one group."""
    return grouped(found)[GROUP]


def test_the_loop_that_is_shown_is_the_median_of_none():
    """Not that of ours; of an even number the lower middle, of equals the lower seed."""
    assert representative_seed(arms_of(results(seeds=(2, 0, 1)))) == (1, "none")
    assert representative_seed(arms_of(results(seeds=(7, 4, 5, 6)))) == (5, "none")
    same = results(seeds=(9, 3, 6))
    for each in same:
        each["figures"]["vendi"] = 4.0
    assert representative_seed(arms_of(same)) == (6, "none")
    assert representative_seed(arms_of(results(("control", "wander")))) == (1, "control")


def test_a_seed_that_every_arm_has_is_preferred():
    """Half a study: the median of the loops that can be compared; without any, of the first arm's."""
    found = results(seeds=(0, 1, 2))
    some = [each for each in found if each["trial"]["arm"] == "none" or each["trial"]["seed"] == 2]
    assert representative_seed(arms_of(some)) == (2, "none")
    apart = results(("none",), (0, 1, 2)) + results(("wander",), (5,))
    assert representative_seed(arms_of(apart)) == (1, "none")


def test_a_row_for_each_arm(tmp_path):
    """In the order of the tables, with the figures of that loop and its strip."""
    found = results()
    write_strips(tmp_path, found)
    sheet = study_sheet(GROUP, arms_of(found), tmp_path, 40)
    assert (sheet.seed, sheet.chosen_by, sheet.side) == (1, "none", 16)
    assert [(row.arm, row.facts) for row in sheet.rows] == [
        ("none", "2.2 effective, no cut"),
        ("restart", "8.8 effective, 12 cuts"),
        ("control", "11.0 effective, no cut"),
        ("wander", "16.5 effective, no cut"),
    ]
    assert sheet.numbers == [1, 9, 17, 24, 32, 40]
    assert all(row.strip.getpixel((0, 0)) == (0, 80, 90) for row in sheet.rows)


def test_the_sheet_holds_the_pictures(tmp_path):
    """Each strip's pictures are on it, one row below the other, in the same columns."""
    found = results(seeds=(1,))
    write_strips(tmp_path, found)
    drawn = draw_sheet(study_sheet(GROUP, arms_of(found), tmp_path, 40))
    last = (255 * 5 // 6, 80, 90)
    places = [
        (x, y) for y in range(drawn.height) for x in range(drawn.width) if drawn.getpixel((x, y)) == last
    ]
    assert len({y // 30 for _, y in places}) >= 4
    assert max(x for x, _ in places) - min(x for x, _ in places) < 16


def test_what_is_missing_leaves_a_field(tmp_path):
    """A strip that was deleted, and an arm that did not come that far."""
    found = results(seeds=(1,))
    write_strips(tmp_path, found)
    strip_path(tmp_path, Trial("wander", *GROUP, 1, 40)).unlink()
    apart = [*found, *results(("gentle",), (2,))]
    sheet = study_sheet(GROUP, arms_of(apart), tmp_path, 40)
    assert {row.arm: row.strip is None for row in sheet.rows} == {
        "none": False,
        "restart": False,
        "control": False,
        "wander": True,
        "gentle": True,
    }
    assert sheet.rows[-1].facts == "not run yet"
    assert draw_sheet(sheet).height > 200


def test_a_sheet_without_any_strip(tmp_path):
    """Names and figures, no column."""
    sheet = study_sheet(GROUP, arms_of(results()), tmp_path, 40)
    assert sheet.numbers == []
    assert draw_sheet(sheet).mode == "RGB"


@pytest.mark.parametrize("cut", [0, 20, 100])
def test_a_damaged_strip_is_named(tmp_path, cut):
    """With what to do."""
    found = results(seeds=(1,))
    write_strips(tmp_path, found, columns=24)
    path = strip_path(tmp_path, Trial("none", *GROUP, 1, 40))
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(InputError, match=r"is no picture: delete it and the \.json beside it"):
        study_sheet(GROUP, arms_of(found), tmp_path, 40)


def test_one_cut_is_one(tmp_path):
    """And one frame gives one column."""
    found = results(("restart",), (1,))
    found[0]["figures"]["hard_cuts"] = 1.0
    write_strips(tmp_path, found, columns=1)
    sheet = study_sheet(GROUP, arms_of(found), tmp_path, 40)
    assert (sheet.rows[0].facts, sheet.numbers) == ("8.8 effective, 1 cut", [1])
    with Image.open(strip_path(tmp_path, Trial("restart", *GROUP, 1, 40))) as strip:
        assert strip.size == (16, 16)


def test_a_loop_that_serves_several_numbers_of_pictures_is_on_each_sheet(tmp_path):
    """The arm that knows no seed picture is run once: its strip is found for all."""
    groups = [("latent-35", 3), ("latent-35", 1)]
    found = results(("none", "wander"), (1,), groups)
    write_strips(tmp_path, found)
    assert len(list((tmp_path / "trials").iterdir())) == 3
    for group in groups:
        sheet = study_sheet(group, grouped(found)[group], tmp_path, 40)
        assert all(row.strip is not None for row in sheet.rows)
