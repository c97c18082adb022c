"""An index that is gone beside pictures that are there: nothing is lost, and no id comes twice."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reverie.cache.check import check_cache
from reverie.cache.lost import LostIndexWarning, lost_pictures
from reverie.cache.manager import CacheManager
from reverie.errors import StorageError
from reverie.testing.samples import picture, png_bytes, vector

Open = Callable[..., Any]


@pytest.fixture
def bereft(tmp_path: Path, kind: str) -> Path:
    """A cache of which ids 3 to 5 are left, and whose index was deleted with all that belonged to it."""
    with CacheManager(tmp_path / "cache", 3, index=kind) as cache:
        for seed in range(5):
            cache.add(picture(seed), embedding=vector(seed))
    for path in (tmp_path / "cache" / "metadata").iterdir():
        path.unlink()
    return tmp_path / "cache"


def pictures(folder: Path) -> dict[str, bytes]:
    """Every picture in the cache by its name."""
    return {path.name: path.read_bytes() for path in (folder / "images").iterdir()}


def opened_anew(folder: Path, kind: str) -> CacheManager:
    """A cache with a new index, once that was warned of."""
    with pytest.warns(LostIndexWarning):
        return CacheManager(folder, index=kind)


def test_a_new_index_is_begun_with_a_word(bereft: Path, kind: str) -> None:
    """It is warned of while there is no index; numbers go on above those of the pictures from then on."""
    before = pictures(bereft)
    with pytest.warns(LostIndexWarning, match=r"3 pictures but no index.*check --fix --cache"):
        CacheManager(bereft, index=kind).close()
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        cache = CacheManager(bereft, index=kind)
    assert cache.add(picture(9)) == "cache_00006"
    cache.close()
    with CacheManager(bereft) as again:
        assert again.ids() == ["cache_00006"]
        assert again.add(picture(10)) == "cache_00007"
    assert before.items() <= pictures(bereft).items()


def test_a_repair_makes_entries_of_them(bereft: Path, kind: str) -> None:
    """Beside what was added since; dry, nothing changes; nothing is moved, and their ids stay theirs."""
    with opened_anew(bereft, kind) as cache:
        cache.add(picture(9), "new")
    before = pictures(bereft)
    for fix in (False, True):
        report = check_cache(bereft, fix=fix)
        assert [(each.kind, each.subject) for each in report.problems] == [
            ("orphan image", f"cache_0000{number}.png") for number in (3, 4, 5)
        ]
        assert {each.action for each in report.problems} == {"take it over as an entry"}
    assert (report.fixed, pictures(bereft), check_cache(bereft).ok) == (True, before, True)
    assert not (bereft / "lost+found").exists()
    with CacheManager(bereft) as cache:
        assert sorted(cache.ids()) == [f"cache_0000{number}" for number in (3, 4, 5, 6)]
        assert cache.get("cache_00004").generation_params == {"recovered": True}
        assert cache.get("cache_00006").prompt == "new"
        cache.clear()
        assert cache.add(picture(11)) > "cache_00006"
    assert lost_pictures(bereft / "metadata") == frozenset()


def test_a_repair_before_anything_was_added(bereft: Path, kind: str) -> None:
    """Opened only: numbers still go on above those that are taken over."""
    with pytest.warns(LostIndexWarning):
        CacheManager(bereft, index=kind).close()
    assert check_cache(bereft, fix=True).fixed
    with CacheManager(bereft) as cache:
        assert cache.ids() == ["cache_00003", "cache_00004", "cache_00005"]
        assert cache.add(picture(9)) > "cache_00005"


def test_other_files_without_an_entry_go_aside_as_ever(bereft: Path, kind: str) -> None:
    """A broken picture, one of another name, and one that came after the index was begun anew."""
    (bereft / "images" / "cache_00004.png").write_bytes(b"broken")
    (bereft / "images" / "mine.png").write_bytes(png_bytes(1))
    with opened_anew(bereft, kind) as cache:
        cache.add(picture(9))
        (bereft / "images" / "cache_00009.png").write_bytes(png_bytes(9))
        assert cache.check(fix=True).fixed
        assert sorted(cache.ids()) == ["cache_00003", "cache_00005", "cache_00006"]
        assert cache.check().ok
    gone = {path.name for path in (bereft / "lost+found").iterdir()}
    assert gone == {"cache_00004.png", "mine.png", "cache_00009.png"}


def test_a_folder_without_pictures_of_ours_is_a_new_cache(tmp_path: Path, kind: str) -> None:
    """No word, nothing written down: an empty folder, unfinished writes, a number that no loop reaches."""
    (tmp_path / "images").mkdir()
    for name in (".partial-1-2", "mine.png", "cache_00001"):
        (tmp_path / "images" / name).write_bytes(b"")
    with CacheManager(tmp_path, index=kind) as cache:
        assert cache.add(picture(0)) == "cache_00001"
    assert lost_pictures(tmp_path / "metadata") == frozenset()


def test_a_picture_with_a_number_past_all(tmp_path: Path, kind: str) -> None:
    """It is taken over like others, but numbers do not go on above it."""
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "cache_999999999999999.png").write_bytes(png_bytes(1))
    with opened_anew(tmp_path, kind) as cache:
        assert cache.add(picture(0)) == "cache_00001"
        cache.check(fix=True)
        assert sorted(cache.ids()) == ["cache_00001", "cache_999999999999999"]


def test_an_index_on_a_disk_that_is_away(tmp_path: Path, kind: str) -> None:
    """A link that leads nowhere is not taken for no index: refused with the way out, and left as it is."""
    with CacheManager(tmp_path / "cache", index=kind) as cache:
        cache.add(picture(0))
        index = cache.index_path
    away = tmp_path / f"disk{index.suffix}"
    index.rename(away)
    index.symlink_to(tmp_path / "away" / "index")
    for ask in (CacheManager, check_cache):
        with pytest.raises(StorageError, match=r"which is not there: attach the disk .* check --fix"):
            ask(tmp_path / "cache")
    assert index.is_symlink()
    index.unlink()
    away.rename(index)
    with CacheManager(tmp_path / "cache") as cache:
        assert cache.ids() == ["cache_00001"]


def test_a_first_add_of_another_process_is_no_loss(
    open_cache: Open, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its picture is there before its JSON index: opening waits for it instead of warning."""
    first = open_cache(index="json")
    commit = type(first._images).commit
    opened = []

    def commit_then_open(self: Any, named: Any, **options: Any) -> None:
        commit(self, named, **options)
        if not opened:
            opened.append(True)
            with pytest.raises(StorageError, match="another process is writing"):
                open_cache(index="json", lock_timeout=0.05)

    monkeypatch.setattr(type(first._images), "commit", commit_then_open)
    first.add(picture(0))
    assert opened
    assert not lost_pictures(first.metadata_dir)
    assert json.loads(first.index_path.read_bytes())["entry_count"] == 1
    assert open_cache(index="json").ids() == ["cache_00001"]
