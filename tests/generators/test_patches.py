"""The embedded generator: protocol, determinism, strengths, validation, memory, and that it collapses."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import threadpoolctl
from numpy.typing import NDArray

from reverie import registry
from reverie.errors import ImageError, InputError
from reverie.generators.patches import PatchGenerator
from reverie.generators.seed_images import built_in_seeds
from reverie.protocols import Generator

Pixels = NDArray[np.uint8]


def small(**changes: Any) -> PatchGenerator:
    """A generator of 64 pixels that is built in a moment."""
    return PatchGenerator(**{"size": 64, "per_level": 300, **changes})


@pytest.fixture(scope="module")
def generator() -> PatchGenerator:
    """One small generator for all tests: it keeps no state."""
    return small()


def distance(a: Pixels, b: Pixels) -> float:
    """Mean absolute difference in grey values."""
    return float(np.abs(a.astype(int) - b).mean())


def test_it_is_a_generator(generator: PatchGenerator) -> None:
    """It has what the protocol asks for, under its registered name."""
    assert isinstance(generator, Generator)
    assert registry.load("generators", "patches") is PatchGenerator
    assert (generator.name, generator.size, len(generator.seeds)) == ("patches", (64, 64), 24)
    assert {(seed.shape, seed.dtype.name) for seed in generator.seeds} == {((64, 64, 3), "uint8")}


def test_default_frames_are_128_pixels() -> None:
    """Without arguments: 24 seeds of 128 pixels, the built-in ones."""
    generator = PatchGenerator()
    assert generator.size == (128, 128)
    assert np.array_equal(generator.seeds, built_in_seeds(128))
    made = generator.generate(generator.seeds[3], prompt="", strength=0.5, seed=1)
    assert (made.shape, made.dtype.name) == ((128, 128, 3), "uint8")


def test_the_same_arguments_give_the_same_bytes(generator: PatchGenerator) -> None:
    """Again, and after other calls; the frame handed in is not changed."""
    frame = generator.seeds[5].copy()
    first = generator.generate(frame, prompt="a", strength=0.5, seed=3)
    generator.generate(first, prompt="", strength=0.9, seed=4)
    assert np.array_equal(first, generator.generate(frame, prompt="b", strength=0.5, seed=3))
    assert np.array_equal(frame, generator.seeds[5])


def test_two_instances_give_the_same_bytes(generator: PatchGenerator) -> None:
    """Building is deterministic too; another build seed stores other patches."""
    frame = generator.seeds[7]
    made = [one.generate(frame, prompt="", strength=0.6, seed=9) for one in (generator, small())]
    assert np.array_equal(made[0], made[1])
    other = small(build_seed=1).generate(frame, prompt="", strength=0.6, seed=9)
    assert not np.array_equal(made[0], other)


def test_the_number_of_threads_changes_nothing() -> None:
    """Processes with one and with two BLAS threads make the same loop, byte for byte."""
    code = (
        "import hashlib; from reverie.generators.patches import PatchGenerator as P\n"
        "g = P(per_level=2000); f = g.seeds[4]\n"
        "for i in range(3): f = g.generate(f, prompt='', strength=.5, seed=i)\n"
        "print(hashlib.sha256(f.tobytes()).hexdigest())"
    )
    digests = set()
    for count in ("1", "2"):
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), count)
        done = subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, **threads}, capture_output=True, check=True
        )
        digests.add(done.stdout)
    assert len(digests) == 1


def test_threads_may_share_a_generator(generator: PatchGenerator) -> None:
    """Calls from four threads give what calls from one give, and BLAS has its threads back afterwards."""
    before = [pool["num_threads"] for pool in threadpoolctl.threadpool_info()]
    frame = generator.seeds[2]
    made: dict[int, Pixels] = {}

    def work(seed: int) -> None:
        made[seed] = generator.generate(frame, prompt="", strength=0.5, seed=seed)

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for seed in range(4):
        assert np.array_equal(made[seed], generator.generate(frame, prompt="", strength=0.5, seed=seed))
    assert [pool["num_threads"] for pool in threadpoolctl.threadpool_info()] == before


def test_another_seed_gives_another_frame(generator: PatchGenerator) -> None:
    """The noise decides what is dreamt."""
    frame = generator.seeds[0]
    made = {generator.generate(frame, prompt="", strength=0.5, seed=seed).tobytes() for seed in range(5)}
    assert len(made) == 5


def test_strength_0_keeps_the_frame(generator: PatchGenerator, picture: Callable[..., Pixels]) -> None:
    """The same bytes in a new array."""
    frame = picture(0, 64, 64)
    made = generator.generate(frame, prompt="", strength=0.0, seed=0)
    assert np.array_equal(made, frame)
    assert not np.shares_memory(made, frame)


def test_strength_1_forgets_the_frame(generator: PatchGenerator) -> None:
    """Whatever the frame, the same noise makes the same picture, and a picture it is."""
    made = [generator.generate(frame, prompt="", strength=1.0, seed=6) for frame in generator.seeds[:3]]
    assert np.array_equal(made[0], made[1])
    assert np.array_equal(made[0], made[2])
    assert made[0].std() > 10


def test_more_strength_goes_farther(generator: PatchGenerator, picture: Callable[..., Pixels]) -> None:
    """From a frame it does not know: near at small strength, ever farther, far at full strength."""
    frame = picture(3, 64, 64)

    def mean_distance(strength: float) -> float:
        made = [generator.generate(frame, prompt="", strength=strength, seed=seed) for seed in range(6)]
        return float(np.mean([distance(one, frame) for one in made]))

    distances = [mean_distance(strength) for strength in (0.0, 0.01, 0.05, 0.15, 0.5, 1.0)]
    assert distances == sorted(distances)
    assert distances[1] < 3
    assert distances[-1] > 3 * distances[2]


def test_a_known_picture_is_recognised() -> None:
    """With every patch stored, a seed image under little noise comes back almost as it was."""
    generator = small(seeds=built_in_seeds(64)[:4], per_level=10_000)
    for seed_image in generator.seeds:
        made = generator.generate(seed_image, prompt="", strength=0.19, seed=0)
        assert distance(made, seed_image) < 6


def test_frames_are_made_of_the_seeds_alone() -> None:
    """From one flat seed only its colour can come, whatever goes in."""
    flat = np.full((64, 64, 3), (200, 40, 90), dtype=np.uint8)
    generator = small(seeds=[flat])
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert np.array_equal(generator.generate(noise, prompt="", strength=0.5, seed=0), flat)


@pytest.mark.parametrize("strength", [-0.01, 1.01, float("nan"), float("inf"), "x", None, True])
def test_a_strength_outside_0_to_1_is_refused(generator: PatchGenerator, strength: Any) -> None:
    """The message says the range and what came."""
    with pytest.raises(InputError, match=rf"strength must be .* from 0 .* got {strength!r}"):
        generator.generate(generator.seeds[0], prompt="", strength=strength, seed=0)


@pytest.mark.parametrize(("seed", "message"), [(-1, "0 or more, got -1"), ("x", "a whole number, got 'x'")])
def test_a_seed_that_is_none_is_refused(generator: PatchGenerator, seed: Any, message: str) -> None:
    """Seeds are whole numbers, 0 or more."""
    with pytest.raises(InputError, match=f"seed must be {message}"):
        generator.generate(generator.seeds[0], prompt="", strength=0.5, seed=seed)


@pytest.mark.parametrize("strength", [0.0, 0.5])
def test_a_frame_of_another_size_is_refused(generator: PatchGenerator, strength: float) -> None:
    """It is not resized behind one's back; both sizes are in the message."""
    frame = np.zeros((32, 48, 3), dtype=np.uint8)
    with pytest.raises(ImageError, match=r"frames of 64 x 64 pixels, got one of 48 x 32"):
        generator.generate(frame, prompt="", strength=strength, seed=0)


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((64, 64), dtype=np.uint8),
        np.zeros((64, 64, 4), dtype=np.uint8),
        np.zeros((64, 64, 3), dtype=np.float32),
        None,
    ],
)
def test_what_is_no_frame_is_refused(generator: PatchGenerator, frame: Any) -> None:
    """Grey, RGBA and float arrays, and what is no array, are image errors."""
    with pytest.raises(ImageError):
        generator.generate(frame, prompt="", strength=0.5, seed=0)


