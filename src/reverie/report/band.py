"""The states of the loops over time: a band for each as SVG, on the x axis of the charts, and in words."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from reverie.report.charts import CHART_STYLE, NARROW, WIDE, Frame, Scale, arm_slots, wrap, x_axis
from reverie.report.page_parts import arm_heading, table, times
from reverie.report.run import Arm, Run
from reverie.report.states import (
    LOOKS,
    PROMISE,
    Span,
    alarms,
    coarse,
    has_states,
    highest_evidence,
    look,
    shares,
    spans,
)
from reverie.report.verdict import DASH

__all__ = ["band_style", "render_band", "states_block", "swatch"]

_MOST_SPANS = 200  # drawn
_MOST_CHANGES = 100  # told in words
_BAND = 14.0  # height, in units of the drawing
_LABEL = 19.0  # above a band: the words of its states
_GAP = 14.0
_ALARMS = 20.0  # below a band that has alarms


def states_block(run: Run) -> str:
    """What the loops were doing: bands, shares, every change in words; empty for journals without states."""
    if not has_states(run):
        return ""
    drawn = "".join(
        f'<div class="{name}">{render_band(run, frame)}</div>'
        for name, frame in (("wide", WIDE), ("narrow", NARROW))
    )
    lead = "What the loop was doing, frame by frame, on the axis of the charts above."
    if any(alarms(arm) for arm in run.arms):
        lead += " A triangle is an alarm."
    return (
        f'<div class="plot"><h3>States over time</h3><p class="lead">{lead}</p>{drawn}'
        f'<div class="states">{_shares(run)}</div>{_changes(run)}</div>'
    )


# ------------------------------------------------------------------------------------ drawing


def render_band(run: Run, frame: Frame) -> str:
    """The bands of all arms under each other, as an SVG element as wide as a chart of that size."""
    scale = Scale(frame, float(max(run.last, 1)))
    drawn, y = [], 0.0
    for arm, slot in zip(run.arms, arm_slots(run.arms), strict=True):
        drawn.append(_row(scale, arm, slot, y + _LABEL))
        y += _LABEL + _BAND + _GAP + (_ALARMS if alarms(arm) else 0.0)
    told = ". ".join(f"{arm.title}: {_told(arm)}" for arm in run.arms)
    height = round(y + 14)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {frame.width} {height}" width="100%" '
        f'role="img" aria-label="{escape(told)}" class="chart band" font-size="{frame.text:g}">'
        f"<style>{CHART_STYLE}</style>{''.join(drawn)}{x_axis(scale, y + 6)}</svg>"
    )


def _told(arm: Arm) -> str:
    """The shares and the alarms of an arm in one line."""
    parts = [f"{share:.0%} {name}" for name, share in shares(arm).items()]
    raised = alarms(arm)
    if raised:
        parts.append(f"alarm raised {times(len(raised))}")
    return ", ".join(parts).replace("%", " %") or "no states"


def _row(scale: Scale, arm: Arm, slot: int, y: float) -> str:
    frame, right = scale.frame, scale.frame.box[2]
    listed = coarse(spans(arm.records), _MOST_SPANS)
    drawn = [_span(scale, span, y) for span in listed]
    drawn += [_alarm_marks(scale, alarms(arm), y + _BAND)]
    lines = wrap(arm.title, int((frame.right - 12) / (frame.text * 0.54)))
    line = frame.text * 1.25
    first = y + _BAND / 2 - line * (len(lines) - 1) / 2 + frame.text * 0.35
    drawn += [
        f'<text class="label arm{slot}" fill="currentColor" x="{right + 12:.1f}" '
        f'y="{first + at * line:.1f}">{escape(text)}</text>'
        for at, text in enumerate(lines)
    ]
    return "".join(drawn)


def _span(scale: Scale, span: Span, y: float) -> str:
    """A piece of a band; a frame stands for the way to it from the frame before."""
    x = scale.x(max(0, span.first - 1))
    width = scale.x(span.last) - x
    name = escape(span.name)
    why = f". {escape(span.why)}" if span.why else ""
    bar = _bar(span.name, x, y, max(1.0, width - 1.5), _BAND)
    drawn = f"<g><title>{span.frames}: {name}{why}</title>{bar}</g>"
    size = scale.frame.text - 0.5
    if len(span.name) * size * 0.54 <= width:
        drawn += f'<text class="tick" font-size="{size:g}" x="{x:.1f}" y="{y - 5:.1f}">{name}</text>'
    return drawn


def _bar(name: str, x: float, y: float, width: float, height: float) -> str:
    """A bar in the colour and the texture of a state."""
    drawn = (
        f'<rect class="{_class(name)}" fill="currentColor" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" '
        f'height="{height:g}" rx="{min(2.5, width / 2):g}"/>'
    )
    texture = look(name).texture
    if texture and width > 3:
        thick, dashes = texture
        drawn += (
            f'<path class="texture" stroke-width="{thick:g}" stroke-dasharray="{dashes or "none"}" '
            f'd="M{x + 2:.1f} {y + height / 2:.1f}h{width - 3:.1f}"/>'
        )
    return drawn


def _alarm_marks(scale: Scale, raised: Sequence[int], y: float) -> str:
    """A triangle below the band for each alarm; the word where there is room for it."""
    drawn, free = [], scale.frame.box[0]
    for number in raised:
        x = scale.x(number)
        drawn.append(
            f"<g><title>The alarm was raised at frame {number:,}</title>"
            f'<path class="alarm" d="M{x:.1f} {y + 3:.1f}l6 10h-12z"/></g>'
        )
        room = 48.0
        if x - room - 10 >= free:  # to its left, so that it never leaves the drawing
            drawn.append(f'<text class="tick end" x="{x - 10:.1f}" y="{y + 13:.1f}">alarm</text>')
        free = x + 10
    return "".join(drawn)


def swatch(name: str) -> str:
    """A piece of a state's band, for a legend."""
    return _key(_bar(name, 0, 0, 30, 14))


