"""Watching a loop: every frame is encoded, counted and measured; a `Spectator` does no more than that."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from reverie.cache.aesthetic_matcher import AestheticMatcher
from reverie.loop.actuator import Again
from reverie.loop.alarm import Alarm
from reverie.loop.calibration import Calibration
from reverie.loop.colour_keeper import ColourKeeper
from reverie.loop.monitor import Measures, Monitor
from reverie.loop.observed import Injection, Observed, Relived
from reverie.loop.states import States
from reverie.pixels import ImageLike, Pixels, to_pixels
from reverie.protocols import Decision, Encoder
from reverie.vectors import Embedding, as_embedding

__all__ = ["Spectator", "Watch"]


class Watch:
    """What every observer does with a frame: encode it, and then count and measure it."""

    def __init__(self, matcher: AestheticMatcher) -> None:
        own = getattr(matcher.encoder, "unrelated_cosine", None)
        self._matcher = matcher
        self._calibration = Calibration() if own is None else Calibration().moved(float(own))
        self.monitor = Monitor(calibration=self._calibration)
        self.states = States(self._calibration)
        self.alarm = Alarm()
        self._raised: int | None = None
        self.frame = 0
        self.times_ms: dict[str, float] = {}

    def encode(self, pixels: Pixels, known: Embedding | None = None) -> Embedding:
        """The vector of a new frame; the times are counted from here.

        Args:
            pixels: The frame.
            known: Its vector, when it is there already; see `own`.
        """
        self.times_ms = {}
        with self.timed("encode"):
            return self._matcher.encode_image(pixels) if known is None else known

    def own(self, known: Embedding) -> Embedding:
        """A vector that somebody else made; one without a stamp is taken as this encoder's.

        Raises:
            EmbeddingError: It is NaN, infinite, zero or of another length.
            EncoderMismatchError: Another encoder made it.
        """
        encoder = self._matcher.encoder
        return as_embedding(known, encoder=encoder.name, dimensions=encoder.dimensions)

    def encode_batch(self, frames: Sequence[Pixels]) -> list[Embedding]:
        """The vectors of some pictures."""
        rows, name = self._matcher.encode_images(frames), self._matcher.encoder.name
        return [as_embedding(row, encoder=name) for row in rows]

    def count(self, embedding: Embedding) -> Measures:
        """Take in what is shown as the next frame; its measures, and those of the alarm.

        ``alarm``: evidence, from 0 to the promised run length; ``alarms``: how often it was raised;
        ``since_alarm``: frames since it was last, 0 when it is now, None before.
        """
        self.frame += 1
        measures = self.monitor.observe(embedding)
        self.states.observe(measures)
        moved = measures["displacement"]
        if self.alarm.observe(None if moved is None else self._calibration.novelty(moved)):
            self._raised = self.frame
        return {
            **measures,
            "alarm": self.alarm.evidence,
            "alarms": float(self.alarm.raised),
            "since_alarm": None if self._raised is None else float(self.frame - self._raised),
        }

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Note how long the block took, in milliseconds."""
        started = time.perf_counter()
        yield
        self.times_ms[step] = round((time.perf_counter() - started) * 1e3, 3)


class Spectator:
    """Watches a loop without memory: encodes and measures each frame, keeps and injects nothing.

    Args:
        encoder: An `Encoder` or a registered name.
        anchors: Pictures that its colours are measured against; where none are given, the first frame.

    Attributes:
        last: The frame observed last; None before the first.

    Raises:
        UnknownNameError: No encoder of that name.
        ImageError: An anchor cannot be used.
    """

    policy_name = "none"

    def __init__(self, encoder: str | Encoder = "descriptor", *, anchors: Sequence[ImageLike] = ()) -> None:
        self._watch = Watch(AestheticMatcher(encoder))
        self._colour = ColourKeeper(anchors=anchors)
        self.last: Observed | None = None

    def observe(
        self,
        frame: ImageLike,
        *,
        prompt: str = "",  # noqa: ARG002 - the same call as the Injector's
        generation_params: Mapping[str, Any] | None = None,  # noqa: ARG002
        again: Again | None = None,  # noqa: ARG002
    ) -> Injection | None:
        """Take in one frame; never an injection.

        Raises:
            ImageError: The frame cannot be used; it was not counted.
        """
        pixels = to_pixels(frame)
        embedding = self._watch.encode(pixels)
        colour = self._colour.observe(pixels)
        measures = {**self._watch.count(embedding), **colour.measures()}
        decision = Decision(None, "no memory: frames are only watched")
        self.last = Observed(
            self._watch.frame,
            embedding,
            measures,
            decision,
            times_ms=dict(self._watch.times_ms),
            state=self._watch.states.last,
            colour=colour,
        )
        return None

    def relive(self, frame: Relived) -> None:
        """Count a frame of a run that is gone on with."""
        self._watch.count(frame.embedding)

    def state(self) -> dict[str, Any]:
        """What `restore` needs besides the frames themselves; as JSON can hold it."""
        return {"colour": self._colour.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on after the frames that were relived, with what `state` gave after the last of them."""
        self._colour.restore(state.get("colour", {}))
