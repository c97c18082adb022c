"""What the system tells of files in folders. Only this module imports watchdog."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from watchdog.events import (
    DirCreatedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer

from reverie.errors import StorageError

__all__ = ["Note", "notified"]

Note: TypeAlias = Callable[[Path, bool], None]
"""Told of a file or folder that came or changed, and whether whoever wrote it is done with it."""


@contextmanager
def notified(folders: Sequence[Path], note: Note) -> Iterator[None]:
    """Tell of what comes and changes below folders, in a thread of its own, while the block lasts.

    Raises:
        StorageError: The system cannot watch them.
    """
    # A folder made while its parent is walked is registered twice, which watchdog 7.1 warns of; no harm.
    warnings.filterwarnings("ignore", "Callback with id .* already exists for watch", RuntimeWarning)
    observer = Observer()
    try:
        for folder in folders:
            observer.schedule(_Handler(note), str(folder), recursive=True)
        observer.start()
    except OSError as exc:
        raise StorageError(
            f"the system cannot watch the folders ({exc.strerror or exc}): look at them every few seconds "
            "instead (--poll, poll=2)"
        ) from exc
    try:
        yield
    finally:
        observer.stop()
        observer.join()


class _Handler(FileSystemEventHandler):
    def __init__(self, note: Note) -> None:
        self._note = note

    def on_created(self, event: DirCreatedEvent | FileCreatedEvent) -> None:
        self._note(_path(event.src_path), False)

    def on_modified(self, event: object) -> None:
        if isinstance(event, FileModifiedEvent):
            self._note(_path(event.src_path), False)

    def on_closed(self, event: FileClosedEvent) -> None:
        self._note(_path(event.src_path), True)

    def on_moved(self, event: DirMovedEvent | FileMovedEvent) -> None:
        self._note(_path(event.dest_path), True)


def _path(name: str | bytes) -> Path:
    return Path(os.fsdecode(name))
