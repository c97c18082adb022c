"""What counts as an image, and how it becomes pixels.

An image is a path, a `PIL.Image.Image`, an ``(h, w, 3)`` uint8 RGB array, or a torch tensor of one frame
(`reverie.tensors`). Whatever its mode, it becomes ``(h, w, 3)`` uint8 RGB the same way everywhere:

* EXIF orientation is applied: what you see in a viewer is what is encoded.
* Transparency (RGBA, LA, a transparent colour or palette entry) is composited over white, as a
  page would.
* Palette and CMYK are converted to RGB; grey is repeated over the three channels.
* 16-bit grey is divided by 257 (65535 becomes 255); 32-bit integer grey likewise when it goes past
  255; floating point is read as 0..1 when it stays there and as 0..255 otherwise.
* Of an animation the first frame counts.

Pillow reads every file; `reverie.png_decoder` makes the most usual kind of PNG faster where it can,
with the same pixels and the same errors.
"""

from __future__ import annotations

import errno
import io
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from reverie import png_decoder
from reverie.errors import ImageError, ImageNotFoundError, StorageError
from reverie.storage import read_file
from reverie.tensors import Tensor, as_tensor, is_tensor, tensor_pixels

__all__ = [
    "BROKEN_IMAGE",
    "MAX_PIXELS",
    "ImageFile",
    "ImageLike",
    "Pixels",
    "file_bytes",
    "fit",
    "like",
    "open_image",
    "pixels_from_bytes",
    "to_image",
    "to_pixels",
    "upright",
]

Pixels: TypeAlias = NDArray[np.uint8]
"""``(h, w, 3)`` uint8, RGB."""

ImageLike: TypeAlias = str | os.PathLike[str] | Image.Image | Pixels | Tensor
"""A path, a PIL image, ``(h, w, 3)`` uint8 RGB, or a torch tensor as `reverie.tensors` takes it."""

MAX_PIXELS = 178_956_970
"""Largest image that is opened (Pillow's own limit for a decompression bomb)."""

BROKEN_IMAGE = (
    ArithmeticError,
    EOFError,
    Image.DecompressionBombError,
    LookupError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    Warning,  # where the program turns warnings into errors
    struct.error,
)
"""What Pillow raises on broken and hostile files, found by flipping and cutting bytes of every format."""

