"""The vectors of a large cache as files that are mapped into memory, beside the index they are derived from.

Opening a cache of a million vectors then reads none of them, and several processes share one copy in memory.
For each encoder there is a file of rows and one of their numbers and ids, only ever added to at the end; a
header, replaced in one step, says how much of them counts and up to which change of the index. Whatever does
not fit the index (another database, a gap in its log, a cut file, a row that is not what the index has) is
made anew. Nothing here is needed to keep an entry: the folder can be deleted at any time.
"""

from __future__ import annotations

import base64
import contextlib
import os
import re
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import orjson
import xxhash
from numpy.typing import NDArray

from reverie.errors import LockTimeoutError
from reverie.half import HALF
from reverie.locks import file_lock, held
from reverie.protocols import Mark
from reverie.storage import flush_file, replace_file
from reverie.vectors import Vectors

__all__ = ["Shelf", "StoredRows", "StoredSpace", "VectorFiles"]

StoredRows: TypeAlias = Vectors | NDArray[np.float16]
"""``(n, d)`` rows of unit length as float32, or as halves (`reverie.half`)."""

_FORMAT = 1
_HEADER = "header.json"
_SPARE = 65_536  # rows of room at the end of a file, at the least; they take no place on the disk
_ROWS_AT_ONCE = 8192
_TYPES = ("<f4", HALF.newbyteorder("<").str)


@dataclass(frozen=True, slots=True)
class Shelf:
    """Where the rows of one encoder are kept: the name of their files, and how many are in them."""

    name: str
    count: int


@dataclass(frozen=True, slots=True, eq=False)
class StoredSpace:
    """The rows of one encoder.

    Attributes:
        encoder: Its name; None when it is not known.
        ids: The id of every row.
        numbers: ``(n,)`` int64, as in `reverie.vectors.VectorRows`.
        matrix: ``(n, d)`` rows; as `VectorFiles.load` gives it with room for more behind.
        alive: ``(n,)`` bool.
        shelf: Where they are kept up to now; None: nowhere.
    """

    encoder: str | None
    ids: Sequence[str]
    numbers: NDArray[np.int64]
    matrix: StoredRows
    alive: NDArray[np.bool_]
    shelf: Shelf | None = None


@dataclass(frozen=True, slots=True)
class _Entry:
    """One encoder in the header."""

    encoder: str | None
    dimensions: int
    dtype: str
    name: str
    count: int
    id_bytes: int
    checksum: str  # of the numbers
    alive: str  # one bit a row, base64


