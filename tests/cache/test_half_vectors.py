"""A cache that keeps its vectors as float16: one vector everywhere, bit for bit, and ways there and back."""

from __future__ import annotations

import base64
import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
from earlier_shapes import RECORDS, database_of_shape

from reverie.cache.adding import NewEntry
from reverie.cache.check import check_cache
from reverie.cache.convert import convert
from reverie.cache.duplicates import find_duplicates
from reverie.cache.export import export_cache
from reverie.cache.manager import CacheManager
from reverie.cache.similarity import find_similar
from reverie.cache.sqlite_index import SqliteIndex
from reverie.cache.sqlite_schema import MIGRATIONS
from reverie.errors import ConfigError, IndexCorruptError, StorageError
from reverie.half import Halves
from reverie.search.exact import ExactSearch
from reverie.testing.samples import picture, record, vector
from reverie.vectors import Embedding, similarities, stored_as, to_bytes

Open = Callable[..., CacheManager]


def fill(cache: CacheManager, seeds: range, dimensions: int = 64) -> list[str]:
    """Entries with a vector each."""
    return cache.add_many([NewEntry(picture(seed), embedding=wanted(seed, dimensions)) for seed in seeds])


def wanted(seed: int, dimensions: int = 64) -> Embedding:
    """A vector as a caller gives it."""
    return vector(seed, dimensions)


def kept(seed: int, dimensions: int = 64) -> bytes:
    """The same as the cache has it, as bytes."""
    return stored_as(wanted(seed, dimensions), "float16").tobytes()


@pytest.fixture
def half(open_cache: Open) -> CacheManager:
    """A cache of six entries with halves."""
    cache = open_cache(max_size=None, vectors="float16")
    fill(cache, range(6))
    return cache


def assert_halves(cache: CacheManager, seeds: list[int]) -> None:
    """The vectors of these seeds in order, the same by every way there is."""
    expected = [kept(seed) for seed in seeds]
    assert cache.vector_type == "float16"
    assert [entry.embedding.tobytes() for entry in cache.get_all()] == expected
    shot, rows = cache.embeddings(), cache.vector_rows()
    assert shot.matrix.dtype == np.float32
    assert not shot.matrix.flags.writeable
    assert [row.tobytes() for row in shot.matrix] == expected
    assert isinstance(rows.matrix, Halves)
    assert sorted(rows.matrix[row].tobytes() for row in np.flatnonzero(rows.alive)) == sorted(expected)
    on_disk = {brief.cache_id: each.tobytes() for brief, each in cache._index.vectors()}
    assert list(on_disk.values()) == expected


# -- one vector everywhere


def test_an_entry_has_the_same_vector_before_and_after_reopening(
    half: CacheManager, open_cache: Open
) -> None:
    """It is rounded once, when it is added: in memory, for listeners, in another object, in a new one."""
    told: list[bytes] = []
    half.embeddings()  # the table is there before the next add, which goes into it
    half.on_added.append(lambda entry: told.append(entry.embedding.tobytes()))
    fill(half, range(6, 8))
    assert told == [kept(6), kept(7)]
    assert_halves(half, list(range(8)))
    assert_halves(open_cache(max_size=None), list(range(8)))
    half.close()
    again = open_cache(max_size=None)
    assert_halves(again, list(range(8)))
    assert again.check().ok


def test_the_numbers_take_two_bytes(half: CacheManager) -> None:
    """And one a vector that says so."""
    with sqlite3.connect(half.index_path) as database:
        sizes = database.execute("SELECT DISTINCT length(data) FROM vectors").fetchall()
    database.close()
    assert sizes == [(2 * 64 + 1,)]


