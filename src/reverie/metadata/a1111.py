"""AUTOMATIC1111 and its kin (Forge, SD.Next), and what else writes its text: prompt, negative prompt, a line.

::

    a harbour at dusk
    Negative prompt: blurry
    Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 965400086, Size: 512x512, Version: v1.9
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from reverie.metadata.picture import PictureMetadata, Texts, number
from reverie.metadata.texts import EXIF_COMMENT

__all__ = ["infotext", "parsed", "read"]

_NEGATIVE = "Negative prompt:"
_PAIR = re.compile(r'\s*([A-Za-z][\w \-/.]{0,60}):\s*("(?:[^"\\]|\\.)*"|[^,]*)(?:,|$)')
_SIZE = re.compile(r"(\d{1,5})x(\d{1,5})")
_NAMES = {
    "Steps": "steps",
    "Sampler": "sampler",
    "Schedule type": "scheduler",
    "CFG scale": "cfg_scale",
    "Seed": "seed",
    "Model": "model",
    "Model hash": "model_hash",
    "Denoising strength": "denoise",
}
_THEIRS = {ours: theirs for theirs, ours in _NAMES.items()}
_LEAST = 3  # pairs that make a line of parameters


def read(texts: Texts) -> PictureMetadata | None:
    """What the chunk ``parameters`` says, or the comment in EXIF."""
    for name in ("parameters", EXIF_COMMENT, "comment", "ImageDescription"):
        found = parsed(texts[name]) if name in texts else None
        if found is not None:
            return found
    return None


def parsed(text: str) -> PictureMetadata | None:
    """What such a text says; None when it is none."""
    lines = text.strip().splitlines()
    if not lines:
        return None
    pairs = _pairs(lines[-1])
    if len(pairs) < _LEAST:
        return None
    told = list(_told(lines[:-1]))
    prompt = [line for is_negative, line in told if not is_negative]
    negative = [line for is_negative, line in told if is_negative]
    params: dict[str, Any] = {}
    for name, value in pairs.items():
        size = _SIZE.fullmatch(value) if name == "Size" else None
        if size is not None:
            params["width"], params["height"] = int(size[1]), int(size[2])
        else:
            params[_NAMES.get(name, name)] = number(value)
    if negative:
        params["negative_prompt"] = "\n".join(negative).strip()
    return PictureMetadata("AUTOMATIC1111", "\n".join(prompt).strip(), params)


def _told(lines: Iterable[str]) -> Iterator[tuple[bool, str]]:
    """Each line, and whether it is of the negative prompt."""
    negative = False
    for line in lines:
        if line.startswith(_NEGATIVE):
            negative = True
            yield negative, line.removeprefix(_NEGATIVE).strip()
        else:
            yield negative, line


def _pairs(line: str) -> dict[str, str]:
    """Names and values of a line that holds nothing else; empty for any other line."""
    found: dict[str, str] = {}
    at = 0
    while at < len(line):
        pair = _PAIR.match(line, at)
        if pair is None or pair.end() == at:
            return found if not line[at:].strip(" ,") else {}
        value = pair[2]
        if value.startswith('"'):
            try:
                value = str(json.loads(value))
            except ValueError:
                value = value.strip('"')
        found[pair[1].strip()] = value.strip()
        at = pair.end()
    return found


def infotext(prompt: str, params: Mapping[str, Any]) -> str:
    """The text of a picture, as such programs and their readers take it.

    Args:
        prompt: The prompt.
        params: By the common names (see `PictureMetadata`); others under their own.
    """
    given = dict(params)
    negative = given.pop("negative_prompt", "")
    pairs = []
    width, height = given.pop("width", None), given.pop("height", None)
    for name, value in given.items():
        if isinstance(value, (str, int, float)):
            pairs.append(f"{_THEIRS.get(name, name)}: {_quoted(value)}")
    if width and height:
        pairs.append(f"Size: {width}x{height}")
    lines = [prompt, *([f"{_NEGATIVE} {negative}"] if negative else []), ", ".join(pairs)]
    return "\n".join(line for line in lines if line)


def _quoted(value: str | int | float) -> str:
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if any(each in text for each in ',:"\n') else text
