"""Frames become the network's input bit for bit as with the Pillow-based processors of transformers."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from reverie.encoders import clip_pixels
from reverie.encoders.clip_pixels import EXACT_UP_TO, preprocess
from reverie.models.cards import CARDS, Preprocessing
from reverie.pixels import to_pixels

Picture = NDArray[np.uint8]

CLIP = CARDS["clip-vit-b32"].preprocessing
DINO = CARDS["dinov2-base"].preprocessing
SIGLIP = CARDS["siglip2-base"].preprocessing

SMALL = Preprocessing(size=12, crop=10, resample="bicubic", mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
"""Like DINOv2, so small that many sizes can be tried."""

KINDS = {
    "crop smaller": SMALL,
    "crop larger": replace(SMALL, size=9, crop=14),
    "crop larger by an odd number": replace(SMALL, size=9, crop=12),
    "squash": replace(SMALL, crop=None),
    "bilinear": replace(SMALL, resample="bilinear", crop=12),
    "bilinear squash": replace(SMALL, resample="bilinear", crop=None),
}


@cache
def processor(settings: Preprocessing) -> Callable[..., Any]:
    """The processor of transformers with these settings."""
    options: dict[str, Any] = {
        "resample": Image.Resampling[settings.resample.upper()],
        "image_mean": settings.mean,
        "image_std": settings.std,
    }
    if settings.crop is None:
        return SiglipImageProcessorPil(size={"height": settings.size, "width": settings.size}, **options)
    crop = {"height": settings.crop, "width": settings.crop}
    return BitImageProcessorPil(size={"shortest_edge": settings.size}, crop_size=crop, **options)


def reference(frame: Picture | Image.Image, settings: Preprocessing) -> NDArray[np.float32]:
    """What transformers gives, ``(1, 3, s, s)``."""
    image = Image.fromarray(frame) if isinstance(frame, np.ndarray) else frame
    return np.asarray(processor(settings)(image, return_tensors="np")["pixel_values"])


def noise(height: int, width: int, seed: int = 0) -> Picture:
    """Blocks of colour and noise: edges that a filter overshoots, detail that it must average."""
    rng = np.random.default_rng((seed, height, width))
    coarse = rng.integers(0, 256, (height // 5 + 1, width // 5 + 1, 3), dtype=np.uint8)
    blocks = coarse.repeat(5, axis=0)[:height].repeat(5, axis=1)[:, :width]
    return blocks ^ rng.integers(0, 64, blocks.shape, dtype=np.uint8)


def levels(values: NDArray[np.float32], settings: Preprocessing) -> NDArray[np.float64]:
    """The 8-bit levels that the network's numbers stand for."""
    mean, std = (np.array(part)[:, None, None] for part in (settings.mean, settings.std))
    return np.asarray((values * std + mean) * 255)


SIZES = [
    (1, 1), (2, 3), (223, 225), (224, 224), (256, 256), (257, 255), (512, 512), (511, 333), (333, 511),
    (1, 60), (60, 1), (224, 401), (401, 224), (40, 900), (1080, 1920),
]  # fmt: skip


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("settings", [CLIP, DINO, SIGLIP], ids=["clip", "dinov2", "siglip2"])
def test_every_size_is_bit_equal_to_the_reference(settings: Preprocessing, size: tuple[int, int]) -> None:
    """Odd, tiny, equal, thin and large frames, (height, width), for every kind of model."""
    frame = noise(*size)
    found, expected = preprocess([frame], settings), reference(frame, settings)
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    assert found.tobytes() == expected.tobytes()


def test_the_clip_card_is_the_clip_processor() -> None:
    """The card holds what transformers' own processor of CLIP has by default."""
    frame = noise(300, 200)
    expected = CLIPImageProcessorPil()(Image.fromarray(frame), return_tensors="np")["pixel_values"]
    assert preprocess([frame], CLIP).tobytes() == np.asarray(expected).tobytes()


@pytest.mark.parametrize("settings", KINDS.values(), ids=KINDS)
@given(size=st.tuples(st.integers(1, 90), st.integers(1, 90)), seed=st.integers(0, 9))
def test_any_small_size_is_bit_equal_to_the_reference(
    settings: Preprocessing, size: tuple[int, int], seed: int
) -> None:
    """Crops that are smaller, larger and odd; squashed or cut; both filters."""
    frame = noise(*size, seed)
    assert preprocess([frame], settings).tobytes() == reference(frame, settings).tobytes()