def test_seeds_come_from_a_folder(tmp_path: Path, png: Callable[..., Path]) -> None:
    """A path, as text or `Path`, is a folder of pictures of any size."""
    png("one.png", seed=1, height=80, width=200)
    png("two.png", seed=2, height=64, width=64)
    for folder in (tmp_path, str(tmp_path)):
        generator = small(seeds=folder)
        assert len(generator.seeds) == 2
        made = generator.generate(generator.seeds[0], prompt="", strength=0.5, seed=0)
        assert made.shape == (64, 64, 3)


def test_seeds_are_cut_to_the_size(picture: Callable[..., Pixels]) -> None:
    """Arrays of any size become frames; the generator keeps its own copy, read-only."""
    given = picture(1, 64, 64)
    generator = small(seeds=[given, picture(2, 100, 40)])
    kept = given.copy()
    given[:] = 0
    assert np.array_equal(generator.seeds[0], kept)
    assert generator.seeds[1].shape == (64, 64, 3)
    assert not generator.seeds[0].flags.writeable


def test_no_seeds_are_refused(tmp_path: Path) -> None:
    """An empty list and an empty folder cannot be dreamt of; a broken file is named."""
    with pytest.raises(InputError, match="no seed images"):
        small(seeds=[])
    with pytest.raises(InputError, match="no picture in"):
        small(seeds=tmp_path)
    (tmp_path / "broken.jpg").write_bytes(b"nothing")
    with pytest.raises(ImageError, match=r"broken\.jpg"):
        small(seeds=tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("size", 10),
        ("size", 100_000),
        ("size", "x"),
        ("size", 64.0),
        ("patch", "x"),
        ("per_level", True),
        ("strides", 4),
        ("strides", "44"),
        ("bandwidth", "x"),
        ("target", None),
        ("build_seed", "x"),
        ("seeds", 5),
        ("size", 0),
        ("patch", 0),
        ("per_level", 0),
        ("top_k", 0),
        ("pca", 0),
        ("steps", 0),
        ("strides", ()),
        ("strides", (4, 0)),
        ("sigma_min", 0.0),
        ("sigma_min", float("nan")),
        ("target", -1.0),
        ("noise_amplification", float("inf")),
        ("bandwidth", -0.1),
        ("position_weight", float("nan")),
        ("build_seed", -1),
    ],
)
def test_a_parameter_out_of_range_is_named(name: str, value: Any) -> None:
    """The constructor says which one."""
    with pytest.raises(InputError, match=name):
        small(**{name: value})


