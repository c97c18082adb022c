"""Frames that are torch tensors."""

import numpy as np
import pytest
import torch

from reverie import CacheManager
from reverie.errors import ImageError
from reverie.pixels import like, to_pixels
from reverie.tensors import as_tensor, is_tensor, numbers, tensor_pixels

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)

LAYOUTS = {
    "hwc": lambda pixels: torch.from_numpy(pixels.copy()),
    "chw": lambda pixels: torch.from_numpy(pixels.copy()).permute(2, 0, 1),
    "bhwc": lambda pixels: torch.from_numpy(pixels.copy())[None],
    "bchw": lambda pixels: torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None],
}
DTYPES = [torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.float64]


def tensor(layout="hwc", dtype=torch.float32, pixels=PIXELS):
    """A frame as a loop would have it."""
    made = LAYOUTS[layout](pixels)
    return made if dtype == torch.uint8 else (made.double() / 255).to(dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_there_and_back(layout, dtype):
    """Every layout and dtype: the pixels, and from pixels a tensor that is its like in all respects."""
    frame = tensor(layout, dtype)
    pixels = to_pixels(frame)
    assert (pixels.shape, pixels.dtype) == ((6, 9, 3), np.uint8)
    off = 1 if dtype == torch.bfloat16 else 0  # 8 bits of a number near 1
    assert np.abs(pixels.astype(int) - PIXELS).max() <= off
    back = like(frame, pixels)
    assert (back.shape, back.dtype, back.device) == (frame.shape, frame.dtype, frame.device)
    assert np.abs(to_pixels(back).astype(int) - pixels).max() <= off


def test_a_tensor_with_a_history_is_taken():
    """As a decoder gives it outside of no_grad; rounded to the nearest level."""
    frame = torch.full((2, 2, 3), 0.5019, requires_grad=True)
    assert (to_pixels(frame * 1.0) == 128).all()
    assert is_tensor(torch.nn.Parameter(torch.zeros(1)))
    assert not any(is_tensor(each) for each in (PIXELS, None, "torch", object()))


def test_a_little_overshoot_is_cut_off():
    """A decoder's values just outside of 0..1 wrap nowhere."""
    frame = torch.tensor([[[-0.04, 0.5, 1.04]]])
    assert to_pixels(frame).tolist() == [[[0, 128, 255]]]


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (torch.zeros(2, 4, 4, 3), r"got \(2, 4, 4, 3\); of a batch, hand in one frame after the other"),
        (torch.zeros(4, 4, 4), r"got \(4, 4, 4\); leave the fourth channel out: image\[\.\.\., :3\]"),
        (torch.zeros(1, 4, 5, 6), "leave the fourth channel out"),
        (torch.zeros(4, 5), r"got \(4, 5\)"),
        (torch.zeros(0, 5, 3), r"got \(0, 5, 3\)"),
        (torch.zeros(1, 1, 4, 5, 3), r"got \(1, 1, 4, 5, 3\)"),
        (torch.full((4, 5, 3), -1.0), r"got -1 to -1; for values from -1 to 1 pass \(x \+ 1\) / 2"),
        (torch.full((4, 5, 3), 255.0), "got 255 to 255; for values from 0 to 255 pass x / 255"),
        (torch.full((4, 5, 3), 1e4), "got 10000 to 10000$"),
        (torch.full((4, 5, 3), float("nan")), "got NaN: a decoder in float16 overflows so"),
        (torch.zeros(4, 5, 3, dtype=torch.int64), r"floating point from 0 to 1, or uint8, got torch\.int64"),
        (torch.zeros(4, 5, 3, dtype=torch.bool), r"got torch\.bool"),
    ],
    ids=range(12),
)
def test_what_is_no_frame_is_refused(frame, says):
    """The message says what was expected, what came, and what to do about the usual mistakes."""
    with pytest.raises(ImageError, match=says):
        to_pixels(frame)


def test_latents_become_numbers():
    """Of any dtype; arrays too."""
    given = torch.linspace(-2, 2, 8, dtype=torch.float16).reshape(1, 2, 2, 2)
    assert numbers(given).dtype == np.float32
    assert np.array_equal(numbers(given), given.float().numpy())
    assert numbers([1.0, 2.0]).tolist() == [1.0, 2.0]


def test_a_view_is_made_of_bytes_on_the_processor():
    """No copy where none is needed."""
    frame = tensor("chw", torch.uint8)
    pixels = tensor_pixels(frame)
    frame[0, 0, 0] = 7
    assert pixels[0, 0, 0] == 7
    assert as_tensor(PIXELS, frame).is_contiguous()


def test_a_cache_takes_tensors(tmp_path):
    """Wherever an image is taken, a tensor is."""
    with CacheManager(tmp_path) as cache:
        cache_id = cache.add(tensor("bchw"), "a prompt")
        assert np.array_equal(to_pixels(cache.get(cache_id).image_path), PIXELS)
