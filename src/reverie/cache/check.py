"""Compare index and files, and repair without destroying.

Dry unless ``fix`` is asked. A repair moves files into ``lost+found/`` and records into a file
beside the index; it deletes nothing, and it never touches an entry whose image is sound.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from reverie import registry
from reverie.cache.convert import index_on_disk
from reverie.entry import Record, cache_number, record_to_json
from reverie.errors import ImageError, IndexCorruptError, StorageError, UnsafePathError
from reverie.pixels import open_image
from reverie.protocols import IndexBackend
from reverie.storage import PARTIAL_PREFIX, replace_file, storage_error, sync_folder

__all__ = ["CheckReport", "Problem", "check_cache"]

_BATCH = 500


@dataclass(frozen=True, slots=True)
class Problem:
    """One disagreement.

    Attributes:
        kind: ``damaged index``, ``second index``, ``missing image``, ``broken image``,
            ``changed image``, ``unsafe link``, ``orphan image`` or ``unfinished write``.
        subject: The id or file that it is about.
        message: What was found.
        action: What ``--fix`` did, or would do; empty when there is nothing to do by itself.
    """

    kind: str
    subject: str
    message: str
    action: str = ""


@dataclass(slots=True)
class CheckReport:
    """What a check found.

    Attributes:
        folder: The cache folder.
        entries: Entries looked at.
        problems: Everything that disagrees; empty in a sound cache.
        fixed: Whether repairs were made.
    """

    folder: Path
    entries: int = 0
    problems: list[Problem] = field(default_factory=list)
    fixed: bool = False

    @property
    def ok(self) -> bool:
        """True when index and files agree."""
        return not self.problems


def check_cache(
    folder: str | os.PathLike[str], *, fix: bool = False, kind: str | None = None, lock_timeout: float = 10.0
) -> CheckReport:
    """Check a cache folder; it need not be openable.

    Args:
        folder: The cache folder.
        fix: Also repair.
        kind: Kind of its index; None looks at the disk.
        lock_timeout: Seconds to wait while another process writes.

    Raises:
        StorageError: The folder cannot be read, or a repair could not be written.
    """
    path = Path(folder).expanduser().absolute()
    if not path.is_dir():
        raise StorageError(f"no cache folder at {os.fspath(folder)!r}")
    kind = kind or index_on_disk(path / "metadata") or "json"
    return _Check(path, kind, os.fspath(folder), lock_timeout).run(fix)


class _Check:
    def __init__(self, folder: Path, kind: str, shown: str, lock_timeout: float) -> None:
        self.folder = folder
        self.images = folder / "images"
        self.kind = kind
        self.shown = shown
        self.lock_timeout = lock_timeout
        self.report = CheckReport(folder)

    def index(self) -> IndexBackend:
        index: IndexBackend = registry.create(
            "indexes", self.kind, self.folder, shown=self.shown, lock_timeout=self.lock_timeout
        )
        return index

    def found(self, kind: str, subject: str, message: str, action: str = "") -> None:
        self.report.problems.append(Problem(kind, subject, message, action))

    def run(self, fix: bool) -> CheckReport:
        index = self.index()
        try:
            index.poll()
            damage = ""
        except (IndexCorruptError, UnsafePathError) as exc:
            damage = str(exc)
        try:
            if damage:
                self._damaged(index, damage, fix)
            else:
                self._compare(index, fix)
        finally:
            index.close()
        self.report.fixed = fix and not self.report.ok
        return self.report

    # -- an index that cannot be read

    def _damaged(self, index: IndexBackend, damage: str, fix: bool) -> None:
        records, number = index.salvage()
        adopted = list(self._adopt({record.image_name for record in records}, len(records)))
        action = (
            f"keep it aside, take over {len(records)} readable entries and {len(adopted)} images without one"
        )
        self.report.entries = len(records)
        if fix:
            aside = _keep_copy(index.path)
            highest = max((cache_number(record.cache_id) for record in adopted), default=0)
            number = max(number, highest + 1, len(records) + len(adopted) + 1)
            index.replace_all([*records, *adopted], number, {})
            action += f"; the old file is {aside.name}"
        self.found("damaged index", index.path.name, damage, action)

    def _adopt(self, known: set[str], count: int) -> Iterator[Record]:
        """A record for each whole picture that no entry has."""
        for path in self._files():
            if path.name in known or path.name.startswith(PARTIAL_PREFIX) or self._fault(path) is not None:
                continue
            count += 1
            stat = path.stat()
            yield Record(
                number=count,
                cache_id=path.stem,
                image_name=path.name,
                prompt="",
                params=b'{"recovered":true}',
                embedding=None,
                timestamp=datetime.fromtimestamp(stat.st_mtime).isoformat(timespec="microseconds"),
                used_ns=stat.st_mtime_ns,
                content_hash=hashlib.sha256(path.read_bytes()).hexdigest(),
                byte_size=stat.st_size,
            )

    def _files(self) -> list[Path]:
        try:
            return sorted(path for path in self.images.iterdir() if not path.is_dir() or path.is_symlink())
        except FileNotFoundError:
            return []
        except OSError as exc:
            raise storage_error(f"list {self.images}", exc) from exc

    # -- an index that can be read

    def _compare(self, index: IndexBackend, fix: bool) -> None:
        ids = [brief.cache_id for brief in index.everything()]
        self.report.entries = len(ids)
        bad: list[Record] = []
        for start in range(0, len(ids), _BATCH):
            bad.extend(
                record for record in index.read(ids[start : start + _BATCH]) if self._check_record(record)
            )
        if bad and len(bad) == len(ids) and not self._files():
            self.found(
                "missing image",
                str(self.images),
                "not one image is there: is the disk with the images attached?",
                "nothing: entries are never dropped because a whole folder is away",
            )
            bad = []
        self._check_second_index()
        if fix:
            self._set_aside(index, bad)
        self._check_orphans(index, fix)

    def _check_record(self, record: Record) -> bool:
        """Report what is wrong with one entry; True when a repair has to take it out."""
        path = self.images / record.image_name
        fault = self._fault(path)
        if fault is not None:
            kind, message = fault
            self.found(kind, record.cache_id, message, "set the record aside, move the file to lost+found/")
            return True
        if record.content_hash and hashlib.sha256(path.read_bytes()).hexdigest() != record.content_hash:
            self.found(
                "changed image",
                record.cache_id,
                f"{record.image_name} is a whole picture, but not the one that was stored: edited since?",
            )
        return False

    def _fault(self, path: Path) -> tuple[str, str] | None:
        if not os.path.lexists(path):
            return "missing image", f"{path.name} is not there"
        if path.is_symlink() and self.images.resolve() not in path.resolve().parents:
            return "unsafe link", f"{path.name} is a link that leads out of the cache; it was not followed"
        try:
            with open_image(path) as image:
                image.load()
        except (ImageError, StorageError, *_PILLOW_ERRORS) as exc:
            return "broken image", f"{path.name}: {exc}"
        return None

    def _check_second_index(self) -> None:
        other = self.folder / "metadata" / "cache_index.json"
        if self.kind == "sqlite" and other.exists():
            self.found(
                "second index", other.name, "the cache uses its database: this file is not read by reverie"
            )

    def _check_orphans(self, index: IndexBackend, fix: bool) -> None:
        """Files that no entry has. Under the writer's lock, so that an add under way is not mistaken."""
        try:
            with index.write() as (writer, _):
                trash = set(writer.trash())
                self._report_orphans(index, trash, fix)
        except StorageError:
            if fix:
                raise
            self._report_orphans(index, set(), fix=False)  # a read-only folder can still be looked at

    def _report_orphans(self, index: IndexBackend, trash: set[str], fix: bool) -> None:
        ids = [brief.cache_id for brief in index.everything()]
        known = {record.image_name for record in index.read(ids)}
        for path in self._files():
            if path.name in known or path.name in trash:
                continue
            if path.name.startswith(PARTIAL_PREFIX):
                if not _writer_lives(path.name):
                    self.found(
                        "unfinished write",
                        path.name,
                        "left by a process that was stopped",
                        _move_action(path, fix),
                    )
            else:
                self.found("orphan image", path.name, "no entry has this file", _move_action(path, fix))

    def _set_aside(self, index: IndexBackend, bad: Sequence[Record]) -> None:
        if not bad:
            return
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S-%f")
        lines = [record_to_json(record, "images/") + b"\n" for record in bad]
        replace_file(self.folder / "metadata" / f"set-aside-{stamp}.jsonl", lines)
        for record in bad:
            _move_action(self.images / record.image_name, True)
        with index.write() as (writer, _):
            ids = [record.cache_id for record in bad]
            still = {record.cache_id for record in index.read(ids)}
            writer.remove([cache_id for cache_id in ids if cache_id in still])
            writer.forget_trash([record.image_name for record in bad])


