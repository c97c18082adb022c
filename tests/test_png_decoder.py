"""The faster way to a PNG's pixels gives what Pillow gives, or leaves the file to Pillow."""

from __future__ import annotations

import io
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from reverie import png_decoder
from reverie.errors import ImageError, StorageError
from reverie.pixels import pixels_from_bytes, to_pixels
from reverie.png_decoder import decode, size_of_plain

WIDTH, HEIGHT = 13, 9
NOISE = np.random.default_rng(3).integers(0, 256, (HEIGHT, WIDTH, 4), dtype=np.uint8)
RGB, RGBA = Image.fromarray(NOISE[..., :3]), Image.fromarray(NOISE)


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk with its length and checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def header(
    depth: int = 8, colour: int = 2, compression: int = 0, filtering: int = 0, interlace: int = 0
) -> bytes:
    """The header of a file of `WIDTH` x `HEIGHT`."""
    return chunk(
        b"IHDR", struct.pack(">2I5B", WIDTH, HEIGHT, depth, colour, compression, filtering, interlace)
    )


def rows(seed: int = 0, channels: int = 3, filters: int = 5) -> bytes:
    """Noise before compression: each row with a filter of its own."""
    rng = np.random.default_rng(seed)
    lines = rng.integers(0, 256, (HEIGHT, 1 + WIDTH * channels), dtype=np.uint8)
    lines[:, 0] = rng.integers(0, filters, HEIGHT)
    return lines.tobytes()


def file(
    stream: bytes | None = None,
    *,
    head: bytes = b"",
    before: bytes = b"",
    after: bytes = b"",
    cut: int = 1 << 30,
) -> bytes:
    """A PNG: its header, chunks before the pixels, the stream in chunks of ``cut`` bytes, chunks after."""
    stream = zlib.compress(rows()) if stream is None else stream
    pixels = b"".join(chunk(b"IDAT", stream[at : at + cut]) for at in range(0, len(stream), cut))
    return b"\x89PNG\r\n\x1a\n" + (head or header()) + before + pixels + after + chunk(b"IEND", b"")


def saved(image: Image.Image, **options: Any) -> bytes:
    """What Pillow writes."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


def by_pillow(data: bytes) -> NDArray[np.uint8] | str:
    """Pixels, or the message of the error, without the faster way."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(png_decoder, "decode", lambda _: None)
        return outcome(data)


def outcome(data: bytes) -> NDArray[np.uint8] | str:
    """Pixels, or the message of the error."""
    try:
        return pixels_from_bytes(data)
    except ImageError as exc:
        return f"{type(exc).__name__}: {exc}".partition(" at 0x")[0]  # Pillow's message may hold an address


def assert_same(data: bytes) -> None:
    """Both ways end alike."""
    expected, found = by_pillow(data), outcome(data)
    if isinstance(expected, str) or isinstance(found, str):
        assert found == expected
    else:
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        assert np.array_equal(found, expected)
        assert found.flags.writeable == expected.flags.writeable


TEXT = PngImagePlugin.PngInfo()
TEXT.add_text("prompt", "black wireframe angel")
TEXT.add_itxt("workflow", "größer")
TEXT.add_text("parameters", "steps: 20" * 50, zip=True)

FAST: dict[str, bytes] = {
    "RGB": saved(RGB),
    "RGBA": saved(RGBA),
    "with texts": saved(RGB, pnginfo=TEXT),
    "with a resolution and a colour profile": saved(RGB, dpi=(72, 72), icc_profile=b"profile"),
    "with a gamma of ten": file(before=chunk(b"gAMA", struct.pack(">I", 1_000_000))),
    "with a suggested palette": file(before=chunk(b"PLTE", bytes(range(30)))),
    "in many chunks": file(cut=7),
    "every filter": file(zlib.compress(rows(1))),
    "RGBA, every filter": file(zlib.compress(rows(2, channels=4)), head=header(colour=6)),
    "not compressed": file(zlib.compress(rows(), 0)),
    "more rows than it says": file(zlib.compress(rows() * 2)),
    "bytes after the stream": file(zlib.compress(rows()) + b"more"),
    "bytes after the end": saved(RGB) + b"more",
}

