"""A cache, or entries of it, as files that other programs read.

| form | what is written |
|---|---|
| ``folder`` | the images under readable names, and ``metadata.jsonl``: Hugging Face's ``imagefolder`` |
| ``zip`` | the same in one file; images are stored as they are |
| ``jsonl`` | ``metadata.jsonl`` alone, with the path of each image in the cache |
| ``parquet`` | one table with images and vectors, as Hugging Face's ``datasets`` has them [extra parquet] |

Entries are read in batches, oldest first, so memory does not grow with their number. Everything is written
under another name first, beside the target, and gets its own when it is whole: an export that is stopped
leaves nothing under the target's name, and what is there already is never replaced.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from reverie.cache.export_files import Write, folder_export, jsonl_export, zip_export
from reverie.cache.export_record import VECTORS, Exported
from reverie.errors import (
    EntryNotFoundError,
    ImageNotFoundError,
    InputError,
    MissingDependencyError,
    StorageError,
    UnknownNameError,
    UnsafePathError,
)
from reverie.storage import storage_error

if TYPE_CHECKING:
    from types import ModuleType

    from reverie.cache.manager import CacheManager
    from reverie.entry import CacheEntry

__all__ = ["FORMS", "ExportReport", "export_cache", "form_of"]

FORMS = ("folder", "zip", "jsonl", "parquet")
"""What an export may be."""

_AT_ONCE = 100  # entries read at once

Progress: TypeAlias = Callable[[int, int], None]


@dataclass(slots=True)
class ExportReport:
    """What was exported.

    Attributes:
        target: Where it is, absolute.
        form: One of `FORMS`.
        total: Entries that were asked for.
        exported: Entries that are in it, those without their image included.
        gone: Entries that were removed meanwhile; they are not in it.
        image_bytes: What the images in it take.
        failures: Id to why the image is not in it. In a folder or a zip such a record stands in
            ``without-image.jsonl`` (every line of ``metadata.jsonl`` has its image), in Parquet its image is
            null, in JSONL its path is as it was.
    """

    target: Path
    form: str
    total: int
    exported: int = 0
    gone: int = 0
    image_bytes: int = 0
    failures: dict[str, str] = field(default_factory=dict)


def form_of(target: str | os.PathLike[str]) -> str:
    """The form that a name stands for: ``.zip``, ``.jsonl``, ``.parquet``; any other name is a folder's."""
    ending = Path(target).suffix.lower().removeprefix(".")
    return ending if ending in FORMS and ending != "folder" else "folder"


def export_cache(
    cache: CacheManager,
    target: str | os.PathLike[str],
    *,
    form: str | None = None,
    cache_ids: Sequence[str] | None = None,
    vectors: str = "numbers",
    progress: Progress | None = None,
) -> ExportReport:
    """Write entries of a cache into a new file or folder; nothing counts as a use.

    Args:
        cache: An open cache; others may use it meanwhile.
        target: A name that nothing has, or for a folder one that is empty; the folder it is in must be there.
        form: One of `FORMS`; None goes by the name (`form_of`).
        cache_ids: Which entries, in this order, each once; None: all, oldest first.
        vectors: How a vector stands in JSON: ``numbers``, ``base64`` (little-endian float32 bytes) or
            ``none``. In Parquet it is a column, or with ``none`` it is not there.
        progress: Called after every batch with how many of how many entries are done.

    Raises:
        UnknownNameError: No such form, or no such way to write vectors.
        InputError: ``base64`` in Parquet, a target inside the cache, or vectors of different lengths, which
            one column of Parquet cannot hold.
        EntryNotFoundError: Some of ``cache_ids`` are not there; the message names each.
        MissingDependencyError: Parquet without pyarrow.
        StorageError: The target is there already, or cannot be written; nothing is left of it.
    """
    form = form_of(target) if form is None else form
    _check_names(form, vectors)
    path = _free(Path(target).expanduser().absolute(), cache, form)
    ids = _known(cache, cache_ids)
    report = ExportReport(path, form, len(ids))
    with _ours(f"export to {path}"), _writer(cache, ids, report, vectors) as write:
        for asked, entries in _batches(cache, ids):
            for item in _with_image(cache, entries, report):
                write(item)
            report.gone = asked - report.exported
            if progress is not None:
                progress(asked, len(ids))
    return report


@contextmanager
def _ours(doing: str) -> Iterator[None]:
    """Errors of the system as ours."""
    try:
        yield
    except StorageError:
        raise
    except OSError as exc:
        raise storage_error(doing, exc) from exc


