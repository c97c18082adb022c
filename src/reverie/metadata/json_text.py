"""JSON that others wrote: also with NaN, and never deeper than can be read."""

from __future__ import annotations

import json
from typing import Any

import orjson

__all__ = ["json_object"]


def json_object(text: str) -> dict[str, Any] | None:
    """The object that a text is; None when it is none. NaN and infinity are None."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:  # it may still be what Python and JavaScript write
        try:
            found = json.loads(text, parse_constant=lambda _: None)
        except (ValueError, RecursionError):
            return None
    return found if isinstance(found, dict) else None
