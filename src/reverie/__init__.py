"""Reverie: the image memory that keeps generative loops dreaming.

The public names, each loaded when it is first used: ``import reverie`` costs no more than Python itself.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from reverie._version import __version__

if TYPE_CHECKING:
    from reverie.cache.adding import NewEntry
    from reverie.cache.aesthetic_matcher import AestheticMatcher
    from reverie.cache.manager import CacheManager
    from reverie.entry import CacheEntry
    from reverie.errors import ReverieError
    from reverie.loop.driver import DreamLoop
    from reverie.loop.injector import Injector
    from reverie.loop.observed import Injection
    from reverie.memory import ImageMemory
    from reverie.query import Where

__all__ = [
    "AestheticMatcher",
    "CacheEntry",
    "CacheManager",
    "DreamLoop",
    "ImageMemory",
    "Injection",
    "Injector",
    "NewEntry",
    "ReverieError",
    "Where",
    "__version__",
]

_HOMES = {
    "AestheticMatcher": "reverie.cache.aesthetic_matcher",
    "CacheEntry": "reverie.entry",
    "CacheManager": "reverie.cache.manager",
    "DreamLoop": "reverie.loop.driver",
    "ImageMemory": "reverie.memory",
    "Injection": "reverie.loop.observed",
    "Injector": "reverie.loop.injector",
    "NewEntry": "reverie.cache.adding",
    "ReverieError": "reverie.errors",
    "Where": "reverie.query",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'reverie' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
