"""Steps that the suites of an index are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple
from typing import Any

from reverie.entry import Record
from reverie.protocols import IndexBackend

__all__ = ["assert_same", "follow", "index_write", "plain", "put", "take_out"]


class index_write:  # noqa: N801 - reads as a function in `with`
    """``with index_write(index) as writer``: the writer alone."""

    def __init__(self, index: IndexBackend) -> None:
        self._context = index.write()

    def __enter__(self) -> Any:
        return self._context.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._context.__exit__(*error)


def put(index: IndexBackend, *records: Record) -> None:
    """Insert records in one write, taking a number for each as the cache does."""
    with index.write() as writer:
        for each in records:
            while writer.next_number() < each.number:
                pass
            writer.put(each)


def take_out(index: IndexBackend, *cache_ids: str) -> None:
    """Remove records in one write."""
    with index.write() as writer:
        writer.remove(list(cache_ids))


def follow(seen: dict[str, Any], index: IndexBackend) -> None:
    """Apply what a poll says, as the cache does."""
    changes = index.poll()
    assert changes is not None
    if changes.complete:
        seen.clear()
    for cache_id in changes.removed:
        seen.pop(cache_id, None)
    briefs = index.briefs() if changes.complete else changes.briefs
    seen.update({brief.cache_id: brief for brief in briefs})


def assert_same(found: Sequence[Record], expected: Sequence[Record]) -> None:
    """Records are equal in every field but their number, which an index may assign anew."""
    assert [each.cache_id for each in found] == [each.cache_id for each in expected]
    for one, two in zip(found, expected, strict=True):
        assert plain(one) == plain(two)


def plain(each: Record) -> tuple[Any, ...]:
    """A record without its number, its vector as bytes and encoder."""
    embedding = each.embedding
    stamp = None if embedding is None else (embedding.tobytes(), embedding.encoder)
    return (*astuple(each)[1:5], stamp, *astuple(each)[6:])
