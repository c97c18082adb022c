"""The specification, "CacheManager (cache/manager.py)": a test a sentence. Docstrings quote it."""

from __future__ import annotations

import dataclasses
import json
from datetime import datetime
from pathlib import Path

import numpy as np

from reverie.cache.manager import CacheManager
from reverie.entry import CacheEntry
from reverie.pixels import to_pixels

PARAMS = {"denoise": 0.4, "steps": 4}


def read_index(cache: CacheManager) -> dict:
    return json.loads((cache.metadata_dir / "cache_index.json").read_text())


def unit(seed: int, size: int = 512) -> np.ndarray:
    vector = np.random.default_rng(seed).standard_normal(size).astype(np.float32)
    return vector / np.linalg.norm(vector)


def test_store_and_retrieve_generated_images_with_metadata(cache, picture_file):
    """Store and retrieve generated images with metadata."""
    cache_id = cache.add(picture_file(1), "ethereal angel", PARAMS, unit(1))
    entry = cache.get(cache_id)
    assert np.array_equal(to_pixels(entry.image_path), to_pixels(picture_file(1)))
    assert (entry.prompt, entry.generation_params) == ("ethereal angel", PARAMS)


def test_enables_cache_injection(cache, matcher, picture_file):
    """Prevents mode collapse by enabling cache injection: an entry can be found again and be an input."""
    cache_id = cache.add(picture_file(1), "a", PARAMS, matcher.encode_image(picture_file(1)))
    found = matcher.find_similar(matcher.encode_image(picture_file(1)), cache.embeddings())
    assert found[0][0] == cache_id
    assert to_pixels(cache.get(found[0][0]).image_path).shape == (64, 64, 3)


def test_cache_entry_dataclass():
    """CacheEntry Dataclass: cache_id, image_path, prompt, generation_params, embedding, timestamp."""
    assert dataclasses.is_dataclass(CacheEntry)
    names = [field.name for field in dataclasses.fields(CacheEntry)]
    assert names[:6] == ["cache_id", "image_path", "prompt", "generation_params", "embedding", "timestamp"]


def test_cache_entry_field_types(cache, picture_file):
    """cache_id: str, image_path: Path, prompt: str, generation_params: Dict, timestamp: str."""
    entry = cache.get(cache.add(picture_file(1), "a", PARAMS, unit(1)))
    kinds = [type(getattr(entry, name)) for name in ("cache_id", "prompt", "generation_params", "timestamp")]
    assert kinds == [str, str, dict, str]
    assert isinstance(entry.image_path, Path)


def test_embedding_is_optional(cache, picture_file):
    """embedding: Optional[List[float]]: a list of floats comes back as those floats, None as None."""
    with_vector = cache.get(cache.add(picture_file(1), "a", PARAMS, unit(1).tolist()))
    without = cache.get(cache.add(picture_file(2), "a", PARAMS, None))
    assert with_vector.embedding.tolist() == unit(1).tolist()
    assert without.embedding is None


def test_add_takes_the_four_arguments_in_order(cache, picture_file):
    """add(image_path, prompt, generation_params, embedding): by position and by name."""
    first = cache.add(picture_file(1), "a", PARAMS, unit(1))
    second = cache.add(image_path=picture_file(2), prompt="b", generation_params={}, embedding=unit(2))
    assert [entry.cache_id for entry in cache.get_all()] == [first, second]


def test_add_generates_unique_cache_ids(cache, picture_file):
    """1. Generate unique cache_id."""
    ids = [cache.add(picture_file(n), "a", {}, None) for n in range(40)]
    assert len(set(ids)) == 40
    assert ids[:2] == ["cache_00001", "cache_00002"]


def test_add_copies_the_image(cache, picture_file):
    """2. Copy image to cache/images/."""
    source = picture_file(1)
    entry = cache.get(cache.add(source, "a", {}, None))
    assert entry.image_path == cache.cache_dir / "images" / "cache_00001.png"
    assert entry.image_path.read_bytes() == source.read_bytes()
    source.unlink()
    assert entry.image_path.exists()


def test_add_creates_the_entry(cache, picture_file):
    """3. Create CacheEntry."""
    entry = cache.get(cache.add(picture_file(1), "a", PARAMS, unit(1)))
    assert isinstance(entry, CacheEntry)
    assert datetime.fromisoformat(entry.timestamp) <= datetime.now()


def test_add_puts_it_in_the_memory_index(cache, picture_file):
    """4. Add to in-memory index."""
    cache_id = cache.add(picture_file(1), "a", {}, None)
    assert cache_id in cache
    assert cache.size() == len(cache) == 1


def test_add_enforces_max_size(tmp_path, picture_file):
    """5. Enforce max_size (LRU eviction)."""
    with CacheManager(tmp_path / "cache", max_size=3) as cache:
        ids = [cache.add(picture_file(n), "a", {}, None) for n in range(5)]
        assert [entry.cache_id for entry in cache.get_all()] == ids[2:]


def test_add_persists_to_disk(cache, picture_file):
    """6. Persist to disk: before add returns."""
    cache_id = cache.add(picture_file(1), "a", PARAMS, unit(1))
    assert [record["cache_id"] for record in read_index(cache)["entries"]] == [cache_id]


def test_get_all(cache, picture_file):
    """get_all(): returns list of all CacheEntry objects."""
    ids = [cache.add(picture_file(n), str(n), {}, None) for n in range(3)]
    entries = cache.get_all()
    assert isinstance(entries, list)
    assert all(isinstance(entry, CacheEntry) for entry in entries)
    assert [entry.cache_id for entry in entries] == ids


