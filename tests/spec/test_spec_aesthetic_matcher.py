"""The specification, "AestheticMatcher": a test a sentence; docstrings quote it."""

from __future__ import annotations

import numpy as np
import pytest

from reverie.cache.aesthetic_matcher import AestheticMatcher
from reverie.pixels import to_pixels
from reverie.vectors import Embedding


def around(similarity: float) -> list[float]:
    """A vector whose cosine to [1, 0] is the given number."""
    return [similarity, float(np.sqrt(1 - similarity**2))]


def test_find_visually_similar_images(matcher, picture_file):
    """Find visually similar images using embeddings: the same picture comes first, unlike ones last."""
    vectors = [(str(n), matcher.encode_image(picture_file(n))) for n in range(6)]
    found = matcher.find_similar(matcher.encode_image(picture_file(3)), vectors, threshold=-1, top_k=6)
    assert found[0][0] == "3"
    assert found[0][1] == pytest.approx(1.0)


def test_vision_encoder_gives_512(matcher, picture_file):
    """Vision encoder: Image -> 512-dim embedding."""
    assert matcher.encode_image(picture_file(1)).shape == (512,)


def test_text_encoder_is_the_encoders_matter(matcher):
    """Text encoder: Text -> 512-dim embedding, in the same latent space: of an encoder that has one."""

    class Both:
        name = "both"
        dimensions = 512

        def encode_batch(self, frames):
            return np.eye(512, dtype=np.float32)[: len(frames)]

        def encode_texts(self, texts):
            return np.eye(512, dtype=np.float32)[: len(texts)]

    both = AestheticMatcher(encoder=Both())
    image = both.encode_image(np.zeros((8, 8, 3), dtype=np.uint8))
    assert both.encode_text("angel").shape == (512,)
    assert both.cosine_similarity(image, both.encode_text("angel")) == pytest.approx(1.0)


def test_cosine_similarity_measures_visual_similarity(matcher, picture_file):
    """Cosine similarity measures visual similarity: a brighter copy is nearer than another picture."""
    original = to_pixels(picture_file(1))
    brighter = np.clip(original.astype(int) + 12, 0, 255).astype(np.uint8)
    here, near, far = (matcher.encode_image(image) for image in (original, brighter, picture_file(2)))
    assert matcher.cosine_similarity(here, near) > 0.8 > matcher.cosine_similarity(here, far)


def test_encode_image_loads_an_image_path(matcher, picture_file):
    """encode_image(image_path): 1. Load and preprocess image: by position and by name."""
    path = picture_file(1)
    assert np.array_equal(matcher.encode_image(path), matcher.encode_image(image_path=str(path)))


def test_encode_image_passes_through_the_encoder(picture_file):
    """2. Pass through CLIP vision encoder: here through the encoder that was chosen."""
    seen = []

    class Recorder:
        name = "recorder"
        dimensions = 3

        def encode_batch(self, frames):
            seen.extend(frames)
            return np.array([[0.0, 0.6, 0.8]] * len(frames), dtype=np.float32)

    vector = AestheticMatcher(encoder=Recorder()).encode_image(picture_file(1))
    assert [frame.shape for frame in seen] == [(64, 64, 3)]
    assert np.allclose(vector, [0.0, 0.6, 0.8])


def test_encode_image_normalises(matcher, picture_file):
    """3. Normalize to unit vector."""
    assert np.linalg.norm(matcher.encode_image(picture_file(1))) == pytest.approx(1.0, abs=1e-6)


def test_encode_image_returns_a_numpy_array(matcher, picture_file):
    """4. Return 512-dimensional numpy array."""
    vector = matcher.encode_image(picture_file(1))
    assert isinstance(vector, np.ndarray)
    assert isinstance(vector, Embedding)
    assert (vector.dtype, vector.shape) == (np.float32, (512,))


def test_find_similar_computes_all(matcher):
    """1. Compute cosine similarity with all candidates."""
    candidates = [("a", around(0.95)), ("b", around(0.75)), ("c", around(0.1))]
    found = dict(matcher.find_similar([1.0, 0.0], candidates, threshold=-1, top_k=3))
    assert found == pytest.approx({"a": 0.95, "b": 0.75, "c": 0.1}, abs=1e-6)


def test_find_similar_filters_by_threshold(matcher):
    """2. Filter by threshold (e.g., 0.7)."""
    candidates = [("a", around(0.95)), ("b", around(0.69)), ("c", around(0.71))]
    found = matcher.find_similar([1.0, 0.0], candidates, threshold=0.7, top_k=5)
    assert [name for name, _ in found] == ["a", "c"]


