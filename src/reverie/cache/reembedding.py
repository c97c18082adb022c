"""What another vector changes in a stored record beside the vector itself."""

from __future__ import annotations

from dataclasses import replace

import orjson

from reverie.entry import Record
from reverie.vectors import Embedding

__all__ = ["with_embedding", "without_vector_keys"]

_OF_THE_VECTOR = ("embedding", "encoder")
"""Keys in `Record.extra` that go before the vector's own when the record is written as JSON: the vector
as another program wrote it, and an encoder named without one."""


def without_vector_keys(extra: bytes) -> bytes:
    """`Record.extra` (a JSON object) without what described the vector up to now."""
    if extra == b"{}":
        return extra
    keys = orjson.loads(extra)
    kept = {key: value for key, value in keys.items() if key not in _OF_THE_VECTOR}
    return extra if len(kept) == len(keys) else orjson.dumps(kept)


def with_embedding(record: Record, embedding: Embedding | None) -> Record:
    """The same record with another vector, or with none."""
    return replace(record, embedding=embedding, extra=without_vector_keys(record.extra))
