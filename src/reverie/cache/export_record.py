"""One exported entry: the name of its image, and its record as JSON."""

from __future__ import annotations

import base64
import re
import unicodedata
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from reverie.entry import CacheEntry
from reverie.vectors import to_bytes

__all__ = ["VECTORS", "Exported", "json_line"]

VECTORS = ("numbers", "base64", "none")
"""How vectors stand in JSON."""

_WORDS = 48  # characters of the prompt in a name, at most


@dataclass(frozen=True, slots=True)
class Exported:
    """An entry on its way into an export.

    Attributes:
        entry: The entry.
        number: Its place in the export, from 1.
        image: The bytes of its image; None where it has none, or none is exported.
    """

    entry: CacheEntry
    number: int
    image: bytes | None

    @property
    def file_name(self) -> str:
        """A name for its image that a person can read and nothing else in the export has.

        ``cache_00042-a-city-of-glass.png``: ids of ours are each other's beginning nowhere before the
        hyphen; an id of another program gets the entry's place in front.
        """
        cache_id, suffix = self.entry.cache_id, self.entry.image_path.suffix
        own = re.fullmatch(r"cache_\d{5,15}", cache_id)
        head = cache_id if own else f"entry_{self.number}-{_words(cache_id)}"
        words = _words(self.entry.prompt)
        return f"{head}-{words}{suffix}" if words else f"{head}{suffix}"


def _words(text: str) -> str:
    """The first words of a text, as a file name may hold them on every system."""
    words = re.findall(r"[^\W_]+", unicodedata.normalize("NFKC", text[: 4 * _WORDS]).casefold())
    joined = "-".join(words)
    if len(joined) <= _WORDS:
        return joined
    whole, _, _ = joined[: _WORDS + 1].rpartition("-")
    return whole or joined[:_WORDS]


def json_line(item: Exported, vectors: str, *, in_cache: bool = False) -> bytes:
    """The record of an entry on one line, what says where its image is first.

    Args:
        item: The entry.
        vectors: One of `VECTORS`.
        in_cache: Whether to name the image in the cache (``image_path``), not that of the export
            (``file_name``).
    """
    entry = item.entry
    fields: dict[str, Any] = {
        **({"image_path": str(entry.image_path)} if in_cache else {}),
        **({"file_name": item.file_name} if item.image is not None else {}),
        "cache_id": entry.cache_id,
        "prompt": entry.prompt,
        "generation_params": entry.generation_params,
        "timestamp": entry.timestamp,
        "last_used": entry.last_used,
        "pinned": entry.pinned,
        "parents": list(entry.parents),
        "content_hash": entry.content_hash,
        "byte_size": entry.byte_size,
        "encoder": entry.encoder,
        **({} if vectors == "none" else {"embedding": _vector(entry, vectors)}),
        "extra": entry.extra,
    }
    return orjson.dumps(fields, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)


def _vector(entry: CacheEntry, vectors: str) -> Any:
    if entry.embedding is None:
        return None
    if vectors == "base64":
        return base64.b64encode(to_bytes(entry.embedding)).decode()
    return np.asarray(entry.embedding)
