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

import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, Self

import numpy as np
from PIL import Image

from reverie.errors import InputError
from reverie.loop.actuator import Again, Target
from reverie.loop.behind import Behind
from reverie.loop.live import LiveFolder
from reverie.loop.observed import Injection, Observed, Relived
from reverie.loop.observing import Given, Observing
from reverie.loop.scale import assumed_cosine
from reverie.memory import ImageMemory
from reverie.pixels import ImageFile, ImageLike, Pixels, file_bytes, to_pixels
from reverie.protocols import Decision, InjectionPolicy, LatentSpace, PastInjection
from reverie.tensors import is_tensor, numbers
from reverie.vectors import Embedding, as_embedding

__all__ = ["Injector"]


class Injector(Observing):
    """Observes each frame of a loop, remembers it, and says what is to be the next input.

    Args:
        memory: Where frames are kept.
        policy: A registered name (``wander``, ``gentle``, ``restless``, ``spec``, ``random``, ``none``) or an
            `InjectionPolicy`.
        seed: All of its randomness, from 0 to 2^63 - 1; the same frames give the same decisions.
        towards: What the loop is to tend to, for policies that ask for it: a picture, a vector or, with an
            encoder that reads, a text.
        latents: The generator's latents, for a policy that blends there.
        colour: What is done about colour drift: ``off`` only measures it; ``soft`` takes back a fifth of it
            at every frame, ``hard`` all of it, in the next input where the loop goes on from its own frame.
            What is shown and kept stays as the generator made it.
        anchors: Pictures whose colours the loop is to keep; where none are given those that are pinned, and
            where none are, the first frame.
        background: Observe in a thread: `observe` hands its frame over and gives the answer to the frame
            before it, always one frame late, so that the same frames still give the same decisions. It
            waits only where that frame is not done yet, and says for how long (``times_ms["wait"]``,
            `waited_s`). Steps are not capped, as frames are shown before they were looked at. ``"skip"``
            never waits: what comes while it is at work is passed over, and counted (`passed_over`). That
            keeps the rate of a loop that is faster than its encoder; which frames are seen is up to the
            clock.
        live: A folder for displays: `reverie.loop.live.LiveFolder`.
        on_alarm: Called with `Observed` at each frame at which the alarm is raised.
        on_injection: Called with the injection and `Observed` whenever the loop sets out for a picture, once
            a way.
        **options: Arguments of a policy given by name, such as ``interval``.

    Attributes:
        last: The frame observed last, with all numbers; None before the first.
        passed_over: Frames that were not looked at, with ``background="skip"``.

    Callbacks are called in the thread that calls `observe`, `flush` or `close`; what they raise comes out
    there, and the frame was counted. `close`, or a ``with`` block, ends a thread and the display; the memory
    is its owner's to close.

    Raises:
        UnknownNameError: No policy, or no colour correction, of that name.
        ImageError: An anchor cannot be used.
        InputError: ``policy`` or ``seed`` is none, options of a policy that was not given by name, or a text
            for an encoder that knows pictures only.
        StorageError: The folder ``live`` cannot be made.
    """

    def __init__(
        self,
        memory: ImageMemory,
        policy: str | InjectionPolicy = "spec",
        *,
        seed: int = 0,
        towards: ImageLike | Embedding | None = None,
        latents: LatentSpace | None = None,
        colour: str = "off",
        anchors: Sequence[ImageLike] = (),
        background: bool | Literal["skip"] = False,
        live: str | os.PathLike[str] | None = None,
        on_alarm: Callable[[Observed], object] | None = None,
        on_injection: Callable[[Injection, Observed], object] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(
            memory,
            policy,
            seed=seed,
            towards=towards,
            latents=latents,
            colour=colour,
            anchors=anchors,
            late=int(bool(background)),
            **options,
        )
        if background not in (False, True, "skip"):
            raise InputError(f'background must be True, False or "skip", got {background!r}')
        self._live = None if live is None else LiveFolder(live)
        self._background = Behind(self._taken_in) if background else None
        self._skips = background == "skip"
        self.passed_over = 0
        self._on_alarm = on_alarm
        self._on_injection = on_injection
        self.last: Observed | None = None

    def observe(
        self,
        frame: ImageLike,
        *,
        prompt: str = "",
        generation_params: Mapping[str, Any] | None = None,
        again: Again | None = None,
        embedding: Embedding | None = None,
        latents: Any = None,
    ) -> Injection | None:
        """Take in the next frame: encode, remember, decide (the specification's injection flow).

        Args:
            frame: The frame that the loop made: a path, a PIL image, an ``(h, w, 3)`` uint8 array, or a torch
                tensor of one frame (see `reverie.tensors`) on any device. In the background it is copied, so
                that its memory may be used again at once, but for an array of its own that is read-only
                (``frame.flags.writeable = False``).
            prompt: The prompt it was made with.
            generation_params: How it was made.
            again: Makes this frame once more from another input, with the same noise, for policies that
                cap the step between frames or imagine; without it they blend, and imagine nothing. Not in
                the background, where the generator is at work on another frame.
            embedding: The frame's vector, when the caller has it already; one without a stamp is taken as
                the memory's encoder's.
            latents: What the frame was decoded from, an array or a tensor of the shape that the injector's
                ``latents`` have: it is not encoded again, and `Injection.latents` is of that form.

        Returns:
            What the next input is to be; None: go on from this frame. In the background this is the answer
            to the frame before.

        Raises:
            ImageError: The frame cannot be used.
            ParamsError: ``generation_params`` holds what JSON cannot.
            EmbeddingError: ``embedding`` is unusable, or another encoder made it.
            CacheFullError: The memory is at its limit and all of it is pinned.
            StorageError: The disk refused to keep it.
            InputError: ``again`` in the background, or ``latents`` for an injector without.

            After any of them the frame was not counted: it may be handed in again. In the background it is
            the frame before that failed. Where the disk or a full memory was in the way, that one is kept
            and tried again at the next call.
        """
        self._check(again, latents)
        if self._skips and self._background is not None and self._background.busy:
            self.passed_over += 1
            return None
        late = self._background is not None
        picture = _own(frame) if late else frame
        pixels = to_pixels(picture)
        given = Given(
            frame,
            pixels if is_tensor(frame) else picture,
            pixels,
            prompt,
            dict(generation_params) if late and generation_params is not None else generation_params,
            again,
            None if embedding is None else self._watch.own(embedding),
            None if latents is None else (numbers(latents), latents),
        )
        if self._background is None:
            return self._tell(*self._taken_in(given))
        before = self._background.settled()
        self._background.put(given)
        return None if before is None else self._tell(*before)

    def _check(self, again: Again | None, latents: Any) -> None:
        if latents is not None and self._latents is None:
            raise InputError("latents of a frame need the generator's own: Injector(latents=generator)")
        if again is not None and self._background is not None:
            raise InputError(
                "a frame that is observed in the background cannot be made again: leave `again` out, or "
                "observe with background=False"
            )

    def _taken_in(self, given: Given) -> tuple[Observed, Injection | None]:
        observed, injection = self.take_in(given)
        if self._live is not None:
            shown = given.pixels if observed.shown is None else observed.shown.pixels
            self._live.show(shown, given.prompt, observed, self)
        return observed, injection

    def _tell(self, observed: Observed, injection: Injection | None) -> Injection | None:
        """Announce what was observed."""
        self.last = observed
        if self._on_alarm is not None and observed.measures.get("since_alarm") == 0:
            self._on_alarm(observed)
        if self._on_injection is not None and injection is not None and observed.set_out:
            self._on_injection(injection, observed)
        return injection

    # ------------------------------------------------------------------ the background

    @property
    def uses_latents(self) -> bool:
        """Whether `observe` takes latents beside a frame."""
        return self._latents is not None

    @property
    def waited_s(self) -> float:
        """Seconds that `observe` waited for the frame before, all together; 0 without a background."""
        return 0.0 if self._background is None else self._background.waited_s

    def flush(self) -> Injection | None:
        """Wait until every frame that was handed in is observed; gives the answer to the last of them.

        Raises:
            ReverieError: As `observe`, of that frame.
        """
        before = None if self._background is None else self._background.settled()
        return None if before is None else self._tell(*before)

    def close(self) -> None:
        """Observe what was handed in, end the thread, and say on the display that the loop has stopped.

        Calling it twice is fine; the memory stays open.

        Raises:
            ReverieError: As `observe`, of the last frame. What can be tried again can be closed again.
        """
        self.flush()
        if self._background is not None:
            self._background.close()
        if self._live is not None:
            self._live.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    # ------------------------------------------------------------------ going on with a run

    def state(self) -> dict[str, Any]:
        """What `restore` needs besides the frames themselves; as JSON can hold it.

        A picture that is imagined is not in it: `Observed.target` gives it when the loop sets out.

        Raises:
            InputError: The injector observes in the background: what its loop does next is not settled yet.
        """
        if self._background is not None:
            raise InputError("a loop that is observed in the background cannot be gone on with bit for bit")
        stops = [self._cut] if self._cut is not None else self._actuator.stops
        admission = self.memory.admission
        return {
            "rng": _rng_state(self._rng),
            "unrelated": self._unrelated,
            "way": self._actuator.state(),
            "stops": [_stop(each) for each in stops],
            "eviction": self.memory.cache.eviction_state(),
            "admission": {} if admission is None else admission.state(),
            "colour": self._colour.state(),
        }

    def begin(self) -> None:
        """Before the first frame of a loop that was stopped there: as when its memory was empty."""
        self._unrelated = assumed_cosine(self.memory)

    def relive(self, frame: Relived) -> None:
        """Take in a frame of a run that is gone on with: `observe` without encoding, keeping, deciding."""
        self._watch.count(frame.embedding)
        number, lineage = self._watch.frame, frame.lineage
        if frame.cache_id is not None:
            lineage = self._remembered(frame.cache_id, lineage.depth)
        if frame.arrived:
            self._past.append(replace(self._past.pop(), ended=number))
        if frame.set_out:
            self._past.append(PastInjection(number, frame.target, number))
        self._lineage = lineage

    def restore(
        self, state: Mapping[str, Any], shown: Pixels, imagined: Pixels | None, latents: Any = None
    ) -> Pixels:
        """Go on after the frames that were relived, bit for bit as if nothing had been in between.

        Args:
            state: What `state` gave after the last of them. Its ``eviction`` is for whoever makes the memory.
            shown: That frame, as it was shown.
            imagined: What was imagined last; None when nothing was.
            latents: Those that came with that frame, if any.

        Returns:
            The next input of the loop.

        Raises:
            EntryNotFoundError: A memory that the loop is on the way to is gone.

            And what reading that memory's picture raises.
        """
        self._rng.bit_generator.state = _rng_from(state["rng"])
        self._unrelated = state["unrelated"]
        if latents is not None and self._latents is not None:
            self._latents.give(shown, numbers(latents), latents)
        self._colour.restore(state.get("colour", {}))
        if self.memory.admission is not None:
            self.memory.admission.restore(state["admission"])
        there = set(self.memory.embeddings().ids)
        self._depths = {each: depth for each, depth in self._depths.items() if each in there}
        stops = [self._stop_again(stop, shown, imagined) for stop in state["stops"]]
        vector = as_embedding(self._watch.monitor.recent(1)[0], encoder=self.memory.matcher.encoder.name)
        cuts = self._actuator.cuts
        self._actuator.restore(state["way"], [] if cuts else stops, (shown, vector))
        if cuts and stops:
            self._cut = stops[-1]
            self._sources = deque([self._source_of(None)])
            return self._cut.pixels
        self._sources = deque([self._source_of(None)])
        source = self._actuator.input()
        if source is not None:
            return source
        right = self._put_right(shown)
        return shown if right is None else right.pixels

    def adopt(self, cache_id: str | None) -> None:
        """Take this entry for the next frame that is to be kept: it was stored before the run was stopped."""
        self._adopted = cache_id

    def _stop_again(self, stop: Mapping[str, Any], shown: Pixels, imagined: Pixels | None) -> Target:
        reason, similarity = stop["reason"], stop["similarity"]
        if stop["cache_id"] is not None:
            decision = Decision(None, reason, similarity)
            return self._target(stop["cache_id"], decision, self.memory.embeddings(), shown.shape)
        if imagined is None:
            raise InputError("the picture that the loop is on the way to is missing: it was never remembered")
        return Target(imagined, self._watch.encode_batch([imagined])[0], None, similarity, reason)


def _own(frame: ImageLike) -> ImageLike:
    """A frame that stays as it is, whatever becomes of the file or the buffer that it was handed in by."""
    if isinstance(frame, (str, os.PathLike)):
        return ImageFile(os.fspath(frame), file_bytes(frame))
    if isinstance(frame, Image.Image):
        return frame.copy()
    pixels = to_pixels(frame)
    if pixels.base is None and (pixels is not frame or not pixels.flags.writeable):
        return pixels  # made here, or an array that nobody can write into
    return pixels.copy()


def _stop(target: Target) -> dict[str, Any]:
    cache_id = None if target.entry is None else target.entry.cache_id
    return {"cache_id": cache_id, "similarity": target.similarity, "reason": target.reason}


def _rng_state(rng: np.random.Generator) -> dict[str, Any]:
    """Of PCG64; its numbers are too large for JSON, which therefore holds them as texts."""
    state: Any = rng.bit_generator.state
    inner = {name: str(value) for name, value in state["state"].items()}
    return {"state": inner, "has_uint32": state["has_uint32"], "uinteger": state["uinteger"]}


def _rng_from(state: Mapping[str, Any]) -> dict[str, Any]:
    inner = {name: int(value) for name, value in state["state"].items()}
    return {"bit_generator": "PCG64", **state, "state": inner}
