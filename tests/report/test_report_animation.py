from __future__ import annotations

import subprocess

import numpy as np
import pytest
from PIL import Image
from report_runs import write_run

from reverie.errors import InputError, MissingDependencyError, StorageError
from reverie.report.animation import animation_webp, write_animation
from reverie.report.run import load_run

SIZE = (560, 330)  # two panels of 256, a gap, margins, titles and the time line


def durations(path):
    """Milliseconds of every frame of an animation."""
    with Image.open(path) as film:
        found = []
        for at in range(film.n_frames):
            film.seek(at)
            film.load()
            found.append(film.info["duration"])
        return found


def test_webp_shows_every_frame(run, tmp_path):
    """One picture a frame, in even time, the last one held; it repeats for ever."""
    path = write_animation(run, tmp_path / "a.webp", fps=10)
    with Image.open(path) as film:
        assert (film.format, film.n_frames, film.size, film.info["loop"]) == ("WEBP", 41, SIZE, 0)
    assert durations(path) == [100] * 40 + [1100]


def test_webp_holds_the_pictures_in_order(run, tmp_path):
    """The left panel of the last frame shows the arm's last frame."""
    path = write_animation(run, tmp_path / "a.webp")
    with Image.open(path) as film:
        film.seek(40)
        shown = np.asarray(film.convert("RGB"), dtype=float)[100:200, 80:200].mean(axis=(0, 1))
    wanted = np.asarray(run.arms[0].picture(40), dtype=float).mean(axis=(0, 1))
    assert np.abs(shown - wanted).max() < 15


def test_gif_shows_every_frame(run, tmp_path):
    """A GIF has smaller panels and times in hundredths of a second that do not drift."""
    path = write_animation(run, tmp_path / "a.gif", fps=12)
    with Image.open(path) as film:
        assert (film.format, film.n_frames, film.size, film.info["loop"]) == ("GIF", 41, (400, 250), 0)
    times = durations(path)
    assert set(times[:-1]) == {80, 90}
    assert abs(sum(times) - (41 * 1000 / 12 + 1000)) <= 10


@pytest.mark.parametrize("suffix", [".webp", ".gif"])
def test_a_budget_costs_frames_not_time(run, tmp_path, suffix):
    """A file that would be too large leaves frames out, keeps the last, and lasts as long."""
    whole = write_animation(run, tmp_path / f"whole{suffix}")
    small = write_animation(run, tmp_path / f"small{suffix}", budget=whole.stat().st_size // 3)
    assert small.stat().st_size <= whole.stat().st_size // 3
    assert 2 <= len(durations(small)) < 20
    assert abs(sum(durations(small)) - sum(durations(whole))) <= 500


def test_a_long_run_is_a_time_lapse(run):
    """At most so many frames as asked for, at the same pace."""
    assert animation_webp(run, most=20)[1] == 14
    assert animation_webp(run, most=41)[1] == 41


@pytest.mark.parametrize("suffix", [".webp", ".gif"])
def test_the_same_run_gives_the_same_bytes(tmp_path, suffix):
    """Two writes of one run do not differ in a byte."""
    run = load_run(write_run(tmp_path / "run", frames=6))
    one = write_animation(run, tmp_path / f"1{suffix}")
    two = write_animation(run, tmp_path / f"2{suffix}")
    assert one.read_bytes() == two.read_bytes()


def test_a_missing_frame_leaves_the_one_before(tmp_path):
    """The film goes on over a hole, and an arm without any picture shows its empty panel."""
    folder = write_run(tmp_path / "run", frames=4)
    (folder / "without" / "frames" / "000003.png").unlink()
    for path in (folder / "with" / "frames").iterdir():
        path.unlink()
    film = write_animation(load_run(folder), tmp_path / "a.webp")
    with Image.open(film) as opened:
        assert opened.n_frames == 5


def test_a_run_of_no_frames_is_one_picture(tmp_path):
    """Only the start image: an animation of one frame."""
    run = load_run(write_run(tmp_path / "run", frames=0))
    for suffix in (".webp", ".gif"):
        with Image.open(write_animation(run, tmp_path / f"a{suffix}")) as film:
            assert getattr(film, "n_frames", 1) == 1


def test_many_arms_stand_in_rows(tmp_path):
    """Five arms are four and one."""
    arms = ("without", "with", "b", "c", "d")
    run = load_run(write_run(tmp_path / "run", frames=1, arms=arms))
    with Image.open(write_animation(run, tmp_path / "a.webp")) as film:
        assert film.size == (2 * 16 + 4 * 256 + 3 * 16, 2 * (34 + 256) + 16 + 40)


@pytest.mark.parametrize("name", ["a.avi", "a", "a.png"])
def test_another_suffix_is_refused(run, tmp_path, name):
    """The formats that exist are named."""
    with pytest.raises(InputError, match=r"\.gif, \.mp4, \.webp"):
        write_animation(run, tmp_path / name)


@pytest.mark.parametrize("fps", [0, -1, 51, float("nan")])
def test_fps_out_of_range_is_refused(run, tmp_path, fps):
    """A pace that no viewer shows is refused before anything is drawn."""
    with pytest.raises(InputError, match="fps must be above 0 and at most 50"):
        write_animation(run, tmp_path / "a.webp", fps=fps)


def test_a_folder_that_is_not_there_is_a_storage_error(tmp_path):
    """The disk's refusal comes as our error."""
    run = load_run(write_run(tmp_path / "run", frames=0))
    with pytest.raises(StorageError):
        write_animation(run, tmp_path / "nowhere" / "a.webp")


def test_mp4_without_ffmpeg_says_what_to_install(run, tmp_path, monkeypatch):
    """No ffmpeg on PATH: the message has the line that installs it, and no file appears."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingDependencyError, match="apt install ffmpeg"):
        write_animation(run, tmp_path / "a.mp4")
    assert not (tmp_path / "a.mp4").exists()


def test_an_ffmpeg_that_fails_is_quoted(run, tmp_path, monkeypatch):
    """What ffmpeg says stands in the error, and an older file is untouched."""
    program = tmp_path / "bin" / "ffmpeg"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'Unknown encoder libx264' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    (tmp_path / "a.mp4").write_bytes(b"old")
    with pytest.raises(MissingDependencyError, match="Unknown encoder libx264"):
        write_animation(run, tmp_path / "a.mp4")
    assert (tmp_path / "a.mp4").read_bytes() == b"old"


@pytest.mark.usefixtures("ffmpeg")
def test_mp4_plays_anywhere(tmp_path):
    """H.264 in 4:2:0 with its index first, every frame there, even sides."""
    run = load_run(write_run(tmp_path / "run", frames=9))
    path = write_animation(run, tmp_path / "a.mp4")
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    assert b"avc1" in data
    info = subprocess.run(["ffmpeg", "-hide_banner", "-i", path], capture_output=True, text=True, check=False)
    assert "yuv420p" in info.stderr
    assert f"{SIZE[0]}x{SIZE[1]}" in info.stderr
    command = ["ffmpeg", "-loglevel", "error", "-i", path, "-f", "rawvideo", "-pix_fmt", "gray", "-"]
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    assert len(raw) == 10 * SIZE[0] * SIZE[1]
