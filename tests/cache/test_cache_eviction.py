"""Eviction in a whole cache: policies with vectors, protected entries, what survives a restart, listeners."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reverie.cache.manager import CacheManager
from reverie.errors import CacheFullError, ConfigError, ImageError, InputError, StorageError
from reverie.testing.samples import picture, png_bytes, vector
from reverie.vectors import Embedding, as_embedding

Open = Callable[..., CacheManager]
POLICIES = ("lru", "maxmin", "oldest", "reservoir", "rke")


def around(motif: int, seed: int) -> Embedding:
    """A vector near a motif: cosines of about .9 inside one, 0 across."""
    noise = np.random.default_rng(seed).standard_normal(32)
    return as_embedding(np.eye(32)[motif] + 0.06 * noise, encoder="suite-1")


def fill(cache: CacheManager, motifs: list[int], first: int = 0, **about: Any) -> list[str]:
    """Add a small picture for each motif; their ids."""
    return [
        cache.add(picture(0), "", {}, around(motif, first + place), **about)
        for place, motif in enumerate(motifs)
    ]


@pytest.mark.parametrize("policy", ["rke", "maxmin"])
def test_a_motif_that_was_seen_once_is_kept(open_cache: Open, kind: str, policy: str) -> None:
    """However long another one lasts."""
    cache = open_cache(max_size=5, eviction=policy, index=kind)
    rare = fill(cache, [1, 2, 3])
    fill(cache, [0] * 30, first=10)
    assert set(rare) <= set(cache.ids())
    assert cache.size() == 5
    assert cache.check().ok


@pytest.mark.parametrize("policy", ["rke", "maxmin", "reservoir"])
def test_what_was_just_added_is_there(open_cache: Open, policy: str) -> None:
    """A cache keeps what it was just given, however redundant it is."""
    cache = open_cache(max_size=4, eviction=policy)
    fill(cache, [1, 2, 3, 4])
    for seed in range(12):
        (cache_id,) = fill(cache, [1], first=20)
        assert cache_id in cache, seed
        assert cache.size() == 4


@pytest.mark.parametrize("policy", POLICIES)
def test_bytes_are_a_quota_too(open_cache: Open, policy: str) -> None:
    """Whoever goes, the images fit afterwards."""
    size = len(png_bytes(0))
    cache = open_cache(max_size=None, max_bytes=4 * size, eviction=policy)
    fill(cache, [1, 2, 3, 4])
    assert cache.size() == 4
    cache.add(picture(0, 16, 16), "", {}, around(5, 99))
    assert cache.total_bytes() <= 4 * size
    assert cache.size() < 4


def test_a_wrong_option_makes_no_folder(tmp_path: Path) -> None:
    """The policy is made first."""
    for options in (
        {"eviction": "rke", "eviction_options": {"width": 1}},
        {"eviction": "lru", "eviction_options": {"seed": 1}},
        {"eviction": "rke", "eviction_options": {"bandwidth": -1.0}},
    ):
        with pytest.raises(InputError):
            CacheManager(tmp_path / "cache", **options)
    for bad in (-1, 1.5, True, None):
        with pytest.raises(ConfigError, match="protect_recent"):
            CacheManager(tmp_path / "cache", protect_recent=bad)
    assert not (tmp_path / "cache").exists()


# ------------------------------------------------------------------- vectors: which, when, how kept


@pytest.mark.parametrize("policy", ["lru", "oldest", "reservoir"])
def test_no_vector_is_read_for_a_policy_that_needs_none(
    open_cache: Open, tmp_path: Path, kind: str, policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening and evicting leave the vectors on the disk."""
    with open_cache(tmp_path / "filled", max_size=3, eviction=policy, index=kind) as cache:
        fill(cache, [1, 2, 3])
    monkeypatch.setattr(type(cache._index), "vectors", None)
    assert open_cache(tmp_path / "filled", max_size=2, eviction=policy).size() == 2
    with pytest.raises(TypeError):
        open_cache(tmp_path / "filled", max_size=1, eviction="rke")


@pytest.mark.parametrize("policy", ["rke", "maxmin"])
def test_entries_without_a_vector_go_first(open_cache: Open, kind: str, policy: str) -> None:
    """Also those that lost it, and those of another encoder than the newest entry's."""
    cache = open_cache(max_size=5, eviction=policy, index=kind)
    first, second, third = fill(cache, [1, 2, 3])
    cache.add(picture(0), "no vector")
    cache.add(picture(0), "another encoder", {}, vector(1, encoder="suite-2"))
    cache.set_embeddings({second: None})
    fill(cache, [4])
    assert second not in cache
    fill(cache, [5, 6])
    assert [entry.prompt for entry in cache.get_all()] == [""] * 5
    assert {first, third} <= set(cache.ids())


