"""`CacheManager.add`: the six steps of the specification, in an order that no failure breaks."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from reverie import storage
from reverie.cache import json_index, json_state, local_images, sqlite_writer
from reverie.cache.json_index import JsonIndex
from reverie.cache.local_images import LocalImages
from reverie.cache.sqlite_index import SqliteIndex
from reverie.errors import (
    EmbeddingError,
    EncoderMismatchError,
    ImageError,
    ImageNotFoundError,
    InputError,
    ParamsError,
    StorageError,
)
from reverie.storage import content_hash
from reverie.testing.samples import picture, vector

Open = Callable[..., Any]
Source = Callable[..., Path]


def stored_image(cache: Any, cache_id: str) -> Image.Image:
    """The stored picture, decoded; no file stays open."""
    image = Image.open(io.BytesIO(cache.read_image(cache_id)))
    image.load()
    return image


def test_an_add_does_all_six_steps(open_cache: Open, source: Source, kind: str) -> None:
    """Id, copy, entry, in memory, limit enforced, on the disk: after `add` a second cache sees it all."""
    cache = open_cache(max_size=2, index=kind)
    params = {"denoise": 0.4, "steps": 4, "nested": {"list": [1, None, "x"]}}
    ids = [
        cache.add(source(seed), f"prompt {seed}", params, vector(seed), parents=["p"]) for seed in range(3)
    ]
    assert ids == ["cache_00001", "cache_00002", "cache_00003"]
    entry = open_cache(max_size=2, index=kind).get("cache_00003")
    assert entry.image_path == cache.image_dir / "cache_00003.png"
    assert entry.image_path.read_bytes() == source(2).read_bytes()
    assert (entry.prompt, entry.generation_params, entry.parents) == ("prompt 2", params, ("p",))
    assert np.array_equal(entry.embedding, vector(2))
    assert entry.encoder == "suite-1"
    assert entry.content_hash == content_hash(source(2).read_bytes())
    assert entry.byte_size == source(2).stat().st_size
    assert sorted(path.name for path in cache.image_dir.iterdir()) == ["cache_00002.png", "cache_00003.png"]
    assert cache.check().ok


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        (".png", {}),
        (".jpg", {"quality": 90}),
        (".jpeg", {}),
        (".webp", {"lossless": True}),
        (".gif", {}),
        (".bmp", {}),
        (".tiff", {}),
        (".tif", {}),
        (".ppm", {}),
    ],
)
def test_a_file_keeps_its_format_and_every_byte(
    open_cache: Open, tmp_path: Path, suffix: str, options: dict[str, Any]
) -> None:
    """What Pillow reads is stored as it is, under its own suffix."""
    path = tmp_path / f"image{suffix}"
    Image.fromarray(picture(1, 16, 24)).save(path, **options)
    cache = open_cache()
    cache_id = cache.add(path)
    assert cache.get(cache_id).image_path.name == f"{cache_id}{suffix}"
    assert cache.read_image(cache_id) == path.read_bytes()
    assert cache.check().ok


@pytest.mark.parametrize(
    ("name", "stored"),
    [("photo.png", ".jpg"), ("photo", ".jpg"), ("photo.txt", ".jpg"), ("PHOTO.JPG", ".jpg")],
)
def test_a_wrong_suffix_becomes_the_real_one(
    open_cache: Open, tmp_path: Path, name: str, stored: str
) -> None:
    """The bytes say what the file is, whatever its name says."""
    path = tmp_path / name
    Image.fromarray(picture(1)).save(path, format="JPEG")
    cache = open_cache()
    entry = cache.get(cache.add(path))
    assert entry.image_path.suffix == stored
    assert entry.image_path.read_bytes() == path.read_bytes()


def test_the_metadata_of_a_jpeg_is_kept(open_cache: Open, tmp_path: Path) -> None:
    """EXIF, comment and colour profile of a file come back, since its bytes are not touched."""
    exif = Image.Exif()
    exif[0x010E] = "ethereal angel"
    Image.fromarray(picture(1)).save(
        tmp_path / "a.jpg", exif=exif, comment=b"dream", icc_profile=b"profile" * 20
    )
    cache = open_cache()
    stored = stored_image(cache, cache.add(tmp_path / "a.jpg"))
    assert stored.getexif()[0x010E] == "ethereal angel"
    assert stored.info["comment"] == b"dream"
    assert stored.info["icc_profile"] == b"profile" * 20


def test_the_metadata_of_a_pil_image_is_kept(open_cache: Open, tmp_path: Path) -> None:
    """Text chunks (where generators put their prompts), EXIF, XMP and profile go into the PNG."""
    texts = PngImagePlugin.PngInfo()
    texts.add_text("parameters", "steps: 4, émoji")
    texts.add_itxt("workflow", '{"nodes": "ü"}')
    exif = Image.Exif()
    exif[0x010E] = "ethereal angel"
    Image.fromarray(picture(1)).save(
        tmp_path / "a.png", pnginfo=texts, exif=exif, icc_profile=b"profile" * 20, dpi=(72, 72)
    )
    image = Image.open(io.BytesIO((tmp_path / "a.png").read_bytes()))
    image.info["xmp"] = b"<x:xmpmeta/>"
    cache = open_cache()
    stored = stored_image(cache, cache.add(image))
    assert stored.text["parameters"] == "steps: 4, émoji"
    assert stored.text["workflow"] == '{"nodes": "ü"}'
    assert stored.info["xmp"] == b"<x:xmpmeta/>"
    assert stored.getexif()[0x010E] == "ethereal angel"
    assert stored.info["icc_profile"] == b"profile" * 20
    assert round(stored.info["dpi"][0]) == 72


def test_odd_metadata_of_a_pil_image_does_not_stop_an_add(open_cache: Open) -> None:
    """Keys that PNG cannot hold and broken EXIF are passed over; the pixels and the rest are stored."""
    image = Image.fromarray(picture(1))
    image.info.update(
        {"": "empty", "k" * 80: "long", "émo🦊": "key", "kept": "yes", "exif": b"rubbish", ("a",): "b"}
    )
    cache = open_cache()
    stored = stored_image(cache, cache.add(image))
    assert np.array_equal(np.asarray(stored), picture(1))
    assert stored.text == {"kept": "yes"}


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_a_pil_image_keeps_its_mode(open_cache: Open, mode: str) -> None:
    """What PNG can hold is stored without conversion."""
    image = Image.fromarray(picture(1, 16, 16)).convert("L" if mode == "I;16" else mode)
    if mode == "I;16":
        image = Image.fromarray((np.arange(256, dtype=np.uint16) * 257).reshape(16, 16))
    cache = open_cache()
    stored = stored_image(cache, cache.add(image))
    assert (stored.format, stored.mode) == ("PNG", mode)
    assert stored.tobytes() == image.tobytes()


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "HSV", "F", "RGBX"])
def test_other_modes_become_rgb_and_keep_their_texts(open_cache: Open, mode: str) -> None:
    """PNG has no such mode: the picture is stored as it is seen."""
    image = Image.fromarray(picture(1, 16, 16)).convert("L" if mode == "F" else "RGB").convert(mode)
    image.info["prompt"] = "kept"
    cache = open_cache()
    stored = stored_image(cache, cache.add(image))
    assert (stored.format, stored.mode) == ("PNG", "RGB")
    assert stored.text["prompt"] == "kept"


def test_an_array_becomes_a_png_of_the_same_pixels(open_cache: Open) -> None:
    """Also read-only and strided arrays."""
    pixels = picture(3, 30, 40)[::2, ::-1]
    pixels.setflags(write=False)
    cache = open_cache()
    cache_id = cache.add(pixels)
    assert cache.get(cache_id).image_path.suffix == ".png"
    assert np.array_equal(np.asarray(stored_image(cache, cache_id)), pixels)


def test_an_embedding_is_stored_as_a_unit_vector(open_cache: Open, kind: str) -> None:
    """Lists and arrays of any number type; its encoder is named or not known."""
    cache = open_cache(index=kind)
    entry = cache.get(cache.add(picture(1), embedding=[3, 0, 4]))
    assert entry.embedding.tolist() == pytest.approx([0.6, 0.0, 0.8])
    assert (entry.embedding.dtype, entry.encoder) == (np.float32, None)
    assert not entry.embedding.flags.writeable
    named = cache.get(cache.add(picture(1), embedding=np.array([0.0, 0.0, -2.0]), encoder="mine"))
    assert (named.encoder, named.embedding.tolist()) == ("mine", [0, 0, -1])


BAD_ARGUMENTS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"prompt": None}, InputError, "prompt must be text"),
    ({"prompt": b"bytes"}, InputError, "prompt must be text"),
    ({"prompt": "half \ud83e fox"}, InputError, "not valid text"),
    ({"generation_params": [1]}, ParamsError, "must be a dict"),
    ({"generation_params": {1: 2}}, ParamsError, "keys must be strings"),
    ({"generation_params": {"f": float("nan")}}, ParamsError, "'f'"),
    ({"generation_params": {"f": [float("inf")]}}, ParamsError, "f"),
    ({"generation_params": {"x": object()}}, ParamsError, "'x'"),
    ({"generation_params": {"x": {1, 2}}}, ParamsError, "'x'"),
    ({"generation_params": {"big": 2**70}}, ParamsError, "'big'"),
    ({"generation_params": {"half": "\ud83e"}}, ParamsError, "'half'"),
    ({"embedding": [1.0, float("nan")]}, EmbeddingError, "NaN"),
    ({"embedding": [float("inf"), 1.0]}, EmbeddingError, "infinite"),
    ({"embedding": [0.0, 0.0]}, EmbeddingError, "zeros"),
    ({"embedding": []}, EmbeddingError, "empty"),
    ({"embedding": [[1.0, 2.0]]}, EmbeddingError, "shape"),
    ({"embedding": "abc"}, EmbeddingError, "numbers"),
    ({"embedding": {"color": [1.0]}}, EmbeddingError, "numbers"),
    ({"embedding": [1.0, 2.0, 3.0]}, EmbeddingError, "3 numbers"),
    ({"embedding": vector(1), "encoder": "another"}, EncoderMismatchError, "suite-1"),
    ({"embedding": [1.0] * 8, "encoder": 5}, InputError, "encoder"),
    ({"embedding": [1.0] * 8, "encoder": "\ud83e"}, InputError, "encoder"),
    ({"embedding": [1.0] * 8, "encoder": ""}, InputError, "encoder's name is empty"),
    ({"parents": "cache_00001"}, InputError, "parents"),
    ({"parents": 5}, InputError, "parents"),
    ({"parents": [1, 2]}, InputError, "parents"),
    ({"parents": ["\ud83e"]}, InputError, "parents"),
    ({"image_path": None}, ImageError, "NoneType"),
    ({"image_path": b"bytes.png"}, ImageError, "bytes"),
    ({"image_path": ""}, ImageError, "no image at"),
    ({"image_path": "nul\0.png"}, ImageNotFoundError, "null"),
    ({"image_path": "/etc/passwd/x.png"}, ImageNotFoundError, "no image"),
    ({"image_path": np.zeros((8, 8))}, ImageError, "shape"),
]


@pytest.mark.parametrize("bad", BAD_ARGUMENTS)
def test_what_cannot_be_stored_is_refused_and_nothing_changes(
    open_cache: Open, snapshot: Callable[[Path], Any], kind: str, bad: tuple[Any, type[Exception], str]
) -> None:
    """Each wrong argument gives an error of ours that names it; folder and content stay as they were."""
    change, error, says = bad
    cache = open_cache(index=kind)
    cache.add(picture(0), "first", {"a": 1}, vector(0))
    before, entries = snapshot(cache.cache_dir), cache.get_all()
    with pytest.raises(error, match=says):
        cache.add(**{"image_path": picture(1), "prompt": "p", **change})
    assert (snapshot(cache.cache_dir), cache.get_all()) == (before, entries)
    assert cache.add(picture(1)) == "cache_00002"
    cache.close()
    assert open_cache(index=kind).size() == 2  # what a sound add wrote can be read again


def test_a_text_of_another_class_is_stored_as_text(open_cache: Open, kind: str) -> None:
    """NumPy's strings come out of arrays of prompts."""
    cache = open_cache(index=kind)
    cache_id = cache.add(picture(0), np.array(["an angel"])[0])
    cache.close()
    assert open_cache().get(cache_id).prompt == "an angel"


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "text", "folder", "bomb", "hollow"])
def test_a_bad_image_file_is_refused_and_nothing_changes(
    open_cache: Open,
    source: Source,
    snapshot: Callable[[Path], Any],
    monkeypatch: pytest.MonkeyPatch,
    damage: str,
) -> None:
    """Missing, zero bytes, cut short, not an image, a folder, too many or no pixels: named, never stored."""
    cache = open_cache()
    path = source(0).with_name("bad.png")
    if damage == "folder":
        path.mkdir()
    elif damage == "bomb":
        monkeypatch.setattr(local_images, "MAX_PIXELS", 63)
        path = source(1)
    elif damage != "missing":
        whole = source(1, 64).read_bytes()
        hollow = whole[:33] + whole[-12:]  # the header and the end, each with its right checksum
        content = {"empty": b"", "cut": whole[:-500], "text": b"not an image", "hollow": hollow}
        path.write_bytes(content[damage])
    says = {"missing": "no image at", "empty": "0 bytes", "cut": "broken", "text": "not an image"}
    says |= {"folder": "folder", "bomb": "too large", "hollow": "no pixels"}
    before = snapshot(cache.cache_dir)
    with pytest.raises(ImageError, match=says[damage]):
        cache.add(path)
    assert snapshot(cache.cache_dir) == before


