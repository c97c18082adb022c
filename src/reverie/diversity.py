"""How varied a set of unit vectors is: pure measures, no state.

Each takes ``(n, d)`` float32 rows of unit length. "Effective images" is the Vendi score: n
identical rows count as 1, n orthogonal rows as n. All raise InputError for vectors that are not
``(n, d)``, or hold NaN or infinity.
"""

from __future__ import annotations

import numpy as np

from reverie.errors import InputError
from reverie.vectors import Vectors

__all__ = ["hard_cuts", "mean_pairwise", "motifs", "novelty", "replay", "steps", "vendi"]


def vendi(matrix: Vectors) -> float:
    """Vendi score of order 1: exp of the entropy of the eigenvalues of K/n, K the matrix of cosines.

    Friedman and Dieng, "The Vendi Score" (arXiv 2210.02410), equation 2. Computed from the
    smaller of the two Gram matrices, which share their non-zero eigenvalues.

    Returns:
        Between 1 and min(n, d); 0 for an empty set.
    """
    rows = _checked(matrix)
    count, dimensions = rows.shape
    if count == 0:
        return 0.0
    gram = rows @ rows.T if count <= dimensions else rows.T @ rows
    shares = np.linalg.eigvalsh(gram / count)
    shares = shares[shares > 1e-12]
    shares /= shares.sum()  # of rounded rows they add up to nearly 1 only
    return min(float(max(1.0, np.exp(-np.sum(shares * np.log(shares))))), float(min(count, dimensions)))


def mean_pairwise(matrix: Vectors) -> float:
    """Mean cosine of all pairs of different rows, in O(nd): (|sum of rows|^2 - n) / (n(n-1)).

    Returns:
        In [-1, 1]; 1 for fewer than two rows, which cannot differ.
    """
    rows = _checked(matrix)
    count = len(rows)
    if count < 2:
        return 1.0
    total = rows.sum(axis=0)
    squares = float(np.sum(rows * rows))
    return float(np.clip((float(total @ total) - squares) / (count * (count - 1)), -1.0, 1.0))


def steps(matrix: Vectors) -> list[float]:
    """1 - cosine between each row and the one before: n-1 numbers in [0, 2]; none for an empty set."""
    rows = _checked(matrix)
    apart = 1.0 - np.sum(rows[1:] * rows[:-1], axis=1)
    return [float(step) for step in np.clip(apart, 0.0, 2.0)]


def hard_cuts(matrix: Vectors, cut: float = 0.3) -> int:
    """How many steps (see `steps`) are larger than ``cut``."""
    return sum(step > cut for step in steps(matrix))


def novelty(vector: Vectors, earlier: Vectors) -> float:
    """1 - the highest cosine of one vector ``(d,)`` to earlier ones ``(n, d)``.

    Returns:
        In [0, 2]: 0 when it was there before; 1 when there are no earlier ones.
    """
    if len(earlier) == 0:
        return 1.0
    with np.errstate(invalid="ignore"):  # said better below
        cosines = np.vecdot(earlier, vector)
    if not np.isfinite(cosines).all():
        raise InputError("the vectors hold NaN or infinity")
    return min(2.0, max(0.0, 1.0 - float(cosines.max())))


def replay(matrix: Vectors, lag: int = 30, same: float = 0.95) -> float:
    """Share of rows that nearly repeat (cosine above ``same``) a row at least ``lag`` before them.

    Returns:
        In [0, 1], of the rows that have such an earlier row; 0 when none has.

    Raises:
        InputError: Also for a ``lag`` below 1: every row repeats itself.
    """
    if lag < 1:
        raise InputError(f"lag must be at least 1, got {lag}")
    rows = _checked(matrix).astype(np.float32)
    if len(rows) <= lag:
        return 0.0
    repeated = sum(novelty(rows[i], rows[: i - lag + 1]) < 1 - same for i in range(lag, len(rows)))
    return repeated / (len(rows) - lag)


def motifs(matrix: Vectors, apart: float = 0.6) -> int:
    """How many different motifs: a row leads a new one when its cosine to all leaders is below ``apart``.

    Depends on the order of the rows; 0 for an empty set.
    """
    rows = _checked(matrix).astype(np.float32)
    leaders: list[int] = []
    for index, row in enumerate(rows):
        if not leaders or float(np.max(np.vecdot(rows[leaders], row))) < apart:
            leaders.append(index)
    return len(leaders)


def _checked(matrix: Vectors) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    rows = np.asarray(matrix, dtype=np.float64)
    if rows.ndim != 2:
        raise InputError(f"expected unit vectors of shape (n, d), got shape {rows.shape}")
    if not np.isfinite(rows).all():
        raise InputError("the vectors hold NaN or infinity")
    return rows
