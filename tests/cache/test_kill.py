"""`kill -9` at any moment: the cache opens, and every acknowledged entry is there, whole."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reverie.cache.check import check_cache
from reverie.cache.manager import CacheManager
from reverie.entry import cache_number
from reverie.storage import content_hash
from reverie.testing.samples import picture
from reverie.vectors import as_embedding

WORKER = Path(__file__).with_name("cache_worker.py")
MAX_SIZE = 6
EXPECTED = {
    encoder: as_embedding(np.random.default_rng(seed).standard_normal(8))
    for encoder, seed in ((None, 1), ("second", 2))
}
"""The two vectors that the worker writes, by the name of their encoder."""


class Ledger:
    """What the killed processes said: the test's memory of the cache."""

    def __init__(self) -> None:
        self.hashes: dict[str, str] = {}
        self.gone: set[str] = set()

    def hear(self, facts: dict[str, Any]) -> None:
        """Take one line of a worker into account."""
        if "added" in facts:
            assert facts["added"] not in self.hashes, "an id came twice"
            self.hashes[facts["added"]] = facts["hash"]
        self.gone.update(facts[key] for key in ("evicted", "removing") if key in facts)


def kill_once(
    folder: Path, nursery: Any, ledger: Ledger, rng: np.random.Generator, *, early: bool = False
) -> None:
    """Let a process add a few (``early``: not even one), kill it at a random moment of what follows, look."""
    nursery.stdin.write(f"{rng.integers(1 << 30)} {folder}\n".encode())
    nursery.stdin.flush()
    wanted, heard, pid = int(rng.integers(0 if early else 1, 2 if early else 10)), 0, 0
    while not pid or heard < wanted:
        facts = json.loads(nursery.stdout.readline())
        ledger.hear(facts)
        pid = facts.get("born", pid)
        heard += "added" in facts
    sum(range(int(rng.integers(0, 100_000))))  # a random moment, without a clock
    os.kill(pid, signal.SIGKILL)
    while "dead" not in facts:
        facts = json.loads(nursery.stdout.readline())
        ledger.hear(facts)
    look(folder, ledger)


def start_nursery(max_size: int) -> subprocess.Popen[bytes]:
    """A process that has everything loaded and makes the ones to kill."""
    command = [sys.executable, str(WORKER), "nursery", str(max_size)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def look(folder: Path, ledger: Ledger) -> None:
    """Open the cache and compare it with what was acknowledged."""
    with CacheManager(folder, max_size=MAX_SIZE) as cache:
        there = {entry.cache_id: entry for entry in cache.get_all()}
        assert len(there) <= MAX_SIZE
        # A full cache evicts one for each add: the last add, not acknowledged, may have taken one more.
        lost = sorted(set(ledger.hashes) - ledger.gone - set(there))
        unsaid = sorted(set(there) - set(ledger.hashes))
        assert len(unsaid) <= 1
        assert len(lost) <= len(unsaid)
        if lost:
            assert len(there) == MAX_SIZE
        for cache_id, entry in there.items():
            data = cache.read_image(cache_id)
            assert content_hash(data) == entry.content_hash
            assert ledger.hashes.get(cache_id, entry.content_hash) == entry.content_hash
            assert entry.embedding is not None
            assert np.array_equal(entry.embedding, EXPECTED[entry.encoder])
        ledger.gone.update(lost)
        for cache_id in unsaid:
            ledger.hashes[cache_id] = there[cache_id].content_hash
        numbers = [cache_number(cache_id) for cache_id in ledger.hashes]
        assert len(set(numbers)) == len(numbers)


def kill_often(folder: Path, kind: str, kills: int, seed: int) -> None:
    """Kill again and again on one folder; at the end only unfinished files are left over."""
    with CacheManager(folder, index=kind, max_size=MAX_SIZE) as cache:
        first = cache.add(picture(0), embedding=EXPECTED[None])
        ledger = Ledger()
        ledger.hashes[first] = cache.get_all()[0].content_hash
    rng = np.random.default_rng(seed)
    with start_nursery(MAX_SIZE) as nursery:
        for _ in range(kills):
            kill_once(folder, nursery, ledger, rng)
        nursery.communicate()
    assert nursery.returncode == 0
    assert len(ledger.hashes) > kills
    left = {problem.kind for problem in check_cache(folder).problems}
    assert left <= {"unfinished write", "orphan image"}
    check_cache(folder, fix=True)
    assert check_cache(folder).ok
    look(folder, ledger)


def test_ten_kills(tmp_path: Path, kind: str) -> None:
    """20 kills in all, 10 for each kind of index."""
    kill_often(tmp_path / "cache", kind, 10, seed=7)


@pytest.mark.filterwarnings("ignore::reverie.cache.lost.LostIndexWarning")  # killed before there was an index
def test_killed_while_the_cache_is_made(tmp_path: Path, kind: str) -> None:
    """A cache whose making was cut short opens, and holds what was acknowledged."""
    rng = np.random.default_rng(3)
    max_size = {"json": 6, "sqlite": 501}[kind]
    with start_nursery(max_size) as nursery:
        for turn in range(12):
            folder = tmp_path / f"cache-{turn}"
            kill_once(folder, nursery, Ledger(), rng, early=True)
            check_cache(folder, fix=True)
            assert check_cache(folder).ok
            with CacheManager(folder, max_size=max_size) as cache:
                assert cache.index_kind == kind
                cache.add(picture(0))
        nursery.communicate()


@pytest.mark.long
@pytest.mark.parametrize("seed", range(5))
def test_many_kills(tmp_path: Path, kind: str, seed: int) -> None:
    """500 kills in all."""
    kill_often(tmp_path / "cache", kind, 50, seed=100 + seed)
