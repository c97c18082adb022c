"""`find_similar` over 75 entries of 512 numbers, against two peers that loop in Python.

Run ``python benchmarks/bench_search.py [--quick] [--folder DISK]``. The entries lie in five
clusters and the target in one of them, so about a fifth passes the threshold of 0.7. The candidates
are made before the clock starts, as the specification's figures have it; the rows "with" count them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from measure import Bar, Row, arguments, header, interleave, scratch, show
from naive import find_similar_arrays, find_similar_lists
from reverie.cache.aesthetic_matcher import AestheticMatcher
from reverie.cache.manager import CacheManager
from reverie.vectors import as_embedding, normalise

SIZE = 75
DIMENSIONS = 512


def clustered(count: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Unit vectors around five centres, cosine about .8 inside a cluster and 0 across."""
    rng = np.random.default_rng(0)
    centres = normalise(rng.standard_normal((5, DIMENSIONS)))
    noise = normalise(rng.standard_normal((count, DIMENSIONS)))
    return normalise(centres[np.arange(count) % 5] + 0.5 * noise)


def filled(folder: Path, index: str) -> CacheManager:
    """A cache of 75 small pictures with those vectors."""
    cache = CacheManager(folder, SIZE, index=index)
    picture = np.zeros((8, 8, 3), dtype=np.uint8)
    for row in clustered(SIZE):
        cache.add(picture, "a prompt", {"steps": 4}, row, encoder="bench")
    return cache


def compare(cache: CacheManager, rounds: int, calls: int) -> list[Row]:
    """All forms of one search, interleaved."""
    matcher = AestheticMatcher(encoder="descriptor")
    plain = clustered(SIZE + 1)[-1]
    target = as_embedding(plain, encoder="bench")  # what `encode_image` returns
    matrix = cache.embeddings()
    pairs = [(entry.cache_id, entry.embedding) for entry in cache.get_all()]
    arrays = [(cache_id, np.asarray(embedding)) for cache_id, embedding in pairs]
    lists = [(cache_id, embedding.tolist()) for cache_id, embedding in arrays]
    numbers = plain.tolist()
    assert [found for found, _ in matcher.find_similar(target, matrix)] == [
        found for found, _ in find_similar_lists(numbers, lists)
    ]
    taken = interleave(
        {
            "lists": lambda: find_similar_lists(numbers, lists),
            "arrays": lambda: find_similar_arrays(plain, arrays),
            "matrix": lambda: matcher.find_similar(target, matrix),
            "plain target": lambda: matcher.find_similar(plain, matrix),
            "with embeddings": lambda: matcher.find_similar(target, cache.embeddings()),
            "pairs": lambda: matcher.find_similar(target, pairs),
            "with get_all": lambda: matcher.find_similar(
                target, [(entry.cache_id, entry.embedding) for entry in cache.get_all()]
            ),
        },
        rounds=rounds,
        calls=calls,
    )
    loop, friendly = taken["lists"], taken["arrays"]
    return [
        Row("find_similar over 75, the cache's matrix", taken["matrix"], loop, Bar(at_most=30e-6)),
        Row("- against a loop over arrays", taken["matrix"], friendly),
        Row("- target a plain array", taken["plain target"], loop),
        Row("- with cache.embeddings()", taken["with embeddings"], loop),
        Row("find_similar over 75, the list of tuples", taken["pairs"], loop, Bar(at_most=150e-6)),
        Row("- against a loop over arrays", taken["pairs"], friendly),
        Row("- with cache.get_all()", taken["with get_all"], loop),
    ]


def main() -> None:
    """Print the table."""
    options = arguments("Time find_similar against loops in Python.")
    print(header(options.folder), end="\n\n")
    with scratch(options.folder) as folder, filled(folder, "json") as cache:
        show(compare(cache, rounds=4 if options.quick else 15, calls=100))


if __name__ == "__main__":
    main()
