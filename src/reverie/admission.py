"""Admission: whether a frame is worth a place in memory at all, judged by its likeness to what is there."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from reverie.errors import InputError
from reverie.vectors import Embedding, EmbeddingSet, similarities

__all__ = ["Admission", "AdmissionRate", "MaximumSimilarity", "Verdict"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an admission says of a frame.

    Attributes:
        admitted: Whether it is to be stored.
        reason: Why, one sentence with the numbers.
    """

    admitted: bool
    reason: str


class Admission(Protocol):
    """Decides which frames are stored. It may keep numbers of what it saw: same frames, same answers."""

    def judge(self, embedding: Embedding, archive: EmbeddingSet) -> Verdict:
        """Decide about one frame.

        Args:
            embedding: ``(d,)`` unit vector of the frame.
            archive: The vectors of its encoder that are in memory; may be empty.
        """

    def state(self) -> dict[str, Any]:
        """Everything it learnt, as JSON can hold it."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave, bit for bit; raises InputError when it is not usable."""


class MaximumSimilarity:
    """Rejects a frame whose highest cosine to memory exceeds a threshold.

    Args:
        threshold: The highest cosine that is still admitted, in [-1, 1]; on the encoder's own scale.

    Raises:
        InputError: ``threshold`` is not in [-1, 1].
    """

    def __init__(self, threshold: float = 0.9) -> None:
        if not _is_number(threshold) or not -1 <= threshold <= 1:
            raise InputError(f"threshold is a cosine, -1 to 1, got {threshold!r}")
        self.threshold = float(threshold)

    def judge(self, embedding: Embedding, archive: EmbeddingSet) -> Verdict:
        """Admit what is not too much like any entry; always, while there is none."""
        if len(archive) == 0:
            return _FIRST
        highest, cache_id = _nearest(embedding, archive)
        admitted = highest <= self.threshold
        side = "at most" if admitted else "above"
        return Verdict(
            admitted, f"its highest cosine to memory is {highest:.3f} ({cache_id}), {side} {self.threshold:g}"
        )

    def state(self) -> dict[str, Any]:
        """Nothing: it learns nothing."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Nothing to do; raises InputError when there is something to restore."""
        if state:
            raise InputError(f"MaximumSimilarity keeps no state, got {', '.join(map(str, state))}")


class AdmissionRate:
    """Admits a wanted share of the frames, the most novel ones, whatever the encoder's scale.

    A frame's rank is the share of the last ``window`` frames whose highest cosine to memory was lower
    (half of the equal ones counted): 0 for the most novel, 1 for the most familiar. It is admitted when its
    rank is below a level p, and after each frame p moves by stochastic approximation (Robbins and Monro,
    1951)::

        p <- p + step * (target - admitted),    admitted = 0 or 1

    Only ranks are used, so any rising change of the scale gives the same answers. Below 0 the level admits
    nothing and above 1 everything, so p stays within [-step, 1 + step], and for any frames whatever::

        |share admitted of T frames - target| <= (1 + 2 step) / (step T)

    This is the argument of adaptive conformal inference (Gibbs and Candès, arXiv 2106.00170, proposition
    4.1). Mind what it promises: also a loop that is stuck gets its share admitted.

    Args:
        target: Wanted share, above 0 and below 1.
        step: How far p moves: larger follows a change faster and holds the share less evenly. In (0, 1].
        window: Frames that a rank is taken among, 1 or more.

    Raises:
        InputError: One of them is out of its range.
    """

    def __init__(self, target: float = 0.1, *, step: float = 0.02, window: int = 200) -> None:
        if not _is_number(target) or not 0 < target < 1:
            raise InputError(f"target is the share of frames to admit, above 0 and below 1, got {target!r}")
        if not _is_number(step) or not 0 < step <= 1:
            raise InputError(f"step is above 0 and at most 1, got {step!r}")
        if not isinstance(window, int) or isinstance(window, bool) or window < 1:
            raise InputError(f"window is a number of frames, 1 or more, got {window!r}")
        self.target, self.step = float(target), float(step)
        self._level = self.target
        self._seen: deque[float] = deque(maxlen=window)

    @property
    def level(self) -> float:
        """The rank below which a frame is admitted now."""
        return self._level

    def judge(self, embedding: Embedding, archive: EmbeddingSet) -> Verdict:
        """Admit by rank, and learn from it; always admit, and learn nothing, while memory is empty."""
        if len(archive) == 0:
            return _FIRST
        highest, cache_id = _nearest(embedding, archive)
        rank, level = self._rank(highest), self._level
        admitted = rank < level
        self._seen.append(highest)
        self._level += self.step * (self.target - admitted)
        return Verdict(
            admitted,
            f"its highest cosine to memory is {highest:.3f} ({cache_id}), more than {rank:.0%} of the last "
            f"frames had; below {level:.1%} is admitted",
        )

    def _rank(self, highest: float) -> float:
        if not self._seen:
            return 0.0
        seen = np.array(self._seen)
        return float(np.mean(seen < highest) + np.mean(seen == highest) / 2)

    def state(self) -> dict[str, Any]:
        """``level`` and ``seen``, the last highest cosines, oldest first."""
        return {"level": self._level, "seen": list(self._seen)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave, bit for bit.

        Raises:
            InputError: It is not such a state; nothing was changed.
        """
        level: Any = state.get("level")
        seen: Any = state.get("seen")
        if not _is_number(level) or not isinstance(seen, (list, tuple)) or not all(map(_is_number, seen)):
            raise InputError(f"not the state of an AdmissionRate: {state!r}")
        self._level = float(level)
        self._seen = deque(map(float, seen), maxlen=self._seen.maxlen)


_FIRST = Verdict(True, "memory is empty")


def _nearest(embedding: Embedding, archive: EmbeddingSet) -> tuple[float, str]:
    """The highest cosine to what is in memory, and whose it is: one product."""
    cosines = similarities(archive.matrix, embedding)
    place = int(cosines.argmax())
    return float(cosines[place]), archive.ids[place]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