def test_a_real_decompression_bomb_is_not_opened(open_cache: Open, tmp_path: Path) -> None:
    """A PNG of 40,000 x 40,000 pixels in a few hundred bytes is refused by its header."""
    data = io.BytesIO()
    Image.new("1", (1, 1)).save(data, format="PNG")
    chunk = b"IHDR" + (40_000).to_bytes(4, "big") * 2 + data.getvalue()[24:29]
    head = data.getvalue()[:12] + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    (tmp_path / "bomb.png").write_bytes(head + data.getvalue()[33:])
    with pytest.raises(ImageError, match="too large"):
        open_cache().add(tmp_path / "bomb.png")


@pytest.mark.parametrize("seed", range(40))
def test_hostile_files_never_raise_what_is_not_ours(open_cache: Open, tmp_path: Path, seed: int) -> None:
    """Flipped and cut bytes of seven formats are stored or refused as ImageError, whatever Pillow does."""
    rng = np.random.default_rng(seed)
    cache = open_cache(max_size=None, index="sqlite")
    for suffix in (".png", ".jpg", ".gif", ".webp", ".tiff", ".bmp", ".ppm"):
        whole = tmp_path / f"whole{suffix}"
        Image.fromarray(picture(seed, 12, 12)).save(whole)
        data = bytearray(whole.read_bytes())
        for place in rng.integers(0, len(data), 4):
            data[place] = rng.integers(256)
        path = tmp_path / f"hurt{suffix}"
        path.write_bytes(bytes(data[: rng.integers(1, len(data) + 1)]))
        with contextlib.suppress(ImageError):
            cache.add(path)
    assert not [name for name in cache.image_dir.iterdir() if name.name.startswith(".partial")]


