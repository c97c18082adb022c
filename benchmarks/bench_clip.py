"""CLIP ViT-B/32, full size with random weights: our engines against transformers and fastembed.

Every side is a process of its own (``clip_sides.py``); the sides take turns, one works while the others
wait. Rows: one picture from a 512 x 512 PNG, one frame in memory, batches of 32, exact float32, the share
of this machine's bf16 peak, the cold start, resident memory; and how far the vectors are from
transformers'. The network is made here (``tests/clip_zoo.py``): nothing is downloaded.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self, TypeAlias

import numpy as np
from PIL import Image

from clip_sides import MODEL, PICTURES, SIDES
from measure import Bar, Row, Timing, arguments, header, scratch, show

HERE = Path(__file__).parent
THREADS = min(2, os.cpu_count() or 1)
PEER = "transformers"
OTHERS = (PEER, "fastembed")
WIDTH, TOKENS, LAYERS = 768, 50, 12
FLOPS = 2 * (
    49 * 3072 * WIDTH  # patches
    + LAYERS * TOKENS * (12 * WIDTH**2 + 2 * TOKENS * WIDTH)  # projections, MLP; attention
    + WIDTH * 512  # into the shared space
)
"""Floating-point operations for one picture."""

PROCESSOR = {
    "image_processor_type": "CLIPImageProcessor",
    "do_resize": True,
    "size": {"shortest_edge": 224},
    "resample": 3,
    "do_center_crop": True,
    "crop_size": {"height": 224, "width": 224},
    "do_rescale": True,
    "do_normalize": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "do_convert_rgb": True,
}
"""What transformers and fastembed read their preprocessing from."""

EXACT, FAST, SMALL = "openvino fp32", "openvino bf16", "openvino int8"
CLOSE = 0.9995
"""Least cosine to the peer's vectors of a side that may be called the best."""

Array: TypeAlias = "np.ndarray[Any, Any]"


