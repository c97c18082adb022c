"""Injector: one call a frame for people who own their loop.

.. code-block:: python

    injector = Injector(memory, policy="spec", seed=0)
    while True:
        frame = generate(frame)
        injection = injector.observe(frame, prompt=prompt)
        if injection is not None:
            frame = injection.image
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from PIL import Image

from reverie import registry
from reverie.cache.aesthetic_matcher import AestheticMatcher
from reverie.entry import CacheEntry
from reverie.errors import EntryNotFoundError, ImageError, InputError, StorageError, UnsafePathError
from reverie.loop.monitor import Measures, Monitor
from reverie.memory import ImageMemory
from reverie.pixels import ImageLike, Pixels, fit, to_pixels
from reverie.protocols import Decision, Encoder, InjectionPolicy, Observation, PastInjection
from reverie.vectors import Embedding

__all__ = ["Injection", "Injector", "Observed", "Spectator"]

_RECENT = 120  # frames that a policy can look back on
_PAST = 1000  # injections that a policy can look back on


@dataclass(frozen=True, slots=True, eq=False)
class Injection:
    """A memory that is to be the next input of the loop.

    Attributes:
        image: The picture, as large as the frame that was observed: a PIL image when the frame
            was one, else ``(h, w, 3)`` uint8 RGB.
        entry: The entry it comes from.
        similarity: Its cosine to the observed frame, in [-1, 1].
        reason: Why, in words.
    """

    image: Image.Image | Pixels
    entry: CacheEntry
    similarity: float
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Observed:
    """Everything about the frame that was observed last.

    Attributes:
        frame: Its number, 1 for the first.
        embedding: Its unit vector.
        measures: What the monitor says.
        decision: What the policy wanted, and why.
        cache_id: Its id in memory; None when it was not kept.
        parents: Ids of the memories it was made from.
        times_ms: Milliseconds by step: ``encode``, ``store``, ``decide``.
    """

    frame: int
    embedding: Embedding
    measures: Measures
    decision: Decision
    cache_id: str | None = None
    parents: tuple[str, ...] = ()
    times_ms: Mapping[str, float] = field(default_factory=dict)


class _Watch:
    """What every observer does with a frame: encode it, and then count and measure it."""

    def __init__(self, matcher: AestheticMatcher) -> None:
        self._matcher = matcher
        self.monitor = Monitor()
        self.frame = 0
        self.times_ms: dict[str, float] = {}

    def encode(self, pixels: Pixels) -> Embedding:
        self.times_ms = {}
        with self.timed("encode"):
            return self._matcher.encode_image(pixels)

    def count(self, embedding: Embedding) -> Measures:
        self.frame += 1
        return self.monitor.observe(embedding)

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.times_ms[step] = round((time.perf_counter() - started) * 1e3, 3)


class Spectator:
    """Watches a loop without memory: encodes and measures each frame, keeps and injects nothing.

    Args:
        encoder: An `Encoder` or a registered name.

    Attributes:
        last: The frame observed last; None before the first.
    """

    policy_name = "none"

    def __init__(self, encoder: str | Encoder = "descriptor") -> None:
        self._watch = _Watch(AestheticMatcher(encoder))
        self.last: Observed | None = None

    def observe(
        self,
        frame: ImageLike,
        *,
        prompt: str = "",  # noqa: ARG002 - the same call as the Injector's
        generation_params: Mapping[str, Any] | None = None,  # noqa: ARG002
    ) -> Injection | None:
        """Take in one frame; never an injection.

        Raises:
            ImageError: The frame cannot be used; it was not counted.
        """
        embedding = self._watch.encode(to_pixels(frame))
        measures = self._watch.count(embedding)
        decision = Decision(None, "no memory: frames are only watched")
        self.last = Observed(
            self._watch.frame, embedding, measures, decision, times_ms=dict(self._watch.times_ms)
        )
        return None


class Injector:
    """Observes each frame of a loop, remembers it, and says when a memory is to be the next input.

    Args:
        memory: Where frames are kept.
        policy: A registered name (``spec``, ``random``, ``none``) or an `InjectionPolicy`.
        seed: All of its randomness; the same frames give the same decisions.
        **options: Arguments of a policy given by name, such as ``interval``.

    Attributes:
        last: The frame observed last, with all numbers; None before the first.

    Raises:
        UnknownNameError: No policy of that name.
        InputError: Options of a policy that was not given by name.
    """

    def __init__(
        self, memory: ImageMemory, policy: str | InjectionPolicy = "spec", *, seed: int = 0, **options: Any
    ) -> None:
        if options and not isinstance(policy, str):
            raise InputError(f"{', '.join(options)}: a policy that exists already takes no options")
        self.memory = memory
        self._policy: InjectionPolicy = (
            registry.create("policies", policy, **options) if isinstance(policy, str) else policy
        )
        self._rng = np.random.default_rng(seed)
        self._watch = _Watch(memory.matcher)
        self._past: deque[PastInjection] = deque(maxlen=_PAST)
        self._parents: tuple[str, ...] = ()
        self.last: Observed | None = None

    @property
    def policy_name(self) -> str:
        """The policy's name."""
        return self._policy.name

    def observe(
        self,
        frame: ImageLike,
        *,
        prompt: str = "",
        generation_params: Mapping[str, Any] | None = None,
    ) -> Injection | None:
        """Take in the next frame: encode, remember, decide (the specification's injection flow).

        Args:
            frame: The frame that the loop made: a path, a PIL image or an ``(h, w, 3)`` uint8 array.
            prompt: The prompt it was made with.
            generation_params: How it was made.

        Returns:
            What the next input is to be; None: go on from this frame.

        Raises:
            ImageError: The frame cannot be used.
            ParamsError: ``generation_params`` holds what JSON cannot.
            CacheFullError: The memory is at its limit and all of it is pinned.
            StorageError: The disk refused to keep it.

            After any of them the frame was not counted: it may be handed in again.
        """
        watch, pixels = self._watch, to_pixels(frame)
        embedding = watch.encode(pixels)
        with watch.timed("store"):
            kept = self.memory.remember(
                frame, prompt, generation_params, embedding=embedding, parents=self._parents
            )
        measures = watch.count(embedding)
        with watch.timed("decide"):
            decision = self._policy.decide(self._observation(embedding, measures, kept.cache_id), self._rng)
            injection, decision = self._carry_out(decision, frame, pixels)
        self.last = Observed(
            watch.frame, embedding, measures, decision, kept.cache_id, self._parents, dict(watch.times_ms)
        )
        self._parents = (kept.cache_id,) if injection is None else (injection.entry.cache_id,)
        return injection

    def _observation(self, embedding: Embedding, measures: Measures, own_id: str) -> Observation:
        return Observation(
            frame=self._watch.frame,
            embedding=embedding,
            recent=self._watch.monitor.recent(_RECENT),
            candidates=self.memory.embeddings(),
            own_id=own_id,
            measures={name: value for name, value in measures.items() if value is not None},
            past=tuple(self._past),
        )

    def _carry_out(
        self, decision: Decision, frame: ImageLike, pixels: Pixels
    ) -> tuple[Injection | None, Decision]:
        """Fetch the chosen memory. One whose picture cannot be had costs an injection, not the loop."""
        if decision.cache_id is None:
            return None, decision
        try:
            picture = fit(self.memory.image(decision.cache_id), *pixels.shape[:2])
            entry = self.memory.cache.get(decision.cache_id)
        except (EntryNotFoundError, ImageError, StorageError, UnsafePathError) as exc:
            return None, _without(decision, str(exc))
        if entry is None:
            return None, _without(decision, "it was evicted since")
        self._past.append(PastInjection(self._watch.frame, decision.cache_id))
        image = Image.fromarray(picture) if isinstance(frame, Image.Image) else picture
        return Injection(image, entry, decision.similarity or 0.0, decision.reason), decision


def _without(decision: Decision, why: str) -> Decision:
    """The decision as it came out: no injection after all."""
    return replace(decision, cache_id=None, similarity=None, reason=f"{decision.reason}; but {why}")
