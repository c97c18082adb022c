"""Folders imported: what is taken, what is passed over, going on, links, limits; on both kinds of index."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from reindex_worker import Seeded
from reverie import AestheticMatcher, CacheManager, ImageMemory
from reverie.cache.adding import NewEntry
from reverie.errors import CacheFullError, ImageError, InputError, ParamsError, StorageError
from reverie.importing import Importing, ImportReport, import_folder
from reverie.pixels import ImageFile, to_pixels
from reverie.storage import PARTIAL_PREFIX
from reverie.testing.samples import picture, png_bytes

Pictures = Callable[..., Path]

WORKER = Path(__file__).with_name("import_worker.py")


def sources(cache: CacheManager) -> list[str]:
    """The name of the file that each entry came from, oldest first."""
    return [Path(entry.generation_params["source"]).name for entry in cache]


def leftovers(cache: CacheManager) -> list[Path]:
    """Unfinished writes among the images."""
    return list(cache.image_dir.glob(f"{PARTIAL_PREFIX}*"))


# ------------------------------------------------------------------ what is taken


def test_each_picture_becomes_an_entry(cache: CacheManager, pictures: Pictures) -> None:
    """Bytes, vector, prompt, parameters and source; in the order of the names; the report counts."""
    folder = pictures(40)  # more than one batch
    report = import_folder(cache, folder, prompt="a harbour", generation_params={"steps": 4})
    matcher = AestheticMatcher("descriptor")
    assert (report.encoder, report.total, report.imported) == ("descriptor-v1", 40, 40)
    assert (report.known, report.failures, report.left, report.finished) == (0, {}, 0, True)
    assert report.byte_size == sum(path.stat().st_size for path in folder.iterdir())
    for path, entry in zip(sorted(folder.iterdir()), cache, strict=True):
        assert entry.image_path.read_bytes() == path.read_bytes()
        assert np.array_equal(entry.embedding, matcher.encode_image(path))
        assert (entry.prompt, entry.encoder) == ("a harbour", "descriptor-v1")
        assert entry.generation_params == {"steps": 4, "source": str(path)}
    assert cache.check().ok


def test_folders_are_walked_in_the_order_of_the_names(
    cache: CacheManager, pictures: Pictures, tmp_path: Path
) -> None:
    """Each folder sorted, what lies below where its folder stands; folders in the order given, each once."""
    pictures(1, "b/c", first=3)
    pictures(1, "b", first=9)
    pictures(1, "a", first=5)
    (tmp_path / "b" / "d.png").write_bytes(png_bytes(6))
    import_folder(cache, [tmp_path / "b", tmp_path / "a", tmp_path / "b" / "c"])
    assert sources(cache) == ["009.png", "003.png", "d.png", "005.png"]


def test_what_is_no_picture_is_passed_over(cache: CacheManager, pictures: Pictures) -> None:
    """Hidden files and folders, other endings, downloads under way; a linked file is followed."""
    folder = pictures(1)
    pictures(1, "pictures/.thumbnails", first=1)
    for name in (".hidden.png", "notes.txt", "coming.png.part", "coming.png.crdownload", "readme"):
        (folder / name).write_bytes(png_bytes(2))
    (folder / "linked.png").symlink_to(pictures(1, "elsewhere", first=3) / "003.png")
    (folder / "folder").symlink_to(pictures(1, "away", first=4))
    assert import_folder(cache, folder).total == 2
    assert sources(cache) == ["000.png", "linked.png"]


def test_formats_keep_their_bytes(cache: CacheManager, tmp_path: Path) -> None:
    """JPEG, WebP, GIF and TIFF beside PNG, large endings too."""
    (tmp_path / "mixed").mkdir()
    names = ["a.JPG", "b.webp", "c.gif", "d.TIFF", "e.bmp"]
    for seed, name in enumerate(names):
        Image.fromarray(picture(seed, 16, 16)).save(tmp_path / "mixed" / name)
    assert import_folder(cache, tmp_path / "mixed").imported == 5
    for name, entry in zip(names, cache, strict=True):
        assert entry.image_path.read_bytes() == (tmp_path / "mixed" / name).read_bytes()
        assert entry.image_path.suffix == Path(name).suffix.lower()


def test_the_cache_itself_is_never_imported(tmp_path: Path, kind: str, pictures: Pictures) -> None:
    """A cache below the folder is passed over; one that was named is refused."""
    folder = pictures(2)
    with CacheManager(folder / "cache", max_size=None, index=kind) as cache:
        import_folder(cache, folder)
        assert import_folder(cache, folder).total == 2
        with pytest.raises(InputError, match="belongs to the cache"):
            import_folder(cache, cache.image_dir)


def test_equal_files_are_taken_once(cache: CacheManager, pictures: Pictures) -> None:
    """Of several files of one content the first is an entry, the others are known."""
    folder = pictures(2)
    (folder / "copy.png").write_bytes(png_bytes(0))
    report = import_folder(cache, folder)
    assert (report.imported, report.known) == (2, 1)


def test_broken_files_stop_nothing(cache: CacheManager, pictures: Pictures) -> None:
    """Empty, cut, no image: named with reasons, sorted; the rest of their batch is stored."""
    folder = pictures(36)
    (folder / "005.png").write_bytes(b"")
    (folder / "017.png").write_bytes(png_bytes(17, 64, 64)[:-2000])
    (folder / "035.jpg").write_bytes(b"no image")
    report = import_folder(cache, folder)
    assert [Path(path).name for path in report.failures] == ["005.png", "017.png", "035.jpg"]
    empty, cut, none = report.failures.values()
    assert "is empty" in empty
    assert "broken" in cut
    assert "not an image" in none
    assert (report.imported, report.total, report.left, report.finished) == (34, 37, 0, True)
    assert cache.check().ok
    assert leftovers(cache) == []


@pytest.mark.parametrize("count", [1, 3])
def test_broken_files_without_vectors(cache: CacheManager, pictures: Pictures, count: int) -> None:
    """What no decoder saw, the cache refuses: alone in its batch, and among others."""
    folder = pictures(count)
    (folder / "000.png").write_bytes(png_bytes(0, 64, 64)[:-2000])
    report = import_folder(cache, folder, embed=False)
    assert (report.encoder, report.imported, len(report.failures)) == (None, count - 1, 1)
    assert [entry.embedding for entry in cache] == [None] * (count - 1)
    assert len(cache) == count - 1


def test_a_folder_that_cannot_be_read_is_named(
    cache: CacheManager, pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It counts as a failure, the others are imported."""
    folder = pictures(1)
    closed = pictures(1, "pictures/closed", first=1)
    scan = os.scandir

    def scandir(path: Any) -> Any:
        if Path(path) == closed:
            raise PermissionError(errno.EACCES, "Permission denied")
        return scan(path)

    monkeypatch.setattr("reverie.importing.folders.os.scandir", scandir)
    report = import_folder(cache, folder)
    assert dict(report.failures) == {str(closed): f"cannot look into {str(closed)!r}: Permission denied"}
    assert (report.imported, report.left) == (1, 0)


