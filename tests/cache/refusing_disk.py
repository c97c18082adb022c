"""A disk that refuses, for tests: builds the library beside this file and steers it.

As a program (``refusing_disk.py KIND DURABILITY FOLDER FIRST STEP``) it is the process that has the library
loaded: it lives the same life of a cache once for every write to the disk that there is in it, that one
refused, and sees to it that nothing is lost.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import mmap
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from reverie.cache.adding import NewEntry
from reverie.cache.manager import CacheManager
from reverie.errors import EntryNotFoundError, StorageError
from reverie.storage import content_hash

SOURCE = Path(__file__).with_suffix(".c")
MAX_SIZE = 4
KILL = -9


class RefusingDisk:
    """Steers what is refused below a folder, in every process that has `environment`.

    Args:
        library: The compiled library.
        folder: Where calls are counted and refused.
        control: A file for the two to talk by; made when it is not there.
    """

    def __init__(self, library: Path, folder: Path, control: Path) -> None:
        if not control.exists():
            control.write_bytes(bytes(40))
        with control.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 40)
        self.environment = {
            **os.environ,
            "LD_PRELOAD": str(library),
            "REFUSING_DISK": f"{folder}/",
            "REFUSING_CONTROL": str(control),
        }

    def _set(self, place: int, value: int) -> None:
        struct.pack_into("<q", self._map, 8 * place, value)

    @property
    def calls(self) -> int:
        """How many calls there were."""
        return struct.unpack_from("<q", self._map)[0]

    def refuse(self, call: int, *, count: int = 1, error: int = errno.ENOSPC) -> None:
        """Refuse a call, 1 is the next one, and so many in all; 0: it and all that follow."""
        self._set(2, count)
        self._set(3, error)
        self._set(1, self.calls + call)

    def relent(self) -> None:
        """Refuse nothing."""
        self._set(1, 0)

    def fail_locks(self, error: int) -> None:
        """Let every lock fail with an error; 0: none."""
        self._set(4, error)


def compiled(folder: Path) -> Path:
    """The library, compiled into a folder."""
    library = folder / "refusing_disk.so"
    command = [os.environ.get("CC", "cc"), "-shared", "-fPIC", "-O1", "-o", str(library), str(SOURCE), "-ldl"]
    subprocess.run(command, check=True)
    return library


# ----------------------------------------------------------------------------- the life of a cache


def png(seed: int) -> bytes:
    """A small PNG of seeded noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def vector(seed: int) -> np.ndarray:
    """Eight seeded numbers."""
    return np.random.default_rng(seed).standard_normal(8)


