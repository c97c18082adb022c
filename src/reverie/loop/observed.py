"""What an observer of a loop says of a frame; plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from PIL import Image

from reverie.entry import CacheEntry
from reverie.loop.actuator import Target
from reverie.loop.colour import Drift
from reverie.loop.lineage import Lineage
from reverie.loop.monitor import Measures
from reverie.loop.states import State
from reverie.loop.step_cap import Shown
from reverie.pixels import Pixels
from reverie.protocols import Decision
from reverie.tensors import Tensor
from reverie.vectors import Embedding

__all__ = ["Injection", "Kind", "Observed", "Relived"]

Kind: TypeAlias = Literal["memory", "imagined", "shown", "corrected"]


@dataclass(frozen=True, slots=True, eq=False)
class Injection:
    """What is to be the next input of the loop instead of the frame that was observed.

    Attributes:
        image: The picture, as large as the frame that was observed: a PIL image when the frame was one, a
            torch tensor of its layout, dtype and device when it was one, else ``(h, w, 3)`` uint8 RGB.
        entry: The memory that it is, or is on the way to; None when there is none.
        similarity: Its cosine to the frame at which it was decided, in [-1, 1].
        reason: Why, in words.
        kind: ``memory``, ``imagined`` (a picture that was never shown), ``shown`` (no memory: the frame
            was too far from the one before, so that something nearer is shown and gone on from), or
            ``corrected`` (no memory: what is shown, with its colours put right).
        step: Of the way to the memory, 1 for the first; 0 for ``shown`` and ``corrected``.
        latents: What ``image`` was decoded from, in the form of the latents that came with the frame: a loop
            that goes on from them saves itself an encoding. None without such latents, and where the
            picture was not blended there.
    """

    image: Image.Image | Pixels | Tensor
    entry: CacheEntry | None
    similarity: float
    reason: str
    kind: Kind = "memory"
    step: int = 1
    latents: Any = None


@dataclass(frozen=True, slots=True, eq=False)
class Observed:
    """Everything about the frame that was observed last.

    Attributes:
        frame: Its number, 1 for the first.
        embedding: Its unit vector, as it is shown.
        measures: What the monitor says, and the colours.
        decision: What the policy wanted, and why.
        cache_id: Its id in memory; None when it was not kept.
        parents: Ids of the memories it was made from.
        times_ms: Milliseconds by step: ``encode``, ``store``, ``decide``; ``cap`` where there is one.
        shown: What is to be shown in its place, where the step was too large; None for the frame itself.
        weights: Of the parents, in order; they add up to 1.
        depth: Generations between it and a picture from outside.
        stored: What the memory says of it; empty when it was not to be kept.
        target: Where the loop is going from here; None while it goes where it likes.
        set_out: Whether it sets out for it at this frame.
        arrived: Whether it came to the end of its way at this frame.
        state: What the loop is doing, in words.
        colour: How far its colours are outside of what the anchors span, as it is shown.
        corrected: Why its colours are put right in the next input, in words; empty where they are not.
    """

    frame: int
    embedding: Embedding
    measures: Measures
    decision: Decision
    cache_id: str | None = None
    parents: tuple[str, ...] = ()
    times_ms: Mapping[str, float] = field(default_factory=dict)
    shown: Shown | None = None
    weights: tuple[float, ...] = ()
    depth: float = 0.0
    stored: str = ""
    target: Target | None = None
    set_out: bool = False
    arrived: bool = False
    state: State | None = None
    colour: Drift | None = None
    corrected: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Relived:
    """A frame of a run that is gone on with: what its observer has to know of it.

    Attributes:
        embedding: Its unit vector, as it was shown.
        cache_id: Its id in memory; None when it was not kept.
        lineage: What it descends from.
        set_out: Whether the loop set out for a target at it.
        target: That one's id; None for what was imagined.
        arrived: Whether it came to the end of its way at it.
    """

    embedding: Embedding
    cache_id: str | None = None
    lineage: Lineage = field(default_factory=Lineage)
    set_out: bool = False
    target: str | None = None
    arrived: bool = False
