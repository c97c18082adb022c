"""One policy, put together from data: whether to inject, which memory, and what if that does not help.

It is pure: what it must know of earlier frames (was the alarm on? did the last injection free the loop?)
it works out from what it is shown, every time.
"""

from __future__ import annotations

import numpy as np

from reverie.loop.choosing import Choices, Which, choices_of, merit
from reverie.loop.occasion import When, fruitless, whether
from reverie.loop.transition import TransitionSettings
from reverie.protocols import Decision, Observation
from reverie.vectors import similarities

__all__ = ["MemoryPolicy"]

_IMAGINE = "imagine"
_WORTH_A_STOP = 0.1  # so much nearer, in cosine, has a memory on the way to be
_WORDS = {
    "least-visited": "where the loop was least lately",
    "novel": "drawn by how new it would be",
    "dissimilar": "a memory unlike this frame",
    "band": "a memory neither too like nor too unlike this frame",
    "similar": "a memory like this frame",
    "text": "towards what was asked for",
    "random": "a random memory",
}


class MemoryPolicy:
    """Injects memories as two pieces of data say.

    Args:
        when: Whether.
        which: Which.
        transition: How; None for a cut.
        name: Its name.

    Attributes:
        transition: As given.
        name: As given.
    """

    def __init__(
        self,
        when: When | None = None,
        which: Which | None = None,
        transition: TransitionSettings | None = None,
        *,
        name: str = "memory",
    ) -> None:
        self.name = name
        self.transition = transition or TransitionSettings()
        self._when = when or When()
        self._which = which or Which()

    def decide(self, observation: Observation, rng: np.random.Generator) -> Decision:
        """Whether, and then which; the numbers of both are in the decision."""
        answer = whether(self._when, observation, rng)
        if not answer.go:
            return Decision(None, answer.reason, numbers=answer.numbers)
        which, choices = self._which, choices_of(observation, self._which)
        tries = fruitless(observation) if which.escalate else 0
        numbers = {**answer.numbers, "tries": float(tries), "candidates": float(len(choices.rows))}
        choice, note = _escalated(which, choices, tries)
        reason = f"{answer.reason}: {note}"
        if not len(choices.rows):
            return _from_nothing(which, answer.reason, numbers)
        weights = merit(choice, which, choices)
        if not np.isfinite(weights).any():
            return Decision(None, f"{reason}; cannot help: no memory is like that", numbers=numbers)
        weights = np.exp(weights - weights.max())
        row = int(rng.choice(len(weights), p=weights / weights.sum()))
        freshest = -1.0 if choice == _IMAGINE else float(choices.freshness.max())
        stale = freshest < which.fresh * (1.0 - observation.unrelated)
        return Decision(
            observation.candidates.ids[choices.rows[row]],
            reason,
            float(choices.current[row]),
            {
                **numbers,
                "freshness": float(choices.freshness[row]),
                "freshest": float(choices.freshness.max()),
                "uses": float(choices.uses[row]),
                "depth": float(choices.depths[row]),
            },
            which.reheat if stale else None,
            freshest,
            _bridge(observation, choices, row) if which.stops else (),
        )


def _escalated(which: Which, choices: Choices, tries: int) -> tuple[str, str]:
    """What to choose by, and a word on it, after so many injections that were of no use."""
    if tries == 0:
        return which.choice, _WORDS[which.choice]
    failed = f"{tries} injection{'s' if tries > 1 else ''} did not free it, so "
    if tries > 2 and which.reheat is not None:
        return _IMAGINE, failed + "something new"
    if tries > 1 and choices.pinned.any():
        return "pinned", failed + "a pinned seed"
    return "dissimilar", failed + "a memory unlike this frame"


def _from_nothing(which: Which, reason: str, numbers: dict[str, float]) -> Decision:
    if which.reheat is None:
        return Decision(None, f"{reason}; cannot help: there is nothing to remember", numbers=numbers)
    reason = f"{reason}: nothing to remember, so something new"
    return Decision(None, reason, numbers=numbers, reheat=which.reheat)


def _bridge(observation: Observation, choices: Choices, row: int) -> tuple[str, ...]:
    """The memory over which the longer of two steps is shortest, where that is worth a detour."""
    matrix = observation.candidates.matrix[choices.rows]
    over = np.minimum(similarities(matrix, matrix[row]), choices.current)
    over[row] = -1.0
    best = int(over.argmax())
    if over[best] < choices.current[row] + _WORTH_A_STOP:
        return ()
    return (observation.candidates.ids[choices.rows[best]],)
