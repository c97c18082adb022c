"""Every kind of image becomes ``(h, w, 3)`` uint8 RGB by one set of rules; every broken one an ImageError."""

from __future__ import annotations

import io
import struct
import tempfile
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from reverie import pixels, png_decoder
from reverie.errors import ImageError, ImageNotFoundError, ReverieError, StorageError
from reverie.pixels import MAX_PIXELS, fit, open_image, pixels_from_bytes, to_image, to_pixels

Picture = Callable[..., NDArray[np.uint8]]
Png = Callable[..., Path]

SMALL = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3) * 14
"""2 x 3, every value another."""


def one(mode: str, colour: Any) -> list[int]:
    """The RGB value of a 1 x 1 image of a mode."""
    return to_pixels(Image.new(mode, (1, 1), colour))[0, 0].tolist()


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """The image as the bytes of a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def exif(orientation: int) -> Image.Exif:
    """EXIF with nothing but an orientation."""
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


@pytest.fixture
def pillow_decodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """No faster decoder takes a PNG away from Pillow."""
    monkeypatch.setattr(png_decoder, "decode", lambda _: None)


# -------------------------------------------------------------------------------------- modes


def test_rgb_is_taken_as_it_is(tmp_path: Path) -> None:
    """RGB from an array, a PIL image, a str path and a Path gives the same pixels."""
    path = tmp_path / "a.png"
    Image.fromarray(SMALL).save(path)
    for image in (SMALL, Image.fromarray(SMALL), str(path), path):
        found = to_pixels(image)
        assert found.dtype == np.uint8
        assert np.array_equal(found, SMALL)


def test_an_array_is_not_copied() -> None:
    """A good array comes back as itself, also as a read-only or strided view."""
    assert to_pixels(SMALL) is SMALL
    assert np.shares_memory(to_pixels(SMALL[:, ::-1]), SMALL)


@pytest.mark.parametrize(
    ("colour", "expected"),
    [
        ((100, 0, 200, 255), [100, 0, 200]),
        ((100, 0, 200, 0), [255, 255, 255]),
        ((100, 0, 200, 128), [177, 127, 227]),  # 255 + (c - 255) * 128 / 255
        ((0, 0, 0, 51), [204, 204, 204]),
    ],
)
def test_rgba_is_composited_over_white(colour: tuple[int, ...], expected: list[int]) -> None:
    """Clear is white, half-clear half-way to it."""
    assert one("RGBA", colour) == expected


@pytest.mark.parametrize(("colour", "grey"), [((50, 255), 50), ((50, 0), 255), ((0, 51), 204)])
@pytest.mark.parametrize("mode", ["LA", "PA"])
def test_grey_and_palette_with_alpha_are_composited_over_white(
    mode: str, colour: tuple[int, int], grey: int
) -> None:
    """LA and PA as RGBA."""
    image = Image.new(mode, (1, 1), colour)
    if mode == "PA":
        image.putpalette([level for level in range(256) for _ in "RGB"])
    assert to_pixels(image)[0, 0].tolist() == [grey] * 3


def test_premultiplied_modes_are_composited_over_white() -> None:
    """RGBa and La, which Pillow makes while it resizes."""
    assert one("RGBa", (0, 0, 0, 0)) == [255, 255, 255]
    assert one("La", (0, 0)) == [255, 255, 255]
    assert one("La", (50, 255)) == [50, 50, 50]


def palette_image(indices: list[int]) -> Image.Image:
    """One row of a palette of red, green, blue."""
    image = Image.new("P", (len(indices), 1))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.putdata(indices)
    return image


def test_palettes_are_looked_up() -> None:
    """Index to colour."""
    assert to_pixels(palette_image([0, 1, 2])).tolist() == [[[255, 0, 0], [0, 255, 0], [0, 0, 255]]]


@pytest.mark.parametrize(
    ("transparency", "expected"),
    [
        (1, [[255, 0, 0], [255, 255, 255], [0, 0, 255]]),
        (b"\xff\x33\x00", [[255, 0, 0], [204, 255, 204], [255] * 3]),
    ],
    ids=["one clear entry", "alpha per entry"],
)
@pytest.mark.parametrize("through_file", [False, True])
def test_palette_transparency_is_composited_over_white(
    transparency: int | bytes, expected: list[list[int]], through_file: bool
) -> None:
    """One clear palette entry, or an alpha for each; in memory and from a PNG."""
    image = palette_image([0, 1, 2])
    image.info["transparency"] = transparency
    if through_file:
        image = Image.open(io.BytesIO(encoded(image, "PNG", transparency=transparency)))
    assert to_pixels(image)[0].tolist() == expected


@pytest.mark.parametrize(
    ("image", "clear", "expected"),
    [
        (Image.fromarray(SMALL), (0, 14, 28), [255, 255, 255]),
        (Image.new("L", (1, 1), 7), 7, [255, 255, 255]),
        (Image.new("L", (1, 1), 8), 7, [8, 8, 8]),
    ],
    ids=["RGB", "L", "L other"],
)
def test_a_clear_colour_is_white(image: Image.Image, clear: Any, expected: list[int]) -> None:
    """A PNG of RGB or grey may name one colour that is clear (its tRNS chunk)."""
    assert (
        to_pixels(Image.open(io.BytesIO(encoded(image, "PNG", transparency=clear))))[0, 0].tolist()
        == expected
    )


def test_grey_is_repeated_over_the_channels() -> None:
    """L and 1."""
    assert one("L", 93) == [93, 93, 93]
    assert one("1", 1) == [255, 255, 255]
    assert one("1", 0) == [0, 0, 0]


@pytest.mark.parametrize("through_file", [False, True])
def test_sixteen_bit_grey_is_divided_by_257(tmp_path: Path, through_file: bool) -> None:
    """65535 is 255, 0 is 0, everything between is rounded to the nearest."""
    image = Image.fromarray(np.array([[0, 128, 129, 257, 32768, 60000, 65535]], dtype=np.uint16))
    assert image.mode == "I;16"
    if through_file:
        image.save(tmp_path / "deep.png")
        image = Image.open(tmp_path / "deep.png")
    with image:
        assert to_pixels(image)[0].tolist() == [[v] * 3 for v in (0, 0, 1, 1, 128, 233, 255)]


def test_big_endian_sixteen_bit_grey_is_read_in_its_own_order() -> None:
    """I;16B."""
    image = Image.frombytes("I;16B", (2, 1), struct.pack(">2H", 65535, 257))
    assert to_pixels(image)[0].tolist() == [[255] * 3, [1] * 3]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 93, 255], [0, 93, 255]),
        ([0, 256, 60000], [0, 1, 233]),
        ([0, 100, 256], [0, 0, 1]),
        ([-5, 20, 2**31 - 1], [0, 0, 255]),
    ],
    ids=["8-bit range", "16-bit range", "just past 8 bits", "outside"],
)
def test_integer_grey_is_scaled_only_past_255(values: list[int], expected: list[int]) -> None:
    """Mode I: 0..255 as it is, beyond it as 16-bit; the rest is cut off."""
    image = Image.fromarray(np.array([values], dtype=np.int32))
    assert image.mode == "I"
    assert to_pixels(image)[0].tolist() == [[v] * 3 for v in expected]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.2, 1.0], [0, 51, 255]),
        ([0.0, 92.6, 255.0], [0, 93, 255]),
        ([-3.0, 300.0, 20.0], [0, 255, 20]),
        ([float("nan"), 0.2, 1.0], [0, 51, 255]),
    ],
    ids=["unit range", "byte range", "outside", "NaN"],
)
def test_float_grey_is_read_by_its_range(values: list[float], expected: list[int]) -> None:
    """Mode F: 0..1 when it stays there, else 0..255; NaN is black."""
    image = Image.fromarray(np.array([values], dtype=np.float32))
    assert image.mode == "F"
    assert to_pixels(image)[0].tolist() == [[v] * 3 for v in expected]


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("CMYK", (0, 0, 0, 0), [255, 255, 255]),
        ("CMYK", (255, 0, 0, 0), [0, 255, 255]),
        ("CMYK", (0, 255, 0, 128), [127, 0, 127]),
        ("CMYK", (0, 0, 0, 255), [0, 0, 0]),
        ("YCbCr", (93, 128, 128), [93, 93, 93]),
        ("YCbCr", (76, 85, 255), [254, 0, 0]),
        ("HSV", (0, 255, 255), [255, 0, 0]),
        ("HSV", (0, 0, 77), [77, 77, 77]),
        ("HSV", (170, 255, 255), [0, 0, 255]),
        ("LAB", (255, 128, 128), [255, 255, 255]),
        ("LAB", (137, 128, 128), [128, 128, 128]),
        ("LAB", (138, 209, 198), [255, 0, 0]),
        ("RGBX", (9, 8, 7, 0), [9, 8, 7]),
    ],
)
def test_other_colour_spaces_become_rgb(mode: str, colour: tuple[int, ...], expected: list[int]) -> None:
    """CMYK exactly, the others within the rounding of their 8-bit channels."""
    tolerance = {"YCbCr": 1, "HSV": 1, "LAB": 5}.get(mode, 0)
    assert np.abs(np.subtract(one(mode, colour), expected)).max() <= tolerance


def test_a_cmyk_jpeg_is_read_in_the_right_sense(tmp_path: Path) -> None:
    """Files store CMYK inverted; cyan stays cyan."""
    Image.new("CMYK", (8, 8), (255, 0, 0, 0)).save(tmp_path / "c.jpg", quality=95)
    assert np.abs(to_pixels(tmp_path / "c.jpg")[4, 4].astype(int) - [0, 255, 255]).max() <= 6


ORIENTED: dict[int, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", ORIENTED)
@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})])
def test_exif_orientation_is_applied(orientation: int, kind: str, options: dict[str, Any]) -> None:
    """All eight orientations of EXIF, once and only once, in three formats."""
    file = io.BytesIO(encoded(Image.fromarray(SMALL), kind, exif=exif(orientation), **options))
    assert np.array_equal(to_pixels(Image.open(file)), ORIENTED[orientation](SMALL))


@pytest.mark.parametrize("orientation", [0, 9, 255])
def test_an_unknown_orientation_is_upright(orientation: int) -> None:
    """Numbers that EXIF does not define turn nothing."""
    file = io.BytesIO(encoded(Image.fromarray(SMALL), "PNG", exif=exif(orientation)))
    assert np.array_equal(to_pixels(Image.open(file)), SMALL)


@pytest.mark.parametrize(
    "junk", [b"Exif\0\0", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"Exif\0\0nonsense", b"\0" * 9]
)
def test_broken_exif_beside_sound_pixels_is_upright(junk: bytes) -> None:
    """Pixels that can be read are not given up for a broken note about them."""
    file = io.BytesIO(encoded(Image.fromarray(SMALL), "PNG", exif=junk))
    assert np.array_equal(to_pixels(Image.open(file)), SMALL)


def test_the_caller_keeps_the_image_unchanged() -> None:
    """Reading an oriented PIL image turns a copy."""
    image = Image.open(io.BytesIO(encoded(Image.fromarray(SMALL), "PNG", exif=exif(6))))
    to_pixels(image)
    assert image.size == (3, 2)
    assert image.getexif()[0x0112] == 6


@pytest.mark.parametrize(
    ("kind", "options"), [("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {}), ("TIFF", {})]
)
def test_of_an_animation_the_first_frame_counts(tmp_path: Path, kind: str, options: dict[str, Any]) -> None:
    """Animated GIF, WebP and APNG, and a TIFF of several pages."""
    path = tmp_path / "animated"
    red, blue = (Image.new("RGB", (5, 4), colour) for colour in ("red", "blue"))
    red.save(path, kind, save_all=True, append_images=[blue], **options)
    assert np.array_equal(to_pixels(path), np.tile(np.uint8([255, 0, 0]), (4, 5, 1)))


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1)])
def test_the_thinnest_images_pass(size: tuple[int, int]) -> None:
    """(width, height) becomes (height, width, 3)."""
    assert to_pixels(Image.new("RGB", size)).shape == (size[1], size[0], 3)


def test_to_image_gives_rgb() -> None:
    """The same pixels as a PIL image."""
    image = to_image(Image.new("RGBA", (2, 1), (0, 0, 0, 0)))
    assert (image.mode, image.size, image.getpixel((0, 0))) == ("RGB", (2, 1), (255, 255, 255))


# ---------------------------------------------------------------------------- files and types


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """Also a path below a file."""
    (tmp_path / "file").write_bytes(b"x")
    for path in (tmp_path / "no.png", tmp_path / "file" / "no.png"):
        with pytest.raises(ImageNotFoundError) as caught:
            to_pixels(path)
        assert str(caught.value) == f"no image at {str(path)!r}"


def test_a_folder_is_no_image(tmp_path: Path) -> None:
    """The message says that it is a folder."""
    with pytest.raises(ImageError, match=r"is a folder, not an image file: name the files in it$"):
        to_pixels(tmp_path)


@pytest.mark.parametrize(
    ("data", "says"),
    [(b"", r"is empty \(0 bytes\)$"), (b"dear diary", "is not an image that Pillow can read$")],
    ids=["empty", "text"],
)
def test_a_file_that_is_no_image_is_an_image_error(tmp_path: Path, data: bytes, says: str) -> None:
    """Whatever its name ends with."""
    path = tmp_path / "notes.png"
    path.write_bytes(data)
    with pytest.raises(ImageError, match=says) as caught:
        to_pixels(path)
    assert str(path) in str(caught.value)


def test_a_file_that_the_system_refuses_is_a_storage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No permission is not the image's fault."""

    def refuse(*args: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(pixels.Image, "open", refuse)
    with pytest.raises(StorageError, match=r"^cannot read .*a\.png.*: Permission denied$"):
        to_pixels(tmp_path / "a.png")


@pytest.mark.usefixtures("pillow_decodes")
def test_a_disk_that_fails_while_pixels_are_read_is_a_storage_error(
    png: Png, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An input/output error in the middle is not the image's fault either."""

    def fail(self: Any) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", fail)
    with pytest.raises(StorageError, match=r"^cannot read .*picture.png.*: Input/output error$"):
        to_pixels(png())


@pytest.mark.parametrize("image", [None, 5, b"bytes", [[[0, 0, 0]]], object()])
def test_other_types_are_refused(image: Any) -> None:
    """The message says what may be passed and what was."""
    with pytest.raises(ImageError, match=rf"or a torch tensor, got {type(image).__name__}$"):
        to_pixels(image)


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (
            np.zeros((4, 5, 3)),
            r"got shape \(4, 5, 3\) and dtype float64; for values in 0..1 pass \(array \* 255\)",
        ),
        (np.zeros((4, 5, 3), dtype=np.float32), "dtype float32; for values in 0..1"),
        (np.zeros((3, 4, 5), dtype=np.uint8), r"for a channels-first array pass array.transpose\(1, 2, 0\)$"),
        (np.zeros((4, 5, 4), dtype=np.uint8), r"got shape \(4, 5, 4\) and dtype uint8$"),
        (np.zeros((4, 5), dtype=np.uint8), r"got shape \(4, 5\)"),
        (np.zeros((2, 4, 5, 3), dtype=np.uint8), r"got shape \(2, 4, 5, 3\)"),
        (np.zeros((4, 5, 3), dtype=np.int64), "dtype int64"),
        (np.zeros((4, 5, 3), dtype=np.uint16), "dtype uint16"),
        (np.zeros((4, 5, 3), dtype=bool), "dtype bool"),
        (np.zeros((0, 5, 3), dtype=np.uint8), r"got shape \(0, 5, 3\)"),
        (np.array(None), "dtype object"),
    ],
)
def test_arrays_of_another_form_are_refused(array: NDArray[Any], says: str) -> None:
    """The message holds the shape and dtype that came, and the way out where there is one."""
    with pytest.raises(ImageError, match=r"must have shape \(h, w, 3\) and dtype uint8, .*" + says):
        to_pixels(array)


