"""Latents that are there already: a picture is not encoded twice, and what was decoded not encoded again."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reverie.errors import InputError
from reverie.pixels import Pixels
from reverie.protocols import LatentSpace
from reverie.tensors import is_tensor

__all__ = ["KnownLatents"]

_KEPT = 6  # pictures: the frames shown last, the target, and the mixtures of both


class KnownLatents:
    """A generator's latents, with those of the last few pictures kept; a `LatentSpace` itself.

    Every step of a way blends the frame that is shown with the same target: the target is encoded once, and
    a frame whose latent came with it not at all.

    Args:
        space: The generator's latents.
    """

    def __init__(self, space: LatentSpace) -> None:
        self._space = space
        self._known: deque[tuple[Pixels, NDArray[np.float32]]] = deque(maxlen=_KEPT)
        self._shape: tuple[int, ...] | None = None
        self._form: Any = None  # the latent that was given last: in that form they are given back

    def give(self, pixels: Pixels, latent: NDArray[np.float32], form: Any) -> None:
        """The latent that a frame was decoded from, with a batch of one or without, and the form it came in.

        The first frame is encoded all the same, to see what shape the generator's latents have.

        Raises:
            InputError: It has another shape than those.
        """
        if self._shape is None:
            self._shape = self._space.encode(pixels).shape
        if latent.shape not in (self._shape, (1, *self._shape)) and (1, *latent.shape) != self._shape:
            raise InputError(f"the latents of a frame have shape {self._shape}, got {latent.shape}")
        self._form = form
        self._known.append((pixels, latent.reshape(self._shape)))

    def of(self, pixels: Pixels) -> Any:
        """The latent that this very array was decoded from or encoded to, in the form of what was given last.

        None when it is not known, or none was ever given.
        """
        found = self._find(pixels)
        if found is None or self._form is None:
            return None
        found = found.reshape(self._form.shape)
        return self._form.new_tensor(found) if is_tensor(self._form) else found

    def _find(self, pixels: Pixels) -> NDArray[np.float32] | None:
        return next((latent for known, latent in self._known if known is pixels), None)

    def encode(self, pixels: Pixels) -> NDArray[np.float32]:
        """The latent of a frame."""
        found = self._find(pixels)
        if found is None:
            found = self._space.encode(pixels)
            self._known.append((pixels, found))
        return found

    def decode(self, latent: NDArray[np.float32]) -> Pixels:
        """The frame of a latent, ``(h, w, 3)`` uint8 RGB."""
        pixels = self._space.decode(latent)
        self._known.append((pixels, latent))
        return pixels
