"""What a run is made of: encoder, generator, start, memory, each made as its settings say."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reverie import registry
from reverie.admission import MaximumSimilarity
from reverie.cache.aesthetic_matcher import AestheticMatcher
from reverie.errors import InputError
from reverie.loop.dream_settings import DreamSettings
from reverie.loop.journal import read_journal
from reverie.loop.presets import memory_settings, places
from reverie.memory import ImageMemory
from reverie.pixels import Pixels, fit
from reverie.protocols import Encoder, Generator

__all__ = ["digest_of", "encoder_of", "generator_of", "memory_of", "start_of"]


def encoder_of(settings: DreamSettings) -> Encoder:
    """The encoder, its model loaded: when that cannot be had, nothing is started."""
    options: dict[str, Any] = {"model_dir": settings.model_dir, "threads": settings.threads}
    given = {name: value for name, value in options.items() if value is not None}
    matcher = AestheticMatcher(settings.encoder, **given)
    matcher.load()
    return matcher.encoder


def generator_of(settings: DreamSettings) -> Generator:
    """The generator, loaded."""
    options = dict(settings.generator_options)
    if settings.size is not None:
        options["size"] = settings.size
    generator: Generator = registry.create("generators", settings.generator, settings.seeds, **options)
    return generator


def start_of(settings: DreamSettings, generator: Generator) -> Pixels:
    """The picture that both arms start from; raises InputError when there is none."""
    seeds = generator.seeds
    if len(seeds) == 0:
        raise InputError(
            f"the generator {settings.generator!r} has no images to start from: "
            "name a folder of pictures with seeds"
        )
    return fit(seeds[settings.seed % len(seeds)], *generator.size)


def memory_of(
    settings: DreamSettings, seeds: int, encoder: Encoder, folder: Path
) -> tuple[ImageMemory, bool]:
    """The memory that suits the policy, as it was when the run was stopped; whether seeds belong into it."""
    suits = memory_settings(settings.policy)
    remembers = suits.remember_seeds if settings.remember_seeds is None else settings.remember_seeds
    lines = read_journal(folder / "journal.jsonl") if (folder / "journal.jsonl").exists() else []
    memory = ImageMemory(
        folder / "cache",
        places(seeds if remembers else 0),
        encoder=encoder,
        seed=settings.seed,
        admission=None if suits.admission is None else MaximumSimilarity(suits.admission),
        eviction=suits.eviction,
        eviction_options=lines[-1]["state"]["eviction"] if lines else None,
    )
    return memory, remembers


def digest_of(seeds: Sequence[Pixels]) -> str:
    """Of the pixels of the seed pictures, in order."""
    digest = hashlib.blake2b(digest_size=16)
    for pixels in seeds:
        digest.update(repr(pixels.shape).encode() + np.ascontiguousarray(pixels).tobytes())
    return digest.hexdigest()
