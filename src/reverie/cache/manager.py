"""CacheManager: stores generated images with what is known about them, and gives them back.

The specification's repository, and the only writer of a cache folder. An `add` goes in an order
that a crash cannot break: the image is checked and written under a temporary name; then, holding the
one writer's place among all threads and processes, it gets its id and its name and is flushed to the
disk; then its row is committed together with the evictions it causes; only then are evicted files
deleted. What `add` returned is on the disk.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from reverie import registry
from reverie.cache.check import CheckReport, check_cache
from reverie.cache.folder import check_folder, make_folders
from reverie.cache.limits import Limits
from reverie.cache.lost import highest_number, note_lost
from reverie.cache.mirror import Write
from reverie.cache.session import Session
from reverie.cache.settings import (
    check_count,
    check_eviction,
    check_limit,
    check_parents,
    check_text,
    check_timeout,
    check_vector,
    choose_index,
    make_rng,
    read_config,
)
from reverie.entry import CacheEntry, Record, encode_params
from reverie.errors import CacheError, InputError, StorageError
from reverie.pixels import ImageLike
from reverie.protocols import ImageStore, IndexWriter, Staged
from reverie.vectors import EmbeddingSet, VectorRows

__all__ = ["CacheManager"]


class CacheManager(Session):
    """An image cache in a folder.

    Args:
        folder: The cache folder, created when it is not there; or the nested configuration of the
            specification's project, of which ``["system"]["cache_dir"]`` and
            ``["generation"]["cache"]["max_size"]`` are read.
        max_size: Most entries it holds; None is unbounded.
        max_bytes: Most bytes its images take; None is unbounded.
        eviction: Name of the eviction policy: ``lru`` (least recently used), ``oldest``, ``reservoir`` (an
            even sample of the whole life), ``rke`` (the most diverse set) or ``maxmin`` (no close pairs).
        eviction_options: Arguments of that policy, such as ``{"seed": 1}``, or an earlier `eviction_state`.
        protect_recent: How many of the newest entries are evicted only when nothing else can be.
        index: ``json`` (the specification's file), ``sqlite``, or ``auto``: what is on disk, else
            JSON up to 500 entries and SQLite above or unbounded.
        seed: Makes `get_random` repeatable.
        lock_timeout: Seconds to wait while another process writes.
        on_added: Functions for the list of that name.
        on_evicted: Functions for the list of that name; the only way to hear of evictions on opening.

    Attributes:
        cache_dir: The folder, absolute.
        image_dir: Its ``images/``.
        metadata_dir: Its ``metadata/``.
        max_size: As given.
        max_bytes: As given.
        protect_recent: As given.
        on_added: Functions called with each `CacheEntry` that `add` of this object stored.
        on_evicted: Functions called with each `CacheEntry` that eviction by this object took: in an `add`, or
            on opening past a limit. Its image is gone by then. Neither `remove` nor `clear` is an eviction.

    Raises:
        ConfigError: A configuration without its keys, a value of a wrong type, or an index kind that
            contradicts the disk.
        InputError: The eviction policy does not take these options.
        UnknownNameError: No eviction policy or index of that name.
        IndexCorruptError: The index cannot be read; it is left as it is.
        StorageError: The folder cannot be made or read.

    All methods may be called from several threads; several processes may use one folder. Changes
    of other processes are seen at the next call (by `get`: 0.2 ms later at most). Listeners are called
    when the change is on the disk, in the thread that made it, with no lock held.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str] | Mapping[str, Any],
        max_size: int | None = 75,
        *,
        max_bytes: int | None = None,
        eviction: str = "lru",
        eviction_options: Mapping[str, Any] | None = None,
        protect_recent: int = 0,
        index: str = "auto",
        seed: int | None = None,
        lock_timeout: float = 10.0,
        on_added: Iterable[Callable[[CacheEntry], None]] = (),
        on_evicted: Iterable[Callable[[CacheEntry], None]] = (),
    ) -> None:
        if isinstance(folder, Mapping):
            folder, max_size = read_config(folder)
        check_limit("max_size", max_size)
        check_limit("max_bytes", max_bytes)
        check_count("protect_recent", protect_recent)
        shown, self.cache_dir = check_folder(folder)
        self.image_dir = self.cache_dir / "images"
        self.metadata_dir = self.cache_dir / "metadata"
        self.max_size = max_size
        self.max_bytes = max_bytes
        self.protect_recent = protect_recent
        self._elite: frozenset[str] = frozenset()
        self.on_added: list[Callable[[CacheEntry], None]] = list(on_added)
        self.on_evicted: list[Callable[[CacheEntry], None]] = list(on_evicted)
        self._rng = make_rng(seed)
        check_timeout(lock_timeout)
        options = check_eviction(eviction, eviction_options)
        kind = choose_index(self.metadata_dir, index, max_size)
        make_folders(self.image_dir, self.metadata_dir)
        self._used_up = highest_number(note_lost(self.cache_dir, kind, lock_timeout))
        self._images: ImageStore = registry.create("images", "local", self.image_dir)
        super().__init__(
            kind,
            self.cache_dir,
            shown,
            eviction=eviction,
            eviction_options=options,
            lock_timeout=lock_timeout,
        )
        if max(self._limits().surplus(self._mirror)) > 0:
            with contextlib.suppress(StorageError):  # a read-only cache can still be looked at
                self._enforce_max_size()

    # ------------------------------------------------------------------ adding

    def add(
        self,
        image_path: ImageLike,
        prompt: str = "",
        generation_params: Mapping[str, Any] | None = None,
        embedding: ArrayLike | None = None,
        *,
        encoder: str | None = None,
        parents: Sequence[str] = (),
        pinned: bool = False,
    ) -> str:
        """Store an image and return its id; when this returns, it is on the disk.

        Args:
            image_path: A path (its bytes and format are kept), a PIL image, or an ``(h, w, 3)``
                uint8 array (stored as PNG).
            prompt: The prompt it was made with.
            generation_params: How it was made; anything JSON can hold.
            embedding: ``(d,)`` numbers, normalised to unit length; None for an entry that similarity
                search passes over.
            encoder: Name of the encoder that made the embedding; not needed for a vector that
                carries its stamp, as those of `AestheticMatcher` do.
            parents: Ids of the entries it was made from.
            pinned: Whether eviction may never take it.

        Raises:
            InputError: ``prompt`` or ``parents`` is not text.
            ImageError: The image is missing, broken, empty or too large.
            ParamsError: ``generation_params`` holds what JSON cannot.
            EmbeddingError: NaN, infinity, zero, or not as long as the other vectors of its encoder.
            CacheFullError: The limit is reached and all entries are pinned.
            StorageError: The disk refused.

            After any of them the cache is as it was.
        """
        text = check_text(prompt, "the prompt")
        ancestors = check_parents(parents)
        params = encode_params({} if generation_params is None else generation_params)
        vector = check_vector(embedding, encoder)
        staged = self._images.stage(image_path)
        stored = ""
        try:
            with self._writing() as write:
                self._check_spaces([] if vector is None else [vector])
                number, name = self._new_name(write.index, staged)
                record = Record(
                    number=number,
                    cache_id=Path(name).stem,
                    image_name=name,
                    prompt=text,
                    params=params,
                    embedding=vector,
                    timestamp=datetime.now().isoformat(timespec="microseconds"),
                    used_ns=self._now(),
                    pinned=bool(pinned),
                    content_hash=staged.content_hash,
                    byte_size=staged.byte_size,
                    parents=ancestors,
                )
                self._evict(write, adding=record)
                write.put(record)  # before the image's commit: the disk is still writing the image
                self._images.commit(staged, name)
                stored = name  # ours from here on: without its row nobody else takes that name
        except BaseException:
            self._take_back(staged, stored)
            raise
        self._finish(write)
        return record.cache_id

    def _new_name(self, writer: IndexWriter, staged: Staged) -> tuple[int, str]:
        while True:
            number = writer.next_number()
            cache_id = f"cache_{number:05d}"
            free = cache_id not in self._mirror.briefs and not self._images.exists(cache_id + staged.suffix)
            if free and number > self._used_up:
                return number, cache_id + staged.suffix

    def _take_back(self, staged: Staged, stored: str) -> None:
        """After a failed add: leave no file behind, unless the row did reach the disk."""
        self._images.discard(staged)
        if stored:
            with self._lock, contextlib.suppress(CacheError):
                self._absorb(self._index.poll())
                if all(record.image_name != stored for record in self._index.read([Path(stored).stem])):
                    self._images.delete([stored])

    def _finish(self, write: Write) -> None:
        """What follows a commit: delete files, tell the listeners."""
        with contextlib.suppress(StorageError):  # they stay listed as trash and are tried again
            self._images.delete(write.trash)
            with self._lock:
                self._deleted.extend(write.trash)
        write.tell(self.image_dir, self.on_added, self.on_evicted)

    # ------------------------------------------------------------------ eviction

    def _enforce_max_size(self) -> None:
        """Evict until the limits hold (the specification's step 5; also on opening)."""
        with self._writing() as write:
            self._evict(write)
        self._finish(write)

    def _limits(self) -> Limits:
        return Limits(self.max_size, self.max_bytes, self.protect_recent, self._elite)

    def _evict(self, write: Write, adding: Record | None = None) -> None:
        victims = self._limits().victims(self._mirror, self._policy, adding)
        if victims:
            if self.on_evicted:
                write.evicted = list(self._mirror.entries(victims))
            write.remove(victims)

    def protect(self, cache_ids: Iterable[str]) -> None:
        """Let these entries be evicted only when nothing else can be, instead of those named before.

        For what proved its worth, such as memories that freed a loop. It is not written anywhere: it ends
        when the cache is closed. A pin is for good. Ids that are not there are fine.

        Raises:
            InputError: A single text was given, whose letters are no ids, or something that is no text.
        """
        if isinstance(cache_ids, str):
            raise InputError(f"protect takes a list of ids, got the text {cache_ids!r}")
        elite = frozenset(check_text(cache_id, "an id") for cache_id in cache_ids)
        with self._lock:
            self._elite = elite

    # ------------------------------------------------------------------ reading

    def get(self, cache_id: str) -> CacheEntry | None:
        """The entry of an id, or None; counts as a use."""
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
        with self._lock:
            self._look()
            return list(self._mirror.entries(self._mirror.ids()))

    def get_random(self) -> CacheEntry | None:
        """An entry drawn evenly, or None when the cache is empty; counts as a use."""
        with self._lock:
            self._look()
            ids = self._mirror.ids()
            return self._use(ids[self._rng.integers(len(ids))]) if ids else None

    def peek(self, cache_ids: Sequence[str]) -> list[CacheEntry]:
        """The entries of these ids, in the order asked; ids that are gone are passed over. Not a use."""
        with self._lock:
            self._look()
            known = [cache_id for cache_id in cache_ids if self._has(cache_id)]
            return list(self._mirror.entries(known))

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
        with self._lock:
            self._look()
            return self._mirror.embeddings(encoder)

    def vector_rows(self, encoder: str | None = None) -> VectorRows:
        """The same vectors as a `Searcher` takes them; costs nothing, however many there are.

        Raises:
            EncoderMismatchError: There are several encoders and none was named.
        """
        with self._lock:
            self._look()
            return self._mirror.rows(encoder)

    def ids(self) -> list[str]:
        """The ids of all entries, oldest first."""
        with self._lock:
            self._look()
            return list(self._mirror.ids())

    def size(self) -> int:
        """How many entries there are."""
        with self._lock:
            self._look()
            return len(self._mirror.briefs)

    def total_bytes(self) -> int:
        """How many bytes their images take."""
        with self._lock:
            self._look()
            return self._mirror.total_bytes

    def pinned(self) -> frozenset[str]:
        """Ids of the entries that are pinned."""
        with self._lock:
            self._look()
            return frozenset(self._mirror.pinned)

    def __len__(self) -> int:
        return self.size()

    def __contains__(self, cache_id: object) -> bool:
        with self._lock:
            self._look()
            return self._has(cache_id)

    def __iter__(self) -> Iterator[CacheEntry]:
        ids = iter(self.ids())
        while part := list(islice(ids, 500)):
            with self._lock:
                entries = list(self._mirror.entries(part))
            yield from entries

    # ------------------------------------------------------------------ changing

    def remove(self, cache_id: str) -> None:
        """Delete an entry, pinned or not, with its image; `on_evicted` is not told.

        Raises:
            EntryNotFoundError: No entry of that id.
        """
        with self._writing() as write:
            if not self._has(cache_id):
                raise self._no_entry(cache_id)
            write.remove([cache_id])
        self._finish(write)

    def clear(self, *, keep_pinned: bool = False) -> None:
        """Delete all entries and their images; `on_evicted` is not told. Their ids are not used again."""
        with self._writing() as write:
            briefs = self._mirror.briefs.values()
            write.remove([brief.cache_id for brief in briefs if not (keep_pinned and brief.pinned)])
        self._finish(write)

    def pin(self, cache_id: str) -> None:
        """Keep an entry from eviction; raises EntryNotFoundError."""
        self._set_pin(cache_id, True)

    def unpin(self, cache_id: str) -> None:
        """Let eviction take an entry again; raises EntryNotFoundError."""
        self._set_pin(cache_id, False)

    def _set_pin(self, cache_id: str, pinned: bool) -> None:
        with self._writing() as write:
            if not self._has(cache_id):
                raise self._no_entry(cache_id)
            write.index.pin(cache_id, pinned)
            write.pin = (cache_id, pinned)

    def set_embeddings(
        self, vectors: Mapping[str, ArrayLike | None], *, encoder: str | None = None
    ) -> list[str]:
        """Replace the vectors of entries, in one write; when this returns, they are on the disk.

        What another program wrote in the place of a vector (a mapping, numbers of double precision) is
        replaced too. Sets that `embeddings` handed out before stay as they are.

        Args:
            vectors: Id to ``(d,)`` numbers, normalised to unit length; None takes the vector away.
            encoder: Name of the encoder that made them; not needed for vectors that carry its stamp.

        Returns:
            The ids that were there, in the order given; the others are passed over.

        Raises:
            EmbeddingError: NaN, infinity, zero, or not as long as the other vectors of its encoder.
            EncoderMismatchError: A vector carries another stamp than ``encoder``.
            InputError: The encoder's name is not text, or ``vectors`` is no mapping.
            StorageError: The disk refused.

            After any of them the cache is as it was.
        """
        if not isinstance(vectors, Mapping):
            raise InputError(f"vectors must be a mapping of ids to vectors, got {type(vectors).__name__}")
        checked = {cache_id: check_vector(vector, encoder) for cache_id, vector in vectors.items()}
        with self._writing() as write:
            known = {each: vector for each, vector in checked.items() if each in self._mirror.briefs}
            self._check_spaces([vector for vector in known.values() if vector is not None])
            write.embed(known)
        return list(known)

    def flush(self) -> None:
        """Write what is not on the disk yet: the last uses. Entries always are."""
        with self._lock:
            self._look()
            if self._mirror.uses or self._deleted:
                with self._writing():
                    pass

    def check(self, fix: bool = False) -> CheckReport:
        """Compare index and files; report every disagreement.

        Args:
            fix: Also repair. Files are moved aside into ``lost+found/``, records into a file beside
                the index; nothing is deleted and no sound entry is touched.
        """
        with self._lock:
            self._check_open()
            with contextlib.suppress(CacheError):  # a damaged or read-only index can be checked all the same
                self.flush()
            report = check_cache(
                self.cache_dir, fix=fix, kind=self._kind, shown=self._shown, lock_timeout=self._lock_timeout
            )
            if report.fixed:
                self._index.close()  # a damaged database was replaced by a new file
                self._open_again()
            return report

    def close(self) -> None:
        """Let go of the files; calling it twice is fine. Last uses that cannot be written are dropped."""
        with self._lock:
            if self._closed:
                return
            try:
                with contextlib.suppress(CacheError):
                    self.flush()
            finally:
                self._closed = True
                self._index.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{len(self._mirror.briefs)} entries"
        return f"CacheManager({self._shown!r}, max_size={self.max_size}, index={self._kind!r}: {state})"

    def _after_fork(self) -> None:
        self._rng = np.random.default_rng(self._rng.integers(2**63) + os.getpid())
        super()._after_fork()
