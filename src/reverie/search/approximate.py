"""Approximate search: what is made of all rows answers which of them may be near, and follows them.

Whatever it is (`NearIndex`), it holds every vector in one byte a number, and is only asked which rows may be
near: those are compared in float32, so every cosine is true, and only a row may be missing. Rows that are not
in it yet, the tail, are all compared. A thread takes them in when they are many; a whole index is made aside,
and answers once it is done.

The key of a vector in it is the vector's number: a vector that took another one's place has another. Those of
entries that are gone are passed over, and the index is made anew when they are the greater part.
"""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from reverie.protocols import Found
from reverie.search.codes import Codes, coded
from reverie.search.index_file import IndexFile
from reverie.vectors import VectorRows, similarities, top_k

__all__ = ["ApproximateSearch", "Keys", "NearIndex"]

_Floats: TypeAlias = NDArray[np.float32]
_Keys: TypeAlias = NDArray[np.uint64]
_Mask: TypeAlias = NDArray[np.bool_]
_Places: TypeAlias = NDArray[np.intp]

Keys: TypeAlias = _Keys
"""``(n,)`` uint64."""

_TAIL = 512  # rows that are compared in some 30 microseconds
_AT_ONCE = 1024  # rows between two looks at whether to stop
_FEW_WAIT = 64  # a part in so many outside the index is compared faster than all rows are scanned
_WORTH_SAVING = 4  # saved again when a part in so many is new
_LOOKED_AT_FIRST = 2**17  # rows that an index may look at before it takes in any
_LOOKED_AT = 16  # nodes of a file that are compared with their rows before it is used
_FEW = 32  # m of n rows are compared as fast as the index gives some of them, where m is 32 sqrt(n)


class NearIndex(Protocol):
    """Knows which vectors may be near another one."""

    @property
    def keys(self) -> Keys:
        """All that are in it."""

    @property
    def outgrown(self) -> bool:
        """Whether one that is made anew would be better."""

    def begin(self, sample: Codes, count: int) -> None:
        """Look at some of the ``count`` rows that are to come, ``(n, d)`` drawn at random; it is empty."""

    def take(self, keys: Keys, codes: Codes) -> None:
        """Take in many before anybody searches in it; `settle` ends that."""

    def settle(self) -> None:
        """Be ready to be searched."""

    def grow(self, keys: Keys, codes: Codes) -> None:
        """Take in some while others search in it."""

    def nearest(self, code: Codes, k: int, share: float, wider: int) -> tuple[Keys, bool] | None:
        """Keys of those that may be near, the nearest first, and whether there are no more.

        Args:
            code: ``(1, d)`` what is looked for.
            k: How many are wanted.
            share: Of those in it that may be found, in (0, 1].
            wider: How many times as many as usual to look at.

        Returns:
            None where comparing all is faster.
        """

    def get(self, keys: Keys) -> Codes:
        """The codes of some that are in it."""

    def copy(self) -> NearIndex:
        """One that can grow, of one that may be a file."""

    def save(self, path: Path) -> object:
        """Write it into a file; raises OSError or RuntimeError."""

    def view(self, path: Path) -> object:
        """Be what is in a file, which is not read whole; raises RuntimeError when it is not one."""


