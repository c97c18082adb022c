"""Encoding a cache anew: resumable, beside other threads and processes, on both kinds of index."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reindex_worker import Seeded
from reverie import AestheticMatcher, CacheManager, ImageMemory, Injector
from reverie.cache.convert import convert
from reverie.errors import (
    CacheClosedError,
    EmbeddingError,
    EncoderMismatchError,
    InputError,
    StorageError,
    UnknownNameError,
)
from reverie.reindex import Reindexing, ReindexReport, reindex
from reverie.testing.samples import picture, png_bytes, vector

WORKER = Path(__file__).with_name("reindex_worker.py")


@pytest.fixture(params=["json", "sqlite"])
def kind(request: pytest.FixtureRequest) -> str:
    """Each kind of index in turn."""
    return str(request.param)


@pytest.fixture
def cache(tmp_path: Path, kind: str) -> Iterator[CacheManager]:
    """Seven entries with vectors of the encoder "old", 8 numbers each; the third is pinned."""
    with CacheManager(tmp_path / "cache", max_size=None, index=kind) as opened:
        fill(opened, 7)
        yield opened


def fill(cache: CacheManager, count: int) -> None:
    """Entries of pictures 0, 1, 2..."""
    for seed in range(count):
        cache.add(picture(seed), f"prompt {seed}", {}, vector(seed, 8, "old"), pinned=seed == 2)


def matcher(*args: Any) -> AestheticMatcher:
    """A matcher over the encoder "new"."""
    return AestheticMatcher(Seeded(*args))


def encoders(cache: CacheManager) -> list[str | None]:
    """Who made the vectors, oldest entry first."""
    return [entry.encoder for entry in cache.get_all()]


def assert_new(cache: CacheManager, *, but: tuple[int, ...] = ()) -> None:
    """Every entry but those at some places has the vector that the new encoder makes of its image."""
    for place, entry in enumerate(cache.get_all()):
        if place not in but:
            assert entry.embedding is not None
            assert np.array_equal(entry.embedding, matcher().encode_image(entry.image_path))
            assert entry.encoder == "new"


def test_every_entry_gets_a_vector_of_the_new_encoder(cache: CacheManager) -> None:
    """Nothing but the vectors changes: not uses, pins, prompts or images; the report counts all."""
    before = cache.get_all()
    report = reindex(cache, matcher(), batch=3)
    assert (report.encoder, report.total, report.encoded, report.already) == ("new", 7, 7, 0)
    assert (report.finished, report.left, report.gone, report.failures) == (True, 0, 0, {})
    assert_new(cache)
    for old, entry in zip(before, cache.get_all(), strict=True):
        assert (old.used_ns, old.pinned, old.prompt) == (entry.used_ns, entry.pinned, entry.prompt)
        assert (old.timestamp, old.content_hash) == (entry.timestamp, entry.content_hash)
    assert cache.embeddings().ids == tuple(cache.ids())


def test_a_cache_that_is_done_is_left_alone(cache: CacheManager) -> None:
    """Nothing is encoded twice, and nothing is written."""
    reindex(cache, matcher())
    before = cache.index_path.read_bytes()
    report = reindex(cache, matcher())
    assert (report.already, report.encoded, report.finished) == (7, 0, True)
    assert cache.index_path.read_bytes() == before


def test_an_empty_cache_is_done(tmp_path: Path, kind: str) -> None:
    """No entries, no work, no rate."""
    with CacheManager(tmp_path / "empty", index=kind) as cache:
        report = reindex(cache, matcher())
    assert (report.total, report.finished, report.rate, report.seconds_left) == (0, True, None, None)


def test_only_missing_leaves_every_vector(cache: CacheManager) -> None:
    """Entries without a vector get one, those of another encoder keep theirs."""
    cache.add(picture(20))
    cache.set_embeddings({"cache_00002": None})
    report = reindex(cache, matcher(), only_missing=True)
    assert (report.total, report.already, report.encoded) == (8, 6, 2)
    assert encoders(cache) == ["old", "new", *["old"] * 5, "new"]


def test_512_numbers_become_768(tmp_path: Path, kind: str) -> None:
    """Another length is another space; the old one is empty afterwards; conversion loses nothing."""
    with CacheManager(tmp_path / "cache", index=kind) as cache:
        for seed in range(3):
            cache.add(picture(seed), embedding=vector(seed, 512, "old"))
        reindex(cache, matcher("new", 768))
        expected = cache.embeddings()
        assert expected.matrix.shape == (3, 768)
        assert len(cache.embeddings("old")) == 0
        assert cache.check().ok
    convert(tmp_path / "cache", "sqlite" if kind == "json" else "json")
    with CacheManager(tmp_path / "cache") as cache:
        assert cache.index_kind != kind
        assert np.array_equal(cache.embeddings("new").matrix, expected.matrix)
        assert cache.check().ok
        cache.add(picture(9), embedding=vector(9, 768, "new"))


def test_a_name_that_stands_for_another_length_is_refused(cache: CacheManager) -> None:
    """Vectors of one name and two lengths could not be compared; the entries keep what they have."""
    cache.set_embeddings({"cache_00007": vector(1, 5, "new")})
    with pytest.raises(EmbeddingError, match="12 numbers"):
        reindex(cache, matcher())
    assert encoders(cache) == [*["old"] * 6, "new"]


# ---------------------------------------------------------------------- images that cannot be used


def test_broken_and_missing_images_are_reported(cache: CacheManager, tmp_path: Path) -> None:
    """Each is named with the reason and keeps its vector, the others are encoded; a later run tries again."""
    paths = [entry.image_path for entry in cache.get_all()]
    paths[1].write_bytes(b"no image")
    paths[3].unlink()
    paths[4].write_bytes(b"")
    outside = tmp_path / "outside.png"
    outside.write_bytes(png_bytes(1))
    paths[6].unlink()
    paths[6].symlink_to(outside)
    report = reindex(cache, matcher(), batch=3)
    assert list(report.failures) == ["cache_00002", "cache_00004", "cache_00005", "cache_00007"]
    reasons = ["not an image", "no image at", "empty", "leads out of the cache"]
    assert all(word in said for word, said in zip(reasons, report.failures.values(), strict=True))
    assert (report.encoded, report.finished, report.left) == (3, True, 0)
    assert encoders(cache) == ["new", "old", "new", "old", "old", "new", "old"]
    paths[1].write_bytes(png_bytes(1))
    again = reindex(cache, matcher())
    assert (again.already, again.encoded, len(again.failures)) == (3, 1, 3)


def test_a_link_inside_the_cache_is_followed(cache: CacheManager) -> None:
    """As everywhere in the cache; reading it is no use of the entry."""
    path = cache.get_all()[0].image_path
    path.rename(path.with_name("real.png"))
    path.symlink_to("real.png")
    used = cache.get_all()[0].used_ns
    assert reindex(cache, matcher()).failures == {}
    assert cache.get_all()[0].used_ns == used
    assert_new(cache)


def test_a_file_that_cannot_be_read_is_reported(cache: CacheManager, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the disk refuses is one image's trouble, not the run's."""
    read = AestheticMatcher.encode_image

    def many(self: AestheticMatcher, images: Any) -> Any:
        raise StorageError("cannot read one of them")

    def one(self: AestheticMatcher, image: Any) -> Any:
        if "cache_00002" in str(image):
            raise StorageError("cannot read it: input/output error")
        return read(self, image)

    monkeypatch.setattr(AestheticMatcher, "encode_images", many)
    monkeypatch.setattr(AestheticMatcher, "encode_image", one)
    report = reindex(cache, matcher())
    assert report.failures == {"cache_00002": "cannot read it: input/output error"}
    assert report.encoded == 6


