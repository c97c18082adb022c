"""The vectors of a large cache in files that are mapped: used where they fit the index, else made anew."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from filelock import FileLock

from reverie.cache import shelves, vector_files, vector_table
from reverie.cache.adding import NewEntry
from reverie.cache.manager import CacheManager
from reverie.cache.sqlite_index import SqliteIndex
from reverie.half import VECTOR_TYPES, Halves, VectorType
from reverie.testing.samples import picture, vector
from reverie.vectors import VectorRows, stored_as

Open = Callable[..., CacheManager]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is large, much and little, small enough for a test."""
    monkeypatch.setattr(vector_table, "WORTH", 10)
    monkeypatch.setattr(shelves, "_MUCH", 8)
    monkeypatch.setattr(shelves, "_LITTLE", 1)
    monkeypatch.setattr(vector_files, "_SPARE", 16)


def fill(cache: CacheManager, seeds: range, encoder: str = "one") -> list[str]:
    """Entries with a vector each."""
    return cache.add_many(
        [NewEntry(picture(seed), embedding=vector(seed, 8, encoder), encoder=encoder) for seed in seeds]
    )


@pytest.fixture(params=VECTOR_TYPES)
def vectors(request: pytest.FixtureRequest) -> VectorType:
    """Each type of vectors in turn."""
    kind: VectorType = request.param
    return kind


@pytest.fixture
def kept(tmp_path: Path, vectors: VectorType) -> Path:
    """A cache of twelve entries, closed, whose vectors are in files."""
    with CacheManager(tmp_path / "cache", max_size=None, index="sqlite", vectors=vectors) as cache:
        fill(cache, range(12))
        assert len(cache.embeddings()) == 12
    assert files(tmp_path / "cache") == ["header.json", "ids", "numbers", "rows"]
    return tmp_path / "cache"


def files(folder: Path) -> list[str]:
    """The endings of the files of vectors, the lock left aside."""
    found = (folder / "metadata" / "vectors").glob("*")
    return sorted(each.name if each.suffix == ".json" else each.suffix[1:] for each in found if each.suffix)


def of(folder: Path, ending: str) -> Path:
    """The one file of that ending."""
    (found,) = (folder / "metadata" / "vectors").glob(f"*.{ending}")
    return found


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """How many vectors each question to an index asked for; None for all."""
    asked: list[int | None] = []
    vectors = SqliteIndex.vectors

    def counted(self: SqliteIndex, cache_ids: Any = None) -> Any:
        asked.append(None if cache_ids is None else len(cache_ids))
        return vectors(self, cache_ids)

    monkeypatch.setattr(SqliteIndex, "vectors", counted)
    return asked


def row_bytes(folder: Path) -> int:
    """Bytes of a row of eight numbers in the files."""
    (space,) = orjson.loads(of(folder, "json").read_bytes())["spaces"]
    return 8 * np.dtype(space["dtype"]).itemsize


def is_mapped(rows: VectorRows) -> bool:
    """Whether the matrix is that of a file, not a copy."""
    array: Any = rows.matrix.stored if isinstance(rows.matrix, Halves) else rows.matrix
    while array is not None and not isinstance(array, np.memmap):
        array = array.base
    return array is not None


def assert_true(cache: CacheManager, encoder: str = "one") -> None:
    """The vectors that the cache gives are those of its entries, oldest first, as arrays and as rows."""
    entries = [entry for entry in cache.get_all() if entry.encoder == encoder]
    shot, rows = cache.embeddings(encoder), cache.vector_rows(encoder)
    assert list(shot.ids) == [entry.cache_id for entry in entries]
    for entry, row in zip(entries, shot.matrix, strict=True):
        assert row.tobytes() == entry.embedding.tobytes()
    alive = np.flatnonzero(rows.alive)
    assert sorted(rows.ids[place] for place in alive) == sorted(shot.ids)
    assert rows.count == len(entries)
    by_id = {entry.cache_id: entry for entry in entries}
    for place in alive:
        assert rows.matrix[place].tobytes() == by_id[rows.ids[place]].embedding.tobytes()


def test_a_large_cache_opens_without_reading_its_vectors(
    kept: Path, open_cache: Open, reads: list[int | None]
) -> None:
    """A few are compared with the index; the matrix is that of the file, not a copy."""
    cache = open_cache(kept, max_size=None)
    rows = cache.vector_rows()
    assert None not in reads
    assert is_mapped(rows)
    assert isinstance(rows.matrix, Halves) == (cache.vector_type == "float16")
    assert_true(cache)


def test_a_small_cache_keeps_no_files(tmp_path: Path, open_cache: Open, kind: str) -> None:
    """Nor does one with a JSON index, however large."""
    with open_cache(index=kind, max_size=None) as cache:
        fill(cache, range(9 if kind == "sqlite" else 20))
        cache.embeddings()
    assert not (tmp_path / "cache" / "metadata" / "vectors").exists()


