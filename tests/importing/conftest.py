"""Folders of small pictures, and each kind of index."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reverie import CacheManager
from reverie.testing.samples import png_bytes


@pytest.fixture(params=["json", "sqlite"])
def kind(request: pytest.FixtureRequest) -> str:
    """Each kind of index in turn."""
    return str(request.param)


@pytest.fixture
def cache(tmp_path: Path, kind: str) -> Iterator[CacheManager]:
    """An empty cache without a limit."""
    with CacheManager(tmp_path / "cache", max_size=None, index=kind) as opened:
        yield opened


@pytest.fixture
def pictures(tmp_path: Path) -> Callable[..., Path]:
    """``pictures(count, folder="pictures", first=0)``: that many PNG files in a folder; the folder."""

    def make(count: int, folder: str = "pictures", first: int = 0) -> Path:
        path = tmp_path / folder
        path.mkdir(parents=True, exist_ok=True)
        for seed in range(first, first + count):
            (path / f"{seed:03}.png").write_bytes(png_bytes(seed))
        return path

    return make
