"""Threads, processes and forks on one folder: nothing acknowledged is lost, nothing half-written is seen."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reverie.cache.manager import CacheManager
from reverie.errors import ImageNotFoundError
from reverie.testing.samples import picture, png_bytes, vector

Open = Callable[..., Any]
WORKER = Path(__file__).with_name("cache_worker.py")


def start(*arguments: str) -> subprocess.Popen[str]:
    """A worker process, its lines as pipes."""
    return subprocess.Popen(
        [sys.executable, str(WORKER), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


# -- threads


@pytest.mark.parametrize("max_size", [None, 10])
def test_eight_threads_share_a_cache(
    open_cache: Open, tmp_path: Path, kind: str, max_size: int | None
) -> None:
    """Adding, reading and evicting at once: every id once, every picture whole, the count right."""
    cache = open_cache(max_size=max_size, index=kind)
    sources = [tmp_path / f"source-{worker}.png" for worker in range(8)]
    for worker, path in enumerate(sources):
        path.write_bytes(png_bytes(worker))
    evicted: list[str] = []
    cache.on_evicted.append(lambda entry: evicted.append(entry.cache_id))
    begin = threading.Barrier(8)

    def work(worker: int) -> list[str]:
        begin.wait()
        ids = []
        for turn in range(12):
            ids.append(cache.add(sources[worker], f"{worker} {turn}", {}, vector(worker)))
            entry = cache.get_random()
            try:
                assert cache.read_image(entry.cache_id) == sources[int(entry.prompt[0])].read_bytes()
            except (KeyError, ImageNotFoundError):
                assert entry.cache_id not in cache
            found = cache.embeddings()
            assert found.matrix.shape == (len(found.ids), 8)
            if turn % 4 == 0:
                cache.flush()
        return ids

    with ThreadPoolExecutor(8) as pool:
        given = [cache_id for ids in pool.map(work, range(8)) for cache_id in ids]
    assert sorted(given) == [f"cache_{number:05d}" for number in range(1, 97)]
    assert cache.size() == (96 if max_size is None else max_size)
    assert sorted([*evicted, *cache.ids()]) == sorted(given)
    assert {entry.cache_id for entry in open_cache(max_size=max_size)} == set(cache.ids())
    assert cache.check().ok


def test_threads_with_a_manager_each(open_cache: Open, kind: str) -> None:
    """Two managers of one folder in two threads take turns as processes do."""
    caches = [open_cache(max_size=None, index=kind, lock_timeout=30) for _ in range(2)]
    begin = threading.Barrier(2)

    def work(which: int) -> list[str]:
        begin.wait()
        return [caches[which].add(picture(turn), f"{which} {turn}") for turn in range(15)]

    with ThreadPoolExecutor(2) as pool:
        given = [cache_id for ids in pool.map(work, range(2)) for cache_id in ids]
    assert len(set(given)) == 30
    assert caches[0].ids() == caches[1].ids() == sorted(given)


# -- processes


@pytest.mark.parametrize("max_size", [None, 12])
def test_four_processes_share_a_folder(tmp_path: Path, kind: str, max_size: int | None) -> None:
    """At once: ids are unique, what was added is there or was evicted, the index is whole at every moment."""
    folder, rounds = tmp_path / "cache", 15
    index = folder / "metadata" / "cache_index.json"
    if (kind == "json") == (max_size is None):  # not what ``auto`` would take: it has to be there already
        with CacheManager(folder, index=kind, max_size=max_size) as cache:
            cache.remove(cache.add(picture(0)))
    workers = [start("crowd", str(folder), name, str(rounds), str(max_size)) for name in "abcd"]
    for worker in workers:
        assert json.loads(worker.stdout.readline()) == {"ready": True}
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    looks = 0
    with CacheManager(folder, max_size=max_size) as reader:
        while any(worker.poll() is None for worker in workers):
            if index.exists():
                content = json.loads(index.read_bytes())
                assert content["entry_count"] == len(content["entries"])
                assert max_size is None or len(content["entries"]) <= max_size
            entries = reader.get_all()
            assert max_size is None or len(entries) <= max_size
            assert len({entry.cache_id for entry in entries}) == len(entries)
            looks += 1
    added = []
    for worker in workers:
        printed, errors = worker.communicate()
        assert worker.returncode == 0, errors
        lines = [json.loads(line) for line in printed.splitlines()]
        assert lines[-1] == {"done": True}
        added += [(line["added"], line["prompt"]) for line in lines if "added" in line]
    assert looks > 5
    assert len(added) == len(dict(added)) == 4 * rounds
    with CacheManager(folder, max_size=max_size) as cache:
        entries = {entry.cache_id: entry.prompt for entry in cache}
        assert len(entries) == (4 * rounds if max_size is None else max_size)
        assert entries.items() <= dict(added).items()
        assert cache.check().ok
        newest = max(dict(added))
        assert newest in entries
        assert cache.add(picture(1)) > newest


# -- fork


def fork() -> int:
    """`os.fork`; Python 3.12 warns of it in a process with threads, which is just what is tested here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def in_child(action: Callable[[], Any]) -> Any:
    """Run something in a forked child; what it returned (JSON), or its error."""
    read, write = os.pipe()
    pid = fork()
    if pid == 0:
        code = 1
        try:
            os.write(write, json.dumps(action()).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(write)
    with os.fdopen(read) as file:
        answer = file.read()
    _, status = os.waitpid(pid, 0)
    assert status == 0
    return json.loads(answer)


def test_a_fork_and_its_parent_both_add(open_cache: Open, kind: str) -> None:
    """The child opens its own connection: ids differ, nothing is lost, draws differ too."""
    cache = open_cache(index=kind, seed=1)
    given = [cache.add(picture(seed), embedding=vector(seed)) for seed in range(3)]
    cache.get(given[0])
    given += in_child(lambda: [cache.add(picture(seed)) for seed in range(3, 6)])
    given += [cache.add(picture(seed)) for seed in range(6, 9)]
    given += in_child(lambda: [cache.add(picture(9)), cache.get(given[5]).cache_id][:1])
    assert given == [f"cache_{number:05d}" for number in range(1, 11)]
    assert cache.ids() == given
    draws = in_child(lambda: [cache.get_random().cache_id for _ in range(12)])
    assert draws != [cache.get_random().cache_id for _ in range(12)]
    assert cache.check().ok


def test_a_fork_while_another_thread_works_does_not_hang(open_cache: Open, kind: str) -> None:
    """A lock that is held at the moment of the fork would never be released in the child."""
    cache = open_cache(index=kind)
    cache.add(picture(0))
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with cache._lock:
            held.set()
            release.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    read, write = os.pipe()
    pid = fork()
    if pid == 0:
        try:
            threading.Timer(5, os._exit, [3]).start()  # instead of hanging for ever
            os.write(write, cache.add(picture(1)).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as file:
        answer = file.read()
    os.waitpid(pid, 0)
    release.set()
    thread.join()
    assert answer == "cache_00002"
    assert cache.ids() == ["cache_00001", "cache_00002"]


def test_a_child_that_ends_leaves_its_parents_connection_alone(open_cache: Open) -> None:
    """Finalizers run in a child that exits as programs do; the parent goes on writing."""
    cache = open_cache(index="sqlite")
    cache.add(picture(0))
    code = (
        "import os, sys; from reverie import CacheManager; from reverie.testing.samples import picture\n"
        "cache = CacheManager(sys.argv[1]); cache.add(picture(1))\n"
        "pid = os.fork()\n"
        "if pid == 0: sys.exit(0)\n"
        "os.waitpid(pid, 0)\n"
        "for seed in range(5): cache.add(picture(seed))\n"
        "print(cache.size(), cache.check().ok)"
    )
    run = [sys.executable, "-c", code, str(cache.cache_dir)]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["7", "True"]
    assert cache.size() == 7


def test_a_snapshot_of_vectors_is_not_disturbed_by_other_threads(open_cache: Open, kind: str) -> None:
    """A matrix that was handed out never changes, whatever is added and evicted meanwhile."""
    cache = open_cache(max_size=20, index=kind)
    for seed in range(20):
        cache.add(picture(seed), embedding=vector(seed))
    found = cache.embeddings()
    before = found.matrix.copy()
    stop = threading.Event()

    def churn() -> None:
        for seed in range(40):
            cache.add(picture(seed % 4), embedding=vector(100 + seed))
        stop.set()

    thread = threading.Thread(target=churn)
    thread.start()
    while not stop.is_set():
        assert np.array_equal(found.matrix, before)
        now = cache.embeddings()
        assert now.matrix.shape == (len(now.ids), 8)
    thread.join()