def test_every_level_is_rounded_as_in_the_reference() -> None:
    """All 256 levels of all three channels; the mean and deviation of each."""
    ramp = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(16, 16, 3)
    settings = replace(CLIP, size=16, crop=16)
    assert preprocess([ramp], settings).tobytes() == reference(ramp, settings).tobytes()
    assert np.allclose(levels(preprocess([ramp], settings), settings), ramp.transpose(2, 0, 1), atol=1e-4)


def test_a_batch_is_its_frames_one_by_one() -> None:
    """Frames of any sizes together: one new array in C order, each part as if alone."""
    frames = [noise(40, 50), noise(50, 40), noise(12, 12), noise(1, 1)]
    batch = preprocess(frames, SMALL)
    assert preprocess(frames, SMALL, threads=3).tobytes() == batch.tobytes()
    assert (batch.shape, batch.dtype, batch.flags.c_contiguous) == ((4, 3, 10, 10), np.float32, True)
    for row, frame in zip(batch, frames, strict=True):
        assert row.tobytes() == preprocess([frame], SMALL).tobytes()
    assert not np.shares_memory(batch, preprocess(frames, SMALL))


@pytest.mark.parametrize(("settings", "side"), [(CLIP, 224), (DINO, 224), (SIGLIP, 256), (SMALL, 10)])
def test_no_frames_are_an_empty_array(settings: Preprocessing, side: int) -> None:
    """``(0, 3, s, s)``."""
    batch = preprocess([], settings)
    assert (batch.shape, batch.dtype) == ((0, 3, side, side), np.float32)


def test_views_are_read_and_left_alone() -> None:
    """Flipped, sliced and read-only frames, without a change to any."""
    whole = noise(60, 80)
    before = whole.copy()
    whole.flags.writeable = False
    for view in (whole, whole[::-1, ::2], whole.transpose(1, 0, 2), whole[5:30, 7:9]):
        assert preprocess([view], SMALL).tobytes() == reference(view.copy(), SMALL).tobytes()
    assert np.array_equal(whole, before)


# ----------------------------------------------------------------------------- extreme shapes


@given(
    kind=st.sampled_from([name for name in KINDS if "squash" not in name]),
    short=st.integers(1, 11),
    long=st.integers(60, 900),
    tall=st.booleans(),
    seed=st.integers(0, 99),
)
def test_the_way_for_thin_pictures_differs_by_two_levels_at_most(
    kind: str, short: int, long: int, tall: bool, seed: int
) -> None:
    """Every thin shape, taken that way where the exact one would do: nearly all levels equal, none far."""
    settings = KINDS[kind]
    frame = noise(*((long, short) if tall else (short, long)), seed)
    expected = preprocess([frame], settings)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(clip_pixels, "EXACT_UP_TO", 12 * 50)
        found = preprocess([frame], settings)
    difference = np.abs(levels(found, settings) - levels(expected, settings))
    assert difference.max() < 2.01
    assert (difference > 0.5).mean() < 0.1
    assert (difference > 1.5).mean() < 0.01


