"""Synthetic results of a study, with known values and coloured strips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import Image

from reverie.study.design import Trial
from reverie.study.run import strip_path

DESIGN = {
    "part": "held-out",
    "arms": ["none", "restart", "control", "wander"],
    "generators": ["latent-35"],
    "pictures": [3],
    "seeds": 3,
    "frames": 40,
}

VENDI = {"none": 2.0, "restart": 8.0, "control": 10.0, "wander": 15.0}
CUTS = {"restart": 12.0}
BLENDS = {"control": 0.1, "wander": 0.04}


def figures(arm: str, seed: int) -> dict[str, float]:
    """Of one loop; the higher the seed, the better goes every arm."""
    vendi = VENDI.get(arm, 5.0) * (1 + 0.1 * seed)
    return {
        "vendi": vendi,
        "last": vendi / 2,
        "judge_vendi": 1.2 * vendi,
        "judge_last": vendi,
        "motifs": 5.0,
        "stuck": 0.0,
        "replay": 0.02,
        "novel": 0.5,
        "hard_cuts": CUTS.get(arm, 0.0),
        "blends": BLENDS.get(arm, 0.0),
        "injections": 9.0,
        "largest_step": 0.2,
    }


def results(
    arms: Sequence[str] = tuple(VENDI),
    seeds: Sequence[int] = (0, 1, 2),
    groups: Sequence[tuple[str, int]] = (("latent-35", 3),),
) -> list[dict[str, Any]]:
    """A loop of every arm at every seed of every group."""
    return [
        {"trial": asdict(Trial(arm, generator, pictures, seed, 40)), "figures": figures(arm, seed)}
        for seed in seeds
        for generator, pictures in groups
        for arm in arms
    ]


def write_strips(folder: Path, found: Sequence[Mapping[str, Any]], columns: int = 6) -> None:
    """For each result a strip of squares that go from black to the colour of its seed."""
    (folder / "trials").mkdir(parents=True, exist_ok=True)
    for each in found:
        trial = Trial(**each["trial"])
        strip = Image.new("RGB", (16 * columns, 16))
        for at in range(columns):
            strip.paste((255 * at // columns, 80 * trial.seed, 90), (16 * at, 0, 16 * at + 16, 16))
        strip.save(strip_path(folder, trial))
