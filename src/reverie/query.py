"""Which entries a question is about: words of the prompt, parameters, time, pins, encoder.

An index answers it as it can, by SQL or by looking at each record; what an answer must be is said here.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import orjson

from reverie.entry import Record, timestamp_ns
from reverie.errors import InputError

__all__ = ["Step", "Where", "json_path", "param", "phrases", "tokens"]

Step: TypeAlias = str | int
"""One step into parameters: a key, or a place in a list."""

_PHRASE = re.compile(r'"([^"]*)"?|(\S+)')
_WORD = re.compile(r"[^\W_]+")
_PATH = re.compile(r"([^.\[\]\"]+)|\[(\d+)\]")
_SCALARS = (str, int, float, bool, type(None))


@dataclass(frozen=True, slots=True)
class Where:
    """Conditions that all hold; without any, every entry is meant.

    Attributes:
        words: Words that are all in the prompt, in any order, without regard to case and accents; a word
            that ends in ``*`` is the beginning of one, and words in double quotes stand side by side.
        params: Values that ``generation_params`` has, by path: ``steps``, ``sampler.name``, ``loras[0]``.
            Numbers are equal as numbers, and None is also what is not there.
        since: Earliest time of the add, nanoseconds since the epoch.
        until: Time of the add before which it was, nanoseconds since the epoch.
        pinned: Whether it is pinned; None: either.
        encoder: Name of the encoder of its vector; None: any, or none.

    Raises:
        InputError: ``words`` holds no word, a path cannot be read, or a value is neither text, number,
            bool nor None.
    """

    words: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    since: int | None = None
    until: int | None = None
    pinned: bool | None = None
    encoder: str | None = None

    def __post_init__(self) -> None:
        if self.words and not phrases(self.words):
            raise InputError(f"{self.words!r} holds no word to look for in prompts")
        for path, value in self.params.items():
            json_path(path)
            if not isinstance(value, _SCALARS) or (isinstance(value, float) and not math.isfinite(value)):
                raise InputError(
                    f"the parameter {path!r} is compared with text, a number, true, false or null; "
                    f"got {value!r}"
                )

    def __bool__(self) -> bool:
        """Whether there is any condition."""
        return bool(self.words or self.params) or (self.since, self.until, self.pinned, self.encoder) != (
            None,
            None,
            None,
            None,
        )

    def holds(self, record: Record) -> bool:
        """Whether all conditions hold for an entry."""
        if self.pinned is not None and record.pinned != self.pinned:
            return False
        vector = record.embedding
        if self.encoder is not None and (vector is None or vector.encoder != self.encoder):
            return False
        if self.since is not None or self.until is not None:
            added = timestamp_ns(record.timestamp)
            if not (self.since or -math.inf) <= added < (math.inf if self.until is None else self.until):
                return False
        if self.params:
            held = orjson.loads(record.params)
            if not all(_same(param(held, path), value) for path, value in self.params.items()):
                return False
        return not self.words or _has(tokens(record.prompt), phrases(self.words))


def phrases(words: str) -> list[tuple[tuple[str, ...], bool]]:
    """What `Where.words` asks for: words that stand side by side, and whether the last is a beginning."""
    found = []
    for quoted, single in _PHRASE.findall(words):
        text = quoted or single
        side_by_side = tuple(tokens(text))
        if side_by_side:
            found.append((side_by_side, text.endswith("*")))
    return found


def tokens(text: str) -> list[str]:
    """The words of a text in small letters without accents."""
    plain = "".join(
        each for each in unicodedata.normalize("NFKD", text.lower()) if not unicodedata.combining(each)
    )
    return _WORD.findall(plain)


def json_path(path: str) -> list[Step]:
    """The steps of a path such as ``loras[0].name``.

    Raises:
        InputError: It is empty, or its brackets are not those of a place in a list.
    """
    steps: list[Step] = [int(place) if place else key for key, place in _PATH.findall(path)]
    again = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps).lstrip(".")
    if not steps or again != path or isinstance(steps[0], int):
        raise InputError(f"{path!r} is no path to a parameter: such are steps, sampler.name, loras[0].name")
    return steps


def param(params: Mapping[str, Any], path: str) -> Any:
    """What stands at a path; None where there is nothing."""
    value: Any = params
    for step in json_path(path):
        if isinstance(step, int):
            value = value[step] if isinstance(value, list) and step < len(value) else None
        else:
            value = value.get(step) if isinstance(value, dict) else None
    return value


def _same(held: Any, wanted: Any) -> bool:
    if isinstance(held, bool) or isinstance(wanted, bool):
        return held is wanted
    return bool(held == wanted)


def _has(held: Sequence[str], wanted: Sequence[tuple[tuple[str, ...], bool]]) -> bool:
    return all(
        any(_stands(held[place : place + len(words)], words, begins) for place in range(len(held)))
        for words, begins in wanted
    )


def _stands(held: Sequence[str], words: Sequence[str], begins: bool) -> bool:
    if len(held) != len(words) or list(held[:-1]) != list(words[:-1]):
        return False
    return held[-1].startswith(words[-1]) if begins else held[-1] == words[-1]
