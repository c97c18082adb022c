"""Regenerate the two calibration vectors of the built-in descriptor.

    python tools/calibrate_descriptor.py            # write the file that ships in the package
    python tools/calibrate_descriptor.py --check    # only compare with it
    python tools/calibrate_descriptor.py --sheet calibration.png

The calibration set is `len(KINDS)` kinds of procedural pictures, `PER_KIND` of each. Every picture
has its own seed, so the set does not change when a picture is asked for alone. The pictures are
not kept: the package ships ``(2, 512)`` float32, a mean and a scale for every feature.

The numbers belong to the name ``descriptor-v1``: a change here or in the features needs a new name.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reverie.encoders import descriptor
from reverie.encoders.descriptor import BLOCKS, CALIBRATION, features

__all__ = ["KINDS", "PER_KIND", "SEED", "calibrate", "calibration_set", "picture"]

SEED = 20_251_123
PER_KIND = 20
SIDE = 128

Field = NDArray[np.float64]
"""``(SIDE, SIDE)`` numbers, mostly 0..1."""
Colours = NDArray[np.float64]
"""``(..., 3)`` RGB, 0..1."""

Y, X = np.meshgrid(np.linspace(0, 1, SIDE), np.linspace(0, 1, SIDE), indexing="ij")


# ------------------------------------------------------------------------------- colours


def _hsv(hue: Field, saturation: Field, value: Field) -> Colours:
    turn = (np.asarray(hue)[..., None] * 6 + np.array([5.0, 3.0, 1.0])) % 6
    fade = np.clip(np.minimum(turn, 4 - turn), 0, 1)
    return np.asarray(value)[..., None] * (1 - np.asarray(saturation)[..., None] * fade)


def _palette(rng: np.random.Generator, count: int) -> Colours:
    """``(count, 3)`` colours that belong together, in one of eight ways."""
    near = (rng.uniform() + rng.normal(0, 0.04, count)) % 1
    anywhere = rng.uniform(size=count)
    opposite = (rng.uniform() + 0.5 * rng.integers(0, 2, count) + rng.normal(0, 0.03, count)) % 1
    earthy = rng.uniform(0.02, 0.16, count)
    hue, low, high, dark, bright = [
        (near, 0.3, 0.9, 0.2, 1.0),
        (near, 0.1, 0.5, 0.1, 0.6),
        (anywhere, 0.6, 1.0, 0.5, 1.0),
        (anywhere, 0.1, 0.4, 0.7, 1.0),
        (anywhere, 0.2, 1.0, 0.0, 1.0),
        (opposite, 0.4, 0.9, 0.2, 1.0),
        (earthy, 0.2, 0.7, 0.1, 0.9),
        (anywhere, 0.0, 0.08, 0.0, 1.0),
    ][rng.integers(8)]
    return _hsv(hue, rng.uniform(low, high, count), rng.uniform(dark, bright, count))


def _paint(rng: np.random.Generator, field: Field, count: int | None = None) -> Colours:
    """Run a field of 0..1 through a ramp of palette colours."""
    ramp = _palette(rng, count or int(rng.integers(2, 6)))
    at = np.linspace(0, 1, len(ramp))
    return np.stack([np.interp(field, at, ramp[:, c]) for c in range(3)], axis=-1)


def _fill(rng: np.random.Generator, labels: NDArray[np.intp]) -> Colours:
    """One palette colour for every label."""
    return _palette(rng, int(labels.max()) + 1)[labels]


# -------------------------------------------------------------------------------- fields


def _unit(field: Field) -> Field:
    low, high = field.min(), field.max()
    return (field - low) / (high - low + 1e-12)


def _noise(rng: np.random.Generator, slope: float) -> Field:
    """Noise whose amplitude falls as frequency to the power of ``-slope``; 0 is white, 1 pink."""
    frequency = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None, :])
    frequency[0, 0] = 1.0
    wave = np.fft.rfft2(rng.normal(size=(SIDE, SIDE))) * frequency**-slope
    wave[0, 0] = 0.0
    return _unit(np.fft.irfft2(wave, s=(SIDE, SIDE)))


def _along(rng: np.random.Generator) -> Field:
    """Distance along a random direction, in widths of the picture."""
    angle = rng.uniform(0, 2 * np.pi)
    return np.cos(angle) * (X - 0.5) + np.sin(angle) * (Y - 0.5)


def _around(rng: np.random.Generator, spread: float = 0.4) -> tuple[Field, Field]:
    """Distance to, and angle around, a random point near the middle."""
    dy, dx = Y - 0.5 - rng.uniform(-spread, spread), X - 0.5 - rng.uniform(-spread, spread)
    return np.hypot(dx, dy), np.arctan2(dy, dx)


def _ellipse(rng: np.random.Generator, radius: float) -> Field:
    """Below 1 inside a random, turned ellipse of about that radius."""
    angle, squeeze = rng.uniform(0, np.pi), rng.uniform(0.4, 1.0)
    dx, dy = X - rng.uniform(), Y - rng.uniform()
    u, v = np.cos(angle) * dx + np.sin(angle) * dy, np.cos(angle) * dy - np.sin(angle) * dx
    return np.hypot(u, v / squeeze) / radius


def _wave(rng: np.random.Generator, field: Field) -> Field:
    """A sine of a field, soft or hard-edged."""
    wave = np.sin(2 * np.pi * field)
    return np.clip(0.5 + 0.5 * wave * rng.choice([0.6, 1.0, 8.0]), 0, 1)


# --------------------------------------------------------------------------------- kinds


def _linear(rng: np.random.Generator) -> Colours:
    return _paint(rng, _unit(_along(rng)))


def _radial(rng: np.random.Generator) -> Colours:
    return _paint(rng, _unit(_around(rng)[0] ** rng.uniform(0.5, 2)))


def _corners(rng: np.random.Generator) -> Colours:
    a, b, c, d = _palette(rng, 4)
    return (a * (1 - X[..., None]) + b * X[..., None]) * (1 - Y[..., None]) + (
        c * (1 - X[..., None]) + d * X[..., None]
    ) * Y[..., None]


def _fine_noise(rng: np.random.Generator) -> Colours:
    return _paint(rng, _noise(rng, rng.uniform(0.0, 0.8)))


def _clouds(rng: np.random.Generator) -> Colours:
    return _paint(rng, _noise(rng, rng.uniform(1.0, 2.4)))


def _colour_noise(rng: np.random.Generator) -> Colours:
    slope = rng.uniform(0.3, 2.0)
    return np.stack([_noise(rng, slope) for _ in range(3)], axis=-1)


def _stripes(rng: np.random.Generator) -> Colours:
    return _paint(rng, _wave(rng, _along(rng) * rng.uniform(2, 16)))


def _checks(rng: np.random.Generator) -> Colours:
    angle, count = rng.choice([0.0, rng.uniform(0, np.pi)]), rng.uniform(2, 10)
    u = np.floor(count * (np.cos(angle) * X + np.sin(angle) * Y))
    v = np.floor(count * (np.cos(angle) * Y - np.sin(angle) * X))
    return _fill(rng, ((u + v) % 2).astype(np.intp))


def _tiles(rng: np.random.Generator) -> Colours:
    rows, columns = rng.integers(2, 12, 2)
    labels = rng.integers(0, rng.integers(3, 9), (rows, columns))
    return _fill(rng, labels[(Y * (rows - 1e-6)).astype(int), (X * (columns - 1e-6)).astype(int)])


def _blobs(rng: np.random.Generator) -> Colours:
    picture = np.broadcast_to(_palette(rng, 1), (SIDE, SIDE, 3))
    for colour in _palette(rng, int(rng.integers(3, 9))):
        weight = np.exp(-0.5 * _ellipse(rng, rng.uniform(0.08, 0.3)) ** 2)[..., None]
        picture = picture * (1 - weight) + colour * weight
    return picture


def _circles(rng: np.random.Generator) -> Colours:
    labels = np.zeros((SIDE, SIDE), dtype=np.intp)
    for n in range(1, int(rng.integers(3, 14))):
        labels[np.hypot(X - rng.uniform(), Y - rng.uniform()) < rng.uniform(0.04, 0.3)] = n
    return _fill(rng, labels)


def _polygons(rng: np.random.Generator) -> Colours:
    picture = _linear(rng)
    for colour in _palette(rng, int(rng.integers(2, 9))):
        inside = np.ones((SIDE, SIDE), dtype=bool)
        cx, cy, turn = rng.uniform(), rng.uniform(), rng.uniform(0, 2 * np.pi)
        corners = rng.integers(3, 7)
        for angle in turn + np.arange(corners) * 2 * np.pi / corners:
            inside &= np.cos(angle) * (X - cx) + np.sin(angle) * (Y - cy) < rng.uniform(0.05, 0.25)
        picture = np.where(inside[..., None], colour, picture)
    return picture


def _cells(rng: np.random.Generator) -> Colours:
    points = rng.uniform(size=(int(rng.integers(6, 40)), 2))
    gaps = np.hypot(Y[..., None] - points[:, 0], X[..., None] - points[:, 1])
    if rng.uniform() < 0.5:
        return _fill(rng, gaps.argmin(axis=-1))
    return _paint(rng, _unit(gaps.min(axis=-1)))


def _drawing(rng: np.random.Generator) -> Colours:
    ink = np.zeros((SIDE, SIDE))
    for _ in range(int(rng.integers(3, 14))):
        bend = (
            _along(rng)
            + rng.uniform(-0.4, 0.4)
            + rng.uniform(0, 0.2) * np.sin(rng.uniform(3, 12) * _along(rng))
        )
        ink = np.maximum(ink, np.exp(-((bend / rng.uniform(0.004, 0.02)) ** 2)))
    return _paint(rng, ink, 2)


def _rings(rng: np.random.Generator) -> Colours:
    warped = _around(rng)[0] + rng.uniform(0, 0.3) * _noise(rng, 1.6)
    return _paint(rng, _wave(rng, warped * rng.uniform(3, 14)))


def _marble(rng: np.random.Generator) -> Colours:
    return _paint(rng, _wave(rng, _along(rng) * rng.uniform(1, 5) + 2 * _noise(rng, 1.6)))


def _spiral(rng: np.random.Generator) -> Colours:
    far, angle = _around(rng, 0.2)
    return _paint(rng, _wave(rng, rng.integers(1, 9) * angle / (2 * np.pi) + rng.uniform(0, 6) * far))


def _plasma(rng: np.random.Generator) -> Colours:
    return _paint(rng, _unit(sum(np.sin(2 * np.pi * rng.uniform(1, 6) * _along(rng)) for _ in range(4))))


def _weave(rng: np.random.Generator) -> Colours:
    count = rng.uniform(4, 14)
    over, under = np.sin(2 * np.pi * count * X), np.sin(2 * np.pi * count * Y)
    return _paint(rng, _unit(np.maximum(over, under) + 0.3 * _noise(rng, 0.5)))


def _landscape(rng: np.random.Generator) -> Colours:
    sky, *hills = _palette(rng, int(rng.integers(3, 7)))
    horizon = rng.uniform(0.2, 0.7)
    picture = sky * (1 - 0.5 * Y[..., None])
    for level, colour in zip(np.linspace(horizon, 0.95, len(hills)), hills, strict=True):
        ridge = level + rng.uniform(0.05, 0.3) * (_noise(rng, 1.8)[0] - 0.5)
        picture = np.where(
            (ridge < Y)[..., None], colour * (0.8 + 0.2 * _noise(rng, 0.7)[..., None]), picture
        )
    return picture


def _skyline(rng: np.random.Generator) -> Colours:
    picture = _paint(rng, Y)
    for colour in _palette(rng, int(rng.integers(4, 12))):
        left, width, top = rng.uniform(0, 0.9), rng.uniform(0.05, 0.25), rng.uniform(0.2, 0.8)
        inside = (left < X) & (left + width > X) & (top < Y)
        lit = (np.floor(X * 40) % 2 == 0) & (np.floor(Y * 40) % 2 == 0) & (rng.uniform() < 0.5)
        picture = np.where(inside[..., None], np.where(lit[..., None], colour, colour * 0.6), picture)
    return picture


def _figure(rng: np.random.Generator) -> Colours:
    picture = _paint(rng, _noise(rng, rng.uniform(1.5, 2.5)))
    cx, cy = rng.uniform(0.3, 0.7), rng.uniform(0.25, 0.5)
    head = np.hypot(X - cx, (Y - cy) / rng.uniform(1.1, 1.5)) / rng.uniform(0.1, 0.25)
    body = np.hypot(X - cx, (Y - 1.05) / 1.3) / rng.uniform(0.25, 0.5)
    for shape, colour in zip((body, head), _palette(rng, 2), strict=True):
        light = np.clip(1.2 - 0.6 * shape + 0.4 * (cx - X), 0.2, 1)[..., None]
        edge = 1 / (1 + np.exp(np.clip((shape - 1) * 30, -50, 50)))[..., None]
        picture = picture * (1 - edge) + colour * light * edge
    return picture


def _leaves(rng: np.random.Generator) -> Colours:
    labels = np.zeros((SIDE, SIDE), dtype=np.intp)
    for n in range(1, int(rng.integers(20, 60))):
        labels[_ellipse(rng, rng.uniform(0.03, 0.14)) < 1] = n
    return _fill(rng, labels) * (0.7 + 0.3 * _noise(rng, 1.0)[..., None])


def _dead_leaves(rng: np.random.Generator) -> Colours:
    """Discs of every size hiding one another: the textbook model of a natural picture's statistics."""
    picture = _clouds(rng)
    shade = _noise(rng, 1.0)[..., None]
    for colour in _palette(rng, 70):
        far = np.hypot(X - rng.uniform(), Y - rng.uniform()) / (0.03 * rng.pareto(1.5) + 0.03)
        light = rng.uniform(0.6, 1.0) + rng.uniform(0.0, 0.5) * (shade - far[..., None] / 2)
        picture = np.where((far < 1)[..., None], colour * light, picture)
    return picture


