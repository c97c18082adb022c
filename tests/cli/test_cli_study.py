"""`reverie study`: its options, files and table, and that it goes on where it stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from reverie.study.design import Design

SMALL = [
    "--part", "development", "--arm", "none", "--arm", "wander", "--generator", "latent-50",
    "--pictures", "1", "--loops", "1", "--frames", "6", "--processes", "1",
]  # fmt: skip


def test_a_small_study(own_folder: Path, reverie: Any) -> None:
    """The table on the screen and in the folder; the same command says the same, and runs nothing again."""
    result = reverie("study", *SMALL)
    assert (result.exit_code, result.stdout.splitlines()[0]) == (0, "# Study of injection policies")
    assert result.stderr.splitlines()[-1] == "2 of 2 loops"
    assert result.stdout.splitlines()[-1] == (
        "look at study/study.html, study/study.md, study/study.json, study/trials"
    )
    text = (own_folder / "study" / "study.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert rows == [line for line in result.stdout.splitlines() if line.startswith("|")]
    assert "![" in text
    assert "![" not in result.stdout  # a terminal shows no pictures
    assert sorted(path.name for path in (own_folder / "study").iterdir()) == [
        "plots", "sheets", "study.html", "study.json", "study.md", "trials",
    ]  # fmt: skip
    assert json.loads((own_folder / "study" / "study.json").read_text())["design"]["part"] == "development"
    again = reverie("study", *SMALL)
    assert again.stdout == result.stdout
    assert again.stderr.splitlines()[1:] == ["2 of 2 loops"]


def test_a_look_at_half_a_study(own_folder: Path, reverie: Any) -> None:
    """Nothing is run; the tables and the page are of what is there, and say so."""
    empty = reverie("study", *SMALL, "--no-run")
    assert (empty.exit_code, empty.stderr.count("\n")) == (1, 1)
    assert "study holds no loop of such a study" in empty.stderr
    assert not (own_folder / "study").exists()
    reverie("study", *SMALL)
    trials = own_folder / "study" / "trials"
    next(trials.glob("*_none_*.json")).unlink()
    half = reverie("study", *SMALL, "--no-run")
    assert half.exit_code == 0
    assert half.stderr.splitlines() == ["1 of 2 loops are there: the tables are of these"]
    assert "1 of 2 loops are there" in (own_folder / "study" / "study.html").read_text()
    assert len(list(trials.glob("*.json"))) == 1


@pytest.mark.usefixtures("own_folder")
def test_the_defaults_are_the_whole_held_out_study(reverie: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without options: every arm, generator and number of pictures of the part that is reported."""
    asked: list[Any] = []

    def run_study(design: Design, folder: Path, **_: Any) -> list[Any]:
        folder.mkdir()
        asked.append(design)
        return []

    monkeypatch.setattr("reverie.cli.studying.run_study", run_study)
    assert reverie("study").exit_code == 0
    assert asked == [Design()]


@pytest.mark.usefixtures("own_folder")
def test_a_wrong_name_is_one_line(reverie: Any) -> None:
    """With the names that there are."""
    result = reverie("study", "--arm", "best")
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "no arm is called 'best'; there are: none, spec" in result.stderr
