"""Names to implementations: ``"sqlite"`` to a class, loaded when it is first asked for.

Six kinds of parts are chosen by name. Built-in names stand in the tables below; a package adds
its own through entry points in the group ``reverie.<kind>`` (``reverie.encoders``, ...), so a
plug-in needs no change here.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from reverie.errors import MissingDependencyError, UnknownNameError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["create", "kinds", "load", "names"]


@dataclass(frozen=True, slots=True)
class _Part:
    target: str  # "module:Class"
    needs: str = ""  # what to do when it cannot be imported


_BUILT_IN: dict[str, dict[str, _Part]] = {
    "encoders": {
        "clip": _Part(
            "reverie.encoders.clip:ClipEncoder",
            'it comes with pip install "reverie[clip]" in a version that has this part. '
            'encoder="descriptor" works now, without any download',
        ),
        "descriptor": _Part("reverie.encoders.descriptor:DescriptorEncoder"),
    },
    "generators": {
        "patches": _Part("reverie.generators.patches:PatchGenerator"),
    },
    "indexes": {
        "json": _Part("reverie.cache.json_index:JsonIndex"),
        "sqlite": _Part("reverie.cache.sqlite_index:SqliteIndex"),
    },
    "images": {
        "local": _Part("reverie.cache.local_images:LocalImages"),
    },
    "evictions": {
        "lru": _Part("reverie.cache.eviction:LeastRecentlyUsed"),
        "oldest": _Part("reverie.cache.eviction:OldestFirst"),
    },
    "policies": {
        "none": _Part("reverie.loop.injection:NoInjection"),
        "random": _Part("reverie.loop.injection:RandomMemory"),
        "spec": _Part("reverie.loop.injection:SimilarMemory"),
    },
}

_SINGULAR = {
    "encoders": "encoder",
    "generators": "generator",
    "indexes": "index",
    "images": "image store",
    "evictions": "eviction policy",
    "policies": "injection policy",
}


def kinds() -> tuple[str, ...]:
    """The kinds of parts that are chosen by name."""
    return tuple(_BUILT_IN)


def names(kind: str) -> list[str]:
    """Every registered name of a kind, sorted; nothing is imported."""
    return sorted({*_BUILT_IN[kind], *_plugins(kind)})


def load(kind: str, name: str) -> Any:
    """The class (or factory) registered under a name.

    Raises:
        UnknownNameError: Nobody registered it; the message lists the names that exist.
        MissingDependencyError: It needs a part that is not installed; the message says which.
    """
    plugin = _plugins(kind).get(name)
    if plugin is not None:
        try:
            return plugin.load()
        except (ImportError, AttributeError) as exc:  # AttributeError: the module lacks what it announces
            raise MissingDependencyError(
                f"the {_SINGULAR[kind]} {name!r} comes from the package behind {plugin.value!r}, "
                f"which cannot be loaded: {exc}"
            ) from exc
    part = _BUILT_IN[kind].get(name)
    if part is None:
        raise UnknownNameError(
            f"no {_SINGULAR[kind]} is called {name!r}; there are: {', '.join(names(kind))}"
        )
    module, _, attribute = part.target.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ImportError as exc:
        raise MissingDependencyError(
            f"the {_SINGULAR[kind]} {name!r} is not installed: {part.needs or exc}"
        ) from exc


def create(kind: str, name: str, /, *args: Any, **kwargs: Any) -> Any:
    """`load` it and call it with the arguments."""
    return load(kind, name)(*args, **kwargs)


@cache
def _plugins(kind: str) -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points  # noqa: PLC0415 - costs 10 ms, needed by few

    return {point.name: point for point in entry_points(group=f"reverie.{kind}")}
