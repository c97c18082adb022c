"""The main job: two arms side by side, everything on disk, whatever ends the run."""

import dataclasses
import json

import loop_fakes
import numpy as np
import pytest
from loop_fakes import Script, TinyEncoder, TinyGenerator, scene
from PIL import Image

from reverie import CacheManager, registry
from reverie.errors import (
    GenerationError,
    ImageError,
    InputError,
    ModelNotFoundError,
    ReverieError,
    StorageError,
    UnknownNameError,
)
from reverie.loop import arm as arm_module
from reverie.loop.arm import summary
from reverie.loop.colour import Span, colours_of
from reverie.loop.dream import DreamSettings, dream
from reverie.loop.driver import frame_seed
from reverie.loop.journal import read_journal
from reverie.metadata import read_metadata
from reverie.pixels import to_pixels
from reverie.protocols import Decision
from reverie.vectors import as_embedding

ARMS = ("without", "with")
LINE = {
    "frame", "seed", "image", "prompt", "strength", "cache_id", "parents", "policy", "reason", "numbers",
    "injected", "measures", "times_ms", "stored", "weights", "depth", "shown", "towards", "arrived", "state",
    "loop", "colour",
}  # fmt: skip
FIGURES = {
    "effective_images", "effective_images_last_100", "pairwise", "motifs", "stuck", "hard_cuts", "replay",
}  # fmt: skip


@pytest.fixture
def tiny(monkeypatch):
    """``tiny(**changes)`` registers the fakes as "tiny"; the changes say how they are made."""

    def register(generator=TinyGenerator, encoder=TinyEncoder, policy=Script):
        for kind, make in (("generators", generator), ("encoders", encoder), ("policies", policy)):
            monkeypatch.setattr(loop_fakes, kind, make, raising=False)
            monkeypatch.setitem(registry._BUILT_IN[kind], "tiny", registry._Part(f"loop_fakes:{kind}"))

    register()
    return register


def settings(folder, **changes):
    """A small run with the fakes."""
    return DreamSettings(
        **{
            "out": folder,
            "frames": 6,
            "generator": "tiny",
            "encoder": "tiny",
            "size": 16,
            "policy": "spec",
            **changes,
        }
    )


def run_json(folder):
    """The record of a run."""
    return json.loads((folder / "run.json").read_text())


def frames_of(folder, arm):
    """The pixels of the frames of an arm, by name of the file."""
    return {path.name: to_pixels(path).tobytes() for path in sorted((folder / arm / "frames").iterdir())}


def journal_of(folder, arm, times=False):
    """The lines of an arm's journal, without the times."""
    lines = read_journal(folder / arm / "journal.jsonl")
    return lines if times else [{k: v for k, v in line.items() if k != "times_ms"} for line in lines]


def interrupt_at(count):
    """A callback that is Ctrl-C at its ``count``-th call."""
    calls = []

    def on_frame(done):
        calls.append(done)
        if len(calls) == count:
            raise KeyboardInterrupt

    return on_frame


# --------------------------------------------------------------------------------- what is there


def test_a_run_folder_is_complete(tiny, tmp_path):
    """run.json, and for each arm its frames from the start on, and its journal."""
    result = dream(settings(tmp_path / "run"))
    assert (result.folder, result.finished) == (tmp_path / "run", True)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["run.json", "with", "without"]
    for arm in ARMS:
        assert list(frames_of(tmp_path / "run", arm)) == [f"{number:06d}.png" for number in range(7)]
        assert len(journal_of(tmp_path / "run", arm)) == 6
    assert sorted(path.name for path in (tmp_path / "run" / "with").iterdir()) == [
        "cache", "embeddings.f32", "frames", "journal.jsonl",
    ]  # fmt: skip
    assert not [path for path in tmp_path.rglob("*") if "partial" in path.name]


