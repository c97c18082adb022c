"""What is in a loop's memory at the end, and how often each of it was used; only ever looked at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reverie.cache.folder import index_on_disk
from reverie.cache.manager import CacheManager
from reverie.entry import CacheEntry
from reverie.errors import ReverieError
from reverie.report.run import Arm

__all__ = ["Kept", "Memory", "load_memory"]

CACHE_FOLDER = "cache"


@dataclass(frozen=True, slots=True)
class Kept:
    """One picture that is in a memory.

    Attributes:
        cache_id: Its id.
        image: Its file, relative to the arm's folder.
        pinned: Whether eviction may never take it.
        seed: Number of the seed picture that it is; None for others.
        frame: Number of the frame that it is; None for others.
        uses: How often the loop set out for it.
    """

    cache_id: str
    image: str
    pinned: bool = False
    seed: int | None = None
    frame: int | None = None
    uses: int = 0

    @property
    def name(self) -> str:
        """What it is, in words."""
        if self.seed is not None:
            return f"seed {self.seed:,}"
        return self.cache_id if self.frame is None else f"frame {self.frame:,}"


@dataclass(frozen=True, slots=True)
class Memory:
    """A memory at the end of a run.

    Attributes:
        kept: What is in it, oldest first; empty when it is empty or cannot be read.
        lost_uses: How often the loop set out for memories that are in it no more.
        imagined: How often it set out for something imagined.
        readable: False when there is a cache that cannot be read.
    """

    kept: tuple[Kept, ...]
    lost_uses: int = 0
    imagined: int = 0
    readable: bool = True


def load_memory(arm: Arm) -> Memory | None:
    """What is in an arm's memory; None when it has none, as the loop without memory, or an older run.

    The cache is opened without limits and nothing of it is used or changed. One that is damaged costs its own
    part of the report, not the report.
    """
    folder = arm.folder / CACHE_FOLDER
    if not folder.resolve().is_relative_to(arm.root.resolve()):
        return None
    if not (folder / "metadata").is_dir() or not (folder / "images").is_dir():
        return None
    try:
        if index_on_disk(folder / "metadata") is None:
            return None
        with CacheManager(folder, max_size=None) as cache:
            entries = cache.get_all()
    except ReverieError:
        return Memory((), readable=False)
    used = Counter(
        record.injected.cache_id
        for record in arm.records
        if record.injected is not None and not record.injected.imagined
    )
    kept = tuple(_kept(entry, used[entry.cache_id]) for entry in entries)
    return Memory(
        kept,
        lost_uses=used.total() - sum(each.uses for each in kept),
        imagined=sum(record.injected.imagined for record in arm.records if record.injected is not None),
    )


def _kept(entry: CacheEntry, uses: int) -> Kept:
    params = entry.generation_params
    return Kept(
        cache_id=entry.cache_id,
        image=f"{CACHE_FOLDER}/images/{entry.image_path.name}",
        pinned=entry.pinned,
        seed=_number(params, "seed_picture"),
        frame=_number(params, "frame"),
        uses=uses,
    )


def _number(params: Mapping[str, Any], key: str) -> int | None:
    value = params.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
