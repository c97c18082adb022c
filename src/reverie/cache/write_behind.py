"""Adds that nobody waits for: taken into memory, and stored by a thread of their own.

An image is checked when it is added, and its entry has its id from then on. Whoever looks at the cache finds
it: what was taken in is stored before anything is read or changed.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from reverie.cache.adding import Adding, Item
from reverie.cache.background import Background
from reverie.cache.storing import Storing
from reverie.cache.write import Write
from reverie.errors import CacheError, ReverieError, StorageError
from reverie.pixels import ImageFile

__all__ = ["WriteBehind"]

_NUMBERS = 32  # taken from the index at once, when half of them are left
_SEEN = (".png", ".jpg", ".webp")  # names of a number that are looked at when it is taken
_WAITING = 64  # entries that wait at most, and
_WAITING_BYTES = 2**26  # bytes of their images


class WriteBehind(Storing):
    """The part of `CacheManager` that stores a moment later with ``durability="batched"``.

    Args:
        *arguments: Those of `Storing`.
        **options: Further arguments of `Storing`.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._stuck = False  # what waits could not be stored: whoever reads does not try it again
        self._failures: list[ReverieError] = []  # in the background, told to nobody yet
        super().__init__(*arguments, **options)

    def _open(self) -> None:
        super()._open()
        self._writer = Background(self, "reverie-writer")
        self._numbers: deque[tuple[int, str]] = deque()  # with their ids; no entry has them yet

    # ------------------------------------------------------------------ taking in

    def _add_one(self, item: Item) -> str:
        """Take an entry into memory, or store it; its id."""
        if self._durable:
            return self._add([item])[0]
        self._check_open()
        if self._arrivals.much(_WAITING, _WAITING_BYTES):
            self._catch_up()
        self._check_background()
        if self._lowered or (isinstance(item.image, ImageFile) and item.image.link):
            return self._add([item])[0]
        taken = self._images.take(item.image)
        item.image = taken.image
        if not self._will_fit(item, taken.byte_size):
            return self._add([item])[0]
        number, cache_id = self._promise(taken.suffix)
        self._arrivals.join(Adding([item], promised=[(number, cache_id)], byte_size=taken.byte_size))
        self._writer.wake(self._catch_up)
        return cache_id

    def _will_fit(self, item: Item, byte_size: int) -> bool:
        """Whether storing it can fail for no other reason than the disk."""
        vector = item.vector
        if item.pinned or (vector is not None and (vector.encoder, vector.size) not in self._spaces):
            return False
        with self._lock:
            return self._limits.hold(self._index, byte_size)

    def _promise(self, suffix: str) -> tuple[int, str]:
        """A number and an id that nobody else gets."""
        while True:
            with self._lock:
                known = self._numbers.popleft() if self._numbers else None
            if known is None:
                self._take_numbers()
            elif suffix in _SEEN or not self._images.exists(known[1] + suffix):
                return known

    def _take_numbers(self) -> None:
        """Numbers for the next entries, without those whose names a file has that is not ours."""
        with self._writing() as write:
            taken = [super(WriteBehind, self)._new_number(write) for _ in range(_NUMBERS)]
        free = [each for each in taken if not any(self._images.exists(each[1] + suffix) for suffix in _SEEN)]
        with self._lock:
            self._numbers.extend(free)

    def _new_number(self, write: Write) -> tuple[int, str]:
        with self._lock:
            if self._numbers:
                return self._numbers.popleft()
        return super()._new_number(write)

    # ------------------------------------------------------------------ storing

    def _catch_up(self) -> None:
        if not self._durable and len(self._arrivals) and not self._stuck:
            self._store_arrivals()

    def _store(self, group: Sequence[Adding]) -> None:
        promised = [adding for adding in group if adding.promised]
        for adding in promised:
            try:
                adding.staged = self._stage(adding.items)
            except ReverieError as exc:
                adding.error = exc
        try:
            super()._store(group)
        finally:
            self._sort_out([adding for adding in promised if adding.error is not None])
        if promised and len(self._numbers) <= _NUMBERS // 2:
            with contextlib.suppress(ReverieError):  # whoever needs them is told
                self._take_numbers()  # here, where nobody waits

    def _sort_out(self, failed: Sequence[Adding]) -> None:
        """What the disk refused waits again; what can never be stored is given up."""
        kept = [adding for adding in failed if isinstance(adding.error, StorageError)]
        for adding in failed:
            exc, ids = adding.error, ", ".join(cache_id for _, cache_id in adding.promised)
            if isinstance(exc, ReverieError) and adding not in kept:
                self._failures.append(type(exc)(f"{ids}, added before, could not be stored: {exc}"))
        if kept:
            self._stuck = True
            failure = StorageError(
                f"{len(kept)} entries added before are not stored yet: {kept[0].error}. They are kept in "
                "memory and tried again at the next add, flush or close"
            )
            failure.__cause__ = kept[0].error
            self._failures.append(failure)
            self._arrivals.put_back([adding.anew() for adding in kept])

    def _check_background(self) -> None:
        """What waits is tried again from now on, too."""
        if self._stuck:
            self._stuck = False
            self._writer.wake(self._catch_up)
        with self._lock:
            failure = self._failures.pop(0) if self._failures else None
        if failure is not None:
            raise failure
        super()._check_background()

    @contextlib.contextmanager
    def _changing(self) -> Iterator[Write]:
        """What waits and could not be stored is tried again: a change may be about it."""
        if self._stuck:
            self._settle()
        with super()._changing() as write:
            yield write

    # ------------------------------------------------------------------ the end

    def _settle(self) -> None:
        """Store what waits; raises what went wrong."""
        self._stuck = False
        self._catch_up()
        with self._lock:
            failures, self._failures = self._failures, []
        if failures:
            raise failures[-1]

    def _finish(self) -> None:
        """Bring everything to the disk and end all threads; raises what could not be."""
        try:
            self._settle()
        except StorageError as exc:
            if not len(self._arrivals):
                raise
            ids = ", ".join(number[1] for each in self._arrivals.take() for number in each.promised)
            raise StorageError(f"{ids}, added last, could not be stored: {exc.__cause__}") from exc
        finally:
            if self._flusher is not None:
                self._flusher.stop()
        if self._flusher is not None:
            self._flusher.flush()

    def _give_back_numbers(self) -> None:
        """Those that no entry got are given out again, as far as no higher ones were."""
        unused = sorted(number for number, _ in self._numbers)
        self._numbers.clear()
        if unused:
            first = next(
                number
                for place, number in enumerate(unused)
                if unused[-1] - number == len(unused) - 1 - place
            )
            with contextlib.suppress(CacheError), self._writing() as write:
                write.index.give_back(range(first, unused[-1] + 1))
