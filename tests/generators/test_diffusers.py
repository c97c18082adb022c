"""diffusers as a generator, on small pipelines made here: protocol, kinds, latents, and what goes wrong."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from diffusers_zoo import save_sd, save_sdxl
from reverie import registry
from reverie.errors import (
    GenerationError,
    InputError,
    MissingDependencyError,
    ModelCorruptError,
    ModelNotFoundError,
)
from reverie.generators.diffusers_kinds import steps_for
from reverie.generators.diffusers_pipeline import DiffusersGenerator, _digest
from reverie.protocols import KeepsLatents, LatentSpace, Resumable
from reverie.testing import GeneratorSuite

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture(scope="session")
def pipes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders with small pipelines, by kind."""
    made = {kind: save_sd(tmp_path_factory.mktemp(kind), kind) for kind in ("sd", "turbo", "lcm")}
    return {**made, "sdxl": save_sdxl(tmp_path_factory.mktemp("sdxl"))}


_MADE: dict[tuple[Any, ...], DiffusersGenerator] = {}


def made(folder: Path, **options: Any) -> DiffusersGenerator:
    """A generator, made once for all tests that change nothing about it."""
    key = folder, *sorted(options.items())
    if key not in _MADE:
        _MADE[key] = DiffusersGenerator(variant=str(folder), device="cpu", **options)
    return _MADE[key]


def apart(a: Any, b: Any) -> float:
    """Mean absolute difference in grey values."""
    return float(np.abs(a.astype(float) - b).mean())


class TestTurbo(GeneratorSuite):
    """What every generator does, a turbo model does."""

    @pytest.fixture(autouse=True)
    def folder(self, pipes: dict[str, Path]) -> None:
        """Where it is."""
        self.pipe = pipes["turbo"]

    def make(self) -> DiffusersGenerator:
        """The one of all tests."""
        return made(self.pipe)

    def test_strength_is_how_far_it_goes(self, generator: Any, frame: Any) -> None:
        """From what an autoencoder of random weights makes of the frame, which is far from the frame."""
        near = generator.decode(generator.encode(frame))
        weak, strong = (
            generator.generate(frame, prompt="", strength=strength, seed=3) for strength in (0.1, 0.9)
        )
        assert apart(weak, near) < apart(strong, near)


class TestSdxl(TestTurbo):
    """And SDXL, with its two text encoders."""

    @pytest.fixture(autouse=True)
    def folder(self, pipes: dict[str, Path]) -> None:
        """Where it is."""
        self.pipe = pipes["sdxl"]


class TestKeeping(TestTurbo):
    """And one that keeps its latents."""

    def make(self) -> DiffusersGenerator:
        """The one of all tests that keep them."""
        return made(self.pipe, keep_latents=True, safety_checker=False)

    def test_the_latents_are_kept(self, generator: Any, frame: Any) -> None:
        """So that the suite has something to compare."""
        assert generator.latent_of(generator.generate(frame, prompt="", strength=0.5, seed=4)) is not None


@pytest.mark.parametrize(
    ("kind", "steps", "guidance", "words"),
    [
        ("sd", 20, "7.5", "Stable Diffusion"),
        ("turbo", 2, "0", "a turbo model"),
        ("lcm", 4, "8", "a latent consistency model"),
        ("sdxl", 2, "0", "a turbo model"),
    ],
)
def test_what_suits_the_model(pipes, kind, steps, guidance, words):
    """Steps and guidance by the model's own parts, the size by its network, and where it runs and why."""
    generator = made(pipes[kind])
    assert generator.choice == (f"{words} on cpu in float32 (as asked), {steps} steps, guidance {guidance}")
    assert generator.size == (64, 64)
    assert generator.name == f"diffusers:{pipes[kind]}"
    assert len(generator.seeds) == 24
    frame = generator.generate(generator.seeds[0], prompt="a rose", strength=0.5, seed=1)
    assert frame.std() > 1


def test_what_is_given_goes_before(pipes):
    """And is shown."""
    generator = made(pipes["sd"], steps=3, guidance=1.5, size=32)
    assert generator.choice.endswith("3 steps, guidance 1.5")
    assert generator.size == (32, 32)


def test_at_least_one_step_is_run():
    """int(steps x strength) of them are."""
    assert [steps_for(2, strength) for strength in (1.0, 0.5, 0.4, 0.1)] == [2, 2, 3, 10]
    assert all(int(steps_for(4, s) * s) >= 1 for s in np.linspace(0.001, 1, 200))


