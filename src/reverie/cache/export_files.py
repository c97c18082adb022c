"""Exports as a folder, a zip and JSON lines; each is whole under its name or not there."""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, TypeAlias

from reverie.cache.export_record import Exported, json_line
from reverie.errors import StorageError
from reverie.storage import partial_name, sync_folder, write_new

__all__ = ["METADATA", "WITHOUT_IMAGE", "Write", "folder_export", "jsonl_export", "new_file", "zip_export"]

METADATA = "metadata.jsonl"
"""The records of a folder or a zip, ``file_name`` first: what Hugging Face's ``imagefolder`` reads."""

WITHOUT_IMAGE = "without-image.jsonl"
"""Records whose image is missing, where there are any: a line of `METADATA` must have its image."""

Write: TypeAlias = Callable[[Exported], None]
"""Takes the next entry."""


@contextmanager
def folder_export(path: Path, vectors: str) -> Iterator[Write]:
    """A folder of images and their records, made of an empty one or new; raises OSError."""
    with _new_folder(path) as partial, ExitStack() as files:
        lines = {METADATA: files.enter_context((partial / METADATA).open("xb"))}

        def write(item: Exported) -> None:
            name = METADATA
            if item.image is None:
                name = WITHOUT_IMAGE
                if name not in lines:
                    lines[name] = files.enter_context((partial / name).open("xb"))
            else:
                write_new(partial / item.file_name, [item.image], durable=False)
            lines[name].write(json_line(item, vectors))

        yield write


@contextmanager
def zip_export(path: Path, vectors: str) -> Iterator[Write]:
    """A zip of images, stored as they are, and their records, which are compressed; raises OSError."""
    with (
        new_file(path) as file,
        zipfile.ZipFile(
            file, "w", zipfile.ZIP_DEFLATED, compresslevel=1
        ) as archive,  # 6: three times as long
        tempfile.TemporaryFile(dir=path.parent) as whole,
        tempfile.TemporaryFile(dir=path.parent) as without,
    ):

        def write(item: Exported) -> None:
            if item.image is not None:
                archive.writestr(_member(item.file_name, item.entry.timestamp), item.image)
            (without if item.image is None else whole).write(json_line(item, vectors))

        yield write
        _append(archive, METADATA, whole)
        if without.tell():
            _append(archive, WITHOUT_IMAGE, without)


@contextmanager
def jsonl_export(path: Path, vectors: str) -> Iterator[Write]:
    """A file with a record a line; raises OSError."""
    with new_file(path) as file:
        yield lambda item: _ignore(file.write(json_line(item, vectors, in_cache=True)))


def _ignore(_written: int) -> None:
    """A file that is not raw takes all that it is given."""


def _member(name: str, timestamp: str) -> zipfile.ZipInfo:
    """A member that is stored as it is, as old as the entry, as far as a zip can tell (from 1980 to 2107)."""
    try:
        when = datetime.fromisoformat(timestamp)
    except ValueError:
        when = datetime(1980, 1, 1)
    member = zipfile.ZipInfo(name, (min(max(when.year, 1980), 2107), *when.timetuple()[1:6]))
    member.external_attr = 0o644 << 16
    return member


def _append(archive: zipfile.ZipFile, name: str, source: BinaryIO) -> None:
    source.seek(0)
    with archive.open(name, "w", force_zip64=True) as target:
        shutil.copyfileobj(source, target)


# ------------------------------------------------------------------------ under another name first


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write; it gets its name when the block ends, and is deleted when that fails.

    Raises:
        StorageError: Something took the name meanwhile.
        OSError: As the system reports it.
    """
    partial = path.with_name(partial_name())
    try:
        with partial.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        _publish(partial, path)
        sync_folder(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def _publish(partial: Path, path: Path) -> None:
    taken = StorageError(f"{path} was made by somebody else meanwhile: it is not touched")
    try:
        os.link(partial, path)
    except FileExistsError as exc:
        raise taken from exc
    except OSError:  # a file system without hard links
        if os.path.lexists(path):
            raise taken from None
        partial.rename(path)


@contextmanager
def _new_folder(path: Path) -> Iterator[Path]:
    """A folder to fill; it gets its name when the block ends, and is deleted when that fails."""
    partial = path.with_name(partial_name())
    partial.mkdir()
    try:
        yield partial
        if hasattr(os, "sync"):
            os.sync()  # once for all files, where each by itself would take milliseconds
        if path.is_dir():
            path.rmdir()  # it was empty
        partial.rename(path)
        sync_folder(path.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