def test_a_memory_uses_its_own_encoder(tmp_path: Path, pictures: Pictures) -> None:
    """What is imported into an `ImageMemory` is recalled from it; another encoder may be named."""
    folder = pictures(5)
    with ImageMemory(tmp_path / "memory", max_size=None, encoder=Seeded()) as memory:
        assert import_folder(memory, folder).encoder == "new"
        ((entry, similarity),) = memory.recall(folder / "003.png", k=1)
        assert Path(entry.generation_params["source"]).name == "003.png"
        assert similarity == pytest.approx(1)
        assert import_folder(memory, folder, encoder=Seeded("other"), again=True).encoder == "other"
        assert [len(memory.cache.embeddings(name)) for name in ("new", "other")] == [5, 5]


@pytest.mark.parametrize(
    ("folders", "said"),
    [
        ([], "no folder"),
        ("nowhere", "there is no folder"),
        (__file__, "is a file"),
    ],
)
def test_what_is_no_folder_is_refused(cache: CacheManager, folders: Any, said: str) -> None:
    """With what to do; nothing was changed."""
    with pytest.raises(InputError, match=said):
        import_folder(cache, folders)
    assert len(cache) == 0


def test_parameters_are_checked_first(cache: CacheManager, pictures: Pictures) -> None:
    """`source` is the import's own; what JSON cannot hold is refused before anything is read."""
    with pytest.raises(InputError, match="source"):
        import_folder(cache, pictures(1), generation_params={"source": "mine"})
    with pytest.raises(ParamsError):
        import_folder(cache, pictures(1), generation_params={"x": object()})


# ------------------------------------------------------------------ going on


def test_what_is_there_is_passed_over(cache: CacheManager, pictures: Pictures) -> None:
    """By content, wherever it came from; `again` takes it once more."""
    folder = pictures(3)
    cache.add(folder / "001.png")
    assert (import_folder(cache, folder).imported, len(cache)) == (2, 3)
    again = import_folder(cache, folder)
    assert (again.imported, again.known, again.rate, again.seconds_left) == (0, 3, None, None)
    assert import_folder(cache, folder, again=True).imported == 3
    assert len(cache) == 6


