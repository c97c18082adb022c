"""What every test may use: one BLAS thread, hypothesis profiles, and three small factories."""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"  # read once, when NumPy is first imported
os.environ["HF_HUB_OFFLINE"] = "1"  # no test asks the network; those of downloads have a server of their own

# ruff: noqa: E402 - the lines above come first

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

hypothesis.settings.register_profile("default", deadline=None, max_examples=60)
hypothesis.settings.register_profile("ci", deadline=None, max_examples=60, derandomize=True, database=None)
hypothesis.settings.register_profile("long", deadline=None, max_examples=2000)
hypothesis.settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "default")
)


@pytest.fixture
def picture() -> Callable[..., NDArray[np.uint8]]:
    """``picture(seed=0, height=24, width=32)``: a seeded ``(h, w, 3)`` uint8 scene, smooth with a disc."""

    def make(seed: int = 0, height: int = 24, width: int = 32) -> NDArray[np.uint8]:
        rng = np.random.default_rng(seed)
        y, x = np.mgrid[0:height, 0:width] / max(height, width)
        waves = sum(
            rng.uniform(0.3, 1.0, 3) * np.sin(rng.uniform(2, 12) * (x + rng.uniform(-1, 1) * y))[..., None]
            for _ in range(3)
        )
        disc = (x - rng.uniform(0.2, 0.8)) ** 2 + (y - rng.uniform(0.2, 0.6)) ** 2 < rng.uniform(0.01, 0.06)
        scene = 128 + 40 * waves + disc[..., None] * rng.uniform(-90, 90, 3)
        return np.clip(scene, 0, 255).astype(np.uint8)

    return make


@pytest.fixture
def png(tmp_path: Path, picture: Callable[..., NDArray[np.uint8]]) -> Callable[..., Path]:
    """``png(name="picture.png", seed=0, height=24, width=32)``: a picture as a file; its path."""

    def write(name: str = "picture.png", seed: int = 0, height: int = 24, width: int = 32) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(seed, height, width)).save(path)
        return path

    return write


@pytest.fixture
def unit() -> Callable[..., NDArray[np.float32]]:
    """``unit(count=1, dimensions=512, seed=0)``: ``(count, dimensions)`` float32 rows of unit length."""

    def make(count: int = 1, dimensions: int = 512, seed: int = 0) -> NDArray[np.float32]:
        rows = np.random.default_rng(seed).standard_normal((count, dimensions))
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    return make


# CLIP: tiny networks, made once a run, and folders of their own for what engines keep.


@pytest.fixture(scope="session")
def clip_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in the place of the user's cache and data folders."""
    from reverie.encoders import openvino_engine

    home = tmp_path_factory.mktemp("clip-home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REVERIE_MODELS", str(home / "models"))
        patch.setenv("XDG_CACHE_HOME", str(home / "cache"))
        patch.setattr(openvino_engine, "user_cache_dir", lambda *_, **__: str(home / "cache"))
        yield home


@pytest.fixture(scope="session")
def tiny(clip_home: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """Folder of a tiny CLIP in the Hub's layout, and the transformers model it was made from."""
    import clip_zoo

    folder = tmp_path_factory.mktemp("tiny-clip")
    return folder, clip_zoo.tiny_clip(folder)


@pytest.fixture
def tiny_folder(tiny: tuple[Path, Any]) -> Path:
    """Folder of a tiny CLIP in the Hub's layout."""
    return tiny[0]