def test_run_json_holds_settings_and_results(tiny, tmp_path):
    """What was asked, whether it finished, and the figures of both arms."""
    asked = settings(
        tmp_path / "run", strength=0.3, seed=7, policy="random", prompt="a rose", command="reverie dream"
    )
    result = dream(asked)
    record = run_json(tmp_path / "run")
    assert record["settings"] == {
        "frames": 6,
        "strength": 0.3,
        "seed": 7,
        "policy": "random",
        "seeds": 3,
        "generator": "tiny",
        "encoder": "tiny-v1",
        "encoder_runs_on": None,
        "model_dir": None,
        "threads": None,
        "prompt": "a rose",
        "size": [16, 16],
        "seeds_folder": None,
        "remember_seeds": False,
        "towards": "",
        "colour": "off",
        "generator_options": {},
        "generator_runs_on": None,
        "live": None,
        "prompts": None,
        "prompt_every": None,
        "wildcards": None,
    }
    assert (record["version"], record["command"], record["finished"]) == (1, "reverie dream", True)
    assert record["elapsed_s"] >= 0
    assert record["arms"] == result.arms
    without, with_memory = record["arms"]
    assert (without["name"], without["title"], without["policy"]) == ("without", "Without memory", "none")
    assert (with_memory["name"], with_memory["title"], with_memory["policy"]) == (
        "with", "With memory", "random",
    )  # fmt: skip
    for arm in record["arms"]:
        assert (arm["folder"], arm["frames"], set(arm["summary"])) == (arm["name"], 6, FIGURES)


def test_a_journal_line_holds_everything_about_its_frame(tiny, tmp_path):
    """Index, seed, parents, the policy's reason, measures, times, and where the picture is."""
    dream(settings(tmp_path / "run", frames=16, seed=5, prompt="a rose", strength=0.2))
    for arm in ARMS:
        lines = journal_of(tmp_path / "run", arm, times=True)
        assert [line["frame"] for line in lines] == list(range(1, 17))
        for number, line in enumerate(lines, start=1):
            assert set(line) == LINE
            assert line["seed"] == frame_seed(5, number)
            assert line["image"] == f"frames/{number:06d}.png"
            assert (line["prompt"], line["strength"]) == ("a rose", 0.2)
            assert {"step", "pairwise", "effective_images", "novelty"} <= line["measures"].keys()
            assert line["reason"]
        assert (lines[0]["measures"]["step"], lines[9]["measures"]["novelty"]) == (None, None)
        assert lines[10]["measures"]["novelty"] >= 0
    watched = journal_of(tmp_path / "run", "without", times=True)
    assert {(line["policy"], line["cache_id"], line["injected"]) for line in watched} == {
        ("none", None, None)
    }
    assert {tuple(line["parents"]) for line in watched} == {()}
    assert set(watched[0]["times_ms"]) == {"generate", "encode"}
    assert set(lines[0]["times_ms"]) == {"generate", "encode", "store", "decide"}


def test_the_lineage_can_be_followed(tiny, tmp_path):
    """Every line names what its frame was made from, and each injection the frame it brings back."""
    dream(settings(tmp_path / "run", frames=32, strength=0.1))
    lines = journal_of(tmp_path / "run", "with")
    assert [line["cache_id"] for line in lines] == [f"cache_{n:05d}" for n in range(1, 33)]
    assert [line["frame"] for line in lines if line["injected"]] == [15, 30]
    parents = {line["frame"]: line["parents"] for line in lines}
    for line in lines:
        injected = line["injected"]
        source = injected["cache_id"] if injected else line["cache_id"]
        if line["frame"] < 32:
            assert parents[line["frame"] + 1] == [source]
        if injected:
            assert injected["source"] == f"frames/{int(source.removeprefix('cache_')):06d}.png"
            assert 0.7 <= injected["similarity"] <= 1.0
    assert parents[1] == []
    assert run_json(tmp_path / "run")["arms"][1]["injections"] == 2


