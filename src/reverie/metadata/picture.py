"""What a picture file says of how it was made; plain data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

__all__ = ["PictureMetadata", "Texts", "cleaned", "number"]

Texts: TypeAlias = Mapping[str, str]
"""The texts that a file carries, by the name of their chunk or field."""

_DEEPEST = 12
_MOST = 2000  # values of a list or an object


@dataclass(frozen=True, slots=True)
class PictureMetadata:
    """How a picture was made, as far as its file says.

    Attributes:
        source: Which program says so: ``reverie``, ``AUTOMATIC1111``, ``ComfyUI``, ``InvokeAI``, ``Fooocus``,
            ``SwarmUI``, ``NovelAI``.
        prompt: The prompt; empty when none is known.
        params: What else, as JSON can hold it. Under the same names whatever wrote it, where it is known:
            ``negative_prompt``, ``seed``, ``steps``, ``cfg_scale``, ``sampler``, ``scheduler``, ``model``,
            ``denoise``, ``width``, ``height``; under the program's own names whatever else it says.
        parents: Ids of the entries it was made of, to their weights; only of reverie's own.
    """

    source: str
    prompt: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    parents: Mapping[str, float] = field(default_factory=dict)


def cleaned(value: Any, depth: int = 0) -> Any:
    """A value as every index can hold it: no NaN, no broken characters, not too deep, not too long."""
    if isinstance(value, str):
        return value.replace("\0", "").encode("utf-8", "replace").decode("utf-8")
    if value is None or isinstance(value, (bool, int, float)):
        return _plain(value)
    if depth >= _DEEPEST:
        return None
    if isinstance(value, Mapping):
        pairs = list(value.items())[:_MOST]
        return {cleaned(str(name)): cleaned(each, depth + 1) for name, each in pairs}
    if isinstance(value, (list, tuple)):
        return [cleaned(each, depth + 1) for each in value[:_MOST]]
    return cleaned(str(value))


def _plain(value: Any) -> float | str | None:
    if isinstance(value, int):
        return value if abs(value) < 2**63 else str(value)
    return None if value is None or not math.isfinite(value) else value


def number(text: str) -> int | float | str:
    """The number that a text is, else the text."""
    text = text.strip()
    try:
        if text.lstrip("+-").isdecimal() and len(text) < 24:
            return int(text)
        found = float(text) if len(text) < 40 and text[:1] in "+-.0123456789" else math.nan
    except ValueError:
        return text
    return found if math.isfinite(found) else text
