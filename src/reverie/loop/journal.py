"""What happened at every frame and why: JSON lines, one a frame, only ever appended to."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson

from reverie.errors import InputError
from reverie.storage import storage_error

__all__ = ["Journal", "read_journal"]

_BLOCK = 65536  # bytes looked at together from the end of a file


class Journal:
    """An append-only file of JSON lines; each line is handed to the system when it is written.

    Args:
        path: The file; continued when it exists. A torn last line (its writer was stopped in the
            middle of it) is cut off first, so that the next line does not grow onto it.

    Raises:
        StorageError: It cannot be opened.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        try:
            _cut_torn_line(self.path)
            # Unbuffered: a line that the disk refused must not come back at close.
            self._file = self.path.open("ab", buffering=0)
        except OSError as exc:
            raise storage_error(f"open the journal {self.path}", exc) from exc

    def write(self, line: Mapping[str, Any]) -> None:
        """Append one line.

        Args:
            line: What JSON can hold, NumPy numbers included; NaN and infinity become null.

        Raises:
            InputError: It holds what JSON cannot.
            StorageError: The disk refused.

            After either the journal is as it was.
        """
        try:
            data = orjson.dumps(dict(line), option=orjson.OPT_SERIALIZE_NUMPY) + b"\n"
        except orjson.JSONEncodeError as exc:
            raise InputError(f"the line cannot be written as JSON: {exc}") from exc
        before = self._file.seek(0, os.SEEK_END)
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as exc:
            with contextlib.suppress(OSError):
                self._file.truncate(before)
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


def _cut_torn_line(path: Path) -> None:
    """End the file after its last whole line."""
    if not path.is_file():
        return
    with path.open("r+b") as file:
        tail = b""
        start = file.seek(0, os.SEEK_END)
        while start and b"\n" not in tail:
            end, start = start, max(0, start - _BLOCK)
            file.seek(start)
            tail = file.read(end - start) + tail
        torn = tail.rpartition(b"\n")[2]
        if not torn:
            return
        if _is_object(torn):  # whole but for its end of line
            file.seek(0, os.SEEK_END)
            file.write(b"\n")
        else:
            file.truncate(start + len(tail) - len(torn))


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(orjson.loads(line), dict)
    except orjson.JSONDecodeError:
        return False


def read_journal(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """All lines of a journal. A torn last line (the process was stopped while writing it) is passed over.

    Raises:
        InputError: A line before the last is not a JSON object; it names the line.
        StorageError: The file cannot be read.
    """
    name = os.fspath(path)
    try:
        data = Path(path).read_bytes()
    except OSError as exc:
        raise storage_error(f"read the journal {name!r}", exc) from exc
    lines = [(number, line) for number, line in enumerate(data.split(b"\n"), start=1) if line.strip()]
    if lines and not _is_object(lines[-1][1]):
        lines.pop()
    return [_parse(line, f"{name!r}, line {number}") for number, line in lines]


def _parse(line: bytes, where: str) -> dict[str, Any]:
    try:
        content = orjson.loads(line)
    except orjson.JSONDecodeError as exc:
        raise InputError(f"{where}: not JSON: {exc.msg}") from exc
    if not isinstance(content, dict):
        raise InputError(f"{where}: not an object")
    return content
