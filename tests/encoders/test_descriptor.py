"""The built-in descriptor: what it promises about its vectors, and what it admits not to know."""

import importlib.util
import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter, ImageOps

from reverie import registry
from reverie.encoders import descriptor
from reverie.encoders.descriptor import BLOCKS, DescriptorEncoder, features
from reverie.errors import ImageError, ReverieError
from reverie.protocols import Encoder

TOOL = Path(__file__).parents[2] / "tools" / "calibrate_descriptor.py"
GOLDEN = {
    60: 0.01041, 130: 0.00672, 150: -0.02199, 170: -0.00328, 190: 0.00584, 215: 0.10980, 250: 0.05357,
    270: -0.01334, 300: 0.06700, 330: 0.00395, 400: -0.01785, 450: 0.09076, 470: 0.04673, 500: 0.05519,
}  # fmt: skip
BLACK = np.zeros((40, 40, 3), np.uint8)


def load_tool():
    """The calibration script, which is no part of the package."""
    spec = importlib.util.spec_from_file_location("calibrate_descriptor", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tool = load_tool()
encoder = DescriptorEncoder()


def encode(frame):
    """The vector of one frame."""
    return encoder.encode_batch([np.asarray(frame)])[0]


def grain(height, width, seed=0):
    """A frame of white noise."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def golden_frame():
    """A frame made by integer arithmetic alone."""
    y, x = np.mgrid[0:80, 0:96]
    return np.stack((x * 5 % 256, (y * 3 + x) % 256, x * y % 256), axis=-1).astype(np.uint8)


@pytest.fixture(scope="module")
def pictures():
    """Two pictures of every procedural kind, none of them in the calibration set."""
    return [
        Image.fromarray(tool.picture(kind, seed)).resize((384, 384), Image.Resampling.BICUBIC)
        for kind in tool.KINDS
        for seed in (1, 2)
    ]


@pytest.fixture
def fresh_calibration():
    """The calibration is read again in this test, and again after it."""
    descriptor._calibration.cache_clear()
    yield
    descriptor._calibration.cache_clear()


def jpeg(image):
    """The picture after a hard recompression."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=30)
    return Image.open(buffer).convert("RGB")


def blur(image):
    """The picture slightly out of focus."""
    return image.filter(ImageFilter.GaussianBlur(image.width / 80))


def crop(image, share):
    """The middle of the picture, a share of its width and height."""
    edge = round(image.width * (1 - share) / 2)
    return image.crop((edge, edge, image.width - edge, image.height - edge))


def turn_hue(image, turn):
    """The picture with every hue turned by a share of the circle."""
    hue, saturation, value = image.convert("HSV").split()
    return Image.merge(
        "HSV", (hue.point(lambda h: (h + round(turn * 256)) % 256), saturation, value)
    ).convert("RGB")


def mean_similarity(pictures, change):
    """How much of a picture's vector a change leaves: the mean cosine."""
    before = encoder.encode_batch([np.asarray(image) for image in pictures])
    after = encoder.encode_batch([np.asarray(change(image)) for image in pictures])
    return float(np.vecdot(before, after).mean())


def unrelated(pictures):
    """Cosines of all pairs of different pictures."""
    vectors = encoder.encode_batch([np.asarray(image) for image in pictures])
    first, second = np.triu_indices(len(vectors), 1)
    return np.vecdot(vectors[first], vectors[second])


# ------------------------------------------------------------------------------- the protocol


def test_it_is_an_encoder_under_its_name():
    """The registry's "descriptor" is an Encoder that names itself descriptor-v1 and makes 512 numbers."""
    made = registry.create("encoders", "descriptor")
    assert isinstance(made, Encoder)
    assert (made.name, made.dimensions) == ("descriptor-v1", 512)


def test_blocks_fill_the_vector():
    """The seven blocks have the documented lengths and weights, and no feature is left over."""
    assert [(block.dimensions, block.weight) for block in BLOCKS] == [
        (144, 1.0), (16, 0.5), (48, 0.7), (48, 1.0), (64, 0.8), (144, 0.7), (48, 0.7),
    ]  # fmt: skip
    lab = descriptor._oklab(grain(70, 50))
    assert [block.measure(lab).shape for block in BLOCKS] == [(block.dimensions,) for block in BLOCKS]
    assert features(grain(70, 50)).shape == (512,)


def test_no_frames_no_rows():
    """An empty batch gives an empty (0, 512) float32 matrix."""
    vectors = encoder.encode_batch([])
    assert (vectors.shape, vectors.dtype) == ((0, 512), np.float32)


def test_rows_are_unit_float32_in_order():
    """Frames of different sizes give float32 rows of length 1, in the order of the frames."""
    frames = [grain(64, 64), BLACK, grain(30, 90, seed=1)]
    vectors = encoder.encode_batch(frames)
    assert (vectors.shape, vectors.dtype) == ((3, 512), np.float32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)
    for row, frame in zip(vectors, frames, strict=True):
        np.testing.assert_array_equal(row, encode(frame))


def test_company_does_not_matter(pictures):
    """A frame gives the same bits alone, in a batch, at any place in it, and from another encoder."""
    frames = [np.asarray(image) for image in pictures[:8]]
    together = encoder.encode_batch(frames)
    np.testing.assert_array_equal(together[::-1], DescriptorEncoder().encode_batch(frames[::-1]))
    np.testing.assert_array_equal(together, [encode(frame) for frame in frames])


def test_threads_do_not_matter(pictures):
    """Four threads encoding at once give the same bits as one."""
    frames = [np.asarray(image) for image in pictures[:12]]
    with ThreadPoolExecutor(4) as pool:
        at_once = list(pool.map(encode, frames))
    np.testing.assert_array_equal(at_once, encoder.encode_batch(frames))


def test_memory_layout_does_not_matter():
    """A strided view, a read-only array and a copy of the same pixels give the same bits."""
    whole = grain(90, 120)
    view = whole[10:80:2, ::-3]
    frozen = view.copy()
    frozen.setflags(write=False)
    np.testing.assert_array_equal(encode(view), encode(view.copy()))
    np.testing.assert_array_equal(encode(view), encode(frozen))


def test_the_numbers_belong_to_the_name():
    """The vector of a fixed frame is pinned: other numbers need another name than descriptor-v1."""
    vector = encode(golden_frame())
    np.testing.assert_allclose(vector[list(GOLDEN)], list(GOLDEN.values()), atol=2e-5)


@pytest.mark.parametrize(
    "wrong", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3)), np.zeros((0, 8, 3), np.uint8), None]
)
def test_wrong_frames_are_refused(wrong):
    """A frame that is not (h, w, 3) uint8 with at least one pixel is an ImageError."""
    with pytest.raises(ImageError):
        encoder.encode_batch([wrong])


