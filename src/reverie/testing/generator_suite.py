"""What every generator must do, as tests."""

from __future__ import annotations

import numpy as np
import pytest

from reverie.pixels import Pixels
from reverie.protocols import Generator
from reverie.testing.samples import picture

__all__ = ["GeneratorSuite"]


class GeneratorSuite:
    """Tests of a `Generator`; a subclass says how to make one (small and fast)."""

    def make(self) -> Generator:
        """The generator."""
        raise NotImplementedError

    @pytest.fixture
    def generator(self) -> Generator:
        """The generator under test; where making one is slow, let `make` keep it."""
        return self.make()

    @pytest.fixture
    def frame(self, generator: Generator) -> Pixels:
        """A frame to go on from."""
        return generator.seeds[0] if len(generator.seeds) else picture(0, *generator.size)

    def test_it_is_named_and_sized(self, generator: Generator) -> None:
        """A name for the journal, a size in pixels, seeds of that size."""
        assert isinstance(generator, Generator)
        assert generator.name
        height, width = generator.size
        assert height > 0
        assert width > 0
        for seed in generator.seeds:
            assert seed.shape == (height, width, 3)
            assert seed.dtype == np.uint8

    def test_a_step_gives_a_frame(self, generator: Generator, frame: Pixels) -> None:
        """``(h, w, 3)`` uint8 of its size; the frame that went in is not changed."""
        before = frame.copy()
        made = generator.generate(frame, prompt="a test", strength=0.5, seed=1)
        assert made.shape == (*generator.size, 3)
        assert made.dtype == np.uint8
        assert np.array_equal(frame, before)

    def test_the_same_arguments_give_the_same_bytes(self, generator: Generator, frame: Pixels) -> None:
        """Seeded: again, and after other steps in between."""
        first = generator.generate(frame, prompt="a test", strength=0.5, seed=7)
        other = generator.generate(first, prompt="another", strength=0.9, seed=8)
        assert np.array_equal(generator.generate(frame, prompt="a test", strength=0.5, seed=7), first)
        assert not np.array_equal(other, first)

    def test_another_seed_gives_another_frame(self, generator: Generator, frame: Pixels) -> None:
        """The seed is all the randomness there is."""
        one, two = (generator.generate(frame, prompt="", strength=0.7, seed=seed) for seed in (1, 2))
        assert not np.array_equal(one, two)

    def test_strength_is_how_far_it_goes(self, generator: Generator, frame: Pixels) -> None:
        """A weak step stays nearer to the frame than a strong one."""
        weak, strong = (
            generator.generate(frame, prompt="", strength=strength, seed=3).astype(np.float64)
            for strength in (0.1, 0.9)
        )
        assert np.abs(weak - frame).mean() < np.abs(strong - frame).mean()
