"""The maintainers' tool that prints what the Hub states of the models."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from hub_server import Hub, sha256
from reverie.models.cards import ModelCard, Source

TOOL = Path(__file__).parent.parent.parent / "tools" / "pin_models.py"


@pytest.fixture
def tool(hub: Hub, pinned: ModelCard, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The tool, with one model whose card says all that the server states."""
    files = {"model.safetensors": b"weights", "tokenizer.json": b"[]"}
    commit = hub.add("tiny/clip", files)
    digests = {name: sha256(data) for name, data in files.items()}
    sizes = {name: len(data) for name, data in files.items()}
    torch = Source("tiny/clip", commit, ("model.safetensors",), tuple(files), digests, sizes)
    card = dataclasses.replace(pinned, torch=torch)
    spec = importlib.util.spec_from_file_location("pin_models", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "card_of", {"tiny-clip": card}.__getitem__)
    return module


def test_cards_that_agree(tool: ModuleType, hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    """Every file with digest and size, also those that are in git itself; exit code 0."""
    assert tool.main(["tiny-clip"]) == 0
    printed = capsys.readouterr().out
    assert f"tiny-clip torch: tiny/clip @ {hub.branches['tiny/clip']}" in printed
    assert f"    tokenizer.json: {sha256(b'[]')} 2\n" in printed
    assert "    onnx/vision_model.onnx: " in printed
    assert " 200_000\n" in printed


def test_a_newer_revision_is_marked(tool: ModuleType, hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    """What differs from the card is marked, the rest is not; exit code 1."""
    hub.add("tiny/clip", {"tokenizer.json": b"[1]"})
    assert tool.main(["tiny-clip", "--revision", "main"]) == 1
    marked = [line for line in capsys.readouterr().out.splitlines() if line.endswith("<- not in the card")]
    assert len(marked) == 2
    assert marked[1].startswith(f"    tokenizer.json: {sha256(b'[1]')} 3")