def test_an_injection_of_the_current_frame_names_its_own_picture(tiny, tmp_path):
    """A policy may choose the frame that was just made: its picture is known, too."""
    tiny(policy=lambda: Script({2: lambda seen: seen.own_id, 4: lambda seen: seen.candidates.ids[0]}))
    dream(settings(tmp_path / "run", policy="tiny"))
    injected = [line["injected"] for line in journal_of(tmp_path / "run", "with")]
    assert [one and one["source"] for one in injected] == [
        None, "frames/000002.png", None, "frames/000001.png", None, None,
    ]  # fmt: skip
    assert injected[1] == {
        "cache_id": "cache_00002", "kind": "memory", "similarity": 0.5, "source": "frames/000002.png",
    }  # fmt: skip


def test_the_frames_are_what_the_generator_made(tiny, tmp_path):
    """File by file, lossless; frame 0 is the start."""
    generator = TinyGenerator(size=16)
    dream(settings(tmp_path / "run", frames=3, seed=4))
    frame = generator.seeds[4 % 3]
    for number in range(4):
        if number:
            frame = generator.generate(frame, prompt="", strength=0.5, seed=frame_seed(4, number))
        path = tmp_path / "run" / "without" / "frames" / f"{number:06d}.png"
        assert to_pixels(path).tolist() == frame.tolist()


def test_both_arms_have_the_same_start_and_noise(tiny, tmp_path):
    """Until the first injection the arms are the same, frame by frame; then they part."""
    dream(settings(tmp_path / "run", frames=20, policy="random", seed=2))
    without, with_memory = (frames_of(tmp_path / "run", arm) for arm in ARMS)
    same = [name for name in without if without[name] == with_memory[name]]
    assert same[:16] == [f"{number:06d}.png" for number in range(16)]
    assert "000016.png" not in same
    seeds = [[line["seed"] for line in journal_of(tmp_path / "run", arm)] for arm in ARMS]
    assert seeds[0] == seeds[1]


@pytest.mark.parametrize("policy", ["spec", "random", "none"])
def test_every_policy_dreams(tiny, tmp_path, policy):
    """By its name; the cache it leaves agrees with itself."""
    dream(settings(tmp_path / "run", frames=16, policy=policy, strength=0.2))
    lines = journal_of(tmp_path / "run", "with")
    assert {line["policy"] for line in lines} == {policy}
    assert [line["frame"] for line in lines if line["injected"]] == ([] if policy == "none" else [15])
    with CacheManager(tmp_path / "run" / "with" / "cache") as cache:
        assert cache.check().ok
        assert len(cache) == 16
        assert {entry.encoder for entry in cache} == {"tiny-v1"}


def test_memory_holds_the_specifications_75(tiny, tmp_path):
    """A long run evicts; what is left is sound."""
    dream(settings(tmp_path / "run", frames=80, strength=0.3))
    with CacheManager(tmp_path / "run" / "with" / "cache") as cache:
        assert len(cache) == 75
        assert cache.check().ok


def test_the_same_settings_give_the_same_run(tiny, tmp_path):
    """Frames bit for bit, journals and figures alike but for the times; another seed differs."""
    folders = [tmp_path / name for name in "abc"]
    for folder, seed in zip(folders, (3, 3, 4), strict=True):
        dream(settings(folder, frames=20, policy="random", seed=seed))
    a, b, c = folders
    for arm in ARMS:
        assert frames_of(a, arm) == frames_of(b, arm)
        assert journal_of(a, arm) == journal_of(b, arm)
        assert frames_of(a, arm) != frames_of(c, arm)
    assert run_json(a)["arms"] == run_json(b)["arms"]


def test_on_frame_hears_of_every_frame_of_every_arm(tiny, tmp_path):
    """The arms take turns, and what is heard is what the journal holds."""
    heard = []
    dream(settings(tmp_path / "run", frames=16, strength=0.1), heard.append)
    assert [(done.frame, done.arm) for done in heard] == [(n, arm) for n in range(1, 17) for arm in ARMS]
    assert {done.frames for done in heard} == {16}
    assert {done.title for done in heard} == {"Without memory", "With memory"}
    for arm in ARMS:
        mine = [done for done in heard if done.arm == arm]
        lines = journal_of(tmp_path / "run", arm, times=True)
        assert [dict(done.measures) for done in mine] == [line["measures"] for line in lines]
        assert [done.reason for done in mine] == [line["reason"] for line in lines]
        assert [dict(done.times_ms) for done in mine] == [line["times_ms"] for line in lines]
        assert [done.injected for done in mine] == [line["injected"] is not None for line in lines]


