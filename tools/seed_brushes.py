"""What the seed images are painted with: colours, noise, light, stars; pictures are float64, 0..1."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Field: TypeAlias = NDArray[np.float64]
"""One number a pixel ``(n, n)``, or a colour a pixel ``(n, n, 3)``."""

SIZE = 256
SCALE = 3
CANVAS = SIZE * SCALE


def grid() -> tuple[Field, Field]:
    """Row and column of every pixel, 0..1 from the top left."""
    line = (np.arange(CANVAS) + 0.5) / CANVAS
    return np.meshgrid(line, line, indexing="ij")


def colour(text: str) -> Field:
    """``"rrggbb"`` as three numbers 0..1."""
    return np.array([int(text[i : i + 2], 16) for i in (0, 2, 4)]) / 255.0


def palette(text: str) -> Field:
    """Space-separated ``"rrggbb"`` as ``(n, 3)`` numbers 0..1."""
    return np.array([colour(one) for one in text.split()])


def ramp(t: Field, stops: str) -> Field:
    """Colours along a row of evenly spaced ``"rrggbb"`` stops, t in 0..1, blended in linear light."""
    keys = palette(stops) ** 2.2
    places = np.linspace(0.0, 1.0, len(keys))
    return np.stack([np.interp(t, places, keys[:, c]) for c in range(3)], axis=-1) ** (1 / 2.2)


def step(low: float, high: float, x: Field) -> Field:
    """Smooth 0..1 between two edges (a falling one when ``low > high``)."""
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def mix(below: Field, above: Field, mask: Field | float) -> Field:
    """Lay one colour over another through a mask 0..1."""
    cover = np.asarray(mask)[..., None]
    return below * (1.0 - cover) + above * cover


def noise(rng: np.random.Generator, slope: float, coarsest: float = 1.0, stretch: float = 1.0) -> Field:
    """A periodic field, mean 0, deviation 1, spectrum 1/f**slope; ``stretch`` > 1 draws it out sideways."""
    fy = np.fft.fftfreq(CANVAS, 1 / CANVAS)[:, None]
    fx = np.fft.rfftfreq(CANVAS, 1 / CANVAS)[None, :]
    radius = np.hypot(fy, fx * stretch)
    with np.errstate(divide="ignore"):
        weight = np.where(radius >= coarsest, radius**-slope, 0.0)
    field = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((CANVAS, CANVAS))) * weight, s=(CANVAS, CANVAS))
    return (field - field.mean()) / field.std()


def blur(field: Field, radius: float) -> Field:
    """Gaussian blur, radius in parts of the picture's side; wraps around."""
    n = field.shape[0]
    fy, fx = np.fft.fftfreq(n)[:, None], np.fft.rfftfreq(n)[None, :]
    gain = np.exp(-2 * (np.pi * radius * n) ** 2 * (fy**2 + fx**2))
    return np.fft.irfft2(np.fft.rfft2(field) * gain, s=field.shape)


def look_up(field: Field, y: Field, x: Field) -> Field:
    """Bilinear samples of a periodic field at rows and columns in 0..1."""
    n = field.shape[0]
    row, column = y * n - 0.5, x * n - 0.5
    top, left = np.floor(row).astype(int), np.floor(column).astype(int)
    dy, dx = row - top, column - left
    a, b, c, d = (field[(top + i) % n, (left + j) % n] for i in (0, 1) for j in (0, 1))
    return (a * (1 - dx) + b * dx) * (1 - dy) + (c * (1 - dx) + d * dx) * dy


def skyline(rng: np.random.Generator, slope: float, coarsest: float = 1.0) -> Field:
    """A random curve over the columns, mean 0 and deviation 1."""
    frequency = np.fft.rfftfreq(CANVAS, 1 / CANVAS)
    with np.errstate(divide="ignore"):
        weight = np.where(frequency >= coarsest, frequency**-slope, 0.0)
    curve = np.fft.irfft(np.fft.rfft(rng.standard_normal(CANVAS)) * weight, n=CANVAS)
    return (curve - curve.mean()) / curve.std()


def light(height: Field, direction: tuple[float, float], strength: float) -> Field:
    """Brightness -1..1 of a relief under a slanting lamp."""
    dy, dx = np.gradient(height, 1 / height.shape[0])
    return np.tanh(strength * (dy * direction[0] + dx * direction[1]))


def stars(rng: np.random.Generator, count: int) -> Field:
    """Small round stars of many brightnesses on black, 0..1."""
    y, x = grid()
    sky = np.zeros((CANVAS, CANVAS))
    for _ in range(count):
        cy, cx = rng.random(2)
        size = 0.0012 + 0.0025 * rng.random() ** 6
        rows, columns = window(cy, cx, size * 5)
        gap = np.hypot(y[rows, columns] - cy, x[rows, columns] - cx)
        sky[rows, columns] += (0.3 + 0.7 * rng.random()) * np.exp(-((gap / size) ** 2))
    return np.clip(sky, 0.0, 1.0)


def orb(picture: Field, gap: Field, radius: float, tone: str, *, halo: float) -> Field:
    """A sun or moon with a glow of strength ``halo``; ``gap`` is the distance from its centre."""
    glow = halo * np.exp(-((gap / (2 * radius)) ** 2))
    return mix(picture, colour(tone), np.maximum(glow, step(radius + 0.003, radius - 0.003, gap)))


def window(cy: float, cx: float, reach: float) -> tuple[slice, slice]:
    """The rows and columns within ``reach`` of a point, cut at the picture's edge."""

    def cut(centre: float) -> slice:
        low, high = (centre - reach) * CANVAS, (centre + reach) * CANVAS
        return slice(int(np.clip(low, 0, CANVAS)), int(np.clip(high + 1, 0, CANVAS)))

    return cut(cy), cut(cx)
