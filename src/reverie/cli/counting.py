"""How far a job is that counts: a bar in a terminal, a line every tenth elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

from reverie.cli.output import console, note
from reverie.cli.progress import clock_time

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Tell", "counted", "figures_bar"]

_QUIET = 2.0
"""Seconds in which a job may end without a line where no bar is shown."""

Tell: TypeAlias = Callable[[int, int], None]
"""Takes how many of how many are done."""


@contextmanager
def counted(doing: str, *, clock: Callable[[], float] = time.monotonic) -> Iterator[Tell]:
    """Show on standard error how far it is; gives what is called with how many of how many are done.

    Args:
        doing: What is going on, such as ``exporting``.
        clock: Seconds; only differences count.
    """
    screen = console(stderr=True)
    if screen.is_terminal and not screen.is_dumb_terminal:
        with _bar(screen, doing) as tell:
            yield tell
    else:
        yield _Lines(doing, clock)


@contextmanager
def _bar(screen: Console, doing: str) -> Iterator[Tell]:
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=16, complete_style="none"),
        TaskProgressColumn(),
        TimeRemainingColumn(compact=True),
        console=screen,
        transient=True,
    )
    task = bar.add_task(doing, total=None)
    with bar:
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def figures_bar(screen: Console, doing: str) -> Iterator[Callable[[int, int, str], None]]:
    """A bar that stays, beside figures of the job's own; gives what takes done, total and figures.

    Args:
        screen: A terminal.
        doing: What is going on, such as ``importing``.
    """
    from rich.progress import BarColumn, Progress, TextColumn

    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=16, complete_style="none"),
        TextColumn("{task.fields[figures]}", markup=False),
        console=screen,
    )
    task = bar.add_task(doing, total=None, figures="")
    with bar:
        yield lambda done, total, figures: bar.update(task, completed=done, total=total, figures=figures)


class _Lines:
    """A line each time that another tenth is complete, once it takes longer than a moment."""

    def __init__(self, doing: str, clock: Callable[[], float]) -> None:
        self._doing, self._clock = doing, clock
        self._began = clock()
        self._tenth = 0

    def __call__(self, done: int, total: int) -> None:
        tenth = done * 10 // max(1, total)
        if tenth < self._tenth:  # another job of the same kind began
            self._began, self._tenth = self._clock(), 0
        seconds = self._clock() - self._began
        if tenth > self._tenth and seconds >= _QUIET:
            left = f", {clock_time(seconds * (total - done) / done)} left" if done < total else ""
            note(f"{self._doing}: {done:,} of {total:,}{left}")
        self._tenth = tenth
