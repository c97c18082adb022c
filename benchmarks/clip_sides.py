"""The sides of ``bench_clip.py``: each is one process that encodes pictures when it is told to.

Run as ``python clip_sides.py NAME FOLDER THREADS``; it then reads one JSON line a command from standard
input and answers each with one JSON line. A process a side: no thread pool of one side disturbs another,
and resident memory and the start belong to one side only.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

__all__ = ["MODEL", "ONES", "PICTURES", "SIDES"]

MODEL, PICTURES = "model", "pictures"
"""Folders that the benchmark fills: the network in the Hub's layouts, and PNGs of 512 x 512."""

Frame = np.ndarray[Any, np.dtype[np.uint8]]
Vectors = np.ndarray[Any, np.dtype[np.float32]]


class Side(Protocol):
    """One way of encoding."""

    def file(self, path: Path) -> Vectors:
        """One picture from its file: ``(1, d)``."""

    def frames(self, frames: Sequence[Frame]) -> Vectors:
        """Pictures that are in memory: ``(n, d)``."""


class Transformers:
    """The specification's way: CLIPModel and its processor, float32."""

    def __init__(self, folder: Path, threads: int) -> None:
        import torch
        import transformers
        from transformers import CLIPModel

        # transformers 5 names the one without torchvision; 4 has only that.
        processor = getattr(transformers, "CLIPImageProcessorPil", None) or transformers.CLIPImageProcessor

        torch.set_num_threads(threads)
        self._torch = torch
        self._model = CLIPModel.from_pretrained(folder / MODEL).eval()
        self._processor = processor.from_pretrained(folder / MODEL)

    def file(self, path: Path) -> Vectors:
        """As the specification's project: open, convert, process, encode."""
        return self._encode([Image.open(path).convert("RGB")])

    def frames(self, frames: Sequence[Frame]) -> Vectors:
        """The processor takes arrays."""
        return self._encode(list(frames))

    def _encode(self, images: list[Any]) -> Vectors:
        with self._torch.no_grad():
            found = self._model.get_image_features(**self._processor(images=images, return_tensors="pt"))
        return np.asarray(getattr(found, "pooler_output", found), dtype=np.float32)


class Fastembed:
    """fastembed's own class on the same network."""

    def __init__(self, folder: Path, threads: int) -> None:
        from fastembed.image.onnx_embedding import OnnxImageEmbedding

        self._model = OnnxImageEmbedding(
            "Qdrant/clip-ViT-B-32-vision", threads=threads, specific_model_path=str(folder / MODEL)
        )

    def file(self, path: Path) -> Vectors:
        """It opens the file itself."""
        return np.stack(list(self._model.embed([path])))

    def frames(self, frames: Sequence[Frame]) -> Vectors:
        """It takes PIL images."""
        images = [Image.fromarray(frame) for frame in frames]
        return np.stack(list(self._model.embed(images, batch_size=len(images))))


class Reverie:
    """Ours, with one engine and precision."""

    def __init__(self, folder: Path, threads: int, variant: str) -> None:
        from reverie import AestheticMatcher

        self._matcher = AestheticMatcher(f"clip:{variant}", model_dir=folder / MODEL, threads=threads)

    def file(self, path: Path) -> Vectors:
        """The specification's call."""
        return np.asarray(self._matcher.encode_image(path))[None]

    def frames(self, frames: Sequence[Frame]) -> Vectors:
        """The same for frames in memory."""
        return np.asarray(self._matcher.encode_images(frames))


SIDES: dict[str, Callable[[Path, int], Side]] = {
    "transformers": Transformers,
    "fastembed": Fastembed,
    "onnxruntime fp32": lambda folder, threads: Reverie(folder, threads, "onnxruntime-fp32"),
    "openvino fp32": lambda folder, threads: Reverie(folder, threads, "openvino-fp32"),
    "openvino bf16": lambda folder, threads: Reverie(folder, threads, "openvino-bf16"),
    "openvino int8": lambda folder, threads: Reverie(folder, threads, "openvino-int8"),
}
"""Every side by name; all but the first two are ours."""

ONES = ("file", "frame", "batch of 8", "batch of 32")
"""What a side can be asked to time, one call at a time."""


def resident() -> int:
    """Bytes of memory this process holds, the highest so far; 0 where the system does not tell."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def timed(call: Callable[[], object], count: int) -> list[int]:
    """Nanoseconds of each of ``count`` calls."""
    spent = []
    for _ in range(count):
        start = time.perf_counter_ns()
        call()
        spent.append(time.perf_counter_ns() - start)
    return spent


def answer(command: dict[str, Any], side: Side, paths: list[Path], frames: list[Frame]) -> Any:
    """What one command asks for."""
    match command["do"]:
        case "time":
            batch = frames[: command["batch"]]
            calls: dict[str, Callable[[], object]] = {
                "file": lambda: side.file(paths[0]),
                "frames": lambda: side.frames(batch),
            }
            return timed(calls[command["what"]], command["count"])
        case "encode":
            return np.concatenate([side.file(path) for path in paths]).tolist()
        case "resident":
            return resident()
    raise ValueError(f"unknown command {command}")


def main() -> None:
    """Load, encode one file, say so, then answer commands until standard input ends."""
    name, folder, threads = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    out = os.fdopen(os.dup(1), "w")  # libraries may print on standard output: that goes to standard error
    os.dup2(2, 1)
    paths = sorted((folder / PICTURES).glob("*.png"))
    side = SIDES[name](folder, threads)
    side.file(paths[0])
    print(json.dumps("ready"), file=out, flush=True)
    frames = [np.asarray(Image.open(path)) for path in paths]
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line), side, paths, frames)), file=out, flush=True)


if __name__ == "__main__":
    main()
