"""A small convolutional diffusion model that the study trains itself, on the seed images, in minutes.

It is the study's stand-in for large img2img models: a learnt denoiser with weights, which knows its pictures
as far as it learnt them. As those it works in a latent, here the fixed lapped transform of
`reverie.study.latent_denoiser`: 21 numbers for 8 x 8 pixels. The network is a U-Net of one halving on that
grid, conditioned on the noise level and preconditioned after Karras et al., "Elucidating the Design Space of
Diffusion-Based Generative Models" (arXiv 2206.00364, equation 7), for data of deviation 1:

    D(x, sigma) = x / (sigma^2 + 1) + sigma / sqrt(sigma^2 + 1) F(x / sqrt(sigma^2 + 1), ln(sigma) / 4)

Training minimises their loss (equation 8) over crops, mirrors, scales and colours of the seed images. One
step of img2img at strength s solves the probability-flow equation in a few Euler steps:

    sigma_0 = tan(pi s / 2);   x = encode(frame) + sigma_0 n,   n pyramid noise of deviation 1
    x = d + sigma_next / sigma (x - d),   d = D(x, sigma)               the last d is decoded
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import threading
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from reverie.errors import ImageError, InputError, ModelCorruptError
from reverie.locks import file_lock, held
from reverie.pixels import Pixels, fit, to_pixels
from reverie.storage import replace_file, storage_error
from reverie.study.latent_denoiser import LappedLatent

__all__ = ["ConvGenerator", "Training"]

_Floats = NDArray[np.float32]

_THREADS = threading.Lock()  # torch has one number of threads for the whole process
_SIGMA_MAX = 20.0  # tan(pi / 2) has no end; past this the frame is 5 % of the noise
_FORMAT = 1  # raised whenever the same settings would train another network
_TOLD = 64  # numbers that tell the network the noise level


@dataclass(frozen=True, slots=True)
class Training:
    """How the network is trained; part of the digest that names its weights.

    Attributes:
        steps: Steps of Adam.
        batch: Pictures a step.
        rate: Learning rate at its peak; it warms up and then falls as a cosine.
        channels: Channels at the two scales of the U-Net, multiples of 8.
        noise_mean: Mean of ln(sigma) of the noise that is trained on.
        noise_deviation: Deviation of ln(sigma).
        amplification: How much more noise each coarser level of the pyramid gets.
        crops: Crops of each picture that are trained on.
        zoom: The smallest crop, as a share of the picture's side.
        jitter: How far brightness and the balance of the channels are changed.
        average: Share of the weights' running mean that a step keeps.
        seed: All randomness of the training.
    """

    steps: int = 1200
    batch: int = 24
    rate: float = 2e-3
    channels: tuple[int, int] = (64, 96)
    noise_mean: float = 0.0
    noise_deviation: float = 1.2
    amplification: float = 1.2
    crops: int = 48
    zoom: float = 0.6
    jitter: float = 0.1
    average: float = 0.99
    seed: int = 0


class ConvGenerator:
    """Dreams with a small U-Net trained on the images it is given; deterministic on one machine.

    The weights are trained once for the same images, size and settings and kept as a file in
    ``folder`` (``conv-<digest>.npz``); other processes that want them wait for the one that trains.
    It knows nothing of prompts.

    Args:
        images: Pictures to learn, arrays ``(h, w, 3)`` uint8 RGB of any size, at least one. Each is
            cut to a square; what is larger than ``size`` serves closer crops.
        size: Side of a frame in pixels, a multiple of 16.
        folder: Where weights are kept; made if it is not there.
        steps: Denoising steps a frame.
        sigma_min: Noise of the last step; latents have a deviation of about 1.
        training: How to train.
        on_progress: Called with the steps done and all steps while it trains.

    Raises:
        InputError: No images, or a parameter out of its range.
        ImageError: An image that is not one.
        ModelCorruptError: The weights in ``folder`` cannot be read.
        StorageError: The weights cannot be written.
    """

    name = "conv"

    def __init__(
        self,
        images: Sequence[Pixels],
        *,
        size: int = 128,
        folder: str | os.PathLike[str],
        steps: int = 4,
        sigma_min: float = 0.2,
        training: Training | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> None:
        training = Training() if training is None else training
        _check(images, size, steps, sigma_min, training)
        pictures = [to_pixels(image) for image in images]
        self._latent = LappedLatent(size)
        self._seeds = tuple(_fitted(picture, size) for picture in pictures)
        self._steps = steps
        self._sigma_min = sigma_min
        self._amplitudes = _amplitudes(self._latent.cells, training.amplification)
        large = np.stack([_fitted(picture, 2 * size) for picture in pictures])
        self.weights = Path(folder) / f"conv-{_digest(large, size, training)}.npz"
        self._network = _trained(self.weights, large, self._latent, training, on_progress)

    @property
    def size(self) -> tuple[int, int]:
        """``(height, width)`` of a frame."""
        return self._latent.size, self._latent.size

    @property
    def seeds(self) -> tuple[Pixels, ...]:
        """The images it learnt, each ``(size, size, 3)`` uint8 RGB, read-only."""
        return self._seeds

    def encode(self, pixels: Pixels) -> _Floats:
        """``(size, size, 3)`` uint8 RGB to its latent, ``(size / 8, size / 8, 21)`` float32."""
        return self._latent.encode(pixels)

    def decode(self, latent: _Floats) -> Pixels:
        """The frame of a latent."""
        return self._latent.decode(latent)

    def generate(self, frame: Pixels, *, prompt: str = "", strength: float, seed: int) -> Pixels:
        """One img2img step.

        Args:
            frame: ``(size, size, 3)`` uint8 RGB.
            prompt: Not used: this generator reads no text.
            strength: 0..1. 0 returns the frame, 1 forgets it.
            seed: All randomness of this step, 0 or more; the same arguments give the same bytes.

        Returns:
            A new ``(size, size, 3)`` uint8 array.

        Raises:
            ImageError: The frame is not an image or not of `size`.
            InputError: ``strength`` is outside 0..1 or NaN, or ``seed`` is negative.
        """
        del prompt
        if not 0.0 <= strength <= 1.0:
            raise InputError(f"strength must be from 0 (keep the frame) to 1 (forget it), got {strength}")
        if seed < 0:
            raise InputError(f"seed must be 0 or more, got {seed}")
        pixels = to_pixels(frame)
        if pixels.shape[:2] != self.size:
            raise ImageError(
                f"this generator makes frames of {self.size[1]} x {self.size[0]} pixels, got one of "
                f"{pixels.shape[1]} x {pixels.shape[0]}: resize it first (reverie.pixels.fit)"
            )
        if strength == 0.0:
            return pixels.copy()
        noise = _noise(np.random.default_rng(seed), 1, self._amplitudes, self._latent.cells)
        with _one_thread(), torch.inference_mode():
            dreamt = self._dream(_tensor([self.encode(pixels)]), torch.from_numpy(noise), strength)
        return self.decode(np.ascontiguousarray(dreamt.numpy()[0].transpose(1, 2, 0)))

    def _dream(self, start: Tensor, noise: Tensor, strength: float) -> Tensor:
        first = min(math.tan(math.pi * strength / 2), _SIGMA_MAX)
        noisy = first * noise if strength == 1.0 else start + first * noise
        sigmas = np.geomspace(first, min(first, self._sigma_min), self._steps).tolist()
        for sigma, following in zip(sigmas, [*sigmas[1:], 0.0], strict=True):
            clean = self._network(noisy, torch.tensor([sigma], dtype=torch.float32))
            noisy = clean + following / sigma * (noisy - clean)
        return noisy


class _Block(nn.Module):
    """Two convolutions with a shortcut; the noise level scales and shifts what lies between them."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.GroupNorm(8, before), nn.SiLU(), nn.Conv2d(before, after, 3, padding=1))
        self.told = nn.Linear(_TOLD, 2 * after)
        self.norm = nn.GroupNorm(8, after)
        self.second = nn.Conv2d(after, after, 3, padding=1)
        self.short = nn.Conv2d(before, after, 1) if before != after else nn.Identity()
        nn.init.zeros_(self.second.weight)  # a block begins as its shortcut

    def forward(self, values: Tensor, level: Tensor) -> Tensor:
        scale, shift = self.told(level)[:, :, None, None].chunk(2, dim=1)
        inner = functional.silu(self.norm(self.first(values)) * (1 + scale) + shift)
        changed: Tensor = self.second(inner) + self.short(values)
        return changed


