"""What the tests of the command line share."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import TypeAlias

from click.testing import Result
from rich.cells import cell_len

Run: TypeAlias = Callable[..., Result]
"""Runs a command in this process."""

LONG_PROMPT = "[red]an ethereal angel[/red] above a city of glass, 夜の夢, " * 4


def process(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "reverie", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )


def widest(text: str) -> int:
    """Columns that the widest line takes in a terminal."""
    return max(map(cell_len, text.splitlines()))
