"""Colour drift in a loop: measured in every frame, taken back where that is asked for, and gone on with."""

import json

import numpy as np
import pytest
from loop_fakes import Script, TinyEncoder, scene
from PIL import Image
from test_colour import changed, picture

from reverie import DreamLoop, ImageMemory, Injector
from reverie.errors import ImageError, UnknownNameError
from reverie.loop.colour import Span, colours_of
from reverie.loop.observed import Relived
from reverie.loop.presets import policy as preset
from reverie.loop.spectator import Spectator

SIZE = (40, 56)
MEASURES = {"colour_drift", "lightness", "tint_a", "tint_b", "contrast", "saturation"}


class Drifting:
    """Each frame a little darker, more magenta and of more contrast than its input, with a little noise."""

    name = "drifting"

    def __init__(self, size=SIZE):
        self.size = size
        self.seeds = [picture(seed, size) for seed in range(3)]
        self.inputs = []

    def generate(self, frame, *, prompt, strength, seed):
        """The drift does not depend on anything else."""
        self.inputs.append(frame)
        noise = np.random.default_rng(seed).normal(0, 2, frame.shape)
        noisy = np.rint(frame + noise).clip(0, 255).astype(np.uint8)
        return changed(noisy, light=-0.008 * strength / 0.5, a=0.004, b=-0.003, contrast=1.02)


def injector_of(memory, colour="off", policy="none", **options):
    """An injector whose anchors are what is pinned."""
    return Injector(memory, policy, colour=colour, **options)


def run(folder, colour, frames=40, policy="none", **options):
    """A drifting loop with the first seed pinned: everything about its frames."""
    generator = Drifting()
    with ImageMemory(folder, encoder=TinyEncoder()) as memory:
        memory.remember(generator.seeds[0], pinned=True)
        injector = injector_of(memory, colour, policy, **options)
        loop = DreamLoop(generator, injector, start=generator.seeds[0], strength=0.5)
        return [loop.step() for _ in range(frames)], generator


def drifts(done):
    """How far each frame was outside the anchors."""
    return [one.observed.measures["colour_drift"] for one in done]


# ------------------------------------------------------------------------------------ it works


def test_off_drifts_soft_less_hard_hardly(tmp_path):
    """The point of it all: hard stays at the anchors, soft levels out, off goes where the generator leads."""
    off, soft, hard = (drifts(run(tmp_path / how, how, 60)[0]) for how in ("off", "soft", "hard"))
    step = 0.015  # what the generator adds in a frame, after which it is shown
    assert off[-1] > 0.35
    assert max(hard) < step
    assert max(soft) < 0.1
    assert soft[-1] < 0.3 * off[-1]
    assert max(soft[-20:]) - min(soft[-20:]) < 0.02


def test_what_is_shown_and_kept_is_what_the_generator_made(tmp_path):
    """The correction is of the next input only."""
    done, generator = run(tmp_path, "hard", 20)
    pairs = list(zip(done, done[1:], generator.inputs[1:], strict=False))
    put_right = [one for one, _, _ in pairs if one.injection is not None]
    assert put_right
    for one, _, source in pairs:
        if one.injection is None:
            assert np.array_equal(source, one.pixels)
        else:
            assert np.array_equal(source, one.injection.image)
            assert not np.array_equal(source, one.pixels)
    with ImageMemory(tmp_path, encoder=TinyEncoder()) as memory:
        for one in put_right:
            assert np.array_equal(memory.image(one.observed.cache_id), one.pixels)


def test_a_correction_is_an_injection_without_a_memory(tmp_path):
    """Kind, entry, step and reason; in `last`, too; its frame descends from the frame before."""
    done, _ = run(tmp_path, "hard", 12)
    (first, *_) = [one for one in done if one.injection is not None]
    injection = first.injection
    assert (injection.kind, injection.entry, injection.step) == ("corrected", None, 0)
    assert injection.reason.startswith("colours put right (hard): ")
    assert first.observed.corrected == injection.reason
    assert done[0].observed.corrected == ""
    following = done[first.frame].observed
    assert following.parents == (first.observed.cache_id,)


def test_off_is_as_if_there_were_no_colours(tmp_path):
    """And on frames inside the span, so are soft and hard: the same frames, bit for bit."""
    frames = {}
    for how in ("off", "soft", "hard"):
        with ImageMemory(tmp_path / how, encoder=TinyEncoder()) as memory:
            for number in range(4):
                memory.remember(scene(number, *SIZE), pinned=True)
            injector = Injector(memory, "random", seed=1, interval=3, colour=how)
            done = [injector.observe(scene(number % 4, *SIZE)) for number in range(12)]
            frames[how] = [each and (each.kind, each.entry.cache_id, each.image.tobytes()) for each in done]
    assert frames["off"] == frames["soft"] == frames["hard"]
    assert [each is not None for each in frames["off"]] == [False, False, True] * 4


