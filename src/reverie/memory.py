"""ImageMemory: a cache and an encoder kept in step. Remember a frame, recall what is like it."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias

from reverie import registry
from reverie.admission import Admission
from reverie.cache.adding import NewEntry
from reverie.cache.aesthetic_matcher import AestheticMatcher
from reverie.cache.manager import CacheManager
from reverie.cache.similarity import as_target, check_cut
from reverie.cache.similarity_scale import Percentile, SimilarityScale, Threshold, threshold_of
from reverie.entry import CacheEntry
from reverie.errors import InputError, ReverieError
from reverie.pixels import ImageLike, Pixels, pixels_from_bytes
from reverie.protocols import Encoder, Searcher
from reverie.query import Where
from reverie.reindex import Reindexing, ReindexReport
from reverie.vectors import Embedding, EmbeddingSet, as_embedding

__all__ = ["ImageMemory", "Outcome", "Remembered"]

Outcome: TypeAlias = Literal["new", "replaced", "rejected"]
"""What became of a frame: stored beside all others, stored in the place of some, or not stored."""


@dataclass(frozen=True, slots=True, eq=False)
class Remembered:
    """What became of a frame.

    Attributes:
        cache_id: Its id in the cache; None when it was rejected, which only an admission does.
        embedding: ``(d,)`` unit vector, stamped with its encoder.
        evicted: Ids that had to go for it.
        outcome: ``new``, ``replaced`` (others went for it: `evicted`) or ``rejected`` (it was not stored).
        reason: What the admission said of it, one sentence with numbers; empty when none was asked.
    """

    cache_id: str | None
    embedding: Embedding
    evicted: tuple[str, ...] = ()
    outcome: Outcome = "new"
    reason: str = ""


class ImageMemory:
    """Stores frames with their embeddings and finds them again by look.

    Args:
        cache: A folder (or the nested configuration of the specification's project), or an open
            `CacheManager`, which is then not closed here.
        max_size: Most entries; None is unbounded. Not used with an open `CacheManager`.
        encoder: A registered name, an `Encoder`, or an `AestheticMatcher` made with options of its own.
        seed: Makes random choices repeatable.
        admission: Which frames are stored, such as `reverie.admission.MaximumSimilarity`; None stores all.
        search: What finds memories: a registered name or a `Searcher`, which is then not closed here.
            ``exact``: always the true answer; ``ivf`` and ``hnsw``: nearly always, fast among millions;
            ``auto``: exact up to 100,000 memories, ``ivf`` above.
        **options: Further arguments of `CacheManager`: ``eviction``, ``index``, ``max_bytes``...

    Attributes:
        cache: The `CacheManager`.
        matcher: The `AestheticMatcher`.
        admission: As given.
        searcher: What `recall` finds memories with.

    Raises:
        InputError: Options of a new cache together with an open one.
        UnknownNameError: No encoder or search of that name.
        MissingDependencyError: The encoder or search is not installed.

        And what `CacheManager` raises.
    """

    def __init__(
        self,
        cache: str | os.PathLike[str] | Mapping[str, Any] | CacheManager,
        max_size: int | None = 75,
        encoder: str | Encoder | AestheticMatcher = "descriptor",
        seed: int | None = None,
        *,
        admission: Admission | None = None,
        search: str | Searcher = "auto",
        **options: Any,
    ) -> None:
        if not isinstance(encoder, AestheticMatcher):
            encoder = AestheticMatcher(encoder, seed=seed)
        self.matcher = encoder
        self._seed = seed
        self._reindexing: Reindexing | None = None
        self.admission = admission
        if isinstance(search, str):
            registry.load("searchers", search)  # refused before a cache is opened
        self._judging = threading.Lock()
        if isinstance(cache, CacheManager):
            if options:
                raise InputError(f"the cache is open already: give {', '.join(options)} to CacheManager")
            self.cache, self._owns_cache = cache, False
        else:
            self.cache, self._owns_cache = CacheManager(cache, max_size, seed=seed, **options), True
        self._owns_searcher = isinstance(search, str)
        self.searcher: Searcher = (
            registry.create("searchers", search, folder=self.cache.metadata_dir / "search")
            if isinstance(search, str)
            else search
        )
        self._adding = threading.local()  # the cache tells of evictions in the thread that adds
        self.cache.on_evicted.append(self._note_evicted)

    def _note_evicted(self, entry: CacheEntry) -> None:
        gone: list[str] | None = getattr(self._adding, "gone", None)
        if gone is not None:
            gone.append(entry.cache_id)

    def remember(
        self,
        frame: ImageLike,
        prompt: str = "",
        generation_params: Mapping[str, Any] | None = None,
        *,
        embedding: Embedding | None = None,
        parents: Sequence[str] = (),
        pinned: bool = False,
    ) -> Remembered:
        """Encode a frame and store it if it is admitted; when this returns, it is on the disk.

        An admission compares it with what is in memory now: frames that several threads remember at the same
        time do not see each other. A rejected frame touches nothing.

        Args:
            frame: A path, a PIL image or an ``(h, w, 3)`` uint8 array.
            prompt: The prompt it was made with.
            generation_params: How it was made.
            embedding: Its vector, when the caller has it already; one without a stamp is taken as
                this memory's encoder's.
            parents: Ids of the entries it was made from.
            pinned: Whether eviction may never take it; such a frame is stored without asking the admission.

        Raises:
            ImageError: The frame cannot be used.
            ParamsError: ``generation_params`` holds what JSON cannot.
            EmbeddingError: ``embedding`` is NaN, infinite, zero or of another length.
            EncoderMismatchError: Another encoder made ``embedding``: it could never be recalled here.
            CacheFullError: The limit is reached and all entries are pinned.
            StorageError: The disk refused.
        """
        vector = self.matcher.encode_image(frame) if embedding is None else self._own(embedding)
        reason = ""
        if self.admission is not None and not pinned:
            archive = self.cache.embeddings(vector.encoder)
            with self._judging:
                verdict = self.admission.judge(vector, archive)
            reason = verdict.reason
            if not verdict.admitted:
                return Remembered(None, vector, outcome="rejected", reason=reason)
        gone = self._adding.gone = []
        try:
            new = NewEntry(frame, prompt, generation_params, vector, parents=parents, pinned=pinned)
            cache_id = self.cache.add_many([new])[0]  # which tells at once what went for it
        finally:
            self._adding.gone = None
        return Remembered(cache_id, vector, tuple(gone), "replaced" if gone else "new", reason)

    def _own(self, embedding: Embedding) -> Embedding:
        encoder = self.matcher.encoder
        return as_embedding(embedding, encoder=encoder.name, dimensions=encoder.dimensions)

    def recall(
        self,
        image_or_text: ImageLike | Embedding,
        k: int | None = 5,
        threshold: Threshold = None,
        *,
        where: Where | None = None,
    ) -> list[tuple[CacheEntry, float]]:
        """The entries most like an image, a vector or a text, high to low; counts as a use.

        Args:
            image_or_text: An image; an `Embedding`; or a str: the path of an existing file is an
                image, any other str is a text (for encoders that know texts).
            k: How many at most; None takes all.
            threshold: Lowest cosine that counts, or a percentile of this memory's own pairs such as
                ``"p90"`` (see `AestheticMatcher.find_similar`); None takes all.
            where: Conditions on the entries, such as ``Where("fox", params={"steps": 4})``: the ``k`` are
                the most similar of those.

        Raises:
            ImageError: The image cannot be used.
            InputError: A text was given and the encoder knows pictures only; ``k`` or ``threshold`` is none.
            EncoderMismatchError: An embedding of another encoder was given.
        """
        target = self.matcher.vector_of(image_or_text)
        lowest = threshold_of(threshold)
        if isinstance(lowest, Percentile):
            lowest = SimilarityScale.of(self.embeddings()).cosine(lowest.value)
        check_cut(lowest, k)
        rows = self.cache.vector_rows(self.matcher.encoder.name)
        among = self.cache.among(rows, where) if where else None
        found = self.searcher.search(rows, as_target(target, rows), k, threshold=lowest, among=among)
        entries = [
            (self.cache.get(rows.ids[place]), score)
            for place, score in zip(found.places.tolist(), found.scores.tolist(), strict=True)
        ]
        return [(entry, score) for entry, score in entries if entry is not None]

    def embeddings(self) -> EmbeddingSet:
        """Ids and matrix of everything that this memory's encoder has seen, oldest first."""
        return self.cache.embeddings(self.matcher.encoder.name)

    def reindex(
        self,
        encoder: str | Encoder,
        *,
        background: bool = True,
        batch: int = 64,
        progress: Callable[[ReindexReport], None] | None = None,
        **options: Any,
    ) -> Reindexing:
        """Change to another encoder, and encode what is in the cache anew for it.

        The change holds at once: `remember` encodes with the new encoder, and `recall` and `embeddings`
        give the entries that it has seen so far, more with every batch. An `Injector` (or whatever else
        took `matcher` before) keeps the encoder that it began with, and its next frame is refused by
        name: make a new one after this call.

        Args:
            encoder: A registered name or an `Encoder`.
            background: Encode in a thread of its own, beside the loop; False waits for the end.
            batch: Images encoded together.
            progress: Called with a `ReindexReport` after every batch, in the thread that works.
            **options: Arguments of an encoder given by name.

        Returns:
            What is under way: its ``report`` says how far it is, ``stop()`` ends it, ``wait()`` waits for it
            and raises what went wrong. `close` stops it. Calling this again later goes on.

        Raises:
            UnknownNameError: No encoder of that name; nothing was changed.
            MissingDependencyError: The encoder is not installed; nothing was changed.
            InputError: One is under way.

            And what `Reindexing.run` raises, with ``background=False``.
        """
        if self._reindexing is not None and self._reindexing.running:
            raise InputError("this memory is being reindexed: wait for that, or stop it first")
        matcher = AestheticMatcher(encoder, self._seed, **options)
        self._reindexing = Reindexing(self.cache, matcher, batch=batch, progress=progress)
        self.matcher = matcher
        if background:
            return self._reindexing.start()
        self._reindexing.run()
        return self._reindexing

    def image(self, cache_id: str) -> Pixels:
        """The pixels of an entry, ``(h, w, 3)`` uint8 RGB.

        Raises:
            EntryNotFoundError: No entry of that id.
            ImageError: Its file is gone or broken.
            StorageError: Its file cannot be read.
            UnsafePathError: Its file is a link that leads out of the cache.
        """
        return pixels_from_bytes(self.cache.read_image(cache_id), name=cache_id)

    def __len__(self) -> int:
        return len(self.cache)

    def close(self) -> None:
        """Stop a reindexing, and close what was not handed in open; calling it twice is fine."""
        if self._reindexing is not None:
            self._reindexing.stop()
            with contextlib.suppress(ReverieError):  # for the one who calls wait()
                self._reindexing.wait()
        if self._note_evicted in self.cache.on_evicted:
            self.cache.on_evicted.remove(self._note_evicted)
        if self._owns_searcher:
            self.searcher.close()
        if self._owns_cache:
            self.cache.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
