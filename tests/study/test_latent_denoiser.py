"""The latent generator: its transform, determinism, strengths, validation, and that its loop settles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import threadpoolctl
from numpy.typing import NDArray

from reverie.errors import ImageError, InputError
from reverie.generators.seed_images import built_in_seeds
from reverie.study.latent_denoiser import LappedLatent, LatentGenerator
from reverie.testing import GeneratorSuite

Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def generator() -> LatentGenerator:
    """One generator of 64 pixels for all tests: it keeps no state."""
    return LatentGenerator(built_in_seeds(64), size=64)


def distance(a: Pixels, b: Pixels) -> float:
    """Mean absolute difference in grey values."""
    return float(np.abs(a.astype(int) - b).mean())


class TestLatent(GeneratorSuite):
    def make(self) -> LatentGenerator:
        return LatentGenerator(built_in_seeds(64)[:3], size=64)


def test_a_latent_is_a_grid_of_21_numbers_for_8_by_8_pixels(generator: LatentGenerator) -> None:
    """Shape and type of `encode`, about unit deviation on natural pictures; bytes in `decode`."""
    latent = generator.encode(generator.seeds[0])
    assert (latent.shape, latent.dtype.name) == ((8, 8, 21), "float32")
    made = generator.decode(latent)
    assert (made.shape, made.dtype.name) == ((64, 64, 3), "uint8")
    every = np.stack([generator.encode(seed) for seed in generator.seeds])
    assert 0.5 < every.std() < 1.5


def test_a_picture_survives_the_latent() -> None:
    """At 128 pixels a seed image comes back within a few grey values, though 9 numbers of 10 are gone."""
    latent = LappedLatent(128)
    gaps = [distance(latent.decode(latent.encode(seed)), seed) for seed in built_in_seeds(128)]
    assert np.median(gaps) < 8
    assert max(gaps) < 25


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (200, 40, 90)])
def test_a_flat_picture_is_kept_exactly(colour: tuple[int, int, int]) -> None:
    """The windows add up to 1, at the borders too."""
    flat = np.full((48, 48, 3), colour, dtype=np.uint8)
    latent = LappedLatent(48)
    assert distance(latent.decode(latent.encode(flat)), flat) == 0


def test_decoding_and_encoding_again_changes_nothing(generator: LatentGenerator) -> None:
    """The encoder is the inverse of the decoder: what it can draw it reads back."""
    drawn = generator.decode(0.5 * generator.encode(generator.seeds[8]))
    assert distance(generator.decode(generator.encode(drawn)), drawn) < 1


def test_a_mixture_of_latents_is_a_mixture_of_pictures(generator: LatentGenerator) -> None:
    """The transform is linear: half way between two latents lies half way between the two pictures."""
    a, b = (generator.encode(seed) for seed in generator.seeds[:2])
    half = generator.decode((a + b) / 2).astype(float)
    drawn = (generator.decode(a).astype(float) + generator.decode(b)) / 2
    assert np.abs(half - drawn).mean() < 3


@pytest.mark.parametrize(
    "latent",
    [np.zeros((8, 8, 20)), np.zeros((64,)), np.full((8, 8, 21), np.nan), np.full((8, 8, 21), np.inf)],
)
def test_what_is_no_latent_is_refused(generator: LatentGenerator, latent: NDArray[np.float64]) -> None:
    """Another shape, NaN and infinity; the message says the shape that is wanted."""
    with pytest.raises(InputError, match=r"finite and of shape \(8, 8, 21\)"):
        generator.decode(latent.astype(np.float32))


def test_two_instances_give_the_same_bytes(generator: LatentGenerator) -> None:
    """Building is deterministic too."""
    frame = generator.seeds[7]
    again = LatentGenerator(built_in_seeds(64), size=64)
    made = [one.generate(frame, prompt="", strength=0.6, seed=9) for one in (generator, again)]
    assert np.array_equal(made[0], made[1])


def test_blas_has_its_threads_back(generator: LatentGenerator) -> None:
    """A call sets the number of BLAS threads for itself alone."""
    before = [pool["num_threads"] for pool in threadpoolctl.threadpool_info()]
    generator.generate(generator.seeds[0], prompt="", strength=0.5, seed=0)
    assert [pool["num_threads"] for pool in threadpoolctl.threadpool_info()] == before


def test_strength_0_keeps_the_frame(generator: LatentGenerator, picture: Callable[..., Pixels]) -> None:
    """The same bytes in a new array."""
    frame = picture(0, 64, 64)
    made = generator.generate(frame, prompt="", strength=0.0, seed=0)
    assert np.array_equal(made, frame)
    assert not np.shares_memory(made, frame)


def test_strength_1_forgets_the_frame(generator: LatentGenerator) -> None:
    """Whatever the frame, the same noise makes the same picture, and a picture it is."""
    made = [generator.generate(frame, prompt="", strength=1.0, seed=6) for frame in generator.seeds[:3]]
    assert np.array_equal(made[0], made[1])
    assert np.array_equal(made[0], made[2])
    assert made[0].std() > 10


def test_more_strength_goes_farther(generator: LatentGenerator, picture: Callable[..., Pixels]) -> None:
    """From a frame it does not know: near at small strength, ever farther, far at full strength."""
    frame = picture(3, 64, 64)

    def mean_distance(strength: float) -> float:
        made = [generator.generate(frame, prompt="", strength=strength, seed=seed) for seed in range(6)]
        return float(np.mean([distance(one, frame) for one in made]))

    distances = [mean_distance(strength) for strength in (0.0, 0.01, 0.05, 0.5, 1.0)]
    assert distances == sorted(distances)
    assert distances[1] < 3


def test_a_frame_is_followed(generator: LatentGenerator) -> None:
    """At strength .35 a seed image gives a frame nearer to itself than to any other seed image."""
    for number, seed in enumerate(generator.seeds):
        made = generator.generate(seed, prompt="", strength=0.35, seed=number)
        gaps = [distance(made, other) for other in generator.seeds]
        assert int(np.argmin(gaps)) == number


def test_frames_are_made_of_the_seeds_alone() -> None:
    """From one flat seed only its colour can come, whatever goes in."""
    flat = np.full((64, 64, 3), (200, 40, 90), dtype=np.uint8)
    generator = LatentGenerator([flat], size=64)
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert np.array_equal(generator.generate(noise, prompt="", strength=0.5, seed=0), flat)


def test_seeds_are_cut_to_the_size(picture: Callable[..., Pixels]) -> None:
    """Arrays of any size become frames; the generator keeps its own copy, read-only."""
    given = picture(1, 64, 64)
    generator = LatentGenerator([given, picture(2, 100, 40)], size=64)
    kept = given.copy()
    given[:] = 0
    assert np.array_equal(generator.seeds[0], kept)
    assert generator.seeds[1].shape == (64, 64, 3)
    assert not generator.seeds[0].flags.writeable


@pytest.mark.parametrize("strength", [-0.01, 1.01, float("nan"), float("inf")])
def test_a_strength_outside_0_to_1_is_refused(generator: LatentGenerator, strength: float) -> None:
    """The message says the range and what came."""
    with pytest.raises(InputError, match=rf"strength must be from 0 .* got {strength}"):
        generator.generate(generator.seeds[0], prompt="", strength=strength, seed=0)


def test_a_negative_seed_is_refused(generator: LatentGenerator) -> None:
    """Seeds are 0 or more."""
    with pytest.raises(InputError, match="seed must be 0 or more, got -1"):
        generator.generate(generator.seeds[0], prompt="", strength=0.5, seed=-1)


def test_a_frame_of_another_size_is_refused(generator: LatentGenerator) -> None:
    """By `generate` and by `encode`: it is not resized behind one's back."""
    frame = np.zeros((32, 48, 3), dtype=np.uint8)
    with pytest.raises(ImageError, match=r"frames of 64 x 64 pixels, got one of 48 x 32"):
        generator.generate(frame, prompt="", strength=0.5, seed=0)
    with pytest.raises(ImageError, match=r"frames of 64 x 64 pixels, got one of 48 x 32"):
        generator.encode(frame)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("images", []),
        ("size", 40),
        ("size", 100),
        ("size", 0),
        ("square", 0),
        ("stride", 0),
        ("top_k", 0),
        ("pca", 0),
        ("steps", 0),
        ("sigma_min", 0.0),
        ("target", float("nan")),
        ("noise_amplification", float("inf")),
        ("bandwidth", -0.1),
        ("position_weight", float("nan")),
    ],
)
def test_a_parameter_out_of_range_is_named(name: str, value: Any) -> None:
    """The constructor says which one."""
    with pytest.raises(InputError, match=name):
        LatentGenerator(**{"images": built_in_seeds(64)[:1], "size": 64, name: value})


def test_the_plain_loop_settles(generator: LatentGenerator) -> None:
    """At strength .35 a loop leaves its start, and its last frames look alike and are still pictures."""
    frame = generator.seeds[5]
    frames = []
    for number in range(120):
        frame = generator.generate(frame, prompt="", strength=0.35, seed=number)
        frames.append(frame)
    coarse = np.array([one.reshape(8, 8, 8, 8, 3).mean(axis=(1, 3)).ravel() for one in frames])
    seeds = np.array([one.reshape(8, 8, 8, 8, 3).mean(axis=(1, 3)).ravel() for one in generator.seeds])
    rows = coarse[-60:] - seeds.mean(axis=0)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    assert float((rows @ rows.T)[np.triu_indices(len(rows), 1)].mean()) > 0.7
    assert min(one.std() for one in frames) > 10
