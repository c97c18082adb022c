"""study.html and all that is written beside it."""

from __future__ import annotations

import json
import re

import pytest
from html_pages import HOSTILE, Page
from study_results import DESIGN, results, write_strips

from reverie.errors import StorageError
from reverie.report.study_files import write_study
from reverie.report.study_page import StudyResults, render_study
from reverie.study.bars import check_bars
from reverie.study.design import Design
from reverie.study.statistics import grouped
from reverie.study.tables import as_markdown, bar_cells, group_cells

GROUP = ("latent-35", 3)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A study of four arms and three loops: its folder and its files."""
    folder = tmp_path_factory.mktemp("study")
    write_strips(folder, results())
    return folder, write_study(folder, results(), DESIGN, planned=12)


def text_of(found, design=DESIGN, **options):
    """The page of these results."""
    return render_study(StudyResults(design, grouped(found), **options))


def test_all_files_are_written(written):
    """Page, tables, and for each group plots and a sheet."""
    folder, files = written
    assert [str(path.relative_to(folder)) for path in files] == [
        "study.html",
        "study.md",
        "study.json",
        "plots/overview_03.svg",
        "plots/latent-35_03.svg",
        "sheets/latent-35_03.webp",
    ]
    assert all(path.stat().st_size for path in files)
    assert len(json.loads((folder / "study.json").read_text())["trials"]) == 12


def test_the_markdown_shows_the_pictures(written):
    """By relative path, below the table of their group; without them it is the same table."""
    folder, _ = written
    text = (folder / "study.md").read_text()
    paths = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
    assert paths == ["plots/overview_03.svg", "plots/latent-35_03.svg", "sheets/latent-35_03.webp"]
    assert all((folder / path).is_file() for path in paths)
    assert text.index("| wander") < text.index(paths[1])
    plain = as_markdown(results(), DESIGN)
    assert re.sub(r"!\[.*\n\n", "", text) == plain


def test_the_page_needs_nothing_else(written):
    """No address but data and its own sections, no script; every element is closed."""
    text = (written[0] / "study.html").read_text()
    page = Page(text)
    assert page.stack == []
    assert not page.has("script")
    assert not page.has("link")
    assert "url(" not in text
    pictures = [address for address in page.addresses if not address.startswith("#")]
    assert len(pictures) == 4
    assert all(address.startswith("data:image/webp;base64,") for address in pictures)
    ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    assert {address[1:] for address in page.addresses if address.startswith("#")} == ids


def test_readable_on_a_phone_in_light_and_dark(written):
    """A viewport, narrow plots for small screens, and both colour schemes."""
    text = (written[0] / "study.html").read_text()
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in text
    assert "@media (prefers-color-scheme:dark)" in text
    assert text.count('<div class="wide">') == text.count('<div class="narrow">') == 3


def test_the_page_has_the_figures_of_the_table(written):
    """Every cell of study.md stands on the page, and every check with what was found."""
    page = Page((written[0] / "study.html").read_text())
    heads, rows = group_cells(grouped(results())[GROUP])
    words = page.text.replace("(", "").replace(")", "")
    for cells in (heads[1:], *rows):
        assert " ".join(cell.replace("(", "").replace(")", "") for cell in cells if cell) in words
    for bar in check_bars(grouped(results())):
        measured, verdict = bar_cells(bar)
        found = f"{verdict}: {measured}".replace("(", "").replace(")", "")
        assert f"{bar.what} {bar.asked} {found}" in words


def test_the_headline_counts_the_checks():
    """Those that are missed are not hidden."""
    found = results()
    for each in found:
        each["figures"]["blends"] += 0.02
    bars = check_bars(grouped(found))
    met = sum(bar.met for bar in bars)
    assert 0 < met < len(bars)
    text = text_of(found)
    assert f"{met} of the {len(bars)} checks of what memory has to prove are met." in Page(text).text
    assert text.count('<td><span class="missed">') == len(bars) - met


def test_says_how_it_was_made_and_how_to_read_it():
    """The command, the arms in words, the columns."""
    page = Page(text_of(results()))
    arms = "--arm none --arm restart --arm control --arm wander"
    for words in (
        f"reverie study --part held-out {arms} --generator latent-35 --pictures 3 --loops 3 --frames 40",
        "Every 15 frames a random seed picture, through our own transition and cap.",
        "How many clearly different pictures a loop amounts to",
        "held-out · 12 loops of 40 frames",
    ):
        assert words in page.text
    whole = Page(text_of(results(), Design().as_dict()))
    assert "reverie study --part held-out --loops 16 --frames 400" in whole.text


def test_the_development_part_is_named():
    """Parameters are chosen on it: the page says that first."""
    assert "This is the development part" in text_of(results(), {**DESIGN, "part": "development"})
    assert "This is the development part" not in text_of(results())


def test_half_a_study_gives_a_page(tmp_path):
    """One loop, no control, no strip: what there is, what is missing, no interval."""
    found = results(("none", "wander"), (0,))
    files = write_study(tmp_path, found, DESIGN, planned=12)
    page = Page(files[0].read_text())
    assert page.stack == []
    assert "2 of 12 loops are there" in page.text
    assert "One loop of each arm: there are no intervals" in page.text
    assert "not there" in files[0].read_text()
    assert 'class="whisker"' not in files[0].read_text()


def test_a_loop_that_serves_several_numbers_of_pictures_counts_once():
    """The arm that knows no seed picture."""
    found = results(("none", "wander"), (0, 1), [("latent-35", 3), ("latent-35", 1)])
    assert StudyResults(DESIGN, grouped(found)).done == 6


def test_nothing_yet_gives_a_page(tmp_path):
    """No loop, no table, no plot; and no claim."""
    files = write_study(tmp_path, [], DESIGN, planned=12)
    assert [path.name for path in files] == ["study.html", "study.md", "study.json"]
    page = Page(files[0].read_text())
    assert "No loop was run yet." in page.text
    assert page.stack == []


def test_without_ours_nothing_is_checked():
    """Arms side by side, no headline of checks."""
    page = Page(text_of(results(("none", "control"))))
    assert "Injection policies side by side." in page.text
    assert "What memory has to prove" not in page.text


def test_every_text_of_the_results_is_escaped():
    """Generators, parts and arms cannot become markup."""
    found = results(groups=[(HOSTILE, 3)])
    design = {**DESIGN, "part": HOSTILE, "generators": [HOSTILE], "arms": [HOSTILE]}
    page = Page(text_of(found, design))
    assert not page.has("script")
    assert page.stack == []
    assert page.text.count('<script>alert("x")</script>&amp;') >= 6


def test_many_pictures_are_embedded_smaller(tmp_path):
    """A large study stays a page that opens."""
    groups = [("latent-35", pictures) for pictures in range(1, 25)]
    found = results(seeds=(1,), groups=groups) + results(("gentle",), (1,), groups)
    write_strips(tmp_path, found)
    text = write_study(tmp_path, found, DESIGN)[0].read_text()
    assert text.count('width="96" height="16"') == 120
    assert len(text) < 1_500_000


def test_the_same_results_give_the_same_files(written, tmp_path):
    """Byte for byte."""
    _, files = written
    write_strips(tmp_path, results())
    again = write_study(tmp_path, results(), DESIGN, planned=12)
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in files]


def test_a_folder_that_cannot_be_made(tmp_path):
    """One of our errors, with the folder."""
    (tmp_path / "plots").write_text("in the way")
    with pytest.raises(StorageError, match="plots"):
        write_study(tmp_path, [], DESIGN)
