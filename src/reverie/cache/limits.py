"""How much a cache may hold, and which entries have to go so that one more fits."""

from __future__ import annotations

from dataclasses import dataclass

from reverie.cache.mirror import Mirror
from reverie.entry import Record
from reverie.errors import CacheFullError
from reverie.protocols import EvictionPolicy

__all__ = ["Limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that a cache holds.

    Attributes:
        max_size: Entries; None is unbounded.
        max_bytes: Bytes of all images; None is unbounded.
    """

    max_size: int | None
    max_bytes: int | None

    def surplus(self, mirror: Mirror, adding: Record | None = None) -> tuple[int, int]:
        """Entries and bytes past the limits (0 or less: room), with ``adding`` in."""
        entries, size = (0, 0) if adding is None else (1, adding.byte_size)
        over = 0 if self.max_size is None else len(mirror.briefs) + entries - self.max_size
        heavy = 0 if self.max_bytes is None else mirror.total_bytes + size - self.max_bytes
        return over, heavy

    def victims(self, mirror: Mirror, policy: EvictionPolicy, adding: Record | None = None) -> list[str]:
        """Ids to evict, in the policy's order, until the limits hold; pinned entries are not among them.

        Without ``adding``, all that may be evicted is named even where that is not enough.

        Raises:
            CacheFullError: ``adding`` does not fit whatever goes.
        """
        over, heavy = self.surplus(mirror, adding)
        if over <= 0 and heavy <= 0:
            return []
        found: list[str] = []
        ranking = policy.ranking()
        while over > 0 or heavy > 0:  # asked one by one: only the first of a ranking is cheap
            cache_id = next(ranking, None)
            if cache_id is None:
                break
            found.append(cache_id)
            over -= 1
            heavy -= mirror.briefs[cache_id].byte_size
        if adding is not None and (over > 0 or heavy > 0):
            raise CacheFullError(self._full(adding))
        return found

    def _full(self, adding: Record) -> str:
        if self.max_bytes is not None and adding.byte_size > self.max_bytes:
            return f"the image takes {adding.byte_size:,} bytes, more than max_bytes={self.max_bytes:,}"
        return (
            f"the cache is at its limit (max_size={self.max_size}, max_bytes={self.max_bytes}) and all that "
            "remains is pinned: unpin an entry or raise the limit"
        )