# -- the order of an add, proved by failing at every step


class FailureError(Exception):
    """Not an error of ours: whatever it is, it comes out and nothing is left behind."""


def fail(*arguments: Any, **options: Any) -> Any:
    """Stands in for the step that fails."""
    raise FailureError


def disk_error(*arguments: Any, **options: Any) -> Any:
    """The disk gives up."""
    raise OSError(28, "No space left on device")


ADD_STEPS = {
    "write the image": (local_images, "write_new", disk_error, StorageError),
    "stage": (LocalImages, "stage", fail, FailureError),
    "choose a name": (LocalImages, "exists", fail, FailureError),
    "give the name": (LocalImages, "commit", fail, FailureError),
    "flush the image": (storage, "_flush", disk_error, StorageError),
    "flush the image and its folder": (local_images, "flush_files", disk_error, StorageError),
    "write the index": (json_index, "replace_file", disk_error, OSError),
    "write the index's file": (storage, "write_new", disk_error, StorageError),
}


@pytest.mark.parametrize("step", ADD_STEPS)
def test_a_json_add_that_fails_at_any_step_changes_nothing(
    open_cache: Open,
    source: Source,
    snapshot: Callable[[Path], Any],
    monkeypatch: pytest.MonkeyPatch,
    step: str,
) -> None:
    """A full cache in which the add would evict: after the failure all is as before, and ids go on."""
    check_failing_add(open_cache(max_size=2, index="json"), source, snapshot, monkeypatch, ADD_STEPS[step])


