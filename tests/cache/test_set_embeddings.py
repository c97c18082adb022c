"""`CacheManager.set_embeddings`: the vectors of entries that are there, replaced in one write."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from reverie.cache import json_state, sqlite_writer
from reverie.cache.convert import convert
from reverie.errors import EmbeddingError, EncoderMismatchError, InputError
from reverie.testing.samples import picture, vector

Open = Callable[..., Any]


def filled(open_cache: Open, kind: str, count: int = 4) -> Any:
    """A cache of ``count`` entries with vectors of the encoder suite-1."""
    cache = open_cache(index=kind, max_size=None)
    for seed in range(count):
        cache.add(picture(seed), f"prompt {seed}", {"seed": seed}, vector(seed), pinned=seed == 1)
    return cache


def test_vectors_are_replaced_and_stay(open_cache: Open, kind: str) -> None:
    """New vectors, also of another length and encoder, are there at once, and in a new manager."""
    cache = filled(open_cache, kind)
    before = cache.get_all()
    new = vector(9, 12, "new")
    wanted = {"cache_00003": new, "never": new, "cache_00001": None}
    assert cache.set_embeddings(wanted) == ["cache_00003", "cache_00001"]
    for each in (cache, open_cache(max_size=None)):
        after = each.get_all()
        assert [entry.encoder for entry in after] == [None, "suite-1", "new", "suite-1"]
        assert np.array_equal(after[2].embedding, new)
        assert after[0].embedding is None
        for old, entry in zip(before, after, strict=True):
            assert (old.used_ns, old.pinned, old.prompt) == (entry.used_ns, entry.pinned, entry.prompt)
            assert (old.content_hash, old.generation_params) == (entry.content_hash, entry.generation_params)
        assert each.embeddings("suite-1").ids == ("cache_00002", "cache_00004")
        assert each.embeddings("new").ids == ("cache_00003",)
    assert cache.check().ok


def test_plain_numbers_are_normalised_and_stamped(open_cache: Open, kind: str) -> None:
    """As in `add`: any numbers, and the name of the encoder beside them."""
    cache = filled(open_cache, kind, 1)
    cache.set_embeddings({"cache_00001": [3, 0, 4]}, encoder="mine")
    (entry,) = cache.get_all()
    assert entry.embedding.tolist() == pytest.approx([0.6, 0.0, 0.8])
    assert entry.encoder == "mine"


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 1, 0, 2]])
def test_the_matrix_follows_and_snapshots_stay(open_cache: Open, kind: str, order: list[int]) -> None:
    """Whatever the order of the writes, rows stand oldest first; sets handed out before do not change."""
    cache = filled(open_cache, kind)
    watcher = open_cache(max_size=None)
    ids = cache.ids()
    snapshots = [each.embeddings("suite-1") for each in (cache, watcher)]
    copies = [found.matrix.copy() for found in snapshots]
    done: list[int] = []
    for place in order:
        cache.set_embeddings({ids[place]: vector(50 + place, 12, "new")})
        done = sorted([*done, place])
        for each in (cache, watcher):
            found, left = each.embeddings("new"), each.embeddings("suite-1")
            assert found.ids == tuple(ids[at] for at in done)
            assert np.array_equal(found.matrix, np.stack([vector(50 + at, 12) for at in done]))
            assert left.ids == tuple(ids[at] for at in range(4) if at not in done)
    for found, copy in zip(snapshots, copies, strict=True):
        assert found.ids == tuple(ids)
        assert np.array_equal(found.matrix, copy)


def test_a_vector_of_the_same_encoder_takes_its_place(open_cache: Open, kind: str) -> None:
    """Other numbers in the same space: the row keeps its place, for this manager and for another."""
    cache = filled(open_cache, kind)
    watcher = open_cache(max_size=None)
    assert len(watcher.embeddings()) == len(cache.embeddings()) == 4
    cache.set_embeddings({"cache_00002": vector(77)})
    expected = np.stack([vector(seed) for seed in (0, 77, 2, 3)])
    for each in (cache, watcher):
        assert np.array_equal(each.embeddings().matrix, expected)
    cache.add(picture(9), embedding=vector(9))
    assert np.array_equal(watcher.embeddings().matrix, np.vstack([expected, vector(9)]))


@pytest.mark.parametrize(
    ("vectors", "encoder", "error"),
    [
        ({"cache_00001": [float("nan")] * 8}, None, EmbeddingError),
        ({"cache_00001": [0.0] * 8}, None, EmbeddingError),
        ({"cache_00002": vector(1), "cache_00001": vector(1, 5)}, None, EmbeddingError),
        ({"cache_00002": vector(1, 3, "new"), "cache_00001": vector(1, 5, "new")}, None, EmbeddingError),
        ({"cache_00001": vector(1, 5, None)}, None, EmbeddingError),
        ({"cache_00001": vector(1)}, "other", EncoderMismatchError),
        ({"cache_00001": [1.0]}, "\ud800", InputError),
        ([("cache_00001", [1.0])], None, InputError),
    ],
)
def test_what_is_refused_changes_nothing(
    open_cache: Open, kind: str, vectors: Any, encoder: str | None, error: type[Exception]
) -> None:
    """The errors of `add`; lengths are compared with the cache's and among the new ones."""
    cache = filled(open_cache, kind, 2)
    before = cache.get_all()
    with pytest.raises(error):
        cache.set_embeddings(vectors, encoder=encoder)
    assert cache.get_all() == open_cache(max_size=None).get_all() == before


