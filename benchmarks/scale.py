"""Search in many vectors, against the peers: time, recall, bytes.

Run ``python benchmarks/scale.py [--quick] [--sizes 10000,100000] [--peers usearch]``; peers that are not
installed are left out by name (``make bench`` installs them). The vectors lie in clusters, a hundred to each,
cosine about .67 in a cluster (``--data scattered``: in none); targets are like some of them. Every answer has
five rows, and its share of the true five is the recall. Ours is `reverie.search` on a snapshot of rows, the
ids of the five looked up.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import cycle
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from measure import Bar, Row, header, interleave, show
from reverie.cache.vector_table import VectorTable
from reverie.search.approximate import ApproximateSearch
from reverie.search.exact import ExactSearch
from reverie.search.hnsw import HnswSearch
from reverie.search.ivf import IvfSearch
from reverie.vectors import VectorRows, Vectors, as_embedding, normalise
from search_peers import APPROXIMATE, PEERS

DIMENSIONS = 512
K = 5
BARS = {
    ("exact", 10_000): Bar(faster=4),
    ("exact", 100_000): Bar(faster=4),
    ("exact", 1_000_000): Bar(at_most=80e-3),
    ("ivf", 100_000): Bar(at_most=0.5e-3),
    ("ivf", 1_000_000): Bar(at_most=1.5e-3),
}
APPROXIMATE_FROM = 100_000  # vectors
SLOW_PEERS_UP_TO = 100_000
REMOVED_FROM = 100_000

OURS = ("exact", "ivf", "hnsw")

Search: TypeAlias = Callable[[Any], list[int]]


def clustered(count: int) -> Vectors:
    """Unit vectors around centres, a hundred to each."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((max(5, count // 100), DIMENSIONS), dtype=np.float32)
    rows = np.empty((count, DIMENSIONS), dtype=np.float32)
    for start in range(0, count, 10_000):
        part = rows[start : start + 10_000]
        part[:] = centres[rng.integers(len(centres), size=len(part))]
        part += 0.7 * rng.standard_normal(part.shape, dtype=np.float32)
        part /= np.linalg.norm(part, axis=1)[:, None]
    return rows


def scattered(count: int) -> Vectors:
    """Unit vectors in no clusters, in some directions more than in others, as those of pictures are."""
    rng = np.random.default_rng(0)
    turned, _ = np.linalg.qr(rng.standard_normal((DIMENSIONS, DIMENSIONS)))
    stretched = np.float32(turned / np.arange(1, DIMENSIONS + 1)[:, None] ** 0.7)
    rows = np.empty((count, DIMENSIONS), dtype=np.float32)
    for start in range(0, count, 10_000):
        part = rows[start : start + 10_000]
        part[:] = rng.standard_normal(part.shape, dtype=np.float32) @ stretched
        part /= np.linalg.norm(part, axis=1)[:, None]
    return rows


DATA = {"clustered": clustered, "scattered": scattered}


def targets(rows: Vectors, count: int = 100) -> Vectors:
    """Vectors like some of the rows."""
    rng = np.random.default_rng(1)
    near = rows[rng.integers(len(rows), size=count)]
    return normalise(near + 0.5 * normalise(rng.standard_normal((count, DIMENSIONS))))


def exact(rows: Vectors) -> Search:
    """Ours."""
    searcher = ExactSearch()
    given = VectorRows.of(range(len(rows)), rows)
    return lambda target: [given.ids[place] for place in searcher.search(given, target, K).places.tolist()]


def approximate(searcher: ApproximateSearch, rows: Vectors) -> Search:
    """Ours, approximate, with all rows taken in; how long that took is printed."""
    given = VectorRows.of(range(len(rows)), rows)
    start = time.perf_counter()
    searcher.prepare(given)
    searcher.wait()
    taken = f"{len(rows):,} vectors taken in in {time.perf_counter() - start:.0f} s"
    print(f"  {searcher.name}: {taken}", file=sys.stderr)
    return lambda target: [given.ids[place] for place in searcher.search(given, target, K).places.tolist()]


