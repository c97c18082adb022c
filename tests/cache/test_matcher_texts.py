"""AestheticMatcher with texts: sums, labels, percentiles, the scale, and freeing the encoder."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from reverie import AestheticMatcher
from reverie.cache.similarity import describe_similarity, find_similar
from reverie.cache.similarity_scale import Percentile, SimilarityScale
from reverie.errors import EmbeddingError, EncoderMismatchError, ImageError, InputError
from reverie.vectors import EmbeddingSet, as_embedding, normalise

WORDS = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1)}


class Colours:
    """Pictures and texts as colours, in 768 numbers."""

    name = "colours"
    dimensions = 768

    def __init__(self):
        self.unloaded = 0
        self.read = []

    def encode_batch(self, frames):
        """One row a picture: its mean colour."""
        return self._rows([frame.mean(axis=(0, 1)) for frame in frames])

    def encode_texts(self, texts):
        """One row a text: the sum of its words' colours."""
        self.read += texts
        return self._rows(
            [np.sum([WORDS[word] for word in text.split() if word in WORDS], axis=0) for text in texts]
        )

    def _rows(self, rows):
        matrix = np.zeros((len(rows), self.dimensions))
        matrix[:, :3] = np.reshape(rows, (-1, 3))
        return normalise(matrix)

    def unload(self):
        """Counts."""
        self.unloaded += 1


class Wordless:
    """Knows pictures only, and has nothing to unload."""

    name = "wordless"
    dimensions = 768
    encode_batch = Colours.encode_batch
    _rows = Colours._rows


def flat(colour):
    """A picture of one colour."""
    return Image.new("RGB", (5, 4), colour)


def colour(vector):
    """The first three numbers, which are all there is."""
    return pytest.approx(np.asarray(vector)[:3].tolist(), abs=1e-6)


@pytest.fixture
def matcher():
    """A matcher whose encoder knows texts."""
    return AestheticMatcher(Colours(), seed=0)


# ------------------------------------------------------------------------------- vectors of


def test_texts_in_their_order(matcher):
    """Unit rows with the encoder's name; none for none."""
    vectors = matcher.encode_texts(["red", "red blue"])
    assert (vectors.shape, vectors.dtype, vectors.flags.writeable) == ((2, 768), np.float32, False)
    assert vectors[1].encoder == "colours"
    np.testing.assert_array_equal(vectors[1], matcher.encode_text("red blue"))
    assert matcher.encode_texts([]).shape == (0, 768)
    for wrong in ("red", None):
        with pytest.raises(InputError, match="use encode_text"):
            matcher.encode_texts(wrong)


def test_vector_of_whatever_it_is(matcher, tmp_path, monkeypatch):
    """A text, a file, a path, a picture, pixels, a vector and bare numbers."""
    monkeypatch.chdir(tmp_path)
    flat((0, 255, 0)).save("red.png")
    Path("blue").write_text("no picture")
    with pytest.raises(ImageError):  # the name of a file goes before a text
        matcher.vector_of("blue")
    green = [0, 1, 0]
    stored = matcher.encode_text("green")
    assert matcher.vector_of(stored) is stored
    for item in ("green", "red.png", Path("red.png"), flat((0, 255, 0)), np.eye(768)[1]):
        assert np.asarray(matcher.vector_of(item))[:3].tolist() == green
    assert matcher.vector_of(np.eye(768)[1]).encoder == "colours"
    assert matcher.vector_of("red").tolist()[:3] == [1, 0, 0]


def test_vector_of_what_it_cannot_be(matcher):
    """A text for an encoder without, a file that is not there, numbers of another length."""
    with pytest.raises(InputError, match=r"there is no file 'angel', and the encoder 'wordless'"):
        AestheticMatcher(Wordless()).vector_of("angel")
    with pytest.raises(ImageError):
        matcher.vector_of(Path("nowhere.png"))
    with pytest.raises(EmbeddingError, match="768 were expected"):
        matcher.vector_of(np.ones(512))


