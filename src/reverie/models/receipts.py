"""What was checked on this machine: size, time and SHA-256 of every model file when it was last read.

A file whose size and time are those of its receipt is not read again. The commit in a receipt is the
one the files came from, so a source that names a branch stays what it was at the first pull.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from platformdirs import user_data_dir

from reverie.errors import StorageError
from reverie.models.cards import Source
from reverie.models.digests import sha256_of
from reverie.storage import replace_file, storage_error

__all__ = [
    "VARIABLE",
    "Checked",
    "Receipt",
    "checked",
    "forget",
    "load",
    "local_digest",
    "receipt_folder",
    "save",
]

VARIABLE = "REVERIE_MODELS"
"""The environment variable that names the folder of receipts."""

_LOCAL = "local-files.json"
_LOCAL_MAX = 64  # files remembered in it


@dataclass(frozen=True, slots=True)
class Checked:
    """A file as it was when its bytes were read.

    Attributes:
        path: Where, absolute.
        size: Bytes.
        mtime_ns: When it was last written.
        sha256: Of its bytes.
    """

    path: str
    size: int
    mtime_ns: int
    sha256: str

    def unchanged(self) -> bool:
        """Whether the file is there with the same size and time."""
        try:
            stat = Path(self.path).stat()
        except OSError:
            return False
        return (stat.st_size, stat.st_mtime_ns) == (self.size, self.mtime_ns)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What is known of one model in one family of engines.

    Attributes:
        model: Name of its card.
        family: ``"onnx"`` or ``"torch"``.
        repo: Repository.
        revision: As the card named it.
        commit: What that was; empty while not known.
        files: By name in the repository.
    """

    model: str
    family: str
    repo: str
    revision: str
    commit: str = ""
    files: Mapping[str, Checked] = field(default_factory=dict)


def receipt_folder() -> Path:
    """Where receipts are; it need not exist."""
    named = os.environ.get(VARIABLE)
    return Path(named) if named else Path(user_data_dir("reverie", appauthor=False)) / "models"


def checked(path: Path, sha256: str) -> Checked:
    """The record of a file that was just read; raises OSError when it is gone."""
    stat = path.stat()
    return Checked(str(path.absolute()), stat.st_size, stat.st_mtime_ns, sha256)


def load(model: str, family: str, source: Source) -> Receipt:
    """The receipt; an empty one when there is none, it cannot be read, or the card names other files now."""
    empty = Receipt(model, family, source.repo, source.revision)
    stored = _read(_place(model, family))
    try:
        files = {name: Checked(**record) for name, record in stored.pop("files").items()}
        receipt = Receipt(**stored, files=files)
    except (KeyError, TypeError, AttributeError):
        return empty
    return receipt if (receipt.repo, receipt.revision) == (source.repo, source.revision) else empty


def save(receipt: Receipt, source: Source) -> Receipt:
    """Write a receipt, together with what another process wrote meanwhile.

    Returns:
        What was written.

    Raises:
        StorageError: The disk refused.
    """
    stored = load(receipt.model, receipt.family, source)
    if stored.commit == receipt.commit:
        receipt = replace(receipt, files={**stored.files, **receipt.files})
    _write(_place(receipt.model, receipt.family), asdict(receipt))
    return receipt


def forget(model: str, family: str) -> None:
    """Delete a receipt; one that is not there is fine."""
    _place(model, family).unlink(missing_ok=True)


def local_digest(path: Path) -> str:
    """SHA-256 of the user's own file, remembered as long as its size and time stay.

    Raises:
        OSError: It cannot be read.
    """
    place = receipt_folder() / _LOCAL
    known = _read(place)
    key = str(path.absolute())
    stat = path.stat()
    record = known.get(key)
    if isinstance(record, list) and record[:2] == [stat.st_size, stat.st_mtime_ns]:
        return str(record[-1])
    digest = sha256_of(path)
    known.pop(key, None)
    kept = dict(list(known.items())[1 - _LOCAL_MAX :])
    try:
        _write(place, {**kept, key: [stat.st_size, stat.st_mtime_ns, digest]})
    except StorageError:
        return digest  # a machine that cannot write there reads the file each time
    return digest


def _place(model: str, family: str) -> Path:
    return receipt_folder() / f"{model}.{family}.json"


def _read(path: Path) -> dict[str, Any]:
    try:
        stored = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return stored if isinstance(stored, dict) else {}


def _write(path: Path, content: Mapping[str, object]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise storage_error(f"make the folder {path.parent}", exc) from exc
    replace_file(path, [json.dumps(content, indent=1).encode(), b"\n"])
