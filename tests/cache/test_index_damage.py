"""Damaged, foreign, newer and empty indexes: never overwritten, named, and rebuilt on request."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reverie.cache import check
from reverie.cache.check import check_cache
from reverie.cache.convert import convert
from reverie.cache.lost import LostIndexWarning
from reverie.cache.manager import CacheManager
from reverie.entry import cache_number
from reverie.errors import (
    CacheError,
    EntryNotFoundError,
    IndexCorruptError,
    ReverieError,
    StorageError,
    UnsafePathError,
)
from reverie.testing.samples import picture, png_bytes, vector

Open = Callable[..., Any]
COUNT = 4


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the cache is."""
    return tmp_path / "cache"


def make(folder: Path, kind: str, count: int = COUNT) -> Path:
    """A closed cache of a few entries; the path of its index."""
    with CacheManager(folder, index=kind) as cache:
        for seed in range(count):
            cache.add(picture(seed), f"prompt {seed}", {"seed": seed}, vector(seed))
        cache.remove(cache.add(picture(99)))
        return cache.index_path


def pictures(folder: Path) -> dict[str, bytes]:
    """All pictures below the cache, wherever a repair put them."""
    found = [path for name in ("images", "lost+found") for path in (folder / name).glob("*")]
    return {path.name: path.read_bytes() for path in found}


def refuses(folder: Path, index: Path) -> IndexCorruptError:
    """Opening names the file and the way out; twice; not a byte changes."""
    before = index.read_bytes()
    for _ in range(2):
        with pytest.raises(IndexCorruptError) as caught:
            CacheManager(folder)
        assert str(index) in str(caught.value)
        assert index.read_bytes() == before
    return caught.value


def repaired(folder: Path, index: Path) -> CacheManager:
    """Rebuild; the bad file stays beside, every picture survives, the check is clean, ids go on."""
    bad, before = index.read_bytes(), pictures(folder)
    assert [problem.kind for problem in check_cache(folder).problems] == ["damaged index"]
    assert index.read_bytes() == bad
    report = check_cache(folder, fix=True)
    assert report.fixed
    kept = [path for path in index.parent.glob(f"{index.name}.damaged-*") if not path.name.endswith("-wal")]
    assert [path.read_bytes() for path in kept] == [bad]
    assert pictures(folder) == before
    assert check_cache(folder).ok
    return CacheManager(folder)


WHAT_IS_THERE = {
    "nothing": b"",
    "spaces": b"  \n",
    "a number": b"42",
    "a list": b"[]",
    "null": b"null",
    "not an index": b'{"version": "1.0"}',
    "entries of no list": b'{"version": "1.0", "entries": {}}',
    "an entry of no object": b'{"version": "1.0", "entries": [5]}',
    "an entry without keys": b'{"version": "1.0", "entries": [{"cache_id": "cache_00001"}]}',
    "a newer version": b'{"version": "2.0", "entries": []}',
    "no version": b'{"entries": []}',
    "not UTF-8": b'{"version": "1.0", "entries": [], "x": "\xff"}',
    "a picture": png_bytes(1),
    "much nesting": b"[" * 100_000,
}


@pytest.mark.parametrize("what", WHAT_IS_THERE)
def test_a_json_file_that_is_no_index_is_left_alone(folder: Path, what: str) -> None:
    """Refused with the name of the file; rebuilt from the pictures on request."""
    index = make(folder, "json")
    index.write_bytes(WHAT_IS_THERE[what])
    refuses(folder, index)
    with repaired(folder, index) as cache:
        assert sorted(cache.ids()) == [f"cache_{number:05d}" for number in range(1, COUNT + 1)]
        assert cache.get("cache_00001").generation_params == {"recovered": True}
        assert cache_number(cache.add(picture(7))) > COUNT + 1


def test_the_position_of_a_syntax_error_is_named(folder: Path) -> None:
    """Line and column, for who wants to mend the file by hand."""
    index = make(folder, "json")
    lines = index.read_text().splitlines(keepends=True)
    place = next(number for number, line in enumerate(lines) if "cache_00002" in line)
    lines[place] = lines[place].replace('"prompt"', "prompt", 1)
    index.write_text("".join(lines))
    column = lines[place].index(",prompt") + 2
    assert f"line {place + 1}, column {column}" in str(refuses(folder, index))


