from __future__ import annotations

import orjson
import pytest
from PIL import Image
from report_runs import write_run

from reverie.errors import InputError, StorageError
from reverie.report.run import evenly, load_run


def test_reads_the_run_and_its_arms(run):
    """Settings, arms, figures and frame numbers come back as they were written."""
    assert run.finished
    assert run.settings["seed"] == 0
    assert [(arm.name, arm.title, arm.policy) for arm in run.arms] == [
        ("without", "Without memory", "none"),
        ("with", "With memory", "spec"),
    ]
    assert run.arms[1].summary["effective_images_last_100"] == 6.2
    assert run.arms[0].numbers == tuple(range(41))
    assert run.last == 40
    assert run.size == (32, 32)


def test_reads_the_journal(run):
    """A record holds what was decided; a measure that is null is left out."""
    first, fifteenth = run.arms[1].records[0], run.arms[1].records[14]
    assert "pairwise" not in first.measures
    assert first.measures["step"] == 0.05
    assert first.injected is None
    assert fifteenth.injected is not None
    assert fifteenth.injected.cache_id == "cache_00015"
    assert fifteenth.injected.similarity == 0.71
    assert [record.frame for record in run.arms[1].injections] == [15, 30]


def test_a_folder_without_run_json_is_named(tmp_path):
    """A folder that is not a run is refused by name."""
    with pytest.raises(InputError, match=r"is not a run: it has no run\.json"):
        load_run(tmp_path)


def test_a_folder_that_cannot_be_looked_into_is_a_storage_error(tmp_path):
    """The system does not tell what is there (here a name that is too long): not a bug of ours."""
    with pytest.raises(StorageError, match=r"cannot look for .*too long"):
        load_run(tmp_path / ("a" * 300))


def test_another_version_is_refused(tmp_path):
    """A run of a later format is not guessed at."""
    folder = write_run(tmp_path / "run", frames=0, version=2)
    with pytest.raises(InputError, match="has version 2, but this reverie reads version 1"):
        load_run(folder)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"{", "is not JSON"),
        (b"[]", "must hold an object, got list"),
        (b'{"version": 1, "arms": []}', "lists no arms"),
        (b'{"version": 1, "arms": [3]}', "an arm must be an object, got int"),
        (b'{"version": 1, "arms": [{"name": 3}]}', "'name' must be text, got int"),
        (b'{"version": 1, "arms": [{"name": "a", "summary": 3}]}', "'summary' must be an object, got int"),
        (b'{"version": 1, "arms": [{"name": "a", "folder": "../b"}]}', "leads out of the run"),
    ],
)
def test_a_damaged_run_json_is_a_clear_error(tmp_path, text, words):
    """Each kind of damage in run.json says what is wrong."""
    (tmp_path / "run.json").write_bytes(text)
    with pytest.raises(InputError, match=words):
        load_run(tmp_path)


@pytest.mark.parametrize("torn", [b'{"frame": 41, "se', b'{"frame": 41, "se\n', b"\0\0\0\0"])
def test_a_torn_last_line_is_skipped(run_folder, torn):
    """A process killed while it wrote costs that line and nothing else."""
    journal = run_folder / "with" / "journal.jsonl"
    journal.write_bytes(journal.read_bytes() + torn)
    records = load_run(run_folder).arms[1].records
    assert [record.frame for record in records] == list(range(1, 41))


def test_a_broken_line_elsewhere_names_file_and_line(run_folder):
    """Damage inside a journal is not skipped silently."""
    journal = run_folder / "with" / "journal.jsonl"
    lines = journal.read_bytes().split(b"\n")
    lines[6] = lines[6][:20]
    journal.write_bytes(b"\n".join(lines))
    with pytest.raises(InputError, match=r"journal\.jsonl', line 7: not JSON"):
        load_run(run_folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"frame": "4"}, "line 40: 'frame' must be a whole number"),
        ({"frame": True}, "line 40: 'frame' must be a whole number"),
        ({"frame": 40, "injected": "x"}, "line 40: 'injected' must be an object or null, got str"),
        ({"frame": 40, "measures": []}, "line 40: 'measures' must be an object, got list"),
        ({"frame": 40, "reason": 1}, "line 40: 'reason' must be text, got int"),
    ],
)
def test_a_wrong_type_in_the_journal_is_an_error(run_folder, change, words):
    """A line that is JSON but not a record is named, wherever it stands."""
    journal = run_folder / "with" / "journal.jsonl"
    lines = journal.read_bytes().splitlines()
    lines[-1] = orjson.dumps(change)
    journal.write_bytes(b"\n".join(lines))
    with pytest.raises(InputError, match=words):
        load_run(run_folder)


def test_a_frame_written_twice_counts_once(run_folder):
    """After a resume the later line of a frame counts."""
    journal = run_folder / "with" / "journal.jsonl"
    again = orjson.dumps({"frame": 40, "reason": "again", "unknown": 1})
    journal.write_bytes(journal.read_bytes() + again + b"\n")
    records = load_run(run_folder).arms[1].records
    assert len(records) == 40
    assert records[-1].reason == "again"


def test_a_missing_or_broken_frame_has_no_picture(run_folder):
    """A frame that is gone or damaged is simply not there; the others are."""
    (run_folder / "with" / "frames" / "000007.png").unlink()
    (run_folder / "with" / "frames" / "000008.png").write_bytes(b"not a picture")
    arm = load_run(run_folder).arms[1]
    assert arm.picture(7) is None
    assert arm.picture(8) is None
    assert arm.picture(9).size == (32, 32)
    assert 7 not in arm.numbers


def test_a_source_outside_the_run_is_not_read(tmp_path, run_folder):
    """A journal cannot pull other pictures of the disk into a report, neither by path nor by link."""
    Image.new("RGB", (4, 4)).save(tmp_path / "private.png")
    (run_folder / "with" / "link.png").symlink_to(tmp_path / "private.png")
    arm = load_run(run_folder).arms[1]
    assert arm.image("../../private.png") is None
    assert arm.image(str(tmp_path / "private.png")) is None
    assert arm.image("link.png") is None
    assert arm.image("seeds/003.png") is not None


def test_an_arm_without_journal_or_frames_is_empty(tmp_path):
    """A run that was stopped at once opens."""
    (tmp_path / "run.json").write_bytes(orjson.dumps({"version": 1, "arms": [{"name": "a"}]}))
    run = load_run(tmp_path)
    assert run.last == 0
    assert run.arms[0].numbers == ()
    assert run.arms[0].title == "a"
    assert run.size == (128, 128)
    assert not run.finished


@pytest.mark.parametrize(
    ("first", "last", "count", "expected"),
    [
        (0, 300, 4, [0, 100, 200, 300]),
        (0, 2, 24, [0, 1, 2]),
        (0, 0, 24, [0]),
        (3, 9, 1, [3]),
        (0, 10, 4, [0, 3, 7, 10]),
    ],
)
def test_evenly(first, last, count, expected):
    """Both ends are there, and no number comes twice."""
    assert list(evenly(first, last, count)) == expected
