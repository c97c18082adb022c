"""A cache as files that other programs read: everything comes back, and nothing is ever replaced."""

from __future__ import annotations

import base64
import io
import json
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest

from reverie.cache import export as export_module
from reverie.cache.adding import NewEntry
from reverie.cache.export import FORMS, export_cache, form_of
from reverie.cache.manager import CacheManager
from reverie.errors import (
    EntryNotFoundError,
    InputError,
    MissingDependencyError,
    StorageError,
    UnknownNameError,
)
from reverie.testing.samples import picture, vector

Open = Callable[..., CacheManager]


@pytest.fixture(params=["json", "sqlite"])
def cache(request: pytest.FixtureRequest, open_cache: Open) -> CacheManager:
    """Four entries: prompts, parameters, parents, a pin, one without a vector."""
    cache = open_cache(index=request.param, max_size=None)
    cache.add_many(
        [
            NewEntry(
                picture(1), "A city of glass, at night", {"steps": 4, "nested": {"a": [1, 2.5]}}, vector(1)
            ),
            NewEntry(picture(2), "", {}, vector(2), parents=["cache_00001"], pinned=True),
            NewEntry(picture(3), "../..: \u00e9toile \U0001f98a\n" + "long " * 40),
            NewEntry(picture(4), "the sea", {"seed": 7}, vector(4), parents=["cache_00001", "cache_00002"]),
        ]
    )
    return cache


def assert_records(records: list[dict[str, Any]], cache: CacheManager) -> None:
    """What was read back is what the cache has."""
    entries = cache.get_all()
    assert [each["cache_id"] for each in records] == [entry.cache_id for entry in entries]
    for each, entry in zip(records, entries, strict=True):
        assert each["prompt"] == entry.prompt
        assert each["generation_params"] == entry.generation_params
        assert each["parents"] == list(entry.parents)
        assert (each["pinned"], each["encoder"]) == (entry.pinned, entry.encoder)
        assert each["content_hash"] == entry.content_hash
        if entry.embedding is None:
            assert each["embedding"] is None
        else:
            assert np.asarray(each["embedding"], dtype=np.float32).tobytes() == entry.embedding.tobytes()


def test_a_folder_is_what_imagefolder_reads(cache: CacheManager, tmp_path: Path) -> None:
    """Every line names its image first; images are there byte for byte, under names that tell them apart."""
    report = export_cache(cache, tmp_path / "out")
    lines = [json.loads(line) for line in (tmp_path / "out" / "metadata.jsonl").read_text().splitlines()]
    assert_records(lines, cache)
    assert all(next(iter(each)) == "file_name" for each in lines)
    assert lines[0]["file_name"] == "cache_00001-a-city-of-glass-at-night.png"
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"metadata.jsonl", *(each["file_name"] for each in lines)}
    for each in lines:
        data = (tmp_path / "out" / each["file_name"]).read_bytes()
        assert data == cache.read_image(each["cache_id"], as_use=False)
    assert (report.form, report.total, report.exported, report.gone) == ("folder", 4, 4, 0)
    assert report.image_bytes == cache.total_bytes()


def test_a_zip_is_the_same_in_one_file(cache: CacheManager, tmp_path: Path) -> None:
    """Images are stored as they are: they are packed already."""
    export_cache(cache, tmp_path / "out.zip")
    with zipfile.ZipFile(tmp_path / "out.zip") as packed:
        assert packed.testzip() is None
        lines = [json.loads(line) for line in packed.read("metadata.jsonl").splitlines()]
        assert_records(lines, cache)
        for each in lines:
            info = packed.getinfo(each["file_name"])
            assert info.compress_type == zipfile.ZIP_STORED
            assert packed.read(info) == cache.read_image(each["cache_id"], as_use=False)


def test_records_alone(cache: CacheManager, tmp_path: Path) -> None:
    """With the path of each image in the cache; vectors as numbers, as bytes, or not at all."""
    for form in ("numbers", "base64", "none"):
        export_cache(cache, tmp_path / f"{form}.jsonl", vectors=form)
        lines = [json.loads(line) for line in (tmp_path / f"{form}.jsonl").read_text().splitlines()]
        assert [Path(each["image_path"]) for each in lines] == [entry.image_path for entry in cache]
        if form == "base64":
            for each in lines:
                packed = each["embedding"]
                each["embedding"] = None if packed is None else np.frombuffer(base64.b64decode(packed), "<f4")
        if form == "none":
            assert not any("embedding" in each for each in lines)
        else:
            assert_records(lines, cache)


