"""The memory at the end of a run as one grid of pictures."""

from __future__ import annotations

from html import escape

from reverie.report.charts import arm_slots
from reverie.report.memory import Kept, Memory, load_memory
from reverie.report.page_parts import arm_heading, section, thumbnail, times
from reverie.report.run import Arm, Run, evenly

__all__ = ["mosaic_section"]

_MOST = 150  # pictures of all arms together
_WIDTH = 112  # pixels: about one and a half times the width on the page
_QUALITY = 60


def mosaic_section(run: Run) -> str:
    """Every memory of the run; empty when there is none."""
    loaded = [
        (arm, slot, memory)
        for arm, slot in zip(run.arms, arm_slots(run.arms), strict=True)
        if (memory := load_memory(arm)) is not None
    ]
    if not loaded:
        return ""
    blocks = [_arm(run, arm, slot, memory, _MOST // len(loaded)) for arm, slot, memory in loaded]
    return section("The memory at the end", "Everything the loop could still go back to.", "".join(blocks))


def _arm(run: Run, arm: Arm, slot: int, memory: Memory, most: int) -> str:
    if not memory.readable:
        content = (
            '<p class="lead">It cannot be read; <code>reverie cache check</code> says what is wrong.</p>'
        )
        return f'<div class="block">{arm_heading(arm, slot)}{content}</div>'
    if not memory.kept:
        return f'<div class="block">{arm_heading(arm, slot)}<p class="lead">It is empty.</p></div>'
    shown = [memory.kept[at] for at in evenly(0, len(memory.kept) - 1, most)]
    tiles = "".join(_tile(run, arm, kept) for kept in shown)
    count = f"{len(memory.kept):,} pictures" if len(memory.kept) != 1 else "1 picture"
    if len(shown) < len(memory.kept):
        count += f", {len(shown)} of them shown, evenly spaced"
    title = arm_heading(arm, slot, f'<span class="fine count">{count}</span>')
    return (
        f'<div class="block">{title}<p class="lead">{" ".join(_facts(memory))}</p>'
        f'<ol class="mosaic" style="--mark:var(--arm{slot})">{tiles}</ol></div>'
    )


def _facts(memory: Memory) -> list[str]:
    """What there is to know of a memory as a whole, in sentences."""
    facts = ["Oldest first."]
    pinned = sum(kept.pinned for kept in memory.kept)
    if pinned:
        what = "is pinned and stays" if pinned == 1 else "are pinned and stay"
        facts.append(f"{pinned:,} with a ring {what}, whatever comes.")
    used = [kept for kept in memory.kept if kept.uses]
    if used:
        most = max(used, key=lambda kept: kept.uses)
        facts.append(
            f"A number says how often the loop went towards a picture: {len(used):,} of "
            f"{len(memory.kept):,} were used, {escape(most.name)} most often ({times(most.uses)})."
        )
    else:
        facts.append("The loop went towards none of them.")
    if memory.lost_uses:
        facts.append(f"It went {times(memory.lost_uses)} towards what the memory has let go of since.")
    if memory.imagined:
        facts.append(f"It went {times(memory.imagined)} towards something imagined.")
    return facts


def _tile(run: Run, arm: Arm, kept: Kept) -> str:
    words = [f"{kept.name} ({kept.cache_id})", "pinned" if kept.pinned else "", f"used {times(kept.uses)}"]
    told = ", ".join(word for word in words if word)
    picture = thumbnail(arm.image(kept.image), run, _WIDTH, told[:1].upper() + told[1:], quality=_QUALITY)
    badge = f"<b>{kept.uses:,}\N{MULTIPLICATION SIGN}</b>" if kept.uses else ""
    label = escape(kept.name).replace("frame ", "<i>frame </i>")  # the word is left out where it is narrow
    name = ' class="pinned"' if kept.pinned else ""
    return f'<li{name} title="{escape(told)}"><div>{picture}{badge}</div>{label}</li>'
