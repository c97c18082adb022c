"""Seed images: the built-in ones, their script, and folders of the user's own pictures."""

from __future__ import annotations

import io
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, features

import reverie.generators
from reverie.errors import ImageError, InputError
from reverie.generators.seed_images import built_in_seeds, load_seeds, seed_names

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = Path(reverie.generators.__file__).parent / "seeds"
WRITTEN_WITH = "1.6.0"  # libwebp: another version may compress otherwise


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """``tools/make_seeds.py`` as a module."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    return import_module("make_seeds")


def decode(data: bytes) -> NDArray[np.uint8]:
    """Pixels of a file's bytes."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def check_shipped(tool: ModuleType, kind: str, variant: int) -> None:
    """The drawn picture is the shipped one: bit-equal after compression, or close under another libwebp."""
    drawn = tool.render(kind, variant)
    shipped = decode((SHIPPED / f"{kind}-{variant + 1}.webp").read_bytes())
    if features.version("webp") == WRITTEN_WITH:
        assert np.array_equal(decode(tool.encode(drawn)), shipped)
    assert np.abs(drawn.astype(int) - shipped).mean() < 8


def test_there_are_two_pictures_of_each_of_twelve_kinds() -> None:
    """The names are sorted, 12 kinds, numbered 1 and 2."""
    names = seed_names()
    assert names == sorted(names)
    kinds = sorted({name.rpartition("-")[0] for name in names})
    assert len(kinds) == 12
    assert names == [f"{kind}-{number}" for kind in kinds for number in (1, 2)]


@pytest.mark.parametrize("size", [64, 128, 256])
def test_built_in_pictures_have_the_size_asked_for(size: int) -> None:
    """Each is a square of RGB bytes."""
    seeds = built_in_seeds(size)
    assert len(seeds) == 24
    assert {(seed.shape, seed.dtype.name) for seed in seeds} == {((size, size, 3), "uint8")}


def test_built_in_pictures_are_all_different() -> None:
    """No two look alike even at 8 pixels, and none is nearly flat."""
    small = np.array(built_in_seeds(8), dtype=float)
    gaps = np.abs(small[:, None] - small[None]).mean(axis=(2, 3, 4))
    assert gaps[~np.eye(24, dtype=bool)].min() > 12
    assert min(seed.std() for seed in built_in_seeds(128)) > 12


def test_built_in_pictures_are_small_files() -> None:
    """All together stay under 400 kB."""
    assert 0 < sum(path.stat().st_size for path in SHIPPED.iterdir()) < 400_000


@pytest.mark.parametrize("size", [0, -8])
def test_a_size_without_pixels_is_refused(size: int, tmp_path: Path) -> None:
    """Both loaders name the size."""
    with pytest.raises(InputError, match=f"got {size}"):
        built_in_seeds(size)
    with pytest.raises(InputError, match=f"got {size}"):
        load_seeds(tmp_path, size)


@pytest.mark.parametrize(("kind", "variant"), [("mountains", 0), ("coral", 1)])
def test_the_script_draws_the_shipped_pictures(tool: ModuleType, kind: str, variant: int) -> None:
    """``tools/make_seeds.py`` reproduces what is shipped; two kinds here, all in the long run."""
    check_shipped(tool, kind, variant)


def test_the_script_knows_exactly_the_shipped_kinds(tool: ModuleType) -> None:
    """No picture is shipped that the script does not draw."""
    assert sorted(f"{kind}-{number}" for kind in tool.KINDS for number in (1, 2)) == seed_names()


@pytest.mark.long
def test_the_script_draws_every_shipped_picture(tool: ModuleType) -> None:
    """All 24 pictures are reproduced."""
    for kind in tool.KINDS:
        for variant in (0, 1):
            check_shipped(tool, kind, variant)


def test_a_folder_loads_in_the_order_of_its_names(tmp_path: Path, png: Callable[..., Path]) -> None:
    """Sorted by name; other files, hidden files and subfolders are passed over."""
    png("b.png", seed=2, height=48, width=48)
    png("a.png", seed=1, height=48, width=48)
    png("C.PNG", seed=3, height=48, width=48)
    png(".hidden.png", seed=4)
    png("sub.png/inner.png", seed=5)
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / "no_ending").write_bytes(b"\x89PNG")
    loaded = load_seeds(tmp_path, 48)
    expected = [np.asarray(Image.open(tmp_path / name)) for name in ("C.PNG", "a.png", "b.png")]
    assert np.array_equal(loaded, expected)


