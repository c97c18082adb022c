"""How the commands speak: tables and facts for people, JSON for machines, one line for an error.

Everything goes through ``click.echo``, so there is one place that colours, encodings and a reader
that went away have to pass. Text that comes from a cache (a prompt, a file name) is shown as it is:
no markup is read in it, and control characters are replaced, so that it cannot steer a terminal.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

__all__ = [
    "Column",
    "complain",
    "console",
    "count",
    "facts",
    "is_interactive",
    "json_line",
    "near",
    "note",
    "plain",
    "print_table",
    "say",
    "show",
    "size",
    "when",
]

_JOINER = "\N{ZERO WIDTH JOINER}"
_GAP = 2  # blank columns between two columns of a table
_FLEXIBLE = 12  # the flexible column never gets narrower


def say(text: str = "") -> None:
    """One line on standard output."""
    click.echo(text)


def note(text: str) -> None:
    """One line for a person on standard error, so that standard output stays clean for a pipe."""
    click.echo(text, err=True)


def complain(message: str) -> None:
    """One line ``reverie: message`` on standard error."""
    click.echo(f"reverie: {plain(message)}", err=True)


def json_line(value: Any) -> None:
    """One JSON document on one line; escaped to ASCII where standard output cannot show it."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(value)
    click.echo(text)


def plain(text: str) -> str:
    """Any text on one line: white space is one blank, a control character a replacement sign."""
    safe = (
        c if c.isprintable() or c == _JOINER else "\N{REPLACEMENT CHARACTER}" for c in " ".join(text.split())
    )
    return "".join(safe)


def is_interactive() -> bool:
    """Whether a person can be asked: standard input and standard error are terminals."""
    return sys.stdin.isatty() and sys.stderr.isatty()


# ------------------------------------------------------------------------------------ words


def count(number: int, one: str, many: str = "") -> str:
    """``1 entry``, ``1,200 entries``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def size(byte_count: int) -> str:
    """``812 B``, ``12 kB``, ``3.4 MB``: powers of 1000, as file managers count."""
    units = ["B", "kB", "MB", "GB", "TB"]
    amount = float(byte_count)
    while amount >= 999.5 and len(units) > 1:
        amount /= 1000
        del units[0]
    digits = 1 if units[0] != "B" and amount < 9.95 else 0
    return f"{amount:.{digits}f} {units[0]}"


def when(timestamp: str) -> str:
    """``2025-11-08 09:15`` of an ISO 8601 time."""
    return plain(timestamp[:16].replace("T", " "))


def near(path: Path) -> str:
    """A path as a person writes it: from this folder (``./x``, ``x/y``) or from ``~`` where it can be."""
    try:
        here = Path.cwd()
    except FileNotFoundError:  # it was deleted
        return str(path)
    full = path.absolute()
    if full.is_relative_to(here):
        short = full.relative_to(here)
        return str(short) if len(short.parts) > 1 else f".{os.sep}{short.name}"
    home = Path.home()
    return f"~{os.sep}{full.relative_to(home)}" if full.is_relative_to(home) else str(path)


# ------------------------------------------------------------------------------------ shapes


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Attributes:
        title: Its heading.
        right: Whether its cells stand to the right, as numbers do.
        flexible: Whether its cells are cut short where the line would not fit. One column may be.
        wraps: Whether its cells go on in the next line instead. Also flexible.
    """

    title: str
    right: bool = False
    flexible: bool = False
    wraps: bool = False


def console(*, stderr: bool = False) -> Console:
    """A terminal that reads no markup, no emoji codes and highlights nothing."""
    from rich.console import Console

    return Console(stderr=stderr, markup=False, emoji=False, highlight=False, soft_wrap=False)


def show(*parts: RenderableType) -> None:
    """Print facts and texts on standard output, wrapped; blanks at the end of a line are cut."""
    screen = console()
    with screen.capture() as captured:
        for part in parts:
            screen.print(part)
    for line in captured.get().splitlines():
        click.echo(line.rstrip())


def print_table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """A table without lines that fits the terminal: a row a line, the flexible column cut.

    Laid out here and not by rich, which takes 40 seconds for 100,000 rows.
    """
    cells = [[plain(cell) for cell in row] for row in rows]
    widths = _widths(columns, cells)
    click.echo(click.style(_line(columns, [column.title for column in columns], widths), dim=True))
    lines = [line for row in cells for line in _row_lines(columns, row, widths)]
    if lines:
        click.echo("\n".join(lines))


def _widths(columns: Sequence[Column], cells: Sequence[Sequence[str]]) -> list[int]:
    from rich.cells import cell_len

    wanted = [
        max(cell_len(column.title), max((cell_len(row[at]) for row in cells), default=0))
        for at, column in enumerate(columns)
    ]
    fixed = sum(width for column, width in zip(columns, wanted, strict=True) if not _gives(column))
    room = max(_FLEXIBLE, console().width - fixed - _GAP * (len(columns) - 1))
    return [
        min(width, room) if _gives(column) else width for column, width in zip(columns, wanted, strict=True)
    ]


def _gives(column: Column) -> bool:
    return column.flexible or column.wraps


def _row_lines(columns: Sequence[Column], row: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    pieces = [
        _wrapped(cell, width) if column.wraps else [cell]
        for column, cell, width in zip(columns, row, widths, strict=True)
    ]
    for texts in zip_longest(*pieces, fillvalue=""):
        yield _line(columns, texts, widths)


def _line(columns: Sequence[Column], texts: Sequence[str], widths: Sequence[int]) -> str:
    fitted = [
        _fitted(text, width, column.right) for column, text, width in zip(columns, texts, widths, strict=True)
    ]
    return (" " * _GAP).join(fitted).rstrip()


def _fitted(text: str, width: int, right: bool) -> str:
    from rich.cells import cell_len, set_cell_size

    blank = width - cell_len(text)
    if blank < 0:
        return set_cell_size(text, width - 1).rstrip() + "\N{HORIZONTAL ELLIPSIS}"
    return " " * blank + text if right else text + " " * blank


def _wrapped(text: str, width: int) -> list[str]:
    from rich.text import Text

    return [line.plain.rstrip() for line in Text(text).wrap(console(), width)] or [""]


def facts(pairs: Iterable[tuple[str, str]]) -> RenderableType:
    """Labels and what they say, one below the other; a long text goes on under its own beginning."""
    from rich.table import Table
    from rich.text import Text

    shape = Table.grid(padding=(0, _GAP, 0, 0), pad_edge=False)
    shape.add_column(style="dim", no_wrap=True)
    shape.add_column(overflow="fold")
    for label, text in pairs:
        shape.add_row(Text(label), Text(plain(text)))
    return shape
