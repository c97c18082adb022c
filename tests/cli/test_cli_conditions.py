"""Which entries a command is about: words, parameters, time, pins."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cli_runs import Run

from reverie import CacheManager
from reverie.cache.aesthetic_matcher import AestheticMatcher


@pytest.fixture
def foxes(own_folder: Path, png: Callable[..., Path]) -> list[str]:
    """``./cache`` with five entries: prompts, parameters, a pin, the last without a vector."""
    matcher = AestheticMatcher("descriptor")
    known = [
        ("a red fox in the snow", {"steps": 4, "sampler": {"name": "euler"}}),
        ("the sea", {"steps": 4}),
        ("two foxes, red and blue", {"steps": 8, "hires": True}),
        ("a fox, red", {"steps": 8, "sampler": {"name": "ddim"}}),
        ("snow", {}),
    ]
    with CacheManager("cache") as cache:
        return [
            cache.add(
                png(f"fox-{seed}.png", seed),
                prompt,
                params,
                matcher.encode_image(png(f"fox-{seed}.png", seed)) if seed < 4 else None,
                pinned=seed == 3,
            )
            for seed, (prompt, params) in enumerate(known)
        ]


def listed(run: Run, *arguments: object) -> list[int]:
    """Numbers of the entries that a command prints as JSON."""
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return [int(json.loads(line)["cache_id"][-5:]) for line in result.stdout.splitlines()]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--words", "fox"], [1, 4]),
        (["--words", "fox*"], [1, 3, 4]),
        (["--words", '"red fox"'], [1]),
        (["--has", "steps=4"], [1, 2]),
        (["--has", "sampler.name=euler"], [1]),
        (["--has", "hires=true"], [3]),
        (["--has", "steps=8", "--has", "sampler=null"], [3]),
        (["--has", 'steps="8"'], []),
        (["--pinned"], [4]),
        (["--not-pinned", "--words", "red"], [1, 3]),
        (["--since", "1h"], [1, 2, 3, 4, 5]),
        (["--since", "2100-01-01"], []),
        (["--until", "2100-01-01T00:00"], [1, 2, 3, 4, 5]),
        (["--until", "3d"], []),
        (["--words", "red", "--limit", "2"], [3, 4]),
    ],
)
def test_list_takes_conditions(
    foxes: list[str], reverie: Run, options: list[str], expected: list[int]
) -> None:
    """All of them hold; the newest of those that fit; oldest first."""
    assert listed(reverie, "cache", "list", *options) == expected


def test_the_newest_of_what_fits_is_found_first(foxes: list[str], reverie: Run) -> None:
    """By time, to the second."""
    with CacheManager("cache") as cache:
        second = datetime.fromisoformat(cache.peek(foxes[1:2])[0].timestamp)
    cut = (second + timedelta(microseconds=1)).isoformat()
    assert listed(reverie, "cache", "list", "--until", cut) == [1, 2]
    assert listed(reverie, "cache", "list", "--since", cut) == [3, 4, 5]


@pytest.mark.parametrize("command", ["similar", "search"])
def test_similar_and_search_look_among_what_fits(foxes: list[str], reverie: Run, command: str) -> None:
    """The most similar of those, as many as were asked for."""
    query = [foxes[1]] if command == "similar" else ["--plus", foxes[1]]
    everything = listed(reverie, "cache", command, *query, "-k", 4)
    assert sorted(everything) == [1, 3, 4]
    fitting = [number for number in everything if number != 1]
    assert listed(reverie, "cache", command, *query, "-k", 4, "--has", "steps=8") == fitting
    assert listed(reverie, "cache", command, *query, "-k", 1, "--words", '"red fox"') == [1]
    assert listed(reverie, "cache", command, *query, "--words", "whale") == []
    said = reverie("cache", command, *query, "--words", "whale")
    assert (said.exit_code, "nothing in this cache is that similar" in said.stdout) == (0, True)


def test_the_table_says_how_many_fit(foxes: list[str], reverie: Run) -> None:
    """Beside how many there are."""
    assert "2 that fit, of 5 entries" in reverie("cache", "list", "--words", "fox").stdout
    assert "the newest 1 that fit, of 5" in reverie("cache", "list", "--words", "fox", "--limit", 1).stdout
    assert "none fits, of 5 entries" in reverie("cache", "list", "--words", "whale").stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--words", "..."], "holds no word to look for"),
        (["--words", " "], "--words is empty"),
        (["--has", "steps"], "has no =: write it as steps=4"),
        (["--has", "a..b=1"], "no path to a parameter: such are steps"),
        (["--has", "steps=[1]"], "is compared with text, a number"),
        (["--since", "yesterday"], "is no time: such are 2025-11-08"),
        (["--until=-3d"], "is no time"),
    ],
)
def test_wrong_conditions_are_wrong_usage(
    foxes: list[str], reverie: Run, options: list[str], message: str
) -> None:
    """One line that says what would be right."""
    result = reverie("cache", "list", *options)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
