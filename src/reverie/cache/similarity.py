"""Finding and choosing similar vectors: pure functions behind `AestheticMatcher` and the policies."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reverie.checks import refuse_nan
from reverie.errors import EmbeddingError, InputError
from reverie.vectors import (
    Embedding,
    EmbeddingSet,
    VectorRows,
    Vectors,
    as_embedding,
    check_same_encoder,
    similarities,
    top_k,
)

__all__ = [
    "BANDS",
    "Candidates",
    "Match",
    "as_table",
    "as_target",
    "check_cut",
    "describe_similarity",
    "find_similar",
    "weighted_choice",
    "weighted_sum",
]

_UNIT_SQUARE = 2e-5  # a squared length this close to 1: what `as_embedding` takes as a unit vector
_CANCELLED = 1e-6  # a sum this short, beside a largest weight of 1, is what float32 left of nothing

Match: TypeAlias = tuple[str, float]
"""Id and cosine similarity."""

Candidates: TypeAlias = EmbeddingSet | Iterable[tuple[str, ArrayLike | None]]
"""The cache's own matrix (`CacheManager.embeddings`), or pairs of id and vector."""

BANDS: tuple[tuple[float, str], ...] = (
    (0.9, "nearly identical"),
    (0.8, "very similar (same subject, pose)"),
    (0.7, "similar aesthetic (good for injection)"),
    (0.6, "related style"),
    (-math.inf, "different aesthetic"),
)
"""The specification's bands: lowest similarity of each (inclusive), high to low."""


def describe_similarity(similarity: float) -> str:
    """The specification's words for a similarity; raises InputError for NaN and what is no number.

    Compared in float32, as the threshold of `find_similar` is: what 0.7 lets through is
    described by the band from 0.7.
    """
    refuse_nan("the similarity", similarity, "a number in [-1, 1]")
    return next(words for lowest, words in BANDS if np.float32(similarity) >= np.float32(lowest))


def find_similar(
    target: ArrayLike, candidates: Candidates, threshold: float | None = 0.7, k: int | None = 5
) -> list[Match]:
    """The candidates most similar to a vector: one matrix product, then filter, sort, cut.

    Args:
        target: ``(d,)`` numbers.
        candidates: An `EmbeddingSet`, used without copying, or pairs of id and ``(d,)`` numbers;
            pairs whose vector is None are passed over.
        threshold: Lowest cosine that counts, inclusive, compared in float32; None takes all.
        k: How many at most; None takes all.

    Returns:
        ``(id, cosine)`` high to low, ties in input order; empty when nothing reaches the threshold.

    Raises:
        EmbeddingError: A vector is NaN, infinite, zero or of another length (named by its id).
        EncoderMismatchError: The vectors were made by different encoders.
        InputError: ``threshold`` is no number, ``k`` is negative, or a candidate is no pair.
    """
    check_cut(threshold, k)
    table = as_table(candidates)
    wanted = as_target(target, table)
    if not table.ids:
        return []
    scores = similarities(table.matrix, wanted)
    order = top_k(scores, threshold, k)
    return [
        (table.ids[row], score) for row, score in zip(order.tolist(), scores[order].tolist(), strict=True)
    ]


def check_cut(threshold: float | None, k: int | None) -> None:
    """Whether `find_similar` can cut by these.

    Raises:
        InputError: ``threshold`` is no number, or ``k`` is not a whole number of at least 0.
    """
    if threshold is not None:
        refuse_nan("threshold", threshold, "a cosine in [-1, 1] or None")
    if k is not None and (isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 0):
        raise InputError(f"top_k must be a whole number of at least 0, or None; got {k!r}")


def as_target(target: ArrayLike, among: EmbeddingSet | VectorRows) -> Embedding:
    """A vector to be compared with others, checked.

    Raises:
        EmbeddingError: NaN, infinite, zero or of another length.
        EncoderMismatchError: Another encoder made it.
    """
    encoder = getattr(target, "encoder", None)
    if encoder != among.encoder:  # before the lengths, which differ then as a rule: the names say more
        check_same_encoder((encoder, among.encoder), where="one similarity search")
    dimensions = among.matrix.shape[1] if len(among) else None
    # Of an Embedding only its form is checked: a part of one is an Embedding too, but no unit vector.
    if type(target) is Embedding and target.shape == (dimensions,) and target.dtype == np.float32:
        vector = np.asarray(target)
        if abs(float(np.vecdot(vector, vector)) - 1.0) < _UNIT_SQUARE:
            return target
    return as_embedding(target, dimensions=dimensions, what="target embedding")


def as_table(candidates: Candidates) -> EmbeddingSet:
    """Candidates as one matrix: an `EmbeddingSet` as it is, pairs with every row checked and of unit length.

    Raises:
        EmbeddingError: A vector is NaN, infinite, zero or of another length (named by its id).
        EncoderMismatchError: The vectors were made by different encoders.
        InputError: A candidate is no pair.
    """
    if isinstance(candidates, EmbeddingSet):
        return candidates
    try:
        pairs = [(name, vector) for name, vector in candidates if vector is not None]
    except (TypeError, ValueError) as exc:
        raise InputError(
            f"candidates must be pairs of an id and a vector, or an EmbeddingSet: {exc}"
        ) from exc
    ids = tuple([name for name, _ in pairs])
    rows: list[Any] = [vector for _, vector in pairs]
    if not rows:
        return EmbeddingSet((), np.empty((0, 0), dtype=np.float32))
    encoder = check_same_encoder(
        {getattr(row, "encoder", None) for row in rows}, where="the candidates of one similarity search"
    )
    return EmbeddingSet(ids, _stack(ids, rows), encoder)


