"""Watched folders: what appears is imported once it is complete, told by the system or by looking."""

from __future__ import annotations

import errno
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from reverie import CacheManager
from reverie.errors import InputError, MissingDependencyError, StorageError
from reverie.importing import Importing, ImportReport, Watching, watch_folder
from reverie.importing.watching import Inbox
from reverie.testing.samples import png_bytes

Pictures = Callable[..., Path]


class Watched:
    """A folder that is being watched in a thread; `until` waits for what the report is to say."""

    def __init__(self, cache: CacheManager, folder: Path, poll: float | None, **how: Any) -> None:
        self._news = threading.Condition()
        self._ready = threading.Event()
        self._error: BaseException | None = None
        self.stop = threading.Event()
        self.job = Importing(cache, folder, progress=self._tell, stop=self.stop, embed=False, **how)
        self._watching = Watching(self.job, poll=poll, settled=0.02, ready=self._ready.set)
        self._thread = threading.Thread(target=self._watching.run)

    def _tell(self, _report: ImportReport) -> None:
        with self._news:
            self._news.notify_all()

    def until(self, holds: Callable[[ImportReport], bool]) -> ImportReport:
        """The report, once that holds."""
        with self._news:
            assert self._news.wait_for(lambda: holds(self.job.report), 20), self.job.report
        return self.job.report

    @contextmanager
    def running(self) -> Iterator[None]:
        """From the first import to the end."""
        self._thread.start()
        try:
            assert self._ready.wait(20)
            yield
        finally:
            self.stop.set()
            self._thread.join(20)


@pytest.fixture(params=[None, 0.01], ids=["told", "polled"])
def watched(request: pytest.FixtureRequest, cache: CacheManager, pictures: Pictures) -> Iterator[Watched]:
    """A watched folder with one picture in it, told by the system and by looking."""
    found = Watched(cache, pictures(1), request.param)
    with found.running():
        yield found


def names(cache: CacheManager) -> set[str]:
    """The names of the files that entries came from."""
    return {Path(entry.generation_params["source"]).name for entry in cache}


def test_what_appears_is_imported(cache: CacheManager, watched: Watched, pictures: Pictures) -> None:
    """Written there, and in a folder that was just made; after what was there before."""
    assert watched.job.report.imported == 1
    pictures(1, first=1)
    pictures(2, "pictures/new/deep", first=2)
    watched.until(lambda report: report.imported == 4)
    assert names(cache) == {"000.png", "001.png", "002.png", "003.png"}


def test_a_file_that_gets_its_name_at_the_end(
    cache: CacheManager, watched: Watched, pictures: Pictures
) -> None:
    """A temporary name is passed over; renamed, or moved in with its folder, it is taken."""
    folder = pictures(0)
    (folder / "coming.part").write_bytes(png_bytes(1))
    (folder / "coming.part").rename(folder / "here.png")
    pictures(2, "outside", first=2).rename(folder / "moved")
    report = watched.until(lambda report: report.imported == 4)
    assert names(cache) == {"000.png", "here.png", "002.png", "003.png"}
    assert report.failures == {}


def test_a_slow_writer_is_waited_for(cache: CacheManager, watched: Watched, pictures: Pictures) -> None:
    """Half a picture is no entry; it is one as soon as the rest is there, and no failure any more."""
    path, data = pictures(0) / "slow.png", png_bytes(1, 64, 64)
    with path.open("wb") as file:
        file.write(data[:5000])
        file.flush()
        watched.until(lambda report: str(path) in report.failures)
        assert len(cache) == 1
        file.write(data[5000:])
    report = watched.until(lambda report: report.imported == 2)
    assert report.failures == {}


def test_the_memory_keeps_what_goes(cache: CacheManager, watched: Watched, pictures: Pictures) -> None:
    """Deleted and moved away: the entries stay; a new name of a known picture adds none."""
    folder = pictures(1)
    (folder / "000.png").rename(folder / "renamed.png")
    pictures(1, first=5)
    watched.until(lambda report: report.imported == 2)
    (folder / "005.png").unlink()
    pictures(1, first=6)
    watched.until(lambda report: report.imported == 3)
    assert names(cache) == {"000.png", "005.png", "006.png"}


def test_what_stays_broken_is_named(cache: CacheManager, watched: Watched, pictures: Pictures) -> None:
    """A picture that its writer is done with, and that is none; hidden ones are not looked at."""
    folder = pictures(0)
    (folder / ".hidden.png").write_bytes(b"no image")
    (folder / "broken.png").write_bytes(b"no image")
    report = watched.until(lambda report: bool(report.failures))
    assert list(report.failures) == [str(folder / "broken.png")]


def test_a_cache_in_the_folder_is_not_heard(tmp_path: Path, kind: str, pictures: Pictures) -> None:
    """Its own images are written into the folder that is watched: they are no news."""
    folder = pictures(2)
    with CacheManager(folder / "cache", max_size=None, index=kind) as cache:
        watched = Watched(cache, folder, None)
        with watched.running():
            pictures(1, first=2)
            watched.until(lambda report: report.imported == 3)
            pictures(1, first=3)
            assert watched.until(lambda report: report.imported == 4).known == 0
        assert len(cache) == 4


def test_stopped_before_it_watches(cache: CacheManager, pictures: Pictures) -> None:
    """The event ends both parts."""
    stop = threading.Event()
    stop.set()
    report = watch_folder(cache, pictures(3), stop=stop, poll=5)
    assert (report.imported, report.left, report.finished) == (0, 3, False)


def test_watchdog_is_asked_for(
    cache: CacheManager, pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it the error holds the line that installs it, and the way without it."""
    monkeypatch.setitem(sys.modules, "reverie.importing.events", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "reverie\[watch\]".*--poll'):
        watch_folder(cache, pictures(1), stop=threading.Event())
    assert len(cache) == 0


def test_a_system_that_cannot_watch(
    cache: CacheManager, pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its watches are used up: what to do instead."""

    class Refusing:
        def schedule(self, *_: Any, **__: Any) -> None:
            raise OSError(errno.ENOSPC, "inotify watch limit reached")

    monkeypatch.setattr("reverie.importing.events.Observer", Refusing)
    with pytest.raises(StorageError, match=r"watch limit reached.*--poll"):
        watch_folder(cache, pictures(1), stop=threading.Event())


@pytest.mark.parametrize("options", [{"poll": 0}, {"poll": -1.0}, {"settled": 0}, {"poll": float("nan")}])
def test_seconds_are_above_zero(cache: CacheManager, pictures: Pictures, options: dict[str, float]) -> None:
    """Anything else is refused by name."""
    with pytest.raises(InputError, match=next(iter(options))):
        Watching(Importing(cache, pictures(1)), **options)


def test_the_inbox_wakes_who_waits() -> None:
    """It gives all that was heard of once, the last word on each; nothing when nothing comes."""
    inbox = Inbox()
    threading.Timer(0, inbox.note, (Path("a"), True)).start()
    assert inbox.take(20) == {Path("a"): True}
    inbox.note(Path("b"), True)
    inbox.note(Path("b"), False)
    assert inbox.take(0) == {Path("b"): False}
    assert inbox.take(0) == {}
