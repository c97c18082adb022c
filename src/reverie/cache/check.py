"""Compare index and files, and repair without destroying.

Dry unless ``fix`` is asked. A repair moves files into ``lost+found/`` and records into a file
beside the index; it deletes nothing, and it never touches an entry whose image is sound. Pictures that were
there before an index was begun anew (`reverie.cache.lost`) become entries again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from reverie import registry
from reverie.cache.folder import check_folder, index_on_disk
from reverie.cache.lost import forget_lost, highest_number, lost_pictures
from reverie.entry import Record, cache_number, record_to_json
from reverie.errors import ImageError, ImageNotFoundError, IndexCorruptError, StorageError, UnsafePathError
from reverie.pixels import to_pixels
from reverie.protocols import IndexBackend, IndexWriter
from reverie.storage import PARTIAL_PREFIX, content_hash, is_there, keep_aside, replace_file, storage_error

__all__ = ["CheckReport", "Problem", "check_cache"]

_BATCH = 500


@dataclass(frozen=True, slots=True)
class Problem:
    """One disagreement.

    Attributes:
        kind: ``damaged index``, ``second index``, ``missing image``, ``broken image``, ``unreadable
            image``, ``changed image``, ``unsafe link``, ``orphan image`` or ``unfinished write``.
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
    folder: str | os.PathLike[str],
    *,
    fix: bool = False,
    kind: str | None = None,
    shown: str | None = None,
    lock_timeout: float = 10.0,
) -> CheckReport:
    """Check a cache folder; it need not be openable.

    Args:
        folder: The cache folder.
        fix: Also repair.
        kind: Kind of its index; None looks at the disk.
        shown: The folder as a repaired JSON index records it; None is ``folder``.
        lock_timeout: Seconds to wait while another process writes.

    Raises:
        ConfigError: ``folder`` is not a path.
        StorageError: The folder cannot be read, or a repair could not be written.
    """
    written, path = check_folder(folder)
    if not is_there(path) or not path.is_dir():
        raise StorageError(f"no cache folder at {written!r}")
    kind = kind or index_on_disk(path / "metadata") or "json"
    return _Check(path, kind, shown or written, lock_timeout).run(fix)


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
            try:
                self._expect_index(index)
                index.poll()
                index.verify()
                self._compare(index, fix)
            except (IndexCorruptError, UnsafePathError) as exc:
                self.report.problems.clear()
                self._damaged(index, str(exc), fix)
                if fix:
                    index.poll()
                    self._compare(index, fix)
        finally:
            index.close()
        self.report.fixed = fix and any(problem.action for problem in self.report.problems)
        return self.report

    # -- an index that cannot be read

    def _expect_index(self, index: IndexBackend) -> None:
        pictures = sum(not _is_partial(path) for path in self._files())
        if pictures and not index.path.exists():
            raise IndexCorruptError(f"there is no {index.path.name}, but {pictures} pictures in images/")

    def _damaged(self, index: IndexBackend, damage: str, fix: bool) -> None:
        salvaged, number = index.salvage()
        adopted = list(self._adopt(salvaged))
        action = f"take over {len(salvaged)} readable entries and {len(adopted)} images without one"
        self.report.entries = len(salvaged)
        if fix:
            index.close()
            if index.path.exists():
                aside = keep_aside(index.path, "damaged", companions=["-wal"])
                action += f"; the old file is kept as {aside.name}"
            records = [replace(record, number=place) for place, record in enumerate([*salvaged, *adopted], 1)]
            highest = max((cache_number(record.cache_id) for record in records), default=0)
            index.replace_all(records, max(number, highest + 1, len(records) + 1), {})
        self.found("damaged index", index.path.name, damage, action)

    def _adopt(self, salvaged: Sequence[Record]) -> Iterator[Record]:
        """A record for each whole picture that no entry has, oldest first."""
        known = {record.image_name for record in salvaged}
        taken = {record.cache_id for record in salvaged}
        found = [path for path in self._files() if path.name not in known and _is_text(path.name)]
        whole = [path for path in found if not _is_partial(path) and self._fault(path) is None]
        for path in sorted(whole, key=lambda path: path.stat().st_mtime_ns):
            cache_id = _free_id(path, taken)
            taken.add(cache_id)
            yield _recovered(path, cache_id, 0)

    def _files(self) -> list[Path]:
        try:
            return sorted(path for path in self.images.iterdir() if not path.is_dir() or path.is_symlink())
        except FileNotFoundError:
            return []
        except OSError as exc:
            raise storage_error(f"list {self.images}", exc) from exc

    # -- an index that can be read

    def _compare(self, index: IndexBackend, fix: bool) -> None:
        ids = [brief.cache_id for brief in index.briefs()]
        self.report.entries = len(ids)
        faults = self._faults(index, ids)
        if faults:  # look again: another process may have evicted them while we looked
            index.poll()
            faults = self._faults(index, list(faults))
        bad = [cache_id for cache_id, problem in faults.items() if problem.action]
        if bad and len(bad) == len(ids) and not self._files():
            self.found(
                "missing image",
                str(self.images),
                "not one image is there: is the disk with the images attached? Entries are never dropped "
                "because a whole folder is away",
            )
            bad = []
        else:
            self.report.problems.extend(faults.values())
        self._check_second_index()
        if fix:
            self._set_aside(index, index.read(bad))
        self._check_orphans(index, fix)

    def _faults(self, index: IndexBackend, ids: Sequence[str]) -> dict[str, Problem]:
        """What is wrong with each of these entries; one with an action has to be taken out by a repair."""
        found: dict[str, Problem] = {}
        for start in range(0, len(ids), _BATCH):
            for record in index.read(ids[start : start + _BATCH]):
                problem = self._check_record(record)
                if problem is not None:
                    found[record.cache_id] = problem
        return found

    def _check_record(self, record: Record) -> Problem | None:
        path = self.images / record.image_name
        try:
            record.entry(path)
        except ValueError as exc:
            raise IndexCorruptError(f"the entry {record.cache_id!r} is damaged: {exc}") from exc
        fault = self._fault(path)
        if fault is not None:
            kind, message = fault
            action = (
                "" if kind == "unreadable image" else "set the record aside, move the file to lost+found/"
            )
            return Problem(kind, record.cache_id, message, action)
        if record.content_hash and content_hash(path.read_bytes()) != record.content_hash:
            message = (
                f"{record.image_name} is a whole picture, but not the one that was stored: edited since?"
            )
            return Problem("changed image", record.cache_id, message)
        return None

    def _fault(self, path: Path) -> tuple[str, str] | None:
        """Kind and message of what is wrong with an image file; None for a whole picture."""
        if not os.path.lexists(path):
            return "missing image", f"{path.name} is not there"
        if path.is_symlink() and self.images.resolve() not in path.resolve().parents:
            return "unsafe link", f"{path.name} is a link that leads out of the cache; it was not followed"
        try:
            to_pixels(path)
        except ImageNotFoundError:
            return "missing image", f"{path.name} is not there"
        except ImageError as exc:
            return "broken image", f"{path.name}: {exc}"
        except StorageError as exc:
            return "unreadable image", f"{path.name}: {exc}"
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
            with index.write() as writer:
                trash = set(writer.trash())
                lost = self._report_orphans(index, trash, fix)
                if fix and lost:
                    self._take_over(index, writer, lost)
        except StorageError:
            if fix:
                raise
            self._report_orphans(index, set(), fix=False)  # a read-only folder can still be looked at
        if fix:
            forget_lost(index.path.parent)

    def _take_over(self, index: IndexBackend, writer: IndexWriter, lost: Sequence[Path]) -> None:
        """Entries for the pictures of an index that is gone; no number of theirs is used again."""
        taken = {brief.cache_id for brief in index.briefs()}
        above = highest_number(lost_pictures(index.path.parent))
        for path in sorted(lost, key=lambda path: path.stat().st_mtime_ns):
            cache_id = _free_id(path, taken)
            taken.add(cache_id)
            while (number := writer.next_number()) <= above:
                pass
            writer.put(_recovered(path, cache_id, number))

    def _report_orphans(self, index: IndexBackend, trash: set[str], fix: bool) -> list[Path]:
        """Note what no entry has; returns the pictures whose index is gone, which a repair takes over."""
        ids = [brief.cache_id for brief in index.briefs()]
        known = {record.image_name for record in index.read(ids)} | trash
        noted, lost = lost_pictures(index.path.parent), []
        for path in [*self._files(), *index.path.parent.glob(f"{PARTIAL_PREFIX}*")]:
            if path.parent == self.images and path.name in known:
                continue
            if path.name in noted and self._fault(path) is None:
                message = "no entry has this picture: it was there before the index was begun anew"
                self.found("orphan image", path.name, message, "take it over as an entry")
                lost.append(path)
            elif not _is_partial(path):
                self.found("orphan image", path.name, "no entry has this file", _move_action(path, fix))
            elif not _writer_lives(path.name):
                message = "left by a process that was stopped"
                self.found("unfinished write", path.name, message, _move_action(path, fix))
        return lost

    def _set_aside(self, index: IndexBackend, bad: Sequence[Record]) -> None:
        if not bad:
            return
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S-%f")
        lines = [record_to_json(record, "images/") + b"\n" for record in bad]
        replace_file(self.folder / "metadata" / f"set-aside-{stamp}.jsonl", lines)
        for record in bad:
            _move_action(self.images / record.image_name, True)
        with index.write() as writer:
            ids = [record.cache_id for record in bad]
            still = {record.cache_id for record in index.read(ids)}
            writer.remove([cache_id for cache_id in ids if cache_id in still])
            writer.forget_trash([record.image_name for record in bad])


def _recovered(path: Path, cache_id: str, number: int) -> Record:
    """What can be known of a picture without its record."""
    stat = path.stat()
    return Record(
        number=number,
        cache_id=cache_id,
        image_name=path.name,
        prompt="",
        params=b'{"recovered":true}',
        embedding=None,
        timestamp=datetime.fromtimestamp(stat.st_mtime).isoformat(timespec="microseconds"),
        used_ns=stat.st_mtime_ns // 1000 * 1000,
        content_hash=content_hash(path.read_bytes()),
        byte_size=stat.st_size,
    )


def _is_partial(path: Path) -> bool:
    return path.name.startswith(PARTIAL_PREFIX)


def _is_text(name: str) -> bool:
    """Whether a file name can stand in an index; one that is not UTF-8 cannot."""
    return name.isprintable() or name.encode(errors="replace").decode() == name


def _free_id(path: Path, taken: set[str]) -> str:
    """The name of a file without its ending, or with it where two files share the name."""
    cache_id = path.stem
    count = 1
    while cache_id in taken:
        cache_id = path.name if count == 1 else f"{path.name}-{count}"
        count += 1
    return cache_id


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
