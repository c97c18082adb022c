"""The whole cache under random operations, for each index and each eviction policy."""

from __future__ import annotations

from hypothesis import settings

from reverie.testing import CacheModel


class JsonLru(CacheModel):
    index, eviction = "json", "lru"


class JsonOldest(CacheModel):
    index, eviction = "json", "oldest"


class SqliteLru(CacheModel):
    index, eviction = "sqlite", "lru"


class SqliteOldest(CacheModel):
    index, eviction = "sqlite", "oldest"


class JsonMaxMin(CacheModel):
    index, eviction = "json", "maxmin"


class SqliteRke(CacheModel):
    index, eviction = "sqlite", "rke"


class SqliteReservoir(CacheModel):
    index, eviction = "sqlite", "reservoir"


class HalvesLru(CacheModel):
    index, eviction, kinds, vector_types = "sqlite", "lru", ("sqlite",), ("float16", "float32")


class HalvesRke(CacheModel):
    index, eviction, kinds, vector_types = "sqlite", "rke", ("sqlite",), ("float16",)


TestJsonLru = JsonLru.TestCase
TestJsonOldest = JsonOldest.TestCase
TestSqliteLru = SqliteLru.TestCase
TestSqliteOldest = SqliteOldest.TestCase
TestJsonLru.settings = TestJsonOldest.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None
)
TestSqliteLru.settings = TestSqliteOldest.settings = TestJsonLru.settings

TestJsonMaxMin = JsonMaxMin.TestCase
TestSqliteRke = SqliteRke.TestCase
TestSqliteReservoir = SqliteReservoir.TestCase
TestHalvesLru, TestHalvesRke = HalvesLru.TestCase, HalvesRke.TestCase
TestHalvesLru.settings = TestHalvesRke.settings = settings(
    max_examples=20, stateful_step_count=30, deadline=None
)
TestJsonMaxMin.settings = TestSqliteRke.settings = TestSqliteReservoir.settings = settings(
    max_examples=20, stateful_step_count=30, deadline=None
)
