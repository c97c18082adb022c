from __future__ import annotations

import pytest
from PIL import Image
from report_runs import write_run

from reverie.errors import InputError, MissingDependencyError
from reverie.report import write_report

ALWAYS = ["contact_sheet.png", "effective_images.svg", "similarity.svg", "report.html"]


@pytest.fixture
def no_ffmpeg(monkeypatch, tmp_path):
    """A PATH without ffmpeg."""
    monkeypatch.setenv("PATH", str(tmp_path))


def names(paths):
    """File names in order."""
    return [path.name for path in paths]


@pytest.mark.usefixtures("no_ffmpeg")
@pytest.mark.parametrize("animation", ["webp", "gif"])
def test_writes_everything(tmp_path, animation):
    """All files are in the run's folder, readable, and nothing temporary is left."""
    run_folder = write_run(tmp_path / "run", frames=4)
    before = {path.name for path in run_folder.iterdir()}
    written = write_report(run_folder, animation=animation)
    assert names(written) == [*ALWAYS, f"animation.{animation}"]
    assert {path.name for path in run_folder.iterdir()} == before | set(names(written))
    with Image.open(run_folder / "contact_sheet.png") as sheet:
        assert sheet.width == 2000
    with Image.open(run_folder / f"animation.{animation}") as film:
        assert film.n_frames == 5
    assert (run_folder / "report.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


@pytest.mark.usefixtures("ffmpeg")
def test_an_mp4_comes_along_where_ffmpeg_is(tmp_path):
    """With ffmpeg there is an MP4 beside the WebP, and only one when MP4 was asked for."""
    folder = write_run(tmp_path / "run", frames=2)
    assert names(write_report(folder)) == [*ALWAYS, "animation.webp", "animation.mp4"]
    assert names(write_report(folder, animation="mp4")) == [*ALWAYS, "animation.mp4"]


def test_an_ffmpeg_that_fails_costs_only_the_extra(tmp_path, monkeypatch):
    """A report is complete without the extra MP4; asked for by name, its failure is an error."""
    program = tmp_path / "bin" / "ffmpeg"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    folder = write_run(tmp_path / "run", frames=2)
    assert names(write_report(folder)) == [*ALWAYS, "animation.webp"]
    with pytest.raises(MissingDependencyError, match="it said nothing"):
        write_report(folder, animation="mp4")


@pytest.mark.usefixtures("no_ffmpeg")
def test_the_same_folder_gives_the_same_files(tmp_path):
    """A second report does not differ in a byte, and takes the place of the first."""
    folder = write_run(tmp_path / "run", frames=2)
    first = [path.read_bytes() for path in write_report(folder)]
    assert [path.read_bytes() for path in write_report(folder)] == first


@pytest.mark.usefixtures("no_ffmpeg")
def test_each_file_is_replaced_in_one_step(tmp_path, monkeypatch):
    """A failure half way leaves whole files: old ones, or new ones, and no other."""
    folder = write_run(tmp_path / "run", frames=2)
    write_report(folder)
    old = (folder / "report.html").read_bytes()

    def broken(run):
        raise RuntimeError("half way")

    monkeypatch.setattr("reverie.report.write.render_html", broken)
    with pytest.raises(RuntimeError, match="half way"):
        write_report(folder)
    assert (folder / "report.html").read_bytes() == old
    assert not [path for path in folder.iterdir() if path.name.startswith(".partial")]


@pytest.mark.usefixtures("no_ffmpeg")
def test_an_interrupted_run_gets_its_report(tmp_path):
    """After Ctrl-C, or before the first frame, there is a report of what there is."""
    early = write_run(tmp_path / "early", frames=3, finished=False)
    assert "stopped early" in write_report(early)[3].read_text(encoding="utf-8")
    nothing = write_run(tmp_path / "nothing", frames=0, finished=False)
    assert len(write_report(nothing)) == 5


def test_an_unknown_format_is_refused_before_anything_is_written(run_folder):
    """The formats that exist are named."""
    with pytest.raises(InputError, match="there are: gif, mp4, webp"):
        write_report(run_folder, animation="avi")
    assert not (run_folder / "contact_sheet.png").exists()


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    """The error of `load_run` comes through."""
    with pytest.raises(InputError, match="is not a run"):
        write_report(tmp_path)


@pytest.mark.usefixtures("no_ffmpeg")
def test_mp4_without_ffmpeg_is_an_error(run_folder):
    """Asked for by name it is not skipped, and refused before anything is drawn."""
    with pytest.raises(MissingDependencyError, match="ffmpeg"):
        write_report(run_folder, animation="mp4")
    assert not (run_folder / "contact_sheet.png").exists()
