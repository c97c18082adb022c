"""Frames as the input of a vision network: resized, cropped, normalised, channels first.

Bit for bit what the Pillow-based image processors of transformers give for 8-bit RGB
(``CLIPImageProcessor``, ``SiglipImageProcessor``, ``BitImageProcessor``), so that vectors made
here and vectors made there are of one space. What a file's pixels are (EXIF orientation,
transparency, palettes, grey, 16-bit, CMYK) is decided before, by `reverie.pixels`.

A picture is resized by one call of Pillow, as the reference does it: whether Pillow resamples rows or
columns first, with rounding to 8 bits between, differs from version to version of Pillow.

Only a picture so thin that enlarging it would fill the memory goes another way: its shortest edge is
below ``size``, and it would have more than `EXACT_UP_TO` pixels after (334 : 1 and thinner at 224). Of
its crop only the window itself is resampled; where the exact value is close to a half, a level of 255
may be rounded the other way, by two at most because the second pass can enlarge that. A squashed one
loses its rows before its columns grow, as in Pillow 13; where Pillow has the other order, bright and
dark edges may differ by a few levels.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from math import ceil, floor
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reverie.pixels import Pixels

if TYPE_CHECKING:
    from reverie.models.cards import Preprocessing

__all__ = ["EXACT_UP_TO", "preprocess"]

EXACT_UP_TO = 1 << 24
"""Pixels of an enlarged picture, before its crop, up to which the result is the reference's bit for bit."""

_FILTERS = {"bilinear": (Image.Resampling.BILINEAR, 1), "bicubic": (Image.Resampling.BICUBIC, 2)}
"""Name to Pillow's filter and its radius in pixels of the smaller picture."""


def preprocess(frames: Sequence[Pixels], settings: Preprocessing, threads: int = 1) -> NDArray[np.float32]:
    """What the network takes for n frames.

    Args:
        frames: n arrays ``(h, w, 3)`` uint8 RGB, each of any size; nothing is written to them.
        settings: Of the model. With ``crop`` the shortest edge becomes ``size`` and the centre is
            cut out (a crop beyond the picture is filled with black); without, the picture is
            squashed to ``size`` by ``size``.
        threads: How many frames are worked on at once, at least 1; the result is the same.

    Returns:
        ``(n, 3, s, s)`` float32, a new array in C order, s being ``crop`` or else ``size``; channel c
        is ``(level / 255 - mean[c]) / std[c]``. ``(0, 3, s, s)`` for no frames.
    """
    side = settings.crop or settings.size
    batch = np.empty((len(frames), 3, side, side), dtype=np.float32)
    levels = _levels(tuple(settings.mean), tuple(settings.std))

    def put(planes: NDArray[np.float32], frame: Pixels) -> None:
        _fill(planes, np.asarray(_resized(frame, settings)), levels)

    if min(threads, len(frames)) < 2:
        for planes, frame in zip(batch, frames, strict=True):
            put(planes, frame)
        return batch
    with ThreadPoolExecutor(min(threads, len(frames)), thread_name_prefix="reverie-resize") as pool:
        deque(pool.map(put, batch, frames), maxlen=0)  # raises what a thread raised
    return batch


@lru_cache(maxsize=16)
def _levels(mean: tuple[float, ...], std: tuple[float, ...]) -> NDArray[np.float32]:
    """``(3, 256)``: what each 8-bit level becomes, rounded where the reference rounds.

    It scales in double precision, goes down to single, then subtracts and divides in single.
    """
    unit = (np.arange(256, dtype=np.float64) * (1 / 255)).astype(np.float32)
    shift, scale = np.array(mean, dtype=np.float32), np.array(std, dtype=np.float32)
    levels: NDArray[np.float32] = (unit - shift[:, None]) / scale[:, None]
    return levels


def _fill(planes: NDArray[np.float32], pixels: Pixels, levels: NDArray[np.float32]) -> None:
    """Put the centre of ``pixels`` into ``planes``, ``(3, s, s)``, as the network's numbers."""
    side = planes.shape[1]
    (top, rows), (left, columns) = (_centre(length, side) for length in pixels.shape[:2])
    inside = pixels[top, left]
    for channel, plane in enumerate(planes):
        if inside.shape[:2] != plane.shape:
            plane[:] = levels[channel, 0]
        # "clip" writes to `out` itself, where "raise" would go through a copy; no level is past 255.
        np.take(levels[channel], inside[..., channel], out=plane[rows, columns], mode="clip")


def _centre(length: int, side: int) -> tuple[slice, slice]:
    """Along one edge: which pixels the crop takes, and where in the crop they go."""
    if length >= side:
        start = (length - side) // 2
        return slice(start, start + side), slice(0, side)
    start = (side - length + 1) // 2
    return slice(0, length), slice(start, start + length)


def _resized(frame: Pixels, settings: Preprocessing) -> Image.Image:
    """The frame at the size that is cropped; of a very thin one only what the crop keeps of its length."""
    height, width = frame.shape[:2]
    size, (kind, _) = settings.size, _FILTERS[settings.resample]
    if settings.crop is None:
        image = Image.fromarray(frame)
        if width < size and size * height > EXACT_UP_TO:
            image = image.resize((width, size), kind)
        return image.resize((size, size), kind)
    short, long = sorted((height, width))
    longer = int(size * long / short)  # in this order, as the reference rounds it
    if short < size and size * longer > EXACT_UP_TO and longer > settings.crop:
        return _window(frame, longer, settings.crop, settings)
    return Image.fromarray(frame).resize((size, longer) if width <= height else (longer, size), kind)


def _window(frame: Pixels, longer: int, crop: int, settings: Preprocessing) -> Image.Image:
    """Of a frame whose long edge would become ``longer`` pixels, only the ``crop`` in the middle of them.

    Rows first, then columns: the order of every version of Pillow where both grow.
    """
    kind, radius = _FILTERS[settings.resample]
    height, width = frame.shape[:2]
    scale = max(height, width) / longer
    first = (longer - crop) // 2 * scale
    last = first + crop * scale
    start = max(0, floor(first) - radius - 1)  # cut out first: Pillow keeps a box in single precision
    kept = slice(start, ceil(last) + radius + 1)
    first, last = first - start, last - start
    if width <= height:
        rows = Image.fromarray(frame[kept]).resize((settings.size, len(frame[kept])), kind)
        return rows.resize((settings.size, crop), kind, (0, first, settings.size, last))
    rows = Image.fromarray(frame[:, kept]).resize((crop, height), kind, (first, 0, last, height))
    return rows.resize((crop, settings.size), kind)