@pytest.mark.parametrize("size", [(0, 5), (5, 0)])
def test_an_image_without_pixels_is_refused(size: tuple[int, int]) -> None:
    """Pillow can hold one; nothing can be encoded from it."""
    with pytest.raises(ImageError, match=f"has no pixels \\({size[0]} x {size[1]}\\)"):
        to_pixels(Image.new("RGB", size))


def test_a_closed_image_is_refused(png: Png) -> None:
    """An image whose file was closed before it was read."""
    image = Image.open(png())
    image.close()
    with pytest.raises(ImageError, match="the image is a broken image"):
        to_pixels(image)


@pytest.mark.usefixtures("pillow_decodes")
def test_open_image_reads_no_pixels(png: Png, monkeypatch: pytest.MonkeyPatch) -> None:
    """Size and format are known from the header."""

    def fail(self: Any) -> None:
        raise AssertionError("pixels were read")

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", fail)
    with open_image(png(height=24, width=32)) as image:
        assert (image.size, image.format) == ((32, 24), "PNG")


def test_the_bytes_of_a_file_give_its_pixels() -> None:
    """By the same rules as the file: orientation, transparency."""
    turned = encoded(Image.fromarray(SMALL), "PNG", exif=exif(6))
    assert np.array_equal(pixels_from_bytes(turned), ORIENTED[6](SMALL))
    assert pixels_from_bytes(encoded(Image.new("RGBA", (1, 1)), "PNG")).tolist() == [[[255, 255, 255]]]