def test_find_similar_sorts_high_to_low(matcher):
    """3. Sort by similarity (high to low)."""
    candidates = [(str(s), around(s)) for s in (0.8, 0.99, 0.75, 0.9)]
    found = matcher.find_similar([1.0, 0.0], candidates, threshold=0.7, top_k=5)
    assert [name for name, _ in found] == ["0.99", "0.9", "0.8", "0.75"]


def test_find_similar_returns_top_k(matcher):
    """4. Return top K matches."""
    candidates = [(str(n), around(0.9)) for n in range(9)]
    assert len(matcher.find_similar([1.0, 0.0], candidates, threshold=0.7, top_k=5)) == 5


def test_cosine_similarity_is_the_dot_product(matcher, picture_file):
    """For normalized vectors: similarity = np.dot(embedding1, embedding2)."""
    a, b = (matcher.encode_image(picture_file(n)) for n in (1, 2))
    assert matcher.cosine_similarity(a, b) == pytest.approx(float(np.dot(a, b)), abs=1e-6)


def test_cosine_similarity_range(matcher):
    """Returns value from -1 (opposite) to 1 (identical)."""
    assert matcher.cosine_similarity([0.6, 0.8], [0.6, 0.8]) == pytest.approx(1.0)
    assert matcher.cosine_similarity([0.6, 0.8], [-0.6, -0.8]) == pytest.approx(-1.0)
    rng = np.random.default_rng(0)
    for _ in range(50):
        vector = rng.standard_normal(512).astype(np.float32)
        assert -1.0 <= matcher.cosine_similarity(vector, vector) <= 1.0


def test_weighted_selection_is_proportional():
    """Selects from candidates with probability proportional to similarity (chi-square, 4000 draws)."""
    matcher = AestheticMatcher(encoder="descriptor", seed=1)
    candidates = [("a", 0.9), ("b", 0.6), ("c", 0.3)]
    drawn = [matcher.weighted_random_selection(candidates) for _ in range(4000)]
    expected = {"a": 2000.0, "b": 4000 / 3, "c": 4000 / 6}
    chi_square = sum((drawn.count(name) - count) ** 2 / count for name, count in expected.items())
    assert chi_square < 13.8  # p = .001 at 2 degrees of freedom


def test_weighted_selection_prefers_the_more_similar():
    """Higher similarity = higher probability."""
    matcher = AestheticMatcher(encoder="descriptor", seed=2)
    drawn = [matcher.weighted_random_selection([("near", 0.95), ("far", 0.25)]) for _ in range(400)]
    assert drawn.count("near") > 2 * drawn.count("far")


def test_weighted_selection_still_varies():
    """Still allows variation."""
    matcher = AestheticMatcher(encoder="descriptor", seed=3)
    assert {matcher.weighted_random_selection([("a", 0.95), ("b", 0.75)]) for _ in range(60)} == {"a", "b"}


@pytest.mark.parametrize(
    ("similarity", "words"),
    [
        (1.0, "nearly identical"),
        (0.9, "nearly identical"),
        (0.85, "very similar (same subject, pose)"),
        (0.8, "very similar (same subject, pose)"),
        (0.75, "similar aesthetic (good for injection)"),
        (0.7, "similar aesthetic (good for injection)"),
        (0.65, "related style"),
        (0.6, "related style"),
        (0.59, "different aesthetic"),
        (-1.0, "different aesthetic"),
    ],
)
def test_similarity_interpretation(matcher, similarity, words):
    """The five bands: 0.9-1.0, 0.8-0.9, 0.7-0.8, 0.6-0.7, below 0.6; each from its lower end on."""
    assert matcher.describe_similarity(similarity) == words


def test_strategy_pattern(cache, picture_file):
    """Strategy Pattern - encapsulates matching algorithm, could swap for other models."""

    class MeanColour:
        name = "mean-colour"
        dimensions = 3

        def encode_batch(self, frames):
            rows = np.array([frame.reshape(-1, 3).mean(axis=0) + 1 for frame in frames], dtype=np.float32)
            return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    matcher = AestheticMatcher(encoder=MeanColour())
    cache_id = cache.add(picture_file(1), "", {}, matcher.encode_image(picture_file(1)))
    assert matcher.find_similar(matcher.encode_image(picture_file(1)), cache.embeddings())[0][0] == cache_id
    assert cache.get(cache_id).encoder == "mean-colour"