def _stack(ids: Sequence[str], rows: Sequence[Any]) -> Vectors:
    """All at once when nothing is wrong with them, else one by one."""
    try:
        given = np.array(rows)
    except ValueError:  # of different lengths
        return _stack_slowly(ids, rows)
    if given.ndim != 2 or given.dtype.kind not in "fiu":
        return _stack_slowly(ids, rows)
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is no unit vector
        matrix = given.astype(np.float32, copy=False)
        lengths_off = np.abs(np.vecdot(matrix, matrix) - 1.0)
    unit = given.size > 0 and bool((lengths_off < _UNIT_SQUARE).all())
    return matrix if unit else _stack_slowly(ids, rows)


def _stack_slowly(ids: Sequence[str], rows: Sequence[Any]) -> Vectors:
    """One by one: normalises what is not of unit length, and names the row that is wrong."""
    dimensions: int | None = None
    checked: list[NDArray[np.float32]] = []
    for name, row in zip(ids, rows, strict=True):
        vector = as_embedding(row, dimensions=dimensions, what=f"embedding of {name!r}")
        dimensions = vector.size
        checked.append(np.asarray(vector))
    return np.stack(checked)


def weighted_sum(parts: Sequence[tuple[Embedding, float]]) -> Embedding:
    """The direction of a weighted sum of vectors, as word arithmetic has it: plus wings, minus night.

    Args:
        parts: At least one ``(d,)`` vector, each with a finite weight; a negative one leads away from it.

    Returns:
        ``(d,)`` float32 of unit length, with the name of the encoder that made the parts.

    Raises:
        InputError: No parts, or a weight is not finite.
        EmbeddingError: The parts cancel each other out, or are of different lengths.
        EncoderMismatchError: Different encoders made them.
    """
    if not parts or not all(math.isfinite(weight) for _, weight in parts):
        raise InputError("a sum needs at least one vector, and every weight must be a finite number")
    encoder = check_same_encoder((vector.encoder for vector, _ in parts), where="one sum")
    if len({vector.shape for vector, _ in parts}) > 1:
        raise EmbeddingError(f"the vectors of a sum have lengths {[vector.size for vector, _ in parts]}")
    largest = max(abs(weight) for _, weight in parts) or 1.0
    terms = [weight / largest * np.asarray(vector, dtype=np.float64) for vector, weight in parts]
    total = np.sum(terms, axis=0)
    if np.linalg.norm(total) < _CANCELLED:
        raise EmbeddingError(
            "the parts of the sum cancel each other out: there is no direction left to look in"
        )
    return as_embedding(total, encoder=encoder, what="weighted sum")


def weighted_choice(
    candidates: Sequence[Match], rng: np.random.Generator, temperature: float | None = None
) -> str | None:
    """Draw one id with probability proportional to its similarity.

    Args:
        candidates: ``(id, similarity)`` pairs.
        rng: Source of randomness; one number is drawn.
        temperature: None is the specification: weight = similarity, negative ones weigh nothing,
            and when nothing weighs anything all are equal. A number weighs exp(similarity /
            temperature) instead: small favours the most similar, large makes all equal.

    Returns:
        The id; None for no candidates.

    Raises:
        InputError: No pairs, a similarity is NaN or infinite, all of them are more than a number can hold, or
            the temperature is not above 0.
    """
    if not candidates:
        return None
    try:
        scores = [float(score) for _, score in candidates]
    except (TypeError, ValueError, OverflowError) as exc:
        raise InputError(f"candidates must be pairs of an id and a similarity: {exc}") from exc
    if not all(math.isfinite(score) for score in scores):
        raise InputError("a similarity is NaN or infinite: it cannot weigh a choice")
    weights = _weights(scores, temperature)
    try:
        draw = rng.random() * math.fsum(weights)
    except OverflowError as exc:
        raise InputError(f"similarities up to {max(scores):g} are too large to be added up") from exc
    for (name, _), weight in zip(candidates, weights, strict=True):
        draw -= weight
        if draw < 0:
            return name
    return next(
        name for (name, _), weight in zip(reversed(candidates), reversed(weights), strict=True) if weight
    )


def _weights(scores: Sequence[float], temperature: float | None) -> list[float]:
    if temperature is not None:
        refuse_nan("temperature", temperature, "a number above 0")
        if temperature <= 0:
            raise InputError(f"temperature must be above 0, got {temperature!r}")
        highest = max(scores)
        return [math.exp((score - highest) / temperature) for score in scores]
    weights = [max(0.0, score) for score in scores]
    return weights if any(weights) else [1.0] * len(scores)
