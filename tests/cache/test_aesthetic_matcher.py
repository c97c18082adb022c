"""AestheticMatcher: one set of methods over any encoder, whatever form an image has."""

import random
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reverie import AestheticMatcher, registry
from reverie.errors import (
    EmbeddingError,
    EncoderMismatchError,
    ImageBatchError,
    ImageError,
    ImageNotFoundError,
    InputError,
    MissingDependencyError,
    UnknownNameError,
)
from reverie.pixels import to_pixels
from reverie.vectors import Embedding

RED, BLUE = (250, 10, 20), (10, 20, 240)
WORDS = {"red": RED, "blue": BLUE}


class MeanColour:
    """A picture's mean colour, as an encoder; notes how many frames it gets at once."""

    name = "mean-colour"
    dimensions = 3

    def __init__(self):
        self.batches = []

    def encode_batch(self, frames):
        """One row a frame."""
        self.batches.append(len(frames))
        means = np.array([frame.mean(axis=(0, 1)) for frame in frames]).reshape(-1, 3) + 1
        return (means / np.linalg.norm(means, axis=1, keepdims=True)).astype(np.float32)


class NamedColour(MeanColour):
    """The same space, with the names of two colours in it."""

    def encode_texts(self, texts):
        """One row a text."""
        return self.encode_batch([np.full((1, 1, 3), WORDS[text], np.uint8) for text in texts])


class Returns(MeanColour):
    """Returns what it was made with, for pictures and for texts."""

    def __init__(self, vectors):
        self.vectors = vectors

    def encode_batch(self, frames):
        """Whatever it was made with."""
        return self.vectors

    encode_texts = encode_batch


def flat(colour, mode="RGB", size=(6, 4)):
    """A PIL image of one colour."""
    return Image.new("RGB", size, colour).convert(mode)


@pytest.fixture
def matcher():
    """A matcher over mean colours."""
    return AestheticMatcher(MeanColour(), seed=0)


# ------------------------------------------------------------------------------------ encoding


def test_a_path_a_pil_image_and_an_array_are_the_same_picture(matcher, picture, tmp_path):
    """Whatever form a picture comes in, its embedding has the same bits."""
    pixels = picture(3)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    forms = [pixels, Image.fromarray(pixels), tmp_path / "a.png", str(tmp_path / "a.png")]
    vectors = [matcher.encode_image(form) for form in forms]
    assert len({vector.tobytes() for vector in vectors}) == 1


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I", "F"])
def test_pictures_of_every_mode_are_encoded(matcher, mode, tmp_path):
    """Each mode, in memory and from a file, is encoded as what `to_pixels` makes of it."""
    grey = Image.fromarray(np.linspace(0, 255, 48).astype(np.uint8).reshape(6, 8))
    image = grey.convert(mode) if mode != "RGB" else Image.merge("RGB", (grey, grey, grey))
    expected = matcher.encode_image(to_pixels(image))
    assert matcher.encode_image(image).tobytes() == expected.tobytes()
    image.save(tmp_path / "a.tiff")
    assert np.dot(matcher.encode_image(tmp_path / "a.tiff"), expected) > 0.999


def test_transparency_is_composited_over_white(matcher):
    """A picture that cannot be seen is as white as the page."""
    clear = Image.new("RGBA", (5, 5), (*RED, 0))
    assert matcher.encode_image(clear).tobytes() == matcher.encode_image(flat((255, 255, 255))).tobytes()


def test_the_first_frame_of_an_animation_counts(matcher, tmp_path):
    """An animated file is encoded by what it shows first."""
    flat(RED).save(tmp_path / "a.gif", save_all=True, append_images=[flat(BLUE)])
    assert np.dot(matcher.encode_image(tmp_path / "a.gif"), matcher.encode_image(flat(RED))) > 0.9999


def test_an_embedding_is_a_stamped_unit_vector(matcher, picture):
    """``(d,)`` float32 of unit length, read-only, with the encoder's name."""
    vector = matcher.encode_image(picture())
    assert (type(vector), vector.shape, vector.dtype) == (Embedding, (3,), np.float32)
    assert vector.encoder == "mean-colour"
    assert not vector.flags.writeable
    assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-6)