WRITER_CALLS = ["next_number", "remove", "put", "use", "trash", "forget_trash"]
SQLITE_STEPS = {
    **{name: step for name, step in ADD_STEPS.items() if "index" not in name},
    "take the writer's place": (SqliteIndex, "_refuse_if_gone", fail, FailureError),
}


@pytest.mark.parametrize("step", SQLITE_STEPS)
def test_an_sqlite_add_that_fails_at_any_step_changes_nothing(
    open_cache: Open,
    source: Source,
    snapshot: Callable[[Path], Any],
    monkeypatch: pytest.MonkeyPatch,
    step: str,
) -> None:
    """The same with a database."""
    check_failing_add(
        open_cache(max_size=2, index="sqlite"), source, snapshot, monkeypatch, SQLITE_STEPS[step]
    )


@pytest.mark.parametrize("step", [*itertools.product(["json", "sqlite"], WRITER_CALLS), ("sqlite", "finish")])
def test_an_add_that_fails_in_the_writer_changes_nothing(
    open_cache: Open,
    source: Source,
    snapshot: Callable[[Path], Any],
    monkeypatch: pytest.MonkeyPatch,
    step: Any,
) -> None:
    """Every call of the index's writer may fail."""
    kind, method = step
    writer = {"json": json_state.JsonState, "sqlite": sqlite_writer.SqliteWriter}[kind]
    cache = open_cache(max_size=2, index=kind)
    check_failing_add(cache, source, snapshot, monkeypatch, (writer, method, fail, FailureError))