# --------------------------------------------------------------------------------- odd frames


@pytest.mark.parametrize(
    "colour", [(0, 0, 0), (255, 255, 255), (128, 128, 128), (1, 1, 1), (255, 0, 0), (0, 0, 255)]
)
def test_plain_frames_have_a_direction(colour):
    """A frame of one colour has no contrast, edges or texture, and is still a finite unit vector."""
    vector = encode(np.full((50, 70, 3), colour, np.uint8))
    assert np.isfinite(vector).all()
    assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-6)


def test_plain_frames_of_different_colours_differ():
    """Black, white and red share their emptiness but not their colour."""
    plain = [np.full((8, 8, 3), colour, np.uint8) for colour in [(0, 0, 0), (255, 255, 255), (255, 0, 0)]]
    assert unrelated(plain).max() < 0.8


def test_plain_frame_is_the_same_at_every_size():
    """One pixel and a large frame of the same colour are the same picture."""
    small, large = (encode(np.full((side, side, 3), (10, 120, 60), np.uint8)) for side in (1, 700))
    assert float(small @ large) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(
    ("height", "width"),
    [(1, 1), (1, 2), (1, 500), (500, 1), (3, 2), (63, 65), (64, 64), (65, 127), (2, 5000), (1100, 900)],
)
def test_any_size_has_a_vector(height, width):
    """Frames from one pixel up, however narrow, give finite unit vectors."""
    vector = encode(grain(height, width))
    assert np.isfinite(vector).all()
    assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-6)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1), st.sampled_from([1, 3, 40, 256]))
@settings(max_examples=60, deadline=None)
def test_any_small_frame_has_a_vector(height, width, seed, levels):
    """Random frames of any small size, from nearly plain to full noise, give finite unit vectors."""
    rng = np.random.default_rng(seed)
    base = int(rng.integers(0, 257 - levels))
    vector = encode(rng.integers(base, base + levels, (height, width, 3)).astype(np.uint8))
    assert np.isfinite(vector).all()
    assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-6)


# ------------------------------------------------------------------------- what it is good for


def test_nearer_pictures_are_nearer(pictures):
    """Similarity falls from recompression over blur, small crop and large crop to unrelated pictures."""
    some = pictures[::2]
    kept = [
        mean_similarity(some, jpeg),
        mean_similarity(some, blur),
        mean_similarity(some, lambda image: crop(image, 0.9)),
        mean_similarity(some, lambda image: crop(image, 0.7)),
        float(unrelated(pictures).mean()),
    ]
    assert kept == sorted(kept, reverse=True)
    np.testing.assert_array_less([0.985, 0.975, 0.965, 0.85], kept[:4])


