"""Unit vectors: what is taken, what is refused, how they compare, rank and store."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from reverie.errors import EmbeddingError, EncoderMismatchError, InputError
from reverie.vectors import (
    Embedding,
    EmbeddingSet,
    as_embedding,
    check_same_encoder,
    cosine,
    from_bytes,
    normalise,
    similarities,
    to_bytes,
    top_k,
)

Unit = Callable[..., NDArray[np.float32]]
finite = st.floats(allow_nan=False, allow_infinity=False)
nonzero_vectors = st.lists(finite, min_size=1, max_size=40).filter(any)


def bits(vector: NDArray[np.float32]) -> list[int]:
    """The float32 bit patterns."""
    return np.asarray(vector).view(np.uint32).tolist()


def repickle(array: Any, protocol: int | None = None) -> Any:
    """What arrives in another process."""
    return pickle.loads(pickle.dumps(array, protocol))  # noqa: S301 - our own bytes


def exact_unit(values: list[float]) -> list[float]:
    """The unit vector by ``math.hypot``, which neither overflows nor underflows."""
    largest = max(map(abs, values))
    scaled = [value / largest for value in values]
    return [value / math.hypot(*scaled) for value in scaled]


# ------------------------------------------------------------------------------- as_embedding


@pytest.mark.parametrize(
    "values",
    [
        [3, 4],
        (3.0, 4.0),
        range(3, 5),
        np.array([3, 4], dtype=np.int64),
        np.array([3, 4], dtype=np.uint8),
        np.array([3, 4], dtype=np.float16),
        np.array([3, 4], dtype=np.float32),
        np.array([3, 4], dtype=np.float64),
        np.array([3, 4], dtype=">f4"),
        np.array([3, 4], dtype=np.longdouble),
        np.array([3, 9, 4])[::2],
    ],
    ids=["list", "tuple", "range", "i8", "u1", "f2", "f4", "f8", "big-endian", "long double", "strided"],
)
def test_any_sequence_of_numbers_becomes_a_unit_vector(values: Any) -> None:
    """Lists, tuples and arrays of every float or integer type give the same float32 vector."""
    vector = as_embedding(values)
    assert isinstance(vector, Embedding)
    assert vector.dtype == np.float32
    assert vector.dtype.isnative
    assert vector.tolist() == np.float32([0.6, 0.8]).tolist()
    assert vector.encoder is None


@given(nonzero_vectors)
def test_every_finite_vector_is_normalised(values: list[float]) -> None:
    """From 5e-324 to 1.8e308: the result has length 1 and keeps the direction."""
    vector = as_embedding(values)
    if abs(math.hypot(*values) - 1) > 1.1e-5:
        assert np.asarray(vector) == pytest.approx(exact_unit(values), abs=1e-7)
    assert math.hypot(*vector.tolist()) == pytest.approx(1.0, abs=1.2e-5)


@pytest.mark.parametrize("size", [1e38, 1e300, 1.7e308, 1e-38, 1e-300, 5e-324])
@pytest.mark.parametrize("container", [list, np.array])
def test_huge_and_tiny_numbers_normalise_without_a_warning(
    size: float, container: Callable[..., Any]
) -> None:
    """Squares past the range of a double neither overflow nor vanish."""
    assert as_embedding(container([size] * 4)).tolist() == [0.5] * 4


def test_float16_at_its_limit_normalises() -> None:
    """A half-precision vector whose length half precision cannot hold is no trouble."""
    values = np.full(600, np.finfo(np.float16).max, dtype=np.float16)
    assert np.asarray(as_embedding(values)) == pytest.approx(1 / math.sqrt(600), abs=1e-7)


@given(nonzero_vectors)
def test_a_unit_vector_keeps_its_bits(values: list[float]) -> None:
    """as_embedding is idempotent to the bit, through arrays and through lists of Python floats."""
    once = as_embedding(values)
    assert bits(as_embedding(once)) == bits(once)
    assert bits(as_embedding(once.tolist())) == bits(once)


def test_a_vector_within_the_tolerance_keeps_its_bits_and_one_past_it_does_not() -> None:
    """1e-5 is where the length starts to matter."""
    assert as_embedding([np.float32(1 + 9e-6), 0.0]).tolist() == [float(np.float32(1 + 9e-6)), 0.0]
    assert as_embedding([np.float32(1 + 2e-5), 0.0]).tolist() == [1.0, 0.0]


def test_the_input_is_copied() -> None:
    """Changing the caller's array later changes nothing."""
    values = np.array([1.0, 0.0], dtype=np.float32)
    vector = as_embedding(values)
    values[0] = 5
    assert vector.tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ([1.0, float("nan")], r"holds 1 number\(s\) that are NaN or infinite, the first at position 1"),
        (
            [float("inf"), -float("inf")],
            r"holds 2 number\(s\) that are NaN or infinite, the first at position 0",
        ),
        (np.array([1, np.nan], dtype=np.float16), "the first at position 1"),
        (np.array([1, 2], dtype=np.longdouble) * np.longdouble("1e4000"), "NaN or infinite"),
        ([0.0, 0.0], "is all zeros"),
        ([0, -0.0], "is all zeros"),
        ([], "is empty: pass None"),
        (np.empty((0,), dtype=np.float32), "is empty"),
        ([[1.0, 0.0]], r"one vector of shape \(d,\), got shape \(1, 2\)"),
        (np.eye(3), r"got shape \(3, 3\)"),
        (1.5, r"got shape \(\)"),
        ([[1.0], [1.0, 2.0]], "must be a sequence of numbers"),
        ("[0.1, 0.2]", "sequence of numbers, got str"),
        (b"\x00\x00\x80?", "sequence of numbers, got bytes"),
        (bytearray(b"\x00\x00\x80?"), "must be a sequence of numbers"),
        ({"color": [0.1]}, "sequence of numbers, got dict"),
        (None, "sequence of numbers, got NoneType"),
        ({1.0, 2.0}, "sequence of numbers, got set"),
        (object(), "sequence of numbers, got object"),
        (["0.1", "0.2"], "sequence of numbers, got values of type <U3"),
        ([None, 1.0], "sequence of numbers, got values of type object"),
        ([True, False], "sequence of numbers, got values of type bool"),
        ([1j, 2.0], "sequence of numbers, got values of type complex128"),
        (np.array([1j]), "sequence of numbers, got values of type complex128"),
        ([10**400, 1], "must be a sequence of numbers"),
        (np.array(["2025-11-08"], dtype="M8[D]"), "must be a sequence of numbers"),
    ],
)
def test_what_is_no_vector_is_refused_with_the_reason(values: Any, says: str) -> None:
    """Every unusable input is an EmbeddingError whose message names the vector and what was wrong."""
    with pytest.raises(EmbeddingError, match=says) as caught:
        as_embedding(values, what="embedding of 'cache_00007'")
    assert "the embedding of 'cache_00007'" in str(caught.value)


