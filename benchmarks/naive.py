"""The peer: a cache and a search written the obvious way, as the specification's own project did.

Written for this benchmark from a description of that project. Entries live in a dictionary; an
id is the number of entries and the second; the image is copied with ``shutil.copy2``; an embedding
is a list of Python floats; every add writes the whole index with ``json.dump(indent=2)`` to a
temporary file and moves it into place; eviction sorts by timestamp. Nothing is flushed to the disk,
so a power cut can lose any of it, and two adds in one second can get one id: the peer is given
these advantages.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["NaiveCache", "NaiveEntry", "find_similar_arrays", "find_similar_lists"]

Similar = list[tuple[str, float]]


@dataclass
class NaiveEntry:
    """The specification's dataclass."""

    cache_id: str
    image_path: str
    prompt: str
    generation_params: dict[str, Any]
    embedding: list[float] | None
    timestamp: str


class NaiveCache:
    """Images, a dictionary, and the whole index rewritten at every add."""

    def __init__(self, folder: Path, max_size: int = 75) -> None:
        self.images = folder / "images"
        self.index = folder / "metadata" / "cache_index.json"
        self.max_size = max_size
        self.entries: dict[str, NaiveEntry] = {}
        self.images.mkdir(parents=True, exist_ok=True)
        self.index.parent.mkdir(parents=True, exist_ok=True)

    def add(
        self,
        image_path: Path,
        prompt: str,
        generation_params: dict[str, Any],
        embedding: list[float] | None = None,
    ) -> str:
        """The specification's six steps."""
        cache_id = f"cache_{len(self.entries) + 1:05d}_{int(time.time())}"
        target = self.images / f"{cache_id}{image_path.suffix}"
        shutil.copy2(image_path, target)
        self.entries[cache_id] = NaiveEntry(
            cache_id, str(target), prompt, generation_params, embedding, datetime.now().isoformat()
        )
        self._enforce_max_size()
        self._save()
        return cache_id

    def get(self, cache_id: str) -> NaiveEntry | None:
        """The entry of an id."""
        return self.entries.get(cache_id)

    def get_all(self) -> list[NaiveEntry]:
        """All entries."""
        return list(self.entries.values())

    def _enforce_max_size(self) -> None:
        over = len(self.entries) - self.max_size
        if over <= 0:
            return
        for entry in sorted(self.entries.values(), key=lambda entry: entry.timestamp)[:over]:
            Path(entry.image_path).unlink(missing_ok=True)
            del self.entries[entry.cache_id]

    def _save(self) -> None:
        content = {
            "version": "1.0",
            "last_updated": datetime.now().isoformat(),
            "entry_count": len(self.entries),
            "entries": [vars(entry) for entry in self.entries.values()],
        }
        with tempfile.NamedTemporaryFile("w", dir=self.index.parent, suffix=".tmp", delete=False) as file:
            json.dump(content, file, indent=2)
        shutil.move(file.name, self.index)


def find_similar_lists(
    target: Sequence[float],
    candidates: Sequence[tuple[str, list[float]]],
    threshold: float = 0.7,
    top_k: int = 5,
) -> Similar:
    """A loop over lists of Python floats, each made an array first."""
    similar = []
    for cache_id, embedding in candidates:
        similarity = float(np.dot(np.array(target), np.array(embedding)))
        if similarity >= threshold:
            similar.append((cache_id, similarity))
    similar.sort(key=lambda found: found[1], reverse=True)
    return similar[:top_k]


def find_similar_arrays(
    target: np.ndarray[Any, np.dtype[np.float32]],
    candidates: Sequence[tuple[str, np.ndarray[Any, np.dtype[np.float32]]]],
    threshold: float = 0.7,
    top_k: int = 5,
) -> Similar:
    """The friendlier peer: a loop of ``np.dot`` over arrays that exist already."""
    similar = []
    for cache_id, embedding in candidates:
        similarity = float(np.dot(target, embedding))
        if similarity >= threshold:
            similar.append((cache_id, similarity))
    similar.sort(key=lambda found: found[1], reverse=True)
    return similar[:top_k]