_PILLOW_ERRORS = (ValueError, SyntaxError, TypeError, EOFError, OSError)


def _move_action(path: Path, fix: bool) -> str:
    """Move a file into lost+found/ (or say that a fix would)."""
    shelf = path.parent.parent / "lost+found"
    if fix and os.path.lexists(path):
        try:
            shelf.mkdir(exist_ok=True)
            target = shelf / path.name
            count = 1
            while os.path.lexists(target):
                count += 1
                target = shelf / f"{path.stem}-{count}{path.suffix}"
            path.rename(target)
        except OSError as exc:
            raise storage_error(f"move {path} to {shelf}", exc) from exc
    return "move it to lost+found/"


def _keep_copy(path: Path) -> Path:
    """Copy a damaged index (and a database's log) to a name that nothing opens."""
    aside = path.with_name(f"{path.name}.damaged-{datetime.now().strftime('%Y%m%d-%H%M%S-%f')}")
    try:
        shutil.copy2(path, aside)
        log = path.with_name(path.name + "-wal")
        if log.exists():
            shutil.copy2(log, aside.with_name(aside.name + "-wal"))
        sync_folder(path.parent)
    except OSError as exc:
        raise storage_error(f"keep {path} aside", exc) from exc
    return aside


def _writer_lives(name: str) -> bool:
    """Whether the process that stages this file (its number stands in the name) is still there."""
    number = name.removeprefix(PARTIAL_PREFIX).partition("-")[0]
    if not number.isdigit():
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
