"""Every engine gives the vectors of transformers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import clip_zoo
from reverie.encoders.clip import ClipEncoder, VisionEncoder
from reverie.encoders.clip_int8 import compare, quantise
from reverie.encoders.clip_pixels import preprocess
from reverie.models.cards import card_of
from reverie.vectors import Vectors, normalise

LEAST = {"fp32": 0.99999, "bf16": 0.9995}
EXACT = ["onnxruntime-fp32", "openvino-fp32", "torch-fp32"]
ALL = [*EXACT, "openvino-bf16", "torch-bf16"]
TEXTS = ["a photo of an angel", "black wireframe", "", "x " * 20, "Sonne über dem Meer"]


def images_by_transformers(model: Any, name: str = "clip-vit-b32", count: int = 24) -> Vectors:
    """What transformers gives for the first built-in pictures."""
    values = preprocess(clip_zoo.pictures()[:count], card_of(name).preprocessing)
    call: Callable[..., Any] = getattr(model, "get_image_features", model)
    with torch.no_grad():
        found = call(pixel_values=torch.from_numpy(values))
    found = getattr(found, "pooler_output", found)
    return normalise(found.numpy())


def texts_by_transformers(model: Any, encoder: ClipEncoder) -> Vectors:
    """What transformers gives for `TEXTS`."""
    ids = encoder._tokenizer.encode(TEXTS)
    with torch.no_grad():
        found = model.get_text_features(input_ids=torch.from_numpy(ids))
    return normalise(getattr(found, "pooler_output", found).numpy())


def check(found: Vectors, reference: Vectors, precision: str) -> None:
    """Rows are as near as the precision allows, also in what they do not share."""
    assert float(np.vecdot(found, reference).min()) >= LEAST[precision]
    own, meant = (normalise(rows - reference.mean(axis=0)) for rows in (found, reference))
    assert float(np.vecdot(own, meant).min()) >= 1 - 4 * (1 - LEAST[precision])


@pytest.mark.parametrize("variant", ALL)
def test_pictures_and_texts_are_as_with_transformers(tiny: tuple[Path, Any], variant: str) -> None:
    """Cosine at least .99999 in fp32, .9995 in bf16, for pictures and for texts."""
    folder, model = tiny
    encoder = ClipEncoder(variant=variant, model_dir=folder, threads=1)
    precision = variant.partition("-")[2]
    check(encoder.encode_batch(clip_zoo.pictures()), images_by_transformers(model), precision)
    check(encoder.encode_texts(TEXTS), texts_by_transformers(model, encoder), precision)


@pytest.mark.parametrize(("name", "make"), [("dinov2-base", "tiny_dinov2"), ("siglip2-base", "tiny_siglip2")])
def test_other_models_are_as_with_transformers(clip_home: Path, tmp_path: Path, name: str, make: str) -> None:
    """DINOv2's vector is its class token, SigLIP 2's its pooled output: 768 numbers, with every engine."""
    model = getattr(clip_zoo, make)(tmp_path)
    reference = images_by_transformers(model, name, 4)
    for variant in EXACT:
        encoder = VisionEncoder(name, variant, model_dir=tmp_path, threads=1)
        assert encoder.dimensions == 768
        check(encoder.encode_batch(clip_zoo.pictures()[:4]), reference, "fp32")


def test_engines_agree_on_similarities(tiny_folder: Path) -> None:
    """Cosines of pairs are the same within 1e-5 in fp32: vectors of all engines carry one name."""
    found = [ClipEncoder(variant=each, model_dir=tiny_folder, threads=1) for each in EXACT]
    pairs = [rows @ rows.T for rows in (each.encode_batch(clip_zoo.pictures()) for each in found)]
    assert max(float(np.abs(each - pairs[0]).max()) for each in pairs) < 1e-5


@pytest.fixture(scope="module")
def full(clip_home: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """Folder and model of a CLIP ViT-B/32 of the true size."""
    folder = tmp_path_factory.mktemp("full-clip")
    return folder, clip_zoo.full_clip(folder)


@pytest.mark.long
@pytest.mark.parametrize("variant", ALL)
def test_the_full_size_is_as_with_transformers(full: tuple[Path, Any], variant: str) -> None:
    """The same bounds with twelve layers of the true width."""
    folder, model = full
    encoder = ClipEncoder(variant=variant, model_dir=folder)
    precision = variant.partition("-")[2]
    check(encoder.encode_batch(clip_zoo.pictures()), images_by_transformers(model), precision)
    check(encoder.encode_texts(TEXTS), texts_by_transformers(model, encoder), precision)


@pytest.mark.long
@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_int8_of_the_full_size_is_near(full: tuple[Path, Any], engine: str) -> None:
    """Mean cosine at least .99 on pictures that did not calibrate, and what moved is reported."""
    folder, model = full
    frames = [
        np.ascontiguousarray(each) for one in clip_zoo.pictures() for each in (one, one[::-1], one[:, ::-1])
    ]
    report = quantise("clip-vit-b32", frames, engine=engine, model_dir=folder)
    assert report.cosine_mean >= 0.99
    found = ClipEncoder(variant=f"{engine}-int8", model_dir=folder).encode_batch(clip_zoo.pictures())
    figures = compare(images_by_transformers(model), found)
    assert figures["cosine_mean"] >= 0.99
    assert 0.8 <= figures["top5_overlap"] <= 1
