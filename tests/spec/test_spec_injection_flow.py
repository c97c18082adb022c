"""The specification, from "Usage in Generation Loop" to "Testing": a test a sentence; docstrings quote it."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from reverie import CacheManager, DreamLoop, ImageMemory, Injector
from reverie.cache.aesthetic_matcher import AestheticMatcher
from reverie.loop.injection import SimilarMemory
from reverie.pixels import to_pixels
from reverie.protocols import Observation
from reverie.vectors import EmbeddingSet, as_embedding


class Drift:
    """A stand-in generator: its frame moves a little towards noise at every step."""

    name = "drift"
    size = (32, 32)
    seeds = ()

    def generate(self, frame, *, prompt, strength, seed):
        rng = np.random.default_rng(seed)
        coarse = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        noise = np.asarray(Image.fromarray(coarse).resize((32, 32), Image.Resampling.BICUBIC))
        mixed = (1 - strength) * frame.astype(float) + strength * noise
        return mixed.round().astype(np.uint8)


START = np.full((32, 32, 3), 128, dtype=np.uint8)


def make_loop(folder, frames_seen, *, strength=0.2, max_size=75):
    memory = ImageMemory(folder, max_size=max_size, encoder="descriptor")
    injector = Injector(memory, policy="spec", seed=0)
    loop = DreamLoop(Drift(), injector, start=START, strength=strength, seed=1, on_frame=frames_seen.append)
    return memory, loop


def test_usage_snippet_runs_as_written(tmp_path, picture_file):
    """The snippet of "Usage in Generation Loop", by its names only, frame by frame."""
    cache = CacheManager(tmp_path / "cache")
    matcher = AestheticMatcher(encoder="descriptor", seed=0)
    injected = []
    for frame_count in range(1, 31):
        current_frame = picture_file(frame_count % 4)
        cache.add(current_frame, "ethereal angel", {"denoise": 0.4}, matcher.encode_image(current_frame))
        # Every N frames
        if frame_count % 15 == 0:
            # Encode current frame
            current_emb = matcher.encode_image(current_frame)

            # Find similar in cache
            cache_entries = cache.get_all()
            similar = matcher.find_similar(
                target_embedding=current_emb,
                candidate_embeddings=[(e.cache_id, e.embedding) for e in cache_entries],
                threshold=0.7,
                top_k=5,
            )

            # Inject if found
            if similar:
                selected = matcher.weighted_random_selection(similar)
                injection_image = cache.get(selected)
                # Use injection_image as next keyframe
                injected.append((frame_count, injection_image))
    assert [count for count, _ in injected] == [15, 30]
    assert all(to_pixels(entry.image_path).shape == (64, 64, 3) for _, entry in injected)
    cache.close()


def test_every_frame_is_generated_encoded_and_added(tmp_path):
    """Generate frame N -> Encode to embedding -> Add to cache (CacheManager)."""
    frames = []
    memory, loop = make_loop(tmp_path / "cache", frames)
    loop.run(4)
    entries = memory.cache.get_all()
    assert [entry.cache_id for entry in entries] == [done.observed.cache_id for done in frames]
    for entry, done in zip(entries, frames, strict=True):
        assert np.array_equal(to_pixels(entry.image_path), done.pixels)
        assert np.array_equal(entry.embedding, done.observed.embedding)
    memory.close()


def test_injection_interval(tmp_path):
    """Check: frame_count % injection_interval == 0? (15)."""
    frames = []
    memory, loop = make_loop(tmp_path / "cache", frames, strength=0.05)
    loop.run(45)
    assert [done.frame for done in frames if done.injection is not None] == [15, 30, 45]
    memory.close()


def observation(frame, target, candidates):
    ids = tuple(name for name, _ in candidates)
    vectors = [as_embedding(vector) for _, vector in candidates]
    matrix = np.stack([np.asarray(vector) for vector in vectors])
    current = as_embedding(target)
    return Observation(frame, current, np.asarray(current)[None], EmbeddingSet(ids, matrix))


def test_yes_branch_searches_all_entries():
    """[YES] -> Find similar (AestheticMatcher) -> Get all cache entries -> Compute similarities."""
    candidates = [("a", [0.8, 0.6, 0.0]), ("b", [0.0, 0.0, 1.0]), ("own", [1.0, 0.0, 0.0])]
    decision = SimilarMemory().decide(observation(15, [1.0, 0.0, 0.0], candidates), np.random.default_rng(0))
    assert decision.numbers["candidates"] == 3
    assert decision.similarity == pytest.approx({"a": 0.8, "own": 1.0}[decision.cache_id], abs=1e-6)


def test_filter_by_threshold():
    """Filter by threshold: nothing reaches 0.7, nothing is injected, and the reason says so."""
    decision = SimilarMemory().decide(
        observation(15, [1.0, 0.0], [("a", [0.6, 0.8]), ("b", [0.0, 1.0])]), np.random.default_rng(0)
    )
    assert decision.cache_id is None
    assert "0.7" in decision.reason


def test_weighted_random_selection_among_the_top_five():
    """Weighted random selection: over many draws all of the five most similar, and no other, are chosen."""
    rng = np.random.default_rng(0)
    candidates = [(str(n), [1.0, 0.05 * n]) for n in range(9)]
    seen = observation(15, [1.0, 0.0], candidates)
    chosen = {SimilarMemory().decide(seen, rng).cache_id for _ in range(200)}
    assert chosen == {"0", "1", "2", "3", "4"}


def test_injection_is_the_next_keyframe(tmp_path):
    """Use injection as next keyframe: frame 16 is generated from the injected picture."""
    frames = []
    memory, loop = make_loop(tmp_path / "cache", frames, strength=0.05)
    loop.run(16)
    injected = frames[14].injection
    assert injected is not None
    expected = Drift().generate(np.asarray(injected.image), prompt="", strength=0.05, seed=frames[15].seed)
    assert np.array_equal(frames[15].pixels, expected)
    memory.close()


def test_continue_to_the_next_frame(tmp_path):
    """Continue to frame N+1: without injection a frame is the next input."""
    frames = []
    memory, loop = make_loop(tmp_path / "cache", frames)
    loop.run(2)
    expected = Drift().generate(frames[0].pixels, prompt="", strength=0.2, seed=frames[1].seed)
    assert np.array_equal(frames[1].pixels, expected)
    memory.close()


def test_aesthetic_coherence_is_maintained(tmp_path):
    """Verify aesthetic coherence maintained: what is injected is 0.7 or more like the frame it replaces."""
    frames = []
    memory, loop = make_loop(tmp_path / "cache", frames, strength=0.1)
    loop.run(60)
    injections = [done for done in frames if done.injection is not None]
    assert len(injections) == 4
    matcher = memory.matcher
    for done in injections:
        picture = np.asarray(done.injection.image)
        assert matcher.cosine_similarity(matcher.encode_image(picture), done.observed.embedding) >= 0.7 - 1e-6
    memory.close()


def test_full_cache(tmp_path):
    """Test with full cache (75+ images): 90 frames, 75 kept, the newest, injections go on."""
    frames = []
    memory, loop = make_loop(tmp_path / "cache", frames, strength=0.05)
    loop.run(90)
    kept = memory.cache.ids()
    assert len(kept) == 75
    assert frames[-1].observed.cache_id in kept
    assert frames[0].observed.cache_id not in kept
    assert [done.frame for done in frames if done.injection is not None] == [15, 30, 45, 60, 75, 90]
    assert memory.cache.check().ok
    memory.close()


def test_similarity_is_pure_numpy(picture_file):
    """Similarity computation: pure numpy operations, with normalized vectors (figures: benchmarks/)."""
    import subprocess
    import sys

    code = (
        "import sys; from reverie.cache.similarity import find_similar; find_similar([1.0], [('a', [1.0])]);"
        "print(sorted(m for m in ('torch', 'scipy', 'onnxruntime', 'sklearn') if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_get_is_a_memory_lookup(cache, picture_file, monkeypatch):
    """Get: in-memory lookup: an entry that was seen is given again without reading the index file."""
    cache_id = cache.add(picture_file(1), "a", {}, None)
    monkeypatch.setattr(type(cache._index), "read", lambda *_: pytest.fail("read the index"))
    assert cache.get(cache_id).prompt == "a"
