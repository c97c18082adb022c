"""`reverie cache duplicates` and `reverie cache export`."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_runs import Run

from reverie import CacheManager

Png = Callable[..., Path]


@pytest.fixture
def twins(own_folder: Path, png: Png) -> Path:
    """``./cache`` with five entries: 1, 2 and 4 of one file, 3 and 5 of others, 4 pinned."""
    same = png("same.png", 1)
    with CacheManager("cache") as cache:
        for number, path in enumerate([same, same, png("other.png", 2), same, png("third.png", 3)], 1):
            cache.add(path, f"prompt {number}", pinned=number == 4)
    return own_folder / "cache"


def test_duplicates_are_shown_with_what_would_go(twins: Path, reverie: Run) -> None:
    """A table of groups, what they take, and how to remove them; nothing is changed."""
    done = reverie("cache", "duplicates", "--level", "bytes")
    assert done.exit_code == 0
    assert all(f"cache_0000{number}" in done.stdout for number in (1, 2, 4))
    assert "cache_00003" not in done.stdout
    assert "pinned" in done.stdout
    assert "--remove" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    with CacheManager(twins) as cache:
        assert len(cache) == 5


def test_duplicates_as_json(twins: Path, reverie: Run) -> None:
    """Groups with what stays and what would go."""
    report = json.loads(reverie("cache", "duplicates", "--json").stdout)
    assert report["level"] == "picture"
    (group,) = report["groups"]
    assert [each["cache_id"] for each in group["members"]] == ["cache_00001", "cache_00002", "cache_00004"]


def test_duplicates_are_removed_when_that_is_wanted(twins: Path, reverie: Run) -> None:
    """The pinned one stays for the others; then there are none."""
    assert reverie("cache", "duplicates", "--remove", "--yes").exit_code == 0
    with CacheManager(twins) as cache:
        assert cache.ids() == ["cache_00003", "cache_00004", "cache_00005"]
        assert cache.check().ok
    assert "no two of 3 entries" in reverie("cache", "duplicates").stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--remove", "--level", "look"], "similar, not the same"),
        (["--threshold", "0.9", "--level", "bytes"], "a threshold is for the level 'look'"),
        (["--level", "pixels"], "pixels"),
    ],
)
def test_what_makes_no_sense_is_refused(twins: Path, reverie: Run, options: list[str], message: str) -> None:
    """In one line, and nothing is removed."""
    done = reverie("cache", "duplicates", *options)
    assert done.exit_code != 0
    assert message in done.stderr
    with CacheManager(twins) as cache:
        assert len(cache) == 5


def test_export_to_a_folder_and_a_zip(twins: Path, reverie: Run) -> None:
    """The form goes by the name; a sentence says what came out."""
    done = reverie("cache", "export", "out")
    assert (done.exit_code, done.stdout.startswith("5 entries exported (")) == (0, True)
    assert len((Path("out") / "metadata.jsonl").read_text().splitlines()) == 5
    assert reverie("cache", "export", "out.zip", "--limit", 2).exit_code == 0
    with zipfile.ZipFile("out.zip") as packed:
        assert len(packed.namelist()) == 3


def test_export_of_some_entries_as_json(twins: Path, reverie: Run) -> None:
    """Ids by option or from standard input, in their order."""
    asked = ["cache", "export", "some.jsonl", "--id", "-", "--vectors", "none", "--json"]
    report = json.loads(reverie(*asked, input="cache_00003\ncache_00001\n").stdout)
    assert (report["format"], report["total"], report["exported"], report["failed"]) == ("jsonl", 2, 2, [])
    lines = [json.loads(line) for line in Path("some.jsonl").read_text().splitlines()]
    assert [each["cache_id"] for each in lines] == ["cache_00003", "cache_00001"]


def test_export_of_what_fulfils_conditions(twins: Path, reverie: Run) -> None:
    """As `reverie cache list` chooses; --id and conditions together are wrong usage."""
    done = reverie("cache", "export", "out.jsonl", "--words", "prompt", "--not-pinned", "--limit", 3)
    assert done.stdout == "3 entries exported: records in ./out.jsonl\n"
    lines = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert [each["cache_id"] for each in lines] == ["cache_00002", "cache_00003", "cache_00005"]
    both = reverie("cache", "export", "both", "--id", "cache_00001", "--pinned")
    assert (both.exit_code, "not both" in both.stderr, Path("both").exists()) == (2, True, False)


def test_export_replaces_nothing_and_tells_what_is_missing(twins: Path, reverie: Run) -> None:
    """A second export to the same place is refused; an image that is gone makes the exit code 1."""
    assert reverie("cache", "export", "out").exit_code == 0
    again = reverie("cache", "export", "out")
    assert (again.exit_code, "is there already" in again.stderr) == (1, True)
    (twins / "images" / "cache_00003.png").unlink()
    done = reverie("cache", "export", "other")
    assert done.exit_code == 1
    assert "cache_00003 is exported without its image" in done.stderr
    assert "1 without the image" in done.stdout
