"""Synthetic run folders: one loop that sinks into a single colour field, one that keeps changing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from PIL import Image

from reverie.cache.manager import CacheManager
from reverie.pixels import Pixels

INTERVAL = 15

SUMMARY = {
    "without": {
        "effective_images": 2.1,
        "effective_images_last_100": 1.8,
        "pairwise": 0.94,
        "stuck": 0.9,
        "hard_cuts": 0,
        "replay": 0.61,
        "motifs": 2,
    },
    "with": {
        "effective_images": 13.4,
        "effective_images_last_100": 6.2,
        "pairwise": 0.31,
        "stuck": 0.02,
        "hard_cuts": 1,
        "replay": 0.12,
        "motifs": 19,
    },
}


def dream_frame(phase: float, size: int) -> Pixels:
    """One picture of a slow procedural dream; near phases look alike."""
    y, x = np.mgrid[0:size, 0:size] / size - 0.5
    turn = phase * 0.7
    u = np.cos(turn) * x - np.sin(turn) * y
    v = np.sin(turn) * x + np.cos(turn) * y
    wave = np.sin(9 * u + 3 * np.sin(5 * v + phase)) + np.cos(7 * v * (1 + 0.4 * np.sin(phase * 1.3)))
    glow = np.exp(-14 * ((u - 0.2 * np.sin(phase)) ** 2 + (v - 0.2 * np.cos(1.7 * phase)) ** 2))
    channels = [
        0.5 + 0.24 * np.sin(wave + phase * (0.9 + 0.23 * c) + c * 2.1) + 0.35 * glow * np.cos(phase + c)
        for c in range(3)
    ]
    return np.asarray(np.clip(np.stack(channels, axis=-1) * 255, 0, 255), dtype=np.uint8)


def arm_frame(name: str, number: int, size: int) -> Pixels:
    """Frame ``number`` of the arm: ``without`` sinks, every other arm travels and jumps at injections."""
    jitter = np.random.default_rng(number).normal(0, 5, (size, size, 3))
    if name == "without":
        sunk = 1 - np.exp(-number / 25)
        picture = (1 - sunk) * dream_frame(number * 0.05, size) + sunk * np.array([142.0, 58.0, 104.0])
    else:
        picture = dream_frame(number * 0.05 + 1.9 * (max(0, number - 1) // INTERVAL), size).astype(np.float64)
    return np.asarray(np.clip(picture + jitter, 0, 255), dtype=np.uint8)


def journal_line(name: str, number: int, injects: bool) -> dict[str, Any]:
    """What the loop writes about one frame."""
    wobble = float(np.sin(number * 0.35))
    sunk = 1 - float(np.exp(-number / 25))
    apart = 0.75 * sunk + 0.2 if name == "without" else 0.35 + 0.12 * wobble
    effective = 1.4 + 5 * (1 - sunk) if name == "without" else 1 + min(6.0, number / 9) + 0.5 * wobble
    injected = None
    if injects:
        injected = {
            "cache_id": f"cache_{number:05d}",
            "similarity": 0.71,
            "source": "seeds/003.png" if number % 2 else f"frames/{max(0, number - 12):06d}.png",
        }
    return {
        "frame": number,
        "seed": 1000 + number,
        "image": f"frames/{number:06d}.png",
        "prompt": "",
        "strength": 0.5,
        "cache_id": f"cache_{number:05d}",
        "parents": [],
        "policy": "spec" if name != "without" else "none",
        "reason": f"frame {number}: {'a memory was due' if injects else 'not due yet'}",
        "injected": injected,
        "measures": {
            "step": 0.05,
            "pairwise": None if number < 5 else apart,
            "effective_images": None if number < 5 else effective,
            "novelty": 0.1,
        },
        "times_ms": {"generate": 40.0 + number % 3, "encode": 2.0, "store": 1.25, "decide": 0.1},
    }


def write_arm(folder: Path, name: str, frames: int, size: int) -> int:
    """Write an arm's frames and journal; returns how many injections it holds."""
    (folder / "frames").mkdir(parents=True)
    for number in range(frames + 1):
        Image.fromarray(arm_frame(name, number, size)).save(folder / "frames" / f"{number:06d}.png")
    if name != "without":
        (folder / "seeds").mkdir()
        Image.fromarray(dream_frame(40.0, size)).save(folder / "seeds" / "003.png")
    injecting = [n for n in range(1, frames + 1) if name != "without" and n % INTERVAL == 0]
    lines = [orjson.dumps(journal_line(name, n, n in injecting)) for n in range(1, frames + 1)]
    (folder / "journal.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
    return len(injecting)


def write_run(
    folder: Path,
    *,
    frames: int = 40,
    size: int = 32,
    arms: Sequence[str] = ("without", "with"),
    summary: dict[str, dict[str, float]] | None = None,
    **changes: Any,
) -> Path:
    """Write a whole run folder; ``changes`` replace keys of ``run.json``."""
    listed = []
    for name in arms:
        injections = write_arm(folder / name, name, frames, size)
        listed.append(
            {
                "name": name,
                "title": f"{name.capitalize()} memory",
                "policy": "none" if name == "without" else "spec",
                "folder": name,
                "frames": frames,
                "injections": injections,
                "summary": (SUMMARY if summary is None else summary).get(name, {}) if frames else {},
            }
        )
    data = {
        "version": 1,
        "reverie": "0.1.0",
        "created": "2026-11-23T07:30:00+00:00",
        "command": f"reverie dream --frames {frames} --strength 0.5 --seed 0",
        "settings": {
            "frames": frames,
            "strength": 0.5,
            "seed": 0,
            "policy": "spec",
            "generator": "patches",
            "encoder": "descriptor-v1",
            "prompt": "",
            "size": [size, size],
            "seeds": 24,
        },
        "finished": True,
        "elapsed_s": 31.5,
        "arms": listed,
    }
    (folder / "run.json").write_bytes(orjson.dumps({**data, **changes}))
    return folder


def tell(folder: Path, name: str, *states: tuple[str, int], alarms: Sequence[int] = ()) -> Path:
    """Add states, so many frames of each, and alarms to the journal of an arm; gives the run's folder."""
    path = folder / name / "journal.jsonl"
    told = [state for state, frames in states for _ in range(frames)]
    lines = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    for line in lines:
        number = line["frame"]
        if number <= len(told):
            state = told[number - 1]
            line["loop"] = {"name": state, "since": number, "why": f"{state} at frame {number}"}
        raised = float(sum(at <= number for at in alarms))
        line["measures"] |= {"alarm": 500.0, "alarms": raised}
    path.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    return folder


def remember(
    folder: Path, name: str, seeds: int, frames: Sequence[int], *, size: int = 32, most: int = 75
) -> list[str]:
    """Give an arm a real memory: pinned seeds and then frames of it; gives their ids."""
    with CacheManager(folder / name / "cache", max_size=most) as cache:
        ids = [
            cache.add(dream_frame(30.0 + at, size), generation_params={"seed_picture": at}, pinned=True)
            for at in range(seeds)
        ]
        ids += [cache.add(arm_frame(name, at, size), generation_params={"frame": at}) for at in frames]
    return ids
