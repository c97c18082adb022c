"""dream_gen's policy: its two measures, what it keeps, when it blends and what it shows."""

import numpy as np
import pytest

from reverie.encoders.descriptor import DescriptorEncoder
from reverie.generators.seed_images import built_in_seeds
from reverie.loop.driver import DreamLoop
from reverie.study.dream_gen import DreamGen, DualMetric
from reverie.study.trial import Passing

SEEDS = built_in_seeds(64)


class Repeat:
    """A generator that gives its input back."""

    name, size, seeds = "repeat", (64, 64), SEEDS

    def generate(self, frame, *, prompt, strength, seed):
        """A copy."""
        return frame.copy()


def loop_of(generator=None, seeds=SEEDS[:3], **options):
    """A loop that dream_gen's policy observes."""
    passing = Passing(generator or Repeat())
    observer = DreamGen(DescriptorEncoder(), seeds, passing.keep, **options)
    return DreamLoop(passing, observer, start=SEEDS[0], seed=1), observer


def test_the_two_measures():
    """3 and 1 for the same picture; hue, saturation and value weigh alike; the hash does not see colours."""
    a, b = DualMetric.look(SEEDS[0]), DualMetric.look(SEEDS[5])
    assert (DualMetric.colour(a, a), DualMetric.structure(a, a)) == (pytest.approx(3.0), 1.0)
    assert DualMetric.colour(a, b) == DualMetric.colour(b, a) < 2.5
    assert DualMetric.structure(a, b) < 0.9
    assert a.colour.shape == (96,)
    assert a.colour.reshape(3, 32).sum(axis=1) == pytest.approx([1, 1, 1])
    red = np.zeros((64, 64, 3), np.uint8)
    red[16:48, 16:48, 0] = 255
    lit = np.where(red[..., :1] > 0, np.uint8(76), np.uint8(0)).repeat(3, axis=2)  # as light in grey
    assert DualMetric.structure(DualMetric.look(red), DualMetric.look(lit)) == 1.0
    assert DualMetric.colour(DualMetric.look(red), DualMetric.look(lit)) < 2.6


def test_nothing_is_injected_while_it_warms_up():
    """The first ten frames are the loop's own."""
    loop, _ = loop_of()
    done = [loop.step() for _ in range(9)]
    assert all(one.injection is None for one in done)


def test_what_is_blended_in_is_shown_as_it_is():
    """Of a seed 85 parts in a hundred; the frame after an injection is the blend."""
    loop, _ = loop_of()
    done = [loop.step() for _ in range(60)]
    numbers = [number for number, one in enumerate(done[:-1]) if one.injection is not None]
    assert numbers
    for number in numbers:
        assert np.array_equal(done[number + 1].pixels, done[number].injection.image)
    first = done[numbers[0]]
    assert first.observed.decision.reason == "a seed"  # a small memory asks for seeds
    mixes = [0.15 * first.pixels.astype(float) + 0.85 * seed for seed in SEEDS[:3]]
    assert min(np.abs(mix - first.injection.image).max() for mix in mixes) <= 1


def test_it_waits_between_injections():
    """More than two frames from a seed to the next seed."""
    loop, _ = loop_of()
    done = [loop.step() for _ in range(120)]
    seeds = [one.frame for one in done if one.observed.decision.reason == "a seed"]
    assert min(np.diff(seeds)) > 2


def test_without_seed_pictures_it_has_its_memory_only():
    """No seed is ever blended in."""
    loop, _ = loop_of(seeds=[])
    assert all(loop.step().observed.decision.reason != "a seed" for _ in range(60))


def test_under_a_cap_no_step_is_larger():
    """Its blends too."""
    loop, _ = loop_of(cap=0.2)
    done = [loop.step() for _ in range(60)]
    assert max(one.observed.measures["step"] or 0 for one in done) <= 0.2001
    assert any(one.observed.shown is not None for one in done)


def test_the_same_seed_is_the_same_run():
    """Its randomness is its own."""
    runs = [[loop_step.pixels.tobytes() for loop_step in (loop.step() for _ in range(30))]
            for loop, _ in (loop_of(seed=4), loop_of(seed=4), loop_of(seed=5))]  # fmt: skip
    assert runs[0] == runs[1] != runs[2]


def test_it_blends_in_latents_where_there_are_some():
    """By their own decoder."""

    class Negative:
        def encode(self, pixels):
            """Negated."""
            return 255 - pixels.astype(np.float32)

        def decode(self, latent):
            """Back, and marked."""
            pixels = np.rint(255 - latent).astype(np.uint8)
            pixels[0, 0] = 7
            return pixels

    loop, _ = loop_of(latents=Negative())
    injected = [one.injection for one in (loop.step() for _ in range(60)) if one.injection]
    assert injected
    assert all(one.image[0, 0].tolist() == [7, 7, 7] for one in injected)
