"""Opening a cache: arguments, configuration, the kind of index, the file that is written, moved folders."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from reverie.cache.check import check_cache
from reverie.cache.convert import convert
from reverie.cache.lost import LostIndexWarning
from reverie.cache.manager import CacheManager
from reverie.errors import CacheClosedError, ConfigError, StorageError, UnknownNameError
from reverie.testing.samples import picture, vector

Open = Callable[..., Any]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"folder": None}, "folder"),
        ({"folder": ""}, "folder"),
        ({"folder": 5}, "folder"),
        ({"folder": b"cache"}, "folder"),
        ({"folder": "a\0b"}, "folder"),
        ({"folder": "~nobody-of-this-name/cache"}, "cannot be found"),
        ({"max_size": 0}, "max_size"),
        ({"max_size": -1}, "max_size"),
        ({"max_size": 7.5}, "max_size"),
        ({"max_size": True}, "max_size"),
        ({"max_size": "75"}, "max_size"),
        ({"max_bytes": 0}, "max_bytes"),
        ({"max_bytes": "1 MB"}, "max_bytes"),
        ({"lock_timeout": -1}, "lock_timeout"),
        ({"lock_timeout": "long"}, "lock_timeout"),
        ({"lock_timeout": float("nan")}, "lock_timeout"),
        ({"folder": "half \ud83e fox"}, "folder"),
        ({"seed": -1}, "seed"),
        ({"seed": "x"}, "seed"),
        ({"eviction_options": 3}, "eviction_options"),
    ],
)
def test_wrong_arguments_are_named(tmp_path: Path, arguments: dict[str, Any], says: str) -> None:
    """Before anything is created."""
    with pytest.raises(ConfigError, match=says):
        CacheManager(**{"folder": tmp_path / "cache", **arguments})
    assert not (tmp_path / "cache").exists()


def test_the_nested_configuration_of_the_specification(open_cache: Open, tmp_path: Path) -> None:
    """Folder and limit are read where its project has them."""
    config = {
        "system": {"cache_dir": str(tmp_path / "here"), "output_dir": "ignored"},
        "generation": {"cache": {"max_size": 3, "injection_interval": 15}},
    }
    cache = open_cache(config)
    assert (cache.cache_dir, cache.max_size) == (tmp_path / "here", 3)
    config["generation"]["cache"]["max_size"] = None
    assert open_cache(config).max_size is None


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"system": {}},
        {"system": None, "generation": None},
        {"system": {"cache_dir": "x"}, "generation": {}},
        {"system": {"cache_dir": "x"}, "generation": {"cache": {}}},
        {"system": {"cache_dir": 5}, "generation": {"cache": {"max_size": 3}}},
        {"system": {"cache_dir": "x"}, "generation": {"cache": {"max_size": "3"}}},
    ],
)
def test_a_configuration_without_its_keys_is_refused(config: dict[str, Any]) -> None:
    """The error names what it needs."""
    with pytest.raises(ConfigError, match=r"cache_dir|max_size|folder"):
        CacheManager(config)


@pytest.mark.parametrize(
    ("max_size", "kind"), [(75, "json"), (500, "json"), (501, "sqlite"), (None, "sqlite"), (1, "json")]
)
def test_a_new_cache_gets_the_index_of_its_size(open_cache: Open, max_size: int | None, kind: str) -> None:
    """``auto``: JSON up to 500 entries, SQLite above or unbounded."""
    cache = open_cache(max_size=max_size)
    cache.add(picture(0))
    assert (cache.index_kind, cache.index_path.suffix) == (kind, f".{kind}")
    assert cache.index_path.exists()


def test_auto_takes_what_is_on_the_disk(open_cache: Open, kind: str) -> None:
    """Whatever the size; asking for the other kind is refused, with the way out."""
    open_cache(index=kind).add(picture(0))
    for max_size in (10, None):
        assert open_cache(max_size=max_size).index_kind == kind
    other = "json" if kind == "sqlite" else "sqlite"
    with pytest.raises(ConfigError, match=f"reverie cache convert --to {other}"):
        open_cache(index=other)
    with pytest.raises(UnknownNameError, match="json, sqlite"):
        open_cache(index="csv")


def test_two_kinds_cannot_begin_in_one_folder(open_cache: Open) -> None:
    """Opened empty with different limits: the later writer gives way, nothing splits."""
    small, large = open_cache(max_size=5), open_cache(max_size=None)
    large.add(picture(0))
    with pytest.raises(CacheClosedError, match="open the cache again"):
        small.add(picture(1))
    again = open_cache(max_size=5)
    again.add(picture(1))
    assert large.size() == again.size() == 2
    assert again.check().ok


def test_a_json_cache_can_begin_beside_a_retired_database(open_cache: Open) -> None:
    """Converted to JSON, then the JSON file deleted: a new index, and a word about the picture."""
    cache = open_cache(index="sqlite")
    cache.add(picture(0))
    cache.close()
    convert(cache.cache_dir, "json")
    (cache.metadata_dir / "cache_index.json").unlink()
    with pytest.warns(LostIndexWarning, match="1 pictures but no index"):
        fresh = open_cache(max_size=5)
    assert (fresh.index_kind, fresh.size()) == ("json", 0)
    fresh.add(picture(1))
    assert open_cache(max_size=5).size() == 1


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """A file stands where the cache should be."""
    (tmp_path / "cache").write_text("a file")
    for folder in (tmp_path / "cache", tmp_path / "cache" / "inside"):
        with pytest.raises(StorageError, match="make the cache folder"):
            CacheManager(folder)


def test_a_folder_that_cannot_be_looked_into_is_named(tmp_path: Path) -> None:
    """A name that is too long, links in a circle: an error of ours, when opening and when checking."""
    with pytest.raises(StorageError, match="too long"):
        CacheManager(tmp_path / ("a" * 300))
    with pytest.raises(StorageError, match="too long"):
        check_cache(tmp_path / ("a" * 300))
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(StorageError, match="circle"):
        CacheManager(tmp_path / "circle")


def test_an_index_that_links_to_itself_is_named(open_cache: Open, kind: str) -> None:
    """Its link is named; no empty cache takes its place."""
    with open_cache(index=kind) as cache:
        cache.add(picture(1))
    for path in cache.index_path.parent.glob(f"{cache.index_path.name}*"):
        path.unlink()
    cache.index_path.symlink_to(cache.index_path.name)
    with pytest.raises(StorageError, match="circle"):
        CacheManager(cache.cache_dir, index=kind)
    assert cache.index_path.is_symlink()


def test_a_relative_folder_in_a_folder_that_was_deleted(tmp_path: Path) -> None:
    """Where it would be cannot be told."""
    gone = tmp_path / "gone"
    gone.mkdir()
    code = f"import os; from reverie import CacheManager; os.rmdir({str(gone)!r}); CacheManager('cache')"
    done = subprocess.run([sys.executable, "-c", code], cwd=gone, capture_output=True, text=True, check=False)
    assert "ConfigError: the cache folder 'cache' cannot be found" in done.stderr


def test_home_is_expanded(open_cache: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``~`` is the home folder."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_cache("~/cache").cache_dir == tmp_path / "cache"


# -- what is written


def test_the_file_is_the_specification_to_the_letter(
    open_cache: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Version, time, count and entries; six keys first, in order; the path as the user wrote the folder."""
    monkeypatch.chdir(tmp_path)
    cache = open_cache("cache", max_size=75)
    started = datetime.now().replace(microsecond=0)
    cache.add(picture(0), "ethereal angel", {"denoise": 0.4, "steps": 4}, vector(0, 512))
    cache.add(picture(1), "no vector")
    content = json.loads((tmp_path / "cache/metadata/cache_index.json").read_bytes())
    assert list(content)[:3] == ["version", "last_updated", "entry_count"]
    assert (content["version"], content["entry_count"]) == ("1.0", 2)
    assert started <= datetime.fromisoformat(content["last_updated"]) <= datetime.now()
    first, second = content["entries"]
    six = ["cache_id", "image_path", "prompt", "generation_params", "embedding", "timestamp"]
    assert list(first)[:6] == list(second)[:6] == six
    assert first["cache_id"] == "cache_00001"
    assert first["image_path"] == "cache/images/cache_00001.png"
    assert Path(first["image_path"]).exists()
    assert first["generation_params"] == {"denoise": 0.4, "steps": 4}
    assert len(first["embedding"]) == 512
    assert started <= datetime.fromisoformat(first["timestamp"]) <= datetime.now()
    assert second["embedding"] is None


