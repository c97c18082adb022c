"""The processes of the concurrency and crash tests: ``cache_worker.py <job> <folder> <arguments>``."""

from __future__ import annotations

import io
import json
import os
import sys
from typing import Any

import numpy as np
from PIL import Image

from reverie.cache.manager import CacheManager
from reverie.errors import ImageNotFoundError
from reverie.storage import content_hash


def png_bytes(seed: int, side: int = 8) -> bytes:
    """A small PNG of seeded noise (`reverie.testing` would load pytest, which takes longer than the work)."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def vector(seed: int) -> Any:
    """Eight seeded numbers."""
    return np.random.default_rng(seed).standard_normal(8)


def say(**facts: Any) -> None:
    """One line of JSON for the test that waits for it."""
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def read_something(cache: CacheManager) -> int:
    """Read a random entry: its picture is whole, or it was evicted meanwhile. How many were gone."""
    entry = cache.get_random()
    if entry is None:
        return 0
    try:
        data = cache.read_image(entry.cache_id)
    except KeyError:
        return 1  # evicted between the two calls
    except ImageNotFoundError:
        if entry.cache_id in cache:
            raise
        return 1
    if content_hash(data) != entry.content_hash:
        raise AssertionError(f"{entry.cache_id} is not the picture that was stored")
    return 0


def crowd(folder: str, name: str, rounds: str, max_size: str) -> None:
    """Add, read and evict among others; say what was added."""
    limit = None if max_size == "None" else int(max_size)
    source = f"{folder}-{name}.png"
    number = sum(name.encode())
    with open(source, "wb") as file:  # noqa: PTH123 - a script, not a lesson
        file.write(png_bytes(number))
    say(ready=True)
    sys.stdin.readline()
    with CacheManager(folder, max_size=limit, lock_timeout=30) as cache:
        for turn in range(int(rounds)):
            cache_id = cache.add(source, f"{name} {turn}", {"by": name}, vector(number + turn))
            say(added=cache_id, prompt=f"{name} {turn}")
            read_something(cache)
            if turn % 5 == 0:
                found = cache.embeddings()
                if not np.isfinite(found.matrix).all() or len(found) != len(found.ids):
                    raise AssertionError("a broken matrix")
                cache.flush()
    say(done=True)


def endless(folder: str, seed: str, max_size: str) -> None:
    """Add (and use, embed anew, remove) until killed; say what is acknowledged, after it is."""
    rng = np.random.default_rng(int(seed))
    with CacheManager(folder, max_size=int(max_size), lock_timeout=30) as cache:
        cache.on_evicted.append(lambda entry: say(evicted=entry.cache_id))
        while True:
            data = png_bytes(int(rng.integers(1 << 30)), 6)
            source = f"{folder}-source.png"
            with open(source, "wb") as file:  # noqa: PTH123
                file.write(data)
            cache_id = cache.add(source, f"seed {seed}", {"n": 1}, vector(1))
            say(added=cache_id, hash=content_hash(data))
            if rng.random() < 0.2:
                cache.get_random()
                cache.flush()
            if rng.random() < 0.3:
                cache.set_embeddings(dict.fromkeys(cache.ids(), vector(2)), encoder="second")
            if rng.random() < 0.1:
                gone = cache.ids()[0]
                say(removing=gone)
                cache.remove(gone)


def nursery(max_size: str) -> None:
    """For every line on stdin (seed, folder) a child that adds without end; say when it is dead."""
    for line in sys.stdin:
        seed, _, folder = line.strip().partition(" ")
        pid = os.fork()
        if pid == 0:
            endless(folder, seed, max_size)
        say(born=pid)
        os.waitpid(pid, 0)
        say(dead=pid)


if __name__ == "__main__":
    {"crowd": crowd, "nursery": nursery}[sys.argv[1]](*sys.argv[2:])
