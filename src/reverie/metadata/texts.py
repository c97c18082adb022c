"""The texts in a picture file: chunks of a PNG, EXIF and XMP of a JPEG or WebP.

Nothing here raises for what a file holds: of a damaged or hostile one there is what could be read. Of texts
that are packed no more is unpacked than is kept.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from typing import Any

from PIL import Image

from reverie.pixels import BROKEN_IMAGE

__all__ = ["EXIF_COMMENT", "MOST_TEXT", "texts_of"]

MOST_TEXT = 8 * 2**20
"""Bytes of all texts of a file together; what is longer is passed over."""

EXIF_COMMENT = "UserComment"
"""Under which the comment in EXIF is found."""

_PNG = b"\x89PNG\r\n\x1a\n"
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_FIELDS = {0x010E: "ImageDescription", 0x010F: "Make", 0x0110: "Model", 0x0131: "Software"}
_COMMENT, _MAKER_NOTE, _EXIF_FOLDER = 0x9286, 0x927C, 0x8769


def texts_of(data: bytes) -> dict[str, str]:
    """The texts of a picture file, by chunk or field; empty for a file without any, or of another kind.

    Args:
        data: All of its bytes.
    """
    if data[:8] == _PNG:
        found, exif = _png(data)
        return found if found or not exif else _exif(data)
    if data[:2] == b"\xff\xd8" or (data[:4] == b"RIFF" and data[8:12] == b"WEBP"):
        return _exif(data)
    return {}


# ---------------------------------------------------------------------------------- PNG


def _png(data: bytes) -> tuple[dict[str, str], bool]:
    """The texts of its chunks, and whether there is one with EXIF."""
    found: dict[str, str] = {}
    start, left, exif = 8, MOST_TEXT, False
    while start + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, start)
        end = start + 8 + length
        if kind == b"IEND" or end > len(data):
            break
        exif = exif or kind == b"eXIf"
        if kind in _TEXTS and length <= left:
            named = _chunk(kind, data[start + 8 : end], left)
            if named is not None:
                name, text = named
                left -= len(text)
                found.setdefault(name, text)
        start = end + 4
    return found, exif


def _chunk(kind: bytes, content: bytes, most: int) -> tuple[str, str] | None:
    name, zero, rest = content.partition(b"\0")
    if not zero or not 0 < len(name) < 80:
        return None
    if kind == b"tEXt":
        packed, coding = False, "latin-1"
    elif kind == b"zTXt":
        packed, coding, rest = True, "latin-1", rest[1:]
    else:
        packed, coding, rest = rest[:1] == b"\1", "utf-8", rest[2:]
        rest = rest.partition(b"\0")[2].partition(b"\0")[2]  # without language and translated name
    if packed:
        unpacked = _unpacked(rest, most)
        if unpacked is None:
            return None
        rest = unpacked
    if kind == b"tEXt":  # many programs write UTF-8 there
        return name.decode("latin-1"), _either(rest)
    return name.decode("latin-1"), rest.decode(coding, "replace")


def _either(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _unpacked(data: bytes, most: int) -> bytes | None:
    unpacker = zlib.decompressobj()
    try:
        text = unpacker.decompress(data, most)
    except zlib.error:
        return None
    return None if unpacker.unconsumed_tail else text


# ---------------------------------------------------------------------------------- EXIF and XMP


def _exif(data: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(data)) as image:
                exif = image.getexif()
                folder = exif.get_ifd(_EXIF_FOLDER)
                comment = folder.get(_COMMENT, exif.get(_COMMENT))
                _put(found, EXIF_COMMENT, _comment(comment))
                _put(found, "MakerNote", _plain(folder.get(_MAKER_NOTE, exif.get(_MAKER_NOTE))))
                for tag, name in _FIELDS.items():
                    _put(found, name, _plain(exif.get(tag)))
                _put(found, "comment", _plain(image.info.get("comment")))
                _put(found, "xmp", _plain(image.info.get("xmp")))
        except BROKEN_IMAGE:
            pass
    return found


def _put(found: dict[str, str], name: str, text: str) -> None:
    if text and len(text) <= MOST_TEXT:
        found[name] = text


def _comment(value: Any) -> str:
    """A UserComment: eight bytes say in what code it is (EXIF 2.32, 4.6.5); programs differ in byte order."""
    if not isinstance(value, bytes):
        return _plain(value)
    code, rest = value[:8], value[8:]
    if code == b"UNICODE\0":
        return _wide(rest)
    if code in (b"ASCII\0\0\0", b"\0" * 8, b"JIS\0\0\0\0\0"):
        return _either(rest).rstrip("\0 ")
    return _either(value).rstrip("\0 ")


def _wide(data: bytes) -> str:
    """UTF-16 of either byte order: the one in which more of it is ordinary characters."""
    if data[:2] in (b"\xfe\xff", b"\xff\xfe"):
        return data.decode("utf-16", "replace").rstrip("\0")
    big = sum(not each for each in data[: 2 * 200 : 2])
    little = sum(not each for each in data[1 : 2 * 200 : 2])
    return data.decode("utf-16-be" if big >= little else "utf-16-le", "replace").rstrip("\0")


def _plain(value: Any) -> str:
    if isinstance(value, bytes):
        return _either(value).rstrip("\0")
    return value.rstrip("\0") if isinstance(value, str) else ""