def test_progress_is_told_in_the_callers_thread(cache: CacheManager, pictures: Pictures) -> None:
    """After the first look, after every batch and at the end; figures only grow."""
    told: list[ImportReport] = []
    threads = set()

    def tell(report: ImportReport) -> None:
        told.append(report)
        threads.add(threading.current_thread())

    ticks = iter(range(1000))
    Importing(cache, pictures(70), progress=tell, clock=lambda: float(next(ticks))).run()
    done = [report.imported for report in told]
    assert (done[0], done[-1], done) == (0, 70, sorted(done))
    assert len(done) > 3
    assert [report.finished for report in told] == [False] * (len(told) - 1) + [True]
    assert threads == {threading.current_thread()}
    assert told[1].rate is not None
    assert told[1].seconds_left is not None


@pytest.mark.parametrize("embed", [True, False])
def test_stopped_at_any_batch_it_goes_on(cache: CacheManager, pictures: Pictures, embed: bool) -> None:
    """What was imported stays, the same call does the rest, in the same order, nothing twice."""
    folder, stops = pictures(120), random.Random(7)
    rounds = 0
    while True:
        stop, wanted = threading.Event(), len(cache) + stops.randint(1, 60)

        def tell(report: ImportReport, stop: threading.Event = stop, wanted: int = wanted) -> None:
            if len(cache) >= wanted:
                stop.set()

        report = import_folder(cache, folder, embed=embed, progress=tell, stop=stop)
        rounds += 1
        if report.finished:
            break
        assert report.left == 120 - len(cache)
    assert rounds > 1
    assert sources(cache) == [path.name for path in sorted(folder.iterdir())]
    assert cache.check().ok


def test_interrupted_it_finishes_the_batch_under_way(cache: CacheManager, pictures: Pictures) -> None:
    """Ctrl-C leaves whole batches and a report of them."""

    def interrupt(report: ImportReport) -> None:
        if report.imported:
            raise KeyboardInterrupt

    job = Importing(cache, pictures(100), progress=interrupt)
    with pytest.raises(KeyboardInterrupt):
        job.run()
    assert 0 < len(cache) < 100
    assert (job.report.imported, job.report.finished) == (len(cache), False)
    assert leftovers(cache) == []
    assert cache.on_evicted == []


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_killed_it_goes_on(tmp_path: Path, kind: str, pictures: Pictures) -> None:
    """Kill -9 in the middle: whole entries are there, and the same command does the rest, nothing twice."""
    folder = pictures(400)
    command = [sys.executable, str(WORKER), str(tmp_path / "cache"), str(folder), kind]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if json.loads(line)["imported"] >= 30:
                break
        process.kill()
    with CacheManager(tmp_path / "cache", max_size=None) as cache:
        before = len(cache)
        report = import_folder(cache, folder)
        assert 30 <= before < 400
        assert (report.known, report.imported) == (before, 400 - before)
        assert sources(cache) == [path.name for path in sorted(folder.iterdir())]
        assert len({entry.content_hash for entry in cache}) == 400


# ------------------------------------------------------------------ links


def test_a_link_is_a_second_name(cache: CacheManager, pictures: Pictures) -> None:
    """The same inode, the same checks and hash; the original is not touched."""
    folder = pictures(3)
    (folder / "linked.png").symlink_to(pictures(1, "elsewhere", first=9) / "009.png")
    (folder / "cut.png").write_bytes(png_bytes(1, 64, 64)[:-2000])
    report = import_folder(cache, folder, link=True, embed=False)
    assert (report.imported, len(report.failures)) == (4, 1)
    for entry in cache:
        assert entry.image_path.samefile(entry.generation_params["source"])
        assert not entry.image_path.is_symlink()
    assert cache.check().ok
    assert leftovers(cache) == []


def test_eviction_leaves_the_original(tmp_path: Path, kind: str, pictures: Pictures) -> None:
    """The cache only ever deletes its own name."""
    folder = pictures(5)
    with CacheManager(tmp_path / "cache", max_size=2, index=kind) as cache:
        report = import_folder(cache, folder, link=True, evict=True)
        assert (report.imported, report.evicted, len(cache)) == (5, 3, 2)
        cache.clear()
        assert list(cache.image_dir.iterdir()) == []
    assert [path.read_bytes() for path in sorted(folder.iterdir())] == [png_bytes(seed) for seed in range(5)]


