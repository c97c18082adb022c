"""The files that displays watch."""

import json
import os
import re
import threading

import numpy as np
import pytest
from loop_fakes import Script, scene
from PIL import Image

from reverie import Injector
from reverie.errors import StorageError
from reverie.loop.live import LiveWarning
from reverie.pixels import to_pixels

WIDGET = (
    r'(?siU)"frame_number": ([0-9]+).*"generation_time": ([0-9.]+).*"status": "([^"]+).*'
    r'"current_mode": "([^"]+).*"current_prompt": "([^"]*).*"cache_size": ([0-9]+).*'
    r'"uptime_hours": ([0-9.]+).*"daemon_status": "([^"]+).*"comfyui_status": "([^"]+).*'
    r'"controller_status": "([^"]+).*"is_buffering": (true|false)'
)
"""How the widget of the specification's project reads the status, by order; its U makes `*` lazy."""


def status(folder):
    """What it says."""
    return json.loads((folder / "status.json").read_bytes())


def test_the_picture_and_what_is_said_of_it(memory, tmp_path):
    """After every frame, and at the end."""
    folder = tmp_path / "a" / "live"
    with Injector(memory, Script({3: lambda seen: seen.candidates.ids[0]}), live=folder) as injector:
        assert not any(folder.iterdir())
        for number in range(3):
            injector.observe(scene(number), prompt=f"a\n{number}")
            assert np.array_equal(to_pixels(folder / "current_frame.png"), scene(number))
            said = status(folder)
            assert (said["frame_number"], said["current_prompt"]) == (number + 1, f"a {number}")
            assert (said["cache_size"], said["status"]) == (number + 1, "live")
        assert (said["injected"], said["cache_injections"]) == (True, 1)
        assert (said["reason"], said["state"]) == ("in the script", "warming up")
        assert said["current_mode"] == "injection"
    assert status(folder)["status"] == "stopped"
    assert sorted(path.name for path in folder.iterdir()) == ["current_frame.png", "status.json"]


def test_the_widget_of_the_specifications_project_can_read_it(memory, tmp_path):
    """Its pattern goes by the order of the keys."""
    with Injector(memory, Script(), live=tmp_path) as injector:
        injector.observe(scene(0), prompt='a "quoted" \\ prompt ' + "x" * 200)
        text = (tmp_path / "status.json").read_text(encoding="utf-8")
    lazy = WIDGET.replace("(?siU)", "(?si)").replace(".*", ".*?")
    found = re.search(lazy, text)
    assert found is not None
    assert found.group(1, 3, 4, 6, 8, 10, 11) == (
        "1",
        "live",
        "img2img",
        "1",
        "running",
        "generating",
        "false",
    )


def test_a_reader_never_sees_half_a_picture(memory, tmp_path):
    """Read as fast as can be while it is replaced."""
    broken, stop = [], threading.Event()

    def read():
        while not stop.is_set():
            try:
                with Image.open(tmp_path / "current_frame.png") as picture:
                    picture.load()
                json.loads((tmp_path / "status.json").read_bytes())
            except FileNotFoundError:
                continue
            except Exception as exc:  # noqa: BLE001 - whatever it is
                broken.append(exc)

    reader = threading.Thread(target=read)
    with Injector(memory, "none", live=tmp_path) as injector:
        reader.start()
        for number in range(60):
            injector.observe(np.tile(scene(number), (8, 8, 1)))
        stop.set()
        reader.join()
    assert broken == []


def test_a_display_that_cannot_be_written_does_not_stop_the_loop(memory, tmp_path):
    """A warning; the frame counts."""
    folder = tmp_path / "live"
    with Injector(memory, "none", live=folder) as injector:
        injector.observe(scene(0))
        for path in folder.iterdir():
            path.unlink()
        (folder / "current_frame.png").mkdir()
        with pytest.warns(LiveWarning, match="the display is not up to date"):
            injector.observe(scene(1))
        assert (injector.last.frame, status(folder)["frame_number"]) == (2, 2)


def test_a_folder_that_cannot_be_made_is_said_at_once(memory, tmp_path):
    """Not at the first frame."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="make the folder"):
        Injector(memory, "none", live=tmp_path / "file" / "live")


def test_it_is_written_in_the_background(memory, tmp_path):
    """With the frame that was handed in last, once it is closed."""
    with Injector(memory, "none", live=os.fspath(tmp_path), background=True) as injector:
        for number in range(4):
            injector.observe(scene(number))
    assert status(tmp_path)["frame_number"] == 4
    assert np.array_equal(to_pixels(tmp_path / "current_frame.png"), scene(3))
