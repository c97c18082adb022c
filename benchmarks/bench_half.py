"""Vectors kept as float16 against float32: room, time, and what rounding changes.

Run ``python benchmarks/bench_half.py [--quick] [--folder DISK]``: 100,000 vectors of 512 numbers (20,000 with
``--quick``) in clusters, as `scale.py` makes them; targets are like some of them. Both sides are searched by
`reverie.search.exact`, in turn. The error is that of the cosine with a target, and the true five are those of
float32.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from measure import Row, arguments, header, interleave, scratch, show
from reverie.cache.manager import CacheManager
from reverie.cache.sqlite_index import SqliteIndex
from reverie.entry import Record
from reverie.half import VECTOR_TYPES, Halves, halved
from reverie.search.exact import ExactSearch
from reverie.vectors import VectorRows, Vectors, as_embedding, similarities, stored_as, top_k
from scale import DIMENSIONS, K, clustered, targets


def records(rows: Vectors) -> Iterator[Record]:
    """Entries with these vectors."""
    for number, row in enumerate(rows, 1):
        cache_id, second = f"cache_{number:05d}", "2026-01-01T00:00:00"
        vector = as_embedding(row, encoder="bench")
        yield Record(
            number, cache_id, f"{cache_id}.png", "a prompt of some words", b"{}", vector, second, number,
            content_hash=f"{number:064x}", byte_size=400_000,
        )  # fmt: skip


def room(folder: Path, rows: Vectors) -> None:
    """Print what a whole cache of these vectors takes on the disk, and how long it takes to open it."""
    for vectors in VECTOR_TYPES:
        place = folder / vectors
        with closing(SqliteIndex(place, vectors=vectors)) as index:
            index.replace_all(records(rows), len(rows) + 1, {})
        start = time.perf_counter()
        with CacheManager(place, None) as cache:
            kept: Any = cache.vector_rows().matrix
            first = time.perf_counter() - start
            stored = kept.stored if isinstance(kept, Halves) else kept
            database = cache.index_path.stat().st_size
        mapped = sum(path.stat().st_blocks * 512 for path in (place / "metadata" / "vectors").glob("*.rows"))
        start = time.perf_counter()
        with CacheManager(place, None) as cache:
            cache.vector_rows()
            again = time.perf_counter() - start
        print(
            f"{vectors}: matrix {stored.nbytes / 1e6:,.1f} MB, mapped file {mapped / 1e6:,.1f} MB, database "
            f"{database / 1e6:,.1f} MB; all vectors read from it in {first:.2f} s, mapped in {again:.3f} s"
        )


def accuracy(rows: Vectors, wanted: Vectors) -> None:
    """Print what rounding changes: cosines, and the five most similar."""
    halves = Halves(halved(rows))
    largest, total, same, ordered = 0.0, 0.0, [], []
    for target in wanted:
        true, found = similarities(rows, target), similarities(halves, target)
        off = np.abs(true - found)
        largest, total = (
            max(largest, float(off.max())),
            total + float(np.square(off, dtype=np.float64).mean()),
        )
        five, other = top_k(true, None, K).tolist(), top_k(found, None, K).tolist()
        same.append(len({*five} & {*other}) / K)
        ordered.append(five == other)
    print(
        f"cosines of {len(rows):,} vectors with {len(wanted)} targets: largest error {largest:.2e}, root "
        f"mean square {np.sqrt(total / len(wanted)):.1e}; of the true {K}: {np.mean(same):.4f} found, all in "
        f"their order for {np.mean(ordered):.0%} of the targets"
    )


def speed(rows: Vectors, wanted: Vectors, rounds: int) -> list[Row]:
    """What is done with the matrix, float32 beside halves."""
    sides = {"float32": VectorRows.of(range(len(rows)), rows), "float16": None}
    sides["float16"] = VectorRows.of(range(len(rows)), Halves(halved(rows)))
    some = np.arange(len(rows)) % 20 == 0
    searchers = {name: ExactSearch() for name in sides}
    for name, given in sides.items():
        for target in wanted[:3]:  # from the second on, all rows are there in one byte a number
            searchers[name].search(given, target, K)
    turn = cycle(wanted)
    uses: dict[str, Callable[[str, VectorRows], object]] = {
        "search, exact": lambda name, given: searchers[name].search(given, next(turn), K),
        "search among one in twenty": lambda name, given: searchers[name].search(
            given, next(turn), K, among=some
        ),
        "the first search, all rows compared": lambda _, given: ExactSearch().search(given, next(turn), K),
        "the whole matrix, as `embeddings()` gives it": lambda _, given: np.asarray(given.matrix),
    }
    found = []
    for what, use in uses.items():
        calls = 20 if "exact" in what or "among" in what else 2
        taken = interleave(
            {name: partial(use, name, given) for name, given in sides.items()},
            rounds=rounds,
            calls=calls,
        )
        found.append(Row(f"{len(rows):,} float16: {what}", taken["float16"], taken["float32"]))
    one = as_embedding(rows[0], encoder="bench")
    taken = interleave({"round": lambda: stored_as(one, "float16")}, rounds=rounds, calls=100)
    return [*found, Row("float16: rounding of a vector that is added", taken["round"])]


def main() -> None:
    """Print the figures and the table."""
    options = arguments("Compare vectors as float16 with float32.")
    print(header(options.folder), end="\n\n")
    rows = clustered(20_000 if options.quick else 100_000)
    wanted = targets(rows)
    show(speed(rows, wanted, rounds=3 if options.quick else 10))
    print(f"\n{len(rows):,} vectors of {DIMENSIONS} numbers")
    accuracy(rows, wanted)
    with scratch(options.folder) as folder:
        room(folder, rows)


if __name__ == "__main__":
    main()
