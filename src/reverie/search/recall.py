"""How much of the true answer a search finds, measured on the rows themselves."""

from __future__ import annotations

import numpy as np

from reverie.protocols import Searcher
from reverie.vectors import VectorRows, normalise, similarities, top_k

__all__ = ["recall"]

_NOISE = 0.5  # length of what is added to a row: targets at a cosine of about .89


def recall(searcher: Searcher, rows: VectorRows, *, sample: int = 100, k: int = 5, seed: int = 0) -> float:
    """The share of the ``k`` most similar rows that a search finds, on average.

    Args:
        searcher: What is measured, as it is now.
        rows: Where it searches.
        sample: For how many vectors, each near a row drawn at random. Every one is compared with all rows.
        k: How many rows are asked for.
        seed: Makes the draw repeatable.

    Returns:
        In [0, 1]; rows as similar as the last of the true answer count as true. 1 where there are no rows.
    """
    living = np.flatnonzero(rows.alive)
    if not len(living) or not sample or not k:
        return 1.0
    rng = np.random.default_rng(seed)
    near = rows.matrix[rng.choice(living, size=sample)]
    targets = normalise(near + _NOISE * normalise(rng.standard_normal(near.shape)))
    shares = []
    for target in targets:
        scores = similarities(rows.matrix, target, living)
        true = scores[top_k(scores, None, k)]
        found = searcher.search(rows, target, k).scores
        shares.append(np.count_nonzero(found >= true[-1]) / len(true))
    return float(np.mean(shares))
