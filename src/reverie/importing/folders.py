"""Which files of some folders are pictures to import, always in the same order."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from reverie.errors import InputError

__all__ = ["SUFFIXES", "Folders"]

SUFFIXES = frozenset((
    ".apng", ".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm",
    ".pgm", ".png", ".pnm", ".ppm", ".qoi", ".tga", ".tif", ".tiff", ".webp",
))  # fmt: skip
"""Endings of picture files, in small letters. Downloads that are not complete have others."""


class Folders:
    """Folders with all that is below them.

    Passed over are hidden files and folders (their names begin with a dot), files without the ending of
    a picture, and the cache itself where it lies below one. A link to a file is followed, one to a folder
    only where it was named.

    Args:
        folders: Their paths; one that lies below another counts once.
        cache_dir: The folder of the cache.

    Attributes:
        roots: Their absolute paths, as they were written.
        closed: Path to what is wrong with a folder that could not be looked into.

    Raises:
        InputError: There is none, or one is not there, is no folder, or belongs to the cache.
    """

    def __init__(
        self, folders: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], cache_dir: Path
    ) -> None:
        if isinstance(folders, (str, os.PathLike)):
            folders = [folders]
        self._cache = cache_dir
        found = list(dict.fromkeys(self._checked(folder) for folder in folders))
        if not found:
            raise InputError("no folder to import was named")
        self.roots = tuple(each for each in found if not any(other in each.parents for other in found))
        self.closed: dict[str, str] = {}

    def _checked(self, folder: str | os.PathLike[str]) -> Path:
        path = Path(os.path.expanduser(os.fspath(folder))).absolute()  # noqa: PTH111 - Path's fails on unknown users
        if not path.exists():
            raise InputError(f"there is no folder {str(path)!r}")
        if not path.is_dir():
            raise InputError(
                f"{str(path)!r} is a file, and folders are imported: name the folder it is in, or store this "
                "one alone with: reverie cache add"
            )
        if path.resolve().is_relative_to(self._cache.resolve()):
            raise InputError(
                f"{str(path)!r} belongs to the cache {str(self._cache)!r} itself: name another folder"
            )
        return path

    def pictures(self) -> Iterator[Path]:
        """The pictures of all folders, each folder sorted by name."""
        for root in self.roots:
            yield from self.below(root)

    def below(self, folder: Path) -> Iterator[Path]:
        """The pictures of one folder, sorted by name."""
        try:
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as exc:
            self.closed[str(folder)] = f"cannot look into {str(folder)!r}: {exc.strerror or exc}"
            return
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                if not self._is_cache(Path(entry.path)):
                    yield from self.below(Path(entry.path))
            elif _is_picture(entry.name) and entry.is_file():
                yield Path(entry.path)

    def cover(self, path: Path) -> bool:
        """Whether a path, which need not be there, lies where pictures are looked for."""
        for root in self.roots:
            if path.is_relative_to(root):
                parts = path.relative_to(root).parts
                hidden = any(part.startswith(".") for part in parts)
                return not hidden and not any(map(self._is_cache, [path, *path.parents[: len(parts)]]))
        return False

    @staticmethod
    def is_picture(path: Path) -> bool:
        """Whether a file has the ending of a picture."""
        return _is_picture(path.name)

    def _is_cache(self, folder: Path) -> bool:
        return folder.name == self._cache.name and folder.is_dir() and folder.samefile(self._cache)


def _is_picture(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in SUFFIXES  # noqa: PTH122 - ten times faster than Path.suffix
