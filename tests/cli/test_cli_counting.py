"""How far a job is: silent while it is short, a line every tenth, a bar in a terminal."""

from __future__ import annotations

import pytest

from reverie.cli.counting import counted


class Clock:
    """Time that stands still until it is told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def told(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines on standard error; standard output stays clean."""
    out, err = capsys.readouterr()
    assert out == ""
    return err.splitlines()


def test_a_short_job_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody needs to know how far a job of a second was."""
    with counted("exporting", clock=Clock()) as tell:
        for done in range(101):
            tell(done, 100)
    assert told(capsys) == []


def test_a_line_every_tenth_with_the_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    """From two seconds on; the last one has nothing left."""
    clock = Clock()
    with counted("comparing", clock=clock) as tell:
        for done in range(0, 2001, 50):
            clock.now = done / 100
            tell(done, 2000)
    lines = told(capsys)
    assert lines[0] == "comparing: 200 of 2,000, 0:18 left"
    assert (len(lines), lines[-1]) == (10, "comparing: 2,000 of 2,000")


def test_a_second_job_of_the_same_kind_counts_anew(capsys: pytest.CaptureFixture[str]) -> None:
    """Its time left does not count what the first one took."""
    clock = Clock()
    with counted("comparing", clock=clock) as tell:
        tell(10, 10)
        clock.now = 100.0
        tell(1, 40)
        clock.now = 110.0
        tell(20, 40)
    assert told(capsys) == ["comparing: 20 of 40, 0:10 left"]


def test_nothing_to_do_is_no_tenth(capsys: pytest.CaptureFixture[str]) -> None:
    """None of none is told without a line."""
    clock = Clock()
    with counted("exporting", clock=clock) as tell:
        clock.now = 9.0
        tell(0, 0)
    assert told(capsys) == []


def test_a_bar_in_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is drawn on standard error, with what is going on."""
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("TTY_INTERACTIVE", "1")
    monkeypatch.setenv("TERM", "xterm")
    with counted("exporting") as tell:
        tell(1, 2)
        tell(2, 2)
    assert any("exporting" in line for line in told(capsys))
