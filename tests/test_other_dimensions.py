"""Vectors of other lengths than the specification's 512: cache, matcher, memory, loop, repair, conversion."""

from __future__ import annotations

import numpy as np
import pytest

from reverie import AestheticMatcher, CacheManager, DreamLoop, ImageMemory, Injector
from reverie.cache.check import check_cache
from reverie.cache.convert import convert
from reverie.errors import EmbeddingError
from reverie.testing.samples import picture
from reverie.vectors import normalise


class Wide:
    """A picture's coarse pixels, turned into as many numbers as asked for by a fixed random matrix."""

    def __init__(self, dimensions):
        self.dimensions = dimensions
        self.name = f"wide-{dimensions}"
        self._mix = np.random.default_rng(0).standard_normal((48, dimensions))

    def encode_batch(self, frames):
        """One row a frame."""
        coarse = [frame[::8, ::8][:4, :4].reshape(-1) - 127.5 for frame in frames]
        return normalise(np.reshape(coarse, (-1, 48)) @ self._mix)


class Blend:
    """A generator that mixes a frame with a picture of the seed."""

    name = "blend"
    size = (32, 32)
    seeds = ()

    def generate(self, frame, *, prompt, strength, seed):
        """``strength`` of something new."""
        new = picture(seed % 1000, *self.size)
        return np.rint((1 - strength) * frame + strength * new).astype(np.uint8)


@pytest.fixture(params=[768, 1024, 3])
def encoder(request):
    """An encoder of so many numbers."""
    return Wide(request.param)


@pytest.mark.parametrize("index", ["json", "sqlite"])
def test_kept_found_checked_and_converted(index, encoder, tmp_path):
    """Vectors come back bit for bit, also from the other kind of index, and nothing is reported."""
    matcher = AestheticMatcher(encoder)
    vectors = matcher.encode_images([picture(seed, 32, 32) for seed in range(5)])
    with CacheManager(tmp_path / "cache", index=index) as cache:
        for seed, vector in enumerate(vectors):
            cache.add(picture(seed, 32, 32), "", {}, vector)
    convert(tmp_path / "cache", "sqlite" if index == "json" else "json")
    with CacheManager(tmp_path / "cache") as cache:
        table = cache.embeddings()
        assert (table.encoder, table.matrix.tobytes()) == (encoder.name, vectors.tobytes())
        assert matcher.find_similar(vectors[2], table)[0] == ("cache_00003", pytest.approx(1.0, abs=1e-6))
        assert matcher.find_similar(vectors[2], [(e.cache_id, e.embedding) for e in cache.get_all()], None, 1)
        assert not cache.check().problems


def test_a_lost_index_is_rebuilt(encoder, tmp_path):
    """Repair keeps the images; new vectors of that length go in beside them."""
    matcher = AestheticMatcher(encoder)
    with CacheManager(tmp_path / "cache", index="json") as cache:
        cache.add(picture(1, 32, 32), "", {}, matcher.encode_image(picture(1, 32, 32)))
        path = cache.index_path
    path.write_text("{broken")
    assert check_cache(tmp_path / "cache", fix=True).problems
    with CacheManager(tmp_path / "cache", index="json") as cache:
        cache.add(picture(2, 32, 32), "", {}, matcher.encode_image(picture(2, 32, 32)))
        assert len(cache) == 2
        assert cache.embeddings().matrix.shape[1] == encoder.dimensions
        assert not cache.check().problems


def test_a_loop_with_memory(encoder, tmp_path):
    """The specification's policy injects, and a seeded run repeats bit for bit."""
    runs = []
    for name in ("first", "second"):
        with ImageMemory(tmp_path / name, 10, encoder, seed=0) as memory:
            injector = Injector(memory, "spec", seed=0, interval=4, threshold=0.0)
            frames = []
            loop = DreamLoop(Blend(), injector, start=picture(0, 32, 32), seed=0, on_frame=frames.append)
            loop.run(12)
            assert len(memory) == 10
            assert memory.embeddings().matrix.shape == (10, encoder.dimensions)
            assert memory.recall(frames[-1].pixels, k=1)[0][1] == pytest.approx(1.0, abs=1e-6)
            runs.append([frame.pixels.tobytes() for frame in frames])
            assert any(frame.injection is not None for frame in frames)
    assert runs[0] == runs[1]


def test_two_lengths_are_never_compared(tmp_path):
    """A vector of another length without a stamp is refused, and the lengths are named."""
    with CacheManager(tmp_path / "cache") as cache:
        cache.add(picture(1, 32, 32), "", {}, AestheticMatcher(Wide(768)).encode_image(picture(1, 32, 32)))
        with pytest.raises(EmbeddingError, match=r"512.*768"):
            AestheticMatcher("descriptor").find_similar(np.ones(512), cache.embeddings())
