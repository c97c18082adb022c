"""The public surface as a type checker sees it: read by `mypy` in `make lint`, never run."""

from __future__ import annotations

from typing import assert_type

import numpy as np

from reverie import AestheticMatcher, CacheEntry, CacheManager, ImageMemory, Injection, Injector
from reverie.memory import Remembered
from reverie.vectors import Embedding, EmbeddingSet, Vectors

picture = np.zeros((8, 8, 3), dtype=np.uint8)
cache = CacheManager("cache", max_size=75)
matcher = AestheticMatcher(encoder="descriptor", seed=0)

assert_type(cache.add(picture, "a prompt", {"steps": 4}, [0.6, 0.8]), str)
assert_type(cache.get("cache_00001"), CacheEntry | None)
assert_type(cache.get_all(), list[CacheEntry])
assert_type(cache.get_random(), CacheEntry | None)
assert_type(cache.embeddings(), EmbeddingSet)
assert_type(matcher.encode_image("picture.png"), Embedding)
assert_type(matcher.encode_images([picture, "picture.png"]), Vectors)
assert_type(
    matcher.find_similar([0.6, 0.8], [(entry.cache_id, entry.embedding) for entry in cache]),
    list[tuple[str, float]],
)
assert_type(matcher.weighted_random_selection([("cache_00001", 0.8)]), str | None)

memory = ImageMemory("cache", encoder="descriptor")
assert_type(memory.remember(picture, prompt="a prompt"), Remembered)
assert_type(memory.recall(picture, k=5), list[tuple[CacheEntry, float]])
assert_type(Injector(memory, policy="spec", seed=0).observe(picture), Injection | None)
assert_type(Injector(memory, colour="soft", anchors=[picture, "seed.png"]).observe(picture), Injection | None)
