"""One loop of the study, from its start to its figures."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from PIL import Image

from reverie.diversity import hard_cuts, mean_pairwise, motifs, replay, rke, steps, vendi
from reverie.loop.driver import DreamLoop, FrameDone, Observer
from reverie.loop.injector import Injector
from reverie.loop.spectator import Spectator
from reverie.memory import ImageMemory
from reverie.pixels import Pixels
from reverie.protocols import Encoder, Generator, LatentSpace
from reverie.study.arms import ARMS
from reverie.study.design import Dreamer, Trial, known_pictures
from reverie.study.dream_gen import DreamGen
from reverie.vectors import Vectors

__all__ = ["Passing", "run_trial"]

_ROOM = 75
_STRIP, _THUMB = 24, 64  # pictures of a strip, and their side


class Passing:
    """A generator that, when it is told to, gives the next frame back as it came: it is shown as it is.

    Args:
        generator: Makes all other frames.
    """

    def __init__(self, generator: Generator) -> None:
        self._generator = generator
        self._keep = False
        self.name, self.size, self.seeds = generator.name, generator.size, generator.seeds

    def keep(self) -> None:
        """The next frame is to be shown as it is put in."""
        self._keep = True

    def generate(self, frame: Pixels, *, prompt: str, strength: float, seed: int) -> Pixels:
        """As the generator does, unless this one frame is to be kept."""
        if self._keep:
            self._keep = False
            return frame.copy()
        return self._generator.generate(frame, prompt=prompt, strength=strength, seed=seed)


def run_trial(
    trial: Trial, dreamer: Dreamer, generator: Generator, encoder: Encoder, judge: Encoder
) -> tuple[dict[str, Any], Image.Image]:
    """Run one loop.

    Args:
        trial: Which.
        dreamer: The generator's strength.
        generator: As ``dreamer`` makes it.
        encoder: Steers, and measures.
        judge: Measures what the encoder may have been led to.

    Returns:
        All figures by name, as JSON can hold them, and a strip of 24 of its pictures.
    """
    known, seeds = known_pictures(trial, generator.seeds), list(generator.seeds)
    start = seeds[trial.order(len(seeds))[0]]
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, _memory(trial, encoder, len(known), folder) as memory:
        observer, passing = _observer(trial, memory, known, generator)
        loop = DreamLoop(passing, observer, start=start, strength=dreamer.strength, seed=trial.seed)
        done = [loop.step() for _ in range(trial.frames)]
    frames = [one.pixels for one in done]
    elapsed = time.perf_counter() - began
    rows, second = encoder.encode_batch(frames), judge.encode_batch(frames[::2])
    figures = {**_figures(rows, encoder.encode_batch(seeds)), **_counts(done), "seconds": elapsed}
    figures["judge_vendi"] = vendi(second)
    figures["judge_last"] = vendi(second[-50:])
    figures["judge_pairwise"] = mean_pairwise(second[-30:])
    return {"trial": asdict(trial), "figures": figures}, _strip(frames)


def _memory(trial: Trial, encoder: Encoder, known: int, folder: str) -> ImageMemory:
    arm = ARMS[trial.arm]
    return ImageMemory(
        folder,
        max(_ROOM, 2 * known),
        encoder,
        trial.seed,
        admission=arm.admission(),
        eviction=arm.memory.eviction,
        index="sqlite",
    )


def _observer(
    trial: Trial, memory: ImageMemory, known: Sequence[Pixels], generator: Generator
) -> tuple[Observer, Passing]:
    """What watches the loop, and the generator as it is to be used with it."""
    arm, passing, encoder = ARMS[trial.arm], Passing(generator), memory.matcher.encoder
    latents = generator if isinstance(generator, LatentSpace) else None
    if arm.policy is not None:
        for picture in known if arm.memory.remember_seeds else ():
            memory.remember(picture, pinned=True)
        return Injector(memory, arm.policy, seed=trial.seed, latents=latents), passing
    if trial.arm == "none":
        return Spectator(encoder), passing
    return DreamGen(encoder, known, passing.keep, seed=trial.seed, cap=arm.cap, latents=latents), passing


def _counts(done: Sequence[FrameDone]) -> dict[str, float]:
    shown = [one.observed.shown for one in done]
    begun = [one.injection for one in done if one.injection is not None and one.injection.step == 1]
    extra = sum(one.made for one in shown if one is not None)
    return {
        "injections": float(len(begun)),
        "imagined": float(sum(one.kind == "imagined" for one in begun)),
        "blends": sum(one is not None and one.how == "blend" for one in shown) / len(done),
        "nearer": sum(one is not None and one.how == "input" for one in shown) / len(done),
        "calm": sum(one is not None and one.how == "calm" for one in shown) / len(done),
        "made_again": extra / len(done),
        "decide_ms": float(np.median([one.times_ms.get("decide", 0.0) for one in done])),
    }


def _figures(rows: Vectors, seeds: Vectors) -> dict[str, float]:
    windows = [mean_pairwise(rows[end - 20 : end]) for end in range(20, len(rows) + 1)]
    nearest = np.array([float(np.vecdot(seeds, row).max()) for row in rows])
    return {
        "vendi": vendi(rows),
        "last": vendi(rows[-100:]),
        "rke": rke(rows),
        "pairwise": mean_pairwise(rows[-60:]),
        "motifs": float(motifs(rows)),
        "replay": replay(rows),
        "novel": float(np.mean(nearest < 0.8)),
        "stuck": float(np.mean([value > 0.85 for value in windows])) if windows else 0.0,
        "hard_cuts": float(hard_cuts(rows)),
        "largest_step": float(max(steps(rows), default=0.0)),
    }


def _strip(frames: Sequence[Pixels]) -> Image.Image:
    numbers = np.linspace(0, len(frames) - 1, min(_STRIP, len(frames))).round().astype(int)
    strip = Image.new("RGB", (_THUMB * len(numbers), _THUMB))
    for place, number in enumerate(numbers):
        small = Image.fromarray(frames[number]).resize((_THUMB, _THUMB), Image.Resampling.LANCZOS)
        strip.paste(small, (_THUMB * place, 0))
    return strip
