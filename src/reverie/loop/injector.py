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

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from reverie import registry
from reverie.checks import check_seed
from reverie.errors import EntryNotFoundError, ImageError, InputError, StorageError, UnsafePathError
from reverie.loop.actuator import Actuator, Again, Target, imagine
from reverie.loop.colour_keeper import ColourKeeper
from reverie.loop.lineage import Lineage, mixed
from reverie.loop.monitor import Measures
from reverie.loop.observed import Injection, Kind, Observed, Relived
from reverie.loop.recolour import Corrected
from reverie.loop.scale import unrelated_cosine
from reverie.loop.spectator import Watch
from reverie.loop.step_cap import Shown
from reverie.loop.transition import TransitionSettings
from reverie.memory import ImageMemory, Remembered
from reverie.pixels import ImageLike, Pixels, fit, to_pixels
from reverie.protocols import Decision, InjectionPolicy, LatentSpace, Observation, PastInjection
from reverie.vectors import Embedding, EmbeddingSet, as_embedding, cosine

__all__ = ["Injector"]

_RECENT = 120  # frames that a policy can look back on
_PAST = 1000  # injections that a policy can look back on
_RESCALE = 50  # frames after which the encoder's scale is taken anew


class Injector:
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
        **options: Arguments of a policy given by name, such as ``interval``.

    Attributes:
        last: The frame observed last, with all numbers; None before the first.

    Raises:
        UnknownNameError: No policy, or no colour correction, of that name.
        ImageError: An anchor cannot be used.
        InputError: ``policy`` or ``seed`` is none, options of a policy that was not given by name, or a text
            for an encoder that knows pictures only.
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
        **options: Any,
    ) -> None:
        self._rng = np.random.default_rng(check_seed(seed))
        self._policy = _policy(policy, options)
        self.memory = memory
        self._watch = Watch(memory.matcher)
        transition = getattr(self._policy, "transition", None) or TransitionSettings()
        self._actuator = Actuator(transition, self._watch.encode_batch, latents)
        self._colour = ColourKeeper(colour, anchors, memory)
        self._towards = None if towards is None else memory.matcher.vector_of(towards)
        self._past: deque[PastInjection] = deque(maxlen=_PAST)
        self._kept: dict[str, int] = {}
        self._depths: dict[str, float] = {}
        self._lineage = Lineage()  # of what is shown
        self._source = Lineage()  # of what the next frame is made from
        self._cut: Target | None = None  # the next input, in a cut
        self._adopted: str | None = None
        self._unrelated = unrelated_cosine(memory)
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
        again: Again | None = None,
        embedding: Embedding | None = None,
    ) -> Injection | None:
        """Take in the next frame: encode, remember, decide (the specification's injection flow).

        Args:
            frame: The frame that the loop made: a path, a PIL image or an ``(h, w, 3)`` uint8 array.
            prompt: The prompt it was made with.
            generation_params: How it was made.
            again: Makes this frame once more from another input, with the same noise, for policies that
                cap the step between frames or imagine; without it they blend, and imagine nothing.
            embedding: The frame's vector, when the caller has it already; one without a stamp is taken as
                the memory's encoder's.

        Returns:
            What the next input is to be; None: go on from this frame.

        Raises:
            ImageError: The frame cannot be used.
            ParamsError: ``generation_params`` holds what JSON cannot.
            EmbeddingError: ``embedding`` is unusable, or another encoder made it.
            CacheFullError: The memory is at its limit and all of it is pinned.
            StorageError: The disk refused to keep it.

            After any of them the frame was not counted: it may be handed in again.
        """
        watch, actuator, pixels = self._watch, self._actuator, to_pixels(frame)
        embedding = watch.encode(pixels, embedding)
        shown = self._show(pixels, embedding, again)
        on_way, lineage = bool(actuator.stops), self._descent(shown)
        picture = frame if shown.how == "frame" else shown.pixels
        with watch.timed("store"):
            kept = None
            if not on_way and shown.how != "blend":
                kept = self._keep(picture, shown.embedding, lineage, prompt, generation_params)
        colour = self._colour.observe(shown.pixels)
        measures = {**watch.count(shown.embedding), **colour.measures()}
        cache_id = None if kept is None else kept.cache_id
        arrived = self._note(shown, cache_id, lineage)
        with watch.timed("decide"):
            decision = self._decide(shown, measures, cache_id, again)
            injection = self._injection(shown, frame)
        self.last = Observed(
            watch.frame,
            shown.embedding,
            measures,
            decision,
            cache_id,
            tuple(lineage.parents),
            dict(watch.times_ms),
            None if shown.how == "frame" else shown,
            tuple(lineage.parents.values()),
            lineage.depth,
            "" if kept is None else kept.outcome,
            self._cut or (actuator.stops[-1] if actuator.stops else None),
            arrived,
            watch.states.last,
            colour,
            injection.reason if injection is not None and injection.kind == "corrected" else "",
        )
        return injection

    # ------------------------------------------------------------------ going on with a run

    def state(self) -> dict[str, Any]:
        """What `restore` needs besides the frames themselves; as JSON can hold it.

        A picture that is imagined is not in it: `Observed.target` gives it when the loop sets out.
        """
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
        self._lineage = self._source = lineage

    def restore(self, state: Mapping[str, Any], shown: Pixels, imagined: Pixels | None) -> Pixels:
        """Go on after the frames that were relived, bit for bit as if nothing had been in between.

        Args:
            state: What `state` gave after the last of them. Its ``eviction`` is for whoever makes the memory.
            shown: That frame, as it was shown.
            imagined: What was imagined last; None when nothing was.

        Returns:
            The next input of the loop.

        Raises:
            EntryNotFoundError: A memory that the loop is on the way to is gone.

            And what reading that memory's picture raises.
        """
        self._rng.bit_generator.state = _rng_from(state["rng"])
        self._unrelated = state["unrelated"]
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
            self._source = self._lineage_of(self._cut, self._lineage)
            return self._cut.pixels
        source = self._actuator.input()
        if source is not None:
            return source
        right = self._put_right(shown)
        return shown if right is None else right.pixels

    def _stop_again(self, stop: Mapping[str, Any], shown: Pixels, imagined: Pixels | None) -> Target:
        reason, similarity = stop["reason"], stop["similarity"]
        if stop["cache_id"] is not None:
            decision = Decision(None, reason, similarity)
            return self._target(stop["cache_id"], decision, self.memory.embeddings(), shown.shape)
        if imagined is None:
            raise InputError("the picture that the loop is on the way to is missing: it was never remembered")
        return Target(imagined, self._watch.encode_batch([imagined])[0], None, similarity, reason)

    def adopt(self, cache_id: str | None) -> None:
        """Take this entry for the next frame that is to be kept: it was stored before the run was stopped."""
        self._adopted = cache_id

    # ------------------------------------------------------------------ what is shown, and kept

    def _show(self, pixels: Pixels, embedding: Embedding, again: Again | None) -> Shown:
        if self._actuator.settings.cap is None:
            return Shown(pixels, embedding, "frame")
        with self._watch.timed("cap"):
            return self._actuator.show(pixels, embedding, again)

    def _descent(self, shown: Shown) -> Lineage:
        """Of the frame that is shown now."""
        actuator, before = self._actuator, self._lineage
        if not actuator.stops:
            return self._source.child()
        share = actuator.part * shown.taken
        return mixed(before, self._lineage_of(actuator.stops[0], before), share).child()

    def _lineage_of(self, target: Target, before: Lineage) -> Lineage:
        if target.entry is None:
            return before.child()
        cache_id = target.entry.cache_id
        return Lineage({cache_id: 1.0}, self._depths.get(cache_id, 0.0))

    def _keep(
        self,
        picture: ImageLike,
        embedding: Embedding,
        lineage: Lineage,
        prompt: str,
        generation_params: Mapping[str, Any] | None,
    ) -> Remembered:
        adopted, self._adopted = self._adopted, None
        if adopted is not None:
            return Remembered(adopted, embedding)
        kept = self.memory.remember(
            picture, prompt, generation_params, embedding=embedding, parents=tuple(lineage.parents)
        )
        for gone in kept.evicted:
            self._depths.pop(gone, None)
            self._kept.pop(gone, None)
        return kept

    def _note(self, shown: Shown, cache_id: str | None, lineage: Lineage) -> bool:
        """What follows from the frame that was counted just now; whether it ends a way."""
        frame = self._watch.frame
        if cache_id is not None:
            lineage = self._remembered(cache_id, lineage.depth)
        self._lineage = self._source = lineage
        arrived = self._actuator.took(shown) is not None
        if arrived:
            self._past.append(replace(self._past.pop(), ended=frame))
        return arrived

    def _remembered(self, cache_id: str, depth: float) -> Lineage:
        """Take note of the current frame's id; its descendants descend from that."""
        frame = self._watch.frame
        self._kept = {each: since for each, since in self._kept.items() if since > frame - _RECENT}
        self._kept[cache_id], self._depths[cache_id] = frame, depth
        return Lineage({cache_id: 1.0}, depth)

    # ------------------------------------------------------------------ what is decided

    def _decide(
        self, shown: Shown, measures: Measures, cache_id: str | None, again: Again | None
    ) -> Decision:
        actuator = self._actuator
        if actuator.stops:
            there = actuator.similarity(shown.embedding)
            return Decision(
                None,
                f"on the way for {actuator.step - 1} frames, {actuator.covered:.0%} of it taken",
                numbers={"there": there, "covered": actuator.covered},
            )
        if self._watch.frame % _RESCALE == 0:
            self._unrelated = unrelated_cosine(self.memory)
        observation = self._observation(shown.embedding, measures, cache_id)
        decision = self._policy.decide(observation, self._rng)
        return self._set_out(decision, observation, shown, again)

    def _observation(self, embedding: Embedding, measures: Measures, own_id: str | None) -> Observation:
        return Observation(
            frame=self._watch.frame,
            embedding=embedding,
            recent=self._watch.monitor.recent(_RECENT),
            candidates=self.memory.embeddings(),
            own_id=own_id,
            measures={name: value for name, value in measures.items() if value is not None},
            past=tuple(self._past),
            kept=dict(self._kept),
            pinned=self.memory.cache.pinned(),
            depths=dict(self._depths),
            unrelated=self._unrelated,
            towards=self._towards,
        )

    def _set_out(
        self, decision: Decision, observation: Observation, shown: Shown, again: Again | None
    ) -> Decision:
        """Fetch what was chosen. What cannot be had costs an injection, not the loop."""
        self._cut = None
        decision, imagined = self._imagined(decision, observation, shown, again)
        try:
            chosen = () if decision.cache_id is None else (*decision.via, decision.cache_id)
            stops = [
                self._target(each, decision, observation.candidates, shown.pixels.shape) for each in chosen
            ]
        except (EntryNotFoundError, ImageError, StorageError, UnsafePathError) as exc:
            return _without(decision, str(exc))
        stops += imagined
        if stops:
            self._past.append(PastInjection(observation.frame, decision.cache_id, observation.frame))
            if not self._actuator.cuts:
                self._actuator.begin(stops, observation.frame, int(self._rng.integers(2**63)))
        self._cut = stops[-1] if stops and self._actuator.cuts else None
        return decision

    def _imagined(
        self, decision: Decision, observation: Observation, shown: Shown, again: Again | None
    ) -> tuple[Decision, list[Target]]:
        """Something new, when that was asked for and it is newer than the memory."""
        if decision.reheat is None:
            return decision, []
        if again is None:
            what = "" if decision.cache_id else "; cannot help: this loop cannot imagine anything"
            return replace(decision, reason=decision.reason + what), []
        known = (observation.recent, observation.candidates.matrix)
        picture, vector, new = imagine(shown.pixels, decision.reheat, again, self._watch.encode_batch, known)
        numbers = {**decision.numbers, "imagined": new}
        if decision.cache_id is not None and new <= decision.freshness:
            return replace(decision, numbers=numbers), []
        reason = f"{decision.reason}; imagined, {new:.2f} from all that is known"
        target = Target(picture, vector, None, cosine(vector, shown.embedding), reason)
        return replace(
            decision, cache_id=None, similarity=target.similarity, reason=reason, numbers=numbers, via=()
        ), [target]

    def _target(
        self, cache_id: str, decision: Decision, candidates: EmbeddingSet, size: tuple[int, ...]
    ) -> Target:
        picture = fit(self.memory.image(cache_id), size[0], size[1])
        entry = self.memory.cache.get(cache_id)
        if entry is None:
            raise EntryNotFoundError("it was evicted since")
        similarity = decision.similarity or 0.0
        vector = as_embedding(candidates.matrix[candidates.ids.index(cache_id)], encoder=candidates.encoder)
        return Target(picture, vector, entry, similarity, decision.reason)

    def _injection(self, shown: Shown, frame: ImageLike) -> Injection | None:
        """What the generator gets next, when that is not the frame."""
        actuator, cut = self._actuator, self._cut
        if cut is not None:
            self._source = self._lineage_of(cut, self._lineage)
            return _injection(cut, cut.pixels, 1, frame)
        source = actuator.input()
        if source is not None:
            return _injection(actuator.stops[-1], source, actuator.step, frame)
        right = self._put_right(shown.pixels)
        if right is not None:
            return Injection(_like(frame, right.pixels), None, 1.0, right.reason, "corrected", 0)
        if shown.how == "frame":
            return None
        reason = (
            f"the frame was more than {actuator.settings.cap:g} from the one before: {_NEARER[shown.how]}"
        )
        return Injection(_like(frame, shown.pixels), None, 1.0, reason, "shown", 0)

    def _put_right(self, shown: Pixels) -> Corrected | None:
        """What is shown as the loop is to go on from it; None where its colours are as they should be."""
        right = self._colour.corrected(shown)
        self._actuator.corrected = None if right is None else right.pixels
        return right


