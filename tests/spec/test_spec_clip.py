"""The specification, "How CLIP Works" and its notes: a test a sentence, on a small network made here.

The network has CLIP's form (a vision and a text tower, 512 numbers) and random weights, and lies on a
server that speaks as the Hub does: nothing here stands in for reverie's own code.
"""

from __future__ import annotations

import dataclasses
from types import MappingProxyType

import numpy as np
import pytest

from hub_server import serving, use
from reverie import AestheticMatcher, CacheManager
from reverie.models import cards, store


@pytest.fixture
def hub(tiny_folder, tmp_path, monkeypatch):
    """A Hub that has the small network under the default model's name."""
    card = cards.CARDS["clip-vit-b32"]
    names = (*card.onnx.vision, *card.onnx.text)
    with serving() as running:
        use(running.url, tmp_path, monkeypatch)
        commit = running.add("tiny/clip", {name: (tiny_folder / name).read_bytes() for name in names})
        sizes = {name: (tiny_folder / name).stat().st_size for name in names}
        source = dataclasses.replace(card.onnx, repo="tiny/clip", revision=commit, sha256={}, size=sizes)
        own = {**cards.CARDS, card.name: dataclasses.replace(card, onnx=source)}
        monkeypatch.setattr(cards, "CARDS", MappingProxyType(own))
        yield running


@pytest.fixture
def clip(tiny_folder):
    """The specification's matcher: by default its encoder is CLIP."""
    return AestheticMatcher(model_dir=tiny_folder, seed=0)


def test_vision_encoder_gives_512_dimensions(clip, picture_file):
    """Vision encoder: Image -> 512-dim embedding."""
    vector = clip.encode_image(picture_file(0))
    assert (type(np.asarray(vector)), vector.shape, vector.dtype) == (np.ndarray, (512,), np.float32)
    assert np.linalg.norm(vector) == pytest.approx(1.0)


def test_text_encoder_gives_512_dimensions(clip):
    """Text encoder: Text -> 512-dim embedding."""
    vector = clip.encode_text("ethereal angel")
    assert vector.shape == (512,)
    assert np.linalg.norm(vector) == pytest.approx(1.0)


def test_embeddings_in_the_same_latent_space(clip, picture_file):
    """Embeddings in same latent space: a text and an image may be compared, and one encoder made both."""
    image, text = clip.encode_image(picture_file(0)), clip.encode_text("ethereal angel")
    assert image.encoder == text.encoder
    assert -1.0 <= clip.cosine_similarity(image, text) <= 1.0


def test_cosine_similarity_measures_visual_similarity(clip, picture):
    """Cosine similarity measures visual similarity: a brighter copy is nearer than another picture."""
    first = picture(0, 224, 224)
    brighter = np.clip(first.astype(int) + 8, 0, 255).astype(np.uint8)
    vectors = [clip.encode_image(each) for each in (first, brighter, picture(1, 224, 224))]
    assert clip.cosine_similarity(vectors[0], vectors[1]) > clip.cosine_similarity(vectors[0], vectors[2])


def test_first_run_downloads_the_model(hub, picture_file):
    """First run: downloads the model; the second finds it, and asks nobody."""
    vector = AestheticMatcher().encode_image(picture_file(0))
    files = [asked.path for asked in hub.asked if asked.method == "GET" and ".onnx" in asked.path]
    assert any("vision_model.onnx" in path for path in files)
    assert not any("text_model.onnx" in path for path in files)
    hub.asked.clear()
    assert np.array_equal(AestheticMatcher().encode_image(picture_file(0)), vector)
    assert hub.asked == []


def test_model_size_is_known_before_the_download():
    """VRAM: ~600MB model size: pictures and texts together, by the card."""
    sizes = cards.card_of("clip-vit-b32").onnx.size
    assert 600e6 < sum(sizes.values()) < 615e6
    assert store.wanted(cards.card_of("clip-vit-b32"), "onnx", text=False, vision=True) == (
        "onnx/vision_model.onnx",
    )


def test_usage_in_generation_loop(clip, picture_file, tmp_path):
    """Usage in Generation Loop: every 15 frames encode, find similar, inject what was selected."""
    injected = []
    with CacheManager(tmp_path / "cache") as cache:
        for frame_count in range(1, 31):
            current_frame = picture_file(frame_count)
            cache.add(current_frame, "a prompt", {}, clip.encode_image(current_frame))
            if frame_count % 15 == 0:
                current_emb = clip.encode_image(current_frame)
                cache_entries = cache.get_all()
                similar = clip.find_similar(
                    target_embedding=current_emb,
                    candidate_embeddings=[(e.cache_id, e.embedding) for e in cache_entries],
                    threshold=0.7,
                    top_k=5,
                )
                if similar:
                    selected = clip.weighted_random_selection(similar)
                    injected.append(cache.get(selected))
    assert [entry.image_path.exists() for entry in injected] == [True, True]
