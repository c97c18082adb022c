"""How a loop gets from what it shows to a memory: over several frames, each made by the generator.

A picture that is faded in is a double exposure until the generator has made something of it, and a
generator that works on parts of a picture at a time, as diffusion models do, jumps from the one picture
to the other somewhere on the way. ``bloom`` therefore lets the target grow in patches of an organic
shape: at every moment each place is of one picture, what is between the patches is for the generator to
join, and the step from frame to frame follows the area, so that it can be made as small as is asked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reverie.errors import InputError
from reverie.pixels import Pixels
from reverie.protocols import LatentSpace
from reverie.vectors import Embedding, cosine

__all__ = ["Path", "Transition", "TransitionSettings", "blend", "slerp"]

Path: TypeAlias = Literal["cut", "ramp", "bloom", "slerp"]

_NARROW = 1e-4  # radians: an arc that is as good as straight, or whose plane is not known
_NEARER = 0.01  # rise of the cosine to the target that counts as coming nearer
_FIELD = 128  # pixels: a field is drawn at most this large, its forms are far larger


@dataclass(frozen=True, slots=True)
class TransitionSettings:
    """How injections are carried out; plain data.

    Attributes:
        path: ``cut`` (the memory is the next input), ``ramp`` (it is faded in), ``bloom`` (it grows in
            patches) or ``slerp`` (it is faded in, on a sphere of the generator's latents: Shoemake 1985;
            ``ramp`` for a generator without).
        frames: Over how many frames the target takes over, from 1.
        longest: Frames after which a loop that has not arrived is left where it is.
        patience: After the first ``frames``: the same for so many frames without coming nearer.
        arrived: Cosine to the target from which the loop counts as arrived.
        cap: Largest step, 1 - cosine, between two frames that are shown, in (0, 2]; None for any.
        forms: How many patches ``bloom`` has along the shorter edge, about.
        softness: Width of their edges, as a share of the whole picture's growth, in (0, 1].

    Raises:
        InputError: A number out of its range.
    """

    path: Path = "cut"
    frames: int = 8
    longest: int = 22
    patience: int = 4
    arrived: float = 0.75
    cap: float | None = None
    forms: int = 2
    softness: float = 0.08

    def __post_init__(self) -> None:
        if self.path not in get_args(Path):
            raise InputError(f"path must be {', '.join(get_args(Path))}, got {self.path!r}")
        if not 1 <= self.frames <= self.longest:
            raise InputError(
                f"frames must be from 1 to longest, got frames={self.frames}, longest={self.longest}"
            )
        if min(self.forms, self.patience) < 1 or not 0 < self.softness <= 1:
            raise InputError(
                "forms and patience must be at least 1 and softness in (0, 1], got "
                f"{self.forms}, {self.patience}, {self.softness}"
            )
        if self.cap is not None and not 0 < self.cap <= 2:
            raise InputError(f"cap must be in (0, 2], got {self.cap}")


class Transition:
    """One way to one target, frame by frame: `advance`, then `input` as often as needed, then `took`.

    Args:
        target: Where to: ``(h, w, 3)`` uint8 RGB, as large as the loop's frames.
        embedding: Its unit vector.
        settings: How.
        seed: Of the forms of ``bloom``.
        latents: The generator's, for ``slerp``; None when it has none.

    Attributes:
        step: Frames made so far, the one being made included.
        covered: Share of the way that is taken, in [0, 1].
    """

    def __init__(
        self,
        target: Pixels,
        embedding: Embedding,
        settings: TransitionSettings,
        seed: int = 0,
        latents: LatentSpace | None = None,
    ) -> None:
        self.target = target
        self.embedding = embedding
        self.settings = settings
        self.step = 0
        self.covered = 0.0
        self._goal = 0.0
        self._nearest = -1.0  # cosine to the target
        self._idle = 0  # frames since it was reached
        self._mix: Callable[[Pixels, Pixels, float], Pixels] = blend
        if settings.path == "bloom":
            self._mix = Bloom(target.shape[0], target.shape[1], settings, seed)
        elif settings.path == "slerp" and latents is not None:
            self._mix = _LatentBlend(latents)

    def advance(self) -> None:
        """Begin the next frame: each takes an equal part of what is left, the last all of it."""
        self.step += 1
        frames = 1 if self.settings.path == "cut" else self.settings.frames
        left = max(1, frames - self.step + 1)
        self._goal = self.covered + (1.0 - self.covered) / left

    def input(self, shown: Pixels, share: float = 1.0) -> Pixels:
        """What goes into the generator for this frame.

        Args:
            shown: The frame shown last.
            share: How much of this frame's part is taken, in [0, 1].
        """
        return self._mix(shown, self.target, self.part(share))

    def part(self, share: float = 1.0) -> float:
        """How much of that input is the target's, in [0, 1]; nothing of it at share 0."""
        if self.settings.path == "bloom":
            return self._goal * share  # what grew before has changed since: it is put in again
        left = 1.0 - self.covered  # what is faded in stays in: only this frame's part is new
        return share * (self._goal - self.covered) / left if left > 0 else share

    def took(self, share: float, embedding: Embedding) -> None:
        """Note how much of this frame's part was taken; 0 when nothing of it was shown.

        Args:
            share: In [0, 1].
            embedding: What is shown now.
        """
        similarity = self.similarity(embedding)
        self._idle = 0 if similarity > self._nearest + _NEARER else self._idle + 1
        self._nearest = max(self._nearest, similarity)
        before = 0.0 if self.settings.path == "bloom" else self.covered
        self.covered = before + (self._goal - before) * share

    def state(self) -> dict[str, float]:
        """How far it is, for `restore`."""
        return {
            "step": self.step,
            "covered": self.covered,
            "goal": self._goal,
            "nearest": self._nearest,
            "idle": self._idle,
        }

    def restore(self, state: Mapping[str, float]) -> None:
        """Go on from what `state` gave; made with the same target, settings and seed."""
        self.step, self.covered, self._goal = int(state["step"]), state["covered"], state["goal"]
        self._nearest, self._idle = state["nearest"], int(state["idle"])

    def similarity(self, embedding: Embedding) -> float:
        """Cosine of a frame to the target, in [-1, 1]."""
        return cosine(embedding, self.embedding)

    def over(self, embedding: Embedding) -> bool:
        """Whether the loop, which shows this vector now, has arrived or was long enough on its way."""
        settings = self.settings
        tired = self.step >= settings.frames and self._idle >= settings.patience
        return tired or self.step >= settings.longest or self.similarity(embedding) >= settings.arrived


