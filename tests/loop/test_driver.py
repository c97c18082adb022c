"""The loop itself: generate, observe, inject, again; the same noise for the same seed and number."""

import math

import numpy as np
import pytest
from loop_fakes import SIZE, Script, TinyEncoder, TinyGenerator, scene
from PIL import Image

from reverie import DreamLoop, ImageMemory, Injector
from reverie.encoders.descriptor import DescriptorEncoder
from reverie.errors import GenerationError, ImageError, ImageNotFoundError, InputError, StorageError
from reverie.generators.patches import PatchGenerator
from reverie.loop.driver import frame_seed
from reverie.loop.spectator import Spectator
from reverie.pixels import fit

START = scene(77)


def loop_of(generator, observer=None, **options):
    """A loop from the usual start, watched only."""
    return DreamLoop(generator, observer or Spectator(TinyEncoder()), **{"start": START, **options})


# --------------------------------------------------------------------------------------- seeds


def test_a_frames_seed_depends_on_the_runs_seed_and_its_number_only():
    """The same every time, different for every pair, and stable from release to release."""
    seeds = {(seed, frame): frame_seed(seed, frame) for seed in range(40) for frame in range(40)}
    assert len(set(seeds.values())) == 1600
    assert all(0 <= seed < 2**32 for seed in seeds.values())
    assert frame_seed(3, 7) == seeds[3, 7]
    assert (frame_seed(0, 1), frame_seed(0, 15), frame_seed(2**40, 1)) == (3964924996, 2228439693, 3531943370)


def test_the_noise_does_not_depend_on_what_happens_in_the_loop(generator, memory):
    """With and without injections every frame has the same seed: two arms can be compared."""
    watched, injected = (
        loop_of(generator, seed=9),
        loop_of(generator, Injector(memory, Script({2: lambda seen: seen.candidates.ids[0]})), seed=9),
    )
    seeds = [[loop.step().seed for _ in range(5)] for loop in (watched, injected)]
    assert seeds[0] == seeds[1] == [frame_seed(9, frame) for frame in range(1, 6)]
    assert [seed for _, _, _, seed in generator.calls] == seeds[0] * 2


# ---------------------------------------------------------------------------------------- loop


def test_each_frame_is_made_from_the_one_before(generator):
    """Input, prompt and strength reach the generator as they are."""
    loop = loop_of(generator, prompt="a rose", strength=0.25)
    frames = [loop.step().pixels for _ in range(4)]
    inputs = [call[0] for call in generator.calls]
    assert [one.tolist() for one in inputs] == [one.tolist() for one in (START, *frames[:-1])]
    assert {call[1:3] for call in generator.calls} == {("a rose", 0.25)}
    assert loop.frame == 4


def test_an_injection_is_the_next_input(generator, memory):
    """The memory's picture takes the frame's place, once."""
    loop = loop_of(generator, Injector(memory, Script({3: lambda seen: seen.candidates.ids[0]})))
    done = [loop.step() for _ in range(5)]
    assert [one.injection is not None for one in done] == [False, False, True, False, False]
    assert generator.calls[3][0].tolist() == done[0].pixels.tolist()
    assert generator.calls[4][0].tolist() == done[3].pixels.tolist()
    assert done[3].observed.parents == (done[0].observed.cache_id,)


def test_a_finished_frame_tells_everything(generator, memory):
    """Number, seed, pixels, what was observed, and the time of each step."""
    loop = loop_of(generator, Injector(memory, "none"), seed=3)
    loop.step()
    done = loop.step()
    assert (done.frame, done.seed) == (2, frame_seed(3, 2))
    assert memory.image(done.observed.cache_id).tolist() == done.pixels.tolist()
    assert set(done.times_ms) == {"generate", "encode", "store", "decide"}
    assert all(time >= 0 for time in done.times_ms.values())


def test_what_a_frame_was_made_with_is_kept(generator, memory):
    """Enough to make it again from its parent."""
    loop = loop_of(generator, Injector(memory, "none"), prompt="a rose", strength=0.25, seed=3)
    loop.run(2)
    entry = memory.cache.get("cache_00002")
    assert entry.prompt == "a rose"
    assert entry.generation_params == {
        "frame": 2,
        "strength": 0.25,
        "seed": frame_seed(3, 2),
        "generator": "tiny",
    }
    parent = memory.image(entry.parents[0])
    again = TinyGenerator().generate(parent, prompt="a rose", strength=0.25, seed=frame_seed(3, 2))
    assert memory.image("cache_00002").tolist() == again.tolist()


def test_run_makes_so_many_more_frames(generator):
    """And gives the number of the last one; none for 0."""
    loop = loop_of(generator)
    assert [loop.run(3), loop.run(0), loop.run(2)] == [3, 3, 5]
    assert len(generator.calls) == 5


def test_on_frame_hears_of_every_frame(generator):
    """In order, when the frame is finished."""
    heard = []
    loop = loop_of(generator, on_frame=lambda done: heard.append((done.frame, loop.frame)))
    last = loop.run(3)
    assert heard == [(1, 1), (2, 2), (3, 3)]
    assert last == 3


# --------------------------------------------------------------------------------------- start


@pytest.mark.parametrize("size", [SIZE, (30, 30), (7, 40)])
def test_the_start_is_fitted_to_the_generator(generator, size):
    """Scaled to cover its frame, the centre cut."""
    loop_of(generator, start=scene(1, *size)).step()
    assert generator.calls[0][0].tolist() == fit(scene(1, *size), *SIZE).tolist()


