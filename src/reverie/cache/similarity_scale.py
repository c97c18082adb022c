"""What a cosine is worth in one cache: percentiles of the cosines that its own pictures have.

Encoders use their range differently. Raw cosines of unrelated pictures average about .47 with CLIP
ViT-B/32 and about 0 with the built-in descriptor, so one fixed number cannot mean "similar" for both,
nor for a cache of portraits and one of everything. The cosines of a cache's own pairs say what is
usual there; where a cosine stands among them is its percentile.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reverie.cache.similarity import BANDS, describe_similarity
from reverie.checks import refuse_nan
from reverie.errors import InputError
from reverie.vectors import EmbeddingSet, Vectors, similarities

__all__ = ["BAND_PERCENTILES", "MINIMUM", "Percentile", "SimilarityScale", "Threshold", "threshold_of"]

BAND_PERCENTILES = (99.5, 97.5, 90.0, 70.0, 0.0)
"""Lowest percentile of each of the specification's bands, high to low.

Chosen by what the bands are for, in the specification's full cache of 75: of the 74 others, a picture
has less than one that is "nearly identical" (.5 % of 74 = .4), about two that are "very similar"
(2.5 %), seven that are at least "similar aesthetic (good for injection)" (10 %, so that ``top_k=5`` has
a choice) and twenty-two that are at least "related style" (30 %).
"""

MINIMUM = 200
"""Fewest pairs that make a scale (21 pictures have 210): below, the highest cut of `BAND_PERCENTILES`
would lie beyond the most similar pair."""

_BLOCK = 4096  # pairs whose vectors are copied at once: 16 MB of 512-d


@dataclass(frozen=True, slots=True)
class Percentile:
    """A threshold that lets through what is at least as similar as the given share of pairs.

    Attributes:
        value: From 0 (everything) to 100; 90 lets through the most similar tenth.

    Raises:
        InputError: It is not a number from 0 to 100.
    """

    value: float

    def __post_init__(self) -> None:
        refuse_nan("a percentile", self.value, "a number from 0 to 100")
        if not 0 <= self.value <= 100:
            raise InputError(f"a percentile is a number from 0 to 100, got {self.value!r}")

    def __str__(self) -> str:
        return f"p{self.value:g}"


Threshold = float | str | Percentile | None
"""A raw cosine; ``"p90"`` or ``Percentile(90)``; None for no threshold."""


def threshold_of(given: Threshold) -> float | Percentile | None:
    """A threshold as a number or a `Percentile`; a text is ``"0.7"`` or ``"p90"``.

    Raises:
        InputError: A text is neither, or a percentile is not from 0 to 100.
    """
    if not isinstance(given, str):
        return given
    is_percentile = given[:1] in ("p", "P")
    try:
        number = float(given[1:] if is_percentile else given)
    except ValueError as exc:
        raise InputError(
            f"a threshold is a cosine such as 0.7 or a percentile such as p90, got {given!r}"
        ) from exc
    return Percentile(number) if is_percentile else number


@dataclass(frozen=True, slots=True, eq=False)
class SimilarityScale:
    """The distribution of cosines against which one cosine is judged.

    With fewer than ``fewest`` of them the scale is not ``calibrated``: it then takes the specification's
    fixed bands (.6, .7, .8, .9) as the cosines at `BAND_PERCENTILES`, and straight lines between them.

    Attributes:
        cosines: ``(m,)`` float32, ascending.
        source: Where they come from, in words.
        fewest: How many make a scale.
    """

    cosines: NDArray[np.float32]
    source: str
    fewest: int = MINIMUM

    @classmethod
    def of(cls, embeddings: EmbeddingSet, *, pairs: int = 50_000, seed: int = 0) -> Self:
        """The scale of a cache: the cosines between its pictures.

        All pairs where there are no more than ``pairs`` (316 pictures have 49,770), else that many drawn
        evenly; a percentile near 90 then varies by about .13 (standard error of a share).

        Args:
            embeddings: Such as ``cache.embeddings()``; may be empty.
            pairs: Most pairs to compare, at least 1.
            seed: Of the draw.

        Raises:
            InputError: ``pairs`` is below 1.
        """
        if pairs < 1:
            raise InputError(f"pairs must be at least 1, got {pairs!r}")
        count = len(embeddings)
        every = count * (count - 1) // 2
        if every <= pairs:
            cosines, share = _all_pairs(embeddings.matrix), f"{every:,}"
        else:
            cosines, share = _some_pairs(embeddings.matrix, pairs, seed), f"{pairs:,} of {every:,}"
        return cls(np.sort(cosines), f"{count:,} pictures, {share} pairs")

    @classmethod
    def to(cls, target: ArrayLike, embeddings: EmbeddingSet) -> Self:
        """The scale of one vector: its cosines to all pictures.

        This is the one for a text: texts and pictures lie in different regions of CLIP's space, and a
        text's cosine to a picture (about .2 to .3) is below that of nearly any two pictures. A percentile
        is then a share of the pictures, so any number of them makes a scale.

        Raises:
            EmbeddingError: The lengths differ.
        """
        cosines = similarities(embeddings.matrix, np.asarray(target, dtype=np.float32))
        return cls(np.sort(cosines), f"one vector to {len(embeddings):,} pictures", fewest=1)

    @property
    def calibrated(self) -> bool:
        """Whether there are cosines enough; else the specification's fixed bands stand in."""
        return self.cosines.size >= self.fewest

    def percentile(self, cosine: float) -> float:
        """The share of cosines that are at most this one, from 0 to 100.

        Raises:
            InputError: ``cosine`` is NaN.
        """
        refuse_nan("the similarity", cosine, "a number in [-1, 1]")
        if not self.calibrated:
            return float(np.interp(cosine, *_FIXED))
        return (
            100.0 * int(np.searchsorted(self.cosines, np.float32(cosine), side="right")) / self.cosines.size
        )

    def cosine(self, percentile: float) -> float:
        """The lowest cosine whose `percentile` is at least this.

        Raises:
            InputError: ``percentile`` is not from 0 to 100.
        """
        wanted = Percentile(percentile).value
        if not self.calibrated:
            return float(np.interp(wanted, *reversed(_FIXED)))
        # Rounded first: 100 * (k / m) / 100 * m may be a hair above k.
        rank = max(1, math.ceil(round(wanted / 100 * self.cosines.size, 6)))
        return float(self.cosines[rank - 1])

    def describe(self, cosine: float) -> str:
        """The specification's words for a cosine, by its percentile here.

        Not calibrated, they are exactly `reverie.cache.similarity.describe_similarity`'s.

        Raises:
            InputError: ``cosine`` is NaN.
        """
        if not self.calibrated:
            return describe_similarity(cosine)
        percentile = self.percentile(cosine)
        at = next(at for at, lowest in enumerate(BAND_PERCENTILES) if percentile >= lowest)
        return BANDS[at][1]

    def __str__(self) -> str:
        if self.calibrated:
            return f"percentiles of {self.source}"
        return f"fixed bands; too few for percentiles: {self.source}"


_FIXED = (
    np.array([-1.0, *(lowest for lowest, _ in reversed(BANDS[:-1])), 1.0]),
    np.array([*reversed(BAND_PERCENTILES), 100.0]),
)
"""Cosines and percentiles of a scale that is not calibrated, ascending."""


def _all_pairs(matrix: Vectors) -> NDArray[np.float32]:
    rows = [similarities(matrix[at + 1 :], matrix[at]) for at in range(len(matrix) - 1)]
    return np.concatenate(rows) if rows else np.empty(0, dtype=np.float32)


def _some_pairs(matrix: Vectors, pairs: int, seed: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    first = rng.integers(len(matrix), size=pairs)
    second = rng.integers(len(matrix) - 1, size=pairs)
    second += second >= first  # never the picture itself
    blocks = [slice(at, at + _BLOCK) for at in range(0, pairs, _BLOCK)]
    products = [np.vecdot(matrix[first[block]], matrix[second[block]]) for block in blocks]
    cosines: NDArray[np.float32] = np.concatenate(products).clip(-1.0, 1.0)
    return cosines
