"""Recorded frames through other policies; the same policy says of them what was recorded."""

import json
import shutil
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from loop_fakes import TinyEncoder

import reverie.generators
from reverie.errors import InputError, UnknownNameError
from reverie.loop.dream import DreamSettings, dream
from reverie.loop.journal import read_journal
from reverie.loop.presets import PRESETS, MemorySettings
from reverie.loop.recording import open_recording
from reverie.loop.replay import (
    OPEN_LOOP,
    ReplaySettings,
    check_folder,
    promised_alarms,
    recorded_figures,
    replay,
    states,
    suits,
    summary,
    write_replays,
)
from reverie.pixels import to_pixels

FRAMES = 48


@pytest.fixture(scope="module")
def ask(tmp_path_factory):
    """``ask(policy, **changes)``: a run over four small pictures; made once, never written to."""
    folder = tmp_path_factory.mktemp("recorded")
    seeds = folder / "pictures"
    seeds.mkdir()
    built_in = Path(reverie.generators.__path__[0]) / "seeds"
    for name in ("aurora-1", "city-1", "flower-1", "rings-1"):
        shutil.copy(built_in / f"{name}.webp", seeds)
    made = {}

    def make(policy, **changes):
        key = (policy, *sorted(changes.items()))
        if key not in made:
            made[key] = folder / f"run-{len(made)}"
            given = {"frames": FRAMES, "seeds": seeds, "size": 32, "seed": 3, **changes}
            dream(DreamSettings(made[key], policy=policy, **given))
        return made[key]

    return make


def contents(folder):
    """Every file with its bytes and the time of its last change."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path.relative_to(folder): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def changed_line(folder, number, **changes):
    """Write other values into one line of the journal."""
    path = folder / "journal.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[number - 1] |= changes
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.mark.parametrize(
    ("policy", "changes"),
    [
        ("wander", {}),
        ("restless", {}),
        ("gentle", {}),
        ("spec", {"frames": 84}),  # more than there are places
        ("random", {"remember_seeds": True}),
        ("wander", {"remember_seeds": False}),
        ("none", {"frames": 12}),
    ],
)
def test_the_same_policy_does_at_every_frame_what_was_recorded(ask, policy, changes):
    """What is kept, decided and why, and where the loop goes, also past injections and imagined pictures."""
    folder = ask(policy, **changes)
    recording = open_recording(folder)
    again = replay(recording, ReplaySettings(policy))
    lines = read_journal(folder / "with" / "journal.jsonl")
    for line, frame in zip(lines, again.frames, strict=True):
        injected, numbers = line["injected"], dict(line["numbers"])
        if injected is None or injected["kind"] == "memory":
            numbers.pop("imagined", None)  # what was imagined in vain is not recorded
        assert frame.stored == line["stored"]
        assert (frame.kept, frame.reason, frame.numbers) == (
            line["cache_id"] is not None,
            line["reason"],
            numbers,
        )
        assert (frame.wants, frame.target) == (injected is not None, injected and injected["source"])
        assert (asdict(frame.state), float(frame.alarms)) == (line["loop"], line["measures"]["alarms"])
        assert (frame.way != "assumed", frame.imagines) == (True, False)
    assert again.figures == recorded_figures(recording)
    assert asdict(again.agreement) == {"kept": 1.0, "wanted": 1.0, "both": 1.0}
    assert again.exact_to == len(lines)


def test_the_runs_above_inject_and_imagine(ask):
    """They are worth comparing: memories and something new are gone to, at some distance."""
    kinds = set()
    for folder in (ask("wander"), ask("wander", remember_seeds=False)):
        lines = read_journal(folder / "with" / "journal.jsonl")
        kinds |= {line["injected"]["kind"] for line in lines if line["injected"]}
    assert kinds == {"memory", "imagined"}


def test_before_an_injection_the_loop_without_memory_is_the_same_loop(ask):
    """Its replay makes the very first decision of the loop with memory, and is exact up to there."""
    folder = ask("wander")
    first = next(line for line in read_journal(folder / "with" / "journal.jsonl") if line["injected"])
    again = replay(open_recording(folder, "without"), ReplaySettings("wander"))
    wanted = next(frame for frame in again.frames if frame.wants)
    assert (wanted.frame, wanted.target) == (first["frame"], first["injected"]["source"])
    assert (wanted.reason, wanted.numbers) == (first["reason"], first["numbers"])
    assert again.exact_to == wanted.frame


@pytest.mark.parametrize("arm", ["with", "without"])
@pytest.mark.parametrize(
    ("policy", "changes"), [("gentle", {}), ("restless", {}), ("spec", {"frames": 84}), ("wander", {})]
)
def test_up_to_where_it_is_exact_it_is_what_really_happens(ask, arm, policy, changes):
    """A run with that policy has the same frames up to there, and does with them what the replay says."""
    recording = open_recording(ask("wander"), arm)
    again = replay(recording, ReplaySettings(policy))
    real = ask(policy, **changes) / "with"
    lines = read_journal(real / "journal.jsonl")[: again.exact_to]
    assert len(lines) == again.exact_to > 0
    for line, frame in zip(lines, again.frames, strict=False):
        assert (frame.stored, frame.reason, frame.wants) == (
            line["stored"],
            line["reason"],
            line["injected"] is not None,
        )
        assert frame.target == (line["injected"] and line["injected"]["source"])
        assert np.array_equal(to_pixels(real / line["image"]), to_pixels(recording.folder / line["image"]))


def test_nothing_that_was_recorded_is_touched(ask, tmp_path):
    """Not a byte, and no file more, whatever is replayed and written."""
    folder = ask("wander")
    before = contents(folder)
    recording = open_recording(folder)
    done = [replay(recording, ReplaySettings(name)) for name in ("wander", "spec")]
    write_replays(tmp_path / "out", recording, done)
    assert contents(folder) == before


def test_the_same_replay_gives_the_same(ask):
    """Frame by frame, with the caller's seed; another seed may choose otherwise."""
    recording = open_recording(ask("wander"), "without")
    frames = [replay(recording, ReplaySettings("random", seed=seed)).frames for seed in (5, 5, 6)]
    assert frames[0] == frames[1]
    assert frames[0] != frames[2]


