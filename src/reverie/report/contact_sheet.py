"""The contact sheet: every arm's frames under each other, so that one look tells the story."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from reverie.report.charts import arm_slots
from reverie.report.drawing import INK, PAPER, SOFT, arm_colour, font, rounded, shorten, tile
from reverie.report.memory import Memory, load_memory
from reverie.report.run import Arm, Run, evenly
from reverie.report.sheet_parts import STATES, draw_memory, draw_states, memory_height
from reverie.report.states import has_states

__all__ = ["contact_sheet", "sheet_numbers"]

# Everything is in pixels of a picture that is shown at half its size (2x density).
COLUMNS = 12
TILE = 142
GAP = 12
MARGIN = 82
RADIUS = 8
HEADER = 154
ARM_HEAD = 84
NUMBER = 56  # below a tile: the ticks and the frame number
FOOTER = 64


@dataclass(frozen=True, slots=True)
class _Layout:
    columns: int
    rows: int
    arms: int
    tile: tuple[int, int]
    footer: bool
    states: bool = False
    memories: int = 0

    @property
    def width(self) -> int:
        return 2 * MARGIN + COLUMNS * (TILE + GAP) - GAP

    @property
    def band(self) -> int:
        return ARM_HEAD + self.rows * (self.tile[1] + NUMBER) + 16 + (STATES if self.states else 0)

    @property
    def below(self) -> int:
        """Where the arms end."""
        return HEADER + self.arms * self.band

    @property
    def height(self) -> int:
        return self.below + self.memories + (FOOTER if self.footer else 24)


def contact_sheet(run: Run) -> Image.Image:
    """Draw the sheet: for every arm its title, its key figure and frames evenly sampled over the run.

    All arms show the same frame numbers; a frame that is missing leaves a quiet field. A tick below
    a frame marks a memory that was injected since the frame before it, in proportion to when. Below its
    frames stands what an arm was doing over time, and at the end what its memory holds, where the run
    says so.

    Returns:
        An RGB picture, 2,000 pixels wide, meant to be shown at half that.
    """
    numbers = sheet_numbers(run)
    rows = -(-len(numbers) // COLUMNS)
    footer = any(arm.injections for arm in run.arms)
    memories = _memories(run)
    aspect = run.size[1] / run.size[0]
    layout = _Layout(
        -(-len(numbers) // rows),
        rows,
        len(run.arms),
        _tile_size(run),
        footer,
        has_states(run),
        sum(memory_height(memory, aspect) for _, _, memory in memories),
    )
    room = layout.width - 2 * MARGIN
    sheet = Image.new("RGB", (layout.width, layout.height), PAPER)
    draw = ImageDraw.Draw(sheet)
    _header(draw, run, layout)
    for at, (arm, slot) in enumerate(zip(run.arms, arm_slots(run.arms), strict=True)):
        top = HEADER + at * layout.band
        _arm_head(draw, arm, arm_colour(slot), layout, top)
        _arm_tiles(sheet, arm, arm_colour(slot), numbers, layout=layout, top=top + ARM_HEAD)
        if layout.states:
            low = top + layout.band - STATES
            draw_states(sheet, arm, run.last, left=MARGIN, top=low, width=room)
    top = layout.below
    for arm, slot, memory in memories:
        draw_memory(sheet, arm, slot, memory, left=MARGIN, top=top, width=room, aspect=aspect)
        top += memory_height(memory, aspect)
    if footer:
        _footer(draw, run, layout)
    return sheet


def _memories(run: Run) -> list[tuple[Arm, int, Memory]]:
    """The arms that remember something, each with its slot and its memory."""
    loaded = [(arm, slot, load_memory(arm)) for arm, slot in zip(run.arms, arm_slots(run.arms), strict=True)]
    return [(arm, slot, memory) for arm, slot, memory in loaded if memory is not None and memory.kept]


def sheet_numbers(run: Run) -> Sequence[int]:
    """The frame numbers on the sheet: two rows of twelve, one row each for more than two arms."""
    rows = 2 if len(run.arms) <= 2 else 1
    return evenly(0, run.last, COLUMNS * rows)


def _tile_size(run: Run) -> tuple[int, int]:
    width, height = run.size
    return TILE, round(TILE * min(1.8, max(0.5, height / width)))


def _header(draw: ImageDraw.ImageDraw, run: Run, layout: _Layout) -> None:
    room = layout.width - 2 * MARGIN
    draw.text((MARGIN, 92), shorten(headline(run), 48, room), INK, font(48), anchor="ls")
    facts = shorten(" · ".join(sheet_facts(run)), 24, room)
    draw.text((MARGIN, 136), facts, SOFT, font(24), anchor="ls")


def headline(run: Run) -> str:
    """What the sheet shows, in a few words."""
    without = any(arm.policy == "none" for arm in run.arms)
    remembers = any(arm.policy != "none" for arm in run.arms)
    if without and remembers:
        return "The same loop, without and with memory"
    return "One loop, without memory" if without else "One loop, with memory"


def sheet_facts(run: Run) -> list[str]:
    """The settings that a reader wants first."""
    facts = [f"{run.last:,} frames"] if run.last else ["no frame made yet"]
    facts += [f"{key} {run.settings[key]}" for key in ("strength", "seed") if key in run.settings]
    facts += [f"{key} {run.settings[key]}" for key in ("generator", "policy") if run.settings.get(key)]
    if run.settings.get("remember_seeds"):
        facts.append("seeds in memory")
    return facts if run.finished else [*facts, "stopped early"]


def _arm_head(draw: ImageDraw.ImageDraw, arm: Arm, colour: str, layout: _Layout, top: int) -> None:
    base = top + 58
    draw.bitmap((MARGIN, base - 22), rounded((20, 20), 10), fill=colour)
    draw.text((MARGIN + 32, base), shorten(arm.title, 34, 800), INK, font(34), anchor="ls")
    figure = arm.summary.get("effective_images_last_100")
    if figure is None:
        return
    right = layout.width - MARGIN
    words = f" effective images in {arm.tail}"
    draw.text((right, base), words, SOFT, font(24), anchor="rs")
    draw.text((right - font(24).getlength(words), base), f"{figure:.1f}", colour, font(44), anchor="rs")


def _arm_tiles(
    sheet: Image.Image, arm: Arm, colour: str, numbers: Sequence[int], *, layout: _Layout, top: int
) -> None:
    draw = ImageDraw.Draw(sheet)
    width, height = layout.tile
    followers = [record.frame + 1 for record in arm.injections]
    before = -1
    for at, number in enumerate(numbers):
        row, column = divmod(at, layout.columns)
        x, y = MARGIN + column * (TILE + GAP), top + row * (height + NUMBER)
        picture, mask = tile(arm.picture(number), layout.tile, RADIUS)
        sheet.paste(picture, (x, y), mask)
        for follower in followers:
            if before < follower <= number:
                mark = x + round((width - 3) * (follower - before) / (number - before))
                draw.rectangle((mark, y + height + 5, mark + 2, y + height + 13), fill=colour)
        label = f"{number:,}" if number else "start"
        draw.text((x, y + height + 32), label, SOFT, font(19), anchor="ls")
        before = number


def _footer(draw: ImageDraw.ImageDraw, run: Run, layout: _Layout) -> None:
    base = layout.height - 44
    slots = zip(run.arms, arm_slots(run.arms), strict=True)
    x = float(MARGIN)
    for arm, slot in slots:
        if arm.injections:
            draw.rectangle((x, base - 12, x + 2, base - 1), fill=arm_colour(slot))
            x += 10
    draw.text((x + 4, base), "a memory was injected here", SOFT, font(20), anchor="ls")
    draw.text((layout.width - MARGIN, base), "reverie", SOFT, font(20), anchor="rs")
