"""`reverie cache import`: what it does, says and gives to machines, and how it is interrupted."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
from cli_runs import Run

import picture_files
from reverie import AestheticMatcher, CacheManager
from reverie.cache.adding import NewEntry
from reverie.cli.importing import summary
from reverie.cli.place import Place
from reverie.importing import ImportReport
from reverie.importing.watching import Inbox
from reverie.testing.samples import picture, png_bytes


@pytest.fixture
def folder(own_folder: Path) -> Path:
    """``./pictures`` with 40 pictures, the last ten a folder deeper: two batches."""
    for seed in range(40):
        path = own_folder / "pictures" / ("late" if seed >= 30 else "") / f"{seed:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png_bytes(seed))
    return own_folder / "pictures"


def said(text: str) -> str:
    """The summary without its figures of time."""
    return text.partition(" (")[0]


def interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C when the second batch is encoded."""
    encode, calls = AestheticMatcher.encode_images, []

    def interrupted(self: AestheticMatcher, images: Any) -> Any:
        calls.append(1)
        if len(calls) > 1:
            raise KeyboardInterrupt
        return encode(self, images)

    monkeypatch.setattr(AestheticMatcher, "encode_images", interrupted)


def test_folders_are_imported(folder: Path, reverie: Run) -> None:
    """One line says how many, how large and how fast; a second time all are there already."""
    done = reverie("cache", "import", "pictures", "--cache", "new", "--prompt", "x", "--params", '{"a": 1}')
    assert (done.exit_code, done.stderr) == (0, "")
    assert said(done.stdout) == "40 imported of 40 pictures, into ./new"
    assert done.stdout.rstrip().endswith(" a second)")
    with CacheManager("new", max_size=None) as cache:
        entries = cache.get_all()
        assert {entry.prompt for entry in entries} == {"x"}
        assert entries[39].generation_params == {"a": 1, "source": str(folder / "late" / "039.png")}
        assert {entry.encoder for entry in entries} == {"descriptor-v1"}
    again = reverie("cache", "import", "pictures", "--cache", "new")
    assert again.exit_code == 0
    assert again.stdout == "0 imported, 40 already there of 40 pictures, into ./new\n"
    more = reverie("cache", "import", "pictures", "--cache", "new", "--again", "--no-embeddings")
    assert said(more.stdout) == "40 imported of 40 pictures, into ./new"


def test_pictures_that_say_how_they_were_made_are_counted(folder: Path, reverie: Run) -> None:
    """Prompt and parameters come from their files; with a prompt for all, still the parameters."""
    for name in ("000.png", "031.png"):
        path = folder / ("late" if name == "031.png" else "") / name
        path.write_bytes(picture_files.png({"parameters": picture_files.INFOTEXT + name}))
    done = reverie("cache", "import", "pictures", "--cache", "new")
    assert said(done.stdout) == "40 imported of 40 pictures, into ./new, 2 of which say how they were made"
    document = json.loads(
        reverie("cache", "import", folder, "--cache", "other", "--prompt", "x", "--json").stdout
    )
    assert document["described"] == 2
    with CacheManager("new", max_size=None) as cache, CacheManager("other", max_size=None) as other:
        assert cache.get_all()[0].prompt.startswith(picture_files.PROMPT)
        assert other.get_all()[0].prompt == "x"
        assert other.get_all()[0].generation_params["seed"] == 965400086