class ApproximateSearch(ABC):
    """Finds rows by an index of those that may be near: nearly always the true answer.

    Args:
        folder: Where the index is kept from one process to the next; None: in memory only.
        tail: How many rows may wait outside of it; as many are compared at once.
        threads: That make a whole one, where it can be made by several.

    Several threads may search at once. Until the first index is there, all rows are compared; `wait` waits
    for it. A fork begins anew, with the file.
    """

    name: ClassVar[str]
    exact = False
    made: ClassVar[Mapping[str, Any]]
    """How an index is made: a file of one that was made otherwise is not read."""

    @abstractmethod
    def new(self, dimensions: int) -> NearIndex:
        """An empty index."""

    def __init__(self, *, folder: Path | None = None, tail: int = _TAIL, threads: int = 1) -> None:
        self._folder = folder
        self._tail = tail
        self._threads = threads
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._stopping = False
        self._working = False
        self._worker: threading.Thread | None = None
        self._known: _Known | None = None
        self._latest: VectorRows | None = None

    def search(
        self,
        rows: VectorRows,
        target: _Floats,
        k: int | None,
        *,
        threshold: float | None = None,
        among: _Mask | None = None,
    ) -> Found:
        """The rows most like a vector; a few may be missing.

        Args:
            rows: Where to look.
            target: ``(d,)`` float32 of unit length.
            k: How many at most; None takes all, and compares all.
            threshold: Lowest cosine that counts, inclusive; None takes all.
            among: ``(n,)`` whether a row may be found; None: any.

        Returns:
            Rows and their cosines, high to low, ties in the order of the rows; only rows that are alive.
        """
        keep = rows.findable(among)
        near, start = np.empty(0, dtype=np.intp), 0
        if k is not None and rows.count > self._tail:
            known = self._follow(rows)
            found = known.near(rows, target, k, keep)
            if found is not None:
                near, start = found, known.end
        places, scores = near, similarities(rows.matrix, target, near)
        if start < len(rows):
            rest = np.arange(start, len(rows)) if keep is None else start + np.flatnonzero(keep[start:])
            compared = similarities(rows.matrix, target, slice(start, None) if keep is None else rest)
            places, scores = np.concatenate([places, rest]), np.concatenate([scores, compared])
        order = top_k(scores, threshold, k)
        return Found(places[order], scores[order])

    def prepare(self, rows: VectorRows) -> bool:
        """Begin to take rows into the index; True when it answers for all of them but a few."""
        if rows.count <= self._tail:
            return True
        known = self._follow(rows)
        few = max(self._tail, len(rows) // _FEW_WAIT)
        return known.index is not None and len(rows) - known.end <= few

    def wait(self) -> None:
        """Wait until the thread that makes the index has nothing more to do."""
        if self._worker is not None:
            self._worker.join()

    def close(self) -> None:
        """Stop the thread and save the index; a later search goes on from there."""
        if self._pid != os.getpid():
            return
        self._stopping = True
        self.wait()
        self._stopping = False
        known, rows = self._known, self._latest
        if known is not None and rows is not None and known.unsaved > self._tail:
            self._save(known, rows)

    # -------------------------------------------------------------------- following the rows

    def _follow(self, rows: VectorRows) -> _Known:
        """What the index knows of these rows; wakes the thread where there is work for it."""
        if self._pid != os.getpid():  # the parent's threads may have held any of its locks
            self._begin()
        with self._lock:
            known = self._known
            if known is None or known.space != (rows.encoder, rows.matrix.shape[1]):
                known = self._open(rows)
            if known.origin is not rows.origin:
                known = known.placed(rows)
            self._known, self._latest = known, _later(rows, self._latest)
            if not self._working and not self._stopping and self._job(known, self._latest) is not None:
                self._working = True
                self._worker = threading.Thread(target=self._work, name="reverie-index", daemon=True)
                self._worker.start()
            return known

    def _open(self, rows: VectorRows) -> _Known:
        """The index that the folder has of these rows, or none."""
        space = rows.encoder, rows.matrix.shape[1]
        file = None if self._folder is None else IndexFile(self._folder, *space, self.made, self.name)
        none = _Known(space, file).placed(rows)
        if file is None or not file.intact():
            return none
        index = self.new(space[1])
        try:
            index.view(file.path)
        except RuntimeError:  # another process has replaced it since
            return none
        keys = np.sort(index.keys)
        saved = replace(none, index=index, mapped=True, keys=keys, saved=len(keys)).placed(rows)
        return saved if saved.fits(rows) else none

    def _work(self) -> None:
        while True:
            with self._lock:
                known, rows = self._known, self._latest
                job = None
                if known is not None and rows is not None and not self._stopping:
                    job = self._job(known, rows)
                if known is None or rows is None or job is None:
                    self._working = False
                    return
            job(known, rows)

    def _job(self, known: _Known, rows: VectorRows) -> Callable[[_Known, VectorRows], None] | None:
        """What is to be done, if anything."""
        if rows.count <= self._tail:
            return None
        if known.index is None or known.index.outgrown or len(known.keys) > 2 * rows.count:
            return self._build
        if len(rows) - known.end > self._tail:
            return self._grow
        return self._save if known.unsaved > max(self._tail, known.saved // _WORTH_SAVING) else None

    def _build(self, known: _Known, rows: VectorRows) -> None:
        """Make a whole index of what is there, aside; where it is stopped, of a part if there is none yet."""
        places = np.flatnonzero(rows.alive)
        keys, first = np.unique(_keys(rows.numbers)[places], return_index=True)
        places = places[first]
        index, done = self.new(rows.matrix.shape[1]), 0
        some = np.random.default_rng(0).permutation(places)[:_LOOKED_AT_FIRST]
        parts = [coded(rows.matrix[some[at : at + _AT_ONCE]]) for at in range(0, len(some), _AT_ONCE)]
        index.begin(np.concatenate(parts), len(places))
        while done < len(places) and not self._stopping:
            part = slice(done, done + _AT_ONCE)
            index.take(keys[part], coded(rows.matrix[places[part]]))
            done += len(keys[part])
        if done == len(places) or (done and known.index is None):
            index.settle()
            built = replace(known, index=index, mapped=False, keys=keys[:done], saved=0).placed(rows)
            self._publish(known, built.written())  # nobody searches in it yet: saving lets no search in

    def _grow(self, known: _Known, rows: VectorRows) -> None:
        """Take in some rows of the tail."""
        index = known.index
        if index is None or known.mapped:
            copied = None if index is None else index.copy()
            self._publish(known, replace(known, index=copied, mapped=False))
            return
        window = np.arange(known.end, min(known.end + _AT_ONCE, len(rows)))
        keys = _keys(rows.numbers[window])
        there = _where(known.keys, keys)[1]
        fresh = np.flatnonzero(rows.alive[window] & ~there)
        index.grow(keys[fresh], coded(rows.matrix[window[fresh]]))
        self._publish(known, known.grown(rows, window, keys, fresh))

    def _save(self, known: _Known, _: VectorRows) -> None:
        self._publish(known, known.written())

    def _publish(self, before: _Known, after: _Known) -> None:
        """Let searches use what was made of ``before``, unless they are about another index by now."""
        with self._lock:
            now, rows = self._known, self._latest
            if now is None or rows is None or now.index is not before.index or now.space != after.space:
                return
            self._known = after if now.origin is after.origin else after.placed(rows)


@dataclass(frozen=True, slots=True, eq=False)
class _Known:
    """An index, and which row each of its nodes is; never changes, but rows of the tail may be in the index.

    Attributes:
        space: Encoder and dimensions of the vectors.
        file: Where it is kept, if anywhere.
        index: The one that is asked; None while there is none.
        mapped: Whether the index is the file itself, which takes nothing in.
        keys: ``(m,)`` of the nodes, ascending.
        places: ``(m,)`` the row of each; -1 for none.
        origin: Whose places these are.
        end: All rows before it that are alive are nodes; from it on is the tail.
        dropped: How many rows before it are no nodes, since they were gone already.
        saved: How many nodes the file has.
    """

    space: tuple[str | None, int]
    file: IndexFile | None
    index: NearIndex | None = None
    mapped: bool = False
    keys: _Keys = field(default_factory=lambda: np.empty(0, dtype=np.uint64))
    places: _Places = field(default_factory=lambda: np.empty(0, dtype=np.intp))
    origin: object = None
    end: int = 0
    dropped: int = 0
    saved: int = 0

    @property
    def unsaved(self) -> int:
        return 0 if self.file is None else len(self.keys) - self.saved

    def near(self, rows: VectorRows, target: _Floats, k: int, keep: _Mask | None) -> _Places | None:
        """Nodes of which the best are part of the answer, in the order of the rows.

        None where comparing all is faster, where the index does not give enough of those that may be found,
        and for an older snapshot, in which rows are alive that are neither nodes nor in the tail.
        """
        count = len(rows) if keep is None else np.count_nonzero(keep)
        if self.index is None or len(rows) - rows.count < self.dropped:
            return None
        if count * count < _FEW * _FEW * len(rows):
            return None
        code, share = coded(target[None]), count / max(1, len(self.keys))
        for wider in (1, 4):
            found = self.index.nearest(code, k, min(1.0, share), wider)
            if found is None:
                return None
            keys, all_of_them = found
            at, there = _where(self.keys, keys)
            places = self.places[at] if there.all() else self.places[at[there]]
            known = (places >= 0) & (places < min(self.end, len(rows)))
            places = places if known.all() else places[known]
            if keep is not None:
                places = places[keep[places]]
            if len(places) >= k or all_of_them:
                return np.sort(places[: 4 * k + 16])
        return None

    def placed(self, rows: VectorRows) -> _Known:
        """The same index, its nodes found anew among rows of another origin."""
        keys = _keys(rows.numbers)
        at, there = _where(self.keys, keys)
        places = np.full(len(self.keys), -1, dtype=np.intp)
        for which in (
            there & ~rows.alive,
            there & rows.alive,
        ):  # of two rows of one key, the one that is alive
            places[at[which]] = np.flatnonzero(which)
        missing = np.flatnonzero(rows.alive & ~there)
        end = int(missing[0]) if len(missing) else len(rows)
        dropped = int(np.count_nonzero(~there[:end]))
        return replace(self, places=places, origin=rows.origin, end=end, dropped=dropped)

    def fits(self, rows: VectorRows) -> bool:
        """Whether most nodes are rows, and some that are looked at have the vectors of theirs."""
        there = np.flatnonzero(self.places >= 0)
        if self.index is None or 2 * len(there) < len(self.keys):
            return False
        some = there[np.linspace(0, len(there) - 1, min(len(there), _LOOKED_AT)).astype(int)]
        codes = coded(rows.matrix[self.places[some]])
        return np.array_equal(self.index.get(self.keys[some]), codes)

    def grown(self, rows: VectorRows, window: _Places, keys: _Keys, fresh: _Places) -> _Known:
        """The same with the rows of the window, of which ``fresh`` are new nodes."""
        merged = np.concatenate([self.keys, keys[fresh]])
        order = np.argsort(merged, kind="stable")
        merged, places = merged[order], np.concatenate([self.places, window[fresh]])[order]
        alive = np.flatnonzero(rows.alive[window])
        places[np.searchsorted(merged, keys[alive])] = window[alive]
        dropped = self.dropped + int(np.count_nonzero(~_where(merged, keys)[1]))
        return replace(self, keys=merged, places=places, end=int(window[-1]) + 1, dropped=dropped)

    def written(self) -> _Known:
        """The same, in the file as well; where the disk refuses, not before it has grown again."""
        if self.file is None or self.index is None:
            return self
        self.file.write(self.index.save, len(self.keys))
        return replace(self, saved=len(self.keys))


def _keys(numbers: NDArray[np.int64]) -> _Keys:
    return numbers.astype(np.uint64)


def _where(keys: _Keys, wanted: _Keys) -> tuple[_Places, _Mask]:
    """Where each wanted key is among ascending ones, and whether it is there."""
    if not len(keys):
        return np.zeros(len(wanted), dtype=np.intp), np.zeros(len(wanted), dtype=np.bool_)
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return at, keys[at] == wanted


def _later(rows: VectorRows, known: VectorRows | None) -> VectorRows:
    """The later one of two snapshots: rows come at the end, and only go."""
    if known is None or rows.origin is not known.origin:
        return rows
    return max(known, rows, key=lambda each: (len(each), -each.count))