def test_both_arms_are_measured_by_the_same_anchors(tiny, tmp_path):
    """The seed pictures where they are remembered, else the start; in numbers and in words."""
    seeds = TinyGenerator(size=16).seeds
    for remembered, anchors in ((True, seeds), (False, seeds[:1])):
        folder = tmp_path / str(remembered)
        dream(settings(folder, remember_seeds=remembered, policy="none"))
        span = Span.of([colours_of(each) for each in anchors])
        for arm in ARMS:
            for line in journal_of(folder, arm):
                drift = span.drift(colours_of(to_pixels(folder / arm / line["image"])))
                assert line["colour"] == {"drift": drift.words, "corrected": None}
                assert line["measures"].items() >= drift.measures().items()


def test_colour_off_changes_no_frame(tiny, tmp_path):
    """And the arm without memory is never put right: it has the same frames whatever is asked for."""
    for how in ("off", "hard"):
        dream(settings(tmp_path / how, frames=20, colour=how, policy="none"))
    assert frames_of(tmp_path / "off", "with") == frames_of(tmp_path / "off", "without")
    assert frames_of(tmp_path / "hard", "without") == frames_of(tmp_path / "off", "without")
    assert frames_of(tmp_path / "hard", "with") != frames_of(tmp_path / "off", "with")
    lines = journal_of(tmp_path / "hard", "with")
    assert any(line["colour"]["corrected"] for line in lines)
    assert {line["injected"] for line in lines} == {None}
    assert run_json(tmp_path / "hard")["arms"][1]["injections"] == 0


def test_an_unknown_correction_starts_nothing(tiny, tmp_path):
    """With the names that exist."""
    with pytest.raises(UnknownNameError, match="'strong'; there are: off, soft, hard"):
        dream(settings(tmp_path / "run", colour="strong"))
    assert not (tmp_path / "run").exists()


def test_the_built_in_parts_dream(tmp_path):
    """patches, descriptor and spec, with pictures of the user's own: bit-equal twice."""
    (tmp_path / "seeds").mkdir()
    for number in range(3):
        Image.fromarray(scene(number, 40, 56)).save(tmp_path / "seeds" / f"{number}.png")
    for name in "ab":
        folder, seeds = tmp_path / name, tmp_path / "seeds"
        dream(DreamSettings(folder, frames=16, seeds=seeds, size=32, seed=1, policy="spec"))
    record = run_json(tmp_path / "a")
    assert record["settings"]["seeds"] == 3
    assert record["settings"]["seeds_folder"] == str(tmp_path / "seeds")
    assert record["settings"]["encoder"] == "descriptor-v1"
    assert [line["frame"] for line in journal_of(tmp_path / "a", "with") if line["injected"]] == [15]
    for arm in ARMS:
        assert frames_of(tmp_path / "a", arm) == frames_of(tmp_path / "b", arm)
        assert journal_of(tmp_path / "a", arm) == journal_of(tmp_path / "b", arm)


# -------------------------------------------------------------------------------- what ends a run


@pytest.mark.parametrize(("call", "frames"), [(1, [1, 0]), (2, [1, 1]), (7, [4, 3]), (12, [6, 6])])
def test_ctrl_c_after_a_frame(tiny, tmp_path, call, frames):
    """The run ends cleanly with what there is, and says that it did not finish."""
    result = dream(settings(tmp_path / "run"), interrupt_at(call))
    record = run_json(tmp_path / "run")
    assert (result.finished, record["finished"]) == (False, False)
    assert [arm["frames"] for arm in record["arms"]] == frames
    assert [len(journal_of(tmp_path / "run", arm)) for arm in ARMS] == frames
    assert [len(frames_of(tmp_path / "run", arm)) - 1 for arm in ARMS] == frames
    assert [set(arm["summary"]) for arm in record["arms"]] == [FIGURES if n else set() for n in frames]
    with CacheManager(tmp_path / "run" / "with" / "cache") as cache:
        assert cache.check().ok


