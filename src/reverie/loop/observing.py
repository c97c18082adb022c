"""What an injector does with one frame: encode, remember, decide, and carry out what was decided.

`Observing` is given frame after frame and says what the loop's input is to be. How frames come to it, and
whether the loop waits for it, is the business of `reverie.loop.injector.Injector`, which is made of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reverie import registry
from reverie.checks import check_seed
from reverie.errors import EntryNotFoundError, ImageError, InputError, StorageError, UnsafePathError
from reverie.loop.actuator import Actuator, Again, Target, imagine
from reverie.loop.colour_keeper import ColourKeeper
from reverie.loop.known_latents import KnownLatents
from reverie.loop.lineage import Lineage, mixed
from reverie.loop.monitor import Measures
from reverie.loop.observed import Injection, Kind, Observed
from reverie.loop.recolour import Corrected
from reverie.loop.scale import unrelated_cosine
from reverie.loop.spectator import Watch
from reverie.loop.step_cap import Shown
from reverie.loop.transition import TransitionSettings
from reverie.memory import ImageMemory, Remembered
from reverie.pixels import ImageLike, Pixels, fit, like
from reverie.protocols import Decision, InjectionPolicy, LatentSpace, Observation, PastInjection
from reverie.vectors import Embedding, EmbeddingSet, as_embedding, cosine

__all__ = ["Given", "Observing"]

_RECENT = 120  # frames that a policy can look back on
_PAST = 1000  # injections that a policy can look back on
_RESCALE = 50  # frames after which the encoder's scale is taken anew


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """A frame as it was handed in.

    Attributes:
        frame: What a picture that takes its place is to be like.
        picture: What is remembered of it.
        pixels: ``(h, w, 3)`` uint8 RGB.
        prompt: The prompt it was made with.
        generation_params: How it was made.
        again: Makes it once more.
        embedding: Its vector, when it is there already.
        latents: What it was decoded from, float32, and in the form in which it was handed in.
    """

    frame: ImageLike
    picture: ImageLike
    pixels: Pixels
    prompt: str = ""
    generation_params: Mapping[str, Any] | None = None
    again: Again | None = None
    embedding: Embedding | None = None
    latents: tuple[NDArray[np.float32], Any] | None = None


@dataclass(frozen=True, slots=True)
class _Source:
    """What a frame is made from, where that is not the frame before it.

    Attributes:
        lineage: Of the input, or of the frame that is on its way in it.
        towards: Of what the way leads to; None for no way.
        part: How much of the input is of that, in [0, 1].
    """

    lineage: Lineage
    towards: Lineage | None = None
    part: float = 0.0


class Observing:
    """Takes in frames, one at a time.

    Args:
        memory: Where frames are kept.
        policy: A registered name or an `InjectionPolicy`.
        seed: All of its randomness.
        towards: What the loop is to tend to.
        latents: The generator's latents.
        colour: What is done about colour drift.
        anchors: Pictures whose colours the loop is to keep.
        late: How many frames the loop makes before it has the answer to one. Its frames are on the screen by
            then: the step between them is not capped.
        **options: Arguments of a policy given by name.
    """

    def __init__(
        self,
        memory: ImageMemory,
        policy: str | InjectionPolicy,
        *,
        seed: int = 0,
        towards: ImageLike | Embedding | None = None,
        latents: LatentSpace | None = None,
        colour: str = "off",
        anchors: Sequence[ImageLike] = (),
        late: int = 0,
        **options: Any,
    ) -> None:
        self._rng = np.random.default_rng(check_seed(seed))
        self._policy = _policy(policy, options)
        self.memory = memory
        self._watch = Watch(memory.matcher)
        transition = getattr(self._policy, "transition", None) or TransitionSettings()
        if late:
            transition = replace(transition, cap=None)
        self._latents = None if latents is None else KnownLatents(latents)
        self._actuator = Actuator(transition, self._watch.encode_batch, self._latents)
        self._colour = ColourKeeper(colour, anchors, memory)
        self._towards = None if towards is None else memory.matcher.vector_of(towards)
        self._past: deque[PastInjection] = deque(maxlen=_PAST)
        self._kept: dict[str, int] = {}
        self._depths: dict[str, float] = {}
        self._lineage = Lineage()  # of what is shown
        self._sources: deque[_Source | None] = deque([None] * (1 + late))  # of the frames that are to come
        self._cut: Target | None = None  # the next input, in a cut
        self._adopted: str | None = None
        self._unrelated = unrelated_cosine(memory)

    @property
    def policy_name(self) -> str:
        """The policy's name."""
        return self._policy.name

    def take_in(self, given: Given) -> tuple[Observed, Injection | None]:
        """Observe a frame; raises as `Injector.observe` does, and has not counted it then."""
        watch, actuator = self._watch, self._actuator
        if given.latents is not None and self._latents is not None:
            self._latents.give(given.pixels, *given.latents)
        embedding = watch.encode(given.pixels, given.embedding)
        shown = self._show(given.pixels, embedding, given.again)
        source = self._sources[0]
        on_way, lineage = source is not None and source.towards is not None, self._descent(shown)
        with watch.timed("store"):
            kept = None if on_way or shown.how == "blend" else self._keep(given, shown, lineage)
        self._sources.popleft()  # nothing fails from here on
        colour = self._colour.observe(shown.pixels)
        measures = {**watch.count(shown.embedding), **colour.measures()}
        cache_id = None if kept is None else kept.cache_id
        arrived = self._note(shown, cache_id, lineage, on_way)
        with watch.timed("decide"):
            decision = self._decide(shown, measures, cache_id, given.again)
            injection = self._injection(shown, given.frame)
        self._sources.append(self._source_of(injection))
        observed = Observed(
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
            bool(self._past) and self._past[-1].frame == watch.frame,
            arrived,
            watch.states.last,
            colour,
            injection.reason if injection is not None and injection.kind == "corrected" else "",
        )
        return observed, injection

    # ------------------------------------------------------------------ what is shown, and kept

    def _show(self, pixels: Pixels, embedding: Embedding, again: Again | None) -> Shown:
        if self._actuator.settings.cap is None:
            return Shown(pixels, embedding, "frame")
        with self._watch.timed("cap"):
            return self._actuator.show(pixels, embedding, again)

    def _descent(self, shown: Shown) -> Lineage:
        """Of the frame that is shown now."""
        source = self._sources[0] or _Source(self._lineage)
        if source.towards is None:
            return source.lineage.child()
        return mixed(source.lineage, source.towards, source.part * shown.taken).child()

    def _source_of(self, injection: Injection | None) -> _Source | None:
        """What the frame is made from that an input which was just decided leads to."""
        if self._cut is not None:
            return _Source(self._lineage_of(self._cut, self._lineage))
        if self._actuator.stops:
            towards = self._lineage_of(self._actuator.stops[0], self._lineage)
            return _Source(self._lineage, towards, self._actuator.part)
        return None if injection is None else _Source(self._lineage)

    def _lineage_of(self, target: Target, before: Lineage) -> Lineage:
        if target.entry is None:
            return before.child()
        cache_id = target.entry.cache_id
        return Lineage({cache_id: 1.0}, self._depths.get(cache_id, 0.0))

    def _keep(self, given: Given, shown: Shown, lineage: Lineage) -> Remembered:
        adopted, self._adopted = self._adopted, None
        if adopted is not None:
            return Remembered(adopted, shown.embedding)
        kept = self.memory.remember(
            given.picture if shown.how == "frame" else shown.pixels,
            given.prompt,
            given.generation_params,
            embedding=shown.embedding,
            parents=tuple(lineage.parents),
        )
        for gone in kept.evicted:
            self._depths.pop(gone, None)
            self._kept.pop(gone, None)
        return kept

    def _note(self, shown: Shown, cache_id: str | None, lineage: Lineage, on_way: bool) -> bool:
        """What follows from the frame that was counted just now; whether it ends a way."""
        frame = self._watch.frame
        if cache_id is not None:
            lineage = self._remembered(cache_id, lineage.depth)
        self._lineage = lineage
        arrived = self._actuator.took(shown, on_way=on_way) is not None
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
            return self._leading(cut, cut.pixels, 1, frame)
        source = actuator.input()
        if source is not None:
            return self._leading(actuator.stops[-1], source, actuator.step, frame)
        right = self._put_right(shown.pixels)
        if right is not None:
            return Injection(like(frame, right.pixels), None, 1.0, right.reason, "corrected", 0)
        if shown.how == "frame":
            return None
        reason = (
            f"the frame was more than {actuator.settings.cap:g} from the one before: {_NEARER[shown.how]}"
        )
        return Injection(like(frame, shown.pixels), None, 1.0, reason, "shown", 0)

    def _leading(self, target: Target, source: Pixels, step: int, frame: ImageLike) -> Injection:
        kind: Kind = "imagined" if target.entry is None else "memory"
        latents = None if self._latents is None else self._latents.of(source)
        return Injection(
            like(frame, source), target.entry, target.similarity, target.reason, kind, step, latents
        )

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


def _without(decision: Decision, why: str) -> Decision:
    """The decision as it came out: no injection after all."""
    return replace(decision, cache_id=None, similarity=None, reason=f"{decision.reason}; but {why}")
