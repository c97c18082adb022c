"""What the manager keeps in memory of the index: entries in use, uses to be written, vectors once asked for.

Nothing is read before it is needed, so opening a cache takes as long with a million entries as with ten.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reverie.cache.evictions import Evictions, brief_of
from reverie.cache.shelves import Shelves
from reverie.cache.vector_table import VectorTable
from reverie.cache.write import Write
from reverie.entry import CacheEntry, Record
from reverie.errors import IndexCorruptError
from reverie.protocols import Changes, IndexBackend
from reverie.vectors import EmbeddingSet, VectorRows

__all__ = ["Mirror"]

_KEPT_RECORDS = 8192
_READ_AT_ONCE = 2048  # records read in one go: fewer than are kept
_LISTED = 1024  # entries: up to here a random one is drawn from the list of all
_DRAWS = 2000  # numbers drawn before it is


@dataclass(slots=True)
class _Kept:
    """An entry in use."""

    record: Record
    path: Path
    used_ns: int


class Mirror:
    """The entries as last seen, with their uses since then. Not thread-safe: the manager locks.

    Args:
        index: Where everything is read from.
        evictions: Told of every change.
        images: Folder of the images.

    Attributes:
        uses: Last uses that the index does not hold yet, by id.
        seen: Counts how often something of others was taken over.
    """

    def __init__(self, index: IndexBackend, evictions: Evictions, images: Path) -> None:
        self._index = index
        self._evictions = evictions
        self._images = images
        self._shelves = Shelves(images.parent / "metadata" / "vectors")
        self.uses: dict[str, int] = {}
        self.seen = 0
        self._kept: dict[str, _Kept] = {}
        self._vectors: VectorTable | None = None
        self._unread: dict[str, None] = {}  # entries that others wrote: the table may lack their vectors
        self._ids: list[str] | None = None

    # ------------------------------------------------------------------ following

    def absorb(self, changes: Changes | None) -> None:
        """Take over what other threads and processes wrote."""
        if changes is None:
            return
        self.seen += 1
        self._ids = None
        if changes.complete:
            self._kept.clear()
            self._vectors = None
            self._unread = {}
            self._evictions.forget()
            return
        self._forget(changes.removed)
        for brief in changes.briefs:
            self._kept.pop(brief.cache_id, None)
            if self._vectors is not None:
                self._unread[brief.cache_id] = None
        self._evictions.follow(changes.briefs, changes.removed)
        for brief in changes.briefs:
            used_ns = self.uses.get(brief.cache_id, 0)
            if used_ns > brief.used_ns:
                self._evictions.touch(brief.cache_id, used_ns)

    def follow(self, write: Write) -> None:
        """Take over a write of our own, after its commit."""
        self._settle(write.uses)
        if write.seen != self.seen:
            # A reader looked at the disk after the commit: what was written may be changed by others already.
            touched = {*(record.cache_id for record in write.added), *write.removed, *write.embedded}
            if write.pin is not None:
                touched.add(write.pin[0])
            briefs = sorted(self._index.find(list(touched)))
            there = {brief.cache_id for brief in briefs}
            self.absorb(Changes(False, briefs, sorted(touched - there)))
            return
        if write.added or write.removed:
            self._ids = None
        self._forget(write.removed)
        self._evictions.discard(write.removed)
        gone = set(write.removed)
        for record in write.added:
            if record.cache_id in gone:  # a batch larger than the cache
                continue
            self._evictions.insert(brief_of(record), record.embedding)
            self._keep(record)
            if self._vectors is not None:
                self._vectors.put(record.cache_id, record.embedding, record.number)
        changed = [*write.embedded, *(() if write.pin is None else (write.pin[0],))]
        for brief in self._index.find(changed):
            self._kept.pop(brief.cache_id, None)
            if brief.cache_id in write.embedded:
                vector = write.embedded[brief.cache_id]
                self._unread.pop(brief.cache_id, None)
                self._evictions.embed(brief, vector)
                if self._vectors is not None:
                    self._vectors.put(brief.cache_id, vector, brief.number)
            else:
                self._evictions.insert(brief)

    def keep_vectors(self, *, last: bool = False) -> None:
        """Keep what is new in the vectors of a large cache in files, once it is much.

        Whoever calls holds the writer's place: all that was committed is known here.

        Args:
            last: Nothing more comes: keep also what is little, and wait for it.
        """
        if self._vectors is not None and not self._unread:
            self._shelves.keep(self._index, self._vectors, last=last)

    def _forget(self, cache_ids: Iterable[str]) -> None:
        """These entries are gone; an unknown id is fine."""
        for cache_id in cache_ids:
            self.uses.pop(cache_id, None)
            self._kept.pop(cache_id, None)
            self._unread.pop(cache_id, None)
            if self._vectors is not None:
                self._vectors.discard(cache_id)

    def _settle(self, uses: Mapping[str, int]) -> None:
        """Those uses are written now."""
        for cache_id, used_ns in uses.items():
            if self.uses.get(cache_id) == used_ns:
                del self.uses[cache_id]

    def touch(self, cache_id: str, used_ns: int) -> None:
        """Note a use of an entry that is there; it is written at the next write."""
        self.uses[cache_id] = used_ns
        kept = self._kept.get(cache_id)
        if kept is not None:
            kept.used_ns = used_ns
        self._evictions.touch(cache_id, used_ns)

    # ------------------------------------------------------------------ answering

    def has(self, cache_id: str) -> bool:
        """Whether there is an entry of that id."""
        return cache_id in self._kept or bool(self._index.find([cache_id]))

    def ids(self) -> list[str]:
        """Ids of all entries, oldest first; not to be changed."""
        if self._ids is None:
            self._ids = [brief.cache_id for brief in self._index.briefs()]
        return self._ids

    def draw(self, rng: np.random.Generator) -> str | None:
        """The id of an entry drawn evenly; None when there is none."""
        count = self._index.count()
        if count > _LISTED and self._ids is None:
            (first,), (last,) = self._index.briefs(limit=1), self._index.briefs(limit=1, newest=True)
            for number in rng.integers(first.number, last.number + 1, _DRAWS).tolist():
                for brief in self._index.briefs(after=number - 1, limit=1):
                    if brief.number == number:
                        return brief.cache_id
        ids = self.ids()
        return ids[rng.integers(len(ids))] if ids else None

    def entry(self, cache_id: str) -> CacheEntry | None:
        """A snapshot of one entry; None when there is none."""
        kept = self._kept.get(cache_id)
        if kept is None:
            for record in self._index.read([cache_id]):
                kept = self._keep(record)
        return None if kept is None else self._entry(kept)

    def _entry(self, kept: _Kept) -> CacheEntry:
        try:
            return kept.record.entry(kept.path, kept.used_ns)
        except ValueError as exc:
            raise IndexCorruptError(
                f"{self._index.path}: the entry {kept.record.cache_id!r} is damaged: {exc}. To keep the "
                f"index aside and rebuild it: reverie cache check --fix --cache {self._images.parent}"
            ) from exc

    def entries(self, cache_ids: Sequence[str]) -> Iterator[CacheEntry]:
        """Snapshots in the order asked, ids that are gone passed over; bodies are read many at once."""
        for start in range(0, len(cache_ids), _READ_AT_ONCE):
            part = cache_ids[start : start + _READ_AT_ONCE]
            found = {cache_id: self._kept[cache_id] for cache_id in part if cache_id in self._kept}
            for record in self._index.read([cache_id for cache_id in part if cache_id not in found]):
                found[record.cache_id] = self._keep(record)  # which may push out one that was kept
            yield from (self._entry(found[cache_id]) for cache_id in part if cache_id in found)

    def _keep(self, record: Record) -> _Kept:
        while len(self._kept) >= _KEPT_RECORDS:
            del self._kept[next(iter(self._kept))]
        used_ns = max(record.used_ns, self.uses.get(record.cache_id, 0))
        kept = _Kept(record, self._images / record.image_name, used_ns)
        self._kept[record.cache_id] = kept
        return kept

    def embeddings(self, encoder: str | None) -> EmbeddingSet:
        """All vectors of one encoder, oldest first: a snapshot that later changes do not touch."""
        return self._table().snapshot(encoder)

    def spaces(self) -> list[tuple[str | None, int, int]]:
        """Encoder, dimensions and number of the vectors of each."""
        return self._table().spaces()

    def rows(self, encoder: str | None) -> VectorRows:
        """The same as a search takes them, in no time."""
        return self._table().rows(encoder)

    def _table(self) -> VectorTable:
        """The vectors, those read that are not known yet."""
        if self._vectors is None:
            self._unread = {}
            self._vectors = self._shelves.table(self._index, self._unread)
        if self._unread:
            unread, self._unread = self._unread, {}
            found = {
                brief.cache_id: (vector, brief.number) for brief, vector in self._index.vectors(list(unread))
            }
            for cache_id in unread:
                self._vectors.put(cache_id, *found.get(cache_id, (None, 0)))
        return self._vectors
