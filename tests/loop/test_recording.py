"""Reading a recorded loop: where it is found, and what is said of one that is damaged."""

import json
import shutil

import numpy as np
import pytest
from loop_fakes import TinyEncoder, scene
from PIL import Image

from reverie.errors import (
    EncoderMismatchError,
    ImageNotFoundError,
    InputError,
    StorageError,
    UnknownNameError,
)
from reverie.loop.recording import open_recording, picture_name, read_record, read_vectors


def test_a_folder_that_cannot_be_looked_into_is_a_storage_error(tmp_path):
    """The system does not tell what is there (here a name that is too long): not a bug of ours."""
    with pytest.raises(StorageError, match=r"cannot look for .*too long"):
        open_recording(tmp_path / ("a" * 300))


def write_loop(folder, count=4):
    """A loop of someone's own: frames and the barest journal."""
    (folder / "frames").mkdir(parents=True)
    lines = []
    for number in range(1, count + 1):
        Image.fromarray(scene(number)).save(folder / "frames" / f"{number:06d}.png")
        lines.append({"frame": number})
    (folder / "journal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture
def run(tmp_path):
    """A run of two bare loops, with the vectors of the tiny encoder."""
    for arm in ("without", "with"):
        write_loop(tmp_path / "run" / arm)
        frames = [scene(number) for number in range(1, 5)]
        TinyEncoder().encode_batch(frames).tofile(tmp_path / "run" / arm / "embeddings.f32")
    record = {
        "settings": {"encoder": "tiny-v1"},
        "asked": {"encoder": "descriptor", "seed": 7, "towards": "dusk"},
        "arms": [{"name": "without", "folder": "without"}, {"name": "with", "folder": "with"}],
    }
    (tmp_path / "run" / "run.json").write_text(json.dumps(record))
    return tmp_path / "run"


def test_a_run_a_loop_and_a_journal_lead_to_the_same(run):
    """A run folder is its loop with memory, unless another is named."""
    paths = (run, run / "with", run / "with" / "journal.jsonl")
    found = [open_recording(path, encoder=TinyEncoder()) for path in paths]
    assert {each.folder for each in found} == {run / "with"}
    assert {each.asked("seed", 0) for each in found} == {7}
    other = open_recording(run, "without", TinyEncoder())
    assert (other.folder, other.arm, other.towards) == (run / "without", "without", "dusk")
    assert other.recorded_vectors
    assert np.array_equal(
        np.array(other.embeddings), np.fromfile(run / "with" / "embeddings.f32", "<f4").reshape(4, 12)
    )


def test_a_loop_of_ones_own_needs_no_run(tmp_path):
    """A journal with pictures: they are encoded with the built-in encoder, and nothing is known of a run."""
    write_loop(tmp_path / "mine")
    recording = open_recording(tmp_path / "mine")
    assert (len(recording.frames), recording.embeddings[0].shape) == (4, (512,))
    assert (recording.policy, recording.seeds, recording.remembered()) == ("", [], None)
    assert (recording.asked("seed", 3), recording.same_encoder) == (3, False)


@pytest.mark.parametrize(
    ("path", "arm", "said"),
    [
        ("nowhere", None, "nowhere: no such file or folder"),
        (".", None, "holds no journal.jsonl and no run.json: it is neither a loop nor a run"),
        ("run", "third", "has no loop 'third'; there are: without, with"),
        ("run/with", "with", "is no run folder, so it has no loop 'with' to choose"),
        ("run/with/frames/000001.png", None, "line 1: not"),
        ("run/with/embeddings.f32", None, "line 1|holds no frame"),
    ],
)
def test_what_is_no_recording_is_named(run, path, arm, said):
    """One sentence for each way to point at something else."""
    with pytest.raises(InputError, match=said):
        open_recording(run.parent / path, arm)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{broken", "line 2: not JSON"),
        ("[2]", "line 2: not an object"),
        ('{"frame": 3}', "line 2 is not frame 2: not a loop's journal, or lines of it are missing"),
        ('{"frame": 2, "injected": "yes"}', "line 2: 'injected' cannot be 'yes'"),
        ('{"frame": 2, "numbers": {"alarm": "on"}}', "line 2: 'alarm' cannot be 'on'"),
        ('{"frame": 2, "shown": {"how": "film"}}', "line 2: nothing is shown as 'film'"),
    ],
)
def test_a_damaged_line_is_named(run, line, said):
    """By its number; nothing is guessed."""
    journal = run / "with" / "journal.jsonl"
    lines = journal.read_text().splitlines()
    journal.write_text("\n".join([lines[0], line, *lines[2:]]) + "\n")
    with pytest.raises(InputError, match=said):
        open_recording(run, encoder=TinyEncoder())


