"""Where int8 networks made on this machine are kept, one for each model, engine and weights."""

from __future__ import annotations

from pathlib import Path

from reverie.errors import ModelNotFoundError
from reverie.models.cards import ModelCard
from reverie.models.receipts import receipt_folder

__all__ = ["ENDINGS", "int8_folder", "int8_network", "weights_key"]

ENDINGS = {"openvino": ".xml", "onnxruntime": ".onnx"}
"""Engines that run int8, and how the file of a network ends."""


def weights_key(card: ModelCard, own: str = "") -> str:
    """What tells weights from others: 8 digits of the network's SHA-256, or of its revision.

    Args:
        card: The model.
        own: Stamp of the user's own weights; empty for the card's.
    """
    return own or (card.onnx.sha256.get(card.onnx.vision[0]) or card.onnx.revision)[:8]


def int8_folder(card: ModelCard, engine: str, key: str) -> Path:
    """The folder of one network; it need not exist. REVERIE_MODELS moves it with everything of models."""
    return receipt_folder() / "int8" / f"{card.name}-{engine}-{key}"


def int8_network(card: ModelCard, engine: str, key: str) -> Path:
    """The file of a network that was made before.

    Raises:
        ModelNotFoundError: None was made; the message names the command.
    """
    path = int8_folder(card, engine, key) / f"network{ENDINGS[engine]}"
    if not path.exists():
        raise ModelNotFoundError(
            f"there is no int8 network of {card.name} for {engine} yet, it is made from your own pictures: "
            f"reverie models quantise {card.name} --images FOLDER"
        )
    return path
