"""Draw the 24 built-in seed images: 12 kinds, two of each, from formulas and seeded noise alone.

Run ``python tools/make_seeds.py [FOLDER]``; the same pictures come out every time. Everything is
drawn at three times the final size in float64 and averaged down, so edges are smooth and a last-bit
difference between two processors does not reach the 8-bit pixels.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from seed_brushes import (
    CANVAS,
    SCALE,
    SIZE,
    Field,
    blur,
    colour,
    grid,
    light,
    look_up,
    mix,
    noise,
    orb,
    palette,
    ramp,
    skyline,
    stars,
    step,
    window,
)

Place: TypeAlias = tuple[float, float]
"""Angle and distance from the centre."""

QUALITY = 87
HOME = Path(__file__).resolve().parents[1] / "src" / "reverie" / "generators" / "seeds"

GOLDEN_ANGLE = np.pi * (3 - np.sqrt(5))


def dunes(variant: int, rng: np.random.Generator) -> Field:
    """Sand dunes under a low sun; under a moon."""
    y, x = grid()
    sky, sand, dark, disc = (
        ("2b1b4d 6d2f6b c8506a f58a4b ffd27a", "ffd08a f29a4e c9602f", "6b2440 431a3c", "fff0c0"),
        ("050a1f 0b1f44 17406b 3d7a94", "dbe8f5 8fa9c8 5c7aa6", "22335f 0a1230", "f4f6ff"),
    )[variant]
    picture = ramp(y / 0.55, sky)
    sun = np.hypot(y - (0.36, 0.2)[variant], x - (0.66, 0.28)[variant])
    picture = orb(picture, sun, (0.08, 0.06)[variant], disc, halo=0.75)
    for layer in range(4):
        depth = layer / 3
        wide = 0.42 + 0.30 * depth
        phase = (x + 0.04 * skyline(rng, 2.6)) / wide + rng.random()
        peak = np.abs((phase % 1) - 0.5) * 2
        swell = 0.5 + 0.5 * look_up(rng.random((8, 8)), 0.3 * np.ones_like(x), np.floor(phase) / 8)
        rise = (0.10 + 0.07 * depth) * (
            (0.35 + 0.65 * swell) * (0.5 + 0.5 * np.cos(np.pi * peak) - 0.25 * peak)
            + 0.3 * np.sin(3 * x + 6 * layer)
        )
        below = y - (0.55 + 0.135 * layer - rise)
        fold = phase % 1 - 0.5 + 0.10 * np.sin(14 * below / (0.7 + depth)) - 0.9 * below * (1, -1)[variant]
        lit = step(-0.02, 0.02, fold * (1, -1)[variant])
        lit = lit + (0.45 - lit) * step(0.45, 0.95, peak + 0.5 * below)
        ripple = np.sin((below + 0.25 * rise + 0.006 * noise(rng, 2.4, 2.0)) * (330 - 190 * depth))
        tone = np.clip(below * 3.2 + 0.10 * ripple * step(0.0, 0.06, below), 0, 1)
        shade = mix(ramp(tone, dark), ramp(tone, sand), lit)
        picture = mix(
            picture, mix(shade, ramp(np.array(0.9), sky), 0.5 * (1 - depth) ** 1.3), step(0.0, 0.004, below)
        )
    return picture


def aurora(variant: int, rng: np.random.Generator) -> Field:
    """Northern lights over a lake; over snow hills."""
    y, x = grid()
    horizon = (0.74, 0.82)[variant]
    seen = np.where(y < horizon, y, 2 * horizon - y)
    sway = np.where(y < horizon, x, x + 0.012 * noise(rng, 1.6, 3.0, 8.0))
    night = ("030616 071433 0d2b4a", "0a0420 1b0b3f 3a1a5c")[variant]
    low, high = (("5dffb0", "7a3cff"), ("ff5fb0", "38e0e8"))[variant]
    glow = np.zeros((CANVAS, CANVAS, 3))
    veil = [np.clip(0.75 + 0.6 * skyline(rng, 1.8), 0.05, 1.5) for _ in range(3)]
    for band in range(3):
        line = 0.58 - 0.15 * band + 0.05 * skyline(rng, 2.5)
        rays = 0.55 + 0.45 * np.tanh(1.2 * skyline(rng, 0.9, 4.0))
        at = np.clip((sway % 1.0) * CANVAS, 0, CANVAS - 1).astype(int)
        above = line[at] - seen
        body = np.exp(-np.clip(above, 0, None) / (0.05 + 0.10 * rays[at])) * step(-0.025, 0.012, above)
        tint = ramp(np.clip(above / 0.22, 0, 1), f"{low} {high}")
        glow += (1.5 - 0.35 * band) * (body * (0.15 + 0.85 * rays[at] * veil[band][at]))[..., None] * tint
    picture = ramp(seen / horizon, night) + stars(rng, 260)[..., None] * (0.8 * (y < horizon))[..., None]
    picture = 1 - (1 - np.clip(picture, 0, 1)) * np.exp(-1.35 * glow)
    hills = horizon - 0.05 - 0.028 * skyline(rng, 1.7 - 0.2 * variant, 2.0)
    if variant:
        snow = ramp(np.clip((y - hills[None, :]) / 0.25, 0, 1), "dcc6ff 6a4aa8 1d1145")
        snow = snow * (0.85 + 0.15 * light(noise(rng, 2.8), (0.3, 1.0), 0.4))[..., None]
        return mix(picture, snow, step(0.0, 0.004, y - hills))
    picture = mix(picture, colour("02060f"), step(0.0, 0.004, seen - hills))
    return picture * np.where(y < horizon, 1.0, 0.72)[..., None]


def coral(variant: int, rng: np.random.Generator) -> Field:
    """A Turing pattern with relief: brain coral; the spots of a poison frog."""
    field = rng.standard_normal((384, 384))
    near, far = ((0.011, 0.019), (0.017, 0.030))[variant]
    gain, lean = ((9.0, 0.0), (7.0, -0.55))[variant]
    for _ in range(40):
        field = np.tanh(gain * (blur(field, near) - blur(field, far)) + lean)
    y, x = grid()
    bend = 0.02 * noise(rng, 3.2), 0.02 * noise(rng, 3.2)
    height = look_up(blur(field, 0.004), y + bend[0], x + bend[1])
    t = (height - height.min()) / np.ptp(height)
    tones = (
        "2a0838 6b1470 c42a8a ff6fa0 ffb3b8 fff0e0",
        "ffd23f ffab1f f2661f 3a1a6b 14103f 2b2f8f",
    )[variant]
    picture = ramp(np.clip(t + 0.06 * noise(rng, 2.6), 0, 1), tones)
    return picture * (1.0 + 0.30 * light(height, (-0.7, -0.7), 0.035))[..., None]


def nearest_two(py: Field, px: Field) -> tuple[NDArray[np.intp], Field]:
    """Which point is nearest to every pixel, and how much farther the second one is."""
    y, x = grid()
    first = np.full((CANVAS, CANVAS), np.inf)
    second, owner = first.copy(), np.zeros((CANVAS, CANVAS), dtype=np.intp)
    for i, (cy, cx) in enumerate(zip(py, px, strict=True)):
        gap = np.hypot(y - cy, x - cx)
        closer = gap < first
        second = np.where(closer, first, np.minimum(second, gap))
        owner[closer] = i
        first = np.where(closer, gap, first)
    return owner, second - first


def glass(variant: int, rng: np.random.Generator) -> Field:
    """Stained glass: a rose window; a landscape with sun and hills."""
    if variant:
        lattice = np.indices((13, 13)).reshape(2, -1)
        py, px = (lattice + 0.5 * (lattice[::-1] % 2) + 0.55 * rng.random(lattice.shape) - 0.5) / 12
        sun = np.hypot(py - 0.3, px - 0.32)
        hill = py - 0.66 - 0.1 * np.sin(6 * px)
        sky = ramp(
            np.clip(0.3 + 0.9 * py + 0.2 * (rng.random(169) - 0.5), 0, 1), "123a8c 2f7fd6 9fdcf2 ffe9b8"
        )
        land = ramp(np.clip(hill * 3 + 0.3 * rng.random(169), 0, 1), "7fd34e 1f9d55 0b5d4a")
        tint = mix(sky, land, (hill > 0).astype(float))
        tint = mix(tint, ramp(rng.random(169), "ffb400 ff6a00 ffd84a"), (sun < 0.17).astype(float))
    else:
        rings = [(0, 1), (0.1, 8), (0.2, 12), (0.31, 16), (0.42, 24), (0.55, 24), (0.68, 30)]
        polar = [
            (r, 2 * np.pi * (k + 0.5 * (i % 2)) / n, i) for i, (r, n) in enumerate(rings) for k in range(n)
        ]
        radius, angle, ring = np.array(polar).T
        py, px = 0.5 + radius * np.sin(angle), 0.5 + radius * np.cos(angle)
        tone = (0.17 * ring + 0.10 * np.round(angle * 4 / np.pi) % 1 + 0.08 * rng.random(len(ring))) % 1.0
        tint = ramp(tone, "ffd24a e0263c 6a0f5e 1c2fb0 17a2b8 e8375a ffb03a")
    owner, edge = nearest_two(py, px)
    body = 0.85 + 0.13 * noise(rng, 1.6, 4.0) + 0.25 * step(0.0, 0.06, edge)
    picture = np.clip(tint[owner] * body[..., None], 0, 1)
    return mix(colour("14100f") * np.ones(3), picture, step(0.006, 0.011, edge))


def nebula(variant: int, rng: np.random.Generator) -> Field:
    """A glowing gas cloud; a spiral galaxy."""
    y, x = grid()
    sky = stars(rng, (420, 300)[variant])[..., None]
    if variant:
        dy, dx = (y - 0.5) * 1.55 + (x - 0.5) * 0.45, x - 0.5
        radius, angle = np.hypot(dy, dx), np.arctan2(dy, dx)
        swirl = np.cos(2 * angle - 7.5 * np.log(radius + 0.03) + 0.55 * noise(rng, 2.2, 2.0))
        arms = step(-0.5, 1.1, swirl) * np.exp(-((radius / 0.30) ** 2)) * (1 + 0.3 * noise(rng, 1.5, 6.0))
        core = np.exp(-((radius / 0.075) ** 1.5))
        picture = ramp(np.clip(1.15 * arms, 0, 1), "02040f 10264f 3a6fc0 c9b8ff ffe8f0")
        return np.clip(mix(picture, colour("ffe2a0"), np.clip(core * 1.2, 0, 1)) + 0.9 * sky, 0, 1)
    warp = 0.09 * noise(rng, 2.6), 0.09 * noise(rng, 2.6)
    gas = look_up(noise(rng, 2.2), y + warp[0], x + warp[1])
    dust = look_up(noise(rng, 2.3, 2.0), y + warp[1], x + warp[0])
    gas = step(-1.1, 2.6, gas + 0.9 - 9.0 * ((y - 0.48) ** 2 + 0.6 * (x - 0.5) ** 2))
    tones = ramp(step(-1.6, 1.6, dust + 2.5 * (x - 0.5)), "18c5d9 2a5bff 8a34e9 f02f8f ff7a2c")
    picture = mix(colour("05030f") * np.ones(3), tones, gas**1.1)
    picture = mix(picture, colour("fff1dc"), 0.8 * step(0.80, 1.05, gas))
    return np.clip(picture * (0.55 + 0.45 * step(-1.3, 0.4, dust))[..., None] + 0.9 * sky, 0, 1)


def weave(variant: int, rng: np.random.Generator) -> Field:
    """Woven cloth: a tartan; a slanting twill in desert colours."""
    y, x = grid()
    if variant:
        y, x = (y + x) / np.sqrt(2), (y - x) / np.sqrt(2)
    count, floats = ((40, 2), (26, 3))[variant]
    bend = 0.05 * noise(rng, 2.4, 2.0)
    v, u = y * count + bend, x * count + bend
    row, column = np.floor(v).astype(int), np.floor(u).astype(int)
    setts = (
        ["b3263a"] * 6 + ["1b3a70"] * 4 + ["f1e3c6"] + ["1b3a70"] * 4 + ["25805f"] * 4 + ["e0a526"],
        ["e9c46a"] * 3 + ["2a9d8f"] * 3 + ["264653"] * 2 + ["f4a261"] * 3 + ["e76f51"] * 2 + ["faf3dd"],
    )[variant]
    dyes = np.array([colour(dye) for dye in setts])
    over = (row + column) % (2 * floats) < floats
    across = np.sqrt(np.clip(1 - (2 * np.where(over, v, u) % 2 - 1) ** 2, 0, 1))
    along = np.where(over, u, v) * np.pi / floats + (np.where(over, row, column) % 2) * np.pi / 2
    tint = np.where(over[..., None], dyes[row % len(dyes)], dyes[column % len(dyes)])
    fibre = 1 + 0.06 * np.where(over, noise(rng, 0.7, 8.0, 10.0), noise(rng, 0.7, 8.0, 0.1))
    shade = (0.45 + 0.55 * across) * (0.88 + 0.12 * np.abs(np.sin(along))) * fibre
    return np.clip(tint * 1.15 * shade[..., None], 0, 1)


def rings(variant: int, rng: np.random.Generator) -> Field:
    """Rain rings on clear water; raked sand around stones."""
    y, x = grid()
    if variant:
        stones = [(0.34, 0.36, 0.105), (0.66, 0.68, 0.075), (0.53, 0.78, 0.045)]
        gap = np.min([np.hypot(y - cy, (x - cx) * 0.85) - r for cy, cx, r in stones], axis=0)
        mixed = mix((y + 0.015 * np.sin(7 * x))[..., None], gap[..., None], step(0.24, 0.17, gap))[..., 0]
        raked = np.sin(mixed * 2 * np.pi * 34) * step(0.0, 0.02, gap)
        sand = colour("e6d6b8") * (1 + 0.13 * raked + 0.03 * noise(rng, 0.8, 8.0))[..., None]
        cast = np.min([np.hypot(y - cy - 0.025, (x - cx - 0.02) * 0.85) - r for cy, cx, r in stones], axis=0)
        sand = sand * (1 - 0.55 * step(0.03, -0.02, cast))[..., None]
        bump = np.sqrt(np.clip(-gap, 0, None)) + 0.006 * noise(rng, 1.8, 3.0)
        rock = ramp(np.clip(0.5 + 0.5 * light(bump, (0.8, 0.6), 0.30), 0, 1), "1d2226 59636a a9b0ab f1efe6")
        moss = step(0.2, 1.4, noise(rng, 2.0, 2.0) + 0.6)
        rock = mix(rock, rock * colour("a8d06a") * 1.25, 0.8 * moss)
        return np.clip(mix(sand, rock, step(0.002, -0.002, gap)), 0, 1)
    height = 0.10 * noise(rng, 2.8, 2.0)
    for _ in range(6):
        cy, cx, reach = *rng.random(2), 0.10 + 0.25 * rng.random()
        gap = np.hypot((y - cy) * 1.15, x - cx)
        height += np.cos((gap - reach) * 2 * np.pi * 22) * np.exp(-(((gap - reach) / 0.10) ** 2)) * 0.9
    slope = light(height, (-0.8, -0.5), 0.018)
    deep = ramp(
        np.clip(0.15 + 0.75 * y + 0.16 * noise(rng, 2.6) + 0.25 * slope, 0, 1),
        "e2fff1 5fe0d0 129fb5 07527f 062a52",
    )
    return mix(deep, colour("ffffff"), step(0.45, 0.95, slope) * 0.85)


def mountains(variant: int, rng: np.random.Generator) -> Field:
    """Ridge behind ridge: blue mist with a pale sun; a rose morning with pines."""
    y, x = grid()
    sky, far, near = (
        ("7fa6c9 b9d2e2 f3ead8", "b4cbdc", "0e2a3f"),
        ("f7c6a8 f9a7a0 fbe3c8", "eeb7b4", "2c1338"),
    )[variant]
    picture = ramp(y / 0.6, sky)
    sun = np.hypot(y - 0.22, x - (0.7, 0.3)[variant])
    picture = orb(picture, sun, 0.0725, ("fffaf0", "fff3c4")[variant], halo=0.5)
    for layer in range(6):
        depth = layer / 5
        crest = 0.36 + 0.115 * layer - (0.055 - 0.02 * depth) * skyline(rng, 1.75, 1 + (layer > 1))
        if variant and layer > 2:
            crest = crest - pines(rng, 0.035 + 0.025 * (layer - 2))
        below = y - crest
        tone = mix(colour(far), colour(near), depth**1.2)
        mist = np.clip(below / (0.20 + 0.05 * depth) + 0.10 * noise(rng, 2.6, 2.0, 3.0), 0, 1)
        mist = 0.85 * mist * (1 - 0.75 * depth)
        body = mix(tone * np.ones((CANVAS, CANVAS, 3)), ramp(np.array(0.85), sky), mist)
        picture = mix(picture, body, step(0.0, 0.003, below))
    return picture


def pines(rng: np.random.Generator, tall: float) -> Field:
    """Height of a row of pine trees over the columns."""
    x = (np.arange(CANVAS) + 0.5) / CANVAS
    rise = np.zeros(CANVAS)
    for _ in range(int(2.0 / tall)):
        height, gap = tall * (0.5 + 0.9 * rng.random()), np.abs(x - rng.random())
        branch = 1 - gap / (0.26 * height)
        rise = np.maximum(rise, height * np.clip(branch + 0.10 * np.sin(branch * 38) * (branch < 0.9), 0, 1))
    return rise


def flower(variant: int, rng: np.random.Generator) -> Field:
    """Phyllotaxis: a sunflower; a rosette of succulent leaves."""
    y, _ = grid()
    back = ("2f6fa8 8fc4e8", "1b0f1e 4a2340")[variant]
    picture = ramp(np.clip(y + 0.12 * noise(rng, 2.4), 0, 1), back)
    if variant:
        for n in range(150, 0, -1):
            age = n / 150
            tones = ramp(np.array([0.15 + 0.75 * age]), "fbf6b8 9fe0a0 2fb09a 1f7fb0 6a3fb8")[0]
            place = (n * GOLDEN_ANGLE, 0.50 * age**0.62)
            leaf(picture, place, 0.045 + 0.12 * age, 0.62, (tones, colour("ff6f91")))
        return picture
    for n in range(44):
        tones = ramp(np.array([rng.random()]), "ffc21a ff9a0d ffdf4a")[0]
        leaf(
            picture, (n * GOLDEN_ANGLE, 0.31 + 0.03 * (n % 2)), 0.165, 0.42, (tones, colour("b8480a")), tip=-1
        )
    for n in range(620, -1, -1):
        r = 0.248 * np.sqrt(n / 620)
        tones = ramp(np.array([n / 620]), "c9a03a 5e3a16 2b1508 6b3a0f b8741a")[0]
        leaf(picture, (n * GOLDEN_ANGLE, r), 0.0125, 0.9, (tones, tones * 0.35))
    return picture


def leaf(
    picture: Field, place: Place, size: float, slim: float, tones: tuple[Field, Field], *, tip: int = 1
) -> None:
    """Paint one shaded leaf that points away from the centre; ``tones`` are its body and its tip or root."""
    angle, radius = place
    cy, cx = 0.5 + radius * np.sin(angle), 0.5 + radius * np.cos(angle)
    rows, columns = window(cy, cx, size * 1.15)
    y, x = (part[rows, columns] for part in grid())
    out = ((y - cy) * np.sin(angle) + (x - cx) * np.cos(angle)) / size
    side = ((x - cx) * np.sin(angle) - (y - cy) * np.cos(angle)) / (size * slim)
    body = np.sqrt(np.clip(1 - out**2, 0, 1)) * (1 - 0.35 * np.clip(out, -1, 1))
    inside = body - np.abs(side)
    cover = step(0.0, 3.0 / (CANVAS * size), inside)
    shade = (
        0.62 + 0.30 * step(0.0, 0.5, inside) + 0.12 * np.tanh(3 * side) + 0.10 * step(0.10, 0.0, np.abs(side))
    )
    end = step(0.35, 1.0, out * tip)
    paint = np.clip(mix(tones[0] * np.ones(3), tones[1], 0.75 * end) * shade[..., None], 0, 1)
    picture[rows, columns] = mix(picture[rows, columns], paint, cover)


def city(variant: int, rng: np.random.Generator) -> Field:
    """Towers at night over a river; street lights out of focus in the rain."""
    y, x = grid()
    if variant:
        return bokeh(y, x, rng)
    bank = 0.72
    seen = np.where(y < bank, y, 2 * bank - y + 0.01 * noise(rng, 1.4, 4.0, 6.0) * step(bank, 1.0, y))
    picture = ramp(np.clip(seen / bank, 0, 1), "0a0a2a 231455 6a2a7a e0567a ffb06a")
    moon = np.hypot(seen - 0.17, x - 0.22)
    picture = orb(picture, moon, 0.06, "fff2d8", halo=0.4)
    for layer in range(3):
        wall = mix(colour("8a3f86"), colour("0b0a24"), layer / 2)
        left = -0.02
        while left < 1.0:
            wide = rng.integers(4, 8) * 0.017
            tall = (0.62 - 0.16 * layer) * (1 - 0.9 * abs(left - 0.45))
            top = bank - tall * (0.25 + 0.75 * rng.random() ** 1.5)
            picture = tower(picture, (seen, x), (left, top, wide, bank), wall, rng)
            left += wide + 0.017 * rng.integers(0, 2 + 2 * layer)
    return picture * np.where(y < bank, 1.0, 0.75)[..., None]


def tower(
    picture: Field,
    at: tuple[Field, Field],
    box: tuple[float, float, float, float],
    wall: Field,
    rng: np.random.Generator,
) -> Field:
    """One building with lit and dark windows; ``box`` is left, top, width and foot."""
    (y, x), (left, top, wide, foot) = at, box
    lamps = ramp(rng.random((64, 16)), "ffd27a ffb347 fff1c9 8fd3ff")
    lit = rng.random((64, 16)) < 0.42
    inside = (x > left) & (x < left + wide) & (y > top) & (y < foot)
    row, column = (y - top) / 0.026, (x - left) / 0.017
    pane = step(0.36, 0.26, np.abs(row % 1 - 0.54)) * step(0.35, 0.25, np.abs(column % 1 - 0.52))
    i, j = np.clip(row.astype(int), 0, 63), np.clip(column.astype(int), 0, 15)
    front = mix(wall * np.ones(3), lamps[i, j], pane * np.where(lit[i, j], 0.95, 0.12))
    return np.where(inside[..., None], front, picture)


def bokeh(y: Field, x: Field, rng: np.random.Generator) -> Field:
    """Soft discs of light in front of a dark blue evening."""
    picture = ramp(np.clip(y + 0.1 * noise(rng, 2.6), 0, 1), "04121f 0a2b3c 12454a 071a24")
    for n in range(95):
        radius = 0.025 + 0.085 * (n / 95) ** 1.6 * (0.6 + 0.4 * rng.random())
        cy, cx = 0.5 + 0.16 * rng.standard_normal() + 0.12 * (n % 3 - 1), rng.random()
        tone = ramp(np.array([rng.random()]), "ff1d3a ff6a0f ffc21f 12c6a0 1f70ff f02fb2")[0]
        gap = np.hypot(y - cy, x - cx)
        disc = step(radius, radius * 0.93, gap) * (0.55 + 0.35 * step(radius * 0.7, radius, gap))
        picture = 1 - (1 - picture) * (1 - (disc * (0.45 + 0.5 * rng.random()))[..., None] * tone)
    return picture


def ink(variant: int, rng: np.random.Generator) -> Field:
    """Marbled paper, combed; polished malachite."""
    y, x = grid()
    if variant:
        bend = 0.03 * noise(rng, 2.6, 2.0), 0.03 * noise(rng, 2.6, 2.0)
        field = 0.8 * look_up(noise(rng, 3.4), y + bend[0], x + bend[1])
        band = 0.5 + 0.5 * np.sin(11 * field + 0.5 * noise(rng, 2.0, 3.0))
        fine = 0.5 + 0.5 * np.sin(62 * field)
        picture = ramp(np.clip(0.78 * band + 0.22 * fine, 0, 1), "02261c 075a3f 0f8f5f 4fc98f c8f5d5")
        gloss = step(0.6, 1.6, np.sin(3 * field + 1) + 0.6 * noise(rng, 2.6))
        return mix(picture, colour("f4fff2"), 0.10 * gloss)
    y0, x0 = y + 0.014 * noise(rng, 3.0), x + 0.03 * noise(rng, 3.0)
    comb = np.abs((x0 * 7) % 1 - 0.5) * 2
    pulled = y0 + 0.085 * comb**1.5 + 0.03 * np.sin(x0 * 9)
    stripe = pulled * 17 + 0.35 * noise(rng, 2.4, 2.0)
    index, place = np.floor(stripe).astype(int), stripe % 1
    tints = palette("f6ead2 12355b d7263d f6ead2 f2a65a 12355b 2a7f86 f6ead2 7a1f3d")
    order = rng.integers(0, len(tints), 64)
    picture = tints[order[index % 64]]
    vein = step(0.10, 0.03, place) + step(0.90, 0.97, place)
    picture = mix(picture, colour("fff7e2"), 0.7 * np.clip(vein, 0, 1))
    return np.clip(picture * (1 + 0.03 * noise(rng, 1.0, 8.0))[..., None], 0, 1)


def horizon(variant: int, rng: np.random.Generator) -> Field:
    """The sun going down over the sea; tulip fields under a summer sky."""
    y, x = grid()
    line = (0.60, 0.46)[variant]
    depth = np.clip((y - line) / (1 - line), 1e-3, None)
    above, below = (sunset, summer)[variant](y / line, x, depth, rng)
    return np.clip(mix(above, below, step(-0.002, 0.002, y - line)), 0, 1)


def sunset(up: Field, x: Field, depth: Field, rng: np.random.Generator) -> tuple[Field, Field]:
    """An evening sky and its sea; ``up`` is 0 at the top and 1 at the horizon, ``depth`` goes on below."""
    puffs = noise(rng, 2.3, 2.0, 7.0)
    sky = ramp(up, "233a7a 7a4a9a e8627a ff9a5a ffd98a")
    sun = np.hypot(0.6 * up - 0.53, x - 0.42)
    sky = orb(sky, sun, 0.065, "fff8d0", halo=0.8)
    tone = np.clip(up + 0.25 * light(puffs, (-1.0, 0.0), 0.01), 0, 1)
    cloud = 0.85 * step(0.0, 1.3, puffs + 1.1 * (0.45 - up))
    sky = mix(sky, ramp(tone, "4a3a7a b0447a ff7a5a ffe0a0"), cloud)
    wave = np.sin(60 * np.log(depth + 0.06) + 1.6 * noise(rng, 1.6, 3.0, 5.0))
    sea = ramp(np.clip(depth + 0.10 * wave, 0, 1), "e88a6a a0507e 3c3a78 14204f")
    trail = np.exp(-(((x - 0.42) / (0.05 + 0.16 * depth)) ** 2)) * step(-0.2, 0.7, wave)
    return sky, mix(sea, colour("ffe3a0"), 0.9 * trail)


def summer(up: Field, x: Field, depth: Field, rng: np.random.Generator) -> tuple[Field, Field]:
    """A blue sky with clouds and its fields; arguments as of `sunset`."""
    puffs = noise(rng, 1.9, 2.0, 1.8) + 0.25 * noise(rng, 1.2, 8.0, 1.5)
    cloud = step(0.1, 1.1, puffs - 2.5 * np.abs(up - 0.48) + 0.7)
    tone = np.clip(0.7 + 0.4 * light(blur(puffs, 0.006), (1.0, 0.4), 0.02), 0, 1)
    sky = mix(ramp(up, "2a78d0 6fb4ee cfeaf8"), ramp(tone, "8fa9c9 e8eef6 ffffff"), cloud)
    rows = (x - 0.42) / (depth + 0.12) * 2.3 + 40
    tints = palette("e8274b ffd02e 4caf3d ff7a1f 4caf3d f062a8 6a2fb0 4caf3d ffffff")
    bloom = 0.80 + 0.22 * noise(rng, 0.6, 12.0) * np.clip(depth * 2, 0.3, 1)
    bloom = bloom * (0.70 + 0.30 * np.sin(np.pi * (rows % 1)) ** 0.5)
    field = tints[rows.astype(int) % len(tints)] * bloom[..., None]
    return sky, mix(field, colour("a9cfa0"), 0.6 * np.exp(-depth / 0.12))


# ------------------------------------------------------------------------------ to files

KINDS: dict[str, Callable[[int, np.random.Generator], Field]] = {
    "aurora": aurora,
    "city": city,
    "coral": coral,
    "dunes": dunes,
    "flower": flower,
    "glass": glass,
    "horizon": horizon,
    "ink": ink,
    "mountains": mountains,
    "nebula": nebula,
    "rings": rings,
    "weave": weave,
}


def render(kind: str, variant: int) -> NDArray[np.uint8]:
    """One picture, ``(256, 256, 3)`` uint8; ``variant`` is 0 or 1."""
    rng = np.random.default_rng([list(KINDS).index(kind), variant])
    picture = np.clip(KINDS[kind](variant, rng), 0.0, 1.0)
    small = picture.reshape(SIZE, SCALE, SIZE, SCALE, 3).mean(axis=(1, 3))
    return np.rint(small * 255).astype(np.uint8)


def encode(pixels: NDArray[np.uint8]) -> bytes:
    """The picture as the bytes of a WebP file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", quality=QUALITY, method=6)
    return buffer.getvalue()


def main(folder: Path) -> None:
    """Write every picture to a folder and print their sizes."""
    folder.mkdir(parents=True, exist_ok=True)
    total = 0
    for kind in KINDS:
        for variant in (0, 1):
            data = encode(render(kind, variant))
            (folder / f"{kind}-{variant + 1}.webp").write_bytes(data)
            total += len(data)
            print(f"{kind}-{variant + 1}.webp  {len(data):6,} bytes")
    print(f"{total:,} bytes in {folder}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HOME)