class Life:
    """The same steps every time; what of it was acknowledged, and what may be gone.

    Attributes:
        known: The content hash of every entry that was acknowledged and has not gone since.
        going: Entries that a refused step may have taken, or not.
        refused: How many steps were refused.
    """

    def __init__(self, kind: str, durability: str, folder: Path) -> None:
        self._options = {"max_size": MAX_SIZE, "index": kind, "durability": durability}
        self._folder = folder
        self.known: dict[str, str] = {}
        self.going: set[str] = set()
        self.refused = 0
        self._sure: set[str] = set()  # of what was not waited for, all up to the last flush
        for seed in range(9):
            (folder.parent / f"{folder.name}-{seed}.png").write_bytes(png(seed))

    def source(self, seed: int) -> Path:
        """A picture beside the cache."""
        return self._folder.parent / f"{self._folder.name}-{seed}.png"

    @contextlib.contextmanager
    def step(self, *going: str) -> Iterator[None]:
        """One step, which may be refused; then it is as if it had not been, or it has taken ``going``."""
        try:
            yield
        except StorageError as error:
            if not str(error) or error.errno not in (errno.ENOSPC, None):
                raise
            self.refused += 1
            self.going.update(going)
        except EntryNotFoundError:
            # It went with a step that failed at its very end, or it waits in memory until there is room.
            if not self.refused:
                raise

    def evicted(self, entry) -> None:
        """An entry went for others."""
        self.known.pop(entry.cache_id, None)

    def live(self, disk: RefusingDisk, *, relent: bool) -> None:
        """All steps; with ``relent`` the disk takes everything again before the last ones."""
        with self.step():
            cache = CacheManager(self._folder, **self._options)
            cache.on_evicted.append(self.evicted)
            try:
                self._steps(cache)
                if relent:
                    disk.relent()
                    self._after(cache)
            finally:
                with self.step():
                    cache.close()
                    self._sure = set(self.known)
        if self._options["durability"] == "batched":  # what was never flushed was not promised
            self.known = {each: digest for each, digest in self.known.items() if each in self._sure}

    def _oldest(self) -> list[str]:
        """What an add may have to evict: any one of them, which one is the policy's affair."""
        return list(self.known) if len(self.known) >= MAX_SIZE - 2 else []

    def _add(self, cache: CacheManager, seed: int, **options) -> None:
        with self.step(*self._oldest()):
            cache_id = cache.add(self.source(seed), f"prompt {seed}", {"n": seed}, vector(seed), **options)
            self.known[cache_id] = content_hash(png(seed))

    def _steps(self, cache: CacheManager) -> None:
        self._add(cache, 0)
        self._add(cache, 1, pinned=True)
        with self.step(*self._oldest()):
            ids = cache.add_many([NewEntry(self.source(seed), f"prompt {seed}") for seed in (2, 3)])
            self.known.update(zip(ids, (content_hash(png(seed)) for seed in (2, 3)), strict=True))
        self._add(cache, 4)  # evicts
        with self.step():
            cache.ids()  # what waited is stored: what went for it is known
        for cache_id in list(self.known)[:1]:
            with self.step():
                cache.pin(cache_id)
            with self.step():
                cache.set_embeddings({cache_id: vector(9)}, encoder="second")
                cache.unpin(cache_id)
        with self.step():
            cache.flush()
            self._sure = set(self.known)
        for cache_id in list(self.known)[-1:]:
            with self.step(cache_id):
                cache.remove(cache_id)
                self.known.pop(cache_id)
        self._add(cache, 5)

    def _after(self, cache: CacheManager) -> None:
        """There is room again: the same object goes on, and what waited is stored."""
        before, self.refused = self.refused, 0
        for _ in range(20):  # what went wrong in the background is told once, then tried again
            try:
                cache.flush()
                break
            except StorageError:
                continue
        for seed in (6, 7):
            self._add(cache, seed)
        cache.flush()
        if self.refused:
            raise AssertionError("refused although there was room")
        self.refused = before

    def look(self) -> None:
        """Everything acknowledged is there and whole, before a repair and after it."""
        for _ in range(2):
            with CacheManager(self._folder, max_size=None) as cache:
                there = {entry.cache_id: entry for entry in cache.get_all()}
                lost = set(self.known) - set(there)
                if lost - self.going or len(lost) > self.refused:
                    raise AssertionError(f"lost {sorted(lost)}, {self.refused} steps were refused")
                for cache_id, digest in self.known.items():
                    if cache_id in there and content_hash(cache.read_image(cache_id)) != digest:
                        raise AssertionError(f"{cache_id} is not what was added")
                for entry in there.values():
                    Image.open(io.BytesIO(cache.read_image(entry.cache_id))).load()
                unsound = [each for each in cache.check().problems if each.kind not in LEFT_OVER]
                if unsound:
                    raise AssertionError(f"unsound: {unsound}")
                cache.check(fix=True)
                if not cache.check().ok:
                    raise AssertionError("not sound after a repair")


LEFT_OVER = {"orphan image", "unfinished write"}
"""What a refused write may leave behind: files that no entry needs."""


def main(kind: str, durability: str, folder: str, first: str, step: str) -> None:
    """Live with every ``step``-th write refused from ``first`` on; says how many there are in a life."""
    disk = RefusingDisk(Path(os.environ["LD_PRELOAD"]), Path(folder), Path(os.environ["REFUSING_CONTROL"]))

    def once(number: int) -> tuple[int, int]:
        life = Life(kind, durability, Path(folder) / f"cache-{number}")
        before = disk.calls
        lasting = number % 3
        if number:
            disk.refuse(number, count=0 if lasting else 1)
        life.live(disk, relent=lasting != 2)
        disk.relent()
        made = disk.calls - before
        life.look()
        shutil.rmtree(Path(folder) / f"cache-{number}")
        return made, life.refused

    calls, _ = once(0)
    refused = {number: once(number)[1] for number in range(int(first), calls + 1, int(step))}
    sys.stdout.write(json.dumps({"calls": calls, "refused": refused}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