def _key(drawn: str) -> str:
    return f'<svg class="state" viewBox="0 0 30 14" width="30" height="14" aria-hidden="true">{drawn}</svg>'


def _class(name: str) -> str:
    return f"state-{name.replace(' ', '-')}" if name in LOOKS else "state-other"


def band_style(*, dark: bool) -> str:
    """The rules that give the states their colours in one scheme."""
    other = look("")
    pairs = [*((_class(name), each) for name, each in LOOKS.items()), ("state-other", other)]
    return "".join(f".{name}{{color:{each.dark if dark else each.light}}}" for name, each in pairs)


# -------------------------------------------------------------------------------------- words


def _shares(run: Run) -> str:
    """A row for each state that occurred, and one for the alarm."""
    held = [shares(arm) for arm in run.arms]
    names = [name for name in LOOKS if any(name in each for each in held)]
    names += sorted({name for each in held for name in each} - LOOKS.keys())
    rows = []
    for name in names:
        cells = "".join(f"<td>{_percent(each.get(name, 0.0)) if each else DASH}</td>" for each in held)
        words = f"<small>{escape(look(name).words)}</small>" if look(name).words else ""
        label = f"{swatch(name)}{escape(name.capitalize())}"
        rows.append(f'<tr><th scope="row">{label}{words}</th>{cells}</tr>')
    rows += _alarm_row(run)
    return table(run, rows)


def _percent(share: float) -> str:
    """Rounded, but what there was is never nothing."""
    return "under 1 %" if 0 < share < 0.005 else f"{share:.0%}".replace("%", " %")


def _alarm_row(run: Run) -> list[str]:
    if all(highest_evidence(arm) is None for arm in run.arms):
        return []
    words = (
        "Raised when nothing new comes any more, and then counted anew. The promise: a loop that keeps "
        f"finding something new runs {PROMISE:,.0f} frames on average, at least, before a false alarm."
    )
    mark = _key('<path class="alarm" d="M9 2l6 10h-12z"/>')
    cells = "".join(f"<td>{_alarm_cell(arm)}</td>" for arm in run.arms)
    return [f'<tr><th scope="row">{mark}Alarm<small>{words}</small></th>{cells}</tr>']


def _alarm_cell(arm: Arm) -> str:
    evidence, raised = highest_evidence(arm), alarms(arm)
    if evidence is None:
        return DASH
    if not raised:
        return f"never<small>evidence up to {_percent(evidence)}</small>"
    listed = ", ".join(f"{at:,}" for at in raised[:3]) + (" …" if len(raised) > 3 else "")
    return f"{times(len(raised))}<small>at frame{'s' if len(raised) > 1 else ''} {listed}</small>"


def _changes(run: Run) -> str:
    """Every change of state, folded away, with the numbers that it was told by."""
    blocks = []
    for arm, slot in zip(run.arms, arm_slots(run.arms), strict=True):
        listed = spans(arm.records)
        if not listed:
            continue
        rows = "".join(_change(span) for span in listed[:_MOST_CHANGES])
        left = len(listed) - _MOST_CHANGES
        more = f'<p class="fine">{left:,} more are in its journal.</p>' if left > 0 else ""
        blocks.append(
            f'<div class="block">{arm_heading(arm, slot)}<ol class="changes">{rows}</ol>{more}</div>'
        )
    return f"<details><summary>Every change, and why</summary>{''.join(blocks)}</details>"


def _change(span: Span) -> str:
    told = span.why and span.name != "warming up"  # which only counts frames
    why = f"<p>{escape(span.why)}</p>" if told else ""
    return f"<li>{swatch(span.name)}<b>{escape(span.name)}</b> <span>{span.frames}</span>{why}</li>"