class Process:
    """A side that runs."""

    def __init__(self, name: str, folder: Path) -> None:
        start = time.perf_counter()
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(THREADS),
            "HF_HUB_OFFLINE": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "TRANSFORMERS_VERBOSITY": "error",
            "REVERIE_MODELS": str(folder / "own"),
        }
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "clip_sides.py"), name, str(folder), str(THREADS)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip
        self._answer()
        self.seconds = time.perf_counter() - start

    def ask(self, **command: Any) -> Any:
        """Send a command and wait for its answer."""
        assert self._process.stdin is not None
        print(json.dumps(command), file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"a side ended with {self._process.wait()}")
        return json.loads(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def make_model(folder: Path) -> None:
    """The network in both layouts, its int8 form, and pictures, made once."""
    sys.path.insert(0, str(HERE.parent / "tests"))
    os.environ["REVERIE_MODELS"] = str(folder / "own")
    import clip_zoo
    from reverie.encoders.clip_int8 import quantise

    clip_zoo.full_clip(folder / MODEL)
    (folder / MODEL / "model.onnx").symlink_to("onnx/vision_model.onnx")  # where fastembed looks
    (folder / MODEL / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    pictures = folder / PICTURES
    pictures.mkdir()
    for number, pixels in enumerate(frames(40)):
        Image.fromarray(pixels).save(pictures / f"{number:02d}.png")
    quantise("clip-vit-b32", frames(64)[40:], model_dir=folder / MODEL, accept=True)


def frames(count: int) -> list[np.ndarray[Any, np.dtype[np.uint8]]]:
    """Pictures of 512 x 512: parts of the seed pictures, enlarged, with grain as photographs have."""
    from reverie.generators.seed_images import built_in_seeds

    rng = np.random.default_rng(0)
    seeds = [np.asarray(Image.fromarray(seed).resize((768, 768))) for seed in built_in_seeds(256)]
    found = []
    for number in range(count):
        top, left = rng.integers(0, 256, 2)
        part = seeds[number % len(seeds)][top : top + 512, left : left + 512].astype(np.int16)
        found.append((part + rng.integers(-6, 7, part.shape)).clip(0, 255).astype(np.uint8))
    return found


def timings(sides: dict[str, Process], what: str, batch: int, rounds: int, calls: int) -> dict[str, Timing]:
    """Time all sides in turn, every round in another order; seconds a picture."""
    taken: dict[str, list[int]] = {name: [] for name in sides}
    names = list(sides)
    for number in range(rounds + 1):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            spent = sides[name].ask(do="time", what=what, batch=batch, count=calls)
            taken[name] += spent if number else []
    return {name: Timing(np.array(spent) / 1e9 / batch) for name, spent in taken.items()}


def rows_of(what: str, taken: dict[str, Timing], bars: dict[str, Bar]) -> list[Row]:
    """A row for each side but the peer, against the peer."""
    ours = [name for name in taken if name != PEER]
    return [Row(f"{what}, {name}", taken[name], taken[PEER], bars.get(name)) for name in ours]


def best_row(what: str, taken: dict[str, Timing], near: Sequence[str], faster: float) -> Row:
    """The fastest of our sides that is near enough to the peer, once more, with what is asked of the best."""
    name = min(near, key=lambda each: taken[each].median)
    return Row(f"{what}, best at cosine {CLOSE}: {name}", taken[name], taken[PEER], Bar(faster=faster))


def peak(precision: str) -> float:
    """Floating-point operations a second of the fastest large product that torch reaches on these threads."""
    import torch

    torch.set_num_threads(THREADS)
    best = 0.0
    for side in (1024, 2048):
        a, b = (torch.randn(side, side).to(getattr(torch, precision)) for _ in range(2))
        for _ in range(12):
            start = time.perf_counter()
            torch.mm(a, b)
            best = max(best, 2 * side**3 / (time.perf_counter() - start))
    return best


def cold(folder: Path, rounds: int) -> dict[str, Timing]:
    """Seconds from the start of a process to its first vector; the files are in the system's cache."""
    taken: dict[str, list[float]] = {name: [] for name in SIDES}
    for number in range(rounds + 1):
        for name in SIDES:
            with Process(name, folder) as side:
                if number:  # the first start compiles bytecode and fills the engines' own caches
                    taken[name].append(side.seconds)
    return {name: Timing(np.array(spent)) for name, spent in taken.items()}


def least_cosine(vectors: dict[str, Array], name: str) -> float:
    """Of a side's vectors to the peer's."""
    return float((vectors[name] * vectors[PEER]).sum(axis=1).min())


def accuracy(vectors: dict[str, Array]) -> Iterator[str]:
    """How far each side's vectors are from the peer's, on the pictures: a line a side."""
    reference = vectors[PEER]
    pairs = np.triu_indices(len(reference), 1)
    for name, found in vectors.items():
        cosines = (found * reference).sum(axis=1)
        error = np.abs((found @ found.T - reference @ reference.T)[pairs])
        yield (
            f"{name:18} cosine to transformers: min {cosines.min():.6f}, mean {cosines.mean():.6f}; "
            f"pairwise error: mean {error.mean():.5f}, max {error.max():.5f}; "
            f"top-5 overlap {overlap(found, reference):.3f}"
        )


def unit(vectors: Array) -> Array:
    """Rows of unit length."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def overlap(found: Array, reference: Array) -> float:
    """Mean share of the five nearest others that two sets of vectors agree on."""
    shares = []
    for row in range(len(reference)):
        nearest = [set(np.argsort(-np.delete(m @ m[row], row))[:5].tolist()) for m in (found, reference)]
        shares.append(len(nearest[0] & nearest[1]) / 5)
    return float(np.mean(shares))


@contextmanager
def running(folder: Path) -> Iterator[dict[str, Process]]:
    """All sides at once, each waiting for its turn."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(Process(name, folder)) for name in SIDES}


def speed(folder: Path, rounds: int) -> Sequence[str]:
    """Print the rows of a warm process; the lines on accuracy, memory and the processor for below."""
    with running(folder) as sides:
        vectors = {name: unit(np.array(side.ask(do="encode"))) for name, side in sides.items()}
        near = [name for name in vectors if name not in OTHERS and least_cosine(vectors, name) >= CLOSE]
        what, file = "CLIP: a 512 px PNG", timings(sides, "file", 1, rounds, 4)
        show([*rows_of(what, file, {SMALL: Bar(faster=5)}), best_row(what, file, near, 3.3)])
        what, frame = "CLIP: a frame in memory", timings(sides, "frames", 1, rounds, 4)
        bars = {EXACT: Bar(faster=1.9), SMALL: Bar(faster=5.5)}
        show([*rows_of(what, frame, bars), best_row(what, frame, near, 3.8)], head=False)
        what, eight = "CLIP: batch 8, a frame", timings(sides, "frames", 8, max(2, rounds // 2), 1)
        show(rows_of(what, eight, {}), head=False)
        what, batch = "CLIP: batch 32, a frame", timings(sides, "frames", 32, max(2, rounds // 3), 1)
        show([*rows_of(what, batch, {SMALL: Bar(faster=4.5)}), best_row(what, batch, near, 2.7)], head=False)
        held = {name: side.ask(do="resident") / 1e6 for name, side in sides.items()}
    notes = [*accuracy(vectors)]
    notes += [
        f"{name:18} resident at most {size:.0f} MB, {size / held[PEER]:.0%} of transformers'"
        for name, size in held.items()
    ]
    for name, precision in ((EXACT, "float32"), (FAST, "bfloat16")):
        reached, most = FLOPS / eight[name].median / 1e9, peak(precision) / 1e9
        notes.append(f"{name:18} at batch 8: {reached:.0f} of {most:.0f} GFLOP/s, {reached / most:.0%}")
    return notes


def main() -> None:
    """Print the table and what follows it."""
    options = arguments("Time CLIP against transformers and fastembed.")
    print(header(options.folder))
    with scratch(options.folder) as folder:
        make_model(folder)
        print(f"- {THREADS} threads a side; each side a process, one at work at a time\n")
        notes = speed(folder, 3 if options.quick else 12)
        started = cold(folder, 1 if options.quick else 4)
        bars = {FAST: Bar(faster=5)}
        show(rows_of("CLIP: start to first vector", started, bars), head=False)
        print("\n".join(["", *notes]))


if __name__ == "__main__":
    main()
