"""Means, confidence intervals and paired comparisons of a study's results."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

__all__ = ["Estimate", "Group", "compared", "estimate", "grouped"]

_RESAMPLES = 4000
_LEVEL = 0.95

Group = tuple[str, int]
"""Name of a generator, and number of seed pictures that are known."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its uncertainty.

    Attributes:
        value: Mean, or ratio of means.
        low: Lower end of the 95 % confidence interval.
        high: Upper end.
        count: Loops that it is of.
    """

    value: float
    low: float
    high: float
    count: int


def grouped(
    results: Sequence[Mapping[str, Any]],
) -> dict[Group, dict[str, dict[int, Mapping[str, float]]]]:
    """Figures by generator and number of pictures, then by arm, then by seed."""
    found: dict[Group, dict[str, dict[int, Mapping[str, float]]]] = defaultdict(lambda: defaultdict(dict))
    for result in results:
        trial = result["trial"]
        found[trial["generator"], trial["pictures"]][trial["arm"]][trial["seed"]] = result["figures"]
    return {group: dict(arms) for group, arms in found.items()}


def estimate(values: Sequence[float]) -> Estimate:
    """The mean with its bootstrap interval (percentiles, seeded); of one value no interval.

    Source: Efron and Tibshirani, "An Introduction to the Bootstrap", chapter 13.
    """
    array = np.asarray(values, dtype=np.float64)
    if len(array) < 2:
        value = float(array.mean()) if len(array) else float("nan")
        return Estimate(value, value, value, len(array))
    drawn = _draws(len(array)) @ array / len(array)
    return Estimate(float(array.mean()), *_interval(drawn), len(array))


def compared(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Estimate:
    """How many times theirs ours is: the ratio of the means over the seeds that both have, paired.

    Both are drawn anew together, seed by seed: what a start and its noise make easy or hard is in both.
    """
    seeds = sorted(ours.keys() & theirs.keys())
    a, b = (np.array([each[seed] for seed in seeds], dtype=np.float64) for each in (ours, theirs))
    if not seeds or b.mean() == 0.0:
        return Estimate(float("nan"), float("nan"), float("nan"), len(seeds))
    value = float(a.mean() / b.mean())
    if len(seeds) < 2:
        return Estimate(value, value, value, len(seeds))
    draws = _draws(len(seeds))
    return Estimate(value, *_interval(draws @ a / np.maximum(draws @ b, 1e-12)), len(seeds))


@lru_cache(maxsize=64)  # a large study asks ten thousand times for the same few counts
def _draws(count: int) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """How often each of ``count`` values is in each of the resamples."""
    drawn = np.random.default_rng([count, 1]).integers(0, count, (_RESAMPLES, count))
    often = np.zeros((_RESAMPLES, count))
    np.add.at(often, (np.arange(_RESAMPLES)[:, None], drawn), 1.0)
    often.flags.writeable = False
    return often


def _interval(values: np.ndarray[Any, np.dtype[np.float64]]) -> tuple[float, float]:
    tail = (1 - _LEVEL) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)
