"""Unit float32 vectors: check, normalise, compare, pick the top k, store.

Every embedding in reverie is a read-only, one-dimensional float32 array of unit length that
knows which encoder made it. Cosine similarity is then a dot product.

Products go through ``numpy.vecdot``: one small dot product a row. It is as fast as a BLAS
matrix-vector product on one thread, never wakes BLAS's thread pool (two threads are up to
60 times slower for products this small on a busy machine), and a row's result does not depend
on where the row stands, so equal vectors give equal similarities and ties are real ties.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeAlias, TypeGuard

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reverie.errors import EmbeddingError, EncoderMismatchError, InputError
from reverie.half import Halves, VectorType, halved, unit_rows

__all__ = [
    "Embedding",
    "EmbeddingSet",
    "Rows",
    "VectorRows",
    "Vectors",
    "as_embedding",
    "check_same_encoder",
    "cosine",
    "from_bytes",
    "normalise",
    "similarities",
    "stored_as",
    "to_bytes",
    "top_k",
]

Vectors: TypeAlias = NDArray[np.float32]
"""``(n, d)`` float32, rows of unit length."""

Rows: TypeAlias = Vectors | Halves
"""The same, or as halves that give such rows where they are indexed."""

_UNIT_TOLERANCE = 1e-5  # a vector this close to length 1 keeps its exact bits
_STORED = np.dtype("<f4")
_STORED_HALF = np.dtype("<f2")
_HALF_MARK = b"\x10"  # behind halves: an odd number of bytes, which are no float32 vector of any length


class Embedding(np.ndarray[tuple[int], np.dtype[np.float32]]):
    """One unit vector, ``(d,)`` float32, read-only, with the name of the encoder that made it.

    It is an ordinary NumPy array everywhere; ``encoder`` is None for a vector of unknown origin.
    """

    encoder: str | None
    _checked: bool  # made by `as_embedding` itself; a view, a slice or a product of it was not

    def __array_finalize__(self, source: Any) -> None:
        self.encoder = getattr(source, "encoder", None)
        self._checked = False

    def __array_wrap__(self, array: NDArray[Any], context: Any = None, return_scalar: bool = False) -> Any:
        # Without this, the dot product of two embeddings would be an Embedding of no dimensions.
        return array[()] if return_scalar else super().__array_wrap__(array, context, return_scalar)

    def __reduce__(self) -> tuple[Any, ...]:
        return _stamp, (np.asarray(self), self.encoder)

    def __deepcopy__(self, memo: dict[int, Any] | None, /) -> Self:
        return self.copy() if self.flags.writeable else self  # read-only: sharing is safe


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddingSet:
    """Vectors of one encoder with the ids they belong to: a snapshot that never changes.

    Attributes:
        ids: n ids, oldest first.
        matrix: ``(n, d)`` float32, read-only, rows of unit length; row i belongs to ``ids[i]``.
        encoder: Name of the encoder that made them; None when it is not known.
    """

    ids: tuple[str, ...]
    matrix: Vectors
    encoder: str | None = None

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True, eq=False)
class VectorRows:
    """The vectors of one encoder as a search takes them: a snapshot that never changes, made in no time.

    Rows of entries that are gone are among them, and they stand in the order in which they came: a search
    names rows, and `ids` says whose they are.

    Attributes:
        ids: The id of every row; may go on behind the last row.
        numbers: ``(n,)`` int64, a number that is this vector's for ever: another vector of the same entry has
            another one. In the order of the entries' own numbers.
        matrix: ``(n, d)`` float32, read-only, rows of unit length; or `Halves`, which give float32 rows for
            the places they are asked for.
        alive: ``(n,)`` bool: whether the row's entry is there.
        encoder: Name of the encoder that made them; None when it is not known.
        count: How many rows are alive.
        origin: The same object for two snapshots in which rows have the same places: of these, the longer
            one begins with the rows of the shorter one.
    """

    ids: Sequence[str]
    numbers: NDArray[np.int64]
    matrix: Rows
    alive: NDArray[np.bool_]
    encoder: str | None
    count: int
    origin: object

    @classmethod
    def of(cls, ids: Sequence[str], matrix: Rows, encoder: str | None = None) -> Self:
        """Rows that are all alive, numbered from 1, of unit vectors ``(n, d)``."""
        count = len(matrix)
        numbers = np.arange(1, count + 1)
        return cls(ids, numbers, matrix, np.ones(count, dtype=np.bool_), encoder, count, object())

    def __len__(self) -> int:
        return len(self.matrix)

    def findable(self, among: NDArray[np.bool_] | None = None) -> NDArray[np.bool_] | None:
        """``(n,)`` whether each row is alive, and ``among`` those that may be found; None: all of them."""
        alive = None if self.count == len(self) else self.alive
        if among is None or alive is None:
            return alive if among is None else among
        return among & alive


def _stamp(vector: NDArray[np.float32], encoder: str | None) -> Embedding:
    vector.setflags(write=False)
    embedding = vector.view(Embedding)
    embedding.encoder = encoder
    embedding._checked = True
    return embedding


def as_embedding(
    values: ArrayLike, *, encoder: str | None = None, dimensions: int | None = None, what: str = "embedding"
) -> Embedding:
    """Check one vector and return it as a unit, read-only float32 `Embedding`.

    Args:
        values: ``(d,)`` numbers: list, tuple or array of any float or integer dtype. A vector
            whose length is not 1 is divided by its length; one within 1e-5 of it keeps its bits.
        encoder: Name of the encoder that made it. None keeps the stamp that ``values`` carries.
        dimensions: The length that is expected, if it is known.
        what: What to call the vector in an error message.

    Raises:
        EmbeddingError: Not one-dimensional, not numbers, empty, NaN, infinite, zero, or not
            of ``dimensions`` numbers.
        EncoderMismatchError: ``values`` carries another stamp than ``encoder``.
    """
    stamped = getattr(values, "encoder", None)
    if stamped is not None and encoder is not None and stamped != encoder:
        raise EncoderMismatchError(
            f"the {what} was made by encoder {stamped!r}, but {encoder!r} was expected: "
            "encode the image again with that encoder"
        )
    if isinstance(values, Embedding) and _is_checked(values, encoder) and dimensions in (None, values.size):
        return values
    if _is_unit(values) and dimensions in (None, values.size):
        return _stamp(np.array(values), encoder if encoder is not None else stamped)
    exact = _numbers(values, what)
    if exact.ndim != 1:
        raise EmbeddingError(f"the {what} must be one vector of shape (d,), got shape {exact.shape}")
    if exact.size == 0:
        raise EmbeddingError(f"the {what} is empty: pass None for an entry without embedding")
    if dimensions is not None and exact.size != dimensions:
        raise EmbeddingError(
            f"the {what} has {exact.size} numbers, but {dimensions} were expected: "
            "was it made by another encoder?"
        )
    bad = np.flatnonzero(~np.isfinite(exact))
    if bad.size:
        raise EmbeddingError(
            f"the {what} holds {bad.size} number(s) that are NaN or infinite, the first at "
            f"position {bad[0]}: encode the image again"
        )
    largest = float(np.abs(exact).max())
    if largest == 0.0:
        raise EmbeddingError(f"the {what} is all zeros: it has no direction to compare")
    return _stamp(_unit(exact, largest), encoder if encoder is not None else stamped)


def _unit(exact: NDArray[np.float64], largest: float) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        single = exact.astype(np.float32)
        if abs(float(np.linalg.norm(single.astype(np.float64))) - 1.0) <= _UNIT_TOLERANCE:
            return single
    # Divided by the largest number first: squares of huge or tiny numbers would leave the range of a double.
    scaled = exact / largest
    return (scaled / np.linalg.norm(scaled)).astype(np.float32)


def _is_checked(vector: Embedding, encoder: str | None) -> bool:
    """Whether this came from here, with that stamp, and nobody can have changed it since."""
    return vector._checked and not vector.flags.writeable and encoder in (None, vector.encoder)


def _is_unit(values: ArrayLike) -> TypeGuard[NDArray[np.float32]]:
    """Whether this is a float32 vector that needs no change: the common case, found with one product."""
    if not isinstance(values, np.ndarray) or values.dtype != np.float32 or values.ndim != 1:
        return False
    with np.errstate(all="ignore"):
        return abs(float(np.vecdot(values, values)) - 1.0) <= _UNIT_TOLERANCE


def _numbers(values: ArrayLike, what: str) -> NDArray[np.float64]:
    """Floats or integers in double precision; what NumPy would only guess at is refused."""
    try:
        array = np.asarray(values)
    except (TypeError, ValueError) as exc:
        raise EmbeddingError(f"the {what} must be a sequence of numbers: {exc}") from exc
    if array.dtype.kind not in "fiu" or isinstance(values, bytearray):
        got = type(values).__name__ if array.ndim == 0 else f"values of type {array.dtype}"
        raise EmbeddingError(f"the {what} must be a sequence of numbers, got {got}")
    with np.errstate(over="ignore"):  # a long double past the range becomes infinite, which is reported
        return array.astype(np.float64, copy=False)


def normalise(matrix: ArrayLike, *, what: str = "embeddings") -> Vectors:
    """Divide every row of ``(n, d)`` by its length.

    Returns:
        ``(n, d)`` float32, rows of unit length; an empty matrix stays empty.

    Raises:
        EmbeddingError: Not numbers, not two-dimensional, or a row is zero, NaN or infinite
            (named by index).
    """
    rows = _numbers(matrix, what)
    if rows.ndim != 2:
        raise EmbeddingError(f"the {what} must have shape (n, d), got {rows.shape}")
    largest = np.abs(rows).max(axis=1, initial=0.0)
    bad = np.flatnonzero(~np.isfinite(largest) | (largest == 0))
    if bad.size:
        raise EmbeddingError(f"row {bad[0]} of the {what} is zero, NaN or infinite")
    scaled = rows / largest[:, None]
    units: Vectors = (scaled / np.linalg.norm(scaled, axis=1)[:, None]).astype(np.float32)
    return units


def check_same_encoder(names: Iterable[str | None], *, where: str = "one comparison") -> str | None:
    """Return the one encoder named among ``names``; None counts as "not known" and passes.

    Raises:
        EncoderMismatchError: Two different encoders are named.
    """
    known = {name for name in names if name is not None}
    if len(known) > 1:
        listed = " and ".join(repr(name) for name in sorted(known))
        raise EncoderMismatchError(
            f"vectors of different encoders met in {where}: {listed}. Their numbers are not "
            "comparable: encode the images again with one of them"
        )
    return next(iter(known), None)


def cosine(a: ArrayLike, b: ArrayLike) -> float:
    """Cosine similarity of two vectors ``(d,)``: 1 identical, 0 unrelated, -1 opposite.

    Vectors need not be of unit length.

    Raises:
        EmbeddingError: As `as_embedding`, or the lengths differ.
        EncoderMismatchError: The two carry stamps of different encoders.
    """
    first = as_embedding(a, what="first embedding")
    second = as_embedding(b, dimensions=first.size, what="second embedding")
    check_same_encoder((first.encoder, second.encoder))
    product = float(np.dot(np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)))
    return min(1.0, max(-1.0, product))


def similarities(
    matrix: Rows, target: NDArray[np.float32], places: NDArray[np.intp] | slice | None = None
) -> NDArray[np.float32]:
    """Cosine similarity of rows of ``(n, d)`` unit vectors with one unit vector ``(d,)``.

    Args:
        matrix: The rows.
        target: ``(d,)`` float32 of unit length.
        places: Which rows; None takes all.

    Returns:
        ``(m,)`` float32 in [-1, 1], in the order of ``places``.

    Raises:
        EmbeddingError: The rows and the target have different lengths.
    """
    if matrix.shape[0] == 0:
        return np.empty(0, dtype=np.float32)
    if matrix.shape[1] != target.shape[0]:
        raise EmbeddingError(
            f"the target has {target.shape[0]} numbers, but the candidates have {matrix.shape[1]}: "
            "were they made by another encoder?"
        )
    wanted = np.asarray(target)
    if isinstance(matrix, Halves):
        parts = [np.vecdot(block, wanted) for block in matrix.blocks(places)]
        product = np.concatenate(parts) if parts else np.empty(0, dtype=np.float32)
    else:
        product = np.vecdot(matrix if places is None else matrix[places], wanted)
    return np.maximum(np.minimum(product, 1.0, out=product), -1.0, out=product)  # quicker than np.clip


def top_k(scores: NDArray[np.float32], threshold: float | None, k: int | None) -> NDArray[np.intp]:
    """Indices of the ``k`` highest scores that reach ``threshold``, high to low.

    The threshold is inclusive and compared in float32; equal scores keep their input order.

    Args:
        scores: ``(n,)`` float32.
        threshold: Lowest score that counts; None takes all.
        k: How many at most; None takes all.

    Returns:
        ``(m,)`` indices, ``m <= k``; empty when nothing reaches the threshold.

    Raises:
        InputError: ``k`` is negative.
    """
    if k is not None and k < 0:
        raise InputError(f"k is how many to take and must be 0 or more (None takes all), got {k}")
    few = np.inf if k is None else 4 * k + 256  # so many are sorted as quickly as fewer are found
    if threshold is None and scores.shape[0] <= few:
        return np.argsort(-scores, kind="stable")[:k]
    if threshold is None:
        found = np.arange(scores.shape[0])
    else:
        found = np.flatnonzero(scores >= np.float32(threshold))
    if k is not None and found.shape[0] > few:
        # Cut to the scores that can be among the k highest before sorting; ties at the cut stay in.
        kept = scores[found]
        cut = np.partition(kept, kept.shape[0] - k)[kept.shape[0] - k] if k else np.inf
        found = found[kept >= cut]
    order = found[np.argsort(-scores[found], kind="stable")]
    return order if k is None else order[:k]


def stored_as(vector: Embedding, vector_type: VectorType) -> Embedding:
    """The vector as it comes back from where it is kept so: the same, or what its halves stand for."""
    if vector_type == "float32":
        return vector
    return _stamp(unit_rows(halved(np.asarray(vector))), vector.encoder)


def to_bytes(vector: NDArray[np.float32], vector_type: VectorType = "float32") -> bytes:
    """The vector as bytes, little-endian on every machine.

    float32: 4 a number. float16: 2 a number and one behind them, so that their number says which it is.
    """
    if vector_type == "float16":
        return halved(np.asarray(vector)).astype(_STORED_HALF, copy=False).tobytes() + _HALF_MARK
    return np.asarray(vector).astype(_STORED, copy=False).tobytes()


def from_bytes(data: bytes, *, encoder: str | None = None) -> Embedding:
    """The read-only vector that `to_bytes` wrote; of halves, the one they stand for.

    Raises:
        EmbeddingError: The number of bytes is zero or that of no vector.
    """
    if len(data) % 4 == 0 and data:
        return _stamp(np.frombuffer(data, dtype=_STORED).astype(np.float32), encoder)
    if len(data) % 2 == 0 or len(data) == 1 or data[-1:] != _HALF_MARK:
        raise EmbeddingError(f"{len(data)} bytes are not a float32 vector, nor a float16 one")
    return _stamp(unit_rows(np.frombuffer(data, dtype=_STORED_HALF, count=len(data) // 2)), encoder)
