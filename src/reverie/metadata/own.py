"""What reverie writes into the pictures that it encodes, and how it reads that back.

Two texts: ``parameters``, as AUTOMATIC1111 and most readers of such pictures take it, and ``reverie``, as
JSON, which holds everything exactly. In a PNG they are chunks; in a JPEG or WebP the first is the comment in
EXIF, the second stands in XMP.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from html import escape, unescape
from typing import Any

from PIL import ExifTags, Image

from reverie._version import __version__
from reverie.metadata.a1111 import infotext
from reverie.metadata.json_text import json_object
from reverie.metadata.picture import PictureMetadata, Texts

__all__ = ["OWN", "exif_and_xmp", "own_texts", "read"]

OWN = "reverie"
"""Name of our chunk."""

_XMP = re.compile(r'reverie:made="([^"]*)"')


def own_texts(
    prompt: str, params: Mapping[str, Any], parents: Mapping[str, float] | None = None
) -> dict[str, str]:
    """The texts of a picture, by the name of their chunk.

    Args:
        prompt: The prompt.
        params: How it was made, as JSON can hold it.
        parents: Ids of the entries it was made of, to their weights.
    """
    made = {"version": __version__, "prompt": prompt, "params": dict(params), "parents": dict(parents or {})}
    own = json.dumps(made, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return {"parameters": infotext(prompt, params), OWN: own}


def read(texts: Texts) -> PictureMetadata | None:
    """What we wrote."""
    made = json_object(texts.get(OWN, "")) or _from_xmp(texts.get("xmp", ""))
    if made is None or not isinstance(made.get("prompt"), str) or not isinstance(made.get("params"), dict):
        return None
    parents = made.get("parents")
    weights = parents if isinstance(parents, dict) else {}
    numbers = {str(name): float(each) for name, each in weights.items() if isinstance(each, (int, float))}
    return PictureMetadata("reverie", made["prompt"], made["params"], numbers)


def _from_xmp(xmp: str) -> dict[str, Any] | None:
    found = _XMP.search(xmp)
    return None if found is None else json_object(unescape(found[1]))


def exif_and_xmp(texts: Texts) -> dict[str, bytes]:
    """The texts as Pillow's ``save`` takes them for JPEG and WebP: ``exif=`` and ``xmp=``."""
    exif = Image.Exif()
    folder = exif.get_ifd(ExifTags.IFD.Exif)
    comment = b"UNICODE\0" + texts["parameters"].encode("utf-16-be", "replace")
    folder[ExifTags.Base.UserComment] = comment
    exif[ExifTags.Base.Software] = f"reverie {__version__}"
    made = escape(texts[OWN], quote=True).replace("\n", "&#10;").replace("\t", "&#9;").replace("\r", "&#13;")
    xmp = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description rdf:about="" xmlns:reverie="https://reverie.invalid/ns/" reverie:made="{made}"/>'
        "</rdf:RDF></x:xmpmeta>"
    )
    return {"exif": exif.tobytes(), "xmp": xmp.encode()}