def test_the_prompt_matters_and_is_encoded_once(pipes, monkeypatch):
    """A loop says the same for hundreds of frames."""
    generator = DiffusersGenerator(variant=str(pipes["turbo"]), device="cpu")
    asked = []
    real = generator._pipe.encode_prompt

    def encode(prompt: Any, *what: Any, **how: Any) -> Any:
        if prompt is not None:
            asked.append(prompt)
        return real(prompt, *what, **how)

    monkeypatch.setattr(generator._pipe, "encode_prompt", encode)
    frame = generator.seeds[0]
    one, two, again = (
        generator.generate(frame, prompt=prompt, strength=0.9, seed=3) for prompt in ("a", "zebra", "a")
    )
    assert asked == ["a", "zebra"]
    assert not np.array_equal(one, two)
    assert np.array_equal(one, again)


def test_guidance_and_what_to_keep_away_from(pipes):
    """Above 1 a negative prompt counts; without guidance it does not."""

    def frame(**options: Any) -> Any:
        generator = made(pipes["sd"], steps=4, **options)
        return generator.generate(generator.seeds[2], prompt="a rose", strength=0.8, seed=2)

    guided = frame(guidance=9.0)
    assert not np.array_equal(guided, frame(guidance=9.0, negative_prompt="dull"))
    assert np.array_equal(frame(guidance=1.0), frame(guidance=1.0, negative_prompt="dull"))


def test_nobody_elses_randomness_is_touched(pipes):
    """Neither used nor changed."""
    generator = made(pipes["turbo"])
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = generator.generate(generator.seeds[0], prompt="", strength=0.5, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    assert np.array_equal(generator.generate(generator.seeds[0], prompt="", strength=0.5, seed=1), first)


def test_strength_nothing_is_the_frame(pipes):
    """A copy of it; more than 1 is refused."""
    generator = made(pipes["turbo"])
    frame = generator.generate(generator.seeds[0], prompt="", strength=0.0, seed=1)
    assert np.array_equal(frame, generator.seeds[0])
    assert frame is not generator.seeds[0]
    with pytest.raises(InputError, match="strength"):
        generator.generate(frame, prompt="", strength=1.5, seed=1)


# ---------------------------------------------------------------------------------- latents


@pytest.mark.parametrize("kind", ["turbo", "sdxl"])
def test_latents(pipes, kind):
    """There and back again, always the same; the shape is the model's."""
    generator = made(pipes[kind])
    assert isinstance(generator, LatentSpace)
    frame = generator.seeds[0]
    latent = generator.encode(frame)
    assert (latent.shape, latent.dtype) == ((4, 8, 8), np.float32)
    assert np.array_equal(generator.encode(frame), latent)
    assert generator.decode(latent).shape == (64, 64, 3)


def test_latents_that_are_kept_spare_the_round_trip(pipes, monkeypatch):
    """The next step goes on from the latent itself; a changed frame does not."""
    generator = DiffusersGenerator(variant=str(pipes["turbo"]), device="cpu", keep_latents=True)
    vae = generator._pipe.vae
    encoded = []
    real = vae.encode
    monkeypatch.setattr(vae, "encode", lambda *a, **k: encoded.append(1) or real(*a, **k))
    first = generator.generate(generator.seeds[0], prompt="", strength=0.5, seed=1)
    assert encoded == [1]
    second = generator.generate(first, prompt="", strength=0.5, seed=2)
    assert encoded == [1]
    assert isinstance(generator, KeepsLatents)
    blended = generator.decode(0.5 * generator.latent_of(first) + 0.5 * generator.latent_of(second))
    generator.generate(blended, prompt="", strength=0.5, seed=3)
    assert encoded == [1]
    generator.generate(255 - first, prompt="", strength=0.5, seed=2)
    assert encoded == [1, 1]
    other = DiffusersGenerator(variant=str(pipes["turbo"]), device="cpu", keep_latents=True)
    assert not np.array_equal(other.generate(first, prompt="", strength=0.5, seed=2), second)
    other.restore(generator.state())
    assert np.array_equal(other.generate(first, prompt="", strength=0.5, seed=2), second)


def test_only_the_last_latents_are_kept(pipes):
    """Memory does not grow with the loop."""
    generator = made(pipes["turbo"], keep_latents=True)
    frame = generator.seeds[1]
    frames = [frame := generator.generate(frame, prompt="", strength=0.5, seed=n) for n in range(12)]
    assert isinstance(generator, Resumable)
    assert [_digest(each) in generator.state() for each in frames] == [False] * 4 + [True] * 8
    assert made(pipes["turbo"]).state() == {}


# ---------------------------------------------------------------------------------- what goes wrong


def test_a_model_has_to_be_named():
    """With an example; a folder that is none, and one without a pipeline, are said so."""
    with pytest.raises(InputError, match="name the model, such as diffusers:stabilityai/sd-turbo"):
        DiffusersGenerator()
    with pytest.raises(ModelNotFoundError, match=r"there is no folder './nowhere'"):
        DiffusersGenerator(variant="./nowhere")


def test_a_folder_without_a_pipeline(tmp_path):
    """A checkpoint, perhaps."""
    with pytest.raises(ModelCorruptError, match=r"no model_index\.json"):
        DiffusersGenerator(variant=str(tmp_path))


def test_a_damaged_file(pipes, tmp_path):
    """What is missing is named, whatever is missing."""
    for number, gone in enumerate(("unet/config.json", "vae/diffusion_pytorch_model.safetensors")):
        folder = tmp_path / str(number)
        shutil.copytree(pipes["turbo"], folder)
        (folder / gone).unlink()
        with pytest.raises(ModelCorruptError, match=str(number)):
            DiffusersGenerator(variant=str(folder))
    index = json.loads((pipes["turbo"] / "model_index.json").read_text())
    shutil.copytree(pipes["turbo"], tmp_path / "text")
    index["_class_name"] = "NoPipeline"
    (tmp_path / "text" / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ModelCorruptError, match="img2img pipeline"):
        DiffusersGenerator(variant=str(tmp_path / "text"))


def test_offline_without_the_model():
    """What to do about it."""
    with pytest.raises(ModelNotFoundError, match="hf download nobody/nothing") as caught:
        DiffusersGenerator(variant="nobody/nothing", offline=True)
    assert "is not on this machine and cannot be fetched now" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"size": 60}, "multiple of 8 for .*, such as 64; got 60"),
        ({"size": 0}, "size"),
        ({"steps": 0}, "steps"),
        ({"dtype": "int8"}, "float32, float16, bfloat16, got 'int8'"),
        ({"device": "warp"}, "torch cannot use the device 'warp' here"),
    ],
)
def test_settings_out_of_range(pipes, options, says):
    """The message says what would do."""
    with pytest.raises(InputError, match=says):
        DiffusersGenerator(variant=str(pipes["turbo"]), **options)


