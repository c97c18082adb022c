"""What an observer keeps of a loop's colours: anchors in step with the memory, meter and correction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reverie.errors import EntryNotFoundError, ImageError, StorageError, UnsafePathError
from reverie.loop.colour import ColourMeter, Colours, Drift, colours_of
from reverie.loop.recolour import Corrected, check_correction, corrected
from reverie.memory import ImageMemory
from reverie.pixels import ImageLike, Pixels, pixels_from_bytes, to_pixels

__all__ = ["ColourKeeper"]

_MOST = 100  # pinned pictures that are read: the oldest, where the seeds are


class ColourKeeper:
    """Measures the frames of a loop against its anchors, and puts their colours right where that is asked.

    The anchors are the pictures that are given; else those that are pinned in the memory, whenever that
    changes; else the first frame.

    Args:
        correction: ``off``, ``soft`` or ``hard``.
        anchors: The pictures that the loop is to stay true to.
        memory: Whose pinned pictures these are where none are given; None for a loop without.

    Raises:
        UnknownNameError: No such correction.
        ImageError: An anchor cannot be used.
        StorageError: An anchor cannot be read.
    """

    def __init__(
        self, correction: str = "off", anchors: Sequence[ImageLike] = (), memory: ImageMemory | None = None
    ) -> None:
        self.correction = check_correction(correction)
        self._meter = ColourMeter([colours_of(to_pixels(each)) for each in anchors])
        self._memory = None if anchors else memory
        self._pinned: dict[str, Colours | None] = {}  # None for what cannot be read

    def observe(self, pixels: Pixels) -> Drift:
        """Take in what is shown as the next frame, ``(h, w, 3)`` uint8 RGB."""
        self._look()
        return self._meter.observe(pixels)

    def corrected(self, pixels: Pixels) -> Corrected | None:
        """A frame that was observed with its colours put right; None where nothing is to be done."""
        if self.correction == "off":
            return None
        self._look()
        return corrected(pixels, self._meter.span, self.correction)

    def _look(self) -> None:
        """Take note of what is pinned now."""
        if self._memory is None:
            return
        pinned = sorted(self._memory.cache.pinned())[:_MOST]
        if pinned != list(self._pinned):
            self._pinned = {
                each: self._pinned[each] if each in self._pinned else _colours(self._memory, each)
                for each in pinned
            }
            self._meter.anchors = tuple(each for each in self._pinned.values() if each is not None)

    def state(self) -> dict[str, Any]:
        """What `restore` needs besides the anchors, as JSON can hold it."""
        return self._meter.state()

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        self._meter.restore(state)


def _colours(memory: ImageMemory, cache_id: str) -> Colours | None:
    """Of a remembered picture, not counted as a use; what cannot be read costs an anchor, not the loop."""
    try:
        return colours_of(pixels_from_bytes(memory.cache.read_image(cache_id, as_use=False), name=cache_id))
    except (EntryNotFoundError, ImageError, StorageError, UnsafePathError):
        return None