_ORIENTATION = 0x0112
_UPRIGHT: dict[Any, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation to the turn that undoes it (EXIF 2.32, tag 0x0112)."""


@dataclass(frozen=True, slots=True, eq=False)
class ImageFile(os.PathLike[str]):
    """A path with what is known about its file; taken wherever a path is.

    Attributes:
        path: Where it is.
        data: All of its bytes, if they were read: they are what is decoded and stored, whatever the file
            holds by then. None: it is read when it is needed.
        link: Whether a cache on the same disk is to give it a second name (a hard link), not to copy it.
        whole: Whether all pixels were decoded from ``data`` without an error: nobody need see to that again.
    """

    path: str
    data: bytes | None = None
    link: bool = False
    whole: bool = False

    def __fspath__(self) -> str:
        return self.path


def file_bytes(path: str | os.PathLike[str]) -> bytes:
    """All bytes of an image file, those of an `ImageFile` that has them.

    Raises:
        ImageNotFoundError: No such file.
        ImageError: A folder, or an empty file.
        StorageError: The file cannot be read (permission, input/output error).
    """
    if isinstance(path, ImageFile) and path.data is not None:
        return path.data
    name = os.fspath(path)
    try:
        data = read_file(name)
    except (FileNotFoundError, NotADirectoryError) as exc:
        raise ImageNotFoundError(f"no image at {name!r}") from exc
    except ValueError as exc:  # a zero character
        raise ImageNotFoundError(f"{name!r} is not the name of a file: {exc}") from exc
    except IsADirectoryError as exc:
        raise ImageError(f"{name!r} is a folder, not an image file: name the files in it") from exc
    except OSError as exc:
        raise StorageError(f"cannot read {name!r}: {exc.strerror or exc}") from exc
    if not data:
        raise ImageError(f"{name!r} is empty (0 bytes)")
    return data


def open_image(path: str | os.PathLike[str]) -> Image.Image:
    """Open an image file lazily: the header is read, the pixels are not.

    Raises:
        ImageNotFoundError: No such file.
        ImageError: A folder, an empty file, not an image, or past `MAX_PIXELS`.
        StorageError: The file cannot be read (permission, input/output error).
    """
    try:
        image = Image.open(path)
    except (FileNotFoundError, NotADirectoryError) as exc:
        raise ImageNotFoundError(f"no image at {os.fspath(path)!r}") from exc
    except UnidentifiedImageError as exc:
        file = Path(path)
        if file.is_file() and file.stat().st_size == 0:
            raise ImageError(f"{os.fspath(path)!r} is empty (0 bytes)") from exc
        raise ImageError(f"{os.fspath(path)!r} is not an image that Pillow can read") from exc
    except IsADirectoryError as exc:
        raise ImageError(f"{os.fspath(path)!r} is a folder, not an image file: name the files in it") from exc
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as exc:
        raise ImageError(_too_large(repr(os.fspath(path)), str(exc))) from exc
    except BROKEN_IMAGE as exc:
        raise _broken(repr(os.fspath(path)), exc) from exc
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise ImageError(_too_large(repr(os.fspath(path)), f"{image.width} x {image.height} pixels"))
    return image


def _too_large(name: str, detail: str) -> str:
    return f"{name} is too large to open safely ({detail}; the limit is {MAX_PIXELS:,} pixels)"


def _broken(name: str, exc: Exception) -> ImageError | StorageError:
    """Whether the file or the disk is at fault: Pillow's own OSErrors carry no number, a bad seek EINVAL."""
    if isinstance(exc, OSError) and exc.errno not in (None, errno.EINVAL):
        return StorageError(f"cannot read {name}: {exc.strerror}")
    return ImageError(f"{name} is a broken image: {exc}")


def to_pixels(image: ImageLike) -> Pixels:
    """Any image as ``(h, w, 3)`` uint8 RGB, by the rules at the head of this module.

    An array that already has that form is returned as it is, not copied; of a tensor of uint8 it is a view.

    Raises:
        ImageError: A wrong type, shape or dtype, or a file that is broken or too large.
        ImageNotFoundError: No file at that path.
        StorageError: The file cannot be read.
    """
    if isinstance(image, np.ndarray):
        return _check_array(image)
    if isinstance(image, Image.Image):
        return _decode(image, "the image")
    if isinstance(image, ImageFile) and image.data is not None:
        return pixels_from_bytes(image.data, name=image.path)
    if isinstance(image, (str, os.PathLike)):
        with open_image(image) as opened:
            return _decode_file(opened, repr(os.fspath(image)))
    if is_tensor(image):
        return tensor_pixels(image)
    raise ImageError(
        "an image must be a path, a PIL image, an (h, w, 3) uint8 array or a torch tensor, got "
        f"{type(image).__name__}"
    )


def like(frame: ImageLike, pixels: Pixels) -> Image.Image | Pixels | Tensor:
    """Pixels in the form that a frame has: a PIL image, a tensor of its kind and place, else as they are."""
    if isinstance(frame, Image.Image):
        return Image.fromarray(pixels)
    return as_tensor(pixels, frame) if is_tensor(frame) else pixels


def pixels_from_bytes(data: bytes, *, name: str = "the image") -> Pixels:
    """The pixels of an image file's bytes; raises ImageError naming ``name`` when they are broken."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return _decode_file(image, repr(name))
    except ImageError:
        raise
    except UnidentifiedImageError as exc:
        raise ImageError(f"{name!r} is not an image that Pillow can read") from exc
    except BROKEN_IMAGE as exc:
        raise ImageError(f"{name!r} is not a readable image: {exc}") from exc


def to_image(image: ImageLike) -> Image.Image:
    """Any image as an RGB `PIL.Image.Image`; raises as `to_pixels`."""
    return Image.fromarray(to_pixels(image))


def fit(pixels: Pixels, height: int, width: int) -> Pixels:
    """Scale to cover ``(height, width)`` and cut the centre; an image of that size comes back as it is."""
    if pixels.shape[:2] == (height, width):
        return pixels
    image = ImageOps.fit(Image.fromarray(pixels), (width, height), method=Image.Resampling.LANCZOS)
    return np.asarray(image, dtype=np.uint8)


def _check_array(array: NDArray[Any]) -> Pixels:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        hint = ""
        if array.dtype.kind == "f":
            hint = "; for values in 0..1 pass (array * 255).round().astype(numpy.uint8)"
        elif array.ndim == 3 and array.shape[0] == 3:
            hint = "; for a channels-first array pass array.transpose(1, 2, 0)"
        raise ImageError(
            f"an image array must have shape (h, w, 3) and dtype uint8, got shape {array.shape} "
            f"and dtype {array.dtype}{hint}"
        )
    return cast("Pixels", array)


def _decode_file(image: Image.Image, name: str) -> Pixels:
    """The pixels of a file that was just opened and is not used after."""
    if image.format == "PNG" and 0 < image.width * image.height <= MAX_PIXELS:
        pixels = _fast_png(image, name)
        if pixels is not None:
            return pixels
    return _decode(image, name)


def _fast_png(image: Image.Image, name: str) -> Pixels | None:
    """The pixels of an opened PNG where there is a faster way than Pillow's; else it is as it was."""
    file = cast("io.BufferedIOBase", image.fp)  # type: ignore[attr-defined]  # of an image that comes from a file
    try:
        place = file.tell()
        file.seek(0)
        decoded = png_decoder.decode(file.read())
        file.seek(place)
    except OSError as exc:
        raise _broken(name, exc) from exc
    if decoded is None or decoded.shape[2] == 3:
        return decoded
    return np.asarray(_to_rgb(Image.fromarray(decoded)), dtype=np.uint8)


def _decode(image: Image.Image, name: str) -> Pixels:
    if image.width * image.height > MAX_PIXELS:
        raise ImageError(_too_large(name, f"{image.width} x {image.height} pixels"))
    if 0 in image.size:
        raise ImageError(f"{name} has no pixels ({image.width} x {image.height})")
    try:
        image.load()
        return np.asarray(_to_rgb(upright(image)), dtype=np.uint8)
    except BROKEN_IMAGE as exc:
        raise _broken(name, exc) from exc


def upright(image: Image.Image) -> Image.Image:
    """The image as a viewer shows it, by its EXIF orientation; broken EXIF beside sound pixels leaves it."""
    try:
        orientation = image.getexif().get(_ORIENTATION)
    except BROKEN_IMAGE:
        return image
    turn = _UPRIGHT.get(orientation)
    return image if turn is None else image.transpose(turn)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return Image.fromarray(_deep_grey(image)).convert("RGB")
    if image.has_transparency_data:
        straight = image.convert("LA") if image.mode == "La" else image  # Pillow has no way from La to RGBA
        layer = straight.convert("RGBA")
        white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")


def _deep_grey(image: Image.Image) -> NDArray[np.uint8]:
    """16-bit, 32-bit and floating-point grey as 8-bit grey."""
    values = np.nan_to_num(np.asarray(image, dtype=np.float64))
    if image.mode.startswith("I;16"):
        values /= 257.0
    elif image.mode == "I":
        values = values / 257.0 if values.max() > 255 else values
    elif values.max() <= 1.0:
        values = values * 255.0
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
