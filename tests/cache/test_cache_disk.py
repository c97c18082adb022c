"""Real disks that refuse: full, read-only, without permission."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reverie.cache import local_images
from reverie.cache.manager import CacheManager
from reverie.errors import StorageError
from reverie.testing.samples import picture

Open = Callable[..., Any]


def run(code: str, *arguments: str) -> str:
    """Run Python code in a process of its own; what it printed."""
    command = [sys.executable, "-c", textwrap.dedent(code), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_full_disk(open_cache: Open, kind: str) -> None:
    """Files cannot grow past a limit: each add that does not fit fails clearly, and all else stays whole."""
    cache = open_cache(index=kind)
    kept = cache.add(picture(0, 8, 8), "kept")
    printed = run(
        """
        import resource, signal, sys
        from reverie import CacheManager
        from reverie.errors import StorageError
        from reverie.testing.samples import picture
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        cache = CacheManager(sys.argv[1])
        cache.get("cache_00001")
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, resource.RLIM_INFINITY))
        try:
            cache.add(picture(1, 100, 100))
        except StorageError as error:
            print("image:", error)
        try:
            for seed in range(60):
                cache.add(picture(2, 4, 4), "x" * 400)
        except StorageError as error:
            print("index:", error)
        print("entries:", cache.size(), len(list(cache.image_dir.iterdir())))
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        print("after:", cache.add(picture(3)) in cache)
        """,
        str(cache.cache_dir),
    )
    lines = dict(line.split(": ", 1) for line in printed.splitlines())
    assert "cannot store an image" in lines["image"]
    assert "Nothing was changed" in lines["index"]
    entries, images = lines["entries"].split()
    assert 0 <= int(images) - int(entries) <= 1  # one whose row may be in the log stays until the next add
    assert lines["after"] == "True"
    assert cache.get(kept).prompt == "kept"
    assert cache.size() == int(entries) + 1 == len(list(cache.image_dir.iterdir()))
    assert cache.check().ok


READ_ONLY = """
    import os, sys
    from reverie import CacheManager
    from reverie.errors import StorageError
    import reverie.cache.local_images, reverie.cache.json_index, reverie.cache.sqlite_index
    import reverie.cache.eviction
    from reverie.testing.samples import picture
    import PIL.PngImagePlugin, urllib.parse  # loaded while this user may still read them
    if os.geteuid() == 0:
        os.setgid(65534); os.setuid(65534)  # permissions do not bind the administrator
    with CacheManager(sys.argv[1]) as cache:
        print("entries:", [entry.prompt for entry in cache.get_all()], len(cache.embeddings()))
        print("get:", cache.get("cache_00001").prompt, len(cache.read_image("cache_00002")) > 0)
        print("check:", cache.check().ok)
        for name, call in {
            "add": lambda: cache.add(picture(5)),
            "remove": lambda: cache.remove("cache_00001"),
            "pin": lambda: cache.pin("cache_00001"),
            "clear": cache.clear,
            "flush": cache.flush,
        }.items():
            try:
                call()
            except StorageError as error:
                print(f"{name}:", error)
    print("closed:", True)
"""


def test_a_read_only_cache_can_be_looked_at(kind: str, readable_folder: Path) -> None:
    """Every read works, every write is refused with the reason, closing works, not a byte changes."""
    folder = readable_folder / "cache"
    with CacheManager(folder, index=kind) as cache:
        for seed in range(3):
            cache.add(picture(seed), f"prompt {seed}", {}, [1.0, float(seed)])
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        printed = run(READ_ONLY, str(folder))
    finally:
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
    lines = dict(line.split(": ", 1) for line in printed.splitlines())
    assert lines["entries"] == "['prompt 0', 'prompt 1', 'prompt 2'] 3"
    assert (lines["get"], lines["check"], lines["closed"]) == ("prompt 0 True", "True", "True")
    for name in ("add", "remove", "pin", "clear", "flush"):
        assert "permission" in lines[name] or "read-only" in lines[name], lines[name]
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_what_the_system_says_reaches_the_user(
    open_cache: Open, monkeypatch: pytest.MonkeyPatch, kind: str, code: int
) -> None:
    """Read-only, no permission, full, over quota, failing: one error, its number kept, nothing changed."""
    cache = open_cache(index=kind)
    cache.add(picture(0))

    def fail(*arguments: Any, **options: Any) -> Any:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(local_images, "write_new", fail)
        with pytest.raises(StorageError, match="cannot store an image") as caught:
            cache.add(picture(1))
    assert caught.value.errno == code
    assert cache.ids() == ["cache_00001"]
    assert cache.check().ok


def test_a_disk_that_fails_to_read_a_picture(open_cache: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a broken picture: an error of the storage."""
    cache = open_cache()
    cache.add(picture(0))

    def fail(*arguments: Any, **options: Any) -> Any:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "read", fail)
    with pytest.raises(StorageError, match=r"cannot read .*cache_00001\.png"):
        cache.read_image("cache_00001")
    with pytest.raises(StorageError, match="cannot read"):
        cache.add(cache.image_dir / "cache_00001.png")


def test_a_json_index_that_cannot_be_read(open_cache: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the storage, not damage: nobody should rebuild it for that."""
    cache = open_cache(index="json")
    cache.add(picture(0))
    cache.close()
    real = Path.open

    def fail(self: Path, *arguments: Any, **options: Any) -> Any:
        if self.name == "cache_index.json":
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", fail)
    with pytest.raises(StorageError, match=r"cannot read .*cache_index\.json"):
        CacheManager(cache.cache_dir)