def check_failing_add(
    cache: Any,
    source: Source,
    snapshot: Callable[[Path], Any],
    monkeypatch: pytest.MonkeyPatch,
    step: tuple[Any, str, Any, type[Exception]],
) -> None:
    """Fill, fail, compare, go on."""
    ids = [cache.add(source(seed), f"prompt {seed}", {}, vector(seed)) for seed in range(2)]
    cache.flush()
    before, entries = snapshot(cache.cache_dir), cache.get_all()
    place, name, action, error = step
    with monkeypatch.context() as patch:
        patch.setattr(place, name, action)
        with pytest.raises(error):
            cache.add(source(2), "never", {}, vector(2))
    assert sorted(path.name for path in cache.image_dir.iterdir()) == [f"{each}.png" for each in ids]
    assert cache.get_all() == entries
    after = snapshot(cache.cache_dir)
    assert {name: data for name, data in after.items() if not name.endswith(".sqlite")} == {
        name: data for name, data in before.items() if not name.endswith(".sqlite")
    }
    assert cache.check().ok
    assert cache.add(source(3), "next") == "cache_00003"
    assert cache.ids() == ["cache_00002", "cache_00003"]
    assert cache.check().ok


def test_a_failed_add_never_deletes_what_another_process_stored(
    open_cache: Open, source: Source, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """The name that a failed add had chosen may be another's picture by the time it cleans up."""
    cache, other = open_cache(index=kind), open_cache(index=kind)
    seen: list[bytes] = []
    discard = LocalImages.discard

    def other_is_in_between(self: LocalImages, staged: Any) -> None:
        # The other has its picture in place, its row not yet: the moment between two steps of its add.
        monkeypatch.setattr(LocalImages, "discard", discard)
        discard(self, staged)
        target = self.root / "cache_00001.png"
        target.write_bytes(source(5).read_bytes())
        seen.append(target.read_bytes())

    with monkeypatch.context() as patch:
        patch.setattr(LocalImages, "commit", fail)
        monkeypatch.setattr(LocalImages, "discard", other_is_in_between)
        with pytest.raises(FailureError):
            cache.add(source(1))
    assert seen == [source(5).read_bytes()]
    assert (cache.image_dir / "cache_00001.png").read_bytes() == source(5).read_bytes()
    assert other.size() == 0


def test_an_index_that_was_written_keeps_its_image(
    open_cache: Open, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When only the last flush of the folder fails the entry is there: row and picture stay together."""
    cache = open_cache(index="json")
    replace = json_index.replace_file

    def replaced_but_not_flushed(path: Path, *arguments: Any, **options: Any) -> None:
        replace(path, *arguments, **options)
        if path.name == "cache_index.json":
            raise StorageError("cannot flush")

    with monkeypatch.context() as patch:
        patch.setattr(json_index, "replace_file", replaced_but_not_flushed)
        with pytest.raises(StorageError):
            cache.add(source(1))
    assert cache.ids() == ["cache_00001"]
    assert cache.check().ok
    assert cache.add(source(2)) == "cache_00002"


def test_too_many_open_files_after_the_write_is_not_an_error(
    open_cache: Open, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index is written by then: the add counts, and the index is read again at the next look."""
    cache = open_cache(index="json")
    real = json_index.os.open

    def no_handles(path: Any, flags: int, *rest: Any, **options: Any) -> int:
        if str(path).endswith("cache_index.json"):
            raise OSError(24, "Too many open files")
        return real(path, flags, *rest, **options)

    with monkeypatch.context() as patch:
        patch.setattr(json_index.os, "open", no_handles)
        assert cache.add(source(1)) == "cache_00001"
    assert cache.add(source(2)) == "cache_00002"
    assert open_cache().ids() == ["cache_00001", "cache_00002"]


def test_what_is_on_the_disk_is_the_json_of_the_index(open_cache: Open, source: Source) -> None:
    """After each add the file alone tells everything."""
    cache = open_cache(index="json")
    for seed in range(3):
        cache.add(source(seed), f"prompt {seed}")
        content = json.loads(cache.index_path.read_bytes())
        assert [entry["prompt"] for entry in content["entries"]] == [f"prompt {n}" for n in range(seed + 1)]
    assert isinstance(cache._index, JsonIndex)


def test_listeners_hear_of_adds_and_evictions(open_cache: Open, source: Source, kind: str) -> None:
    """`on_added` and `on_evicted` get whole entries, after the write; they may use the cache."""
    cache = open_cache(max_size=1, index=kind)
    heard: list[tuple[str, str, int]] = []
    cache.on_added.append(lambda entry: heard.append(("added", entry.prompt, cache.size())))
    cache.on_evicted.append(lambda entry: heard.append(("evicted", entry.prompt, cache.size())))
    cache.add(source(0), "a")
    cache.add(source(1), "b")
    assert heard == [("added", "a", 1), ("added", "b", 1), ("evicted", "a", 1)]
