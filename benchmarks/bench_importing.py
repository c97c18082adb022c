"""Importing a folder of 512 x 512 PNGs against a loop of `remember`: time a picture.

Run ``python benchmarks/bench_importing.py [--quick] [--folder DISK]``. Every turn fills a new cache with the
same pictures; the times are those of a whole import, divided by the pictures. 90 a second are 11.1 ms.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from measure import Bar, Row, Timing, arguments, header, interleave, scratch, settle, show
from reverie.cache.manager import CacheManager
from reverie.importing import import_folder
from reverie.memory import ImageMemory

A_SECOND = 90
"""Pictures with the descriptor that two cores are to import."""


def pictures(folder: Path, count: int) -> Path:
    """Gradients with grain, each another one: PNGs of about 400 kB."""
    folder.mkdir()
    y, x = np.mgrid[0:512, 0:512]
    for number in range(count):
        rng = np.random.default_rng(number)
        gradient = np.stack((x / 2, y / 2, (x + y) / 4), axis=-1) * rng.uniform(0.3, 1.0, 3)
        noisy = (gradient + rng.integers(0, 10, gradient.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / f"{number:04}.png")
    return folder


def importing(source: Path, caches: Callable[[], Path], *, link: bool, embed: bool) -> Callable[[], None]:
    """One import into a new cache."""

    def run() -> None:
        with CacheManager(caches(), None) as cache:
            report = import_folder(cache, source, link=link, embed=embed)
            assert report.finished
            assert report.imported == report.total

    return run


def one_by_one(source: Path, caches: Callable[[], Path]) -> None:
    """What one writes without `import_folder`."""
    with ImageMemory(caches(), None) as memory:
        for path in sorted(source.iterdir()):
            memory.remember(path)


def known_again(source: Path, folder: Path) -> Callable[[], None]:
    """An import of which everything is there already."""
    with CacheManager(folder, None) as cache:
        import_folder(cache, source, embed=False)

    def run() -> None:
        with CacheManager(folder, None) as cache:
            assert import_folder(cache, source).imported == 0

    return run


def rows(folder: Path, count: int, rounds: int) -> list[Row]:
    """The table."""
    source = pictures(folder / "pictures", count)
    numbers = itertools.count()

    def caches() -> Path:
        return folder / f"cache-{next(numbers)}"

    taken = interleave(
        {
            "peer": lambda: one_by_one(source, caches),
            "copy": importing(source, caches, link=False, embed=True),
            "link": importing(source, caches, link=True, embed=True),
            "copy alone": importing(source, caches, link=False, embed=False),
            "link alone": importing(source, caches, link=True, embed=False),
            "known": known_again(source, folder / "known"),
        },
        rounds=rounds,
        before=settle,
    )
    each = {name: Timing(timing.seconds / count) for name, timing in taken.items()}
    bar = Bar(at_most=1 / A_SECOND)
    return [
        Row("import a picture, copied, descriptor", each["copy"], each["peer"], bar),
        Row("import a picture, linked, descriptor", each["link"], each["peer"], bar),
        Row("import a picture, copied, no vector", each["copy alone"]),
        Row("import a picture, linked, no vector", each["link alone"]),
        Row("pass over a picture that is there", each["known"]),
    ]


def main() -> None:
    """Print the table."""
    options = arguments("Time the import of a folder.")
    print(header(options.folder))
    with scratch(options.folder) as folder:
        print("- 512 x 512 PNGs of about 400 kB; the peer is a loop of `ImageMemory.remember(path)`\n")
        show(rows(folder, 100 if options.quick else 300, 3 if options.quick else 7))


if __name__ == "__main__":
    main()
