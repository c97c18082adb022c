"""What `reverie models quantise` does: choose pictures, make the int8 network, say what it costs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reverie.cli.downloading import downloads
from reverie.cli.output import count, facts, near, note
from reverie.cli.place import Place, entries_of, open_cache
from reverie.encoders.clip_int8 import Int8Report, quantise
from reverie.errors import ImageError, InputError
from reverie.models.cards import card_of
from reverie.pixels import Pixels, to_pixels

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["facts_of", "quantised", "record"]

_ENDINGS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})


def quantised(model: str, place: Place, images: str | None, limit: int, **options: Any) -> Int8Report:
    """Make it from pictures of a folder, or of the cache when no folder is given.

    Args:
        model: Name of a model card.
        place: The cache.
        images: A folder; None for the cache.
        limit: Pictures at most, spread evenly over all.
        options: Of `reverie.encoders.clip_int8.quantise`.

    Raises:
        UnknownNameError: No such model.
        InputError: Too few pictures.
        ReverieError: The cache cannot be read, and what `quantise` raises.
    """
    card = card_of(model)  # before pictures are read for nothing
    paths = _of_cache(place) if images is None else _of_folder(Path(images))
    frames = list(_sound(_spread(paths, limit)))
    note(f"{count(len(frames), 'picture')} of {near(place.path if images is None else Path(images))}")
    with downloads():
        return quantise(card.name, frames, **options)


def _of_cache(place: Place) -> list[Path]:
    with closing(open_cache(place)) as cache:
        return [entry.image_path for entry in entries_of(cache, cache.ids())]


def _of_folder(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError(f"{str(folder)!r} is not a folder")
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in _ENDINGS and path.is_file())


def _spread(paths: Sequence[Path], limit: int) -> Sequence[Path]:
    step = max(1.0, len(paths) / limit)
    return [paths[int(at * step)] for at in range(min(limit, len(paths)))]


def _sound(paths: Sequence[Path]) -> Iterator[Pixels]:
    for path in paths:
        try:
            yield to_pixels(path)
        except ImageError as exc:
            note(f"passed over: {exc}")


def facts_of(report: Int8Report) -> RenderableType:
    """The figures for a person."""
    return facts(
        [
            ("model", f"{report.model} for {report.engine}"),
            ("calibrated on", count(report.calibrated_on, "picture")),
            ("checked on", f"{count(report.checked_on, 'other')}, against fp32"),
            ("cosine", f"{report.cosine_mean:.4f} on average, {report.cosine_min:.4f} at least"),
            (
                "pairs moved by",
                f"{report.pair_error_mean:.4f} on average, {report.pair_error_max:.4f} at most",
            ),
            ("pairs crossing .7", f"{report.crossing:,} of {report.pairs:,}"),
            ("nearest five kept", f"{report.top5_overlap:.0%}"),
            ("kept in", str(report.path)),
        ]
    )


def record(report: Int8Report) -> dict[str, Any]:
    """The figures as JSON takes them."""
    return {**asdict(report), "path": str(report.path)}