def test_the_built_in_encoder_gives_512_numbers(picture):
    """``encoder="descriptor"`` works offline."""
    vector = AestheticMatcher("descriptor").encode_image(picture())
    assert vector.shape == (512,)
    assert vector.encoder == "descriptor-v1"


def test_an_encoder_that_forgets_to_normalise_is_helped():
    """Rows of any length become unit vectors, by either method."""
    matcher = AestheticMatcher(Returns(np.array([[3.0, 0.0, 4.0]])))
    assert matcher.encode_image(flat(RED)).tolist() == pytest.approx([0.6, 0, 0.8])
    assert matcher.encode_images([flat(RED)])[0].tolist() == pytest.approx([0.6, 0, 0.8])
    assert matcher.encode_images([flat(RED)]).dtype == np.float32


def test_a_broken_picture_is_an_image_error(matcher, tmp_path):
    """Missing, not an image, of a wrong shape: each is told apart by the message."""
    (tmp_path / "text.png").write_text("no image")
    for image, message in (
        (tmp_path / "missing.png", "no image at"),
        (tmp_path / "text.png", "not an image"),
        (np.zeros((4, 4), np.uint8), "must have shape"),
        (np.zeros((4, 4, 3)), "dtype uint8"),
        (7, "got int"),
    ):
        with pytest.raises(ImageError, match=message):
            matcher.encode_image(image)


def test_a_batch_keeps_its_order(matcher, picture, tmp_path):
    """Row i belongs to image i, whatever forms are mixed, bit for bit as if encoded alone."""
    Image.fromarray(picture(0)).save(tmp_path / "a.png")
    images = [tmp_path / "a.png", Image.fromarray(picture(1)), picture(2, 9, 5), str(tmp_path / "a.png")]
    vectors = matcher.encode_images(images)
    assert (vectors.shape, vectors.dtype) == ((4, 3), np.float32)
    for row, image in zip(vectors, images, strict=True):
        assert row.tobytes() == matcher.encode_image(image).tobytes()


def test_rows_of_a_batch_carry_their_encoder(matcher, picture):
    """A row is an `Embedding` like that of one image, so mixing encoders is noticed later."""
    rows = matcher.encode_images([picture(0), picture(1)])
    assert [row.encoder for row in rows] == ["mean-colour", "mean-colour"]
    assert not rows.flags.writeable
    other = AestheticMatcher("descriptor").encode_image(picture(0))
    with pytest.raises(EncoderMismatchError, match="'descriptor-v1' and 'mean-colour'"):
        matcher.find_similar(rows[0], [("a", other)])


def test_no_images_give_no_rows(matcher):
    """``(0, d)``, also from an iterator."""
    assert matcher.encode_images([]).shape == (0, 3)
    assert matcher.encode_images(iter(())).shape == (0, 3)


def test_a_long_batch_does_not_hold_all_pixels_at_once(matcher):
    """Images are decoded and encoded some at a time, in order."""
    shades = [(value, 255 - value, 7) for value in range(0, 200, 2)]
    vectors = matcher.encode_images(flat(shade) for shade in shades)
    assert sum(matcher.encoder.batches) == 100
    assert max(matcher.encoder.batches) <= 32
    assert np.array_equal(vectors, np.stack([matcher.encode_image(flat(shade)) for shade in shades]))


def test_a_batch_error_names_the_bad_images_and_keeps_the_rest(matcher, tmp_path):
    """Each failure by its position; the vectors of all others with theirs."""
    (tmp_path / "zero.png").touch()
    images = [flat(RED), tmp_path / "missing.png", flat(BLUE), tmp_path / "zero.png", flat(RED)]
    with pytest.raises(ImageBatchError, match="2 of 5 images") as caught:
        matcher.encode_images(images)
    error = caught.value
    assert list(error.failures) == [1, 3]
    assert isinstance(error.failures[1], ImageNotFoundError)
    assert "image 1: no image at" in str(error)
    assert "image 3:" in str(error)
    assert "0 bytes" in str(error)
    assert list(error.indices) == [0, 2, 4]
    assert np.array_equal(error.embeddings, matcher.encode_images([images[i] for i in (0, 2, 4)]))


def test_a_batch_of_bad_images_only(matcher):
    """Nothing is left to return, and the error still says what was wrong with each."""
    with pytest.raises(ImageBatchError, match="2 of 2 images") as caught:
        matcher.encode_images([7, "no such file.png"])
    assert caught.value.embeddings.shape == (0, 3)
    assert list(caught.value.failures) == [0, 1]