# -------------------------------------------------------------------------------- arithmetic


@pytest.mark.parametrize(
    ("plus", "minus", "expected"),
    [
        (["red"], [], [1, 0, 0]),
        (["red", "blue"], [], [1, 0, 1]),
        ([("red", 3), "blue"], [], [3, 0, 1]),
        ([flat((255, 0, 0)), ("green", 0.5)], [], [1, 0.5, 0]),
        (["red"], ["green"], [1, -1, 0]),
        (["red"], [("green", 2.5)], [1, -2.5, 0]),
        (["red blue"], [("red", math.sqrt(0.5))], [0, 0, 1]),
        ([("red", 1e300), ("blue", 1e300)], [], [1, 0, 1]),
        ([("red", np.float32(0))], ["blue"], [0, 0, -1]),
        ((), ["green"], [0, -1, 0]),
    ],
)
def test_sums(plus, minus, expected, matcher):
    """The unit vector of plus minus minus, each part times its weight."""
    vector = matcher.combine(plus, minus)
    assert (vector.encoder, vector.shape, vector.dtype) == ("colours", (768,), np.float32)
    assert np.asarray(vector)[:3].tolist() == colour(np.array(expected) / np.linalg.norm(expected))


@pytest.mark.parametrize(
    ("plus", "minus", "message"),
    [
        ([], [], "at least one vector"),
        (["red"], ["red"], "cancel each other out"),
        ([("red", 0)], [], "cancel each other out"),
        ([("red", 0.1), ("red", 0.2)], [("red", 0.3)], "cancel each other out"),
        ([("red", math.inf)], [], "finite"),
        ([("red", math.nan)], [], "finite"),
        ([("red", "2")], [], "a pair of an item and its weight"),
        ([("red", 1, 2)], [], "a pair of an item and its weight"),
        ("red", [], "got one str"),
        (["red"], "blue", "got one str"),
        (flat((1, 2, 3)), [], "got one Image"),
        (np.eye(768)[0], [], "got one ndarray"),
    ],
)
def test_sums_that_are_none(plus, minus, message, matcher):
    """Nothing to add, nothing left, a weight that is none, one part instead of a sequence."""
    with pytest.raises(InputError, match=message):
        matcher.combine(plus, minus)


def test_a_part_of_another_encoder(matcher):
    """It is refused by name, as in a comparison."""
    other = as_embedding(np.eye(768)[0], encoder="other")
    with pytest.raises(EncoderMismatchError, match="one sum: 'colours' and 'other'"):
        matcher.combine(["red", other])


def test_parts_of_several_lengths(matcher):
    """Vectors without a stamp are told apart by their length."""
    with pytest.raises(EmbeddingError, match=r"lengths \[768, 512\]"):
        matcher.combine([as_embedding(np.eye(768)[0]), as_embedding(np.eye(512)[0])])


# --------------------------------------------------------------------------------------- tags


def test_tags_of_a_picture(matcher, tmp_path):
    """Likeliest first; a path, a picture and its vector give the same."""
    picture = flat((200, 60, 10))
    picture.save(tmp_path / "picture.png")
    found = matcher.tags(picture, ["blue", "red", "green"], "{} paint")
    assert [label for label, _ in found] == ["red", "green", "blue"]
    assert sum(chance for _, chance in found) == pytest.approx(1)
    for same in (tmp_path / "picture.png", str(tmp_path / "picture.png"), matcher.encode_image(picture)):
        assert matcher.tags(same, ["blue", "red", "green"], "{} paint") == found


def test_templates(matcher):
    """One sentence or several; the paper's is the default."""
    matcher.tags(flat((1, 2, 3)), ["red"])
    matcher.tags(flat((1, 2, 3)), ["blue"], ["{} ink", "the {}"])
    assert matcher.encoder.read == ["a photo of red", "blue ink", "the blue"]