def test_a_pil_frame_gets_a_pil_picture(tmp_path):
    """As with every other injection."""
    with ImageMemory(tmp_path, encoder=TinyEncoder()) as memory:
        injector = injector_of(memory, "hard", anchors=[picture()])
        frame = Image.fromarray(changed(picture(), light=-0.2))
        image = injector.observe(frame).image
    assert isinstance(image, Image.Image)
    assert image.size == frame.size


def test_a_loop_may_change_its_size(tmp_path):
    """Colours know no size."""
    with ImageMemory(tmp_path, encoder=TinyEncoder()) as memory:
        injector = injector_of(memory, "hard", anchors=[picture()])
        for size in ((30, 20), (7, 5), (64, 96)):
            assert injector.observe(changed(picture(size=size), light=-0.2)).image.shape == (*size, 3)


# ------------------------------------------------------------------------------------- anchors


def test_the_anchors_are_given_or_pinned_or_the_first_frame(tmp_path):
    """In that order."""
    bright, dark = changed(picture(), light=0.2), changed(picture(), light=-0.2)
    with ImageMemory(tmp_path, encoder=TinyEncoder()) as memory:
        first, given = injector_of(memory), injector_of(memory, anchors=[bright])
        for injector in (first, given):
            injector.observe(picture())
        assert first.last.colour.amount == 0.0
        assert "darker" in given.last.colour.words
        memory.remember(dark, pinned=True)
        for injector in (first, given):
            injector.observe(picture())
        assert "brighter" in first.last.colour.words
        assert "darker" in given.last.colour.words


def test_the_pinned_pictures_are_followed(tmp_path):
    """What is pinned or unpinned while the loop runs counts from the next frame on; reading is no use."""
    with ImageMemory(tmp_path, encoder=TinyEncoder()) as memory:
        injector = injector_of(memory)
        injector.observe(picture())
        dark = memory.remember(changed(picture(), light=-0.2), pinned=True).cache_id
        injector.observe(picture())
        assert injector.last.colour.amount > 0.1
        bright = memory.remember(changed(picture(), light=0.2), pinned=True).cache_id
        injector.observe(picture())
        assert injector.last.colour.amount == 0.0
        memory.cache.unpin(bright)
        injector.observe(picture())
        assert injector.last.colour.amount > 0.1
        memory.cache.unpin(dark)
        injector.observe(picture())
        assert injector.last.colour.amount == 0.0


def test_a_pinned_picture_that_is_broken_costs_an_anchor(tmp_path):
    """Not the loop."""
    with ImageMemory(tmp_path, encoder=TinyEncoder()) as memory:
        for light in (-0.2, 0.2):
            memory.remember(changed(picture(), light=light), pinned=True)
        memory.cache.get("cache_00002").image_path.write_bytes(b"")
        injector = injector_of(memory, "soft")
        injector.observe(picture())
        assert "brighter" in injector.last.colour.words


def test_wrong_names_and_anchors_are_refused(memory):
    """With the names that exist; a broken anchor is an error at once."""
    with pytest.raises(UnknownNameError, match="'strong'; there are: off, soft, hard"):
        Injector(memory, colour="strong")
    with pytest.raises(ImageError):
        Injector(memory, anchors=[np.zeros((2, 2))])


# ---------------------------------------------------------------------------- with everything else


def test_the_measures_are_with_the_others(tmp_path):
    """By name, for the policy too; those of what is shown."""
    policy = Script()
    with ImageMemory(tmp_path, encoder=TinyEncoder()) as memory:
        injector = Injector(memory, policy)
        injector.observe(picture())
    assert injector.last.measures.items() >= injector.last.colour.measures().items()
    assert policy.observations[0].measures.keys() >= MEASURES
    assert injector.last.measures["lightness"] == colours_of(picture()).lightness


def test_a_spectator_measures_and_never_corrects():
    """Against its anchors or the first frame."""
    bright = changed(picture(), light=0.2)
    for spectator, words in (
        (Spectator(TinyEncoder()), "within the colours of the anchors"),
        (Spectator(TinyEncoder(), anchors=[bright]), "darker"),
    ):
        assert spectator.observe(picture()) is None
        assert words in spectator.last.colour.words
        assert spectator.last.measures.keys() >= MEASURES
        assert spectator.last.corrected == ""


