"""Where a frame comes from: the memories it was made of, by weight, and how many generations back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Lineage", "mixed"]

_LEAST = 0.01  # a parent of less weight is forgotten


@dataclass(frozen=True, slots=True)
class Lineage:
    """What a picture descends from.

    Attributes:
        parents: Ids in memory to their weights, which add up to 1; empty for what comes from outside.
        depth: Generations of frames between it and a picture from outside: 0 for that one itself; of a
            mixture the weighted mean.
    """

    parents: Mapping[str, float] = field(default_factory=dict)
    depth: float = 0.0

    def child(self) -> Lineage:
        """Of the frame that a generator makes of it."""
        return Lineage(self.parents, self.depth + 1.0)


def mixed(a: Lineage, b: Lineage, share: float) -> Lineage:
    """Of a picture that is ``1 - share`` the one and ``share`` the other."""
    weights: dict[str, float] = {}
    for lineage, part in ((a, 1.0 - share), (b, share)):
        for parent, weight in lineage.parents.items():
            weights[parent] = weights.get(parent, 0.0) + part * weight
    total = sum(weights.values())
    kept = {parent: weight for parent, weight in weights.items() if weight >= _LEAST * total > 0}
    total = sum(kept.values())
    depth = (1.0 - share) * a.depth + share * b.depth
    return Lineage({parent: weight / total for parent, weight in kept.items()}, depth)