def test_changes_since_are_followed(kept: Path, open_cache: Open, reads: list[int | None]) -> None:
    """Entries that came, went, got another vector, another encoder's or none: only those are read."""
    with open_cache(kept, max_size=None) as cache:
        ids = cache.ids()
        cache.remove(ids[0])
        cache.remove(ids[5])
        fill(cache, range(20, 22))
        cache.set_embeddings({ids[2]: vector(50, 8, "one"), ids[3]: None, ids[4]: vector(4, 8, "two")})
        cache.pin(ids[7])
    reads.clear()
    cache = open_cache(kept, max_size=None)
    assert_true(cache)
    assert_true(cache, "two")
    assert None not in reads
    assert max(count for count in reads if count is not None) <= 12


def test_what_is_added_goes_behind_in_the_same_files(kept: Path, open_cache: Open) -> None:
    """Rows keep their places, in memory and in the file; what is little stays out of it until the end."""
    rows_file, before = of(kept, "rows"), of(kept, "rows").read_bytes()
    with open_cache(kept, max_size=None) as cache:
        cache.embeddings()
        fill(cache, range(30, 33))
        assert orjson.loads(of(kept, "json").read_bytes())["spaces"][0]["count"] == 12
        assert_true(cache)
    assert of(kept, "rows") == rows_file
    size = 12 * row_bytes(kept)
    assert rows_file.read_bytes()[:size] == before[:size]
    assert orjson.loads(of(kept, "json").read_bytes())["spaces"][0]["count"] == 15
    assert_true(open_cache(kept, max_size=None))


def test_much_is_kept_at_once(kept: Path, open_cache: Open) -> None:
    """In the background, while the cache is open: a process that is killed has little to read again."""
    cache = open_cache(kept, max_size=None)
    cache.embeddings()
    fill(cache, range(30, 40))
    cache._mirror._shelves._saving.join()
    assert orjson.loads(of(kept, "json").read_bytes())["spaces"][0]["count"] == 22
    fill(cache, range(40, 50))
    cache._mirror._shelves._saving.join()
    assert_true(cache)
    assert_true(open_cache(kept, max_size=None))


def test_a_full_file_gives_way_to_a_new_one(kept: Path, open_cache: Open, vectors: VectorType) -> None:
    """The old one is deleted; who has it mapped keeps what it has."""
    before = of(kept, "rows")
    other = open_cache(kept, max_size=None)
    held = other.vector_rows()
    with open_cache(kept, max_size=None) as cache:
        cache.embeddings()
        for start in range(100, 160, 6):
            fill(cache, range(start, start + 6))
        assert_true(cache)
    assert of(kept, "rows") != before
    assert not before.exists()
    assert files(kept) == ["header.json", "ids", "numbers", "rows"]
    for place in range(12):
        assert held.matrix[place].tobytes() == stored_as(vector(place), vectors).tobytes()
    assert_true(other)
    assert_true(open_cache(kept, max_size=None))


def test_two_processes_share_the_rows_and_not_what_they_add(kept: Path, open_cache: Open) -> None:
    """Each sees what both added, whoever keeps it first."""
    one, two = open_cache(kept, max_size=None), open_cache(kept, max_size=None)
    one.embeddings()
    two.embeddings()
    fill(one, range(30, 33))
    fill(two, range(40, 43))
    assert_true(one)
    assert_true(two)
    one.close()
    fill(two, range(50, 53))
    assert_true(two)
    two.close()
    assert_true(open_cache(kept, max_size=None))


def test_who_finds_another_at_it_leaves_it(kept: Path, open_cache: Open) -> None:
    """Nobody waits: the vectors are in the index, too."""
    with open_cache(kept, max_size=None) as cache:
        cache.embeddings()
        fill(cache, range(30, 33))
        with FileLock(kept / "metadata" / "vectors" / "lock"):
            cache.close()
    assert orjson.loads(of(kept, "json").read_bytes())["spaces"][0]["count"] == 12
    assert_true(open_cache(kept, max_size=None))


