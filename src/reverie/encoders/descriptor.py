"""The built-in encoder: colour and structure as 512 numbers, without weights, download or network.

A frame is reduced to 64 x 64 pixels, taken to Oklab (Ottosson 2020, a perceptual colour space:
lightness L in 0..1, a and b around 0) and described by seven blocks:

=========  ====  ======  ==============================================================
block      dims  weight  what it holds
=========  ====  ======  ==============================================================
colours     144  1.0     which colours: joint histogram, 4 x 6 x 6 bins of L, a, b
lightness    16  0.5     how dark or bright: histogram of L
hues         48  0.7     24 hues of pale and 24 of strong colours, counted by chroma
layout       48  1.0     which colour where: mean L, a, b of 4 x 4 cells
thumbnail    64  0.8     light and dark shapes: 8 x 8 lightness, zero mean, unit contrast
edges       144  0.7     which way edges run: 9 orientations in 4 x 4 cells (Dalal and Triggs 2005)
texture      48  0.7     how rough: 4 octaves x 4 directions x L, a, b
=========  ====  ======  ==============================================================

Histograms are soft: a pixel between two bins counts for both in part, so a small change of the
picture is a small change of the numbers. Every feature is then centred and scaled with two vectors
that were measured once on procedural pictures (``tools/calibrate_descriptor.py``), and the whole is
divided by its length.

What it does not know. It has no semantics: a red car and a red apple on the same table are close,
a car from the front and the same car from the side are not. It is weak on mirroring, because layout,
thumbnail and edges say where things are, and on large turns of hue, because colours, hues and layout
say which colour they have. Recompression, scaling, slight blur and small crops hardly move it.

Nothing here is random and no product is large enough for BLAS threads: on one machine a frame gives
the same bits whatever else is in the batch and however many threads there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reverie.errors import ReverieError
from reverie.oklab import to_oklab
from reverie.pixels import Pixels, to_pixels
from reverie.vectors import Vectors

__all__ = ["BLOCKS", "CALIBRATION", "Block", "DescriptorEncoder", "features"]

Floats: TypeAlias = NDArray[np.float64]

CALIBRATION = "descriptor_calibration.npy"
"""File beside this module: ``(2, 512)`` float32, mean and scale of every feature."""

_SIDE = 64
_PIXELS = _SIDE * _SIDE
_CHROMA_SPAN = 0.2  # a and b beyond this fall into the outermost bins
_PALE, _STRONG = 0.02, 0.2  # chroma at which a colour is wholly pale, wholly strong
_TAU = 2 * np.pi

# These floors keep what a picture hardly has (colour, contrast, edges) from being blown up to noise.
_CHROMA_FLOOR = 0.05
_CONTRAST_FLOOR = 0.03
_EDGE_FLOOR = 0.0003
_ROUGHNESS_FLOOR = 0.005


# ------------------------------------------------------------------------- pixels to Oklab


def _oklab(frame: Pixels) -> Floats:
    """``(3, 64, 64)``: L, a, b of a frame of any size."""
    # Averaging whole pixels down to twice the size first is nearly three times faster than one
    # exact box filter; on sizes that do not divide, it moves a vector less than recompression.
    small = Image.fromarray(frame).resize((_SIDE, _SIDE), Image.Resampling.BOX, reducing_gap=2.0)
    return to_oklab(np.asarray(small).reshape(_PIXELS, 3).T).reshape(3, _SIDE, _SIDE)


# -------------------------------------------------------------------------- soft histograms


def _between(values: Floats, low: float, high: float, bins: int) -> tuple[NDArray[np.intp], Floats]:
    """The bin below each value and the share that the bin above it gets."""
    place = np.clip((values.ravel() - low) * ((bins - 1) / (high - low)), 0, bins - 1)
    below = np.minimum(place.astype(np.intp), bins - 2)
    return below, place - below


def _around(angle: Floats, turn: float, bins: int) -> tuple[NDArray[np.intp], NDArray[np.intp], Floats]:
    """Both bins on a circle for each angle, and the share that the second gets."""
    place = angle.ravel() * (bins / turn) + bins  # angles start at -turn: keep them positive
    below = place.astype(np.intp)
    return below % bins, (below + 1) % bins, place - below


def _histogram(places: NDArray[np.intp], mass: Floats, bins: int) -> Floats:
    """What each bin holds, as a mean over all pixels."""
    return np.bincount(places.ravel(), mass.ravel(), bins) / _PIXELS


def _shared(
    first: NDArray[np.intp], second: NDArray[np.intp], share: Floats, mass: Floats, bins: int
) -> Floats:
    """Histogram in which each pixel divides its mass between two bins."""
    upper = mass * share
    return _histogram(np.concatenate((first, second)), np.concatenate((mass - upper, upper)), bins)


# --------------------------------------------------------------------------- the seven blocks


# Steps from the lowest of eight neighbouring bins to each of them.
_CORNERS = np.array([0, 1, 6, 7, 36, 37, 42, 43]).reshape(2, 2, 2, 1)


def _colours(lab: Floats) -> Floats:
    i, light = _between(lab[0], 0.0, 1.0, 4)
    j, green_red = _between(lab[1], -_CHROMA_SPAN, _CHROMA_SPAN, 6)
    k, blue_yellow = _between(lab[2], -_CHROMA_SPAN, _CHROMA_SPAN, 6)
    weights = np.stack((1 - light, light))[:, None, None]
    weights = weights * np.stack((1 - green_red, green_red))[:, None]
    weights = weights * np.stack((1 - blue_yellow, blue_yellow))
    return _histogram(_CORNERS + ((i * 6 + j) * 6 + k), weights, 144)


def _lightness(lab: Floats) -> Floats:
    below, share = _between(lab[0], 0.0, 1.0, 16)
    return _shared(below, below + 1, share, np.ones(1), 16)


def _hues(lab: Floats) -> Floats:
    chroma = np.hypot(lab[1], lab[2]).ravel()
    first, second, share = _around(np.arctan2(lab[2], lab[1]), _TAU, 24)
    strong = chroma * np.clip((chroma - _PALE) / (_STRONG - _PALE), 0, 1)
    counts = np.stack([_shared(first, second, share, mass, 24) for mass in (chroma - strong, strong)])
    # Bins are 15 degrees apart and a slight turn of hue is more: spread each over its neighbours.
    spread = 0.5 * counts + 0.25 * (np.roll(counts, 1, axis=1) + np.roll(counts, -1, axis=1))
    hues: Floats = spread.ravel() / (chroma.mean() + _CHROMA_FLOOR)
    return hues


def _layout(lab: Floats) -> Floats:
    cells: Floats = lab.reshape(3, 4, 16, 4, 16).mean(axis=(2, 4))
    return cells.ravel()


def _thumbnail(lab: Floats) -> Floats:
    small: Floats = lab[0].reshape(8, 8, 8, 8).mean(axis=(1, 3)).ravel()
    shape: Floats = (small - small.mean()) / (small.std() + _CONTRAST_FLOOR)
    return shape


def _edges(lab: Floats) -> Floats:
    down, right = np.gradient(lab[0])
    first, second, share = _around(np.arctan2(down, right), np.pi, 9)
    strength = np.hypot(down, right).ravel()
    counts = _shared(_PATCHES + first, _PATCHES + second, share, strength, 8 * 8 * 9).reshape(8, 8, 9)
    cells: Floats = np.einsum("yi,xj,ijo->yxo", _POOL, _POOL, counts).ravel()
    return cells / (_length(cells) + _EDGE_FLOOR)


def _patches() -> NDArray[np.intp]:
    """For each pixel the first bin of its 8 x 8 patch, 9 bins a patch."""
    row = np.arange(_SIDE) // 8
    return ((row[:, None] * 8 + row) * 9).ravel()


def _pool() -> Floats:
    """``(4, 8)``: how eight patches in a row share themselves among four cells, softly."""
    centres = (np.arange(8) + 0.5) / 2 - 0.5
    shares = np.maximum(0, 1 - np.abs(centres - np.arange(4)[:, None]))
    pool: Floats = shares / shares.sum(axis=0)
    return pool


_PATCHES = _patches()
_POOL = _pool()


def _texture(lab: Floats) -> Floats:
    roughness = []
    for octave in range(4):
        if octave:
            lab = (lab[:, ::2, ::2] + lab[:, 1::2, ::2] + lab[:, ::2, 1::2] + lab[:, 1::2, 1::2]) / 4
        steps = (
            lab[:, :, 1:] - lab[:, :, :-1],
            lab[:, 1:] - lab[:, :-1],
            lab[:, 1:, 1:] - lab[:, :-1, :-1],
            lab[:, 1:, :-1] - lab[:, :-1, 1:],
        )
        roughness += [np.abs(step).reshape(3, -1).mean(axis=1) for step in steps]
    texture: Floats = np.log(np.concatenate(roughness) + _ROUGHNESS_FLOOR)
    return texture


@dataclass(frozen=True, slots=True)
class Block:
    """One part of the descriptor.

    Attributes:
        name: What it holds, as in the table at the head of this module.
        dimensions: How many features.
        weight: Its root-mean-square length over the calibration pictures, before the whole is
            divided by its length.
        measure: Its features ``(dimensions,)`` from L, a, b ``(3, 64, 64)``.
    """

    name: str
    dimensions: int
    weight: float
    measure: Callable[[Floats], Floats]


BLOCKS = (
    Block("colours", 144, 1.0, _colours),
    Block("lightness", 16, 0.5, _lightness),
    Block("hues", 48, 0.7, _hues),
    Block("layout", 48, 1.0, _layout),
    Block("thumbnail", 64, 0.8, _thumbnail),
    Block("edges", 144, 0.7, _edges),
    Block("texture", 48, 0.7, _texture),
)
"""The seven blocks, in the order in which they stand in a vector."""

_DIMENSIONS = sum(block.dimensions for block in BLOCKS)


def features(frame: Pixels) -> Floats:
    """The features of one frame before calibration.

    Args:
        frame: ``(h, w, 3)`` uint8 RGB, of any size from 1 x 1 up.

    Returns:
        ``(512,)`` float64, finite, the blocks in the order of `BLOCKS`, each in its own unit.

    Raises:
        ImageError: ``frame`` is not such an array.
    """
    lab = _oklab(to_pixels(frame))
    return np.concatenate([block.measure(lab) for block in BLOCKS])


# ------------------------------------------------------------------------------- the encoder


@cache
def _calibration() -> NDArray[np.float32]:
    file = files("reverie.encoders") / CALIBRATION
    repair = "reinstall reverie to get it back"
    try:
        with file.open("rb") as stream:
            vectors: NDArray[np.float32] = np.load(stream, allow_pickle=False)
    except FileNotFoundError as exc:
        raise ReverieError(f"the descriptor's calibration is missing ({file}): {repair}") from exc
    except (OSError, ValueError, EOFError) as exc:
        raise ReverieError(f"the descriptor's calibration {file} cannot be read ({exc}): {repair}") from exc
    if vectors.shape != (2, _DIMENSIONS) or vectors.dtype != np.float32:
        raise ReverieError(
            f"the descriptor's calibration {file} holds {vectors.shape} {vectors.dtype}, "
            f"expected (2, {_DIMENSIONS}) float32: {repair}"
        )
    if not np.isfinite(vectors).all() or not (vectors[1] > 0).all():
        raise ReverieError(f"the descriptor's calibration {file} holds impossible numbers: {repair}")
    return vectors


class DescriptorEncoder:
    """Colour and structure as a 512-d unit vector; implements `reverie.protocols.Encoder`.

    Two vectors compare by their dot product: 1 is the same picture, about 0 unrelated ones.
    The first frame loads 4 kB of calibration; there is nothing else to load.

    Attributes:
        unrelated_cosine: Median cosine of unrelated pictures.
    """

    unrelated_cosine = 0.03

    @property
    def name(self) -> str:
        """``"descriptor-v1"``: stamped on every vector, changed whenever the numbers would."""
        return "descriptor-v1"

    @property
    def dimensions(self) -> int:
        """512."""
        return _DIMENSIONS

    def encode_batch(self, frames: Sequence[Pixels]) -> Vectors:
        """Encode n frames of any size from 1 x 1 up, each ``(h, w, 3)`` uint8 RGB, in order.

        Frames are taken one by one (they are reduced to 64 x 64 first, so there is nothing to gain
        together): the same frame gives the same bits whatever else is in the batch.

        Returns:
            ``(n, 512)`` float32, rows of unit length; ``(0, 512)`` for no frames.

        Raises:
            ImageError: A frame is not such an array.
            ReverieError: The calibration that ships with the package is missing or damaged.
        """
        mean, scale = _calibration()
        vectors = np.empty((len(frames), _DIMENSIONS), dtype=np.float32)
        for row, frame in zip(vectors, frames, strict=True):
            vector = (features(frame) - mean) * scale
            row[:] = vector / _length(vector)
        return vectors


def _length(vector: Floats) -> float:
    return float(np.sqrt(np.vecdot(vector, vector)))
