"""How a dream goes: a line an arm that keeps moving in a terminal, a line every tenth elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reverie.cli.output import console, note

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from reverie.loop.dream import ArmDone

__all__ = ["ArmState", "Board", "clock_time", "progress"]

_DASH = "\N{EN DASH}"
_BAR = 16


@dataclass(slots=True)
class ArmState:
    """Where one arm stands.

    Attributes:
        last: Its last frame.
        seconds: From its first frame to its last.
        injections: How many so far.
    """

    last: ArmDone
    seconds: float = 0.0
    injections: int = 0

    @property
    def rate(self) -> float | None:
        """Frames a second; None after the first frame."""
        return (self.last.frame - 1) / self.seconds if self.seconds > 0 else None

    @property
    def left(self) -> float | None:
        """Seconds to go at this rate; None while there is no rate."""
        return (self.last.frames - self.last.frame) / self.rate if self.rate else None

    def measure(self, name: str, digits: int) -> str:
        """A live measure, or a dash while there is none."""
        value = self.last.measures.get(name)
        return _DASH if value is None else f"{value:.{digits}f}"


class Board:
    """Every arm's state, fed with finished frames.

    Args:
        clock: Seconds; only differences count.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began: dict[str, float] = {}
        self.arms: dict[str, ArmState] = {}

    def take(self, done: ArmDone) -> ArmState:
        """Take in a frame; the state of its arm."""
        now = self._clock()
        seconds = now - self._began.setdefault(done.arm, now)
        before = self.arms.get(done.arm)
        injections = (before.injections if before else 0) + bool(done.injected)
        state = self.arms[done.arm] = ArmState(done, seconds, injections)
        return state

    def __rich__(self) -> RenderableType:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        shape = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
        shape.add_column("", no_wrap=True, overflow="ellipsis", max_width=16)
        shape.add_column("", width=_BAR)
        for title in ("frame", "a sec", "left", "images", "alike", "inj."):
            shape.add_column(title, justify="right", no_wrap=True)
        for state in self.arms.values():
            done = state.last
            shape.add_row(
                Text(done.title.lower()),
                ProgressBar(done.frames, done.frame, width=_BAR, complete_style="none"),
                *map(Text, _cells(state)),
            )
        return shape


def _cells(state: ArmState) -> list[str]:
    done = state.last
    return [
        f"{done.frame}/{done.frames}",
        _DASH if state.rate is None else f"{state.rate:.1f}",
        clock_time(state.left),
        state.measure("effective_images", 1),
        state.measure("pairwise", 2),
        str(state.injections),
    ]


def clock_time(seconds: float | None) -> str:
    """``0:07``, ``1:02:03``; a dash for None."""
    if seconds is None:
        return _DASH
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@contextmanager
def progress() -> Iterator[Callable[[ArmDone], None]]:
    """Show on standard error how a dream goes; gives what `dream` calls after every frame."""
    screen = console(stderr=True)
    if screen.is_terminal and not screen.is_dumb_terminal:
        with _live(screen) as on_frame:
            yield on_frame
    else:
        board = Board()
        yield lambda done: _line(board.take(done))


@contextmanager
def _live(screen: Console) -> Iterator[Callable[[ArmDone], None]]:
    from rich.live import Live

    board = Board()
    with Live(board, console=screen, refresh_per_second=8):
        yield lambda done: _ignore(board.take(done))


def _ignore(_state: ArmState) -> None:
    """A frame was taken in; the screen looks at the board by itself."""


def _line(state: ArmState) -> None:
    """A line each time that an arm completes another tenth."""
    done = state.last
    if done.frame * 10 // done.frames == (done.frame - 1) * 10 // done.frames:
        return
    frame, rate, left, images, alike, injections = _cells(state)
    note(
        f"{done.title.lower():<14}  {frame} frames, {rate} a second, {left} left, "
        f"{images} effective images, similarity {alike}, {injections} injected"
    )
