"""Pictures of whole folders on their way into a cache.

Reading, decoding and encoding go on while the batch before is checked and committed. A picture is known by
the hash of its content. Nothing else is noted anywhere, so an import that was stopped or killed goes on
where it was when it is started again, and a cache in the middle of it is sound.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from reverie.cache.adding import NewEntry, described
from reverie.cache.aesthetic_matcher import AestheticMatcher
from reverie.cache.decoding import AT_ONCE, Part, decode_ahead, decode_threads
from reverie.cache.manager import CacheManager
from reverie.entry import CacheEntry, encode_params
from reverie.errors import CacheFullError, ImageBatchError, ImageError, InputError, ReverieError, StorageError
from reverie.importing.folders import Folders
from reverie.importing.report import ImportReport
from reverie.memory import ImageMemory
from reverie.pixels import ImageFile, file_bytes
from reverie.protocols import Encoder
from reverie.storage import content_hash
from reverie.vectors import Embedding

__all__ = ["Importing", "import_folder"]

SOURCE = "source"
"""The key of ``generation_params`` that says which file an entry was imported from."""

_READERS = 2  # threads that wait for the disk
_READ_AHEAD = 8  # files, beyond those that are being decoded
_KNOWN_PER_TELL = 200  # pictures that are passed over between two reports


@dataclass(frozen=True, slots=True, eq=False)
class _Picture:
    """A picture that was read, with its hash; and with its vector, once it has one."""

    file: ImageFile
    digest: str
    vector: Embedding | None = None


class Importing:
    """One import of some folders; `import_folder` says what the arguments mean.

    Args:
        memory: An `ImageMemory`, or an open `CacheManager`.
        folders: One folder or several.
        **how: As `import_folder`.
        clock: Seconds; only differences count.
    """

    def __init__(
        self,
        memory: ImageMemory | CacheManager,
        folders: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *,
        link: bool = False,
        encoder: str | Encoder | AestheticMatcher | None = None,
        embed: bool = True,
        prompt: str = "",
        generation_params: Mapping[str, Any] | None = None,
        again: bool = False,
        evict: bool = False,
        progress: Callable[[ImportReport], None] | None = None,
        stop: threading.Event | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cache = memory.cache if isinstance(memory, ImageMemory) else memory
        self._matcher = _matcher(memory, encoder) if embed else None
        self._encoder = None if self._matcher is None else self._matcher.encoder.name
        self._params = dict(generation_params or {})
        if SOURCE in self._params:
            raise InputError(
                f"generation_params[{SOURCE!r}] says where a picture came from: leave it to the import"
            )
        encode_params(self._params)  # what JSON cannot hold is an error before anything is read
        self._prompt = prompt
        self._link = link
        self._again = again
        self._evict = evict
        self._progress = progress
        self._clock = clock
        self.stop = threading.Event() if stop is None else stop
        self.folders = Folders(folders, self._cache.cache_dir)
        self._hashes: set[str] = set()
        self._failures: dict[str, str] = {}
        self._total = self._imported = self._known = self._bytes = self._described = self._evicted = 0
        self._finished = False
        self._busy = 0.0
        self._since: float | None = None

    @property
    def report(self) -> ImportReport:
        """How far it is now; may be asked from any thread."""
        since = self._since
        return ImportReport(
            self._encoder,
            self._total,
            self._imported,
            self._known,
            dict(sorted(self._failures.copy().items())),
            self._bytes,
            self._described,
            self._evicted,
            self._finished,
            self._busy + (0.0 if since is None else self._clock() - since),
        )

    def run(self) -> ImportReport:
        """Import what is in the folders now; raises what `import_folder` does."""
        with self._working():
            if not self._again:
                self._hashes = self._cache.content_hashes()
            pictures = list(self.folders.pictures())
            self._failures.update(self.folders.closed)
            self._total = len(pictures) + len(self._failures)
            self._tell()
            self._check_room(pictures)
            self._finished = self._import(pictures)
        self._tell()
        return self.report

    def take(self, pictures: Sequence[Path]) -> set[Path]:
        """Import these, too; those of them that cannot be used. Raises what `import_folder` does."""
        with self._working():
            for path in pictures:
                self._total += self._failures.pop(str(path), None) is None  # tried again: it is in the total
            self._import(pictures)
        self._tell()
        return {path for path in pictures if str(path) in self._failures}

    @contextmanager
    def _working(self) -> Iterator[None]:
        self._since = self._clock()
        self._cache.on_evicted.append(self._note_evicted)
        try:
            yield
        finally:
            self._cache.on_evicted.remove(self._note_evicted)
            self._busy += self._clock() - self._since
            self._since = None

    def _note_evicted(self, _entry: CacheEntry) -> None:
        self._evicted += 1

    def _tell(self) -> None:
        if self._progress is not None:
            self._progress(self.report)

    def _fail(self, path: str, error: ReverieError) -> None:
        self._failures[path] = str(error)

    # ------------------------------------------------------------------ room

    def _check_room(self, pictures: Sequence[Path]) -> None:
        """Raise CacheFullError where not all fit; they are read for it only where that may be."""
        if self._evict or (self._cache.max_bytes is None and self._has_room(len(pictures), 0)):
            return
        sizes: dict[str, int] = {}
        with closing(_read_ahead(pictures)) as found:
            for picture in found:
                if isinstance(picture, _Picture) and picture.digest not in self._hashes:
                    sizes[picture.digest] = len(file_bytes(picture.file))
        count, size = len(sizes), sum(sizes.values())
        if not self._has_room(count, size):
            raise CacheFullError(
                f"{count:,} pictures ({size:,} bytes) are new to the cache, and they do not all fit: "
                f"{self._limits()}. Others would be evicted for them, and then the first of themselves. "
                "Raise the limit, or allow that (--evict, evict=True). Nothing was changed"
            )

    def _has_room(self, count: int, size: int) -> bool:
        most, heaviest = self._cache.max_size, self._cache.max_bytes
        return (most is None or len(self._cache) + count <= most) and (
            heaviest is None or self._cache.total_bytes() + size <= heaviest
        )

    def _limits(self) -> str:
        parts = []
        if self._cache.max_size is not None:
            parts.append(f"{len(self._cache):,} of max_size={self._cache.max_size:,} entries are taken")
        if self._cache.max_bytes is not None:
            parts.append(f"{self._cache.total_bytes():,} of max_bytes={self._cache.max_bytes:,} are taken")
        return ", ".join(parts)

    # ------------------------------------------------------------------ the work

    def _import(self, pictures: Sequence[Path]) -> bool:
        """Import them, one batch being stored while the next is made; False when it was stopped early."""
        handled: list[Path] = []
        with (
            ThreadPoolExecutor(1, "reverie-import") as writer,
            closing(self._fresh(pictures, handled)) as fresh,
            closing(self._batches(fresh)) as batches,
        ):
            under_way: Future[None] | None = None
            for batch in batches:
                self._wait(under_way)
                under_way = writer.submit(self._store, batch)
            self._wait(under_way)
        return len(handled) == len(pictures)

    def _wait(self, under_way: Future[None] | None) -> None:
        if under_way is not None:
            under_way.result()
            self._tell()

    def _fresh(self, pictures: Sequence[Path], handled: list[Path]) -> Generator[_Picture]:
        """Those that can be read and are new, until it is to stop; notes which had their turn."""
        with closing(_read_ahead(pictures)) as found:
            for path, picture in zip(pictures, found, strict=False):
                if self.stop.is_set():
                    return
                handled.append(path)
                if isinstance(picture, ReverieError):
                    self._fail(str(path), picture)
                elif picture.digest in self._hashes:
                    self._known += 1
                    if self._known % _KNOWN_PER_TELL == 0:
                        self._tell()
                else:
                    self._hashes.add(picture.digest)
                    yield replace(picture, file=replace(picture.file, link=self._link))

    def _batches(self, fresh: Iterator[_Picture]) -> Generator[list[_Picture]]:
        """Pictures that are stored together, with their vectors."""
        if self._matcher is None:
            while batch := list(islice(fresh, AT_ONCE)):
                yield batch
            return
        waiting: dict[int, _Picture] = {}
        files = _noted(fresh, waiting)
        with closing(decode_ahead(files, decode_threads(self._matcher.encoder))) as parts:
            for part in parts:
                yield self._encoded(self._matcher, part, waiting)

    def _encoded(self, matcher: AestheticMatcher, part: Part, waiting: dict[int, _Picture]) -> list[_Picture]:
        for place, error in part.failures.items():
            self._refuse(waiting.pop(place), error)
        vectors = matcher.encode_images(part.frames)
        pictures = [waiting.pop(place) for place in part.indices]
        return [
            replace(picture, file=replace(picture.file, whole=True), vector=vector)
            for picture, vector in zip(pictures, vectors, strict=True)
        ]

    def _refuse(self, picture: _Picture, error: ReverieError) -> None:
        """A picture that cannot be used; were it met again, it would not be known."""
        self._hashes.discard(picture.digest)
        self._fail(picture.file.path, error)

    def _store(self, batch: Sequence[_Picture]) -> None:
        """Commit a batch, without those of its pictures that cannot be used."""
        sizes = [len(file_bytes(picture.file)) for picture in batch]
        if not self._evict and not self._has_room(len(batch), sum(sizes)):
            raise CacheFullError(
                f"no more pictures are imported: {self._limits()}, and the next would evict others. Raise "
                "the limit, or allow that (--evict, evict=True). What was imported stays"
            )
        try:
            said = [described(file_bytes(picture.file)) for picture in batch]
            self._cache.add_many([self._entry(*each) for each in zip(batch, said, strict=True)])
        except ImageBatchError as exc:
            for place, error in exc.failures.items():
                self._refuse(batch[place], error)
            self._store([batch[place] for place in exc.indices])
        except ImageError as exc:  # of a batch of one
            self._refuse(batch[0], exc)
        else:
            self._imported += len(batch)
            self._bytes += sum(sizes)
            self._described += sum(any(each) for each in said)

    def _entry(self, picture: _Picture, said: tuple[str, dict[str, Any]]) -> NewEntry:
        prompt, params = said
        params = {**params, **self._params, SOURCE: picture.file.path}
        return NewEntry(picture.file, self._prompt or prompt, params, picture.vector)


def _matcher(
    memory: ImageMemory | CacheManager, encoder: str | Encoder | AestheticMatcher | None
) -> AestheticMatcher:
    """What was asked for, else the memory's own, else the built-in one."""
    if isinstance(encoder, AestheticMatcher):
        return encoder
    if encoder is None and isinstance(memory, ImageMemory):
        return memory.matcher
    return AestheticMatcher("descriptor" if encoder is None else encoder)


