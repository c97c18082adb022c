"""A latent diffusion model without weights: a fixed lapped transform and a local score, in numpy.

It is the study's stand-in for latent models: noise and denoising happen on a grid of one cell for
8 x 8 pixels, and a decoder draws the picture.

The latent. In each of three colour planes (BT.601 luma and colour differences) a line of pixels is
a sum of cosines, ``k`` of them a cell, each under a window of two cells::

    line(n) = sum over cells b and k of  z(b, k) cos^2(pi t / 16) cos(pi k (n - 8 b + 1/2) / 8),
    t = n - 8 b - 7/2,  |t| < 8,  mirrored at the borders

The windows add up to 1, so that neighbouring cells run into each other without a seam (a lapped
transform; Malvar, "Signal Processing with Lapped Transforms", 1992). Rows and columns make products
of two such cosines; the 15 lowest of luma and the 3 lowest of each colour plane are kept: 21 numbers
a cell. The encoder is the least-squares inverse, which is a matrix too. Each channel is divided by a
fixed deviation that natural pictures have in it.

The denoiser is the local score of Kamb & Ganguli (arXiv 2412.20292), on that grid: every square of
cells is moved towards the nearest squares of the seed images and their mirrors, with the weights of
a Gaussian posterior; more noise, larger squares. One step of img2img at strength s:

    sigma_0 = tan(pi s / 2);   x = encode(frame) + sigma_0 n,   n pyramid noise of deviation 1
    x = d + sigma_next / sigma (x - d),   d = D(x, sigma)               the last d is decoded
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from reverie.errors import ImageError, InputError
from reverie.pixels import Pixels, fit, to_pixels

__all__ = ["LappedLatent", "LatentGenerator"]

_Floats = NDArray[np.float32]
_Places = NDArray[np.intp]

_ONE_THREAD = Lock()  # the number of BLAS threads belongs to the whole process: one of us sets it at a time
_CELL = 8  # pixels along a cell
_SIGMA_MAX = 20.0  # tan(pi / 2) has no end; past this the frame is 5 % of the noise
_MARGIN = 3  # a square of cells is of use while it can still move about in the grid
_LUMA, _COLOUR = 5, 2  # cosines along a cell; of their products those with u + v below this are kept
_LUMA_DEVIATION = (0.5, 0.3, 0.3, 0.16, 0.38, 0.16, 0.1, 0.23, 0.23, 0.1, 0.07, 0.16, 0.18, 0.16, 0.07)
_COLOUR_DEVIATION = (0.2, 0.1, 0.1)  # of the channels, measured on the built-in seed images at 128 pixels
_TO_PLANES = np.array(  # red, green and blue to luma and the two colour differences (ITU-R BT.601)
    [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]]
)


class LappedLatent:
    """The fixed encoder and decoder of one size: pixels to a grid of 21 numbers a cell, and back.

    Args:
        size: Side of the square picture in pixels, a multiple of 8, at least 16.

    Raises:
        InputError: Another size.
    """

    channels = _LUMA * (_LUMA + 1) // 2 + _COLOUR * (_COLOUR + 1)

    def __init__(self, size: int) -> None:
        if size < 2 * _CELL or size % _CELL:
            raise InputError(f"size must be a multiple of {_CELL} pixels, at least {2 * _CELL}, got {size}")
        self.size = size
        self.cells = size // _CELL
        draws = [_cosines(size, count) for count in (_LUMA, _COLOUR, _COLOUR)]
        self._draw = [matrix.astype(np.float32) for matrix in draws]
        self._read = [np.linalg.pinv(matrix).astype(np.float32) for matrix in draws]
        kept = [_kept(count) for count in (_LUMA, _COLOUR, _COLOUR)]
        self._kept = [(rows, columns) for rows, columns in kept]
        self._deviation = np.array([*_LUMA_DEVIATION, *_COLOUR_DEVIATION, *_COLOUR_DEVIATION], np.float32)

    def encode(self, pixels: Pixels) -> _Floats:
        """``(size, size, 3)`` uint8 RGB to ``(size / 8, size / 8, 21)`` float32, about unit deviation."""
        planes = (pixels.astype(np.float32) / 127.5 - 1.0) @ _TO_PLANES.T.astype(np.float32)
        grids = []
        for plane, (read, kept) in enumerate(zip(self._read, self._kept, strict=True)):
            products = (read @ planes[:, :, plane] @ read.T).reshape(
                self.cells, -1, self.cells, len(read) // self.cells
            )
            grids.append(products.transpose(0, 2, 1, 3)[:, :, kept[0], kept[1]])
        latent: _Floats = np.concatenate(grids, axis=-1) / self._deviation
        return latent

    def decode(self, latent: _Floats) -> Pixels:
        """``(size / 8, size / 8, 21)`` to ``(size, size, 3)`` uint8 RGB; what no screen shows is clipped."""
        values = latent * self._deviation
        planes, first = np.empty((self.size, self.size, 3), dtype=np.float32), 0
        for plane, (draw, kept) in enumerate(zip(self._draw, self._kept, strict=True)):
            each, count = draw.shape[1] // self.cells, len(kept[0])
            grid = np.zeros((self.cells, each, self.cells, each), dtype=np.float32)
            grid[:, kept[0], :, kept[1]] = values[:, :, first : first + count].transpose(2, 0, 1)
            planes[:, :, plane] = draw @ grid.reshape(draw.shape[1], -1) @ draw.T
            first += count
        colours = planes @ np.linalg.inv(_TO_PLANES).T.astype(np.float32)
        made: Pixels = np.clip(np.rint((colours + 1.0) * 127.5), 0, 255).astype(np.uint8)
        return made


@dataclass(frozen=True, slots=True, eq=False)
class _Scale:
    """What is known of the seed images in squares of one side; n stored squares, c components.

    Attributes:
        side: Cells along a square.
        factor: Cells along a block whose mean is compared.
        centre: ``(d,)`` mean of what is compared.
        axes: ``(d, c)`` principal components.
        points: ``(n, c + 2)`` the squares in components, then their weighted position.
        half: ``(n,)`` half the squared length of each point.
        contents: ``(n, side, side, channels)`` view of the squares themselves.
        places: ``(n, 3)`` picture, row and column of each.
        rows: Rows (and columns) of the query grid, in cells.
        noise: Noise left in a block's mean for one unit of sigma.
    """

    side: int
    factor: int
    centre: _Floats
    axes: _Floats
    points: _Floats
    half: _Floats
    contents: _Floats
    places: _Places
    rows: _Places
    noise: float


class LatentGenerator:
    """Dreams in squares of latent cells of the images it is given; no weights, deterministic.

    Args:
        images: Pictures to dream of, arrays ``(h, w, 3)`` uint8 RGB of any size, at least one. Each
            is cut to a square of ``size``.
        size: Side of a frame in pixels, a multiple of 8 with room for a square: 48 or more.
        square: Side of the smallest square in cells.
        stride: Blocks from one square of the query grid to the next.
        top_k: Nearest squares that share in an output square.
        bandwidth: Deviation added to the noise where squares are weighed; latents have about 1.
        position_weight: What moving a square by the side of the picture adds to the mean squared
            difference of its latents.
        pca: Principal components in which squares are compared.
        steps: Denoising steps a frame.
        sigma_min: Noise of the last step; below it the frame and the result are mixed.
        target: Noise that a block should see; chooses the side of the squares.
        noise_amplification: How much more noise each coarser level of the pyramid gets.

    Raises:
        InputError: No images, or a parameter out of its range.
        ImageError: An image that is not one.
    """

    name = "latent"

    def __init__(
        self,
        images: Sequence[Pixels],
        *,
        size: int = 128,
        square: int = 3,
        stride: int = 2,
        top_k: int = 4,
        bandwidth: float = 0.3,
        position_weight: float = 0.2,
        pca: int = 48,
        steps: int = 4,
        sigma_min: float = 0.3,
        target: float = 0.5,
        noise_amplification: float = 1.2,
    ) -> None:
        if len(images) == 0:
            raise InputError("no images to dream of: pass at least one picture")
        for label, count in (
            ("square", square),
            ("stride", stride),
            ("top_k", top_k),
            ("pca", pca),
            ("steps", steps),
        ):
            if count < 1:
                raise InputError(f"{label} must be at least 1, got {count}")
        for label, scale in (
            ("sigma_min", sigma_min),
            ("target", target),
            ("noise_amplification", noise_amplification),
        ):
            if not 0.0 < scale < math.inf:
                raise InputError(f"{label} must be a positive number, got {scale}")
        if not (0.0 <= bandwidth < math.inf and 0.0 <= position_weight < math.inf):
            raise InputError(
                f"bandwidth and position_weight must be 0 or more, got {bandwidth} and {position_weight}"
            )
        self.latent = LappedLatent(size)
        self._factors = _factors(self.latent.cells, square)
        self._seeds = tuple(_fitted(to_pixels(image), size) for image in images)
        self._square = square
        self._stride = stride
        self._top_k = top_k
        self._bandwidth = bandwidth
        self._pull = math.sqrt(position_weight * LappedLatent.channels * square**2)
        self._pca = pca
        self._steps = steps
        self._sigma_min = sigma_min
        self._target = target
        raw = noise_amplification ** np.arange(len(self._factors) + 1)
        self._amplitudes = (raw / np.linalg.norm(raw)).astype(np.float32)
        self._threads = ThreadpoolController()
        with _ONE_THREAD, self._threads.limit(limits=1):
            library = np.stack(
                [self.latent.encode(each) for seed in self._seeds for each in (seed, seed[:, ::-1])]
            )
            self._scales = [self._build(library, factor) for factor in self._factors]

    @property
    def size(self) -> tuple[int, int]:
        """``(height, width)`` of a frame."""
        return self.latent.size, self.latent.size

    @property
    def seeds(self) -> tuple[Pixels, ...]:
        """The images as they are used, each ``(size, size, 3)`` uint8 RGB, read-only."""
        return self._seeds

    def encode(self, pixels: Pixels) -> _Floats:
        """``(size, size, 3)`` uint8 RGB to ``(size / 8, size / 8, 21)`` float32; raises ImageError."""
        frame = self._frame(pixels)
        with _ONE_THREAD, self._threads.limit(limits=1):
            return self.latent.encode(frame)

    def decode(self, latent: _Floats) -> Pixels:
        """What `encode` gives, or a mixture of such, to ``(size, size, 3)`` uint8 RGB.

        Raises:
            InputError: Another shape, NaN or infinity.
        """
        shape = (self.latent.cells, self.latent.cells, LappedLatent.channels)
        values = np.asarray(latent, dtype=np.float32)
        if values.shape != shape or not np.isfinite(values).all():
            raise InputError(f"a latent must be finite and of shape {shape}, got shape {values.shape}")
        with _ONE_THREAD, self._threads.limit(limits=1):
            return self.latent.decode(values)

    def generate(self, frame: Pixels, *, prompt: str = "", strength: float, seed: int) -> Pixels:
        """One img2img step.

        Args:
            frame: ``(size, size, 3)`` uint8 RGB.
            prompt: Not used: this generator reads no text.
            strength: 0..1. 0 returns the frame, 1 forgets it.
            seed: All randomness of this step, 0 or more; the same arguments give the same bytes
                whatever the number of threads.

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
        pixels = self._frame(frame)
        if strength == 0.0:
            return pixels.copy()
        first = min(math.tan(math.pi * strength / 2), _SIGMA_MAX)
        with _ONE_THREAD, self._threads.limit(limits=1):
            noisy = np.float32(first) * self._noise(np.random.default_rng(seed))
            if strength < 1.0:
                noisy += self.latent.encode(pixels)
            made = self.latent.decode(self._dream(noisy, first))
        share = first / self._sigma_min
        if share >= 1.0:
            return made
        mixed: Pixels = np.rint(pixels + share * (made.astype(np.float64) - pixels)).astype(np.uint8)
        return mixed

    def _dream(self, noisy: _Floats, first: float) -> _Floats:
        sigmas = np.geomspace(max(first, 1.01 * self._sigma_min), self._sigma_min, self._steps).tolist()
        for sigma, following in zip(sigmas, [*sigmas[1:], 0.0], strict=True):
            clean = self._denoise(noisy, sigma)
            noisy = clean + np.float32(following / sigma) * (noisy - clean)
        return noisy

    def _frame(self, pixels: Pixels) -> Pixels:
        frame = to_pixels(pixels)
        if frame.shape[:2] != self.size:
            raise ImageError(
                f"this generator makes frames of {self.latent.size} x {self.latent.size} pixels, got one of "
                f"{frame.shape[1]} x {frame.shape[0]}: resize it first (reverie.pixels.fit)"
            )
        return frame

    def _noise(self, rng: np.random.Generator) -> _Floats:
        """Pyramid noise of deviation 1, ``(cells, cells, channels)``: white noise of all levels, enlarged."""
        cells = self.latent.cells
        total = np.zeros((cells, cells, LappedLatent.channels), dtype=np.float32)
        for level, amplitude in enumerate(self._amplitudes):
            few = -(-cells >> level)
            white = rng.standard_normal((few, few, LappedLatent.channels), dtype=np.float32)
            total += amplitude * white.repeat(1 << level, 0).repeat(1 << level, 1)[:cells, :cells]
        return total

    def _denoise(self, noisy: _Floats, sigma: float) -> _Floats:
        """What the images say that ``noisy`` is under noise ``sigma``."""
        wanted = round(math.log2(sigma / self._target))
        scale = self._scales[min(max(wanted, 0), len(self._scales) - 1)]
        squares = _squares(noisy, scale.side)[np.ix_(scale.rows, scale.rows)]
        where = np.stack(np.meshgrid(scale.rows, scale.rows, indexing="ij"), axis=-1).reshape(-1, 2)
        queries = self._points(scale.centre, scale.axes, _means(squares, scale.factor), where)
        scores = queries @ scale.points.T - scale.half
        nearest = _largest(scores, self._top_k)
        spread = (sigma * scale.noise) ** 2 + self._bandwidth**2
        close = np.vecdot(queries[:, None, :], scale.points[nearest]) - scale.half[nearest]
        weights = np.exp((close - close[:, :1]) / np.float32(spread))
        weights /= weights.sum(axis=1, keepdims=True)
        picture, row, column = scale.places[nearest].transpose(2, 0, 1)
        found = np.einsum("qk,qkyxc->qyxc", weights, scale.contents[picture, row, column])
        return self._assemble(scale, found)

    def _points(self, centre: _Floats, axes: _Floats, means: _Floats, where: _Places) -> _Floats:
        position = (self._pull / self.latent.cells * where).astype(np.float32)
        return np.hstack([(means - centre) @ axes, position])

    def _assemble(self, scale: _Scale, squares: _Floats) -> _Floats:
        """Overlap-add of the squares at the query grid, ``(q, side, side, channels)``, under a window."""
        cells, line = self.latent.cells, len(scale.rows)
        bell = np.hanning(scale.side + 2)[1:-1].astype(np.float32)
        window = np.outer(bell, bell)[:, :, None]
        grid = squares.reshape(line, line, scale.side, scale.side, -1)
        total = np.zeros((cells, cells, LappedLatent.channels), dtype=np.float32)
        cover = np.zeros((cells, cells, 1), dtype=np.float32)
        for i, y in enumerate(scale.rows.tolist()):
            for j, x in enumerate(scale.rows.tolist()):
                total[y : y + scale.side, x : x + scale.side] += window * grid[i, j]
                cover[y : y + scale.side, x : x + scale.side] += window
        return total / cover

    def _build(self, library: _Floats, factor: int) -> _Scale:
        side = self._square * factor
        contents = np.stack([_squares(latent, side) for latent in library])
        across = contents.shape[1]
        places = np.stack(np.unravel_index(np.arange(len(library) * across**2), contents.shape[:3]), axis=1)
        means = _means(contents, factor)
        centre = means.mean(axis=0)
        axes = _principal_axes(means - centre, self._pca)
        points = self._points(centre, axes, means, places[:, 1:])
        kept = [min(1.0, (1 << level) / factor) for level in range(len(self._amplitudes))]
        rows = np.unique(np.append(np.arange(0, across, self._stride * factor), across - 1))
        half = np.vecdot(points, points) / 2
        noise = float(np.linalg.norm(self._amplitudes * np.array(kept)))
        return _Scale(side, factor, centre, axes, points, half, contents, places, rows, noise)


