"""Fooocus, SwarmUI, InvokeAI and NovelAI: JSON under names of their own."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from reverie.metadata import a1111
from reverie.metadata.json_text import json_object
from reverie.metadata.picture import PictureMetadata, Texts, number
from reverie.metadata.texts import EXIF_COMMENT

__all__ = ["fooocus", "invokeai", "novelai", "swarmui"]


def swarmui(texts: Texts) -> PictureMetadata | None:
    """SwarmUI: ``parameters`` (or the comment in EXIF) with an object ``sui_image_params``."""
    for name in ("parameters", EXIF_COMMENT):
        whole = json_object(texts.get(name, ""))
        given = whole.get("sui_image_params") if whole else None
        if isinstance(given, Mapping):
            names = {"cfgscale": "cfg_scale", "negativeprompt": "negative_prompt"}
            names["initimagecreativity"] = "denoise"
            return _made("SwarmUI", given, "prompt", names)
    return None


def fooocus(texts: Texts) -> PictureMetadata | None:
    """Fooocus: ``parameters`` as JSON, or A1111's text, by ``fooocus_scheme`` (in EXIF: the maker's note)."""
    scheme = texts.get("fooocus_scheme") or texts.get("MakerNote", "")
    if scheme not in ("fooocus", "a1111"):
        return None
    text = texts.get("parameters") or texts.get(EXIF_COMMENT, "")
    if scheme == "a1111":
        found = a1111.parsed(text)
        return found and PictureMetadata("Fooocus", found.prompt, found.params)
    given = json_object(text)
    if not given:
        return None
    names = {"guidance_scale": "cfg_scale", "base_model": "model", "base_model_hash": "model_hash"}
    made = _made("Fooocus", given, "prompt", names)
    sides = re.findall(r"\d+", str(given.get("resolution", "")))
    if len(sides) == 2:
        params = {**made.params, "width": number(sides[0]), "height": number(sides[1])}
        params.pop("resolution", None)
        return PictureMetadata(made.source, made.prompt, params)
    return made


def invokeai(texts: Texts) -> PictureMetadata | None:
    """InvokeAI: ``invokeai_metadata``, before that ``sd-metadata``, before that the command in ``Dream``."""
    given = json_object(texts.get("invokeai_metadata", ""))
    if given:
        names = {"scheduler": "sampler", "strength": "denoise"}
        made = _made("InvokeAI", given, "positive_prompt", names)
        return _named_model(made, given.get("model"))
    given = json_object(texts.get("sd-metadata", ""))
    if given and isinstance(given.get("image"), Mapping):
        image = dict(given["image"])
        parts = image.get("prompt")
        if isinstance(parts, list):
            words = [str(each.get("prompt", "")) for each in parts if isinstance(each, Mapping)]
            image["prompt"] = ", ".join(words)
        made = _made("InvokeAI", image, "prompt", {"strength": "denoise"})
        return _named_model(made, given.get("model_weights"))
    return _dream(texts["Dream"]) if "Dream" in texts else None


def _named_model(made: PictureMetadata, model: Any) -> PictureMetadata:
    if isinstance(model, Mapping):
        model = model.get("name") or model.get("model_name") or model.get("key")
    return (
        made if not model else PictureMetadata(made.source, made.prompt, {**made.params, "model": str(model)})
    )


_SWITCHES = {"-s": "steps", "-S": "seed", "-W": "width", "-H": "height", "-C": "cfg_scale", "-A": "sampler"}


def _dream(command: str) -> PictureMetadata | None:
    try:
        words = shlex.split(command[:20_000])
    except ValueError:
        return None
    if not words:
        return None
    params: dict[str, Any] = {}
    for switch, value in pairwise(words):
        if switch in _SWITCHES:
            params[_SWITCHES[switch]] = number(value)
        elif switch[:2] in _SWITCHES and len(switch) > 2:
            params[_SWITCHES[switch[:2]]] = number(switch[2:])
    if words[-1][:2] in _SWITCHES and len(words[-1]) > 2:
        params[_SWITCHES[words[-1][:2]]] = number(words[-1][2:])
    return PictureMetadata("InvokeAI", words[0], params) if params else None


def novelai(texts: Texts) -> PictureMetadata | None:
    """NovelAI: ``Description`` and, as JSON, ``Comment``."""
    if "NovelAI" not in texts.get("Software", "") and "NovelAI" not in texts.get("Source", ""):
        return None
    given = dict(json_object(texts.get("Comment", "")) or {})
    caption = given.pop("v4_prompt", None)
    negative = given.pop("v4_negative_prompt", None)
    given.setdefault("prompt", texts.get("Description") or _caption(caption))
    if not given.get("uc"):
        given["uc"] = _caption(negative)
    names = {"uc": "negative_prompt", "scale": "cfg_scale", "strength": "denoise"}
    made = _made("NovelAI", given, "prompt", names)
    return _named_model(made, texts.get("Source"))


def _caption(part: Any) -> str:
    caption = part.get("caption") if isinstance(part, Mapping) else None
    return str(caption.get("base_caption", "")) if isinstance(caption, Mapping) else ""


def _made(source: str, given: Mapping[str, Any], prompt: str, names: Mapping[str, str]) -> PictureMetadata:
    """By the common names; what has none keeps its own, and what is empty is left out."""
    params = {
        names.get(name, name): value
        for name, value in given.items()
        if name != prompt and value not in (None, "", [], {})
    }
    return PictureMetadata(source, str(given.get(prompt) or ""), params)