def test_ctrl_c_inside_the_generator(tiny, tmp_path):
    """Most of the time is spent there: the frame it was in does not count."""
    calls = []

    def stop(frame):
        calls.append(frame)
        if len(calls) == 8:
            raise KeyboardInterrupt
        return frame

    tiny(generator=lambda *args, **kwargs: TinyGenerator(*args, returns=stop, **kwargs))
    result = dream(settings(tmp_path / "run"))
    assert [arm["frames"] for arm in result.arms] == [4, 3]
    assert [len(journal_of(tmp_path / "run", arm)) for arm in ARMS] == [4, 3]
    assert run_json(tmp_path / "run")["finished"] is False


def test_ctrl_c_while_a_frame_is_written(tiny, tmp_path, monkeypatch):
    """The figures count the frames whose picture and line are whole, no others."""
    write, written = arm_module.replace_file, []

    def stop(path, chunks, **options):
        written.append(path)
        if path.name == "000004.png" and "with" in path.parts:
            raise KeyboardInterrupt
        write(path, chunks, **options)

    monkeypatch.setattr(arm_module, "replace_file", stop)
    result = dream(settings(tmp_path / "run"))
    assert [arm["frames"] for arm in result.arms] == [4, 3]
    assert [len(journal_of(tmp_path / "run", arm)) for arm in ARMS] == [4, 3]


def test_a_generator_that_fails_leaves_what_was_made(tiny, tmp_path):
    """The error comes through; the record tells how far the run went."""
    calls = []

    def fail(frame):
        calls.append(frame)
        return frame if len(calls) < 6 else None

    tiny(generator=lambda *args, **kwargs: TinyGenerator(*args, returns=fail, **kwargs))
    with pytest.raises(GenerationError, match="NoneType"):
        dream(settings(tmp_path / "run"))
    record = run_json(tmp_path / "run")
    assert record["finished"] is False
    assert [arm["frames"] for arm in record["arms"]] == [3, 2]
    assert [len(journal_of(tmp_path / "run", arm)) for arm in ARMS] == [3, 2]


def test_a_record_is_there_from_the_start(tiny, tmp_path):
    """A run that is killed has a readable record, with nothing in it yet."""
    seen = []
    dream(settings(tmp_path / "run", frames=1), lambda _: seen.append(run_json(tmp_path / "run")))
    assert (seen[0]["finished"], [arm["frames"] for arm in seen[0]["arms"]]) == (False, [0, 0])