def test_one_path_is_no_batch(matcher):
    """A text would be taken for a sequence of one-letter paths: it is refused as a whole."""
    for wrong in ("picture.png", None, 5):
        with pytest.raises(InputError, match="use encode_image"):
            matcher.encode_images(wrong)


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (np.ones((1, 4), np.float32), r"returned shape \(1, 4\), expected \(1, 3\)"),
        (np.ones((2, 3), np.float32), r"returned shape \(2, 3\), expected \(1, 3\)"),
        (np.ones(3, np.float32), r"returned shape \(3,\), expected \(1, 3\)"),
        (None, r"returned shape \(\), expected \(1, 3\)"),
        (np.full((1, 3), np.nan, np.float32), "'mean-colour' returned holds 3 number"),
        (np.zeros((1, 3), np.float32), "'mean-colour' returned is all zeros"),
    ],
    ids=["long", "many", "flat", "nothing", "NaN", "zeros"],
)
def test_an_encoder_that_breaks_its_promise_is_named(vectors, message):
    """A wrong shape or impossible numbers never get into a cache."""
    matcher = AestheticMatcher(Returns(vectors))
    for encode in (matcher.encode_image, lambda image: matcher.encode_images([image])):
        with pytest.raises(EmbeddingError, match=message):
            encode(flat(RED))
    with pytest.raises(EmbeddingError, match=message):
        matcher.encode_text("red")


# ----------------------------------------------------------------------------------------- text


def test_a_text_is_encoded_into_the_space_of_the_images():
    """With an encoder that knows texts, a text finds pictures."""
    matcher = AestheticMatcher(NamedColour())
    vector = matcher.encode_text("red")
    assert vector.encoder == "mean-colour"
    candidates = [("red", matcher.encode_image(flat(RED))), ("blue", matcher.encode_image(flat(BLUE)))]
    assert matcher.find_similar(vector, candidates, None)[0] == ("red", pytest.approx(1.0))


def test_an_encoder_without_texts_says_so(matcher):
    """The error names the encoder and one that knows texts."""
    with pytest.raises(InputError, match=r"'mean-colour' knows pictures only.*clip"):
        matcher.encode_text("red")


@pytest.mark.parametrize("text", [None, 7, b"red", ["red"]], ids=str)
def test_a_text_is_a_str(text):
    """Anything else is refused."""
    with pytest.raises(InputError, match="text must be a str"):
        AestheticMatcher(NamedColour()).encode_text(text)


# -------------------------------------------------------------------------- choosing the encoder


def test_clip_says_what_to_install_and_what_works_now(picture, monkeypatch):
    """The specification's encoder is the default; not installed, its error shows both ways out."""
    monkeypatch.setitem(sys.modules, "reverie.encoders.clip", None)  # as if it could not be imported
    matcher = AestheticMatcher()
    for use in (
        lambda: matcher.encode_image(picture()),
        lambda: matcher.encode_images([picture()]),
        lambda: matcher.encode_text("a house"),
    ):
        with pytest.raises(MissingDependencyError, match="pip install") as caught:
            use()
        assert '"descriptor" works now' in str(caught.value)
        assert isinstance(caught.value, ImportError)


def test_matching_needs_no_encoder():
    """A matcher whose encoder is not installed still compares and chooses."""
    matcher = AestheticMatcher("clip", seed=0)
    assert matcher.find_similar([1, 0], [("a", [1, 0])]) == [("a", 1.0)]
    assert matcher.cosine_similarity([1, 0], [0, 1]) == 0.0
    assert matcher.weighted_random_selection([("a", 0.9)]) == "a"


def test_a_name_is_loaded_when_it_is_first_needed(monkeypatch, picture):
    """Building a matcher loads nothing; the encoder is then made once."""
    made = []
    create = registry.create
    monkeypatch.setattr(registry, "create", lambda *args: made.append(args) or create(*args))
    matcher = AestheticMatcher("descriptor")
    assert made == []
    first = matcher.encoder
    matcher.encode_image(picture())
    assert matcher.encoder is first
    assert made == [("encoders", "descriptor")]