class _LatentBlend:
    """Blends in the generator's latents, along the arc between the two."""

    def __init__(self, latents: LatentSpace) -> None:
        self._latents = latents

    def __call__(self, shown: Pixels, target: Pixels, share: float) -> Pixels:
        a, b = self._latents.encode(shown), self._latents.encode(target)
        return self._latents.decode(slerp(a, b, share))


def slerp(a: NDArray[np.float32], b: NDArray[np.float32], share: float) -> NDArray[np.float32]:
    """From ``a`` to ``b`` along the arc (Shoemake 1985, with the lengths of both): norms do not sag half way.

    Args:
        a: Any shape, float32.
        b: The same shape.
        share: Of the way, in [0, 1].
    """
    flat = np.stack([a.ravel(), b.ravel()]).astype(np.float64)
    length = float(np.prod(np.linalg.norm(flat, axis=1)))
    angle = float(np.arccos(np.clip(np.vecdot(flat[0], flat[1]) / length, -1, 1))) if length else 0.0
    if min(angle, np.pi - angle) < _NARROW:
        return np.float32(1.0 - share) * a + np.float32(share) * b
    near, far = (np.float32(math.sin(part * angle) / math.sin(angle)) for part in (1.0 - share, share))
    return near * a + far * b


def blend(shown: Pixels, target: Pixels, share: float) -> Pixels:
    """Both at once: ``(1 - share) * shown + share * target``, pixel by pixel, rounded."""
    mixed = (1.0 - share) * shown.astype(np.float32) + share * target.astype(np.float32)
    return np.rint(mixed).astype(np.uint8)


class Bloom:
    """Lets one picture grow into another in patches: at ``share`` that share of the area is the target's.

    Args:
        height: Of the pictures.
        width: Of the pictures.
        settings: Their forms and softness.
        seed: Draws the forms.
    """

    def __init__(self, height: int, width: int, settings: TransitionSettings, seed: int) -> None:
        self._when = _field(height, width, settings.forms, np.random.default_rng(seed))
        self._softness = settings.softness

    def __call__(self, shown: Pixels, target: Pixels, share: float) -> Pixels:
        """``(h, w, 3)`` uint8: ``shown`` at share 0, ``target`` at share 1."""
        edge = self._softness
        front = share * (1.0 + 2.0 * edge) - edge
        weight = np.clip((front - self._when) / (2.0 * edge) + 0.5, 0.0, 1.0)[..., None]
        mixed: NDArray[np.float32] = shown + weight * (target.astype(np.float32) - shown)
        return np.rint(mixed).astype(np.uint8)


def _field(height: int, width: int, forms: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """``(h, w)`` float32: when each place changes, in [0, 1]; smooth noise, each moment as much area."""
    shrink = max(1.0, max(height, width) / _FIELD)
    rows, columns = max(2, round(height / shrink)), max(2, round(width / shrink))
    shorter = min(rows, columns)
    noise = np.zeros((rows, columns), dtype=np.float32)
    for octave in range(2):
        cells = [max(2, round(forms * 2**octave * side / shorter)) for side in (rows, columns)]
        drawn = Image.fromarray(rng.standard_normal(cells).astype(np.float32))
        noise += 0.5**octave * np.asarray(drawn.resize((columns, rows), Image.Resampling.BICUBIC))
    when = np.empty(noise.size, dtype=np.float32)
    when[np.argsort(noise, axis=None, kind="stable")] = np.linspace(0.0, 1.0, noise.size, dtype=np.float32)
    image = Image.fromarray(when.reshape(rows, columns))
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR), dtype=np.float32)