def test_a_wrong_length_is_refused() -> None:
    """Both lengths are in the message."""
    with pytest.raises(EmbeddingError, match="has 3 numbers, but 512 were expected"):
        as_embedding([1, 2, 3], dimensions=512)
    assert as_embedding([1, 0, 0], dimensions=3).tolist() == [1.0, 0.0, 0.0]


# ------------------------------------------------------------------------- stamps, read-only


def test_the_stamp_is_kept_or_given() -> None:
    """encoder= stamps a vector; without it the stamp that the values carry stays."""
    stamped = as_embedding([3, 4], encoder="clip")
    assert stamped.encoder == "clip"
    assert as_embedding(stamped).encoder == "clip"
    assert as_embedding(stamped, encoder="clip").encoder == "clip"
    assert as_embedding([3, 4]).encoder is None


@pytest.mark.parametrize(
    "pass_on",
    [
        lambda vector: vector[:],
        lambda vector: vector.view(),
        lambda vector: vector.copy(),
        copy.copy,
        copy.deepcopy,
        repickle,
        lambda vector: repickle(vector, protocol=0),
    ],
    ids=["slice", "view", "copy()", "copy", "deepcopy", "pickle", "pickle 0"],
)
def test_the_stamp_survives_views_copies_and_pickle(pass_on: Callable[[Embedding], Embedding]) -> None:
    """The encoder's name and the bits go wherever the vector goes."""
    vector = as_embedding([1.0, 2.0, -3.0], encoder="descriptor-1")
    other = pass_on(vector)
    assert isinstance(other, Embedding)
    assert other.encoder == "descriptor-1"
    assert bits(other) == bits(vector)


