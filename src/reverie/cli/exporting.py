"""What `reverie cache export` does and shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from reverie.cache.export import ExportReport, export_cache
from reverie.cli.counting import counted
from reverie.cli.entries import chosen
from reverie.cli.main import OURS
from reverie.cli.output import complain, count, json_line, near, say, size
from reverie.cli.params import spelled_out
from reverie.cli.place import Place, open_cache

if TYPE_CHECKING:
    from reverie.cache.manager import CacheManager
    from reverie.query import Where

__all__ = ["result", "run", "summary"]

_THAT = {
    "folder": "images and metadata.jsonl in {}",
    "zip": "images and metadata.jsonl in {}",
    "jsonl": "records in {}",
    "parquet": "images and records in {}",
}


def run(
    place: Place,
    target: str,
    *,
    form: str | None,
    cache_ids: Sequence[str],
    limit: int | None,
    where: Where,
    vectors: str,
    as_json: bool,
) -> int:
    """Export entries, show how it goes and what came out; the exit code.

    Raises:
        ReverieError: The cache cannot be used, the target is there already, or the disk refused.
    """
    with open_cache(place) as cache, counted("exporting") as tell:
        ids = list(spelled_out(cache_ids)) if cache_ids else _fitting(cache, where, limit)
        report = export_cache(cache, target, form=form, cache_ids=ids, vectors=vectors, progress=tell)
    for cache_id, error in report.failures.items():
        complain(f"{cache_id} is exported without its image: {error}")
    if as_json:
        json_line(result(report))
    else:
        say(summary(report))
    return OURS if report.failures else 0


def _fitting(cache: CacheManager, where: Where, limit: int | None) -> list[str] | None:
    """Ids of the newest ``limit`` entries that fulfil the conditions, oldest first; None: of all."""
    if not where:
        return None if limit is None else cache.ids()[-limit:]
    return [entry.cache_id for entry in chosen(cache, where, limit)]


def summary(report: ExportReport) -> str:
    """What came out, as a sentence."""
    parts = [f"{count(report.exported, 'entry', 'entries')} exported"]
    if report.image_bytes:
        parts[0] += f" ({size(report.image_bytes)})"
    if report.failures:
        parts.append(f"{len(report.failures):,} without the image")
    if report.gone:
        parts.append(f"{report.gone:,} removed meanwhile")
    return f"{', '.join(parts)}: {_THAT[report.form].format(near(report.target))}"


def result(report: ExportReport) -> dict[str, Any]:
    """What came out, as JSON takes it."""
    return {
        "target": str(report.target),
        "format": report.form,
        "total": report.total,
        "exported": report.exported,
        "gone": report.gone,
        "image_bytes": report.image_bytes,
        "failed": [{"cache_id": each, "error": error} for each, error in report.failures.items()],
    }
