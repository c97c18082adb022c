"""What the study runs: generators, seeds, arms; and what is kept apart for choosing parameters.

Parameters are chosen on the development part only, and nothing that is chosen there is reported. The
held-out part has other generators (or other strengths) and other seeds; both are named here, and a table
says which of them it is of.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from reverie import registry
from reverie.errors import InputError, MissingDependencyError, UnknownNameError
from reverie.generators.seed_images import built_in_seeds
from reverie.pixels import Pixels
from reverie.protocols import Generator
from reverie.study.arms import ARMS
from reverie.study.latent_denoiser import LatentGenerator

__all__ = ["GENERATORS", "PARTS", "Design", "Dreamer", "Part", "Trial"]

Part: TypeAlias = Literal["development", "held-out"]


@dataclass(frozen=True, slots=True)
class Dreamer:
    """A generator of the study at one strength.

    Attributes:
        name: In tables.
        kind: ``patches``, ``conv`` or ``latent``.
        strength: Of every frame.
        size: Side of the frames in pixels.
    """

    name: str
    kind: str
    strength: float
    size: int = 128

    def make(self, folder: Path) -> Generator:
        """The generator over all the built-in seed pictures; its weights, if any, are kept in the folder."""
        if self.kind == "patches":
            generator: Generator = registry.create("generators", "patches", None, size=self.size)
            return generator
        pictures = built_in_seeds(self.size)
        if self.kind == "latent":
            return LatentGenerator(pictures, size=self.size)
        learnt: Generator = _conv()(pictures, size=self.size, folder=folder)
        return learnt


def _conv() -> Any:
    try:
        return importlib.import_module("reverie.study.conv_denoiser").ConvGenerator
    except ImportError as exc:
        raise MissingDependencyError(
            'the generator "conv" of the study needs torch: pip install "reverie[study]"'
        ) from exc


_LISTED = (
    Dreamer("patches-35", "patches", 0.35),
    Dreamer("patches-50", "patches", 0.5),
    Dreamer("patches-60", "patches", 0.6),
    Dreamer("conv-35", "conv", 0.35),
    Dreamer("conv-50", "conv", 0.5),
    Dreamer("latent-35", "latent", 0.35),
    Dreamer("latent-50", "latent", 0.5),
    Dreamer("latent-60", "latent", 0.6),
)

GENERATORS: Mapping[str, Dreamer] = {each.name: each for each in _LISTED}
"""By name. ``latent-60`` travels by itself: there an injection can only disturb."""


@dataclass(frozen=True, slots=True)
class PartOf:
    """One part of the study.

    Attributes:
        generators: Their names.
        first_seed: Of its loops; they count up from here.
        seeds: How many.
    """

    generators: tuple[str, ...]
    first_seed: int
    seeds: int


PARTS: Mapping[str, PartOf] = {
    "development": PartOf(("patches-50", "latent-50"), 1000, 4),
    "held-out": PartOf(
        ("patches-35", "patches-50", "patches-60", "conv-35", "conv-50", "latent-35", "latent-60"), 0, 16
    ),
}
"""Held out are other seeds everywhere, and all generators but ``patches-50`` and ``latent-50``."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One loop of the study.

    Attributes:
        arm: Its name.
        generator: Its name.
        pictures: How many seed pictures the arm knows.
        seed: Of everything random.
        frames: How many.
    """

    arm: str
    generator: str
    pictures: int
    seed: int
    frames: int = 400

    @property
    def name(self) -> str:
        """Of its files."""
        return f"{self.generator}_{self.arm}_{self.pictures:02d}_{self.seed:05d}_{self.frames}"

    def same_loop(self) -> Trial:
        """The trial whose loop it is: an arm that knows no seed picture is run once for all numbers."""
        return self if ARMS[self.arm].knows_seeds else replace(self, pictures=0)

    def order(self, of: int) -> list[int]:
        """Which of the seed pictures it knows, by number, the start first: the same for every arm."""
        return [int(each) for each in np.random.default_rng([self.seed, 5]).permutation(of)]


@dataclass(frozen=True, slots=True)
class Design:
    """All loops that are to be run.

    Attributes:
        part: ``development`` or ``held-out``.
        arms: Names of arms.
        generators: Names; empty takes all of the part.
        pictures: How many seed pictures are known; every number is a study of its own.
        seeds: How many loops of each; None takes all of the part.
        frames: Of each loop.

    Raises:
        UnknownNameError: No such part, arm or generator.
        InputError: A number out of its range.
    """

    part: str = "held-out"
    arms: Sequence[str] = tuple(ARMS)
    generators: Sequence[str] = ()
    pictures: Sequence[int] = (24, 3, 1, 0)
    seeds: int | None = None
    frames: int = 400

    def __post_init__(self) -> None:
        for given, known, what in (
            ((self.part,), PARTS, "part of the study"),
            (self.arms, ARMS, "arm"),
            (self.generators, GENERATORS, "generator of the study"),
        ):
            for name in given:
                if name not in known:
                    raise UnknownNameError(f"no {what} is called {name!r}; there are: {', '.join(known)}")
        if (
            not self.arms
            or not self.pictures
            or self.frames < 2
            or (self.seeds is not None and self.seeds < 1)
        ):
            raise InputError("a study needs arms, numbers of pictures, 2 frames or more and 1 seed or more")
        if not all(0 <= count <= 24 for count in self.pictures):
            raise InputError(f"pictures must be from 0 to 24, got {', '.join(map(str, self.pictures))}")

    def trials(self) -> Iterator[Trial]:
        """In the order in which they are run: all arms of one loop after another."""
        part = PARTS[self.part]
        for number in range(self.seeds or part.seeds):
            for generator in self.generators or part.generators:
                for pictures in self.pictures:
                    for arm in self.arms:
                        if pictures or not ARMS[arm].needs_seeds:
                            yield Trial(arm, generator, pictures, part.first_seed + number, self.frames)

    def as_dict(self) -> dict[str, Any]:
        """For the record."""
        return {
            "part": self.part,
            "arms": list(self.arms),
            "generators": list(self.generators or PARTS[self.part].generators),
            "pictures": list(self.pictures),
            "seeds": self.seeds or PARTS[self.part].seeds,
            "frames": self.frames,
        }


def known_pictures(trial: Trial, seeds: Sequence[Pixels]) -> list[Pixels]:
    """The seed pictures that the arm knows, the start first."""
    return [seeds[number] for number in trial.order(len(seeds))[: trial.pictures]]