def _relief(rng: np.random.Generator) -> Colours:
    height = _noise(rng, rng.uniform(1.2, 2.0))
    lit = np.roll(height, 1, axis=int(rng.integers(2))) - height
    return _paint(rng, height) * np.clip(0.6 + rng.uniform(3, 10) * lit, 0.1, 1.2)[..., None]


def _any(rng: np.random.Generator) -> Colours:
    simple = list(KINDS.values())[:-3]
    return simple[rng.integers(len(simple))](rng)


def _collage(rng: np.random.Generator) -> Colours:
    """Two pictures, each where a cloud or an ellipse says."""
    edge = _noise(rng, 1.8) - 0.5 if rng.uniform() < 0.5 else _ellipse(rng, rng.uniform(0.2, 0.6)) - 1
    mask = np.clip(0.5 + edge * rng.choice([3.0, 50.0]), 0, 1)[..., None]
    return _any(rng) * mask + _any(rng) * (1 - mask)


def _overlay(rng: np.random.Generator) -> Colours:
    """Two pictures through one another."""
    return _any(rng) * (0.3 + 0.7 * _any(rng))


def _worn(rng: np.random.Generator) -> Colours:
    """A picture on a surface that has a structure of its own."""
    return _any(rng) * (1 + rng.uniform(0.2, 0.8) * (_noise(rng, rng.uniform(0.3, 1.2))[..., None] - 0.5))


