"""Names to implementations: ``"sqlite"`` to a class, loaded when it is first asked for.

Seven kinds of parts are chosen by name. Built-in names stand in the tables below; a package adds
its own through entry points in the group ``reverie.<kind>`` (``reverie.encoders``, ...), so a
plug-in needs no change here. What follows a colon in a name is handed to the part as ``variant``:
``"clip:openvino-bf16"`` is the encoder ``clip``, asked for one engine and one precision.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from inspect import signature
from typing import TYPE_CHECKING, Any

from reverie.errors import InputError, MissingDependencyError, UnknownNameError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["check", "create", "kinds", "load", "names"]


@dataclass(frozen=True, slots=True)
class _Part:
    target: str  # "module:Class"
    needs: str = ""  # what to do when it cannot be imported
    options: Mapping[str, Any] = field(default_factory=dict)  # what the name stands for
    variants: bool = False  # whether something may follow a colon


_CLIP = 'install it with pip install "reverie[clip]". encoder="descriptor" works now, without any download'

_HNSW = 'install it with pip install "reverie[hnsw]". search="ivf" works now, and is as fast'


def _model(name: str, kind: str = "ClipEncoder") -> _Part:
    return _Part(f"reverie.encoders.clip:{kind}", _CLIP, {"model": name}, variants=True)


def _preset(name: str) -> _Part:
    return _Part("reverie.loop.presets:policy", options={"preset": name})


_BUILT_IN: dict[str, dict[str, _Part]] = {
    "encoders": {
        "clip": _model("clip-vit-b32"),
        "clip-vit-b32": _model("clip-vit-b32"),
        "clip-vit-l14": _model("clip-vit-l14"),
        "descriptor": _Part("reverie.encoders.descriptor:DescriptorEncoder"),
        "dinov2-base": _model("dinov2-base", "VisionEncoder"),
        "siglip2-base": _model("siglip2-base"),
    },
    "generators": {
        "comfyui": _Part(
            "reverie.generators.comfyui:make",
            'install it with pip install "reverie[comfyui]". generator="patches" works now',
            variants=True,
        ),
        "diffusers": _Part(
            "reverie.generators.diffusers:make",
            'install it with pip install "reverie[diffusers]". generator="patches" works now',
            variants=True,
        ),
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
        "maxmin": _Part("reverie.cache.diversity_eviction:MaxMinSwap"),
        "oldest": _Part("reverie.cache.eviction:OldestFirst"),
        "reservoir": _Part("reverie.cache.eviction:Reservoir"),
        "rke": _Part("reverie.cache.diversity_eviction:RkeSwap"),
    },
    "policies": {
        "gentle": _preset("gentle"),
        "none": _Part("reverie.loop.injection:NoInjection"),
        "random": _Part("reverie.loop.injection:RandomMemory"),
        "restless": _preset("restless"),
        "spec": _Part("reverie.loop.injection:SimilarMemory"),
        "wander": _preset("wander"),
    },
    "searchers": {
        "auto": _Part("reverie.search.automatic:AutomaticSearch"),
        "exact": _Part("reverie.search.exact:ExactSearch"),
        "hnsw": _Part("reverie.search.hnsw:HnswSearch", _HNSW),
        "ivf": _Part("reverie.search.ivf:IvfSearch"),
    },
}

_SINGULAR = {
    "encoders": "encoder",
    "generators": "generator",
    "indexes": "index",
    "images": "image store",
    "evictions": "eviction policy",
    "policies": "injection policy",
    "searchers": "search",
}


def kinds() -> tuple[str, ...]:
    """The kinds of parts that are chosen by name."""
    return tuple(_BUILT_IN)


def names(kind: str) -> list[str]:
    """Every registered name of a kind, sorted; nothing is imported."""
    return sorted({*_BUILT_IN[kind], *_plugins(kind)})


def load(kind: str, name: str) -> Any:
    """The class (or factory) registered under a name, what follows a colon left aside.

    Raises:
        UnknownNameError: Nobody registered it, or it has no variants; the message lists the names that exist.
        MissingDependencyError: It needs a part that is not installed; the message says which.
    """
    name, part, plugin = _find(kind, name)
    if plugin is not None:
        try:
            return plugin.load()
        except (ImportError, AttributeError) as exc:  # AttributeError: the module lacks what it announces
            raise MissingDependencyError(
                f"the {_SINGULAR[kind]} {name!r} comes from the package behind {plugin.value!r}, "
                f"which cannot be loaded: {exc}"
            ) from exc
    module, _, attribute = part.target.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ImportError as exc:
        raise MissingDependencyError(
            f"the {_SINGULAR[kind]} {name!r} is not installed: {part.needs or exc}"
        ) from exc


def create(kind: str, name: str, /, *args: Any, **kwargs: Any) -> Any:
    """`load` it and call it with the arguments, what the name stands for, and its variant if one is named.

    Raises:
        InputError: The part does not take these arguments.

        And what `load` raises.
    """
    factory, (base, part, _) = load(kind, name), _find(kind, name)
    settings = {**part.options, **kwargs}
    if base != name:
        settings["variant"] = name.partition(":")[2]
    try:
        signature(factory).bind(*args, **settings)
    except TypeError as exc:
        raise InputError(f"the {_SINGULAR[kind]} {base!r} cannot be made like that: {exc}") from exc
    return factory(*args, **settings)


def check(kind: str, name: str) -> None:
    """Whether a name, variant included, is registered; nothing is imported. Raises UnknownNameError."""
    _find(kind, name)


def _find(kind: str, name: str) -> tuple[str, _Part, EntryPoint | None]:
    """The name before a colon, its row in the tables and its plug-in: a plug-in goes first."""
    if not isinstance(name, str):
        raise UnknownNameError(f"the name of an {_SINGULAR[kind]} is text, got {name!r}")
    base, colon, variant = name.partition(":")
    plugin = _plugins(kind).get(base)
    part = _Part("", variants=True) if plugin is not None else _BUILT_IN[kind].get(base)
    if part is None or (colon and not (part.variants and variant)):
        raise UnknownNameError(
            f"no {_SINGULAR[kind]} is called {name!r}; there are: {', '.join(names(kind))}"
        )
    return base, part, plugin


@cache
def _plugins(kind: str) -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points  # noqa: PLC0415 - costs 10 ms, needed by few

    return {point.name: point for point in entry_points(group=f"reverie.{kind}")}
