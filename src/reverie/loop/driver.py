"""DreamLoop: generate, observe, inject, again."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np

from reverie.checks import check_seed, check_strength
from reverie.errors import GenerationError
from reverie.loop.actuator import Again
from reverie.loop.observed import Injection, Observed
from reverie.loop.prompts import PromptSchedule
from reverie.pixels import ImageLike, Pixels, fit, to_pixels
from reverie.protocols import Generator, KeepsLatents

__all__ = ["DreamLoop", "FrameDone", "Observer", "frame_seed"]


class Observer(Protocol):
    """What watches the loop: an `Injector`, or a `Spectator` for a loop without memory."""

    last: Observed | None

    @property
    def policy_name(self) -> str:
        """The policy's name."""

    def observe(
        self,
        frame: ImageLike,
        *,
        prompt: str = ...,
        generation_params: dict[str, Any] | None = ...,
        again: Again | None = ...,
    ) -> Injection | None:
        """Take in one frame; an injection is the next input."""


@dataclass(frozen=True, slots=True, eq=False)
class FrameDone:
    """One finished frame.

    Attributes:
        frame: Its number, 1 for the first that was made.
        seed: The seed of its noise.
        prompt: What it was made with.
        params: How it was made, as it is kept with it: ``frame``, ``strength``, ``seed``, ``generator``.
        pixels: What is shown, ``(h, w, 3)`` uint8 RGB.
        observed: What was seen in it and decided about it.
        injection: What is fed in next instead of it; None in most frames.
        times_ms: Milliseconds by step: ``generate``, ``encode``, ``store``, ``decide``.
    """

    frame: int
    seed: int
    prompt: str
    params: Mapping[str, Any]
    pixels: Pixels
    observed: Observed
    injection: Injection | None
    times_ms: dict[str, float]


def frame_seed(seed: int, frame: int) -> int:
    """The noise seed of a frame: depends on the run's seed and the frame's number only, in [0, 2^32)."""
    return int(np.random.SeedSequence([seed, frame]).generate_state(1)[0])


class DreamLoop:
    """An img2img loop: each frame is the next input, unless the observer injects a memory.

    Args:
        generator: Makes the frames.
        observer: An `Injector`, or a `Spectator` for a loop without memory.
        start: The first input; fitted to the generator's size.
        strength: 0 keeps the input, 1 forgets it.
        prompt: Passed to the generator and kept with each frame; or a `PromptSchedule`.
        seed: Seed of the noise, from 0 to 2^63 - 1: the same seed, start and decisions give the same frames.
        on_frame: Called with each `FrameDone`.

    Raises:
        ImageError: The start image cannot be used.
        InputError: ``strength`` is not in [0, 1], or ``seed`` is none.
    """

    def __init__(
        self,
        generator: Generator,
        observer: Observer,
        *,
        start: ImageLike,
        strength: float = 0.5,
        prompt: str | PromptSchedule = "",
        seed: int = 0,
        on_frame: Callable[[FrameDone], None] | None = None,
    ) -> None:
        self._strength = check_strength(strength)
        self._seed = check_seed(seed)
        self._generator = generator
        self._observer = observer
        self._prompt = prompt
        self._on_frame = on_frame
        self._input = fit(to_pixels(start), *generator.size)
        self.frame = 0

    def step(self) -> FrameDone:
        """Make one frame.

        Raises:
            GenerationError: The generator returned something that is not a frame of its size.
        """
        number = self.frame + 1
        seed = frame_seed(self._seed, number)
        started = time.perf_counter()
        prompt = self._prompt if isinstance(self._prompt, str) else self._prompt.at(number)
        pixels = self._generator.generate(self._input, prompt=prompt, strength=self._strength, seed=seed)
        generate_ms = (time.perf_counter() - started) * 1e3
        self._check(pixels)
        params = {
            "frame": number,
            "strength": self._strength,
            "seed": seed,
            "generator": self._generator.name,
        }
        observe: Callable[..., Injection | None] = self._observer.observe
        injection = observe(
            pixels,
            prompt=prompt,
            generation_params=params,
            again=partial(self._again, seed, prompt),
            **self._latents(pixels),
        )
        self._input = pixels if injection is None else to_pixels(injection.image)
        self.frame = number
        done = self._done((number, seed, prompt, params), pixels, injection, generate_ms)
        if self._on_frame is not None:
            self._on_frame(done)
        return done

    def _latents(self, pixels: Pixels) -> dict[str, Any]:
        """What the frame was decoded from, where the generator keeps that and the observer can use it."""
        usable = getattr(self._observer, "uses_latents", False)
        if not usable or not isinstance(self._generator, KeepsLatents):
            return {}
        return {"latents": self._generator.latent_of(pixels)}

    def _done(
        self,
        made: tuple[int, int, str, Mapping[str, Any]],
        pixels: Pixels,
        injection: Injection | None,
        generate_ms: float,
    ) -> FrameDone:
        observed = self._observer.last
        if observed is None:
            raise GenerationError("the observer did not observe the frame: its `last` is None")
        times_ms = {"generate": round(generate_ms, 3), **observed.times_ms}
        if observed.shown is not None:
            pixels = observed.shown.pixels
        return FrameDone(*made, pixels, observed, injection, times_ms)

    def go_on(self, frame: int, source: Pixels) -> None:
        """Go on after frame number ``frame``, with ``source`` as the next input."""
        self.frame, self._input = frame, fit(source, *self._generator.size)

    def _again(
        self,
        seed: int,
        prompt: str,
        source: Pixels,
        *,
        strength: float | None = None,
        calm: float = 1.0,
        variation: int = 0,
    ) -> Pixels:
        """The frame of this seed once more, from another input."""
        pixels = self._generator.generate(
            source,
            prompt=prompt,
            strength=calm * (self._strength if strength is None else strength),
            seed=frame_seed(seed, variation) if variation else seed,
        )
        self._check(pixels)
        return pixels

    def _check(self, pixels: Pixels) -> None:
        shape = (*self._generator.size, 3)
        if not isinstance(pixels, np.ndarray) or pixels.shape != shape or pixels.dtype != np.uint8:
            array = isinstance(pixels, np.ndarray)
            got = f"{pixels.shape} {pixels.dtype}" if array else type(pixels).__name__
            raise GenerationError(
                f"the generator {self._generator.name!r} returned {got}, expected {shape} uint8"
            )

    def run(self, frames: int) -> int:
        """Make ``frames`` more frames; returns the number of the last one."""
        for _ in range(frames):
            self.step()
        return self.frame
