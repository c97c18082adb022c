from __future__ import annotations

import numpy as np
import pytest
from PIL import ImageColor
from report_runs import tell, write_run

from reverie.report.contact_sheet import contact_sheet, sheet_numbers
from reverie.report.drawing import PAPER, QUIET, arm_colour, legible, shorten
from reverie.report.run import load_run
from reverie.report.states import LOOKS


def has_colour(image, colour):
    """Whether any pixel has exactly that colour."""
    return bool((np.asarray(image) == ImageColor.getrgb(colour)).all(axis=2).any())


def test_shows_both_arms_at_the_same_frames(run):
    """Two rows of twelve an arm, the first and the last frame among them."""
    numbers = sheet_numbers(run)
    assert len(numbers) == 24
    assert (numbers[0], numbers[-1]) == (0, 40)
    sheet = contact_sheet(run)
    assert sheet.mode == "RGB"
    assert sheet.width == 2000
    assert sheet.getpixel((0, 0)) == ImageColor.getrgb(PAPER)


def test_tiles_are_the_frames(run):
    """The middle of the first tile has the colour of the middle of the start image."""
    sheet = np.asarray(contact_sheet(run), dtype=float)
    start = np.asarray(run.arms[0].picture(0), dtype=float)
    tile = sheet[238 + 61 : 238 + 81, 82 + 61 : 82 + 81].mean(axis=(0, 1))
    assert np.abs(tile - start[14:18, 14:18].mean(axis=(0, 1))).max() < 12


def test_injections_are_marked_in_the_arms_colour(tmp_path):
    """A tick stands where the memory came in; without injections there are neither ticks nor footer."""
    plain = load_run(write_run(tmp_path / "plain", arms=("without",)))
    both = load_run(write_run(tmp_path / "with", arms=("with",)))
    colour = ImageColor.getrgb(arm_colour(1))
    sheet = contact_sheet(both)
    # Injected after frame 15: tile 10 shows frame 16, so its tick stands at that tile's right edge.
    assert sheet_numbers(both)[9] == 16
    assert [sheet.getpixel((1606 + at, 388)) == colour for at in range(5)] == [False, True, True, True, False]
    assert contact_sheet(plain).height < sheet.height


def test_a_missing_frame_leaves_a_quiet_field(run_folder):
    """A frame that is gone does not shift the others."""
    assert not has_colour(contact_sheet(load_run(run_folder)), QUIET)
    (run_folder / "without" / "frames" / "000000.png").unlink()
    assert has_colour(contact_sheet(load_run(run_folder)), QUIET)


def test_adapts_to_arms_and_frames(tmp_path):
    """A run of three arms shows one row each; one of no frames the start image only."""
    three = load_run(write_run(tmp_path / "three", arms=("without", "with", "random"), frames=20))
    assert len(sheet_numbers(three)) == 12
    none = load_run(write_run(tmp_path / "none", frames=0))
    assert list(sheet_numbers(none)) == [0]
    assert contact_sheet(none).width == 2000


def test_is_the_same_every_time(run):
    """The same run gives the same pixels."""
    assert contact_sheet(run) == contact_sheet(run)


@pytest.mark.parametrize("name", LOOKS)
def test_states_of_any_length_are_drawn(tmp_path, name):
    """Each state, a frame long or many, is drawn in its colour; the sheet grows by a band and its words."""
    folder = write_run(tmp_path / "run", frames=276, size=2, arms=("without",))
    before = contact_sheet(load_run(folder))
    lengths = [part for at in range(1, 23) for part in ((name, at), ("elsewhere", 1))]
    sheet = contact_sheet(load_run(tell(folder, "without", *lengths, alarms=[50, 90])))
    assert sheet.height - before.height == 78
    assert has_colour(sheet, LOOKS[name].dark)


def test_letters_the_font_lacks_are_replaced():
    """A title in another script is drawn with what the font has, never with empty boxes."""
    assert legible("Dream · one…") == "Dream · one…"
    assert legible("größe") == "gro?e"
    assert legible("夢\n") == "? "


def test_a_long_title_is_cut():
    """A title that does not fit ends with an ellipsis."""
    assert shorten("short", 20, 400) == "short"
    cut = shorten("a very long title " * 20, 20, 400)
    assert cut.endswith("…")
    assert len(cut) < 60