class _Network(nn.Module):
    """D: ``(n, 21, cells, cells)`` noisy latents and ``(n,)`` sigmas to clean latents."""

    def __init__(self, channels: tuple[int, int], cells: int) -> None:
        super().__init__()
        fine, coarse = channels
        self.level = nn.Sequential(nn.Linear(16, _TOLD), nn.SiLU(), nn.Linear(_TOLD, _TOLD), nn.SiLU())
        self.stem = nn.Conv2d(LappedLatent.channels, fine, 3, padding=1)
        self.places = nn.Parameter(torch.zeros(fine, cells, cells))
        self.down = nn.ModuleList([_Block(fine, fine), _Block(fine, fine)])
        self.deep = nn.ModuleList([_Block(fine, coarse), _Block(coarse, coarse)])
        self.up = nn.ModuleList([_Block(coarse + fine, fine), _Block(fine, fine)])
        self.last = nn.Sequential(nn.GroupNorm(8, fine), nn.SiLU())
        self.head = nn.Conv2d(fine, LappedLatent.channels, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        self.turns: Tensor = torch.arange(1, 9) * (0.5 * math.pi)

    def forward(self, noisy: Tensor, sigma: Tensor) -> Tensor:
        inside = (sigma**2 + 1.0).rsqrt()[:, None, None, None]
        predicted = self._raw(inside * noisy, torch.log(sigma) / 4)
        clean: Tensor = inside**2 * noisy + sigma[:, None, None, None] * inside * predicted
        return clean

    def _raw(self, values: Tensor, noise_level: Tensor) -> Tensor:
        """F of equation 7."""
        angles = noise_level[:, None] * self.turns
        level = self.level(torch.cat([angles.sin(), angles.cos()], dim=1))
        fine = self.stem(values) + self.places
        for block in self.down:
            fine = block(fine, level)
        deep = functional.avg_pool2d(fine, 2)
        for block in self.deep:
            deep = block(deep, level)
        joined = torch.cat([functional.interpolate(deep, scale_factor=2), fine], dim=1)
        for block in self.up:
            joined = block(joined, level)
        predicted: Tensor = self.head(self.last(joined))
        return predicted


def _check(images: Sequence[Pixels], size: int, steps: int, sigma_min: float, training: Training) -> None:
    if len(images) == 0:
        raise InputError("no images to learn: pass at least one picture")
    if size < 32 or size % 16:
        raise InputError(f"size must be a multiple of 16 pixels, at least 32, got {size}")
    for name, count in (
        ("steps", steps),
        ("training.steps", training.steps),
        ("training.batch", training.batch),
        ("training.crops", training.crops),
    ):
        if count < 1:
            raise InputError(f"{name} must be at least 1, got {count}")
    if not 0.0 < sigma_min < math.inf:
        raise InputError(f"sigma_min must be a positive number, got {sigma_min}")
    if any(count < 8 or count % 8 for count in training.channels):
        raise InputError(f"training.channels must be multiples of 8, got {training.channels}")
    if not 0.0 < training.zoom <= 1.0:
        raise InputError(f"training.zoom must be above 0 and at most 1, got {training.zoom}")


def _fitted(picture: Pixels, side: int) -> Pixels:
    own = np.array(fit(picture, side, side))
    own.setflags(write=False)
    return own


def _digest(pictures: Pixels, size: int, training: Training) -> str:
    """What tells these weights from any other: the pictures and all that shapes the training."""
    settings = json.dumps([_FORMAT, size, asdict(training), str(torch.__version__)], sort_keys=True)
    return hashlib.sha256(settings.encode() + pictures.tobytes()).hexdigest()[:20]


def _tensor(latents: Sequence[_Floats]) -> Tensor:
    """Stacks n latents: ``(n, 21, cells, cells)``."""
    return torch.from_numpy(np.ascontiguousarray(np.stack(latents).transpose(0, 3, 1, 2)))


def _amplitudes(cells: int, amplification: float) -> _Floats:
    """Deviation of the noise of each level, of 1, 2, 4... cells; their squares add up to 1."""
    raw = amplification ** np.arange(int(math.log2(cells)) - 1)
    return (raw / np.linalg.norm(raw)).astype(np.float32)


def _noise(rng: np.random.Generator, count: int, amplitudes: _Floats, cells: int) -> _Floats:
    """Pyramid noise of deviation 1, ``(count, 21, cells, cells)``: white noise of every level, enlarged."""
    total = np.zeros((count, LappedLatent.channels, cells, cells), dtype=np.float32)
    for level, amplitude in enumerate(amplitudes):
        side = -(-cells // (1 << level))
        white = rng.standard_normal((count, LappedLatent.channels, side, side), dtype=np.float32)
        total += amplitude * white.repeat(1 << level, 2).repeat(1 << level, 3)[:, :, :cells, :cells]
    return total


def _trained(
    path: Path,
    pictures: Pixels,
    latent: LappedLatent,
    training: Training,
    on_progress: Callable[[int, int], None] | None,
) -> _Network:
    """The network of these weights; trains and keeps them where they are not there yet."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise storage_error(f"make the folder {path.parent}", exc) from exc
    with held(file_lock(path.with_suffix(".lock"))):
        if not path.exists():
            network = _train(pictures, latent, training, on_progress)
            buffer = io.BytesIO()
            np.savez(buffer, **{name: value.numpy() for name, value in network.state_dict().items()})
            replace_file(path, [buffer.getvalue()])
    return _load(path, latent, training)


def _load(path: Path, latent: LappedLatent, training: Training) -> _Network:
    with torch.random.fork_rng(devices=[]):  # a network begins with random weights
        network = _Network(training.channels, latent.cells)
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as stored:
            network.load_state_dict({name: torch.from_numpy(stored[name]) for name in stored.files})
    except (OSError, ValueError, RuntimeError, EOFError, zipfile.BadZipFile) as exc:
        raise ModelCorruptError(
            f"the weights {str(path)!r} cannot be read: delete the file to train again"
        ) from exc
    return network.eval().requires_grad_(False)


def _train(
    pictures: Pixels,
    latent: LappedLatent,
    training: Training,
    on_progress: Callable[[int, int], None] | None,
) -> _Network:
    rng = np.random.default_rng(training.seed)
    amplitudes = _amplitudes(latent.cells, training.amplification)
    library = _tensor([latent.encode(crop) for crop in _crops(pictures, rng, latent.size, training)])
    with _one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        network = _Network(training.channels, latent.cells)
        mean = {name: value.clone() for name, value in network.state_dict().items()}
        adam = torch.optim.Adam(network.parameters(), lr=training.rate)
        for step in range(training.steps):
            for group in adam.param_groups:
                group["lr"] = training.rate * _rate(step, training.steps)
            clean = library[torch.from_numpy(rng.integers(0, len(library), training.batch))]
            loss = _loss(network, clean, rng, amplitudes, training)
            adam.zero_grad()
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            adam.step()
            _follow(mean, network, min(training.average, (1 + step) / (10 + step)))
            if on_progress is not None:
                on_progress(step + 1, training.steps)
        network.load_state_dict(mean)
    return network


def _rate(step: int, steps: int) -> float:
    """Share of the peak learning rate: up in the first twentieth, then down along a cosine."""
    warm = max(1, steps // 20)
    return min((step + 1) / warm, 0.5 + 0.5 * math.cos(math.pi * step / steps))


def _follow(mean: dict[str, Tensor], network: nn.Module, keep: float) -> None:
    for name, value in network.state_dict().items():
        mean[name].lerp_(value, 1.0 - keep)


def _loss(
    network: _Network, clean: Tensor, rng: np.random.Generator, amplitudes: _Floats, training: Training
) -> Tensor:
    """Equation 8 of Karras et al., its weight included: every noise level counts alike."""
    count = len(clean)
    log_sigma = training.noise_mean + training.noise_deviation * rng.standard_normal(count)
    sigma = torch.from_numpy(np.exp(log_sigma).astype(np.float32))
    noise = torch.from_numpy(_noise(rng, count, amplitudes, clean.shape[-1]))
    weight = (sigma**2 + 1.0) / sigma**2
    denoised = network(clean + sigma[:, None, None, None] * noise, sigma)
    loss: Tensor = (weight[:, None, None, None] * (denoised - clean) ** 2).mean()
    return loss


def _crops(pictures: Pixels, rng: np.random.Generator, size: int, training: Training) -> Iterator[Pixels]:
    """Crops of every picture, half of them mirrored, each with colours of its own."""
    for picture in pictures:
        image, side = Image.fromarray(picture), picture.shape[0]
        for _ in range(training.crops):
            length = side * rng.uniform(training.zoom, 1.0)
            left, top = rng.uniform(0, side - length, 2)
            box = (left, top, left + length, top + length)
            cut = np.asarray(image.resize((size, size), Image.Resampling.LANCZOS, box), dtype=np.float32)
            if rng.random() < 0.5:
                cut = cut[:, ::-1]
            gain = 1.0 + training.jitter * (rng.uniform(-1, 1) + rng.uniform(-0.5, 0.5, 3))
            lift = 127.5 * training.jitter * rng.uniform(-1, 1)
            coloured = (cut - 127.5) * gain.astype(np.float32) + (127.5 + lift)
            yield np.clip(np.rint(coloured), 0, 255).astype(np.uint8)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Use one thread and give the process its own number back.

    Products this small gain little by a second thread, lose a factor of 30 where another program
    keeps the cores busy, and their last bits would depend on the number.
    """
    with _THREADS:
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)
