"""Make an int8 network on the user's own pictures, and measure what it costs before it is used.

int8 is two to three times as fast as the next precision on processors that have it, and moves similarities.
How far, and whether that matters, depends on the weights and the pictures, so part of the pictures is held
out and encoded both ways; the report says how far similarities moved and how many pairs changed sides of the
specification's threshold .7.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from reverie.encoders.clip_engines import Job, default_threads, start
from reverie.encoders.clip_pixels import preprocess
from reverie.encoders.int8_store import ENDINGS, int8_folder, weights_key
from reverie.errors import InputError, MissingDependencyError, ModelError, StorageError
from reverie.models.cards import ModelCard, card_of
from reverie.models.store import model_files
from reverie.pixels import Pixels, to_pixels
from reverie.storage import partial_name, sync_folder
from reverie.vectors import Vectors, normalise

__all__ = ["LEAST_COSINE", "Figures", "Int8Report", "compare", "quantise"]

LEAST_COSINE = 0.99
"""Mean cosine of int8 to fp32 vectors below which a network is refused."""

_FEWEST = 8  # pictures: fewer give no ranges and nothing to check
_MOST_CALIBRATION = 128
_THRESHOLD = 0.7  # the specification's
_TOP = 5
_MAKERS = {
    "openvino": ("reverie.encoders.openvino_int8", 'pip install "reverie[clip]" openvino'),
    "onnxruntime": ("reverie.encoders.onnx_engine", 'pip install "reverie[clip-int8]"'),
}


class Figures(TypedDict):
    """What `compare` measures, by the names in `Int8Report`."""

    cosine_mean: float
    cosine_min: float
    pair_error_mean: float
    pair_error_max: float
    top5_overlap: float
    crossing: int
    pairs: int


@dataclass(frozen=True, slots=True)
class Int8Report:
    """How int8 vectors differ from fp32 vectors of the same pictures.

    Attributes:
        model: Name of the card.
        engine: The engine it is for.
        calibrated_on: Pictures that the ranges were measured on.
        checked_on: Other pictures that the figures below are of.
        cosine_mean: Mean cosine of a picture's int8 vector to its fp32 vector.
        cosine_min: The smallest.
        pair_error_mean: Mean absolute change of the cosine of two pictures.
        pair_error_max: The largest.
        top5_overlap: Share of each picture's five nearest that stay, mean.
        crossing: Pairs that changed sides of the threshold .7.
        pairs: Pairs looked at.
        path: The network; None when it was refused.
    """

    model: str
    engine: str
    calibrated_on: int
    checked_on: int
    cosine_mean: float
    cosine_min: float
    pair_error_mean: float
    pair_error_max: float
    top5_overlap: float
    crossing: int
    pairs: int
    path: Path | None = None

    def __str__(self) -> str:
        return (
            f"{self.model} in int8 for {self.engine}, against fp32 on {self.checked_on} pictures that it was "
            f"not calibrated on: cosine {self.cosine_mean:.4f} on average, {self.cosine_min:.4f} at least; "
            f"similarities of pairs moved by {self.pair_error_mean:.4f} on average, "
            f"{self.pair_error_max:.4f} at most; {self.crossing} of {self.pairs} pairs crossed {_THRESHOLD}; "
            f"{self.top5_overlap:.0%} of the five nearest stayed"
        )


def quantise(
    model: str,
    frames: Sequence[Pixels],
    *,
    engine: str = "openvino",
    model_dir: str | os.PathLike[str] | None = None,
    accept: bool = False,
) -> Int8Report:
    """Make the int8 network of a model's vision tower, check it, and keep it for ``"clip:int8"``.

    Every fourth picture is held out for the check, the others (128 at most) calibrate. A network made before
    for the same weights is replaced.

    Args:
        model: Name of a model card.
        frames: At least 8 pictures like those that will be encoded, each ``(h, w, 3)`` uint8 RGB; 100 or
            more are better.
        engine: ``"openvino"`` (scales of channels from the pictures) or ``"onnxruntime"`` (the pictures only
            check it).
        model_dir: As for the encoder.
        accept: Keep it even when it is worse than `LEAST_COSINE`.

    Raises:
        UnknownNameError: No such model.
        InputError: Another engine, or too few pictures.
        ImageError: A frame is not a picture.
        MissingDependencyError: What quantises is not installed.
        ModelError: The mean cosine is below `LEAST_COSINE`; the message holds the figures, nothing was kept.
        StorageError: The disk refused.

        And what `reverie.models.store.model_files` raises.
    """
    card = card_of(model)
    if engine not in _MAKERS:
        raise InputError(f"int8 is made for {' or '.join(_MAKERS)}, not for {engine!r}")
    if len(frames) < _FEWEST:
        raise InputError(f"at least {_FEWEST} pictures are needed to measure int8, got {len(frames)}")
    pictures = [to_pixels(frame) for frame in frames]
    held, seen = pictures[::4], [each for at, each in enumerate(pictures) if at % 4][:_MOST_CALIBRATION]
    files = model_files(card, "onnx", model_dir=model_dir)
    network = files.paths[card.onnx.vision[0]]
    folder = int8_folder(card, engine, weights_key(card, files.weights))
    work = folder.with_name(partial_name())
    try:
        work.mkdir(parents=True)
        made = work / f"network{ENDINGS[engine]}"
        _make(card, engine, network, seen, made)
        reference = _encoded(card, engine, network, held, "fp32")
        found = _encoded(card, engine, made, held, "int8")
        report = Int8Report(model, engine, len(seen), len(held), **compare(reference, found))
        if report.cosine_mean < LEAST_COSINE and not accept:
            raise ModelError(f"{report}. That is too far from fp32 to be used: calibrate on more pictures")
        return _published(report, work, folder, made.name)
    except OSError as exc:
        raise StorageError(f"cannot keep the int8 network in {folder}: {exc.strerror or exc}") from exc
    finally:
        shutil.rmtree(work, ignore_errors=True)


def compare(reference: Vectors, found: Vectors) -> Figures:
    """The figures of an `Int8Report` from two encodings of the same pictures.

    Args:
        reference: ``(n, d)`` unit rows, n at least 2.
        found: ``(n, d)`` unit rows of the same pictures.
    """
    own = np.vecdot(reference, found)
    upper = np.triu_indices(len(reference), 1)
    was, now = (_pairs(rows) for rows in (reference, found))
    error = np.abs(was - now)[upper]
    crossed = ((was >= _THRESHOLD) != (now >= _THRESHOLD))[upper]
    return {
        "cosine_mean": float(own.mean()),
        "cosine_min": float(own.min()),
        "pair_error_mean": float(error.mean()),
        "pair_error_max": float(error.max()),
        "top5_overlap": _overlap(was, now, min(_TOP, len(reference) - 1)),
        "crossing": int(crossed.sum()),
        "pairs": len(error),
    }


def _pairs(rows: Vectors) -> NDArray[np.float32]:
    cosines: NDArray[np.float32] = np.vecdot(rows[:, None], rows[None])
    np.fill_diagonal(cosines, -2.0)  # no picture is its own neighbour
    return cosines


def _overlap(was: NDArray[np.float32], now: NDArray[np.float32], count: int) -> float:
    """Mean share of each row's ``count`` nearest that are among them in both."""
    nearest = [np.argsort(-cosines, axis=1, kind="stable")[:, :count] for cosines in (was, now)]
    return float(np.mean([len({*a} & {*b}) / count for a, b in zip(*nearest, strict=True)]))