def _stars(rng: np.random.Generator) -> Colours:
    bright = _noise(rng, 0.0) > rng.uniform(0.75, 0.9)
    return np.maximum(_clouds(rng) * rng.uniform(0.05, 0.4), bright[..., None] * rng.uniform(0.5, 1))


def _plain(rng: np.random.Generator) -> Colours:
    return _palette(rng, 1)[0] + rng.uniform(0.0, 0.06) * (_noise(rng, rng.uniform(0, 2))[..., None] - 0.5)


KINDS: dict[str, Callable[[np.random.Generator], Colours]] = {
    "linear": _linear,
    "radial": _radial,
    "corners": _corners,
    "fine noise": _fine_noise,
    "clouds": _clouds,
    "colour noise": _colour_noise,
    "stripes": _stripes,
    "checks": _checks,
    "tiles": _tiles,
    "blobs": _blobs,
    "circles": _circles,
    "polygons": _polygons,
    "cells": _cells,
    "drawing": _drawing,
    "rings": _rings,
    "marble": _marble,
    "spiral": _spiral,
    "plasma": _plasma,
    "weave": _weave,
    "landscape": _landscape,
    "skyline": _skyline,
    "figure": _figure,
    "leaves": _leaves,
    "stars": _stars,
    "plain": _plain,
    "dead leaves": _dead_leaves,
    "relief": _relief,
    "collage": _collage,
    "overlay": _overlay,
    "worn": _worn,
}


