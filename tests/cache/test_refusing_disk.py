"""A disk that refuses: full at any write, without locks, read-only; a process that dies at any write.

Calls are refused by a library that is loaded before the C library (`refusing_disk.c`), so every layer sees
them refused, SQLite too.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import refusing_disk
from refusing_disk import KILL, RefusingDisk

from reverie.cache.check import check_cache
from reverie.cache.manager import CacheManager
from reverie.storage import content_hash
from reverie.testing.samples import picture, vector

WORKER = Path(__file__).with_name("cache_worker.py")
linux = pytest.mark.skipif(sys.platform != "linux", reason="the library that refuses is for Linux")


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library, compiled; without a C compiler these tests fail."""
    return refusing_disk.compiled(tmp_path_factory.mktemp("refusing"))


@pytest.fixture
def disk(library: Path, tmp_path: Path) -> RefusingDisk:
    """A disk at ``tmp_path / "disk"``."""
    folder = tmp_path / "disk"
    folder.mkdir()
    return RefusingDisk(library, folder, tmp_path / "control")


def run(disk: RefusingDisk, code: str, *arguments: str) -> dict[str, str]:
    """Python code in a process of its own; the lines ``name: text`` that it printed."""
    command = [sys.executable, "-c", textwrap.dedent(code), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=disk.environment)
    assert done.returncode == 0, done.stderr
    return dict(line.split(": ", 1) for line in done.stdout.splitlines())


# ----------------------------------------------------------------------------- full


