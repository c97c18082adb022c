"""Adds on their way to the disk: those of several threads that wait for each other go in one commit."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import orjson
from numpy.typing import ArrayLike

from reverie.cache.settings import check_parents, check_text, check_vector
from reverie.entry import CacheEntry, Record, encode_params
from reverie.errors import ImageError, StorageError
from reverie.metadata import own_texts, read_metadata
from reverie.pixels import ImageFile, ImageLike, file_bytes
from reverie.protocols import Staged
from reverie.vectors import Embedding

__all__ = ["Adding", "Arrivals", "Item", "NewEntry", "described"]


@dataclass(frozen=True, slots=True, eq=False)
class NewEntry:
    """What `CacheManager.add` takes, as one value.

    Attributes:
        image: A path (its bytes and format are kept), a PIL image, or an ``(h, w, 3)`` uint8 array. An
            `ImageFile` is a path that says more: that its bytes were read, or that it is to be linked.
        prompt: The prompt it was made with.
        generation_params: How it was made; anything JSON can hold.
        embedding: ``(d,)`` numbers, normalised to unit length; None for none.
        encoder: Name of the encoder that made the embedding; not needed for a vector that carries its stamp.
        parents: Ids of the entries it was made from.
        pinned: Whether eviction may never take it.
    """

    image: ImageLike
    prompt: str = ""
    generation_params: Mapping[str, Any] | None = None
    embedding: ArrayLike | None = None
    encoder: str | None = None
    parents: Sequence[str] = ()
    pinned: bool = False


@dataclass(slots=True, eq=False)
class Item:
    """A new entry that was checked at that time, in seconds since the epoch; its image is not yet staged."""

    time: float
    image: ImageLike
    prompt: str
    params: bytes
    vector: Embedding | None
    parents: tuple[str, ...]
    pinned: bool

    @classmethod
    def of(cls, new: NewEntry, *, alone: bool = False) -> Item:
        """Check everything but the image; what is not given is read from its file, where that says it.

        Args:
            new: What was handed in.
            alone: Whether the bytes of its file are worth keeping until it is staged; of many they are read
                again.

        Raises:
            InputError: The prompt or the parents are not text.
            ParamsError: The parameters hold what JSON cannot.
            EmbeddingError: NaN, infinity, zero, or no vector.
        """
        image, prompt, params = new.image, check_text(new.prompt, "the prompt"), new.generation_params
        if (not prompt or params is None) and isinstance(image, (str, os.PathLike)):
            with contextlib.suppress(ImageError, StorageError):  # staging it says so, by its place
                data = file_bytes(image)
                found_prompt, found_params = described(data)
                prompt, params = prompt or found_prompt, found_params if params is None else params
                image = _with_bytes(image, data) if alone else image
        return cls(
            time.time(),
            image,
            prompt,
            encode_params({} if params is None else params),
            check_vector(new.embedding, new.encoder),
            check_parents(new.parents),
            bool(new.pinned),
        )

    def texts(self) -> dict[str, str]:
        """What a picture that is encoded here says of itself; nothing where there is nothing to say."""
        if not self.prompt and self.params == b"{}" and not self.parents:
            return {}
        share = 1 / max(1, len(self.parents))
        return own_texts(self.prompt, orjson.loads(self.params), dict.fromkeys(self.parents, share))

    def record(
        self, number: int, cache_id: str, staged: Staged, used_ns: int, vector: Embedding | None
    ) -> Record:
        """It as an index stores it, with its vector as that gives it back."""
        return Record(
            number=number,
            cache_id=cache_id,
            image_name=cache_id + staged.suffix,
            prompt=self.prompt,
            params=self.params,
            embedding=vector,
            timestamp=datetime.fromtimestamp(self.time).isoformat(timespec="microseconds"),
            used_ns=used_ns,
            pinned=self.pinned,
            content_hash=staged.content_hash,
            byte_size=staged.byte_size,
            parents=self.parents,
        )


def _with_bytes(image: str | os.PathLike[str], data: bytes) -> ImageFile:
    return replace(image, data=data) if isinstance(image, ImageFile) else ImageFile(os.fspath(image), data)


def described(data: bytes) -> tuple[str, dict[str, Any]]:
    """The prompt and the parameters that an image file's own metadata say; empty where it says nothing.

    Under ``metadata`` the parameters say which program wrote them. What it wrote stays in the file as it is.
    """
    found = read_metadata(data)
    if found is None:
        return "", {}
    source: dict[str, Any] = {"source": found.source}
    if found.parents:
        source["parents"] = dict(found.parents)  # of the cache that it comes from
    return found.prompt, {**found.params, "metadata": source}


@dataclass(slots=True, eq=False)
class Adding:
    """One call that adds: all of its items are stored, or none.

    Attributes:
        items: What to store.
        staged: The image of each; of what nobody waits for, they are staged when it is stored.
        promised: Number and id of each, of what nobody waits for: they were given out already.
        byte_size: Bytes that it takes in memory while nobody waits for it.
        records: What was stored.
        evicted: Entries that went for it, as they were; collected where somebody listens.
        named: Whether its images have their names.
        error: Why nothing was stored; None as long as nothing went wrong.
        done: Whether it was stored, or went wrong.
    """

    items: Sequence[Item]
    staged: Sequence[Staged] = ()
    promised: Sequence[tuple[int, str]] = ()
    byte_size: int = 0
    records: list[Record] = field(default_factory=list)
    evicted: list[CacheEntry] = field(default_factory=list)
    named: bool = False
    error: BaseException | None = None
    done: bool = False

    def anew(self) -> Adding:
        """The same, to be stored once more."""
        return Adding(self.items, promised=self.promised, byte_size=self.byte_size)


class Arrivals:
    """Those that are to be stored; whoever has the writer's place takes all of them along."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[Adding] = []
        self._taken = 0  # of them, being stored

    def __len__(self) -> int:
        return len(self._waiting) + self._taken

    def much(self, count: int, byte_size: int) -> bool:
        """Whether more than so many wait, or more than so many bytes."""
        if not self._waiting:
            return False
        with self._lock:
            return len(self._waiting) > count or sum(each.byte_size for each in self._waiting) > byte_size

    def join(self, adding: Adding) -> None:
        """Wait with the others."""
        with self._lock:
            self._waiting.append(adding)

    def leave(self, adding: Adding) -> bool:
        """Wait no longer; False when somebody took it along already."""
        with self._lock:
            if adding not in self._waiting:
                return False
            self._waiting.remove(adding)
            return True

    def take(self) -> list[Adding]:
        """All that wait, in the order in which they came; `stored` when that is done."""
        with self._lock:
            waiting, self._waiting = self._waiting, []
            self._taken = len(waiting)
            return waiting

    def stored(self) -> None:
        """What was taken is stored, or has gone wrong, or waits again."""
        with self._lock:
            self._taken = 0

    def put_back(self, addings: Sequence[Adding]) -> None:
        """They could not be stored and wait again, before all others."""
        with self._lock:
            self._waiting = [*addings, *self._waiting]
