"""A command line in a folder of its own, 80 columns wide, and a cache with three entries."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from cli_runs import LONG_PROMPT, Run
from click.testing import CliRunner, Result

from reverie import CacheManager
from reverie.cli.main import cli


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test runs in an empty folder, without a cache in the environment or at home."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("REVERIE_CACHE", raising=False)
    for name in ("HOME", "XDG_DATA_HOME", "LOCALAPPDATA", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    return folder


@pytest.fixture
def reverie() -> Run:
    """``reverie("cache", "list", input=None)``: run a command; exit code, standard output and error."""

    def run(*arguments: object, input: str | None = None) -> Result:  # noqa: A002 - click's own word
        return CliRunner().invoke(cli, [str(argument) for argument in arguments], input=input)

    return run


@pytest.fixture
def filled(own_folder: Path, png: Callable[..., Path]) -> Path:
    """``./cache`` with cache_00001 (long prompt), cache_00002 (pinned) and cache_00003 (no vector)."""
    from reverie.cache.aesthetic_matcher import AestheticMatcher

    matcher = AestheticMatcher("descriptor")
    with CacheManager("cache") as cache:
        for seed, prompt in enumerate([LONG_PROMPT, "夜の夢", ""]):
            path = png(f"filled-{seed}.png", seed)
            vector = matcher.encode_image(path) if seed < 2 else None
            cache.add(path, prompt, {"denoise": 0.4, "note": "[b]x[/b]"}, vector, pinned=seed == 1)
    return own_folder / "cache"