def full_at(
    disk: RefusingDisk, tmp_path: Path, how: tuple[str, str], first: int, step: int
) -> dict[str, Any]:
    """Live with every ``step``-th write refused; raises where anything is lost."""
    command = [sys.executable, refusing_disk.__file__, *how, str(tmp_path / "disk"), str(first), str(step)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=disk.environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@linux
@pytest.mark.parametrize("durability", ["full", "batched"])
def test_a_disk_that_is_full_at_some_writes(
    disk: RefusingDisk, tmp_path: Path, kind: str, durability: str
) -> None:
    """Each is told; nothing acknowledged is lost; when there is room again, the same object goes on."""
    told = full_at(disk, tmp_path, (kind, durability), first=3, step={"json": 17, "sqlite": 37}[kind])
    assert told["calls"] > 100
    assert sum(1 for steps in told["refused"].values() if steps) > len(told["refused"]) / 2


@linux
@pytest.mark.long
@pytest.mark.parametrize("durability", ["full", "batched"])
def test_a_disk_that_is_full_at_any_write(
    disk: RefusingDisk, tmp_path: Path, kind: str, durability: str
) -> None:
    """The same for every write there is in the life of a cache."""
    full_at(disk, tmp_path, (kind, durability), first=1, step=1)


# ----------------------------------------------------------------------------- a process that dies


def dying_crowd(disk: RefusingDisk, folder: Path, name: str, call: int) -> list[dict[str, Any]]:
    """A process that adds until it dies at a write; what it said."""
    disk.refuse(call, count=0, error=KILL)
    command = [sys.executable, str(WORKER), "crowd", str(folder), name, "100000", "None"]
    done = subprocess.run(
        command, input="go\n", stdout=subprocess.PIPE, text=True, check=False, env=disk.environment
    )
    disk.relent()
    assert done.returncode == -9
    return [json.loads(line) for line in done.stdout.splitlines()]


@linux
def test_two_processes_of_which_one_dies_at_any_write(disk: RefusingDisk, tmp_path: Path, kind: str) -> None:
    """The other one goes on without an error, and all that either was told is there."""
    folder = tmp_path / "disk" / "cache"
    CacheManager(folder, max_size=None, index=kind).close()
    command = [sys.executable, str(WORKER), "crowd", str(folder), "lasting", "150", "None"]
    rng = np.random.default_rng(0)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as lasting:
        assert lasting.stdin is not None
        assert lasting.stdout is not None
        lasting.stdout.readline()
        lasting.stdin.write("go\n")
        lasting.stdin.flush()
        dead = [dying_crowd(disk, folder, f"dying {turn}", int(rng.integers(30, 200))) for turn in range(5)]
        told = [json.loads(line) for line in lasting.stdout]
    assert lasting.returncode == 0
    assert told[-1] == {"done": True}
    added = {each["added"]: each["prompt"] for facts in [*dead, told] for each in facts if "added" in each}
    assert len(added) > 150
    with CacheManager(folder, max_size=None) as cache:
        there = {entry.cache_id: entry for entry in cache}
        assert {cache_id: there[cache_id].prompt for cache_id in added} == added
        for entry in there.values():
            assert content_hash(cache.read_image(entry.cache_id)) == entry.content_hash
    check_cache(folder, fix=True)
    assert check_cache(folder).ok


# ----------------------------------------------------------------------------- no locks

NO_LOCKS = """
    import sys
    from pathlib import Path
    import numpy as np
    from reverie import CacheManager
    from reverie.errors import ReverieError
    from reverie.cache.vector_files import StoredSpace, VectorFiles
    from reverie.protocols import Mark
    from reverie.search.index_file import IndexFile
    from reverie.testing.samples import picture
    from reverie.cache.sqlite_index import SqliteIndex
    SqliteIndex.__init__.__kwdefaults__["lock_timeout"] = 0.05  # where nobody says how long to wait
    folder, kind = Path(sys.argv[1]), sys.argv[2]
    for name in ("old", "new"):
        try:
            with CacheManager(folder / name, index=kind, lock_timeout=0.05) as cache:
                print(f"{name} read:", cache.ids())
                cache.add(picture(1))
        except ReverieError as error:
            print(f"{name}:", error)
    rows = np.ones((1, 4), dtype=np.float32) / 2
    space = StoredSpace("e", ["a"], np.ones(1, dtype=np.int64), rows, np.ones(1, dtype=bool))
    try:
        VectorFiles(folder / "vectors").save(Mark(1, 1), [space])
    except OSError as error:
        print("vectors:", error)
    IndexFile(folder / "graphs", "e", 4, {}, "ivf").write(lambda path: path.write_bytes(b"x"), 1)
    print("files:", sorted(path.name for path in folder.glob("*/*") if path.is_file()))
"""


@linux
@pytest.mark.parametrize("error", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_is_named(
    disk: RefusingDisk, tmp_path: Path, kind: str, error: int, snapshot: Callable[[Path], dict[str, bytes]]
) -> None:
    """For a cache that is there and for a new one; not a byte changes, and what is derived is not kept."""
    old = tmp_path / "disk" / "old"
    with CacheManager(old, index=kind) as cache:
        cache.add(picture(0))
    before = snapshot(old)
    disk.fail_locks(error)
    said = run(disk, NO_LOCKS, str(tmp_path / "disk"), kind)
    for name in ("old", "new"):
        assert "has no locks" in said[name]
        assert "Use a folder on a local disk, or mount the drive with locks" in said[name]
    assert "has no locks" in said["vectors"]
    assert said["files"] == "['lock', 'graphs.lock']" or "rows" not in said["files"]
    assert snapshot(old) == before
    with CacheManager(old) as cache:
        assert cache.ids() == ["cache_00001"]


@linux
def test_a_dream_into_a_folder_without_locks(disk: RefusingDisk, tmp_path: Path) -> None:
    """One line, and nothing was begun."""
    disk.fail_locks(errno.ENOLCK)
    command = [
        sys.executable,
        "-m",
        "reverie",
        "dream",
        "--out",
        str(tmp_path / "disk" / "run"),
        "--frames",
        "3",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=disk.environment)
    assert done.returncode == 1
    assert "has no locks" in done.stderr
    assert "Traceback" not in done.stderr


# ----------------------------------------------------------------------------- read-only

READ_ONLY = """
    import sys
    from reverie import CacheManager
    from reverie.errors import StorageError
    from reverie.testing.samples import picture, vector
    with CacheManager(sys.argv[1]) as cache:
        print("entries:", [entry.prompt for entry in cache.get_all()], len(cache.embeddings()))
        print("get:", cache.get("cache_00001").prompt, len(cache.read_image("cache_00002")))
        print("check:", cache.check().ok)
        for name, call in {
            "add": lambda: cache.add(picture(5)),
            "remove": lambda: cache.remove("cache_00001"),
            "pin": lambda: cache.pin("cache_00001"),
            "set": lambda: cache.set_embeddings({"cache_00001": vector(5)}),
            "clear": cache.clear,
            "flush": cache.flush,
        }.items():
            try:
                call()
                print(f"{name}: done")
            except StorageError as error:
                print(f"{name}:", error)
"""


@linux
@pytest.mark.skipif(not shutil.which("unshare"), reason="mounts need unshare")
@pytest.mark.parametrize("closed", [True, False], ids=["closed", "left open"])
def test_a_read_only_mount_can_be_looked_at(
    tmp_path: Path, kind: str, closed: bool, snapshot: Callable[[Path], dict[str, bytes]]
) -> None:
    """A real one, also of a cache whose last process was killed: reads work, writes say why they do not."""
    folder = tmp_path / "cache"
    cache = CacheManager(folder, index=kind)
    for seed in range(3):
        cache.add(picture(seed), f"prompt {seed}", embedding=vector(seed))
    if not closed:  # as a process leaves it that is killed: the log is not in the database yet
        shutil.copytree(folder, tmp_path / "copy")
    cache.close()
    if not closed:
        shutil.rmtree(folder)
        (tmp_path / "copy").rename(folder)
    before = snapshot(folder)
    mount = f"mount --bind '{folder}' '{folder}' && mount -o remount,bind,ro '{folder}'"
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    if subprocess.run(["unshare", *user, "--mount", "sh", "-c", mount], check=False).returncode:
        pytest.skip("this system lets nobody mount")
    script = f'{mount} && exec "$0" -c "$1" "$2"'
    command = [
        "unshare",
        *user,
        "--mount",
        "sh",
        "-c",
        script,
        sys.executable,
        textwrap.dedent(READ_ONLY),
        str(folder),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert said["entries"] == "['prompt 0', 'prompt 1', 'prompt 2'] 3"
    assert said["get"].startswith("prompt 0 ")
    assert said["check"] == "True"
    for name in ("add", "remove", "pin", "set", "clear", "flush"):
        assert "read-only" in said[name], said[name]
    assert snapshot(folder) == before
