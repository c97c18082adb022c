"""What every eviction policy must do, as tests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import islice
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from reverie.protocols import Brief, EvictionPolicy
from reverie.testing.samples import vector
from reverie.vectors import Embedding, Vectors

__all__ = ["EvictionSuite", "motif_life"]

_NS = 1_000_000_000
_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["insert", "insert", "pinned", "bare", "foreign", "touch", "discard", "ask"]),
        st.integers(0, 9),
        st.integers(1, 60),
    ),
    max_size=60,
)
_EVERY_SUBCLASS = settings(suppress_health_check=[HealthCheck.differing_executors])


def motif_life(
    frames: int = 8000, motifs: int = 33, dimensions: int = 512, seed: int = 0
) -> tuple[Vectors, NDArray[np.intp]]:
    """A synthetic life: a loop that dwells on a motif, leaves it, and comes back to it much later.

    A visit lasts 45 frames on average, in which the frame wanders around the motif (cosine to it about .85)
    and starts from another side each time. The next motif is any, drawn evenly.

    Returns:
        ``(frames, dimensions)`` float32 unit vectors, and ``(frames,)`` the number of each frame's motif.
    """
    rng = np.random.default_rng(seed)
    centres = _unit(rng.standard_normal((motifs, dimensions)))
    rows = np.empty((frames, dimensions), dtype=np.float32)
    seen = np.empty(frames, dtype=np.intp)
    frame = 0
    while frame < frames:
        motif = int(rng.integers(motifs))
        aside = _unit(rng.standard_normal((1, dimensions)))
        for _ in range(min(5 + int(rng.geometric(1 / 40)), frames - frame)):
            aside = 0.95 * aside + 0.3 * rng.standard_normal((1, dimensions)) / np.sqrt(dimensions)
            rows[frame] = _unit(centres[motif] + 0.6 * aside)[0]
            seen[frame] = motif
            frame += 1
    return rows, seen


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    units: NDArray[np.float64] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return units


class _Told:
    """A policy and what it was told, as a cache tells it."""

    def __init__(self, policy: EvictionPolicy) -> None:
        self.policy = policy
        self.briefs: dict[str, Brief] = {}
        self.vectors: dict[str, Embedding | None] = {}

    def insert(self, brief: Brief, embedding: Embedding | None) -> None:
        self.briefs[brief.cache_id], self.vectors[brief.cache_id] = brief, embedding
        if self.policy.needs_vectors:
            self.policy.discard(brief.cache_id)
            self.policy.insert(brief, embedding)
        elif brief.pinned:
            self.policy.discard(brief.cache_id)
        else:
            self.policy.insert(brief)

    def step(self, number: int, step: str, which: int, when: int) -> None:
        """One random operation."""
        cache_id = f"cache_{which:05d}"
        if step in ("insert", "pinned", "bare", "foreign"):
            brief = _brief(number, cache_id, when, pinned=step == "pinned")
            other = "suite-2" if step == "foreign" else "suite-1"
            self.insert(brief, None if step == "bare" else vector(when % 7, encoder=other))
        elif step == "touch":
            if cache_id in self.briefs:
                self.briefs[cache_id] = self.briefs[cache_id]._replace(used_ns=when * _NS)
            self.policy.touch(cache_id, when * _NS)
        elif step == "discard":
            self.briefs.pop(cache_id, None)
            self.policy.discard(cache_id)
        else:
            next(iter(self.policy.ranking()), None)

    def loose(self) -> dict[str, Brief]:
        """What may be evicted."""
        return {cache_id: brief for cache_id, brief in self.briefs.items() if not brief.pinned}


class EvictionSuite:
    """Tests of an `EvictionPolicy`; a subclass says how to make one and, if it can, the exact order."""

    def make(self, **options: Any) -> EvictionPolicy:
        """A policy that knows no entry; ``options`` are what `EvictionPolicy.state` of another gave."""
        raise NotImplementedError

    def order(self, briefs: Mapping[str, Brief]) -> list[str] | None:
        """The ids in the order in which they must go, given their briefs (last use included).

        None when the policy's order cannot be said so simply: then only its consistency is tested.
        """
        del briefs
        return None

    def test_a_new_policy_names_nothing(self) -> None:
        """Without entries there is nothing to evict; unknown ids are fine."""
        policy = self.make()
        policy.discard("never")
        policy.touch("never", 5)
        assert list(policy.ranking()) == []
        assert list(policy.ranking({"never"})) == []

    @_EVERY_SUBCLASS  # one test, many subclasses: a suite
    @given(steps=_STEPS)
    def test_ranking_is_a_fixed_order_of_what_is_in(self, steps: list[tuple[str, int, int]]) -> None:
        """After any operations, `ranking` names exactly what may be evicted, in the policy's order, twice."""
        told = _Told(self.make())
        for number, step in enumerate(steps, 1):
            told.step(number, *step)
        found = list(told.policy.ranking())
        assert sorted(found) == sorted(told.loose())
        assert found == list(told.policy.ranking())
        assert self.order(told.loose()) in (None, found)

    @_EVERY_SUBCLASS
    @given(steps=_STEPS, skip=st.sets(st.integers(0, 9)))
    def test_what_is_skipped_is_not_named(self, steps: list[tuple[str, int, int]], skip: set[int]) -> None:
        """All others are, and the next question is answered as if nothing had been asked."""
        told = _Told(self.make())
        for number, step in enumerate(steps, 1):
            told.step(number, *step)
        before, skipped = list(told.policy.ranking()), {f"cache_{which:05d}" for which in skip}
        assert sorted(told.policy.ranking(skipped)) == sorted(set(told.loose()) - skipped)
        assert list(told.policy.ranking()) == before

    @_EVERY_SUBCLASS
    @given(steps=_STEPS)
    def test_the_second_is_the_first_once_the_first_is_gone(self, steps: list[tuple[str, int, int]]) -> None:
        """Several victims of one question are those of several questions."""
        told = _Told(self.make())
        for number, step in enumerate(steps, 1):
            told.step(number, *step)
        at_once = list(islice(told.policy.ranking(), 4))
        one_by_one = []
        for _ in at_once:
            one_by_one.append(next(told.policy.ranking()))
            told.policy.discard(one_by_one[-1])
        assert at_once == one_by_one

    @_EVERY_SUBCLASS
    @given(steps=_STEPS)
    def test_a_new_policy_goes_on_as_the_old_one(self, steps: list[tuple[str, int, int]]) -> None:
        """Made with its `state`, which JSON can hold, and told of the same entries, it answers the same."""
        told = _Told(self.make())
        for number, step in enumerate(steps, 1):
            told.step(number, *step)
        found = list(told.policy.ranking())
        again = _Told(self.make(**json.loads(json.dumps(told.policy.state()))))
        for cache_id, brief in sorted(told.briefs.items(), key=lambda item: item[1].number):
            again.insert(brief, told.vectors[cache_id])
        assert list(again.policy.ranking()) == found

    def test_what_cannot_be_compared_goes_first(self) -> None:
        """For a policy that needs vectors: entries without one or of another encoder, oldest first."""
        told = _Told(self.make())
        for number in range(1, 9):
            encoder = "suite-2" if number in (2, 5) else "suite-1"
            embedding = None if number in (3, 7) else vector(number, encoder=encoder)
            told.insert(_brief(number, f"cache_{number:05d}", number), embedding)
        if told.policy.needs_vectors:
            first = [f"cache_{number:05d}" for number in (2, 3, 5, 7)]
            assert list(islice(told.policy.ranking(), 4)) == first


def _brief(number: int, cache_id: str, when: int, *, pinned: bool = False) -> Brief:
    stamp = f"2025-11-08T10:{when % 60:02d}:00"
    return Brief(number, cache_id, stamp, when * _NS, pinned, byte_size=100)
