"""The second opinion: a descriptor that has nothing in common with the one that steers.

A scattering transform (Mallat, "Group Invariant Scattering", arXiv 1101.2286; Bruna and Mallat, arXiv
1203.1513): moduli of Morlet wavelets, and moduli of the wavelets of these, averaged over a coarse grid. It
sees texture and layout where the built-in descriptor sees edges and colour shares. Logarithms of the
averages are centred and whitened by what crops of the built-in seed pictures have (with a floor, so that
what hardly varies is not blown up), so that unrelated pictures are about orthogonal.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reverie.generators.seed_images import built_in_seeds
from reverie.pixels import Pixels
from reverie.vectors import Vectors, normalise

__all__ = ["ScatteringEncoder"]

_SIDE = 64  # pixels that are looked at
_SCALES, _ANGLES = 3, 4
_GRID = 4  # places along a side
_KEPT = 0.98  # share of the variance of the known crops that is looked at
_SOFT = 0.1  # of the largest deviation, added to each before it is divided by
_FLOOR = 1e-3  # added before the logarithm


class ScatteringEncoder:
    """Wavelet scattering of luma to second order, of the colour differences to first. An `Encoder`."""

    name = "scattering-v1"

    def __init__(self) -> None:
        self._filters = [[_morlet(scale, angle) for angle in range(_ANGLES)] for scale in range(_SCALES)]
        known = np.stack([self._raw(crop) for seed in built_in_seeds(2 * _SIDE) for crop in _crops(seed)])
        self._centre = known.mean(axis=0)
        _, lengths, axes = np.linalg.svd(known - self._centre, full_matrices=False)
        deviations = lengths / np.sqrt(len(known))
        kept = int(np.searchsorted(np.cumsum(deviations**2) / np.sum(deviations**2), _KEPT)) + 1
        self._axes = axes[:kept].T / (deviations[:kept] + _SOFT * deviations[0])
        self.dimensions = kept

    def encode_batch(self, frames: Sequence[Pixels]) -> Vectors:
        """``(n, d)`` float32 unit rows of n frames of any size."""
        if not len(frames):
            return np.empty((0, self.dimensions), dtype=np.float32)
        raw = np.stack([self._raw(frame) for frame in frames])
        return normalise(np.vecdot((raw - self._centre)[:, None], self._axes.T[None]))

    def _raw(self, frame: Pixels) -> NDArray[np.float64]:
        small = Image.fromarray(frame).convert("YCbCr").resize((_SIDE, _SIDE), Image.Resampling.BOX)
        planes = np.asarray(small, dtype=np.float64).transpose(2, 0, 1) / 255.0
        found = [3.0 * _means(plane) for plane in planes]  # colours themselves, not as logarithms
        for plane in planes:
            found += self._orders(plane, second=plane is planes[0])
        return np.concatenate(found)

    def _orders(self, plane: NDArray[np.float64], *, second: bool) -> list[NDArray[np.float64]]:
        spectrum, found = np.fft.fft2(plane), []
        for scale in range(_SCALES):
            for angle in range(_ANGLES):
                modulus = np.abs(np.fft.ifft2(spectrum * self._filters[scale][angle]))
                found.append(np.log(_means(modulus) + _FLOOR))
                if second:
                    found += self._second(modulus, scale)
        return found

    def _second(self, modulus: NDArray[np.float64], scale: int) -> list[NDArray[np.float64]]:
        spectrum = np.fft.fft2(modulus)
        wider = [one for filters in self._filters[scale + 1 :] for one in filters]
        return [np.log(_means(np.abs(np.fft.ifft2(spectrum * one))) + _FLOOR) for one in wider]


def _crops(seed: Pixels) -> list[Pixels]:
    """The whole picture, its corners and its middle, at half size each."""
    half = seed.shape[0] // 2
    corners = [(0, 0), (0, half), (half, 0), (half, half), (half // 2, half // 2)]
    return [seed, *(np.ascontiguousarray(seed[y : y + half, x : x + half]) for y, x in corners)]


def _means(plane: NDArray[np.float64]) -> NDArray[np.float64]:
    cell = _SIDE // _GRID
    return np.asarray(plane.reshape(_GRID, cell, _GRID, cell).mean(axis=(1, 3))).ravel()


def _morlet(scale: int, angle: int) -> NDArray[np.float64]:
    """Of this scale and direction, as it stands in the spectrum; without a mean."""
    frequency = 0.75 * np.pi / 2**scale
    theta = np.pi * angle / _ANGLES
    y, x = np.meshgrid(*(2 * np.pi * np.fft.fftfreq(_SIDE),) * 2, indexing="ij")
    along, across = x * np.cos(theta) + y * np.sin(theta), y * np.cos(theta) - x * np.sin(theta)
    width = 0.45 * frequency
    peak = np.exp(-((along - frequency) ** 2 + (across / 0.7) ** 2) / (2 * width**2))
    mean = np.exp(-(along**2 + (across / 0.7) ** 2) / (2 * width**2))
    return np.asarray(peak - peak[0, 0] / mean[0, 0] * mean)
