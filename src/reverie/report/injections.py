"""The injections of a run as rows of pictures: where the loop left, towards what, and where that took it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

from PIL import Image

from reverie.report.charts import arm_slots
from reverie.report.page_parts import arm_heading, section, thumbnail
from reverie.report.run import Arm, FrameRecord, Injected, Run, evenly

__all__ = ["ended", "injections_section"]

_OPEN = 12  # the others are folded away
_MOST = 72  # of all arms together
_OPEN_WIDTH = 160  # pixels: twice the width on the page
_FOLDED_WIDTH = 112
_FOLDED_QUALITY = 60


def injections_section(run: Run) -> str:
    """For each arm its injections, the first dozen open; empty when there were none."""
    told = [(arm, slot) for arm, slot in zip(run.arms, arm_slots(run.arms), strict=True) if arm.injections]
    if not told:
        return ""
    blocks = [_arm(run, arm, slot, _MOST // len(told)) for arm, slot in told]
    lead = "The frame that the loop left, what it went towards, and the frame at the end of the way."
    return section("Injections", lead, "".join(blocks))


def ended(arm: Arm, record: FrameRecord) -> tuple[int, str]:
    """The number of the frame at which an injection had done what it did, and a word on it.

    A way of several frames ends at the first frame after it that says so, a cut at the next frame. The
    word is ``""`` when it came to its end, ``on the way`` when the run was over before, ``not made``
    when there is no such frame.
    """
    for after in arm.records:
        if after.frame <= record.frame:
            continue
        if after.arrived:
            return after.frame, ""
        if after.injected is not None:
            break
    if record.on_way:
        return arm.last, "on the way" if arm.last > record.frame else "not made"
    number = record.frame + 1
    return number, "" if number <= arm.last else "not made"


def _arm(run: Run, arm: Arm, slot: int, most: int) -> str:
    every = arm.injections
    chosen = [every[at] for at in evenly(0, len(every) - 1, most)]
    count = (
        f"{len(every):,}" if len(chosen) == len(every) else f"{len(chosen)} of {len(every):,}, evenly spaced"
    )
    title = arm_heading(arm, slot, f'<span class="fine count">{count}</span>')
    shown = [_card(run, arm, record, _OPEN_WIDTH) for record in chosen[:_OPEN]]
    rest = [_card(run, arm, record, _FOLDED_WIDTH, _FOLDED_QUALITY) for record in chosen[_OPEN:]]
    folded = f"<details><summary>{len(rest)} more</summary>{_cards(slot, rest)}</details>" if rest else ""
    return f'<div class="block">{title}{_cards(slot, shown)}{folded}</div>'


def _cards(slot: int, cards: Sequence[str]) -> str:
    return f'<ol class="injections" style="--mark:var(--arm{slot})">{"".join(cards)}</ol>'


def _card(run: Run, arm: Arm, record: FrameRecord, width: int, quality: int = 72) -> str:
    injected = record.injected
    assert injected is not None  # noqa: S101 - Arm.injections holds only those
    target = arm.image(injected.source) if injected.source else None
    end, word = ended(arm, record)
    made = word != "not made"
    name, detail = _target(injected)

    def picture(image: Image.Image | None, words: str, style: str = "") -> str:
        return thumbnail(image, run, width, words, style=style, quality=quality)

    pictures = '<span aria-hidden="true">→</span>'.join(
        [
            picture(arm.picture(record.frame), f"Frame {record.frame}"),
            picture(target, f"Towards: {name} {detail}".strip(), "towards"),
            picture(arm.picture(end) if made else None, f"Frame {end}", "" if made else "never"),
        ]
    )
    after = f"frame {end:,}{'<br>' + word if word else ''}" if made else word
    more = f"<br>{escape(detail)}" if detail else ""
    names = f"<em>frame {record.frame:,}</em><i></i><em>{escape(name)}{more}</em><i></i><em>{after}</em>"
    fact = _fact(record, injected, end, word)
    return (
        f'<li><div class="trio">{pictures}{names}</div><p class="fact">{fact}</p>'
        f'<p class="reason">{escape(record.reason)}</p></li>'
    )


def _target(injected: Injected) -> tuple[str, str]:
    """What the loop went towards, in a word, and its id where it has one."""
    if injected.imagined:
        return "imagined", "never shown before"
    folder, _, file = (injected.source or "").partition("/")
    number = re.match(r"\d{1,9}", file)
    names = {"frames": "frame", "seeds": "seed"}
    name = f"{names[folder]} {int(number[0]):,}" if folder in names and number else "memory"
    return name, injected.cache_id


def _fact(record: FrameRecord, injected: Injected, end: int, word: str) -> str:
    """How long it took, and how like the frame the target was."""
    steps = end - record.frame
    took = "The next frame" if steps == 1 else f"In {steps:,} frames"
    if word:
        took = "The run ended on the way" if word == "on the way" else "The run ended here"
    if injected.similarity is None:
        return f"{took}, similarity unknown"
    near = round(injected.similarity, 2) + 0.0  # no negative zero
    return f"{took}, similarity {near:.2f}".replace("-", "\N{MINUS SIGN}")