@pytest.mark.parametrize(
    "derived",
    [
        lambda vector: vector.astype(np.float64),
        lambda vector: vector.reshape(2, 2),
        lambda vector: vector[:0],
        lambda vector: vector[::2],
    ],
    ids=["float64", "reshaped", "empty", "strided"],
)
def test_pickle_keeps_dtype_and_shape_of_what_was_derived(derived: Callable[[Embedding], Any]) -> None:
    """Not only whole float32 vectors go through pickle unharmed."""
    array = derived(as_embedding([1, 2, 3, 4], encoder="clip"))
    other = repickle(array)
    assert other.dtype == array.dtype
    assert other.shape == array.shape
    assert np.array_equal(other, array)


def test_embeddings_are_read_only() -> None:
    """A stored vector cannot be changed by who holds it, nor after pickle."""
    vector = as_embedding([3, 4])
    for one in (vector, vector[:], repickle(vector), from_bytes(to_bytes(vector))):
        with pytest.raises(ValueError, match="read-only"):
            one[0] = 1


def test_a_checked_vector_is_not_checked_again() -> None:
    """It is handed on as it is; what was made of it, or could be changed, is not trusted."""
    vector = as_embedding([3, 4], encoder="clip")
    assert as_embedding(vector) is as_embedding(vector, encoder="clip", dimensions=2) is vector
    half = vector[:1]
    assert as_embedding(half).tolist() == [1.0]
    assert half.tolist() == pytest.approx([0.6])
    writable = vector.copy()
    writable *= 3
    assert as_embedding(writable).tolist() == vector.tolist()
    with pytest.raises(ValueError, match="cannot set WRITEABLE"):
        vector.flags.writeable = True
    assert as_embedding(as_embedding([3, 4]), encoder="clip").encoder == "clip"


def test_deepcopy_shares_what_is_read_only_and_copies_what_is_not() -> None:
    """A writable copy stays independent of its deep copy."""
    vector = as_embedding([3, 4], encoder="clip")
    assert copy.deepcopy(vector) is vector
    writable = vector.copy()
    other = copy.deepcopy(writable)
    writable[0] = 0
    assert other.tolist() == vector.tolist()


def test_products_of_embeddings_are_plain_numbers() -> None:
    """The specification's ``np.dot(embedding1, embedding2)`` gives a float32, not a vector without axes."""
    a, b = as_embedding([3, 4]), as_embedding([4, 3])
    for product in (np.dot(a, b), a @ b, np.vecdot(a, b), a.sum()):
        assert type(product) is np.float32
    assert float(np.dot(a, b)) == pytest.approx(0.96)


def test_stamps_of_two_encoders_are_refused_by_name() -> None:
    """as_embedding and cosine name both encoders and say what to do."""
    clip, descriptor = as_embedding([3, 4], encoder="clip"), as_embedding([3, 4], encoder="descriptor-1")
    with pytest.raises(
        EncoderMismatchError, match=r"'clip', but 'descriptor-1' was expected: encode the image"
    ):
        as_embedding(clip, encoder="descriptor-1")
    with pytest.raises(EncoderMismatchError, match="one comparison: 'clip' and 'descriptor-1'"):
        cosine(clip, descriptor)
    assert cosine(clip, [3, 4]) == pytest.approx(1.0)