@pytest.mark.parametrize("pretty", [False, True])
def test_a_json_file_cut_at_any_place(folder: Path, pretty: bool) -> None:
    """At every 37th byte: refused; every entry that is whole in it survives with all that was known of it."""
    index = make(folder, "json")
    if pretty:  # as the specification's project writes it
        index.write_text(json.dumps(json.loads(index.read_bytes()), indent=2))
    whole = index.read_bytes()
    ends = [whole.index(b"cache_%05d.png" % number) for number in range(1, COUNT + 1)]
    known = {}
    for cut in [*range(0, len(whole) - 3, 37), len(whole) - 5]:
        index.write_bytes(whole[:cut])
        if cut % 5 == 0:
            refuses(folder, index)
        with pytest.raises(IndexCorruptError):
            CacheManager(folder)
        with repaired(folder, index) as cache:
            entries = {entry.cache_id: entry for entry in cache.get_all()}
            assert sorted(entries) == [f"cache_{number:05d}" for number in range(1, COUNT + 1)]
            sound = [entry for entry in entries.values() if entry.prompt]
            for entry in sound:
                seed = cache_number(entry.cache_id) - 1
                assert (entry.prompt, entry.generation_params) == (f"prompt {seed}", {"seed": seed})
                assert np.array_equal(entry.embedding, vector(seed))
            known[cut] = len(sound)
            assert len(sound) >= sum(cut > end + 700 for end in ends) - 1
        for aside in index.parent.glob("*.damaged-*"):
            aside.unlink()
    assert sorted(set(known.values())) == list(range(COUNT + 1))


def test_a_json_file_with_one_bad_entry_keeps_the_others(folder: Path) -> None:
    """Only what cannot be read is rebuilt from its picture."""
    index = make(folder, "json")
    content = json.loads(index.read_bytes())
    content["entries"][1]["embedding"] = [0.0, 0.0]
    content["entries"][2]["generation_params"] = "steps=4"
    index.write_text(json.dumps(content))
    assert "cache_00002" in str(refuses(folder, index))
    with repaired(folder, index) as cache:
        assert {entry.cache_id: entry.prompt for entry in cache} == {
            "cache_00001": "prompt 0",
            "cache_00002": "",
            "cache_00003": "",
            "cache_00004": "prompt 3",
        }


def test_half_a_character_does_not_stop_a_repair(folder: Path) -> None:
    """Python writes half a surrogate pair as JSON, no other program reads it: refused, then mended."""
    index = make(folder, "json")
    content = json.loads(index.read_text())
    content["entries"][1]["prompt"] = "cut in an emoji \ud83d"
    content["entries"][2]["generation_params"] = {"half \udc00": ["\ud83d"], "seed": 2}
    index.write_text(json.dumps(content))
    refuses(folder, index)
    with repaired(folder, index) as cache:
        entries = cache.get_all()
        assert [entry.prompt for entry in entries] == [
            "prompt 0",
            "cut in an emoji ?",
            "prompt 2",
            "prompt 3",
        ]
        assert entries[2].generation_params == {"half ?": ["?"], "seed": 2}


