"""The journal: appended to, readable whatever stopped its writer, continued without loss."""

import math
import os
import sys

import numpy as np
import pytest

from reverie.errors import InputError, ReverieError, StorageError
from reverie.loop.journal import Journal, read_journal

LINES = [{"frame": 1, "reason": "née"}, {"frame": 2, "numbers": {"a": 0.5}}, {"frame": 3, "injected": None}]


@pytest.fixture
def path(tmp_path):
    """A journal of three lines."""
    with Journal(tmp_path / "journal.jsonl") as journal:
        for line in LINES:
            journal.write(line)
    return tmp_path / "journal.jsonl"


def test_what_was_written_is_read(path):
    """Line by line, in order; one line of text each."""
    assert read_journal(path) == LINES
    assert read_journal(str(path)) == LINES
    assert path.read_bytes().count(b"\n") == 3


def test_a_line_is_in_the_file_when_write_returns(tmp_path):
    """Another process reads along."""
    with Journal(tmp_path / "j") as journal:
        for count in range(1, 4):
            journal.write({"frame": count})
            assert len(read_journal(tmp_path / "j")) == count


def test_a_journal_is_continued(path):
    """Opening an existing file appends to it."""
    with Journal(path) as journal:
        journal.write({"frame": 4})
    assert read_journal(path) == [*LINES, {"frame": 4}]


def test_an_empty_journal(tmp_path):
    """A run that was stopped before its first frame has no lines."""
    Journal(tmp_path / "j").close()
    assert read_journal(tmp_path / "j") == []


def test_closing_twice_is_fine(tmp_path):
    """As for files."""
    journal = Journal(tmp_path / "j")
    journal.close()
    journal.close()


def test_numbers_of_numpy_and_numbers_that_are_none(tmp_path):
    """NumPy's become JSON's; NaN and infinity, which JSON has not, become null."""
    with Journal(tmp_path / "j") as journal:
        journal.write({"a": np.float32(0.5), "b": np.arange(3), "c": math.nan, "d": np.float64(math.inf)})
    assert read_journal(tmp_path / "j") == [{"a": 0.5, "b": [0, 1, 2], "c": None, "d": None}]


@pytest.mark.parametrize("bad", [object(), {1: 2}, 2**70], ids=["object", "key", "huge"])
def test_a_line_that_json_cannot_hold(path, bad):
    """An error of ours, and the journal is as it was."""
    before = path.read_bytes()
    with Journal(path) as journal, pytest.raises(InputError, match="cannot be written as JSON"):
        journal.write({"frame": 4, "bad": bad})
    assert path.read_bytes() == before


@pytest.mark.parametrize("kept", [0, 1, 5, -1], ids=str)
def test_a_torn_last_line_is_passed_over(path, kept):
    """Its writer was killed in the middle of it: all lines before it are there."""
    whole = path.read_bytes()
    start = whole[:-1].rindex(b"\n") + 1
    path.write_bytes(whole[:start] + whole[start:-1][:kept])
    assert read_journal(path) == LINES[:2]


def test_a_last_line_without_its_end_is_whole(path):
    """Only the end of the line is missing: nothing of it is lost."""
    path.write_bytes(path.read_bytes()[:-1])
    assert read_journal(path) == LINES
    with Journal(path) as journal:
        journal.write({"frame": 4})
    assert read_journal(path) == [*LINES, {"frame": 4}]


@pytest.mark.parametrize(
    "torn", [b'{"frame": 4, "rea', b"\0" * 5, b"{", b'{"frame": 4, "text": "\xc3'], ids=ascii
)
def test_a_torn_line_does_not_spoil_the_next(path, torn):
    """A continued journal begins on a line of its own, so it stays readable."""
    with path.open("ab") as file:
        file.write(torn)
    with Journal(path) as journal:
        journal.write({"frame": 4})
        journal.write({"frame": 5})
    assert read_journal(path) == [*LINES, {"frame": 4}, {"frame": 5}]


def test_a_long_torn_line_is_cut_off_whole(path):
    """However far back it began."""
    with path.open("ab") as file:
        file.write(b'{"frame": 4, "text": "' + b"x" * 200_000)
    with Journal(path) as journal:
        journal.write({"frame": 4})
    assert read_journal(path) == [*LINES, {"frame": 4}]


@pytest.mark.parametrize("size", [65_535, 65_536, 65_537, 131_072, 150_001])
def test_a_journal_that_is_one_torn_line(tmp_path, size):
    """Nothing of it is whole: the journal begins anew."""
    (tmp_path / "j").write_bytes(b"{" + b"x" * (size - 1))
    with Journal(tmp_path / "j") as journal:
        journal.write({"frame": 1})
    assert read_journal(tmp_path / "j") == [{"frame": 1}]


def test_a_sound_journal_is_not_touched_by_opening(path):
    """Not a byte."""
    before = path.read_bytes()
    Journal(path).close()
    assert path.read_bytes() == before


def test_a_broken_middle_line_is_named(path):
    """Something else happened to the file: the error says where."""
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b'{"frame": \n' + lines[2])
    with pytest.raises(InputError, match=r"journal\.jsonl', line 2: not JSON"):
        read_journal(path)


@pytest.mark.parametrize("line", [b"7", b"[1]", b'"text"', b"null"], ids=ascii)
def test_a_line_that_is_no_object_is_named(path, line):
    """Every line is an object."""
    path.write_bytes(line + b"\n" + path.read_bytes())
    with pytest.raises(InputError, match="line 1: not an object"):
        read_journal(path)


def test_a_journal_that_is_not_there(tmp_path):
    """Reading and opening what cannot be opened is a storage error that names the file."""
    with pytest.raises(StorageError, match=r"journal .*missing\.jsonl"):
        read_journal(tmp_path / "missing.jsonl")
    with pytest.raises(StorageError, match=r"open the journal .*j\.jsonl"):
        Journal(tmp_path / "no folder" / "j.jsonl")


class FullDisk:
    """A file that takes some bytes and then no more; behind it a real file."""

    def __init__(self, file, room):
        self.file = file
        self.room = room

    def write(self, data):
        """As many bytes as there is room for."""
        if self.room <= 0:
            raise OSError(28, os.strerror(28))
        written = self.file.write(data[: min(4, self.room)])
        self.room -= written
        return written

    def __getattr__(self, name):
        return getattr(self.file, name)


def test_a_full_disk_leaves_whole_lines(path):
    """Half a line is taken back, the error is ours, and once there is room the journal goes on."""
    journal = Journal(path)
    disk = FullDisk(journal._file, room=9)
    journal._file = disk
    for _ in range(2):
        with pytest.raises(StorageError, match="disk is full"):
            journal.write({"frame": 4, "reason": "a long one"})
        assert read_journal(path) == LINES
        assert path.read_bytes().endswith(b"\n")
    disk.room = 1000
    journal.write({"frame": 4})
    journal.close()
    assert read_journal(path) == [*LINES, {"frame": 4}]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/dev/full is Linux's")
def test_closing_after_a_full_disk_is_quiet():
    """A line that could not be written does not come back at close."""
    journal = Journal("/dev/full")
    with pytest.raises(ReverieError, match="disk is full"):
        journal.write({"frame": 1})
    journal.close()
