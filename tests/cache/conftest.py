"""Fixtures of the cache's tests: caches that are closed at the end, and snapshots of a folder."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reverie.cache.manager import CacheManager
from reverie.testing.samples import png_bytes

KINDS = ("json", "sqlite")


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Each kind of index in turn."""
    return str(request.param)


@pytest.fixture
def open_cache(tmp_path: Path) -> Iterator[Callable[..., CacheManager]]:
    """``open_cache(folder=tmp_path / "cache", **options)``: a cache that is closed after the test."""
    opened: list[CacheManager] = []

    def make(folder: Any = tmp_path / "cache", **options: Any) -> CacheManager:
        cache = CacheManager(folder, **options)
        opened.append(cache)
        return cache

    yield make
    for cache in opened:
        cache.close()


@pytest.fixture
def source(tmp_path: Path) -> Callable[..., Path]:
    """``source(seed=0, side=8, name=None)``: a small PNG file of noise, the same bytes for a seed."""

    def write(seed: int = 0, side: int = 8, name: str | None = None) -> Path:
        path = tmp_path / (name or f"source-{seed}-{side}.png")
        path.write_bytes(png_bytes(seed, side, side))
        return path

    return write


@pytest.fixture
def snapshot() -> Callable[[Path], dict[str, bytes]]:
    """``snapshot(folder)``: name to bytes of all files below, without locks and SQLite's shared memory."""

    def take(folder: Path) -> dict[str, bytes]:
        return {
            str(path.relative_to(folder)): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file() and not path.name.endswith((".lock", "-shm", "-wal"))
        }

    return take


@pytest.fixture
def readable_folder() -> Iterator[Path]:
    """A folder that every user of this machine may enter, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="reverie-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)
