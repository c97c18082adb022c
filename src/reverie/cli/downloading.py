"""How a download goes: a bar with rate and time left in a terminal, a line a file elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from reverie.cli.output import console, note, size
from reverie.models.progress import Arrived, reporting

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

__all__ = ["downloads"]


@contextmanager
def downloads() -> Iterator[None]:
    """Show on standard error how the downloads inside the block go; nothing when there are none."""
    screen = console(stderr=True)
    if screen.is_terminal and not screen.is_dumb_terminal:
        with _bars(screen) as tell, reporting(tell):
            yield
    else:
        with reporting(_Lines()):
            yield


@contextmanager
def _bars(screen: Console) -> Iterator[Callable[[Arrived], None]]:
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    progress = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=16, complete_style="none"),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(compact=True),
        console=screen,
    )
    tasks: dict[str, TaskID] = {}

    def tell(arrived: Arrived) -> None:
        if arrived.file not in tasks:
            tasks[arrived.file] = progress.add_task(
                arrived.file.rpartition("/")[2], total=arrived.total, completed=arrived.done
            )
        progress.update(tasks[arrived.file], completed=arrived.done)

    with progress:
        yield tell


class _Lines:
    """A line when a file is complete."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def __call__(self, arrived: Arrived) -> None:
        if arrived.done == arrived.total and arrived.file not in self._told:
            self._told.add(arrived.file)
            note(f"downloaded {arrived.file} of {arrived.repo}, {size(arrived.total)}")
