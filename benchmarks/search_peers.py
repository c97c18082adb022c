"""The peers that search vectors, each as a function from rows to a search for the k most similar."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

Make: TypeAlias = Callable[[Any, int], Callable[[Any], list[int]]]


def numpy_product(rows: Any, k: int) -> Callable[[Any], list[int]]:
    """One product of matrix and vector, then the highest."""

    def search(target: Any) -> list[int]:
        scores = rows @ target
        best = np.argpartition(-scores, k)[:k]
        return best[np.argsort(-scores[best])].tolist()

    return search


def faiss_flat(rows: Any, k: int) -> Callable[[Any], list[int]]:
    """faiss-cpu's comparison of everything."""
    import faiss

    faiss.omp_set_num_threads(1)
    index = faiss.IndexFlatIP(rows.shape[1])
    index.add(rows)
    return lambda target: index.search(target[None], k)[1][0].tolist()


def faiss_bf16(rows: Any, k: int) -> Callable[[Any], list[int]]:
    """faiss-cpu's comparison of everything in two bytes a number."""
    import faiss

    index = faiss.IndexScalarQuantizer(
        rows.shape[1], faiss.ScalarQuantizer.QT_bf16, faiss.METRIC_INNER_PRODUCT
    )
    index.train(rows)
    index.add(rows)
    return lambda target: index.search(target[None], k)[1][0].tolist()


PEERS: dict[str, Make] = {"numpy": numpy_product, "faiss flat": faiss_flat, "faiss bf16": faiss_bf16}
"""By name; one that is not installed raises ImportError."""
