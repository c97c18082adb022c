"""What tells a picture from any other, whatever file holds it: its size and its pixels.

Compared is what was drawn, before anything is lost on the way to RGB: transparency counts, so do colours
under it, and so does every frame of an animation. How a file packs its pixels makes no difference (its
format, its compression, a palette), nor does what it says beside them (texts, EXIF but for the
orientation, a colour profile).
"""

from __future__ import annotations

import io

import numpy as np
import xxhash
from PIL import Image, ImageSequence, UnidentifiedImageError

from reverie.errors import ImageError
from reverie.pixels import BROKEN_IMAGE, MAX_PIXELS, upright

__all__ = ["picture_digest", "picture_size"]

_FITS_RGB = frozenset({"1", "L", "P", "RGB", "RGBX", "LA", "PA", "RGBA"})
"""Modes that RGB or RGBA holds exactly; any other is compared as it is."""


def picture_size(data: bytes, *, name: str = "the image") -> tuple[int, int]:
    """Width and height, the smaller one first (an orientation may swap them); no pixel is decoded.

    Raises:
        ImageError: Not an image, broken, or too large; named ``name``.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            shorter, longer = sorted(image.size)
    except UnidentifiedImageError as exc:
        raise ImageError(f"{name!r} is not an image that Pillow can read") from exc
    except BROKEN_IMAGE as exc:
        raise ImageError(f"{name!r} is not a readable image: {exc}") from exc
    if shorter * longer > MAX_PIXELS:
        raise ImageError(f"{name!r} is too large to open safely: the limit is {MAX_PIXELS:,} pixels")
    return shorter, longer


def picture_digest(data: bytes, *, name: str = "the image") -> str:
    """XXH3 (128 bits) of the size and the pixels of an image file's bytes, hexadecimal.

    A file with 16 bits a colour, of which Pillow reads 8, is only the same as one of the same bytes.

    Raises:
        ImageError: Not an image, broken, or too large; named ``name``.
    """
    picture_size(data, name=name)
    digest = xxhash.xxh3_128()
    try:
        with Image.open(io.BytesIO(data)) as image:
            if _is_cut_short(image):
                digest.update(data)
                return digest.hexdigest()
            for frame in ImageSequence.Iterator(image):
                drawn = _drawn(frame)
                digest.update(f"{drawn.mode} {drawn.size}".encode())
                digest.update(np.asarray(drawn).tobytes())
    except BROKEN_IMAGE as exc:
        raise ImageError(f"{name!r} is a broken image: {exc}") from exc
    return digest.hexdigest()


def _is_cut_short(image: Image.Image) -> bool:
    """Whether the file has 16 bits a colour where Pillow makes 8 of them."""
    return image.mode in _FITS_RGB and any(";16" in str(tile) for tile in getattr(image, "tile", ()))


def _drawn(frame: Image.Image) -> Image.Image:
    """Upright, and RGBA where something shows through, RGB where nothing does, as far as that is exact."""
    image = upright(frame)
    if image.mode not in _FITS_RGB:
        return image
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    return layer.convert("RGB") if layer.getchannel("A").getextrema() == (255, 255) else layer