MODES: dict[str, tuple[Image.Image, dict[str, object], tuple[int, int, int]]] = {
    "rgba.png": (Image.new("RGBA", (40, 30), (200, 0, 0, 0)), {}, (255, 255, 255)),
    "palette.png": (Image.new("RGB", (30, 40), (10, 200, 30)).quantize(4), {}, (10, 200, 30)),
    "grey.png": (Image.new("L", (33, 33), 77), {}, (77, 77, 77)),
    "deep.png": (Image.fromarray(np.full((20, 50), 25700, dtype=np.uint16)), {}, (100, 100, 100)),
    "cmyk.tif": (Image.new("CMYK", (40, 40), (0, 255, 255, 0)), {}, (255, 0, 0)),
    "tiny.bmp": (Image.new("RGB", (1, 1), (1, 2, 3)), {}, (1, 2, 3)),
    "moving.gif": (
        Image.new("RGB", (40, 40), (0, 0, 255)),
        {"save_all": True, "append_images": [Image.new("RGB", (40, 40), (255, 0, 0))]},
        (0, 0, 255),
    ),
}


@pytest.mark.parametrize("name", MODES)
def test_every_mode_becomes_rgb(name: str, tmp_path: Path) -> None:
    """Transparent, palette, grey, 16-bit, CMYK, one-pixel and animated files give one RGB square each."""
    image, options, expected = MODES[name]
    image.save(tmp_path / name, **options)
    (loaded,) = load_seeds(tmp_path, 32)
    assert (loaded.shape, loaded.dtype.name) == ((32, 32, 3), "uint8")
    assert np.array_equal(np.unique(loaded.reshape(-1, 3), axis=0), [expected])


def test_a_rotated_photograph_stands_upright(tmp_path: Path) -> None:
    """EXIF orientation 6 turns the file's left side up."""
    stored = np.zeros((40, 40, 3), dtype=np.uint8)
    stored[:, :20] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(stored).save(tmp_path / "photo.png", exif=exif)
    (loaded,) = load_seeds(tmp_path, 40)
    assert (loaded[:20] == 255).all()
    assert (loaded[20:] == 0).all()


def test_a_wide_picture_is_cut_not_squeezed(tmp_path: Path) -> None:
    """The centre square of a panorama is kept."""
    wide = np.zeros((32, 96, 3), dtype=np.uint8)
    wide[:, 32:64] = 255
    Image.fromarray(wide).save(tmp_path / "wide.png")
    (loaded,) = load_seeds(tmp_path, 32)
    assert (loaded == 255).all()


@pytest.mark.parametrize("content", [b"", b"this is no picture", b"\x89PNG\r\n\x1a\n" + bytes(40)])
def test_a_broken_picture_is_named(content: bytes, tmp_path: Path, png: Callable[..., Path]) -> None:
    """A file that ends like a picture and is none stops the loading, by name."""
    png("fine.png")
    (tmp_path / "broken.png").write_bytes(content)
    with pytest.raises(ImageError, match=r"broken\.png"):
        load_seeds(tmp_path, 32)


def test_a_truncated_picture_is_named(tmp_path: Path, png: Callable[..., Path]) -> None:
    """A file cut short is broken, not half a picture."""
    path = png("cut.png", height=64, width=64)
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(ImageError, match=r"cut\.png"):
        load_seeds(tmp_path, 32)


def test_a_folder_without_pictures_says_what_was_expected(tmp_path: Path) -> None:
    """Empty, or with other files only: the message names the folder and the way out."""
    with pytest.raises(InputError, match="built-in seed images"):
        load_seeds(tmp_path, 32)
    (tmp_path / "notes.txt").write_text("not a picture")
    with pytest.raises(InputError, match=tmp_path.name):
        load_seeds(tmp_path, 32)


def test_a_missing_folder_or_a_file_is_refused(tmp_path: Path, png: Callable[..., Path]) -> None:
    """What is at the path is said: nothing, or a file."""
    with pytest.raises(InputError, match=r"no folder at .*nowhere"):
        load_seeds(tmp_path / "nowhere", 32)
    with pytest.raises(InputError, match="is a file"):
        load_seeds(png(), 32)