def test_a_way_that_was_not_recorded_is_taken_to_last_as_planned(ask):
    """So many frames that are not kept and not decided about; then the cooldown counts."""
    recording = open_recording(ask("wander"), "without")
    again = replay(recording, ReplaySettings("wander", {"frames": 5, "cooldown": 4, "longest": 30}))
    wanted = [frame.frame for frame in again.frames if frame.wants]
    ways = [frame for frame in again.frames if frame.way == "assumed"]
    first = wanted[0]
    assert [frame.frame for frame in ways][:5] == [first + each for each in range(1, 6)]
    assert not any(frame.kept or frame.wants for frame in ways)
    assert [later - earlier for earlier, later in pairwise(wanted)] == [8] * (len(wanted) - 1)
    assert len(wanted) > 2


def test_memories_differ_in_what_they_keep(ask):
    """Admission and room as asked for; what had to go is named by its picture."""
    recording = open_recording(ask("wander"), "without")
    keep_all = MemorySettings("oldest", None, False)
    again = replay(recording, ReplaySettings("none", memory=keep_all, max_size=10))
    assert (again.figures.kept, again.figures.evicted, again.figures.remembered) == (FRAMES, FRAMES - 10, 10)
    assert again.frames[10].evicted == ("frames/000001.png",)
    assert (again.frames[10].stored, again.frames[9].stored) == ("replaced", "new")
    strict = replay(recording, ReplaySettings("none", memory=MemorySettings("oldest", 0.5, False)))
    assert 0 < strict.figures.kept < FRAMES
    assert "above 0.5" in next(frame.admission for frame in strict.frames if not frame.kept)


def test_an_admission_names_pictures(ask):
    """Ids of a memory that is gone afterwards would say nothing."""
    again = replay(open_recording(ask("wander")), ReplaySettings("wander"))
    said = [frame.admission for frame in again.frames if frame.admission]
    assert "(seeds/00" in said[0]
    assert [text for text in said if "cache_" in text] == []


def test_what_would_have_been_imagined_cannot_be_known(ask):
    """Without anything to remember the way leads somewhere unknown; else a memory stands for it."""
    recording = open_recording(ask("wander"), "without")
    empty = MemorySettings("rke", -1.0, False)  # nothing but the first frame is kept, and none of rest
    again = replay(recording, ReplaySettings("wander", {"rest": 500}, empty))
    wanted = [frame for frame in again.frames if frame.wants]
    assert wanted[0].imagines
    assert (wanted[0].target, wanted[0].similarity) == (None, None)
    assert again.figures.imagined == len(wanted)
    assert wanted[1].frame - wanted[0].frame >= PRESETS["wander"].transition.frames
    fallen_back = replay(recording, ReplaySettings("wander", {"fresh": 2.0}))
    first = next(frame for frame in fallen_back.frames if frame.wants)
    assert (first.imagines, first.target is None) == (True, False)


def test_seeds_are_remembered_as_the_run_did_or_as_suits_the_policy(ask):
    """And never where there are none."""
    with_seeds, without = open_recording(ask("wander")), open_recording(ask("wander", remember_seeds=False))
    cases = [(with_seeds, "wander"), (with_seeds, "spec"), (without, "wander"), (without, "gentle")]
    assert [suits(*case).remember_seeds for case in cases] == [True, False, False, False]
    assert suits(open_recording(ask("random", remember_seeds=True)), "random").remember_seeds
    with pytest.raises(InputError, match="holds no seed pictures that could be remembered"):
        replay(without, ReplaySettings("wander", memory=MemorySettings(remember_seeds=True)))
    with pytest.raises(InputError, match="4 places are too few: 4 seed pictures are remembered"):
        replay(with_seeds, ReplaySettings("wander", max_size=4))