SLOW: dict[str, bytes] = {
    "grey": saved(RGB.convert("L")),
    "grey with alpha": saved(RGBA.convert("LA")),
    "palette": saved(RGB.convert("P")),
    "one bit": saved(RGB.convert("1")),
    "16-bit grey": saved(Image.fromarray(np.arange(70, dtype=np.uint16).reshape(7, 10) * 900)),
    "16-bit RGB": file(zlib.compress(bytes(HEIGHT * (1 + WIDTH * 6))), head=header(depth=16)),
    "interlaced": file(zlib.compress(bytes(9999)), head=header(interlace=1)),
    "a clear colour": saved(RGB, transparency=tuple(NOISE[0, 0, :3].tolist())),
    "EXIF orientation": saved(
        RGB, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    ),
    "EXIF in a text": file(before=chunk(b"tEXt", b"Raw profile type exif\0\nexif\n 4\n00000000\n")),
    "orientation in XMP": file(
        before=chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + b'<x tiff:Orientation="6"/>')
    ),
    "animated": saved(RGB, save_all=True, append_images=[Image.new("RGB", RGB.size)]),
    "chunks after the pixels": file(after=chunk(b"tEXt", b"a\0b")),
    "pixels in two places": file(before=chunk(b"IDAT", b""), after=chunk(b"tIME", bytes(7))),
    "an unknown chunk": file(before=chunk(b"fooB", b"?")),
    "an unknown chunk that matters": file(before=chunk(b"FOOB", b"?")),
    "another compression": file(head=header(compression=1)),
    "another filter method": file(head=header(filtering=1)),
    "no pixels": file(b""),
    "a row too few": file(zlib.compress(rows()[: -(1 + WIDTH * 3)])),
    "a byte too few": file(zlib.compress(rows()[:-1])),
    "no stream": file(b"dear diary"),
    "a filter that does not exist": file(zlib.compress(b"\x05" + rows()[1:])),
    "no end": saved(RGB)[:-12],
    "cut": saved(RGB)[:-30],
    "cut in the header": saved(RGB)[:29],
    "a wrong checksum of the pixels": saved(RGB)[:-13] + b"?" + saved(RGB)[-12:],
    "a wrong checksum of a text": saved(RGB, pnginfo=TEXT).replace(b"wireframe", b"wireFrame"),
    "a wrong checksum of the header": saved(RGB)[:29] + b"????" + saved(RGB)[33:],
}


@pytest.mark.parametrize("data", FAST.values(), ids=FAST)
def test_plain_files_have_pillows_pixels(data: bytes) -> None:
    """8-bit RGB and RGBA go the faster way, and nothing can be told from the result."""
    assert decode(data) is not None
    assert_same(data)


@pytest.mark.parametrize("data", SLOW.values(), ids=SLOW)
def test_all_other_files_are_left_to_pillow(data: bytes) -> None:
    """Other kinds, what could turn or clear pixels, and every damaged file: the same pixels or error."""
    assert decode(data) is None
    assert_same(data)


def test_a_header_that_pillow_refuses_is_refused() -> None:
    """Pillow reads the header first, whoever makes the pixels."""
    with pytest.raises(ImageError, match="Truncated gAMA chunk"):
        pixels_from_bytes(file(before=chunk(b"gAMA", b"")))


def test_alpha_is_straight() -> None:
    """``(h, w, 4)``, as stored."""
    found = decode(saved(RGBA))
    assert found is not None
    assert np.array_equal(found, NOISE)


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (700, 1), (255, 257)])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("level", [0, 1, 9])
def test_every_size_and_compression(size: tuple[int, int], mode: str, level: int) -> None:
    """The thinnest pictures, and some that fill more than one block of the stream."""
    noise = np.random.default_rng(5).integers(0, 256, (*size, len(mode)), dtype=np.uint8)
    data = saved(Image.fromarray(np.maximum(noise, 200)), compress_level=level)
    assert decode(data) is not None
    assert_same(data)


