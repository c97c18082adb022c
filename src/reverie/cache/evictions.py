"""The eviction policy of a cache, beside the index that it chooses from."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from reverie import registry
from reverie.cache.write import Write
from reverie.entry import Record
from reverie.protocols import Brief, EvictionPolicy, IndexBackend, Order
from reverie.vectors import Embedding

__all__ = ["Evictions", "brief_of"]


class Evictions:
    """Asks the index where the policy is an order that it keeps; else tells the policy what there is.

    A policy that has to be told is told when it is first asked: most caches never come to their limit in the
    life of a process.

    Args:
        name: Registered name of the policy.
        options: Its arguments.
        index: Where the entries are.
    """

    def __init__(self, name: str, options: Mapping[str, Any], index: IndexBackend) -> None:
        self._name = name
        self._options = dict(options)
        self._index = index
        self._policy: EvictionPolicy = registry.create("evictions", name, **self._options)
        self._order: Order | None = getattr(self._policy, "order", None)
        self._told = False
        self._ahead = False  # whether the policy knows what is not committed yet

    def state(self) -> dict[str, Any]:
        """Options with which the policy goes on as it is: those it was made with, and what it learnt."""
        return {**self._options, **self._policy.state()}

    def forget(self) -> None:
        """Anything may have changed: tell a new policy, which goes on as this one, when it is asked again."""
        if self._told:
            self._policy = registry.create("evictions", self._name, **self.state())
            self._told = self._ahead = False

    def undo(self) -> None:
        """What a write told the policy was not committed."""
        if self._ahead:
            self.forget()

    def keep(self) -> None:
        """What a write told the policy was committed."""
        self._ahead = False

    def follow(self, briefs: Iterable[Brief], removed: Iterable[str]) -> None:
        """Others changed these entries."""
        if not self._told:
            return
        for cache_id in removed:
            self._policy.discard(cache_id)
        changed = {brief.cache_id: brief for brief in briefs}
        vectors: dict[str, Embedding] = {}
        if self._policy.needs_vectors:
            vectors = {brief.cache_id: vector for brief, vector in self._index.vectors(list(changed))}
        for cache_id, brief in changed.items():
            if cache_id not in vectors:
                self._policy.discard(cache_id)  # it may have had a vector
            self.insert(brief, vectors.get(cache_id))

    def insert(self, brief: Brief, vector: Embedding | None = None) -> None:
        """An entry is there, or has changed; the vector as `EvictionPolicy.insert` takes it."""
        if self._told:
            if brief.pinned and not self._policy.needs_vectors:
                self._policy.discard(brief.cache_id)
            else:
                self._policy.insert(brief, vector)

    def embed(self, brief: Brief, vector: Embedding | None) -> None:
        """An entry has another vector, or none any more."""
        if self._told and self._policy.needs_vectors:
            self._policy.discard(brief.cache_id)
            self._policy.insert(brief, vector)

    def discard(self, cache_ids: Iterable[str]) -> None:
        """Entries are gone; an unknown id is fine."""
        if self._told:
            for cache_id in cache_ids:
                self._policy.discard(cache_id)

    def touch(self, cache_id: str, used_ns: int) -> None:
        """An entry was used."""
        if self._told:
            self._policy.touch(cache_id, used_ns)

    def consider(self, record: Record, write: Write) -> None:
        """Let a policy that compares entries see one that is about to be added."""
        if self._order is None:
            self._tell(write)
            if self._policy.needs_vectors:
                self.expect(record)

    def expect(self, record: Record) -> None:
        """An entry is put, though not yet committed."""
        self._ahead = True
        self.insert(brief_of(record), record.embedding)

    def ranking(self, write: Write, skip: Collection[str]) -> Iterator[Brief]:
        """The entries that may be evicted, the first to go first, without those of ``skip``.

        Args:
            write: What goes on; what it added and removed counts.
            skip: Ids that are not to be named, though they count.
        """
        if self._order is not None:
            yield from (brief for brief in write.index.ordered(self._order) if brief.cache_id not in skip)
            return
        self._tell(write)
        for cache_id in self._policy.ranking(skip):
            yield from write.index.find([cache_id])

    def _tell(self, write: Write) -> None:
        """Tell the policy what there is, as the write has it."""
        if self._told:
            return
        self._told = self._ahead = True
        vectors: dict[str, Embedding] = {}
        if self._policy.needs_vectors:
            vectors = {brief.cache_id: vector for brief, vector in self._index.vectors()}
            vectors.update(
                {each.cache_id: each.embedding for each in write.added if each.embedding is not None}
            )
        for brief in write.index.briefs():
            self.insert(brief, vectors.get(brief.cache_id))


def brief_of(record: Record) -> Brief:
    """What decides about a record."""
    return Brief(
        record.number,
        record.cache_id,
        record.timestamp,
        record.used_ns,
        record.pinned,
        record.byte_size,
        record.content_hash,
    )
