"""Bringing to the disk what was stored without waiting for it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Sequence

from reverie.cache.background import Background
from reverie.errors import StorageError
from reverie.protocols import ImageStore, IndexBackend

__all__ = ["WINDOW", "Flusher"]

WINDOW = 0.25
"""Seconds from an add to the flush that it waits for: with what the disk takes, what a power cut may lose."""


class Flusher:
    """Waits for the disk in a thread of its own, so that who stores need not.

    Images come to the disk before the rows that name them are waited for; files that no entry has any more
    are deleted when that is on the disk, too. A failure is told to whoever stores next: what was stored since
    may not be on the disk.

    Args:
        images: Where the images are.
        index: Where the rows are.
        deleted: Called with the names of files that were deleted, in the thread that did it.
    """

    def __init__(
        self, images: ImageStore, index: IndexBackend, deleted: Callable[[Sequence[str]], None]
    ) -> None:
        self._images = images
        self._index = index
        self._deleted = deleted
        self._lock = threading.Lock()  # of what is to be flushed
        self._flushing = threading.Lock()  # of the flush that goes on
        self._names: list[str] = []
        self._waste: dict[str, None] = {}
        self._pending = False
        self._failure: StorageError | None = None
        self._thread = Background(self, "reverie-flusher", lambda: WINDOW)

    def note(self, image_names: Iterable[str], waste: Iterable[str]) -> None:
        """A commit was made: these images and its rows are to be flushed, then the waste is to be deleted."""
        with self._lock:
            self._names.extend(image_names)
            self._waste.update(dict.fromkeys(waste))
            self._pending = True
        self._thread.wake(self._flush_later)

    def _flush_later(self) -> None:
        try:
            self.flush()
        except StorageError as exc:
            self._failure = exc

    def check(self) -> None:
        """Raise StorageError, once, when a flush in the background failed."""
        failure, self._failure = self._failure, None
        if failure is not None:
            raise StorageError(
                f"what was stored last may not be on the disk: {failure}. It is tried again at the next flush"
            ) from failure

    def flush(self) -> None:
        """Wait until everything noted so far is on the disk.

        Raises:
            StorageError: The disk refused; it is tried again at the next flush.
        """
        with self._flushing:
            with self._lock:
                names, self._names = self._names, []
                waste, self._waste = list(self._waste), {}
                pending, self._pending = self._pending, False
            if not pending:
                return
            try:
                self._images.flush(names)
                self._index.flush()
            except BaseException:
                with self._lock:
                    self._names = names + self._names
                    self._pending = True
                raise
            with contextlib.suppress(StorageError):  # they stay listed as trash and are tried again
                self._images.delete(waste)
                self._deleted(waste)

    def stop(self) -> None:
        """End the thread; what it has to flush, it flushes before."""
        self._thread.stop()
