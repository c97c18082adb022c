"""CLIP and its relatives: pictures and texts as unit vectors of one space, by a trained network.

Nothing is loaded, looked for or downloaded before the first picture or text. The network for texts and
its files come with the first text only. Which engine runs it is decided by `reverie.encoders.clip_engines`;
fp32 and bf16 vectors of all engines compare with each other (at full size, with random weights, bf16 moves
cosines of pairs by .001 on average and .004 at most), int8 vectors carry another name.

The same frame gives the same bits in every batch with onnxruntime and OpenVINO on the CPU. torch and GPUs
choose their kernels by the size of a batch: there it is the same within 1e-6 (fp32).

One picture or text is encoded at a time, with as many threads as asked for: calls from several threads are
safe and wait for each other.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from reverie.encoders.clip_engines import Choice, Engine, Job, Tower, choose, family_of, parse, start
from reverie.encoders.clip_pixels import preprocess
from reverie.encoders.int8_store import int8_network, weights_key
from reverie.errors import InputError, ModelError
from reverie.models.cards import ModelCard, Preprocessing, TextSettings, card_of
from reverie.models.store import ModelFiles, model_files
from reverie.pixels import Pixels, to_pixels
from reverie.vectors import Vectors, normalise

if TYPE_CHECKING:
    from reverie.encoders.clip_text import ClipTokenizer

__all__ = ["ClipEncoder", "VisionEncoder"]


class VisionEncoder:
    """A network that knows pictures; implements `reverie.protocols.Encoder`.

    Args:
        model: Name of a model card (see `reverie.models.cards`): ``"clip-vit-b32"``, ``"dinov2-base"``, ...
        variant: Engine, precision or both (``"openvino"``, ``"bf16"``, ``"openvino-bf16"``); empty for
            the automatic choice.
        model_dir: A folder with the model's files (or its vision network alone); then no network and no
            cache is used.
        threads: Threads on the CPU; None for REVERIE_THREADS or the number of cores, 8 at most.

    Raises:
        UnknownNameError: No model of that name.
        InputError: No such variant, or ``threads`` is not positive.
    """

    def __init__(
        self,
        model: str = "clip-vit-b32",
        variant: str = "",
        *,
        model_dir: str | os.PathLike[str] | None = None,
        threads: int | None = None,
    ) -> None:
        self._card = card_of(model)
        self._precision = parse(variant)[1]
        if threads is not None and (isinstance(threads, bool) or threads < 1):
            raise InputError(f"threads must be a whole number from 1 up, got {threads!r}")
        self._variant, self._threads = variant, threads
        self._model_dir = None if model_dir is None else Path(model_dir)
        self._vision = _Tower(lambda: start(self._chosen.engine, self._job("vision")))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._card.name!r}, {self._variant!r})"

    @property
    def card(self) -> ModelCard:
        """What the model is: licence, sources, inputs."""
        return self._card

    @property
    def name(self) -> str:
        """The card's name; ``-int8`` follows for int8, ``+`` and 8 digits for weights of the user's own.

        Raises:
            ModelNotFoundError: ``model_dir`` lacks the network.
        """
        own = "" if self._model_dir is None else self._vision_files.weights
        int8 = "-int8" if self._precision == "int8" else ""
        return f"{self._card.name}{int8}{'+' if own else ''}{own}"

    @property
    def dimensions(self) -> int:
        """Length of a vector, from the card: 512 for CLIP ViT-B/32, 768 for the others."""
        return self._card.dimensions

    @property
    def choice(self) -> Choice:
        """Engine, precision, device, threads and the reason; imports the engine's library, loads no model.

        Once the network for pictures is loaded, ``device`` is where it runs: a GPU that was offered and
        cannot be used is left out, and the reason says so.

        Raises:
            MissingDependencyError: The engine that was named, or every engine, is not installed.
        """
        chosen, device = self._chosen, self._vision.device()
        if device in ("", chosen.device):
            return chosen
        reason = f"{chosen.reason}; {chosen.device} could not be used, it runs on {device}"
        return replace(chosen, device=device, reason=reason)

    @cached_property
    def _chosen(self) -> Choice:
        return choose(self._variant, self._threads)

    @property
    def threads(self) -> int:
        """Threads on the CPU, those that decode files ahead included."""
        return self._chosen.threads

    @property
    def preprocessing(self) -> Preprocessing:
        """How a frame becomes the network's input."""
        return self._card.preprocessing

    def encode_batch(self, frames: Sequence[Pixels]) -> Vectors:
        """Encode n frames of any size, each ``(h, w, 3)`` uint8 RGB, in order.

        Returns:
            ``(n, d)`` float32, rows of unit length; ``(0, d)`` for no frames.

        Raises:
            ImageError: A frame is not such an array.
            MissingDependencyError: No engine is installed.
            ModelNotFoundError: The weights are not here and cannot be fetched; for int8 also when nothing was
                quantised yet.
            ModelError: The weights are damaged, or the engine cannot run them.
        """
        checked = [to_pixels(frame) for frame in frames]
        settings = self._card.preprocessing
        return self._encoded(self._vision, checked, lambda some: preprocess(some, settings, self.threads))

    def load(self) -> None:
        """Load the network for pictures now, downloaded if need be. Raises what `encode_batch` raises."""
        self._vision.load()

    def unload(self) -> None:
        """Free the networks; the next picture or text loads them again."""
        self._vision.unload()
        _give_back()

    def memory(self) -> int:
        """Bytes that the loaded networks hold: on a GPU as torch counts them, else the size of their files.

        0 before the first picture or text, and after `unload`.
        """
        return self._vision.memory()

    def _encoded(
        self, tower: _Tower, items: Sequence[Any], prepare: Callable[[Any], NDArray[Any]]
    ) -> Vectors:
        """Rows of all items, a few at a time: memory does not grow with their number."""
        rows = np.empty((len(items), self.dimensions), dtype=np.float32)
        at = 0
        while at < len(items):
            some = items[at : at + tower.batch()]
            found = tower.run(prepare(some))
            if found.shape != (len(some), self.dimensions):
                raise ModelError(
                    f"the network gave {found.shape} for {len(some)} inputs, expected rows of "
                    f"{self.dimensions}: it is not {self._card.title}"
                )
            rows[at : at + len(some)] = normalise(found, what=f"vectors of {self._card.name}")
            at += len(some)
        return rows

    def _job(self, tower: Tower) -> Job:
        choice = self._chosen
        if tower == "text":
            # Texts are short and rare: int8 would save little and cost accuracy.
            precision = "fp32" if choice.precision == "int8" else choice.precision
            return Job(self._card, tower, self._text_files.paths, precision, choice.threads)
        if choice.precision != "int8":
            return Job(self._card, tower, self._vision_files.paths, choice.precision, choice.threads)
        network = int8_network(self._card, choice.engine, self._int8_key())
        return Job(self._card, tower, {self._card.onnx.vision[0]: network}, "int8", choice.threads)

    def _int8_key(self) -> str:
        own = "" if self._model_dir is None else self._vision_files.weights
        return weights_key(self._card, own)

    @cached_property
    def _vision_files(self) -> ModelFiles:
        family = "onnx" if self._precision == "int8" else family_of(self._chosen.engine)
        return model_files(self._card, family, model_dir=self._model_dir)

    @cached_property
    def _text_files(self) -> ModelFiles:
        family = family_of(self._chosen.engine)
        return model_files(self._card, family, text=True, vision=False, model_dir=self._model_dir)