@pytest.mark.parametrize(
    "data", [b"", b"dear diary", encoded(Image.fromarray(SMALL), "PNG")[:45]], ids=["empty", "text", "cut"]
)
def test_bytes_that_are_no_image_are_an_image_error(data: bytes) -> None:
    """The message calls them by the name that was given."""
    with pytest.raises(ImageError, match=r"cache_00001\.png"):
        pixels_from_bytes(data, name="cache_00001.png")


# ---------------------------------------------------------------------------- hostile files


def chunk(kind: bytes, data: bytes) -> bytes:
    """A PNG chunk."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header claims that size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 64))
        + chunk(b"IEND", b"")
    )


@pytest.mark.usefixtures("pillow_decodes")
@pytest.mark.parametrize("pillow_limit", [Image.MAX_IMAGE_PIXELS, None], ids=["Pillow's limit", "ours alone"])
@pytest.mark.parametrize("read", [to_pixels, open_image])
def test_a_decompression_bomb_is_refused_from_its_header(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[Path], Any], pillow_limit: int | None
) -> None:
    """60000 x 60000 claimed by 100 bytes: no pixel is decoded, also where a program lifted Pillow's limit."""

    def fail(self: Any) -> None:
        raise AssertionError("pixels were read")

    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pillow_limit)
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", fail)
    path = tmp_path / "bomb.png"
    path.write_bytes(bomb(60_000, 60_000))
    with pytest.raises(
        ImageError, match=f"bomb.png' is too large to open safely .*the limit is {MAX_PIXELS:,} pixels"
    ):
        read(path)


