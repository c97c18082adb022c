"""What proves that a file is the one it should be, and where one goes that is not."""

from __future__ import annotations

import hashlib
import re
from datetime import datetime
from pathlib import Path

__all__ = ["DAMAGED", "aside_name", "git_blob_id", "matches_name", "set_aside", "sha256_of"]

DAMAGED = ".damaged-"
"""Stands between the name of a wrong file and the time when it was kept aside."""

_SHA256, _GIT = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{40}")


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal; about one second for each GB."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def git_blob_id(path: Path) -> str:
    """What git calls these bytes: SHA-1 of ``blob <size>``, a zero byte and the content (a small file)."""
    data = path.read_bytes()
    # Git chose SHA-1; this compares with what the Hub states, and the connection is encrypted.
    return hashlib.sha1(b"blob %d\0%b" % (len(data), data), usedforsecurity=False).hexdigest()


def matches_name(path: Path, sha256: str) -> bool:
    """Whether the Hub's cache holds the right bytes: it names a file after its digest.

    Args:
        path: A file, or a link in a snapshot.
        sha256: Of its bytes.

    Returns:
        True also for a name that is no digest: there is nothing to compare with.
    """
    name = path.resolve().name
    if _SHA256.fullmatch(name):
        return name == sha256
    return not _GIT.fullmatch(name) or name == git_blob_id(path)


def aside_name(path: Path) -> Path:
    """A name beside a file that nothing opens."""
    return path.with_name(f"{path.name}{DAMAGED}{datetime.now():%Y%m%d-%H%M%S-%f}")


def set_aside(path: Path) -> Path:
    """Rename a wrong file (what a link leads to, not the link); its bytes stay.

    Returns:
        Its new name.

    Raises:
        OSError: As the system reports it.
    """
    real = path.resolve()
    return real.rename(aside_name(real))
