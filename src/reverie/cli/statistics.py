"""What `reverie cache stats` computes and shows."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reverie.cli.output import count, facts, near, size, when
from reverie.diversity import mean_pairwise, vendi
from reverie.errors import EncoderMismatchError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from reverie.cache.manager import CacheManager

__all__ = ["facts_of", "measure"]


def measure(cache: CacheManager) -> dict[str, Any]:
    """The figures of a cache, as JSON takes them.

    Mean pairwise similarity and effective images are None for an encoder with fewer than two
    entries, and for vectors of unknown origin beside others.
    """
    times: list[str] = []
    pinned = 0
    spaces: Counter[tuple[str, int]] = Counter()
    for entry in cache:
        times.append(entry.timestamp)
        pinned += entry.pinned
        if entry.embedding is not None:
            spaces[entry.encoder or "", entry.embedding.size] += 1
    return {
        "cache": str(cache.cache_dir),
        "entries": len(times),
        "pinned": pinned,
        "bytes": cache.total_bytes(),
        "index": cache.index_kind,
        "index_path": str(cache.index_path),
        "oldest": min(times, default=None),
        "newest": max(times, default=None),
        "without_embedding": len(times) - spaces.total(),
        "encoders": [_space(cache, *space, number) for space, number in sorted(spaces.items())],
    }


def _space(cache: CacheManager, name: str, dimensions: int, number: int) -> dict[str, Any]:
    try:
        matrix = cache.embeddings(name or None).matrix
    except EncoderMismatchError:  # vectors of unknown origin beside others: nothing says that they compare
        matrix = np.empty((0, dimensions), dtype=np.float32)
    several = len(matrix) > 1
    return {
        "name": name or "unknown",
        "entries": number,
        "dimensions": dimensions,
        "mean_pairwise": mean_pairwise(matrix) if several else None,
        "effective_images": vendi(matrix) if several else None,
    }


def facts_of(figures: dict[str, Any]) -> RenderableType:
    """The figures for people."""
    pinned = f", {figures['pinned']:,} pinned" if figures["pinned"] else ""
    lines = [
        ("cache", near(Path(figures["cache"]))),
        ("index", f"{figures['index']}, {near(Path(figures['index_path']))}"),
        ("entries", f"{figures['entries']:,}{pinned}"),
        ("images", size(figures["bytes"])),
    ]
    if figures["entries"]:
        lines += [("oldest", when(figures["oldest"])), ("newest", when(figures["newest"]))]
    if figures["without_embedding"]:
        lines.append(("no vector", count(figures["without_embedding"], "entry", "entries")))
    for space in figures["encoders"]:
        lines += _variety(space)
    return facts(lines)


def _variety(space: dict[str, Any]) -> list[tuple[str, str]]:
    lines = [
        ("", ""),
        ("encoder", f"{space['name']}, {space['dimensions']} numbers"),
        ("vectors", f"{space['entries']:,}"),
    ]
    if space["effective_images"] is not None:
        most = min(space["entries"], space["dimensions"])
        lines += [
            (
                "similarity",
                f"{round(space['mean_pairwise'], 2) + 0.0:.2f} mean of all pairs (1 the same, 0 unrelated)",
            ),
            ("effective", f"{space['effective_images']:.1f} images, of {most:,} at most"),
        ]
    return lines
