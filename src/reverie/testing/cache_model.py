"""A whole cache under random operations, compared with a perfect model after every one."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from reverie.cache.convert import convert
from reverie.cache.manager import CacheManager
from reverie.entry import CacheEntry, cache_number
from reverie.errors import CacheFullError, EntryNotFoundError
from reverie.half import VectorType
from reverie.testing.samples import png_bytes, vector
from reverie.vectors import Embedding, stored_as

__all__ = ["CacheModel"]

_PICTURES = [png_bytes(seed, side, side) for seed, side in enumerate((4, 4, 8, 14))]
_TEXTS = st.sampled_from(["", "ethereal angel", "line\nbreak", 'a "quote"', "émoji 🦊"])
_PARAMS = st.sampled_from([{}, {"denoise": 0.4, "steps": 4}, {"deep": {"list": [1, 2.5, None, "x"]}}])
_WHICH = st.integers(0, 11)
_HANDLES = st.integers(0, 1)
_ORDERED = ("lru", "oldest")  # policies whose order the model knows


@dataclass
class _Entry:
    """What the model knows of one entry; ``used`` is the use that is written in the index."""

    number: int
    prompt: str
    params: dict[str, Any]
    embedding: Embedding | None
    pinned: bool
    image: bytes
    used: int


@dataclass
class _Handle:
    """One of the two managers on the folder, and the uses that it has not written yet."""

    cache: CacheManager
    uses: dict[str, int] = field(default_factory=dict)


class CacheModel(RuleBasedStateMachine):
    """Two managers on one folder against a dictionary that cannot be wrong.

    Subclass it with other attributes and use its ``TestCase``::

        class MyModel(CacheModel):
            index = "mine"

        TestMine = MyModel.TestCase
        TestMine.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)

    Attributes:
        index: Kind of index to begin with.
        eviction: ``lru`` or ``oldest``, whose order the model knows; of others it knows how many must go.
        kinds: Kinds that `convert` may turn the index into; fewer than two: it never does.
        vector_types: As what `convert` may keep vectors while both managers have the cache open; the first
            one to begin with. Only of use with one kind.
    """

    index: ClassVar[str] = "json"
    eviction: ClassVar[str] = "lru"
    kinds: ClassVar[tuple[str, ...]] = ("json", "sqlite")
    vector_types: ClassVar[tuple[VectorType, ...]] = ("float32",)

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="reverie-model-"))
        self.sources = [self.folder / f"source-{place}.png" for place in range(len(_PICTURES))]
        for path, data in zip(self.sources, _PICTURES, strict=True):
            path.write_bytes(data)
        self.entries: dict[str, _Entry] = {}
        self.given: set[str] = set()
        self.clock = 0
        self.kind = self.index
        self.vector_type = self.vector_types[0]
        self.handles: list[_Handle] = []
        self.max_size: int | None = None
        self.max_bytes: int | None = None

    @initialize(
        max_size=st.sampled_from([3, 4, 1, 6, None]), max_bytes=st.sampled_from([None, None, 1500, 900])
    )
    def open_both(self, max_size: int | None, max_bytes: int | None) -> None:
        """Begin with an empty folder and limits."""
        self.max_size, self.max_bytes = max_size, max_bytes
        self.handles = [_Handle(self._open()) for _ in range(2)]

    def _open(self) -> CacheManager:
        return CacheManager(
            self.folder / "cache",
            max_size=self.max_size,
            max_bytes=self.max_bytes,
            eviction=self.eviction,
            index=self.kind,
            vectors=self.vector_type,
            seed=0,
        )

    # -- what the model expects

    def _tick(self) -> int:
        self.clock += 1
        return self.clock

    def _pick(self, which: int) -> str | None:
        """An entry's id, or None (an id that is gone is tried then)."""
        ids = list(self.entries)
        return ids[which % len(ids)] if ids and which < 10 else None

    def _gone(self) -> str:
        gone = sorted(self.given.difference(self.entries))
        return gone[-1] if gone else "cache_99999"

    def _wrote(self, handle: _Handle) -> None:
        """A committed write takes the handle's uses along."""
        for cache_id, used in handle.uses.items():
            if cache_id in self.entries:
                self.entries[cache_id].used = max(self.entries[cache_id].used, used)
        handle.uses.clear()

    def _victims(self, handle: _Handle, size: int) -> list[str] | None:
        """Who must go so that an image of ``size`` bytes fits; None when it cannot."""
        over = 0 if self.max_size is None else len(self.entries) + 1 - self.max_size
        total = sum(len(entry.image) for entry in self.entries.values())
        heavy = 0 if self.max_bytes is None else total + size - self.max_bytes
        victims: list[str] = []
        for cache_id in sorted(self.entries, key=lambda cache_id: self._rank(handle, cache_id)):
            if (over > 0 or heavy > 0) and not self.entries[cache_id].pinned:
                victims.append(cache_id)
                over -= 1
                heavy -= len(self.entries[cache_id].image)
        return victims if over <= 0 and heavy <= 0 else None

    def _evicted(self, handle: _Handle, expected: int) -> list[str]:
        """Who went by an order that the model does not know: nobody in vain, nobody pinned."""
        gone = [cache_id for cache_id in self.entries if cache_id not in handle.cache]
        assert not any(self.entries[cache_id].pinned for cache_id in gone)
        assert (len(gone) > 0) == (expected > 0)
        if self.max_bytes is None:
            assert len(gone) == expected
        assert self.max_size is None or handle.cache.size() <= self.max_size
        assert self.max_bytes is None or handle.cache.total_bytes() <= self.max_bytes
        return gone

    def _rank(self, handle: _Handle, cache_id: str) -> int:
        entry = self.entries[cache_id]
        return entry.number if self.eviction == "oldest" else max(entry.used, handle.uses.get(cache_id, 0))

    def _forget(self, cache_id: str) -> None:
        del self.entries[cache_id]
        for handle in self.handles:
            handle.uses.pop(cache_id, None)

    def _assert_entry(self, found: CacheEntry | None, cache_id: str) -> None:
        expected = self.entries[cache_id]
        assert found is not None
        assert (found.cache_id, found.prompt, found.pinned) == (cache_id, expected.prompt, expected.pinned)
        assert found.generation_params == expected.params
        assert found.byte_size == len(expected.image)
        assert found.image_path.read_bytes() == expected.image
        assert (found.embedding is None) == (expected.embedding is None)
        if found.embedding is not None and expected.embedding is not None:
            assert np.array_equal(found.embedding, expected.embedding)
            assert found.encoder == found.embedding.encoder == expected.embedding.encoder

    # -- operations

    @rule(
        which=_HANDLES,
        picture=st.integers(0, len(_PICTURES) - 1),
        about=st.tuples(_TEXTS, _PARAMS, st.none() | st.integers(0, 5)),
        pinned=st.sampled_from([False, False, False, True]),
    )
    def add(
        self, which: int, picture: int, about: tuple[str, dict[str, Any], int | None], pinned: bool
    ) -> None:
        """Add an image; exactly those go that the policy names, or nothing changes."""
        handle = self.handles[which]
        prompt, params, seed = about
        embedding = None if seed is None else vector(seed)
        victims = self._victims(handle, len(_PICTURES[picture]))
        if victims is None:
            with pytest.raises(CacheFullError):
                handle.cache.add(self.sources[picture], prompt, params, embedding, pinned=pinned)
            return
        cache_id = handle.cache.add(self.sources[picture], prompt, params, embedding, pinned=pinned)
        assert cache_id not in self.given
        assert cache_number(cache_id) > max(map(cache_number, self.given), default=0)
        self.given.add(cache_id)
        self._wrote(handle)
        for victim in victims if self.eviction in _ORDERED else self._evicted(handle, len(victims)):
            self._forget(victim)
        now, kept = self._tick(), self._kept(embedding)
        self.entries[cache_id] = _Entry(now, prompt, params, kept, pinned, _PICTURES[picture], now)

    def _kept(self, embedding: Embedding | None) -> Embedding | None:
        """A vector as the cache gives it back."""
        return None if embedding is None else stored_as(embedding, self.vector_type)

    @rule(which=_HANDLES, count=st.integers(2, 4))
    def fill(self, which: int, count: int) -> None:
        """Several adds in a row, so that the limits are met often."""
        for picture in range(count):
            self.add(which, picture % 2, ("filled", {}, picture), pinned=False)

    @rule(which=_HANDLES, via=st.sampled_from(["same", "other", "flushed"]))
    def use_the_next_victim(self, which: int, via: str) -> None:
        """Use what would go first, then add: with ``lru`` another goes, if the adder can know of it."""
        loose = [cache_id for cache_id, entry in self.entries.items() if not entry.pinned]
        if loose:
            first = min(loose, key=lambda cache_id: self._rank(self.handles[which], cache_id))
            self.get(which, list(self.entries).index(first))
            if via == "flushed":
                self.flush(which)
            self.add(which if via == "same" else 1 - which, 0, ("after a use", {}, None), pinned=False)

    @rule(which=_HANDLES, entry=_WHICH)
    def get(self, which: int, entry: int) -> None:
        """`get` gives what was added and counts as a use."""
        handle, cache_id = self.handles[which], self._pick(entry)
        handle.cache.size()  # `get` alone may be 0.2 ms late in seeing what the other manager did
        if cache_id is None:
            assert handle.cache.get(self._gone()) is None
            return
        self._assert_entry(handle.cache.get(cache_id), cache_id)
        handle.uses[cache_id] = self._tick()

    @rule(which=_HANDLES)
    def get_random(self, which: int) -> None:
        """`get_random` gives one of the entries and counts as a use."""
        handle = self.handles[which]
        found = handle.cache.get_random()
        assert (found is None) == (not self.entries)
        if found is not None:
            self._assert_entry(found, found.cache_id)
            handle.uses[found.cache_id] = self._tick()

    @rule(which=_HANDLES, entry=_WHICH)
    def remove(self, which: int, entry: int) -> None:
        """`remove` takes an entry out, pinned or not."""
        handle, cache_id = self.handles[which], self._pick(entry)
        if cache_id is None:
            with pytest.raises(EntryNotFoundError):
                handle.cache.remove(self._gone())
            return
        path = handle.cache.image_dir / f"{cache_id}.png"
        handle.cache.remove(cache_id)
        self._wrote(handle)
        self._forget(cache_id)
        assert not path.exists()

    @rule(which=_HANDLES, entry=_WHICH, pinned=st.booleans())
    def pin(self, which: int, entry: int, pinned: bool) -> None:
        """A pin is seen by both managers."""
        handle, cache_id = self.handles[which], self._pick(entry)
        change = handle.cache.pin if pinned else handle.cache.unpin
        if cache_id is None:
            with pytest.raises(EntryNotFoundError):
                change(self._gone())
            return
        change(cache_id)
        self._wrote(handle)
        self.entries[cache_id].pinned = pinned

    @rule(which=_HANDLES, keep_pinned=st.booleans(), really=st.sampled_from([False, False, True]))
    def clear(self, which: int, keep_pinned: bool, really: bool) -> None:
        """`clear` empties the cache; ids do not start again."""
        if not really:
            return
        handle = self.handles[which]
        handle.cache.clear(keep_pinned=keep_pinned)
        self._wrote(handle)
        for cache_id in [each for each, entry in self.entries.items() if not (keep_pinned and entry.pinned)]:
            self._forget(cache_id)

    @rule(which=_HANDLES)
    def flush(self, which: int) -> None:
        """`flush` writes the last uses."""
        self.handles[which].cache.flush()
        self._wrote(self.handles[which])

    @rule(which=_HANDLES)
    def reopen(self, which: int) -> None:
        """Closing and opening loses nothing."""
        handle = self.handles[which]
        handle.cache.close()
        self._wrote(handle)
        handle.cache = self._open()

    @rule(which=_HANDLES, fix=st.booleans())
    def check(self, which: int, fix: bool) -> None:
        """Index and files agree at any moment."""
        report = self.handles[which].cache.check(fix=fix)
        self._wrote(self.handles[which])
        assert report.ok, report.problems
        assert (report.entries, report.fixed) == (len(self.entries), False)

    @rule()
    def convert(self) -> None:
        """The other kind of index holds the same."""
        if len(self.kinds) < 2:
            return
        for handle in self.handles:
            handle.cache.close()
            self._wrote(handle)
        self.kind = self.kinds[(self.kinds.index(self.kind) + 1) % len(self.kinds)]
        if self.entries or self.given:
            assert convert(self.folder / "cache", self.kind)
        else:
            shutil.rmtree(self.folder / "cache")  # nothing was ever written: there may be no index yet
        for handle in self.handles:
            handle.cache = self._open()

    @rule()
    def convert_vectors(self) -> None:
        """Kept as other numbers, under both managers: they see what the rounding left, and go on."""
        if len(self.vector_types) < 2:
            return
        for handle in self.handles:
            handle.cache.embeddings("suite-1")
        place = self.vector_types.index(self.vector_type) + 1
        self.vector_type = self.vector_types[place % len(self.vector_types)]
        assert convert(self.folder / "cache", vectors=self.vector_type)
        for entry in self.entries.values():
            entry.embedding = self._kept(entry.embedding)
        assert [handle.cache.vector_type for handle in self.handles] == [self.vector_type] * 2

    @rule(
        which=_HANDLES,
        vectors=st.dictionaries(
            st.integers(0, 5), st.none() | st.sampled_from([vector(6), vector(7, 5, "suite-2")]), max_size=4
        ),
    )
    def set_embeddings(self, which: int, vectors: dict[int, Embedding | None]) -> None:
        """New vectors of several entries are seen by both managers; ids that are gone are passed over."""
        handle = self.handles[which]
        wanted = {self._pick(entry) or self._gone(): each for entry, each in vectors.items()}
        assert handle.cache.set_embeddings({self._gone(): vector(0), **wanted}) == [
            cache_id for cache_id in wanted if cache_id in self.entries
        ]
        self._wrote(handle)
        for cache_id in self.entries.keys() & wanted.keys():
            self.entries[cache_id].embedding = self._kept(wanted[cache_id])

    @rule(which=_HANDLES, encoder=st.sampled_from(["suite-1", "suite-1", "suite-2"]))
    def embeddings(self, which: int, encoder: str) -> None:
        """The matrix holds the vectors of all entries that one encoder saw, oldest first."""
        found = self.handles[which].cache.embeddings(encoder)
        expected = {
            cache_id: entry.embedding
            for cache_id, entry in self.entries.items()
            if entry.embedding is not None and entry.embedding.encoder == encoder
        }
        assert list(found.ids) == list(expected)
        assert len(found) == 0 or np.array_equal(found.matrix, np.stack(list(expected.values())))

    # -- always

    @invariant()
    def both_agree_with_the_model(self) -> None:
        """Ids, their order, sizes and limits, in both managers."""
        for handle in self.handles:
            assert handle.cache.ids() == list(self.entries)
            assert handle.cache.size() == len(handle.cache) == len(self.entries)
            assert handle.cache.total_bytes() == sum(len(entry.image) for entry in self.entries.values())

    def teardown(self) -> None:
        """In the end a new manager finds everything, and nothing disagrees."""
        try:
            for handle in self.handles:
                handle.cache.close()
            if self.handles:
                with self._open() as cache:
                    report = cache.check()
                    assert report.ok, report.problems
                    for found, cache_id in zip(cache.get_all(), self.entries, strict=True):
                        self._assert_entry(found, cache_id)
        finally:
            shutil.rmtree(self.folder)
