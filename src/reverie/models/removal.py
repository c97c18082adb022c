"""Taking a model off this machine: its own files in the Hub's cache, and nothing that others put there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from reverie.errors import StorageError
from reverie.models import receipts
from reverie.models.cards import ModelCard
from reverie.models.digests import DAMAGED
from reverie.models.store import FAMILIES, find, source_of
from reverie.storage import storage_error

__all__ = ["Removal", "plan", "remove"]


@dataclass(frozen=True, slots=True)
class Removal:
    """What would go.

    Attributes:
        model: Its name.
        files: Links and files, each once.
        byte_count: What the files take.
    """

    model: str
    files: tuple[Path, ...]
    byte_count: int


def plan(card: ModelCard) -> Removal:
    """What `remove` deletes: the files of the card that are in a snapshot of the Hub's cache.

    A blob goes when no other name in the repository's snapshots leads to it, together with what was
    kept aside of it and with its unfinished download. A blob that is a link itself (huggingface_hub
    shares some between repositories) goes as the link.
    """
    files = tuple(dict.fromkeys(_files(card)))
    size = sum(path.stat().st_size for path in files if path.is_file() and not path.is_symlink())
    return Removal(card.name, files, size)


def remove(card: ModelCard, removal: Removal) -> None:
    """Delete the files of a plan and the receipts of the model.

    Raises:
        StorageError: The system refused; files before that one are gone.
    """
    for family in FAMILIES:
        receipts.forget(card.name, family)
    for path in removal.files:
        try:
            path.unlink(missing_ok=True)
        except OSError as exc:
            raise StorageError(f"cannot delete {path}: {storage_error('delete it', exc)}") from exc
    for snapshot in {folder for path in removal.files if (folder := _snapshot(path)) is not None}:
        _tidy(snapshot)


def _files(card: ModelCard) -> Iterator[Path]:
    for family in FAMILIES:
        found = [path for path in find(card, family).values() if _snapshot(path) is not None]
        yield from found
        for pointer in found:
            yield from _blobs(pointer, found)
        yield from _leftovers(card, family, found)


def _blobs(pointer: Path, leaving: list[Path]) -> Iterator[Path]:
    """The blob behind a name, unless another name needs it, and what was kept aside of it."""
    if not pointer.is_symlink():
        yield from pointer.parent.glob(f"{pointer.name}{DAMAGED}*")
        return
    blob = pointer.parent / pointer.readlink()
    blob = blob.parent.resolve() / blob.name
    snapshots = _snapshot(pointer).parent  # type: ignore[union-attr]
    others = (path for path in snapshots.rglob("*") if path.is_symlink() and path not in leaving)
    if all(path.resolve() != pointer.resolve() for path in others):
        yield blob
        yield from blob.parent.glob(f"{blob.name}{DAMAGED}*")


def _leftovers(card: ModelCard, family: str, found: list[Path]) -> Iterator[Path]:
    """Unfinished downloads of files whose digest the card knows."""
    source = source_of(card, family)  # type: ignore[arg-type]
    for storage in {snapshot.parent.parent for path in found if (snapshot := _snapshot(path)) is not None}:
        for digest in source.sha256.values():
            yield from (storage / "blobs").glob(f"{digest}.reverie.incomplete")


def _snapshot(path: Path) -> Path | None:
    """The folder ``snapshots/<commit>`` that a file is in; None for a file elsewhere."""
    return next((folder for folder in path.parents if folder.parent.name == "snapshots"), None)


def _tidy(snapshot: Path) -> None:
    """Delete empty folders of a snapshot, and branches that led to it when it is gone."""
    for folder in sorted((path for path in snapshot.rglob("*") if path.is_dir()), reverse=True):
        with contextlib.suppress(OSError):
            folder.rmdir()
    with contextlib.suppress(OSError):
        snapshot.rmdir()
    if not snapshot.exists():
        for ref in (path for path in (snapshot.parent.parent / "refs").rglob("*") if path.is_file()):
            if ref.read_text(encoding="utf-8").strip() == snapshot.name:
                ref.unlink()
