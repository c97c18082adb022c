"""What a generator implements, and what it may offer besides: each a protocol, looked for by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from reverie.pixels import Pixels

__all__ = ["Chosen", "Closable", "Fingerprinted", "Generator", "KeepsLatents", "LatentSpace", "Resumable"]


@runtime_checkable
class Generator(Protocol):
    """Makes the next frame from an image: img2img."""

    @property
    def name(self) -> str:
        """What it is, for the journal."""

    @property
    def size(self) -> tuple[int, int]:
        """``(height, width)`` of the frames it makes."""

    @property
    def seeds(self) -> Sequence[Pixels]:
        """Images it can start from, each of `size`; empty when it has none of its own."""

    def generate(self, frame: Pixels, *, prompt: str, strength: float, seed: int) -> Pixels:
        """One img2img step.

        Args:
            frame: ``(h, w, 3)`` uint8 RGB of `size`.
            prompt: What to aim for; a generator without text ignores it.
            strength: 0 keeps the frame, 1 forgets it.
            seed: All randomness of this step; the same arguments give the same bytes.
        """


@runtime_checkable
class LatentSpace(Protocol):
    """What a generator may offer besides: pictures to its latents and back, to blend there."""

    def encode(self, pixels: Pixels) -> NDArray[np.float32]:
        """The latent of a frame of the generator's size, of any shape, always the same."""

    def decode(self, latent: NDArray[np.float32]) -> Pixels:
        """The frame of a latent, ``(h, w, 3)`` uint8 RGB."""


@runtime_checkable
class KeepsLatents(LatentSpace, Protocol):
    """A generator that knows the latents of the frames it made last."""

    def latent_of(self, pixels: Pixels) -> NDArray[np.float32] | None:
        """The latent that a frame was decoded from, as `encode` would have it; None when it is not kept."""


@runtime_checkable
class Resumable(Protocol):
    """What a generator may offer besides that keeps something from frame to frame."""

    def state(self) -> Mapping[str, NDArray[Any]]:
        """All that it keeps, in order, by names of letters and digits; empty when it keeps nothing now."""

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Make frames from here on as the one that gave this would."""


@runtime_checkable
class Chosen(Protocol):
    """A generator or an encoder that may run in several ways, and says in which it does and why."""

    @property
    def choice(self) -> object:
        """What it runs on; as text, it is told before a run and stands in its record."""


@runtime_checkable
class Fingerprinted(Protocol):
    """A generator that is set up by more than its arguments, such as a workflow in a file."""

    @property
    def fingerprint(self) -> str:
        """Another one for whatever makes other frames: a run goes on with the same one only."""


@runtime_checkable
class Closable(Protocol):
    """A generator that holds something: a server's attention, a connection, a device."""

    def close(self) -> None:
        """Give it up, at the end of a run and however that ends; twice is fine."""
