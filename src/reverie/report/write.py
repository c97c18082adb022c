"""Everything that a run folder is turned into, written into it."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

from reverie.errors import InputError, MissingDependencyError
from reverie.report.animation import FORMATS, find_ffmpeg, write_animation
from reverie.report.charts import effective_images_chart, render_svg, similarity_chart
from reverie.report.contact_sheet import contact_sheet
from reverie.report.html import render_html
from reverie.report.run import Run, load_run
from reverie.storage import replace_file

__all__ = ["write_report"]


def write_report(folder: str | Path, *, animation: str = "webp") -> list[Path]:
    """Write contact sheet, charts, report and animation of a run into its folder.

    A run that was stopped early, or that made no frame yet, gives a report of what there is. Each
    file is replaced in one step, so a report that is being read stays whole.

    Args:
        folder: A run folder, as `reverie dream` writes it.
        animation: ``webp``, ``gif`` or ``mp4``. An MP4 is written as well when ffmpeg is on PATH and
            can write H.264.

    Returns:
        The files written: ``contact_sheet.png``, ``effective_images.svg``, ``similarity.svg``,
        ``report.html``, ``animation.<format>`` and perhaps ``animation.mp4``.

    Raises:
        InputError: Not a run folder, a damaged one, or an unknown animation format.
        MissingDependencyError: ``animation="mp4"`` without an ffmpeg that can write it.
        StorageError: The disk refused; files written before that stay.
    """
    if f".{animation}" not in FORMATS:
        known = ", ".join(suffix[1:] for suffix in FORMATS)
        raise InputError(f"there is no animation format {animation!r}; there are: {known}")
    if animation == "mp4":
        find_ffmpeg()
    run = load_run(folder)
    written = [_sheet(run), *_charts(run), _page(run)]
    written.append(write_animation(run, run.folder / f"animation.{animation}"))
    if animation != "mp4":
        # An extra: no ffmpeg, or one without H.264, is no reason to fail a report that is complete.
        with contextlib.suppress(MissingDependencyError):
            written.append(write_animation(run, run.folder / "animation.mp4"))
    return written


def _put(path: Path, data: bytes) -> Path:
    replace_file(path, [data], durable=False)
    return path


def _sheet(run: Run) -> Path:
    buffer = io.BytesIO()
    contact_sheet(run).save(buffer, "PNG", optimize=True)
    return _put(run.folder / "contact_sheet.png", buffer.getvalue())


def _charts(run: Run) -> list[Path]:
    charts = {"effective_images.svg": effective_images_chart(run), "similarity.svg": similarity_chart(run)}
    return [_put(run.folder / name, render_svg(chart, alone=True).encode()) for name, chart in charts.items()]


def _page(run: Run) -> Path:
    return _put(run.folder / "report.html", render_html(run).encode())
