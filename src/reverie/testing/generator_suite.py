"""What every generator must do, as tests."""

from __future__ import annotations

import numpy as np
import pytest

from reverie.pixels import Pixels
from reverie.protocols import Chosen, Fingerprinted, Generator, KeepsLatents, LatentSpace, Resumable
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

    def test_its_latents_are_those_of_its_frames(self, generator: Generator, frame: Pixels) -> None:
        """Where it has a latent space: always the same latent, and of it a frame of its size."""
        if not isinstance(generator, LatentSpace):
            pytest.skip("it has no latent space")
        latent = generator.encode(frame)
        assert np.array_equal(generator.encode(frame), latent)
        decoded = generator.decode(latent)
        assert decoded.shape == (*generator.size, 3)
        assert decoded.dtype == np.uint8

    def test_it_keeps_the_latent_of_what_it_made(self, generator: Generator, frame: Pixels) -> None:
        """Where it keeps latents, and is set up to: decoded, it is that frame."""
        if not isinstance(generator, KeepsLatents):
            pytest.skip("it keeps no latents")
        made = generator.generate(frame, prompt="", strength=0.5, seed=4)
        kept = generator.latent_of(made)
        if kept is None:
            pytest.skip("it is not set up to keep latents")
        assert np.array_equal(generator.decode(kept), made)

    def test_it_goes_on_from_its_state(self, generator: Generator, frame: Pixels) -> None:
        """Where it keeps something from frame to frame: with that put back, the same frame again."""
        if not isinstance(generator, Resumable):
            pytest.skip("it keeps nothing from frame to frame")
        first = generator.generate(frame, prompt="", strength=0.5, seed=5)
        state = {name: np.array(value) for name, value in generator.state().items()}
        second = generator.generate(first, prompt="", strength=0.5, seed=6)
        generator.generate(frame, prompt="", strength=0.9, seed=7)
        generator.restore(state)
        assert np.array_equal(generator.generate(first, prompt="", strength=0.5, seed=6), second)

    def test_it_says_what_it_is(self, generator: Generator) -> None:
        """What it runs on is one line for people; what it is set up as is the same when it is made again."""
        if isinstance(generator, Chosen):
            assert len(str(generator.choice).splitlines()) == 1
        if isinstance(generator, Fingerprinted):
            again = self.make()
            assert isinstance(again, Fingerprinted)
            assert generator.fingerprint == again.fingerprint
            assert generator.fingerprint
