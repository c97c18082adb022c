"""The peers that search vectors, each as a function from rows to a search for the k most similar."""

from __future__ import annotations

import atexit
import math
import os
import shutil
import tempfile
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


def sqlite_vec(rows: Any, k: int) -> Callable[[Any], list[int]]:
    """sqlite-vec's comparison of everything, in a database in memory."""
    import apsw  # many Pythons come without SQLite's way of loading extensions
    import sqlite_vec as extension

    database = apsw.Connection(":memory:")
    database.enable_load_extension(True)
    database.load_extension(extension.loadable_path())
    database.execute(
        f"CREATE VIRTUAL TABLE vectors USING vec0(embedding float[{rows.shape[1]}] distance_metric=cosine)"
    )
    values = ((at, row.tobytes()) for at, row in enumerate(rows))
    database.executemany("INSERT INTO vectors (rowid, embedding) VALUES (?, ?)", values)
    query = "SELECT rowid FROM vectors WHERE embedding MATCH ? AND k = ? ORDER BY distance"
    return lambda target: [row[0] for row in database.execute(query, (target.tobytes(), k))]


def qdrant_local(rows: Any, k: int) -> Callable[[Any], list[int]]:
    """qdrant-client without a server."""
    from qdrant_client import QdrantClient, models

    client = QdrantClient(":memory:")
    size = models.VectorParams(size=rows.shape[1], distance=models.Distance.COSINE)
    client.create_collection("rows", vectors_config=size)
    client.upload_collection("rows", vectors=rows, ids=range(len(rows)))
    return lambda target: [each.id for each in client.query_points("rows", query=target, limit=k).points]


def usearch_f16(rows: Any, k: int) -> Callable[[Any], list[int]]:
    """The graph of usearch with its defaults, in two bytes a number."""
    from reverie.search.graph_library import Index

    index = Index(ndim=rows.shape[1], metric="cos", dtype="f16")
    index.add(np.arange(len(rows)), rows)
    return lambda target: index.search(target, k).keys.tolist()


def faiss_hnsw(rows: Any, k: int) -> Callable[[Any], list[int]]:
    """faiss-cpu's graph, looked through far enough for a recall like ours."""
    import faiss

    index = faiss.IndexHNSWFlat(rows.shape[1], 16, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = 96
    faiss.omp_set_num_threads(os.cpu_count() or 1)
    index.add(rows)
    faiss.omp_set_num_threads(1)
    index.hnsw.efSearch = 64
    return lambda target: index.search(target[None], k)[1][0].tolist()


def faiss_ivf(rows: Any, k: int) -> Callable[[Any], list[int]]:
    """faiss-cpu's lists of near rows in one byte a number, as many lists as ours; eight are read."""
    import faiss

    faiss.omp_set_num_threads(2)
    lists = 2 ** round(math.log2(2 * math.sqrt(len(rows))))
    index = faiss.IndexIVFScalarQuantizer(
        faiss.IndexFlatIP(rows.shape[1]),
        rows.shape[1],
        lists,
        faiss.ScalarQuantizer.QT_8bit,
        faiss.METRIC_INNER_PRODUCT,
    )
    index.train(rows[np.random.default_rng(0).permutation(len(rows))[: 64 * lists]])
    index.add(rows)
    index.nprobe = 8
    faiss.omp_set_num_threads(1)
    return lambda target: index.search(target[None], k)[1][0].tolist()


def chroma(rows: Any, k: int) -> Callable[[Any], list[int]]:
    """A collection of chromadb in memory."""
    import chromadb

    client = chromadb.EphemeralClient()
    made = client.create_collection(f"rows{len(rows)}", metadata={"hnsw:space": "cosine"})
    for start in range(0, len(rows), 5000):
        part = rows[start : start + 5000]
        made.add(ids=[str(start + at) for at in range(len(part))], embeddings=part)
    return lambda target: [int(each) for each in made.query(target[None], n_results=k, include=[])["ids"][0]]


def lance(rows: Any, k: int) -> Callable[[Any], list[int]]:
    """Everything compared by lancedb, in a folder."""
    os.environ.setdefault("LANCE_LOG", "error")  # else every search warns of what is to change some day
    import lancedb

    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    data = [{"at": at, "vector": row} for at, row in enumerate(rows)]
    table = lancedb.connect(folder).create_table("rows", data=data)

    def search(target: Any) -> list[int]:
        found = table.search(target).distance_type("cosine").select(["at"]).limit(k).to_arrow()
        return found["at"].to_pylist()

    return search


PEERS: dict[str, Make] = {
    "numpy": numpy_product,
    "faiss flat": faiss_flat,
    "faiss bf16": faiss_bf16,
    "sqlite-vec": sqlite_vec,
    "lancedb": lance,
    "qdrant local": qdrant_local,
}
"""Those that compare everything, by name; one that is not installed raises ImportError."""

APPROXIMATE: dict[str, Make] = {
    "faiss hnsw": faiss_hnsw,
    "faiss ivf": faiss_ivf,
    "usearch": usearch_f16,
    "chromadb": chroma,
}
"""Those that compare some, in a graph or in lists."""
