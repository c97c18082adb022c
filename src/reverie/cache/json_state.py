"""The content of the JSON index in memory: what it answers, and what a write changes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from heapq import heapify, heappop
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from reverie.cache.reembedding import with_embedding
from reverie.entry import Record, record_to_json, timestamp_ns
from reverie.half import VectorType
from reverie.protocols import Brief, Order
from reverie.query import Where
from reverie.vectors import Embedding

__all__ = ["TOP_KEYS", "VERSION", "JsonState"]

VERSION = "1.0"
TOP_KEYS = ("version", "last_updated", "entry_count", "next_id", "trash", "entries")
"""Keys of the file that are ours or the specification's; all others are another program's."""


class JsonState:
    """The content of one version of the file: what is in it, and, on a copy of its own, what a write changes.

    Args:
        images: The folder of the images, to measure those whose size no program wrote down.
        prefix: What stands before a file name in the recorded ``image_path``.
    """

    def __init__(self, images: Path, prefix: str) -> None:
        self.records: dict[str, Record] = {}
        self.lines: dict[str, bytes] = {}
        self.other: dict[str, Any] = {}
        self.number = 1  # the next one
        self.waste: list[str] = []  # names of files that no entry has any more
        self.changed = False
        self.retired = False
        self._images = images
        self._prefix = prefix
        self._sizes: dict[str, int] = {}  # of images that have none written down
        self._bytes = 0

    def copy(self) -> JsonState:
        """One to write to: this one stays as it is."""
        new = JsonState(self._images, self._prefix)
        new.records, new.lines, new.other = dict(self.records), dict(self.lines), self.other
        new.number, new.waste = self.number, list(self.waste)
        new._sizes, new._bytes = dict(self._sizes), self._bytes
        return new

    # -- the catalogue

    def count(self) -> int:
        """How many entries there are."""
        return len(self.records)

    def total_bytes(self) -> int:
        """How many bytes their images take."""
        return self._bytes

    def find(self, cache_ids: Sequence[str]) -> list[Brief]:
        """The briefs of these ids, in the order asked; ids that are gone are passed over."""
        records = self.records
        return [self._brief(records[cache_id]) for cache_id in cache_ids if cache_id in records]

    def briefs(
        self, where: Where | None = None, *, after: int = 0, limit: int | None = None, newest: bool = False
    ) -> list[Brief]:
        """Entries by number, or from the highest down."""
        records = reversed(self.records.values()) if newest else self.records.values()
        found = (each for each in records if each.number > after and (where is None or where.holds(each)))
        return [self._brief(record) for record in islice(found, limit)]

    def numbers(self, where: Where) -> NDArray[np.int64]:
        """The numbers of the entries that are meant, in order."""
        return np.array([brief.number for brief in self.briefs(where)], dtype=np.int64)

    def pinned(self) -> list[str]:
        """Ids of the pinned entries, by number."""
        return [record.cache_id for record in self.records.values() if record.pinned]

    def ordered(self, by: Order) -> Iterator[Brief]:
        """The entries that are not pinned, lowest first, ties by number."""
        loose = [record for record in self.records.values() if not record.pinned]
        if by == "used":
            keyed = [(record.used_ns, record.number, record) for record in loose]
        else:
            keyed = [(timestamp_ns(record.timestamp), record.number, record) for record in loose]
        heapify(keyed)
        while keyed:
            yield self._brief(heappop(keyed)[2])

    def vector_type(self) -> VectorType:
        """Always float32."""
        return "float32"

    def vectors(self, cache_ids: Sequence[str] | None) -> Iterator[tuple[Brief, Embedding]]:
        """Each entry that has a vector with it, by number: of these ids, or of all."""
        records = self.records
        chosen = records.values() if cache_ids is None else self.read(cache_ids)
        for record in sorted(chosen, key=lambda record: record.number):
            if record.embedding is not None:
                yield self._brief(record), record.embedding

    def read(self, cache_ids: Sequence[str]) -> list[Record]:
        """The records of these ids, in the order asked; ids that are gone are passed over."""
        return [self.records[cache_id] for cache_id in cache_ids if cache_id in self.records]

    def _brief(self, record: Record) -> Brief:
        head = (record.number, record.cache_id, record.timestamp)
        return Brief(*head, record.used_ns, record.pinned, self._size(record), record.content_hash)

    def _size(self, record: Record) -> int:
        return record.byte_size or self._sizes.get(record.cache_id, 0)

    # -- the writer

    def next_number(self) -> int:
        """The next number that no entry ever had; counts up with each call."""
        number = self.number
        self.number += 1
        self.changed = True
        return number

    def give_back(self, numbers: range) -> None:
        """Numbers that no entry got after all: they are given out again, unless higher ones were."""
        if self.number == numbers.stop:
            self.number = numbers.start
            self.changed = True

    def last_number(self) -> int:
        """The highest number of an entry; 0 without any."""
        return next(reversed(self.records.values())).number if self.records else 0

    def retire(self) -> None:
        """Another index takes this one's place."""
        self.retired = True

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """A part of the write: leaving its block by an exception undoes that part alone."""
        before = self.copy()
        before.changed = self.changed
        try:
            yield
        except BaseException:
            self.__dict__.update(before.__dict__)
            raise

    def put(self, record: Record) -> None:
        """Insert a record, or put it in the place of an older one of its id."""
        line = record_to_json(record, self._prefix)
        known = self.records.get(record.cache_id)
        if known is not None:
            self._bytes -= self._size(known)
        elif not record.byte_size:
            with contextlib.suppress(OSError):
                self._sizes[record.cache_id] = (self._images / record.image_name).stat().st_size
        late = known is None and record.number < self.last_number()
        self.records[record.cache_id] = record
        self.lines[record.cache_id] = line
        if late:  # its number was promised before a higher one was stored
            in_order = sorted(self.records.values(), key=lambda each: each.number)
            self.records = {each.cache_id: each for each in in_order}
            self.lines = {each.cache_id: self.lines[each.cache_id] for each in in_order}
        self._bytes += self._size(record)
        self.changed = True

    def remove(self, cache_ids: Sequence[str]) -> None:
        """Take records out; their files become trash."""
        gone = [self.records.pop(cache_id) for cache_id in cache_ids]
        for record in gone:
            del self.lines[record.cache_id]
            self._bytes -= self._size(record)
            self._sizes.pop(record.cache_id, None)
            self.changed = True
        # Other programs' indexes can name one file twice: it goes with the last entry that has it.
        names = {record.image_name for record in self.records.values()}
        names.update(self.waste)
        self.waste += [name for name in dict.fromkeys(each.image_name for each in gone) if name not in names]

    def pin(self, cache_id: str, pinned: bool) -> None:
        """Pin or unpin a record."""
        self.put(self.records[cache_id].with_pin(pinned))

    def use(self, uses: Mapping[str, int]) -> None:
        """Set last uses where they are later than what is there."""
        for cache_id, used_ns in uses.items():
            record = self.records.get(cache_id)
            if record is not None and used_ns > record.used_ns:
                self.put(record.with_use(used_ns))

    def embed(self, cache_id: str, embedding: Embedding | None) -> None:
        """Replace the vector of a record; an id that is gone is passed over."""
        record = self.records.get(cache_id)
        if record is not None:
            self.put(with_embedding(record, embedding))

    def trash(self) -> Sequence[str]:
        """Image names whose files may still be there."""
        return tuple(self.waste)

    def forget_trash(self, image_names: Sequence[str]) -> None:
        """Those files are deleted."""
        done = set(image_names)
        if done.intersection(self.waste):
            self.waste = [name for name in self.waste if name not in done]
            self.changed = True

    # -- the file

    def chunks(self) -> list[bytes]:
        """The file: the specification's keys, one entry a line."""
        head = {
            "version": VERSION,
            "last_updated": datetime.now().isoformat(timespec="seconds"),
            "entry_count": len(self.records),
            "next_id": self.number,
            **({"trash": self.waste} if self.waste else {}),
            **self.other,
        }
        opening = b"".join(
            b"  %b: %b,\n" % (orjson.dumps(key), orjson.dumps(value)) for key, value in head.items()
        )
        entries = b",\n    ".join(self.lines.values())
        return [b"{\n", opening, b'  "entries": [\n    ', entries, b"\n  ]\n}\n"]
