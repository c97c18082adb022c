"""Small seeded records, vectors and pictures for the suites."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

from reverie.entry import Record
from reverie.pixels import Pixels
from reverie.vectors import Embedding, as_embedding

__all__ = ["picture", "png_bytes", "record", "vector"]

_FIRST_NS = 1_760_000_000_000_000_000  # October 2025


def vector(seed: int, dimensions: int = 8, encoder: str | None = "suite-1") -> Embedding:
    """A seeded unit vector ``(dimensions,)`` stamped with ``encoder``."""
    return as_embedding(np.random.default_rng(seed).standard_normal(dimensions), encoder=encoder)


def picture(seed: int, height: int = 8, width: int = 8) -> Pixels:
    """Seeded noise, ``(height, width, 3)`` uint8."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def png_bytes(seed: int, height: int = 8, width: int = 8) -> bytes:
    """`picture` as the bytes of a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(picture(seed, height, width)).save(buffer, format="PNG")
    return buffer.getvalue()


def record(number: int, **changes: Any) -> Record:
    """The record of ``cache_<number>`` with every field filled; ``changes`` replace fields.

    Its last use lies ``number`` seconds after a fixed time, in whole microseconds.
    """
    cache_id = changes.get("cache_id", f"cache_{number:05d}")
    fields: dict[str, Any] = {
        "number": number,
        "cache_id": cache_id,
        "image_name": f"{cache_id}.png",
        "prompt": f"prompt {number}",
        "params": b'{"denoise":0.4,"steps":4}',
        "embedding": vector(number),
        "timestamp": f"2025-11-08T10:{number % 60:02d}:00.000001",
        "used_ns": _FIRST_NS + number * 1_000_000_000,
        "content_hash": f"{number:064x}",
        "byte_size": 100 + number,
        "parents": ("cache_00000",),
        "extra": b'{"score":0.5}',
    }
    return Record(**{**fields, **changes})
