"""The main job: one loop without memory beside the same loop with it, written to a run folder.

Both arms have the same start image and the same noise at every frame, and go on in turn, so that
a run that is stopped early leaves two arms that can be compared.

A run folder holds ``run.json`` (settings and results), and for each arm a folder with
``frames/000000.png`` (the start) and on, ``journal.jsonl`` (a line a frame: what, why, how long)
and, with memory, the cache itself.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
from threadpoolctl import threadpool_limits

from reverie._version import __version__
from reverie.errors import InputError, LockTimeoutError
from reverie.locks import file_lock, held
from reverie.loop.arm import Arm
from reverie.loop.dream_parts import digest_of, encoder_of, generator_of, memory_of, start_of
from reverie.loop.dream_settings import DreamSettings, asked, check_parts, check_settings, prompts_of
from reverie.loop.driver import DreamLoop
from reverie.loop.injector import Injector
from reverie.loop.recording import read_arrays, read_record, write_arrays
from reverie.loop.spectator import Spectator
from reverie.pixels import Pixels
from reverie.protocols import (
    Chosen,
    Closable,
    Encoder,
    Fingerprinted,
    Generator,
    KeepsLatents,
    LatentSpace,
    Resumable,
)
from reverie.storage import replace_file, storage_error

_STATE = "generator.npz"  # what a generator keeps from frame to frame

__all__ = ["ArmDone", "DreamResult", "DreamSettings", "asked", "check_settings", "dream", "resume"]


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
    check_parts(settings)
    return _dream(settings, on_frame, encoder, record, on_ready)


def _dream(
    settings: DreamSettings,
    on_frame: Callable[[ArmDone], None] | None,
    encoder: Encoder | None,
    record: Mapping[str, Any] | None,
    on_ready: Callable[[Generator], None] | None,
) -> DreamResult:
    with threadpool_limits(limits=1, user_api="blas"):  # small products are slower on more threads
        encoder = encoder or encoder_of(settings)
        with ExitStack() as stack:
            generator = generator_of(settings)
            if isinstance(generator, Closable):
                stack.callback(generator.close)
            if on_ready is not None:
                on_ready(generator)
            start = start_of(settings, generator)
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
        self._digest = digest_of(generator.seeds)
        self._prompts = prompts_of(settings)
        self._resumes(record)
        folder = settings.out / "with"
        self._memory, self._remembers_seeds = memory_of(settings, len(generator.seeds), encoder, folder)
        latents = generator if isinstance(generator, LatentSpace) else None
        anchors = list(generator.seeds) if self._remembers_seeds else [start_of(settings, generator)]
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
        fingerprint = _fingerprint(self._generator)
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
        settings["encoder_runs_on"] = _choice(self._encoder)
        settings["generator_runs_on"] = _choice(self._generator)
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
            "generator_fingerprint": _fingerprint(self._generator),
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


def _choice(part: Encoder | Generator) -> str | None:
    """What a part that may run in several ways runs on."""
    return str(part.choice) if isinstance(part, Chosen) else None


def _fingerprint(generator: Generator) -> str | None:
    return generator.fingerprint if isinstance(generator, Fingerprinted) else None