def test_check_same_encoder_lets_the_unknown_pass() -> None:
    """None is "not known"; two names are one too many, and the message says where they met."""
    assert check_same_encoder([]) is None
    assert check_same_encoder([None, None]) is None
    assert check_same_encoder([None, "clip", "clip"]) == "clip"
    with pytest.raises(
        EncoderMismatchError, match=r"met in find_similar: 'a' and 'b'\. Their numbers are not"
    ):
        check_same_encoder(iter(["b", None, "a"]), where="find_similar")


# ---------------------------------------------------------------------------------- normalise


@given(arrays.arrays(np.float64, st.tuples(st.integers(0, 5), st.integers(1, 8)), elements=finite))
def test_normalise_gives_unit_rows_or_names_the_row(matrix: NDArray[np.float64]) -> None:
    """Rows of any finite size get length 1; the first all-zero row is named by its index."""
    zero = np.flatnonzero(~matrix.any(axis=1))
    if zero.size:
        with pytest.raises(EmbeddingError, match=f"^row {zero[0]} of the rows is zero"):
            normalise(matrix, what="rows")
        return
    units = normalise(matrix)
    assert units.dtype == np.float32
    assert units.shape == matrix.shape
    for row, unit_row in zip(matrix.tolist(), units, strict=True):
        assert unit_row == pytest.approx(exact_unit(row), abs=1e-7)


@pytest.mark.parametrize("shape", [(0, 512), (0, 0)])
def test_normalise_keeps_an_empty_matrix(shape: tuple[int, int]) -> None:
    """No rows, no error."""
    assert normalise(np.empty(shape)).shape == shape


@pytest.mark.parametrize(
    ("matrix", "says"),
    [
        ([1.0, 2.0], r"must have shape \(n, d\), got \(2,\)"),
        (np.ones((2, 2, 2)), r"got \(2, 2, 2\)"),
        ([[1.0, 0.0], [float("nan"), 1.0]], "row 1 of the embeddings is zero, NaN or infinite"),
        ([[float("inf"), 0.0]], "row 0"),
        (np.empty((2, 0)), "row 0"),
        ([[1.0], [1.0, 2.0]], "must be a sequence of numbers"),
        ([["a"]], "must be a sequence of numbers"),
        ([[1j]], "must be a sequence of numbers"),
        (None, "must be a sequence of numbers"),
    ],
)
def test_normalise_refuses_what_it_cannot_scale(matrix: Any, says: str) -> None:
    """Wrong shapes, wrong types and rows without a direction are EmbeddingErrors."""
    with pytest.raises(EmbeddingError, match=says):
        normalise(matrix)


# ----------------------------------------------------------------------- cosine, similarities


def test_cosine_of_known_vectors() -> None:
    """Identical 1, unrelated 0, opposite -1, whatever the lengths."""
    assert cosine([1, 2, 3], [2, 4, 6]) == pytest.approx(1.0, abs=1e-7)
    assert cosine([1, 0], [0, 9]) == 0.0
    assert cosine([1, 2], [-1e300, -2e300]) == pytest.approx(-1.0, abs=1e-7)
    assert cosine([1, 0], [1, 1]) == pytest.approx(math.sqrt(0.5), abs=1e-7)
    assert type(cosine([1, 0], [1, 1])) is float


@given(nonzero_vectors)
def test_cosine_stays_in_its_range_and_is_symmetric(values: list[float]) -> None:
    """Rounding never pushes a cosine past 1."""
    mirrored = values[::-1]
    assert -1.0 <= cosine(values, mirrored) <= 1.0
    assert cosine(values, mirrored) == cosine(mirrored, values)
    assert cosine(values, values) == pytest.approx(1.0, abs=3e-5)