# ---------------------------------------------------------------------- progress, stopping, writing


def test_progress_is_told_first_after_every_batch_and_at_the_end(cache: CacheManager) -> None:
    """The figures add up at every moment."""
    reports: list[ReindexReport] = []
    seconds = iter(range(1000))
    Reindexing(cache, matcher(), batch=3, progress=reports.append, clock=lambda: float(next(seconds))).run()
    assert [(each.encoded, each.left, each.finished) for each in reports] == [
        (0, 7, False),
        (3, 4, False),
        (6, 1, False),
        (7, 0, False),
        (7, 0, True),
    ]
    assert reports[0].rate is None
    middle = reports[1]
    assert middle.rate == 3 / middle.seconds
    assert middle.seconds_left == pytest.approx(4 / middle.rate)


def test_a_run_that_is_stopped_goes_on_later(cache: CacheManager) -> None:
    """``stop`` is asked before every batch; what was encoded is written."""
    answers = iter([False, False, True])
    report = reindex(cache, matcher(), batch=2, stop=lambda: next(answers))
    assert (report.encoded, report.left, report.finished) == (4, 3, False)
    assert encoders(cache) == ["new"] * 4 + ["old"] * 3
    again = reindex(cache, matcher(), batch=2)
    assert (again.already, again.encoded, again.finished) == (4, 3, True)
    assert_new(cache)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_an_interruption_keeps_what_was_encoded(cache: CacheManager, error: type[BaseException]) -> None:
    """Also the batches that were held back, because the last write was slow."""

    class Interrupted(Seeded):
        calls = 0

        def encode_batch(self, frames: Any) -> Any:
            self.calls += 1
            if self.calls == 4:
                raise error
            return super().encode_batch(frames)

    now = iter(range(1000))  # the first write takes a second: 19 more must pass before the second
    job = Reindexing(cache, AestheticMatcher(Interrupted()), batch=1, clock=lambda: float(next(now) // 6))
    with pytest.raises(error):
        job.run()
    assert encoders(cache) == ["new"] * 3 + ["old"] * 4
    assert (job.report.encoded, job.report.finished) == (3, False)


def test_slow_writes_are_few(cache: CacheManager, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first batch is written at once; then a write of one second waits for 19 seconds of work."""
    clock = [0.0]
    written: list[int] = []
    write = cache.set_embeddings

    def slow(vectors: Any) -> Any:
        written.append(len(vectors))
        clock[0] += 1.0
        return write(vectors)

    class Steady(Seeded):
        def encode_batch(self, frames: Any) -> Any:
            clock[0] += 7.0
            return super().encode_batch(frames)

    monkeypatch.setattr(cache, "set_embeddings", slow)
    Reindexing(cache, AestheticMatcher(Steady()), batch=1, clock=lambda: clock[0]).run()
    assert written == [1, 3, 3]
    assert_new(cache)


def test_a_write_that_is_refused_ends_the_run_once(
    cache: CacheManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk is an error, not tried again at the end; the report counts what is on the disk."""
    calls = []

    def refuse(vectors: Any) -> Any:
        calls.append(len(vectors))
        raise StorageError("the disk is full")

    monkeypatch.setattr(cache, "set_embeddings", refuse)
    job = Reindexing(cache, matcher(), batch=2)
    with pytest.raises(StorageError, match="full"):
        job.run()
    assert (calls, job.report.encoded, job.report.left) == ([2], 0, 7)


def test_a_batch_holds_at_least_one(cache: CacheManager) -> None:
    """Less is refused."""
    with pytest.raises(InputError, match="batch"):
        Reindexing(cache, matcher(), batch=0)


# ---------------------------------------------------------------------- others at work meanwhile


def test_entries_added_removed_and_encoded_meanwhile(cache: CacheManager) -> None:
    """New ones are picked up until none is left, gone ones passed over, done ones not done again."""
    others = CacheManager(cache.cache_dir, max_size=None)
    turn = iter(range(100))

    def meanwhile(_report: ReindexReport) -> None:
        now = next(turn)
        if now < 3:
            others.add(picture(30 + now), embedding=vector(30 + now, 8, "old"))
        if now == 1:
            others.remove("cache_00004")
            others.set_embeddings({"cache_00006": matcher().encode_image(picture(5))})

    report = Reindexing(cache, matcher(), batch=2, progress=meanwhile).run()
    assert (report.total, report.gone, report.already, report.encoded) == (10, 1, 1, 8)
    assert report.finished
    assert len(cache) == 9
    assert_new(cache)
    others.close()


def test_an_entry_that_goes_while_it_is_encoded(cache: CacheManager) -> None:
    """Whether its file is gone before the encoder reads it or its row before the write: it is gone."""

    class Thief(Seeded):
        def encode_batch(self, frames: Any) -> Any:
            if "cache_00005" in cache:
                cache.remove("cache_00005")
            return super().encode_batch(frames)

    report = reindex(cache, AestheticMatcher(Thief()), batch=7)
    assert (report.encoded, report.gone, report.failures, report.finished) == (6, 1, {}, True)
    assert_new(cache)

    cache.set_embeddings(dict.fromkeys(cache.ids()))
    removed = cache.get_all()[2]
    peek = cache.peek

    def stale(cache_ids: Any) -> Any:
        entries = peek(cache_ids)
        if removed.cache_id in cache and len(cache_ids) == 2:
            cache.remove(removed.cache_id)
        return entries

    cache.peek = stale  # type: ignore[method-assign]
    report = reindex(cache, matcher(), batch=2)
    assert (report.encoded, report.gone, report.failures, report.finished) == (5, 1, {}, True)


def start(folder: Path, batch: int) -> subprocess.Popen[str]:
    """A process that reindexes once it gets a line, after it said that it is ready."""
    path = os.pathsep.join(filter(None, [str(WORKER.parent), os.environ.get("PYTHONPATH")]))
    worker = subprocess.Popen(
        [sys.executable, str(WORKER), str(folder), str(batch)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert worker.stdout is not None
    assert json.loads(worker.stdout.readline()) == {"ready": True}
    return worker


def go(worker: subprocess.Popen[str]) -> None:
    """Let it begin."""
    assert worker.stdin is not None
    worker.stdin.write("\n")
    worker.stdin.flush()


@pytest.mark.skipif(os.name == "nt", reason="kill -9")
@pytest.mark.parametrize("heard", [1, 4])
def test_a_killed_run_goes_on(tmp_path: Path, kind: str, heard: int) -> None:
    """After kill -9 in the middle nothing that was told is lost, and the next run does only the rest."""
    with CacheManager(tmp_path / "cache", None, index=kind) as cache:
        fill(cache, 40)
    worker = start(tmp_path / "cache", 2)
    go(worker)
    assert worker.stdout is not None
    told = [json.loads(worker.stdout.readline()) for _ in range(1 + heard)][-1]
    os.kill(worker.pid, signal.SIGKILL)
    worker.communicate()
    with CacheManager(tmp_path / "cache", None) as cache:
        done = encoders(cache).count("new")
        assert told["encoded"] == 2 * heard
        assert told["encoded"] <= done <= 40
        report = reindex(cache, matcher())
        assert (report.already, report.encoded, report.finished) == (done, 40 - done, True)
        assert_new(cache)
        problems = {problem.kind for problem in cache.check().problems}
        assert problems <= {"unfinished write"}
        cache.check(fix=True)
        assert cache.check().ok


def test_two_processes_at_once(tmp_path: Path, kind: str) -> None:
    """Both come to the end, with the same vectors as one alone, while a third one adds."""
    with CacheManager(tmp_path / "cache", None, index=kind, lock_timeout=30) as cache:
        fill(cache, 30)
        workers = [start(tmp_path / "cache", 4) for _ in range(2)]
        for worker in workers:
            go(worker)
        for seed in range(100, 106):
            cache.add(picture(seed), embedding=vector(seed, 8, "old"))
        for worker in workers:
            printed, errors = worker.communicate()
            assert worker.returncode == 0, errors
            last = json.loads(printed.splitlines()[-1])
            assert last["finished"]
            assert last["encoded"] + last["already"] == last["total"] >= 30
        reindex(cache, matcher())  # what was added after both had looked for the last time
        assert len(cache) == 36
        assert_new(cache)
        assert cache.embeddings().ids == tuple(cache.ids())
        assert cache.check().ok


# ---------------------------------------------------------------------- in the background


class Turnstile:
    """A progress callback that lets a run go on only when it is told to."""

    def __init__(self) -> None:
        self._told, self._go = threading.Semaphore(0), threading.Semaphore(0)

    def __call__(self, report: ReindexReport) -> None:
        """Told by the thread that works."""
        self._told.release()
        assert self._go.acquire(timeout=30)

    def told(self) -> None:
        """Wait until the run stands still."""
        assert self._told.acquire(timeout=30)

    def go(self, times: int = 1) -> None:
        """Let it go on."""
        self._go.release(times)


def test_a_memory_is_reindexed_beside_its_loop(cache: CacheManager) -> None:
    """Frames are remembered with the new encoder at once; recall gives what is done so far, then all."""
    turnstile = Turnstile()
    with ImageMemory(cache, encoder=Seeded("old", 8)) as memory:
        assert len(memory.recall(picture(0), k=99)) == 7
        under_way = memory.reindex(Seeded(), batch=4, progress=turnstile)
        turnstile.told()
        assert memory.recall(picture(0), k=99) == []
        kept = memory.remember(picture(50))
        assert kept.embedding.encoder == "new"
        assert [entry.cache_id for entry, _ in memory.recall(picture(50))] == [kept.cache_id]
        with pytest.raises(InputError, match="being reindexed"):
            memory.reindex("descriptor")
        turnstile.go()
        turnstile.told()
        assert under_way.running
        assert under_way.wait(0.0).encoded == under_way.report.encoded == 4
        assert len(memory.recall(picture(0), k=99)) == 5
        turnstile.go(9)
        report = under_way.wait(30)
        assert (report.encoded, report.already, report.finished) == (7, 1, True)
        assert not under_way.running
        assert memory.embeddings().ids == tuple(cache.ids())
        assert memory.recall(picture(3), k=1)[0][0].cache_id == "cache_00004"
    assert_new(cache)


def test_closing_a_memory_stops_its_reindexing(cache: CacheManager) -> None:
    """What is done stays, and calling it again goes on."""
    turnstile = Turnstile()
    memory = ImageMemory(cache, encoder=Seeded("old", 8))
    under_way = memory.reindex(Seeded(), batch=4, progress=turnstile)
    turnstile.told()
    turnstile.go()
    turnstile.told()
    under_way.stop()
    turnstile.go(9)
    memory.close()
    assert not under_way.running
    assert (under_way.report.encoded, under_way.report.finished) == (4, False)
    with ImageMemory(cache, encoder=Seeded("old", 8)) as memory:
        report = memory.reindex(Seeded(), background=False).report
    assert (report.already, report.encoded, report.finished) == (4, 3, True)


def test_what_goes_wrong_in_the_background_is_raised_by_wait(cache: CacheManager) -> None:
    """An error of ours is kept for the one who waits."""
    cache.set_embeddings({"cache_00007": vector(1, 5, "new")})
    with ImageMemory(cache, encoder=Seeded("old", 8)) as memory:
        under_way = memory.reindex(Seeded())
        with pytest.raises(EmbeddingError, match="12 numbers"):
            under_way.wait(30)
        assert not under_way.report.finished


def test_a_cache_that_is_closed_meanwhile(cache: CacheManager) -> None:
    """The run ends with the error that names it."""
    turnstile = Turnstile()
    under_way = Reindexing(cache, matcher(), batch=4, progress=turnstile).start()
    turnstile.told()
    cache.close()
    turnstile.go(9)
    with pytest.raises(CacheClosedError):
        under_way.wait(30)


def test_it_is_started_once(cache: CacheManager) -> None:
    """A second start is refused."""
    under_way = Reindexing(cache, matcher()).start()
    with pytest.raises(InputError, match="started already"):
        under_way.start()
    assert under_way.wait(30).finished


def test_an_unknown_encoder_leaves_the_memory_as_it_was(cache: CacheManager) -> None:
    """The old encoder goes on."""
    with ImageMemory(cache, encoder=Seeded("old", 8)) as memory:
        with pytest.raises(UnknownNameError):
            memory.reindex("nobody")
        assert memory.matcher.encoder.name == "old"


def test_an_injector_of_before_is_refused_by_name(cache: CacheManager) -> None:
    """It watches with the old encoder, whose vectors the memory takes no more; a new one works."""
    with ImageMemory(cache, encoder=Seeded("old", 8)) as memory:
        before = Injector(memory, "none")
        before.observe(picture(60))
        memory.reindex(Seeded(), background=False)
        with pytest.raises(EncoderMismatchError, match="'old'"):
            before.observe(picture(61))
        Injector(memory, "none").observe(picture(61))
        assert len(memory.embeddings()) == 9
