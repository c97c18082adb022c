"""What the looking commands of `reverie cache` do: choose entries, and lay them out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from reverie.cli.output import Column, count, facts, near, note, print_table, say, size, when
from reverie.cli.place import Place, entries_of
from reverie.entry import CacheEntry
from reverie.errors import CacheError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from reverie.cache.manager import CacheManager
    from reverie.query import Where

__all__ = [
    "chosen",
    "details",
    "draw",
    "explain",
    "overview",
    "record",
]


def record(entry: CacheEntry) -> dict[str, Any]:
    """The entry as JSON takes it, without the numbers of its embedding."""
    data = entry.to_dict()
    del data["embedding"]
    return data


def chosen(cache: CacheManager, where: Where, limit: int | None) -> Iterable[CacheEntry]:
    """The newest ``limit`` entries (None: all) that fulfil the conditions, oldest first."""
    if limit is None and not where:
        return cache
    return reversed(cache.select(where, limit=limit, newest=True))


def overview(
    cache: CacheManager, entries: Iterable[CacheEntry], place: Place, *, limit: int | None, where: Where
) -> None:
    """Print a table of entries, and a line that says how many there are."""
    rows = [[e.cache_id, when(e.timestamp), size(e.byte_size), _pin(e), e.prompt] for e in entries]
    total = f"{count(len(cache), 'entry', 'entries')} in {near(place.path)}"
    if rows:
        columns = [Column("id"), Column("added"), Column("size", right=True), Column("pin")]
        _print_without_empty([*columns, Column("prompt", flexible=True)], rows)
        say()
    if len(rows) == len(cache):
        say(total)
    elif where:
        newest = "the newest " if len(rows) == limit else ""
        say(f"{newest}{len(rows):,} that fit, of {total}" if rows else f"none fits, of {total}")
    else:
        say(f"the newest {len(rows):,} of {total}")


def _pin(entry: CacheEntry) -> str:
    return "pinned" if entry.pinned else ""


def _print_without_empty(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    kept = [at for at in range(len(columns)) if any(row[at] for row in rows)]
    print_table([columns[at] for at in kept], [[row[at] for at in kept] for row in rows])


def details(entry: CacheEntry) -> RenderableType:
    """All that is known about one entry."""
    missing = "" if entry.image_path.exists() else " (the file is missing)"
    vector = "none"
    if entry.embedding is not None:
        vector = f"{entry.embedding.size} numbers, encoder {entry.encoder or 'unknown'}"
    return facts(
        [
            ("id", entry.cache_id),
            ("image", near(entry.image_path) + missing),
            ("size", size(entry.byte_size)),
            ("prompt", entry.prompt or "-"),
            *_parameters(entry.generation_params),
            ("embedding", vector),
            ("pinned", "yes" if entry.pinned else "no"),
            ("added", when(entry.timestamp)),
            ("last used", when(entry.last_used)),
            ("parents", ", ".join(entry.parents) or "-"),
            ("XXH3-128", entry.content_hash or "-"),
        ]
    )


def _parameters(params: dict[str, Any]) -> list[tuple[str, str]]:
    lines = [f"{key} = {value}" for key, value in params.items()] or ["-"]
    return list(zip(["parameters", *[""] * (len(lines) - 1)], lines, strict=True))


def explain(place: Place) -> None:
    """Say on standard error why this folder, and whether a cache is there."""
    there = "" if place.looks_like_cache() else "; nothing is there yet"
    note(f"({place.why}{there})")


def draw(cache: CacheManager, seed: int | None) -> CacheEntry:
    """An entry drawn evenly; the one that `CacheManager.get_random` draws first with this seed.

    Raises:
        CacheError: The cache is empty.
    """
    ids = cache.ids()
    if not ids:
        raise CacheError("the cache is empty: there is nothing to draw from")
    return entries_of(cache, [ids[np.random.default_rng(seed).integers(len(ids))]])[0]
