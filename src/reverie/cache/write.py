"""One write to a cache, as those who have to follow it see it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from reverie.entry import Record
from reverie.protocols import IndexWriter
from reverie.vectors import Embedding, stored_as

__all__ = ["Write"]


@dataclass(slots=True)
class Write:
    """What one write does, for the mirror to follow after its commit.

    Attributes:
        index: The writer.
        uses: Last uses that it writes, by id.
        seen: `Mirror.seen` when all that others wrote before was known.
        added: The new records.
        removed: Ids that it takes out.
        pin: An id and whether it is pinned from now on.
        embedded: Vectors that it replaces, by id; None takes one away.
        trash: Image files that no entry has any more.
    """

    index: IndexWriter
    uses: Mapping[str, int]
    seen: int
    added: list[Record] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    pin: tuple[str, bool] | None = None
    embedded: Mapping[str, Embedding | None] = field(default_factory=dict)
    trash: Sequence[str] = ()

    def put(self, record: Record) -> None:
        """Insert a record."""
        self.index.put(record)
        self.added.append(record)

    def stored(self, vector: Embedding | None) -> Embedding | None:
        """A vector as the index gives it back: what everybody goes by from now on."""
        return None if vector is None else stored_as(vector, self.index.vector_type())

    def remove(self, cache_ids: Sequence[str]) -> None:
        """Take records out."""
        self.index.remove(cache_ids)
        self.removed.extend(cache_ids)

    def embed(self, vectors: Mapping[str, Embedding | None]) -> None:
        """Replace the vectors of records that are there."""
        self.embedded = {cache_id: self.stored(vector) for cache_id, vector in vectors.items()}
        for cache_id, vector in self.embedded.items():
            self.index.embed(cache_id, vector)

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """What is put and removed in the block is undone when it is left by an exception."""
        added, removed = len(self.added), len(self.removed)
        try:
            with self.index.attempt():
                yield
        except BaseException:
            del self.added[added:], self.removed[removed:]
            raise