@pytest.mark.parametrize("shape", [(1, 10_000), (10_000, 1), (10_000, 3), (3, 10_000), (100_000, 2)])
@pytest.mark.parametrize("settings", [CLIP, DINO, SIGLIP], ids=["clip", "dinov2", "siglip2"])
def test_the_thinnest_pictures_never_become_large_ones(
    settings: Preprocessing, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """1 x 10,000 would be 224 x 2,240,000 before its crop: no picture past `EXACT_UP_TO` is made."""
    made: list[int] = []
    resize = Image.Image.resize

    def spy(self: Image.Image, size: tuple[int, int], *args: Any) -> Image.Image:
        made.append(max(size[0] * size[1], size[0] * self.height))
        return resize(self, size, *args)

    monkeypatch.setattr(Image.Image, "resize", spy)
    frame = noise(*shape)
    found = levels(preprocess([frame], settings), settings)
    assert max(made) <= EXACT_UP_TO
    if settings.crop is not None:
        tall, half = shape[0] > shape[1], max(shape) // 2
        middle = frame[half - 1 : half + 1] if tall else frame[:, half - 1 : half + 1]
        assert found.mean() == pytest.approx(middle.mean(), abs=40)


@pytest.mark.parametrize("shape", [(900, 20), (20, 900)])
def test_a_thin_picture_that_shrinks_is_exact(
    shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what grows can fill the memory: however long the rest is, it is the reference's bit for bit."""
    monkeypatch.setattr(clip_pixels, "EXACT_UP_TO", 0)
    monkeypatch.setattr(clip_pixels, "_window", None)
    frame = noise(*shape)
    assert preprocess([frame], SMALL).tobytes() == reference(frame, SMALL).tobytes()


def test_the_crop_of_a_thin_picture_is_its_middle() -> None:
    """A line of 20,001 pixels, black but for the one in the middle: that one fills the crop."""
    frame = np.zeros((1, 20_001, 3), dtype=np.uint8)
    frame[0, 10_000] = (255, 128, 7)
    for turned in (frame, frame.transpose(1, 0, 2)):
        found = levels(preprocess([turned], CLIP), CLIP)[0]
        assert found[:, 112, 112] == pytest.approx([255, 128, 7], abs=1.01)


def test_a_long_picture_is_squashed_as_in_the_reference() -> None:
    """100,000 x 2 goes through columns first, which only the order of rounding could tell."""
    frame = noise(100_000, 2)
    difference = levels(preprocess([frame], SIGLIP), SIGLIP) - levels(reference(frame, SIGLIP), SIGLIP)
    assert np.abs(difference).max() < 1.01


@pytest.mark.long
def test_ten_thousand_by_ten_thousand() -> None:
    """A hundred megapixels, bit-equal."""
    frame = np.tile(noise(100, 100), (100, 100, 1))
    assert preprocess([frame], CLIP).tobytes() == reference(frame, CLIP).tobytes()


# ----------------------------------------------------- other kinds of images, by reverie.pixels


def through_file(image: Image.Image, kind: str = "PNG", **options: Any) -> Image.Image:
    """Saved and opened again."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return Image.open(io.BytesIO(buffer.getvalue()))


SCENE = Image.fromarray(noise(37, 53))
CLEAR = Image.fromarray(np.dstack([noise(37, 53), noise(37, 53, 1)[..., :1]]))
DEEP = Image.fromarray(noise(37, 53)[..., 0].astype(np.uint16) * 257)
TURNED = Image.Exif()
TURNED[0x0112] = 6

AS_IN_THE_REFERENCE: dict[str, Callable[[], Image.Image]] = {
    "grey": lambda: through_file(SCENE.convert("L")),
    "one bit": lambda: through_file(SCENE.convert("1")),
    "palette": lambda: through_file(SCENE.quantize(17)),
    "palette with a clear entry": lambda: through_file(SCENE.quantize(17), transparency=3),
    "RGBA": lambda: through_file(CLEAR),
    "LA": lambda: through_file(CLEAR.convert("LA")),
    "CMYK": lambda: through_file(SCENE.convert("CMYK"), "JPEG", quality=90),
    "JPEG": lambda: through_file(SCENE, "JPEG", quality=90),
}


@pytest.mark.parametrize("make", AS_IN_THE_REFERENCE.values(), ids=AS_IN_THE_REFERENCE)
def test_kinds_that_the_reference_converts_alike(make: Callable[[], Image.Image]) -> None:
    """Grey, palettes, transparency over white and CMYK: bit-equal to the processor of the same PIL image."""
    assert preprocess([to_pixels(make())], CLIP).tobytes() == reference(make(), CLIP).tobytes()


BY_OUR_RULES: dict[str, tuple[Callable[[], Image.Image], Callable[[], Image.Image]]] = {
    "16-bit grey by 257": (lambda: through_file(DEEP), lambda: Image.fromarray(noise(37, 53)[..., 0])),
    "EXIF upright": (
        lambda: through_file(SCENE, exif=TURNED),
        lambda: SCENE.transpose(Image.Transpose.ROTATE_270),
    ),
}


@pytest.mark.parametrize(("stored", "seen"), BY_OUR_RULES.values(), ids=BY_OUR_RULES)
def test_kinds_that_are_encoded_as_they_are_seen(
    stored: Callable[[], Image.Image], seen: Callable[[], Image.Image]
) -> None:
    """Where the reference leaves orientation aside and cuts 16 bits off at 255, a viewer's picture counts."""
    found = preprocess([to_pixels(stored())], CLIP)
    assert found.tobytes() == reference(seen(), CLIP).tobytes()
    assert found.tobytes() != reference(stored(), CLIP).tobytes()
