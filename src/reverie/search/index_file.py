"""The file of an approximate search, with a header beside it: never trusted further than its hash.

It is made of vectors that are kept elsewhere, so its file may always be missing. What does not agree
with its header to the last byte, or was made otherwise than now, counts as missing. A crash between the two
writes leaves a header that does not agree.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson

from reverie.locks import file_lock, held
from reverie.storage import PARTIAL_PREFIX, content_hash, file_hash, partial_name, replace_file

__all__ = ["IndexFile"]

_ENDINGS = {"hnsw": "usearch"}


class IndexFile:
    """A search's file and its header, ``<encoder>-<dimensions>.usearch`` (or other) and ``.json``.

    Args:
        folder: Where it is; made when it is first written.
        encoder: Whose vectors; None when it is not known.
        dimensions: Numbers of a vector.
        made: How it is made; one that was made otherwise is not read.
        search: Name of the search.
    """

    def __init__(
        self, folder: Path, encoder: str | None, dimensions: int, made: Mapping[str, Any], search: str
    ) -> None:
        name = "unknown" if encoder is None else re.sub(r"[^A-Za-z0-9.]+", "-", encoder)
        name = f"{name[:80]}-{content_hash(str(encoder).encode())[:8]}-{dimensions}"
        ending = _ENDINGS.get(search, search)
        self.path = folder / f"{name}.{ending}"
        self._header = folder / (f"{name}.json" if search == "hnsw" else f"{name}.{ending}.json")
        self._made = {"encoder": encoder, "dimensions": dimensions, **made}

    def intact(self) -> bool:
        """Whether there is one that can be used; reads the whole file."""
        try:
            header = orjson.loads(self._header.read_bytes())
            return bool(header == self._describe(self.path, header["count"]))
        except (OSError, ValueError, KeyError, TypeError):  # no file, no JSON, no header of ours
            return False

    def write(self, save: Callable[[Path], object], count: int) -> None:
        """Let ``save`` write one of so many vectors, and put it in the place of the one there.

        Nothing happens while another process writes one, or when the disk refuses.
        """
        with contextlib.suppress(OSError, RuntimeError):  # usearch: RuntimeError
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with held(file_lock(self.path.parent / "graphs.lock", 0)):
                self._replace(save, count)

    def _replace(self, save: Callable[[Path], object], count: int) -> None:
        for left in self.path.parent.glob(f"{PARTIAL_PREFIX}*"):  # of a process that was killed
            left.unlink(missing_ok=True)
        temporary = self.path.with_name(partial_name())
        try:
            save(temporary)
            header = orjson.dumps(self._describe(temporary, count), option=orjson.OPT_INDENT_2)
            temporary.replace(self.path)
        finally:
            temporary.unlink(missing_ok=True)
        replace_file(self._header, [header], durable=False)

    def _describe(self, path: Path, count: int) -> dict[str, Any]:
        return {**self._made, "count": count, "bytes": path.stat().st_size, "xxh128": file_hash(path)}