def _fitted(picture: Pixels, side: int) -> Pixels:
    own = np.array(fit(picture, side, side))
    own.setflags(write=False)
    return own


def _cosines(size: int, count: int) -> NDArray[np.float64]:
    """``(size, cells * count)``: the windowed cosines of a line, by cell and then by frequency."""
    cells = size // _CELL
    basis = np.zeros((size, cells, count))
    offsets = np.arange(-_CELL // 2, _CELL + _CELL // 2)
    window = np.cos(np.pi * (offsets - (_CELL - 1) / 2) / (2 * _CELL)) ** 2
    waves = np.cos(np.pi * np.outer(offsets + 0.5, np.arange(count)) / _CELL)
    for cell in range(cells):
        at = offsets + cell * _CELL
        inside = np.where(at < 0, -1 - at, np.where(at >= size, 2 * size - 1 - at, at))
        np.add.at(basis[:, cell], inside, window[:, None] * waves)
    return basis.reshape(size, -1)


def _kept(count: int) -> tuple[_Places, _Places]:
    """Vertical and horizontal frequency of the products of cosines that are kept, low ones first."""
    pairs = sorted(
        ((u, v) for u in range(count) for v in range(count - u)), key=lambda pair: (sum(pair), pair)
    )
    rows, columns = np.array(pairs).T
    return rows, columns


def _factors(cells: int, square: int) -> list[int]:
    """Sides of a block, 1, 2, 4, ..., while squares of ``square`` blocks have room to move.

    Raises:
        InputError: Not even the smallest has.
    """
    if cells < square + _MARGIN:
        raise InputError(
            f"size must be at least {(square + _MARGIN) * _CELL} pixels for squares of {square} cells, "
            f"got {cells * _CELL}"
        )
    return [1 << level for level in range(8) if cells >> level >= square + _MARGIN]


def _squares(latent: _Floats, side: int) -> _Floats:
    """Every square of cells, ``(rows, columns, side, side, channels)``: a view."""
    return sliding_window_view(latent, (side, side), axis=(0, 1)).transpose(0, 1, 3, 4, 2)


def _means(squares: _Floats, factor: int) -> _Floats:
    """``(..., side, side, channels)`` to rows of block means, ``(n, side / factor squared * channels)``."""
    *lead, side, _, channels = squares.shape
    blocks = squares.reshape(*lead, side // factor, factor, side // factor, factor, channels)
    means: _Floats = blocks.mean(axis=(-4, -2)).reshape(math.prod(lead), -1)
    return means


def _largest(scores: _Floats, count: int) -> _Places:
    """Columns of the ``count`` largest numbers of each row, largest first; ``scores`` is used up."""
    every = np.arange(len(scores))
    found = np.empty((len(scores), min(count, scores.shape[1])), dtype=np.intp)
    for k in range(found.shape[1]):
        found[:, k] = scores.argmax(axis=1)
        scores[every, found[:, k]] = -np.inf
    return found


def _principal_axes(centred: _Floats, count: int) -> _Floats:
    """The ``count`` directions of largest variance, as columns; fewer when there are not so many."""
    _, vectors = np.linalg.eigh(centred.T @ centred)
    return np.ascontiguousarray(vectors[:, ::-1][:, :count])