def recall(search: Search, rows: Vectors, wanted: Vectors) -> float:
    """Share of the true five that a search finds."""
    true = np.argpartition(-(rows @ wanted.T), K, axis=0)[:K]
    return float(np.mean([np.isin(search(each), true[:, at]).mean() for at, each in enumerate(wanted)]))


def asking(search: Search, wanted: Vectors) -> Callable[[], object]:
    """A call that searches for the next target."""
    turn: Iterator[Any] = cycle(wanted)
    return lambda: search(next(turn))


def compare(rows: Vectors, rounds: int, calls: int, only: list[str]) -> list[Row]:
    """All searches in these rows, interleaved; ``only`` names the peers, and is empty for all."""
    count = len(rows)
    wanted = targets(rows)
    searches: dict[str, Search] = {"exact": exact(rows)}
    peers = dict(PEERS)
    if count >= APPROXIMATE_FROM:
        searches["ivf"] = approximate(IvfSearch(), rows)
        if not only or "hnsw" in only:
            searches["hnsw"] = approximate(HnswSearch(threads=2), rows)
        peers.update(APPROXIMATE)
    if count > SLOW_PEERS_UP_TO:
        peers = {name: peers[name] for name in ("numpy", "faiss bf16", "usearch", "faiss hnsw", "faiss ivf")}
    peers = {name: make for name, make in peers.items() if not only or name in ("numpy", *only)}
    for name, make in peers.items():
        try:
            searches[name] = make(rows, K)
        except ImportError as error:
            print(f"  left out: {name} ({error})")
    shares = {name: recall(search, rows, wanted) for name, search in searches.items()}
    assert shares["exact"] == 1.0
    taken = interleave(
        {name: asking(search, wanted) for name, search in searches.items()}, rounds=rounds, calls=calls
    )
    return [
        Row(
            f"search {count:,}: {name} ({'' if name in OURS else 'peer, '}recall {shares[name]:.3f})",
            timing,
            taken["numpy"],
            BARS.get((name, count)),
        )
        for name, timing in taken.items()
    ]


def removing(rows: Vectors) -> list[Row]:
    """One vector is taken out, and a search has its rows without it; the peer's graph marks it."""
    table = VectorTable()
    for number, row in enumerate(rows, 1):
        table.put(f"cache_{number}", as_embedding(row, encoder="e"), number)
    ours, theirs = iter(range(1, len(rows) + 1)), iter(range(len(rows)))

    def remove() -> None:
        table.discard(f"cache_{next(ours)}")
        assert table.rows("e").count < len(rows)

    sides: dict[str, Callable[[], object]] = {"ours": remove}
    with suppress(ImportError):
        from reverie.search.graph_library import Index

        graph = Index(ndim=DIMENSIONS, metric="cos", dtype="i8")
        graph.add(np.arange(len(rows)), rows, threads=2)
        sides["usearch"] = lambda: graph.remove(next(theirs))
    taken = interleave(sides, rounds=10, calls=50)
    return [Row(f"remove one of {len(rows):,}", taken["ours"], taken.get("usearch"), Bar(at_most=50e-6))]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Time searches in many vectors.")
    parser.add_argument("--quick", action="store_true", help="fewer rounds: a look, not a result")
    parser.add_argument("--sizes", default="75,1000,10000,100000", help="how many vectors, with commas")
    parser.add_argument("--data", choices=DATA, default="clustered", help="in clusters, or not")
    parser.add_argument("--peers", default="", help="only these beside numpy, with commas")
    options = parser.parse_args()
    only = [name for name in options.peers.split(",") if name]
    print(header(Path.cwd()), end="\n\n")
    head = True
    for size in (int(text) for text in options.sizes.split(",")):
        rows = DATA[options.data](size)
        show(compare(rows, 3 if options.quick else 10, 20 if size < 10**6 else 5, only), head=head)
        head = False
        if size == REMOVED_FROM:
            show(removing(rows), head=False)


if __name__ == "__main__":
    main()