def test_size_hardly_matters(pictures):
    """The same picture at half and at more than twice the size is nearly the same vector."""
    for side in (128, 600):
        scaled = mean_similarity(
            pictures[::3], lambda image, side=side: image.resize((side, side), Image.Resampling.BICUBIC)
        )
        assert scaled > 0.99


def test_unrelated_pictures_are_far_apart(pictures):
    """Pairs of unrelated pictures are around zero; 99 of 100 are "different" to the specification."""
    cosines = unrelated(pictures)
    assert abs(cosines.mean()) < 0.03
    assert np.quantile(cosines, 0.99) < 0.62


def test_what_it_does_not_know(pictures):
    """Mirroring and a large turn of hue cost more than a small one: it says where and which colour."""
    some = pictures[::2]
    small = mean_similarity(some, lambda image: turn_hue(image, 0.05))
    large = mean_similarity(some, lambda image: turn_hue(image, 0.5))
    mirrored = mean_similarity(some, ImageOps.mirror)
    assert small > 0.9
    assert large < 0.7
    assert mirrored < 0.9


# ------------------------------------------------------------------------------- calibration


def test_calibration_is_read_once(fresh_calibration, monkeypatch):
    """The file is read with the first frame and never again."""
    first = encode(BLACK)
    monkeypatch.setattr(descriptor, "CALIBRATION", "gone.npy")
    np.testing.assert_array_equal(encode(BLACK), first)


def test_making_an_encoder_reads_nothing(fresh_calibration, monkeypatch):
    """An encoder is made, and asked for its name, without its file."""
    monkeypatch.setattr(descriptor, "CALIBRATION", "gone.npy")
    assert DescriptorEncoder().name == "descriptor-v1"


def test_missing_calibration_is_named(fresh_calibration, monkeypatch):
    """Without its file the error names it and says what to do."""
    monkeypatch.setattr(descriptor, "CALIBRATION", "gone.npy")
    with pytest.raises(ReverieError, match=r"missing .*gone\.npy.*reinstall"):
        encode(BLACK)


def damaged(kind):
    """Bytes of a calibration file that is not what it should be."""
    vectors = np.ones((2, 512), np.float32)
    if kind == "shape":
        vectors = vectors[:, 1:]
    if kind == "type":
        vectors = vectors.astype(np.float64)
    if kind == "not finite":
        vectors[0, 5] = np.nan
    if kind == "no scale":
        vectors[1, 5] = 0
    buffer = io.BytesIO()
    np.save(buffer, vectors)
    data = buffer.getvalue()
    return {"empty": b"", "text": b"not an array", "cut": data[:-9]}.get(kind, data)


@pytest.mark.parametrize("kind", ["empty", "text", "cut", "shape", "type", "not finite", "no scale"])
def test_damaged_calibration_is_refused(fresh_calibration, monkeypatch, tmp_path, kind):
    """A calibration file that is cut, foreign or impossible is an error that names it."""
    (tmp_path / descriptor.CALIBRATION).write_bytes(damaged(kind))
    monkeypatch.setattr(descriptor, "files", {"reverie.encoders": tmp_path}.get)
    with pytest.raises(ReverieError, match=r"descriptor_calibration\.npy.*reinstall"):
        encode(BLACK)


def test_calibration_script_is_deterministic():
    """The script's pictures and vectors are the same each time, and few pictures a subset of many."""
    few, more = tool.calibration_set(1), tool.calibration_set(2)
    np.testing.assert_array_equal(few, more[::2])
    np.testing.assert_array_equal(tool.calibrate(few), tool.calibrate(tool.calibration_set(1)))


def test_calibrated_blocks_speak_as_loudly_as_their_weights():
    """After calibration every block is centred and its root-mean-square length is its weight."""
    frames = tool.calibration_set(2)
    mean, scale = tool.calibrate(frames)
    rows = (np.stack([features(frame) for frame in frames]) - mean) * scale
    np.testing.assert_allclose(rows.mean(axis=0), 0, atol=1e-5)
    ends = np.cumsum([block.dimensions for block in BLOCKS])[:-1]
    lengths = [np.sqrt((part**2).sum(axis=1).mean()) for part in np.split(rows, ends, axis=1)]
    np.testing.assert_allclose(lengths, [block.weight for block in BLOCKS], rtol=1e-5)


@pytest.mark.long
def test_shipped_calibration_is_what_the_script_makes():
    """The script's full set gives the vectors that ship in the package."""
    shipped = np.load(Path(descriptor.__file__).with_name(descriptor.CALIBRATION))
    np.testing.assert_allclose(tool.calibrate(tool.calibration_set()), shipped, rtol=1e-3, atol=1e-4)
