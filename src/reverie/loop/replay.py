"""Recorded frames through another policy: what it would have kept, evicted, wanted, and when.

A replay is an open loop: the frames are those that were recorded, and what a policy wants does not change
what follows. Up to the first frame at which it would have done something else (`Replay.exact_to`) this is
what really would have happened; from there on it is what the policy would do in a loop that goes on
like that.

The same policy with the same seed over a run of its own does at every frame what was recorded.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from threadpoolctl import threadpool_limits

from reverie import registry
from reverie._version import __version__
from reverie.admission import MaximumSimilarity
from reverie.checks import check_seed
from reverie.diversity import vendi
from reverie.errors import InputError
from reverie.loop.open_loop import OpenLoop, Witnessed
from reverie.loop.presets import MemorySettings, memory_settings, places
from reverie.loop.recording import RecordedFrame, Recording, open_recording
from reverie.loop.transition import TransitionSettings
from reverie.memory import ImageMemory
from reverie.protocols import InjectionPolicy
from reverie.storage import replace_file, storage_error
from reverie.vectors import cosine

__all__ = [
    "OPEN_LOOP",
    "Agreement",
    "Figures",
    "Replay",
    "ReplaySettings",
    "check_folder",
    "make_policy",
    "open_recording",
    "promised_alarms",
    "recorded_figures",
    "replay",
    "states",
    "suits",
    "summary",
    "write_replays",
]

OPEN_LOOP = (
    "Open loop: the frames are as they were recorded, and no injection changes what follows. Up to the frame "
    "given as exact a policy would really have done this; after it, this is what it would do in a loop that "
    "goes on like the recorded one."
)
"""What everybody who reads a replay has to know."""


@dataclass(frozen=True, slots=True)
class ReplaySettings:
    """What recorded frames are to go through.

    Attributes:
        policy: Registered injection policy.
        options: Arguments of it.
        memory: What its memory is to do; None for what `suits` says.
        max_size: Most entries in it; None for as many as a run has.
        seed: Of everything random; None for the run's, or 0.
        name: In tables; None for the policy's.
    """

    policy: str
    options: Mapping[str, Any] = field(default_factory=dict)
    memory: MemorySettings | None = None
    max_size: int | None = None
    seed: int | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Figures:
    """What came of the frames, in numbers.

    Attributes:
        kept: Frames that were remembered.
        evicted: Entries that went for others.
        remembered: Entries in the end; None when that is not known.
        effective_images: Vendi score of them; None likewise, 0 when there are none.
        alarms: How often the policy's alarm went on; None for a policy without.
        first_alarm: At which frame first.
        wanted: How many injections.
        first_wanted: At which frame the first.
        imagined: How many of them were to be of something new, of which nothing can be known.
    """

    kept: int
    evicted: int
    remembered: int | None
    effective_images: float | None
    alarms: int | None
    first_alarm: int | None
    wanted: int
    first_wanted: int | None
    imagined: int = 0


@dataclass(frozen=True, slots=True)
class Agreement:
    """How much of what was recorded the replay did as well, as shares of the frames in [0, 1].

    Attributes:
        kept: Kept, or not, alike.
        wanted: The same picture, or none, wanted.
        both: Both.
    """

    kept: float
    wanted: float
    both: float


@dataclass(frozen=True, slots=True, eq=False)
class Replay:
    """One policy over the recorded frames.

    Attributes:
        name: In tables.
        settings: With everything that was left open filled in.
        seeds: How many seed pictures were in memory before the first frame.
        frames: What it made of each.
        figures: In numbers.
        agreement: With what was recorded.
        exact_to: The last frame up to which a loop with this policy would have been the recorded one: at it,
            or at the next, it wants something else. 0 when not even the first would have been.
    """

    name: str
    settings: ReplaySettings
    seeds: int
    frames: tuple[Witnessed, ...]
    figures: Figures
    agreement: Agreement
    exact_to: int


def suits(recording: Recording, policy: str) -> MemorySettings:
    """What a policy's memory is to do where nothing is said.

    What suits the policy; whether seed pictures are remembered is for the recorded policy what was recorded,
    and for another what suits it, as far as there are any.
    """
    settings = memory_settings(policy)
    remembers = recording.remembers_seeds if policy == recording.policy else settings.remember_seeds
    return replace(settings, remember_seeds=remembers and bool(recording.seeds))


def replay(recording: Recording, settings: ReplaySettings) -> Replay:
    """Take recorded frames through a policy and a memory of its own, which is gone afterwards.

    Args:
        recording: The frames.
        settings: Through what.

    Raises:
        UnknownNameError: No policy or eviction of that name.
        InputError: The policy has no such option, or a value is out of its range; seed pictures are to be
            remembered, and none are recorded, or they leave no place for a frame.
        ImageError: A picture is broken.
        StorageError: The disk refused.
    """
    keeps = settings.memory or suits(recording, settings.policy)
    seeds = len(recording.seeds) if keeps.remember_seeds else 0
    settings = _filled_in(recording, settings, keeps, seeds)
    policy = make_policy(settings)
    with (
        threadpool_limits(limits=1, user_api="blas"),  # as in a dream: the same bits
        tempfile.TemporaryDirectory(prefix="reverie-replay-") as folder,
        _memory(recording, settings, keeps, folder) as memory,
    ):
        loop = OpenLoop(
            memory,
            policy,
            recording.folder,
            seed=settings.seed or 0,
            towards=recording.towards,
        )
        loop.remember_seeds(recording.seeds[:seeds], recording.seed_embeddings[:seeds])
        frames = tuple(map(loop.witness, recording.frames, recording.embeddings))
        rows = memory.embeddings().matrix
    return Replay(
        name=settings.name or settings.policy,
        settings=settings,
        seeds=seeds,
        frames=frames,
        figures=_figures(frames, len(rows), _vendi(rows)),
        agreement=_agreement(recording.frames, frames),
        exact_to=_exact_to(recording, frames, loop.transition),
    )


def make_policy(settings: ReplaySettings) -> InjectionPolicy:
    """The policy that the settings name, with its options.

    Raises:
        UnknownNameError: No policy of that name.
        InputError: It has no such option, or a value is of a wrong type or out of its range.
    """
    try:
        policy: InjectionPolicy = registry.create("policies", settings.policy, **settings.options)
    except TypeError as exc:  # a text where a number is expected
        given = ", ".join(f"{name}={value!r}" for name, value in settings.options.items())
        raise InputError(f"the policy {settings.policy!r} cannot be made with {given}: {exc}") from exc
    return policy


def _filled_in(
    recording: Recording, settings: ReplaySettings, keeps: MemorySettings, seeds: int
) -> ReplaySettings:
    if keeps.remember_seeds and not seeds:
        raise InputError(f"{recording.folder} holds no seed pictures that could be remembered")
    seed = check_seed(recording.asked("seed", 0) if settings.seed is None else settings.seed)
    size = places(seeds) if settings.max_size is None else settings.max_size
    if size <= seeds:
        raise InputError(
            f"{size} places are too few: {seeds} seed pictures are remembered, which never go; "
            "take more, or do not remember the seeds"
        )
    return replace(settings, memory=keeps, max_size=size, seed=seed)


def _memory(
    recording: Recording, settings: ReplaySettings, memory: MemorySettings, folder: str
) -> ImageMemory:
    return ImageMemory(
        folder,
        settings.max_size,
        encoder=recording.matcher,
        seed=settings.seed,
        admission=None if memory.admission is None else MaximumSimilarity(memory.admission),
        eviction=memory.eviction,
        index="sqlite",
    )


# ------------------------------------------------------------------ figures


def recorded_figures(recording: Recording) -> Figures:
    """What the recorded policy itself did."""
    frames, rows = recording.frames, recording.remembered()
    alarms = _went_on([frame.alarm for frame in frames])
    begun = [frame.number for frame in frames if frame.set_out]
    return Figures(
        kept=sum(frame.kept for frame in frames),
        evicted=sum(frame.replaced for frame in frames),
        remembered=None if rows is None else len(rows),
        effective_images=None if rows is None else _vendi(rows),
        alarms=None if alarms is None else len(alarms),
        first_alarm=alarms[0] if alarms else None,
        wanted=len(begun),
        first_wanted=begun[0] if begun else None,
    )


def _figures(frames: Sequence[Witnessed], remembered: int, effective: float) -> Figures:
    alarms = _went_on([frame.alarm for frame in frames])
    wanted = [frame.frame for frame in frames if frame.wants]
    return Figures(
        kept=sum(frame.kept for frame in frames),
        evicted=sum(len(frame.evicted) for frame in frames),
        remembered=remembered,
        effective_images=effective,
        alarms=None if alarms is None else len(alarms),
        first_alarm=alarms[0] if alarms else None,
        wanted=len(wanted),
        first_wanted=wanted[0] if wanted else None,
        imagined=sum(frame.wants and frame.imagines for frame in frames),
    )


def _went_on(alarms: Sequence[bool | None]) -> list[int] | None:
    """Frames at which an alarm went on; None when there is none. Where it is not asked, it stays as it is."""
    if all(alarm is None for alarm in alarms):
        return None
    on, found = False, []
    for number, alarm in enumerate(alarms, start=1):
        if alarm and not on:
            found.append(number)
        on = on if alarm is None else alarm
    return found


def _vendi(rows: Any) -> float:
    return round(vendi(rows), 4) if len(rows) else 0.0


def _agreement(recorded: Sequence[RecordedFrame], frames: Sequence[Witnessed]) -> Agreement:
    kept = np.array([_kept_alike(*pair) for pair in zip(recorded, frames, strict=True)])
    wanted = np.array([_wanted_alike(*pair) for pair in zip(recorded, frames, strict=True)])
    shares = (float(np.mean(each)) for each in (kept, wanted, kept & wanted))
    return Agreement(*(round(share, 4) for share in shares))


def _kept_alike(recorded: RecordedFrame, frame: Witnessed) -> bool:
    return recorded.kept == frame.kept


def _wanted_alike(recorded: RecordedFrame, frame: Witnessed) -> bool:
    if not recorded.set_out or not frame.wants:
        return recorded.set_out == frame.wants
    return frame.target is not None and recorded.target == frame.target


# ------------------------------------------------------------------ how far it is what would have been


def _exact_to(recording: Recording, frames: Sequence[Witnessed], transition: TransitionSettings) -> int:
    own = _recorded_transition(recording)
    cap = None if own is None else own.cap
    before = None
    for recorded, frame, row in zip(recording.frames, frames, recording.embeddings, strict=True):
        step = 0.0 if before is None else 1.0 - cosine(row, before)
        before = row
        as_made = recorded.how == "frame" and (transition.cap is None or step <= transition.cap)
        if not as_made and (cap is None or transition.cap != cap):
            return recorded.number - 1  # it would not have been shown like that
        unknown = frame.imagines or (frame.wants and transition != own)
        if not _wanted_alike(recorded, frame) or unknown:
            return recorded.number
    return len(frames)


def _recorded_transition(recording: Recording) -> TransitionSettings | None:
    """How the recorded loop went to its memories; None when it cannot be said of these vectors."""
    if not recording.same_encoder or recording.policy not in registry.names("policies"):
        return None
    policy = registry.create("policies", recording.policy)
    return getattr(policy, "transition", None) or TransitionSettings()


# ------------------------------------------------------------------ for people and machines


def states(frames: Sequence[Witnessed]) -> list[tuple[str, int, int]]:
    """What the loop was doing, whatever policy looks on: name, first and last frame."""
    found: list[tuple[str, int, int]] = []
    for frame in frames:
        if found and found[-1][0] == frame.state.name:
            found[-1] = (found[-1][0], found[-1][1], frame.frame)
        else:
            found.append((frame.state.name, frame.frame, frame.frame))
    return found


def promised_alarms(frames: Sequence[Witnessed]) -> list[int]:
    """Frames at which the alarm with a promise was raised, whatever policy looks on."""
    raised = [0, *(frame.alarms for frame in frames)]
    return [at for at in range(1, len(raised)) if raised[at] > raised[at - 1]]


def summary(recording: Recording, replays: Sequence[Replay]) -> dict[str, Any]:
    """Everything but the single frames, as JSON can hold it."""
    frames = replays[0].frames if replays else ()
    return {
        "version": 1,
        "reverie": __version__,
        "open_loop": OPEN_LOOP,
        "folder": str(recording.folder),
        "frames": len(recording.frames),
        "encoder": recording.matcher.encoder.name,
        "recorded_vectors": recording.recorded_vectors,
        "states": [{"name": name, "first": first, "last": last} for name, first, last in states(frames)],
        "alarms": promised_alarms(frames),
        "recorded": {"policy": recording.policy, **asdict(recorded_figures(recording))},
        "replays": [_as_row(each) for each in replays],
    }


def _as_row(one: Replay) -> dict[str, Any]:
    return {
        "name": one.name,
        **{name: value for name, value in asdict(one.settings).items() if name != "name"},
        "seeds": one.seeds,
        **asdict(one.figures),
        "agreement": asdict(one.agreement),
        "exact_to": one.exact_to,
    }


def check_folder(folder: Path, recording: Recording) -> None:
    """Raise InputError for a folder to write to that is the recorded one, or in it."""
    if folder.resolve().is_relative_to(recording.folder.resolve()):
        raise InputError(f"{folder} is part of what was recorded: choose another folder for what comes of it")


def write_replays(folder: Path, recording: Recording, replays: Sequence[Replay]) -> tuple[Path, Path]:
    """Write ``replay.json`` (`summary`) and ``replay.jsonl`` (a line a frame, one replay after the other).

    Args:
        folder: Made when it is not there; must not be that of the recording.
        recording: What was replayed.
        replays: What came of it.

    Raises:
        InputError: The folder is the recorded one, or in it.
        StorageError: The disk refused.
    """
    check_folder(folder, recording)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise storage_error(f"make {folder}", exc) from exc
    pretty, numbers = orjson.OPT_INDENT_2, orjson.OPT_SERIALIZE_NUMPY
    record = orjson.dumps(summary(recording, replays), option=pretty | numbers)
    lines = (
        orjson.dumps({"replay": one.name, **asdict(frame)}, option=numbers) + b"\n"
        for one in replays
        for frame in one.frames
    )
    files = (folder / "replay.json", folder / "replay.jsonl")
    replace_file(files[0], [record, b"\n"], durable=False)
    replace_file(files[1], lines, durable=False)
    return files
