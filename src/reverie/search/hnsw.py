"""Approximate search in a graph of near neighbours (HNSW, Malkov and Yashunin 2018), by usearch.

The graph holds every vector in one byte a number, and is only asked which rows may be near: those are
compared in float32, so every cosine is true, and only a row may be missing. Rows that are not in the graph
yet, the tail, are all compared. A thread takes them in when they are many, one at a time, since usearch
lets no search in while it adds; a whole graph is made aside, and answers once it is done.

A node's key is its vector's number: a vector that took another one's place is another node. Nodes of entries
that are gone are passed over, and the graph is made anew when they are the greater part: usearch can mark
nodes as removed, but their memory and the steps through them stay (unum-cloud/USearch#726, #355).
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from reverie.protocols import Found
from reverie.search.graph_file import GraphFile
from reverie.search.graph_library import Index
from reverie.vectors import VectorRows, Vectors, similarities, top_k

__all__ = ["HnswSearch"]

_Floats: TypeAlias = NDArray[np.float32]
_Keys: TypeAlias = NDArray[np.uint64]
_Mask: TypeAlias = NDArray[np.bool_]
_Places: TypeAlias = NDArray[np.intp]

_MADE: Final[dict[str, Any]] = {
    "format": 1,
    "metric": "cos",
    "dtype": "i8",
    "connectivity": 16,
    "expansion_add": 96,
}
_EXPANSION = 48, 16  # nodes looked at in a search of 100,000, and more for each ten times as many
_TAIL = 512  # rows that are compared in some 30 microseconds
_AT_ONCE = 256  # rows between two looks at whether to stop
_WORTH_SAVING = 4  # saved again when a part in so many is new
_LOOKED_AT = 16  # nodes of a file that are compared with their rows before it is used
_STEP = 16  # rows are compared in the time of a step through the graph
_FEW = 32  # m of n rows are compared as fast as the graph gives some of them, where m is 32 sqrt(n)


class HnswSearch:
    """Finds rows in a graph (``hnsw``): nearly always the true answer, in a time that hardly grows.

    Args:
        folder: Where the graph is kept from one process to the next; None: in memory only.
        tail: How many rows may wait outside the graph; as many are compared at once.
        threads: That make a whole graph.

    Several threads may search at once. Until the first graph is there, all rows are compared; `wait` waits
    for it. A fork begins anew, with the file.
    """

    name = "hnsw"
    exact = False

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
        """Begin to take rows into the graph; True when it answers for all of them but the tail."""
        if rows.count <= self._tail:
            return True
        known = self._follow(rows)
        return known.index is not None and len(rows) - known.end <= self._tail

    def wait(self) -> None:
        """Wait until the thread that makes the graph has nothing more to do."""
        if self._worker is not None:
            self._worker.join()

    def close(self) -> None:
        """Stop the thread and save the graph; a later search goes on from there."""
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
        """What the graph knows of these rows; wakes the thread where there is work for it."""
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
                self._worker = threading.Thread(target=self._work, name="reverie-graph", daemon=True)
                self._worker.start()
            return known

    def _open(self, rows: VectorRows) -> _Known:
        """The graph that the folder has of these rows, or none."""
        space = rows.encoder, rows.matrix.shape[1]
        file = None if self._folder is None else GraphFile(self._folder, *space, _MADE)
        none = _Known(space, file).placed(rows)
        if file is None or not file.intact():
            return none
        index = _index(space[1])
        try:
            index.view(file.path)
        except RuntimeError:  # another process has replaced it since
            return none
        keys = np.sort(index.keys[:])
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
        if known.index is None or len(known.keys) > 2 * rows.count:
            return self._build
        if len(rows) - known.end > self._tail:
            return self._grow
        return self._save if known.unsaved > max(self._tail, known.saved // _WORTH_SAVING) else None

    def _build(self, known: _Known, rows: VectorRows) -> None:
        """Make a whole graph of what is there, aside; where it is stopped, of a part."""
        places = np.flatnonzero(rows.alive)
        keys, first = np.unique(_keys(rows.numbers)[places], return_index=True)
        places = places[first]
        index, done = _index(rows.matrix.shape[1]), 0
        while done < len(places) and not self._stopping:
            part = slice(done, done + _AT_ONCE)
            index.add(keys[part], _coded(rows.matrix[places[part]]), threads=self._threads)
            done += len(keys[part])
        if done:
            built = replace(known, index=index, mapped=False, keys=keys[:done], saved=0).placed(rows)
            self._publish(known, built.written())  # nobody searches in it yet: saving lets no search in

    def _grow(self, known: _Known, rows: VectorRows) -> None:
        """Take in some rows of the tail, one at a time: a search waits for one at the most."""
        index = known.index
        if index is None or known.mapped:
            copied = None if index is None else index.copy()
            self._publish(known, replace(known, index=copied, mapped=False))
            return
        window = np.arange(known.end, min(known.end + _AT_ONCE, len(rows)))
        keys = _keys(rows.numbers[window])
        there = _where(known.keys, keys)[1]
        fresh = np.flatnonzero(rows.alive[window] & ~there)
        for key, code in zip(keys[fresh], _coded(rows.matrix[window[fresh]]), strict=True):
            index.add(key, code, threads=1)
        self._publish(known, known.grown(rows, window, keys, fresh))

    def _save(self, known: _Known, _: VectorRows) -> None:
        self._publish(known, known.written())

    def _publish(self, before: _Known, after: _Known) -> None:
        """Let searches use what was made of ``before``, unless they are about another graph by now."""
        with self._lock:
            now, rows = self._known, self._latest
            if now is None or rows is None or now.index is not before.index or now.space != after.space:
                return
            self._known = after if now.origin is after.origin else after.placed(rows)


@dataclass(frozen=True, slots=True, eq=False)
class _Known:
    """A graph, and which row each of its nodes is; never changes, but nodes of the tail may be in the graph.

    Attributes:
        space: Encoder and dimensions of the vectors.
        file: Where it is kept, if anywhere.
        index: The graph; None while there is none.
        mapped: Whether the graph is the file itself, which takes nothing in.
        keys: ``(m,)`` of the nodes, ascending.
        places: ``(m,)`` the row of each; -1 for none.
        origin: Whose places these are.
        end: All rows before it that are alive are nodes; from it on is the tail.
        dropped: How many rows before it are no nodes, since they were gone already.
        saved: How many nodes the file has.
    """

    space: tuple[str | None, int]
    file: GraphFile | None
    index: Index | None = None
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

        None where comparing all is faster, where the graph does not give enough of those that may be found,
        and for an older snapshot, in which rows are alive that are neither nodes nor in the tail.
        """
        count = len(rows) if keep is None else np.count_nonzero(keep)
        if self.index is None or len(rows) - rows.count < self.dropped:
            return None
        if count * count < _FEW * _FEW * len(rows):
            return None
        code = _coded(target[None])
        for wider in (1, 4):
            fetch = int(wider * max(_expansion(len(self.keys)), 2 * k) * len(self.keys) // count)
            if fetch * _STEP > count:
                return None
            keys = self.index.search(code, fetch, threads=1).keys
            at, there = _where(self.keys, keys)
            places = self.places[at] if there.all() else self.places[at[there]]
            known = (places >= 0) & (places < min(self.end, len(rows)))
            places = places if known.all() else places[known]
            if keep is not None:
                places = places[keep[places]]
            if len(places) >= k or len(keys) < fetch:
                return np.sort(places[: 4 * k + 16])
        return None

    def placed(self, rows: VectorRows) -> _Known:
        """The same graph, its nodes found anew among rows of another origin."""
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
        codes = _coded(rows.matrix[self.places[some]])
        held: Any = self.index.get(self.keys[some])
        return np.array_equal(np.asarray(held), codes)

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


def _index(dimensions: int) -> Index:
    made = {key: value for key, value in _MADE.items() if key != "format"}
    return Index(ndim=dimensions, expansion_search=_EXPANSION[0], **made)


def _expansion(nodes: int) -> int:
    """Nodes looked at for an answer: the more there are, the more for the same recall."""
    least, more = _EXPANSION
    return least + int(more * max(0.0, math.log10(max(nodes, 1) / 100_000)))


def _coded(matrix: Vectors) -> NDArray[np.int8]:
    """Rows as whole numbers from -127 to 127; their lengths do not matter to a cosine."""
    scales = np.float32(127) / np.abs(matrix).max(axis=1, keepdims=True)
    codes: NDArray[np.int8] = np.rint(matrix * scales).astype(np.int8)
    return codes


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
