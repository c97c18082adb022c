"""What the looking commands of `reverie cache` do: choose entries, and lay them out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reverie.cache.aesthetic_matcher import AestheticMatcher
from reverie.cli.output import Column, count, facts, near, note, print_table, say, size, when
from reverie.cli.place import Place, entries_of
from reverie.entry import CacheEntry
from reverie.errors import CacheError, EntryNotFoundError, ImageNotFoundError
from reverie.vectors import Embedding

if TYPE_CHECKING:
    from rich.console import RenderableType

    from reverie.cache.manager import CacheManager

__all__ = [
    "Match",
    "details",
    "draw",
    "explain",
    "find_matches",
    "newest",
    "overview",
    "print_matches",
    "record",
]


def record(entry: CacheEntry) -> dict[str, Any]:
    """The entry as JSON takes it, without the numbers of its embedding."""
    data = entry.to_dict()
    del data["embedding"]
    return data


def newest(cache: CacheManager, limit: int | None) -> Iterable[CacheEntry]:
    """The newest ``limit`` entries (None: all), oldest first."""
    return cache if limit is None else entries_of(cache, cache.ids()[-limit:])


def overview(cache: CacheManager, entries: Iterable[CacheEntry], place: Place) -> None:
    """Print a table of entries, and a line that says how many there are."""
    rows = [[e.cache_id, when(e.timestamp), size(e.byte_size), _pin(e), e.prompt] for e in entries]
    total = f"{count(len(cache), 'entry', 'entries')} in {near(place.path)}"
    if rows:
        columns = [Column("id"), Column("added"), Column("size", right=True), Column("pin")]
        _print_without_empty([*columns, Column("prompt", flexible=True)], rows)
        say()
    say(total if len(rows) == len(cache) else f"the newest {len(rows):,} of {total}")


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


# ------------------------------------------------------------------------------- similarity


@dataclass(frozen=True, slots=True)
class Match:
    """An entry, how similar it is, and the specification's words for that."""

    entry: CacheEntry
    similarity: float
    band: str

    def record(self) -> dict[str, Any]:
        """The match as JSON takes it."""
        return {
            "cache_id": self.entry.cache_id,
            "similarity": self.similarity,
            "band": self.band,
            "image_path": str(self.entry.image_path),
            "prompt": self.entry.prompt,
        }


def find_matches(
    cache: CacheManager, target: str, top_k: int, threshold: float | None, encoder: str
) -> list[Match]:
    """The entries most similar to an entry (itself left out) or to an image file, high to low.

    Raises:
        EntryNotFoundError: The target is neither.
        ReverieError: The image cannot be encoded.
    """
    matcher = AestheticMatcher(encoder)
    vector = _vector_of(cache, matcher, target)
    candidates = cache.embeddings(vector.encoder)
    found = matcher.find_similar(vector, candidates, threshold, top_k + 1)
    chosen = [(cache_id, score) for cache_id, score in found if cache_id != target][:top_k]
    entries = entries_of(cache, [cache_id for cache_id, _ in chosen])
    return [
        Match(entry, float(score), matcher.describe_similarity(score))
        for entry, (_, score) in zip(entries, chosen, strict=True)
    ]


def _vector_of(cache: CacheManager, matcher: AestheticMatcher, target: str) -> Embedding:
    if target in cache:
        (entry,) = entries_of(cache, [target])
        return matcher.encode_image(entry.image_path) if entry.embedding is None else entry.embedding
    try:
        return matcher.encode_image(Path(target))
    except ImageNotFoundError as exc:
        raise EntryNotFoundError(f"{target!r} is neither an entry of this cache nor an image file") from exc


def print_matches(matches: Sequence[Match]) -> None:
    """Print matches as a table; a sentence when there is none."""
    if not matches:
        say("nothing in this cache is that similar")
        return
    columns = [
        Column("id"),
        Column("similarity", right=True),
        Column("in words"),
        Column("prompt", flexible=True),
    ]
    print_table(
        columns,
        [[m.entry.cache_id, f"{round(m.similarity, 3) + 0.0:.3f}", m.band, m.entry.prompt] for m in matches],
    )
