"""The built-in descriptor against a naive peer: HSV histogram and DCT perceptual hash.

    python benchmarks/bench_descriptor.py [--rounds 7] [--calls 20] [--sizes 256 512 1024]

Both turn a frame that is already in memory into one vector, on one thread. Rounds are interleaved,
so a busy machine hurts both alike: trust the ratio, not the milliseconds.
"""

from __future__ import annotations

import os

# Read when numpy is imported.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"

import argparse
import platform
import time
from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image

from reverie.encoders.descriptor import DescriptorEncoder

Frame = NDArray[np.uint8]
Encode = Callable[[Frame], NDArray[np.float32]]

ENCODER = DescriptorEncoder()


def ours(frame: Frame) -> NDArray[np.float32]:
    """512 numbers of the descriptor."""
    return ENCODER.encode_batch([frame])[0]


def peer(frame: Frame) -> NDArray[np.float32]:
    """512 bins of HSV and 64 bits of a perceptual hash, as they are usually written."""
    image = Image.fromarray(frame)
    hsv = np.asarray(image.convert("HSV")).reshape(-1, 3)
    colours, _ = np.histogramdd(hsv, bins=(8, 8, 8), range=((0, 256),) * 3)
    grey = np.asarray(image.convert("L").resize((32, 32), Image.Resampling.LANCZOS), dtype=np.float64)
    wave = np.cos(np.pi * np.outer(np.arange(8), 2 * np.arange(32) + 1) / 64)
    low = wave @ grey @ wave.T
    bits = (low > np.median(low)).ravel()
    vector = np.concatenate((np.sqrt(colours.ravel() / len(hsv)), bits / 8))
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def frame_of(size: int) -> Frame:
    """A frame with soft shapes, hard edges and some grain."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
    soft = np.asarray(Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC))
    grain = rng.integers(0, 24, (size, size, 3), dtype=np.uint8)
    return np.where(soft > 128, soft - grain // 2, soft // 2 + grain)


def milliseconds(encode: Encode, frame: Frame, calls: int) -> list[float]:
    """How long each of ``calls`` calls took."""
    taken = []
    for _ in range(calls):
        start = time.perf_counter()
        encode(frame)
        taken.append((time.perf_counter() - start) * 1e3)
    return taken


def compare(size: int, rounds: int, calls: int) -> tuple[list[float], list[float]]:
    """Times of ours and of the peer, interleaved by rounds; the first calls are not counted."""
    frame = frame_of(size)
    mine: list[float] = []
    theirs: list[float] = []
    milliseconds(ours, frame, 3)
    milliseconds(peer, frame, 3)
    for _ in range(rounds):
        mine += milliseconds(ours, frame, calls)
        theirs += milliseconds(peer, frame, calls)
    return mine, theirs


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Time the descriptor against HSV histogram + pHash.")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--calls", type=int, default=20, help="calls of each in a round")
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512, 1024], help="side of the frame")
    options = parser.parse_args()
    print(
        f"{datetime.now(UTC):%Y-%m-%d}, {platform.platform()}, {platform.processor() or platform.machine()}"
    )
    print(
        f"{os.cpu_count()} cores, 1 thread used; Python {platform.python_version()}, "
        f"numpy {np.__version__}, Pillow {PIL.__version__}; "
        f"{options.rounds} rounds x {options.calls} calls, interleaved\n"
    )
    print("ms a frame           descriptor          HSV + pHash        ratio of")
    print("size                median     p90      median     p90       medians")
    for size in options.sizes:
        mine, theirs = compare(size, options.rounds, options.calls)
        ratio = np.median(theirs) / np.median(mine)
        print(
            f"{size:4} x {size:<10}  {np.median(mine):8.2f}{np.quantile(mine, 0.9):8.2f}    "
            f"{np.median(theirs):8.2f}{np.quantile(theirs, 0.9):8.2f}    {ratio:8.1f}x"
        )


if __name__ == "__main__":
    main()