def test_links(folder: Path, reverie: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """--link copies nothing; where it cannot be, the error names --copy, exit code 1."""
    done = reverie("cache", "import", "pictures/late", "--link", "--cache", "new")
    assert done.exit_code == 0
    with CacheManager("new", max_size=None) as cache:
        assert all(entry.image_path.samefile(entry.generation_params["source"]) for entry in cache)

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr("reverie.cache.local_images.os.link", refuse)
    failed = reverie("cache", "import", "pictures", "--link", "--cache", "new")
    assert (failed.exit_code, failed.stdout) == (1, "")
    assert "it is on another disk than the cache" in failed.stderr
    assert "--copy" in failed.stderr
    assert len(failed.stderr.splitlines()) == 1


def test_import_json(folder: Path, reverie: Run) -> None:
    """One document, nothing beside it but the errors."""
    (folder / "000.png").write_bytes(b"no image")
    done = reverie("cache", "import", folder, "--cache", "new", "--json")
    document = json.loads(done.stdout)
    assert document.pop("seconds") > 0
    assert document.pop("rate") > 0
    assert document.pop("byte_size") > 0
    (failed,) = document.pop("failed")
    assert failed["image"] == str(folder / "000.png")
    assert "not an image" in failed["error"]
    assert document == {
        "folder": "new",
        "encoder": "descriptor-v1",
        "total": 40,
        "imported": 39,
        "known": 0,
        "left": 0,
        "described": 0,
        "evicted": 0,
        "finished": True,
    }
    again = json.loads(reverie("cache", "import", folder, "--cache", "new", "--json").stdout)
    assert (again["known"], again["rate"]) == (39, None)


@pytest.mark.parametrize(
    ("broken", "options", "code"),
    [(1, [], 0), (1, ["--strict"], 1), (40, [], 1), (40, ["--json"], 1)],
)
def test_pictures_that_cannot_be_used_are_listed(
    folder: Path, reverie: Run, broken: int, options: list[str], code: int
) -> None:
    """Each on a line with its reason, the first twenty; an error when asked for, or when none was of use."""
    for path in sorted(folder.rglob("*.png"))[:broken]:
        path.write_bytes(b"no image " + path.name.encode())
    done = reverie("cache", "import", "pictures", "--cache", "new", *options)
    lines = done.stderr.splitlines()
    assert done.exit_code == code
    assert lines[0] == f"reverie: '{folder / '000.png'}' is not an image that Pillow can read"
    assert len(lines) == min(broken, 21)
    if broken == 40:
        assert lines[20] == "and 20 more that cannot be used (--json names all)"
    if not options:
        parts = "0 imported, 40 not usable" if broken == 40 else "39 imported, 1 not usable"
        assert said(done.stdout).rstrip() == f"{parts} of 40 pictures, into ./new"


def test_an_interrupted_import_says_how_to_go_on(
    folder: Path, reverie: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C keeps what is done, exit code 130; the same command does the rest."""
    with monkeypatch.context() as patch:
        interrupt(patch)
        stopped = reverie("cache", "import", "pictures", "--cache", "new")
    assert stopped.exit_code == 130
    assert " left of 40 pictures, into ./new" in stopped.stdout
    assert stopped.stderr == (
        "interrupted; what is imported is kept, and the same command goes on from there\n"
    )
    with CacheManager("new", max_size=None) as cache:
        before = len(cache)
    resumed = reverie("cache", "import", "pictures", "--cache", "new")
    assert resumed.exit_code == 0
    assert before > 0
    assert said(resumed.stdout) == (
        f"{40 - before} imported, {before} already there of 40 pictures, into ./new"
    )


def test_a_limit_refuses_or_evicts(folder: Path, reverie: Run) -> None:
    """More than --max-size is an error before anything is stored; --evict lets the oldest go."""
    refused = reverie("cache", "import", "pictures", "--cache", "new", "--max-size", 30)
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "0 of max_size=30 entries are taken" in refused.stderr
    assert "--evict" in refused.stderr
    with CacheManager("new", max_size=None) as cache:
        assert len(cache) == 0
    done = reverie("cache", "import", "pictures", "--cache", "new", "--max-size", 30, "--evict")
    assert done.exit_code == 0
    assert said(done.stdout) == "40 imported of 40 pictures, into ./new, 10 others evicted"


def test_watching(folder: Path, reverie: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says that it watches, imports what comes, and ends with a summary at Ctrl-C, exit code 0."""
    calls: list[int] = []

    def heard(self: Inbox, seconds: float) -> dict[Path, bool]:
        calls.append(1)
        if len(calls) == 1:
            (folder / "late.png").write_bytes(png_bytes(99))
            return {folder / "late.png": True}
        raise KeyboardInterrupt

    monkeypatch.setattr(Inbox, "take", heard)
    done = reverie("cache", "import", "pictures", "--cache", "new", "--watch", "--poll", 60)
    assert done.exit_code == 0
    assert done.stderr == "40 imported; watching ./pictures (Ctrl-C ends it)\n"
    assert said(done.stdout) == "41 imported of 41 pictures, into ./new"


def test_a_large_json_index_is_named(folder: Path, reverie: Run) -> None:
    """With the command that makes it fast; the import goes on."""
    with CacheManager("old", max_size=None, index="json") as cache:
        cache.add_many([NewEntry(picture(seed + 100, 1, 1)) for seed in range(501)])
    done = reverie("cache", "import", "pictures/late", "--cache", "old", "--encoder", "none")
    assert done.exit_code == 0
    assert done.stderr.endswith("reverie cache convert --to sqlite --cache old\n")


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        ([], 2, "FOLDERS"),
        (["nowhere"], 1, "there is no folder"),
        (["pictures/000.png"], 1, "reverie cache add"),
        (["empty"], 1, "there are no pictures below ./empty"),
        (["pictures", "--encoder", "nobody"], 1, "no encoder is called 'nobody'"),
        (["pictures", "--evict"], 1, "--max-size"),
        (["pictures", "--poll", "2"], 1, "--watch"),
        (["pictures", "--watch", "--poll", "0"], 2, "--poll"),
        (["pictures", "--params", '{"source": 1}'], 1, "source"),
    ],
)
def test_an_import_that_cannot_be_is_one_line(
    folder: Path, reverie: Run, arguments: list[str], code: int, expected: str
) -> None:
    """Wrong names, wrong usage; no entry is made."""
    (folder.parent / "empty").mkdir()
    done = reverie("cache", "import", *arguments, "--cache", "new")
    assert (done.exit_code, done.stdout) == (code, "")
    assert expected in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not list(folder.parent.glob("new/images/*"))


def test_import_progress_in_a_terminal(folder: Path, reverie: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line with a bar, how many of all, bytes and a rate."""
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLORTERM", "truecolor")
    done = reverie("cache", "import", "pictures", "--cache", "new")
    assert said(done.stdout) == "40 imported of 40 pictures, into ./new"
    for part in ("importing", "40 of 40", "kB", "a second", "\x1b"):
        assert part in done.stderr


def test_the_summary_of_an_import_names_what_is_not_zero(own_folder: Path) -> None:
    """Thousands, bytes, seconds and a rate."""
    report = ImportReport("d", 3000, 2000, 7, {"a.png": "x"}, 5_000_000, 31, 12, False, 20.0)
    assert summary(report, Place(own_folder / "cache", "")) == (
        "2,000 imported, 7 already there, 1 not usable, 992 left of 3,000 pictures, into ./cache, "
        "31 of which say how they were made, 12 others evicted (5.0 MB, 20.0 s, 100 a second)"
    )