def test_out_of_memory_is_said_in_words(pipes, monkeypatch):
    """With what to do; the generator can be used again."""
    generator = DiffusersGenerator(variant=str(pipes["turbo"]), device="cpu")
    frame = generator.seeds[0]
    real = generator._pipe.unet.forward

    def full(*_what: Any, **_how: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(generator._pipe.unet, "forward", full)
    with pytest.raises(GenerationError, match=r"out of memory on cpu: .* 64 pixels .*--resume"):
        generator.generate(frame, prompt="", strength=0.5, seed=1)
    monkeypatch.setattr(generator._pipe.unet, "forward", real)
    assert generator.generate(frame, prompt="", strength=0.5, seed=1).shape == (64, 64, 3)


def test_a_decoder_that_overflows_is_no_black_frame(pipes, monkeypatch):
    """NaN never becomes a picture."""
    generator = DiffusersGenerator(variant=str(pipes["turbo"]), device="cpu", keep_latents=True)
    monkeypatch.setattr(
        generator._pipe.vae, "decode", lambda latent, **_: SimpleNamespace(sample=latent * float("nan"))
    )
    with pytest.raises(GenerationError, match="its decoder overflows in float32"):
        generator.generate(generator.seeds[0], prompt="", strength=0.5, seed=1)


def test_a_frame_that_the_safety_checker_refuses(pipes, monkeypatch):
    """Is named, not remembered as black."""
    generator = DiffusersGenerator(variant=str(pipes["turbo"]), device="cpu")

    def refuse(image: Any, *_what: Any) -> tuple[Any, list[bool]]:
        return image, [True]

    monkeypatch.setattr(generator._pipe, "run_safety_checker", refuse)
    with pytest.raises(GenerationError, match="safety_checker=False"):
        generator.generate(generator.seeds[0], prompt="", strength=0.5, seed=1)


def test_without_the_library_the_install_line_is_said(monkeypatch):
    """And what works without."""
    monkeypatch.setitem(sys.modules, "reverie.generators.diffusers", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "reverie\[diffusers\]"'):
        registry.load("generators", "diffusers:x/y")


def test_an_option_that_it_has_not(pipes):
    """Named, before a model is loaded."""
    with pytest.raises(InputError, match=r"cannot be made like that: .*stepps"):
        registry.create("generators", f"diffusers:{pipes['turbo']}", stepps=3)


def test_its_name_alone_loads_nothing():
    """`reverie parts` asks every part what it is; importing diffusers takes ten seconds."""
    code = (
        "import sys\nfrom reverie import registry\n"
        "print(registry.load('generators', 'diffusers:x').__doc__)\n"
        "assert not {'torch', 'diffusers', 'transformers'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Img2img pipelines")


def test_seeds_of_a_folder(pipes, tmp_path):
    """Its pictures, at the model's size."""
    Image.fromarray(np.full((20, 30, 3), 200, np.uint8)).save(tmp_path / "one.png")
    generator = registry.create("generators", f"diffusers:{pipes['turbo']}", tmp_path, device="cpu")
    assert [seed.shape for seed in generator.seeds] == [(64, 64, 3)]
