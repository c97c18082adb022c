"""Parts of the contact sheet below the frames: what a loop was doing over time, and its memory at the end."""

from __future__ import annotations

from PIL import Image, ImageDraw

from reverie.report.drawing import INK, PAPER, QUIET, SOFT, arm_colour, font, rounded, shorten, tile
from reverie.report.memory import Kept, Memory
from reverie.report.run import Arm, evenly
from reverie.report.states import alarms, coarse, look, shares, spans

__all__ = ["STATES", "draw_memory", "draw_states", "memory_height", "memory_rows"]

# Pixels of a picture that is shown at half its size.
STATES = 78
"""Height of `draw_states`."""

_BAND = 14
_TILE = 68
_ROW_GAP = 12
_COLUMNS = 24
_MOST_ROWS = 4
_HEAD = 76
_FOOT = 30
_BADGE = 17.0  # font size of how often a memory was used


def draw_states(sheet: Image.Image, arm: Arm, last: int, *, left: int, top: int, width: int) -> None:
    """A band over the whole width, frame 0 at its left end, and the shares in words below it."""
    draw = ImageDraw.Draw(sheet)
    band = Image.new("RGB", (width, _BAND), QUIET)
    for span in coarse(spans(arm.records), width // 4):
        begin, end = (round(width * at / max(1, last)) for at in (max(0, span.first - 1), span.last))
        _bar(band, span.name, begin, max(begin + 1, end - 2))
    sheet.paste(band, (left, top), rounded(band.size, 4))
    for number in alarms(arm):
        mark = left + round(width * number / max(1, last))
        draw.polygon(
            [(mark, top + _BAND + 3), (mark + 6, top + _BAND + 13), (mark - 6, top + _BAND + 13)], INK
        )
    _legend(sheet, arm, left=left, top=top + 39, width=width - 330)
    draw.text((left + width, top + 52), _alarm_words(arm), SOFT, font(20), anchor="rs")


def _legend(sheet: Image.Image, arm: Arm, *, left: int, top: int, width: int) -> None:
    """The states of an arm with their shares, as many as there is room for."""
    draw, x = ImageDraw.Draw(sheet), float(left)
    for name, share in shares(arm).items():
        piece = Image.new("RGB", (26, 13), QUIET)
        _bar(piece, name, 0, 26)
        words = shorten(f"{name} {share:.0%}".replace("%", " %"), 20, 300)
        long = font(20).getlength(words)
        if x + 34 + long > left + width:
            break
        sheet.paste(piece, (round(x), top), rounded(piece.size, 4))
        draw.text((x + 34, top + 13), words, SOFT, font(20), anchor="ls")
        x += 34 + long + 30


def _bar(band: Image.Image, name: str, x: int, end: int) -> None:
    """A piece of a band in the colour of a state; lines through it as on the page."""
    draw, seen = ImageDraw.Draw(band), look(name)
    draw.rectangle((x, 0, end - 1, band.height - 1), fill=seen.dark)
    if not seen.texture:
        return
    thick, dashes = seen.texture
    above, at = round((band.height - thick) / 2), x + 3.0
    dash, space = map(float, dashes.split()) if dashes else (max(1.0, end - 6.0 - x), 1.0)
    while at + dash <= end - 3:  # whole dashes only
        last = max(round(at), round(at + dash) - 1)
        draw.rectangle((round(at), above, last, band.height - 1 - above), fill=PAPER)
        at += dash + 2 * space


def _alarm_words(arm: Arm) -> str:
    raised = alarms(arm)
    if not raised:
        return ""
    more = f", {len(raised)} times in all" if len(raised) > 1 else ""
    return f"alarm at frame {raised[0]:,}{more}"


# ------------------------------------------------------------------------------------- memory


def memory_rows(memory: Memory, aspect: float) -> tuple[int, int]:
    """How many rows of a memory are drawn, and how high one is; ``aspect`` is height by width of a frame."""
    rows = min(_MOST_ROWS, -(-len(memory.kept) // _COLUMNS))
    return rows, round(_TILE * min(1.8, max(0.5, aspect)))


def memory_height(memory: Memory, aspect: float) -> int:
    """Height of `draw_memory`."""
    rows, height = memory_rows(memory, aspect)
    return _HEAD + rows * (height + _ROW_GAP) + _FOOT


def draw_memory(
    sheet: Image.Image, arm: Arm, slot: int, memory: Memory, *, left: int, top: int, width: int, aspect: float
) -> None:
    """All pictures of a memory, oldest first; a ring around what is pinned, a number on what was used."""
    draw = ImageDraw.Draw(sheet)
    rows, height = memory_rows(memory, aspect)
    shown = [memory.kept[at] for at in evenly(0, len(memory.kept) - 1, rows * _COLUMNS)]
    title = shorten(f"{arm.title}: what was remembered at the end", 28, 1000)
    draw.text((left, top + 40), title, INK, font(28), anchor="ls")
    draw.text((left + width, top + 40), _memory_words(memory, len(shown)), SOFT, font(20), anchor="rs")
    for at, kept in enumerate(shown):
        row, column = divmod(at, _COLUMNS)
        x, y = (
            left + round(column * (width - _TILE) / (_COLUMNS - 1)),
            top + _HEAD + row * (height + _ROW_GAP),
        )
        picture, mask = tile(arm.image(kept.image), (_TILE, height), 6)
        sheet.paste(picture, (x, y), mask)
        if kept.pinned:
            box = (x - 3, y - 3, x + _TILE + 2, y + height + 2)
            draw.rounded_rectangle(box, 8, outline=arm_colour(slot), width=2)
        if kept.uses:
            _badge(draw, kept, x + _TILE - 3, y + height - 3)


def _badge(draw: ImageDraw.ImageDraw, kept: Kept, right: int, bottom: int) -> None:
    words = f"{kept.uses:,}"
    wide = round(font(_BADGE).getlength(words)) + 10
    draw.rounded_rectangle((right - wide, bottom - 21, right, bottom), 9, fill=PAPER)
    draw.text((right - wide + 5, bottom - 5), words, INK, font(_BADGE), anchor="ls")


def _memory_words(memory: Memory, shown: int) -> str:
    count = len(memory.kept)
    words = [f"{count:,} picture{'s' if count != 1 else ''}"]
    if shown < count:
        words.append(f"{shown} of them here")
    if any(kept.pinned for kept in memory.kept):
        words.append("a ring: pinned")
    if any(kept.uses for kept in memory.kept):
        words.append("a number: how often it was gone back to")
    return " · ".join(words)