def test_a_torn_last_line_is_passed_over(run):
    """Its writer was stopped in the middle of it."""
    journal = run / "with" / "journal.jsonl"
    journal.write_text(journal.read_text() + '{"frame": 5, "inj')
    assert len(open_recording(run, encoder=TinyEncoder()).frames) == 4


def test_a_journal_without_a_frame(run):
    """There is nothing to replay."""
    (run / "with" / "journal.jsonl").write_text("")
    with pytest.raises(InputError, match="holds no frame: there is nothing to replay"):
        open_recording(run)


def test_a_missing_picture_is_named(run):
    """Vectors alone do not make a memory of pictures."""
    (run / "with" / "frames" / "000003.png").unlink()
    with pytest.raises(ImageNotFoundError, match=r"000003\.png is missing: a replay needs the pictures"):
        open_recording(run, encoder=TinyEncoder())


def test_vectors_of_another_encoder(run):
    """Are never taken for the run's; naming an encoder makes new ones of the pictures."""
    with pytest.raises(EncoderMismatchError, match="made by the encoder 'tiny-v1', and the run's encoder is"):
        open_recording(run)
    named = open_recording(run, encoder="descriptor")
    assert (named.recorded_vectors, named.embeddings[0].shape, named.towards) == (False, (512,), None)
    with pytest.raises(UnknownNameError, match="no encoder is called 'eye'"):
        open_recording(run, encoder="eye")


def test_vectors_that_are_cut_off(run):
    """A number too few is a number too few."""
    path = run / "with" / "embeddings.f32"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(InputError, match="holds 47 numbers, 4 frames of 12 were expected"):
        open_recording(run, encoder=TinyEncoder())
    assert len(list(read_vectors(path, 3, 12))) == 3


def test_an_arm_never_leads_out_of_its_run(run):
    """Nor to a loop that was never begun."""
    record = json.loads((run / "run.json").read_text())
    record["arms"] = [{"name": "out", "folder": "../elsewhere"}]
    (run / "run.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match="the folder of the loop 'out' leads out of the run"):
        open_recording(run)
    record["arms"] = [{"name": "new", "folder": "new"}]
    (run / "run.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match="that loop was never begun"):
        open_recording(run)


@pytest.mark.parametrize(("text", "said"), [("{", "is damaged"), ("[]", "is damaged: not an object")])
def test_a_damaged_run_file_is_named(run, text, said):
    """With what is wrong with it."""
    (run / "run.json").write_text(text)
    with pytest.raises(InputError, match=said):
        open_recording(run)
    with pytest.raises(InputError, match="no run folder: there is no run"):
        read_record(run / "with")


def test_seeds_are_those_of_the_loop_or_of_its_neighbour(run):
    """All loops of a run have the same seed pictures."""
    (run / "with" / "seeds").mkdir()
    for number in range(2):
        shutil.copy(run / "with" / "frames" / "000001.png", run / "with" / "seeds" / f"{number:03d}.png")
    mine, other = (open_recording(run, arm, TinyEncoder()) for arm in ("with", "without"))
    assert mine.seeds == other.seeds == [run / "with" / "seeds" / f"{number:03d}.png" for number in range(2)]
    assert (mine.remembers_seeds, other.remembers_seeds) == (True, False)
    assert np.array_equal(mine.seed_embeddings[0], mine.embeddings[0])


def test_a_damaged_memory_costs_one_figure_only(run):
    """What was remembered is not known then; the rest is."""
    (run / "with" / "cache" / "metadata").mkdir(parents=True)
    (run / "with" / "cache" / "metadata" / "cache_index.json").write_text("{")
    assert open_recording(run, encoder=TinyEncoder()).remembered() is None


def test_entries_go_by_their_pictures():
    """By what a dream notes of how they were made."""
    params = [{"frame": 12, "seed": 4}, {"seed_picture": 3}, {"denoise": 0.4}]
    assert [picture_name(each) for each in params] == ["frames/000012.png", "seeds/003.png", None]
