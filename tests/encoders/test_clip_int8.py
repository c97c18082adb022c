"""int8: made on the user's pictures, measured before it is kept, chosen by name only."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import clip_zoo
from reverie.encoders import clip_int8
from reverie.encoders.clip import ClipEncoder
from reverie.encoders.clip_int8 import Int8Report, compare, quantise
from reverie.errors import (
    ImageError,
    InputError,
    MissingDependencyError,
    ModelError,
    ModelNotFoundError,
    UnknownNameError,
)
from reverie.testing.samples import picture
from reverie.vectors import Vectors, normalise


@pytest.fixture
def own(clip_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A models folder of the test's own."""
    monkeypatch.setenv("REVERIE_MODELS", str(tmp_path / "models"))
    return tmp_path / "models" / "int8"


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_int8_is_made_checked_and_used(own: Path, tiny_folder: Path, engine: str) -> None:
    """Every fourth picture checks; the encoder then runs int8 under a name of its own, near to fp32."""
    frames = clip_zoo.pictures()
    report = quantise("clip-vit-b32", frames, engine=engine, model_dir=tiny_folder)
    assert (report.calibrated_on, report.checked_on, report.pairs) == (18, 6, 15)
    assert report.cosine_mean >= 0.99
    assert report.cosine_min <= report.cosine_mean
    assert report.path is not None
    assert json.loads((report.path.parent / "report.json").read_text())["cosine_mean"] == report.cosine_mean
    assert [path.name for path in own.iterdir()] == [report.path.parent.name]

    int8 = ClipEncoder(variant=f"{engine}-int8", model_dir=tiny_folder, threads=1)
    fp32 = ClipEncoder(variant=engine, model_dir=tiny_folder, threads=1)
    exact, found = fp32.encode_batch(frames), int8.encode_batch(frames)
    assert int8.name != fp32.name
    figures = compare(exact[::4], found[::4])
    assert figures["cosine_mean"] == pytest.approx(report.cosine_mean, abs=1e-5)
    assert 0.99 <= float(np.vecdot(exact, found).mean()) < 1
    assert compare(exact, found)["top5_overlap"] >= 0.8
    assert np.allclose(int8.encode_batch(frames[3:4]), found[3:4], atol=1e-6)  # the batch changes nothing
    assert np.array_equal(int8.encode_texts(["an angel"]), fp32.encode_texts(["an angel"]))


def test_int8_needs_a_network_that_was_made(own: Path, tiny_folder: Path) -> None:
    """Before that the error names the command, and nothing else is taken instead."""
    with pytest.raises(ModelNotFoundError, match=r"reverie models quantise clip-vit-b32 --images FOLDER"):
        ClipEncoder(variant="int8", model_dir=tiny_folder).encode_batch([picture(0)])


