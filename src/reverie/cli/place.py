"""Which cache folder a command means, and opening it without ever making one by accident."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reverie.errors import CacheError, ConfigError, EntryNotFoundError

if TYPE_CHECKING:
    from reverie.cache.manager import CacheManager
    from reverie.entry import CacheEntry

__all__ = ["VARIABLE", "Place", "entries_of", "find_cache", "known_ids", "open_cache"]

VARIABLE = "REVERIE_CACHE"
"""The environment variable that names the cache folder."""


_GIVEN = "given with --cache"


@dataclass(frozen=True, slots=True)
class Place:
    """A cache folder, and why it is this one.

    Attributes:
        path: The folder; it need not exist.
        why: In words.
    """

    path: Path
    why: str

    def looks_like_cache(self) -> bool:
        """Whether a cache was ever there, sound or damaged; raises StorageError where nobody may look."""
        from reverie.storage import is_there

        inner = (self.path / name for name in ("metadata", "images"))
        return any(is_there(folder) and folder.is_dir() for folder in inner)

    def option(self) -> str:
        """What to add to a command so that it means the same folder; empty when nothing has to be."""
        return f" --cache {shlex.quote(str(self.path))}" if self.why == _GIVEN else ""


def find_cache(given: str | None) -> Place:
    """The folder that was given, else that of the environment, else ./cache, else the user's own."""
    if given:
        return Place(_home_resolved(given), _GIVEN)
    named = os.environ.get(VARIABLE)
    if named:
        return Place(_home_resolved(named), f"from the environment variable {VARIABLE}")
    here = Place(Path("cache"), "there is a cache in this folder")
    if here.looks_like_cache():
        return here
    from platformdirs import user_data_dir

    own = Path(user_data_dir("reverie", appauthor=False)) / "cache"
    return Place(own, f"the user's own: no --cache, no {VARIABLE}, no cache in ./cache")


def _home_resolved(name: str) -> Path:
    return Path(os.path.expanduser(name))  # noqa: PTH111 - Path.expanduser fails on a ~name nobody has


def open_cache(place: Place) -> CacheManager:
    """Open a cache that is there, without limits: looking at it evicts nothing.

    Raises:
        ConfigError: The folder holds no cache; none is made.
        ReverieError: As `CacheManager`.
    """
    from reverie.cache.folder import index_on_disk
    from reverie.cache.manager import CacheManager

    if index_on_disk(place.path / "metadata") is None:
        raise ConfigError(_no_cache(place))
    return CacheManager(place.path, max_size=None)


def _no_cache(place: Place) -> str:
    where = f"{str(place.path)!r} ({place.why})"
    if place.looks_like_cache():
        return f"the cache {where} has no index; see what is there with: reverie cache check{place.option()}"
    return f"there is no cache in {where}: name one with --cache, or make one with: reverie cache add"


def known_ids(cache: CacheManager, cache_ids: Iterable[str]) -> list[str]:
    """The ids without repetition, once all of them are known to be in the cache.

    Raises:
        EntryNotFoundError: Some are not; the message names each.
    """
    wanted = list(dict.fromkeys(cache_ids))
    missing = [cache_id for cache_id in wanted if cache_id not in cache]
    if missing:
        raise EntryNotFoundError(f"not in this cache: {', '.join(missing)}. Nothing was changed")
    return wanted


def entries_of(cache: CacheManager, cache_ids: Iterable[str]) -> list[CacheEntry]:
    """The entries of these ids in their order, without counting as a use.

    Raises:
        EntryNotFoundError: One is not there.
        CacheError: One went away meanwhile.
    """
    wanted = known_ids(cache, cache_ids)
    found = cache.peek(wanted)
    if len(found) < len(wanted):
        gone = sorted({*wanted} - {entry.cache_id for entry in found})
        raise CacheError(f"another process removed {', '.join(gone)} just now")
    return found
