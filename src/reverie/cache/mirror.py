"""What the manager keeps in memory of the index: briefs of all entries, records of those in use.

Bodies (prompt, parameters, vector) are read when they are first needed, so opening a cache of
100,000 entries reads their briefs only.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TypeAlias

from reverie.cache.vector_table import VectorTable
from reverie.entry import CacheEntry, Record
from reverie.errors import IndexCorruptError
from reverie.protocols import Brief, Changes, EvictionPolicy, IndexBackend, IndexWriter
from reverie.vectors import Embedding, EmbeddingSet, VectorRows

__all__ = ["Listeners", "Mirror", "Write"]

_KEPT_RECORDS = 8192


Listeners: TypeAlias = Sequence[Callable[[CacheEntry], None]]
"""Functions that are called with an entry."""


@dataclass(slots=True)
class Write:
    """What one write does, for the mirror and the listeners to follow after its commit.

    Attributes:
        index: The writer.
        uses: Last uses that it writes, by id.
        added: The new record, if any.
        removed: Ids that it takes out.
        evicted: Those of them that eviction took, as they were.
        pin: An id and whether it is pinned from now on.
        embedded: Vectors that it replaces, by id; None takes one away.
        trash: Image files that no entry has any more.
    """

    index: IndexWriter
    uses: Mapping[str, int]
    added: Record | None = None
    removed: list[str] = field(default_factory=list)
    evicted: list[CacheEntry] = field(default_factory=list)
    pin: tuple[str, bool] | None = None
    embedded: Mapping[str, Embedding | None] = field(default_factory=dict)
    trash: Sequence[str] = ()

    def put(self, record: Record) -> None:
        """Insert a record."""
        self.index.put(record)
        self.added = record

    def remove(self, cache_ids: Sequence[str]) -> None:
        """Take records out."""
        self.index.remove(cache_ids)
        self.removed.extend(cache_ids)

    def embed(self, vectors: Mapping[str, Embedding | None]) -> None:
        """Replace the vectors of records that are there."""
        for cache_id, vector in vectors.items():
            self.index.embed(cache_id, vector)
        self.embedded = vectors

    def tell(self, images: Path, on_added: Listeners, on_evicted: Listeners) -> None:
        """Call the listeners, after the commit, with what was added and what eviction took."""
        if self.added is not None and on_added:
            entry = self.added.entry(images / self.added.image_name)
            for listener in on_added:
                listener(entry)
        for entry in self.evicted:
            for listener in on_evicted:
                listener(entry)


class Mirror:
    """The entries as last seen, with their uses since then. Not thread-safe: the manager locks.

    Args:
        index: Where bodies are read from.
        policy: Told of everything that may be evicted.
        images: Folder of the images.
    """

    def __init__(self, index: IndexBackend, policy: EvictionPolicy, images: Path) -> None:
        self._index = index
        self._policy = policy
        self._images = images
        self.briefs: dict[str, Brief] = {}
        self.pinned: set[str] = set()
        self.total_bytes = 0
        self.uses: dict[str, int] = {}  # uses that the index does not hold yet
        self._records: dict[str, tuple[Record, Path]] = {}
        self._vectors: VectorTable | None = None
        self._unread: dict[str, None] = {}  # entries that others wrote: the table may lack their vectors
        self._ids: list[str] | None = None
        self._considered: str | None = None

    def absorb(self, changes: Changes | None) -> None:
        """Take over what other threads and processes wrote."""
        if changes is None:
            return
        if changes.complete:
            uses = self.uses.copy()
            self.remove(list(self.briefs))
            self.uses = {
                brief.cache_id: uses[brief.cache_id] for brief in changes.briefs if brief.cache_id in uses
            }
            self._vectors = None
            self._unread = {}
        self.remove(changes.removed)
        vectors = self._read_vectors(changes)
        for brief in self._measured(changes.briefs):
            if self._vectors is not None:
                self._unread[brief.cache_id] = None
            vector = vectors.get(brief.cache_id)
            if vector is None and self._policy.needs_vectors:
                self._policy.discard(brief.cache_id)  # it may have had one
            self._take(brief, vector)
            self._records.pop(brief.cache_id, None)

    def _read_vectors(self, changes: Changes) -> dict[str, Embedding]:
        """The vectors of what changed, by id, for a policy that looks at them."""
        if not self._policy.needs_vectors:
            return {}
        if changes.complete:
            return dict(self._index.vectors())
        records = self._index.read([brief.cache_id for brief in changes.briefs])
        return {each.cache_id: each.embedding for each in records if each.embedding is not None}

    def _measured(self, briefs: Sequence[Brief]) -> Iterator[Brief]:
        """The same, with the size on the disk where the index has none: other programs record no sizes."""
        unknown = [brief.cache_id for brief in briefs if not brief.byte_size]
        sizes: dict[str, int] = {}
        for record in self._index.read(unknown) if unknown else ():
            with contextlib.suppress(OSError):
                sizes[record.cache_id] = (self._images / record.image_name).stat().st_size
        for brief in briefs:
            size = sizes.get(brief.cache_id)
            yield brief if size is None else brief._replace(byte_size=size)

    def consider(self, record: Record) -> None:
        """Let a policy that compares entries see one that is about to be added."""
        if self._policy.needs_vectors:
            self._policy.insert(_brief(record), record.embedding)
            self._considered = record.cache_id

    def reconsider(self) -> None:
        """It was not added: the policy is not to count it any longer."""
        if self._considered is not None and self._considered not in self.briefs:
            self._policy.discard(self._considered)
        self._considered = None

    def _add(self, record: Record) -> None:
        """Take over an entry of our own, vector included."""
        known = record.cache_id == self._considered
        self._considered = None
        self._take(_brief(record), None if known else record.embedding)
        self._keep(record)
        if self._vectors is not None:
            self._vectors.put(record.cache_id, record.embedding, record.number)

    def _take(self, brief: Brief, vector: Embedding | None = None) -> None:
        known = self.briefs.get(brief.cache_id)
        self.briefs[brief.cache_id] = brief
        self.total_bytes += brief.byte_size - (known.byte_size if known else 0)
        (self.pinned.add if brief.pinned else self.pinned.discard)(brief.cache_id)
        if brief.pinned and not self._policy.needs_vectors:
            self._policy.discard(brief.cache_id)
        else:
            self._policy.insert(brief, vector)
            used_ns = self.uses.get(brief.cache_id, 0)
            if used_ns > brief.used_ns:
                self._policy.touch(brief.cache_id, used_ns)
        if known is None:
            self._ids = None

    def remove(self, cache_ids: Iterable[str]) -> None:
        """Forget entries; an unknown id is fine."""
        for cache_id in cache_ids:
            brief = self.briefs.pop(cache_id, None)
            if brief is None:
                continue
            self.total_bytes -= brief.byte_size
            self.pinned.discard(cache_id)
            self.uses.pop(cache_id, None)
            self._records.pop(cache_id, None)
            self._unread.pop(cache_id, None)
            self._policy.discard(cache_id)
            self._ids = None
            if self._vectors is not None:
                self._vectors.discard(cache_id)

    def _pin(self, cache_id: str, pinned: bool) -> None:
        """Pin or unpin a known entry."""
        self._take(self.briefs[cache_id]._replace(pinned=pinned))
        self._records.pop(cache_id, None)

    def _embed(self, cache_id: str, vector: Embedding | None) -> None:
        """Take over the new vector of a known entry."""
        self._records.pop(cache_id, None)
        self._unread.pop(cache_id, None)
        if self._policy.needs_vectors:
            self._policy.discard(cache_id)
            self._policy.insert(self.briefs[cache_id], vector)
        if self._vectors is not None:
            self._vectors.put(cache_id, vector, self.briefs[cache_id].number)

    def touch(self, cache_id: str, used_ns: int) -> None:
        """Note a use of a known entry; it is written at the next write."""
        self.uses[cache_id] = used_ns
        self._policy.touch(cache_id, used_ns)

    def follow(self, write: Write) -> None:
        """Take over a write of our own, after its commit."""
        self._settle(write.uses)
        self.remove(write.removed)
        if write.added is not None:
            self._add(write.added)
        if write.pin is not None:
            self._pin(*write.pin)
        for cache_id, vector in write.embedded.items():
            self._embed(cache_id, vector)

    def _settle(self, uses: Iterable[str]) -> None:
        """Those uses are written now."""
        for cache_id in uses:
            used_ns = self.uses.pop(cache_id, None)
            brief = self.briefs.get(cache_id)
            if used_ns is not None and brief is not None:
                self.briefs[cache_id] = brief._replace(used_ns=max(used_ns, brief.used_ns))

    def newest(self, count: int) -> list[str]:
        """Ids of the entries that came last, at most ``count``, newest first."""
        return list(islice(reversed(self.briefs), count))

    def ids(self) -> list[str]:
        """Ids of all entries, oldest first; not to be changed."""
        if self._ids is None:
            self._ids = list(self.briefs)
        return self._ids

    def entry(self, cache_id: str) -> CacheEntry | None:
        """A snapshot of one entry; None when another process removed it meanwhile."""
        kept = self._records.get(cache_id)
        if kept is None:
            for record in self._index.read([cache_id]):
                kept = self._keep(record)
        if kept is None:
            return None
        record, path = kept
        brief = self.briefs.get(cache_id)
        used_ns = record.used_ns if brief is None else brief.used_ns
        used_here = self.uses.get(cache_id, 0)
        try:
            return record.entry(path, used_here if used_here > used_ns else used_ns)
        except ValueError as exc:
            raise IndexCorruptError(
                f"{self._index.path}: the entry {cache_id!r} is damaged: {exc}. To keep the index aside and "
                f"rebuild it: reverie cache check --fix --cache {self._images.parent}"
            ) from exc

    def entries(self, cache_ids: Sequence[str]) -> Iterator[CacheEntry]:
        """Snapshots in the order asked; the missing bodies are read in one go."""
        missing = [cache_id for cache_id in cache_ids if cache_id not in self._records]
        for record in self._index.read(missing):
            self._keep(record, limit=max(_KEPT_RECORDS, len(cache_ids)))
        for cache_id in cache_ids:
            entry = self.entry(cache_id)
            if entry is not None:
                yield entry

    def _keep(self, record: Record, limit: int = _KEPT_RECORDS) -> tuple[Record, Path]:
        if len(self._records) >= limit:
            self._records.clear()
        kept = (record, self._images / record.image_name)
        self._records[record.cache_id] = kept
        return kept

    def embeddings(self, encoder: str | None) -> EmbeddingSet:
        """All vectors of one encoder, oldest first: a snapshot that later changes do not touch."""
        return self._table().snapshot(encoder)

    def rows(self, encoder: str | None) -> VectorRows:
        """The same as a search takes them, in no time."""
        return self._table().rows(encoder)

    def _table(self) -> VectorTable:
        """The vectors, those read that are not known yet."""
        if self._vectors is None:
            self._vectors = VectorTable()
            self._unread = {}
            for cache_id, vector in self._index.vectors():
                if cache_id in self.briefs:
                    self._vectors.put(cache_id, vector, self.briefs[cache_id].number)
        for record in self._index.read(list(self._unread)):
            self._vectors.put(record.cache_id, record.embedding, self.briefs[record.cache_id].number)
        self._unread = {}
        return self._vectors


def _brief(record: Record) -> Brief:
    return Brief(
        record.number, record.cache_id, record.timestamp, record.used_ns, record.pinned, record.byte_size
    )