def test_a_blend_is_never_kept(ask, tmp_path):
    """It shows two pictures at once: no picture to remember, whoever looks on."""
    folder = tmp_path / "run"
    shutil.copytree(ask("none", frames=12), folder)
    changed_line(folder / "with", 5, shown={"how": "blend", "share": 0.5, "made": 0})
    again = replay(open_recording(folder), ReplaySettings("none"))
    assert [frame.frame for frame in again.frames if not frame.kept] == [5]
    assert again.exact_to == 4  # this policy has no cap: it would have shown something else


def test_another_cap_would_have_shown_other_frames(ask):
    """Exact up to the frame before the first step that is too large for it."""
    recording = open_recording(ask("none", frames=12), "without")
    policy = ReplaySettings("wander", {"cap": 1e-4})
    assert replay(recording, policy).exact_to == 1


def test_names_and_options_that_do_not_exist(ask):
    """Each is said before anything is replayed."""
    recording = open_recording(ask("none", frames=12))
    with pytest.raises(UnknownNameError, match="no injection policy is called 'wnder'; there are: gentle"):
        replay(recording, ReplaySettings("wnder"))
    with pytest.raises(UnknownNameError, match="no eviction policy is called 'fifo'"):
        replay(recording, ReplaySettings("none", memory=MemorySettings("fifo")))
    with pytest.raises(InputError, match="'wander' has no colour"):
        replay(recording, ReplaySettings("wander", {"colour": 1}))
    with pytest.raises(InputError, match="cannot be made with cooldown='long'"):
        replay(recording, ReplaySettings("wander", {"cooldown": "long"}))
    with pytest.raises(InputError, match="seed must be 0 or more, got -1"):
        replay(recording, ReplaySettings("wander", seed=-1))


def test_pictures_are_encoded_where_vectors_are_missing(ask, tmp_path):
    """With the run's encoder that changes nothing."""
    folder = tmp_path / "run"
    shutil.copytree(ask("wander"), folder)
    (folder / "with" / "embeddings.f32").unlink()
    recording = open_recording(folder)
    assert not recording.recorded_vectors
    assert replay(recording, ReplaySettings("wander")).agreement.both == 1.0


def test_another_encoder_sees_other_things(ask):
    """Its vectors are made of the pictures; the recorded memory is measured with it too."""
    recording = open_recording(ask("wander"), encoder=TinyEncoder())
    assert (recording.recorded_vectors, recording.embeddings[0].shape) == (False, (12,))
    again = replay(recording, ReplaySettings("wander"))
    assert len(again.frames) == FRAMES
    assert (
        recorded_figures(recording).effective_images
        < recorded_figures(open_recording(ask("wander"))).effective_images
    )


def test_states_and_alarms_are_those_of_the_loop(ask):
    """The same whatever policy looks on, and as recorded."""
    folder = ask("wander")
    lines = read_journal(folder / "without" / "journal.jsonl")
    recording = open_recording(folder, "without")
    done = [replay(recording, ReplaySettings(name)) for name in ("none", "gentle")]
    assert states(done[0].frames) == states(done[1].frames)
    spans = states(done[0].frames)
    assert [name for name, first, last in spans for _ in range(first, last + 1)] == [
        line["loop"]["name"] for line in lines
    ]
    raised = promised_alarms(done[0].frames)
    assert len(raised) == lines[-1]["measures"]["alarms"] > 0
    assert done[1].figures.first_alarm == raised[0]  # the one that this policy goes by


def test_files_of_a_replay(ask, tmp_path):
    """A line a frame for one policy after the other, and everything else in one document."""
    recording = open_recording(ask("wander"))
    done = [replay(recording, ReplaySettings(name)) for name in ("wander", "none")]
    document, lines = write_replays(tmp_path / "new" / "out", recording, done)
    assert json.loads(document.read_text()) == json.loads(json.dumps(summary(recording, done)))
    written = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [line["replay"] for line in written] == ["wander"] * FRAMES + ["none"] * FRAMES
    assert written[0] == json.loads(json.dumps({"replay": "wander", **asdict(done[0].frames[0])}))
    told = summary(recording, done)
    assert (told["open_loop"], told["recorded"]["policy"]) == (OPEN_LOOP, "wander")
    assert [row["exact_to"] for row in told["replays"]] == [FRAMES, recorded_figures(recording).first_wanted]


def test_files_are_never_written_into_what_was_recorded(ask):
    """Not even into a new folder there."""
    recording = open_recording(ask("wander"))
    with pytest.raises(InputError, match="is part of what was recorded"):
        check_folder(recording.folder / "replays", recording)
    with pytest.raises(InputError, match="is part of what was recorded"):
        write_replays(recording.folder, recording, [])
