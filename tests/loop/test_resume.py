"""Going on with a run: bit for bit as if it had never been stopped, wherever that was."""

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest
from loop_fakes import TinyEncoder
from PIL import Image

from reverie import CacheManager
from reverie.errors import InputError
from reverie.loop import arm as arm_module
from reverie.loop.dream import DreamSettings, dream, resume
from reverie.loop.journal import read_journal
from reverie.memory import ImageMemory

FRAMES = 40


@pytest.fixture
def ask(tmp_path):
    """``ask(name, **changes)``: a run of the built-in parts over three small pictures of its own."""
    seeds = tmp_path / "seeds"
    seeds.mkdir()
    for number in range(3):
        rng_colour = (40 + 80 * number, 200 - 60 * number, 30 + 50 * number)
        picture = Image.new("RGB", (40, 40), rng_colour)
        picture.paste((255 - rng_colour[0], rng_colour[2], 90), (5 * number, 8, 20 + 6 * number, 30))
        picture.save(seeds / f"{number}.png")

    def make(name, **changes):
        given = {"frames": FRAMES, "seeds": seeds, "size": 32, "seed": 3, **changes}
        return DreamSettings(tmp_path / name, **given)

    return make


def everything(folder):
    """All of a run that does not depend on the clock: pictures, vectors, lines, and the memory's entries."""
    found = {}
    for arm in ("without", "with"):
        for path in sorted((folder / arm).rglob("*.png")):
            if "cache" not in path.parts:
                found[str(path.relative_to(folder))] = path.read_bytes()
        lines = read_journal(folder / arm / "journal.jsonl")
        found[arm] = [{key: value for key, value in line.items() if key != "times_ms"} for line in lines]
        found[arm, "vectors"] = (folder / arm / "embeddings.f32").read_bytes()
    with CacheManager(folder / "with" / "cache", max_size=None) as cache:
        found["cache"] = [(each.cache_id, each.generation_params, each.parents) for each in cache]
    return found


def stop_after(count):
    """A callback that is Ctrl-C after so many frames of both loops."""
    calls = []

    def on_frame(done):
        calls.append(done)
        if len(calls) == count:
            raise KeyboardInterrupt

    return on_frame


@pytest.mark.parametrize("policy", ["wander", "restless", "spec", "random"])
def test_a_run_that_was_stopped_often_is_the_run_that_was_not(ask, policy):
    """Pictures, vectors, journal and memory, for policies that cut and policies that take their time."""
    whole = ask("whole", policy=policy)
    dream(whole)
    asked = ask("stopped", policy=policy)
    stops = iter((1, 4, 22, 7, 15, 2, 9))
    result = dream(asked, stop_after(next(stops)))
    while not result.finished:
        result = resume(asked.out, on_frame=stop_after(next(stops, 1000)))
    assert everything(asked.out) == everything(whole.out)
    lines = everything(whole.out)["with"]
    assert any(line["injected"] for line in lines)


def test_the_way_and_what_was_imagined_are_gone_on_with(ask):
    """Stopped at every single frame of a run that imagines and travels."""
    whole = ask("whole", remember_seeds=False, frames=30)
    dream(whole)
    lines = everything(whole.out)["with"]
    assert {line["injected"]["kind"] for line in lines if line["injected"]} >= {"imagined"}
    assert sum(line["towards"] is None and line["arrived"] is False for line in lines) < len(lines)
    asked = ask("stopped", remember_seeds=False, frames=30)
    result = dream(asked, stop_after(1))
    while not result.finished:
        result = resume(asked.out, on_frame=stop_after(2))
    assert everything(asked.out) == everything(whole.out)


@pytest.mark.parametrize(("colour", "policy"), [("soft", "spec"), ("hard", "wander")])
def test_corrections_of_colour_are_gone_on_with(ask, colour, policy):
    """Stopped at nearly every frame; only the arm with memory is put right, both are measured."""
    given = {"policy": policy, "colour": colour, "remember_seeds": False, "frames": 30, "strength": 0.7}
    whole = ask("whole", **given)
    dream(whole)
    asked = ask("stopped", **given)
    result = dream(asked, stop_after(1))
    while not result.finished:
        result = resume(asked.out, on_frame=stop_after(3))
    assert everything(asked.out) == everything(whole.out)
    without, with_memory = (
        [line["colour"]["corrected"] for line in everything(whole.out)[arm]] for arm in ("without", "with")
    )
    assert set(without) == {None}
    assert any(f"put right ({colour})" in (each or "") for each in with_memory)


def test_a_run_can_be_made_longer(ask):
    """A finished run goes on to more frames, as if more had been asked for at once."""
    dream(ask("long"))
    asked = ask("short", frames=17)
    assert dream(asked).finished
    result = resume(asked.out, frames=FRAMES)
    assert result.finished
    assert [arm["frames"] for arm in result.arms] == [FRAMES, FRAMES]
    assert everything(asked.out) == everything(ask("long").out)


def test_what_was_stored_but_not_recorded_is_not_stored_twice(ask, monkeypatch):
    """Stopped between memory and journal: the entry that is there is taken for the frame made again."""
    whole = ask("whole", policy="spec")
    dream(whole)
    asked = ask("stopped", policy="spec")
    write = arm_module.Journal.write

    def stop(journal, line):
        if line["frame"] == 12 and line["cache_id"] is not None:
            raise KeyboardInterrupt
        write(journal, line)

    monkeypatch.setattr(arm_module.Journal, "write", stop)
    assert not dream(asked).finished
    monkeypatch.undo()
    with CacheManager(asked.out / "with" / "cache", max_size=None) as cache:
        assert max(entry.generation_params["frame"] for entry in cache) == 12
    assert len(read_journal(asked.out / "with" / "journal.jsonl")) == 11
    resume(asked.out)
    assert everything(asked.out) == everything(whole.out)