def _policy(policy: str | InjectionPolicy, options: Mapping[str, Any]) -> InjectionPolicy:
    """The policy of a name, or the one that was given."""
    if isinstance(policy, str):
        made: InjectionPolicy = registry.create("policies", policy, **options)
        return made
    if isinstance(policy, type) or not (hasattr(policy, "decide") and hasattr(policy, "name")):
        raise InputError(
            f"policy must be a registered name ({', '.join(registry.names('policies'))}) or an object with "
            f"`name` and `decide`, got {policy!r}"
        )
    if options:
        raise InputError(f"{', '.join(options)}: a policy that exists already takes no options")
    return policy


_NEARER = {
    "input": "made again from a nearer input",
    "calm": "made again at less strength",
    "blend": "blended with it",
}


def _injection(target: Target, source: Pixels, step: int, frame: ImageLike) -> Injection:
    kind: Kind = "imagined" if target.entry is None else "memory"
    return Injection(_like(frame, source), target.entry, target.similarity, target.reason, kind, step)


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


def _like(frame: ImageLike, pixels: Pixels) -> Image.Image | Pixels:
    return Image.fromarray(pixels) if isinstance(frame, Image.Image) else pixels


def _without(decision: Decision, why: str) -> Decision:
    """The decision as it came out: no injection after all."""
    return replace(decision, cache_id=None, similarity=None, reason=f"{decision.reason}; but {why}")
