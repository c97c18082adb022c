"""Encode a cache anew for another encoder: resumable, beside a running loop if wanted.

An entry is done when its vector carries the encoder's name. Nothing else is noted anywhere, so a run
that was stopped or killed goes on where it was when it is started again, several processes may work
on one cache, and a cache in the middle of it is sound: it holds vectors of two encoders.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from reverie.cache.aesthetic_matcher import AestheticMatcher
from reverie.cache.manager import CacheManager
from reverie.entry import CacheEntry
from reverie.errors import (
    EntryNotFoundError,
    ImageBatchError,
    ImageError,
    InputError,
    ReverieError,
    StorageError,
    UnsafePathError,
)
from reverie.pixels import ImageLike, pixels_from_bytes
from reverie.vectors import Embedding

__all__ = ["ReindexReport", "Reindexing", "reindex"]

_LOOKED_AT_ONCE = 500  # entries: the bodies of a large cache are not all in memory at once
_ENCODING_PER_WRITE = 19  # seconds of work for a second of writing: a JSON file is rewritten as a whole
_UNUSABLE = (ImageError, StorageError, UnsafePathError, EntryNotFoundError)
"""What is wrong with one image, not with the run."""


@dataclass(frozen=True, slots=True)
class ReindexReport:
    """How far it is.

    Attributes:
        encoder: The name that new vectors are stamped with.
        total: Entries that were looked at; grows when a running loop adds some.
        already: Those of them that needed nothing, or that another process encoded meanwhile.
        encoded: New vectors. While it runs, the last of them may not be on the disk yet.
        gone: Entries that were removed or evicted before their turn.
        failures: Id to what is wrong with an image; these entries keep the vector that they had.
        finished: Whether nothing was left; False while it runs, and when it was stopped.
        seconds: Time since it began.
    """

    encoder: str
    total: int = 0
    already: int = 0
    encoded: int = 0
    gone: int = 0
    failures: Mapping[str, str] = field(default_factory=dict)
    finished: bool = False
    seconds: float = 0.0

    @property
    def left(self) -> int:
        """Entries whose turn has not come."""
        return self.total - self.already - self.encoded - self.gone - len(self.failures)

    @property
    def rate(self) -> float | None:
        """Entries encoded a second; None before the first."""
        return self.encoded / self.seconds if self.encoded and self.seconds > 0 else None

    @property
    def seconds_left(self) -> float | None:
        """Seconds to go at this rate; None while there is no rate."""
        return self.left / self.rate if self.rate else None


class Reindexing:
    """One pass over a cache; `run` it here, or `start` it in a thread of its own.

    Entries are encoded in batches, oldest first. A batch is written at once, or together with the next
    ones where writing is slow, so that at most a twentieth of the time goes into writing: a kill loses
    what was encoded since the last write, Ctrl-C and `stop` lose nothing. Pins make no difference, and
    nothing counts as a use.

    Args:
        cache: An open cache.
        matcher: Its encoder makes the new vectors. In a thread of its own it runs beside whatever else
            uses that encoder.
        batch: Images encoded together.
        only_missing: Leave every entry that has a vector, whatever encoder made it.
        progress: Called with a `ReindexReport` after the first look at the cache, after every batch and
            at the end, in the thread that works.
        stop: Asked before every batch; True ends the run as `stop` does.
        clock: Seconds; only differences count.

    Raises:
        InputError: ``batch`` is below 1.
        MissingDependencyError: The encoder is not installed.
    """

    def __init__(
        self,
        cache: CacheManager,
        matcher: AestheticMatcher,
        *,
        batch: int = 64,
        only_missing: bool = False,
        progress: Callable[[ReindexReport], None] | None = None,
        stop: Callable[[], bool] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if batch < 1:
            raise InputError(f"batch is how many images are encoded together, 1 or more; got {batch}")
        self._cache = cache
        self._matcher = matcher
        self._name = matcher.encoder.name
        self._batch = batch
        self._only_missing = only_missing
        self._progress = progress
        self._asked = stop
        self._clock = clock
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._begin()

    def _begin(self) -> None:
        self._began: float | None = None
        self._ended: float | None = None
        self._total = self._already = self._encoded = self._gone = 0
        self._failures: dict[str, str] = {}
        self._finished = False
        self._held: dict[str, Embedding] = {}  # encoded, not written yet
        self._next_write = float("-inf")

    # ------------------------------------------------------------------ the work

    def run(self) -> ReindexReport:
        """Encode what is left, entries that are added meanwhile included, until nothing is.

        Raises:
            EmbeddingError: The encoder returned no vectors, or of another length than those of its name
                that the cache holds.
            StorageError: The disk refused.
            CacheClosedError: The cache was closed or converted meanwhile.

            And what else the encoder raises. What was encoded before is written in any case, where it can be.
        """
        self._begin()
        self._began = self._clock()
        try:
            finished = self._encode_all()
            self._save()
        except BaseException:
            with contextlib.suppress(ReverieError):
                self._save()
            raise
        finally:
            self._ended = self._clock()
        self._finished = finished
        self._tell()
        return self.report

    @property
    def report(self) -> ReindexReport:
        """How far it is now; may be asked from any thread."""
        now = self._clock() if self._ended is None else self._ended
        return ReindexReport(
            self._name,
            self._total,
            self._already,
            self._encoded,
            self._gone,
            dict(self._failures),
            self._finished,
            0.0 if self._began is None else now - self._began,
        )

    def _encode_all(self) -> bool:
        """Encode everything that wants it; False when it was stopped."""
        for wanted in self._rounds():
            self._tell()
            for start in range(0, len(wanted), self._batch):
                if self._stop.is_set() or (self._asked is not None and self._asked()):
                    return False
                self._encode(wanted[start : start + self._batch])
                if self._clock() >= self._next_write:
                    self._save()
                self._tell()
        return True

    def _rounds(self) -> Iterator[list[str]]:
        """Ids to encode: those that are there, then those added meanwhile, until none were."""
        seen: set[str] = set()
        while fresh := [each for each in self._cache.ids() if each not in seen]:
            seen.update(fresh)
            wanted: list[str] = []
            for start in range(0, len(fresh), _LOOKED_AT_ONCE):
                entries = self._cache.peek(fresh[start : start + _LOOKED_AT_ONCE])
                self._total += len(entries)
                wanted.extend(each.cache_id for each in self._wanting(entries))
            yield wanted

    def _wanting(self, entries: Sequence[CacheEntry]) -> list[CacheEntry]:
        """Those of the entries that need a vector; the others are counted as done."""
        wanting = [each for each in entries if self._wants(each)]
        self._already += len(entries) - len(wanting)
        return wanting

    def _wants(self, entry: CacheEntry) -> bool:
        if entry.embedding is None:
            return True
        return not self._only_missing and entry.encoder != self._name

    def _encode(self, cache_ids: Sequence[str]) -> None:
        entries = self._cache.peek(cache_ids)  # again: others may have removed or encoded some
        self._gone += len(cache_ids) - len(entries)
        wanting = self._wanting(entries)
        vectors = dict(self._vectors(wanting)) if wanting else {}
        self._held.update(vectors)
        self._encoded += len(vectors)

    def _vectors(self, entries: Sequence[CacheEntry]) -> Iterator[tuple[str, Embedding]]:
        """Id and vector of each image that can be used; the others are counted as failed or gone."""
        try:
            images = [self._image(entry) for entry in entries]
            found = dict(enumerate(self._matcher.encode_images(images)))
        except ImageBatchError as exc:
            found = dict(zip(exc.indices, exc.embeddings, strict=True))
            for at, error in exc.failures.items():
                self._fail(entries[at].cache_id, error)
        except _UNUSABLE:
            yield from self._one_by_one(entries)
            return
        for at, vector in found.items():
            yield entries[at].cache_id, vector

    def _one_by_one(self, entries: Sequence[CacheEntry]) -> Iterator[tuple[str, Embedding]]:
        for entry in entries:
            try:
                yield entry.cache_id, self._matcher.encode_image(self._image(entry))
            except _UNUSABLE as exc:
                self._fail(entry.cache_id, exc)

    def _image(self, entry: CacheEntry) -> ImageLike:
        """The file of an entry; a link is left to the cache, which follows none that leads out of it."""
        if not entry.image_path.is_symlink():
            return entry.image_path
        data = self._cache.read_image(entry.cache_id, as_use=False)
        return pixels_from_bytes(data, name=str(entry.image_path))

    def _fail(self, cache_id: str, error: ReverieError) -> None:
        if cache_id in self._cache:
            self._failures[cache_id] = str(error)
        else:
            self._gone += 1

    def _save(self) -> None:
        """Write what was encoded since the last write, in one step."""
        if not self._held:
            return
        began = self._clock()
        try:
            written = self._cache.set_embeddings(self._held)
        except ReverieError:
            self._encoded -= len(self._held)
            self._held = {}  # refused: the same write at the end would be refused again
            raise
        lost = len(self._held) - len(written)
        self._encoded -= lost
        self._gone += lost
        self._held = {}
        now = self._clock()
        self._next_write = now + (now - began) * _ENCODING_PER_WRITE

    def _tell(self) -> None:
        if self._progress is not None:
            self._progress(self.report)

    # ------------------------------------------------------------------ in the background

    def start(self) -> Self:
        """`run` in a thread that does not keep the process alive.

        Raises:
            InputError: It was started before.
        """
        if self._thread is not None:
            raise InputError("this reindexing was started already: make another one")
        self._thread = threading.Thread(target=self._in_background, name="reverie-reindex", daemon=True)
        self._thread.start()
        return self

    def _in_background(self) -> None:
        try:
            self.run()
        except ReverieError as exc:
            self._error = exc  # for `wait`
        except BaseException as exc:
            self._error = exc
            raise

    @property
    def running(self) -> bool:
        """Whether its thread is at work."""
        return self._thread is not None and self._thread.is_alive()

    def stop(self) -> None:
        """End the run before its next batch, with all written that was encoded; returns at once."""
        self._stop.set()

    def wait(self, timeout: float | None = None) -> ReindexReport:
        """Wait for the thread's end, ``timeout`` seconds at most; how far it came.

        Raises:
            ReverieError: What ended the run, as `run` raises it.
        """
        if self._thread is not None:
            self._thread.join(timeout)
        if self._error is not None and not self.running:
            raise self._error
        return self.report


def reindex(
    cache: CacheManager,
    matcher: AestheticMatcher,
    *,
    batch: int = 64,
    only_missing: bool = False,
    progress: Callable[[ReindexReport], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> ReindexReport:
    """Encode every entry whose vector ``matcher.encoder`` did not make: `Reindexing`, run here."""
    return Reindexing(
        cache, matcher, batch=batch, only_missing=only_missing, progress=progress, stop=stop
    ).run()
