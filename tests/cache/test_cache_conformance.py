"""The shipped conformance suites on everything the cache has built in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reverie.cache.diversity_eviction import MaxMinSwap, RkeSwap
from reverie.cache.eviction import LeastRecentlyUsed, OldestFirst, Reservoir
from reverie.cache.json_index import JsonIndex
from reverie.cache.local_images import LocalImages
from reverie.cache.sqlite_index import SqliteIndex
from reverie.protocols import Brief
from reverie.testing import EvictionSuite, ImageStoreSuite, IndexSuite


class TestJsonIndex(IndexSuite):
    def make(self, folder: Path, lock_timeout: float = 10.0) -> JsonIndex:
        return JsonIndex(folder, shown="cache", lock_timeout=lock_timeout)


class TestSqliteIndex(IndexSuite):
    def make(self, folder: Path, lock_timeout: float = 10.0) -> SqliteIndex:
        return SqliteIndex(folder, lock_timeout=lock_timeout)


class TestLocalImages(ImageStoreSuite):
    def make(self, folder: Path) -> LocalImages:
        return LocalImages(folder)


class TestLeastRecentlyUsed(EvictionSuite):
    def make(self, **options: Any) -> LeastRecentlyUsed:
        return LeastRecentlyUsed(**options)

    def order(self, briefs: Mapping[str, Brief]) -> list[str]:
        return sorted(briefs, key=lambda cache_id: (briefs[cache_id].used_ns, briefs[cache_id].number))


class TestOldestFirst(EvictionSuite):
    def make(self, **options: Any) -> OldestFirst:
        return OldestFirst(**options)

    def order(self, briefs: Mapping[str, Brief]) -> list[str]:
        return sorted(briefs, key=lambda cache_id: (briefs[cache_id].timestamp, briefs[cache_id].number))


class TestReservoir(EvictionSuite):
    def make(self, **options: Any) -> Reservoir:
        return Reservoir(seed=7, **options)


class TestRkeSwap(EvictionSuite):
    def make(self, **options: Any) -> RkeSwap:
        return RkeSwap(**options)


class TestMaxMinSwap(EvictionSuite):
    def make(self, **options: Any) -> MaxMinSwap:
        return MaxMinSwap(**options)
