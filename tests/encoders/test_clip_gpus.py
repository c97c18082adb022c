"""GPUs, with stand-ins for their libraries: what is asked for, what is said, what happens when one fails."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from click.testing import CliRunner

from reverie.cli.main import cli
from reverie.encoders import onnx_engine, torch_engine
from reverie.encoders.clip import ClipEncoder
from reverie.encoders.clip_engines import choose
from reverie.testing.samples import picture

CPU = "CPUExecutionProvider"
GPUS = [
    ("CUDAExecutionProvider", "cuda"),
    ("DmlExecutionProvider", "directml"),
    ("CoreMLExecutionProvider", "coreml"),
]
REAL = onnxruntime.InferenceSession


class Session:
    """A session on the CPU that says it got what it was asked for; ``got`` makes it say otherwise."""

    asked: list[list[str]]
    options: list[Any]
    got: list[str] | None

    def __init__(self, path: object, options: Any, providers: list[str]) -> None:
        type(self).asked.append(providers)
        type(self).options.append(options)
        self._session = REAL(path, options, providers=[CPU])

    def get_providers(self) -> list[str]:
        return self.got or self.asked[-1]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[..., type[Session]]:
    """``gpu(provider, got=None)``: onnxruntime offers TensorRT, the provider and the CPU."""

    def offer(provider: str, got: list[str] | None = None) -> type[Session]:
        Session.asked, Session.options, Session.got = [], [], got
        offered = ["TensorrtExecutionProvider", provider, CPU]
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: offered)
        monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # else torch goes first
        return Session

    return offer


@pytest.mark.parametrize(("provider", "device"), GPUS)
def test_a_gpu_that_is_offered_is_used(
    gpu: Callable[..., type[Session]], tiny_folder: Path, provider: str, device: str
) -> None:
    """It is chosen without being named; the CPU stands behind it, TensorRT is passed over."""
    expected = ClipEncoder(variant="onnxruntime", model_dir=tiny_folder).encode_batch([picture(0)])
    session = gpu(provider)
    encoder = ClipEncoder(model_dir=tiny_folder)
    assert (encoder.choice.engine, encoder.choice.device) == ("onnxruntime", device)
    found = encoder.encode_batch([picture(0)])
    assert np.array_equal(found, expected)
    assert session.asked == [[provider, CPU]]
    assert encoder.choice.device == device
    assert encoder.choice.reason == f"onnxruntime offers {device}; fp32 is exact"


@pytest.mark.parametrize(("provider", "device"), GPUS)
def test_larger_batches_on_a_gpu(
    gpu: Callable[..., type[Session]], tiny_folder: Path, provider: str, device: str
) -> None:
    """64 pictures at once instead of 8; memory is planned anew in each call where DirectML asks for it."""
    session = gpu(provider)
    encoder = ClipEncoder(model_dir=tiny_folder)
    encoder.load()
    assert encoder._vision.batch() == 64
    assert session.options[0].enable_mem_pattern == (device != "directml")


@pytest.mark.parametrize(("provider", "device"), GPUS)
def test_a_gpu_that_cannot_be_used(
    gpu: Callable[..., type[Session]], tiny_folder: Path, provider: str, device: str
) -> None:
    """A driver is missing: the session runs on the CPU, pictures are encoded, and the choice says so."""
    gpu(provider, got=[CPU])
    encoder = ClipEncoder(model_dir=tiny_folder)
    assert encoder.choice.device == device
    encoder.encode_batch([picture(0)])
    assert encoder.choice.device == "cpu"
    assert encoder.choice.reason.endswith(f"; {device} could not be used, it runs on cpu")
    assert encoder._vision.batch() == 8


def test_the_engines_command_shows_a_gpu(gpu: Callable[..., type[Session]]) -> None:
    """As a device of its engine, and as the reason why that is taken."""
    gpu("CUDAExecutionProvider")
    done = CliRunner().invoke(cli, ["models", "engines", "--json"])
    rows = {row["engine"]: row for row in map(json.loads, done.stdout.splitlines())}
    assert rows["onnxruntime"]["devices"] == ["cuda", "cpu"]
    assert rows["onnxruntime"]["picked"]
    assert rows["onnxruntime"]["why"] == "onnxruntime offers cuda; fp32 is exact"
    assert rows["openvino"]["devices"] == ["cpu"]


def test_torch_with_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a process that holds torch its GPU goes first, CUDA before Apple's."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert torch_engine.facts().devices == ("cuda", "cpu")
    assert (choose().engine, choose().device) == ("torch", "cuda")
    assert choose().reason == "torch is loaded already and sees cuda; fp32 is exact"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose("torch-bf16").device == "mps"


def test_an_installation_without_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Providers that reverie does not know are not offered."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["AzureExecutionProvider", CPU])
    assert onnx_engine.facts().devices == ("cpu",)