class VectorFiles:
    """Keeps rows in a folder and gives them back mapped.

    Args:
        folder: The folder; made when something is kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self) -> tuple[Mark, list[StoredSpace]] | None:
        """What is kept, and the mark of the index that it is for; None where nothing usable is."""
        with contextlib.suppress(OSError, ValueError, TypeError):
            header = self._header()
            if header is not None:
                return header[0], [self._space(entry) for entry in header[1]]
        return None

    def _space(self, entry: _Entry) -> StoredSpace:
        """One encoder's rows, mapped; raises ValueError where its files are not whole."""
        rows, numbers, ids = self._paths(entry.name)
        if entry.dtype not in _TYPES:
            raise ValueError
        dtype = np.dtype(entry.dtype)
        room = rows.stat().st_size // (dtype.itemsize * entry.dimensions)
        found = np.fromfile(numbers, dtype="<i8", count=entry.count)
        names = _names(ids, entry.id_bytes)
        bits = np.frombuffer(base64.b64decode(entry.alive), dtype=np.uint8)
        whole = room >= entry.count == len(found) == len(names) and len(bits) == -(-entry.count // 8)
        if not whole or _checksum(found) != entry.checksum or not np.little_endian:
            raise ValueError
        # Copy on write: what is added behind is this process's own until it is kept.
        mapped = np.memmap(rows, dtype=dtype, mode="c", shape=(room, entry.dimensions))
        alive = np.unpackbits(bits, count=entry.count).astype(np.bool_)
        shelf = Shelf(entry.name, entry.count)
        return StoredSpace(entry.encoder, names, found, mapped.view(np.ndarray), alive, shelf)

    def save(self, mark: Mark, spaces: Sequence[StoredSpace]) -> list[Shelf] | None:
        """Keep rows: what is new in them is added to the files that they came from.

        Args:
            mark: Of the index, as the rows have it.
            spaces: All vectors of the cache.

        Returns:
            Where each of them is kept now; None where another process is at it, or has kept more.

        Raises:
            OSError: The disk refused; what was kept before is still there.
        """
        self._folder.mkdir(exist_ok=True)
        with contextlib.suppress(LockTimeoutError), held(file_lock(self._folder / "lock", 0)):
            return self._save(mark, spaces)
        return None

    def _save(self, mark: Mark, spaces: Sequence[StoredSpace]) -> list[Shelf] | None:
        known = self._header()
        if known is not None and known[0].identity == mark.identity and known[0].change > mark.change:
            return None
        before = {} if known is None else {entry.name: entry for entry in known[1]}
        entries = [self._keep(space, before) for space in spaces]
        header = {"format": _FORMAT, "mark": list(mark), "spaces": [asdict(entry) for entry in entries]}
        replace_file(self._folder / _HEADER, [orjson.dumps(header)])
        self._tidy({entry.name for entry in entries})
        return [Shelf(entry.name, entry.count) for entry in entries]

    def _header(self) -> tuple[Mark, list[_Entry]] | None:
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            header = orjson.loads((self._folder / _HEADER).read_bytes())
            if header["format"] == _FORMAT:
                return Mark(*header["mark"]), [_Entry(**each) for each in header["spaces"]]
        return None

    def _keep(self, space: StoredSpace, before: dict[str, _Entry]) -> _Entry:
        count, dimensions = space.matrix.shape
        dtype = space.matrix.dtype
        shelf, old = space.shelf, None
        if shelf is not None:
            old = before.get(shelf.name)
        room = 0
        same = old is not None and (old.dtype, old.dimensions) == (dtype.str, dimensions)
        if old is not None and same and shelf is not None and old.count == shelf.count <= count:
            with contextlib.suppress(OSError):
                room = self._paths(old.name)[0].stat().st_size // (dtype.itemsize * dimensions)
        name = _new_name(space) if old is None or room < count else old.name
        start, id_bytes = (old.count, old.id_bytes) if old is not None and name == old.name else (0, 0)
        rows, numbers, ids = self._paths(name)
        size = max(count + _SPARE, count + count // 2) if not start else 0
        _write_rows(rows, space.matrix, start, size)
        _write_at(numbers, start * 8, space.numbers[start:].astype("<i8").tobytes())
        line = orjson.dumps(list(space.ids[start:count])) + b"\n" if start < count else b""
        _write_at(ids, id_bytes, line)
        return _Entry(
            space.encoder,
            dimensions,
            dtype.str,
            name,
            count,
            id_bytes + len(line),
            _checksum(space.numbers),
            base64.b64encode(np.packbits(space.alive).tobytes()).decode(),
        )

    def _paths(self, name: str) -> tuple[Path, Path, Path]:
        if Path(name).name != name:
            raise ValueError(name)
        return tuple(self._folder / f"{name}.{kind}" for kind in ("rows", "numbers", "ids"))  # type: ignore[return-value]

    def _tidy(self, used: set[str]) -> None:
        """Delete the files of rows that were arranged anew; who has them mapped keeps what it has."""
        for path in self._folder.iterdir():
            if path.suffix in (".rows", ".numbers", ".ids") and path.stem not in used:
                with contextlib.suppress(OSError):
                    path.unlink()


def _new_name(space: StoredSpace) -> str:
    """A name for files that no other has: the encoder's for people, the rest for us."""
    readable = re.sub(r"[^\w.-]+", "-", space.encoder or "unknown")[:60]
    return f"{readable}-{space.matrix.shape[1]}-{secrets.token_hex(4)}"


def _names(path: Path, size: int) -> list[str]:
    with path.open("rb") as file:
        lines = file.read(size).splitlines()
    names: list[str] = []
    for line in lines:
        names += orjson.loads(line)
    return names


def _checksum(numbers: NDArray[np.int64]) -> str:
    return xxhash.xxh3_64_hexdigest(np.ascontiguousarray(numbers, dtype="<i8").tobytes())


def _write_rows(path: Path, matrix: StoredRows, start: int, size: int) -> None:
    """Write rows from ``start`` on at their places; a new file gets room for ``size`` rows."""
    width = matrix.dtype.itemsize * matrix.shape[1]
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
    with open(handle, "wb", closefd=True) as file:  # noqa: PTH123 - of a handle
        if size:
            file.truncate(size * width)
        file.seek(start * width)
        for first in range(start, len(matrix), _ROWS_AT_ONCE):
            file.write(np.ascontiguousarray(matrix[first : first + _ROWS_AT_ONCE]).data)
        file.flush()
        os.fsync(handle)


def _write_at(path: Path, place: int, data: bytes) -> None:
    """Write bytes at a place; what was behind it goes."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
    with open(handle, "wb", closefd=True) as file:  # noqa: PTH123 - of a handle
        file.seek(place)
        file.write(data)
        file.truncate()
    flush_file(path)
