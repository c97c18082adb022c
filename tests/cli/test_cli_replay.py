"""`reverie replay`: its table, its files, and what it says of what cannot be replayed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from cli_runs import Run, widest

import reverie.generators
from reverie.loop.dream import DreamSettings, dream
from reverie.loop.journal import read_journal

DASH = "\N{EN DASH}"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 30 small frames."""
    folder = tmp_path_factory.mktemp("recorded")
    seeds = folder / "pictures"
    seeds.mkdir()
    for name in ("aurora-1", "city-1", "flower-1", "rings-1"):
        shutil.copy(Path(reverie.generators.__path__[0]) / "seeds" / f"{name}.webp", seeds)
    dream(DreamSettings(folder / "run", frames=30, seeds=seeds, size=32, seed=3))
    return folder / "run"


@pytest.fixture
def run(recorded: Path, own_folder: Path) -> Path:
    """That run, in this folder."""
    shutil.copytree(recorded, own_folder / "run")
    return own_folder / "run"


def row(text: str, name: str) -> list[str]:
    """The figures of one line of the table."""
    line = next(line for line in text.splitlines() if line.startswith(name))
    return line.removeprefix(name).replace(" %", "%").split()


def test_the_recorded_policy_is_the_first_row_and_its_own_replay_the_same(run: Path, reverie: Run) -> None:
    """The same figures, in full agreement, exact to the end; other policies differ from somewhere on."""
    lines = read_journal(run / "with" / "journal.jsonl")
    first = next(line["frame"] for line in lines if line["injected"])
    done = reverie("replay", "run", "--policy", "wander", "--policy", "spec")
    assert done.exit_code == 0
    assert widest(done.stdout) <= 80
    recorded = row(done.stdout, "recorded: wander")
    assert recorded[0] == str(sum(line["cache_id"] is not None for line in lines))
    assert recorded[5:] == [str(sum(line["injected"] is not None for line in lines)), DASH, DASH]
    assert row(done.stdout, "wander  ") == [*recorded[:6], "100%", "30"]
    spec = row(done.stdout, "spec  ")
    assert (spec[0], spec[3:6], spec[-1]) == ("30", [DASH, DASH, "2"], str(first))
    assert "Open loop: the frames are as they were recorded" in done.stdout
    assert done.stderr.splitlines() == [f"replaying 30 frames through {name}" for name in ("wander", "spec")]


def test_a_single_policy_says_what_it_wanted_and_why(run: Path, reverie: Run) -> None:
    """Frame, picture and reason of each injection."""
    lines = [line for line in read_journal(run / "with" / "journal.jsonl") if line["injected"]]
    done = reverie("replay", run / "with" / "journal.jsonl", "--policy", "wander")
    table = done.stdout.partition("wander wanted")[2].splitlines()[1:]
    shown = [line.split()[:2] for line in table if line[:13].strip().isdigit()]
    wanted = [[str(line["frame"]), line["injected"]["source"].partition(".")[0]] for line in lines]
    assert shown == wanted
    assert "the last frames are alike" in " ".join(done.stdout.split())


def test_a_dozen_injections_are_listed(run: Path, reverie: Run) -> None:
    """And how many more there are."""
    options = ["--policy", "restless", "--option", "frames=1", "--option", "on=-0.9", "--option", "off=-1"]
    text = reverie("replay", "run", "--arm", "without", *options).stdout
    table = text.partition("restless wanted")[2].splitlines()
    assert len([line for line in table if line[:15].strip().isdigit()]) == 12
    wanted = int(row(text, "restless  ")[5])
    assert f"and {wanted - 12} more; --out DIR writes every frame with its reason" in table


def test_several_evictions_side_by_side(run: Path, reverie: Run) -> None:
    """Each policy with each, in places as few as are asked for."""
    options = ["--policy", "none", "--eviction", "oldest", "--eviction", "rke", "--max-size", "8"]
    done = reverie("replay", "run", *options, "--admission", "none", "--arm", "without", "--remember-seeds")
    assert done.exit_code == 0
    assert "recorded: none" in done.stdout
    for name in ("none/oldest", "none/rke"):
        assert row(done.stdout, f"{name}  ")[:2] == ["30", "26"]
    assert "none/rke: 4 seeds, every frame, 8 places, rke" in done.stdout


