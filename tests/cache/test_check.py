"""`check`: finds every kind of disagreement, dry by default, and a repair destroys nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reverie.cache import check as check_module
from reverie.cache.check import check_cache
from reverie.errors import ConfigError, ImageError, StorageError, UnsafePathError
from reverie.testing.samples import picture, png_bytes, vector

Open = Callable[..., Any]


@pytest.fixture
def cache(open_cache: Open, kind: str) -> Any:
    """Four entries, the third pinned."""
    cache = open_cache(index=kind)
    for seed in range(4):
        cache.add(picture(seed), f"prompt {seed}", {"seed": seed}, vector(seed))
    cache.pin("cache_00003")
    cache.flush()
    return cache


def kinds(report: Any) -> list[tuple[str, str]]:
    """Kind and subject of every problem."""
    return [(problem.kind, problem.subject) for problem in report.problems]


def files(folder: Path) -> dict[str, bytes]:
    """Everything but the index's own files."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "cache_index" not in path.name
    }


def test_a_sound_cache_has_no_problem(cache: Any) -> None:
    """As many entries as there are, nothing to fix, nothing written."""
    before = files(cache.cache_dir)
    for fix in (False, True):
        report = cache.check(fix=fix)
        assert (report.ok, report.entries, report.fixed) == (True, 4, False)
        assert report.folder == cache.cache_dir
    assert files(cache.cache_dir) == before


def missing(images: Path) -> None:
    """An image is gone."""
    (images / "cache_00002.png").unlink()


def empty(images: Path) -> None:
    """An image has no bytes."""
    (images / "cache_00002.png").write_bytes(b"")


def cut(images: Path) -> None:
    """An image is half there."""
    (images / "cache_00002.png").write_bytes(png_bytes(1)[:150])


def folder_instead(images: Path) -> None:
    """A folder stands where the image was."""
    missing(images)
    (images / "cache_00002.png").mkdir()


def link_out(images: Path) -> None:
    """The image was replaced by a link to a file elsewhere."""
    outside = images.parent.parent / "precious.png"
    outside.write_bytes(png_bytes(77))
    missing(images)
    (images / "cache_00002.png").symlink_to(outside)


