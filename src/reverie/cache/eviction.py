"""Which entry goes first when the cache is full: policies chosen by name.

``lru`` takes the least recently used; while nothing is used in between, that is the
specification's "oldest timestamp first". ``oldest`` is the specification to the letter: the
oldest timestamp, used or not. Pinned entries are never shown to a policy.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from reverie.entry import timestamp_ns
from reverie.protocols import Brief

__all__ = ["LeastRecentlyUsed", "OldestFirst"]


class _Ordered:
    """Entries by a key, smallest first: a heap whose outdated items are dropped when met.

    ``insert`` and ``touch`` cost O(log n); the first of ``ranking`` costs O(1) amortised.
    """

    def __init__(self) -> None:
        self._keys: dict[str, tuple[int, int]] = {}
        self._heap: list[tuple[tuple[int, int], str]] = []

    def _put(self, cache_id: str, key: tuple[int, int]) -> None:
        self._keys[cache_id] = key
        heapq.heappush(self._heap, (key, cache_id))
        if len(self._heap) > 2 * len(self._keys) + 64:
            self._heap = [(key, cache_id) for cache_id, key in self._keys.items()]
            heapq.heapify(self._heap)

    def discard(self, cache_id: str) -> None:
        """Forget an entry; an unknown id is fine."""
        self._keys.pop(cache_id, None)

    def ranking(self) -> Iterator[str]:
        """Ids, first to evict first; asking changes nothing that matters."""
        while self._heap and self._keys.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        if self._heap:
            yield self._heap[0][1]
            ordered = sorted((key, cache_id) for cache_id, key in self._keys.items())
            yield from (cache_id for _, cache_id in ordered[1:])


class LeastRecentlyUsed(_Ordered):
    """Evict what was not used for the longest time (``lru``)."""

    def insert(self, brief: Brief) -> None:
        """An entry may be evicted from now on; an add counts as its first use."""
        self._put(brief.cache_id, (brief.used_ns, brief.number))

    def touch(self, cache_id: str, used_ns: int) -> None:
        """An entry was used."""
        key = self._keys.get(cache_id)
        if key is not None:
            self._put(cache_id, (used_ns, key[1]))


class OldestFirst(_Ordered):
    """Evict the oldest timestamp, used or not (``oldest``)."""

    def insert(self, brief: Brief) -> None:
        """An entry may be evicted from now on."""
        self._put(brief.cache_id, (timestamp_ns(brief.timestamp), brief.number))

    def touch(self, cache_id: str, used_ns: int) -> None:
        """A use does not matter here."""
