"""What `reverie cache stats` computes and shows."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reverie import registry
from reverie.cli.output import count, facts, near, size, when
from reverie.diversity import mean_pairwise, vendi
from reverie.errors import EncoderMismatchError
from reverie.search.recall import recall

if TYPE_CHECKING:
    from rich.console import RenderableType

    from reverie.cache.manager import CacheManager

__all__ = ["facts_of", "measure"]

_TRIED = 50  # vectors that the recall of a search is measured with


def measure(cache: CacheManager) -> dict[str, Any]:
    """The figures of a cache, as JSON takes them.

    Mean pairwise similarity and effective images are None for an encoder with fewer than two
    entries, and for vectors of unknown origin beside others, as is what is said of their search.
    """
    spaces = sorted((name or "", dimensions, number) for name, dimensions, number in cache.encoders())
    oldest, newest = (cache.select(limit=1, newest=last) for last in (False, True))
    return {
        "cache": str(cache.cache_dir),
        "entries": len(cache),
        "pinned": len(cache.pinned()),
        "bytes": cache.total_bytes(),
        "index": cache.index_kind,
        "index_path": str(cache.index_path),
        "vectors": cache.vector_type,
        "oldest": oldest[0].timestamp if oldest else None,
        "newest": newest[0].timestamp if newest else None,
        "without_embedding": len(cache) - sum(number for *_, number in spaces),
        "encoders": [_space(cache, *space) for space in spaces],
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
        **_search(cache, name),
    }


def _search(cache: CacheManager, name: str) -> dict[str, Any]:
    """Which search is in use for an encoder's vectors, why, and what share of the true answer it finds."""
    try:
        rows = cache.vector_rows(name or None)
    except EncoderMismatchError:
        return {"search": None, "search_reason": None, "recall": None}
    with closing(registry.create("searchers", "auto", folder=cache.metadata_dir / "search")) as searcher:
        searcher.search(rows, rows.matrix[np.argmax(rows.alive)], 1)
        found = 1.0 if searcher.in_use == "exact" else recall(searcher, rows, sample=_TRIED)
        return {"search": searcher.in_use, "search_reason": searcher.reason, "recall": found}


def facts_of(figures: dict[str, Any]) -> RenderableType:
    """The figures for people."""
    pinned = f", {figures['pinned']:,} pinned" if figures["pinned"] else ""
    lines = [
        ("cache", near(Path(figures["cache"]))),
        ("index", f"{figures['index']}, {near(Path(figures['index_path']))}"),
        ("numbers", f"{figures['vectors']}, {np.dtype(figures['vectors']).itemsize} bytes each"),
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
    if space["search"] is not None:
        exact = space["search"] == "exact"
        how = "exact" if exact else f"{space['search']}, finds {space['recall']:.1%} of the true five"
        lines.append(("search", f"{how} ({space['search_reason']})"))
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
