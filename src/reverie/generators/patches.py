"""An image generator without weights: local-score diffusion over a handful of pictures, in numpy.

Kamb & Ganguli (arXiv 2412.20292) show that a diffusion model whose score is local denoises every
patch of an image towards the patches of its training set, and so makes new pictures that are
patchwise old ones. That score needs no network: with few pictures it can be computed. Here the
training set is the seed images and their mirrors.

One step of img2img at strength s:

    sigma_0 = tan(pi s / 2);   x = frame + sigma_0 n,   n pyramid noise of deviation 1
    for sigma in geomspace(max(sigma_0, 1.01 sigma_min), sigma_min, steps):
        d = D(x, sigma);   x = d + sigma_next / sigma (x - d)         the last d is the result

D works on one level of an image pyramid, a coarser one for more noise. Every patch of x on a grid
is compared, in the leading principal components, with the level's stored patches; the ``top_k``
nearest are averaged with the weights of a Gaussian posterior, **at full resolution**, and the
results are overlap-added under a squared Hann window (a plain one blurs). No full-resolution patch
is kept: a stored patch is its components and its place in a picture, and its content is read there.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from reverie.checks import check_number, check_strength, check_whole
from reverie.errors import ImageError, InputError
from reverie.generators.seed_images import built_in_seeds, load_seeds
from reverie.pixels import Pixels, fit, to_pixels

__all__ = ["MAX_SIZE", "PatchGenerator"]

MAX_SIZE = 2048
"""The largest side of a frame: with 24 seeds it takes about 6 GB and a minute to begin."""

_Floats = NDArray[np.float32]
_Places = NDArray[np.intp]

_ONE_THREAD = Lock()  # the number of BLAS threads belongs to the whole process: one of us sets it at a time
_SIGMA_MAX = 20.0  # tan(pi / 2) has no end; past this the frame is 5 % of the noise and the answer stays
_FAINT = 1 / 2048  # a share below this changes no pixel by an eighth of a grey value
_MARGIN = 3  # a level is of use while a patch can still move about in it


@dataclass(frozen=True, slots=True, eq=False)
class _Level:
    """What is known of the seed images at one scale; n stored patches, c components.

    Attributes:
        factor: Full-resolution pixels along one pixel of this level.
        centre: ``(d,)`` mean patch.
        axes: ``(d, c)`` principal components.
        points: ``(n, c + 2)`` the patches in components, then their weighted position.
        half: ``(n,)`` half the squared length of each point.
        places: ``(n, 3)`` picture, row and column of each patch at full resolution.
        rows: Rows (and columns) of the query grid, in pixels of this level.
        noise: Noise left at this level for one unit of sigma.
    """

    factor: int
    centre: _Floats
    axes: _Floats
    points: _Floats
    half: _Floats
    places: _Places
    rows: _Places
    noise: float


class PatchGenerator:
    """Dreams in patches of the seed images; no weights, no download, deterministic.

    A loop over it (each frame made from the one before) collapses, as loops of large models do,
    which makes it a model system for what this package is about. It knows nothing of prompts.

    Args:
        seeds: Pictures to dream of, arrays ``(h, w, 3)`` uint8 RGB of any size; or a folder of
            pictures; None takes the 24 built-in ones. Each is cut to a square of ``size``.
        size: Side of a frame in pixels, at most `MAX_SIZE`. With the built-in seeds 1024 takes 1.4 GB while
            it is being made, and grows with the square.
        patch: Side of a patch in pixels of its level.
        per_level: Patches stored at each level, drawn at random from all there are.
        top_k: Nearest patches that share in an output patch.
        bandwidth: Deviation added to the noise where patches are weighed; pixels are -1..1.
        position_weight: What moving a patch by the side of the picture adds to the mean squared
            difference of its pixel values. It keeps skies above; much of it freezes the picture.
        pca: Principal components in which patches are compared.
        steps: Denoising steps a frame.
        sigma_min: Noise of the last step.
        target: Noise that a level should see after its averaging; chooses the level.
        strides: Step of the query grid by level, finest first; the last one serves coarser levels.
        noise_amplification: How much more noise each coarser level of the pyramid gets.
        build_seed: Seed of the choice of stored patches.

    Raises:
        InputError: No seeds, an empty or missing folder, or a parameter out of its range.
        ImageError: A seed that is not an image; for a folder the message names the file.
    """

    name = "patches"

    def __init__(
        self,
        seeds: Sequence[Pixels] | str | os.PathLike[str] | None = None,
        *,
        size: int = 128,
        patch: int = 8,
        per_level: int = 3000,
        top_k: int = 4,
        bandwidth: float = 0.05,
        position_weight: float = 0.2,
        pca: int = 24,
        steps: int = 4,
        sigma_min: float = 0.3,
        target: float = 0.1,
        strides: Sequence[int] = (4, 4, 2, 2, 1),
        noise_amplification: float = 1.2,
        build_seed: int = 0,
    ) -> None:
        _check_counts(patch=patch, per_level=per_level, top_k=top_k, pca=pca, steps=steps)
        _check_strides(strides)
        _check_scales(sigma_min=sigma_min, target=target, noise_amplification=noise_amplification)
        _check_scales(zero=True, bandwidth=bandwidth, position_weight=position_weight)
        check_whole("build_seed", build_seed, 0)
        self._factors = _factors(size, patch)
        self._side = size
        self._patch = patch
        self._top_k = top_k
        self._bandwidth = bandwidth
        self._pull = math.sqrt(position_weight * 3 * patch**2)
        self._steps = steps
        self._sigma_min = sigma_min
        self._target = target
        self._amplitudes = _amplitudes(len(self._factors), noise_amplification)
        self._library = _library(_load(seeds, size))
        self._threads = ThreadpoolController()
        with _ONE_THREAD, self._threads.limit(limits=1):
            rng = np.random.default_rng(build_seed)
            lowest = self._level_of(sigma_min)
            self._levels = {
                level: self._build(level, per_level, pca, strides[min(level, len(strides) - 1)], rng)
                for level in range(lowest, len(self._factors))
            }

    @property
    def size(self) -> tuple[int, int]:
        """``(height, width)`` of a frame."""
        return self._side, self._side

    @property
    def seeds(self) -> tuple[Pixels, ...]:
        """The seed images as they are used, each ``(size, size, 3)`` uint8 RGB, read-only."""
        return tuple(self._library[: len(self._library) // 2])

    def generate(self, frame: Pixels, *, prompt: str = "", strength: float, seed: int) -> Pixels:
        """One img2img step.

        Args:
            frame: ``(size, size, 3)`` uint8 RGB.
            prompt: Not used: this generator reads no text.
            strength: 0..1. 0 returns the frame, 1 forgets it. The frame's share fades in between:
                below ``sigma_min`` (strength .19 by default) the result is mixed with the frame.
            seed: All randomness of this step, 0 or more; the same arguments give the same bytes
                whatever the number of threads.

        Returns:
            A new ``(size, size, 3)`` uint8 array.

        Raises:
            ImageError: The frame is not an image or not of `size`.
            InputError: ``strength`` is outside 0..1 or NaN, or ``seed`` is no whole number, 0 or more.
        """
        del prompt
        pixels = self._check(frame, strength, seed)
        if strength == 0.0:
            return pixels.copy()
        # One thread: products this small only lose by more, and their last bits would depend on them.
        with _ONE_THREAD, self._threads.limit(limits=1):
            start = pixels.astype(np.float32) / 127.5 - 1.0
            dreamt = self._dream(start, strength, np.random.default_rng(seed))
        made: Pixels = np.clip(np.rint((dreamt + 1.0) * 127.5), 0, 255).astype(np.uint8)
        return made

    def _check(self, frame: Pixels, strength: float, seed: int) -> Pixels:
        check_strength(strength)
        check_whole("seed", seed, 0)
        pixels = to_pixels(frame)
        if pixels.shape[:2] != self.size:
            raise ImageError(
                f"this generator makes frames of {self._side} x {self._side} pixels, got one of "
                f"{pixels.shape[1]} x {pixels.shape[0]}: resize it first (reverie.pixels.fit), or build "
                "the generator with another size"
            )
        return pixels

    def _dream(self, start: _Floats, strength: float, rng: np.random.Generator) -> _Floats:
        first = min(math.tan(math.pi * strength / 2), _SIGMA_MAX)
        noisy = np.float32(first) * self._noise(rng)
        if strength < 1.0:
            noisy += start
        top = max(first, 1.01 * self._sigma_min)
        sigmas = np.geomspace(top, self._sigma_min, self._steps).tolist()
        for sigma, following in zip(sigmas, [*sigmas[1:], 0.0], strict=True):
            clean = self._denoise(noisy, sigma)
            noisy = clean + np.float32(following / sigma) * (noisy - clean)
        if first < self._sigma_min:
            # The last step starts at sigma_min: less noise than that goes only part of the way.
            noisy = start + np.float32(first / self._sigma_min) * (noisy - start)
        return noisy

    def _noise(self, rng: np.random.Generator) -> _Floats:
        """Pyramid noise of deviation 1, ``(size, size, 3)``: white noise of every level, enlarged."""
        side = self._side
        total = np.zeros((side, side, 3), dtype=np.float32)
        for factor, amplitude in zip(self._factors, self._amplitudes, strict=True):
            white = rng.standard_normal((side // factor, side // factor, 3), dtype=np.float32)
            blocks = total.reshape(side // factor, factor, side // factor, factor, 3)
            blocks += np.float32(amplitude) * white[:, None, :, None, :]
        return total

    def _level_of(self, sigma: float) -> int:
        wanted = round(math.log2(sigma / self._target))
        return min(max(wanted, 0), len(self._factors) - 1)

    def _denoise(self, noisy: _Floats, sigma: float) -> _Floats:
        """What the seed images say that ``noisy`` is under noise ``sigma``."""
        level = self._levels[self._level_of(sigma)]
        queries = self._project(level, _patches(_shrink(noisy, level.factor), self._patch, level.rows))
        nearest = _nearest(queries, level, self._top_k)
        gaps = level.points[nearest] - queries[:, None, :]
        squared = np.einsum("qkc,qkc->qk", gaps, gaps)
        spread = (sigma * level.noise) ** 2 + self._bandwidth**2
        weights = np.exp((squared.min(axis=1, keepdims=True) - squared) / np.float32(2 * spread))
        weights /= weights.sum(axis=1, keepdims=True)
        return self._assemble(level, level.places[nearest], weights)

    def _project(self, level: _Level, patches: _Floats) -> _Floats:
        """Grid patches ``(q, d)`` as points ``(q, c + 2)``: components, then weighted position."""
        return np.hstack([(patches - level.centre) @ level.axes, self._positions(level.rows * level.factor)])

    def _positions(self, pixels: _Places) -> _Floats:
        lines = (self._pull / self._side * pixels).astype(np.float32)
        return np.stack(np.meshgrid(lines, lines, indexing="ij"), axis=-1).reshape(-1, 2)

    def _assemble(self, level: _Level, places: _Places, weights: _Floats) -> _Floats:
        """Overlap-add of the weighted patch contents; places ``(q, k, 3)``, weights ``(q, k)``."""
        side, rows = self._patch * level.factor, level.rows * level.factor
        window = np.outer(_bell(side), np.repeat(_bell(side), 3)).astype(np.float32)
        total = np.zeros((self._side, 3 * self._side), dtype=np.float32)
        flat = self._library.reshape(-1, self._side, 3 * self._side)
        patch, content = np.empty((2, side, 3 * side), dtype=np.float32)
        for query, (y, x) in enumerate((y, x) for y in rows.tolist() for x in rows.tolist()):
            patch.fill(0.0)
            for k in np.flatnonzero(weights[query] > _FAINT).tolist():
                picture, top, left = places[query, k].tolist()
                content[...] = flat[picture, top : top + side, 3 * left : 3 * (left + side)]
                content *= weights[query, k]
                patch += content
            patch *= window
            total[y : y + side, 3 * x : 3 * (x + side)] += patch
        mean = total.reshape(self._side, self._side, 3) / _cover(rows, side, self._side)
        return mean / np.float32(127.5) - np.float32(1.0)

    def _build(self, level: int, per_level: int, pca: int, stride: int, rng: np.random.Generator) -> _Level:
        factor, patch = self._factors[level], self._patch
        pictures = _shrink(self._library.astype(np.float32) / 127.5 - 1.0, factor)
        across = pictures.shape[1] - patch + 1
        total = len(pictures) * across * across
        chosen = np.sort(rng.choice(total, min(per_level, total), replace=False))
        picture, row, column = np.unravel_index(chosen, (len(pictures), across, across))
        patches = sliding_window_view(pictures, (patch, patch), axis=(1, 2))[picture, row, column]
        patches = patches.transpose(0, 2, 3, 1).reshape(len(chosen), -1)
        centre = patches.mean(axis=0)
        places = np.stack([picture, row * factor, column * factor], axis=1)
        axes = _principal_axes(patches - centre, pca)
        where = places[:, 1:] * (self._pull / self._side)
        points = np.hstack([(patches - centre) @ axes, where.astype(np.float32)])
        return _Level(
            factor=factor,
            centre=centre,
            axes=axes,
            points=points,
            half=np.einsum("nc,nc->n", points, points) / 2,
            places=places,
            rows=_grid_rows(across, stride),
            noise=_noise_left(self._factors, self._amplitudes, level),
        )


def _check_counts(**counts: int) -> None:
    for name, count in counts.items():
        check_whole(name, count, 1)


def _check_strides(strides: Sequence[int]) -> None:
    if isinstance(strides, (str, bytes)) or not hasattr(strides, "__len__") or len(strides) == 0:
        raise InputError(f"strides must be a sequence of at least one whole number, got {strides!r}")
    for stride in strides:
        check_whole("each of strides", stride, 1)


def _check_scales(*, zero: bool = False, **scales: float) -> None:
    for name, scale in scales.items():
        if check_number(name, scale) < 0 or not (zero or scale):
            raise InputError(f"{name} must be {'0 or more' if zero else 'a positive number'}, got {scale}")


def _load(seeds: Sequence[Pixels] | str | os.PathLike[str] | None, size: int) -> list[Pixels]:
    if seeds is None:
        return built_in_seeds(size)
    if isinstance(seeds, (str, os.PathLike)):
        return load_seeds(seeds, size)
    if not hasattr(seeds, "__len__"):
        raise InputError(f"seeds must be a sequence of pictures, a folder, or None, got {seeds!r}")
    if len(seeds) == 0:
        raise InputError("no seed images: pass at least one picture, or None for the built-in ones")
    return [fit(to_pixels(seed), size, size) for seed in seeds]


def _library(seeds: list[Pixels]) -> Pixels:
    """The seeds, then their mirrors: ``(2 n, side, side, 3)`` uint8, read-only."""
    upright = np.stack(seeds)
    library = np.concatenate([upright, upright[:, :, ::-1]])
    library.setflags(write=False)
    return library


def _factors(size: int, patch: int) -> list[int]:
    """Scales of the pyramid, 1, 2, 4, ..., while they divide ``size`` and leave room for a patch.

    Raises:
        InputError: Not even the full size leaves room, or it is above `MAX_SIZE`.
    """
    if check_whole("size", size, 0) < patch + _MARGIN:
        raise InputError(f"size must be at least patch + {_MARGIN} = {patch + _MARGIN} pixels, got {size}")
    if size > MAX_SIZE:
        raise InputError(
            f"size must be at most {MAX_SIZE} pixels, got {size}: memory and time grow with its square; "
            "dream smaller and enlarge what comes out"
        )
    factors = [1]
    while size % (2 * factors[-1]) == 0 and size // (2 * factors[-1]) >= patch + _MARGIN:
        factors.append(2 * factors[-1])
    return factors


def _amplitudes(levels: int, amplification: float) -> _Floats:
    """Deviation of the noise of each level; their squares add up to 1."""
    raw = amplification ** np.arange(levels)
    return (raw / np.linalg.norm(raw)).astype(np.float32)


def _noise_left(factors: Sequence[int], amplitudes: _Floats, level: int) -> float:
    """Deviation of unit pyramid noise after averaging down to a level: finer white noise averages out."""
    kept = [min(1.0, factor / factors[level]) for factor in factors]
    return float(np.linalg.norm(amplitudes * np.array(kept)))


def _grid_rows(across: int, stride: int) -> _Places:
    """Every ``stride``-th of ``across`` patch positions, and the last, so that the whole frame is covered."""
    rows = np.arange(0, across, stride)
    return rows if rows[-1] == across - 1 else np.append(rows, across - 1)


def _shrink(pictures: _Floats, factor: int) -> _Floats:
    """Area mean over blocks; ``(..., h, w, 3)`` becomes ``(..., h / factor, w / factor, 3)``."""
    *lead, height, width, channels = pictures.shape
    blocks = pictures.reshape(*lead, height // factor, factor, width // factor, factor, channels)
    small: _Floats = blocks.mean(axis=(-4, -2))
    return small


def _patches(picture: _Floats, patch: int, rows: _Places) -> _Floats:
    """Patches at the crossings of a grid, ``(q, patch * patch * 3)``."""
    views = sliding_window_view(picture, (patch, patch), axis=(0, 1))[np.ix_(rows, rows)]
    return views.transpose(0, 1, 3, 4, 2).reshape(len(rows) ** 2, -1)


def _principal_axes(centred: _Floats, count: int) -> _Floats:
    """The ``count`` directions of largest variance, as columns; fewer when there are not so many."""
    _, vectors = np.linalg.eigh(centred.T @ centred)
    return np.ascontiguousarray(vectors[:, ::-1][:, :count])


def _nearest(queries: _Floats, level: _Level, count: int) -> _Places:
    """Indices of the ``count`` stored points nearest to each query, nearest first: ``(q, count)``.

    |q - p|^2 is smallest where q.p - |p|^2 / 2 is largest. A few passes of argmax beat a partial sort.
    """
    scores = queries @ level.points.T
    scores -= level.half
    every = np.arange(len(queries))
    found = np.empty((len(queries), min(count, len(level.half))), dtype=np.intp)
    for k in range(found.shape[1]):
        found[:, k] = scores.argmax(axis=1)
        scores[every, found[:, k]] = -np.inf
    return found


def _bell(side: int) -> NDArray[np.float64]:
    """Squared Hann window, above zero everywhere, ``(side,)``; rows times columns weigh a patch."""
    bell: NDArray[np.float64] = np.hanning(side + 2)[1:-1] ** 2
    return bell


def _cover(rows: _Places, side: int, size: int) -> _Floats:
    """What the windows of the whole grid add up to, ``(size, size, 1)``."""
    line = np.zeros(size)
    for row in rows.tolist():
        line[row : row + side] += _bell(side)
    return (line[:, None, None] * line[None, :, None]).astype(np.float32)