FAULTS = {
    missing: "missing image",
    empty: "broken image",
    cut: "broken image",
    folder_instead: "broken image",
    link_out: "unsafe link",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_image_takes_its_entry_aside(cache: Any, fault: Callable[[Path], None]) -> None:
    """Found dry; repaired: the record goes to a file beside the index, the file to lost+found/."""
    fault(cache.image_dir)
    before = files(cache.cache_dir)
    sound = [entry for entry in cache.get_all() if entry.cache_id != "cache_00002"]
    for report in (cache.check(), check_cache(cache.cache_dir)):
        assert kinds(report) == [(FAULTS[fault], "cache_00002")]
        assert report.problems[0].action
        assert not report.fixed
    assert files(cache.cache_dir) == before
    assert kinds(cache.check(fix=True)) == [(FAULTS[fault], "cache_00002")]
    assert cache.get_all() == sound
    assert cache.check().ok
    (aside,) = cache.metadata_dir.glob("set-aside-*.jsonl")
    record = json.loads(aside.read_text())
    assert (record["cache_id"], record["prompt"]) == ("cache_00002", "prompt 1")
    shelf = cache.cache_dir / "lost+found"
    assert [path.name for path in shelf.glob("*")] == ([] if fault is missing else ["cache_00002.png"])
    precious = cache.cache_dir.parent / "precious.png"
    assert not precious.exists() or precious.read_bytes() == png_bytes(77)
    assert cache.add(picture(9)) == "cache_00005"


def test_an_edited_image_is_reported_and_left(cache: Any) -> None:
    """A whole picture with other bytes: someone edited it; that is no reason to take it away."""
    path = cache.image_dir / "cache_00002.png"
    path.write_bytes(png_bytes(50))
    report = cache.check(fix=True)
    assert kinds(report) == [("changed image", "cache_00002")]
    assert (report.problems[0].action, report.fixed) == ("", False)
    assert path.read_bytes() == png_bytes(50)
    assert cache.size() == 4


def test_an_image_that_cannot_be_read_now_is_left(cache: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """No permission, an input/output error: reported, but the entry is not taken out for it."""
    decode = check_module.to_pixels

    def refuse(path: Path) -> Any:
        if path.name == "cache_00002.png":
            raise StorageError("cannot read: permission denied")
        return decode(path)

    monkeypatch.setattr(check_module, "to_pixels", refuse)
    report = cache.check(fix=True)
    assert kinds(report) == [("unreadable image", "cache_00002")]
    assert not report.fixed
    assert cache.size() == 4


def test_orphans_and_unfinished_writes_are_moved_never_deleted(cache: Any) -> None:
    """Files that no entry has go to lost+found/; names there are not overwritten; folders are left alone."""
    images = cache.image_dir
    (images / "orphan.png").write_bytes(b"one")
    (images / ".partial-999999999-abc").write_bytes(b"two")
    (cache.metadata_dir / ".partial-999999999-def").write_bytes(b"three")
    (images / f".partial-{os.getpid()}-mine").write_bytes(b"being written")
    (images / "folder").mkdir()
    shelf = cache.cache_dir / "lost+found"
    shelf.mkdir()
    (shelf / "orphan.png").write_bytes(b"older")
    expected = [
        ("orphan image", "orphan.png"),
        ("unfinished write", ".partial-999999999-abc"),
        ("unfinished write", ".partial-999999999-def"),
    ]
    assert sorted(kinds(cache.check())) == expected
    assert sorted(kinds(cache.check(fix=True))) == expected
    assert {path.name: path.read_bytes() for path in shelf.iterdir()} == {
        "orphan.png": b"older",
        "orphan-2.png": b"one",
        ".partial-999999999-abc": b"two",
        ".partial-999999999-def": b"three",
    }
    assert (images / "folder").is_dir()
    assert (images / f".partial-{os.getpid()}-mine").exists()
    assert cache.check().ok


def test_files_waiting_for_deletion_are_no_orphans(cache: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between an eviction and the deletion of its file the index says that the file is trash."""

    def refuse(*arguments: Any) -> None:
        raise StorageError("busy")

    monkeypatch.setattr(type(cache._images), "delete", refuse)
    cache.remove("cache_00001")
    assert (cache.image_dir / "cache_00001.png").exists()
    assert cache.check().ok


def test_entries_are_never_dropped_because_a_folder_is_away(cache: Any) -> None:
    """The disk with the images is not attached: nothing is taken out, everything is there when it is back."""
    cache.image_dir.rename(cache.cache_dir / "away")
    for fix in (False, True):
        report = cache.check(fix=fix)
        assert [problem.kind for problem in report.problems] == ["missing image"]
        assert "attached" in report.problems[0].message
        assert not report.fixed
    assert cache.size() == 4
    if cache.image_dir.exists():
        cache.image_dir.rmdir()
    (cache.cache_dir / "away").rename(cache.image_dir)
    assert cache.check().ok


def test_a_repair_keeps_paths_and_pins(
    open_cache: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The paths that the index records stay as the user wrote the folder."""
    monkeypatch.chdir(tmp_path)
    cache = open_cache("cache", index="json")
    for seed in range(3):
        cache.add(picture(seed), pinned=seed == 2)
    missing(cache.image_dir)
    cache.check(fix=True)
    content = json.loads(cache.index_path.read_bytes())
    assert [(entry["image_path"], entry["pinned"]) for entry in content["entries"]] == [
        ("cache/images/cache_00001.png", False),
        ("cache/images/cache_00003.png", True),
    ]


def test_an_entry_evicted_while_we_look_is_no_problem(
    cache: Any, open_cache: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process takes entry and picture away between our two looks: they agree all the time."""
    other = open_cache()
    fault = check_module._Check._fault
    gone: list[str] = []

    def evict_then_look(self: Any, path: Path) -> Any:
        if path.name == "cache_00002.png" and not gone:
            other.remove("cache_00002")
            gone.append(path.name)
        return fault(self, path)

    monkeypatch.setattr(check_module._Check, "_fault", evict_then_look)
    assert cache.check(fix=True).ok
    assert cache.ids() == ["cache_00001", "cache_00003", "cache_00004"]


def test_check_of_what_is_no_cache(tmp_path: Path) -> None:
    """A missing folder and a wrong type are named; an empty folder is sound."""
    with pytest.raises(StorageError, match="no cache folder"):
        check_cache(tmp_path / "nothing")
    with pytest.raises(ConfigError, match="folder"):
        check_cache(None)  # type: ignore[arg-type]
    (tmp_path / "empty").mkdir()
    report = check_cache(tmp_path / "empty")
    assert (report.ok, report.entries) == (True, 0)


# -- links


def test_a_link_out_of_the_cache_is_not_followed(cache: Any) -> None:
    """Reading refuses; removing the entry removes the link, never what it points to."""
    link_out(cache.image_dir)
    precious = cache.cache_dir.parent / "precious.png"
    with pytest.raises(UnsafePathError, match="leads out of the cache"):
        cache.read_image("cache_00002")
    cache.remove("cache_00002")
    assert not os.path.lexists(cache.image_dir / "cache_00002.png")
    assert precious.read_bytes() == png_bytes(77)


def test_eviction_deletes_a_link_and_not_its_target(open_cache: Open, kind: str) -> None:
    """The same when the limit takes the entry."""
    cache = open_cache(max_size=2, index=kind)
    for seed in range(2):
        cache.add(picture(seed))
    precious = cache.cache_dir.parent / "precious.png"
    precious.write_bytes(png_bytes(77))
    (cache.image_dir / "cache_00001.png").unlink()
    (cache.image_dir / "cache_00001.png").symlink_to(precious)
    cache.add(picture(3))
    assert not os.path.lexists(cache.image_dir / "cache_00001.png")
    assert precious.read_bytes() == png_bytes(77)


def test_a_folder_of_images_may_be_a_link_to_another_disk(
    open_cache: Open, tmp_path: Path, kind: str
) -> None:
    """The images folder itself as a link, and links inside it that stay inside, are fine."""
    (tmp_path / "cache").mkdir()
    (tmp_path / "big-disk").mkdir()
    (tmp_path / "cache" / "images").symlink_to(tmp_path / "big-disk")
    cache = open_cache(index=kind)
    cache_id = cache.add(picture(0))
    real = tmp_path / "big-disk" / "cache_00001.png"
    assert cache.read_image(cache_id) == real.read_bytes()
    assert cache.check().ok


def test_a_stored_picture_that_was_a_link_is_copied(open_cache: Open, tmp_path: Path) -> None:
    """Adding through a link stores the picture, not the link."""
    (tmp_path / "real.png").write_bytes(png_bytes(1))
    (tmp_path / "link.png").symlink_to(tmp_path / "real.png")
    (tmp_path / "nowhere.png").symlink_to(tmp_path / "none.png")
    cache = open_cache()
    entry = cache.get(cache.add(tmp_path / "link.png"))
    assert not entry.image_path.is_symlink()
    assert entry.image_path.read_bytes() == png_bytes(1)
    with pytest.raises(ImageError, match="no image at"):
        cache.add(tmp_path / "nowhere.png")


def test_pictures_without_an_index_get_one_again(cache: Any, kind: str, open_cache: Open) -> None:
    """A deleted index is a damaged one: dry, nothing changes; a repair makes entries for the pictures."""
    folder, index = cache.cache_dir, cache.index_path
    pictures = {path.name: path.read_bytes() for path in (folder / "images").iterdir()}
    cache.close()
    for path in index.parent.glob("cache_index.*"):
        path.unlink()
    report = check_cache(folder, kind=kind)
    assert kinds(report) == [("damaged index", index.name)]
    assert "4 pictures" in report.problems[0].message
    assert not index.exists()
    assert check_cache(folder, kind=kind, fix=True).fixed
    with open_cache(index=kind) as repaired:
        assert repaired.ids() == [f"cache_0000{number}" for number in (1, 2, 3, 4)]
        assert {path.name: path.read_bytes() for path in (folder / "images").iterdir()} == pictures
        assert repaired.check().ok
        assert repaired.add(picture(9)) == "cache_00005"
    assert not (folder / "lost+found").exists()
