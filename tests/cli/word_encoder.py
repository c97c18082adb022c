"""A stand-in for CLIP: pictures and texts in one space of 768 numbers, of which colours are the first."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from reverie.pixels import Pixels
from reverie.vectors import Vectors, normalise

COLOURS = {"red": (250, 10, 20), "green": (10, 240, 20), "blue": (10, 20, 240), "purple": (250, 20, 240)}
LONGEST = 6


class WordEncoder:
    """Texts are the colours they name; the words past the sixth are cut, with a warning.

    Args:
        threads: Taken, as CLIP takes it.
        model_dir: Likewise; it changes the name, as other weights do.
    """

    dimensions = 768

    def __init__(self, threads: int | None = None, model_dir: str | None = None) -> None:
        self.threads = threads
        self.name = "words-v1" if model_dir is None else "words-v1+1a2b3c4d"

    def encode_batch(self, frames: Sequence[Pixels]) -> Vectors:
        """One row a picture: its mean colour."""
        return self._rows([frame.mean(axis=(0, 1)) for frame in frames])

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        """One row a text: the sum of the colours it names, and a number that all texts share."""
        rows = []
        for text in texts:
            words = text.lower().split()
            if len(words) > LONGEST:
                warnings.warn(
                    f"the last {len(words) - LONGEST} words were not used", UserWarning, stacklevel=2
                )
            named = [COLOURS[word] for word in words[:LONGEST] if word in COLOURS]
            rows.append([*np.sum(named or [(1, 1, 1)], axis=0), 300])
        return self._rows(rows)

    def _rows(self, rows: Sequence[Sequence[float]]) -> Vectors:
        if not rows:
            return np.empty((0, self.dimensions), np.float32)
        given = np.asarray(rows, dtype=np.float64)
        matrix = np.zeros((len(rows), self.dimensions))
        matrix[:, : given.shape[1]] = given
        return normalise(matrix)


class WordClip(WordEncoder):
    """The same under the name of CLIP's vectors."""

    def __init__(self, threads: int | None = None, model_dir: str | None = None) -> None:
        super().__init__(threads, model_dir)
        self.name = "clip-vit-b32"