@pytest.mark.parametrize("policy", ["rke", "maxmin"])
def test_a_new_vector_counts_from_then_on(open_cache: Open, kind: str, policy: str) -> None:
    """An entry whose vector now repeats the newest one's goes."""
    cache = open_cache(max_size=5, eviction=policy, index=kind)
    ids = fill(cache, [1, 2, 3, 4])
    cache.set_embeddings({ids[2]: around(9, 50)})
    fill(cache, [9, 5], first=50)
    assert ids[2] not in cache
    assert cache.size() == 5


@pytest.mark.parametrize("policy", ["rke", "maxmin"])
def test_two_caches_on_one_folder_evict_by_what_both_wrote(open_cache: Open, kind: str, policy: str) -> None:
    """Vectors of the other's entries are known, and its changes of vectors too."""
    one = open_cache(max_size=4, eviction=policy, index=kind)
    two = open_cache(max_size=4, eviction=policy)
    first, second = fill(one, [1, 2])
    fill(two, [3, 4], first=2)
    fill(one, [1], first=4)
    assert first not in two
    two.set_embeddings({second: around(3, 2)})
    fill(one, [5], first=5)
    assert second not in one
    assert one.ids() == two.ids()


@pytest.mark.parametrize("policy", ["rke", "maxmin", "reservoir"])
def test_a_cache_that_is_opened_again_goes_on_as_if_it_had_not_been_closed(
    open_cache: Open, tmp_path: Path, kind: str, policy: str
) -> None:
    """The same entries go, with the options that `eviction_state` gave; JSON holds them."""
    motifs = [int(motif) for motif in np.random.default_rng(0).integers(0, 6, 40)]
    whole = open_cache(tmp_path / "whole", max_size=6, eviction=policy, index=kind)
    fill(whole, motifs)
    parts, options = open_cache(tmp_path / "parts", max_size=6, eviction=policy, index=kind), {}
    for start in range(0, 40, 8):
        fill(parts, motifs[start : start + 8], first=start)
        options = json.loads(json.dumps(parts.eviction_state()))
        parts.close()
        parts = open_cache(tmp_path / "parts", max_size=6, eviction=policy, eviction_options=options)
    assert parts.ids() == whole.ids()
    assert options == json.loads(json.dumps(whole.eviction_state()))


def test_the_options_of_a_policy_reach_it(open_cache: Open, tmp_path: Path) -> None:
    """Another seed of the reservoir, another sample."""
    kept = []
    for seed in (1, 1, 2):
        cache = open_cache(
            tmp_path / f"{len(kept)}", max_size=8, eviction="reservoir", eviction_options={"seed": seed}
        )
        fill(cache, [0] * 30)
        assert cache.eviction_state() == {"seed": seed}
        kept.append(cache.ids())
    assert kept[0] == kept[1] != kept[2]


