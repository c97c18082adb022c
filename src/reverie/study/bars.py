"""What memory has to prove, as checks on a study's results: each says what was asked and what was measured.

A check is met when the mean meets it; the interval stands beside it. What a study did not run is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import TypeAlias

import numpy as np

from reverie.study.arms import CAREFUL
from reverie.study.statistics import Estimate, Group, compared, estimate

__all__ = ["Bar", "check_bars"]

_Arms: TypeAlias = Mapping[str, Mapping[int, Mapping[str, float]]]

_ROUNDING = 1e-4  # of a cosine in float32
_TRAVELS = "latent-60"  # a generator whose loop goes on by itself
_SECOND = 0.9  # the second descriptor agrees when it finds so much of what is asked


@dataclass(frozen=True, slots=True)
class Bar:
    """One check.

    Attributes:
        what: In words.
        group: Generator, and number of known pictures.
        asked: In words.
        measured: What was found.
        met: Whether that is enough.
    """

    what: str
    group: Group
    asked: str
    measured: Estimate
    met: bool


def check_bars(groups: Mapping[Group, _Arms], ours: str = "wander") -> list[Bar]:
    """All checks that these results allow.

    Args:
        groups: As `reverie.study.statistics.grouped` gives them.
        ours: The arm that is checked; in a group without it there is nothing to check.
    """
    found: list[Bar] = []
    for group, arms in groups.items():
        if ours in arms:
            found += _of_frames(group, arms, ours)
            found += _against(group, arms, ours)
            found += _ranking(group, arms)
    return found


def _ranking(group: Group, arms: _Arms) -> Iterator[Bar]:
    """Whether the second descriptor orders the arms that both of them tell apart as the first one does."""
    apart = against = 0
    for one, other in combinations(arms, 2):
        first, second = (
            compared(_by_seed(arms, one, name), _by_seed(arms, other, name))
            for name in ("vendi", "judge_vendi")
        )
        if _tells_apart(first) and _tells_apart(second):
            apart += 1
            against += (first.value > 1.0) != (second.value > 1.0)
    if apart:
        share = against / apart
        found = Estimate(share, share, share, 1)
        yield Bar(
            "pairs of arms that the second descriptor orders otherwise", group, "0%", found, not against
        )


def _tells_apart(ratio: Estimate) -> bool:
    return ratio.count > 1 and (ratio.low > 1.0 or ratio.high < 1.0)


def _of_frames(group: Group, arms: _Arms, ours: str) -> Iterator[Bar]:
    """Checks that need no other arm."""
    figures = arms[ours].values()
    largest = [each["largest_step"] for each in figures]
    worst = Estimate(max(largest), min(largest), max(largest), len(largest))
    cap = CAREFUL.cap or 2.0
    yield Bar("largest step", group, f"at most {cap:g}", worst, worst.value <= cap + _ROUNDING)
    for name, what, most in (
        ("blends", "frames that are blends", 0.05),
        ("stuck", "stuck windows", 0.01),
        ("replay", "replay", 0.10),
    ):
        value = estimate([each[name] for each in figures])
        yield Bar(what, group, f"at most {most:.0%}", value, value.value <= most)


def _against(group: Group, arms: _Arms, ours: str) -> Iterator[Bar]:
    """Checks against other arms, paired."""
    generator, pictures = group
    least = {24: (1.0, 1.0), 3: (1.35, 1.5), 1: (2.0, 2.0)}.get(pictures)
    if least is not None and "control" in arms:
        for prefix, share in (("", 1.0), ("judge_", _SECOND)):
            for name, factor in zip(("vendi", "last"), least, strict=True):
                yield _ratio(group, arms, (ours, "control"), prefix + name, factor * share)
        yield _not_more(group, arms, ours, "replay")
        yield _ratio(group, arms, (ours, "control"), "novel", 1.0)
    if pictures == 24 and "restart" in arms:
        yield _ratio(group, arms, (ours, "restart"), "vendi", 1.0)
    if pictures == 24 and "dream-gen-capped" in arms:
        yield _ratio(group, arms, (ours, "dream-gen-capped"), "vendi", 1.5)
    if pictures == 0 and generator != _TRAVELS and "none" in arms:
        yield _ratio(group, arms, (ours, "none"), "vendi", 4.0 if generator.startswith("patches") else 2.0)
    if generator == _TRAVELS and "none" in arms:
        yield _ratio(group, arms, (ours, "none"), "vendi", 0.97)


def _ratio(group: Group, arms: _Arms, pair: tuple[str, str], name: str, least: float) -> Bar:
    ours, other = pair
    found = compared(_by_seed(arms, ours, name), _by_seed(arms, other, name))
    met = bool(np.isnan(found.value)) or found.value >= least  # nothing against nothing is enough
    return Bar(f"{_WORDS[name]} against {other}", group, f"at least {least:.2f}x", found, met)


def _not_more(group: Group, arms: _Arms, ours: str, name: str) -> Bar:
    a, b = (_by_seed(arms, arm, name) for arm in (ours, "control"))
    difference = estimate([a[seed] - b[seed] for seed in sorted(a.keys() & b.keys())])
    return Bar(f"{_WORDS[name]}, less the control's", group, "at most 0", difference, difference.value <= 0)


def _by_seed(arms: _Arms, arm: str, name: str) -> dict[int, float]:
    return {seed: figures[name] for seed, figures in arms[arm].items()}


_WORDS = {
    "vendi": "effective images",
    "last": "effective images of the last 100",
    "judge_vendi": "effective images, second descriptor",
    "judge_last": "effective images of the last 100, second descriptor",
    "replay": "replay",
    "novel": "novel frames",
}
