"""Unit vectors as halves: what they stand for, bit for bit, and that keeping them anew changes nothing."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reverie.errors import EmbeddingError
from reverie.half import Halves, halved, unit_rows
from reverie.testing.samples import vector
from reverie.testing.search_suite import clustered
from reverie.vectors import as_embedding, from_bytes, similarities, stored_as, to_bytes


def rows(count: int, dimensions: int = 48, seed: int = 0) -> np.ndarray:
    """Clustered unit vectors ``(count, dimensions)`` float32."""
    return clustered(count, dimensions, seed)


def test_what_halves_stand_for_is_defined_exactly() -> None:
    """Each half over the length, which is computed here in whole fractions; the length comes out as 1."""
    halves = halved(rows(20, 512))
    units = unit_rows(halves)
    for half, unit in zip(halves, units, strict=True):
        square = sum(Fraction(float(each)) ** 2 for each in half)
        inverse = 1.0 / np.sqrt(float(square))
        assert Fraction(float(square)) == square  # so the order of adding cannot matter
        assert unit.tolist() == [float(np.float32(float(each) * inverse)) for each in half]
        assert abs(np.linalg.norm(unit.astype(np.float64)) - 1) < 1e-7
        assert as_embedding(unit).tobytes() == unit.tobytes()


def test_a_row_is_the_same_alone_among_others_and_in_any_order() -> None:
    """Wherever it stands, and however it lies in memory."""
    halves = halved(rows(700))
    whole = Halves(halves).whole()
    assert whole.tobytes() == unit_rows(halves).tobytes()
    for place in (0, 255, 256, 699):
        assert unit_rows(halves[place]).tobytes() == whole[place].tobytes()
    assert unit_rows(np.asfortranarray(halves)).tobytes() == whole.tobytes()
    assert unit_rows(halves[:, ::-1]).tobytes() == np.ascontiguousarray(whole[:, ::-1]).tobytes()


@given(
    st.lists(
        st.floats(-1, 1, width=32).filter(lambda number: number == 0 or abs(number) > 1e-6),
        min_size=1,
        max_size=24,
    ).filter(any),
    st.sampled_from([1, 2, 8, 64]),
)
def test_keeping_halves_anew_changes_nothing(numbers: list[float], times: int) -> None:
    """What halves stand for has these halves again: for few numbers and for many equal ones."""
    unit = np.asarray(as_embedding(numbers * times))
    halves = halved(unit)
    assert halved(unit_rows(halves)).tobytes() == halves.tobytes()
    assert unit_rows(halves).astype(np.float16).tobytes() == halves.tobytes()
    assert np.linalg.norm(unit_rows(halves).astype(np.float64) - unit) < 2.0**-10


def test_numbers_that_are_all_rounded_the_same_way() -> None:
    """Where the length is off by more than rounding takes away, some are rounded the other way."""
    rng, unlike = np.random.default_rng(3), 0
    for _ in range(300):
        middle = rng.integers(1024, 2048) + 0.5 * rng.choice([0.98, 1.02])
        numbers = np.full(int(rng.choice([2, 4, 16, 64])), middle) * rng.choice([-1, 1])
        numbers[0] = rng.integers(1024, 2048) + rng.random()
        unit = np.asarray(as_embedding(numbers))
        halves = halved(unit)
        unlike += not np.array_equal(halves, unit.astype(np.float16))
        assert halved(unit_rows(halves)).tobytes() == halves.tobytes()
        assert np.abs(halves - unit).max() <= np.spacing(np.abs(halves).max())
    assert unlike > 50  # the case was met


def test_halves_are_indexed_as_a_matrix() -> None:
    """A row, a slice, places, a mask: float32, new each time; NumPy takes the whole."""
    halves = Halves(halved(rows(600)))
    whole = np.asarray(halves)
    assert (halves.shape, halves.dtype, halves.ndim, len(halves)) == (whole.shape, whole.dtype, 2, 600)
    places = np.array([599, 0, 300])
    for part in (5, -1, np.int64(7), slice(3, 500), slice(None), places, whole[:, 0] > 0, slice(0, 0)):
        assert np.array_equal(halves[part], whole[part])
        assert halves[part].dtype == np.float32
    assert np.abs(halves).max() == np.abs(whole).max()
    with pytest.raises(ValueError, match="always a copy"):
        np.array(halves, copy=False)


def test_cosines_are_those_of_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit, in any selection, block by block: never all rows at once."""
    halves = Halves(halved(rows(600)))
    whole, target = halves.whole(), np.asarray(vector(3, 48))
    monkeypatch.setattr(Halves, "whole", None)
    mask = np.flatnonzero(whole[:, 0] > 0)
    for places in (None, slice(10, None), slice(0, 0), mask, mask[:0], np.array([4])):
        expected = similarities(whole if places is None else whole[places], target)
        assert similarities(halves, target, places).tobytes() == expected.tobytes()
        assert similarities(whole, target, places).tobytes() == expected.tobytes()


def test_vectors_as_bytes_say_what_they_are() -> None:
    """Halves: two bytes a number and one more; a float32 vector is never of an odd number of bytes."""
    for dimensions in (1, 2, 3, 512):
        one = vector(5, dimensions)
        kept = stored_as(one, "float16")
        data = to_bytes(one, "float16")
        assert len(data) == 2 * dimensions + 1
        assert to_bytes(kept, "float16") == data
        back = from_bytes(data, encoder="suite-1")
        assert (back.tobytes(), back.encoder) == (kept.tobytes(), kept.encoder)
        assert not back.flags.writeable
        assert stored_as(one, "float32") is one
        assert from_bytes(to_bytes(one)).tobytes() == one.tobytes()


@pytest.mark.parametrize("data", [b"", b"1", b"\x10", b"12", b"123", b"123456", b"12345678\x11"])
def test_bytes_that_are_no_vector(data: bytes) -> None:
    """Neither of float32 nor of halves."""
    with pytest.raises(EmbeddingError, match="bytes are not a float32 vector, nor a float16 one"):
        from_bytes(data)


def test_damaged_halves_give_no_warning() -> None:
    """Zeros and what is no number: a row that no search finds, as a damaged float32 row is."""
    damaged = np.array([[0, 0], [np.inf, 1], [np.nan, 0]], dtype=np.float16)
    assert np.isnan(unit_rows(damaged)).any(axis=1).all()
