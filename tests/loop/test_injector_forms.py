"""Frames and latents as other loops have them: what comes in is what goes out."""

import numpy as np
import pytest
import torch
from loop_fakes import SIZE, Script, scene
from PIL import Image

from reverie import Injector
from reverie.errors import ImageError, InputError
from reverie.loop.known_latents import KnownLatents
from reverie.loop.transition import TransitionSettings, slerp
from reverie.pixels import to_pixels
from reverie.tensors import numbers


def oldest(observation):
    """The oldest memory."""
    return observation.candidates.ids[0]


def nothing(frame):
    """As it is."""
    return frame


FORMS = {
    "array": nothing,
    "pil": Image.fromarray,
    "comfyui": lambda frame: torch.from_numpy(frame)[None].float() / 255,
    "half, channels first": lambda frame: (torch.from_numpy(frame).permute(2, 0, 1)[None] / 255).half(),
    "uint8": torch.from_numpy,
}


@pytest.mark.parametrize("form", FORMS)
def test_the_injection_is_of_the_frames_form(memory, form):
    """The same kind of picture, the same shape, dtype and device; the memory holds the pixels."""
    made = FORMS[form]
    injector = Injector(memory, Script({3: oldest}))
    injections = [injector.observe(made(scene(number))) for number in range(3)]
    assert injections[:2] == [None, None]
    image, frame = injections[2].image, made(scene(2))
    assert type(image) is type(frame)
    if form != "pil":
        assert (image.shape, image.dtype) == (frame.shape, frame.dtype)
    assert np.array_equal(to_pixels(image), scene(0))
    stored = [to_pixels(entry.image_path) for entry in memory.cache.get_all()]
    assert all(np.array_equal(pixels, scene(number)) for number, pixels in enumerate(stored))


def test_a_tensor_that_is_no_frame_is_not_counted(memory):
    """A batch of two, as a mistake that is easily made; the loop goes on."""
    injector = Injector(memory, Script())
    with pytest.raises(ImageError, match="hand in one frame after the other"):
        injector.observe(torch.zeros(2, *SIZE, 3))
    assert injector.last is None
    injector.observe(torch.zeros(1, *SIZE, 3))
    assert (injector.last.frame, len(memory)) == (1, 1)


class Space:
    """Latents that are the picture at an eighth of the contrast; counts what is encoded and decoded."""

    def __init__(self):
        self.encoded = self.decoded = 0

    def encode(self, pixels):
        """``(3, h, w)``."""
        self.encoded += 1
        return (pixels.transpose(2, 0, 1).astype(np.float32) - 128) / 16

    def decode(self, latent):
        """And back."""
        self.decoded += 1
        return np.clip(np.rint(latent * 16 + 128), 0, 255).astype(np.uint8).transpose(1, 2, 0).copy()


class Slow(Script):
    """Takes the way through the latents, in three frames."""

    transition = TransitionSettings("slerp", frames=3, longest=3, arrived=1.0)


def latent_of(frame, dtype=torch.float16):
    """What a loop would have at hand of it."""
    return torch.from_numpy(Space().encode(frame)).to(dtype)[None]


def test_latents_of_a_frame_are_not_made_again(memory):
    """The frame comes with its own, the target is encoded once, and the blend comes with its latents."""
    space = Space()
    injector = Injector(memory, Slow({2: oldest}), latents=space)
    injector.observe(scene(0), latents=latent_of(scene(0)))
    injection = injector.observe(scene(1), latents=latent_of(scene(1)))
    assert (space.encoded, space.decoded) == (2, 1)  # the first, to see their shape, and the target
    latents = injection.latents
    assert (latents.dtype, latents.shape) == (torch.float16, (1, 3, *SIZE))
    way = slerp(numbers(latent_of(scene(1)))[0], Space().encode(scene(0)), 1 / 3)
    assert np.allclose(numbers(latents)[0], way, atol=5e-3)
    assert np.array_equal(injection.image, Space().decode(way))
    injector.observe(scene(2), latents=latent_of(scene(2)))
    assert (space.encoded, space.decoded) == (2, 2)


def test_without_latents_of_the_frame_it_is_encoded(memory):
    """As ever; nobody asked for latents back."""
    space = Space()
    injector = Injector(memory, Slow({2: oldest}), latents=space)
    injector.observe(scene(0))
    injection = injector.observe(scene(1))
    assert (space.encoded, injection.latents) == (2, None)


def test_latents_as_arrays(memory):
    """Come back as arrays."""
    injector = Injector(memory, Slow({2: oldest}), latents=Space())
    injector.observe(scene(0))
    injection = injector.observe(scene(1), latents=Space().encode(scene(1)))
    assert isinstance(injection.latents, np.ndarray)
    assert injection.latents.shape == (3, *SIZE)


def test_latents_in_the_background(memory):
    """One frame late, in the form of those that came with their frame; the buffer may be used again."""
    injector = Injector(memory, Slow({2: oldest}), latents=Space(), background=True)
    answers = []
    for number in range(4):
        latent = latent_of(scene(number))
        answers.append(injector.observe(scene(number), latents=latent))
        latent.zero_()
    injector.close()
    assert [answer is not None for answer in answers] == [False, False, True, True]
    way = slerp(Space().encode(scene(1)), Space().encode(scene(0)), 1 / 3)
    assert np.array_equal(answers[2].image, Space().decode(way))
    assert answers[2].latents.shape == (1, 3, *SIZE)


def test_latents_need_a_space(memory):
    """Nobody could say what a memory's latents are."""
    with pytest.raises(InputError, match=r"Injector\(latents=generator\)"):
        Injector(memory, Script()).observe(scene(0), latents=latent_of(scene(0)))
    assert len(memory) == 0


def test_a_latent_belongs_to_one_picture_in_memory_only():
    """Another array with the same pixels is another picture: nothing is compared, nothing is mixed up."""
    space = Space()
    known = KnownLatents(space)
    frame = scene(1)
    known.give(frame, Space().encode(scene(2)), Space().encode(scene(2)))
    assert np.array_equal(known.encode(frame), Space().encode(scene(2)))
    assert np.array_equal(known.encode(frame.copy()), Space().encode(frame))
    assert space.encoded == 2


def test_latents_of_another_shape_are_refused(memory):
    """With both shapes; the frame was not counted."""
    injector = Injector(memory, Script(), latents=Space())
    with pytest.raises(InputError, match=r"have shape \(3, 12, 16\), got \(1, 4, 12, 16\)"):
        injector.observe(scene(0), latents=torch.zeros(1, 4, *SIZE))
    assert injector.last is None
