"""What makes two files the same picture, and what does not."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from reverie.cache.picture_digest import picture_digest, picture_size
from reverie.errors import ImageError


def noise(channels: int = 3, seed: int = 0) -> Image.Image:
    """A picture of 12 x 9 pixels with no two alike."""
    values = np.random.default_rng(seed).integers(1, 255, (9, 12, channels), dtype=np.uint8)
    return Image.fromarray(values.squeeze())


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """The bytes of a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def turned() -> dict[str, Any]:
    """EXIF that asks for a quarter turn."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return {"exif": exif}


def text() -> dict[str, Any]:
    """A prompt in the file."""
    info = PngImagePlugin.PngInfo()
    info.add_text("prompt", "a city of glass")
    return {"pnginfo": info}


@pytest.mark.parametrize(
    "other",
    [
        saved(noise(), compress_level=9),
        saved(noise(), "WEBP", lossless=True),
        saved(noise(), "BMP"),
        saved(noise(), "TIFF", compression="tiff_lzw"),
        saved(noise(), **text()),
        saved(noise().convert("RGBA")),
        saved(noise(), icc_profile=b"a profile"),
        saved(noise().transpose(Image.Transpose.ROTATE_90), **turned()),
    ],
    ids=["compression", "webp", "bmp", "tiff", "texts", "opaque", "profile", "orientation"],
)
def test_another_file_of_the_same_pixels_is_the_same_picture(other: bytes) -> None:
    """Format, compression, texts, a profile, opaque alpha, and a turn that EXIF undoes make no difference."""
    assert picture_digest(other) == picture_digest(saved(noise()))


def test_transparency_is_kept_by_a_lossless_format() -> None:
    """RGBA as PNG, as TIFF and as lossless WebP is one picture."""
    image = noise(4)
    kinds = [saved(image), saved(image, "TIFF"), saved(image, "WEBP", lossless=True, exact=True)]
    assert len({picture_digest(data) for data in kinds}) == 1


def test_a_palette_is_only_a_way_to_pack() -> None:
    """Palette, its colours as RGB, and GIF are one picture; so are grey and the same grey as RGB."""
    packed = noise().quantize(8)
    same = [saved(packed), saved(packed.convert("RGB")), saved(packed, "GIF")]
    assert len({picture_digest(data) for data in same}) == 1
    grey = noise(1)
    assert picture_digest(saved(grey)) == picture_digest(saved(grey.convert("RGB")))


def one_off() -> Image.Image:
    """The picture with one value changed by one."""
    values = np.array(noise())
    values[0, 0, 0] += 1
    return Image.fromarray(values)


@pytest.mark.parametrize(
    "other",
    [
        saved(one_off()),
        saved(noise(), "JPEG", quality=95),
        saved(noise().transpose(Image.Transpose.ROTATE_90)),
        saved(noise(), **turned()),
        saved(Image.fromarray(np.array(noise()).reshape(12, 9, 3))),
        saved(noise(), "TIFF", save_all=True, append_images=[noise()]),
    ],
    ids=["one value", "jpeg", "turned", "orientation", "shape", "two pages"],
)
def test_other_pixels_are_another_picture(other: bytes) -> None:
    """A single value, a lossy format, another side up, another shape, a second page."""
    assert picture_digest(other) != picture_digest(saved(noise()))


def test_a_jpeg_encoded_anew_is_another_picture() -> None:
    """Its pixels differ; saved losslessly it is the same."""
    first = saved(noise(), "JPEG", quality=90)
    decoded = Image.open(io.BytesIO(first))
    assert picture_digest(saved(decoded, "JPEG", quality=80)) != picture_digest(first)
    assert picture_digest(saved(decoded)) == picture_digest(first)


def test_what_shows_through_counts() -> None:
    """Another alpha is another picture, also where only the colour under it differs."""
    values = np.array(noise(4))
    values[0, 0] = (10, 20, 30, 0)
    hidden = values.copy()
    hidden[0, 0, 0] = 99
    digests = {picture_digest(saved(Image.fromarray(each))) for each in (values, hidden, np.array(noise(4)))}
    assert len(digests) == 3


def test_depth_beyond_8_bits_is_not_cut_off() -> None:
    """16-bit grey that differs in the last bit, and 16-bit colour of which Pillow reads 8 bits."""
    deep = np.random.default_rng(0).integers(0, 65536, (4, 5), dtype=np.uint16)
    assert picture_digest(saved(Image.fromarray(deep))) != picture_digest(saved(Image.fromarray(deep ^ 1)))
    assert Image.open(io.BytesIO(deep_png(1))).mode == "RGB"
    assert picture_digest(deep_png(1)) != picture_digest(deep_png(2))


def deep_png(low: int) -> bytes:
    """A PNG of 3 x 3 pixels with 16 bits a colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 3, 3, 16, 2, 0, 0, 0)
    rows = zlib.compress((b"\0" + bytes([10, low] * 9)) * 3)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_the_size_needs_no_pixels() -> None:
    """It is read of the head alone, the same for a picture and its quarter turn."""
    data = saved(noise())
    assert picture_size(data[:60]) == picture_size(saved(noise().transpose(Image.Transpose.ROTATE_90)))
    assert picture_size(data) == (9, 12)


@pytest.mark.parametrize("data", [b"", b"no image", saved(noise())[:80]])
def test_what_is_no_picture_is_named(data: bytes) -> None:
    """An empty file, another kind of file and one that is cut short."""
    with pytest.raises(ImageError, match=r"^'x\.png' is "):
        picture_digest(data, name="x.png")