def test_seeds_that_were_half_remembered_are_not_remembered_twice(ask, monkeypatch):
    """Stopped while the seed pictures were pinned."""
    whole = ask("whole", frames=12)
    dream(whole)
    asked = ask("stopped", frames=12)
    remember, calls = ImageMemory.remember, []

    def stop(memory, *args, **kwargs):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return remember(memory, *args, **kwargs)

    monkeypatch.setattr(ImageMemory, "remember", stop)
    with pytest.raises(KeyboardInterrupt):
        dream(asked)
    monkeypatch.undo()
    resume(asked.out)
    assert everything(asked.out) == everything(whole.out)


def test_a_killed_process_is_gone_on_with(ask, tmp_path):
    """Kill -9 in the middle of a real process's run, twice."""
    whole = ask("whole")
    dream(whole)
    asked = ask("killed")
    code = (
        "import sys, os, signal\n"
        "from reverie.loop.dream import DreamSettings, dream, resume\n"
        "left = [int(sys.argv[3])]\n"
        "def on_frame(done):\n"
        "    left[0] -= 1\n"
        "    if not left[0]: os.kill(os.getpid(), signal.SIGKILL)\n"
        "if sys.argv[4] == 'new':\n"
        "    dream(DreamSettings(sys.argv[1], frames=40, seeds=sys.argv[2], size=32, seed=3), on_frame)\n"
        "else:\n"
        "    resume(sys.argv[1], on_frame=on_frame)\n"
    )
    code = code.replace("DreamSettings(sys.argv[1]", "DreamSettings(__import__('pathlib').Path(sys.argv[1])")
    for left, how in ((23, "new"), (18, "again")):
        done = subprocess.run(
            [sys.executable, "-c", code, str(asked.out), str(tmp_path / "seeds"), str(left), how],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            check=False,
            capture_output=True,
        )
        assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert resume(asked.out).finished
    assert everything(asked.out) == everything(whole.out)


# ---------------------------------------------------------------------------------------- errors


def test_what_is_no_run_is_refused(tmp_path):
    """With what is missing."""
    with pytest.raises(InputError, match=r"no run folder: there is no run\.json"):
        resume(tmp_path)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(InputError, match=r"run\.json is damaged"):
        resume(tmp_path)


def test_a_run_of_an_earlier_version_is_refused(tmp_path):
    """It says which version wrote it; nothing is changed."""
    (tmp_path / "run.json").write_text('{"version": 1, "reverie": "0.1.0", "settings": {}}')
    with pytest.raises(InputError, match=r"cannot be gone on with: reverie 0\.1\.0 wrote it"):
        resume(tmp_path)


def test_other_seed_pictures_are_refused(ask, tmp_path):
    """The frames to come would not be those of the run."""
    asked = ask("run", frames=5)
    dream(asked, stop_after(4))
    Image.new("RGB", (40, 40), "red").save(tmp_path / "seeds" / "1.png")
    before = everything(asked.out)
    with pytest.raises(InputError, match="the seed pictures are not those"):
        resume(asked.out)
    assert everything(asked.out) == before


def test_another_encoder_is_refused(ask):
    """By both names."""
    asked = ask("run", frames=5)
    dream(asked, stop_after(4))
    with pytest.raises(InputError, match=r"begun with the encoder descriptor-v1, this one is tiny-v1"):
        resume(asked.out, encoder=TinyEncoder())


def test_vectors_that_were_cut_are_refused(ask):
    """A file that cannot be the run's is said to be so."""
    asked = ask("run", frames=5)
    dream(asked, stop_after(6))
    path = asked.out / "with" / "embeddings.f32"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match=r"embeddings\.f32 holds 25 numbers"):
        resume(asked.out)


def test_two_processes_do_not_write_one_run(ask, tmp_path):
    """The second is told so, and the first goes on."""
    asked = ask("run", frames=6)
    said = []

    def second(done):
        if done.frame == 2 and not said:
            with pytest.raises(InputError, match="another process is dreaming into") as caught:
                resume(asked.out)
            said.append(caught)

    assert dream(asked, second).finished
    assert said
    assert not (asked.out / "run.lock").exists()


def test_run_json_says_how_to_go_on(ask):
    """What was asked, the pictures' digest and when it was begun outlast every stop."""
    asked = ask("run", frames=6)
    dream(asked, stop_after(3))
    first = json.loads((asked.out / "run.json").read_text())
    resume(asked.out)
    last = json.loads((asked.out / "run.json").read_text())
    for key in ("created", "asked", "seeds_digest", "settings", "command"):
        assert last[key] == first[key]
    assert last["elapsed_s"] >= first["elapsed_s"]
    assert (first["finished"], last["finished"]) == (False, True)


def test_a_run_that_was_moved_goes_on(ask, tmp_path):
    """Nothing in it names where it was."""
    dream(ask("whole", frames=20))
    asked = ask("run", frames=20)
    dream(asked, stop_after(25))
    shutil.move(asked.out, tmp_path / "elsewhere")
    resume(tmp_path / "elsewhere")
    assert everything(tmp_path / "elsewhere") == everything(tmp_path / "whole")


def test_a_finished_run_is_left_as_it_is(ask):
    """Resuming it makes nothing new."""
    asked = ask("run", frames=5)
    dream(asked)
    before = everything(asked.out)
    assert resume(asked.out).finished
    assert everything(asked.out) == before