def _read_ahead(pictures: Iterable[Path]) -> Generator[_Picture | ReverieError]:
    """Each picture with its bytes and hash, or why it cannot be read; a few are read ahead."""
    paths = iter(pictures)
    pool = ThreadPoolExecutor(_READERS, "reverie-read")
    try:
        waiting = [pool.submit(_read, path) for path in islice(paths, _READ_AHEAD)]
        while waiting:
            found = waiting.pop(0).result()
            waiting += [pool.submit(_read, path) for path in islice(paths, 1)]
            yield found
    finally:
        pool.shutdown(cancel_futures=True)


def _read(path: Path) -> _Picture | ReverieError:
    try:
        data = file_bytes(path)
    except (ImageError, StorageError) as exc:
        return exc
    return _Picture(ImageFile(str(path), data), content_hash(data))


def _noted(fresh: Iterator[_Picture], waiting: dict[int, _Picture]) -> Iterator[ImageFile]:
    """Their files; what is being decoded can be found by its place."""
    for place, picture in enumerate(fresh):
        waiting[place] = picture
        yield picture.file


def import_folder(
    memory: ImageMemory | CacheManager,
    folders: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    link: bool = False,
    encoder: str | Encoder | AestheticMatcher | None = None,
    embed: bool = True,
    prompt: str = "",
    generation_params: Mapping[str, Any] | None = None,
    again: bool = False,
    evict: bool = False,
    progress: Callable[[ImportReport], None] | None = None,
    stop: threading.Event | None = None,
) -> ImportReport:
    """Take all pictures of some folders into a memory, whatever is below them included.

    What the cache holds already, by the hash of its content, is passed over: after an interruption, or a
    crash, the same call goes on. Batches are committed one by one, each wholly or not at all; Ctrl-C and
    ``stop`` end it after the one under way. A picture that cannot be used stops nothing: the report names it.

    Each entry's ``generation_params["source"]`` is the path of its picture. An admission of the memory is not
    asked. Listeners of the cache are called in a thread of the import.

    Args:
        memory: An `ImageMemory`, or an open `CacheManager`.
        folders: One folder or several. Hidden files, what has no ending of a picture, and the cache itself
            are passed over.
        link: Give each picture a second name in the cache (a hard link) instead of copying it: no bytes are
            copied, eviction takes the second name only, and who writes into the file changes the entry, too.
        encoder: What makes the vectors: a registered name, an `Encoder` or an `AestheticMatcher`; None takes
            the memory's own, and ``descriptor`` for a `CacheManager`.
        embed: Whether the entries get vectors.
        prompt: The prompt of all of them.
        generation_params: How all of them were made.
        again: Also import what the cache holds already; still one of several equal files only.
        evict: Whether others may be evicted for them where the cache has a limit.
        progress: Called with an `ImportReport` after the first look, after every batch and at the end, in the
            thread that called.
        stop: When it is set, the import ends after the batches that are under way.

    Returns:
        What came of it; ``finished`` is False when it was stopped.

    Raises:
        InputError: A folder is not there or is no folder, or ``generation_params`` holds ``source``.
        CacheFullError: The pictures do not fit, and ``evict`` was not given; nothing was changed. Or others
            filled the cache meanwhile.
        EmbeddingError: The encoder returned no vectors, or of another length than its others in the cache.
        StorageError: The disk refused, or a file cannot be linked: it is on another disk than the cache.
        MissingDependencyError: The encoder is not installed.

        Batches that were committed before stay.
    """
    return Importing(
        memory,
        folders,
        link=link,
        encoder=encoder,
        embed=embed,
        prompt=prompt,
        generation_params=generation_params,
        again=again,
        evict=evict,
        progress=progress,
        stop=stop,
    ).run()
