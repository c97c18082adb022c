"""study.html: design, checks, plots, tables and pictures of a study on one page that needs nothing else.

The figures are those of study.md. There is no script, no address is loaded, and every text that comes from
the results is escaped.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from PIL import Image

from reverie.report.forest import Forest, render_forest
from reverie.report.html import data_uri
from reverie.report.page_style import study_style
from reverie.report.scatter import COMPACT, HALF, Scatter, render_scatter
from reverie.report.study_figures import Arms, arm_slot, arms_in_order, blends_plot, cuts_plot, forests
from reverie.report.study_sheet import SheetRow, StudySheet
from reverie.study.arms import ARMS
from reverie.study.bars import Bar, check_bars
from reverie.study.design import PARTS, Trial
from reverie.study.statistics import Group
from reverie.study.tables import bar_cells, group_cells, group_title, ordered

__all__ = ["StudyResults", "render_study"]

_LARGE = 100  # rows of pictures on a page from which on they are embedded smaller


@dataclass(frozen=True, slots=True)
class StudyResults:
    """What a study has found so far.

    Attributes:
        design: As `reverie.study.design.Design.as_dict` gives it.
        groups: As `reverie.study.statistics.grouped` gives them.
        sheets: The contact sheets of the groups.
        planned: Loops of the design, counted as ``done``; None where that is not known.
    """

    design: Mapping[str, Any]
    groups: Mapping[Group, Arms]
    sheets: Mapping[Group, StudySheet] = field(default_factory=dict)
    planned: int | None = None

    @property
    def done(self) -> int:
        """How many loops there are; one that serves several numbers of known pictures counts once."""
        frames = int(self.design["frames"])
        trials = (
            Trial(arm, *group, seed, frames)
            for group, arms in self.groups.items()
            for arm in arms_in_order(arms)
            for seed in arms[arm]
        )
        return len({trial.same_loop() for trial in trials})


def render_study(results: StudyResults) -> str:
    """The page as HTML; the same results give the same page, byte for byte."""
    bars = check_bars(results.groups)
    small = sum(len(sheet.rows) for sheet in results.sheets.values()) > _LARGE
    body = "".join(
        [
            _head(results, bars),
            _overview(results),
            _checks(bars),
            _design(results),
            _terms(),
            *(_group(results, group, small=small) for group in ordered(results.groups)),
        ]
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>Study of injection policies</title><style>{study_style()}</style></head>"
        f"<body><main>{body}</main></body></html>\n"
    )


def _section(title: str, lead: str, content: str) -> str:
    """A section; title and lead are our own words, content is HTML."""
    return f'<section><h2>{title}</h2><p class="lead">{lead}</p>{content}</section>'


def _head(results: StudyResults, bars: Sequence[Bar]) -> str:
    design, met = results.design, sum(bar.met for bar in bars)
    if bars:
        headline = f"{met} of the {len(bars)} checks of what memory has to prove are met."
    else:
        headline = "Injection policies side by side." if results.done else "No loop was run yet."
    notes = []
    if results.planned is not None and results.done < results.planned:
        notes.append(f"{results.done:,} of {results.planned:,} loops are there: the figures are of these.")
    if design["part"] == "development":
        notes.append(
            "This is the development part: parameters are chosen on it, and nothing of it is reported."
        )
    if results.done and all(len(seeds) < 2 for arms in results.groups.values() for seeds in arms.values()):
        notes.append("One loop of each arm: there are no intervals, and chance is not told from effect.")
    told = "".join(f"<p>{note}</p>" for note in notes)
    size = f"{results.done:,} loops of {int(design['frames']):,} frames"
    return (
        f'<header><p class="eyebrow">reverie · study · {escape(str(design["part"]))} · {size}</p>'
        f"<h1>{headline}</h1>"
        f'<div class="notes">{told}</div>{_contents(results)}</header>'
    )


def _contents(results: StudyResults) -> str:
    """Links to the groups, a line a generator."""
    lines: dict[str, str] = {}
    for group in ordered(results.groups):
        title = escape(group_title(group), quote=True)
        link = f'<a href="#{_anchor(group)}" aria-label="{title}">{group[1]}</a>'
        lines[group[0]] = lines.get(group[0], "") + link
    rows = "".join(f"<p><span>{escape(name)}</span>{links}</p>" for name, links in lines.items())
    words = "Each generator, by how many seed pictures were known:"
    return f'<p class="fine">{words}</p><nav class="toc">{rows}</nav>' if rows else ""


def _anchor(group: Group) -> str:
    return escape(f"{group[0]}-{group[1]}", quote=True)


# ----------------------------------------------------------------------------------- all groups


def _overview(results: StudyResults) -> str:
    drawn = "".join(_forest(pictures, forest) for pictures, forest in forests(results.groups).items())
    if not drawn:
        return ""
    lead = (
        "How many times the control's effective images an arm has, over the whole loop, paired seed by seed. "
        "Filled: by the descriptor that steers; hollow: by a second one. Bold: the interval leaves out 1."
    )
    return _section("Against the control", lead, drawn)


def _forest(pictures: int, forest: Forest) -> str:
    known = f"{pictures} seed picture{'' if pictures == 1 else 's'} known" if pictures else "None known"
    return (
        f'<div class="plot"><h3>{known}</h3><p class="lead">{escape(forest.title)}.</p>'
        f'<div class="wide">{render_forest(forest)}</div>'
        f'<div class="narrow">{render_forest(forest, narrow=True)}</div></div>'
    )


def _checks(bars: Sequence[Bar]) -> str:
    if not bars:
        return ""
    blocks = []
    for pictures in sorted({bar.group[1] for bar in bars}, reverse=True):
        some = [bar for bar in bars if bar.group[1] == pictures]
        count = f"{sum(bar.met for bar in some)} of {len(some)} met"
        known = f"{pictures} seed picture{'' if pictures == 1 else 's'} known" if pictures else "None known"
        blocks.append(
            f'<div class="block"><h3>{known}<span class="fine" style="margin:0">{count}</span></h3>'
            f"{_check_table(some)}</div>"
        )
    lead = (
        '<span class="met"></span>met, <span class="missed"></span>missed. '
        "A check is met when the mean meets it; below it stands the 95 % confidence interval."
    )
    return _section("What memory has to prove", lead, "".join(blocks))


def _check_table(bars: Sequence[Bar]) -> str:
    """A row for each check, a column for each generator."""
    columns = sorted({bar.group[0] for bar in bars})
    found: dict[tuple[str, str], dict[str, Bar]] = {}
    for bar in bars:
        found.setdefault((bar.what, bar.asked), {})[bar.group[0]] = bar
    heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in columns)
    rows = []
    for (what, asked), by_generator in found.items():
        cells = "".join(_check_cell(by_generator.get(name)) for name in columns)
        rows.append(f'<tr><th scope="row">{escape(what)}<small>{escape(asked)}</small></th>{cells}</tr>')
    return (
        f'<div class="scroll"><table class="checks"><thead><tr><td></td>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _check_cell(bar: Bar | None) -> str:
    if bar is None:
        return "<td></td>"
    measured, verdict = bar_cells(bar)
    value, _, interval = measured.partition(" (")
    small = f"<small>{escape(interval.rstrip(')'))}</small>" if interval else ""
    word = f'<span class="word">{verdict}: </span>'
    return f'<td><span class="{verdict}">{word}{escape(value)}</span>{small}</td>'


# ---------------------------------------------------------------------------------------- words


def _design(results: StudyResults) -> str:
    design = results.design
    pairs = (
        ("Part", design["part"]),
        ("Generators", ", ".join(design["generators"])),
        ("Seed pictures known", ", ".join(map(str, design["pictures"]))),
        ("Loops of each arm", design["seeds"]),
        ("Frames of each loop", f"{design['frames']:,}"),
    )
    facts = "".join(f"<div><dt>{what}</dt><dd>{escape(str(value))}</dd></div>" for what, value in pairs)
    arms = "".join(
        f'<div><dt class="arm{arm_slot(name)}">{escape(name)}</dt>'
        f"<dd>{escape(ARMS[name].about if name in ARMS else '')}</dd></div>"
        for name in design["arms"]
    )
    words = " ".join(f"<span>{escape(word)}</span>" for word in _command(design).split())
    lead = (
        "Of a seed, every arm begins with the same picture, has the same noise at the same frame, and knows "
        "the same seed pictures, the start first. Parameters are chosen on the development part; what is "
        "reported is the held-out part, with other seeds and other generators or strengths. “control” goes "
        "to a random seed picture every 15 frames through the very transition and cap of ours: what it lacks "
        "is memory and alarm."
    )
    return _section(
        "How it was made",
        lead,
        f'<pre><code>{words}</code></pre><dl class="settings">{facts}</dl><dl class="arms">{arms}</dl>',
    )


def _command(design: Mapping[str, Any]) -> str:
    """What makes this study again."""
    words = ["reverie study", f"--part {design['part']}"]
    if list(design["arms"]) != list(ARMS):
        words += [f"--arm {name}" for name in design["arms"]]
    part = PARTS.get(design["part"])
    if part is None or list(design["generators"]) != list(part.generators):
        words += [f"--generator {name}" for name in design["generators"]]
    if list(design["pictures"]) != [24, 3, 1, 0]:
        words += [f"--pictures {count}" for count in design["pictures"]]
    return " ".join([*words, f"--loops {design['seeds']}", f"--frames {design['frames']}"])


_TERMS = (
    ("Effective images", "How many clearly different pictures a loop amounts to (Vendi score)."),
    ("Of the last 100", "The same of the last 100 frames: whether the loop is alive at its end."),
    (
        "Second descriptor",
        "The same by a descriptor that has nothing in common with the one that steers (wavelet scattering).",
    ),
    ("Motifs", "Pictures that are unlike all motifs before them."),
    ("Stuck", "Share of windows of 20 frames that are nearly one picture."),
    ("Replay", "Share of frames that nearly repeat one from at least 30 frames before."),
    ("Novel", "Share of frames that are unlike every seed picture."),
    ("Hard cuts", "Steps from one frame to the next that are as large as to another picture."),
    ("Blends", "Share of frames that are a mere mixture of two: double exposures."),
    ("Injections", "How often the loop was led elsewhere."),
    ("x none, x control", "Effective images in multiples of that arm's, paired seed by seed."),
    (
        "Intervals",
        "95 % confidence, by bootstrap over the seeds. Where two overlap, look at the paired ratio.",
    ),
    (
        "The front",
        "Filled dots on the dotted line: no arm has more with as little. It is a front of means.",
    ),
)


def _terms() -> str:
    items = "".join(f"<dt>{term}</dt><dd>{words}</dd>" for term, words in _TERMS)
    return _section("How to read it", "What the columns and axes say.", f'<dl class="terms">{items}</dl>')


# -------------------------------------------------------------------------------------- one group


def _group(results: StudyResults, group: Group, *, small: bool) -> str:
    arms = results.groups[group]
    plots = (
        (cuts_plot(group, arms), "Diversity against hard cuts", "Up and left is better."),
        (blends_plot(group, arms), "Diversity at the end against blends", "Up and left is better."),
    )
    drawn = "".join(_plot(scatter, title, words) for scatter, title, words in plots)
    sheet = results.sheets.get(group)
    pictures = "" if sheet is None else _sheet(sheet, small=small)
    return (
        f'<section class="group" id="{_anchor(group)}"><h2>{escape(group_title(group))}</h2>'
        f'<div class="pair">{drawn}</div>{_table(arms)}{pictures}</section>'
    )


def _plot(scatter: Scatter, title: str, words: str) -> str:
    return (
        f'<div class="plot"><h3>{title}</h3><p class="lead">{words}</p>'
        f'<div class="wide">{render_scatter(scatter, HALF)}</div>'
        f'<div class="narrow">{render_scatter(scatter, COMPACT)}</div></div>'
    )


def _table(arms: Arms) -> str:
    heads, rows = group_cells(arms)
    top = "".join(f'<th scope="col">{escape(head)}</th>' for head in heads[1:])
    body = "".join(
        f'<tr><th scope="row" class="arm{arm_slot(name)}">{escape(name)}</th>'
        f"{''.join(_cell(text) for text in cells)}</tr>"
        for name, *cells in rows
    )
    top = f"<thead><tr><td></td>{top}</tr></thead>"
    return f'<div class="scroll"><table>{top}<tbody>{body}</tbody></table></div>'


def _cell(text: str) -> str:
    value, _, interval = text.partition(" (")
    small = f"<small>{escape(interval.rstrip(')'))}</small>" if interval else ""
    return f"<td>{escape(value)}{small}</td>"


def _sheet(sheet: StudySheet, *, small: bool) -> str:
    count = len(sheet.numbers)
    every = max(1, -(-count // 8))
    heads = "".join(
        f"<span>{number:,}</span>" if at % every == 0 else "<span></span>"
        for at, number in enumerate(sheet.numbers)
    )
    rows = "".join(_sheet_row(row, sheet, small=small) for row in sheet.rows)
    words = (
        f"The same start and noise in every row: seed {sheet.seed}, of which the loop of "
        f"“{escape(sheet.chosen_by)}” is the median. Figures are of this one loop."
    )
    return (
        f'<div class="scroll"><div class="sheet" style="--n:{max(1, count)}">'
        f'<div class="row"><div></div><div class="axis" aria-hidden="true">{heads}</div></div>'
        f"{rows}</div></div>"
        f'<p class="fine">{words}</p>'
    )


def _sheet_row(row: SheetRow, sheet: StudySheet, *, small: bool) -> str:
    words = f'<b class="arm{arm_slot(row.arm)}">{escape(row.arm)}</b><small>{row.facts}</small>'
    label = f"Frames of {escape(row.arm, quote=True)}, from first to last"
    shape = f"aspect-ratio:{max(1, len(sheet.numbers))}/1"
    if row.strip is None:
        picture = f'<span class="gone" role="img" aria-label="{label}: not there" style="{shape}"></span>'
    else:
        picture = (
            f'<img src="{_embedded(row.strip, small=small)}" alt="{label}" width="{row.strip.width}" '
            f'height="{row.strip.height}">'
        )
    return f'<div class="row"><div>{words}</div><div>{picture}</div></div>'


def _embedded(strip: Image.Image, *, small: bool) -> str:
    if small:
        strip = strip.resize((strip.width * 3 // 4, strip.height * 3 // 4), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    strip.save(buffer, "WEBP", quality=62 if small else 74, method=4)
    return data_uri(buffer.getvalue(), "image/webp")
