"""An open index kept in step with the other threads, processes and forks that use the same folder."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reverie import registry
from reverie.cache.evictions import Evictions
from reverie.cache.mirror import Mirror
from reverie.cache.settings import check_space
from reverie.cache.write import Write
from reverie.errors import CacheClosedError, EntryNotFoundError, InputError
from reverie.half import VectorType
from reverie.protocols import Changes, IndexBackend
from reverie.vectors import Embedding

__all__ = ["Session"]

_LOOK_EVERY_NS = 200_000  # `get` looks for other processes' changes at most every 0.2 ms
_INHERITED: list[IndexBackend] = []  # opened before a fork: their files are the parent's, never closed here


class Session:
    """The part of `CacheManager` that follows the disk: one lock, one index, its mirror in memory.

    Args:
        kind: Registered name of the index.
        folder: The cache folder, absolute.
        shown: The folder as the user wrote it.
        eviction: Registered name of the eviction policy.
        eviction_options: Arguments of the eviction policy.
        lock_timeout: Seconds to wait while another process writes.
        durable: Whether a write waits until it is on the disk.
        vectors: As what the index has to keep the numbers of vectors; None: as it does.

    Raises:
        ConfigError: The index keeps vectors otherwise.
        IndexCorruptError: The index cannot be read; it is left as it is.
    """

    def __init__(
        self,
        kind: str,
        folder: Path,
        shown: str,
        *,
        eviction: str,
        eviction_options: Mapping[str, Any],
        lock_timeout: float,
        durable: bool = True,
        vectors: VectorType | None = None,
    ) -> None:
        self._kind = kind
        self._folder = folder
        self._shown = shown
        self._eviction = eviction
        self._eviction_options = dict(eviction_options)
        self._lock_timeout = lock_timeout
        self._durable = durable
        self._asked: dict[str, Any] = {} if vectors is None else {"vectors": vectors}
        self._turn = threading.RLock()  # of the one thread that writes; taken before `_lock`, never after
        self._lock = threading.RLock()  # of what is in memory; never held while the disk is waited for
        self._closed = False
        self._newest_use = 0
        _SESSIONS.add(self)
        self._open()

    def _open(self) -> None:
        self._pid = os.getpid()
        self._index: IndexBackend = registry.create(
            "indexes",
            self._kind,
            self._folder,
            shown=self._shown,
            lock_timeout=self._lock_timeout,
            durable=self._durable,
            **self._asked,
        )
        self._asked = {}  # once is enough: another process may convert it
        self._evictions = Evictions(self._eviction, self._eviction_options, self._index)
        self._mirror = Mirror(self._index, self._evictions, self._folder / "images")
        self._deleted: list[str] = []  # files deleted since the index last heard of it
        self._spaces: set[tuple[str | None, int]] = set()
        self._looked_ns = 0
        try:
            self._look()
        except BaseException:
            self._index.close()
            raise

    @property
    def index_kind(self) -> str:
        """``json`` or ``sqlite``."""
        return self._kind

    @property
    def vector_type(self) -> VectorType:
        """As what the numbers of vectors are kept: ``float32`` or ``float16``."""
        with self._seeing():
            return self._index.vector_type()

    @property
    def index_path(self) -> Path:
        """The file of the index."""
        return self._index.path

    def eviction_state(self) -> dict[str, Any]:
        """The ``eviction_options`` with which this folder, opened again as it is, goes on exactly as now.

        The options it was opened with, and what the policy has learnt since: all that JSON can hold.
        """
        with self._seeing():
            return self._evictions.state()

    def _check_open(self) -> None:
        if self._closed:
            raise CacheClosedError(f"the cache {self._shown!r} is closed: open it again with CacheManager")
        if self._pid != os.getpid():
            self._after_fork()

    def _after_fork(self) -> None:
        """A forked child must not touch its parent's connection: it opens its own."""
        _INHERITED.append(self._index)
        self._open_again()

    def _open_again(self) -> None:
        """Open the index anew; the policy goes on as it was."""
        self._eviction_options = self._evictions.state()
        self._open()

    def _look(self) -> None:
        """Take over what others wrote."""
        self._check_open()
        self._absorb(self._index.poll())
        self._looked_ns = time.monotonic_ns()

    def _catch_up(self) -> None:
        """Store what was taken in without waiting: whoever looks finds it. Here there is no such thing."""

    @contextmanager
    def _seeing(self) -> Iterator[None]:
        """Hold the lock, with all known that is stored."""
        self._catch_up()
        with self._lock:
            self._look()
            yield

    @contextmanager
    def _changing(self) -> Iterator[Write]:
        """A write after all that was taken in."""
        self._catch_up()
        with self._writing() as write:
            yield write

    def _look_sometimes(self) -> None:
        if self._closed or time.monotonic_ns() - self._looked_ns > _LOOK_EVERY_NS or self._pid != os.getpid():
            self._look()

    def _absorb(self, changes: Changes | None) -> None:
        if changes is not None:
            self._mirror.absorb(changes)
            self._spaces = set()

    def _has(self, cache_id: object) -> bool:
        """Whether there is an entry of that id; raises InputError for what can be no id."""
        self._check_id(cache_id)
        return isinstance(cache_id, str) and self._mirror.has(cache_id)

    def _check_id(self, cache_id: object) -> None:
        try:
            hash(cache_id)
        except TypeError as exc:
            raise InputError(f"an id is text, got {cache_id!r}") from exc

    def _no_entry(self, cache_id: str) -> EntryNotFoundError:
        return EntryNotFoundError(
            f"no entry {cache_id!r} in this cache: it was never added, or evicted or removed since"
        )

    def _check_spaces(self, write: Write, vectors: Iterable[Embedding]) -> None:
        """Refuse a vector of another length than the others of its encoder have, there or among these."""
        new = [vector for vector in vectors if (vector.encoder, vector.size) not in self._spaces]
        if not new:
            return
        with self._lock:
            self._spaces = self._index.spaces()
        added = [record.embedding for record in write.added if record.embedding is not None]
        spaces = self._spaces | {(vector.encoder, vector.size) for vector in added}
        for vector in new:
            check_space(vector, spaces)
            spaces.add((vector.encoder, vector.size))

    def _now(self) -> int:
        """The time in nanoseconds, in whole microseconds as the JSON index has it, later at every call."""
        now = time.time_ns()
        now -= now % 1000
        if now <= self._newest_use:
            now = self._newest_use + 1000
        self._newest_use = now
        return now

    def _renew_locks(self) -> None:
        self._turn, self._lock = threading.RLock(), threading.RLock()

    @contextmanager
    def _writing(self) -> Iterator[Write]:
        """Hold the writer's place; after the commit, bring the mirror up to date."""
        with self._turn:
            with self._lock:
                self._check_open()
                uses, deleted = dict(self._mirror.uses), list(self._deleted)
            try:
                with self._index.write() as index:
                    with self._lock:
                        self._absorb(self._index.poll())
                        write = Write(index, uses, self._mirror.seen)
                    index.forget_trash(deleted)
                    index.use(uses)
                    yield write
                    write.trash = index.trash()
            except BaseException:
                with self._lock:
                    self._evictions.undo()
                raise
            with self._lock:
                self._mirror.follow(write)
                self._evictions.keep()
                self._mirror.keep_vectors()
                forgotten = set(deleted)
                self._deleted = [name for name in self._deleted if name not in forgotten]


_SESSIONS: weakref.WeakSet[Session] = weakref.WeakSet()


def _renew_locks() -> None:
    """In a forked child: a thread that held a lock is not there to release it."""
    for session in list(_SESSIONS):
        session._renew_locks()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)
