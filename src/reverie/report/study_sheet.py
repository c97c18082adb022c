"""The contact sheet of a study: what every arm made of the same start, one row an arm, columns over time.

It is drawn from the strips that are beside the results. Which loop is shown is not chosen by hand, nor by how
well ours did: of the seeds that every arm has, it is the one at which the loop left alone (else the first
arm of the table) has the median of its effective images; of an even number the lower middle, of equals the
lower seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from reverie.errors import InputError
from reverie.report.drawing import INK, PAPER, QUIET, SOFT, arm_colour, font, rounded, shorten
from reverie.report.study_figures import Arms, arm_slot, arms_in_order
from reverie.storage import storage_error
from reverie.study.design import Trial
from reverie.study.run import strip_path
from reverie.study.statistics import Group
from reverie.study.tables import group_title

__all__ = ["SheetRow", "StudySheet", "draw_sheet", "representative_seed", "study_sheet"]

_GAP, _ROW_GAP, _MARGIN, _NAMES, _HEAD = 4, 14, 48, 268, 176
_MOST_HEADS = 8  # frame numbers above the columns


@dataclass(frozen=True, slots=True)
class SheetRow:
    """One arm.

    Attributes:
        arm: Its name.
        effective: Effective images of this loop; None where it did not run.
        cuts: Hard cuts of this loop; None where it did not run.
        strip: Its pictures beside each other, squares; None where there are none.
    """

    arm: str
    effective: float | None
    cuts: float | None
    strip: Image.Image | None

    @property
    def facts(self) -> str:
        """Effective images and hard cuts, in words."""
        if self.effective is None or self.cuts is None:
            return "not run yet"
        cuts = "no cut" if self.cuts == 0 else f"{self.cuts:.0f} cut{'' if self.cuts == 1 else 's'}"
        return f"{self.effective:.1f} effective, {cuts}"


@dataclass(frozen=True, slots=True)
class StudySheet:
    """What a sheet shows.

    Attributes:
        group: Generator and number of known pictures.
        seed: Of the loops that are shown.
        chosen_by: The arm whose median it is.
        frames: Of each loop.
        rows: In the order of the tables.
    """

    group: Group
    seed: int
    chosen_by: str
    frames: int
    rows: Sequence[SheetRow]

    @property
    def side(self) -> int:
        """Of a picture, in pixels."""
        return next((row.strip.height for row in self.rows if row.strip is not None), 64)

    @property
    def numbers(self) -> list[int]:
        """The frame of every column, counted from 1."""
        wide = max((row.strip.width for row in self.rows if row.strip is not None), default=0)
        return [int(at) + 1 for at in np.linspace(0, self.frames - 1, wide // self.side).round()]


def representative_seed(arms: Arms) -> tuple[int, str]:
    """The seed whose loops are shown, and the arm that it is the median of; see the module's words.

    Args:
        arms: At least one arm with at least one seed.
    """
    names = arms_in_order(arms)
    reference = "none" if "none" in names else names[0]
    shared = set.intersection(*(set(arms[name]) for name in names)) or set(arms[reference])
    by_value = sorted(shared, key=lambda seed: (arms[reference][seed]["vendi"], seed))
    return by_value[(len(by_value) - 1) // 2], reference


def study_sheet(group: Group, arms: Arms, folder: Path, frames: int) -> StudySheet:
    """Gather the rows of a group's sheet.

    Args:
        group: Generator and number of known pictures.
        arms: Its figures; at least one arm with at least one seed.
        folder: Of the study.
        frames: Of each loop.

    Raises:
        InputError: A strip is no picture.
        StorageError: The disk refused.
    """
    seed, reference = representative_seed(arms)
    rows = []
    for name in arms_in_order(arms):
        figures = arms[name].get(seed)
        strip = None if figures is None else _strip(strip_path(folder, Trial(name, *group, seed, frames)))
        effective, cuts = (None if figures is None else figures[key] for key in ("vendi", "hard_cuts"))
        rows.append(SheetRow(name, effective, cuts, strip))
    return StudySheet(group, seed, reference, frames, rows)


def _strip(path: Path) -> Image.Image | None:
    """The strip in that file; None where there is no such file."""
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except FileNotFoundError:
        return None
    except OSError as exc:
        if exc.errno is not None:
            raise storage_error(f"read {path}", exc) from exc
        damaged: Exception = exc  # Pillow's own, of what is no picture or is cut short
    except (SyntaxError, ValueError) as exc:
        damaged = exc
    raise InputError(
        f"{path} is no picture: delete it and the .json beside it, and it is run again"
    ) from damaged


def draw_sheet(sheet: StudySheet) -> Image.Image:
    """The sheet as an RGB picture, about 2,000 pixels wide for 24 columns, meant to be shown at half that."""
    step, tall = sheet.side + _GAP, sheet.side + _ROW_GAP
    width = max(1200, 2 * _MARGIN + _NAMES + len(sheet.numbers) * step - _GAP)
    canvas = Image.new("RGB", (width, _HEAD + len(sheet.rows) * tall + _MARGIN - _ROW_GAP), PAPER)
    draw = ImageDraw.Draw(canvas)
    _heading(draw, sheet, width - 2 * _MARGIN)
    every = max(1, -(-len(sheet.numbers) // _MOST_HEADS))
    for column, number in enumerate(sheet.numbers):
        if column % every == 0:
            draw.text(
                (_MARGIN + _NAMES + column * step, _HEAD - 12), f"{number:,}", SOFT, font(19), anchor="ls"
            )
    for at, row in enumerate(sheet.rows):
        _row(canvas, draw, row, _HEAD + at * tall, sheet)
    return canvas


def _heading(draw: ImageDraw.ImageDraw, sheet: StudySheet, room: int) -> None:
    title = shorten(group_title(sheet.group), 42, room)
    draw.text((_MARGIN, 78), title, INK, font(42), anchor="ls")
    words = (
        f"The same start and noise in every row: seed {sheet.seed}, the median loop of {sheet.chosen_by!r}. "
        f"{len(sheet.numbers)} of {sheet.frames:,} frames, from left to right."
    )
    draw.text((_MARGIN, 116), shorten(words, 23, room), SOFT, font(23), anchor="ls")


def _row(canvas: Image.Image, draw: ImageDraw.ImageDraw, row: SheetRow, top: int, sheet: StudySheet) -> None:
    middle, side = top + sheet.side // 2, sheet.side
    name = shorten(row.arm, 26, _NAMES - 20)
    draw.text((_MARGIN, middle - 3), name, arm_colour(arm_slot(row.arm)), font(26), anchor="ls")
    draw.text((_MARGIN, middle + 22), shorten(row.facts, 19, _NAMES - 20), SOFT, font(19), anchor="ls")
    mask = rounded((side, side), 5)
    for column in range(len(sheet.numbers)):
        x = _MARGIN + _NAMES + column * (side + _GAP)
        picture = Image.new("RGB", (side, side), QUIET)
        if row.strip is not None:
            picture = row.strip.crop((column * side, 0, (column + 1) * side, side))
        canvas.paste(picture, (x, top), mask)
