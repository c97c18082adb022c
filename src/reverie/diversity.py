"""How varied a set of unit vectors is: pure measures, no state.

Each takes ``(n, d)`` float32 rows of unit length, in the order of their frames where order
matters. "Effective images" is the Vendi score: n identical rows count as 1, n orthogonal rows as n.
All raise InputError for vectors that are not ``(n, d)``, or hold NaN or infinity.

What a running loop needs of them frame by frame is in `reverie.loop.monitor`.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reverie.errors import InputError
from reverie.vectors import Vectors

__all__ = [
    "Drift",
    "Visits",
    "drift",
    "entropy_of",
    "hard_cuts",
    "mean_pairwise",
    "motifs",
    "novelty",
    "replay",
    "return_time",
    "rke",
    "slope",
    "steps",
    "travel",
    "travel_of_gram",
    "vendi",
    "vendi_of_gram",
    "visits",
]

_Floats = NDArray[np.float64]


class Visits(NamedTuple):
    """How a run went from motif to motif; a visit is an unbroken stretch of frames in one motif.

    Attributes:
        motifs: How many there are.
        entropy: Entropy in nats of how the visits are spread over the motifs: 0 for one motif, log k
            when each of k motifs was visited equally often.
        dwell: Mean frames that a visit lasts, from 1; 0 for no frames.
    """

    motifs: int
    entropy: float
    dwell: float


class Drift(NamedTuple):
    """How far a run is from its first frame.

    Attributes:
        mean: Mean of 1 - cosine to the first frame over all later ones, in [0, 2].
        rate: Slope a frame of the straight line that fits these distances best.
    """

    mean: float
    rate: float


def vendi(matrix: Vectors, order: float = 1.0) -> float:
    """Vendi score: exp of the Renyi entropy of the eigenvalues of K/n, K the matrix of cosines.

    Friedman and Dieng, "The Vendi Score" (arXiv 2210.02410), equation 2; of any order by Pasarkar
    and Dieng, "Cousins of the Vendi Score" (arXiv 2310.12952). Computed from the smaller of the two
    Gram matrices, which share their non-zero eigenvalues.

    Args:
        matrix: The set.
        order: At least 0, infinity included. 0 counts the eigenvalues (those above 1e-12, so that
            rounding does not count); 1 is the entropy; 2 is `rke`; infinity is one over the largest
            eigenvalue. The higher the order, the less rare images count.

    Returns:
        Between 1 and min(n, d); 0 for an empty set.

    Raises:
        InputError: Also for an order below 0 or NaN.
    """
    rows = _checked(matrix)
    count, dimensions = rows.shape
    return vendi_of_gram(rows @ rows.T if count <= dimensions else rows.T @ rows, count, order)


def vendi_of_gram(gram: _Floats, count: int, order: float = 1.0) -> float:
    """`vendi` of ``count`` rows from their Gram matrix, where that is there already.

    Args:
        gram: ``(m, m)`` float64, symmetric: the cosines ``(n, n)``, or the sum of the rows' outer
            products ``(d, d)``. The lower half is read.
        count: n.
        order: As for `vendi`.

    Raises:
        InputError: The order is below 0 or NaN.
    """
    if not order >= 0:
        raise InputError(f"the order of a Vendi score must be at least 0, got {order}")
    if count == 0:
        return 0.0
    shares = np.asarray(np.linalg.eigvalsh(gram / count), dtype=np.float64)
    shares = shares[shares > 1e-12]
    shares /= shares.sum()  # of rounded rows they add up to nearly 1 only
    return min(max(1.0, _effective(shares, order)), float(min(count, len(gram))))


def _effective(shares: _Floats, order: float) -> float:
    """Hill number of an order: exp of the Renyi entropy."""
    if order == math.inf:
        return float(1 / shares.max())
    if abs(order - 1) < 1e-9:  # the limit; the formula below would divide zero by zero
        return float(np.exp(-np.sum(shares * np.log(shares))))
    # The largest share is taken out first: of a high order the powers would underflow.
    largest = float(shares.max())
    rest = math.log(float(np.sum((shares / largest) ** order)))
    return math.exp((rest + order * math.log(largest)) / (1 - order))


def rke(matrix: Vectors) -> float:
    """Effective images of order 2, without eigenvalues: n^2 / ||K||_F^2, K the matrix of cosines.

    Renyi kernel entropy, Jalali, Li and Farnia (arXiv 2306.11296); `vendi` of order 2. One product
    of the smaller Gram matrix.

    Returns:
        Between 1 and min(n, d); 0 for an empty set.
    """
    rows = _checked(matrix)
    count, dimensions = rows.shape
    if count == 0:
        return 0.0
    gram = rows @ rows.T if count <= dimensions else rows.T @ rows
    energy = float(np.sum(gram * gram))
    trace = float(np.trace(gram))  # n, but for rounding
    return min(max(1.0, trace * trace / energy), float(min(count, dimensions)))


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
    return len(set(_motif_of(matrix, apart)))


def visits(matrix: Vectors, apart: float = 0.6) -> Visits:
    """Motifs as `motifs` counts them, and how they were visited.

    A row that leads no new motif belongs to the one whose leader it is most like. ``(0, 0, 0)`` for
    an empty set.
    """
    of = np.array(_motif_of(matrix, apart), dtype=np.intp)
    if not of.size:
        return Visits(0, 0.0, 0.0)
    begun = of[np.concatenate(([True], of[1:] != of[:-1]))]
    return Visits(int(of.max()) + 1, entropy_of(np.bincount(begun)), len(of) / len(begun))


def entropy_of(counts: NDArray[np.integer]) -> float:
    """Entropy in nats of counts ``(k,)``, each at least 1; 0 for one count or none."""
    if len(counts) < 2:
        return 0.0
    shares = counts / counts.sum()
    return float(-np.sum(shares * np.log(shares)))


def _motif_of(matrix: Vectors, apart: float) -> list[int]:
    """Number of the motif of each row, from 0 in the order of their leaders."""
    rows = _checked(matrix).astype(np.float32)
    leaders: list[int] = []
    found: list[int] = []
    for index, row in enumerate(rows):
        cosines = np.vecdot(rows[leaders], row)
        if not leaders or float(cosines.max()) < apart:
            found.append(len(leaders))
            leaders.append(index)
        else:
            found.append(int(cosines.argmax()))
    return found


def drift(matrix: Vectors) -> Drift:
    """How far a run went from its first row on average, and how fast it goes on.

    Mean cumulative drift after Mollah et al. (arXiv 2509.04438), as distance where they average
    similarity. Their rate is the exponent of a power law, which a loop that comes back does not
    follow; this one is a least-squares slope.

    Returns:
        ``(0, 0)`` for fewer than two rows; the rate of two rows is 0.
    """
    rows = _checked(matrix)
    if len(rows) < 2:
        return Drift(0.0, 0.0)
    far = np.clip(1.0 - rows[1:] @ rows[0], 0.0, 2.0)
    return Drift(float(far.mean()), slope(far))


def slope(values: _Floats) -> float:
    """Slope a step of the least-squares line through evenly spaced values ``(n,)``; 0 for fewer than two."""
    if len(values) < 2:
        return 0.0
    times = np.arange(len(values)) - (len(values) - 1) / 2
    return float(np.vecdot(times, values) / np.vecdot(times, times))


def travel(matrix: Vectors) -> float:
    """Travel ratio: how much farther frames half a set or more apart are than neighbours are.

    Mean of 1 - cosine over all lags of at least n/2, over the median of 1 - cosine at lag 1. About 1
    for a loop that jumps about one place, above 5 for one that goes somewhere; no scale of the
    encoder is left in it.

    Returns:
        At least 0; 1 for fewer than two rows and where no row differs from the one before.
    """
    rows = _checked(matrix)
    return travel_of_gram(rows @ rows.T)


def travel_of_gram(gram: _Floats) -> float:
    """`travel` from the cosines ``(n, n)`` of the rows in order."""
    count = len(gram)
    if count < 2:
        return 1.0
    near = max(1e-9, float(np.median(1.0 - np.diagonal(gram, 1))))
    far = 1.0 - gram[_far_apart(count)]
    return max(0.0, float(far.mean()) / near) if float(far.max()) > 1e-6 else 1.0


@lru_cache(maxsize=8)
def _far_apart(count: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    return np.triu_indices(count, (count + 1) // 2)


def return_time(cosines: NDArray[np.floating], leave: float = 0.6, back: float = 0.85) -> int:
    """After how many frames a loop came back to where it is now, having been elsewhere in between.

    Args:
        cosines: ``(n,)`` cosines of the frame to the one before it, the one before that, and so on.
        leave: It was elsewhere once a cosine is below this.
        back: It is back where a cosine is above this.

    Returns:
        The lag of the highest cosine of the latest earlier stay here, from 2; 0 when there was none.
    """
    gone = np.flatnonzero(cosines < leave)
    if not gone.size:
        return 0
    here = np.flatnonzero(cosines[gone[0] :] > back) + gone[0]
    if not here.size:
        return 0
    left = gone[gone > here[0]]
    stay = cosines[here[0] : left[0] if left.size else None]
    return int(here[0] + stay.argmax()) + 1


def _checked(matrix: Vectors) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    rows = np.asarray(matrix, dtype=np.float64)
    if rows.ndim != 2:
        raise InputError(f"expected unit vectors of shape (n, d), got shape {rows.shape}")
    if not np.isfinite(rows).all():
        raise InputError("the vectors hold NaN or infinity")
    return rows
