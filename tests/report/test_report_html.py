from __future__ import annotations

import re

import orjson
import pytest
from html_pages import HOSTILE, Page
from report_runs import write_run

from reverie.cache.manager import CacheManager
from reverie.report.html import render_html
from reverie.report.run import load_run


def test_tags_are_balanced(run):
    """Every element that opens closes, in order."""
    page = Page(render_html(run))
    assert page.stack == []
    assert page.tags[0][0] == "html"


def test_the_page_needs_nothing_else(run):
    """No address but data inside the page, no script, no import, no font from elsewhere."""
    text = render_html(run)
    page = Page(text)
    assert page.addresses
    assert all(address.startswith("data:image/webp;base64,") for address in page.addresses)
    assert not page.has("script")
    assert not page.has("link")
    assert "@import" not in text
    assert "url(" not in text
    without_names = text.replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert not re.search(r"https?://", without_names)


def test_readable_on_a_phone_in_light_and_dark(run):
    """A viewport, one column on small screens, and both colour schemes."""
    text = render_html(run)
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in text
    assert "@media (max-width:640px)" in text
    assert "@media (prefers-color-scheme:dark)" in text
    assert "color-scheme:light dark" in text
    assert "prefers-reduced-motion: reduce" in text


def test_says_what_the_run_showed(run):
    """Verdict, figures, charts, injections, settings, command and times stand on the page."""
    page = Page(render_html(run))
    for words in (
        "With memory the loop showed 6.2 effective images in its 40 frames; without it, 1.8.",
        "Effective images over time",
        "Pairwise similarity over time",
        "The next frame, similarity 0.71",
        "frame 15: a memory was due",
        "cache_00015",
        "reverie dream --frames 40 --strength 0.5 --seed 0",
        "descriptor-v1",
        "32 \N{MULTIPLICATION SIGN} 32",
        "Generate 41.0 41.0",
        "Every loop begins with the same picture.",
        "reverie 0.1.0",
    ):
        assert words in page.text


def test_every_text_of_the_run_is_escaped(tmp_path):
    """Titles, prompts, reasons, ids, policies, settings and commands cannot become markup."""
    folder = write_run(tmp_path / "run", frames=16, command=HOSTILE, reverie=HOSTILE, created=HOSTILE)
    data = orjson.loads((folder / "run.json").read_bytes())
    data["settings"] = {HOSTILE: HOSTILE, "prompt": HOSTILE, "list": [HOSTILE]}
    for arm in data["arms"]:
        arm["title"] = HOSTILE
        arm["policy"] = HOSTILE
        arm["summary"][HOSTILE] = 1.0
    (folder / "run.json").write_bytes(orjson.dumps(data))
    record = {
        "frame": 16,
        "reason": HOSTILE,
        "injected": {"cache_id": HOSTILE, "source": HOSTILE},
        "loop": {"name": HOSTILE, "why": HOSTILE},
        "times_ms": {HOSTILE: 1.0},
    }
    with (folder / "with" / "journal.jsonl").open("ab") as journal:
        journal.write(orjson.dumps(record) + b"\n")
    params = {"seed_picture": HOSTILE, "frame": -1, HOSTILE: HOSTILE}
    with CacheManager(folder / "with" / "cache") as cache:
        cache.add(folder / "with" / "seeds" / "003.png", HOSTILE, params, pinned=True)
    page = Page(render_html(load_run(folder)))
    assert not page.has("script")
    assert page.stack == []
    assert page.text.count('<script>alert("x")</script>&amp;') >= 12


def test_a_lost_source_leaves_a_field(run_folder):
    """A memory whose picture is gone is shown as not kept; similarity may be unknown too."""
    (run_folder / "with" / "seeds" / "003.png").unlink()
    journal = run_folder / "with" / "journal.jsonl"
    journal.write_bytes(journal.read_bytes().replace(b'"similarity":0.71', b'"similarity":null'))
    text = render_html(load_run(run_folder))
    assert 'aria-label="Towards: seed 3 cache_00015: not kept"' in text
    assert "similarity unknown" in text


def test_an_injection_after_the_last_frame_has_no_frame_after(tmp_path):
    """The run ended before the memory could show; the page says so."""
    page = Page(render_html(load_run(write_run(tmp_path / "run", frames=15))))
    assert "frame 15 seed 3 cache_00015 not made The run ended here" in page.text


def test_many_injections_are_folded_and_sampled(tmp_path):
    """A dozen stand open, the others fold away, and past seventy-two an even choice is shown and counted."""
    folder = write_run(tmp_path / "run", frames=80, size=8, arms=("with",))
    lines = [orjson.dumps({"frame": n, "injected": {"cache_id": f"cache_{n:05d}"}}) for n in range(1, 81)]
    (folder / "with" / "journal.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    page = Page(render_html(load_run(folder)))
    assert "72 of 80, evenly spaced" in page.text
    assert "60 more" in page.text
    assert page.text.count("similarity unknown") == 72


def test_a_real_run_tells_states_injections_and_memory(dreamt):
    """What `dream` writes today is told with bands, the ways to memories, and the mosaic, in that order."""
    page = Page(render_html(load_run(dreamt)))
    leads = ("What the loop was doing, frame", "The frame that the loop left,", "Everything the loop could")
    order = [page.text.index(words) for words in leads]
    assert order == sorted(order)
    assert "Too few frames yet to say anything." in page.text
    assert "2,000 frames on average, at least, before a false alarm." in page.text
    assert page.stack == []


def test_a_run_of_before_states_and_memories_has_neither(run):
    """A journal without states and a loop without a cache leave those parts out; nothing else is missing."""
    page = Page(render_html(run))
    assert "States over time" not in page.text
    assert "The memory at the end" not in page.text
    assert "Pairwise similarity over time" in page.text


@pytest.mark.parametrize("frames", [0, 1])
def test_a_run_with_hardly_a_frame_gives_a_page(tmp_path, frames):
    """What there is is shown, and nothing is claimed."""
    run = load_run(write_run(tmp_path / "run", frames=frames, finished=False, summary={}))
    page = Page(render_html(run))
    assert page.stack == []
    assert "stopped early" in page.text or frames == 0
    assert page.has("picture") == (frames > 0)


def test_an_arm_without_pictures_gives_a_page(tmp_path):
    """Not even the start image: quiet fields and words."""
    (tmp_path / "run.json").write_bytes(
        orjson.dumps({"version": 1, "arms": [{"name": "a", "policy": "spec"}]})
    )
    page = Page(render_html(load_run(tmp_path)))
    assert page.stack == []
    assert "No frame was made yet" in page.text


def test_is_the_same_every_time(run):
    """The same folder gives the same page, byte for byte."""
    assert render_html(run) == render_html(run)


def test_stays_small(run):
    """Forty frames are far from the limit: pictures are thumbnails, the film is inside its budget."""
    assert len(render_html(run)) < 700_000