def test_get_random(cache, picture_file):
    """get_random(): returns random cached image."""
    ids = {cache.add(picture_file(n), str(n), {}, None) for n in range(3)}
    drawn = {cache.get_random().cache_id for _ in range(60)}
    assert drawn == ids


def test_eviction_sorts_by_timestamp(tmp_path, picture_file):
    """_enforce_max_size(), LRU Eviction: sort by timestamp (oldest first)."""
    for policy in ("lru", "oldest"):
        with CacheManager(tmp_path / policy, max_size=5, eviction=policy) as cache:
            ids = [cache.add(picture_file(n), "a", {}, None) for n in range(5)]
            cache.max_size = 2
            cache._enforce_max_size()
            assert [entry.cache_id for entry in cache.get_all()] == ids[3:]


def test_eviction_removes_oldest_entries(tmp_path, picture_file):
    """Remove oldest entries: the entry with the oldest timestamp goes, wherever it stands in the file."""
    with CacheManager(tmp_path / "cache", max_size=3) as cache:
        for n in range(3):
            cache.add(picture_file(n), "a", {}, None)
    index = tmp_path / "cache" / "metadata" / "cache_index.json"
    content = json.loads(index.read_text())
    for record in content["entries"]:
        record.pop("last_used")
    content["entries"][1]["timestamp"] = "2020-01-01T00:00:00"
    index.write_text(json.dumps(content))
    for policy in ("lru", "oldest"):
        with CacheManager(tmp_path / "cache", max_size=3, eviction=policy) as cache:
            cache.add(picture_file(9), "a", {}, None)
            left = [entry.cache_id for entry in cache.get_all()]
            assert left[:2] == (
                ["cache_00001", "cache_00003"] if policy == "lru" else ["cache_00003", "cache_00004"]
            )


def test_eviction_deletes_file_and_metadata(tmp_path, picture_file):
    """Delete both image file and metadata."""
    with CacheManager(tmp_path / "cache", max_size=1) as cache:
        first = cache.get(cache.add(picture_file(1), "a", {}, None))
        cache.add(picture_file(2), "b", {}, None)
        assert not first.image_path.exists()
        assert [record["prompt"] for record in read_index(cache)["entries"]] == ["b"]


def test_index_file_form(cache, picture_file):
    """Stored in cache/metadata/cache_index.json: version, last_updated, entry_count, entries."""
    cache.add(picture_file(1), "ethereal angel...", PARAMS, unit(1))
    content = read_index(cache)
    assert (content["version"], content["entry_count"]) == ("1.0", 1)
    assert datetime.fromisoformat(content["last_updated"]) <= datetime.now()
    assert [key for key in content if key in ("version", "last_updated", "entry_count", "entries")] == [
        "version",
        "last_updated",
        "entry_count",
        "entries",
    ]


def test_index_record_form(cache, picture_file):
    """A record: cache_id, image_path "cache/images/cache_00001.png", prompt, params, embedding, timestamp."""
    cache.add(picture_file(1), "ethereal angel...", PARAMS, unit(1))
    record = read_index(cache)["entries"][0]
    assert list(record)[:6] == [
        "cache_id",
        "image_path",
        "prompt",
        "generation_params",
        "embedding",
        "timestamp",
    ]
    assert record["cache_id"] == "cache_00001"
    assert record["image_path"] == "cache/images/cache_00001.png"
    assert record["prompt"] == "ethereal angel..."
    assert record["generation_params"] == PARAMS
    assert len(record["embedding"]) == 512
    assert np.array(record["embedding"], dtype=np.float32).tolist() == unit(1).tolist()
    assert datetime.fromisoformat(record["timestamp"]).tzinfo is None


def test_index_example_opens(tmp_path, picture_file):
    """The example index of the specification is read as it stands there."""
    folder = tmp_path / "cache"
    (folder / "images").mkdir(parents=True)
    (folder / "metadata").mkdir()
    picture_file(1).rename(folder / "images" / "cache_00001.png")
    example = {
        "version": "1.0",
        "last_updated": "2025-11-08T10:30:00",
        "entry_count": 1,
        "entries": [
            {
                "cache_id": "cache_00001",
                "image_path": "cache/images/cache_00001.png",
                "prompt": "ethereal angel...",
                "generation_params": {"denoise": 0.4, "steps": 4},
                "embedding": [0.6, -0.8],
                "timestamp": "2025-11-08T09:15:00",
            }
        ],
    }
    (folder / "metadata" / "cache_index.json").write_text(json.dumps(example, indent=2))
    with CacheManager(folder) as cache:
        entry = cache.get("cache_00001")
        assert entry.image_path.exists()
        assert (entry.prompt, entry.timestamp) == ("ethereal angel...", "2025-11-08T09:15:00")
        assert np.allclose(entry.embedding, [0.6, -0.8])


def test_repository_pattern(cache, picture_file):
    """Repository Pattern - abstracts data storage, provides collection-like interface."""
    ids = [cache.add(picture_file(n), "a", {}, None) for n in range(3)]
    assert len(cache) == 3
    assert ids[1] in cache
    assert [entry.cache_id for entry in cache] == ids
    cache.remove(ids[1])
    assert [entry.cache_id for entry in cache] == [ids[0], ids[2]]


def test_module_paths():
    """cache/manager.py and cache/aesthetic_matcher.py: the classes are found there and at the top."""
    import reverie
    from reverie.cache.aesthetic_matcher import AestheticMatcher

    assert reverie.CacheManager is CacheManager
    assert reverie.AestheticMatcher is AestheticMatcher
