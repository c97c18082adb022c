"""CacheManager: stores generated images with what is known about them, and gives them back.

The specification's repository, and the only writer of a cache folder. What `add` returned is on the disk,
unless the cache was opened with ``durability="batched"``.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from numpy.typing import ArrayLike

from reverie.cache.adding import Item, NewEntry
from reverie.cache.check import CheckReport, check_cache
from reverie.cache.folder import check_folder, make_folders
from reverie.cache.limits import Limits
from reverie.cache.lost import highest_number, note_lost
from reverie.cache.settings import (
    Durability,
    check_count,
    check_durability,
    check_eviction,
    check_limit,
    check_text,
    check_timeout,
    check_vector,
    check_vector_type,
    choose_index,
    make_rng,
    read_config,
)
from reverie.cache.storing import AT_ONCE
from reverie.cache.write_behind import WriteBehind
from reverie.entry import CacheEntry
from reverie.errors import CacheError, InputError, StorageError
from reverie.half import VectorType
from reverie.pixels import ImageLike

__all__ = ["CacheManager"]


class CacheManager(WriteBehind):
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
        durability: ``full``: what `add` returned is on the disk. ``batched``: an `add` of one checked image
            returns at once and a thread stores it. Whoever looks through this object finds it; other
            processes see it a moment later. When the process is killed, what its thread had not stored yet
            is lost: a few frames, 64 at most; a power cut may take the last half second, and leave rows of
            it without their image. `flush` and `close` wait for the disk. What could not be stored is
            raised by the next `add`, change, `flush` or `close`, and tried again.
        vectors: As what the numbers of embeddings are kept: ``float32`` or ``float16``, which takes half the
            room and rounds them once, when they are added. It is chosen when the cache is made; None takes
            it as it is, a new one as float32. `reverie.cache.convert` changes it.
        on_added: Functions for the list of that name.
        on_evicted: Functions for the list of that name; the only way to hear of evictions on opening.

    Attributes:
        cache_dir: The folder, absolute.
        image_dir: Its ``images/``.
        metadata_dir: Its ``metadata/``.
        on_added: Functions called with each `CacheEntry` that `add` of this object stored; with
            ``durability="batched"`` often in another thread.
        on_evicted: Functions called with each `CacheEntry` that eviction by this object took: in an `add`, or
            on opening past a limit. Its image is gone by then. Neither `remove` nor `clear` is an eviction.

    Raises:
        ConfigError: A configuration without its keys, a value of a wrong type, an index kind that
            contradicts the disk, or vectors kept otherwise than asked.
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
        durability: Durability = "full",
        vectors: VectorType | None = None,
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
        rng = make_rng(seed)
        check_timeout(lock_timeout)
        check_durability(durability)
        check_vector_type(vectors)
        options = check_eviction(eviction, eviction_options)
        kind = choose_index(self.metadata_dir, index, max_size, vectors)
        make_folders(self.image_dir, self.metadata_dir)
        super().__init__(
            kind,
            self.cache_dir,
            rng,
            limits=Limits(max_size, max_bytes, protect_recent),
            used_up=highest_number(note_lost(self.cache_dir, kind, lock_timeout)),
            shown=shown,
            eviction=eviction,
            eviction_options=options,
            lock_timeout=lock_timeout,
            durable=durability == "full",
            vectors=vectors,
        )
        self.on_added.extend(on_added)
        self.on_evicted.extend(on_evicted)
        if max(self._limits.surplus(self._index)) > 0:
            with contextlib.suppress(StorageError):  # a read-only cache can still be looked at
                self._enforce_max_size()

    @property
    def max_size(self) -> int | None:
        """Most entries it holds; None is unbounded. A lower one than before holds from the next `add` on."""
        return self._limits.max_size

    @max_size.setter
    def max_size(self, value: int | None) -> None:
        check_limit("max_size", value)
        self._limits, self._lowered = replace(self._limits, max_size=value), True

    @property
    def max_bytes(self) -> int | None:
        """Most bytes its images take; None is unbounded. A lower one holds from the next `add` on."""
        return self._limits.max_bytes

    @max_bytes.setter
    def max_bytes(self, value: int | None) -> None:
        check_limit("max_bytes", value)
        self._limits, self._lowered = replace(self._limits, max_bytes=value), True

    @property
    def protect_recent(self) -> int:
        """How many of the newest entries are evicted only when nothing else can be."""
        return self._limits.recent

    @protect_recent.setter
    def protect_recent(self, value: int) -> None:
        check_count("protect_recent", value)
        self._limits = replace(self._limits, recent=value)

    @property
    def durability(self) -> Durability:
        """``full`` or ``batched``."""
        return "full" if self._durable else "batched"

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
                uint8 array (stored as PNG). `reverie.pixels.ImageFile` is a path that can be linked.
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
        new = NewEntry(image_path, prompt, generation_params, embedding, encoder, parents, pinned)
        return self._add_one(Item.of(new, alone=True))

    def add_many(self, entries: Iterable[NewEntry]) -> list[str]:
        """Store several images in one commit, or none of them; when this returns, they are on the disk.

        Images are checked and written on all cores. Threads that add at the same time share a commit, too.

        Args:
            entries: What `add` takes, each as one value.

        Returns:
            Their ids, in order.

        Raises:
            ImageBatchError: Some of the images cannot be used; its ``failures`` say which.

            And what `add` raises. After any of them the cache is as it was.
        """
        return self._add([Item.of(new) for new in entries])

    # ------------------------------------------------------------------ eviction

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
            self._limits = replace(self._limits, elite=elite)

    # ------------------------------------------------------------------ changing

    def remove(self, cache_id: str) -> None:
        """Delete an entry, pinned or not, with its image; `on_evicted` is not told.

        Raises:
            EntryNotFoundError: No entry of that id.
        """
        self._check_id(cache_id)
        with self._changing() as write:
            if not write.index.find([cache_id]):
                raise self._no_entry(cache_id)
            write.remove([cache_id])
        self._delete(write)

    def clear(self, *, keep_pinned: bool = False) -> None:
        """Delete all entries and their images; `on_evicted` is not told. Their ids are not used again."""
        last, end = 0, self._newest()
        while last < end:  # in parts: whoever reads meanwhile waits for a part only
            with self._changing() as write:
                briefs = write.index.briefs(after=last, limit=AT_ONCE)
                going = [brief for brief in briefs if brief.number <= end]
                write.remove([brief.cache_id for brief in going if not (keep_pinned and brief.pinned)])
                last = briefs[-1].number if briefs else end
            self._delete(write)

    def pin(self, cache_id: str) -> None:
        """Keep an entry from eviction; raises EntryNotFoundError."""
        self._set_pin(cache_id, True)

    def unpin(self, cache_id: str) -> None:
        """Let eviction take an entry again; raises EntryNotFoundError."""
        self._set_pin(cache_id, False)

    def _set_pin(self, cache_id: str, pinned: bool) -> None:
        self._check_id(cache_id)
        with self._changing() as write:
            if not write.index.find([cache_id]):
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
        with self._changing() as write:
            there = {brief.cache_id for brief in write.index.find(list(checked))}
            known = {each: vector for each, vector in checked.items() if each in there}
            self._check_spaces(write, [vector for vector in known.values() if vector is not None])
            write.embed(known)
        return list(known)

    def flush(self) -> None:
        """Write what is not on the disk yet: last uses and, with ``durability="batched"``, the last adds.

        Raises:
            StorageError: The disk refused.
        """
        self._settle()
        self._write_uses()
        if self._flusher is not None:
            self._flusher.flush()

    def _write_uses(self) -> None:
        with self._seeing():
            unwritten = self._mirror.uses or self._deleted
        if unwritten:
            with self._writing():
                pass

    def check(self, fix: bool = False) -> CheckReport:
        """Compare index and files; report every disagreement.

        Args:
            fix: Also repair. Files are moved aside into ``lost+found/``, records into a file beside
                the index; nothing is deleted and no sound entry is touched.
        """
        with self._turn:
            self._check_open()
            with contextlib.suppress(CacheError):  # a damaged or read-only index can be checked all the same
                self._write_uses()
                if self._flusher is not None:
                    self._flusher.flush()  # not under the lock: its thread asks for that while it flushes
            with self._lock:
                report = check_cache(
                    self.cache_dir,
                    fix=fix,
                    kind=self._kind,
                    shown=self._shown,
                    lock_timeout=self._lock_timeout,
                )
                if report.fixed:
                    self._index.close()  # a damaged database was replaced by a new file
                    self._open_again()
                return report

    def close(self) -> None:
        """Let go of the files; calling it twice is fine. Last uses that cannot be written are dropped.

        Raises:
            StorageError: With ``durability="batched"``: the last adds may not be on the disk.
        """
        self._writer.stop()
        with self._turn:
            if self._closed:
                return
            try:
                with contextlib.suppress(CacheError):
                    self._write_uses()
                self._give_back_numbers()
                self._finish()
            finally:
                with self._lock:
                    self._closed = True
                    self._mirror.keep_vectors(last=True)
                    self._index.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{self._index.count()} entries"
        return f"CacheManager({self._shown!r}, max_size={self.max_size}, index={self._kind!r}: {state})"
