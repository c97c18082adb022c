"""What happened at every frame and why: JSON lines, one a frame, only ever appended to."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson

from reverie.errors import InputError
from reverie.storage import storage_error

__all__ = ["Journal", "read_journal"]


class Journal:
    """An append-only file of JSON lines; each line is handed to the system when it is written.

    Args:
        path: The file; continued when it exists.

    Raises:
        StorageError: It cannot be opened.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        try:
            self._file = self.path.open("ab")
        except OSError as exc:
            raise storage_error(f"open the journal {self.path}", exc) from exc

    def write(self, line: Mapping[str, Any]) -> None:
        """Append one line.

        Raises:
            StorageError: The disk refused.
        """
        try:
            self._file.write(orjson.dumps(dict(line), option=orjson.OPT_SERIALIZE_NUMPY) + b"\n")
            self._file.flush()
        except OSError as exc:
            raise storage_error(f"write to the journal {self.path}", exc) from exc

    def close(self) -> None:
        """Close the file; calling it twice is fine."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_journal(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """All lines of a journal. A torn last line (the process was stopped while writing it) is passed over.

    Raises:
        InputError: A line before the last is not a JSON object; it names the line.
        StorageError: The file cannot be read.
    """
    try:
        lines = Path(path).read_bytes().splitlines()
    except OSError as exc:
        raise storage_error(f"read the journal {os.fspath(path)!r}", exc) from exc
    found: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        try:
            content = orjson.loads(line)
        except orjson.JSONDecodeError as exc:
            if number == len(lines):
                break
            raise InputError(f"{os.fspath(path)!r}, line {number}: not JSON: {exc.msg}") from exc
        if not isinstance(content, dict):
            raise InputError(f"{os.fspath(path)!r}, line {number}: not an object")
        found.append(content)
    return found
