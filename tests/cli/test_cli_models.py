"""`reverie models`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from cli_runs import Run, widest
from huggingface_hub import constants
from rich.console import Console

import reverie.cli.downloading
import reverie.cli.model_listing
from hub_server import Fault, Hub, serving, use
from reverie.cli.downloading import downloads
from reverie.models import cards
from reverie.models import hub as hub_module
from reverie.models.cards import ModelCard, Source, card_of
from reverie.models.store import model_files

VISION, TEXT, TOKENS = "onnx/vision_model.onnx", "onnx/text_model.onnx", "tokenizer.json"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub on this machine."""
    with serving() as running:
        use(running.url, tmp_path, monkeypatch)
        monkeypatch.setattr(hub_module, "_CHUNK", 500)
        monkeypatch.setattr(hub_module, "_PAUSES", (0.0, 0.0))
        yield running


@pytest.fixture
def card(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> ModelCard:
    """clip-vit-b32 with small files; the other cards are as they are."""
    files = {VISION: bytes(2_000), TEXT: bytes(1_000), TOKENS: b"{}"}
    sizes = {name: len(data) for name, data in files.items()}
    onnx = Source("tiny/clip", hub.add("tiny/clip", files), (VISION,), (TEXT, TOKENS), {}, sizes)
    small = dataclasses.replace(card_of("clip-vit-b32"), onnx=onnx)
    table = {**cards.CARDS, small.name: small}
    monkeypatch.setattr(cards, "CARDS", table)
    monkeypatch.setattr(reverie.cli.model_listing, "CARDS", table)
    return small


def snapshot(card: ModelCard) -> Path:
    return Path(constants.HF_HUB_CACHE) / "models--tiny--clip" / "snapshots" / card.onnx.revision


def test_pull_downloads_what_pictures_need(reverie: Run, hub: Hub, card: ModelCard) -> None:
    """One line a file on standard error, the result on standard output; again: checked, nothing fetched."""
    done = reverie("models", "pull", "clip-vit-b32")
    assert done.exit_code == 0
    assert done.stderr == f"downloaded {VISION} of tiny/clip, 2.0 kB\n"
    assert done.stdout.startswith("clip-vit-b32: 1 file, 2.0 kB in ")
    assert done.stdout.strip().endswith(card.onnx.revision)
    again = reverie("models", "pull", "clip-vit-b32")
    assert (again.stderr, again.stdout) == ("", done.stdout)
    assert hub.fetched(VISION) == [None]


def test_a_model_by_the_name_of_its_encoder(reverie: Run, hub: Hub, card: ModelCard) -> None:
    """``clip`` is ``clip-vit-b32`` here as in --encoder; what is said has the full name."""
    assert reverie("models", "path", "clip").stderr.endswith("reverie models pull clip-vit-b32\n")
    assert reverie("models", "pull", "clip").stdout.startswith("clip-vit-b32: 1 file, 2.0 kB in ")
    assert reverie("models", "path", "clip").stdout == f"{snapshot(card)}\n"
    assert reverie("models", "remove", "clip", "--yes").stdout.startswith("removed clip-vit-b32: 2.0 kB")
    assert reverie("models", "remove", "clip").stdout == "nothing of clip-vit-b32 is on this machine\n"


def test_pull_with_texts(reverie: Run, hub: Hub, card: ModelCard) -> None:
    """--text adds the text network and the tokenizer."""
    done = reverie("models", "pull", "clip-vit-b32", "--text")
    assert done.stdout.startswith("clip-vit-b32: 3 files, 3.0 kB in ")
    assert reverie("models", "pull", "dinov2-base", "--text").stderr == (
        "reverie: 'dinov2-base' knows no texts, only pictures\n"
    )


def test_pull_that_fails_says_why(reverie: Run, hub: Hub, card: ModelCard) -> None:
    """One line and exit code 1, as every error; also for a name nobody knows."""
    hub.always = Fault(status=503)
    done = reverie("models", "pull", "clip-vit-b32")
    assert done.exit_code == 1
    assert done.stderr.startswith("reverie: the download of tiny/clip stopped: HTTP 503")
    assert done.stderr.count("\n") == 1
    assert "there are: clip-vit-b32" in reverie("models", "pull", "nix").stderr
    assert reverie("models", "pull", "clip-vit-b32", "--for", "jax").exit_code == 2


def test_list_shows_what_is_here(reverie: Run, hub: Hub, card: ModelCard) -> None:
    """A line a model that fits the terminal: dimensions, licence, size, what is here, where from."""
    lines = reverie("models", "list").stdout.splitlines()
    assert len(lines) == 7
    assert lines[-1] == "What runs them: reverie models engines"
    assert lines[1].split()[:4] == ["clip-vit-b32", "512", "MIT", "2.0"]
    assert "tiny/clip" in lines[1]
    assert " - " in lines[1]
    model_files(card, "onnx")
    assert "pictures (onnx)" in reverie("models", "list").stdout
    model_files(card, "onnx", text=True)
    done = reverie("models", "list")
    assert "all (onnx)" in done.stdout
    assert widest(done.stdout) <= 80
    assert hub.asked[-1].path.endswith(TOKENS)


def test_list_for_machines(reverie: Run, hub: Hub, card: ModelCard) -> None:
    """One JSON document a model, with everything that the table shows and the revision."""
    model_files(card, "onnx", text=True, vision=False)
    found = [json.loads(line) for line in reverie("models", "list", "--json").stdout.splitlines()]
    assert [model["name"] for model in found] == list(cards.CARDS)
    assert found[0]["files"]["onnx"] == {
        "repo": "tiny/clip",
        "revision": card.onnx.revision,
        "vision_bytes": 2_000,
        "text_bytes": 1_002,
        "vision_here": False,
        "text_here": True,
        "folder": str(snapshot(card)),
    }
    dino = next(model for model in found if model["name"] == "dinov2-base")
    assert (dino["knows_texts"], dino["files"]["onnx"]["text_bytes"]) == (False, None)
    assert dino["files"]["torch"]["folder"] is None


def test_path_prints_a_folder_for_model_dir(reverie: Run, hub: Hub, card: ModelCard) -> None:
    """What it prints can be given as a local folder."""
    missing = reverie("models", "path", "clip-vit-b32")
    assert (missing.exit_code, missing.stdout) == (1, "")
    assert "reverie models pull clip-vit-b32" in missing.stderr
    model_files(card, "onnx", text=True)
    printed = reverie("models", "path", "clip-vit-b32").stdout
    assert printed == f"{snapshot(card)}\n"
    assert model_files(card, "onnx", text=True, model_dir=printed.strip()).paths[TOKENS].is_file()
    torch = reverie("models", "path", "clip-vit-b32", "--for", "torch")
    assert torch.stderr.rstrip().endswith("reverie models pull clip-vit-b32 --for torch")


def test_remove_asks_and_says_how_much(
    reverie: Run, hub: Hub, card: ModelCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outside of a terminal it wants --yes; in one it asks with the size; no is no."""
    assert (
        reverie("models", "remove", "clip-vit-b32").stdout == "nothing of clip-vit-b32 is on this machine\n"
    )
    model_files(card, "onnx")
    assert reverie("models", "remove", "clip-vit-b32").exit_code == 2
    monkeypatch.setattr("reverie.cli.output.is_interactive", lambda: True)
    refused = reverie("models", "remove", "clip-vit-b32", input="n\n")
    assert "Remove clip-vit-b32 (2.0 kB)?" in refused.stderr
    assert (snapshot(card) / VISION).exists()
    done = reverie("models", "remove", "clip-vit-b32", "--yes")
    assert done.stdout == "removed clip-vit-b32: 2.0 kB in 2 files\n"
    assert not (snapshot(card) / VISION).exists()


def test_a_terminal_shows_bars(hub: Hub, card: ModelCard, monkeypatch: pytest.MonkeyPatch) -> None:
    """File name, how much of how much, rate and time left; gone on with from where it was."""
    hub.faults = [Fault(cut=1_000)]
    screen = Console(
        force_terminal=True,
        width=80,
        record=True,
        file=SimpleNamespace(write=len, flush=lambda: None, isatty=lambda: True),
    )
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(reverie.cli.downloading, "console", lambda **_: screen)
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    with downloads():
        model_files(card, "onnx")
    shown = screen.export_text()
    assert "vision_model.onnx" in shown
    assert "2.0/2.0 kB" in shown
