"""A database of every earlier shape opens as it is, with all that was in it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from earlier_shapes import RECORDS, database_of_shape

from reverie.cache.manager import CacheManager
from reverie.cache.sqlite_index import SqliteIndex
from reverie.cache.sqlite_schema import MIGRATIONS
from reverie.errors import IndexCorruptError
from reverie.query import Where
from reverie.testing.index_steps import assert_same
from reverie.testing.samples import png_bytes, record

Open = Callable[..., CacheManager]


@pytest.mark.parametrize("shape", range(1, len(MIGRATIONS)))
def test_an_earlier_shape_is_brought_up_to_date(tmp_path: Path, shape: int) -> None:
    """Everything is there, and all that was added to the shape since is filled in."""
    path = database_of_shape(tmp_path, shape, RECORDS)
    index = SqliteIndex(tmp_path)
    index.poll()
    size = len(png_bytes(3))
    found = index.read([each.cache_id for each in RECORDS])
    assert [each.byte_size for each in found] == [101, 102, size, 0]
    assert (index.count(), index.total_bytes(), index.next_number()) == (4, 203 + size, 7)
    assert index.pinned() == ["cache_00002"]
    assert [brief.number for brief in index.ordered("used")] == [1, 3, 4]
    assert [brief.number for brief in index.ordered("time")] == [3, 1, 4]
    assert index.numbers(Where("fox")).tolist() == [1]
    assert index.numbers(Where(params={"steps": 4}, encoder="suite-1")).tolist() == [1, 3, 4]
    assert [brief.number for brief, _ in index.vectors()] == [1, 3, 4]
    with index.write() as writer:
        writer.remove(["cache_00001"])
        writer.put(record(7, prompt="another FOX"))
    assert index.numbers(Where("fox")).tolist() == [7]
    assert index.count() == 4
    index.verify()
    index.close()
    with sqlite3.connect(path) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
    database.close()


def test_what_was_not_touched_is_the_same(tmp_path: Path, open_cache: Open) -> None:
    """Seen through the cache: entries, vectors, pins, ids."""
    database_of_shape(tmp_path / "cache", 1, RECORDS[:2])
    cache = open_cache(max_size=3)
    assert_same(cache._index.read(["cache_00001", "cache_00002"]), RECORDS[:2])
    assert np.array_equal(cache.embeddings().matrix[0], RECORDS[0].embedding)
    assert cache.add(png_path(tmp_path)) == "cache_00005"
    assert cache.add(png_path(tmp_path)) == "cache_00006"
    assert cache.ids() == ["cache_00002", "cache_00005", "cache_00006"]


def png_path(folder: Path) -> Path:
    """A picture to add."""
    path = folder / "new.png"
    path.write_bytes(png_bytes(9))
    return path


def test_a_change_of_shape_that_fails_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All steps are one transaction: the old shape stays, and the next try works."""
    path = database_of_shape(tmp_path, 1, RECORDS)
    broken = (*MIGRATIONS[:-1], (*MIGRATIONS[-1], "CREATE NONSENSE"))
    with monkeypatch.context() as patch:
        patch.setattr("reverie.cache.sqlite_opener.MIGRATIONS", broken)
        index = SqliteIndex(tmp_path)
        with pytest.raises(IndexCorruptError):
            index.poll()
        index.close()
    with sqlite3.connect(path) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (1,)
        assert len(database.execute("PRAGMA table_info(entries)").fetchall()) == 12
    database.close()
    index = SqliteIndex(tmp_path)
    index.poll()
    assert index.count() == 4
    index.close()
