"""Runs a study: every trial in a process of its own choosing, every result a file, and on where it stopped.

A study folder holds ``trials/NAME.json`` and ``trials/NAME.png`` for each loop, and ``models/`` for weights
that were trained; `reverie study` adds tables, plots, contact sheets and a page beside them.
"""

from __future__ import annotations

import io
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
from threadpoolctl import threadpool_limits

from reverie import registry
from reverie.errors import InputError
from reverie.protocols import Encoder, Generator
from reverie.storage import replace_file, storage_error
from reverie.study.design import GENERATORS, Design, Trial
from reverie.study.judge import ScatteringEncoder
from reverie.study.trial import run_trial

__all__ = ["Progress", "read_results", "run_study", "strip_path"]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a study is.

    Attributes:
        trial: What was finished last; None for what was there before.
        done: Loops that are there.
        total: Loops in all; one may serve several trials, see `reverie.study.design.Trial.same_loop`.
    """

    trial: Trial | None
    done: int
    total: int


def run_study(
    design: Design,
    folder: Path,
    *,
    processes: int | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> list[dict[str, Any]]:
    """Run all trials that are not there yet; whatever ends it, what is there stays.

    Args:
        design: What to run.
        folder: Made when it is not there; trials of other designs in it are left alone.
        processes: Side by side; None takes the number of processors.
        on_progress: Called at the start and after every trial.

    Returns:
        The results of all trials of the design, in its order.

    Raises:
        InputError: ``processes`` is below 1, or a result that is there cannot be read.
        MissingDependencyError: A generator needs what is not installed.
        StorageError: The disk refused.
    """
    if processes is not None and processes < 1:
        raise InputError(f"processes must be at least 1, got {processes}")
    trials = list(design.trials())
    try:
        (folder / "trials").mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise storage_error(f"make {folder}", exc) from exc
    loops = list(dict.fromkeys(trial.same_loop() for trial in trials))
    left = [trial for trial in loops if not _path(folder, trial).exists()]
    done = len(loops) - len(left)
    told = on_progress or (lambda _: None)
    told(Progress(None, done, len(loops)))
    for number, trial in enumerate(_run_all(left, folder, processes or os.cpu_count() or 1), start=done + 1):
        told(Progress(trial, number, len(loops)))
    return read_results(folder, trials)


def _run_all(trials: Sequence[Trial], folder: Path, processes: int) -> Iterator[Trial]:
    """Each trial as it is finished; no more of them wait than there are processes."""
    if not trials:
        return
    for name in sorted({trial.generator for trial in trials}):
        GENERATORS[name].make(folder / "models")  # what is to be trained is trained once, before all
    spawned = multiprocessing.get_context("spawn")  # a forked BLAS or torch may hang
    waiting, pending = iter(trials), set[Future[Trial]]()
    with ProcessPoolExecutor(min(processes, len(trials)), mp_context=spawned) as pool:
        try:
            while True:
                for trial in islice(waiting, 2 * processes - len(pending)):
                    pending.add(pool.submit(_run_one, trial, folder))
                if not pending:
                    return
                finished, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in finished:
                    yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _run_one(trial: Trial, folder: Path) -> Trial:
    """In a process of its own: run it, and write what came of it."""
    dreamer = GENERATORS[trial.generator]
    with threadpool_limits(limits=1, user_api="blas"):
        encoder, judge = _encoders()
        result, strip = run_trial(trial, dreamer, _generator(trial.generator, folder), encoder, judge)
    buffer = io.BytesIO()
    strip.save(buffer, format="PNG")
    replace_file(strip_path(folder, trial), [buffer.getvalue()], durable=False)
    replace_file(
        _path(folder, trial), [orjson.dumps(result, option=orjson.OPT_INDENT_2), b"\n"], durable=False
    )
    return trial


@cache
def _encoders() -> tuple[Encoder, Encoder]:
    return registry.create("encoders", "descriptor"), ScatteringEncoder()


@cache
def _generator(name: str, folder: Path) -> Generator:
    return GENERATORS[name].make(folder / "models")


def _path(folder: Path, trial: Trial) -> Path:
    return folder / "trials" / f"{trial.name}.json"


def strip_path(folder: Path, trial: Trial) -> Path:
    """Where the strip of this trial's pictures is in the study's folder, when it is there."""
    return _path(folder, trial.same_loop()).with_suffix(".png")


def read_results(folder: Path, trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """The results of these trials, in order; those that are not there are passed over.

    Raises:
        InputError: A file cannot be read as a result.
        StorageError: The disk refused.
    """
    results = []
    for trial in trials:
        path = _path(folder, trial.same_loop())
        try:
            result = orjson.loads(path.read_bytes())
            results.append({"trial": asdict(trial), "figures": dict(result["figures"])})
        except FileNotFoundError:
            continue
        except OSError as exc:
            raise storage_error(f"read {path}", exc) from exc
        except (orjson.JSONDecodeError, TypeError, KeyError) as exc:
            raise InputError(f"{path} is no result of a trial: delete it, and it is run again") from exc
    return results
