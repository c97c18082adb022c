"""What `CacheManager` does to the disk: entries stored, several calls in one commit, and room made for them.

An `add` goes in an order that a crash cannot break: the image is checked and written under a temporary name;
then, holding the one writer's place among all threads and processes, it gets its id and its name and is
flushed to the disk; then its row is committed together with the evictions it causes; only then are evicted
files deleted.
"""

from __future__ import annotations

import contextlib
import os
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count
from typing import Any

from reverie.cache.adding import Adding, Arrivals, Item
from reverie.cache.flushing import Flusher
from reverie.cache.limits import Limits
from reverie.cache.reading import Reading
from reverie.cache.write import Write
from reverie.entry import CacheEntry, Record
from reverie.errors import (
    CacheError,
    CacheFullError,
    ImageBatchError,
    ImageError,
    InputError,
    ReverieError,
    StorageError,
)
from reverie.protocols import Staged

__all__ = ["AT_ONCE", "Storing"]

AT_ONCE = 1000
"""Entries that one write removes where many have to go: nobody waits for more than that."""


class Storing(Reading):
    """The part of `CacheManager` that writes entries and evicts them.

    Args:
        *arguments: Those of `Reading`.
        limits: How much it may hold.
        used_up: No entry gets this number or a lower one.
        **options: Further arguments of `Reading`.
    """

    def __init__(self, *arguments: Any, limits: Limits, used_up: int, **options: Any) -> None:
        self._limits = limits
        self._used_up = used_up
        self._lowered = False  # whether a limit was lowered since the last add
        self._arrivals = Arrivals()
        self._unsure: dict[str, str] = {}  # images, with ids, whose rows a failed commit may have left
        self._flusher: Flusher | None = None
        self.on_added: list[Callable[[CacheEntry], None]] = []
        self.on_evicted: list[Callable[[CacheEntry], None]] = []
        super().__init__(*arguments, **options)

    def _open(self) -> None:
        super()._open()
        if not self._durable:
            own = weakref.ref(self)  # its thread must not keep a forgotten cache open
            self._flusher = Flusher(self._images, self._index, lambda names: _note_deleted(own(), names))

    def _renew_locks(self) -> None:
        super()._renew_locks()
        self._arrivals = Arrivals()

    # ------------------------------------------------------------------ adding

    def _add(self, items: Sequence[Item]) -> list[str]:
        """Store checked entries, all or none; their ids."""
        self._check_background()
        if self._lowered:
            self._lowered = False
            self._enforce_max_size()
        adding = Adding(items, self._stage(items))
        self._arrivals.join(adding)
        try:
            self._store_arrivals(adding)
        except BaseException:
            if self._arrivals.leave(adding):
                self._discard(adding)
            raise
        if adding.error is not None:
            raise adding.error
        self._tell(adding)
        return [record.cache_id for record in adding.records]

    def _check_background(self) -> None:
        """Raise, once, what went wrong in the background."""
        if self._flusher is not None:
            self._flusher.check()

    def _store_arrivals(self, own: Adding | None = None) -> None:
        """Store all that wait, unless the own one was taken along by another thread."""
        group: list[Adding] = []
        with self._turn:
            if own is None or not own.done:
                group = self._arrivals.take()
                try:
                    if group:
                        self._store(group)
                finally:
                    self._arrivals.stored()
        for adding in group:
            if adding.promised and adding.done and adding.error is None:  # nobody waits for it
                self._tell(adding)

    def _stage(self, items: Sequence[Item]) -> list[Staged]:
        """Check images and write them under temporary names, all or none."""
        if len(items) == 1:
            return [self._images.stage(items[0].image, items[0].texts())]
        with ThreadPoolExecutor(os.cpu_count(), "reverie-stage") as pool:
            waiting = [pool.submit(self._images.stage, item.image, item.texts()) for item in items]
        failures = {place: each.exception() for place, each in enumerate(waiting) if each.exception()}
        if not failures:
            return [each.result() for each in waiting]
        sound = [place for place in range(len(items)) if place not in failures]
        for place in sound:
            self._images.discard(waiting[place].result())
        broken = {place: exc for place, exc in failures.items() if isinstance(exc, ImageError)}
        for exc in failures.values():
            if exc is not None and not isinstance(exc, ImageError):
                raise exc
        place, first = next(iter(broken.items()))
        raise ImageBatchError(
            f"{len(broken)} of {len(items)} images cannot be used, the first at place {place}: {first}",
            broken,
            sound,
            None,
        )

    def _store(self, group: Sequence[Adding]) -> None:
        """Store what several calls add, in one commit; each is told what became of it."""
        try:
            with self._writing() as write:
                for adding in group:
                    if adding.error is None:
                        self._put(write, adding)
                self._commit_images(group)
        except BaseException as exc:
            self._take_back(group)
            for adding in group:
                if adding.error is None:
                    adding.error = exc if isinstance(exc, ReverieError) else _interrupted(exc)
            if not isinstance(exc, ReverieError):
                raise
        else:
            self._delete(write)
        finally:
            for adding in group:
                adding.done = True

    def _put(self, write: Write, adding: Adding) -> None:
        """The rows of one call; where they cannot be, its error."""
        try:
            with write.attempt():
                self._check_spaces(write, [item.vector for item in adding.items if item.vector is not None])
                for place, (item, staged) in enumerate(zip(adding.items, adding.staged, strict=True)):
                    known = adding.promised[place] if adding.promised else None
                    number, cache_id = known or self._new_id(write, staged.suffix)
                    vector = write.stored(item.vector)
                    record = item.record(number, cache_id, staged, self._now(), vector)
                    if known and self._is_foreign(record.image_name):
                        record = self._renamed(record)
                    self._evict(write, adding, record)
                    write.put(record)
                    with self._lock:
                        self._evictions.expect(record)
                    adding.records.append(record)
        except (InputError, CacheFullError) as exc:
            adding.error = exc
            with self._lock:
                self._evictions.undo()
            self._discard(adding)

    def _new_id(self, write: Write, suffix: str) -> tuple[int, str]:
        while True:
            number, cache_id = self._new_number(write)
            if not self._images.exists(cache_id + suffix):
                return number, cache_id

    def _is_foreign(self, image_name: str) -> bool:
        """Whether a file has that name that no commit of ours may have left."""
        return image_name not in self._unsure and self._images.exists(image_name)

    def _renamed(self, record: Record) -> Record:
        """With another name for its image: its id was given out before somebody else's file had the name."""
        suffix = record.image_name.removeprefix(record.cache_id)
        names = (f"{record.cache_id}_{number}{suffix}" for number in count(1))
        return replace(record, image_name=next(name for name in names if not self._is_foreign(name)))

    def _new_number(self, write: Write) -> tuple[int, str]:
        """A number with its id, which no entry has."""
        while True:
            number = write.index.next_number()
            cache_id = f"cache_{number:05d}"
            if number > self._used_up and not write.index.find([cache_id]):
                return number, cache_id

    def _commit_images(self, group: Sequence[Adding]) -> None:
        """After the rows are put, before they are committed: the disk was still writing the images."""
        stored = [adding for adding in group if adding.error is None]
        named = [
            (staged, record.image_name)
            for adding in stored
            for staged, record in zip(adding.staged, adding.records, strict=True)
        ]
        self._images.commit(named, durable=self._durable, over=self._unsure)
        for adding in stored:
            adding.named = True

    def _take_back(self, group: Sequence[Adding]) -> None:
        """After a failed commit: leave no file behind, unless its row did reach the disk, or may have."""
        for adding in group:
            self._discard(adding)
        records = [record for adding in group if adding.named for record in adding.records]
        if records:
            self._unsure.update({each.image_name: each.cache_id for each in records})
            with self._lock, contextlib.suppress(CacheError):
                self._absorb(self._index.poll())
                if self._index.settle():
                    self._delete_unsure()

    def _delete_unsure(self) -> None:
        """Nothing of a commit that failed can come back any more: the images go whose rows are not there."""
        there = {brief.cache_id for brief in self._index.find(list(self._unsure.values()))}
        self._images.delete([name for name, cache_id in self._unsure.items() if cache_id not in there])
        self._unsure.clear()

    def _discard(self, adding: Adding) -> None:
        for staged in adding.staged:
            self._images.discard(staged)

    def _delete(self, write: Write) -> None:
        """After a commit: delete the files that no entry has any more."""
        if self._unsure:
            with self._lock, contextlib.suppress(CacheError):
                self._delete_unsure()
        if self._flusher is not None:
            self._flusher.note((record.image_name for record in write.added), write.trash)
            return
        with contextlib.suppress(StorageError):  # they stay listed as trash and are tried again
            self._images.delete(write.trash)
            with self._lock:
                self._deleted.extend(write.trash)

    def _tell(self, adding: Adding) -> None:
        """Call the listeners: what was added, then what went for it."""
        for record in adding.records if self.on_added else ():
            entry = record.entry(self._images.root / record.image_name)
            for listener in self.on_added:
                listener(entry)
        self._tell_evicted(adding.evicted)

    def _tell_evicted(self, evicted: Sequence[CacheEntry]) -> None:
        for entry in evicted:
            for listener in self.on_evicted:
                listener(entry)

    # ------------------------------------------------------------------ eviction

    def _enforce_max_size(self) -> None:
        """Evict until the limits hold (the specification's step 5; also on opening).

        In parts, so that whoever reads or writes meanwhile waits for a part only.
        """
        more = True
        while more:
            with self._writing() as write:
                with self._lock:
                    victims = self._limits.victims(write, self._evictions, limit=AT_ONCE)
                evicted = self._entries(write, victims) if self.on_evicted else []
                write.remove(victims)
                more = len(victims) == AT_ONCE
            self._delete(write)
            self._tell_evicted(evicted)

    def _evict(self, write: Write, adding: Adding, record: Record) -> None:
        with self._lock:
            victims = self._limits.victims(write, self._evictions, record)
            self._evictions.discard(victims)
        if victims and self.on_evicted:
            adding.evicted += self._entries(write, victims)
        write.remove(victims)

    def _entries(self, write: Write, cache_ids: Sequence[str]) -> list[CacheEntry]:
        """Entries that are about to go, those of this write among them."""
        with self._lock:
            known = {entry.cache_id: entry for entry in self._mirror.entries(cache_ids)}
        known.update({each.cache_id: each.entry(self._images.root / each.image_name) for each in write.added})
        return [known[cache_id] for cache_id in cache_ids if cache_id in known]


def _note_deleted(storing: Storing | None, image_names: Sequence[str]) -> None:
    if storing is not None:
        with storing._lock:
            storing._deleted.extend(image_names)


def _interrupted(exc: BaseException) -> StorageError:
    return StorageError(
        f"the thread that wrote for several was interrupted ({type(exc).__name__}): add again. "
        "Nothing was changed"
    )