def test_one_picture_can_be_linked(cache: CacheManager, pictures: Pictures) -> None:
    """`add` and `add_many` take an `ImageFile`, too; without `link` it is a path like any other."""
    path = pictures(1) / "000.png"
    linked = cache.get(cache.add(ImageFile(str(path), link=True)))
    copied = cache.get(cache.add(ImageFile(str(path))))
    assert linked.image_path.samefile(path)
    assert not copied.image_path.samefile(path)
    assert len(cache.add_many([NewEntry(ImageFile(str(path), link=True))] * 2)) == 2
    assert np.array_equal(to_pixels(ImageFile(str(path))), picture(0))


@pytest.mark.parametrize(
    ("number", "why"),
    [(errno.EXDEV, "another disk"), (errno.EPERM, "no hard link"), (errno.EIO, "Input/output error")],
)
def test_what_cannot_be_linked_is_an_error(
    cache: CacheManager, pictures: Pictures, monkeypatch: pytest.MonkeyPatch, number: int, why: str
) -> None:
    """It says why and what to do; nothing is stored, nothing is left."""

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("reverie.cache.local_images.os.link", refuse)
    with pytest.raises(StorageError, match=rf"{why}.*--copy") as caught:
        import_folder(cache, pictures(3), link=True)
    assert caught.value.errno == number
    assert len(cache) == 0
    assert leftovers(cache) == []


def test_a_file_that_changes_is_not_linked(cache: CacheManager, pictures: Pictures) -> None:
    """What is linked must be what was read, encoded and hashed."""
    path = pictures(1) / "000.png"
    with pytest.raises(ImageError, match="changed while it was read"):
        cache.add(ImageFile(str(path), png_bytes(1), link=True))
    assert leftovers(cache) == []
    cache.add(ImageFile(str(path), png_bytes(1)))
    assert [entry.image_path.read_bytes() for entry in cache] == [png_bytes(1)]


def test_bytes_that_are_no_image_are_named(tmp_path: Path) -> None:
    """Pixels of an `ImageFile` come from its bytes, and so do its errors."""
    assert np.array_equal(to_pixels(ImageFile("x.png", png_bytes(4))), picture(4))
    with pytest.raises(ImageError, match=r"'x\.png' is not an image"):
        to_pixels(ImageFile("x.png", b"no image"))


# ------------------------------------------------------------------ limits


def test_more_than_the_limit_is_refused_first(tmp_path: Path, kind: str, pictures: Pictures) -> None:
    """Nothing is evicted and nothing imported; what is known already needs no room."""
    with CacheManager(tmp_path / "cache", max_size=4, index=kind) as cache:
        import_folder(cache, pictures(4))
        assert import_folder(cache, pictures(4)).known == 4
        with pytest.raises(CacheFullError, match=r"1 pictures .* 4 of max_size=4 .*evict=True.*Nothing was"):
            import_folder(cache, pictures(5))
        assert sources(cache) == ["000.png", "001.png", "002.png", "003.png"]
        report = import_folder(cache, pictures(5), evict=True)
        assert (report.imported, report.evicted, len(cache)) == (1, 1, 4)


def test_bytes_are_a_limit_too(tmp_path: Path, kind: str, pictures: Pictures) -> None:
    """Of what is new; equal files count once."""
    folder = pictures(3)
    most = sum(path.stat().st_size for path in folder.iterdir())
    (folder / "copy.png").write_bytes(png_bytes(0))
    with CacheManager(tmp_path / "cache", None, max_bytes=most - 1, index=kind) as cache:
        with pytest.raises(CacheFullError, match="max_bytes"):
            import_folder(cache, folder)
        cache.max_bytes = most
        assert import_folder(cache, folder).imported == 3


def test_a_cache_that_others_fill_ends_the_import(tmp_path: Path, kind: str, pictures: Pictures) -> None:
    """Room that was there at first is gone: no entry is evicted, and what was imported stays."""
    with CacheManager(tmp_path / "cache", max_size=70, index=kind) as cache:

        def fill(report: ImportReport) -> None:
            if report.imported and len(cache) < 60:
                cache.add_many([NewEntry(picture(seed)) for seed in range(1000, 1060 - len(cache))])

        job = Importing(cache, pictures(70), progress=fill)
        with pytest.raises(CacheFullError, match="no more pictures are imported"):
            job.run()
        assert job.report.evicted == 0
        assert sum("source" in entry.generation_params for entry in cache) == job.report.imported > 0