@pytest.mark.parametrize(
    ("written", "recorded"),
    [
        ("cache", "cache/images"),
        ("./cache", "cache/images"),
        ("cache/", "cache/images"),
        ("deep/er/cache", "deep/er/cache/images"),
        ("deep/../cache", "cache/images"),
        (".", "./images"),
    ],
)
def test_the_recorded_path_is_the_folder_as_written(
    open_cache: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str, recorded: str
) -> None:
    """Normalised, and readable from the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deep").mkdir()
    cache = open_cache(written, index="json")
    cache.add(picture(0))
    (entry,) = json.loads(cache.index_path.read_bytes())["entries"]
    assert entry["image_path"] == f"{recorded}/cache_00001.png"
    assert Path(entry["image_path"]).exists()
    cache.close()
    assert open_cache(written).size() == 1


def test_a_relative_cache_opens_from_another_working_directory(
    open_cache: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Also while it is open: the folder is where it was when the cache was made."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    cache = open_cache("cache", index=kind)
    first = cache.add(picture(0))
    monkeypatch.chdir(tmp_path / "elsewhere")
    second = cache.add(picture(1))
    cache.close()
    for folder in ("../cache", tmp_path / "cache"):
        again = open_cache(folder)
        assert again.ids() == [first, second]
        assert all(entry.image_path.is_file() for entry in again)
        assert again.check().ok


@pytest.mark.parametrize("how", ["../proj/cache", "absolute"])
def test_use_from_elsewhere_keeps_the_paths_of_the_project(
    open_cache: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """A pin set from another folder must not break the relative paths that the project reads."""
    (tmp_path / "proj").mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "proj")
    with open_cache("cache", index="json") as cache:
        cache_id = cache.add(picture(0))
    monkeypatch.chdir(tmp_path / "elsewhere")
    with open_cache(tmp_path / "proj" / "cache" if how == "absolute" else how) as cache:
        cache.pin(cache_id)
        cache.add(picture(1))
        cache.check(fix=True)
    content = json.loads((tmp_path / "proj/cache/metadata/cache_index.json").read_bytes())
    assert [entry["image_path"] for entry in content["entries"]] == [
        "cache/images/cache_00001.png",
        "cache/images/cache_00002.png",
    ]


def test_a_moved_cache_opens(open_cache: Open, tmp_path: Path, kind: str) -> None:
    """Renamed, and moved to another place: entries lead to the pictures where they are now."""
    with open_cache(index=kind) as cache:
        cache.add(picture(0), "p", {}, vector(0))
    shutil.move(tmp_path / "cache", tmp_path / "moved")
    moved = open_cache(tmp_path / "moved")
    assert moved.get("cache_00001").image_path == tmp_path / "moved" / "images" / "cache_00001.png"
    assert moved.read_image("cache_00001")
    moved.add(picture(1))
    assert moved.check().ok
    if kind == "json":
        for entry in json.loads(moved.index_path.read_bytes())["entries"]:
            assert Path(entry["image_path"]).is_file()


def test_a_folder_whose_name_is_not_text(open_cache: Open, tmp_path: Path, kind: str) -> None:
    """A name with bytes that are not UTF-8 works; JSON, which cannot hold it, records the rest."""
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")
    cache = open_cache(folder, index=kind)
    cache.add(picture(0))
    cache.close()
    again = open_cache(folder)
    assert again.read_image("cache_00001")
    assert again.check().ok


def test_a_cache_deleted_while_open_is_noticed(open_cache: Open, kind: str) -> None:
    """Nothing is acknowledged that is not on the disk."""
    cache = open_cache(index=kind)
    cache.add(picture(0))
    shutil.rmtree(cache.cache_dir)
    if kind == "sqlite":
        with pytest.raises(CacheClosedError, match="deleted or replaced"):
            cache.add(picture(1))
    else:
        assert cache.add(picture(1)) == "cache_00002"
        assert open_cache().ids() == ["cache_00001", "cache_00002"]


def test_a_forgotten_cache_lets_go_of_its_files(tmp_path: Path, kind: str) -> None:
    """Managers that nobody closed do not use up the process's file handles."""
    code = (
        "import sys, gc, os; from reverie import CacheManager; from reverie.testing.samples import picture\n"
        "CacheManager(sys.argv[1], index=sys.argv[2]).add(picture(0))\n"
        "for _ in range(30): CacheManager(sys.argv[1]).get_all()\n"
        "gc.collect(); print(len(os.listdir('/proc/self/fd')))"
    )
    run = [sys.executable, "-c", code, str(tmp_path / "cache"), kind]
    found = subprocess.run(run, capture_output=True, text=True, check=True)
    assert int(found.stdout) < 15