def test_the_encoder_says_how_probable(matcher):
    """``text_settings`` of the encoder are used: here a sigmoid that judges each label alone."""
    matcher.encoder.text_settings = SimpleNamespace(logit_scale=4.0, logit_bias=-2.0, sigmoid=True)
    found = matcher.tags(flat((255, 0, 0)), ["red", "green"])
    assert [chance for _, chance in found] == pytest.approx([1 / (1 + math.exp(-2)), 1 / (1 + math.exp(2))])


def test_an_encoder_without_text_settings(matcher):
    """None is what a model without texts says of itself; it counts as not said."""
    matcher.encoder.text_settings = None
    assert matcher.tags(flat((255, 0, 0)), ["red", "green"])[0] == ("red", pytest.approx(1.0))


def test_tags_need_texts():
    """An encoder of pictures only says so."""
    with pytest.raises(InputError, match=r"'wordless' knows pictures only.*clip"):
        AestheticMatcher(Wordless()).tags(flat((1, 2, 3)), ["red"])


# ------------------------------------------------------------------------------------ the scale


def table(unit, count=40, dimensions=16):
    """Random vectors of few dimensions: their cosines spread."""
    return EmbeddingSet(tuple(f"c{at}" for at in range(count)), unit(count, dimensions, seed=3))


@pytest.mark.parametrize("threshold", ["p90", Percentile(90)])
def test_a_percentile_is_taken_of_the_candidates_own_pairs(threshold, matcher, unit):
    """The cosine that it stands for is the threshold; pairs and matrix, iterators too, give the same."""
    candidates = table(unit)
    target = unit(1, 16, seed=9)[0]
    lowest = SimilarityScale.of(candidates).cosine(90)
    expected = find_similar(target, candidates, lowest, None)
    assert 0 < len(expected) < len(candidates)
    assert matcher.find_similar(target, candidates, threshold, None) == expected
    pairs = zip(candidates.ids, candidates.matrix, strict=True)
    assert matcher.find_similar(target, pairs, threshold, None) == expected


def test_a_percentile_of_few_candidates_is_the_fixed_band(matcher, unit):
    """With fewer than 21 there is no scale: p90 is the specification's .7."""
    candidates = table(unit, 5)
    near = candidates.matrix[0] * 0.72 + unit(1, 16, seed=9)[0] * 0.5
    expected = find_similar(near, candidates, 0.7, None)
    assert matcher.find_similar(near, candidates, "p90", None) == expected
    assert matcher.find_similar(near, [], "p90") == []


@pytest.mark.parametrize("threshold", ["p101", "close", math.nan])
def test_a_threshold_that_is_none(threshold, matcher, unit):
    """It is refused before anything is compared."""
    with pytest.raises(InputError):
        matcher.find_similar(unit(1, 16)[0], table(unit), threshold)


def test_words_are_raw_until_calibrated(matcher, unit):
    """As the specification has them; after `calibrate` by percentile; and back."""
    candidates = table(unit)
    assert matcher.describe_similarity(0.55) == describe_similarity(0.55) == "different aesthetic"
    scale = matcher.calibrate(candidates)
    assert matcher.scale is scale
    assert scale.calibrated
    assert matcher.describe_similarity(0.55) == scale.describe(0.55) == "very similar (same subject, pose)"
    matcher.scale = None
    assert matcher.describe_similarity(0.55) == "different aesthetic"


def test_calibrating_on_pairs_or_on_little(matcher, unit):
    """Pairs of id and vector will do; too few of them leave the words as they are."""
    pairs = [("a", unit(1, 16)[0]), ("b", None)]
    assert not matcher.calibrate(pairs).calibrated
    assert matcher.describe_similarity(0.75) == "similar aesthetic (good for injection)"


# ------------------------------------------------------------------------------------ unloading


def test_unload_frees_the_encoder(matcher):
    """It is handed on; an encoder without it, or one that is not loaded yet, has nothing to free."""
    matcher.unload()
    assert matcher.encoder.unloaded == 1
    AestheticMatcher(Wordless()).unload()
    AestheticMatcher("clip").unload()
