"""The scale of an encoder: how alike unrelated pictures are to it. Thresholds are counted from there."""

from __future__ import annotations

import numpy as np

from reverie.memory import ImageMemory
from reverie.vectors import Vectors

__all__ = ["assumed_cosine", "unrelated_cosine"]

_ENOUGH = 6  # pictures whose pairs say something
_SAMPLE = 100  # pictures that are enough
_HIGHEST = 0.9  # above it an encoder cannot tell pictures apart
_UNKNOWN = 0.3  # of an encoder of which nothing is known


def unrelated_cosine(memory: ImageMemory) -> float:
    """The cosine of unrelated pictures with this memory's encoder.

    The median over the pinned seeds, where there are some; else what the encoder says of itself; else the
    lower quartile over the memory, half of which may well be alike.
    """
    archive, pinned = memory.embeddings(), memory.cache.pinned()
    seeds = [row for row, each in enumerate(archive.ids) if each in pinned]
    if len(seeds) >= _ENOUGH:
        return _quantile(archive.matrix[seeds[:_SAMPLE]], 0.5)
    if len(archive) < _ENOUGH or getattr(memory.matcher.encoder, "unrelated_cosine", None) is not None:
        return assumed_cosine(memory)
    return _quantile(archive.matrix[-_SAMPLE:], 0.25)


def assumed_cosine(memory: ImageMemory) -> float:
    """The same for as long as the memory is empty."""
    own = getattr(memory.matcher.encoder, "unrelated_cosine", None)
    return _UNKNOWN if own is None else float(own)


def _quantile(matrix: Vectors, share: float) -> float:
    """Of the cosines of all pairs."""
    upper = np.triu_indices(len(matrix), 1)
    return min(_HIGHEST, float(np.quantile(np.vecdot(matrix[:, None], matrix[None])[upper], share)))
