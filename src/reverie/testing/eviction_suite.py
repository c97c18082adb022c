"""What every eviction policy must do, as tests."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reverie.protocols import Brief, EvictionPolicy

__all__ = ["EvictionSuite"]

_NS = 1_000_000_000
_STEPS = st.lists(
    st.tuples(st.sampled_from(["insert", "touch", "discard", "ask"]), st.integers(0, 9), st.integers(1, 60)),
    max_size=60,
)


class EvictionSuite:
    """Tests of an `EvictionPolicy`; a subclass says how to make one and, if it can, the exact order."""

    def make(self) -> EvictionPolicy:
        """A policy that knows no entry."""
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

    @settings(suppress_health_check=[HealthCheck.differing_executors])  # one test, many subclasses: a suite
    @given(steps=_STEPS)
    def test_ranking_is_a_fixed_order_of_what_is_in(self, steps: list[tuple[str, int, int]]) -> None:
        """After any operations, `ranking` names exactly what may be evicted, in the policy's order, twice."""
        policy, briefs = self.make(), {}
        for number, (step, which, when) in enumerate(steps, 1):
            cache_id = f"cache_{which:05d}"
            if step == "insert":
                briefs[cache_id] = _brief(number, cache_id, when)
                policy.insert(briefs[cache_id])
            elif step == "touch":
                if cache_id in briefs:
                    briefs[cache_id] = briefs[cache_id]._replace(used_ns=when * _NS)
                policy.touch(cache_id, when * _NS)
            elif step == "discard":
                briefs.pop(cache_id, None)
                policy.discard(cache_id)
            else:
                next(iter(policy.ranking()), None)
        found = list(policy.ranking())
        assert sorted(found) == sorted(briefs)
        assert found == list(policy.ranking())
        assert self.order(briefs) in (None, found)


def _brief(number: int, cache_id: str, when: int) -> Brief:
    stamp = f"2025-11-08T10:{when % 60:02d}:00"
    return Brief(number, cache_id, stamp, when * _NS, pinned=False, byte_size=100)
