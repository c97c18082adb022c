"""The injection policy of LuxiaSL/dream_gen, re-implemented from its published behaviour, to compare with.

It is the project that the specification was written for. Its policy watches two measures, the overlap of
colour histograms and the likeness of perceptual hashes; it keeps a frame that is on average unlike the memory
in both; it blends in a memory from a band of likeness with a probability that rises as successive frames grow
more alike, and a seed picture with a probability that rises with the injections so far. A picture that was
blended in is shown as it is. All numbers are those of the configuration that the project ships.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reverie.cache.aesthetic_matcher import AestheticMatcher
from reverie.loop.actuator import Actuator, Again
from reverie.loop.observed import Injection, Observed
from reverie.loop.spectator import Watch
from reverie.loop.step_cap import Shown
from reverie.loop.transition import TransitionSettings, blend
from reverie.pixels import ImageLike, Pixels, to_image, to_pixels
from reverie.protocols import Decision, Encoder, LatentSpace

__all__ = ["DreamGen", "DualMetric", "Looks"]

_Floats: TypeAlias = NDArray[np.float64]

_ROOM = 50  # pictures in its memory
_COLOUR_DIVERSE, _STRUCTURE_DIVERSE = 1.92, 0.80  # kept below both averages
_COLOUR_BAND, _STRUCTURE_BAND = (1.18, 2.05), (0.68, 0.92)  # "related but different"
_COLOUR_ALARM, _STRUCTURE_ALARM = (0.15, 0.30), (0.08, 0.15)  # rise of likeness: scale, force
_BASE, _WARM_UP, _COOLDOWN = 0.15, 10, 2
_MEMORY_SHARE, _SEED_SHARE = 0.75, 0.85  # of a blend
_SEED_FLOOR, _SEED_MOST, _SEED_RAMP = 0.02, 0.15, 50
_SMALL, _SMALL_SEEDS = 10, 0.20  # below so many pictures seeds come so often
_EMERGENCY = 0.30  # share of the last 20 frames that alarmed, or were injected: then a seed
_BITS = 8


@dataclass(frozen=True, slots=True, eq=False)
class Looks:
    """Both descriptions of a picture.

    Attributes:
        colour: ``(96,)`` shares of hue, saturation and value in 32 bins each; each third adds up to 1.
        structure: ``(64,)`` bool, the perceptual hash.
    """

    colour: _Floats
    structure: NDArray[np.bool_]


class DualMetric:
    """The two measures of dream_gen."""

    @staticmethod
    def look(pixels: Pixels) -> Looks:
        """Both descriptions of a frame, ``(h, w, 3)`` uint8 RGB."""
        image = to_image(pixels)
        hsv = np.asarray(image.convert("HSV"))
        bins = [np.bincount(hsv[..., channel].ravel() >> 3, minlength=32) for channel in range(3)]
        colour = np.concatenate(bins) / (hsv.shape[0] * hsv.shape[1])
        side = 4 * _BITS
        grey = np.asarray(image.convert("L").resize((side, side), Image.Resampling.LANCZOS), np.float64)
        cosines = np.cos(np.pi * np.outer(np.arange(_BITS), 2 * np.arange(side) + 1) / (2 * side))
        low = cosines @ grey @ cosines.T
        return Looks(colour, (low > np.median(low)).ravel())

    @staticmethod
    def colour(a: Looks, b: Looks) -> float:
        """Overlap of the histograms, 0 to 3."""
        return float(np.minimum(a.colour, b.colour).sum())

    @staticmethod
    def structure(a: Looks, b: Looks) -> float:
        """Share of equal bits, 0 to 1."""
        return float(np.mean(a.structure == b.structure))


@dataclass(frozen=True, slots=True)
class _Trend:
    """How much more alike successive frames are than they were: of 1 and more it is forced."""

    colour: float = 0.0
    structure: float = 0.0

    @property
    def alarm(self) -> bool:
        return max(self.colour, self.structure) > 0

    @property
    def forced(self) -> bool:
        return max(self.colour, self.structure) > 1

    @property
    def probability(self) -> float:
        return _BASE + (1 - _BASE) * min(1.0, max(self.colour, self.structure, 0.0))


class _Detector:
    """Follows how alike successive frames are, by both measures."""

    def __init__(self) -> None:
        self._looks: deque[Looks] = deque(maxlen=10)
        self._colour: deque[float] = deque(maxlen=100)
        self._structure: deque[float] = deque(maxlen=100)

    def add(self, looks: Looks) -> _Trend:
        self._looks.append(looks)
        if len(self._looks) < 2:
            return _Trend()
        pairs = list(zip(self._looks, list(self._looks)[1:], strict=False))
        self._colour.append(float(np.mean([DualMetric.colour(*pair) for pair in pairs])))
        self._structure.append(float(np.mean([DualMetric.structure(*pair) for pair in pairs])))
        return _Trend(_progress(self._colour, _COLOUR_ALARM), _progress(self._structure, _STRUCTURE_ALARM))


def _progress(history: deque[float], levels: tuple[float, float]) -> float:
    """Where the rise from the earliest 20 to the last 20 values stands between the levels; 0 below."""
    if len(history) < 40:
        return 0.0
    values = list(history)
    rise = float(np.mean(values[-20:]) - np.mean(values[:20]))
    return max(0.0, (rise - levels[0]) / (levels[1] - levels[0]))


class DreamGen:
    """Observes a loop as dream_gen does.

    Args:
        encoder: Measures the frames; its policy does not look at it.
        seeds: The seed pictures that the user has; none means no seed injections.
        keep: Called before a frame that is to be shown as it is put in; see `reverie.study.trial.Passing`.
        seed: All of its randomness.
        cap: Largest step between shown frames; None for any, as the project itself has it.
        latents: The generator's, to blend in; without them it blends pixels.

    Attributes:
        last: The frame observed last; None before the first.
    """

    policy_name = "dream-gen"

    def __init__(
        self,
        encoder: Encoder,
        seeds: Sequence[Pixels],
        keep: Any,
        *,
        seed: int = 0,
        cap: float | None = None,
        latents: LatentSpace | None = None,
    ) -> None:
        self._watch = Watch(AestheticMatcher(encoder))
        self._actuator = Actuator(TransitionSettings("cut", cap=cap), self._watch.encode_batch)
        self._seeds = list(seeds)
        self._keep = keep
        self._rng = np.random.default_rng(seed)
        self._latents = latents
        self._detector = _Detector()
        self._memory: deque[tuple[int, Pixels, Looks]] = deque(maxlen=_ROOM)
        self._used: deque[int] = deque(maxlen=5)
        self._injected: deque[bool] = deque(maxlen=20)
        self._alarms: deque[bool] = deque(maxlen=20)
        self._injections = 0
        self._last_seed = self._last_memory = -999
        self._came = "generated"  # how the frame that is observed now came about
        self.last: Observed | None = None

    def observe(
        self,
        frame: ImageLike,
        *,
        prompt: str = "",  # noqa: ARG002 - the same call as the Injector's
        generation_params: Mapping[str, Any] | None = None,  # noqa: ARG002
        again: Again | None = None,
    ) -> Injection | None:
        """Take in one frame; an injection is shown next, as it is."""
        pixels = to_pixels(frame)
        shown = self._actuator.show(pixels, self._watch.encode(pixels), again)
        self._actuator.took(shown)
        measures = self._watch.count(shown.embedding)
        looks = DualMetric.look(shown.pixels)
        self._note(shown.pixels, looks)
        decision, picture = self._decide(shown, looks)
        capped = None if shown.how == "frame" else shown
        times = dict(self._watch.times_ms)
        self.last = Observed(
            self._watch.frame, shown.embedding, measures, decision, times_ms=times, shown=capped
        )
        if picture is not None:
            self._keep()
            return Injection(picture, None, 0.0, decision.reason, "imagined", 1)
        return None if capped is None else Injection(shown.pixels, None, 1.0, "capped", "shown", 0)

    def _note(self, pixels: Pixels, looks: Looks) -> None:
        """Keep the frame when it is on average unlike the memory in both measures."""
        if self._came == "memory":
            self._injected.append(True)
            return
        if self._came == "generated":
            self._injected.append(False)
        others = [kept for _, _, kept in self._memory]
        if others:
            colour = np.mean([DualMetric.colour(looks, each) for each in others])
            structure = np.mean([DualMetric.structure(looks, each) for each in others])
            if colour >= _COLOUR_DIVERSE or structure >= _STRUCTURE_DIVERSE:
                return
        self._memory.append((self._watch.frame, pixels, looks))

    def _decide(self, shown: Shown, looks: Looks) -> tuple[Decision, Pixels | None]:
        trend, number = self._detector.add(looks), self._watch.frame + 1
        self._alarms.append(trend.alarm)
        self._came = "generated"
        if number <= _WARM_UP:
            return Decision(None, "warming up"), None
        if number - self._last_seed > _COOLDOWN and self._seeds and self._wants_seed():
            self._last_seed, self._came = number, "seed"
            seed = self._seeds[int(self._rng.integers(len(self._seeds)))]
            return Decision(None, "a seed"), self._blend(shown.pixels, seed, _SEED_SHARE)
        rested = number - self._last_memory > _COOLDOWN
        if trend.forced or (rested and self._memory and self._rng.random() < trend.probability):
            chosen = self._dissimilar(looks, trend)
            if chosen is not None:
                self._last_memory, self._came = number, "memory"
                self._injections += 1
                return Decision(None, "a memory"), self._blend(shown.pixels, chosen, _MEMORY_SHARE)
        return Decision(None, "no injection"), None

    def _wants_seed(self) -> bool:
        if self._injected and np.mean(self._injected) > _EMERGENCY:
            return True
        if np.mean(self._alarms) > _EMERGENCY:
            return True
        if len(self._memory) < _SMALL:
            return bool(self._rng.random() < _SMALL_SEEDS)
        ramp = min(self._injections / _SEED_RAMP, 1.0)
        return bool(self._rng.random() < _SEED_FLOOR + (_SEED_MOST - _SEED_FLOOR) * ramp)

    def _dissimilar(self, looks: Looks, trend: _Trend) -> Pixels | None:
        """A memory in the band of either measure, the more unlike the likelier."""
        found = []
        for number, pixels, kept in self._memory:
            colour = _place(DualMetric.colour(looks, kept), _COLOUR_BAND)
            structure = _place(DualMetric.structure(looks, kept), _STRUCTURE_BAND)
            if not (0 < colour < 1 or 0 < structure < 1):
                continue
            unlike = max(colour, structure)
            if trend.alarm and not trend.structure:
                unlike = colour
            elif trend.alarm and not trend.colour:
                unlike = structure
            found.append((number, pixels, unlike))
        if not found:
            return None
        weights = np.exp([2 * unlike for *_, unlike in found])
        weights[[number in self._used for number, *_ in found]] *= 0.1
        chosen = found[int(self._rng.choice(len(found), p=weights / weights.sum()))]
        self._used.append(chosen[0])
        return chosen[1]

    def _blend(self, shown: Pixels, other: Pixels, share: float) -> Pixels:
        if self._latents is None:
            return blend(shown, other, share)
        a, b = self._latents.encode(shown), self._latents.encode(other)
        return self._latents.decode(((1.0 - share) * a + share * b).astype(np.float32))


def _place(likeness: float, band: tuple[float, float]) -> float:
    """1 at the lower end of the band, 0 at the upper."""
    return 1.0 - (likeness - band[0]) / (band[1] - band[0])
