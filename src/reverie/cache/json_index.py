"""The specification's ``cache_index.json`` 1.0: locked, atomic, never overwriting what it cannot read.

One writer at a time holds ``cache_index.lock``; the file is replaced in one step, so readers see
whole files and need no lock. A record is turned into text once and kept, so a write joins lines
that exist already. Beside the specification's keys the file holds ``next_id`` (ids are never used
twice) and, between an eviction and the deletion of its files, ``trash``; keys of other programs
are kept.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

import numpy as np
import orjson
from numpy.typing import NDArray

from reverie.cache.json_state import TOP_KEYS, VERSION, JsonState
from reverie.entry import (
    Record,
    cache_number,
    highest_id,
    record_from_json,
)
from reverie.errors import (
    CacheClosedError,
    ConfigError,
    IndexCorruptError,
    StorageError,
    UnsafePathError,
)
from reverie.half import VectorType
from reverie.locks import file_lock, held
from reverie.protocols import Brief, Changes, IndexWriter, Mark, Order
from reverie.query import Where
from reverie.storage import flush_file, replace_file, storage_error, sync_folder
from reverie.vectors import Embedding

__all__ = ["JsonIndex"]

_Version: TypeAlias = tuple[int, ...]

_ENTRY = re.compile(r'\{\s*"cache_id"')
_HIGHEST_NUMBER = 10**15  # as many digits as an id may have


class JsonIndex:
    """One JSON file in ``<folder>/metadata/`` (``json``).

    Args:
        folder: The cache folder, absolute.
        shown: The cache folder as the user wrote it; stands in the recorded ``image_path``.
        lock_timeout: Seconds to wait for another writer.
        durable: Whether a write waits until it is on the disk; else `flush` does.
        vectors: As what it keeps the numbers of vectors: float32, or None, which is the same here.

    Raises:
        ConfigError: Halves were asked for.
    """

    kind = "json"

    def __init__(
        self,
        folder: Path,
        *,
        shown: str = "",
        lock_timeout: float = 10.0,
        durable: bool = True,
        vectors: VectorType | None = None,
    ) -> None:
        self._refuse_halves(vectors, folder)
        self.path = folder / "metadata" / "cache_index.json"
        self._durable = durable
        self._counter = self.path.with_name("next_id")
        self._folder = folder
        self._prefix = _prefix(shown or folder.name)
        self._from_elsewhere = Path(shown).is_absolute() or ".." in Path(shown).parts
        self._other = self.path.with_suffix(".sqlite")  # where the other kind of index would be
        self._other_before = self._other.exists()
        self._lock = file_lock(self.path.with_suffix(".lock"), lock_timeout)
        self._state = self._nothing()
        self._looking = threading.Lock()  # one thread may look for changes while another writes
        self._seen: _Version | None = None
        self._held: list[int] = []  # an open handle keeps the file's inode from being used again
        weakref.finalize(self, _close_all, self._held)
        self._polled = False
        self._untold = True  # whether `poll` has something to tell
        self._salvaged: _Version | None = None  # the file that was salvaged; None before any was

    def poll(self) -> Changes | None:
        """That anything may have changed, when the file was replaced since it was last looked at; else None.

        A file that vanished while the cache was open is written again at the next write.

        Raises:
            IndexCorruptError: Not JSON, not version 1.0, or a record is not readable; the message
                names the file and the position.
        """
        with self._looking:
            self._follow()
            untold, self._untold = self._untold, False
        return Changes(True) if untold else None

    def _follow(self) -> None:
        """Read the file again when others wrote it."""
        if self._replaced():
            self._load()
            self._polled = self._untold = True

    def _nothing(self) -> JsonState:
        return JsonState(self._folder / "images", self._prefix)

    def _replaced(self) -> bool:
        try:
            stat = self.path.stat()
        except FileNotFoundError:
            return not self._polled
        except OSError as exc:
            raise storage_error(f"look for {self.path}", exc) from exc
        return self._seen != (stat.st_dev, stat.st_ino, stat.st_mtime_ns, stat.st_size)

    def mark(self) -> Mark | None:
        """None: the file has no log of its changes."""
        return None

    def since(self, mark: Mark) -> Changes:  # noqa: ARG002 - there are no marks
        """That anything may have changed."""
        return Changes(True)

    def count(self) -> int:
        """How many entries there are, as last polled."""
        return self._state.count()

    def total_bytes(self) -> int:
        """How many bytes their images take."""
        return self._state.total_bytes()

    def find(self, cache_ids: Sequence[str]) -> list[Brief]:
        """The briefs of these ids, in the order asked; ids that are gone are passed over."""
        return self._state.find(cache_ids)

    def briefs(
        self, where: Where | None = None, *, after: int = 0, limit: int | None = None, newest: bool = False
    ) -> list[Brief]:
        """Entries by number, or from the highest down."""
        return self._state.briefs(where, after=after, limit=limit, newest=newest)

    def numbers(self, where: Where) -> NDArray[np.int64]:
        """The numbers of the entries that are meant, in order."""
        return self._state.numbers(where)

    def pinned(self) -> list[str]:
        """Ids of the pinned entries, by number."""
        return self._state.pinned()

    def ordered(self, by: Order) -> Iterator[Brief]:
        """The entries that are not pinned, lowest first, ties by number."""
        return self._state.ordered(by)

    def read(self, cache_ids: Sequence[str]) -> list[Record]:
        """The records of these ids; ids that are gone are passed over."""
        return self._state.read(cache_ids)

    def vectors(self, cache_ids: Sequence[str] | None = None) -> Iterator[tuple[Brief, Embedding]]:
        """Each entry that has a vector with it, by number: of these ids, or of all."""
        return self._state.vectors(cache_ids)

    def spaces(self) -> set[tuple[str | None, int]]:
        """Encoder name and dimensions of the stored vectors."""
        return {(vector.encoder, vector.size) for _, vector in self.vectors()}

    def extra(self) -> dict[str, Any]:
        """Keys of the whole index that another program wrote."""
        return dict(self._state.other)

    def next_number(self) -> int:
        """The next number that no entry ever had, as last polled."""
        return self._state.number

    def verify(self) -> None:
        """Nothing to add: every poll reads the whole file."""

    def salvage(self) -> tuple[list[Record], int]:
        """The readable entries of a damaged file, and a number above all its ids."""
        self._salvaged = self._version()
        try:
            data = self.path.read_bytes()
        except OSError:
            return [], self._stored_counter()
        records: dict[str, Record] = {}
        for raw in _readable_entries(data.decode(errors="replace")):
            with contextlib.suppress(IndexCorruptError, UnsafePathError):
                record = record_from_json(raw, len(records) + 1)
                records.setdefault(record.cache_id, record)
        return list(records.values()), max(highest_id(data) + 1, self._stored_counter())

    def write(self) -> AbstractContextManager[IndexWriter]:
        """Hold the writer's lock, read what others wrote, and replace the file at the end.

        Raises:
            LockTimeoutError: Another process held the lock for ``lock_timeout`` seconds.
            StorageError: The disk refused; the old file is untouched.
        """
        return self._write()

    @contextmanager
    def _write(self) -> Iterator[IndexWriter]:
        with self._alone():
            self._refuse_if_converted()
            with self._looking:
                self._follow()
                state = self._state.copy()
            yield state
            if state.retired:
                self._move_away()
            elif state.changed:
                self._commit(state)

    def _refuse_if_converted(self) -> None:
        if self.path.exists() or not self._other.exists():
            return
        if self._seen is not None or not self._other_before:
            raise CacheClosedError(
                f"{self.path} gave way to another kind of index by another process: open the cache again"
            )

    def _alone(self) -> AbstractContextManager[None]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise storage_error(f"lock {self.path}", exc) from exc
        return held(
            self._lock,
            f"another process is writing to {self.path} for more than {self._lock.timeout:g} s: "
            "wait for it, or raise lock_timeout",
        )

    def _move_away(self) -> None:
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S-%f")
        try:
            self.path.rename(self.path.with_name(f"{self.path.name}.retired-{stamp}"))
        except OSError as exc:
            raise storage_error(f"retire {self.path}", exc) from exc

    def retired(self) -> bool:
        """Never: a retired file is moved away, which other processes see."""
        return False

    def vector_type(self) -> VectorType:
        """Always float32: the numbers are text."""
        return "float32"

    def set_vector_type(self, vectors: VectorType) -> Path | None:
        """Nothing, as they are float32; raises ConfigError for another type."""
        self._refuse_halves(vectors, self._folder)
        return None

    def _refuse_halves(self, vectors: VectorType | None, folder: Path) -> None:
        if vectors not in (None, "float32"):
            raise ConfigError(
                f"a JSON index keeps the numbers of vectors as text, not as {vectors}: leave vectors "
                f"out, or convert with: reverie cache convert --to sqlite --vectors {vectors} "
                f"--cache {folder}"
            )

    def replace_all(
        self,
        records: Iterable[Record],
        next_number: int,
        extra: Mapping[str, Any],
        vectors: VectorType | None = None,
    ) -> None:
        """Write a whole new file in one step; what the old one held does not matter.

        Raises:
            ConfigError: ``vectors`` is not float32.
            StorageError: The disk refused, or another process wrote the file after it was salvaged here;
                the old file is untouched.
        """
        self._refuse_halves(vectors, self._folder)
        state = self._nothing()
        for record in records:
            state.put(record)
        state.number = next_number
        state.other = dict(extra)
        with self._alone():
            if self._salvaged is not None and self._salvaged != self._version():
                raise StorageError(
                    f"{self.path} was written by another process meanwhile: check the cache again. Nothing "
                    "was changed"
                )
            self._commit(state)
            self._salvaged = None

    def _version(self) -> _Version:
        """What tells this version of the file from another; of no file, nothing."""
        try:
            stat = self.path.stat()
        except OSError:
            return ()
        return stat.st_dev, stat.st_ino, stat.st_mtime_ns, stat.st_size

    def _commit(self, state: JsonState) -> None:
        with self._looking:
            replace_file(self.path, state.chunks(), durable=self._durable)
            if state.number != self._state.number:
                self._remember_counter(state.number)
            self._state = state
            try:
                self._remember_file(os.open(self.path, os.O_RDONLY))
            except OSError:  # written all the same: read it again at the next look
                self._seen = None

    def _remember_counter(self, number: int) -> None:
        # A second place for the counter: other programs drop keys of ours when they write the index.
        # Always as many digits, in one write over the old ones: no crash leaves half a number.
        with contextlib.suppress(OSError):
            handle = os.open(self._counter, os.O_WRONLY | os.O_CREAT, 0o666)
            try:
                os.write(handle, b"%016d\n" % number)
            finally:
                os.close(handle)

    def _stored_counter(self) -> int:
        try:
            return int(self._counter.read_text())
        except (OSError, ValueError):
            return 1

    def settle(self) -> bool:
        """True: the file in its place is the old one or the new one."""
        return True

    def flush(self) -> None:
        """Wait until the file is on the disk; raises StorageError."""
        try:
            flush_file(self.path)
            sync_folder(self.path.parent)
        except FileNotFoundError:
            return
        except OSError as exc:
            raise storage_error(f"write {self.path}", exc) from exc

    def close(self) -> None:
        """Let go of the file."""
        _close_all(self._held)
        self._lock.release(force=True)

    # -- reading the file

    def _load(self) -> None:
        try:
            with self.path.open("rb") as file:
                data = file.read()
                held = os.dup(file.fileno())
        except FileNotFoundError:
            self._state = self._nothing()
            self._state.number = self._stored_counter()
            return
        except OSError as exc:
            raise StorageError(f"cannot read {self.path}: {exc.strerror or exc}") from exc
        try:
            self._state = self._parse(data)
        except BaseException:
            # Not remembered: every later look finds it damaged again, and no write replaces it.
            os.close(held)
            raise
        self._remember_file(held)

    def _remember_file(self, handle: int) -> None:
        """Know this version of the file again by the handle's inode, time and size."""
        _close_all(self._held)
        stat = os.fstat(handle)
        self._seen = (stat.st_dev, stat.st_ino, stat.st_mtime_ns, stat.st_size)
        if os.name == "nt":  # there an open handle would keep others from replacing the file
            os.close(handle)
        else:
            self._held.append(handle)

    def _parse(self, data: bytes) -> JsonState:
        try:
            content = orjson.loads(data)
        except orjson.JSONDecodeError as exc:
            raise self._corrupt(
                f"not valid JSON at line {exc.lineno}, column {exc.colno}: {exc.msg}"
            ) from exc
        if not isinstance(content, dict) or "entries" not in content or "version" not in content:
            raise self._corrupt("not a cache index: it lacks the keys 'version' and 'entries'")
        if content["version"] != VERSION:
            raise self._corrupt(f"version {content['version']!r}, but only {VERSION!r} is known here")
        if not isinstance(content["entries"], list):
            raise self._corrupt("'entries' is not a list")
        self._keep_prefix(content["entries"])
        state = self._nothing()
        for position, raw in enumerate(content["entries"], start=1):
            self._add_record(state, raw, position)
        state.number = self._next_number(content, state)
        trash = content.get("trash", [])
        if isinstance(trash, list):
            state.waste = [name for name in trash if isinstance(name, str) and Path(name).name == name]
        state.other = {key: value for key, value in content.items() if key not in TOP_KEYS}
        return state

    def _keep_prefix(self, entries: list[Any]) -> None:
        """Opened from elsewhere, go on writing a relative ``image_path`` as the file has it.

        The program that records it so is started where it leads to the images; the folder it was
        opened by here, absolute or through "..", would not be found from there, or only on this machine.
        """
        path = entries[0].get("image_path") if entries and isinstance(entries[0], dict) else None
        if not self._from_elsewhere or not isinstance(path, str) or "\\" in path:
            return
        *folder, images = PurePosixPath(path).parent.parts or ("",)
        if folder and images == "images" and self._folder.parts[-len(folder) :] == tuple(folder):
            self._prefix = "/".join((*folder, images, ""))

    def _add_record(self, state: JsonState, raw: Any, position: int) -> None:
        try:
            record = record_from_json(raw, position)
        except UnsafePathError as exc:
            raise UnsafePathError(f"{self.path}: {exc}. {self._way_out()}") from exc
        except IndexCorruptError as exc:
            raise self._corrupt(str(exc)) from exc
        # The number of an id of ours: it stays the same when another program writes the file.
        number = max(state.last_number() + 1, cache_number(record.cache_id))
        record = replace(record, number=number)
        if record.cache_id in state.records:
            raise self._corrupt(f"two entries have the id {record.cache_id!r}")
        state.put(record)

    def _next_number(self, content: dict[str, Any], state: JsonState) -> int:
        stored = content.get("next_id")
        if not isinstance(stored, int) or isinstance(stored, bool) or not 0 < stored < _HIGHEST_NUMBER:
            stored = self._stored_counter()
        highest = max((cache_number(cache_id) for cache_id in state.records), default=0)
        return max(stored, highest + 1, state.last_number() + 1)

    def _corrupt(self, what: str) -> IndexCorruptError:
        return IndexCorruptError(f"{self.path}: {what}. {self._way_out()}")

    def _way_out(self) -> str:
        return (
            "The file was left as it is. To keep it aside and rebuild the index from the images: "
            f"reverie cache check --fix --cache {self.path.parent.parent}"
        )


def _readable_entries(text: str) -> Iterator[Any]:
    """Every whole object that starts with a ``cache_id``, whatever stands around it."""
    decoder = json.JSONDecoder()
    position = 0
    while found := _ENTRY.search(text, position):
        try:
            raw, position = decoder.raw_decode(text, found.start())
            yield _without_half_characters(raw)
        except (ValueError, RecursionError):
            position = found.end()


def _without_half_characters(raw: Any) -> Any:
    """With a question mark for each half of a surrogate pair: such text cannot be written again.

    Python's own ``json`` writes and reads it, so a text that was cut in the middle of an emoji holds one.
    """
    text = json.dumps(raw, ensure_ascii=False)
    whole = text.encode(errors="replace").decode()
    return raw if whole == text else json.loads(whole)


def _close_all(handles: list[int]) -> None:
    while handles:
        os.close(handles.pop())


def _prefix(folder: str) -> str:
    """What stands before a file name in ``image_path``; no folder where its name is not text."""
    prefix = f"{Path(os.path.normpath(folder)).as_posix()}/images/"
    try:
        prefix.encode()
    except UnicodeEncodeError:
        return "images/"
    return prefix
