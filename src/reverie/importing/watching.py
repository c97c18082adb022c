"""Folders watched for what appears in them: each picture is taken once it is complete."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from reverie.cache.manager import CacheManager
from reverie.errors import InputError, MissingDependencyError
from reverie.importing.folders import Folders
from reverie.importing.job import Importing
from reverie.importing.report import ImportReport
from reverie.memory import ImageMemory

__all__ = ["SETTLED", "Inbox", "Watching", "polled", "watch_folder"]

SETTLED = 1.0
"""Seconds without a change after which a file counts as complete, where nothing says that it is."""

_LOOK = 0.25  # seconds at most between two looks at the stop event, which wakes nobody
_INSTALL = 'watching needs watchdog: pip install "reverie[watch]". --poll (poll=2) works without it'

_State: TypeAlias = tuple[int, int]  # bytes, and the time of the last write


class Inbox:
    """What was heard of since it was last emptied; one thread empties it, any may fill it."""

    def __init__(self) -> None:
        self._heard: dict[Path, bool] = {}
        self._news = threading.Condition()

    def note(self, path: Path, complete: bool) -> None:
        """A file or folder came or changed; ``complete``: whoever wrote it is done with it."""
        with self._news:
            self._heard[path] = complete
            self._news.notify()

    def take(self, seconds: float) -> dict[Path, bool]:
        """All that was heard of; waits for the first, but no longer than that."""
        with self._news:
            self._news.wait_for(lambda: self._heard, seconds)
            heard, self._heard = self._heard, {}
            return heard


@dataclass(slots=True)
class _Waiting:
    """A picture that may not be complete yet.

    Attributes:
        state: As it was last seen.
        since: When it was first seen so.
        complete: Whether whoever wrote it is done with it, as far as one was told.
    """

    state: _State
    since: float
    complete: bool


class Watching:
    """Imports what is in some folders, then what appears there, until it is stopped.

    A picture is taken when its writer closed it or moved it there, or when it did not change for a second; it
    must then decode wholly. One that does not is tried again a second later, and whenever it changes.
    What is deleted or moved away stays in the memory.

    Args:
        job: What imports; its ``stop`` ends the watching, too.
        poll: Look at the folders every so many seconds, for file systems that tell of no change (network
            drives); None: be told by the system.
        settled: Seconds without a change after which a file counts as complete.
        clock: Seconds; only differences count.
        ready: Called when the folders are watched and what was there is imported.

    Raises:
        InputError: ``poll`` or ``settled`` is not above 0.
    """

    def __init__(
        self,
        job: Importing,
        *,
        poll: float | None = None,
        settled: float = SETTLED,
        clock: Callable[[], float] = time.monotonic,
        ready: Callable[[], None] | None = None,
    ) -> None:
        for name, value in (("poll", poll), ("settled", settled)):
            if value is not None and not value > 0:
                raise InputError(f"{name} is a number of seconds above 0, got {value!r}")
        self._job = job
        self._poll = poll
        self._settled = settled
        self._clock = clock
        self._ready = ready
        self._inbox = Inbox()
        self._waiting: dict[Path, _Waiting] = {}

    def run(self) -> ImportReport:
        """Import and watch until ``stop`` is set; raises what `watch_folder` does."""
        with self._told():  # before the first look: nothing falls between the two
            self._job.run()
            if self._ready is not None:
                self._ready()
            while not self._job.stop.is_set():
                self._hear(self._inbox.take(self._pause()))
                self._import()
        return self._job.report

    def _told(self) -> AbstractContextManager[None]:
        folders = self._job.folders
        if self._poll is not None:
            return polled(folders, self._inbox.note, self._poll)
        try:
            from reverie.importing.events import notified  # noqa: PLC0415 - watchdog is an extra
        except ImportError as exc:
            raise MissingDependencyError(_INSTALL) from exc
        return notified(folders.roots, self._inbox.note)

    def _pause(self) -> float:
        """Seconds until the next picture may be complete."""
        now = self._clock()
        due = (each.since + self._settled - now for each in self._waiting.values())
        return max(0.0, min([_LOOK, *due]))

    def _hear(self, heard: dict[Path, bool]) -> None:
        for path, complete in heard.items():
            if not self._job.folders.cover(path):
                continue
            if path.is_dir():
                for picture in self._job.folders.below(path):
                    self._await(picture, False)
            elif self._job.folders.is_picture(path):
                self._await(path, complete)

    def _await(self, path: Path, complete: bool) -> None:
        state = _state(path)
        if state is not None:
            self._waiting[path] = _Waiting(state, self._clock(), complete)

    def _import(self) -> None:
        """Take what is complete; what then does not decode is given a second more, once."""
        due = sorted(path for path in list(self._waiting) if self._is_complete(path))
        if not due:
            return
        taken = {path: self._waiting.pop(path) for path in due}
        for path in self._job.take(due):
            if taken[path].complete:
                self._await(path, False)

    def _is_complete(self, path: Path) -> bool:
        waiting, state = self._waiting[path], _state(path)
        if state is None:
            del self._waiting[path]  # deleted or moved on: another note tells where to
            return False
        if state != waiting.state:
            waiting.state, waiting.since = state, self._clock()
        return waiting.complete or self._clock() - waiting.since >= self._settled


def _state(path: Path) -> _State | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_size, stat.st_mtime_ns


@contextmanager
def polled(folders: Folders, note: Callable[[Path, bool], None], seconds: float) -> Iterator[None]:
    """Look at the pictures of folders again and again while the block lasts; tell of new and changed ones."""
    end = threading.Event()
    before = _snapshot(folders)
    thread = threading.Thread(
        target=_look_again, args=(folders, note, seconds, end, before), name="reverie-poll", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


def _look_again(
    folders: Folders,
    note: Callable[[Path, bool], None],
    seconds: float,
    end: threading.Event,
    before: dict[Path, _State | None],
) -> None:
    while not end.wait(seconds):
        now = _snapshot(folders)
        for path, state in now.items():
            if state != before.get(path):
                note(path, False)
        before = now


def _snapshot(folders: Folders) -> dict[Path, _State | None]:
    return {path: _state(path) for path in folders.pictures()}


def watch_folder(
    memory: ImageMemory | CacheManager,
    folders: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    stop: threading.Event,
    poll: float | None = None,
    **how: Any,
) -> ImportReport:
    """Take all pictures of some folders into a memory, then those that appear there, until it is stopped.

    Args:
        memory: As for `import_folder`.
        folders: As for `import_folder`.
        stop: Ends it when it is set.
        poll: As for `Watching`.
        **how: Further arguments of `import_folder`.

    Raises:
        MissingDependencyError: watchdog is not installed; ``poll`` needs none.
        StorageError: The system cannot watch the folders.

        And what `import_folder` raises.
    """
    return Watching(Importing(memory, folders, stop=stop, **how), poll=poll).run()
