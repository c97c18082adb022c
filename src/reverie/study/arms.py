"""The arms of the study: what each does with a loop, and what it may know.

Every arm begins with the same picture and has the same noise at the same frame; of the seed pictures it
knows the first so many. A baseline gets what is best for it: the specification's policy, which does not say
that seed pictures are remembered, has them remembered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from reverie import registry
from reverie.admission import Admission, MaximumSimilarity, Verdict
from reverie.loop.choosing import Which
from reverie.loop.memory_policy import MemoryPolicy
from reverie.loop.occasion import When
from reverie.loop.presets import PRESETS, MemorySettings, memory_settings
from reverie.loop.presets import policy as preset
from reverie.loop.transition import TransitionSettings
from reverie.protocols import InjectionPolicy
from reverie.vectors import Embedding, EmbeddingSet

__all__ = ["ARMS", "Arm"]

CAREFUL = PRESETS["wander"].transition  # the transition and cap of ours, for all that are to have them


class Nothing:
    """An admission that keeps no frame: the memory is the pinned seeds."""

    def judge(self, embedding: Embedding, archive: EmbeddingSet) -> Verdict:  # noqa: ARG002 - the protocol's
        """Never."""
        return Verdict(False, "this arm has no memory of its own")

    def state(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Nothing to do."""


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to treat a loop.

    Attributes:
        name: In tables.
        about: One line on what it is.
        policy: Its policy; None for the arms that are none of ours.
        memory: What suits it.
        remembers: Whether frames are kept at all.
        needs_seeds: Whether it is nothing without seed pictures.
        cap: Of ``dream-gen`` arms: the largest step between shown frames.
    """

    name: str
    about: str
    policy: InjectionPolicy | None = None
    memory: MemorySettings = field(default_factory=MemorySettings)
    remembers: bool = True
    needs_seeds: bool = False
    cap: float | None = None

    @property
    def knows_seeds(self) -> bool:
        """Whether more seed pictures make it another loop."""
        return self.memory.remember_seeds

    def admission(self) -> Admission | None:
        """A new one of what it admits frames by."""
        if not self.remembers:
            return Nothing()
        highest = self.memory.admission
        return None if highest is None else MaximumSimilarity(highest)


def _spec(**options: Any) -> InjectionPolicy:
    policy: InjectionPolicy = registry.create("policies", "spec", **options)
    return policy


def _restart(transition: TransitionSettings) -> InjectionPolicy:
    which = Which("random", repeat=0.0, rest=0, escalate=False)
    return MemoryPolicy(When("interval", interval=15), which, transition, name="restart")


def _ours(name: str) -> Arm:
    return Arm(name, PRESETS[name].about, preset(name), memory_settings(name))


_SEEDS = MemorySettings(remember_seeds=True)
_NO_SEEDS = MemorySettings()

_LISTED = (
    Arm("none", "No injection.", remembers=False),
    Arm("spec", "Every 15 frames one of the 5 most similar memories, in a cut.", _spec(), _SEEDS),
    Arm("spec-older", "The same, of what is older than 15 frames.", _spec(rest=15), _SEEDS),
    Arm(
        "restart",
        "Every 15 frames a random seed picture, in a cut.",
        _restart(TransitionSettings()),
        _SEEDS,
        remembers=False,
        needs_seeds=True,
    ),
    Arm(
        "control",
        "Every 15 frames a random seed picture, through our own transition and cap.",
        _restart(CAREFUL),
        _SEEDS,
        remembers=False,
        needs_seeds=True,
    ),
    Arm("dream-gen", "LuxiaSL/dream_gen's policy, as it is.", memory=_SEEDS),
    Arm("dream-gen-capped", "The same under our cap.", memory=_SEEDS, cap=CAREFUL.cap),
    Arm(
        "reheat",
        "Ours without memory: on alarm something new is imagined.",
        preset("wander"),
        _NO_SEEDS,
        remembers=False,
    ),
    _ours("wander"),
    _ours("gentle"),
    _ours("restless"),
)

ARMS: Mapping[str, Arm] = {each.name: each for each in _LISTED}
"""By name."""
