"""SimilarityScale: what a cosine is worth among the cosines of a cache."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reverie.cache.similarity import BANDS, describe_similarity
from reverie.cache.similarity_scale import (
    BAND_PERCENTILES,
    MINIMUM,
    Percentile,
    SimilarityScale,
    threshold_of,
)
from reverie.errors import EmbeddingError, InputError
from reverie.vectors import EmbeddingSet, cosine, normalise

HUNDREDTHS = SimilarityScale(np.linspace(-0.99, 1.0, 200, dtype=np.float32), "made up")


def cone(count, mean=0.47, dimensions=64, seed=0):
    """``count`` vectors whose pairs have that cosine on average, as unrelated pictures have with CLIP."""
    rows = np.random.default_rng(seed).standard_normal((count, dimensions)) / math.sqrt(dimensions)
    rows[:, 0] += math.sqrt(mean / (1 - mean))
    return EmbeddingSet(tuple(map(str, range(count))), normalise(rows))


def test_all_pairs_of_a_small_cache():
    """Every pair of different entries once, ascending; none with itself."""
    table = cone(25)
    expected = sorted(cosine(a, b) for at, a in enumerate(table.matrix) for b in table.matrix[at + 1 :])
    scale = SimilarityScale.of(table)
    np.testing.assert_allclose(scale.cosines, expected, atol=1e-6)
    assert scale.calibrated
    assert str(scale) == "percentiles of 25 pictures, 300 pairs"


def test_a_sample_of_a_large_cache():
    """Past the limit pairs are drawn: the same for a seed, near to all pairs, never an entry with itself."""
    table = cone(120)
    every, drawn = SimilarityScale.of(table), SimilarityScale.of(table, pairs=5_000)
    assert drawn.cosines.size == 5_000
    assert drawn.cosines.max() < 0.999
    assert np.array_equal(drawn.cosines, SimilarityScale.of(table, pairs=5_000).cosines)
    assert not np.array_equal(drawn.cosines, SimilarityScale.of(table, pairs=5_000, seed=1).cosines)
    for percentile in (10, 50, 90, 97.5):
        assert drawn.cosine(percentile) == pytest.approx(every.cosine(percentile), abs=0.01)
    assert str(drawn) == "percentiles of 120 pictures, 5,000 of 7,140 pairs"


def test_every_pair_can_be_drawn():
    """The draw is even over the pairs of different entries."""
    matrix = np.eye(3, dtype=np.float32)
    matrix[0] = 0.6, 0.8, 0  # to the second .8, to the third 0
    table = EmbeddingSet(tuple(map(str, range(60))), np.tile(matrix, (20, 1)))
    scale = SimilarityScale.of(table, pairs=1_500)
    values, counts = np.unique(np.round(scale.cosines, 3), return_counts=True)
    assert values.tolist() == pytest.approx([0.0, 0.8, 1.0])
    np.testing.assert_allclose(counts / 1_500, np.array([800, 400, 570]) / 1_770, atol=0.04)


def test_percentile_counts_what_is_at_most_as_similar():
    """The share of cosines up to and including this one."""
    assert HUNDREDTHS.percentile(-1.0) == 0.0
    assert HUNDREDTHS.percentile(float(HUNDREDTHS.cosines[99])) == 50.0
    assert HUNDREDTHS.percentile(1.0) == 100.0


@given(st.floats(0, 100))
def test_cosine_is_the_lowest_that_reaches_a_percentile(wanted):
    """It reaches the percentile; the next lower one does not."""
    found = HUNDREDTHS.cosine(wanted)
    assert HUNDREDTHS.percentile(found) >= wanted - 1e-5
    below = HUNDREDTHS.cosines[HUNDREDTHS.cosines < np.float32(found)]
    assert below.size == 0 or HUNDREDTHS.percentile(float(below[-1])) < wanted + 1e-5


@given(st.integers(1, 400), st.integers(0, 2**32))
def test_percentile_and_cosine_agree(count, seed):
    """Each cosine of a scale comes back from its own percentile, ties included."""
    cosines = np.sort(np.round(np.random.default_rng(seed).uniform(-1, 1, count), 2).astype(np.float32))
    scale = SimilarityScale(cosines, "made up", fewest=1)
    for value in cosines[:: max(1, count // 10)].tolist():
        assert scale.cosine(scale.percentile(value)) == value


def test_words_by_percentile():
    """The specification's words, from the cut points on (inclusive)."""
    for lowest, (_, words) in zip(BAND_PERCENTILES, BANDS, strict=True):
        assert HUNDREDTHS.describe(HUNDREDTHS.cosine(lowest)) == words
    assert HUNDREDTHS.describe(HUNDREDTHS.cosine(99.0)) == BANDS[1][1]
    assert HUNDREDTHS.describe(HUNDREDTHS.cosine(69.0)) == BANDS[-1][1]
    assert HUNDREDTHS.describe(-1.0) == BANDS[-1][1]


