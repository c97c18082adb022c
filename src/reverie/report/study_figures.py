"""A study's results as plots: fronts for each group, and ratios to the control for all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from reverie.report.forest import Forest, ForestPanel, ForestRow
from reverie.report.scatter import Dot, Scatter
from reverie.study.arms import ARMS
from reverie.study.statistics import Estimate, Group, compared, estimate
from reverie.study.tables import group_title, ordered

__all__ = ["Arms", "arm_slot", "arms_in_order", "blends_plot", "cuts_plot", "forests"]

Arms: TypeAlias = Mapping[str, Mapping[int, Mapping[str, float]]]
"""Figures by arm, then by seed."""

_SLOTS = {
    "none": 0,
    "dream-gen": 1,
    "dream-gen-capped": 1,
    "restart": 3,
    "control": 3,
    "spec": 4,
    "spec-older": 4,
}
_OURS = 2
_BLENDS_ASKED = 5.0  # percent


def arm_slot(name: str) -> int:
    """The colour slot of an arm: one for each family, the last for ours."""
    return _SLOTS.get(name, _OURS)


def arms_in_order(present: Iterable[str]) -> list[str]:
    """The arms that are there, in the order of the tables."""
    found = set(present)
    return [name for name in ARMS if name in found]


def cuts_plot(group: Group, arms: Arms) -> Scatter:
    """Diversity of the whole loop against its hard cuts."""
    return Scatter(
        f"{group_title(group)}: diversity against hard cuts",
        _dots(arms, "hard_cuts", "vendi"),
        across="hard cuts a loop",
        up="effective images",
    )


def blends_plot(group: Group, arms: Arms) -> Scatter:
    """Diversity of the last 100 frames against the share of frames that are mere blends."""
    return Scatter(
        f"{group_title(group)}: diversity of the last 100 frames against blends",
        _dots(arms, "blends", "last", percent=True),
        across="frames that are mere blends",
        up="effective images of the last 100",
        unit="%",
        limit=_BLENDS_ASKED,
    )


def _dots(arms: Arms, across: str, up: str, *, percent: bool = False) -> list[Dot]:
    factor = 100.0 if percent else 1.0
    return [
        Dot(
            name,
            arm_slot(name),
            estimate([factor * each[across] for each in arms[name].values()]),
            estimate([each[up] for each in arms[name].values()]),
        )
        for name in arms_in_order(arms)
    ]


def forests(groups: Mapping[Group, Arms]) -> dict[int, Forest]:
    """For each number of known pictures, most first: ratios of effective images to the control.

    Where no seed picture is known there is no control, and the ratio is to the loop left alone. A number
    of pictures of which nothing can be compared is left out.
    """
    found = {}
    for pictures in sorted({pictures for _, pictures in groups}, reverse=True):
        some = {group: groups[group] for group in ordered(groups) if group[1] == pictures}
        names = arms_in_order(name for arms in some.values() for name in arms)
        base = next((name for name in ("control", "none") if name in names), None)
        others = [name for name in names if name != base]
        if base is not None and others:
            panels = [ForestPanel(group[0], _rows(arms, others, base)) for group, arms in some.items()]
            found[pictures] = Forest(f"Effective images, in multiples of what {base} has", panels)
    return found


def _rows(arms: Arms, names: Iterable[str], base: str) -> list[ForestRow]:
    return [
        ForestRow(
            name,
            arm_slot(name),
            _ratio(arms, name, base, "vendi"),
            _ratio(arms, name, base, "judge_vendi"),
        )
        for name in names
    ]


def _ratio(arms: Arms, name: str, base: str, figure: str) -> Estimate:
    ours, theirs = ({seed: each[figure] for seed, each in arms.get(arm, {}).items()} for arm in (name, base))
    return compared(ours, theirs)
