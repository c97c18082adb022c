"""The main job: one loop without memory beside the same loop with it, written to a run folder.

Both arms have the same start image and the same noise at every frame, and go on in turn, so that
a run that is stopped early leaves two arms that can be compared.

A run folder holds ``run.json`` (settings and results), and for each arm a folder with
``frames/000000.png`` (the start) and on, ``journal.jsonl`` (a line a frame: what, why, how long)
and, with memory, the cache itself.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from threadpoolctl import threadpool_limits

from reverie import registry
from reverie._version import __version__
from reverie.admission import MaximumSimilarity
from reverie.cache.aesthetic_matcher import AestheticMatcher
from reverie.checks import check_seed, check_strength, check_whole
from reverie.errors import InputError, LockTimeoutError
from reverie.locks import file_lock, held
from reverie.loop.arm import Arm
from reverie.loop.driver import DreamLoop
from reverie.loop.injector import Injector
from reverie.loop.journal import read_journal
from reverie.loop.presets import memory_settings, places
from reverie.loop.prompts import PromptSchedule, read_prompts, read_wildcards
from reverie.loop.recolour import check_correction
from reverie.loop.recording import read_arrays, read_record, write_arrays
from reverie.loop.spectator import Spectator
from reverie.memory import ImageMemory
from reverie.pixels import Pixels, fit
from reverie.protocols import Encoder, Generator, KeepsLatents, LatentSpace, Resumable
from reverie.storage import replace_file, storage_error

_PROMPT_HELD = 60  # frames
_STATE = "generator.npz"  # what a generator keeps from frame to frame

__all__ = ["ArmDone", "DreamResult", "DreamSettings", "asked", "check_settings", "dream", "resume"]


@dataclass(frozen=True, slots=True)
class DreamSettings:
    """What `dream` does.

    Attributes:
        out: The run folder; must be empty or not there yet.
        frames: Frames of each arm, at least 1.
        strength: 0 keeps the input of a frame, 1 forgets it.
        seed: Seed of everything random, from 0 to 2^63 - 1.
        policy: Registered injection policy of the arm with memory.
        seeds: Folder of seed pictures; None takes the built-in ones.
        generator: Registered generator.
        generator_options: Its own arguments by name, as JSON can hold them.
        encoder: Registered encoder.
        model_dir: The encoder's model, where it takes one; None for the usual places.
        threads: Processor threads of the encoder, where it takes them; None for its own choice.
        prompt: Prompt of every frame; may hold choices and wildcards (`reverie.loop.prompts`).
        prompts: A file of prompts in its place, one a line, that take turns.
        prompt_every: Frames that a prompt is held for; what is drawn in it is drawn anew when they are over.
            None holds a single prompt for ever, and each of several for 60 frames.
        wildcards: A folder of text files with what wildcards may be.
        size: Side of the frames in pixels; None for what the generator makes unless told otherwise.
        remember_seeds: Put the seed pictures into memory, pinned, before the first frame; None for what
            suits the policy.
        towards: A text, or the path of a picture, that the loop is to tend to, for policies that ask.
        colour: What is done about colour drift in the arm with memory: ``off``, ``soft`` or ``hard``. Both
            arms are measured against the pinned seed pictures, or the start where none are remembered.
        live: A folder for displays, which show the arm with memory (`reverie.loop.live`); None for none.
        command: The command line that was typed, for the record.
    """

    out: Path
    frames: int = 300
    strength: float = 0.5
    seed: int = 0
    policy: str = "wander"
    seeds: str | os.PathLike[str] | None = None
    generator: str = "patches"
    generator_options: Mapping[str, Any] = field(default_factory=dict)
    encoder: str = "descriptor"
    model_dir: str | None = None
    threads: int | None = None
    prompt: str = ""
    prompts: str | os.PathLike[str] | None = None
    prompt_every: int | None = None
    wildcards: str | os.PathLike[str] | None = None
    size: int | None = None
    remember_seeds: bool | None = None
    towards: str = ""
    colour: str = "off"
    live: str | os.PathLike[str] | None = None
    command: str = ""


@dataclass(frozen=True, slots=True)
class ArmDone:
    """One finished frame of one arm.

    Attributes:
        arm: ``without`` or ``with``.
        title: Its name for people.
        frame: Number of the frame, from 1.
        frames: How many are asked for.
        measures: What the monitor says; None while there are too few frames.
        injected: Whether a memory is the next input.
        reason: The policy's reason.
        times_ms: Milliseconds by step.
    """

    arm: str
    title: str
    frame: int
    frames: int
    measures: Mapping[str, float | None]
    injected: bool
    reason: str
    times_ms: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class DreamResult:
    """Where the run is, and whether it went to its end.

    Attributes:
        folder: The run folder.
        finished: False when it was interrupted.
        arms: Results of each arm, as in ``run.json``.
    """

    folder: Path
    finished: bool
    arms: list[dict[str, Any]]


def dream(
    settings: DreamSettings,
    on_frame: Callable[[ArmDone], None] | None = None,
    encoder: Encoder | None = None,
    on_ready: Callable[[Generator], None] | None = None,
) -> DreamResult:
    """Run both arms and write the run folder. Ctrl-C ends it cleanly with what there is.

    Args:
        settings: What to do.
        on_frame: Called after every frame of every arm.
        encoder: The encoder that the settings name, when it is there already.
        on_ready: Called with the generator once it is loaded.

    Raises:
        InputError: Settings out of range, the folder is not empty, or there is nothing to start from.
        ImageError: A seed picture is broken.
        UnknownNameError: No such policy, generator, encoder or colour correction.
        MissingDependencyError: One of them is not installed.
        ModelError: The encoder's model is not here and cannot be fetched, or is damaged.
        GenerationError: The generator failed; what was made before it is there.
        StorageError: The disk refused.
    """
    check_settings(settings)
    return _dream(settings, on_frame, encoder, None, on_ready)


def check_settings(settings: DreamSettings) -> None:
    """Whether `dream` can begin with these, as far as can be told without loading or making anything.

    Raises:
        InputError: A setting is out of range, or the folder is not empty.
        UnknownNameError: No such policy, generator, encoder or colour correction.
        MissingDependencyError: The policy is not installed.
        StorageError: The folder cannot be looked into.
    """
    _check(settings)
    _check_empty(settings.out)


def resume(
    folder: str | os.PathLike[str],
    frames: int | None = None,
    on_frame: Callable[[ArmDone], None] | None = None,
    encoder: Encoder | None = None,
    on_ready: Callable[[Generator], None] | None = None,
) -> DreamResult:
    """Go on with a run that was stopped, by Ctrl-C or in any other way, or that is to become longer.

    It goes on bit for bit as if it had never been stopped, in the state that its journal's last whole line
    describes; what was made after that line is made again.

    Args:
        folder: The run folder.
        frames: Frames of each arm in the end; None for as many as were asked for.
        on_frame: Called after every frame of every arm.
        encoder: The encoder that the run names, when it is there already.
        on_ready: Called with the generator once it is loaded.

    Raises:
        InputError: Not a run folder, one of an earlier version, its seed pictures or its encoder are not
            those it was begun with, or another process is at it.

        And what `dream` raises.
    """
    record = read_record(Path(folder))
    settings = asked(record, Path(folder))
    if frames is not None:
        settings = replace(settings, frames=frames)
    _check(settings)
    return _dream(settings, on_frame, encoder, record, on_ready)


def asked(record: Mapping[str, Any], folder: Path) -> DreamSettings:
    """What a run was asked to do, by its ``run.json``; raises InputError when that is of another version."""
    names = {each.name for each in fields(DreamSettings)} - {"out"}
    given = record.get("asked")
    if not isinstance(given, Mapping) or not given.keys() <= names:
        raise InputError(f"{folder} cannot be gone on with: reverie {record.get('reverie')} wrote it")
    return DreamSettings(**given, out=folder)


def _dream(
    settings: DreamSettings,
    on_frame: Callable[[ArmDone], None] | None,
    encoder: Encoder | None,
    record: Mapping[str, Any] | None,
    on_ready: Callable[[Generator], None] | None,
) -> DreamResult:
    with threadpool_limits(limits=1, user_api="blas"):  # small products are slower on more threads
        encoder = encoder or _encoder(settings)
        with ExitStack() as stack:
            generator = _generator(settings)
            stack.callback(getattr(generator, "close", lambda: None))  # what it holds of a server, a device
            if on_ready is not None:
                on_ready(generator)
            start = _start(settings, generator)
            stack.enter_context(_only_one(settings.out))
            run = stack.enter_context(closing(_Run(settings, generator, encoder, record)))
            finished = run.go(start, on_frame)
    return DreamResult(settings.out, finished, run.results())


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Two processes that write one run would spoil it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise storage_error(f"make the run folder {folder}", exc) from exc
    with ExitStack() as stack:
        try:
            stack.enter_context(held(file_lock(folder / "run.lock", 0)))
        except LockTimeoutError:
            raise InputError(f"another process is dreaming into {folder}: wait for it, or stop it") from None
        yield
        with suppress(OSError):
            (folder / "run.lock").unlink()


def _encoder(settings: DreamSettings) -> Encoder:
    """The encoder, its model loaded: when that cannot be had, nothing is started."""
    options: dict[str, Any] = {"model_dir": settings.model_dir, "threads": settings.threads}
    given = {name: value for name, value in options.items() if value is not None}
    matcher = AestheticMatcher(settings.encoder, **given)
    matcher.load()
    return matcher.encoder


def _generator(settings: DreamSettings) -> Generator:
    options = dict(settings.generator_options)
    if settings.size is not None:
        options["size"] = settings.size
    generator: Generator = registry.create("generators", settings.generator, settings.seeds, **options)
    return generator


def _check(settings: DreamSettings) -> None:
    check_whole("frames", settings.frames, 1)
    check_strength(settings.strength)
    check_seed(settings.seed)
    if settings.size is not None:
        check_whole("size", settings.size, 1)
    registry.load("policies", settings.policy)
    registry.check("generators", settings.generator)
    registry.check("encoders", settings.encoder)
    check_correction(settings.colour)
    _prompts(settings)


def _prompts(settings: DreamSettings) -> PromptSchedule:
    """Which prompt each frame has."""
    if settings.prompt and settings.prompts is not None:
        raise InputError("a prompt and a file of prompts: give one of them")
    prompts = [settings.prompt] if settings.prompts is None else read_prompts(settings.prompts)
    every = settings.prompt_every
    if every is None and len(prompts) > 1:
        every = _PROMPT_HELD
    wildcards = {} if settings.wildcards is None else read_wildcards(settings.wildcards)
    return PromptSchedule(prompts, every, settings.seed, wildcards)


def _check_empty(out: Path) -> None:
    try:
        taken = out.exists() and (not out.is_dir() or any(out.iterdir()))
    except OSError as exc:
        raise storage_error(f"look into the run folder {out}", exc) from exc
    if taken:
        raise InputError(
            f"{out} is not empty: choose another folder, or go on with the run in it with --resume; "
            "nothing in it was changed"
        )


def _start(settings: DreamSettings, generator: Generator) -> Pixels:
    seeds = generator.seeds
    if len(seeds) == 0:
        raise InputError(
            f"the generator {settings.generator!r} has no images to start from: "
            "name a folder of pictures with seeds"
        )
    return fit(seeds[settings.seed % len(seeds)], *generator.size)


class _Run:
    """Two arms in turn."""

    def __init__(
        self,
        settings: DreamSettings,
        generator: Generator,
        encoder: Encoder,
        record: Mapping[str, Any] | None,
    ) -> None:
        self._settings = settings
        self._generator = generator
        self._encoder = encoder
        self._record = record
        self._started = time.perf_counter()
        self._digest = _digest(generator.seeds)
        self._prompts = _prompts(settings)
        self._resumes(record)
        folder = settings.out / "with"
        self._memory, self._remembers_seeds = _memory(settings, len(generator.seeds), encoder, folder)
        latents = generator if isinstance(generator, LatentSpace) else None
        anchors = list(generator.seeds) if self._remembers_seeds else [_start(settings, generator)]
        injector = Injector(
            self._memory,
            settings.policy,
            seed=settings.seed,
            towards=settings.towards or None,
            latents=latents,
            colour=settings.colour,
            anchors=anchors,
            live=settings.live,
        )
        self._injector = injector
        spectator = Spectator(encoder, anchors=anchors)
        self._arms = [
            Arm("without", "Without memory", settings.out / "without", spectator),
            Arm("with", "With memory", folder, injector),
        ]

    def _resumes(self, record: Mapping[str, Any] | None) -> None:
        """Whether the parts are those that the run was begun with."""
        if record is None:
            return
        out = self._settings.out
        if record.get("seeds_digest") != self._digest:
            raise InputError(f"the seed pictures are not those that {out} was begun with")
        if record.get("prompts_digest", self._prompts.digest) != self._prompts.digest:
            raise InputError(f"the prompts are not those that {out} was begun with")
        fingerprint = getattr(self._generator, "fingerprint", None)
        if record.get("generator_fingerprint", fingerprint) != fingerprint:
            raise InputError(f"{self._generator.name} is set up otherwise than when {out} was begun")
        begun = record.get("settings", {}).get("encoder")
        if begun != self._encoder.name:
            raise InputError(f"{out} was begun with the encoder {begun}, this one is {self._encoder.name}")

    def go(self, start: Pixels, on_frame: Callable[[ArmDone], None] | None) -> bool:
        """Run to the end or to Ctrl-C; says which. Whatever ends it, the results so far are written."""
        if self._record is None:
            self._write(finished=False)  # first of all: from here on it can be gone on with
        for arm in self._arms:
            arm.save_frame(0, start)
        if self._remembers_seeds:
            self._arms[1].remember_seeds(self._memory, self._generator.seeds)
        if self._record and isinstance(self._generator, Resumable):
            self._generator.restore(read_arrays(self._settings.out / _STATE))
        loops = [self._loop(arm, start) for arm in self._arms]
        finished = False
        try:
            for number in range(1, self._settings.frames + 1):
                for arm, loop in zip(self._arms, loops, strict=True):
                    if loop.frame < number:
                        self._advance(arm, loop, on_frame)
            finished = True
        except KeyboardInterrupt:
            pass
        finally:
            self._write(finished)
        return finished

    def _loop(self, arm: Arm, start: Pixels) -> DreamLoop:
        """The loop of an arm, where it was stopped or at its start."""
        settings = self._settings
        loop = DreamLoop(
            self._generator,
            arm.observer,
            start=start,
            strength=settings.strength,
            prompt=self._prompts,
            seed=settings.seed,
        )
        latent_of = self._generator.latent_of if isinstance(self._generator, KeepsLatents) else None
        source = arm.go_on(self._encoder.dimensions, self._encoder.name, latent_of)
        if source is not None:
            loop.go_on(arm.frames, source)
        return loop

    def _advance(self, arm: Arm, loop: DreamLoop, on_frame: Callable[[ArmDone], None] | None) -> None:
        done = loop.step()
        if isinstance(self._generator, Resumable):  # before the line that makes the frame count
            write_arrays(self._settings.out / _STATE, self._generator.state())
        arm.record(done)
        if on_frame is not None:
            on_frame(
                ArmDone(
                    arm.name,
                    arm.title,
                    done.frame,
                    self._settings.frames,
                    done.observed.measures,
                    done.injection is not None and done.injection.step == 1,
                    done.observed.decision.reason,
                    done.times_ms,
                )
            )

    def results(self) -> list[dict[str, Any]]:
        return [arm.result() for arm in self._arms]

    def _write(self, finished: bool) -> None:
        raw = asdict(self._settings)
        raw.pop("out")
        for name in ("seeds", "live", "prompts", "wildcards"):
            raw[name] = None if raw[name] is None else os.fspath(raw[name])
        settings = {name: value for name, value in raw.items() if name != "command"}
        settings["seeds"] = len(self._generator.seeds)
        settings["seeds_folder"] = raw["seeds"]
        settings["remember_seeds"] = self._remembers_seeds
        settings["encoder"] = self._encoder.name
        choice = getattr(self._encoder, "choice", None)  # of encoders that may run in several ways
        settings["encoder_runs_on"] = None if choice is None else str(choice)
        choice = getattr(self._generator, "choice", None)
        settings["generator_runs_on"] = None if choice is None else str(choice)
        settings["size"] = list(self._generator.size)
        before = self._record or {}
        elapsed = before.get("elapsed_s", 0.0) + time.perf_counter() - self._started
        content = {
            "version": 1,
            "reverie": __version__,
            "created": before.get("created") or datetime.now().isoformat(timespec="seconds"),
            "command": raw["command"],
            "settings": settings,
            "asked": raw,
            "seeds_digest": self._digest,
            "prompts_digest": self._prompts.digest,
            "generator_fingerprint": getattr(self._generator, "fingerprint", None),
            "finished": finished,
            "elapsed_s": round(elapsed, 2),
            "arms": self.results(),
        }
        self._record = {**content, "elapsed_s": before.get("elapsed_s", 0.0)}
        data = orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY)
        replace_file(self._settings.out / "run.json", [data, b"\n"], durable=False)

    def close(self) -> None:
        try:
            self._injector.close()
            self._memory.close()
        finally:
            for arm in self._arms:
                arm.close()


def _memory(settings: DreamSettings, seeds: int, encoder: Encoder, folder: Path) -> tuple[ImageMemory, bool]:
    """The memory that suits the policy, as it was when the run was stopped; whether seeds belong into it."""
    suits = memory_settings(settings.policy)
    remembers = suits.remember_seeds if settings.remember_seeds is None else settings.remember_seeds
    lines = read_journal(folder / "journal.jsonl") if (folder / "journal.jsonl").exists() else []
    memory = ImageMemory(
        folder / "cache",
        places(seeds if remembers else 0),
        encoder=encoder,
        seed=settings.seed,
        admission=None if suits.admission is None else MaximumSimilarity(suits.admission),
        eviction=suits.eviction,
        eviction_options=lines[-1]["state"]["eviction"] if lines else None,
    )
    return memory, remembers


def _digest(seeds: Sequence[Pixels]) -> str:
    """Of the pixels of the seed pictures, in order."""
    digest = hashlib.blake2b(digest_size=16)
    for pixels in seeds:
        digest.update(repr(pixels.shape).encode() + np.ascontiguousarray(pixels).tobytes())
    return digest.hexdigest()