@pytest.mark.parametrize(
    "changes", [{"size": 100}, {"size": 11}, {"size": 63}, {"size": 160, "strides": (5, 3)}]
)
def test_odd_sizes_and_short_strides_work(changes: dict[str, Any]) -> None:
    """Sizes that halve seldom have few levels; the last stride serves the coarser ones."""
    generator = small(seeds=built_in_seeds(64)[:2], **changes)
    side = changes["size"]
    frame = np.full((side, side, 3), 255, dtype=np.uint8)
    for strength in (0.3, 1.0):
        assert generator.generate(frame, prompt="", strength=strength, seed=0).shape == frame.shape


def test_fewer_patches_than_neighbours_is_enough() -> None:
    """One stored patch a level still makes a frame."""
    generator = small(per_level=1, top_k=4, pca=500)
    assert generator.generate(generator.seeds[0], prompt="", strength=0.5, seed=0).shape == (64, 64, 3)


def test_memory_stays_small() -> None:
    """The built generator keeps far less than the 196 MB that full-resolution patches would take."""
    tracemalloc.start()
    try:
        generator = PatchGenerator()
        generator.generate(generator.seeds[0], prompt="", strength=0.5, seed=0)
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 20e6
    assert peak < 80e6


def test_the_plain_loop_collapses() -> None:
    """At strength .5 a loop leaves its start and settles: its last frames look alike, yet go on changing."""
    generator = PatchGenerator(size=64, per_level=1500)
    frame = generator.seeds[5]
    frames = []
    for number in range(150):
        frame = generator.generate(frame, prompt="", strength=0.5, seed=number)
        frames.append(frame)
    coarse = np.array([one.reshape(8, 8, 8, 8, 3).mean(axis=(1, 3)).ravel() for one in frames])
    seeds = np.array([one.reshape(8, 8, 8, 8, 3).mean(axis=(1, 3)).ravel() for one in generator.seeds])

    def alike(rows: NDArray[np.float64]) -> float:
        rows = rows - seeds.mean(axis=0)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return float((rows @ rows.T)[np.triu_indices(len(rows), 1)].mean())

    assert alike(coarse[-60:]) > 0.7
    assert alike(seeds) < 0.1
    assert len({one.tobytes() for one in frames}) == len(frames)
    assert min(one.std() for one in frames) > 10
