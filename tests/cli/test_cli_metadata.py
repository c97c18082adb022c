"""`reverie metadata`: what it shows people and machines, and of which files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_runs import Run

import picture_files


@pytest.fixture
def folder(own_folder: Path) -> Path:
    """The working folder, with pictures of two programs, one of none, and one that is no picture."""
    (own_folder / "a.png").write_bytes(picture_files.png({"parameters": picture_files.INFOTEXT}))
    (own_folder / "b.png").write_bytes(picture_files.png({"prompt": json.dumps(picture_files.GRAPH)}))
    (own_folder / "c.png").write_bytes(picture_files.png({}))
    (own_folder / "d.png").write_bytes(b"no picture")
    return own_folder


def test_people_see_facts(folder: Path, reverie: Run) -> None:
    """The program, the prompt, what it is to keep away from, then the rest; nothing known is said so."""
    done = reverie("metadata", "a.png", "b.png", "c.png", "d.png")
    assert done.exit_code == 0
    first, second, *rest = done.stdout.rstrip().split("\n\n")
    lines = dict(line.split(maxsplit=1) for line in first.splitlines() if "  " in line)
    assert list(lines)[:3] == ["image", "by", "prompt"]
    assert lines["by"] == "AUTOMATIC1111"
    assert first.splitlines()[3].split(maxsplit=2) == ["negative", "prompt", picture_files.NEGATIVE]
    assert "ComfyUI" in second
    assert not rest
    assert done.stderr.splitlines() == [
        f"{name}.png says nothing that is known here of how it was made" for name in "cd"
    ]


def test_machines_get_a_line_for_each(folder: Path, reverie: Run) -> None:
    """Names from standard input; a file that is not there has its error, and the exit code is 1."""
    done = reverie("metadata", "-", "--json", input="a.png\nc.png\nnope.png\n")
    first, nothing, missing = map(json.loads, done.stdout.splitlines())
    assert done.exit_code == 1
    assert (first["source"], first["error"]) == ("AUTOMATIC1111", None)
    assert first["prompt"].startswith(picture_files.PROMPT)
    assert first["params"]["seed"] == 965400086
    assert nothing == {
        "image": "c.png", "error": None, "source": None, "prompt": "", "params": {}, "parents": {}
    }  # fmt: skip
    assert missing == {"image": "nope.png", "error": "no image at 'nope.png'"}
    assert done.stderr == "reverie: no image at 'nope.png'\n"


def test_texts_as_they_are(folder: Path, reverie: Run) -> None:
    """Every line of every chunk, without what steers a terminal; as JSON exactly."""
    (folder / "a.png").write_bytes(picture_files.png({"parameters": "one\x1b[2J\ntwo", "Software": "x"}))
    done = reverie("metadata", "--raw", "a.png", "c.png")
    assert done.stdout.splitlines() == [
        "a.png: parameters", "  one\N{REPLACEMENT CHARACTER}[2J", "  two", "a.png: Software", "  x"
    ]  # fmt: skip
    assert done.stderr == "c.png carries no texts\n"
    told = json.loads(reverie("metadata", "--raw", "--json", "a.png").stdout)
    assert told == {
        "image": "a.png", "error": None, "texts": {"parameters": "one\x1b[2J\ntwo", "Software": "x"}
    }  # fmt: skip


def test_frames_of_reverie_name_their_parents(own_folder: Path, reverie: Run) -> None:
    """With their weights."""
    from PIL import Image, PngImagePlugin

    from reverie.metadata import own_texts

    info = PngImagePlugin.PngInfo()
    for name, text in own_texts("night", {"seed": 7}, {"cache_00003": 0.25}).items():
        info.add_itxt(name, text)
    Image.new("RGB", (8, 8)).save("frame.png", pnginfo=info)
    done = reverie("metadata", "frame.png")
    assert done.stdout.split()[:6] == ["image", "frame.png", "by", "reverie", "prompt", "night"]
    assert done.stdout.rstrip().endswith("cache_00003, weight 0.25")
