"""Eviction that keeps diversity: policies chosen by name that look at the vectors.

``rke`` lets go what is most crowded in by all others, ``maxmin`` one of the closest pair. Both compare the
entries of one encoder: that of the newest entry with a vector that is not pinned. What cannot be compared
with it, an entry without a vector or of another encoder, goes first, oldest first. Pinned entries and
those that a caller skips are never named, but they count: a frame like a pinned one is crowded. Of equals
the oldest goes.

Vectors are kept as whole numbers: each coordinate times nearly 4096, rounded. Every sum of products of two
such vectors is then a whole number below 2**24 (Cauchy-Schwarz), which single precision holds exactly. So
the order in which a machine sums does not matter, nothing drifts, and a policy's answer depends on what
is in the cache alone, not on how it got there. A cosine is off by about 1e-4.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from reverie.errors import InputError
from reverie.protocols import Brief
from reverie.vectors import Embedding

__all__ = ["MaxMinSwap", "RkeSwap"]

_Space: TypeAlias = tuple[str | None, int]  # encoder and dimensions
_Floats: TypeAlias = NDArray[np.float64]
_Rows: TypeAlias = NDArray[np.float32]

_AT_ONCE = 128  # rows of a block when everything is compared with everything


class _Compared(ABC):
    """The entries as rows of one matrix, without gaps; a removed row's place is taken by the last.

    Nothing is computed when an entry comes or goes. What a subclass knows of the rows is brought up to
    date when it is asked, so an add that evicts costs one pass over the matrix for both.
    """

    needs_vectors = True
    _columns: tuple[str, ...] = ("_rows", "_numbers", "_loose", "_value")

    def __init__(self) -> None:
        self._briefs: dict[str, Brief] = {}
        self._bare: set[str] = set()  # without a vector
        self._foreign: dict[str, tuple[_Space, _Rows]] = {}  # with one that cannot be compared
        self._begin(None)

    def _begin(self, space: _Space | None) -> None:
        """No rows, for vectors of one encoder."""
        self._space = space
        dimensions = 0 if space is None else space[1]
        self._scale = _scale(dimensions)
        self._ids: list[str] = []
        self._slots: dict[str, int] = {}
        self._rows = np.zeros((64, dimensions), dtype=np.float32)
        self._numbers = np.zeros(64, dtype=np.int64)
        self._loose = np.zeros(64, dtype=np.bool_)  # whether it may be evicted
        self._value: _Floats = np.zeros(64)  # what the subclass ranks by, highest first; infinite while fresh
        self._fresh: dict[str, None] = {}  # of whose rows nothing is known yet

    # ------------------------------------------------------------------ what it is told

    def insert(self, brief: Brief, embedding: Embedding | None = None) -> None:
        """An entry is there from now on; or, when its id is known, this is its brief from now on."""
        cache_id = brief.cache_id
        known = cache_id in self._briefs
        self._briefs[cache_id] = brief
        if embedding is None and known:
            self._note(brief)
        elif embedding is None:
            self._bare.add(cache_id)
        else:
            space, row = _whole(embedding)
            if known and self._holds(cache_id, space, row):
                self._note(brief)
                return
            if known:
                self._take_out(cache_id)
            if space == self._space:
                self._join(brief, row)
            else:
                self._foreign[cache_id] = (space, row)
                self._choose()

    def _note(self, brief: Brief) -> None:
        slot = self._slots.get(brief.cache_id)
        if slot is not None:
            self._loose[slot] = not brief.pinned
            self._numbers[slot] = brief.number
        if self._foreign:
            self._choose()

    def _holds(self, cache_id: str, space: _Space, row: _Rows) -> bool:
        slot = self._slots.get(cache_id)
        return slot is not None and space == self._space and np.array_equal(self._rows[slot], row)

    def touch(self, cache_id: str, used_ns: int) -> None:  # noqa: B027 - nothing to do is what it does
        """A use does not matter here."""

    def discard(self, cache_id: str) -> None:
        """An entry is gone; an unknown id is fine."""
        if self._briefs.pop(cache_id, None) is not None:
            self._take_out(cache_id)
            if self._foreign:
                self._choose()

    def _take_out(self, cache_id: str) -> None:
        self._bare.discard(cache_id)
        self._foreign.pop(cache_id, None)
        slot = self._slots.pop(cache_id, None)
        if slot is None:
            return
        last = len(self._ids) - 1
        self._leave(cache_id, slot, last)
        self._fresh.pop(cache_id, None)
        if slot != last:
            for name in self._columns:
                column = getattr(self, name)
                column[slot] = column[last]
            self._ids[slot] = self._ids[last]
            self._slots[self._ids[slot]] = slot
        self._ids.pop()

    @abstractmethod
    def _leave(self, cache_id: str, slot: int, last: int) -> None:
        """A row is about to go, and the last row to take its place."""

    def _choose(self) -> None:
        """Compare what the newest loose vector can be compared with; the others wait among the foreign."""
        loose = [self._briefs[each] for each in self._foreign if not self._briefs[each].pinned]
        if not loose:
            return
        newest = max(loose, key=lambda brief: brief.number)
        count = len(self._ids)
        if self._numbers[:count][self._loose[:count]].max(initial=-1) > newest.number:
            return
        if self._space is not None:
            for cache_id, row in zip(self._ids, self._rows, strict=False):
                self._foreign[cache_id] = (self._space, row)
        space = self._foreign[newest.cache_id][0]
        self._begin(space)
        for cache_id in [each for each, (theirs, _) in self._foreign.items() if theirs == space]:
            self._join(self._briefs[cache_id], self._foreign.pop(cache_id)[1])

    def _join(self, brief: Brief, row: _Rows) -> None:
        slot = len(self._ids)
        if slot == len(self._numbers):
            for name in self._columns:
                column = getattr(self, name)
                setattr(self, name, np.concatenate([column, np.zeros_like(column)]))
        self._rows[slot] = row
        self._value[slot] = np.inf
        self._ids.append(brief.cache_id)
        self._slots[brief.cache_id] = slot
        self._fresh[brief.cache_id] = None
        self._loose[slot] = not brief.pinned
        self._numbers[slot] = brief.number

    # ------------------------------------------------------------------ what it answers

    def ranking(self, skip: Collection[str] = ()) -> Iterator[str]:
        """Ids in the order in which they would be evicted, without those of ``skip``.

        The first costs one pass over the vectors at most, each further one another pass.
        """
        if self._bare or self._foreign:
            apart = [self._briefs[each] for each in chain(self._bare, self._foreign) if each not in skip]
            for brief in sorted(apart, key=lambda each: each.number):
                if not brief.pinned:
                    yield brief.cache_id
        count = len(self._ids)
        if count:
            self._settle()
            loose = self._loose[:count].copy()
            loose[[self._slots[each] for each in skip if each in self._slots]] = False
            for slot in self._greedy(loose):
                yield self._ids[slot]

    @abstractmethod
    def _settle(self) -> None:
        """Bring up to date what is known of the rows."""

    @abstractmethod
    def _greedy(self, loose: NDArray[np.bool_]) -> Iterator[int]:
        """Rows to evict out of the loose ones, each as if those before it were gone."""

    def _products(self, others: _Rows) -> _Rows:
        """``(n, m)``: all rows times ``(m, d)`` others, in one pass over the rows."""
        count = len(self._ids)
        if len(others) == 1:
            single: _Rows = np.vecdot(self._rows[:count], others[0])[:, None]
            return single
        # In blocks that stay in the processor's cache, and too small for BLAS to wake its threads. There is
        # always room for whole blocks: their size and that of the matrix are powers of two.
        size = 1 << max(0, (_ONE_THREAD // others.size).bit_length() - 1)
        if count <= size:
            return self._rows[:count] @ others.T
        blocks = -(-count // size)
        rows = self._rows[: blocks * size].reshape(blocks, size, self._rows.shape[1])
        found: _Rows = np.matmul(rows, others.T).reshape(blocks * size, len(others))
        return found[:count]

    def _oldest(self, tied: NDArray[np.bool_]) -> int:
        """The oldest of some rows."""
        slots = tied.nonzero()[0]
        return int(slots[0] if slots.size == 1 else slots[self._numbers[slots].argmin()])


class RkeSwap(_Compared):
    """Evict what is most crowded in: the best single swap for the RKE diversity of the cache (``rke``).

    With the kernel k(x, y) = exp(-(1 - cos(x, y)) / h), the RKE (Jalali, Li and Farnia, "An
    information-theoretic evaluation of generative models", 2023; the Vendi score of order 2) of n entries
    is n**2 / F, where F is the sum of all squared kernel values. Each entry has R_j, the sum over all
    entries i, itself included, of k_ij**2; the highest R_j goes first.

    That is the best swap. Let a candidate x come to n entries whose sums are R_j without it, and be
    r_i = k(x, x_i)**2. To put x in the place of j takes the row and the column of j out of F, with its own
    term counted twice, and adds those of x without j::

        dF_j = -(2 R_j - 1) + 2 (sum_i r_i - r_j) + 1 = 2 (1 + sum_i r_i) - 2 (R_j + r_j) = 2 (R'_x - R'_j)

    with R' the sums among all n + 1. So the j that lowers F most is that of the highest R'_j, and no swap
    lowers it when x itself has the highest. A cache keeps what it was just given: then the next highest
    goes, and x at the next add, unless it is the better by then. This is worst-out removal, as in
    FrameSense (Ranieri, Chebira and Vetterli, arXiv 1305.6292), one entry at a time.

    h is half the median of 1 - cos over pairs of entries (of 256 of them, evenly spread, where there are
    more). It is looked at again every 500 adds, and changed when it moved by more than a tenth; then all
    sums are made anew, O(n**2 d). An add costs O(nd): it adds the row of what came and takes off that of
    what went in one pass. The sums are whole numbers (of 2**-30), so they never drift.

    Args:
        bandwidth: h to begin with, as `state` gave it; None finds it when it is first needed.
        checked: Number of the newest entry when h was last looked at, as `state` gave it.
        space: Encoder and dimensions of the vectors that h is for, as `state` gave them; None: any.

    Raises:
        InputError: ``bandwidth`` is not a positive number, ``checked`` not a whole number, or ``space`` not
            a pair.
    """

    def __init__(
        self, bandwidth: float | None = None, checked: int = 0, space: Sequence[Any] | None = None
    ) -> None:
        if bandwidth is not None and not (isinstance(bandwidth, (int, float)) and 0 < bandwidth < math.inf):
            raise InputError(f"the bandwidth of the kernel is a positive number, got {bandwidth!r}")
        if not isinstance(checked, int):
            raise InputError(f"checked is the number of an entry, got {checked!r}")
        if space is not None and len(space) != 2:
            raise InputError(f"space is an encoder and its number of dimensions, got {space!r}")
        self._bandwidth = bandwidth
        self._checked = checked
        self._measured: _Space | None = None if space is None else (space[0], space[1])
        super().__init__()

    def _begin(self, space: _Space | None) -> None:
        super()._begin(space)
        self._gone: list[_Rows] = []  # rows that left while the sums still hold them
        self._built = False

    def _leave(self, cache_id: str, slot: int, last: int) -> None:  # noqa: ARG002 - the sums do not care for places
        if self._built and cache_id not in self._fresh:
            self._gone.append(self._rows[slot].copy())

    def crowding(self) -> dict[str, float]:
        """R_j of every entry that is compared, at least about 1; empty for fewer than two."""
        self._settle()
        if not self._built:
            return {}
        return {each: float(self._value[slot]) / _UNIT for each, slot in self._slots.items()}

    def state(self) -> Mapping[str, Any]:
        """Its arguments now: with these and the same entries a new policy goes on as this one."""
        if self._bandwidth is None:
            return {}
        return {"bandwidth": self._bandwidth, "checked": self._checked, "space": self._measured}

    def _settle(self) -> None:
        count = len(self._ids)
        if count < 2:
            self._built, self._gone = False, []
            return
        newest = int(self._numbers[:count].max())
        other = self._measured not in (None, self._space)
        if self._bandwidth is None or other or newest // _CHECK_EVERY > self._checked // _CHECK_EVERY:
            self._check_bandwidth(newest)
        self._measured = self._space
        if not self._built or len(self._fresh) + len(self._gone) > count // 2:
            self._build()
        elif self._fresh or self._gone:
            self._follow([self._slots[cache_id] for cache_id in self._fresh])
        self._fresh.clear()

    def _check_bandwidth(self, newest: int) -> None:
        order = np.argsort(self._numbers[: len(self._ids)])
        some = self._rows[order[np.linspace(0, len(order) - 1, min(len(order), _SAMPLE)).astype(int)]]
        cosines = np.vecdot(some[:, None], some)[np.triu_indices(len(some), 1)] / self._scale**2
        bandwidth = max(float(np.median(1.0 - cosines)) / 2, 1e-3)
        self._checked = newest
        if self._bandwidth is None or abs(bandwidth / self._bandwidth - 1) > 0.1:
            self._bandwidth = bandwidth
            self._built = False

    def _squared(self, products: _Rows) -> _Floats:
        """Squared kernel values of products of rows, in whole units."""
        slope = 2.0 / (self._bandwidth or 1.0)
        terms = products * np.float32(slope / self._scale**2)
        terms -= np.float32(slope)
        np.exp(terms, out=terms)
        terms *= np.float32(_UNIT)  # a power of two: nothing is lost
        whole: _Floats = np.rint(terms, out=terms).astype(np.float64)
        return whole

    def _follow(self, fresh: list[int]) -> None:
        """Add what came, take off what went."""
        count, came = len(self._ids), len(fresh)
        others = self._rows[fresh]
        if self._gone:
            others = np.concatenate([others, self._gone])
        terms = self._squared(np.ascontiguousarray(self._products(others).T))
        value = self._value[:count]
        if came:
            value += terms[:came].sum(axis=0)
            value[fresh] = terms[:came].sum(axis=1)
        if self._gone:
            lost = terms[came:].sum(axis=0)
            lost[fresh] = 0.0  # what went before they came is not in their sums
            value -= lost
            self._gone = []

    def _build(self) -> None:
        """All sums anew."""
        count = len(self._ids)
        rows, value = self._rows[:count], self._value[:count]
        value[:] = 0.0
        for start in range(0, count, _AT_ONCE):
            terms = self._squared(rows[start : start + _AT_ONCE] @ rows[start:].T)
            stop = start + len(terms)
            value[start:stop] += terms.sum(axis=1)
            value[stop:] += terms[:, len(terms) :].sum(axis=0)
        self._built, self._gone = True, []

    def _greedy(self, loose: NDArray[np.bool_]) -> Iterator[int]:
        value = np.where(loose, self._value[: len(loose)], -np.inf)
        while (highest := value.max()) > -np.inf:
            slot = self._oldest(value == highest)
            yield slot
            value -= self._squared(self._products(self._rows[slot : slot + 1])[:, 0])
            value[slot] = -np.inf


class MaxMinSwap(_Compared):
    """Evict the older of the closest pair (``maxmin``).

    Removing one entry of the closest pair is what raises the smallest distance of the set most: the greedy
    step for max-min dispersion (Ravi, Rosenkrantz and Tayi, "Heuristic and special case algorithms for
    dispersion problems", 1994). Where one of a pair may not go, the other does.

    Each row knows its nearest neighbour. An add costs O(nd). When a neighbour goes, the old similarity stays
    as an upper bound, and the neighbour is looked for again only when that bound is the highest there is.
    """

    _columns = (*_Compared._columns, "_partner")

    def _begin(self, space: _Space | None) -> None:
        super()._begin(space)
        self._partner = np.full(64, -1, dtype=np.int64)  # the nearest row; -1: it went

    def _join(self, brief: Brief, row: _Rows) -> None:
        super()._join(brief, row)
        slot = self._slots[brief.cache_id]
        self._partner[slot] = slot

    def _leave(self, cache_id: str, slot: int, last: int) -> None:  # noqa: ARG002 - its place says it all
        partner = self._partner[: len(self._ids)]
        partner[partner == slot] = -1
        partner[partner == last] = slot

    def state(self) -> Mapping[str, Any]:
        """Nothing: the entries say it all."""
        return {}

    def _settle(self) -> None:
        count = len(self._ids)
        if len(self._fresh) > max(8, count // 8):
            self._build()
        elif self._fresh:
            self._follow([self._slots[cache_id] for cache_id in self._fresh])
        self._fresh.clear()

    def _follow(self, fresh: list[int]) -> None:
        """Take in what came; and, in the same pass, look again for the neighbour that is needed first."""
        lost = (self._partner[: len(self._ids)] < 0).nonzero()[0]
        wanted = [*fresh, int(lost[self._value[lost].argmax()])] if lost.size else fresh
        cosines = self._products(self._rows[wanted]).T.astype(np.float64, order="C")
        for slot, row in zip(wanted, cosines, strict=True):
            row[slot] = _ALONE
            if self._value[slot] == np.inf:
                self._compare(slot, row)
        for slot, row in zip(wanted, cosines, strict=True):
            self._value[slot], self._partner[slot] = self._nearest(row)

    def _compare(self, slot: int, cosines: _Floats) -> None:
        """Make a new row the neighbour of those that it is nearest to."""
        value, partner = self._value[: len(cosines)], self._partner[: len(cosines)]
        better = cosines > value
        tied = (cosines == value) & (partner >= 0)
        if tied.any():
            better |= tied & (self._numbers[slot] < self._numbers[partner])
        value[better] = cosines[better]
        partner[better] = slot

    def _nearest(self, cosines: _Floats) -> tuple[float, int]:
        highest = cosines.max()
        return float(highest), self._oldest(cosines == highest)

    def _build(self) -> None:
        count = len(self._ids)
        rows = self._rows[:count]
        for start in range(0, count, _AT_ONCE):
            cosines = (rows[start : start + _AT_ONCE] @ rows.T).astype(np.float64)
            for place, row in enumerate(cosines):
                row[start + place] = _ALONE
                self._value[start + place], self._partner[start + place] = self._nearest(row)

    def _greedy(self, loose: NDArray[np.bool_]) -> Iterator[int]:
        count = len(loose)
        value = np.where(loose, self._value[:count], -np.inf)
        partner = self._partner[:count].copy()
        gone: list[int] = []
        while (highest := value.max()) > -np.inf:
            slot = self._oldest(value == highest)
            if partner[slot] < 0:
                cosines = self._products(self._rows[slot : slot + 1])[:, 0].astype(np.float64)
                cosines[[slot, *gone]] = _ALONE
                value[slot], partner[slot] = self._nearest(cosines)
                if not gone:
                    self._value[slot], self._partner[slot] = value[slot], partner[slot]
                continue
            other = int(partner[slot])
            if loose[other] and self._numbers[other] < self._numbers[slot]:
                slot = other
            yield slot
            gone.append(slot)
            loose[slot] = False
            value[slot] = -np.inf
            partner[partner == slot] = -1


_UNIT = 2.0**30  # squared kernel values are counted in 2**-30
_ONE_THREAD = 2**18  # multiplications that OpenBLAS does on one thread
_CHECK_EVERY = 500  # adds between two looks at the bandwidth
_SAMPLE = 256  # entries whose pairs say how wide the kernel must be
_ALONE = -(2.0**26)  # below every product


def _scale(dimensions: int) -> float:
    """What coordinates are multiplied with, so that rounded vectors are no longer than 4096."""
    return 4096.0 - math.ceil(math.sqrt(dimensions) / 2) - 1


def _whole(embedding: Embedding) -> tuple[_Space, _Rows]:
    row: _Rows = np.rint(np.asarray(embedding) * np.float32(_scale(embedding.size)))
    return (embedding.encoder, embedding.size), row