@settings(max_examples=150)
@given(
    seed=st.integers(0, 999),
    way=st.tuples(
        st.integers(0, 9), st.just(zlib.DEFLATED), st.integers(9, 15), st.just(8), st.integers(0, 4)
    ),
    cut=st.integers(1, 400),
    colour=st.sampled_from([2, 6]),
)
def test_every_way_to_write_the_same_rows(
    seed: int, way: tuple[int, int, int, int, int], cut: int, colour: int
) -> None:
    """Any level, window, strategy and splitting of the stream."""
    packer = zlib.compressobj(*way)
    stream = packer.compress(rows(seed, 3 if colour == 2 else 4)) + packer.flush()
    data = file(stream, head=header(colour=colour), cut=cut)
    assert decode(data) is not None
    assert_same(data)


@settings(max_examples=300)
@given(data=st.data(), name=st.sampled_from(["RGB", "with texts", "in many chunks", "not compressed"]))
def test_damage_ends_as_with_pillow(data: st.DataObject, name: str) -> None:
    """Bytes changed, lost or added anywhere in a file: Pillow's pixels or Pillow's error."""
    damaged = bytearray(FAST[name])
    at = data.draw(st.integers(0, len(damaged) - 1))
    kind = data.draw(st.sampled_from(["flip", "cut", "insert"]))
    if kind == "flip":
        damaged[at] ^= 1 << data.draw(st.integers(0, 7))
    elif kind == "cut":
        del damaged[at : at + data.draw(st.integers(1, 40))]
    else:
        damaged[at:at] = data.draw(st.binary(min_size=1, max_size=9))
    assert_same(bytes(damaged))


@settings(max_examples=300)
@given(seed=st.integers(0, 99), at=st.integers(0, 10_000), bit=st.integers(0, 7), lost=st.booleans())
def test_a_broken_stream_with_right_checksums_never_escapes(seed: int, at: int, bit: int, lost: bool) -> None:
    """What a faulty program may write: pixels where Pillow has pixels, no other error than Pillow's."""
    stream = bytearray(zlib.compress(rows(seed)))
    at %= len(stream)
    if lost:
        del stream[at:]
    else:
        stream[at] ^= 1 << bit
    data = file(bytes(stream))
    expected, found = by_pillow(data), outcome(data)
    if isinstance(expected, str) and not isinstance(found, str):
        # The stream's own checksum, Adler-32, is not compared: the one difference, and documented.
        assert "broken data stream" in expected
    else:
        assert_same(data)


def test_a_path_goes_the_faster_way_and_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`to_pixels` of a path never has Pillow decode a plain file, and leaves no file open."""
    path = tmp_path / "a.png"
    path.write_bytes(FAST["RGB"])

    def fail(self: Any) -> None:
        raise AssertionError("Pillow decoded it")

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", fail)
    assert np.array_equal(to_pixels(path), NOISE[..., :3])
    path.rename(tmp_path / "b.png")


def test_an_image_of_the_caller_is_loaded_as_ever() -> None:
    """A PIL image that was opened, not loaded, is loaded by Pillow: its owner may go on with it."""
    image = Image.open(io.BytesIO(FAST["RGB"]))
    found = to_pixels(image)
    image.putpixel((0, 0), (1, 2, 3))
    assert np.array_equal(found, NOISE[..., :3])
    assert to_pixels(image)[0, 0].tolist() == [1, 2, 3]


def test_a_disk_that_fails_while_the_file_is_read_is_a_storage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when Pillow reads."""
    path = tmp_path / "a.png"
    path.write_bytes(FAST["RGB"])

    def fail(data: bytes) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(png_decoder, "decode", fail)
    with pytest.raises(StorageError, match=r"^cannot read .*a\.png.*: Input/output error$"):
        to_pixels(path)


