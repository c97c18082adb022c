from __future__ import annotations

import os
import shutil
from pathlib import Path

import imageio_ffmpeg
import pytest
from report_runs import write_run

from reverie.loop.dream import DreamSettings, dream
from reverie.report.run import Run, load_run


@pytest.fixture(scope="session")
def pristine(tmp_path_factory):
    """A finished run that no test changes: 40 frames, 32 pixels, two arms, two injections."""
    return write_run(tmp_path_factory.mktemp("report") / "run")


@pytest.fixture(scope="session")
def dreamt(tmp_path_factory):
    """A run that `dream` itself wrote, which no test changes: 26 frames, 48 pixels."""
    out = tmp_path_factory.mktemp("dreamt") / "run"
    dream(DreamSettings(out, frames=26, size=48))
    return out


@pytest.fixture
def run_folder(pristine, tmp_path):
    """A copy of it that a test may change."""
    return shutil.copytree(pristine, tmp_path / "run")


@pytest.fixture
def run(pristine) -> Run:
    """The pristine run, loaded."""
    return load_run(pristine)


@pytest.fixture
def ffmpeg(tmp_path, monkeypatch) -> None:
    """An ffmpeg on PATH, also where the system has none: the one of the development package."""
    folder = tmp_path / "ffmpeg"
    folder.mkdir()
    program = Path(imageio_ffmpeg.get_ffmpeg_exe())
    (folder / f"ffmpeg{program.suffix if os.name == 'nt' else ''}").symlink_to(program)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