def _check_names(form: str, vectors: str) -> None:
    if form not in FORMS:
        raise UnknownNameError(f"there is no form of export {form!r}; there are: {', '.join(FORMS)}")
    if vectors not in VECTORS:
        raise UnknownNameError(f"vectors are written as one of {', '.join(VECTORS)}; got {vectors!r}")
    if form == "parquet" and vectors == "base64":
        raise InputError("Parquet holds vectors as a column of numbers: base64 is for JSON")


def _free(path: Path, cache: CacheManager, form: str) -> Path:
    """The target, if nothing is there and something can be."""
    if path.is_relative_to(cache.cache_dir):
        raise InputError(f"{path} lies inside the cache that is exported: name a place outside of it")
    with _ours(f"look into {path}"):
        if not path.parent.is_dir():
            raise StorageError(f"there is no folder {path.parent} to export to: make it first")
        empty = form == "folder" and path.is_dir() and not path.is_symlink() and not any(path.iterdir())
    if os.path.lexists(path) and not empty:
        kind = "a folder that is not empty" if path.is_dir() else "a file"
        raise StorageError(f"{path} is there already ({kind}): it is not touched, name another target")
    return path


def _known(cache: CacheManager, cache_ids: Sequence[str] | None) -> list[str]:
    there = cache.ids()
    if cache_ids is None:
        return there
    wanted, known = list(dict.fromkeys(cache_ids)), set(there)
    missing = [cache_id for cache_id in wanted if cache_id not in known]
    if missing:
        raise EntryNotFoundError(f"not in this cache: {', '.join(missing)}. Nothing was exported")
    return wanted


def _batches(cache: CacheManager, ids: Sequence[str]) -> Iterator[tuple[int, list[CacheEntry]]]:
    """How many were asked for so far, and what is there of the last ones."""
    for start in range(0, len(ids), _AT_ONCE):
        part = ids[start : start + _AT_ONCE]
        yield start + len(part), cache.peek(part)


def _with_image(
    cache: CacheManager, entries: Sequence[CacheEntry], report: ExportReport
) -> Iterator[Exported]:
    """Each entry with its image; one that was removed meanwhile is passed over."""
    for entry in entries:
        image: bytes | None = None
        try:
            image = _image(cache, entry, report.form)
        except (EntryNotFoundError, ImageNotFoundError, UnsafePathError, StorageError) as exc:
            if entry.cache_id not in cache:
                continue
            report.failures[entry.cache_id] = str(exc)
        report.exported += 1
        report.image_bytes += len(image or b"")
        yield Exported(entry, report.exported, image)


def _image(cache: CacheManager, entry: CacheEntry, form: str) -> bytes | None:
    """The bytes of an image; None for JSONL, which only says where it is."""
    if form != "jsonl":
        return cache.read_image(entry.cache_id, as_use=False)
    if not entry.image_path.exists():
        raise ImageNotFoundError(f"the image {entry.image_path} is gone")
    return None


def _writer(
    cache: CacheManager, ids: Sequence[str], report: ExportReport, vectors: str
) -> AbstractContextManager[Write]:
    if report.form == "parquet":
        writer: Callable[[Path, int | None], AbstractContextManager[Write]] = _parquet().parquet_export
        return writer(report.target, None if vectors == "none" else _dimensions(cache, ids))
    writers = {"folder": folder_export, "zip": zip_export, "jsonl": jsonl_export}
    return writers[report.form](report.target, vectors)


def _dimensions(cache: CacheManager, ids: Sequence[str]) -> int | None:
    """The one length of all vectors; None where there is no vector.

    Where the cache holds vectors of several lengths, the records are read once more, for those of these ids.
    """
    lengths: dict[int, str | None] = {length: encoder for encoder, length, _ in cache.encoders()}
    if len(lengths) < 2:
        return next(iter(lengths), None)
    lengths = {}
    for _, entries in _batches(cache, ids):
        for entry in entries:
            if entry.embedding is not None:
                lengths.setdefault(entry.embedding.size, entry.encoder)
    if len(lengths) > 1:
        told = " and ".join(f"{length} numbers ({encoder})" for length, encoder in lengths.items())
        raise InputError(
            f"the vectors have {told}: a column of Parquet holds vectors of one length. Make them of one "
            "encoder with `reverie cache reindex`, or leave them out (vectors none)"
        )
    return next(iter(lengths), None)


def _parquet() -> ModuleType:
    try:
        from reverie.cache import parquet_file  # noqa: PLC0415 - heavy, and needed for one form
    except ImportError as exc:
        raise MissingDependencyError(
            'Parquet is written by pyarrow, which is not installed: pip install "reverie[parquet]". '
            "The forms folder, zip and jsonl work now"
        ) from exc
    return parquet_file
