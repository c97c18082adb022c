"""What a plug-in implements. Interfaces and the plain data they pass; no logic lives here.

Each protocol has as few methods as will do; everything else is derived from them by the code
that uses it. A class need not inherit from anything here: having the methods is enough. The
conformance suites in `reverie.testing` check an implementation; the registry gives it a name.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from reverie.pixels import ImageLike, Pixels
from reverie.protocols.generator import (
    Chosen,
    Closable,
    Fingerprinted,
    Generator,
    KeepsLatents,
    LatentSpace,
    Resumable,
)
from reverie.protocols.index import Brief, Catalogue, Changes, IndexBackend, IndexWriter, Mark, Order
from reverie.vectors import Embedding, EmbeddingSet, VectorRows, Vectors

__all__ = [
    "Brief",
    "Catalogue",
    "Changes",
    "Chosen",
    "Closable",
    "Decision",
    "Encoder",
    "EvictionPolicy",
    "Fingerprinted",
    "Found",
    "Generator",
    "ImageStore",
    "IndexBackend",
    "IndexWriter",
    "InjectionPolicy",
    "KeepsLatents",
    "LatentSpace",
    "Mark",
    "Observation",
    "Order",
    "PastInjection",
    "PreparingSearcher",
    "Resumable",
    "Searcher",
    "Staged",
    "Taken",
    "TextEncoder",
]


# ---------------------------------------------------------------------------------- encoders


@runtime_checkable
class Encoder(Protocol):
    """Turns pictures into unit vectors."""

    @property
    def name(self) -> str:
        """Stamped on every vector; changes whenever the numbers would."""

    @property
    def dimensions(self) -> int:
        """Length d of a vector."""

    def encode_batch(self, frames: Sequence[Pixels]) -> Vectors:
        """Encode n frames of any size, each ``(h, w, 3)`` uint8 RGB, in order.

        Returns:
            ``(n, d)`` float32, rows of unit length; ``(0, d)`` for no frames. The same frame
            gives the same vector whatever else is in the batch; networks on a GPU, or run by
            torch, within 1e-6.
        """


@runtime_checkable
class TextEncoder(Encoder, Protocol):
    """An encoder whose space also holds texts (CLIP)."""

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        """``(n, d)`` float32 unit rows, in the space of `encode_batch`."""


# ------------------------------------------------------------------ cache: images, eviction


@dataclass(frozen=True, slots=True)
class Staged:
    """An image that is checked and written under a temporary name, neither durable yet nor in the cache.

    Attributes:
        token: What `ImageStore.commit` needs to find it again.
        suffix: File name ending with its dot, such as ``.png``.
        byte_size: Bytes.
        content_hash: As `reverie.storage.content_hash` gives it.
    """

    token: Any
    suffix: str
    byte_size: int
    content_hash: str


@dataclass(frozen=True, slots=True, eq=False)
class Taken:
    """An image that is checked and in memory: what becomes of its file or its pixels does not matter now.

    Attributes:
        image: What `ImageStore.stage` takes.
        suffix: File name ending that it will have.
        byte_size: Bytes that it takes in memory, and not fewer than its file will have.
    """

    image: ImageLike
    suffix: str
    byte_size: int


class ImageStore(Protocol):
    """Where the image files are."""

    @property
    def root(self) -> Path:
        """The folder that holds them."""

    def stage(self, image: ImageLike, texts: Mapping[str, str] = ...) -> Staged:
        """Check an image and write it under a temporary name.

        A path keeps its bytes and format; a PIL image or an array becomes PNG.

        Args:
            image: The image.
            texts: What a PNG that is made here is to say of itself, by the name of the chunk; a file's bytes
                stay as they are.

        Raises:
            ImageError: Missing, broken, empty or too large.
            StorageError: The disk refused.
        """

    def take(self, image: ImageLike) -> Taken:
        """Check an image and take it into memory, to be staged later; it is not to be linked.

        Raises:
            ImageError: Missing, broken, empty or too large.
            StorageError: It cannot be read.
        """

    def exists(self, image_name: str) -> bool:
        """Whether anything has that name."""

    def commit(
        self, named: Sequence[tuple[Staged, str]], *, durable: bool = True, over: Container[str] = ()
    ) -> None:
        """Give staged images their names; never replaces a file, but those of ``over``.

        Args:
            named: Each with its name.
            durable: Whether they are to be on the disk when this returns; else `flush` waits for that.
            over: Names that the same images may have already, of an earlier try. They keep them.

        Raises:
            StorageError: A name is taken, or the disk refused; then none has its name.
        """

    def flush(self, image_names: Sequence[str]) -> None:
        """Wait until these images are on the disk; one that is gone is fine.

        Raises:
            StorageError: The disk refused.
        """

    def discard(self, staged: Staged) -> None:
        """Forget a staged image."""

    def read(self, image_name: str) -> bytes:
        """The stored bytes.

        Raises:
            ImageNotFoundError: No such file.
            UnsafePathError: It is a link that leaves the folder.
        """

    def delete(self, image_names: Sequence[str]) -> None:
        """Delete files; one that is gone already is fine. A link is deleted, never what it points to."""


class EvictionPolicy(Protocol):
    """Which entry goes first. A pure function of what it was told and of its options: no clock, no file.

    A policy whose ranking is an order that every index keeps may say so by an attribute ``order`` (`Order`):
    then a cache asks its index, and tells the policy nothing. Any other is told of all entries when it is
    first asked.

    Attributes:
        needs_vectors: Whether it looks at vectors. Then it is told of every entry, pinned ones too: they
            count, but are never named. Otherwise no vector is read for it, and pinned entries are kept
            from it.
    """

    needs_vectors: bool

    def insert(self, brief: Brief, embedding: Embedding | None = None) -> None:
        """An entry is there from now on; or, when its id is known, this is its brief from now on.

        Args:
            brief: The entry.
            embedding: Its unit vector; None for a policy that needs none, for an entry without one, and
                for a known entry whose vector stays as it is.
        """

    def touch(self, cache_id: str, used_ns: int) -> None:
        """An entry was used."""

    def discard(self, cache_id: str) -> None:
        """An entry is gone (or pinned, for a policy without vectors); an unknown id is fine."""

    def ranking(self, skip: Collection[str] = ()) -> Iterator[str]:
        """Ids in the order in which they would be evicted; asking changes no later answer.

        What comes second is what would go first once the first is gone. Only the first is cheap.

        Args:
            skip: Ids that are not to be named, though they count.
        """

    def state(self) -> Mapping[str, Any]:
        """Options with which a new policy, told of the same entries, goes on exactly as this one."""


# ------------------------------------------------------------------------------------ search


class Found(NamedTuple):
    """What a search found: ``(m,)`` rows and their ``(m,)`` float32 cosines, high to low."""

    places: NDArray[np.intp]
    scores: NDArray[np.float32]


class Searcher(Protocol):
    """Finds the rows most like a vector.

    It may keep what it makes of rows, and follows them from one search to the next: rows of one
    `VectorRows.origin` keep their places, and a number is one vector's for ever.

    What makes one takes ``folder`` by keyword: where it may keep files that can be made anew, a
    `pathlib.Path` that need not exist; None keeps all in memory.

    Attributes:
        name: Its name in the registry.
        exact: Whether the answer is always the true one.
    """

    name: str
    exact: bool

    def search(
        self,
        rows: VectorRows,
        target: NDArray[np.float32],
        k: int | None,
        *,
        threshold: float | None = None,
        among: NDArray[np.bool_] | None = None,
    ) -> Found:
        """The rows most like a vector, of those that are alive.

        Args:
            rows: Where to look.
            target: ``(d,)`` float32 of unit length.
            k: How many at most; None takes all.
            threshold: Lowest cosine that counts, inclusive; None takes all.
            among: ``(n,)`` whether a row may be found; None: any.

        Returns:
            High to low, ties in the order of the rows.
        """

    def close(self) -> None:
        """End its threads and keep what is worth keeping; calling it twice is fine."""


class PreparingSearcher(Searcher, Protocol):
    """A search that makes something of the rows, beside those that search, before it is at its best."""

    def prepare(self, rows: VectorRows) -> bool:
        """Begin with these rows, and return at once; whether it is done."""


# --------------------------------------------------------------------------- loop: injection


@dataclass(frozen=True, slots=True)
class PastInjection:
    """An injection that happened.

    Attributes:
        frame: The frame it was decided at.
        cache_id: The entry; None for a picture that was imagined (see `Decision.reheat`).
        ended: The frame at which the loop had arrived, or gave up; ``frame`` for a cut.
    """

    frame: int
    cache_id: str | None
    ended: int = 0


@dataclass(frozen=True, slots=True)
class Observation:
    """All that a policy may look at when it decides about one frame.

    Attributes:
        frame: Number of the frame, 1 for the first that the loop made.
        embedding: ``(d,)`` unit vector of the frame.
        recent: ``(w, d)`` unit vectors of the last frames, oldest first, this one last.
        candidates: What is in memory (this frame included when it was kept), oldest first.
        own_id: Id under which this frame was kept; None when it was not.
        measures: What the monitor says of the loop, by name.
        past: Earlier injections, oldest first.
        kept: Of the frames that were kept: id in memory to number of the frame.
        pinned: Ids in memory that eviction may never take: the seeds.
        depths: Id in memory to generations of frames between it and a picture from outside; what is
            missing has 0.
        unrelated: Cosine of unrelated pictures with this encoder: thresholds are counted from there.
        towards: ``(d,)`` unit vector of a text or picture that the loop is to tend to.
    """

    frame: int
    embedding: Embedding
    recent: Vectors
    candidates: EmbeddingSet
    own_id: str | None = None
    measures: Mapping[str, float] = field(default_factory=dict)
    past: Sequence[PastInjection] = ()
    kept: Mapping[str, int] = field(default_factory=dict)
    pinned: Collection[str] = frozenset()
    depths: Mapping[str, float] = field(default_factory=dict)
    unrelated: float = 0.03
    towards: Embedding | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What a policy wants, and why.

    Attributes:
        cache_id: The memory to inject; None for no injection.
        reason: One sentence a person understands.
        similarity: Cosine of that memory to the frame; None without injection.
        numbers: What the decision was made from, for the journal.
        reheat: Rather imagine something new: the strength, in (0, 1], at which the generator is to make a
            picture that is not shown, for the loop to go to. Where nothing can be imagined, or nothing
            newer than the memory came of it, the memory is taken; None for memories only.
        freshness: How new the memory would be: what is imagined has to be newer.
        via: Memories to pass on the way, in order.
    """

    cache_id: str | None
    reason: str
    similarity: float | None = None
    numbers: Mapping[str, float] = field(default_factory=dict)
    reheat: float | None = None
    freshness: float = 0.0
    via: tuple[str, ...] = ()


class InjectionPolicy(Protocol):
    """Whether to inject a memory, and which. Pure: the same observation and rng state, the same decision.

    How is not its business, but it may say what suits it: an attribute ``transition``
    (`reverie.loop.transition.TransitionSettings`); without it the memory is the next input, in a cut.
    """

    @property
    def name(self) -> str:
        """Its name in the registry."""

    def decide(self, observation: Observation, rng: np.random.Generator) -> Decision:
        """Decide about one frame; draws from ``rng`` only, keeps nothing."""
