"""Conditions on entries, as text and as values; the indexes' own tests ask them of real entries."""

from __future__ import annotations

import math
from typing import Any

import pytest

from reverie.errors import InputError
from reverie.query import Where, json_path, param, phrases, tokens
from reverie.testing.samples import record


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("red fox", [(("red",), False), (("fox",), False)]),
        ('"red fox" SEA', [(("red", "fox"), False), (("sea",), False)]),
        ("fo*", [(("fo",), True)]),
        ('"red fo*"', [(("red", "fo"), True)]),
        ("o'clock f/8", [(("o", "clock"), False), (("f", "8"), False)]),
        ('  ... "" - ', []),
        ('"open end', [(("open", "end"), False)]),
        ("snow_white", [(("snow", "white"), False)]),
    ],
)
def test_words_and_phrases(words: str, expected: list[Any]) -> None:
    """Quotes hold words together, a star leaves the end open, all else separates."""
    assert phrases(words) == expected


def test_case_and_accents_do_not_matter() -> None:
    """Nor does how an accent is written."""
    assert tokens("\u00c9COLE e\u0301cole \u0416\u0410\u0420 42") == [
        "ecole",
        "ecole",
        "\u0436\u0430\u0440",
        "42",
    ]


@pytest.mark.parametrize(
    ("path", "steps"),
    [
        ("steps", ["steps"]),
        ("sampler.name", ["sampler", "name"]),
        ("loras[0].name", ["loras", 0, "name"]),
        ("a b[12][3]", ["a b", 12, 3]),
        ("cfg-scale", ["cfg-scale"]),
    ],
)
def test_paths_to_parameters(path: str, steps: list[Any]) -> None:
    """Keys by dots, places in brackets."""
    assert json_path(path) == steps


@pytest.mark.parametrize("path", ["", ".", "a.", ".a", "a..b", "[0]", "a[x]", "a[0", 'a"b', "a]b"])
def test_what_is_no_path_is_refused(path: str) -> None:
    """With examples of what is one."""
    with pytest.raises(InputError, match=r"no path to a parameter: such are steps"):
        Where(params={path: 1})


@pytest.mark.parametrize("value", [[1], {"a": 1}, math.nan, math.inf, b"x", object()])
def test_what_cannot_be_compared_is_refused(value: Any) -> None:
    """Only single values are."""
    with pytest.raises(InputError, match="'steps' is compared with text, a number, true, false or null"):
        Where(params={"steps": value})


def test_words_without_a_word_are_refused() -> None:
    """Nothing would be found, or everything: neither was meant."""
    with pytest.raises(InputError, match="holds no word"):
        Where("?!")


def test_no_condition_is_false_and_holds_for_all() -> None:
    """So that a caller can pass it on."""
    assert not Where()
    assert Where().holds(record(1))
    for each in (Where("a"), Where(params={"a": 1}), Where(since=0), Where(pinned=False), Where(encoder="x")):
        assert each


@pytest.mark.parametrize(
    ("path", "expected"),
    [("a", 1), ("b.c", [5, {"d": 6}]), ("b.c[1].d", 6), ("b.c[7]", None), ("a.x", None), ("z[0]", None)],
)
def test_a_value_by_its_path(path: str, expected: Any) -> None:
    """None where the path leads nowhere."""
    assert param({"a": 1, "b": {"c": [5, {"d": 6}]}}, path) == expected
