"""The README and the documents: their code runs, their links lead somewhere, they name what exists."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import reverie
from reverie.models.store import model_files

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: page.name)
def test_code_blocks_run(page, tmp_path, monkeypatch, capsys, request):
    """The Python blocks of a page run one after the other, in an empty folder; CLIP is a small network."""
    monkeypatch.chdir(tmp_path)
    if '"clip' in "".join(blocks(page)):
        folder = request.getfixturevalue("tiny_folder")
        monkeypatch.setattr(
            "reverie.encoders.clip.model_files",
            lambda *what, **how: model_files(*what, **{**how, "model_dir": folder}),
        )
    names: dict[str, object] = {"__name__": f"docs_{page.stem}"}
    for number, block in enumerate(blocks(page), start=1):
        exec(compile(block, f"{page.name}, block {number}", "exec"), names)  # noqa: S102 - our own documents
    for value in names.values():
        if isinstance(value, (reverie.ImageMemory, reverie.CacheManager)):
            value.close()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    """Every relative link and image of a page is a file of the project."""
    links = re.findall(r"\]\(([^)#]+)\)", page.read_text())
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert missing == []


def test_api_page_names_everything_public():
    """docs/api.md has every public name."""
    page = (ROOT / "docs" / "api.md").read_text()
    assert [name for name in reverie.__all__ if name != "__version__" and f"`{name}" not in page] == []


def test_readme_starts_with_sentence_picture_command_code():
    """The first screen of the README: one sentence, the picture, the command, ten lines of code."""
    text = (ROOT / "README.md").read_text()
    order = [
        text.index(mark)
        for mark in ("# Reverie", "**The image memory", "![", "make demo", "```python", "make test")
    ]
    assert order == sorted(order)
    assert len(blocks(ROOT / "README.md")[0].splitlines()) <= 14


def test_changelog_names_the_version_or_unreleased():
    """CHANGELOG.md has a section for what is not released, or for this version."""
    text = (ROOT / "CHANGELOG.md").read_text()
    assert "## Unreleased" in text or f"## {reverie.__version__}" in text


def test_backend_example_passes_its_suite(tmp_path):
    """The example of docs/writing-a-backend.md passes the conformance suite that the page names."""
    page = ROOT / "docs" / "writing-a-backend.md"
    module = tmp_path / "test_example.py"
    module.write_text("\n".join(blocks(page)))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(module)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert int(re.search(r"(\d+) passed", done.stdout).group(1)) >= 5