def test_json_and_files_say_the_same(run: Path, own_folder: Path, reverie: Run) -> None:
    """One document on standard output, and in the folder with a line a frame."""
    options = ["--policy", "gentle", "--option", "cooldown=3", "--option", "path=ramp", "--seed", "9"]
    done = reverie("replay", "run", *options, "--out", "out", "--json")
    document = json.loads(done.stdout)
    assert document == json.loads((own_folder / "out" / "replay.json").read_text())
    (replayed,) = document["replays"]
    assert (replayed["options"], replayed["seed"]) == ({"cooldown": 3, "path": "ramp"}, 9)
    assert len((own_folder / "out" / "replay.jsonl").read_text().splitlines()) == 30
    told = reverie("replay", "run", *options, "--out", "out").stdout.splitlines()
    assert told[-1] == "look at out/replay.json, out/replay.jsonl"


def test_the_default_policies(run: Path, reverie: Run) -> None:
    """The presets and the specification's, when none is named."""
    done = reverie("replay", "run", "--json")
    names = [each["name"] for each in json.loads(done.stdout)["replays"]]
    assert names == ["wander", "gentle", "restless", "spec"]


def test_what_could_not_be_imagined_is_said(run: Path, reverie: Run) -> None:
    """A memory stands for it, and the table says so."""
    done = reverie("replay", "run", "--arm", "without", "--policy", "wander", "--option", "fresh=2.0")
    assert " or new " in done.stdout
    assert "or new: something new would have been imagined as well" in done.stdout
    assert widest(done.stdout) <= 80


def test_a_policy_that_wants_nothing(run: Path, reverie: Run) -> None:
    """Its table of wishes is left out."""
    done = reverie("replay", "run", "--policy", "none")
    assert (done.exit_code, "wanted  " in done.stdout, "none wanted" in done.stdout) == (0, True, False)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["nowhere"], 1, "nowhere: no such file or folder"),
        (["run", "--policy", "wnder"], 1, "no injection policy is called 'wnder'; there are: gentle, none"),
        (["run", "--eviction", "fifo"], 1, "no eviction policy is called 'fifo'; there are: lru, maxmin"),
        (["run", "--encoder", "eye"], 1, "no encoder is called 'eye'"),
        (["run", "--arm", "third"], 1, "has no loop 'third'; there are: without, with"),
        (["run", "--option", "cooldown"], 2, "'cooldown' is not key=value, such as cooldown=30"),
        (["run", "--option", "cooldown=3"], 1, "the injection policy 'spec' cannot be made like that"),
        (["run", "--admission", "few"], 2, "'few' is neither a cosine nor none"),
        (["run", "--admission", "3"], 1, "threshold is a cosine, -1 to 1, got 3.0"),
        (["run", "--policy", "wander", "--max-size", "4"], 1, "4 places are too few: 4 seed pictures"),
        (["run", "--out", "run/with/replay"], 1, "is part of what was recorded"),
    ],
)
@pytest.mark.usefixtures("run")
def test_what_cannot_be_replayed_is_one_line(
    arguments: list[str], code: int, said: str, reverie: Any, own_folder: Path
) -> None:
    """With what was wrong and what there is; nothing is written."""
    done = reverie("replay", *arguments)
    errors = [line for line in done.stderr.splitlines() if line.startswith("reverie: ")]
    assert (done.exit_code, done.stdout, len(errors)) == (code, "", 1)
    assert said in errors[0]
    assert [path.name for path in own_folder.iterdir()] == ["run"]


def test_a_damaged_line_is_named(run: Path, reverie: Run) -> None:
    """By its number."""
    journal = run / "with" / "journal.jsonl"
    lines = journal.read_text().splitlines()
    journal.write_text("\n".join([*lines[:6], lines[6][:20], *lines[7:]]) + "\n")
    done = reverie("replay", "run")
    assert (done.exit_code, "line 7: not JSON" in done.stderr) == (1, True)
