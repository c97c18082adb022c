"""Zero-shot labels: cosines to probabilities, sentences to vectors."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

from reverie.cache.zero_shot import CLIP, Tagger, label_vectors, probabilities
from reverie.errors import EmbeddingError, EncoderMismatchError, InputError
from reverie.vectors import EmbeddingSet, as_embedding

SIGMOID = SimpleNamespace(logit_scale=10.0, logit_bias=-2.0, sigmoid=True)
AXES = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1)}


def encode(texts):
    """The sum of the colours that a text names; a question mark turns it upside down."""
    rows = [np.sum([axis for word, axis in AXES.items() if word in text], axis=0) for text in texts]
    signs = [-1 if "?" in text else 1 for text in texts]
    matrix = np.array([row * sign for row, sign in zip(rows, signs, strict=True)], dtype=np.float32)
    return matrix / np.linalg.norm(matrix, axis=1, keepdims=True)


def test_softmax_as_the_paper_has_it():
    """exp(100 cos) over their sum."""
    cosines = np.array([0.25, 0.24, 0.20], np.float32)
    weights = [math.exp(100 * (value - 0.25)) for value in cosines.astype(float)]
    expected = [weight / sum(weights) for weight in weights]
    assert probabilities(cosines, CLIP) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("cosines", [[1.0, -1.0], [-1.0, -1.0], [0.3]])
def test_softmax_sums_to_one(cosines):
    """Also at the ends of the range, and for one label."""
    assert probabilities(np.array(cosines, np.float32), CLIP).sum() == pytest.approx(1.0)


def test_sigmoid_judges_each_label_alone():
    """1 / (1 + exp(-(scale cos + bias))), without a sum."""
    cosines = np.array([0.5, 0.2, -1.0], np.float32)
    expected = [1 / (1 + math.exp(-(10 * value - 2))) for value in cosines.astype(float)]
    assert probabilities(cosines, SIGMOID) == pytest.approx(expected, rel=1e-6)


def test_a_sigmoid_does_not_overflow():
    """SigLIP's scale of more than 100 is harmless."""
    steep = SimpleNamespace(logit_scale=1e6, logit_bias=0.0, sigmoid=True)
    assert probabilities(np.array([-1, 1], np.float32), steep).tolist() == [0.0, 1.0]


def test_templates_are_averaged():
    """The mean of the unit vectors of a label's sentences, of unit length again."""
    labels = label_vectors(["red"], ["a {} thing", "{} and green"], encode)
    expected = np.array([1 + math.sqrt(0.5), math.sqrt(0.5), 0])
    np.testing.assert_allclose(labels.matrix, [expected / np.linalg.norm(expected)], atol=1e-6)


def test_labels_keep_their_order_and_count_once():
    """The first mention of a label is the one that counts; braces in a label are no place."""
    labels = label_vectors(["blue", "red", "blue", "green {}"], ["{}!"], encode)
    assert labels.ids == ("blue", "red", "green {}")


@pytest.mark.parametrize("labels", [[], [""], ["red", " "], "red", ["red", 7]], ids=str)
def test_labels_that_are_none(labels):
    """At least one text, and none of them empty."""
    with pytest.raises(InputError, match="labels must be"):
        label_vectors(labels, ["{}"], encode)


@pytest.mark.parametrize("templates", [[], ["a photo"], ["{}", "nothing"]], ids=str)
def test_templates_that_are_none(templates):
    """At least one, each with a place for the label."""
    with pytest.raises(InputError, match=r"a template is a sentence with \{\}"):
        label_vectors(["red"], templates, encode)


def test_sentences_that_cancel_out():
    """Templates whose vectors sum to nothing leave no label."""
    with pytest.raises(EmbeddingError, match="labels"):
        label_vectors(["red"], ["{}", "{}?"], encode)


def test_tags_high_to_low_ties_as_given():
    """Equal labels stay in the order in which they were given."""
    labels = EmbeddingSet(("x", "y", "z"), np.array([[0, 1], [1, 0], [0, 1]], np.float32), "words")
    found = Tagger(labels)(as_embedding([0.0, 1.0], encoder="words"))
    assert [label for label, _ in found] == ["x", "z", "y"]
    assert [chance for _, chance in found] == pytest.approx([0.5, 0.5, 0.0])


def test_a_picture_of_another_encoder():
    """Its vector has no meaning among these labels."""
    tagger = Tagger(EmbeddingSet(("x",), np.array([[0, 1]], np.float32), "words"))
    with pytest.raises(EncoderMismatchError, match="'other' and 'words'"):
        tagger(as_embedding([0.0, 1.0], encoder="other"))