def test_unrelated_pictures_of_clip_are_not_all_related():
    """With a mean cosine of .47 the fixed bands call hardly any two alike; percentiles grade them."""
    table = cone(75, dimensions=32)
    scale = SimilarityScale.of(table)
    words = [scale.describe(float(value)) for value in scale.cosines]
    shares = [words.count(band) / len(words) for _, band in BANDS]
    assert shares == pytest.approx([0.005, 0.02, 0.075, 0.2, 0.7], abs=0.001)


@pytest.mark.parametrize("count", [0, 1, 2, 20])
def test_too_few_pictures_take_the_fixed_bands(count):
    """Below 21 pictures the words are exactly the specification's, and the scale says so."""
    scale = SimilarityScale.of(cone(count))
    assert not scale.calibrated
    assert str(scale).startswith("fixed bands; too few for percentiles")
    for similarity in (-1.0, 0.3, 0.6, 0.69, 0.7, 0.85, 0.9, 1.0):
        assert scale.describe(similarity) == describe_similarity(similarity)
    assert [scale.cosine(percentile) for percentile in BAND_PERCENTILES] == [0.9, 0.8, 0.7, 0.6, -1.0]
    assert [scale.percentile(lowest) for lowest, _ in BANDS[:-1]] == pytest.approx(BAND_PERCENTILES[:-1])


def test_21_pictures_make_a_scale():
    """The least that the highest cut point needs."""
    assert SimilarityScale.of(cone(21)).calibrated
    assert math.comb(20, 2) < MINIMUM <= math.comb(21, 2)


def test_the_scale_of_one_vector():
    """For a text: its cosines to the pictures, however few they are."""
    table = cone(4)
    text = -table.matrix[0]
    scale = SimilarityScale.to(text, table)
    np.testing.assert_allclose(scale.cosines, np.sort(table.matrix @ text), atol=1e-6)
    assert scale.calibrated
    assert scale.percentile(float(scale.cosines[1])) == 50.0
    assert not SimilarityScale.to(text, cone(0)).calibrated


def test_a_vector_of_another_length():
    """It is refused, as in a search."""
    with pytest.raises(EmbeddingError, match="3 numbers"):
        SimilarityScale.to(np.array([1, 0, 0], np.float32), cone(4))


@pytest.mark.parametrize("scale", [HUNDREDTHS, SimilarityScale.of(cone(3))], ids=["calibrated", "fixed"])
def test_nan_is_refused(scale):
    """NaN has no percentile and no words."""
    with pytest.raises(InputError, match="NaN"):
        scale.percentile(math.nan)
    with pytest.raises(InputError, match="NaN"):
        scale.describe(math.nan)
    for ask in (scale.percentile, scale.describe, Percentile):
        with pytest.raises(InputError, match="must be a number"):
            ask("x")


def test_pairs_below_one():
    """There must be something to compare."""
    with pytest.raises(InputError, match="pairs must be at least 1"):
        SimilarityScale.of(cone(3), pairs=0)


# ---------------------------------------------------------------------------------- thresholds


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        (None, None),
        (0.7, 0.7),
        ("0.7", 0.7),
        ("-.1", -0.1),
        ("p90", Percentile(90)),
        ("P99.5", Percentile(99.5)),
        (Percentile(5), Percentile(5)),
    ],
)
def test_what_a_threshold_may_be(given_, expected):
    """A cosine, a percentile, or a text of one."""
    assert threshold_of(given_) == expected


@pytest.mark.parametrize("text", ["", "p", "90p", "high", "p101", "p-1", "pnan"])
def test_what_is_no_threshold(text):
    """The error says what one looks like."""
    with pytest.raises(InputError, match=r"p90|from 0 to 100"):
        threshold_of(text)


def test_a_percentile_shows_as_it_is_written():
    """As in --threshold."""
    assert [str(Percentile(90)), str(Percentile(99.5))] == ["p90", "p99.5"]
