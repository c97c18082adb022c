"""The short form of `benchmarks/long_life.py`: a loop with memory stays varied, and nothing in it grows."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from reverie.admission import MaximumSimilarity
from reverie.diversity import vendi
from reverie.generators.patches import PatchGenerator
from reverie.loop.driver import DreamLoop
from reverie.loop.injector import Injector
from reverie.loop.presets import memory_settings
from reverie.memory import ImageMemory

PART, PARTS, PLACES = 80, 4, 24
FRAME = 64 * 64 * 3  # bytes


@pytest.fixture(scope="module")
def lived(tmp_path_factory):
    """A life in parts: variety and entries of each, from the third on the bytes held; files, largest step."""
    suits = memory_settings("wander")
    generator = PatchGenerator(size=64)
    rows, held, entries, steps = [], [], [], []
    folder = tmp_path_factory.mktemp("life")
    with ImageMemory(
        folder / "cache",
        PLACES,
        seed=0,
        admission=MaximumSimilarity(suits.admission),
        eviction=suits.eviction,
        index="sqlite",
    ) as memory:
        for picture in generator.seeds[:3]:
            memory.remember(picture, pinned=True)
        injector = Injector(memory, "wander", seed=0)
        loop = DreamLoop(generator, injector, start=generator.seeds[0], strength=0.5, seed=0)
        for _ in range(PARTS):
            done = [loop.step() for _ in range(PART)]
            rows.append(np.stack([frame.observed.embedding for frame in done]))
            steps += [frame.observed.measures["step"] or 0.0 for frame in done]
            del done
            entries.append(len(memory))
            if tracemalloc.is_tracing():
                held.append(tracemalloc.get_traced_memory()[0])
            elif len(entries) == PARTS // 2:
                tracemalloc.start()
        tracemalloc.stop()
        files = len([path for path in (folder / "cache").rglob("*") if path.suffix == ".png"])
    return [vendi(part) for part in rows], held, entries, files, max(steps)


def test_the_second_half_is_as_varied(lived):
    """Nothing of the life is used up: at least 80 % of the first half, and far from one picture."""
    variety = lived[0]
    first, second = sum(variety[: PARTS // 2]), sum(variety[PARTS // 2 :])
    assert second >= 0.8 * first
    assert min(variety) > 4


def test_nothing_grows(lived):
    """Memory has its places and a file for each; no frame that is gone is held."""
    _, held, entries, files, _ = lived
    assert max(entries) <= PLACES
    assert files == entries[-1]
    assert held[-1] - held[0] < 0.75 * PART * FRAME


def test_no_step_is_above_the_cap(lived):
    """However long it lives."""
    assert lived[4] <= 0.2 + 1e-4