def _rarely(rng: np.random.Generator, usual: float, low: float, high: float) -> float:
    """``usual`` four times out of five, else anything from ``low`` to ``high``."""
    other = float(rng.uniform(low, high))
    return other if rng.uniform() < 0.2 else usual


def _develop(rng: np.random.Generator, picture: Colours) -> Colours:
    """What a camera or a mood does: exposure, contrast, saturation, vignette."""
    picture = np.clip(picture, 0, 1) ** _rarely(rng, 1.0, 0.5, 2.2)
    picture = _rarely(rng, 0.5, 0.2, 0.8) + _rarely(rng, 1.0, 0.1, 0.6) * (picture - 0.5)
    grey = picture.mean(axis=-1, keepdims=True)
    picture = grey + _rarely(rng, 1.0, 0.0, 0.5) * (picture - grey)
    vignette = 1 - _rarely(rng, 0.0, 0.3, 1.2) * ((X - 0.5) ** 2 + (Y - 0.5) ** 2)
    return picture * vignette[..., None]


def picture(kind: str, seed: int) -> NDArray[np.uint8]:
    """One procedural picture, ``(128, 128, 3)`` uint8 RGB; the same kind and seed, the same bytes.

    Raises:
        KeyError: ``kind`` is not in `KINDS`.
    """
    rng = np.random.default_rng([seed, *kind.encode()])
    return np.rint(np.clip(_develop(rng, KINDS[kind](rng)), 0, 1) * 255).astype(np.uint8)


