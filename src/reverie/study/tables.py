"""A study's results as Markdown and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeAlias

from reverie.study.arms import ARMS
from reverie.study.bars import Bar, check_bars
from reverie.study.statistics import Estimate, Group, compared, estimate, grouped

__all__ = ["Link", "as_json", "as_markdown", "bar_cells", "group_cells", "group_title", "ordered"]

Link: TypeAlias = tuple[str, str]
"""What a picture shows, and its path from where the table stands."""

_Arms: TypeAlias = Mapping[str, Mapping[int, Mapping[str, float]]]

_COLUMNS = (
    ("vendi", "effective images", "{:.1f}"),
    ("last", "of the last 100", "{:.1f}"),
    ("judge_vendi", "second descriptor", "{:.1f}"),
    ("motifs", "motifs", "{:.0f}"),
    ("stuck", "stuck", "{:.1%}"),
    ("replay", "replay", "{:.1%}"),
    ("novel", "novel", "{:.0%}"),
    ("hard_cuts", "hard cuts", "{:.1f}"),
    ("blends", "blends", "{:.1%}"),
    ("injections", "injections", "{:.0f}"),
)


def as_markdown(
    results: Sequence[Mapping[str, Any]],
    design: Mapping[str, Any],
    *,
    overview: Sequence[Link] = (),
    pictures: Mapping[Group, Sequence[Link]] | None = None,
) -> str:
    """A table for each generator and number of known pictures, then what memory has to prove.

    Args:
        results: As `reverie.study.run.run_study` gives them.
        design: As `reverie.study.design.Design.as_dict` gives it.
        overview: Pictures to put before the tables.
        pictures: Pictures to put below the table of a group.
    """
    groups = grouped(results)
    lines = [
        "# Study of injection policies",
        "",
        f"Part: **{design['part']}**. {design['frames']} frames a loop, {design['seeds']} loops an arm.",
        "The same seed is the same start and the same noise for every arm. Means, and for the first three",
        "figures 95 % confidence intervals.",
        "",
        *_linked(overview),
    ]
    for group in ordered(groups):
        lines += [f"## {group_title(group)}", "", *_rows(*group_cells(groups[group])), ""]
        lines += _linked((pictures or {}).get(group, ()))
    bars = check_bars(groups)
    if bars:
        lines += ["## What memory has to prove", "", *_bars(bars)]
    return "\n".join(lines).rstrip() + "\n"


def ordered(groups: Mapping[Group, Any]) -> list[Group]:
    """The groups as they are listed: by generator, those that know most pictures first."""
    return sorted(groups, key=lambda group: (group[0], -group[1]))


def group_title(group: Group) -> str:
    """Generator and number of known pictures, in words."""
    generator, pictures = group
    if not pictures:
        return f"{generator}, no seed picture known"
    return f"{generator}, {pictures} seed picture{'' if pictures == 1 else 's'} known"


def group_cells(arms: _Arms) -> tuple[list[str], list[list[str]]]:
    """The table of a group: its heads, and a row for each arm, the arm's name first."""
    heads = ["arm", *(head for _, head, _ in _COLUMNS), "x none", "x control"]
    rows = []
    for name in (each for each in ARMS if each in arms):
        figures = list(arms[name].values())
        cells = [name]
        for place, (figure, _, form) in enumerate(_COLUMNS):
            value = estimate([each[figure] for each in figures])
            cells.append(_with_interval(value, form) if place < 3 else form.format(value.value))
        rows.append([*cells, _times(arms, name, "none"), _times(arms, name, "control")])
    return heads, rows


def _with_interval(value: Estimate, form: str) -> str:
    if value.count < 2:
        return form.format(value.value)
    return f"{form.format(value.value)} ({form.format(value.low)} to {form.format(value.high)})"


def _times(arms: _Arms, name: str, other: str) -> str:
    """How many times the other arm's effective images it has, paired."""
    if other not in arms or name == other:
        return ""
    ours, theirs = ({seed: each["vendi"] for seed, each in arms[arm].items()} for arm in (name, other))
    return _with_interval(compared(ours, theirs), "{:.2f}")


def _bars(bars: Sequence[Bar]) -> list[str]:
    heads = ["what", "generator", "known", "asked", "measured", ""]
    rows = []
    for bar in bars:
        generator, pictures = bar.group
        measured, verdict = bar_cells(bar)
        bold = verdict if bar.met else f"**{verdict}**"
        rows.append([bar.what, generator, str(pictures), bar.asked, measured, bold])
    return [f"{sum(bar.met for bar in bars)} of {len(bars)} met.", "", *_rows(heads, rows)]


def bar_cells(bar: Bar) -> tuple[str, str]:
    """What was measured, and ``met`` or ``missed``."""
    form = "{:.1%}" if "%" in bar.asked else "{:.3g}"
    return _with_interval(bar.measured, form), "met" if bar.met else "missed"


def _rows(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *rows)]


def _linked(pictures: Sequence[Link]) -> list[str]:
    return [line for words, path in pictures for line in (f"![{words}]({path})", "")]


def as_json(results: Sequence[Mapping[str, Any]], design: Mapping[str, Any]) -> dict[str, Any]:
    """Design, every trial, means with intervals, and the checks."""
    groups = grouped(results)
    summary = [
        {
            "generator": generator,
            "pictures": pictures,
            "arm": arm,
            "figures": {
                name: asdict(estimate([each[name] for each in seeds.values()])) for name in _names(seeds)
            },
        }
        for (generator, pictures), arms in groups.items()
        for arm, seeds in arms.items()
    ]
    return {
        "version": 1,
        "design": dict(design),
        "summary": summary,
        "bars": [asdict(bar) for bar in check_bars(groups)],
        "trials": list(results),
    }


def _names(seeds: Mapping[int, Mapping[str, float]]) -> list[str]:
    return sorted(next(iter(seeds.values())))
