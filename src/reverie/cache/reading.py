"""What `CacheManager` answers: entries, images, vectors."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reverie import registry
from reverie.cache.session import Session
from reverie.cache.vector_table import entry_numbers
from reverie.entry import CacheEntry
from reverie.protocols import Brief, ImageStore
from reverie.query import Where
from reverie.vectors import EmbeddingSet, VectorRows

__all__ = ["Reading"]


class Reading(Session):
    """The part of `CacheManager` that reads.

    Args:
        kind: Registered name of the index.
        folder: The cache folder, absolute.
        rng: For what is drawn at random.
        **options: Further arguments of `Session`.
    """

    def __init__(self, kind: str, folder: Path, rng: np.random.Generator, **options: Any) -> None:
        self._images: ImageStore = registry.create("images", "local", folder / "images")
        self._rng = rng
        super().__init__(kind, folder, **options)

    def get(self, cache_id: str) -> CacheEntry | None:
        """The entry of an id, or None; counts as a use."""
        self._catch_up()
        with self._lock:
            self._look_sometimes()
            return self._use(cache_id)

    def _use(self, cache_id: str) -> CacheEntry | None:
        if not self._has(cache_id):
            self._look()
            if not self._has(cache_id):
                return None
        self._mirror.touch(cache_id, self._now())
        return self._mirror.entry(cache_id)

    def get_all(self) -> list[CacheEntry]:
        """All entries, oldest first; not a use."""
        with self._seeing():
            return list(self._mirror.entries(self._mirror.ids()))

    def get_random(self) -> CacheEntry | None:
        """An entry drawn evenly, or None when the cache is empty; counts as a use."""
        with self._seeing():
            cache_id = self._mirror.draw(self._rng)
            return None if cache_id is None else self._use(cache_id)

    def peek(self, cache_ids: Sequence[str]) -> list[CacheEntry]:
        """The entries of these ids, in the order asked; ids that are gone are passed over. Not a use."""
        for cache_id in cache_ids:
            self._check_id(cache_id)
        with self._seeing():
            return list(self._mirror.entries(cache_ids))

    def read_image(self, cache_id: str, *, as_use: bool = True) -> bytes:
        """The stored bytes of an entry's image.

        Args:
            cache_id: Its id.
            as_use: Whether it counts as a use.

        Raises:
            EntryNotFoundError: No entry of that id.
            ImageNotFoundError: Its file is gone.
            UnsafePathError: Its file is a link that leads out of the cache.
        """
        entry = self.get(cache_id) if as_use else next(iter(self.peek([cache_id])), None)
        if entry is None:
            raise self._no_entry(cache_id)
        return self._images.read(entry.image_path.name)

    def embeddings(self, encoder: str | None = None) -> EmbeddingSet:
        """Ids and the matrix of all vectors of one encoder, oldest first, without copying.

        Args:
            encoder: Its name; may be left out while the cache holds vectors of one only.

        Raises:
            EncoderMismatchError: There are several and none was named.
        """
        with self._seeing():
            return self._mirror.embeddings(encoder)

    def encoders(self) -> list[tuple[str | None, int, int]]:
        """Encoder (None: not known), dimensions and number of the vectors that there are."""
        with self._seeing():
            return self._mirror.spaces()

    def vector_rows(self, encoder: str | None = None) -> VectorRows:
        """The same vectors as a `Searcher` takes them; costs nothing, however many there are.

        Raises:
            EncoderMismatchError: There are several encoders and none was named.
        """
        with self._seeing():
            return self._mirror.rows(encoder)

    def select(
        self, where: Where | None = None, *, limit: int | None = None, newest: bool = False
    ) -> list[CacheEntry]:
        """The entries for which conditions hold, oldest first; not a use.

        Args:
            where: The conditions; None takes all.
            limit: How many at most; None takes all.
            newest: Newest first. With a limit that is quick, however many there are.
        """
        with self._seeing():
            briefs = self._index.briefs(where, limit=limit, newest=newest)
            return list(self._mirror.entries([brief.cache_id for brief in briefs]))

    def among(self, rows: VectorRows, where: Where) -> NDArray[np.bool_]:
        """``(n,)`` whether conditions hold for the entry of each row, as a `Searcher` takes it."""
        with self._seeing():
            numbers = self._index.numbers(where)
        return np.isin(entry_numbers(rows.numbers), numbers)

    def ids(self) -> list[str]:
        """The ids of all entries, oldest first."""
        with self._seeing():
            return list(self._mirror.ids())

    def content_hashes(self) -> set[str]:
        """What tells the content of any image file that is there, as `reverie.storage.content_hash` does.

        Of an entry whose hash the index does not hold (another program's), nothing is among them.
        """
        return {brief.content_hash for briefs in self._briefs(10_000) for brief in briefs} - {""}

    def size(self) -> int:
        """How many entries there are."""
        with self._seeing():
            return self._index.count()

    def total_bytes(self) -> int:
        """How many bytes their images take."""
        with self._seeing():
            return self._index.total_bytes()

    def pinned(self) -> frozenset[str]:
        """Ids of the entries that are pinned."""
        with self._seeing():
            return frozenset(self._index.pinned())

    def __len__(self) -> int:
        return self.size()

    def __contains__(self, cache_id: object) -> bool:
        with self._seeing():
            return self._has(cache_id)

    def __iter__(self) -> Iterator[CacheEntry]:
        for briefs in self._briefs(500):
            yield from self.peek([brief.cache_id for brief in briefs])

    def _briefs(self, at_once: int) -> Iterator[list[Brief]]:
        """All that is there now, so many at a time: others get their turn in between."""
        last, end = 0, self._newest()
        while last < end:
            with self._seeing():
                briefs = self._index.briefs(after=last, limit=at_once)
            yield [brief for brief in briefs if brief.number <= end]
            last = briefs[-1].number if briefs else end

    def _newest(self) -> int:
        """The number of the newest entry; 0 when there is none."""
        with self._seeing():
            return max((brief.number for brief in self._index.briefs(limit=1, newest=True)), default=0)

    def _after_fork(self) -> None:
        self._rng = np.random.default_rng(self._rng.integers(2**63) + os.getpid())
        super()._after_fork()
