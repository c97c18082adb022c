"""Whether to inject a memory, and which: policies chosen by name, pure, with the caller's rng.

``spec`` is the specification's flow chart to the letter. It tends to pick near-duplicates of the
current frame (which is itself in the cache by then), so it keeps a loop coherent rather than varied.
"""

from __future__ import annotations

import numpy as np

from reverie.cache.similarity import check_cut, find_similar, weighted_choice
from reverie.errors import InputError
from reverie.protocols import Decision, Observation
from reverie.vectors import EmbeddingSet, similarities

__all__ = ["NoInjection", "RandomMemory", "SimilarMemory"]


class NoInjection:
    """Never inject (``none``): the loop as it is, for comparison."""

    name = "none"

    def decide(self, observation: Observation, rng: np.random.Generator) -> Decision:  # noqa: ARG002 - one call for every policy
        """No injection, whatever was observed."""
        return Decision(None, "this policy never injects")


class SimilarMemory:
    """The specification's policy (``spec``): every ``interval`` frames, one of the most similar memories.

    Args:
        interval: Frames between injections.
        threshold: Lowest cosine that counts, inclusive.
        top_k: How many of the most similar are drawn from, each in proportion to its similarity.
        rest: Frames for which what was just kept is left alone; the specification knows of no such rest.

    Raises:
        InputError: ``interval`` is not a whole number of at least 1, ``threshold`` is NaN, or ``top_k`` or
            ``rest`` is negative.
    """

    name = "spec"

    def __init__(self, interval: int = 15, threshold: float = 0.7, top_k: int = 5, rest: int = 0) -> None:
        check_cut(threshold, top_k)
        if rest < 0:
            raise InputError(f"rest must be 0 frames or more, got {rest!r}")
        self._rest = rest
        self._interval = _checked_interval(interval)
        self._threshold = threshold
        self._top_k = top_k

    def decide(self, observation: Observation, rng: np.random.Generator) -> Decision:
        """Inject when the frame's number is a multiple of the interval and something is similar enough."""
        if observation.frame % self._interval:
            return _waiting(observation.frame, self._interval)
        candidates = self._candidates(observation)
        similar = find_similar(observation.embedding, candidates, self._threshold, self._top_k)
        numbers = {"candidates": float(len(candidates)), "similar": float(len(similar))}
        chosen = weighted_choice(similar, rng)
        if chosen is None:
            return Decision(None, f"no memory is {self._threshold:g} or more similar", numbers=numbers)
        similarity = dict(similar)[chosen]
        reason = f"every {self._interval} frames: one of {len(similar)} memories like this frame"
        return Decision(chosen, reason, similarity, numbers)

    def _candidates(self, observation: Observation) -> EmbeddingSet:
        candidates, newest = observation.candidates, observation.frame - self._rest
        if not self._rest:
            return candidates
        rows = [row for row, each in enumerate(candidates.ids) if observation.kept.get(each, 0) <= newest]
        ids = tuple(candidates.ids[row] for row in rows)
        return EmbeddingSet(ids, candidates.matrix[rows], candidates.encoder)


class RandomMemory:
    """Every ``interval`` frames, any memory, drawn evenly (``random``).

    Args:
        interval: Frames between injections.

    Raises:
        InputError: ``interval`` is not a whole number of at least 1.
    """

    name = "random"

    def __init__(self, interval: int = 15) -> None:
        self._interval = _checked_interval(interval)

    def decide(self, observation: Observation, rng: np.random.Generator) -> Decision:
        """Inject when the frame's number is a multiple of the interval and memory is not empty."""
        if observation.frame % self._interval:
            return _waiting(observation.frame, self._interval)
        candidates = observation.candidates
        if not len(candidates):
            return Decision(None, "the memory is empty")
        row = int(rng.integers(len(candidates)))
        similarity = float(similarities(candidates.matrix[row : row + 1], observation.embedding)[0])
        reason = f"every {self._interval} frames: a random one of {len(candidates)} memories"
        return Decision(candidates.ids[row], reason, similarity, {"candidates": float(len(candidates))})


def _waiting(frame: int, interval: int) -> Decision:
    left = interval - frame % interval
    return Decision(None, f"next look in {left} frame{'s' if left > 1 else ''}")


def _checked_interval(interval: int) -> int:
    if not isinstance(interval, int) or isinstance(interval, bool) or interval < 1:
        raise InputError(f"interval must be a whole number of frames of at least 1, got {interval!r}")
    return interval