def test_cosines_agree_bit_for_bit_by_every_way(open_cache: Open) -> None:
    """A search among halves, `find_similar` over the arrays, over entries, and the product of two vectors."""
    cache = open_cache(max_size=None, vectors="float16")
    ids = fill(cache, range(1500), 32)
    target = wanted(7000, 32)
    rows = cache.vector_rows()
    assert isinstance(rows.matrix, Halves)
    searcher = ExactSearch()
    found = searcher.search(rows, target, 20)
    by_arrays = find_similar(target, cache.embeddings(), None, 20)
    pairs = [(entry.cache_id, entry.embedding) for entry in cache.get_all()]
    by_entries = find_similar(target, pairs, None, 20)
    expected = [
        (rows.ids[place], float(score)) for place, score in zip(found.places, found.scores, strict=True)
    ]
    assert by_arrays == by_entries == expected
    for cache_id, score in expected:
        (entry,) = cache.peek([cache_id])
        assert float(similarities(np.asarray(entry.embedding)[None], target)[0]) == score
    few = np.zeros(len(rows), dtype=np.bool_)
    few[::40] = True
    among = searcher.search(rows, target, 5, among=few)
    every = similarities(rows.matrix, target)
    assert among.scores.tolist() == np.sort(every[::40])[::-1][:5].tolist()
    assert set(ids) == set(rows.ids[: len(rows)])


@pytest.mark.parametrize("policy", ["rke", "maxmin"])
def test_eviction_goes_by_the_halves(tmp_path: Path, policy: str) -> None:
    """What is evicted is the same in one life and in one that is opened anew for every add."""
    options: dict[str, Any] = {"max_size": 6, "eviction": policy, "vectors": "float16", "seed": 1}
    with CacheManager(tmp_path / "one", **options) as one:
        for seed in range(20):
            one.add(picture(seed), embedding=wanted(seed))
        expected = one.ids()
    state = None
    for seed in range(20):
        with CacheManager(tmp_path / "two", eviction_options=state, **options) as two:
            two.add(picture(seed), embedding=wanted(seed))
            state = two.eviction_state()
    with CacheManager(tmp_path / "two") as two:
        assert two.ids() == expected


def test_replaced_vectors_are_halves_too(half: CacheManager, open_cache: Open) -> None:
    """As `reindex` replaces them; what was read and is kept again stays the same."""
    other = open_cache(max_size=None)
    other.embeddings()
    first, second, third = half.ids()[:3]
    half.set_embeddings({first: wanted(50), second: half.peek([second])[0].embedding, third: None})
    half.set_embeddings({third: wanted(2)})
    for cache in (half, other, open_cache(max_size=None)):
        assert_halves(cache, [50, 1, 2, 3, 4, 5])


def test_batched_adds_are_rounded_as_others(open_cache: Open) -> None:
    """Whoever looks finds the vector as it will be stored."""
    cache = open_cache(max_size=None, vectors="float16", durability="batched")
    for seed in range(4):
        cache.add(picture(seed), embedding=wanted(seed))
        assert cache.get_all()[-1].embedding.tobytes() == kept(seed)
    assert_halves(cache, [0, 1, 2, 3])