@pytest.mark.parametrize("policy", ["rke", "maxmin"])
def test_an_add_that_fails_is_not_counted(
    open_cache: Open, tmp_path: Path, kind: str, policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a refusal of the disk nor a picture that is none leaves a trace in the policy."""
    cache, twin = (open_cache(tmp_path / each, max_size=4, eviction=policy, index=kind) for each in "ab")
    for each in (cache, twin):
        fill(each, [1, 2, 3, 4])

    def refuse(*_: object, **__: object) -> None:
        raise StorageError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(cache._images, "commit", refuse)
        with pytest.raises(StorageError, match="no space"):
            fill(cache, [2], first=30)
    with pytest.raises(ImageError):
        cache.add(np.zeros((3, 3), np.uint8), "", {}, around(3, 31))
    with cache._writing() as write:
        ranking = list(cache._evictions.ranking(write, ()))
    assert sorted(brief.cache_id for brief in ranking) == cache.ids()
    for each in (cache, twin):
        fill(each, [5], first=40)
    assert [int(each[-5:]) for each in cache.ids()[:3]] == [int(each[-5:]) for each in twin.ids()[:3]]


# --------------------------------------------------------------------------------------- segments


@pytest.mark.parametrize("policy", POLICIES)
def test_recent_entries_go_only_when_nothing_else_can(open_cache: Open, kind: str, policy: str) -> None:
    """Three of them: the one that is added and the two before it."""
    cache = open_cache(max_size=5, eviction=policy, protect_recent=3, index=kind)
    ids: list[str] = []
    for seed in range(20):
        ids += fill(cache, [seed % 2], first=seed)
        cache.get(ids[0])
        assert set(ids[-3:]) <= set(cache.ids())
        assert cache.size() == min(5, seed + 1)


@pytest.mark.parametrize("policy", POLICIES)
def test_with_all_others_pinned_the_recent_go_oldest_first(open_cache: Open, policy: str) -> None:
    """And an error comes only when everything is pinned."""
    cache = open_cache(max_size=4, eviction=policy, protect_recent=10)
    pinned = fill(cache, [1, 2], pinned=True)
    loose = fill(cache, [3, 4, 5, 6], first=2)
    assert cache.ids() == [*pinned, *loose[2:]]
    for cache_id in loose[2:]:
        cache.pin(cache_id)
    with pytest.raises(CacheFullError, match="pinned"):
        fill(cache, [7], first=9)
    assert cache.ids() == [*pinned, *loose[2:]]


@pytest.mark.parametrize("policy", POLICIES)
def test_protected_entries_go_only_when_nothing_else_can(open_cache: Open, policy: str) -> None:
    """Each call names them all; the last ones to go are the oldest of them first."""
    cache = open_cache(max_size=3, eviction=policy)
    first, second, third = fill(cache, [1, 1, 1])
    cache.protect([first, second, "cache_99999"])
    fourth, fifth = fill(cache, [1, 1], first=3)
    assert cache.ids() == [first, second, fifth]
    cache.pin(fifth)
    (sixth,) = fill(cache, [2], first=5)
    assert cache.ids() == [second, fifth, sixth]
    cache.protect([])
    cache.pin(sixth)
    fill(cache, [3], first=6)
    assert second not in cache
    assert {third, fourth}.isdisjoint(cache.ids())


# -------------------------------------------------------------------------------------- listeners


@pytest.mark.parametrize("policy", POLICIES)
def test_evictions_on_opening_are_heard(open_cache: Open, tmp_path: Path, kind: str, policy: str) -> None:
    """By listeners that were handed in; what stays is not an add."""
    with open_cache(tmp_path / "wide", max_size=None, index=kind) as cache:
        ids = fill(cache, [1, 2, 3, 4, 5])
    added, evicted = [], []
    again = open_cache(
        tmp_path / "wide", max_size=2, eviction=policy, on_added=[added.append], on_evicted=[evicted.append]
    )
    assert sorted([*again.ids(), *(entry.cache_id for entry in evicted)]) == ids
    assert len(evicted) == 3
    assert added == []


def test_only_evictions_are_announced_as_such(open_cache: Open, kind: str) -> None:
    """`remove` and `clear` are no evictions; nor is what another process does."""
    cache, other = (open_cache(max_size=3, index=kind) for _ in range(2))
    added, evicted = [], []
    cache.on_added.append(lambda entry: added.append(entry.cache_id))
    cache.on_evicted.append(lambda entry: evicted.append(entry.cache_id))
    ids = fill(cache, [1, 2, 3])
    cache.remove(ids[1])
    fill(other, [4, 5])
    cache.clear()
    assert cache.size() == 0
    assert (added, evicted) == (ids, [])


def test_a_listener_may_wait_for_another_thread_that_uses_the_cache(open_cache: Open, kind: str) -> None:
    """No lock is held while listeners are called: on an add, an eviction, and an eviction on opening."""
    opened: list[CacheManager] = []
    answers: list[int] = []

    def ask(entry: Any) -> None:
        def use() -> None:
            opened[-1].get(entry.cache_id)
            opened[-1].pin(opened[-1].ids()[0])
            opened[-1].unpin(opened[-1].ids()[0])
            answers.append(opened[-1].size())

        thread = threading.Thread(target=use, daemon=True)
        thread.start()
        thread.join(20)
        assert not thread.is_alive()

    opened.append(open_cache(max_size=2, index=kind, eviction="rke"))
    opened[0].on_added.append(ask)
    opened[0].on_evicted.append(ask)
    fill(opened[0], [1, 2, 3])
    assert answers == [1, 2, 2, 2]
    open_cache(max_size=1, on_evicted=[ask])
    assert answers == [1, 2, 2, 2, 1]


def test_a_single_text_is_no_list_of_ids(open_cache: Open) -> None:
    """Its letters would be taken for ids, and nothing would be protected."""
    cache = open_cache(max_size=2)
    with pytest.raises(InputError, match="protect takes a list of ids, got the text"):
        cache.protect("cache_00001")
    with pytest.raises(InputError, match="an id must be text"):
        cache.protect([["cache_00001"]])
