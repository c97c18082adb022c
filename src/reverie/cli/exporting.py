"""What `reverie cache export` does and shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reverie.cache.export import ExportReport, export_cache
from reverie.cli.counting import counted
from reverie.cli.main import OURS
from reverie.cli.output import complain, count, json_line, near, say, size
from reverie.cli.params import spelled_out
from reverie.cli.place import Place, open_cache

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
    vectors: str,
    as_json: bool,
) -> int:
    """Export entries, show how it goes and what came out; the exit code.

    Raises:
        ReverieError: The cache cannot be used, the target is there already, or the disk refused.
    """
    with open_cache(place) as cache, counted("exporting") as tell:
        chosen = list(spelled_out(cache_ids)) if cache_ids else None
        if limit is not None:
            chosen = cache.ids()[-limit:]
        report = export_cache(cache, target, form=form, cache_ids=chosen, vectors=vectors, progress=tell)
    for cache_id, error in report.failures.items():
        complain(f"{cache_id} is exported without its image: {error}")
    if as_json:
        json_line(result(report))
    else:
        say(summary(report))
    return OURS if report.failures else 0


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