@pytest.fixture
def decoder(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """``decoder(function)`` puts a function in the place of kornia-rs's; None for not installed."""

    def put(function: Any) -> None:
        monkeypatch.setattr(png_decoder, "_decoder", lambda: function)

    return put


def test_without_kornia_rs_pillow_decodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is optional: nothing is missing without it."""
    png_decoder._decoder.cache_clear()
    monkeypatch.setitem(sys.modules, "kornia_rs.io", None)
    try:
        assert decode(FAST["RGB"]) is None
        assert np.array_equal(pixels_from_bytes(FAST["RGB"]), NOISE[..., :3])
    finally:
        png_decoder._decoder.cache_clear()


def test_a_kornia_rs_of_another_kind_is_not_used(decoder: Callable[[Any], None]) -> None:
    """Other arguments, other shapes: Pillow decodes."""
    decoder(lambda _: None)
    assert decode(FAST["RGB"]) is None
    for shape in ((WIDTH, HEIGHT, 3), (HEIGHT, WIDTH), (HEIGHT, WIDTH, 4)):
        decoder(lambda *_, shape=shape: np.zeros(shape, np.uint8))
        assert decode(FAST["RGB"]) is None


def test_errors_that_are_not_of_the_stream_are_not_hidden(decoder: Callable[[Any], None]) -> None:
    """Only what kornia-rs raises of a broken stream, a bare `Exception`, means "ask Pillow"."""

    def raising(error: BaseException) -> Callable[..., None]:
        def function(data: bytes, shape: tuple[int, int], mode: str) -> None:
            raise error

        return function

    decoder(raising(Exception("Failed to decode")))
    assert decode(FAST["RGB"]) is None
    decoder(raising(MemoryError()))
    with pytest.raises(MemoryError):
        decode(FAST["RGB"])


@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n\x1a\n", b"GIF89a" + bytes(60), bytes(60)])
def test_what_is_no_png_is_none(data: bytes) -> None:
    """Nothing is asked of the decoder."""
    assert decode(data) is None


# ----------------------------------------------------------------------------------- the size of plain files


@pytest.mark.parametrize("data", [file(), file(cut=7), file(before=chunk(b"tEXt", b"parameters\0a fox"))])
def test_the_size_of_a_plain_file_is_known_without_pillow(data: bytes) -> None:
    """Pixels in one chunk or several, uncompressed texts."""
    assert size_of_plain(data) == (WIDTH, HEIGHT)
    for mode in ("1", "L", "LA", "RGB", "RGBA", "I;16"):
        assert size_of_plain(saved(Image.new(mode, (5, 3)))) == (5, 3)


CHUNKS = st.sampled_from(
    [b"IHDR", b"IDAT", b"tEXt", b"zTXt", b"iTXt", b"PLTE", b"tRNS", b"acTL", b"IEND", b"abcd"]
)


@settings(max_examples=300, deadline=None)
@given(
    head=st.builds(
        header,
        depth=st.sampled_from([0, 1, 2, 3, 4, 8, 16, 32]),
        colour=st.integers(0, 7),
        compression=st.sampled_from([0, 0, 0, 1]),
        filtering=st.sampled_from([0, 0, 0, 1]),
        interlace=st.integers(0, 2),
    ),
    chunks=st.lists(st.tuples(CHUNKS, st.binary(max_size=8)), max_size=4),
    damage=st.one_of(st.none(), st.tuples(st.integers(0, 200), st.integers(0, 255))),
    cut=st.one_of(st.none(), st.integers(0, 100)),
)
def test_pillow_opens_whatever_is_called_plain(head, chunks, damage, cut) -> None:
    """Of any chunks, damaged or cut: the file is opened by Pillow, has that size, and all of it is there."""
    data = bytearray(file(head=head, before=b"".join(chunk(kind, content) for kind, content in chunks)))
    if damage is not None:
        data[damage[0] % len(data)] = damage[1]
    size = size_of_plain(bytes(data if cut is None else data[:-cut]))
    if size is not None:
        with Image.open(io.BytesIO(data)) as image:
            assert (image.format, image.size) == ("PNG", size)
            image.verify()