def test_cosine_says_which_vector_is_wrong() -> None:
    """The message tells the first from the second."""
    with pytest.raises(EmbeddingError, match="the second embedding has 3 numbers, but 2 were expected"):
        cosine([1, 0], [1, 0, 0])
    with pytest.raises(EmbeddingError, match="the first embedding is all zeros"):
        cosine([0, 0], [1, 0])


@pytest.mark.parametrize(("count", "dimensions"), [(1, 1), (75, 512), (3, 7), (1000, 96), (2, 20_000)])
def test_similarities_agree_with_double_precision(unit: Unit, count: int, dimensions: int) -> None:
    """Every score is within 1e-6 of the float64 product."""
    matrix, target = unit(count, dimensions, seed=1), unit(1, dimensions, seed=2)[0]
    scores = similarities(matrix, target)
    assert scores.dtype == np.float32
    assert type(scores) is np.ndarray
    assert scores == pytest.approx(matrix.astype(np.float64) @ target.astype(np.float64), abs=1e-6)


@pytest.mark.parametrize("dimensions", [5, 33, 512, 513])
def test_equal_rows_have_equal_scores_at_every_position(unit: Unit, dimensions: int) -> None:
    """A row's score does not depend on where it stands, how many rows there are, or the memory layout."""
    row, target = unit(1, dimensions, seed=3)[0], unit(1, dimensions, seed=4)[0]
    scores = {
        score
        for count in (1, 2, 3, 4, 7, 8, 16, 33, 200)
        for start in (0, 1, 3)
        for score in similarities(np.tile(row, (count + start, 1))[start:], target).tolist()
    }
    assert len(scores) == 1


def test_similarities_take_stamped_vectors_and_the_empty_matrix(unit: Unit) -> None:
    """An Embedding as target gives a plain array; no rows give no scores."""
    target = as_embedding(unit()[0], encoder="clip")
    assert type(similarities(unit(3), target)) is np.ndarray
    assert similarities(np.empty((0, 512), dtype=np.float32), target).shape == (0,)
    assert similarities(unit(), target).tolist() == [pytest.approx(1.0, abs=1e-6)]


def test_similarities_never_leave_the_range(unit: Unit) -> None:
    """Rounding past 1 is cut off."""
    matrix = unit(400, 512, seed=5)
    assert max(float(similarities(matrix, row).max()) for row in matrix) <= 1.0
    assert min(float(similarities(-matrix, row).min()) for row in matrix) >= -1.0


def test_similarities_of_two_lengths_are_refused(unit: Unit) -> None:
    """Both lengths are in the message."""
    with pytest.raises(EmbeddingError, match="target has 96 numbers, but the candidates have 512"):
        similarities(unit(2), unit(1, 96)[0])


def test_an_embedding_set_counts_its_ids(unit: Unit) -> None:
    """len() of a set is its number of vectors."""
    assert len(EmbeddingSet(("a", "b"), unit(2), "clip")) == 2
    assert len(EmbeddingSet((), np.empty((0, 512), dtype=np.float32))) == 0


# -------------------------------------------------------------------------------------- top_k


def naive_top_k(scores: NDArray[np.float32], threshold: float | None, k: int | None) -> list[int]:
    """The same by Python's stable sort."""
    limit = None if threshold is None else np.float32(threshold)
    found = [i for i, score in enumerate(scores) if limit is None or score >= limit]
    return sorted(found, key=lambda i: -float(scores[i]))[:k]


few_values = st.sampled_from([-1.0, -0.5, -0.0, 0.0, 0.25, 0.7, 0.70000005, 1.0])
any_score = st.floats(-1, 1, width=32)