def test_duplicates_and_exports_have_the_vectors_as_they_are(half: CacheManager, tmp_path: Path) -> None:
    """Groups by look, and float32 numbers in the files."""
    twin = half.add(picture(70), embedding=wanted(3))
    groups = find_duplicates(half, "look", threshold=0.9999).groups
    assert [[member.cache_id for member in group.members] for group in groups] == [["cache_00004", twin]]
    expected = [kept(seed) for seed in (*range(6), 3)]
    export_cache(half, tmp_path / "out", vectors="base64")
    lines = [json.loads(line) for line in (tmp_path / "out" / "metadata.jsonl").read_text().splitlines()]
    assert [base64.b64decode(line["embedding"]) for line in lines] == expected
    export_cache(half, tmp_path / "out.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "out.parquet")
    found = [np.float32(row).tobytes() for row in table["embedding"].to_pylist()]
    assert found == expected


def test_another_process_sees_and_adds_the_same(half: CacheManager) -> None:
    """It opens the cache as it is, and rounds as this one does."""
    half.embeddings()
    code = (
        "import sys, numpy as np\n"
        "from reverie.cache.manager import CacheManager\n"
        "with CacheManager(sys.argv[1], None) as cache:\n"
        "    before = [entry.embedding.tobytes().hex() for entry in cache.get_all()]\n"
        "    numbers = np.frombuffer(bytes.fromhex(sys.argv[2]), dtype=np.float32)\n"
        "    cache.add(np.zeros((8, 8, 3), np.uint8), embedding=numbers, encoder='suite-1')\n"
        "print(*before)\n"
    )
    given = [sys.executable, "-c", code, str(half.cache_dir), wanted(60).tobytes().hex()]
    done = subprocess.run(given, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [kept(seed).hex() for seed in range(6)]
    assert_halves(half, [*range(6), 60])


# -- choosing


@pytest.mark.parametrize("value", ["half", "", "float64", 16, True, np.float16])
def test_an_unknown_type_is_refused(tmp_path: Path, value: Any) -> None:
    """Before anything is touched."""
    with pytest.raises(ConfigError, match="vectors must be one of float32, float16, or None; got"):
        CacheManager(tmp_path / "cache", vectors=value)
    assert not (tmp_path / "cache").exists()


def test_the_choice_is_kept_and_another_one_refused(half: CacheManager, open_cache: Open) -> None:
    """None takes what is there; the error says how to convert, in both directions."""
    for vectors in (None, "float16"):
        assert open_cache(max_size=None, vectors=vectors).vector_type == "float16"
    with pytest.raises(
        ConfigError, match=r"keeps vectors as float16, but vectors='float32' was asked.*--vectors"
    ):
        open_cache(vectors="float32")
    with open_cache("plain", index="sqlite") as plain:
        assert plain.vector_type == "float32"
    with pytest.raises(ConfigError, match=r"keeps vectors as float32.*convert --vectors float16 --cache"):
        open_cache("plain", vectors="float16")
    assert open_cache("plain", vectors="float32").vector_type == "float32"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders given by name alone are below the test's own."""
    monkeypatch.chdir(tmp_path)


def test_a_json_index_has_no_halves(tmp_path: Path, open_cache: Open) -> None:
    """A new cache that wants them gets a database however small; one that is there says what to do."""
    assert open_cache("new", max_size=5, vectors="float16").index_kind == "sqlite"
    with open_cache(index="json", vectors="float32") as cache:
        fill(cache, range(3))
        assert cache.vector_type == "float32"
    for index in ("auto", "json"):
        with pytest.raises(ConfigError, match="--to sqlite --vectors float16 --cache"):
            open_cache(index=index, vectors="float16")
    with pytest.raises(ConfigError, match="keeps the numbers of vectors as text"):
        convert(tmp_path / "cache", vectors="float16")
    assert not convert(tmp_path / "cache", vectors="float32")
    assert open_cache().embeddings().matrix[1].tobytes() == wanted(1).tobytes()


def test_an_index_that_is_filled_at_once_keeps_what_was_asked(tmp_path: Path) -> None:
    """Before it was ever opened, and again."""
    for number in (1, 2):
        index = SqliteIndex(tmp_path, vectors="float16")
        index.replace_all([record(number)], 3, {})
        index.poll()
        assert index.vector_type() == "float16"
        assert [each.tobytes() for _, each in index.vectors()] == [
            stored_as(vector(number), "float16").tobytes()
        ]
        index.close()


# -- converting


def test_a_json_cache_becomes_one_with_halves_and_back(tmp_path: Path, open_cache: Open) -> None:
    """Rounded once; from then on nothing is lost on any way."""
    with open_cache(index="json") as cache:
        fill(cache, range(5))
    folder = tmp_path / "cache"
    assert convert(folder, "sqlite", vectors="float16")
    with open_cache(max_size=None) as cache:
        assert_halves(cache, list(range(5)))
    with pytest.raises(ConfigError, match="as text"):
        convert(folder, "json", vectors="float16")
    for to, vectors in (("json", None), ("sqlite", "float16"), ("json", "float32"), ("sqlite", None)):
        assert convert(folder, to, vectors=vectors)
        with open_cache(max_size=None) as cache:
            assert cache.vector_type == (vectors or "float32")
            assert [entry.embedding.tobytes() for entry in cache.get_all()] == [kept(n) for n in range(5)]
            assert cache.check().ok


@pytest.mark.parametrize("count", [0, 1, 25])
def test_a_database_is_converted_in_place(
    tmp_path: Path, open_cache: Open, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """Who has it open follows at once, reading and writing; a copy has what was rounded away."""
    monkeypatch.setattr("reverie.cache.sqlite_vectors._AT_ONCE", 4)
    cache = open_cache(max_size=None, index="sqlite", vectors="float32")
    fill(cache, range(count))
    cache.add(picture(200), "without a vector")
    cache.embeddings()
    assert convert(cache.cache_dir, vectors="float16")
    assert not convert(cache.cache_dir, vectors="float16")
    assert cache.vector_type == "float16"
    fill(cache, range(100, 102))
    for each in (cache, open_cache(max_size=None, vectors="float16")):
        entries = [entry for entry in each.get_all() if entry.embedding is not None]
        assert [entry.embedding.tobytes() for entry in entries] == [
            kept(seed) for seed in (*range(count), 100, 101)
        ]
        assert [row.tobytes() for row in each.embeddings().matrix] == [
            entry.embedding.tobytes() for entry in entries
        ]
    assert cache.check().ok
    (copy,) = cache.metadata_dir.glob("cache_index.sqlite.float32-*")
    (tmp_path / "old" / "metadata").mkdir(parents=True)
    copy.rename(tmp_path / "old" / "metadata" / "cache_index.sqlite")
    old = open_cache(tmp_path / "old", max_size=None)
    assert (old.vector_type, len(old)) == ("float32", count + 1)
    assert [row.tobytes() for row in old.embeddings().matrix] == [wanted(n).tobytes() for n in range(count)]
    assert convert(cache.cache_dir, vectors="float32")
    assert cache.vector_type == "float32"
    assert cache.embeddings().matrix[-1].tobytes() == kept(101)
    assert list(cache.metadata_dir.glob("*.float32-*")) == []


def test_a_converted_database_is_smaller(open_cache: Open) -> None:
    """The room is given back."""
    cache = open_cache(max_size=None, index="sqlite")
    fill(cache, range(300), 512)
    cache.close()
    before = cache.index_path.stat().st_size
    convert(cache.cache_dir, vectors="float16")
    assert cache.index_path.stat().st_size < before * 0.6


def test_a_conversion_that_fails_changes_nothing(open_cache: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Halfway through, and when no copy can be made: all vectors are as they were, and usable."""
    cache = open_cache(max_size=None, index="sqlite")
    fill(cache, range(9))
    before = cache.get_all()
    calls = 0

    def fail(*given: Any) -> bytes:
        nonlocal calls
        calls += 1
        if calls == 6:
            raise sqlite3.OperationalError("database or disk is full")
        return to_bytes(*given)

    with monkeypatch.context() as patch:
        patch.setattr("reverie.cache.sqlite_vectors.to_bytes", fail)
        patch.setattr("reverie.cache.sqlite_vectors._AT_ONCE", 2)
        with pytest.raises((StorageError, IndexCorruptError)):
            convert(cache.cache_dir, vectors="float16")
    assert calls == 6

    def refuse(_: Path) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("reverie.cache.sqlite_vectors.flush_file", refuse)
        with pytest.raises(StorageError, match="the disk is full"):
            convert(cache.cache_dir, vectors="float16")
    assert list(cache.metadata_dir.glob(".partial-*")) == []
    again = open_cache(max_size=None, vectors="float32")
    assert again.get_all() == cache.get_all() == before
    fill(again, range(20, 21))
    assert again.check().ok


def test_a_damaged_vector_stops_a_conversion(open_cache: Open) -> None:
    """It names the entry; nothing is converted around it."""
    cache = open_cache(max_size=None, index="sqlite")
    fill(cache, range(3))
    cache.close()
    with sqlite3.connect(cache.index_path) as database:
        database.execute("UPDATE vectors SET data = x'0102' WHERE number = 2")
    database.close()
    with pytest.raises(IndexCorruptError, match="the vector of entry 2 is damaged"):
        convert(cache.cache_dir, vectors="float16")
    with sqlite3.connect(cache.index_path) as database:
        assert database.execute("SELECT value FROM meta WHERE key = 'vector_bits'").fetchone() == (32,)
        assert database.execute("SELECT length(data) FROM vectors WHERE number = 1").fetchone() == (256,)
    database.close()


def test_one_who_slept_through_two_conversions_follows(open_cache: Open, tmp_path: Path) -> None:
    """To JSON and back as halves, while a manager has the database open."""
    cache = open_cache(max_size=None, index="sqlite")
    fill(cache, range(3))
    cache.embeddings()
    convert(tmp_path / "cache", "json")
    convert(tmp_path / "cache", "sqlite", vectors="float16")
    assert_halves(cache, [0, 1, 2])
    fill(cache, range(3, 4))
    assert_halves(cache, [0, 1, 2, 3])


# -- other shapes and other programs


@pytest.mark.parametrize("shape", range(1, len(MIGRATIONS)))
def test_a_database_of_every_earlier_shape(tmp_path: Path, open_cache: Open, shape: int) -> None:
    """It keeps float32 as before, says so when halves are asked, and is converted."""
    folder = tmp_path / "cache"
    database_of_shape(folder, shape, RECORDS)
    with pytest.raises(ConfigError, match="keeps vectors as float32"):
        open_cache(max_size=None, vectors="float16")
    with open_cache(max_size=None) as cache:
        assert cache.vector_type == "float32"
        before = {entry.cache_id: entry.embedding for entry in cache.get_all()}
        assert before["cache_00001"].tobytes() == RECORDS[0].embedding.tobytes()
    assert convert(folder, vectors="float16")
    with open_cache(max_size=None) as cache:
        for entry in cache.get_all():
            old = before[entry.cache_id]
            new = None if old is None else stored_as(old, "float16").tobytes()
            assert (None if entry.embedding is None else entry.embedding.tobytes()) == new
        assert cache.add(picture(9), embedding=vector(9)) == "cache_00007"


@pytest.mark.parametrize("shape", range(1, len(MIGRATIONS)))
def test_an_earlier_shape_is_converted_without_being_opened_before(tmp_path: Path, shape: int) -> None:
    """`convert` brings it up to date itself."""
    database_of_shape(tmp_path, shape, RECORDS)
    assert convert(tmp_path, vectors="float16")
    index = SqliteIndex(tmp_path, vectors="float16")
    index.poll()
    found = {brief.number: each.tobytes() for brief, each in index.vectors()}
    index.close()
    assert found == {n: stored_as(record(n).embedding, "float16").tobytes() for n in (1, 3, 4)}


def test_who_had_it_open_in_an_earlier_version_cannot_mix_in_others(half: CacheManager) -> None:
    """Its rows are refused in words, and those of halves are no vectors to it: nothing is misread."""
    with sqlite3.connect(half.index_path) as database:
        row = (1, "suite-1", to_bytes(wanted(1)))
        with pytest.raises(sqlite3.IntegrityError, match="open the cache again"):
            database.execute("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)", row)
        (data,) = database.execute("SELECT data FROM vectors WHERE number = 1").fetchone()
        assert len(data) % 4 == 1  # what earlier versions raise for
        assert database.execute("PRAGMA user_version").fetchone()[0] == len(MIGRATIONS) > 2
    database.close()


def test_a_type_that_nobody_knows(half: CacheManager, open_cache: Open) -> None:
    """A damaged mark is damage: nothing is guessed."""
    half.close()
    with sqlite3.connect(half.index_path) as database:
        database.execute("UPDATE meta SET value = 8 WHERE key = 'vector_bits'")
    database.close()
    with pytest.raises(IndexCorruptError, match="its vectors have 8 bits a number"):
        open_cache(max_size=None)


def test_a_damaged_database_is_rebuilt_with_halves(half: CacheManager, open_cache: Open) -> None:
    """What can be read comes back as it was; the type too, where the database still says so."""
    half.close()
    data = bytearray(half.index_path.read_bytes())
    place = data.rindex(to_bytes(wanted(3), "float16")[:40])
    page = place // 4096 * 4096
    data[page : page + 8] = b"\xff" * 8
    half.index_path.write_bytes(data)
    with pytest.raises(IndexCorruptError):
        open_cache(max_size=None).embeddings()
    assert check_cache(half.cache_dir, fix=True).fixed
    with open_cache(max_size=None) as cache:
        assert cache.vector_type == "float16"
        assert len(cache) == 6
        fill(cache, range(30, 31))
        assert cache.get_all()[-1].embedding.tobytes() == kept(30)


def test_a_damaged_half_is_named(half: CacheManager, open_cache: Open) -> None:
    """A vector that is cut, or has the width of none."""
    half.close()
    for rubbish in ("x'0102'", "x'010203'", "'text'"):
        with sqlite3.connect(half.index_path) as database:
            database.execute(f"UPDATE vectors SET data = {rubbish} WHERE number = 4")  # noqa: S608 - three texts
        database.close()
        with pytest.raises(IndexCorruptError, match="cache_00004"):
            open_cache(max_size=None).embeddings()
