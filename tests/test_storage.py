"""Writing files: all or nothing, and errors of ours that say what to do."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from reverie import storage
from reverie.errors import StorageError


def test_a_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    """New content from pieces, and nothing beside it."""
    path = tmp_path / "file"
    for content in (b"first", b"second", b""):
        storage.replace_file(path, [content[:2], b"", content[2:]], durable=bool(content))
        assert path.read_bytes() == content
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("step", ["open", "write", "fsync", "replace"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO])
def test_a_failure_at_any_step_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, code: int
) -> None:
    """The old bytes, no temporary file, and an error that names the file and what to do."""
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(*arguments: Any, **options: Any) -> Any:
        raise OSError(code, os.strerror(code), str(path))

    with monkeypatch.context() as patch:
        if step == "replace":
            patch.setattr(Path, "replace", fail)
        else:
            patch.setattr(storage.os, step, fail)
        with pytest.raises(StorageError, match="Nothing was changed") as caught:
            storage.replace_file(path, [b"new"])
    assert caught.value.errno == code
    assert str(path) in str(caught.value)
    advice = {errno.ENOSPC: "disk is full", errno.EROFS: "read-only", errno.EACCES: "permission denied"}
    assert advice.get(code, os.strerror(code)) in str(caught.value)
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == {"file": b"old"}


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system may take fewer bytes than it was given."""
    write = os.write
    monkeypatch.setattr(storage.os, "write", lambda handle, data: write(handle, bytes(data[:3])))
    storage.write_new(tmp_path / "file", [b"0123456789"])
    assert (tmp_path / "file").read_bytes() == b"0123456789"


def test_a_new_file_never_replaces_one(tmp_path: Path) -> None:
    """`write_new` and `publish_new` leave what has the name; the failed write deletes nothing."""
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(FileExistsError):
        storage.write_new(tmp_path / "file", [b"new"])
    (tmp_path / "temporary").write_bytes(b"new")
    storage.publish_new(tmp_path / "temporary", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"old"


@pytest.mark.parametrize("links", [True, False])
def test_publishing_gives_a_file_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    """Also where the file system has no hard links; there too it replaces nothing."""
    if not links:

        def fail(*arguments: Any) -> None:
            raise OSError(errno.EPERM, "no links here")

        monkeypatch.setattr(storage.os, "link", fail)
    (tmp_path / "temporary").write_bytes(b"new")
    storage.publish_new(tmp_path / "temporary", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"new"
    (tmp_path / "temporary").unlink(missing_ok=True)
    (tmp_path / "temporary").write_bytes(b"newer")
    storage.publish_new(tmp_path / "temporary", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"new"


def test_a_copy_aside_keeps_every_byte(tmp_path: Path) -> None:
    """Under a name that nothing opens, with what belongs to it; a missing file is an error of ours."""
    (tmp_path / "index").write_bytes(b"bad")
    (tmp_path / "index-wal").write_bytes(b"log")
    aside = storage.keep_aside(tmp_path / "index", "damaged", companions=["-wal", "-never"])
    assert aside.name.startswith("index.damaged-")
    assert aside.read_bytes() == b"bad"
    assert aside.with_name(aside.name + "-wal").read_bytes() == b"log"
    assert (tmp_path / "index").read_bytes() == b"bad"
    with pytest.raises(StorageError, match="keep"):
        storage.keep_aside(tmp_path / "nothing", "damaged")


@pytest.mark.parametrize(("code", "raises"), [(errno.EINVAL, False), (errno.EIO, True)])
def test_a_folder_that_cannot_be_flushed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, raises: bool
) -> None:
    """Some file systems have no such thing, which is fine; a failing disk is not."""

    def fail(handle: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(storage.os, "fsync", fail)
    if raises:
        with pytest.raises(OSError, match=os.strerror(code)):
            storage.sync_folder(tmp_path)
    else:
        storage.sync_folder(tmp_path)


def test_temporary_names_never_meet() -> None:
    """They begin so that nothing reads them, and carry the process's number."""
    names = {storage.partial_name() for _ in range(1000)}
    assert len(names) == 1000
    assert all(name.startswith(f"{storage.PARTIAL_PREFIX}{os.getpid()}-") for name in names)


def test_a_file_can_be_flushed_later(tmp_path, monkeypatch):
    """Without ``durable`` nothing waits for the disk; `flush_file` does, or says that the file is gone."""
    flushed = []
    monkeypatch.setattr(storage.os, "fsync", flushed.append)
    storage.write_new(tmp_path / "file", [b"01", b"23"], durable=False)
    assert (flushed, (tmp_path / "file").read_bytes()) == ([], b"0123")
    storage.flush_file(tmp_path / "file")
    assert len(flushed) == 1
    with pytest.raises(FileNotFoundError):
        storage.flush_file(tmp_path / "gone")


def test_content_hash_is_xxh3_of_128_bits():
    """The published test value of XXH3-128 for no bytes; one changed bit changes it."""
    assert storage.content_hash(b"") == "99aa06d3014798d86001c324468d497f"
    assert storage.content_hash(b"\x00" * 400) != storage.content_hash(b"\x00" * 399 + b"\x01")


@pytest.mark.parametrize("told", [0, 3, 8, 2**20 + 5], ids=["nothing", "less", "all", "more"])
def test_a_file_is_read_whole_whatever_size_it_is_said_to_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: int
) -> None:
    """One that grows or shrinks meanwhile, and those of which the system knows no size."""
    file = tmp_path / "file"
    file.write_bytes(b"12345678")
    monkeypatch.setattr(os, "fstat", lambda _handle: SimpleNamespace(st_size=told))
    assert storage.read_file(str(file)) == b"12345678"
    file.write_bytes(b"")
    assert storage.read_file(str(file)) == b""


def test_what_cannot_be_looked_for_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There, not there, below a file; a system that does not tell is an error that says why."""
    (tmp_path / "file").touch()
    assert storage.is_there(tmp_path / "file")
    assert not storage.is_there(tmp_path / "nothing")
    assert not storage.is_there(tmp_path / "file" / "below")

    def forbidden(*_arguments: Any, **_options: Any) -> Any:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "stat", forbidden)
    with pytest.raises(StorageError, match="permission denied"):
        storage.is_there(tmp_path / "file")
