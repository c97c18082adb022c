"""Images as files in one folder: checked, written durably, never overwritten."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import zlib
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from PIL import Image, PngImagePlugin, UnidentifiedImageError

from reverie.errors import ImageError, ImageNotFoundError, StorageError, UnsafePathError
from reverie.pixels import BROKEN_IMAGE, MAX_PIXELS, ImageFile, ImageLike, file_bytes, to_image
from reverie.png_decoder import size_of_plain, sound_chunks
from reverie.protocols import Staged, Taken
from reverie.storage import content_hash, flush_files, partial_name, read_file, storage_error, write_new

__all__ = ["LocalImages"]

_SUFFIXES = {"JPEG": ".jpg", "MPO": ".jpg", "TIFF": ".tif", "JPEG2000": ".jp2"}  # else the format's own name
_XMP = "XML:com.adobe.xmp"  # where PNG keeps it
_PNG_MODES = {"1", "L", "LA", "I", "I;16", "P", "RGB", "RGBA"}
_NO_TEXTS: Final[Mapping[str, str]] = MappingProxyType({})
_OVERHEAD = 2**16  # bytes of a PNG besides its pixels
_NO_LINK = {
    errno.EXDEV: "it is on another disk than the cache, and a hard link needs the same",
    errno.EPERM: "the system allows no hard link to it (another owner, or a file system without them)",
    errno.ENOTSUP: "the file system has no hard links",
    errno.EMLINK: "it has as many names as the file system allows",
}
_DECODE_ERRORS = (*BROKEN_IMAGE, AttributeError)  # the last of a PIL image that was closed


class LocalImages:
    """The image files of a cache (``local``).

    Args:
        root: The folder; created on the first write. It may be a link to another disk; a link
            *inside* it that leads out is never followed.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    @property
    def root(self) -> Path:
        """The folder that holds the files."""
        return self._root

    def stage(self, image: ImageLike, texts: Mapping[str, str] = _NO_TEXTS) -> Staged:
        """Check an image and write it under a temporary name; the disk works on it from then on.

        A path keeps its bytes, so nothing of its metadata is lost, and its format. A PIL image
        or an ``(h, w, 3)`` uint8 array becomes PNG with these ``texts``; the text, EXIF and colour profile
        that a PIL image carries are written along. An `ImageFile` with ``link`` gets a second name, and no
        byte of it is copied: deleting ours leaves the other, but who writes into the file changes both.

        Raises:
            ImageError: Missing, broken, empty, too large, or not an image; or changed while it was linked.
            StorageError: The disk refused, or the file cannot be linked; no file is left.
        """
        file = image if isinstance(image, ImageFile) else None
        name = os.fspath(image) if isinstance(image, (str, os.PathLike)) else None
        data = _png_bytes(image, texts) if name is None else file_bytes(file or name)
        path = self._root / partial_name()
        self._make_root()
        if file is not None and file.link:
            _link(file.path, path, data)
        else:
            self._write(path, data)
        try:
            suffix = ".png" if name is None else _checked_suffix(data, name, file is not None and file.whole)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return Staged(path, suffix, len(data), content_hash(data))

    def take(self, image: ImageLike) -> Taken:
        """Check an image and take it into memory, to be staged later; raises ImageError and StorageError.

        Of a file, its bytes; of pixels, a copy, which becomes PNG when it is staged.
        """
        if isinstance(image, (str, os.PathLike)):
            name, data = os.fspath(image), file_bytes(image)
            whole = isinstance(image, ImageFile) and image.whole
            suffix = _checked_suffix(data, name, whole)
            return Taken(ImageFile(name, data, whole=True), suffix, len(data))
        copy = _copy(image)
        return Taken(copy, ".png", 5 * copy.width * copy.height + _OVERHEAD)

    def _make_root(self) -> None:
        try:
            if not self._root.is_dir():
                self._root.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise storage_error(f"store an image in {self._root}", exc) from exc

    def _write(self, path: Path, data: bytes) -> None:
        try:
            write_new(path, [data], durable=False)
        except OSError as exc:
            raise storage_error(f"store an image in {self._root}", exc) from exc

    def exists(self, image_name: str) -> bool:
        """Whether the folder holds anything of that name, a broken link included."""
        return os.path.lexists(f"{self._root}/{image_name}")

    def commit(
        self, named: Sequence[tuple[Staged, str]], *, durable: bool = True, over: Container[str] = ()
    ) -> None:
        """Rename staged images, then flush them and the folder: one entry in the disk's own log for all.

        Raises:
            StorageError: A name is taken, or the disk refused; nothing has its name then but what had it.
        """
        renamed: list[tuple[Path, Path]] = []
        try:
            for staged, image_name in named:
                path = self._root / image_name
                if image_name in over:
                    Path(staged.token).replace(path)
                else:
                    self._refuse_taken(path)
                    Path(staged.token).rename(path)
                renamed.append((path, Path(staged.token)))
            if durable:
                flush_files([path for path, _ in renamed], self._root)
        except BaseException as exc:
            for path, token in renamed:
                if path.name not in over:
                    _take_back(path, token)
            if isinstance(exc, OSError):
                raise storage_error(f"store {path}", exc) from exc
            raise

    def _refuse_taken(self, path: Path) -> None:
        if self.exists(path.name):
            raise StorageError(f"{path} exists already: it is not overwritten")

    def flush(self, image_names: Sequence[str]) -> None:
        """Wait until these images are on the disk; one that is gone is fine.

        Raises:
            StorageError: The disk refused.
        """
        try:
            flush_files([self._root / name for name in image_names], self._root)
        except OSError as exc:
            raise storage_error(f"store images in {self._root}", exc) from exc

    def discard(self, staged: Staged) -> None:
        """Delete a staged image that is not wanted; gone already is fine."""
        with contextlib.suppress(OSError):
            Path(staged.token).unlink()

    def read(self, image_name: str) -> bytes:
        """The bytes of a stored image.

        Raises:
            ImageNotFoundError: No such file.
            UnsafePathError: It is a link that leads out of the folder.
            StorageError: It cannot be read.
        """
        path = self._root / image_name
        if path.is_symlink() and self._root.resolve() not in path.resolve().parents:
            raise UnsafePathError(f"{path} is a link that leads out of the cache: it is not followed")
        try:
            return read_file(os.fspath(path))
        except FileNotFoundError as exc:
            raise ImageNotFoundError(
                f"the image {path} is gone: `reverie cache check` lists such entries"
            ) from exc
        except OSError as exc:
            raise StorageError(f"cannot read {path}: {exc.strerror or exc}") from exc

    def delete(self, image_names: Sequence[str]) -> None:
        """Delete files; one that is gone already is fine, a link is deleted and never its target.

        Raises:
            StorageError: The system refused to delete one; the others are deleted.
        """
        failed: OSError | None = None
        for name in image_names:
            try:
                (self._root / name).unlink(missing_ok=True)
            except OSError as exc:
                failed = exc
        if failed is not None:
            raise storage_error(f"delete {failed.filename}", failed) from failed


