"""Approximate search in lists of near vectors (inverted file; Jégou, Douze and Schmid 2011), our own.

Every vector, in one byte a number, lies in the list whose middle is nearest to it; a search reads the few
lists whose middles are nearest to what it looks for, each from its first byte to its last. How many are to be
read is measured when the lists are made: so many that one in a hundred of the true answers is missed.

Vectors come at the end of their list while others search: a list that is read is never changed, but may have
room behind. A list that has become too long is divided in two (Xu et al. 2023), so a loop that shows
the same picture for hours makes more lists, and no long one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, NamedTuple, Self, TypeAlias

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from reverie.search.approximate import ApproximateSearch, Keys
from reverie.search.codes import Codes, coded, dots, inverse_lengths
from reverie.search.partition import Centroids, divided, halves, middle
from reverie.vectors import normalise

__all__ = ["IvfSearch"]

_Floats: TypeAlias = NDArray[np.float32]

_LISTS = 2  # times the root of the number of vectors
_LEARNT_FROM = 64  # vectors for each list, by which their middles are found
_LONGEST = 4  # times as long as lists are on average, when they are made; longer ones are divided
_SHORTEST = 64  # vectors that are never divided
_MISSED = 0.01  # part of the true answers that lie in lists which are not read
_FEWEST = 4  # lists that are read at least
_MOST = 8  # of which a part in so many is read at most
_AGAIN = 2  # measured again when there are so many times the vectors
_OUTGROWN = 2  # made anew when there are so many times the vectors they were made for
_ASKED = 200, 5  # searches by which that is measured, and answers of each
_NOISE = 0.5  # what they look for is so far from a vector, as in `reverie.search.recall`
_RESCORED = 4, 16  # rows that are compared in float32 for each that is wanted, and more


class IvfSearch(ApproximateSearch):
    """Finds rows in lists of near ones (``ivf``): nearly always the true answer, fast among millions."""

    name = "ivf"
    made: ClassVar[dict[str, Any]] = {"format": 1}

    def new(self, dimensions: int) -> _Lists:
        """No lists yet."""
        return _Lists(dimensions, lambda: self._stopping)


@dataclass(frozen=True, slots=True, eq=False)
class _List:
    """Vectors that are near one another, and maybe room behind.

    Attributes:
        count: How many.
        keys: ``(room,)``.
        codes: ``(room, d)``.
        inverse: ``(room,)`` one over the length of each code.
    """

    count: int
    keys: Keys
    codes: Codes
    inverse: _Floats

    @classmethod
    def with_room(cls, room: int, dimensions: int) -> Self:
        """An empty one."""
        return cls(
            0,
            np.empty(room, dtype=np.uint64),
            np.empty((room, dimensions), dtype=np.int8),
            np.empty(room, dtype=np.float32),
        )

    @property
    def used(self) -> tuple[Keys, Codes, _Floats]:
        return self.keys[: self.count], self.codes[: self.count], self.inverse[: self.count]

    def moved(self, room: int) -> Self:
        """The same in memory of its own, with room for so many."""
        return self.with_room(room, self.codes.shape[1]).grown(*self.used)

    def grown(self, keys: Keys, codes: Codes, inverse: _Floats) -> Self:
        """The same and more behind; whoever reads this one is not disturbed."""
        start, stop = self.count, self.count + len(keys)
        grown = self if stop <= len(self.keys) else self.moved(stop + stop // 4 + 4)
        grown.keys[start:stop] = keys
        grown.codes[start:stop] = codes
        grown.inverse[start:stop] = inverse
        return replace(grown, count=stop)

    def chosen(self, which: NDArray[np.bool_]) -> Self:
        """Some of them, in memory of their own."""
        keys, codes, inverse = self.used
        return type(self)(int(which.sum()), keys[which], codes[which], inverse[which])


class _State(NamedTuple):
    """What a search reads; the lists in it are replaced as they grow."""

    centroids: Centroids
    lists: list[_List]


class _Lists:
    """Lists of near vectors as `ApproximateSearch` uses them."""

    def __init__(self, dimensions: int, stopping: Callable[[], bool]) -> None:
        self._dimensions = dimensions
        self._stopping = stopping
        self._state = _State(Centroids.of(np.zeros((0, dimensions), dtype=np.int8)), [])
        self._read = float(_FEWEST)  # lists that a search reads
        self._longest = _SHORTEST
        self._planned = 0  # vectors that these lists were made for
        self._of = 0  # so many, when that was measured
        self._count = 0
        self._measured = 0  # vectors there were when it was measured how many to read

    @property
    def keys(self) -> Keys:
        return np.concatenate([each.used[0] for each in self._state.lists])

    @property
    def outgrown(self) -> bool:
        return self._count > _OUTGROWN * self._planned

    def begin(self, sample: Codes, count: int) -> None:
        lists = min(2 ** round(math.log2(_LISTS * math.sqrt(count))), len(sample))
        sample = sample[: _LEARNT_FROM * lists]
        self._state = _State(
            divided(sample, lists, self._stopping), [_List.with_room(0, self._dimensions)] * lists
        )
        self._longest = max(_SHORTEST, _LONGEST * count // lists)
        self._planned = count

    def settle(self) -> None:
        lists = self._state.lists
        for at, each in enumerate(lists):
            lists[at] = each.moved(each.count)
        self._measure()

    def _measure(self) -> None:
        """How many lists to read; where there is no time to find that out, many."""
        ranks = _ranks(self._state, self._stopping)
        self._of, self._measured = len(self._state.lists), 0 if ranks is None else self._count
        needed = math.inf if ranks is None else float(np.quantile(ranks, 1 - _MISSED)) + 1
        self._read = max(_FEWEST, min(needed, self._of / _MOST))

    def grow(self, keys: Keys, codes: Codes) -> None:
        self.take(keys, codes)
        if self._count > _AGAIN * self._measured:
            self._measure()

    def take(self, keys: Keys, codes: Codes) -> None:
        lists, which = self._state.lists, self._state.centroids.nearest(codes)
        inverse = inverse_lengths(codes)
        order = np.argsort(which, kind="stable")
        cuts = np.flatnonzero(np.diff(which[order])) + 1
        long = []
        for some in np.split(order, cuts) if len(order) else ():
            at = int(which[some[0]])
            lists[at] = lists[at].grown(keys[some], codes[some], inverse[some])
            if lists[at].count > self._longest:
                long.append(at)
        self._count += len(keys)
        for at in long:
            self._divide(at)

    def _divide(self, at: int) -> None:
        """Make two lists of one; searches go on in the one as long as they need."""
        centroids, lists = self._state
        first = halves(lists[at].used[1])
        two = [lists[at].chosen(first), lists[at].chosen(~first)]
        middles = np.stack([middle(each.codes, each.inverse) for each in two])
        codes = np.concatenate([centroids.codes, middles[1:]])
        codes[at] = middles[0]
        self._state = _State(Centroids.of(codes), [*lists[:at], two[0], *lists[at + 1 :], two[1]])
        for each in (at, len(lists)):
            if self._state.lists[each].count > self._longest:
                self._divide(each)

    def nearest(self, code: Codes, k: int, share: float, wider: int) -> tuple[Keys, bool] | None:
        centroids, lists = self._state
        a_row, more = _RESCORED
        fetch = int(wider * (a_row * k + more) / share)
        grown = len(lists) / max(1, self._of) * math.sqrt(max(1.0, k / _ASKED[1]))
        read = min(len(lists), math.ceil(wider * grown * self._read / share))
        near = centroids.near(code)[0]
        which = np.argpartition(near, len(lists) - read)[len(lists) - read :]
        parts = [lists[at] for at in which.tolist()]
        total = sum(each.count for each in parts)
        if max(total, fetch) > self._count * share:
            return None
        scores = _scanned(code, parts, total)
        best = np.argpartition(scores, total - fetch)[total - fetch :] if total > fetch else np.arange(total)
        best = best[np.argsort(-scores[best])]
        keys = np.concatenate([each.keys[: each.count] for each in parts])
        return keys[best], read == len(lists) and total <= fetch

    def get(self, keys: Keys) -> Codes:
        held = self.keys
        order = np.argsort(held)
        at = order[np.searchsorted(held, keys, sorter=order)]
        ends = np.cumsum([each.count for each in self._state.lists])
        which = np.searchsorted(ends, at, side="right")
        parts = [self._state.lists[each] for each in which.tolist()]
        places = at - ends[which] + [each.count for each in parts]
        return np.stack([each.codes[place] for each, place in zip(parts, places.tolist(), strict=True)])

    def copy(self) -> _Lists:
        """Itself: a list that grows is copied into memory by itself."""
        return self

    # -------------------------------------------------------------------- the file

    def save(self, path: Path) -> None:
        lists = self._state.lists
        counts = np.array([each.count for each in lists], dtype=np.int64)
        total = int(counts.sum())
        numbers = np.array(
            [self._read, self._of, self._measured, self._longest, self._planned], dtype=np.float64
        )
        with path.open("wb") as file:
            for array in (numbers, counts, self._state.centroids.codes):
                npy.write_array(file, array, allow_pickle=False)
            for at, (like, shape) in enumerate(
                ((np.uint64, ()), (np.int8, (self._dimensions,)), (np.float32, ()))
            ):
                _write(file, (each.used[at] for each in lists), np.dtype(like), (total, *shape))

    def view(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                numbers, counts, centroids, *held = (_mapped(path, file) for _ in range(6))
        except (OSError, ValueError) as exc:
            raise RuntimeError(f"{path} holds no lists: {exc}") from exc
        ends = np.cumsum(counts)
        lists = [
            _List(stop - start, *(each[start:stop] for each in held))
            for start, stop in zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True)
        ]
        self._state = _State(Centroids.of(np.array(centroids)), lists)
        self._read = float(numbers[0])
        self._of, self._measured, self._longest, self._planned = (int(each) for each in numbers[1:])
        self._count = int(ends[-1])


def _scanned(code: Codes, parts: list[_List], total: int) -> _Floats:
    """What the cosines of the vectors of some lists are, all times the same."""
    scores, start = np.empty(total, dtype=np.float32), 0
    for part in parts:
        stop = start + part.count
        if part.count:
            _, codes, inverse = part.used
            near = scores[start:stop]
            dots(code, codes, near[None])
            near *= inverse
        start = stop
    return scores


def _ranks(state: _State, stopping: Callable[[], bool]) -> NDArray[np.intp] | None:
    """How many lists are read before the one that has a true answer, of some answers; None when stopped."""
    rng = np.random.default_rng(0)
    asked, wanted = _ASKED
    counts = np.array([each.count for each in state.lists])
    some = rng.choice(len(counts), size=asked, p=counts / counts.sum())
    rows = [state.lists[at].codes[rng.integers(counts[at])] for at in some.tolist()]
    near = normalise(np.stack(rows).astype(np.float32))
    targets = coded(near + _NOISE * normalise(rng.standard_normal(near.shape)))
    best = np.full((asked, wanted), -np.inf, dtype=np.float32)
    best_in = np.zeros((asked, wanted), dtype=np.intp)
    for at, part in enumerate(state.lists):
        if stopping():
            return None
        if part.count:
            scores = np.empty((asked, part.count), dtype=np.float32)
            dots(targets, part.used[1], scores)
            scores = np.concatenate([best, scores * part.used[2]], axis=1)
            top = np.argpartition(scores, -wanted, axis=1)[:, -wanted:]
            best = np.take_along_axis(scores, top, axis=1)
            best_in = np.where(top < wanted, np.take_along_axis(best_in, top % wanted, axis=1), at)
    near_lists = state.centroids.near(targets)
    reached = np.take_along_axis(near_lists, best_in, axis=1)
    before = near_lists[:, None, :] > reached[:, :, None]
    ranks: NDArray[np.intp] = np.count_nonzero(before, axis=2)[best > -np.inf]
    return ranks


def _write(
    file: BinaryIO, parts: Iterable[NDArray[Any]], dtype: np.dtype[Any], shape: tuple[int, ...]
) -> None:
    """One array that is there in parts, in numpy's own format."""
    header = {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    npy.write_array_header_1_0(file, header)
    for part in parts:
        file.write(np.ascontiguousarray(part).data)


def _mapped(path: Path, file: BinaryIO) -> NDArray[Any]:
    """The next array of a file, in the file itself."""
    npy.read_magic(file)
    shape, _, dtype = npy.read_array_header_1_0(file)
    mapped = np.memmap(path, dtype, "r", offset=file.tell(), shape=shape)
    file.seek(mapped.nbytes, 1)
    return np.asarray(mapped)