@given(
    scores=st.lists(few_values, max_size=300) | st.lists(any_score, max_size=300),
    threshold=st.none() | few_values | st.floats(-1.5, 1.5),
    k=st.none() | st.integers(0, 320),
)
def test_top_k_agrees_with_a_stable_sort(scores: list[float], threshold: float | None, k: int | None) -> None:
    """High to low, ties in input order, the threshold inclusive, at most k."""
    array = np.array(scores, dtype=np.float32)
    assert top_k(array, threshold, k).tolist() == naive_top_k(array, threshold, k)


@pytest.mark.parametrize("levels", [1, 2, 7, 100_000])
@pytest.mark.parametrize("k", [0, 1, 5, 100, 19_999])
def test_top_k_of_many_scores_with_many_ties(levels: int, k: int) -> None:
    """The path that cuts before it sorts keeps the order of ties, also when all scores are equal."""
    scores = (np.random.default_rng(levels).integers(0, levels, 20_000) / levels).astype(np.float32)
    assert top_k(scores, None, k).tolist() == naive_top_k(scores, None, k)
    assert top_k(scores, 0.5, k).tolist() == naive_top_k(scores, 0.5, k)


def test_the_threshold_is_inclusive_in_float32() -> None:
    """0.7 as a double is above 0.7 as a float32; a score stored as 0.7 still reaches it."""
    scores = np.array([0.7, np.nextafter(np.float32(0.7), np.float32(0))], dtype=np.float32)
    assert float(scores[0]) < 0.7
    assert top_k(scores, 0.7, None).tolist() == [0]
    assert top_k(scores, np.float64(0.7), None).tolist() == [0]


def test_top_k_of_nothing_is_empty() -> None:
    """No scores, none that reach the threshold, or k = 0: an index array of length 0."""
    none = np.empty(0, dtype=np.float32)
    for found in (
        top_k(none, None, 5),
        top_k(none, 0.7, None),
        top_k(np.float32([0.1]), 0.7, 5),
        top_k(np.float32([0.1]), None, 0),
    ):
        assert found.shape == (0,)
        assert found.dtype == np.intp


def test_a_negative_k_is_refused() -> None:
    """-1 is not "all but one"."""
    with pytest.raises(InputError, match=r"must be 0 or more \(None takes all\), got -1"):
        top_k(np.float32([0.1, 0.2]), None, -1)


# -------------------------------------------------------------------------------------- bytes


@given(arrays.arrays(np.float32, st.integers(1, 64), elements=st.floats(-1, 1, width=32)))
def test_bytes_round_trip_to_the_bit(values: NDArray[np.float32]) -> None:
    """from_bytes gives the bits that to_bytes took, stamped and read-only, 4 bytes a number."""
    data = to_bytes(values)
    vector = from_bytes(data, encoder="clip")
    assert len(data) == 4 * values.size
    assert bits(vector) == bits(values)
    assert vector.encoder == "clip"
    assert not vector.flags.writeable


def test_bytes_are_little_endian_whatever_the_input_order() -> None:
    """1.0 is 00 00 80 3f on every machine."""
    for dtype in ("<f4", ">f4", "f8"):
        assert to_bytes(np.array([1.0, -2.0], dtype=dtype)) == bytes.fromhex("0000803f000000c0")
    assert from_bytes(bytes.fromhex("0000803f000000c0")).tolist() == [1.0, -2.0]
    assert from_bytes(bytes.fromhex("0000803f")).dtype.isnative


def test_strided_vectors_write_what_they_show() -> None:
    """A slice with a step is written as its own numbers."""
    assert to_bytes(np.arange(6, dtype=np.float32)[::2]) == to_bytes(np.float32([0, 2, 4]))


@pytest.mark.parametrize("data", [b"", b"abc", b"\0" * 7])
def test_bytes_that_are_no_vector_are_refused(data: bytes) -> None:
    """The number of bytes is in the message."""
    with pytest.raises(EmbeddingError, match=f"^{len(data)} bytes are not a float32 vector"):
        from_bytes(data)