def test_a_repair_never_replaces_what_was_written_meanwhile(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index is gone, a repair looks at the pictures, and another process begins anew and adds."""
    index = make(folder, "json")
    index.unlink()
    fault = check._Check._fault

    def slowly(self: Any, path: Path) -> Any:
        if not index.exists():
            with pytest.warns(LostIndexWarning):
                other = CacheManager(folder)
            with other:
                other.add(picture(50), "added meanwhile", {"seed": 50}, vector(50))
        return fault(self, path)

    with monkeypatch.context() as patch:
        patch.setattr(check._Check, "_fault", slowly)
        with pytest.raises(StorageError, match="another process"):
            check_cache(folder, fix=True)
    with CacheManager(folder) as cache:
        assert [entry.prompt for entry in cache.get_all()] == ["added meanwhile"]


def test_two_entries_of_one_id(folder: Path) -> None:
    """Refused by name; a repair keeps the first and both pictures."""
    index = make(folder, "json")
    content = json.loads(index.read_bytes())
    content["entries"][1]["cache_id"] = "cache_00001"
    index.write_text(json.dumps(content))
    assert "two entries have the id 'cache_00001'" in str(refuses(folder, index))
    with repaired(folder, index) as cache:
        assert cache.size() == COUNT
        assert len({entry.image_path for entry in cache}) == COUNT


def test_pictures_of_one_name_all_get_an_id(folder: Path, kind: str) -> None:
    """Rebuilt from a folder with the same name under several endings, and a name that is not UTF-8."""
    index = make(folder, kind)
    images = folder / "images"
    for name in ("cache_00001.apng", "cache_00001.PNG", "my picture.png"):
        (images / name).write_bytes(png_bytes(50))
    (images / "notes.txt").write_text("not a picture")
    index.write_bytes(b"rubbish" * 100)
    report = check_cache(folder, fix=True)
    assert {problem.kind for problem in report.problems} == {"damaged index", "orphan image"}
    assert (folder / "lost+found" / "notes.txt").read_text() == "not a picture"
    with CacheManager(folder) as cache:
        assert cache.size() == COUNT + 3
        assert "my picture" in cache
        assert {entry.image_path.name for entry in cache} == {path.name for path in images.iterdir()}
        assert cache.check().ok


@pytest.mark.parametrize(
    "path", ["../../etc/passwd", "/etc/passwd", "cache/images/../../../x.png", "images", "", "a:b.png"]
)
def test_a_path_out_of_the_cache_is_not_followed(folder: Path, path: str) -> None:
    """An index that names files elsewhere is refused by name; nothing is read or deleted there."""
    index = make(folder, "json")
    content = json.loads(index.read_bytes())
    content["entries"][0]["image_path"] = path
    index.write_text(json.dumps(content))
    with pytest.raises(UnsafePathError, match=r"cache_00001.*check --fix"):
        CacheManager(folder)
    with repaired(folder, index) as cache:
        assert cache.get("cache_00002").prompt == "prompt 1"
        assert cache.size() == COUNT


def test_an_index_damaged_while_open_is_never_written_over(folder: Path, open_cache: Open) -> None:
    """Each call says so, every time, and no later write replaces the file."""
    make(folder, "json")
    cache = open_cache(folder)
    index = cache.index_path
    rubbish = index.read_bytes()[:-20]
    index.write_bytes(rubbish)
    for call in (cache.get_all, lambda: cache.add(picture(5)), cache.size, lambda: cache.add(picture(6))):
        with pytest.raises(IndexCorruptError, match="line"):
            call()
    assert index.read_bytes() == rubbish
    assert [problem.kind for problem in cache.check().problems] == ["damaged index"]
    assert cache.check(fix=True).fixed
    assert cache.get("cache_00001").prompt == "prompt 0"
    assert cache.size() == COUNT
    cache.close()
    assert not (folder / "images" / "cache_00007.png").exists()


# -- SQLite


@pytest.mark.parametrize(
    "what", ["nothing", "text", "a picture", "a foreign database", "a newer shape", "zeros"]
)
def test_a_database_that_is_not_ours_is_left_alone(folder: Path, what: str) -> None:
    """Empty, rubbish, of another program, of a newer reverie: refused, rebuilt on request."""
    index = make(folder, "sqlite")
    if what == "a newer shape":
        with sqlite3.connect(index) as database:
            database.execute("PRAGMA user_version = 99")
            database.execute("PRAGMA journal_mode = DELETE")
        database.close()
    elif what == "a foreign database":
        index.unlink()
        with sqlite3.connect(index) as database:
            database.execute("CREATE TABLE theirs (a)")
        database.close()
    else:
        texts = {"nothing": b"", "text": b"not a database" * 500, "zeros": bytes(9000)}
        index.write_bytes(texts.get(what, png_bytes(1, 64, 64)))
    error = refuses(folder, index)
    if what == "a newer shape":
        assert "newer reverie" in str(error)
    with repaired(folder, index) as cache:
        assert sorted(cache.ids()) == [f"cache_{number:05d}" for number in range(1, COUNT + 1)]
        assert cache.get("cache_00001").prompt == ("prompt 0" if what == "a newer shape" else "")
        assert cache_number(cache.add(picture(7))) > COUNT


def test_a_database_cut_at_any_place(folder: Path) -> None:
    """At every 3,700th byte (and near the ends): refused; pictures survive, rows on whole pages too."""
    index = make(folder, "sqlite", 30)
    whole = index.read_bytes()
    salvaged = set()
    for cut in [*range(37, len(whole), 3737), len(whole) - 1]:
        index.write_bytes(whole[:cut])
        refuses(folder, index)
        with repaired(folder, index) as cache:
            assert sorted(cache.ids()) == [f"cache_{number:05d}" for number in range(1, 31)]
            known = [entry for entry in cache if entry.prompt]
            for entry in known:
                assert entry.prompt == f"prompt {cache_number(entry.cache_id) - 1}"
            salvaged.add(len(known))
        for aside in index.parent.glob("*.damaged-*"):
            aside.unlink()
    assert min(salvaged) == 0
    assert max(salvaged) >= 29


@pytest.mark.parametrize("seed", range(30))
def test_flipped_bytes_in_a_database_never_surprise(folder: Path, seed: int) -> None:
    """Whatever is hit: every error is ours, a repair gives a sound cache, and no picture is lost."""
    rng = np.random.default_rng(seed)
    index = make(folder, "sqlite")
    data = bytearray(index.read_bytes())
    for _ in range(8):
        place = int(rng.integers(100, len(data) - 64))
        data[place : place + 32] = rng.bytes(32)
    index.write_bytes(bytes(data))
    before = pictures(folder)
    with contextlib.suppress(ReverieError), CacheManager(folder) as cache:
        cache.get_all()
        cache.embeddings()
        cache.add(picture(50))
    before |= pictures(folder)
    check_cache(folder, fix=True)
    assert pictures(folder) == before
    again = check_cache(folder)
    assert {problem.kind for problem in again.problems} <= {"changed image"}
    with CacheManager(folder) as cache:
        cache.add(picture(60))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entries SET params = '{broken' WHERE number = 2",
        "UPDATE entries SET parents = 'none' WHERE number = 2",
        "UPDATE entries SET extra = '[' WHERE number = 2",
        "UPDATE entries SET prompt = CAST(x'ff00ff' AS TEXT) WHERE number = 2",
        "UPDATE vectors SET data = x'0000' WHERE number = 2",
        "UPDATE vectors SET data = 7 WHERE number = 2",
        "DROP TABLE trash",
    ],
)
def test_one_damaged_row_is_named_and_the_others_survive(folder: Path, statement: str) -> None:
    """A flipped bit that SQLite does not see: an error of ours; a repair keeps every other row."""
    index = make(folder, "sqlite")
    with sqlite3.connect(index) as database:
        database.execute(statement)
    database.close()

    def use() -> None:
        with CacheManager(folder) as cache:
            cache.get_all()
            cache.embeddings()
            cache.add(picture(5))

    with pytest.raises(IndexCorruptError, match=r"cache_index\.sqlite"):
        use()
    for leftover in (folder / "images").glob("cache_00006.*"):
        leftover.unlink()
    check_cache(folder, fix=True)
    assert check_cache(folder).ok
    with CacheManager(folder) as cache:
        prompts = {entry.cache_id: entry.prompt for entry in cache}
        assert {prompts[f"cache_{number:05d}"] for number in (1, 3, 4)} == {
            "prompt 0",
            "prompt 2",
            "prompt 3",
        }
        assert len(prompts) == COUNT


def test_a_repair_is_followed_by_who_has_it_open(folder: Path, open_cache: Open) -> None:
    """The manager that repaired goes on; another one that has the old file open is told to open again."""
    index = make(folder, "sqlite")
    cache, other = open_cache(folder), open_cache(folder)
    other.size()
    data = bytearray(index.read_bytes())
    assert b"prompt 2" in data
    cache.close()
    other.close()
    data = bytearray(index.read_bytes())
    data[100:4096] = bytes(3996)
    index.write_bytes(bytes(data))
    assert check_cache(folder, fix=True).fixed
    cache = open_cache(folder)
    assert cache.size() == COUNT
    index.rename(index.with_name("moved"))
    index.write_bytes(index.with_name("moved").read_bytes())
    with pytest.raises(CacheError, match="deleted or replaced"):
        cache.add(picture(1))


# -- convert


def test_convert_goes_both_ways_without_loss(folder: Path, kind: str, open_cache: Open) -> None:
    """Entries, vectors, pins, uses and the counter are equal, field by field."""
    with CacheManager(folder, index=kind) as cache:
        for seed in range(6):
            cache.add(picture(seed), f"p\0{seed} 🦊", {"s": [seed, None]}, vector(seed, 5), parents=["x"])
        cache.pin("cache_00002")
        cache.get("cache_00001")
        cache.remove("cache_00006")
        expected = cache.get_all()
    other = "json" if kind == "sqlite" else "sqlite"
    for to in (other, kind, other):
        assert convert(folder, to)
        assert not convert(folder, to)
        with CacheManager(folder) as cache:
            assert (cache.index_kind, cache.get_all()) == (to, expected)
            assert [entry.used_ns for entry in cache.get_all()] == [entry.used_ns for entry in expected]
            assert cache.check().ok
    assert open_cache(folder).add(picture(9)) == "cache_00007"


def test_who_has_it_open_is_told_of_a_convert(folder: Path, kind: str, open_cache: Open) -> None:
    """Reading goes on, the next write refuses, nothing is lost."""
    cache = open_cache(folder, index=kind)
    cache.add(picture(0), "kept")
    convert(folder, "json" if kind == "sqlite" else "sqlite")
    assert cache.get("cache_00001").prompt == "kept"
    for _ in range(2):
        with pytest.raises(CacheError, match="open the cache again"):
            cache.add(picture(1))
    cache.close()
    again = open_cache(folder)
    assert again.ids() == ["cache_00001"]
    again.add(picture(2))
    assert again.check().ok


def test_one_who_slept_through_two_converts_follows(folder: Path, open_cache: Open) -> None:
    """SQLite to JSON and back while a manager has the database open: it sees the content of now."""
    cache = open_cache(folder, index="sqlite")
    for seed in range(3):
        cache.add(picture(seed))
    convert(folder, "json")
    with CacheManager(folder) as between:
        between.remove("cache_00002")
        between.add(picture(5))
    convert(folder, "sqlite")
    assert cache.ids() == ["cache_00001", "cache_00003", "cache_00004"]
    with pytest.raises(EntryNotFoundError):
        cache.remove("cache_00002")
    assert cache.add(picture(6)) == "cache_00005"


def test_a_foreign_json_file_beside_a_database_is_not_written_over(folder: Path) -> None:
    """Check names it; a convert to JSON keeps a copy."""
    make(folder, "sqlite")
    foreign = b'{"not": "ours"}'
    (folder / "metadata" / "cache_index.json").write_bytes(foreign)
    assert [problem.kind for problem in check_cache(folder).problems] == ["second index"]
    convert(folder, "json")
    (kept,) = (folder / "metadata").glob("cache_index.json.replaced-*")
    assert kept.read_bytes() == foreign
    assert check_cache(folder).ok


def test_convert_of_a_damaged_index_changes_nothing(
    folder: Path, kind: str, snapshot: Callable[[Path], Any]
) -> None:
    """It refuses as opening does."""
    index = make(folder, kind)
    index.write_bytes(b"rubbish" * 1000)
    before = snapshot(folder)
    with pytest.raises(IndexCorruptError):
        convert(folder, "json" if kind == "sqlite" else "sqlite")
    after = snapshot(folder)
    assert {name: after[name] for name in before} == before
