"""Timing for every benchmark here: sides in turn, medians, ratios, the machine's name, Markdown rows.

All sides of a comparison run in one process, in rounds, each round in another order, so a busy
machine hurts them alike: trust the ratios first. A sample is one call, timed by itself; the mean is
never used, because one slow flush would move it.

Importing this module holds BLAS to one thread.
"""

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import os
import platform
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import threadpoolctl

__all__ = [
    "TABLE_HEAD",
    "Bar",
    "Row",
    "Timing",
    "arguments",
    "header",
    "interleave",
    "scratch",
    "settle",
    "show",
]

threadpoolctl.threadpool_limits(1)

_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))
TABLE_HEAD = (
    "| what | median | p90 | peer, median | ratio | asked | |",
    "| --- | --- | --- | --- | --- | --- | --- |",
)
"""The first two lines of every table."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How long each call of one side took.

    Attributes:
        seconds: ``(n,)`` float64, in the order of the calls.
    """

    seconds: np.ndarray[tuple[int], np.dtype[np.float64]]

    @property
    def median(self) -> float:
        """Seconds of the call in the middle."""
        return float(np.median(self.seconds))

    @property
    def p90(self) -> float:
        """Seconds that nine calls of ten keep."""
        return float(np.quantile(self.seconds, 0.9))


@dataclass(frozen=True, slots=True)
class Bar:
    """What is asked of a row.

    Attributes:
        at_most: Seconds the median may take.
        faster: How many times faster than the peer it must be.
        slower: How many times slower than the peer it may be.
    """

    at_most: float | None = None
    faster: float | None = None
    slower: float | None = None

    def __str__(self) -> str:
        if self.at_most is not None:
            return f"at most {duration(self.at_most)}"
        return f"{self.faster:g}x faster" if self.faster is not None else f"at most {self.slower:g}x"

    def met(self, median: float, peer: float | None) -> bool:
        """Whether a median keeps it; ``peer`` is the peer's median."""
        if self.at_most is not None:
            return median <= self.at_most
        if peer is None:
            raise ValueError("a bar in ratios needs a peer")
        return (
            median * self.faster <= peer if self.faster is not None else median <= peer * (self.slower or 0)
        )


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: what was timed, against which peer, and what is asked of it."""

    what: str
    ours: Timing
    peer: Timing | None = None
    bar: Bar | None = None

    def cells(self) -> list[str]:
        """The cells of its Markdown line."""
        median, peer = self.ours.median, None if self.peer is None else self.peer.median
        verdict = "" if self.bar is None else ("met" if self.bar.met(median, peer) else "MISSED")
        return [
            self.what,
            duration(median),
            duration(self.ours.p90),
            "" if peer is None else duration(peer),
            "" if peer is None else _ratio(median, peer),
            "" if self.bar is None else str(self.bar),
            verdict,
        ]


def _ratio(median: float, peer: float) -> str:
    return f"{peer / median:.3g}x faster" if median <= peer else f"{median / peer:.3g}x slower"


def duration(seconds: float) -> str:
    """Seconds with three digits and the unit that suits them."""
    scale, unit = next(((scale, unit) for scale, unit in _UNITS if seconds >= scale), _UNITS[-1])
    return f"{seconds / scale:.3g} {unit}"


def interleave(
    sides: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    calls: int = 1,
    warm_up: int = 1,
    before: Callable[[], object] = gc.collect,
) -> dict[str, Timing]:
    """Time the sides in turn, ``rounds`` times ``calls`` calls each, every round in another order.

    Args:
        sides: What to time, by name.
        rounds: How often each side has its turn.
        calls: Calls in a turn, each timed by itself.
        warm_up: Rounds before that are not counted.
        before: Called before every turn, not timed. Python's collector of cycles is off in a turn.
    """
    taken: dict[str, list[int]] = {name: [] for name in sides}
    names = list(sides)
    for number in range(warm_up + rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            before()
            spent = _spent(sides[name], calls)
            if number >= warm_up:
                taken[name] += spent
    return {name: Timing(np.array(spent) / 1e9) for name, spent in taken.items()}


def _spent(call: Callable[[], object], calls: int) -> list[int]:
    clock = time.perf_counter_ns
    spent = []
    gc.disable()
    try:
        for _ in range(calls):
            start = clock()
            call()
            spent.append(clock() - start)
    finally:
        gc.enable()
    return spent


def settle() -> None:
    """Let the disk finish what earlier turns left to it, so that no side pays for another's writes."""
    gc.collect()
    if hasattr(os, "sync"):
        os.sync()


def show(rows: list[Row], *, head: bool = True) -> None:
    """Print rows as a Markdown table."""
    if head:
        print("\n".join(TABLE_HEAD))
    for row in rows:
        print(f"| {' | '.join(row.cells())} |", flush=True)


def arguments(what: str, *, entries: int | None = None) -> argparse.Namespace:
    """The options that every benchmark here has: ``quick`` and ``folder``; ``entries`` where one is given."""
    parser = argparse.ArgumentParser(description=what)
    parser.add_argument("--quick", action="store_true", help="fewer rounds: a look, not a result")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="disk to write to")
    if entries is not None:
        parser.add_argument("--entries", type=int, default=entries, help="how many the large cache has")
    return parser.parse_args()


@contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """A temporary folder inside ``folder``, deleted at the end."""
    with tempfile.TemporaryDirectory(prefix="reverie-bench-", dir=folder) as name:
        yield Path(name)


def header(folder: Path) -> str:
    """Date, machine, file system and versions, one fact a line."""
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}" for name in ("numpy", "pillow", "orjson")
    )
    load = f", load average {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return "\n".join(
        (
            f"- {date.today()}, {platform.system()} {platform.release()}",
            f"- {_processor()}, {os.cpu_count()} cores{load}; BLAS on 1 thread",
            f"- file system: {_file_system(folder)}",
            f"- Python {platform.python_version()}, {versions}, SQLite {sqlite3.sqlite_version}",
        )
    )


def _processor() -> str:
    known = Path("/proc/cpuinfo")
    if known.exists():
        for line in known.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _file_system(folder: Path) -> str:
    """The kind of file system under a folder; where the system does not tell, says so."""
    mounts = Path("/proc/mounts")
    if not mounts.exists():
        return f"not known on {sys.platform}"
    folder = folder.resolve()
    found = [line.split()[1:3] for line in mounts.read_text().splitlines()]
    _, kind = max((len(point), kind) for point, kind in found if folder.is_relative_to(point))
    return f"{kind} (memory, not a disk: flushes cost nothing here)" if kind == "tmpfs" else kind
