"""A study's results as Markdown and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from reverie.study.arms import ARMS
from reverie.study.bars import Bar, check_bars
from reverie.study.statistics import Estimate, Group, compared, estimate, grouped

__all__ = ["as_json", "as_markdown"]

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


def as_markdown(results: Sequence[Mapping[str, Any]], design: Mapping[str, Any]) -> str:
    """A table for each generator and number of known pictures, then what memory has to prove.

    Args:
        results: As `reverie.study.run.run_study` gives them.
        design: As `reverie.study.design.Design.as_dict` gives it.
    """
    groups = grouped(results)
    lines = [
        "# Study of injection policies",
        "",
        f"Part: **{design['part']}**. {design['frames']} frames a loop, {design['seeds']} loops an arm.",
        "The same seed is the same start and the same noise for every arm. Means, and for the first three",
        "figures 95 % confidence intervals.",
        "",
    ]
    for group in sorted(groups, key=lambda group: (group[0], -group[1])):
        lines += _table(group, groups[group])
    bars = check_bars(groups)
    if bars:
        lines += ["## What memory has to prove", "", *_bars(bars)]
    return "\n".join(lines).rstrip() + "\n"


def _table(group: Group, arms: Mapping[str, Mapping[int, Mapping[str, float]]]) -> list[str]:
    generator, pictures = group
    known = (
        f"{pictures} seed picture{'' if pictures == 1 else 's'} known"
        if pictures
        else "no seed picture known"
    )
    heads = ["arm", *(head for _, head, _ in _COLUMNS), "x none", "x control"]
    lines = [f"## {generator}, {known}", "", _row(heads), _row(["---"] * len(heads))]
    for name in (each for each in ARMS if each in arms):
        figures = list(arms[name].values())
        cells = [name]
        for place, (figure, _, form) in enumerate(_COLUMNS):
            value = estimate([each[figure] for each in figures])
            cells.append(_with_interval(value, form) if place < 3 else form.format(value.value))
        lines.append(_row([*cells, _times(arms, name, "none"), _times(arms, name, "control")]))
    return [*lines, ""]


def _with_interval(value: Estimate, form: str) -> str:
    if value.count < 2:
        return form.format(value.value)
    return f"{form.format(value.value)} ({form.format(value.low)} to {form.format(value.high)})"


def _times(arms: Mapping[str, Mapping[int, Mapping[str, float]]], name: str, other: str) -> str:
    """How many times the other arm's effective images it has, paired."""
    if other not in arms or name == other:
        return ""
    ours, theirs = ({seed: each["vendi"] for seed, each in arms[arm].items()} for arm in (name, other))
    return _with_interval(compared(ours, theirs), "{:.2f}")


def _bars(bars: Sequence[Bar]) -> list[str]:
    met = sum(bar.met for bar in bars)
    lines = [f"{met} of {len(bars)} met.", ""]
    lines += [_row(["what", "generator", "known", "asked", "measured", ""]), _row(["---"] * 6)]
    for bar in bars:
        form = "{:.1%}" if "%" in bar.asked else "{:.3g}"
        generator, pictures = bar.group
        verdict = "met" if bar.met else "**missed**"
        lines.append(
            _row([bar.what, generator, str(pictures), bar.asked, _with_interval(bar.measured, form), verdict])
        )
    return lines


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


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