def _take_back(path: Path, token: Path) -> None:
    """Take a name from a staged image; where the disk refuses even that, the image goes with it."""
    try:
        path.rename(token)
    except OSError:
        with contextlib.suppress(OSError):
            path.unlink()


def _link(source: str, path: Path, data: bytes) -> None:
    """Give a file a second name; it must still hold what was read of it."""
    try:
        os.link(Path(source).resolve(), path)  # a symbolic link would get the second name itself
        unchanged = path.read_bytes() == data
    except OSError as exc:
        path.unlink(missing_ok=True)
        why = _NO_LINK.get(exc.errno or 0, exc.strerror or str(exc))
        error = StorageError(
            f"cannot link {source!r} into {path.parent}: {why}. Copy it instead (--copy, link=False)"
        )
        error.errno = exc.errno
        raise error from exc
    if not unchanged:
        path.unlink()
        raise ImageError(f"{source!r} changed while it was read: add it again when it is complete")


def _checked_suffix(data: bytes, name: str, decoded: bool) -> str:
    """The suffix of the format that the bytes have, after checking that the image is whole."""
    plain = size_of_plain(data)
    kind = "PNG"
    try:
        if plain is None or plain[0] * plain[1] > MAX_PIXELS // 2:  # from there on Pillow warns
            with Image.open(io.BytesIO(data)) as image:
                kind = image.format or ""
                _check_whole(image, kind, data, decoded)
    except UnidentifiedImageError as exc:
        raise ImageError(f"{name!r} is not an image that Pillow can read") from exc
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as exc:
        raise ImageError(f"{name!r} is too large to open safely: {exc}") from exc
    except _DECODE_ERRORS as exc:
        raise ImageError(f"{name!r} is a broken image: {exc}") from exc
    if kind == "PNG" and name.endswith(".png"):
        return ".png"
    own = Path(name).suffix.lower()
    if Image.registered_extensions().get(own) == kind:
        return own
    return _SUFFIXES.get(kind, f".{kind.lower()}")