def _make(card: ModelCard, engine: str, network: Path, seen: Sequence[Pixels], target: Path) -> None:
    maker = _maker(engine)
    if engine == "onnxruntime":
        try:
            maker.quantise_network(network, target)
        except ImportError as exc:
            raise MissingDependencyError(f"int8 for {engine} needs more: {_MAKERS[engine][1]}") from exc
        return
    inputs = [preprocess([frame], card.preprocessing) for frame in seen]
    maker.quantise_network(network, card.vision_output, inputs, target)


def _maker(engine: str) -> ModuleType:
    module, install = _MAKERS[engine]
    try:
        return import_module(module)
    except ImportError as exc:
        raise MissingDependencyError(f"int8 for {engine} needs more: {install}") from exc


def _encoded(
    card: ModelCard, engine: str, network: Path, frames: Sequence[Pixels], precision: str
) -> Vectors:
    job = Job(card, "vision", {card.onnx.vision[0]: network}, precision, default_threads())
    loaded = start(engine, job)
    rows = [loaded.run(preprocess([frame], card.preprocessing)) for frame in frames]
    return normalise(np.concatenate(rows))


def _published(report: Int8Report, work: Path, folder: Path, name: str) -> Int8Report:
    """Move the finished network to its place; the one that was there is gone only then."""
    kept = replace(report, path=folder / name)
    text = json.dumps(asdict(kept), default=str, indent=2)
    (work / "report.json").write_text(text + "\n", encoding="utf-8")
    old = folder.with_name(partial_name())
    if folder.exists():
        folder.rename(old)
    work.rename(folder)
    sync_folder(folder.parent)
    shutil.rmtree(old, ignore_errors=True)
    return kept