class ClipEncoder(VisionEncoder):
    """A network that knows pictures and texts; implements `reverie.protocols.TextEncoder`.

    Arguments as `VisionEncoder`. Raises also InputError for a model that knows no texts.
    """

    def __init__(
        self,
        model: str = "clip-vit-b32",
        variant: str = "",
        *,
        model_dir: str | os.PathLike[str] | None = None,
        threads: int | None = None,
    ) -> None:
        super().__init__(model, variant, model_dir=model_dir, threads=threads)
        if self._card.text is None:
            raise InputError(f"{model!r} knows no texts: make it with VisionEncoder({model!r})")
        self._settings = self._card.text
        self._text = _Tower(lambda: start(self._chosen.engine, self._job("text")))

    @property
    def text_settings(self) -> TextSettings:
        """How a text becomes the network's input, and a cosine a probability."""
        return self._settings

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        """Encode n texts, in the space of `encode_batch`.

        Returns:
            ``(n, d)`` float32 unit rows; ``(0, d)`` for no texts. A text that is too long for the model is
            cut, with a TextTruncatedWarning.

        Raises:
            InputError: Something in it is not text.

            And what `encode_batch` raises of engines and weights.
        """
        if len(texts) == 0:
            return np.empty((0, self.dimensions), dtype=np.float32)
        tokens = self._tokenizer.encode(texts)
        return self._encoded(self._text, list(tokens), np.stack)

    def unload(self) -> None:
        """Free both networks; the next picture or text loads what it needs again."""
        self._text.unload()
        super().unload()

    def memory(self) -> int:
        """Bytes that the loaded networks hold, see `VisionEncoder.memory`."""
        return super().memory() + self._text.memory()

    @cached_property
    def _tokenizer(self) -> ClipTokenizer:
        from reverie.encoders.clip_text import ClipTokenizer  # noqa: PLC0415 - pictures need no tokenizer

        return ClipTokenizer(self._text_files.paths["tokenizer.json"], self._settings)


class _Tower:
    """A network that is loaded when it is first used, and used by one thread at a time."""

    def __init__(self, load: Callable[[], Engine]) -> None:
        self._load, self._engine = load, None
        self._lock = threading.RLock()
        _TOWERS.add(self)

    _engine: Engine | None

    def batch(self) -> int:
        """How many rows to hand over at once at most."""
        with self._lock:
            return self._loaded().batch

    def run(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """The network's rows."""
        with self._lock:
            return self._loaded().run(values)

    def load(self) -> None:
        """Load the network if it is not."""
        with self._lock:
            self._loaded()

    def memory(self) -> int:
        """Bytes held; 0 when it is not loaded."""
        with self._lock:
            return 0 if self._engine is None else self._engine.memory()

    def device(self) -> str:
        """What the loaded network runs on; empty when it is not loaded. Does not wait for a run or a load."""
        engine = self._engine
        return "" if engine is None else engine.device

    def unload(self) -> None:
        """Forget the network."""
        with self._lock:
            self._engine = None

    def _loaded(self) -> Engine:
        if self._engine is None:
            self._engine = self._load()
            _trim()  # what was needed for loading only: up to the size of the weights
        return self._engine

    def forked(self) -> None:
        """In a child of fork: the engine's threads stayed in the parent, so it is loaded anew."""
        self._lock = threading.RLock()
        if self._engine is not None:
            _LEFT_BEHIND.append(self._engine)  # taking it apart would wait for its threads
            self._engine = None


_TOWERS: weakref.WeakSet[_Tower] = weakref.WeakSet()
_LEFT_BEHIND: list[Engine] = []


def _after_fork() -> None:
    for tower in list(_TOWERS):
        tower.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _give_back() -> None:
    """Hand freed memory to the system, on the GPU and off it."""
    gc.collect()
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    _trim()


def _trim() -> None:
    """Hand freed memory to the system where the C library would keep it (glibc)."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
