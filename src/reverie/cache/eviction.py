"""Which entry goes first when the cache is full: policies chosen by name that look at no vector.

``lru`` takes the least recently used; while nothing is used in between, that is the
specification's "oldest timestamp first". ``oldest`` is the specification to the letter: the
oldest timestamp, used or not. ``reservoir`` keeps an even sample of the whole life. Pinned entries
are never shown to these policies. Those that look at vectors are in `reverie.cache.diversity_eviction`.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator, Mapping
from hashlib import blake2b
from typing import Any

from reverie.entry import timestamp_ns
from reverie.errors import InputError
from reverie.protocols import Brief, Order
from reverie.vectors import Embedding

__all__ = ["LeastRecentlyUsed", "OldestFirst", "Reservoir"]


class _Ordered:
    """Entries by a key, smallest first: a heap whose outdated items are dropped when met.

    ``insert`` and ``touch`` cost O(log n), amortised; the k first of ``ranking`` cost O(k log k).
    """

    needs_vectors = False
    order: Order | None = None

    def __init__(self) -> None:
        self._keys: dict[str, tuple[int, int]] = {}
        self._heap: list[tuple[tuple[int, int], str]] = []

    def _put(self, cache_id: str, key: tuple[int, int]) -> None:
        self._keys[cache_id] = key
        heapq.heappush(self._heap, (key, cache_id))
        if len(self._heap) > 2 * len(self._keys) + 64:
            self._heap = [(key, cache_id) for cache_id, key in self._keys.items()]
            heapq.heapify(self._heap)

    def touch(self, cache_id: str, used_ns: int) -> None:
        """A use does not matter here."""

    def discard(self, cache_id: str) -> None:
        """Forget an entry; an unknown id is fine."""
        self._keys.pop(cache_id, None)

    def ranking(self, skip: Collection[str] = ()) -> Iterator[str]:
        """Ids, first to evict first, without those of ``skip``; asking changes no later answer."""
        heap, keys = self._heap, self._keys
        while heap and keys.get(heap[0][1]) != heap[0][0]:
            heapq.heappop(heap)
        # The next item is among the children of those that were met: the k first cost O(k log k).
        ahead = [(heap[0], 0)] if heap else []
        last = None
        while ahead:
            item, place = heapq.heappop(ahead)
            for child in (2 * place + 1, 2 * place + 2):
                if child < len(heap):
                    heapq.heappush(ahead, (heap[child], child))
            key, cache_id = item
            if item != last and keys.get(cache_id) == key and cache_id not in skip:
                yield cache_id
            last = item

    def state(self) -> Mapping[str, Any]:
        """Nothing: the entries say it all."""
        return {}


class LeastRecentlyUsed(_Ordered):
    """Evict what was not used for the longest time (``lru``)."""

    order = "used"

    def insert(self, brief: Brief, embedding: Embedding | None = None) -> None:  # noqa: ARG002 - the protocol's
        """An entry may be evicted from now on; an add counts as its first use."""
        self._put(brief.cache_id, (brief.used_ns, brief.number))

    def touch(self, cache_id: str, used_ns: int) -> None:
        """An entry was used."""
        key = self._keys.get(cache_id)
        if key is not None:
            self._put(cache_id, (used_ns, key[1]))


class OldestFirst(_Ordered):
    """Evict the oldest timestamp, used or not (``oldest``)."""

    order = "time"

    def insert(self, brief: Brief, embedding: Embedding | None = None) -> None:  # noqa: ARG002 - the protocol's
        """An entry may be evicted from now on."""
        self._put(brief.cache_id, (timestamp_ns(brief.timestamp), brief.number))


class Reservoir(_Ordered):
    """Keep an even sample of everything that ever came in (``reservoir``).

    Every entry has a random priority, and the lowest goes first. Of N entries seen, the n that are kept are
    those of the n highest priorities, a uniform sample without replacement at every moment: reservoir
    sampling (Vitter, "Random Sampling with a Reservoir", 1985) by random keys. A cache always keeps what
    it was just given, so of n places n - 1 are the sample and one is the newest entry's.

    A priority is a hash of the seed and the entry's id alone, and no id comes twice. So it needs no state: a
    cache that is closed and opened again goes on as if it had not been.

    Args:
        seed: Another seed, another sample.

    Raises:
        InputError: The seed is not a whole number of 64 bits.
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        if not isinstance(seed, int) or isinstance(seed, bool) or abs(seed) >= 2**64:
            raise InputError(f"the seed of a reservoir is a whole number of 64 bits, got {seed!r}")
        self._key = str(seed).encode()

    def insert(self, brief: Brief, embedding: Embedding | None = None) -> None:  # noqa: ARG002 - the protocol's
        """An entry may be evicted from now on."""
        digest = blake2b(brief.cache_id.encode(), key=self._key, digest_size=8).digest()
        self._put(brief.cache_id, (int.from_bytes(digest, "big"), brief.number))
