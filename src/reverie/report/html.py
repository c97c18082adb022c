"""report.html: the whole run on one page that needs nothing else.

Pictures and the animation are inside the page, there is no script, and no address is loaded. Every text
that comes from the run is escaped.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from html import escape
from statistics import median

from PIL import Image

from reverie.report.animation import animation_webp
from reverie.report.band import states_block
from reverie.report.charts import (
    NARROW,
    WIDE,
    Chart,
    arm_slots,
    effective_images_chart,
    render_svg,
    similarity_chart,
)
from reverie.report.colours import colour_lines, drift_chart
from reverie.report.contact_sheet import sheet_numbers
from reverie.report.injections import injections_section
from reverie.report.mosaic import mosaic_section
from reverie.report.page_parts import arm_heading, data_uri, section, table, thumbnail
from reverie.report.page_style import page_style
from reverie.report.run import Run
from reverie.report.verdict import DASH, Verdict, key_figures, verdict

__all__ = ["render_html"]

STRIP_WIDTH = 160  # pixels: twice the width on the page
FILM_BYTES = 1_200_000
FILM_FRAMES = 160
FILM_FPS = 10.0
PHASES = ("generate", "encode", "store", "decide")


def render_html(run: Run) -> str:
    """The report as one HTML page, under about 3 MB however long the run was.

    The same folder gives the same page, byte for byte.
    """
    told = verdict(run)
    body = "".join(
        [
            _head(run, told),
            _strips(run),
            _figures(run),
            _film(run),
            _charts(run),
            injections_section(run),
            mosaic_section(run),
            _times(run),
            _repeat(run),
        ]
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(told.headline)}</title><style>{page_style()}</style></head>"
        f"<body><main>{body}</main></body></html>\n"
    )


def _head(run: Run, told: Verdict) -> str:
    frames = f"{run.last:,} frames" if run.last != 1 else "1 frame"
    notes = "".join(f"<p>{escape(note)}</p>" for note in (*told.notes, *colour_lines(run)))
    day = f" · {escape(run.created[:10])}" if run.created else ""
    return (
        f'<header><p class="eyebrow">reverie · {frames}{day}</p>'
        f'<h1>{escape(told.headline)}</h1><div class="notes">{notes}</div></header>'
    )


# ----------------------------------------------------------------------------------- pictures


def _strips(run: Run) -> str:
    numbers = sheet_numbers(run)
    bands = []
    for arm, slot in zip(run.arms, arm_slots(run.arms), strict=True):
        pictures = [thumbnail(arm.picture(at), run, STRIP_WIDTH, f"Frame {at}") for at in numbers]
        tiles = "".join(
            f"<li>{picture}{at or 'start'}</li>" for at, picture in zip(numbers, pictures, strict=True)
        )
        figure = arm.summary.get("effective_images_last_100")
        more = ""
        if figure is not None:
            words = f"effective images in {arm.tail}"
            more = f'<span class="figure"><b class="arm{slot}">{figure:.1f}</b> {words}</span>'
        bands.append(
            f'<div class="strip">{arm_heading(arm, slot, more)}<ol class="frames">{tiles}</ol></div>'
        )
    lead = "Frames evenly spaced over the run."
    if len(run.arms) > 1 and _same_start(run):
        lead += " Every loop begins with the same picture."
    return section("What the loop showed", lead, "".join(bands))


def _same_start(run: Run) -> bool:
    first, *others = [arm.picture(0) for arm in run.arms]
    return first is not None and all(other == first for other in others)


def _film(run: Run) -> str:
    if run.last == 0:
        return ""
    data, count = animation_webp(run, fps=FILM_FPS, budget=FILM_BYTES, most=FILM_FRAMES)
    with Image.open(io.BytesIO(data)) as film:
        width, height = film.size
        still = io.BytesIO()
        film.convert("RGB").save(still, "WEBP", quality=72)
    shown = "every frame" if count > run.last else f"{count:,} of {run.last + 1:,} frames"
    picture = (
        '<picture><source media="(prefers-reduced-motion: reduce)" '
        f'srcset="{data_uri(still.getvalue(), "image/webp")}">'
        f'<img src="{data_uri(data, "image/webp")}" alt="The arms side by side, moving" '
        f'width="{width}" height="{height}"></picture>'
    )
    caption = f"A time lapse of {shown}. A picture is framed for a moment after a memory was injected."
    return section(
        "The run in motion",
        "The arms side by side, in step.",
        f'<figure class="film" style="--film:{width * 3 // 2}px">{picture}'
        f"<figcaption>{caption}</figcaption></figure>",
    )


# ------------------------------------------------------------------------------------ figures


def _figures(run: Run) -> str:
    rows = []
    for measure, values in key_figures(run):
        cells = "".join(f"<td>{escape(measure.show(value))}</td>" for value in values)
        small = f"<small>{escape(measure.explanation)}</small>" if measure.explanation else ""
        rows.append(f'<tr><th scope="row">{escape(measure.label)}{small}</th>{cells}</tr>')
    return section(
        "Key figures",
        "Computed from the pictures alone, by the run's encoder.",
        table(run, rows),
    )


def _charts(run: Run) -> str:
    plots = [
        _plot(
            effective_images_chart(run),
            "How many clearly different images the last frames amount to. Higher is more varied.",
        ),
        _plot(
            similarity_chart(run),
            "How alike the last frames are: 1 is the same picture. A loop that stays near 1 has collapsed.",
        ),
    ]
    drift = drift_chart(run)
    if drift is not None:
        words = (
            "How far the colours are outside of those that the loop is measured against: 0 is within them, "
            "from about 0.02 it is plain to see."
        )
        plots.append(_plot(drift, words))
    ticks = "Ticks below the axis mark injections; on the similarity line each is a dot."
    lead = ticks if any(arm.injections for arm in run.arms) else "No memory was injected."
    return section("Over time", lead, "".join(plots) + states_block(run))


def _plot(chart: Chart, words: str) -> str:
    drawn = "".join(
        f'<div class="{name}">{render_svg(chart, frame)}</div>'
        for name, frame in (("wide", WIDE), ("narrow", NARROW))
    )
    return f'<div class="plot"><h3>{escape(chart.title)}</h3><p class="lead">{words}</p>{drawn}</div>'


def _times(run: Run) -> str:
    rows = []
    for phase in _phases(run):
        spent = [
            [record.times_ms[phase] for record in arm.records if phase in record.times_ms] for arm in run.arms
        ]
        cells = "".join(f"<td>{f'{median(times):.1f}' if times else DASH}</td>" for times in spent)
        rows.append(f'<tr><th scope="row">{escape(phase.capitalize())}</th>{cells}</tr>')
    if not rows:
        return ""
    lead = f"Median milliseconds a frame. The whole run took {_duration(run.elapsed_s)}."
    return section("Time", lead, table(run, rows))


def _phases(run: Run) -> list[str]:
    found = {phase for arm in run.arms for record in arm.records for phase in record.times_ms}
    return [phase for phase in PHASES if phase in found] + sorted(found - set(PHASES))


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


# ----------------------------------------------------------------------------------- settings


def _repeat(run: Run) -> str:
    words = " ".join(f"<span>{escape(word)}</span>" for word in run.command.split())
    command = f"<pre><code>{words}</code></pre>" if words else ""
    pairs = "".join(
        f"<div><dt>{escape(name.replace('_', ' ').capitalize())}</dt><dd>{escape(_plain(value))}</dd></div>"
        for name, value in run.settings.items()
        if value is not None
    )
    made = [part for part in (f"reverie {run.reverie}" if run.reverie else "", run.created) if part]
    footer = f"<footer>{escape(' · '.join(made))}</footer>" if made else ""
    return (
        section(
            "Repeat it",
            "The same command and version make the same frames on the same machine.",
            f'{command}<dl class="settings">{pairs}</dl>',
        )
        + footer
    )


def _plain(value: object) -> str:
    """A setting as people write it."""
    if value is None or value == "":
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return _joined(value)
    return str(value)


def _joined(values: Iterable[object]) -> str:
    return " \N{MULTIPLICATION SIGN} ".join(_plain(value) for value in values)