def test_a_write_that_fails_in_the_middle_changes_nothing(
    open_cache: Open, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All vectors of one call are written, or none."""
    cache = filled(open_cache, kind)
    before, matrix = cache.get_all(), cache.embeddings().matrix.copy()
    writer: Any = {"json": json_state.JsonState, "sqlite": sqlite_writer.SqliteWriter}[kind]
    embed = writer.embed

    def fail(self: Any, cache_id: str, embedding: Any) -> None:
        if cache_id == "cache_00003":
            raise ZeroDivisionError
        embed(self, cache_id, embedding)

    monkeypatch.setattr(writer, "embed", fail)
    with pytest.raises(ZeroDivisionError):
        cache.set_embeddings({cache_id: vector(9, 5, "new") for cache_id in cache.ids()})
    assert cache.get_all() == open_cache(max_size=None).get_all() == before
    assert np.array_equal(cache.embeddings().matrix, matrix)


def test_what_another_program_wrote_is_replaced(open_cache: Open) -> None:
    """A mapping in the place of a vector, or doubles, go: the file and a database hold the new numbers."""
    cache = filled(open_cache, "json", 3)
    content = json.loads(cache.index_path.read_bytes())
    content["entries"][0].update(embedding={"colour": [0.1]}, encoder="theirs", own={"kept": 1})
    content["entries"][1].update(embedding=[1 / 3, 2 / 3, 2 / 3], encoder=None)
    cache.index_path.write_text(json.dumps(content))
    new = {cache_id: vector(seed, 5, "new") for seed, cache_id in enumerate(cache.ids())}
    assert cache.set_embeddings(new) == cache.ids()
    written = json.loads(cache.index_path.read_bytes())["entries"]
    assert [np.float32(raw["embedding"]).tolist() for raw in written] == [v.tolist() for v in new.values()]
    assert [raw["encoder"] for raw in written] == ["new"] * 3
    assert written[0]["own"] == {"kept": 1}
    cache.close()
    convert(cache.cache_dir, "sqlite")
    again = open_cache(max_size=None)
    assert again.index_kind == "sqlite"
    assert np.array_equal(again.embeddings("new").matrix, np.stack(list(new.values())))
    assert again.check().ok


def test_reading_an_image_without_a_use(open_cache: Open, kind: str) -> None:
    """``as_use=False`` gives the same bytes, and the entry is still the next to go."""
    cache = open_cache(index=kind, max_size=2)
    first, second = (cache.add(picture(seed)) for seed in range(2))
    assert cache.read_image(first, as_use=False) == cache.read_image(first, as_use=False)
    third = cache.add(picture(2))
    assert cache.ids() == [second, third]
    cache.read_image(second)
    cache.add(picture(3))
    assert second in cache
