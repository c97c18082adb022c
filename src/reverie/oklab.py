"""Oklab (Ottosson 2020, https://bottosson.github.io/posts/oklab/), a perceptual colour space, and back.

L is lightness, 0 for black to 1 for white; a runs from green to red, b from blue to yellow, both about 0 for
greys; chroma is the length of (a, b) and the hue its angle. Distances in it are about as large as they look.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from reverie.pixels import Pixels

__all__ = ["Lab32", "from_oklab", "recoloured", "to_oklab", "to_oklab32"]

Floats: TypeAlias = NDArray[np.float64]
Lab32: TypeAlias = NDArray[np.float32]
"""``(3, n)`` float32: L, a, b."""

_Planes: TypeAlias = NDArray[np.floating[Any]]
"""``(3, n)`` of either precision, which results keep."""

_SLIGHT = 1e-5  # of linear light: so little outside of what can be shown is cut off
_HALVINGS = 8  # the chroma that can be shown is found to 1/256
_LEVELS = 65535  # linear light becomes a byte by a table of so many steps: 20 for the darkest byte
_DARKEST = 1e-30  # light that is as good as none, but has a logarithm
_BLOCK = 8192  # pixels that are worked on together: they stay in the processor's cache


def _linear_light() -> Floats:
    level = np.arange(256) / 255
    return np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4)


def _bytes_of_light() -> NDArray[np.uint8]:
    light = np.arange(_LEVELS + 1) / _LEVELS
    level: Floats = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.rint(255 * level).astype(np.uint8)


_LINEAR = _linear_light()  # sRGB byte to linear light (IEC 61966-2-1)
_BYTES = _bytes_of_light()  # and back
_RGB_TO_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ],
)
_CONES_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ],
)
_LAB_TO_CONES = np.linalg.inv(_CONES_TO_LAB)
_CONES_TO_RGB = np.linalg.inv(_RGB_TO_CONES)
_LINEAR32, _RGB_TO_CONES32, _CONES_TO_LAB32 = (
    table.astype(np.float32) for table in (_LINEAR, _RGB_TO_CONES, _CONES_TO_LAB)
)


def _mix(matrix: _Planes, planes: _Planes) -> _Planes:
    mixed: _Planes = matrix[:, 0, None] * planes[0]
    mixed += matrix[:, 1, None] * planes[1]
    mixed += matrix[:, 2, None] * planes[2]
    return mixed


def to_oklab(colours: NDArray[np.uint8]) -> Floats:
    """Of sRGB bytes.

    Args:
        colours: ``(3, n)`` uint8: red, green, blue.

    Returns:
        ``(3, n)`` float64: L in [0, 1], a and b in about [-0.32, 0.28].
    """
    roots = np.cbrt(_mix(_RGB_TO_CONES, _LINEAR.take(colours)))
    return np.asarray(_mix(_CONES_TO_LAB, roots), dtype=np.float64)


def to_oklab32(colours: NDArray[np.uint8]) -> Lab32:
    """As `to_oklab`, to about 1e-6, in a third of the time."""
    cones = _mix(_RGB_TO_CONES32, _LINEAR32.take(np.ascontiguousarray(colours)))
    roots = np.exp(np.log(np.maximum(cones, np.float32(_DARKEST))) * np.float32(1 / 3))  # faster than cbrt
    return np.asarray(_mix(_CONES_TO_LAB32, roots), dtype=np.float32)


def from_oklab(lab: _Planes) -> NDArray[np.uint8]:
    """The sRGB bytes of colours, or of the nearest that a screen can show.

    Lightness is cut to [0, 1]. A colour that no screen can show gets less chroma at the same lightness and
    hue until one can (the way of CSS Color 4, section 13): cutting its channels singly would turn the hue.

    Args:
        lab: ``(3, n)`` L, a, b; finite.

    Returns:
        ``(3, n)`` uint8: red, green, blue.
    """
    lab = np.concatenate((np.clip(lab[:1], 0.0, 1.0), lab[1:]))
    light = _light(lab)
    outside = np.flatnonzero(~_shows(light))
    if outside.size:
        light[:, outside] = _paler(lab[:, outside])
    return _BYTES.take(np.rint(np.clip(light, 0.0, 1.0) * _LEVELS).astype(np.intp))


def _light(lab: _Planes) -> _Planes:
    """Linear red, green and blue of colours."""
    roots = _mix(_LAB_TO_CONES.astype(lab.dtype), lab)
    return _mix(_CONES_TO_RGB.astype(lab.dtype), roots * roots * roots)


def _shows(light: _Planes) -> NDArray[np.bool_]:
    """Which colours a screen can show."""
    shows: NDArray[np.bool_] = (light.min(axis=0) >= -_SLIGHT) & (light.max(axis=0) <= 1.0 + _SLIGHT)
    return shows


def _paler(lab: _Planes) -> _Planes:
    """Linear light of the same lightness and hue with as much chroma as can be shown, by bisection."""
    low, high = np.zeros_like(lab[0]), np.ones_like(lab[0])
    for _ in range(_HALVINGS):
        share = (low + high) / 2
        can = _shows(_light(np.stack((lab[0], share * lab[1], share * lab[2]))))
        low, high = np.where(can, share, low), np.where(can, high, share)
    return _light(np.stack((lab[0], low * lab[1], low * lab[2])))


def recoloured(pixels: Pixels, change: Callable[[Lab32], Lab32]) -> Pixels:
    """A picture with every pixel's colour changed in Oklab, by a rule that looks at nothing else.

    Args:
        pixels: ``(h, w, 3)`` uint8 RGB, of any size.
        change: From ``(3, n)`` L, a, b to the same.

    Returns:
        ``(h, w, 3)`` uint8 RGB; what cannot be shown is brought in as `from_oklab` does.
    """
    flat = pixels.reshape(-1, 3)
    made = np.empty_like(flat)
    for begin in range(0, len(flat), _BLOCK):
        block = slice(begin, begin + _BLOCK)
        made[block] = from_oklab(change(to_oklab32(flat[block].T))).T
    return made.reshape(pixels.shape)
