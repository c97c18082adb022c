"""What the specification's tests share: pictures on disk, a cache in a folder called "cache", a matcher."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reverie.cache.aesthetic_matcher import AestheticMatcher
from reverie.cache.manager import CacheManager

Picture = Callable[[int], Path]


@pytest.fixture
def picture_file(tmp_path: Path) -> Picture:
    """Write picture number n (smooth colours, all different) and give its path."""

    def write(number: int) -> Path:
        rng = np.random.default_rng(number)
        coarse = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        path = tmp_path / f"frame_{number}.png"
        Image.fromarray(coarse).resize((64, 64), Image.Resampling.BICUBIC).save(path)
        return path

    return write


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CacheManager]:
    """The specification's cache: a relative folder "cache", 75 entries."""
    monkeypatch.chdir(tmp_path)
    with CacheManager("cache", max_size=75) as manager:
        yield manager


@pytest.fixture(scope="session")
def matcher() -> AestheticMatcher:
    """The matcher over the built-in encoder, whose vectors have CLIP's shape."""
    return AestheticMatcher(encoder="descriptor", seed=0)