def spoil(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let int8 come out wrong: what is kept has the signs of random numbers."""
    encoded: Callable[..., Vectors] = clip_int8._encoded

    def spoilt(card: object, engine: str, network: Path, frames: list, precision: str) -> Vectors:
        rows = encoded(card, engine, network, frames, precision)
        noise = np.random.default_rng(0).standard_normal(rows.shape)
        return rows if precision == "fp32" else normalise(rows + 0.02 * noise)

    monkeypatch.setattr(clip_int8, "_encoded", spoilt)


def test_a_network_too_far_from_fp32_is_refused(
    own: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error holds the figures; nothing is kept, and what was kept before stays."""
    arguments = {"engine": "onnxruntime", "model_dir": tiny_folder}
    first = quantise("clip-vit-b32", clip_zoo.pictures(), **arguments)
    before = first.path.stat().st_ino
    spoil(monkeypatch)
    with pytest.raises(ModelError, match=r"cosine 0\.9.*15 pairs crossed 0\.7.*too far from fp32"):
        quantise("clip-vit-b32", clip_zoo.pictures(), **arguments)
    assert first.path.stat().st_ino == before
    assert len(list(own.iterdir())) == 1

    kept = quantise("clip-vit-b32", clip_zoo.pictures(), **arguments, accept=True)
    assert kept.cosine_mean < 0.99
    assert kept.path == first.path
    assert len(list(own.iterdir())) == 1


def test_other_weights_need_a_network_of_their_own(own: Path, tiny_folder: Path, tmp_path: Path) -> None:
    """int8 made from one file is never run in the place of another."""
    quantise("clip-vit-b32", clip_zoo.pictures(), engine="onnxruntime", model_dir=tiny_folder)
    other = tmp_path / "other"
    clip_zoo.clip(other, {**clip_zoo.TINY, "intermediate_size": 48}, clip_zoo.TINY)
    with pytest.raises(ModelNotFoundError, match="int8"):
        ClipEncoder(variant="onnxruntime-int8", model_dir=other).encode_batch([picture(0)])


def test_what_quantise_refuses(own: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another engine, too few pictures, no picture, an unknown model, a library that is not there."""
    frames = clip_zoo.pictures()
    with pytest.raises(InputError, match="int8 is made for openvino or onnxruntime, not for 'torch'"):
        quantise("clip-vit-b32", frames, engine="torch")
    with pytest.raises(InputError, match=r"at least 8 pictures .* got 7"):
        quantise("clip-vit-b32", frames[:7])
    with pytest.raises(ImageError):
        quantise("clip-vit-b32", [*frames[:8], np.zeros((4, 4))])
    with pytest.raises(UnknownNameError):
        quantise("clip-vit-b33", frames)
    monkeypatch.setitem(sys.modules, "reverie.encoders.openvino_int8", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "reverie\[clip\]" openvino'):
        quantise("clip-vit-b32", frames, model_dir=tiny_folder)
    monkeypatch.setitem(sys.modules, "onnxruntime.quantization", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "reverie\[clip-int8\]"'):
        quantise("clip-vit-b32", frames, engine="onnxruntime", model_dir=tiny_folder)
    assert not own.exists() or list(own.iterdir()) == []


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_nothing_is_printed(
    own: Path, tiny_folder: Path, engine: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Standard output belongs to the caller; without a terminal there are no bars either."""
    quantise("clip-vit-b32", clip_zoo.pictures()[:8], engine=engine, model_dir=tiny_folder, accept=True)
    assert capfd.readouterr() == ("", "")


def test_the_figures_by_hand() -> None:
    """Three vectors, one of which moves by 60 degrees."""
    reference = np.array([[1, 0], [0.8, 0.6], [0, 1]], dtype=np.float32)
    moved = reference.copy()
    moved[0] = [0.5, np.sqrt(0.75)]
    found = compare(reference, moved)
    assert found["cosine_min"] == pytest.approx(0.5)
    assert found["cosine_mean"] == pytest.approx((0.5 + 1 + 1) / 3)
    # Pairs were .8, 0 and .6; now .4 + .6 sqrt(.75), sqrt(.75) and .6.
    errors = [0.6 * 0.75**0.5 - 0.4, 0.75**0.5, 0.0]
    assert found["pair_error_max"] == pytest.approx(max(errors))
    assert found["pair_error_mean"] == pytest.approx(sum(errors) / 3)
    assert (found["crossing"], found["pairs"], found["top5_overlap"]) == (1, 3, 1.0)


def test_equal_vectors_differ_in_nothing() -> None:
    """All errors are 0 and all neighbours stay."""
    rows = normalise(np.random.default_rng(0).standard_normal((20, 16)))
    found = compare(rows, rows)
    assert found["cosine_min"] == pytest.approx(1.0)
    assert (found["pair_error_max"], found["crossing"], found["top5_overlap"]) == (0.0, 0, 1.0)


def test_the_report_reads_as_a_sentence() -> None:
    """What a person decides by stands in it."""
    report = Int8Report("clip-vit-b32", "openvino", 90, 30, 0.995, 0.98, 0.011, 0.05, 0.94, 3, 435)
    assert "cosine 0.9950 on average, 0.9800 at least" in str(report)
    assert "3 of 435 pairs crossed 0.7; 94% of the five nearest stayed" in str(report)