def test_the_start_may_be_any_image(generator, tmp_path):
    """A path, a PIL image or an array."""
    Image.fromarray(START).save(tmp_path / "start.png")
    for start in (tmp_path / "start.png", str(tmp_path / "start.png"), Image.fromarray(START), START):
        loop_of(generator, start=start).step()
    assert all(call[0].tolist() == START.tolist() for call in generator.calls)


def test_a_start_that_is_no_image_is_refused(generator, tmp_path):
    """When the loop is made, not at its first frame."""
    with pytest.raises(ImageNotFoundError):
        loop_of(generator, start=tmp_path / "missing.png")
    with pytest.raises(ImageError):
        loop_of(generator, start=np.zeros((4, 4)))


@pytest.mark.parametrize("strength", [-0.01, 1.01, math.nan, math.inf])
def test_strength_is_between_0_and_1(generator, strength):
    """Anything else is refused."""
    with pytest.raises(InputError, match=r"strength must be in \[0, 1\]"):
        loop_of(generator, strength=strength)


def test_the_ends_of_strength(generator):
    """0 keeps the input, 1 forgets it."""
    kept = loop_of(generator, strength=0.0).step()
    gone = loop_of(generator, strength=1.0).step()
    assert kept.pixels.tolist() == START.tolist()
    assert gone.pixels.tolist() == scene(gone.seed).tolist()


@pytest.mark.parametrize(
    ("seed", "message"),
    [
        (-1, "seed must be 0 or more, got -1"),
        (2**63, "seed must be at most"),
        (1.5, "seed must be a whole number, got 1.5"),
        ("x", "seed must be a whole number, got 'x'"),
    ],
)
def test_a_seed_is_a_number_that_a_journal_can_hold(generator, memory, seed, message):
    """Of a loop and of an injector: whole, not negative, below 2**63."""
    with pytest.raises(InputError, match=message):
        loop_of(generator, seed=seed)
    with pytest.raises(InputError, match=message):
        Injector(memory, seed=seed)


# -------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("spoil", "got"),
    [
        (lambda _: None, "NoneType"),
        (Image.fromarray, "Image"),
        (lambda frame: frame.tolist(), "list"),
        (lambda frame: frame[:-1], r"\(11, 16, 3\)"),
        (lambda frame: frame[..., 0], r"\(12, 16\)"),
        (lambda frame: frame.astype(np.float32), "float32"),
        (lambda frame: np.dstack([frame, frame[..., :1]]), r"\(12, 16, 4\)"),
    ],
    ids=["None", "PIL", "list", "size", "grey", "float", "RGBA"],
)
def test_a_generator_that_returns_no_frame_is_named(spoil, got, memory):
    """The error says what came and what was expected; nothing is remembered or counted."""
    loop = loop_of(TinyGenerator(returns=spoil), Injector(memory, "none"))
    with pytest.raises(GenerationError, match=rf"'tiny' returned .*{got}.*, expected \(12, 16, 3\) uint8"):
        loop.step()
    assert (loop.frame, len(memory)) == (0, 0)


def test_a_step_that_failed_can_be_made_again(memory):
    """The disk was full for a moment: the loop goes on where it was, with the same frame."""
    generator = TinyGenerator()
    loop = loop_of(generator, Injector(memory, "none"))
    loop.step()
    add, memory.cache.add_many = memory.cache.add_many, None

    def fail(*args, **kwargs):
        memory.cache.add_many = add
        raise StorageError("the disk is full")

    memory.cache.add_many = fail
    with pytest.raises(StorageError):
        loop.step()
    done = loop.step()
    assert (done.frame, done.observed.frame, done.observed.parents) == (2, 2, ("cache_00001",))
    failed, again = generator.calls[1:]
    assert (again[0].tolist(), again[3]) == (failed[0].tolist(), failed[3])


class Blind:
    """An observer that does not observe."""

    last = None
    policy_name = "blind"

    def observe(self, frame, *, prompt="", generation_params=None, again=None):
        """Nothing."""


def test_an_observer_must_observe(generator):
    """One that leaves nothing in `last` is told so."""
    with pytest.raises(GenerationError, match="did not observe"):
        loop_of(generator, Blind()).step()


# ---------------------------------------------------------------------------------- end to end


def dream_of_patches(folder, seed, strength=0.6):
    """Twelve frames of the built-in generator with random memories: bytes, reasons, measures."""
    generator = PatchGenerator([scene(n, 32, 32) for n in range(4)], size=32, per_level=200, steps=2)
    with ImageMemory(folder, 8, DescriptorEncoder(), seed=0) as memory:
        loop = DreamLoop(
            generator,
            Injector(memory, "random", seed=seed, interval=4),
            start=generator.seeds[0],
            strength=strength,
            seed=seed,
        )
        done = [loop.step() for _ in range(12)]
    return [(one.pixels.tobytes(), one.observed.decision, one.observed.measures) for one in done]


def test_a_real_loop_is_bit_equal_for_a_seed(tmp_path):
    """Built-in generator, descriptor and policy: the same seed gives the same bytes and decisions."""
    once = dream_of_patches(tmp_path / "a", 4)
    assert dream_of_patches(tmp_path / "b", 4) == once
    assert dream_of_patches(tmp_path / "c", 5) != once
    assert len({pixels for pixels, _, _ in once}) == 12
    assert [frame for frame, (_, decision, _) in enumerate(once, 1) if decision.cache_id] == [4, 8, 12]
