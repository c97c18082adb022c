"""The pictures a loop can start from: 24 built-in procedural ones, or a folder of the user's own.

The built-in pictures (12 kinds, two of each) are drawn by this project's ``tools/make_seeds.py``
from formulas and seeded noise; they show nobody's work and need no download.
"""

from __future__ import annotations

import os
from importlib.resources import as_file, files
from pathlib import Path

from reverie.checks import check_whole
from reverie.errors import InputError, StorageError
from reverie.pixels import Pixels, fit, to_pixels

__all__ = ["built_in_seeds", "load_seeds", "seed_names"]

_PACKAGE = "reverie.generators"
_ENDINGS = {
    *(".apng", ".avif", ".bmp", ".dds", ".gif", ".ico", ".j2k", ".jfif", ".jp2", ".jpeg", ".jpg", ".pbm"),
    *(".pcx", ".pgm", ".png", ".pnm", ".ppm", ".psd", ".qoi", ".tga", ".tif", ".tiff", ".webp"),
}


def seed_names() -> list[str]:
    """Names of the 24 built-in pictures, sorted: ``"aurora-1"``, ``"aurora-2"``, ``"city-1"``, ..."""
    listed = files(_PACKAGE).joinpath("seeds").iterdir()
    return sorted(entry.name.removesuffix(".webp") for entry in listed if entry.name.endswith(".webp"))


def built_in_seeds(size: int) -> list[Pixels]:
    """The 24 built-in pictures in the order of `seed_names`, each ``(size, size, 3)`` uint8 RGB.

    They are kept at 256 pixels; another size is resampled.

    Raises:
        InputError: ``size`` is not positive.
    """
    _check_size(size)
    folder = files(_PACKAGE).joinpath("seeds")
    pictures = []
    for name in seed_names():
        with as_file(folder.joinpath(f"{name}.webp")) as path:
            pictures.append(fit(to_pixels(path), size, size))
    return pictures


def load_seeds(folder: str | os.PathLike[str], size: int) -> list[Pixels]:
    """Every picture of a folder (not of its subfolders), sorted by file name.

    A file counts as a picture by its ending (.png, .jpg, .webp, .gif, .tif, .bmp, ...). Other files
    and hidden ones are passed over. Any size and mode will do (see `reverie.pixels`); each picture is
    scaled to cover the square and its centre is cut out.

    Args:
        folder: Where the pictures are.
        size: Side of the square in pixels.

    Returns:
        At least one ``(size, size, 3)`` uint8 RGB picture.

    Raises:
        InputError: No such folder, no picture in it, or ``size`` is not positive.
        ImageError: A file with a picture's ending is broken, empty or too large; the message names it.
        StorageError: The folder or a file cannot be read.
    """
    _check_size(size)
    found = [path for path in _list(Path(folder)) if path.suffix.lower() in _ENDINGS]
    if not found:
        raise InputError(
            f"no picture in {os.fspath(folder)!r}: put at least one image file there "
            "(.png, .jpg, .webp, ...), or leave the folder out to use the built-in seed images"
        )
    return [fit(to_pixels(path), size, size) for path in found]


def _list(folder: Path) -> list[Path]:
    try:
        entries = [path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")]
    except FileNotFoundError as exc:
        raise InputError(f"no folder at {os.fspath(folder)!r}: expected a folder with pictures") from exc
    except NotADirectoryError as exc:
        raise InputError(f"{os.fspath(folder)!r} is a file: expected a folder with pictures") from exc
    except OSError as exc:
        raise StorageError(f"cannot read the folder {os.fspath(folder)!r}: {exc.strerror or exc}") from exc
    return sorted(entries, key=lambda path: path.name)


def _check_size(size: int) -> None:
    check_whole("the size of a picture in pixels", size, 1)
