r"""Which prompt a frame is made with: one, or several in turn, with parts that are drawn.

A schedule is a pure function of the frame's number: a run that is gone on with has the same prompts. Each
prompt is held for a number of frames; what is drawn in it is drawn anew when its turn comes.

In a prompt, ``{dawn|noon|night}`` is one of the three, also one within another, and ``__weather__`` a line of
``weather.txt`` in the folder of wildcards, in which there may be both again. ``\{`` is a brace.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from reverie.checks import check_seed, check_whole
from reverie.errors import InputError
from reverie.storage import storage_error

__all__ = ["PromptSchedule", "read_prompts", "read_wildcards"]

_WILDCARD = re.compile(r"__([A-Za-z0-9][A-Za-z0-9_./ -]*?)__")
_SPECIAL = re.compile(r"[{}|\\]")
_DEEPEST = 20  # wildcards within wildcards
_LONGEST = 100_000  # characters of a prompt that is written out


@dataclass(frozen=True, slots=True)
class PromptSchedule:
    """Prompts in turn.

    Args:
        prompts: At least one; with ``every``, one after the other, over and over.
        every: Frames that each is held for; None holds the first for ever.
        seed: Of what is drawn, from 0 to 2^63 - 1.
        wildcards: Lines by name.

    Raises:
        InputError: No prompt, ``every`` is not a number of at least 1, a brace is not closed, or a wildcard
            is not there or names itself.
    """

    prompts: Sequence[str]
    every: int | None = None
    seed: int = 0
    wildcards: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.prompts, str) or not self.prompts:
            raise InputError(f"prompts must be a list of at least one text, got {self.prompts!r}")
        for prompt in self.prompts:
            if not isinstance(prompt, str):
                raise InputError(f"a prompt must be text, got {prompt!r}")
            self._written(prompt, None, ())
        if self.every is not None:
            check_whole("every", self.every, 1)
        elif len(self.prompts) > 1:
            raise InputError("several prompts need to know for how many frames each is held: every=N")
        check_seed(self.seed)

    @property
    def digest(self) -> str:
        """The same for the same prompts, whoever reads them from wherever."""
        wildcards = sorted((name, list(lines)) for name, lines in self.wildcards.items())
        content = json.dumps([list(self.prompts), self.every, self.seed, wildcards]).encode()
        return hashlib.blake2b(content, digest_size=16).hexdigest()

    def at(self, frame: int) -> str:
        """The prompt of a frame, 1 for the first that is made."""
        turn = 0 if self.every is None else max(0, frame - 1) // self.every
        prompt = self.prompts[turn % len(self.prompts)]
        if "{" not in prompt and "__" not in prompt and "\\" not in prompt:
            return prompt
        return self._written(prompt, np.random.default_rng([turn, self.seed]), ())

    def _written(self, text: str, rng: np.random.Generator | None, inside: tuple[str, ...]) -> str:
        """A text with all that is drawn in it; without a ``rng`` everything that could be is looked at."""
        text = _WILDCARD.sub(lambda found: self._line(found[1].strip(), rng, inside), text)
        made = _Braces(text, rng).written()
        if len(made) > _LONGEST:
            raise InputError(f"a prompt grows to {len(made):,} characters: {text[:60]!r}...")
        return made

    def _line(self, name: str, rng: np.random.Generator | None, inside: tuple[str, ...]) -> str:
        lines = self.wildcards.get(name)
        if not lines:
            there = ", ".join(sorted(self.wildcards)) or "none"
            raise InputError(f"no wildcard is called {name!r}; there are: {there}")
        if name in inside or len(inside) >= _DEEPEST:
            raise InputError(f"the wildcard {name!r} leads to itself: {' > '.join((*inside, name))}")
        if rng is None:
            for line in lines:
                self._written(line, None, (*inside, name))
            return ""
        drawn = self._written(lines[int(rng.integers(len(lines)))], rng, (*inside, name))
        return _SPECIAL.sub(r"\\\g<0>", drawn)  # it is written already


class _Braces:
    """Reads choices in braces.

    Args:
        text: With ``{a|b}`` in it.
        rng: Chooses; None takes the first of each.
    """

    def __init__(self, text: str, rng: np.random.Generator | None) -> None:
        self._text = text
        self._rng = rng
        self._at = 0

    def written(self) -> str:
        made, end = self._until("")
        if end:
            raise InputError(f"a brace is closed that was never opened: {self._text!r}")
        return made

    def _until(self, ends: str) -> tuple[str, str]:
        """The text up to one of some characters, and that character; empty at the end of the text."""
        made: list[str] = []
        while self._at < len(self._text):
            character = self._text[self._at]
            self._at += 1
            if character == "\\" and self._text[self._at : self._at + 1] in ("{", "}", "|", "\\"):
                made.append(self._text[self._at])
                self._at += 1
            elif character == "{":
                made.append(self._choice())
            elif character in ends or character == "}":
                return "".join(made), character
            else:
                made.append(character)
        return "".join(made), ""

    def _choice(self) -> str:
        choices, end = [], "|"
        while end == "|":
            choice, end = self._until("|}")
            choices.append(choice)
        if end != "}":
            raise InputError(f"a brace is not closed: {self._text!r}; write \\{{ for the brace itself")
        return choices[0 if self._rng is None else int(self._rng.integers(len(choices)))]


def read_prompts(path: str | os.PathLike[str]) -> list[str]:
    """The prompts of a file, one a line; lines that begin with # and empty ones are passed over.

    Raises:
        InputError: There is no such file, no prompt in it, or it is no text in UTF-8.
        StorageError: It cannot be read.
    """
    prompts = _lines(Path(path))
    if not prompts:
        raise InputError(f"there is no prompt in {os.fspath(path)!r}: write one a line")
    return prompts


def read_wildcards(folder: str | os.PathLike[str]) -> dict[str, list[str]]:
    """The lines of every ``.txt`` file below a folder, by name: ``weather``, ``places/harbours``.

    Raises:
        InputError: There is no such folder, or a file is no text in UTF-8.
        StorageError: It cannot be read.
    """
    root = Path(folder)
    if not root.is_dir():
        raise InputError(f"no folder at {os.fspath(folder)!r}: expected one with wildcards as .txt files")
    try:
        files = sorted(path for path in root.rglob("*.txt") if path.is_file())
    except OSError as exc:
        raise storage_error(f"read {root}", exc) from exc
    return {path.relative_to(root).with_suffix("").as_posix(): _lines(path) for path in files}


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise InputError(f"no file at {str(path)!r}: expected one with a prompt a line") from None
    except UnicodeDecodeError as exc:
        raise InputError(f"{str(path)!r} is no text in UTF-8: {exc.reason} at byte {exc.start}") from exc
    except OSError as exc:
        raise storage_error(f"read {path}", exc) from exc
    stripped = (line.strip() for line in text.splitlines())
    return [line for line in stripped if line and not line.startswith("#")]
