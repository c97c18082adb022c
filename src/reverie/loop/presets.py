"""Presets: whole ways to dream, by name. A preset is data; nothing here is decided in code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

from reverie.errors import InputError, UnknownNameError
from reverie.loop.choosing import Which
from reverie.loop.memory_policy import MemoryPolicy
from reverie.loop.occasion import When
from reverie.loop.transition import TransitionSettings

__all__ = ["PRESETS", "MemorySettings", "Preset", "memory_settings", "places", "policy"]

_PLACES = 75  # the specification's

_Part = TypeVar("_Part", When, Which, TransitionSettings)


@dataclass(frozen=True, slots=True)
class MemorySettings:
    """What suits a policy in a memory.

    Attributes:
        eviction: Registered eviction policy.
        admission: Highest cosine to the memory at which a frame is still kept; None keeps all.
        remember_seeds: Whether the seed pictures belong into it, pinned, before the first frame.
    """

    eviction: str = "lru"
    admission: float | None = None
    remember_seeds: bool = False


@dataclass(frozen=True, slots=True)
class Preset:
    """A way to dream.

    Attributes:
        about: One line for people.
        when: Whether to inject.
        which: Which memory.
        transition: How.
        memory: What to keep.
    """

    about: str
    when: When = field(default_factory=When)
    which: Which = field(default_factory=Which)
    transition: TransitionSettings = field(default_factory=TransitionSettings)
    memory: MemorySettings = field(default_factory=MemorySettings)


_DIVERSE = MemorySettings(eviction="rke", admission=0.9, remember_seeds=True)

PRESETS: Mapping[str, Preset] = {
    "gentle": Preset(
        "Steps in only when the loop is stuck for sure, and then slowly.",
        When("promise", cooldown=15),
        Which(reheat=1.0),
        TransitionSettings("bloom", frames=16, longest=40, cap=0.12),
        _DIVERSE,
    ),
    "wander": Preset(
        "Keeps the loop on its way: where it was least, without a cut.",
        When(on=0.40, off=0.30, cooldown=2),
        Which(reheat=1.0),
        TransitionSettings("bloom", frames=8, longest=22, cap=0.2),
        _DIVERSE,
    ),
    "restless": Preset(
        "Elsewhere at the first sign of rest, in few frames.",
        When(on=0.30, off=0.20, cooldown=0),
        Which(reheat=1.0, fresh=0.7),
        TransitionSettings("bloom", frames=4, longest=12, cap=0.3),
        _DIVERSE,
    ),
}
"""By name; ``spec`` and the other policies that are no presets cut, and keep every frame."""


def policy(preset: str, **options: Any) -> MemoryPolicy:
    """The policy of a preset.

    Args:
        preset: Its name.
        **options: Fields of `When`, `Which` and `TransitionSettings` that are to be different, such as
            ``cooldown=30`` or ``path="ramp"``.

    Raises:
        UnknownNameError: No such preset.
        InputError: No such field, or a value out of its range.
    """
    if preset not in PRESETS:
        raise UnknownNameError(f"no preset is called {preset!r}; there are: {', '.join(sorted(PRESETS))}")
    chosen = PRESETS[preset]
    unknown = options.keys() - {
        each.name for part in (When, Which, TransitionSettings) for each in fields(part)
    }
    if unknown:
        raise InputError(f"the preset {preset!r} has no {', '.join(sorted(unknown))}")
    return MemoryPolicy(
        _with(chosen.when, options),
        _with(chosen.which, options),
        _with(chosen.transition, options),
        name=preset,
    )


def _with(part: _Part, options: Mapping[str, Any]) -> _Part:
    """The part with those of the options that are its fields."""
    names = {each.name for each in fields(part)} & options.keys()
    return replace(part, **{name: options[name] for name in names})


def memory_settings(name: str) -> MemorySettings:
    """What suits a policy of this name in a memory; the specification's for policies that are no presets."""
    return PRESETS[name].memory if name in PRESETS else MemorySettings()


def places(seeds: int) -> int:
    """How many entries a run's memory holds, of which so many are seeds: at least as many others."""
    return max(_PLACES, 2 * seeds)