def test_parquet_holds_images_records_and_vectors(cache: CacheManager, tmp_path: Path) -> None:
    """As Hugging Face's datasets has them: an image is its bytes and a path."""
    export_cache(cache, tmp_path / "out.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "out.parquet")
    rows = table.to_pylist()
    for each in rows:
        if isinstance(each["generation_params"], str):
            each["generation_params"] = json.loads(each["generation_params"])
        assert each["image"]["bytes"] == cache.read_image(each["cache_id"], as_use=False)
    assert_records(rows, cache)
    assert b"huggingface" in (table.schema.metadata or {})


def test_some_entries_in_the_order_asked(cache: CacheManager, tmp_path: Path) -> None:
    """Each once; an unknown one is named before anything is written."""
    report = export_cache(
        cache, tmp_path / "some.jsonl", cache_ids=["cache_00004", "cache_00001", "cache_00004"]
    )
    lines = [json.loads(line) for line in (tmp_path / "some.jsonl").read_text().splitlines()]
    assert [each["cache_id"] for each in lines] == ["cache_00004", "cache_00001"]
    assert report.total == 2
    with pytest.raises(EntryNotFoundError, match=r"never, nor.*Nothing was exported"):
        export_cache(cache, tmp_path / "none.jsonl", cache_ids=["cache_00001", "never", "nor"])
    assert not (tmp_path / "none.jsonl").exists()


@pytest.mark.parametrize("form", FORMS)
def test_what_is_there_is_not_touched(cache: CacheManager, tmp_path: Path, form: str) -> None:
    """Neither a file nor a folder with something in it; an empty folder is fine for a folder."""
    target = tmp_path / "taken"
    target.write_bytes(b"mine")
    with pytest.raises(StorageError, match=r"is there already \(a file\)"):
        export_cache(cache, target, form=form)
    assert target.read_bytes() == b"mine"
    folder = tmp_path / "folder"
    folder.mkdir()
    if form == "folder":
        export_cache(cache, folder)
    else:
        (folder / "x").touch()
    with pytest.raises(StorageError, match=r"is there already \(a folder that is not empty\)"):
        export_cache(cache, folder, form=form)


@pytest.mark.parametrize("form", FORMS)
def test_an_export_that_is_stopped_leaves_nothing(
    cache: CacheManager, tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the middle: neither the target nor a part of it."""
    monkeypatch.setattr(export_module, "_AT_ONCE", 2)
    before = sorted(tmp_path.iterdir())

    def stop(done: int, _total: int) -> None:
        if done >= 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_cache(cache, tmp_path / "out", form=form, progress=stop)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("form", FORMS)
def test_a_missing_image_is_told(cache: CacheManager, tmp_path: Path, form: str) -> None:
    """Its record is exported all the same, where it spoils nothing."""
    cache.peek(["cache_00002"])[0].image_path.unlink()
    report = export_cache(cache, tmp_path / "out", form=form)
    assert (list(report.failures), report.exported) == (["cache_00002"], 4)
    if form == "folder":
        lines = (tmp_path / "out" / "metadata.jsonl").read_text().splitlines()
        apart = json.loads((tmp_path / "out" / "without-image.jsonl").read_text())
        assert (len(lines), apart["cache_id"]) == (3, "cache_00002")


def test_what_is_removed_meanwhile_is_passed_over(
    cache: CacheManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And counted."""
    monkeypatch.setattr(export_module, "_AT_ONCE", 2)
    told: list[int] = []

    def remove(done: int, _total: int) -> None:
        told.append(done)
        if done == 2:
            cache.remove("cache_00003")

    report = export_cache(cache, tmp_path / "out", progress=remove)
    assert (report.total, report.exported, report.gone, told) == (4, 3, 1, [2, 4])


def test_names_stand_for_forms() -> None:
    """Any other name is a folder's."""
    names = ("a.zip", "a.JSONL", "b.parquet", "c", "d.folder", "e.png")
    assert [form_of(name) for name in names] == ["zip", "jsonl", "parquet", "folder", "folder", "folder"]


def test_what_cannot_be_exported_so_is_refused(cache: CacheManager, tmp_path: Path) -> None:
    """Before anything is written, with what to do."""
    with pytest.raises(UnknownNameError, match="folder, zip, jsonl, parquet"):
        export_cache(cache, tmp_path / "out", form="tar")
    with pytest.raises(UnknownNameError, match="numbers, base64, none"):
        export_cache(cache, tmp_path / "out", vectors="yes")
    with pytest.raises(InputError, match="base64 is for JSON"):
        export_cache(cache, tmp_path / "out.parquet", vectors="base64")
    with pytest.raises(InputError, match="inside the cache"):
        export_cache(cache, cache.cache_dir / "out")
    with pytest.raises(StorageError, match="make it first"):
        export_cache(cache, tmp_path / "no" / "out")
    cache.add(picture(9), embedding=[1.0, 2.0], encoder="other")
    with pytest.raises(InputError, match="one length"):
        export_cache(cache, tmp_path / "out.parquet")
    export_cache(cache, tmp_path / "out.parquet", vectors="none")
    assert "embedding" not in pyarrow.parquet.read_schema(tmp_path / "out.parquet").names


def test_without_pyarrow_the_other_forms_work(
    cache: CacheManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the error says what to install."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    monkeypatch.delitem(sys.modules, "reverie.cache.parquet_file", raising=False)
    monkeypatch.delattr("reverie.cache.parquet_file", raising=False)
    with pytest.raises(MissingDependencyError, match=r'pip install "reverie\[parquet\]"'):
        export_cache(cache, tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()
    assert export_cache(cache, tmp_path / "out.zip").exported == 4


def test_an_empty_cache_is_exported_too(open_cache: Open, kind: str, tmp_path: Path) -> None:
    """As files without entries."""
    cache = open_cache(tmp_path / "empty", index=kind)
    for form in FORMS:
        assert export_cache(cache, tmp_path / f"out-{form}", form=form).exported == 0
    assert (tmp_path / "out-folder" / "metadata.jsonl").read_bytes() == b""
    assert pyarrow.parquet.read_table(io.BytesIO((tmp_path / "out-parquet").read_bytes())).num_rows == 0