def _check_whole(image: Image.Image, kind: str, data: bytes, decoded: bool) -> None:
    """Find a cut or damaged file as cheaply as its format allows; raises what Pillow raises.

    What was ``decoded`` is whole, but for a PNG, whose end no decoder asks for.
    """
    if image.width * image.height > MAX_PIXELS:
        raise Image.DecompressionBombError(f"{image.width} x {image.height} pixels")
    if kind == "PNG":
        chunks = {chunk for chunk, _, _ in sound_chunks(data)}
        if b"IEND" not in chunks:
            raise SyntaxError("it is cut short, or a checksum in it is wrong")
        if b"IDAT" not in chunks:
            raise SyntaxError("it holds no pixels")
    elif decoded:
        return
    elif kind == "JPEG":
        image.draft("L", (max(1, image.width // 8), max(1, image.height // 8)))
        image.load()  # the whole stream, at an eighth of the size
    else:
        image.load()


def _png_bytes(image: Any, texts: Mapping[str, str]) -> bytes:
    if not isinstance(image, Image.Image):
        return _save_png(to_image(image), {"pnginfo": _texts(texts)})
    try:
        carried: dict[Any, Any] = {**texts, **image.info}
        if image.mode in _PNG_MODES and 0 not in image.size:
            return _save_png(image, {**_png_metadata(image), "pnginfo": _texts(carried)})
        return _save_png(to_image(image), {"pnginfo": _texts(carried)})
    except ImageError:
        raise
    except _DECODE_ERRORS as exc:
        raise ImageError(f"the image cannot be stored as PNG: {exc}") from exc


def _copy(image: Any) -> Image.Image:
    """A copy of pixels that can be stored, with all that a PIL image carries; raises ImageError."""
    if not isinstance(image, Image.Image):
        return to_image(image)
    if image.mode not in _PNG_MODES or 0 in image.size:
        to_image(image)  # says what is wrong with it
    try:
        copy, exif = image.copy(), image.getexif()
        if exif:
            copy.info["exif"] = exif.tobytes()
    except _DECODE_ERRORS as exc:
        raise ImageError(f"the image cannot be stored as PNG: {exc}") from exc
    return copy


def _save_png(image: Image.Image, metadata: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=1, compress_type=zlib.Z_RLE, **metadata)
    return buffer.getvalue()


def _png_metadata(image: Image.Image) -> dict[str, Any]:
    metadata: dict[str, Any] = {}
    with contextlib.suppress(*_DECODE_ERRORS):  # broken EXIF beside sound pixels
        exif = image.getexif()
        if exif:
            metadata["exif"] = exif.tobytes()
    for key in ("icc_profile", "dpi", "transparency"):
        if image.info.get(key) is not None:
            metadata[key] = image.info[key]
    return metadata


def _texts(carried: Mapping[Any, Any]) -> PngImagePlugin.PngInfo:
    """The texts among what an image carries, as PNG chunks; a key that PNG cannot hold is passed over."""
    texts = PngImagePlugin.PngInfo()
    found = dict(carried)
    xmp = found.get("xmp")
    if isinstance(xmp, bytes):
        found.setdefault(_XMP, xmp.decode(errors="replace"))
    for key, value in found.items():
        if isinstance(key, str) and isinstance(value, str) and 0 < len(key) < 80:
            with contextlib.suppress(UnicodeError):
                texts.add_itxt(key, value)
    return texts