def test_a_wrong_name_is_refused_at_once():
    """With the names that exist."""
    with pytest.raises(UnknownNameError, match=r"'clop'.*clip, .*descriptor"):
        AestheticMatcher("clop")


@pytest.mark.parametrize("encoder", [None, 7, MeanColour, Path("clip")], ids=["None", "int", "class", "Path"])
def test_what_is_no_encoder_is_refused_at_once(encoder):
    """Not at the first image, hours later."""
    with pytest.raises(InputError, match="a registered name or an Encoder object"):
        AestheticMatcher(encoder)


# -------------------------------------------------------------------------- comparing, choosing


def test_cosine_similarity_is_the_specifications():
    """1 identical, 0 unrelated, -1 opposite; a Python float; lengths do not matter."""
    matcher = AestheticMatcher(MeanColour())
    assert matcher.cosine_similarity([1, 0, 0], [5, 0, 0]) == 1.0
    assert matcher.cosine_similarity([1, 0, 0], [0, 2, 0]) == 0.0
    assert matcher.cosine_similarity([1, 0, 0], [-3, 0, 0]) == -1.0
    assert matcher.cosine_similarity([3, 4], [4, 3]) == pytest.approx(0.96)
    assert type(matcher.cosine_similarity([3, 4], [4, 3])) is float


def test_cosine_similarity_of_what_cannot_be_compared():
    """Other lengths, no direction, other encoders."""
    matcher = AestheticMatcher(MeanColour())
    for other in ([1.0, 0.0], [0.0, 0.0, 0.0], [np.nan, 0, 1]):
        with pytest.raises(EmbeddingError, match="second embedding"):
            matcher.cosine_similarity([1, 0, 0], other)
    named = NamedColour()
    named.name = "named"
    ours, theirs = matcher.encode_image(flat(RED)), AestheticMatcher(named).encode_image(flat(RED))
    with pytest.raises(EncoderMismatchError, match="'mean-colour' and 'named'"):
        matcher.cosine_similarity(ours, theirs)


def test_find_similar_takes_the_specifications_arguments(matcher):
    """By the names that the specification's snippet uses."""
    candidates = [("red", matcher.encode_image(flat(RED))), ("none", None)]
    candidates.append(("blue", matcher.encode_image(flat(BLUE))))
    found = matcher.find_similar(
        target_embedding=matcher.encode_image(flat(RED)),
        candidate_embeddings=candidates,
        threshold=0.7,
        top_k=5,
    )
    assert found == [("red", pytest.approx(1.0))]


def test_two_matchers_of_one_seed_agree():
    """The choice is repeatable, and another seed chooses otherwise."""
    candidates = [(str(i), 0.1 * i) for i in range(10)]
    one, same, other = (AestheticMatcher(MeanColour(), seed=seed) for seed in (5, 5, 6))
    chosen = [one.weighted_random_selection(candidates) for _ in range(50)]
    assert [same.weighted_random_selection(candidates) for _ in range(50)] == chosen
    assert [other.weighted_random_selection(candidates) for _ in range(50)] != chosen


@pytest.mark.parametrize("seed", [-1, "x", 1.5])
def test_a_seed_is_a_whole_number(seed):
    """Anything else is an error of ours."""
    with pytest.raises(InputError, match="seed"):
        AestheticMatcher("descriptor", seed=seed)


def test_a_choice_leaves_the_global_randomness_alone():
    """A matcher draws from a generator of its own."""
    before = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002 - the global state is the point
    matcher = AestheticMatcher(MeanColour())
    for _ in range(20):
        matcher.weighted_random_selection([("a", 0.5), ("b", 0.5)])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before  # noqa: NPY002


def test_choosing_from_nothing_gives_none(matcher):
    """As the specification's ``if similar`` expects."""
    assert matcher.weighted_random_selection([]) is None


def test_a_temperature_sharpens_the_choice(matcher):
    """A small one takes the most similar, always."""
    candidates = [("best", 0.9), ("good", 0.8)]
    chosen = {matcher.weighted_random_selection(candidates, temperature=1e-3) for _ in range(50)}
    assert chosen == {"best"}


def test_a_similarity_in_words(matcher):
    """The specification's bands."""
    assert matcher.describe_similarity(0.95) == "nearly identical"
    assert matcher.describe_similarity(0.1) == "different aesthetic"
