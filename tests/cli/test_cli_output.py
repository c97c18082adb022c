"""How the commands speak: one safe line for any text, tables that fit, sizes, paths."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from reverie.cli.output import (
    Column,
    complain,
    count,
    facts,
    json_line,
    near,
    plain,
    print_table,
    show,
    size,
    when,
)

ANY_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@given(st.text())
def test_plain_is_one_printable_line(text: str) -> None:
    """Whatever the text, what is shown is one line without control characters."""
    shown = plain(text)
    assert all(c.isprintable() or c == "\N{ZERO WIDTH JOINER}" for c in shown)
    assert len(shown.splitlines()) <= 1


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("  two\n words\t", "two words"),
        ("[red]x[/red]", "[red]x[/red]"),
        (":smile: 夜", ":smile: 夜"),
        ("\x1b]0;title\x07", "\N{REPLACEMENT CHARACTER}]0;title\N{REPLACEMENT CHARACTER}"),
        ("👩\N{ZERO WIDTH JOINER}🎨", "👩\N{ZERO WIDTH JOINER}🎨"),
    ],
)
def test_plain_keeps_what_is_harmless(text: str, shown: str) -> None:
    """Markup, emoji codes and joined emoji stay; white space is folded, control characters replaced."""
    assert plain(text) == shown


@ANY_FOLDER
@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs", "Cc", "Cf", "Zl", "Zp"]), max_size=200), max_size=4
    )
)
def test_a_table_fits_whatever_it_holds(capsys: pytest.CaptureFixture[str], texts: list[str]) -> None:
    """With any text in its flexible column a table takes one line a row and at most 80 columns."""
    capsys.readouterr()
    print_table([Column("id"), Column("prompt", flexible=True)], [["cache_00001", text] for text in texts])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(texts) + 1
    assert max(map(cell_len, lines)) <= 80


def test_a_wrapping_column_goes_on_below(capsys: pytest.CaptureFixture[str]) -> None:
    """A column that wraps loses nothing and stays within the width."""
    words = "word " * 40
    print_table([Column("id"), Column("about", wraps=True)], [["a", words]])
    out = capsys.readouterr().out
    assert out.count("word") == 40
    assert max(map(cell_len, out.splitlines())) <= 80


def test_numbers_stand_to_the_right(capsys: pytest.CaptureFixture[str]) -> None:
    """A right column is aligned at its end, and no line ends in blanks."""
    print_table([Column("n", right=True), Column("x")], [["1", "a"], ["100", ""]])
    assert capsys.readouterr().out == "  n  x\n  1  a\n100\n"


def test_facts_align_and_fold(capsys: pytest.CaptureFixture[str]) -> None:
    """Values begin in one column; a value without blanks is folded, not cut."""
    show(facts([("a", "1"), ("label", "x" * 100), ("", "[b]2[/b]")]))
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["a      1", "label  " + "x" * 73, "       " + "x" * 27, "       [b]2[/b]"]


@pytest.mark.parametrize(
    ("count_of_bytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (9949, "9.9 kB"),
        (9950, "10 kB"),
        (999_499, "999 kB"),
        (999_500, "1.0 MB"),
        (3_400_000_000, "3.4 GB"),
        (5 * 10**15, "5000 TB"),
    ],
)
def test_size(count_of_bytes: int, text: str) -> None:
    """Three digits at most and the unit that needs fewest, up to TB."""
    assert size(count_of_bytes) == text


def test_count() -> None:
    """One, several, and an irregular plural."""
    words = [
        count(1, "image"),
        count(1200, "image"),
        count(2, "entry", "entries"),
        count(1, "entry", "entries"),
    ]
    assert words == ["1 image", "1,200 images", "2 entries", "1 entry"]


def test_when() -> None:
    """A time to the minute; what is no time stays harmless."""
    assert when("2025-11-08T09:15:00.123") == "2025-11-08 09:15"
    assert when("\x1bnever") == "\N{REPLACEMENT CHARACTER}never"


def test_near(own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below this folder relative, below the home folder with ~, elsewhere as it is."""
    monkeypatch.setattr(Path, "home", lambda: Path("/somewhere"))
    assert near(Path("cache")) == "./cache"
    assert near(own_folder / "cache" / "images") == "cache/images"
    assert near(Path("/somewhere/reverie")) == "~/reverie"
    assert near(Path("/elsewhere/reverie")) == "/elsewhere/reverie"


def test_complain_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """An error with line breaks becomes one line on standard error."""
    complain("a\nb")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "reverie: a b\n")


def test_json_refuses_what_json_cannot_hold() -> None:
    """NaN never leaves as a word that no JSON reader knows."""
    with pytest.raises(ValueError, match="JSON"):
        json_line(float("nan"))
