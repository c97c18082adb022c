"""What an index implements: where the records are, and what is asked of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from reverie.entry import Record
from reverie.half import VectorType
from reverie.query import Where
from reverie.vectors import Embedding

__all__ = ["Brief", "Catalogue", "Changes", "IndexBackend", "IndexWriter", "Mark", "Order"]


class Brief(NamedTuple):
    """What decides about an entry, without its body.

    Attributes:
        number: Position in the life of the cache: grows with every add, never used twice.
        cache_id: Its id.
        timestamp: ISO 8601 local time of the add.
        used_ns: Last use, nanoseconds since the epoch.
        pinned: Eviction never takes it.
        byte_size: Bytes of its image; what an index knows no size of, it looks up on the disk.
        content_hash: `reverie.storage.content_hash` of its image; empty where it is not known.
    """

    number: int
    cache_id: str
    timestamp: str
    used_ns: int
    pinned: bool
    byte_size: int
    content_hash: str = ""


@dataclass(frozen=True, slots=True)
class Changes:
    """What an index holds that its reader has not seen yet.

    Attributes:
        complete: True when anything may have changed: forget what was known before.
        briefs: New or changed entries, by number; none when ``complete``.
        removed: Ids that are gone; none when ``complete``.
    """

    complete: bool
    briefs: Sequence[Brief] = ()
    removed: Sequence[str] = ()


class Mark(NamedTuple):
    """A point in the life of an index.

    Attributes:
        identity: Of the index: another one, made anew at the same place, has another.
        change: Number of its last change.
    """

    identity: int
    change: int


Order: TypeAlias = Literal["used", "time"]
"""An order that an index keeps: by last use, or by the time of the add."""


class Catalogue(Protocol):
    """What an index answers about its entries without reading them all, inside a write and outside."""

    def count(self) -> int:
        """How many entries there are."""

    def total_bytes(self) -> int:
        """How many bytes their images take."""

    def find(self, cache_ids: Sequence[str]) -> list[Brief]:
        """The briefs of these ids, in the order asked; ids that are gone are passed over."""

    def briefs(
        self, where: Where | None = None, *, after: int = 0, limit: int | None = None, newest: bool = False
    ) -> list[Brief]:
        """Entries by number.

        Args:
            where: Only those for which it holds.
            after: Only those of a higher number.
            limit: How many at most; None takes all.
            newest: From the highest number down.
        """

    def numbers(self, where: Where) -> NDArray[np.int64]:
        """``(m,)`` numbers of the entries for which it holds, in order."""

    def pinned(self) -> list[str]:
        """Ids of the pinned entries, by number."""

    def ordered(self, by: Order) -> Iterator[Brief]:
        """The entries that are not pinned, lowest first, ties by number. Only the first few are cheap."""

    def vector_type(self) -> VectorType:
        """As what it keeps the numbers of vectors: one comes back as `reverie.vectors.stored_as` has it."""


class IndexWriter(Catalogue, Protocol):
    """One exclusive write to an index: everything in it is committed together or not at all.

    What it answers holds what it wrote.
    """

    def next_number(self) -> int:
        """The next number that no entry ever had; counts up with each call."""

    def give_back(self, numbers: range) -> None:
        """Numbers of earlier writes that no entry got: they are given out again, unless higher ones were."""

    def retire(self) -> None:
        """Another index takes this one's place: later writes by anyone are refused with CacheClosedError."""

    def attempt(self) -> AbstractContextManager[None]:
        """A part of the write: leaving its block by an exception undoes that part alone."""

    def put(self, record: Record) -> None:
        """Insert a record."""

    def remove(self, cache_ids: Sequence[str]) -> None:
        """Take records out; their files are remembered as trash until `forget_trash`."""

    def pin(self, cache_id: str, pinned: bool) -> None:
        """Pin or unpin a record."""

    def use(self, uses: Mapping[str, int]) -> None:
        """Set last uses, id to nanoseconds; ids that are gone are passed over."""

    def embed(self, cache_id: str, embedding: Embedding | None) -> None:
        """Replace the vector of a record; an id that is gone is passed over.

        With it goes what `Record.extra` says of the old one (``embedding``, ``encoder``): as another
        program wrote it, it would stand in the place of the new one.
        """

    def trash(self) -> Sequence[str]:
        """Image names removed by earlier writes whose files may still be there."""

    def forget_trash(self, image_names: Sequence[str]) -> None:
        """Those files are deleted."""