OTHER = {32: "<f2", 16: "<f4"}
DAMAGES: dict[str, Callable[[Path], Any]] = {
    "rows are cut": lambda folder: os.truncate(of(folder, "rows"), 11 * row_bytes(folder)),
    "numbers are cut": lambda folder: os.truncate(of(folder, "numbers"), 95),
    "ids are cut": lambda folder: os.truncate(of(folder, "ids"), 30),
    "the header is cut": lambda folder: os.truncate(of(folder, "json"), 100),
    "the header is empty": lambda folder: of(folder, "json").write_bytes(b""),
    "the header is something else": lambda folder: of(folder, "json").write_bytes(b'{"format": 1}'),
    "the header is of another format": lambda folder: edit(folder, format=99),
    "the header leads elsewhere": lambda folder: edit_space(folder, name="../../images/cache_00001"),
    "another encoder": lambda folder: edit_space(folder, encoder="two"),
    "another type of rows": lambda folder: edit_space(folder, dtype=OTHER[row_bytes(folder)]),
    "no type of rows": lambda folder: edit_space(folder, dtype="|V4"),
    "another number of rows": lambda folder: edit_space(folder, count=11),
    "alive is cut": lambda folder: edit_space(folder, alive="AA=="),
    "another database": lambda folder: edit(folder, mark=[5, 12]),
    "a mark of the future": lambda folder: edit(folder, mark=[read_mark(folder)[0], 10**6]),
    "rows are gone": lambda folder: of(folder, "rows").unlink(),
    "all is gone": lambda folder: shutil.rmtree(folder / "metadata" / "vectors"),
    "a number is another": lambda folder: flip(of(folder, "numbers"), 17),
    "a row is another": lambda folder: flip(of(folder, "rows"), 5 * row_bytes(folder) + 3),
}


def edit(folder: Path, **changes: Any) -> None:
    """Change the header."""
    header = orjson.loads(of(folder, "json").read_bytes())
    of(folder, "json").write_bytes(orjson.dumps({**header, **changes}))


def edit_space(folder: Path, **changes: Any) -> None:
    """Change what the header says of the encoder."""
    (space,) = orjson.loads(of(folder, "json").read_bytes())["spaces"]
    edit(folder, spaces=[{**space, **changes}])


def read_mark(folder: Path) -> list[int]:
    """The mark in the header."""
    mark: list[int] = orjson.loads(of(folder, "json").read_bytes())["mark"]
    return mark


def flip(path: Path, place: int) -> None:
    """Change one byte."""
    data = bytearray(path.read_bytes())
    data[place] ^= 0x40
    path.write_bytes(data)


@pytest.mark.parametrize("damage", DAMAGES)
def test_files_that_do_not_fit_are_made_anew(kept: Path, open_cache: Open, damage: str) -> None:
    """No error, no wrong vector; the next time they are used again."""
    DAMAGES[damage](kept)
    with open_cache(kept, max_size=None) as cache:
        assert_true(cache)
    assert "header.json" in files(kept)
    with open_cache(kept, max_size=None) as cache:
        assert (
            is_mapped(cache.vector_rows()) or damage == "a mark of the future"
        )  # which others may have kept
        assert_true(cache)


def test_a_log_that_does_not_go_back_far_enough(
    kept: Path, open_cache: Open, monkeypatch: pytest.MonkeyPatch, reads: list[int | None]
) -> None:
    """Nobody knows what changed: all is read from the index."""
    monkeypatch.setattr("reverie.cache.sqlite_writer._KEPT_CHANGES", 5)
    with open_cache(kept, max_size=None) as cache:
        cache.set_embeddings({cache.ids()[0]: vector(77)})
        for _ in range(10):
            cache.pin(cache.ids()[1])
            cache.unpin(cache.ids()[1])
        with cache._writing() as write:
            write.index._database.execute("DELETE FROM changes WHERE change < 30")
    reads.clear()
    cache = open_cache(kept, max_size=None)
    assert_true(cache)
    assert None in reads


def test_a_disk_that_refuses_is_no_error(
    kept: Path, open_cache: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The vectors are in the index: what was kept before stays as it is."""

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shelves, "_MUCH", 1000)
    before = {path.name: path.read_bytes() for path in (kept / "metadata" / "vectors").iterdir()}
    with open_cache(kept, max_size=None) as cache:
        cache.embeddings()
        fill(cache, range(30, 40))
        with monkeypatch.context() as patch:
            patch.setattr(vector_files, "_write_rows", refuse)
            cache.close()
    for name, data in before.items():
        if name != "lock":
            assert (kept / "metadata" / "vectors" / name).read_bytes()[: len(data)] == data
    assert_true(open_cache(kept, max_size=None))


def test_several_encoders_are_kept_apart(kept: Path, open_cache: Open) -> None:
    """Each has files of its own, named after it; those of one that is gone are deleted."""
    with open_cache(kept, max_size=None) as cache:
        other = fill(cache, range(30, 33), "theirs/ß:1")
        cache.embeddings("one")
    names = sorted(path.name for path in (kept / "metadata" / "vectors").glob("*.rows"))
    assert [name[:8] for name in names] == ["one-8-" + names[0][6:8], "theirs-ß"]
    with open_cache(kept, max_size=None) as cache:
        assert_true(cache, "theirs/ß:1")
        for cache_id in other:
            cache.remove(cache_id)
        cache.embeddings()
        fill(cache, range(60, 62))
    assert [path.name[:3] for path in (kept / "metadata" / "vectors").glob("*.rows")] == ["one"]
    assert_true(open_cache(kept, max_size=None))