def test_an_injection_goes_before_a_correction(tmp_path):
    """A memory is the next input as it is, and the way to it is not bent."""
    with ImageMemory(tmp_path, encoder=TinyEncoder()) as memory:
        injector = injector_of(
            memory, "hard", Script({2: lambda seen: seen.candidates.ids[0]}), anchors=[picture()]
        )
        dark = changed(picture(), light=-0.25)
        assert injector.observe(dark).kind == "corrected"
        injection = injector.observe(dark)
        assert (injection.kind, injection.entry.cache_id) == ("memory", "cache_00001")
        assert np.array_equal(injection.image, dark)
        assert injector.last.corrected == ""


def test_on_the_way_nothing_is_corrected_and_the_cap_holds(tmp_path):
    """With a preset: every step keeps its cap, and corrections and ways take turns."""
    from reverie.encoders.descriptor import DescriptorEncoder

    generator = Drifting((64, 64))
    with ImageMemory(tmp_path, encoder=DescriptorEncoder()) as memory:
        for seed in generator.seeds:
            memory.remember(changed(seed, light=0.1), pinned=True)
        injector = Injector(memory, preset("wander", cap=0.1, cooldown=8), colour="hard")
        loop = DreamLoop(generator, injector, start=generator.seeds[0], strength=0.5)
        done = [loop.step() for _ in range(60)]
    kinds = [None if one.injection is None else one.injection.kind for one in done]
    assert {"corrected", "memory"} <= set(kinds)
    for one, kind in zip(done, kinds, strict=True):
        assert (kind == "corrected") <= (one.observed.target is None)
    rows = np.stack([one.observed.embedding for one in done])
    assert (1 - np.vecdot(rows[1:], rows[:-1])).max() <= 0.1 + 1e-6


def test_a_correction_that_is_too_large_a_step_is_taken_in_part(tmp_path):
    """The frame is made again from an input between what was shown and what was put right."""
    from reverie.encoders.descriptor import DescriptorEncoder

    generator = Drifting((64, 64))
    with ImageMemory(tmp_path, encoder=DescriptorEncoder()) as memory:
        far = changed(generator.seeds[0], light=0.25, a=-0.1)
        injector = Injector(memory, preset("wander", cap=0.08), colour="hard", anchors=[far])
        loop = DreamLoop(generator, injector, start=generator.seeds[0], strength=0.5)
        done = [loop.step() for _ in range(6)]
    shown = [one.observed.shown for one in done]
    assert "input" in {each.how for each in shown if each is not None}
    assert drifts(done)[-1] < 0.3 * drifts(done)[0]
    rows = np.stack([one.observed.embedding for one in done])
    assert (1 - np.vecdot(rows[1:], rows[:-1])).max() <= 0.08 + 1e-6


# ----------------------------------------------------------------------------------- going on


@pytest.mark.parametrize("how", ["off", "soft", "hard"])
def test_an_injector_goes_on_where_another_was(tmp_path, how):
    """After its frames and its state, through JSON: its next input is that one's, and so is the rest."""
    generator = Drifting()
    with ImageMemory(tmp_path, encoder=TinyEncoder()) as memory:
        first = injector_of(memory, how)  # its anchor is the first frame
        loop = DreamLoop(generator, first, start=generator.seeds[1], strength=0.5)
        done = [loop.step() for _ in range(25)]
        state = json.loads(json.dumps(first.state()))
        second = injector_of(memory, how)
        for one in done:
            second.relive(Relived(one.observed.embedding, one.observed.cache_id))
        source = second.restore(state, done[-1].pixels, None)
        last = done[-1]
        assert np.array_equal(source, last.pixels if last.injection is None else last.injection.image)
        frame = changed(last.pixels, light=-0.01)
        one, two = (each.observe(frame) for each in (first, second))
        assert first.last.colour == second.last.colour
        assert (one is None) == (two is None) == (how == "off")
        assert one is None or np.array_equal(one.image, two.image)


def test_a_state_from_before_colours_were_measured_is_gone_on_with(tmp_path):
    """The next frame is then the first."""
    with ImageMemory(tmp_path, encoder=TinyEncoder()) as memory:
        injector = injector_of(memory, "hard", anchors=[picture()])
        injector.observe(picture())
        state = {name: value for name, value in injector.state().items() if name != "colour"}
        injector.restore(state, picture(), None)
        assert injector.state()["colour"] == {"start": None}


def test_a_spectator_goes_on_where_another_was():
    """The first frame of the loop stays what it is measured against."""
    first, second = Spectator(TinyEncoder()), Spectator(TinyEncoder())
    first.observe(picture())
    second.relive(Relived(first.last.embedding))
    second.restore(json.loads(json.dumps(first.state())))
    dark = changed(picture(), light=-0.2)
    for each in (first, second):
        each.observe(dark)
    assert first.last.colour == second.last.colour
    assert first.last.colour == Span.of([colours_of(picture())]).drift(colours_of(dark))
