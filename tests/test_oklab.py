"""Oklab and back: the published values, bytes that come back as they were, and what no screen can show."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reverie.oklab import from_oklab, recoloured, to_oklab, to_oklab32


def of(*rgb):
    """One colour as ``(3, 1)`` uint8."""
    return np.array(rgb, np.uint8)[:, None]


@pytest.mark.parametrize(
    ("rgb", "lab"),
    [
        ((0, 0, 0), (0, 0, 0)),
        ((255, 255, 255), (1, 0, 0)),
        ((255, 0, 0), (0.62796, 0.22486, 0.12585)),
        ((0, 255, 0), (0.86644, -0.23389, 0.17950)),
        ((0, 0, 255), (0.45201, -0.03246, -0.31153)),
    ],
)
def test_known_colours(rgb, lab):
    """Black, white and the primaries have the values of Ottosson's implementation."""
    assert to_oklab(of(*rgb))[:, 0] == pytest.approx(lab, abs=1e-4)


def test_bytes_come_back():
    """There and back changes no byte, in either precision, of a grid of all colours."""
    levels = np.array([*range(0, 256, 15), 1, 2, 3, 254], np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(1, -1, 3)
    assert np.array_equal(recoloured(grid, lambda lab: lab), grid)
    assert np.array_equal(from_oklab(to_oklab(grid[0].T)), grid[0].T)


@settings(max_examples=60, deadline=None)
@given(st.floats(0.2, 0.95), st.floats(-0.5, 0.5), st.floats(-0.5, 0.5))
def test_what_no_screen_can_show_keeps_lightness_and_hue(light, a, b):
    """It loses chroma only: channels are not cut one by one."""
    lab = np.array([[light], [a], [b]])
    got = to_oklab(from_oklab(lab))
    chroma, wanted = float(np.hypot(got[1, 0], got[2, 0])), float(np.hypot(a, b))
    assert got[0, 0] == pytest.approx(light, abs=0.01)
    assert chroma <= wanted + 0.02
    if chroma > 0.05:
        turn = np.angle(np.exp(1j * (np.arctan2(got[2, 0], got[1, 0]) - np.arctan2(b, a))))
        assert abs(turn) < 0.1


def test_lightness_past_black_and_white_is_black_and_white():
    """And nothing else, whatever the chroma."""
    lab = np.array([[-0.2, 1.3], [0.1, 0.1], [0.0, -0.1]])
    assert from_oklab(lab).T.tolist() == [[0, 0, 0], [255, 255, 255]]


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (3, 2731), (97, 170)])
def test_any_size_is_recoloured(size):
    """Also where it is not a multiple of what is worked on together; a new array, the picture untouched."""
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    before = picture.copy()
    made = recoloured(picture, lambda lab: lab * np.float32([[1], [0], [0]]))
    assert (made.shape, made.dtype) == (picture.shape, np.uint8)
    assert int(np.ptp(made.astype(int), axis=2).max()) <= 1
    assert np.array_equal(picture, before)


def test_the_fast_way_is_as_near_as_is_said():
    """Of a grid of all colours, black among them."""
    levels = np.array([0, 1, 2, *range(15, 256, 15)], np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels)).reshape(3, -1)
    assert np.abs(to_oklab32(grid) - to_oklab(grid)).max() < 2e-6
    assert to_oklab32(grid).dtype == np.float32
