"""An `Injector` over frames that are recorded already: it decides as ever, and nothing follows from it.

What is different from a loop that is running:

* Frames are shown as they were recorded; there is no step cap to keep. What was recorded as a blend of two
  pictures is no picture to remember, for any policy.
* When the policy sets out for a memory, the frames that follow are not on the way to it. If the recorded loop
  set out for the same picture at the same frame, they are, and the way ends as it does in a running loop.
  Otherwise the way is taken to be over after the transition's ``frames`` frames. On a way, be it assumed,
  no frame is kept and nothing is decided; the policy's cooldown counts from its end.
* Nothing can be imagined. Where the recorded loop imagined something at the same frame, that is it; elsewhere
  the memory is taken that the policy would have fallen back on, or, without any, a way to somewhere is
  assumed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from reverie.errors import InputError
from reverie.loop.actuator import Actuator, Again, Target
from reverie.loop.injector import Injector
from reverie.loop.lineage import Lineage
from reverie.loop.observed import Injection
from reverie.loop.recording import RecordedFrame, frame_name, imagined_name, picture_name, seed_name
from reverie.loop.states import State
from reverie.loop.step_cap import Encode, Shown
from reverie.loop.transition import Transition, TransitionSettings
from reverie.memory import ImageMemory, Remembered
from reverie.pixels import ImageLike, Pixels, to_pixels
from reverie.protocols import Decision, InjectionPolicy, Observation
from reverie.vectors import Embedding

__all__ = ["OpenLoop", "Way", "Witnessed"]

_ID = re.compile(r"\bcache_\d+\b")

Way: TypeAlias = Literal["", "recorded", "assumed"]
"""Whether a frame is on the way to a memory: not, as the recorded loop was, or only by assumption."""


@dataclass(frozen=True, slots=True)
class Witnessed:
    """What a policy and its memory make of a recorded frame; pictures go by their names in the loop's folder.

    Attributes:
        frame: Its number.
        kept: Whether it is remembered.
        stored: ``new``, ``replaced`` or ``rejected``; empty when it was not to be kept.
        admission: What the admission says of it; empty without one.
        evicted: What had to go for it.
        way: Whether it is on the way to a memory.
        alarm: Whether the policy's alarm is on; None when it is not asked, or has none.
        wants: Whether an injection is wanted at it.
        target: For which picture; None when it cannot be known, and without injection.
        similarity: Its cosine to the frame; None without.
        imagines: Whether something new would have been imagined first, of which nothing can be known.
        reason: Why, or why not.
        numbers: What that was decided by.
        state: What the loop is doing.
        alarms: How often the alarm with a promise was raised so far.
    """

    frame: int
    kept: bool
    stored: str
    admission: str
    evicted: tuple[str, ...]
    way: Way
    alarm: bool | None
    wants: bool
    target: str | None
    similarity: float | None
    imagines: bool
    reason: str
    numbers: Mapping[str, float]
    state: State
    alarms: int


@dataclass(slots=True)
class _Now:
    """The frame that is looked at, and what came of it so far."""

    recorded: RecordedFrame
    kept: Remembered | None = None
    imagines: bool = False


class OpenLoop(Injector):
    """Says what a policy would have wanted of a loop that is recorded.

    Args:
        memory: Its memory; as it is before the first frame.
        policy: As of an `Injector`.
        folder: Of the recorded loop.
        seed: As of an `Injector`.
        towards: As of an `Injector`.

    Raises:
        UnknownNameError: No policy of that name.
        InputError: ``towards`` is a text, and the encoder knows pictures only.
    """

    def __init__(
        self,
        memory: ImageMemory,
        policy: str | InjectionPolicy,
        folder: Path,
        *,
        seed: int = 0,
        towards: ImageLike | Embedding | None = None,
    ) -> None:
        super().__init__(memory, policy, seed=seed, towards=towards)
        self._folder = folder
        self._now = _Now(RecordedFrame(0))
        self._way = self._actuator = _Way(self._actuator.settings, self._watch.encode_batch)
        self._names: dict[str, str] = {}  # of the memory's pictures, those that are gone too

    @property
    def transition(self) -> TransitionSettings:
        """How the policy would have carried out its injections."""
        return self._actuator.settings

    def remember_seeds(self, pictures: Sequence[Path], embeddings: Sequence[Embedding]) -> None:
        """Pin seed pictures in memory, before the first frame.

        Args:
            pictures: In their order.
            embeddings: A unit vector each.

        Raises:
            CacheFullError: There are more of them than places.
            ImageError: One is missing or broken.
            StorageError: The disk refused.
        """
        for number, (picture, embedding) in enumerate(zip(pictures, embeddings, strict=True)):
            params = {"seed_picture": number}
            kept = self.memory.remember(picture, generation_params=params, embedding=embedding, pinned=True)
            if kept.cache_id is not None:
                self._names[kept.cache_id] = seed_name(number)

    def witness(self, recorded: RecordedFrame, embedding: Embedding) -> Witnessed:
        """Take in the next recorded frame.

        Args:
            recorded: What is recorded of it.
            embedding: Its unit vector.

        Raises:
            ImageError: Its picture is missing or broken.
            EmbeddingError: The vector is not usable.
            CacheFullError: The memory is at its limit and all of it is pinned.
            StorageError: The disk refused.
        """
        self._now = self._way.now = _Now(recorded)
        way: Way = self._way.kind
        params = {"frame": recorded.number}
        picture = self._folder / frame_name(recorded.number)
        self.observe(picture, generation_params=params, again=self._imagination(), embedding=embedding)
        return self._witnessed(way)

    def _imagination(self) -> Again | None:
        """Gives what the recorded loop imagined at this frame and went to; None where it did not."""
        name = imagined_name(self._now.recorded.number)
        if self._now.recorded.target != name:
            return None
        pixels = to_pixels(self._folder / name)
        return lambda source, **_how: pixels  # noqa: ARG005 - whatever it is to be made from

    def _witnessed(self, way: Way) -> Witnessed:
        last, now = self.last, self._now
        if last is None or last.state is None:
            raise InputError("no frame was observed")
        alarm = last.decision.numbers.get("alarm")
        wants = bool(self._past) and self._past[-1].frame == last.frame
        target = last.target if wants else None
        name = None if target is None else _name_of(target, now)
        kept = now.kept
        gone = () if kept is None else kept.evicted
        return Witnessed(
            frame=last.frame,
            kept=last.cache_id is not None,
            stored=last.stored,
            admission="" if kept is None else _ID.sub(self._named, kept.reason),
            evicted=tuple(self._names.get(each, each) for each in gone),
            way=way,
            alarm=None if alarm is None else bool(alarm),
            wants=wants,
            target=name,
            similarity=None if target is None or name is None else round(target.similarity, 6),
            imagines=now.imagines,
            reason=last.decision.reason,
            numbers=dict(last.decision.numbers),
            state=last.state,
            alarms=self._watch.alarm.raised,
        )

    def _named(self, found: re.Match[str]) -> str:
        return self._names.get(found[0], found[0])

    # ------------------------------------------------------------------ what is recorded stays as it is

    def _show(self, pixels: Pixels, embedding: Embedding, again: Again | None) -> Shown:  # noqa: ARG002
        recorded = self._now.recorded
        return Shown(pixels, embedding, recorded.how, recorded.share, recorded.made, recorded.taken)

    def _descent(self, shown: Shown) -> Lineage:  # noqa: ARG002
        return Lineage(depth=self._now.recorded.depth)

    def _injection(self, shown: Shown, frame: ImageLike) -> Injection | None:  # noqa: ARG002
        return None

    def _keep(self, *frame: Any) -> Remembered:
        kept = self._now.kept = super()._keep(*frame)
        if kept.cache_id is not None:
            self._names[kept.cache_id] = frame_name(self._now.recorded.number)
        return kept

    def _imagined(
        self, decision: Decision, observation: Observation, shown: Shown, again: Again | None
    ) -> tuple[Decision, list[Target]]:
        if decision.reheat is None or again is not None:
            return super()._imagined(decision, observation, shown, again)
        self._now.imagines = decision.cache_id is None or not self._now.recorded.tried
        if decision.cache_id is not None:
            return decision, []
        return decision, [Target(shown.pixels, shown.embedding, None, 0.0, decision.reason)]


def _name_of(target: Target, now: _Now) -> str | None:
    if target.entry is not None:
        return picture_name(target.entry.generation_params)
    return None if now.imagines else imagined_name(now.recorded.number)


class _Way(Actuator):
    """The way to a target over frames that may not be on it.

    Attributes:
        now: The frame that is looked at.
        kind: Whether there is a way, and what it is known by.
    """

    def __init__(self, settings: TransitionSettings, encode: Encode) -> None:
        super().__init__(settings, encode)
        self.now = _Now(RecordedFrame(0))
        self._followed = False

    @property
    def kind(self) -> Way:
        if not self.stops:
            return ""
        return "recorded" if self._followed else "assumed"

    def begin(self, stops: Any, frame: int, seed: int) -> None:
        super().begin(stops, frame, seed)
        target = self.now.recorded.target
        self._followed = target is not None and _name_of(stops[-1], self.now) == target

    def _over(self, leg: Transition, shown: Shown) -> bool:
        if self._followed:
            return super()._over(leg, shown)
        return leg.step >= (1 if self.settings.path == "cut" else self.settings.frames)
