"""What a run shows, in plain words, and never more than its numbers do.

The comparison is of effective images in the last 100 frames (Vendi score: Friedman and Dieng,
arXiv 2210.02410). One run is one sample: between loops with other seeds the figure varies by some
tenths, so two arms count as different only when they differ by a quarter and by half an image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from reverie.report.run import Arm, Run

__all__ = ["DASH", "MEASURES", "Measure", "Verdict", "key_figures", "verdict"]

DASH = "\N{EN DASH}"
"""Stands where there is no figure."""

RATIO = 1.25
DIFFERENCE = 0.5
COLLAPSED = 3.0
"""Below so many effective images in its last 100 frames a loop counts as collapsed."""


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure of a summary.

    Attributes:
        name: Its key.
        label: What people read.
        explanation: One line.
        style: ``number`` (6.2), ``ratio`` (0.31), ``share`` (12 %) or ``count`` (19).
    """

    name: str
    label: str
    explanation: str
    style: Literal["number", "ratio", "share", "count"]

    def show(self, value: float | None) -> str:
        """The value as text; a dash for None."""
        if value is None:
            return DASH
        patterns = {"number": f"{value:.1f}", "ratio": f"{value:.2f}", "share": f"{value:.0%}"}
        return patterns.get(self.style, f"{value:,.0f}").replace("%", " %")


MEASURES: tuple[Measure, ...] = (
    Measure(
        "effective_images_last_100",
        "Effective images, last 100 frames",
        "How many clearly different images those frames amount to; 1 means that all look alike.",
        "number",
    ),
    Measure("effective_images", "Effective images, whole run", "The same, over every frame.", "number"),
    Measure(
        "pairwise",
        "Similarity of the last 60 frames",
        "Mean similarity of any two of them: 1 is the same picture, 0 is unrelated.",
        "ratio",
    ),
    Measure(
        "stuck", "Stuck", "Share of the run spent in 20 frames whose mean similarity is above 0.85.", "share"
    ),
    Measure("motifs", "Motifs", "Groups of frames that look alike; more is more varied.", "count"),
    Measure("replay", "Replay", "Share of frames that nearly repeat one from long before.", "share"),
    Measure("hard_cuts", "Hard cuts", "Steps so large that the picture visibly jumps.", "count"),
    Measure("injections", "Injections", "How often a memory became the next input.", "count"),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the numbers say.

    Attributes:
        kind: ``better``, ``same`` or ``worse`` with memory; ``single`` when there is nothing to
            compare; ``empty`` when no frame was made or no figure computed.
        headline: One sentence, plain text.
        notes: Further sentences that keep it honest, plain text.
    """

    kind: Literal["better", "same", "worse", "single", "empty"]
    headline: str
    notes: tuple[str, ...] = ()


def key_figures(run: Run) -> list[tuple[Measure, list[float | None]]]:
    """The figures that at least one arm has, each with its value in every arm, in reading order.

    Figures that nobody explains here come last, under their own name.
    """
    tables = [{"injections": float(len(arm.injections)), **arm.summary} for arm in run.arms]
    known = {measure.name for measure in MEASURES}
    others = sorted({name for table in tables for name in table} - known)
    listed = [
        *MEASURES,
        *(Measure(name, name.replace("_", " ").capitalize(), "", "ratio") for name in others),
    ]
    rows = [(measure, [table.get(measure.name) for table in tables]) for measure in listed]
    return [(measure, values) for measure, values in rows if any(value is not None for value in values)]


def verdict(run: Run) -> Verdict:
    """Compare the loop with memory to the one without.

    With several arms with memory, the one with the most effective images in its last 100 frames
    speaks for them, and is named.
    """
    plain = next((arm for arm in run.arms if arm.policy == "none"), None)
    others = [arm for arm in run.arms if arm is not plain and _figure(arm) is not None]
    if run.last == 0:
        return Verdict("empty", "No frame was made yet: there is only the start image.")
    if plain is None or len(run.arms) == 1 or _figure(plain) is None or not others:
        return _single(run)
    best = max(others, key=lambda arm: _figure(arm) or 0.0)
    return _compare(run, plain, best, several=len(run.arms) > 2)


def _figure(arm: Arm) -> float | None:
    return arm.summary.get("effective_images_last_100")


def _single(run: Run) -> Verdict:
    told = [(arm, figure) for arm in run.arms if (figure := _figure(arm)) is not None]
    if not told:
        return Verdict("empty", f"{run.last:,} frames were made, too few for a figure.", _stopped(run))
    arm, figure = told[0]
    headline = f"The loop {_memory(arm)} showed {figure:.1f} effective images in {arm.tail}."
    note = "There is no arm to compare it with, so this says nothing about what memory changes."
    return Verdict("single", headline, (note, *_stopped(run)))


def _compare(run: Run, plain: Arm, best: Arm, *, several: bool) -> Verdict:
    a, b = _figure(plain) or 0.0, _figure(best) or 0.0
    named = f" ({best.title})" if several else ""
    if b >= a * RATIO and b - a >= DIFFERENCE:
        kind: Literal["better", "same", "worse"] = "better"
        headline = (
            f"With memory{named} the loop showed {b:.1f} effective images in {best.tail}; "
            f"without it, {a:.1f}."
        )
    elif a >= b * RATIO and a - b >= DIFFERENCE:
        kind = "worse"
        headline = (
            f"The loop was less varied with memory{named}: {b:.1f} effective images in {best.tail}, "
            f"against {a:.1f} without it."
        )
    else:
        kind = "same"
        headline = (
            f"{_sameness(a, b)}: {b:.1f} effective images in {best.tail} with memory{named}, "
            f"{a:.1f} without it."
        )
    return Verdict(kind, headline, (*_caveats(plain, best, kind, b), *_stopped(run)))


def _sameness(a: float, b: float) -> str:
    if max(a, b) < COLLAPSED:
        return "The memory did not keep this loop from collapsing"
    return "The memory made no clear difference to this loop"


def _caveats(plain: Arm, best: Arm, kind: str, figure: float) -> list[str]:
    notes = []
    if kind == "better" and figure < COLLAPSED:
        notes.append("That is still little variety: the loop came close to collapsing with memory too.")
    if kind != "better" and best.policy == "spec":
        notes.append(
            "The policy “spec” is the specification's own; it picks memories that are similar to the "
            "current frame, so what it injects is often nearly the same picture."
        )
    cuts, cuts_before = best.summary.get("hard_cuts", 0.0), plain.summary.get("hard_cuts", 0.0)
    if cuts > cuts_before:
        notes.append(f"It jumped visibly {_times(cuts)}; without memory, {_times(cuts_before)}.")
    if plain.last != best.last:
        notes.append(
            f"The arms differ in length ({plain.last:,} and {best.last:,} frames), so compare them with care."
        )
    notes.append("This is one run with one seed: a direction, not a proof.")
    return notes


def _times(count: float) -> str:
    return {0: "never", 1: "once", 2: "twice"}.get(round(count), f"{count:,.0f} times")


def _memory(arm: Arm) -> str:
    return "without memory" if arm.policy == "none" else "with memory"


def _stopped(run: Run) -> tuple[str, ...]:
    return () if run.finished else ("The run was stopped early; this is what there was.",)
