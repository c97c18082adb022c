"""Type and tiles for the pictures we draw: one font, one dark palette, rounded corners."""

from __future__ import annotations

import unicodedata
from functools import cache, lru_cache

from PIL import Image, ImageDraw, ImageFont, ImageOps

from reverie.report.charts import ARM_COLOURS

__all__ = [
    "INK",
    "PAPER",
    "QUIET",
    "SOFT",
    "arm_colour",
    "cover",
    "font",
    "legible",
    "rounded",
    "shorten",
    "tile",
]

PAPER = "#101013"
INK = "#f0f0f3"
SOFT = "#8e8e99"
QUIET = "#26262c"

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@cache
def font(size: float) -> Font:
    """Pillow's own font at a size in pixels; it is always there."""
    return ImageFont.load_default(size)


def arm_colour(slot: int) -> str:
    """The colour of an arm's slot on dark paper."""
    return ARM_COLOURS[slot][1]


@lru_cache(maxsize=4096)
def _drawn(letter: str) -> bytes:
    return bytes(font(24).getmask(letter))


def legible(text: str) -> str:
    """The text with every letter that the font lacks replaced: by its plain form, else by ``?``."""
    return "".join(_plain(letter) for letter in text)


def _plain(letter: str) -> str:
    if letter.isascii():
        return letter if letter.isprintable() else " "
    missing = _drawn("\U0010ffff")
    if _drawn(letter) not in (missing, b""):
        return letter
    base = unicodedata.normalize("NFKD", letter)[0]
    return base if base.isascii() and base.isprintable() else "?"


def shorten(text: str, size: float, width: float) -> str:
    """The legible text, cut with an ellipsis until it is at most ``width`` pixels wide at that size."""
    text = legible(text)
    if font(size).getlength(text) <= width:
        return text
    while text and font(size).getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text.rstrip()}…"


def cover(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The image scaled to cover ``(width, height)``, its centre cut out."""
    return ImageOps.fit(image, size, method=Image.Resampling.LANCZOS)


def tile(image: Image.Image | None, size: tuple[int, int], radius: int) -> tuple[Image.Image, Image.Image]:
    """A picture and its mask with rounded corners; an empty quiet field for no picture."""
    if image is None:
        return Image.new("RGB", size, QUIET), rounded(size, radius)
    return cover(image, size), rounded(size, radius)


@lru_cache(maxsize=16)
def rounded(size: tuple[int, int], radius: int) -> Image.Image:
    """A smooth mask of ``(width, height)`` with rounded corners."""
    large = Image.new("L", (size[0] * 4, size[1] * 4), 0)
    box = (0, 0, size[0] * 4 - 1, size[1] * 4 - 1)
    ImageDraw.Draw(large).rounded_rectangle(box, radius * 4, fill=255)
    return large.resize(size, Image.Resampling.BOX)