def calibration_set(per_kind: int = PER_KIND) -> list[NDArray[np.uint8]]:
    """The calibration pictures, ``per_kind`` of every kind; fewer are a subset of more."""
    return [picture(kind, SEED + n) for kind in KINDS for n in range(per_kind)]


# --------------------------------------------------------------------------- calibration


def calibrate(frames: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """Mean and scale of every feature over a set of pictures.

    A feature is centred and multiplied by ``(sd + 0.25 mean sd)^-0.5`` (mean over its block): half
    way between leaving the spread as it is and making every feature equally loud, with a floor for
    features that hardly move. Each block is then divided by its root-mean-square length over the
    set and multiplied by its weight, so blocks speak as loudly as their weights say.

    Returns:
        ``(2, 512)`` float32: the means, and the factors after centring.
    """
    rows = np.stack([features(frame) for frame in frames]).astype(np.float64)
    mean, spread = rows.mean(axis=0), rows.std(axis=0)
    scale = np.empty_like(mean)
    start = 0
    for block in BLOCKS:
        part = slice(start, start := start + block.dimensions)
        factor = (spread[part] + 0.25 * spread[part].mean()) ** -0.5
        length = np.sqrt((((rows[:, part] - mean[part]) * factor) ** 2).sum(axis=1).mean())
        scale[part] = factor * block.weight / length
    return np.stack((mean, scale)).astype(np.float32)


def _sheet(frames: list[NDArray[np.uint8]]) -> Image.Image:
    rows = [np.concatenate(frames[n : n + PER_KIND], axis=1) for n in range(0, len(frames), PER_KIND)]
    return Image.fromarray(np.concatenate(rows)).reduce(2)


def main() -> int:
    """Write or check the shipped vectors; returns the exit status."""
    parser = argparse.ArgumentParser(description="Regenerate the descriptor's calibration vectors.")
    parser.add_argument("--check", action="store_true", help="compare with the shipped file, write nothing")
    parser.add_argument("--sheet", type=Path, help="also save a contact sheet of the calibration pictures")
    options = parser.parse_args()
    frames = calibration_set()
    if options.sheet:
        _sheet(frames).save(options.sheet)
    vectors = calibrate(frames)
    target = Path(descriptor.__file__).with_name(CALIBRATION)
    if not options.check:
        np.save(target, vectors, allow_pickle=False)
        print(f"{len(frames)} pictures -> {target} ({target.stat().st_size} bytes)")
        return 0
    same = np.allclose(np.load(target), vectors, rtol=1e-3, atol=1e-4)
    print("the shipped vectors are reproduced" if same else "the shipped vectors differ")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