def test_a_bomb_in_bytes_is_refused() -> None:
    """As in a file."""
    with pytest.raises(ImageError):
        pixels_from_bytes(bomb(60_000, 60_000))


def test_a_bomb_in_an_open_image_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A PIL image of the caller's is measured before it is decoded."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    image = Image.open(io.BytesIO(bomb(60_000, 60_000)))
    with pytest.raises(ImageError, match=r"^the image is too large to open safely"):
        to_pixels(image)


@pytest.mark.usefixtures("pillow_decodes")
def test_a_bomb_that_only_shows_while_decoding_is_an_image_error(
    png: Png, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some formats (icons, GIF frames) hold a larger picture than the header says."""

    def explode(self: Any) -> None:
        raise Image.DecompressionBombError("Image size exceeds limit")

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", explode)
    with pytest.raises(ImageError, match="is a broken image: Image size exceeds limit"):
        to_pixels(png())


@pytest.mark.usefixtures("pillow_decodes")
@pytest.mark.parametrize("stage", ["open", "load"])
@pytest.mark.parametrize(
    "error",
    [
        OSError("broken data stream"),
        OSError(22, "Invalid argument"),
        ValueError("bad header"),
        SyntaxError("not a TIFF file"),
        TypeError("bad tag"),
        EOFError("no more frames"),
        IndexError("offset"),
        KeyError("tag"),
        ZeroDivisionError("dpi"),
        OverflowError("size"),
        RuntimeError("Failed to decode image"),
        struct.error("unpack requires 4 bytes"),
        UserWarning("Corrupt EXIF data"),
    ],
    ids=repr,
)
def test_whatever_a_decoder_raises_is_an_image_error(
    png: Png, monkeypatch: pytest.MonkeyPatch, stage: str, error: Exception
) -> None:
    """Pillow's plug-ins raise many types on broken files; each becomes ours, with its cause."""

    def fail(*args: Any) -> None:
        raise error

    if stage == "open":
        monkeypatch.setattr(pixels.Image, "open", fail)
    else:
        monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", fail)
    with pytest.raises(ImageError, match=r"picture\.png' is a broken image: ") as caught:
        to_pixels(png())
    assert caught.value.__cause__ is error


FORMATS: dict[str, dict[str, Any]] = {
    "PNG": {"exif": exif(6)},
    "JPEG": {"exif": exif(6)},
    "GIF": {"save_all": True},
    "WEBP": {"exif": exif(6)},
    "TIFF": {},
    "BMP": {},
    "ICO": {},
    "PPM": {},
}


def samples() -> dict[str, bytes]:
    """A small noisy picture in every format."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 31, 3), dtype=np.uint8))
    return {kind: encoded(image, kind, **options) for kind, options in FORMATS.items()}


SAMPLES = samples()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_truncated_file_is_an_image_error_at_every_cut(tmp_path: Path, kind: str) -> None:
    """From the first byte to nine tenths: never half a picture, never another exception."""
    data = SAMPLES[kind]
    path = tmp_path / "cut.png"
    for length in range(1, int(len(data) * 0.9), max(1, len(data) // 150)):
        path.write_bytes(data[:length])
        with pytest.raises(ImageError):
            to_pixels(path)


def damage(data: bytes, cut: float, flips: list[tuple[float, int]]) -> bytes:
    """Cut to a share of the length; bytes replaced at shares of what remains."""
    damaged = bytearray(data[: max(1, int(len(data) * cut))])
    for place, value in flips:
        damaged[int(place * (len(damaged) - 1))] = value
    return bytes(damaged)


places = st.floats(0, 1) | st.floats(0, 0.05)  # headers are where formats differ
bytes_ = st.integers(0, 255) | st.sampled_from([0, 1, 127, 128, 255])


@settings(suppress_health_check=[HealthCheck.too_slow])
@pytest.mark.parametrize("kind", SAMPLES)
@given(cut=st.just(1.0) | places, flips=st.lists(st.tuples(places, bytes_), max_size=12))
def test_damaged_files_give_pixels_or_our_error(
    kind: str, cut: float, flips: list[tuple[float, int]]
) -> None:
    """Random cuts and byte flips of eight formats: pixels or an ImageError, never anything else."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "damaged"
        path.write_bytes(damage(SAMPLES[kind], cut, flips))
        try:
            found = to_pixels(path)
        except ReverieError as exc:
            assert type(exc) is ImageError  # noqa: PT017 - both ways out are fine, this is the one with a type
        else:
            assert found.dtype == np.uint8
            assert found.ndim == 3
            assert found.shape[2] == 3


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP"])
def test_damage_is_an_image_error_also_where_warnings_only_warn(tmp_path: Path, kind: str) -> None:
    """As outside of this test suite: Pillow's warnings stay warnings, its errors become ours."""
    path = tmp_path / "damaged"
    for length in range(10, len(SAMPLES[kind]) - 200, max(1, len(SAMPLES[kind]) // 40)):
        path.write_bytes(SAMPLES[kind][:length])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pytest.raises(ImageError):
                to_pixels(path)


# ---------------------------------------------------------------------------------------- fit


def test_fit_returns_an_image_of_that_size_as_it_is() -> None:
    """No copy, no resampling."""
    assert fit(SMALL, 2, 3) is SMALL


@pytest.mark.parametrize(("height", "width"), [(8, 8), (3, 40), (40, 3), (1, 1), (24, 31)])
def test_fit_gives_the_size_asked_for(picture: Picture, height: int, width: int) -> None:
    """Height first, width second."""
    fitted = fit(picture(1), height, width)
    assert fitted.shape == (height, width, 3)
    assert fitted.dtype == np.uint8


def test_fit_cuts_the_centre_and_never_stretches() -> None:
    """Of a wide image the sides go; what is left keeps its proportions."""
    wide = np.zeros((10, 30, 3), dtype=np.uint8)
    wide[:, 10:20] = 255
    assert fit(wide, 10, 10).min() == 255
    assert fit(wide.swapaxes(0, 1).copy(), 10, 10).min() == 255
    assert np.array_equal(
        fit(wide, 10, 20)[:, :, 0], np.tile(np.repeat(np.uint8([0, 255, 0]), [5, 10, 5]), (10, 1))
    )


def test_fit_keeps_a_flat_colour() -> None:
    """Scaling up or down adds no ringing to a flat image."""
    flat = np.full((7, 9, 3), (10, 20, 30), dtype=np.uint8)
    for size in ((3, 3), (64, 64)):
        assert np.array_equal(np.unique(fit(flat, *size).reshape(-1, 3), axis=0), [[10, 20, 30]])