# ----------------------------------------------------------------------------- what is not started


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"frames": 0}, "frames must be at least 1, got 0"),
        ({"strength": 1.5}, r"strength must be in \[0, 1\], .* got 1.5"),
        ({"strength": float("nan")}, "strength must be in"),
        ({"seed": -1}, "seed must be 0 or more, got -1"),
        ({"seed": 2**90}, f"seed must be at most {2**63 - 1}, got {2**90}"),
        ({"seed": "x"}, "seed must be a whole number, got 'x'"),
        ({"frames": 2.5}, "frames must be a whole number, got 2.5"),
        ({"strength": "x"}, r"strength must be in \[0, 1\].* got 'x'"),
        ({"size": "x"}, "size must be a whole number, got 'x'"),
        ({"policy": "spek"}, "no injection policy is called 'spek'"),
        ({"generator": "patch"}, "no generator is called 'patch'"),
        ({"encoder": "descripter"}, "no encoder is called 'descripter'"),
        ({"encoder": "clip"}, "reverie models pull clip-vit-b32"),
        ({"generator": "patches", "size": 5}, "size must be at least"),
        ({"generator": "patches", "seeds": "no such folder"}, "no such folder"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_wrong_settings_start_nothing(tiny, tmp_path, wrong, message):
    """The error says what is wrong, and no folder was made that would be in the way of the next try."""
    with pytest.raises(ReverieError, match=message) as caught:
        dream(settings(tmp_path / "run", **wrong))
    assert isinstance(caught.value, (InputError, ModelNotFoundError))
    assert not (tmp_path / "run").exists()


def test_unknown_names_list_those_that_exist(tiny, tmp_path):
    """So that a typing error is mended at once."""
    with pytest.raises(UnknownNameError, match="none, random, restless, spec, tiny, wander"):
        dream(settings(tmp_path / "run", policy="spek"))


def test_a_broken_seed_picture_is_named(tmp_path):
    """And nothing was started."""
    (tmp_path / "seeds").mkdir()
    (tmp_path / "seeds" / "bad.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"bad\.png"):
        dream(DreamSettings(tmp_path / "run", frames=1, seeds=tmp_path / "seeds", size=32))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("seeds", [[], np.empty((0, 16, 16, 3), np.uint8)], ids=["list", "array"])
def test_a_generator_without_seeds_needs_some(tiny, tmp_path, seeds):
    """There is nothing to start from, and the error says what to do."""

    def make(_, *, size):
        generator = TinyGenerator(size=size)
        generator.seeds = seeds
        return generator

    tiny(generator=make)
    with pytest.raises(InputError, match="'tiny' has no images to start from: name a folder"):
        dream(settings(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_folder_that_is_not_empty_is_refused(tiny, tmp_path):
    """Nothing in it is changed, whether it is a run or something else; an empty one is fine."""
    (tmp_path / "run").mkdir()
    dream(settings(tmp_path / "run", frames=1))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    with pytest.raises(InputError, match="is not empty: choose another folder"):
        dream(settings(tmp_path / "run", frames=1))
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")} == before
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="is not empty"):
        dream(settings(tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_that_cannot_be_made(tiny, tmp_path):
    """A storage error that names it."""
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StorageError, match="file"):
        dream(settings(tmp_path / "file" / "run"))


def test_a_seed_picture_is_fitted_to_the_frames(tiny, tmp_path):
    """A plug-in whose seeds are of another size is helped."""
    tiny(generator=lambda _, *, size: TinyGenerator([scene(1, 30, 20)], size=size))
    dream(settings(tmp_path / "run", frames=1))
    assert to_pixels(tmp_path / "run" / "with" / "frames" / "000000.png").shape == (16, 16, 3)


# --------------------------------------------------------------------------------------- figures


def embeddings(*rows):
    """Unit vectors along axes."""
    return [as_embedding(np.eye(8)[row], encoder="tiny") for row in rows]


def test_the_figures_of_no_frames():
    """None at all, rather than figures of nothing."""
    assert summary([]) == {}


def test_the_figures_of_a_loop_that_stands_still():
    """One image, always stuck, replaying itself."""
    assert summary(embeddings(*[0] * 40)) == {
        "effective_images": 1.0,
        "effective_images_last_100": 1.0,
        "pairwise": 1.0,
        "motifs": 1.0,
        "stuck": 1.0,
        "hard_cuts": 0.0,
        "replay": 1.0,
    }


def test_the_figures_of_a_loop_that_ends_standing_still():
    """The last 100 and the last 60 frames are looked at on their own; stuck is a share of the windows."""
    figures = summary(embeddings(*[number % 8 for number in range(80)], *[0] * 100))
    assert figures["effective_images"] > 3
    assert figures["effective_images_last_100"] == 1.0
    assert (figures["pairwise"], figures["motifs"], figures["hard_cuts"]) == (1.0, 8.0, 80.0)
    assert figures["stuck"] == pytest.approx(82 / 161, abs=1e-4)
    assert figures["replay"] == pytest.approx(
        148 / 150, abs=1e-4
    )  # frames 30 and 31 were new 30 frames before


def test_a_short_run_is_never_stuck():
    """Nothing is said of 20 frames while there are fewer."""
    assert summary(embeddings(*[0] * 19))["stuck"] == 0.0
    assert summary(embeddings(*[0] * 20))["stuck"] == 1.0


def test_settings_are_a_value(tmp_path):
    """Frozen, with the specification's and the command line's defaults."""
    asked = DreamSettings(tmp_path)
    assert (asked.frames, asked.strength, asked.seed, asked.policy) == (300, 0.5, 0, "wander")
    with pytest.raises(dataclasses.FrozenInstanceError):
        asked.frames = 1


def test_seeds_can_be_remembered(tmp_path, tiny):
    """With remember_seeds the seed pictures are in memory, pinned, before frame 1, and beside the frames."""
    result = dream(settings(tmp_path / "run", remember_seeds=True, policy="random", frames=15))
    seeds = TinyGenerator(size=16).seeds
    with CacheManager(tmp_path / "run" / "with" / "cache", max_size=None) as cache:
        entries = cache.get_all()[: len(seeds)]
        assert [entry.generation_params for entry in entries] == [
            {"seed_picture": number} for number in range(len(seeds))
        ]
        assert all(entry.pinned for entry in entries)
        assert len(cache) == len(seeds) + 15
    for number, seed in enumerate(seeds):
        assert np.array_equal(to_pixels(tmp_path / "run" / "with" / "seeds" / f"{number:03d}.png"), seed)
    assert not (tmp_path / "run" / "without" / "seeds").exists()
    assert run_json(result.folder)["settings"]["remember_seeds"] is True


def test_an_injected_seed_is_named_in_the_journal(tmp_path, tiny):
    """The source of an injection that is a seed picture is its file in the arm's folder."""
    seeds = len(TinyGenerator(size=16).seeds)

    class FirstSeed(Script):
        def decide(self, observation, rng):
            return Decision(observation.candidates.ids[observation.frame % seeds], "a seed", 0.0)

    tiny(policy=FirstSeed)
    dream(settings(tmp_path / "run", remember_seeds=True, policy="tiny", frames=2))
    lines = read_journal(tmp_path / "run" / "with" / "journal.jsonl")
    assert [line["injected"]["source"] for line in lines] == [
        f"seeds/{frame % seeds:03d}.png" for frame in (1, 2)
    ]


def test_many_seeds_leave_room_for_frames(tmp_path, tiny):
    """However many seed pictures are pinned, the memory has as much room again."""

    def many_seeds(seeds=None, *, size):
        return TinyGenerator([scene(number, size, size) for number in range(80)], size=size)

    tiny(generator=many_seeds)
    dream(settings(tmp_path / "run", remember_seeds=True, frames=3))
    with CacheManager(tmp_path / "run" / "with" / "cache", max_size=None) as cache:
        assert len(cache) == 83


def test_a_display_shows_the_loop_with_memory(tiny, tmp_path):
    """Its last frame, and that it has stopped; the folder is in the record."""
    tiny()
    dream(settings(tmp_path / "run", live=tmp_path / "live"))
    last = tmp_path / "run" / "with" / "frames" / "000006.png"
    assert np.array_equal(to_pixels(tmp_path / "live" / "current_frame.png"), to_pixels(last))
    status = json.loads((tmp_path / "live" / "status.json").read_bytes())
    assert (status["status"], status["frame_number"]) == ("stopped", 6)
    assert run_json(tmp_path / "run")["asked"]["live"] == str(tmp_path / "live")


def test_frames_say_how_they_were_made(tiny, tmp_path):
    """Prompt, parameters and parents with weights, as the journal has them; in memory as its entries."""
    tiny()
    dream(settings(tmp_path / "run", policy="random", prompt="a rose", frames=12))
    folder = tmp_path / "run" / "with"
    for line in read_journal(folder / "journal.jsonl"):
        found = read_metadata((folder / line["image"]).read_bytes())
        made = {
            "frame": line["frame"],
            "seed": line["seed"],
            "strength": line["strength"],
            "generator": "tiny",
        }
        assert (found.source, found.prompt) == ("reverie", "a rose")
        assert found.params == {**made, "policy": "random", "depth": line["depth"]}
        assert found.parents == dict(zip(line["parents"], line["weights"], strict=True))
    with CacheManager(folder / "cache") as cache:
        for entry in cache:
            found = read_metadata(entry.image_path.read_bytes())
            assert (found.prompt, found.params) == (entry.prompt, entry.generation_params)
            assert tuple(found.parents) == entry.parents
