"""The main job: one loop without memory beside the same loop with it, written to a run folder.

Both arms have the same start image and the same noise at every frame, and go on in turn, so that
a run that is stopped early leaves two arms that can be compared.

A run folder holds ``run.json`` (settings and results), and for each arm a folder with
``frames/000000.png`` (the start) and on, ``journal.jsonl`` (a line a frame: what, why, how long)
and, with memory, the cache itself.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from PIL import Image
from threadpoolctl import threadpool_limits

from reverie import registry
from reverie._version import __version__
from reverie.cache.aesthetic_matcher import AestheticMatcher
from reverie.diversity import hard_cuts, mean_pairwise, motifs, replay, vendi
from reverie.errors import InputError
from reverie.loop.driver import DreamLoop, FrameDone, Observer
from reverie.loop.injector import Injector, Spectator
from reverie.loop.journal import Journal
from reverie.memory import ImageMemory
from reverie.pixels import Pixels, fit
from reverie.protocols import Encoder, Generator
from reverie.storage import replace_file, storage_error
from reverie.vectors import Embedding

__all__ = ["ArmDone", "DreamResult", "DreamSettings", "dream", "summary"]

_MEMORY_SIZE = 75  # the specification's


@dataclass(frozen=True, slots=True)
class DreamSettings:
    """What `dream` does.

    Attributes:
        out: The run folder; must be empty or not there yet.
        frames: Frames of each arm, at least 1.
        strength: 0 keeps the input of a frame, 1 forgets it.
        seed: Seed of everything random.
        policy: Registered injection policy of the arm with memory.
        seeds: Folder of seed pictures; None takes the built-in ones.
        generator: Registered generator.
        encoder: Registered encoder.
        model_dir: The encoder's model, where it takes one; None for the usual places.
        threads: Processor threads of the encoder, where it takes them; None for its own choice.
        prompt: Prompt of every frame.
        size: Side of the frames in pixels.
        remember_seeds: Put the seed pictures into memory, pinned, before the first frame.
        command: The command line that was typed, for the record.
    """

    out: Path
    frames: int = 300
    strength: float = 0.5
    seed: int = 0
    policy: str = "spec"
    seeds: str | os.PathLike[str] | None = None
    generator: str = "patches"
    encoder: str = "descriptor"
    model_dir: str | None = None
    threads: int | None = None
    prompt: str = ""
    size: int = 128
    remember_seeds: bool = False
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
) -> DreamResult:
    """Run both arms and write the run folder. Ctrl-C ends it cleanly with what there is.

    Args:
        settings: What to do.
        on_frame: Called after every frame of every arm.
        encoder: The encoder that the settings name, when it is there already.

    Raises:
        InputError: Settings out of range, the folder is not empty, or there is nothing to start from.
        ImageError: A seed picture is broken.
        UnknownNameError: No such policy, generator or encoder.
        MissingDependencyError: One of them is not installed.
        ModelError: The encoder's model is not here and cannot be fetched, or is damaged.
        GenerationError: The generator failed; what was made before it is there.
        StorageError: The disk refused.
    """
    _check(settings)
    with threadpool_limits(limits=1, user_api="blas"):  # small products are slower on more threads
        encoder = encoder or _encoder(settings)
        generator: Generator = registry.create(
            "generators", settings.generator, settings.seeds, size=settings.size
        )
        start = _start(settings, generator)
        run = _Run(settings, generator, encoder, start, on_frame)
        try:
            finished = run.go()
        finally:
            run.close()
    return DreamResult(settings.out, finished, run.results())


def _encoder(settings: DreamSettings) -> Encoder:
    """The encoder, its model loaded: when that cannot be had, nothing is started."""
    options: dict[str, Any] = {"model_dir": settings.model_dir, "threads": settings.threads}
    given = {name: value for name, value in options.items() if value is not None}
    matcher = AestheticMatcher(settings.encoder, **given)
    matcher.load()
    return matcher.encoder


def _check(settings: DreamSettings) -> None:
    if settings.frames < 1:
        raise InputError(f"frames must be at least 1, got {settings.frames}")
    if not 0.0 <= settings.strength <= 1.0:
        raise InputError(f"strength must be in [0, 1], got {settings.strength}")
    if settings.seed < 0:
        raise InputError(f"seed must be 0 or more, got {settings.seed}")
    registry.load("policies", settings.policy)
    try:
        taken = settings.out.exists() and (not settings.out.is_dir() or any(settings.out.iterdir()))
    except OSError as exc:
        raise storage_error(f"look into the run folder {settings.out}", exc) from exc
    if taken:
        raise InputError(f"{settings.out} is not empty: choose another folder, nothing in it was changed")


def _start(settings: DreamSettings, generator: Generator) -> Pixels:
    seeds = generator.seeds
    if len(seeds) == 0:
        raise InputError(
            f"the generator {settings.generator!r} has no images to start from: "
            "name a folder of pictures with seeds"
        )
    return fit(seeds[settings.seed % len(seeds)], *generator.size)


def summary(embeddings: list[Embedding]) -> dict[str, float]:
    """The figures of a whole run, from the unit vectors of its frames in order.

    Returns:
        ``effective_images`` and ``effective_images_last_100`` (Vendi), ``pairwise`` (mean cosine of
        the last 60 frames), ``motifs``, ``stuck`` (share of frames whose last 20 have a mean cosine
        above .85), ``hard_cuts`` (steps above .3), ``replay`` (share of frames that repeat one at
        least 30 before). Empty for no frames.
    """
    if not embeddings:
        return {}
    rows = np.stack([np.asarray(embedding) for embedding in embeddings])
    windows = [mean_pairwise(rows[end - 20 : end]) for end in range(20, len(rows) + 1)]
    figures = {
        "effective_images": vendi(rows),
        "effective_images_last_100": vendi(rows[-100:]),
        "pairwise": mean_pairwise(rows[-60:]),
        "motifs": float(motifs(rows)),
        "stuck": sum(value > 0.85 for value in windows) / max(1, len(windows)),
        "hard_cuts": float(hard_cuts(rows)),
        "replay": replay(rows),
    }
    return {name: round(value, 4) for name, value in figures.items()}


def _frame_name(number: int) -> str:
    return f"frames/{number:06d}.png"


class _Arm:
    """One loop with its folder, journal and results."""

    def __init__(self, name: str, title: str, folder: Path, observer: Observer) -> None:
        self.name = name
        self.title = title
        self.observer = observer
        self._folder = folder
        self._frames = folder / "frames"
        self._sources: dict[str, str] = {}  # id in memory -> its picture in the arm's folder
        self._embeddings: list[Embedding] = []
        self._injections = 0
        try:
            self._frames.mkdir(parents=True)
        except OSError as exc:
            raise storage_error(f"make {self._frames}", exc) from exc
        self.journal = Journal(folder / "journal.jsonl")

    def save_frame(self, number: int, pixels: Pixels) -> str:
        return self._save(_frame_name(number), pixels)

    def remember_seeds(self, memory: ImageMemory, seeds: Sequence[Pixels]) -> None:
        """Pin the seed pictures in memory, and keep them beside the frames."""
        try:
            (self._folder / "seeds").mkdir()
        except OSError as exc:
            raise storage_error(f"make {self._folder / 'seeds'}", exc) from exc
        for number, pixels in enumerate(seeds):
            kept = memory.remember(pixels, generation_params={"seed_picture": number}, pinned=True)
            self._sources[kept.cache_id] = self._save(f"seeds/{number:03d}.png", pixels)

    def _save(self, name: str, pixels: Pixels) -> str:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, format="PNG", compress_level=1)
        replace_file(self._folder / name, [buffer.getvalue()], durable=False)
        return name

    def record(self, done: FrameDone, settings: DreamSettings) -> None:
        """Write the frame and its line, then count it: a run cut off in between counts whole frames only."""
        observed = done.observed
        self.journal.write(
            {
                "frame": done.frame,
                "seed": done.seed,
                "image": self.save_frame(done.frame, done.pixels),
                "prompt": settings.prompt,
                "strength": settings.strength,
                "cache_id": observed.cache_id,
                "parents": list(observed.parents),
                "policy": self.observer.policy_name,
                "reason": observed.decision.reason,
                "numbers": dict(observed.decision.numbers),
                "injected": self._injected(done),
                "measures": observed.measures,
                "times_ms": done.times_ms,
            }
        )
        self._embeddings.append(observed.embedding)
        self._injections += done.injection is not None
        if observed.cache_id is not None:
            self._sources[observed.cache_id] = _frame_name(done.frame)

    def _injected(self, done: FrameDone) -> dict[str, Any] | None:
        if done.injection is None:
            return None
        cache_id = done.injection.entry.cache_id
        own = _frame_name(done.frame) if cache_id == done.observed.cache_id else None
        return {
            "cache_id": cache_id,
            "similarity": round(done.injection.similarity, 6),
            "source": own or self._sources.get(cache_id),
        }

    def result(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "title": self.title,
            "policy": self.observer.policy_name,
            "folder": self.name,
            "frames": len(self._embeddings),
            "injections": self._injections,
            "summary": summary(self._embeddings),
        }


class _Run:
    """Two arms in turn."""

    def __init__(
        self,
        settings: DreamSettings,
        generator: Generator,
        encoder: Encoder,
        start: Pixels,
        on_frame: Callable[[ArmDone], None] | None,
    ) -> None:
        self._settings = settings
        self._generator = generator
        self._encoder = encoder
        self._start = start
        self._on_frame = on_frame
        self._created = datetime.now().isoformat(timespec="seconds")
        self._started = time.perf_counter()
        room = max(_MEMORY_SIZE, 2 * len(generator.seeds)) if settings.remember_seeds else _MEMORY_SIZE
        self._memory = ImageMemory(settings.out / "with" / "cache", room, encoder=encoder, seed=settings.seed)
        self._arms = [
            _Arm("without", "Without memory", settings.out / "without", Spectator(encoder)),
            _Arm(
                "with",
                "With memory",
                settings.out / "with",
                Injector(self._memory, settings.policy, seed=settings.seed),
            ),
        ]

    def go(self) -> bool:
        """Run to the end or to Ctrl-C; says which. Whatever ends it, the results so far are written."""
        settings = self._settings
        loops = [
            DreamLoop(
                self._generator,
                arm.observer,
                start=self._start,
                strength=settings.strength,
                prompt=settings.prompt,
                seed=settings.seed,
            )
            for arm in self._arms
        ]
        for arm in self._arms:
            arm.save_frame(0, self._start)
        if settings.remember_seeds:
            self._arms[1].remember_seeds(self._memory, self._generator.seeds)
        self._write(finished=False)
        finished = False
        try:
            for _ in range(settings.frames):
                for arm, loop in zip(self._arms, loops, strict=True):
                    self._advance(arm, loop)
            finished = True
        except KeyboardInterrupt:
            pass
        finally:
            self._write(finished)
        return finished

    def _advance(self, arm: _Arm, loop: DreamLoop) -> None:
        done = loop.step()
        arm.record(done, self._settings)
        if self._on_frame is not None:
            self._on_frame(
                ArmDone(
                    arm.name,
                    arm.title,
                    done.frame,
                    self._settings.frames,
                    done.observed.measures,
                    done.injection is not None,
                    done.observed.decision.reason,
                    done.times_ms,
                )
            )

    def results(self) -> list[dict[str, Any]]:
        return [arm.result() for arm in self._arms]

    def _write(self, finished: bool) -> None:
        settings = asdict(self._settings)
        command = settings.pop("command")
        settings.pop("out")
        settings["seeds"] = len(self._generator.seeds)
        settings["seeds_folder"] = None if self._settings.seeds is None else os.fspath(self._settings.seeds)
        settings["encoder"] = self._encoder.name
        choice = getattr(self._encoder, "choice", None)  # of encoders that may run in several ways
        settings["encoder_runs_on"] = None if choice is None else str(choice)
        settings["size"] = list(self._generator.size)
        content = {
            "version": 1,
            "reverie": __version__,
            "created": self._created,
            "command": command,
            "settings": settings,
            "finished": finished,
            "elapsed_s": round(time.perf_counter() - self._started, 2),
            "arms": self.results(),
        }
        data = orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY)
        replace_file(self._settings.out / "run.json", [data, b"\n"], durable=False)

    def close(self) -> None:
        try:
            self._memory.close()
        finally:
            for arm in self._arms:
                arm.journal.close()
