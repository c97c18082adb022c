"""A cache folder before it is opened: what was given as its name, and which index is in it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from reverie import registry
from reverie.errors import ConfigError, IndexCorruptError, StorageError
from reverie.protocols import IndexBackend
from reverie.storage import is_there, storage_error

__all__ = ["check_folder", "index_on_disk", "make_folders"]


def check_folder(folder: Any) -> tuple[str, Path]:
    """The cache folder as it was written and as an absolute path; ``~`` is the home folder.

    Raises:
        ConfigError: Not a path, an empty one, or one that leads nowhere.
    """
    shown = os.fspath(folder) if isinstance(folder, (str, os.PathLike)) else None
    if not isinstance(shown, str) or not shown or "\0" in shown:
        raise ConfigError(f"the cache folder must be a path, got {folder!r}")
    try:
        os.fsencode(shown)
        return shown, Path(shown).expanduser().absolute()
    except UnicodeEncodeError as exc:
        raise ConfigError(f"the cache folder {shown!r} is no name that this system can hold: {exc}") from exc
    except (RuntimeError, FileNotFoundError) as exc:  # no such user; the working directory was deleted
        raise ConfigError(f"the cache folder {shown!r} cannot be found: {exc}") from exc


def make_folders(*folders: Path) -> None:
    """Make the folders of a cache that are not there; raises StorageError where they cannot be made."""
    try:
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise storage_error(f"make the cache folder {folders[0].parent}", exc) from exc


def index_on_disk(metadata: Path) -> str | None:
    """The kind of index that a metadata folder uses, or None.

    Raises:
        StorageError: The folder cannot be looked into, or an index is a link to what is not there.
    """
    for name in ("cache_index.sqlite", "cache_index.json"):
        _refuse_dangling(metadata / name)
    if is_there(metadata / "cache_index.sqlite") and not _retired(metadata):
        return "sqlite"
    return "json" if is_there(metadata / "cache_index.json") else None


def _refuse_dangling(path: Path) -> None:
    """A link that leads nowhere is an index on a disk that is away: it must not be taken for none."""
    if not is_there(path) and path.is_symlink():
        raise StorageError(
            f"the index {path} is a link to {path.readlink()}, which is not there: attach the disk it is on. "
            "If it is gone for good, remove the link and make an index of the pictures with: reverie cache "
            f"check --fix --cache {path.parent.parent}"
        )


def _retired(metadata: Path) -> bool:
    index: IndexBackend = registry.create("indexes", "sqlite", metadata.parent)
    try:
        return index.retired()
    except IndexCorruptError:
        return False  # opening it will say what is wrong
    finally:
        index.close()
