"""The generator that the study trains: its network learns, weights are kept and named, its loop follows."""

import json

import numpy as np
import pytest
import torch

from reverie.errors import ImageError, InputError, ModelCorruptError, StorageError
from reverie.generators.seed_images import built_in_seeds
from reverie.protocols import LatentSpace
from reverie.study import conv_denoiser
from reverie.study.conv_denoiser import ConvGenerator, Training
from reverie.testing import GeneratorSuite

SEEDS = built_in_seeds(64)[:4]
QUICK = Training(steps=30, batch=8, channels=(16, 24), crops=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the weights of all tests are: they are trained once."""
    return tmp_path_factory.mktemp("weights")


@pytest.fixture(scope="module")
def generator(folder):
    """A generator of 64 pixels, hardly trained."""
    return ConvGenerator(SEEDS, size=64, folder=folder, training=QUICK)


class TestConvGenerator(GeneratorSuite):
    """What every generator has to do."""

    @pytest.fixture(autouse=True)
    def _where(self, folder):
        self.folder = folder

    def make(self):
        """A second one reads the weights of the first."""
        return ConvGenerator(SEEDS, size=64, folder=self.folder, training=QUICK)


def loss_of(training, folder):
    """Mean error of a trained network at a noise of 1, in units of the latents' variance."""
    made = ConvGenerator(SEEDS, size=64, folder=folder, training=training)
    clean = conv_denoiser._tensor([made.encode(seed) for seed in made.seeds] * 8)
    rng = np.random.default_rng(5)
    noise = torch.from_numpy(conv_denoiser._noise(rng, len(clean), made._amplitudes, 8))
    with torch.inference_mode():
        found = made._network(clean + noise, torch.ones(len(clean)))
    return float(((found - clean) ** 2).mean())


def test_it_learns(folder, tmp_path):
    """At a noise of 1 the error falls below that of a network that leaves all to the preconditioning."""
    before, after = (
        loss_of(Training(steps=steps, batch=8, channels=(16, 24), crops=4), where)
        for steps, where in ((1, tmp_path), (150, folder))
    )
    assert before > 0.38
    assert after < 0.9 * before


def test_noise_has_a_deviation_of_one_and_coarse_parts():
    """Neighbouring cells of the noise are alike, distant ones are not."""
    amplitudes = conv_denoiser._amplitudes(16, 1.2)
    noise = conv_denoiser._noise(np.random.default_rng(0), 40, amplitudes, 16)
    assert noise.std() == pytest.approx(1.0, abs=0.03)
    assert np.mean(noise[..., 0] * noise[..., 1]) > 0.3
    assert abs(np.mean(noise[..., 0] * noise[..., 15])) < 0.05


def test_weights_are_trained_once(generator, folder, monkeypatch):
    """The same images and settings read the file; others have a file of their own."""
    monkeypatch.setattr(conv_denoiser, "_train", lambda *_: pytest.fail("trained again"))
    again = ConvGenerator(SEEDS, size=64, folder=folder, training=QUICK)
    assert again.weights == generator.weights
    frame = generator.generate(SEEDS[0], strength=0.5, seed=3)
    assert np.array_equal(again.generate(SEEDS[0], strength=0.5, seed=3), frame)
    monkeypatch.undo()
    said = []
    other = ConvGenerator(
        SEEDS[:2],
        size=64,
        folder=folder,
        training=Training(steps=2, batch=2, channels=(8, 8), crops=1),
        on_progress=lambda done, total: said.append((done, total)),
    )
    assert other.weights != generator.weights
    assert said == [(1, 2), (2, 2)]


def test_training_again_gives_the_same_weights(tmp_path):
    """Bit for bit, on one machine; torch's own randomness and threads are left as they were."""
    training = Training(steps=3, batch=2, channels=(8, 8), crops=1)
    torch.manual_seed(11)
    threads, expected = torch.get_num_threads(), torch.rand(1, generator=torch.Generator().manual_seed(11))
    first, second = (
        ConvGenerator(SEEDS[:1], size=64, folder=tmp_path / name, training=training) for name in "ab"
    )
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.rand(1), expected)
    with np.load(first.weights) as a, np.load(second.weights) as b:
        assert sorted(a.files) == sorted(b.files)
        assert all(np.array_equal(a[name], b[name]) for name in a.files)


def test_it_has_latents(generator):
    """Of 21 numbers for 8 x 8 pixels; what they lose is small."""
    assert isinstance(generator, LatentSpace)
    latent = generator.encode(SEEDS[0])
    assert (latent.shape, latent.dtype) == ((8, 8, 21), np.float32)
    assert np.abs(generator.decode(latent).astype(int) - SEEDS[0]).mean() < 16


def test_little_strength_keeps_the_frame_and_all_of_it_forgets_it(generator):
    """0 gives it back; 1 does not depend on it."""
    assert np.array_equal(generator.generate(SEEDS[0], strength=0.0, seed=1), SEEDS[0])
    a, b = (generator.generate(seed, strength=1.0, seed=1) for seed in SEEDS[:2])
    assert np.array_equal(a, b)


def test_damaged_weights_are_named_and_left(tmp_path):
    """The file, and what to do; it is not overwritten."""
    training = Training(steps=1, batch=1, channels=(8, 8), crops=1)
    made = ConvGenerator(SEEDS[:1], size=64, folder=tmp_path, training=training)
    made.weights.write_bytes(made.weights.read_bytes()[:300])
    with pytest.raises(ModelCorruptError, match="delete the file to train again"):
        ConvGenerator(SEEDS[:1], size=64, folder=tmp_path, training=training)
    assert made.weights.stat().st_size == 300
    (tmp_path / "file").write_text(json.dumps("x"))
    with pytest.raises(StorageError):
        ConvGenerator(SEEDS[:1], size=64, folder=tmp_path / "file" / "sub", training=training)


@pytest.mark.parametrize(
    "wrong",
    [
        {"images": []},
        {"size": 24},
        {"size": 72},
        {"steps": 0},
        {"sigma_min": 0.0},
        {"training": Training(steps=0)},
        {"training": Training(crops=0)},
        {"training": Training(channels=(12, 16))},
        {"training": Training(zoom=0.0)},
    ],
)
def test_wrong_arguments_are_refused(tmp_path, wrong):
    """Before anything is trained."""
    given = {"images": SEEDS, "size": 64, "training": QUICK, **wrong}
    with pytest.raises(InputError):
        ConvGenerator(given.pop("images"), folder=tmp_path, **given)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("wrong", [{"strength": 1.2}, {"strength": float("nan")}, {"seed": -1}])
def test_wrong_numbers_are_refused(generator, wrong):
    """As every generator."""
    with pytest.raises(InputError):
        generator.generate(SEEDS[0], **{"strength": 0.5, "seed": 1, **wrong})


def test_a_frame_of_another_size_is_refused(generator):
    """It says which size it takes."""
    with pytest.raises(ImageError, match="makes frames of 64 x 64 pixels, got one of 32 x 32"):
        generator.generate(SEEDS[0][:32, :32], strength=0.5, seed=1)
