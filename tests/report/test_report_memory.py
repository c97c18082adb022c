from __future__ import annotations

import re

import numpy as np
import orjson
import pytest
from PIL import Image, ImageColor
from report_runs import remember, write_run

from reverie.cache.manager import CacheManager
from reverie.report.contact_sheet import contact_sheet
from reverie.report.drawing import arm_colour
from reverie.report.html import render_html
from reverie.report.memory import load_memory
from reverie.report.mosaic import mosaic_section
from reverie.report.run import load_run


@pytest.fixture
def kept(tmp_path):
    """A run whose loop remembers three pinned seeds and two frames, and went twice to the first frame."""
    folder = write_run(tmp_path / "run", frames=8)
    ids = remember(folder, "with", 3, [2, 5])
    used = [
        {"frame": 3, "injected": {"cache_id": ids[3], "kind": "memory"}},
        {"frame": 4, "injected": {"cache_id": ids[3], "kind": "memory"}},
        {"frame": 5, "injected": {"cache_id": "cache_00099", "kind": "memory"}},
        {"frame": 6, "injected": {"cache_id": None, "kind": "imagined"}},
    ]
    (folder / "with" / "journal.jsonl").write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in used))
    return folder


def snapshot(folder):
    """Every file below a folder with its bytes and its time."""
    files = sorted(path for path in folder.rglob("*"))
    return [(path, path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"") for path in files]


def words_of(run):
    """The section's words, in reading order."""
    return " ".join(re.sub(r"<[^>]+>", " ", mosaic_section(run)).split())


def test_says_what_is_in_it_and_how_often_it_was_used(kept):
    """Seeds and frames by number, pins, and the injections of the journal, the lost ones counted apart."""
    plain, arm = load_run(kept).arms
    memory = load_memory(arm)
    assert [(each.name, each.pinned, each.uses) for each in memory.kept] == [
        ("seed 0", True, 0),
        ("seed 1", True, 0),
        ("seed 2", True, 0),
        ("frame 2", False, 2),
        ("frame 5", False, 0),
    ]
    assert (memory.lost_uses, memory.imagined, memory.readable) == (1, 1, True)
    assert load_memory(plain) is None


def test_looking_changes_nothing(dreamt):
    """Not a byte and not a time of the cache of a real run, and no use is counted."""
    cache = dreamt / "with" / "cache"
    before = snapshot(cache)
    assert load_memory(load_run(dreamt).arms[1]).kept
    assert snapshot(cache) == before


def test_the_mosaic_shows_every_picture(kept):
    """A tile each with words for who cannot see it; pins and uses are marked and summed up."""
    run = load_run(kept)
    section, words = mosaic_section(run), words_of(run)
    assert section.count("<img") == 5
    assert section.count('<li class="pinned"') == 3
    assert 'alt="Seed 0 (cache_00001), pinned, used never"' in section
    assert 'alt="Frame 2 (cache_00004), used twice"' in section
    assert "2\N{MULTIPLICATION SIGN} frame 2" in words
    assert "3 with a ring are pinned and stay, whatever comes." in words
    assert "1 of 5 were used, frame 2 most often (twice)." in words
    assert "It went once towards what the memory has let go of since." in words
    assert "It went once towards something imagined." in words


def test_a_large_memory_is_sampled(tmp_path):
    """Past a hundred and fifty pictures an even choice is shown, and said to be one."""
    folder = write_run(tmp_path / "run", frames=1, size=8, arms=("with",))
    remember(folder, "with", 160, [], size=4, most=200)
    run = load_run(folder)
    assert "160 pictures, 150 of them shown, evenly spaced" in words_of(run)
    assert mosaic_section(run).count("<img") == 150


def test_a_picture_that_is_gone_leaves_a_field(kept):
    """The others are shown all the same."""
    (kept / "with" / "cache" / "images" / "cache_00002.png").unlink()
    assert mosaic_section(load_run(kept)).count("<img") == 4
    assert 'aria-label="Seed 1 (cache_00002), pinned, used never: not kept"' in mosaic_section(load_run(kept))


def test_a_damaged_cache_costs_its_section_only(kept):
    """The report says so, names what helps, and leaves the damaged file as it is."""
    index = kept / "with" / "cache" / "metadata" / "cache_index.json"
    index.write_bytes(b"{ damaged")
    run = load_run(kept)
    assert "It cannot be read; reverie cache check says what is wrong." in words_of(run)
    assert "Key figures" in render_html(run)
    assert contact_sheet(run).width == 2000
    assert index.read_bytes() == b"{ damaged"


def test_an_empty_memory_says_so(kept):
    """All of it was removed; the contact sheet has nothing to show."""
    with CacheManager(kept / "with" / "cache") as cache:
        cache.clear()
    run = load_run(kept)
    assert load_memory(run.arms[1]).kept == ()
    assert "It is empty." in words_of(run)
    assert contact_sheet(run).width == 2000


def test_a_cache_outside_the_run_is_not_read(kept, tmp_path):
    """A link cannot pull another cache into a report."""
    cache = kept / "with" / "cache"
    cache.rename(tmp_path / "elsewhere")
    cache.symlink_to(tmp_path / "elsewhere")
    assert load_memory(load_run(kept).arms[1]) is None


def test_a_folder_that_is_no_cache_is_passed_over(tmp_path):
    """Neither a folder of another kind nor one half gone is made into a cache by looking."""
    folder = write_run(tmp_path / "run", frames=1)
    (folder / "with" / "cache" / "metadata").mkdir(parents=True)
    assert load_memory(load_run(folder).arms[1]) is None
    assert not (folder / "with" / "cache" / "images").exists()


def test_the_contact_sheet_shows_the_memory(kept):
    """It grows by the memory, rings what is pinned, and is as it was where nothing is remembered."""
    with_memory = contact_sheet(load_run(kept))
    (kept / "with" / "cache").rename(kept / "with" / "moved")
    without = contact_sheet(load_run(kept))
    grown = with_memory.height - without.height
    assert grown > 150
    below = np.asarray(with_memory)[without.height - 64 : -64]
    ring = (below == ImageColor.getrgb(arm_colour(1))).all(axis=2)
    assert ring.any()
    assert not ring[:, 400:].any()  # three seeds are pinned, the frames after them are not


def test_a_tall_picture_fits_its_tile(tmp_path):
    """Pictures of another shape than the frames are cut to it, not squeezed."""
    folder = write_run(tmp_path / "run", frames=1)
    remember(folder, "with", 1, [])
    Image.new("RGB", (20, 90), "red").save(folder / "with" / "cache" / "images" / "cache_00001.png")
    assert 'width="112" height="112"' in mosaic_section(load_run(folder))
