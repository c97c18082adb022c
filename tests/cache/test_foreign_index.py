"""Both ways with the specification's own project: its index opens here, ours opens there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reverie.cache.convert import convert
from reverie.errors import EncoderMismatchError
from reverie.testing.samples import picture, png_bytes

Open = Callable[..., Any]
KEYS = ["cache_id", "image_path", "prompt", "generation_params", "embedding", "timestamp"]


def their_entry(number: int, folder: str, embedding: Any) -> dict[str, Any]:
    """An entry as the specification's project writes it."""
    cache_id = f"cache_{number:05d}_{1731000000 + number}"
    return {
        "cache_id": cache_id,
        "image_path": f"{folder}{cache_id}.png",
        "prompt": f"ethereal angel {number}",
        "generation_params": {"denoise": 0.4, "steps": 4, "mode": "img2img", "nested": {"a": [1, None]}},
        "embedding": embedding,
        "timestamp": f"2025-11-08T09:15:{number:02d}.123456",
    }


DICT_EMBEDDING = {"color": [0.1, 0.2, 1e-300], "struct": "ffee00", "none": None}
THIRD = [1 / 3, 2 / 3, 2 / 3]  # doubles that float32 cannot hold


def their_cache(tmp_path: Path, folder: str = "cache/images/") -> dict[str, Any]:
    """A cache folder as their project leaves it; the content of its index."""
    embeddings = [DICT_EMBEDDING, THIRD, None, [0.6, 0.0, 0.8]]
    entries = [their_entry(number, folder, each) for number, each in enumerate(embeddings)]
    entries[2]["their_own"] = {"kept": True}
    content = {
        "version": "1.0",
        "last_updated": "2025-11-08T10:30:00.654321",
        "entry_count": len(entries),
        "owner": {"app": "theirs"},
        "entries": entries,
    }
    (tmp_path / "cache/images").mkdir(parents=True)
    (tmp_path / "cache/metadata").mkdir()
    for number, entry in enumerate(entries):
        (tmp_path / "cache/images" / f"{entry['cache_id']}.png").write_bytes(png_bytes(number))
    (tmp_path / "cache/metadata/cache_index.json").write_text(json.dumps(content, indent=2))
    return content


def as_they_read_it(folder: Path) -> dict[str, dict[str, Any]]:
    """How their project loads an index, restated: from its folder, entries whose image is there."""
    with (folder / "metadata" / "cache_index.json").open() as file:
        data = json.load(file)
    entries = {}
    for raw in data.get("entries", []):
        entry = {key: raw[key] for key in KEYS if key != "embedding"}
        entry["embedding"] = raw.get("embedding")
        if Path(entry["image_path"]).exists():
            entries[entry["cache_id"]] = entry
    return entries


@pytest.fixture(autouse=True)
def in_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their paths are relative to the project's folder."""
    monkeypatch.chdir(tmp_path)


def test_their_index_opens_whole(open_cache: Open, tmp_path: Path) -> None:
    """Every entry, with its id form, prompt and parameters; a mapping in the place of a vector is kept."""
    theirs = their_cache(tmp_path)
    cache = open_cache("cache")
    assert cache.ids() == [entry["cache_id"] for entry in theirs["entries"]]
    for entry, raw in zip(cache.get_all(), theirs["entries"], strict=True):
        assert (entry.prompt, entry.generation_params) == (raw["prompt"], raw["generation_params"])
        assert entry.timestamp == raw["timestamp"]
        assert entry.image_path == tmp_path / raw["image_path"]
        if raw["embedding"] != [0.6, 0.0, 0.8]:
            assert entry.to_dict()["embedding"] == raw["embedding"]
    first, second, third, _ = cache.get_all()
    assert first.embedding is None
    assert first.extra["embedding"] == DICT_EMBEDDING
    assert second.embedding.tolist() == pytest.approx(THIRD)
    assert third.extra == {"their_own": {"kept": True}}
    assert len(cache.embeddings()) == 2
    assert cache.check().ok


def test_opening_and_looking_leaves_their_file_alone(open_cache: Open, tmp_path: Path) -> None:
    """Not one byte is written by reading."""
    their_cache(tmp_path)
    index = tmp_path / "cache/metadata/cache_index.json"
    before = index.read_bytes()
    with open_cache("cache") as cache:
        cache.get_all()
        cache.embeddings()
        cache.check()
    assert index.read_bytes() == before


def test_what_we_write_back_holds_all_that_was_theirs(open_cache: Open, tmp_path: Path) -> None:
    """After add, pin, get and flush each value of theirs reads exactly as before."""
    theirs = their_cache(tmp_path)
    with open_cache("cache") as cache:
        cache.pin(theirs["entries"][1]["cache_id"])
        cache.get(theirs["entries"][0]["cache_id"])
        cache.flush()
        added = cache.add(picture(9), "ours", {"steps": 8}, [1.0, 0.0, 0.0])
    content = json.loads((tmp_path / "cache/metadata/cache_index.json").read_bytes())
    assert (content["version"], content["owner"], content["entry_count"]) == ("1.0", {"app": "theirs"}, 5)
    for ours, raw in zip(content["entries"], theirs["entries"], strict=False):
        assert {key: ours[key] for key in raw} == raw
        assert list(ours)[:6] == KEYS
    assert [entry["pinned"] for entry in content["entries"]] == [False, True, False, False, False]
    assert added == "cache_00005"