class IndexBackend(Catalogue, Protocol):
    """Where the records are. Knows nothing of limits or policies.

    Made by ``index(folder, shown=..., lock_timeout=..., durable=...)``; with
    ``durable=False`` a commit need not be on the disk (it is out of the process) until `flush`.
    ``vectors=`` comes along where one asks for a `vector_type`: an index that is there and has another one,
    or that cannot have it, raises ConfigError.

    One thread may write while another reads: what is not committed is not seen. Else not thread-safe.
    """

    kind: str
    path: Path

    def poll(self) -> Changes | None:
        """What changed since the last poll or write of this object; None when nothing did.

        The first call says that anything may have.

        Raises:
            IndexCorruptError: The index cannot be read; it is left as it is.
        """

    def mark(self) -> Mark | None:
        """Up to where `poll` and own writes are known; None for an index that keeps no log of its changes."""

    def since(self, mark: Mark) -> Changes:
        """What changed between a mark, of this object or another, and now; ``complete``: unknown."""

    def read(self, cache_ids: Sequence[str]) -> list[Record]:
        """The records of these ids, in the order asked; ids that are gone are passed over."""

    def vectors(self, cache_ids: Sequence[str] | None = None) -> Iterator[tuple[Brief, Embedding]]:
        """Each entry that has a vector with it, by number: of these ids, or of all."""

    def spaces(self) -> set[tuple[str | None, int]]:
        """Encoder name (None: not known) and dimensions of the vectors this index ever held."""

    def extra(self) -> dict[str, Any]:
        """Keys of the whole index that another program wrote."""

    def next_number(self) -> int:
        """The next number that no entry ever had, as last polled."""

    def verify(self) -> None:
        """Read the whole index, also what no entry needs; raises IndexCorruptError."""

    def salvage(self) -> tuple[list[Record], int]:
        """What can still be read of a damaged index, and a number above all its ids; changes nothing."""

    def retired(self) -> bool:
        """Whether another index took this one's place."""

    def replace_all(
        self,
        records: Iterable[Record],
        next_number: int,
        extra: Mapping[str, Any],
        vectors: VectorType | None = None,
    ) -> None:
        """Make this the whole content, in one step; a damaged or retired index is in use again after it.

        Args:
            records: All entries.
            next_number: The next number that no entry ever had.
            extra: Keys of the whole index that another program wrote.
            vectors: As what their vectors are kept from now on; None: as up to now.

        Raises:
            ConfigError: It cannot keep them so; nothing was changed.
            StorageError: The disk refused; nothing was changed.
        """

    def write(self) -> AbstractContextManager[IndexWriter]:
        """Take the one writer's place among all threads and processes.

        What others wrote before is seen by `poll` from then on, and nothing more comes while it lasts.
        Leaving the block commits durably; leaving it by an exception changes nothing. Own writes are not
        among what `poll` gives, unless it is asked before the block is left.

        Raises:
            LockTimeoutError: Another writer kept its place for too long.
            StorageError: The disk refused; nothing was changed.
        """

    def settle(self) -> bool:
        """After a write that failed: see to it that nothing of it comes back when the index is opened again.

        False where the disk refuses even that: then the next write that does not fail sees to it.
        """

    def set_vector_type(self, vectors: VectorType) -> Path | None:
        """Keep all vectors as such numbers from now on, in one step; who has it open follows.

        Returns:
            A copy of the index as it was, where the vectors lost by it; None where nothing was lost.

        Raises:
            ConfigError: It cannot keep them so; nothing was changed.
            StorageError: The disk refused; nothing was changed.
        """

    def flush(self) -> None:
        """Wait until all that was committed is on the disk; of use for an index that does not wait by itself.

        Raises:
            StorageError: The disk refused.
        """

    def close(self) -> None:
        """Let go of files; a closed index is not used again."""
