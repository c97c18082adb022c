"""A Hub on this machine with one small model on it."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hub_server import Hub, serving, sha256, use
from reverie.models import hub as hub_module
from reverie.models.cards import ModelCard, Source, card_of

VISION, TEXT, TOKENS = "onnx/vision_model.onnx", "onnx/text_model.onnx", "tokenizer.json"
SIZES = {VISION: 200_000, TEXT: 70_000, TOKENS: 3_000}


def content(name: str, seed: int = 0) -> bytes:
    """The bytes of a file."""
    return np.random.default_rng([seed, SIZES[name]]).bytes(SIZES[name])


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A server that this process uses, without a pause between two tries."""
    with serving() as running:
        use(running.url, tmp_path, monkeypatch)
        monkeypatch.setattr(hub_module, "_CHUNK", 10_000)
        monkeypatch.setattr(hub_module, "_PAUSES", (0.0, 0.0))
        yield running


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """huggingface_hub waits a second between two tries; here it does not."""
    monkeypatch.setattr("time.sleep", lambda _seconds: threading.Event().wait(0.001))


@pytest.fixture
def card(hub: Hub) -> ModelCard:
    """A model whose files the server has: pinned commit, no digests."""
    commit = hub.add("tiny/clip-onnx", {name: content(name) for name in SIZES} | {"README.md": b"# tiny"})
    source = Source("tiny/clip-onnx", commit, (VISION,), (TEXT, TOKENS), {}, dict(SIZES))
    return dataclasses.replace(card_of("clip-vit-b32"), name="tiny-clip", onnx=source)


@pytest.fixture
def pinned(card: ModelCard) -> ModelCard:
    """The same model with the digest of every file."""
    digests = {name: sha256(content(name)) for name in SIZES}
    return dataclasses.replace(card, onnx=dataclasses.replace(card.onnx, sha256=digests))