def test_what_we_write_opens_there(open_cache: Open, tmp_path: Path) -> None:
    """Read as their project reads: every entry has its image, from the project's folder."""
    theirs = their_cache(tmp_path)
    with open_cache("cache") as cache:
        added = cache.add(picture(9), "ours", {"steps": 8}, [0.0, 1.0, 0.0])
        cache.remove(theirs["entries"][3]["cache_id"])
    read = as_they_read_it(tmp_path / "cache")
    assert list(read) == [entry["cache_id"] for entry in theirs["entries"][:3]] + [added]
    assert read[added]["embedding"] == [0.0, 1.0, 0.0]
    assert read[added]["prompt"] == "ours"
    first = theirs["entries"][0]
    assert read[first["cache_id"]] == first


def test_taking_turns_loses_nothing(open_cache: Open, tmp_path: Path) -> None:
    """They rewrite the file while our cache is open, dropping our keys: we follow and go on."""
    their_cache(tmp_path)
    cache = open_cache("cache")
    ours = cache.add(picture(9), "ours")
    read = as_they_read_it(tmp_path / "cache")
    new = their_entry(7, "cache/images/", None)
    (tmp_path / new["image_path"]).write_bytes(png_bytes(7))
    content = {"version": "1.0", "last_updated": "now", "entry_count": 6, "entries": [*read.values(), new]}
    temporary = tmp_path / "cache/metadata/tmpabc.tmp"
    temporary.write_text(json.dumps(content, indent=2))
    temporary.replace(tmp_path / "cache/metadata/cache_index.json")
    assert cache.ids() == [*read, new["cache_id"]]
    assert cache.get(ours).prompt == "ours"
    assert cache.add(picture(10)) == "cache_00008"
    assert len(as_they_read_it(tmp_path / "cache")) == 7


def test_paths_of_windows_are_understood(open_cache: Open, tmp_path: Path) -> None:
    """An index written on Windows leads to the pictures here; what is written back does too."""
    theirs = their_cache(tmp_path, folder="C:\\dreams\\cache\\images\\")
    with open_cache("cache") as cache:
        assert all(entry.image_path.is_file() for entry in cache)
        cache.add(picture(9))
        cache.get(cache.ids()[0])
    read = as_they_read_it(tmp_path / "cache")
    assert len(read) == 5
    for raw in theirs["entries"]:
        ours = read[raw["cache_id"]]
        assert {**ours, "image_path": None} == {**{key: raw[key] for key in KEYS}, "image_path": None}


def test_limits_hold_for_their_entries(open_cache: Open, tmp_path: Path) -> None:
    """They record no sizes: bytes are taken from the files. The oldest of theirs goes first."""
    theirs = their_cache(tmp_path)
    total = sum(path.stat().st_size for path in (tmp_path / "cache/images").iterdir())
    cache = open_cache("cache", max_size=None, max_bytes=total - 1)
    assert cache.ids() == [entry["cache_id"] for entry in theirs["entries"][1:]]
    assert cache.total_bytes() == sum(path.stat().st_size for path in cache.image_dir.iterdir())


def test_their_vectors_have_no_encoder(open_cache: Open, tmp_path: Path) -> None:
    """A vector of unknown origin is never put into one matrix with a stamped one."""
    their_cache(tmp_path)
    cache = open_cache("cache")
    cache.add(picture(9), embedding=[1.0, 0.0, 0.0], encoder="clip-b32")
    with pytest.raises(EncoderMismatchError, match="unknown"):
        cache.embeddings()
    assert len(cache.embeddings("clip-b32")) == 1


def test_their_index_goes_to_sqlite_and_back(open_cache: Open, tmp_path: Path) -> None:
    """Mappings, doubles, extra keys, pins, uses and the counter survive both ways; sizes are filled in."""
    theirs = their_cache(tmp_path)
    with open_cache("cache") as cache:
        cache.pin(theirs["entries"][2]["cache_id"])
        cache.get(theirs["entries"][0]["cache_id"])
        cache.remove(cache.add(picture(9)))
    before = json.loads((tmp_path / "cache/metadata/cache_index.json").read_bytes())
    entries = open_cache("cache").get_all()
    for entry, raw in zip(entries, before["entries"], strict=True):
        entry.byte_size = raw["byte_size"] = entry.image_path.stat().st_size
    assert convert("cache", "sqlite")
    assert open_cache("cache").get_all() == entries
    assert open_cache("cache").index_kind == "sqlite"
    assert convert("cache", "json")
    after = json.loads((tmp_path / "cache/metadata/cache_index.json").read_bytes())
    ignored = ("last_updated", "trash")
    assert {key: value for key, value in after.items() if key not in ignored} == {
        key: value for key, value in before.items() if key not in ignored
    }
    assert np.array_equal(open_cache("cache").embeddings().matrix[0], entries[1].embedding)
