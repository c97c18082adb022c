"""Prompts in turn, with choices and wildcards."""

from collections import Counter

import pytest

from reverie.errors import InputError
from reverie.loop.prompts import PromptSchedule, read_prompts, read_wildcards


def test_one_prompt_is_held():
    """For ever."""
    schedule = PromptSchedule(["a rose"])
    assert {schedule.at(frame) for frame in (1, 2, 1000)} == {"a rose"}


def test_prompts_in_turn():
    """Each for so many frames, over and over, counted from the first that is made."""
    schedule = PromptSchedule(["a", "b", "c"], every=2)
    assert "".join(schedule.at(frame) for frame in range(1, 14)) == "aabbccaabbcca"


def test_choices_are_drawn_anew_at_each_turn_and_held_through_it():
    """By the seed and the turn alone: whoever asks, in whatever order, gets the same."""
    schedule = PromptSchedule(["{dawn|noon|night} at {sea|the {old|new} harbour}"], every=3, seed=4)
    seen = [schedule.at(frame) for frame in range(1, 301)]
    assert all(len({*seen[at : at + 3]}) == 1 for at in range(0, 300, 3))
    counts = Counter(text.split(" at ")[0] for text in seen)
    assert set(counts) == {"dawn", "noon", "night"}
    assert min(counts.values()) > 60
    assert {text.split(" at ")[1] for text in seen} == {"sea", "the old harbour", "the new harbour"}
    assert [schedule.at(frame) for frame in range(300, 0, -1)] == seen[::-1]
    assert [PromptSchedule(schedule.prompts, every=3, seed=5).at(n) for n in range(1, 301)] != seen


def test_wildcards_may_hold_others(tmp_path):
    """Lines of files, with choices and wildcards in them."""
    (tmp_path / "places").mkdir()
    (tmp_path / "places" / "sea.txt").write_text(
        "\ufeff# where\n\na __light__ bay\nopen sea\n", encoding="utf-8"
    )
    (tmp_path / "light.txt").write_text("{pale|golden}\n")
    (tmp_path / "notes.md").write_text("no wildcard")
    wildcards = read_wildcards(tmp_path)
    assert wildcards == {"light": ["{pale|golden}"], "places/sea": ["a __light__ bay", "open sea"]}
    schedule = PromptSchedule(["__places/sea__, mist"], every=1, wildcards=wildcards)
    assert {schedule.at(frame) for frame in range(1, 80)} == {
        "a pale bay, mist",
        "a golden bay, mist",
        "open sea, mist",
    }


def test_what_is_no_choice_stays():
    """Escaped braces, single underscores, a line between words, emphasis in brackets."""
    schedule = PromptSchedule([r"a \{ brace \} and \\ (light:1.2) a|b snake_case __"])
    assert schedule.at(1) == r"a { brace } and \ (light:1.2) a|b snake_case __"
    drawn = PromptSchedule(["{__a__|__a__}"], every=1, wildcards={"a": [r"x|\{y\}"]})
    assert drawn.at(1) == "x|{y}"
    assert PromptSchedule(["{|blue} rose"]).at(1) in (" rose", "blue rose")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"prompts": []}, "at least one text"),
        ({"prompts": "a rose"}, "at least one text"),
        ({"prompts": [3]}, "a prompt must be text, got 3"),
        ({"prompts": ["a", "b"]}, "every=N"),
        ({"prompts": ["a"], "every": 0}, "every"),
        ({"prompts": ["a"], "seed": -1}, "seed"),
        ({"prompts": ["a {b|c"]}, r"a brace is not closed: 'a \{b\|c'"),
        ({"prompts": ["a b}"]}, "never opened"),
        ({"prompts": ["__sky__"]}, "no wildcard is called 'sky'; there are: none"),
        ({"prompts": ["{__sky__|a}"], "wildcards": {"sea": ["x"]}}, "there are: sea"),
        ({"prompts": ["__a__"], "wildcards": {"a": ["__b__"], "b": ["__a__"]}}, "a > b > a"),
        ({"prompts": ["__a__"], "wildcards": {"a": ["x", "{y"]}}, r"not closed: '\{y'"),
    ],
)
def test_mistakes_are_told_before_anything_is_made(given, says):
    """Also in a line that might never be drawn."""
    with pytest.raises(InputError, match=says):
        PromptSchedule(**given)


def test_a_file_of_prompts(tmp_path):
    """One a line."""
    path = tmp_path / "prompts.txt"
    path.write_text("# a comment\n a rose \r\n\nthe sea\n", encoding="utf-8")
    assert read_prompts(path) == ["a rose", "the sea"]
    path.write_text("# nothing\n")
    with pytest.raises(InputError, match="there is no prompt in"):
        read_prompts(path)
    with pytest.raises(InputError, match="no file at"):
        read_prompts(tmp_path / "other.txt")
    path.write_bytes(b"a \xff rose")
    with pytest.raises(InputError, match=r"is no text in UTF-8: .* at byte 2"):
        read_prompts(path)
    with pytest.raises(InputError, match="no folder at"):
        read_wildcards(path)
