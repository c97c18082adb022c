"""Exports as Parquet: the one place that imports pyarrow."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from reverie.cache.export_files import Write, new_file
from reverie.cache.export_record import Exported
from reverie.errors import InputError

__all__ = ["parquet_export"]

_ROWS = 1000  # of a group at most
_GROUP_BYTES = 1 << 25  # of images in a group, about: what is in memory at a time

_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_TEXT = {"dtype": "string", "_type": "Value"}

_COLUMNS: dict[str, tuple[pa.DataType, dict[str, Any]]] = {
    "image": (_IMAGE, {"_type": "Image"}),
    "cache_id": (pa.string(), _TEXT),
    "prompt": (pa.string(), _TEXT),
    "generation_params": (pa.string(), _TEXT),
    "timestamp": (pa.string(), _TEXT),
    "last_used": (pa.timestamp("ns", "UTC"), {"dtype": "timestamp[ns, tz=UTC]", "_type": "Value"}),
    "pinned": (pa.bool_(), {"dtype": "bool", "_type": "Value"}),
    "parents": (pa.list_(pa.string()), {"feature": _TEXT, "_type": "Sequence"}),
    "content_hash": (pa.string(), _TEXT),
    "byte_size": (pa.int64(), {"dtype": "int64", "_type": "Value"}),
    "encoder": (pa.string(), _TEXT),
    "extra": (pa.string(), _TEXT),
}
"""Arrow's type of each column, and what Hugging Face's ``datasets`` calls it."""


@contextmanager
def parquet_export(path: Path, dimensions: int | None) -> Iterator[Write]:
    """A Parquet file, written a row group at a time.

    Args:
        path: Its name.
        dimensions: Numbers of a vector, for a column ``embedding`` of that length; None for no such column.

    Raises:
        InputError: A vector of another length.
        OSError: As the system reports it.
    """
    schema = _schema(dimensions)
    with new_file(path) as file, pq.ParquetWriter(file, schema, **_settings(schema)) as writer:
        rows = _Rows(writer, schema, dimensions)
        yield rows.add
        rows.flush()


def _schema(dimensions: int | None) -> pa.Schema:
    columns = dict(_COLUMNS)
    if dimensions is not None:
        feature = {"feature": {"dtype": "float32", "_type": "Value"}, "length": dimensions}
        columns["embedding"] = (pa.list_(pa.float32(), dimensions), {**feature, "_type": "Sequence"})
    features = {name: feature for name, (_, feature) in columns.items()}
    told = {"huggingface": json.dumps({"info": {"features": features}})}
    return pa.schema([(name, kind) for name, (kind, _) in columns.items()], metadata=told)


def _settings(schema: pa.Schema) -> dict[str, Any]:
    """Images are compressed already; vectors hardly can be."""
    as_they_are = {"image.bytes", "embedding.list.element"}
    leaves = pq.ParquetFile(_empty(schema)).schema
    paths = [leaves.column(at).path for at in range(len(leaves))]
    return {
        "compression": {path: "none" if path in as_they_are else "zstd" for path in paths},
        "use_dictionary": ["encoder"],
    }


def _empty(schema: pa.Schema) -> pa.BufferReader:
    sink = pa.BufferOutputStream()
    pq.write_table(schema.empty_table(), sink)
    return pa.BufferReader(sink.getvalue())


class _Rows:
    """Rows that wait for their group to be full."""

    def __init__(self, writer: pq.ParquetWriter, schema: pa.Schema, dimensions: int | None) -> None:
        self._writer, self._schema, self._dimensions = writer, schema, dimensions
        self._waiting: list[dict[str, Any]] = []
        self._bytes = 0

    def add(self, item: Exported) -> None:
        self._waiting.append(self._row(item))
        self._bytes += len(item.image or b"")
        if len(self._waiting) >= _ROWS or self._bytes >= _GROUP_BYTES:
            self.flush()

    def flush(self) -> None:
        if self._waiting:
            self._writer.write_table(pa.Table.from_pylist(self._waiting, schema=self._schema))
        self._waiting, self._bytes = [], 0

    def _row(self, item: Exported) -> dict[str, Any]:
        entry = item.entry
        row: dict[str, Any] = {
            "image": None if item.image is None else {"bytes": item.image, "path": item.file_name},
            "cache_id": entry.cache_id,
            "prompt": entry.prompt,
            "generation_params": orjson.dumps(entry.generation_params).decode(),
            "timestamp": entry.timestamp,
            "last_used": entry.used_ns,
            "pinned": entry.pinned,
            "parents": list(entry.parents),
            "content_hash": entry.content_hash,
            "byte_size": entry.byte_size,
            "encoder": entry.encoder,
            "extra": orjson.dumps(entry.extra).decode(),
        }
        if self._dimensions is not None:
            row["embedding"] = self._vector(item)
        return row

    def _vector(self, item: Exported) -> np.ndarray[Any, np.dtype[np.float32]] | None:
        vector = item.entry.embedding
        if vector is None:
            return None
        if vector.size != self._dimensions:
            raise InputError(
                f"the vector of {item.entry.cache_id!r} has {vector.size} numbers, those before it "
                f"{self._dimensions}: a column of Parquet holds vectors of one length"
            )
        return np.asarray(vector)
