"""How much a cache may hold, and which entries have to go so that one more fits."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import chain

from reverie.cache.evictions import Evictions
from reverie.cache.write import Write
from reverie.entry import Record
from reverie.errors import CacheFullError
from reverie.protocols import Brief, Catalogue

__all__ = ["Limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that a cache holds.

    Attributes:
        max_size: Entries; None is unbounded.
        max_bytes: Bytes of all images; None is unbounded.
        recent: How many of the newest entries (the one that is being added is one) go only after the others.
        elite: Ids that go only after the others.
    """

    max_size: int | None
    max_bytes: int | None
    recent: int = 0
    elite: Collection[str] = ()

    def surplus(self, catalogue: Catalogue, adding: Record | None = None) -> tuple[int, int]:
        """Entries and bytes past the limits (0 or less: room), with ``adding`` in."""
        entries, size = (0, 0) if adding is None else (1, adding.byte_size)
        over = 0 if self.max_size is None else catalogue.count() + entries - self.max_size
        heavy = 0 if self.max_bytes is None else catalogue.total_bytes() + size - self.max_bytes
        return over, heavy

    def hold(self, catalogue: Catalogue, byte_size: int) -> bool:
        """Whether an image of that size fits once all is gone that may be evicted."""
        count, size = self.max_size, self.max_bytes
        if (count is None or catalogue.count() * 2 < count) and size is None:
            return True
        pinned = catalogue.find(catalogue.pinned())
        fits = size is None or sum(brief.byte_size for brief in pinned) + byte_size <= size
        return fits and (count is None or len(pinned) < count)

    def victims(
        self, write: Write, evictions: Evictions, adding: Record | None = None, *, limit: int | None = None
    ) -> list[str]:
        """Ids to evict, in the policy's order, until the limits hold; pinned entries are not among them.

        Recent and elite entries come after all others, oldest first. Without ``adding``, all that may be
        evicted is named even where that is not enough.

        Args:
            write: What goes on; what it added and removed counts.
            evictions: The policy.
            adding: What is to be added.
            limit: How many at most; None takes all.

        Raises:
            CacheFullError: ``adding`` does not fit whatever goes.
        """
        over, heavy = self.surplus(write.index, adding)
        if over <= 0 and heavy <= 0:
            return []
        if adding is not None:
            evictions.consider(adding, write)
        found: list[str] = []
        ranking = self._ranking(write, evictions, adding)
        while (over > 0 or heavy > 0) and len(found) != limit:  # one by one: only the first is cheap
            brief = next(ranking, None)
            if brief is None:
                break
            found.append(brief.cache_id)
            over -= 1
            heavy -= brief.byte_size
        if adding is not None and (over > 0 or heavy > 0):
            raise CacheFullError(self._full(adding))
        return found

    def _ranking(self, write: Write, evictions: Evictions, adding: Record | None) -> Iterator[Brief]:
        before = self.recent if adding is None else max(0, self.recent - 1)
        newest = write.index.briefs(limit=before, newest=True) if before else []
        kept = {*(brief.cache_id for brief in newest), *self.elite}
        skip = kept if adding is None else kept | {adding.cache_id}
        late = (brief for brief in sorted(write.index.find(sorted(kept))) if not brief.pinned)
        return chain(evictions.ranking(write, skip), late)

    def _full(self, adding: Record) -> str:
        if self.max_bytes is not None and adding.byte_size > self.max_bytes:
            return f"the image takes {adding.byte_size:,} bytes, more than max_bytes={self.max_bytes:,}"
        return (
            f"the cache is at its limit (max_size={self.max_size}, max_bytes={self.max_bytes}) and all that "
            "remains is pinned: unpin an entry or raise the limit"
        )
