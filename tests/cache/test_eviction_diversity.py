"""Policies that keep diversity: exact sums, the best swap, the closest pair, and what is kept of a life."""

from __future__ import annotations

import json
from collections import Counter
from itertools import islice

import numpy as np
import pytest

from reverie import registry
from reverie.cache.diversity_eviction import MaxMinSwap, RkeSwap
from reverie.cache.eviction import Reservoir
from reverie.diversity import vendi
from reverie.errors import InputError
from reverie.protocols import Brief, EvictionPolicy
from reverie.testing.eviction_suite import motif_life
from reverie.vectors import as_embedding

NAMES = ("lru", "maxmin", "oldest", "reservoir", "rke")


def brief(number: int, *, pinned: bool = False) -> Brief:
    """The brief of an entry that was never used again."""
    return Brief(number, f"cache_{number:05d}", "2025-11-08T10:00:00", number, pinned, byte_size=1)


def number_of(cache_id: str) -> int:
    """Its number."""
    return int(cache_id.removeprefix("cache_"))


def live(policy: EvictionPolicy, rows: np.ndarray, slots: int) -> list[int]:
    """A whole life in so many slots; the frames that are kept in the end."""
    kept: dict[str, int] = {}
    for frame, row in enumerate(rows):
        one = brief(frame + 1)
        policy.insert(one, as_embedding(row, encoder="life") if policy.needs_vectors else None)
        kept[one.cache_id] = frame
        if len(kept) > slots:
            gone = next(policy.ranking({one.cache_id}))
            policy.discard(gone)
            del kept[gone]
    return list(kept.values())


def random_policy(kind: type, count: int, dimensions: int = 16, seed: int = 0) -> tuple[EvictionPolicy, dict]:
    """A policy that knows ``count`` random vectors, and those vectors by id."""
    rng = np.random.default_rng(seed)
    policy, vectors = kind(), {}
    for number in range(1, count + 1):
        vectors[f"cache_{number:05d}"] = as_embedding(rng.standard_normal(dimensions), encoder="x")
        policy.insert(brief(number), vectors[f"cache_{number:05d}"])
    return policy, vectors


# ------------------------------------------------------------------------------- a synthetic life


@pytest.fixture(scope="module")
def kept_of_a_life() -> dict[str, tuple[float, int]]:
    """Vendi score and motifs of what each policy keeps of 8,000 frames in 75 slots."""
    rows, motifs = motif_life()
    assert len(set(motifs)) == 33
    found = {}
    for name in NAMES:
        kept = live(registry.create("evictions", name), rows, 75)
        assert len(kept) == 75
        found[name] = (vendi(rows[kept]), len(set(motifs[kept])))
    return found


def test_rke_keeps_every_motif_of_a_long_life(kept_of_a_life) -> None:
    """And at least eight times the Vendi score of oldest-first; the most of all policies."""
    score, motifs = kept_of_a_life["rke"]
    assert motifs == 33
    assert score >= 8 * kept_of_a_life["oldest"][0]
    assert score == max(other for other, _ in kept_of_a_life.values())


def test_maxmin_keeps_every_motif_of_a_long_life(kept_of_a_life) -> None:
    """With more variety than a reservoir."""
    score, motifs = kept_of_a_life["maxmin"]
    assert motifs == 33
    assert score > kept_of_a_life["reservoir"][0]


def test_a_reservoir_lies_between(kept_of_a_life) -> None:
    """It remembers far more than the last visits, and forgets motifs that were rare."""
    score, motifs = kept_of_a_life["reservoir"]
    assert 4 * kept_of_a_life["oldest"][0] < score < kept_of_a_life["rke"][0]
    assert kept_of_a_life["oldest"][1] < motifs < 33


# --------------------------------------------------------------------------------------------- rke


def brute_force(vectors: dict, bandwidth: float) -> dict[str, float]:
    """R_j by definition, in double precision."""
    rows = np.array(list(vectors.values()), dtype=np.float64)
    kernel = np.exp(-(1 - rows @ rows.T) / bandwidth)
    return dict(zip(vectors, (kernel**2).sum(axis=1), strict=True))


def churned(steps: int, seed: int = 0) -> tuple[RkeSwap, dict]:
    """A policy after so many random adds, removals and questions, and the vectors that are left."""
    rng = np.random.default_rng(seed)
    policy, vectors, number = RkeSwap(), {}, 0
    for _ in range(steps):
        if len(vectors) < 20 or (len(vectors) < 60 and rng.random() < 0.5):
            number += 1
            vectors[f"cache_{number:05d}"] = as_embedding(rng.standard_normal(12) + 0.8, encoder="x")
            policy.insert(brief(number), vectors[f"cache_{number:05d}"])
        else:
            gone = list(vectors)[rng.integers(len(vectors))]
            policy.discard(gone)
            del vectors[gone]
        if rng.random() < 0.4:
            next(policy.ranking())
    return policy, vectors


def test_the_sums_are_those_of_the_definition_after_ten_thousand_changes() -> None:
    """Within what a cosine of whole numbers is off by; nothing adds up over the life."""
    policy, vectors = churned(10_000)
    sums = policy.crowding()
    expected = brute_force(vectors, policy.state()["bandwidth"])
    assert sums.keys() == expected.keys()
    assert all(sums[each] == pytest.approx(expected[each], rel=2e-3) for each in expected)


def test_the_sums_do_not_depend_on_the_history() -> None:
    """A policy that is told of the same entries in another order has the same bits."""
    policy, vectors = churned(2_000, seed=1)
    again = RkeSwap(**policy.state())
    for cache_id in sorted(vectors, reverse=True):
        again.insert(brief(number_of(cache_id)), vectors[cache_id])
    next(again.ranking())
    assert again.crowding() == policy.crowding()
    assert list(again.ranking()) == list(policy.ranking())


def test_the_first_to_go_is_the_best_single_swap() -> None:
    """Of all entries, without the candidate, its loss leaves the smallest frame potential, by brute force."""
    for seed in range(5):
        policy, vectors = random_policy(RkeSwap, 30, seed=seed)
        candidate = "cache_00030"
        found = next(policy.ranking({candidate}))
        rows = np.array(list(vectors.values()), dtype=np.float64)
        squared = np.exp(-2 * (1 - rows @ rows.T) / policy.state()["bandwidth"])
        left = [
            np.delete(np.delete(squared, place, 0), place, 1).sum() for place in range(29)
        ]  # the frame potential F of each swap
        assert found == f"cache_{int(np.argmin(left)) + 1:05d}"


@pytest.mark.parametrize("kind", [RkeSwap, MaxMinSwap])
def test_a_memory_of_many_rows_is_passed_over_in_blocks(kind) -> None:
    """Kept up to date over many blocks of rows, or made anew from what is left: the same bits."""
    count, dimensions = 700, 512  # a block is 256 rows where two are compared with all, and 128 for three
    rng = np.random.default_rng(6)
    policy, vectors = random_policy(kind, count, dimensions)
    next(policy.ranking())
    for number in range(count + 1, count + 40):
        came = [f"cache_{number:05d}"]
        vectors[came[0]] = as_embedding(rng.standard_normal(dimensions), encoder="x")
        policy.insert(brief(number), vectors[came[0]])
        gone = [next(policy.ranking(came)), *([list(vectors)[number % 7]] if number % 3 == 0 else [])]
        for cache_id in set(gone):
            policy.discard(cache_id)
            del vectors[cache_id]
    again = kind(**policy.state())
    for cache_id, vector in vectors.items():
        again.insert(brief(number_of(cache_id)), vector)
    assert list(islice(policy.ranking(), 20)) == list(islice(again.ranking(), 20))
    if kind is RkeSwap:
        assert policy.crowding() == again.crowding()


def test_a_repeated_frame_takes_the_place_of_its_twin() -> None:
    """What a candidate repeats is the most crowded entry; the older of the two goes."""
    policy, vectors = random_policy(RkeSwap, 12, dimensions=64)
    policy.insert(brief(13), vectors["cache_00005"])
    assert next(policy.ranking()) == "cache_00005"
    assert next(policy.ranking({"cache_00013"})) == "cache_00005"
    assert next(policy.ranking({"cache_00005"})) == "cache_00013"


@pytest.mark.parametrize("kind", [RkeSwap, MaxMinSwap])
def test_a_pinned_entry_counts_but_is_never_named(kind) -> None:
    """A frame like a pin is redundant, and goes though it is the younger."""
    policy, vectors = random_policy(kind, 12, dimensions=64)
    policy.insert(brief(3, pinned=True))
    policy.insert(brief(13), vectors["cache_00003"])
    order = list(policy.ranking())
    assert order[0] == "cache_00013"
    assert "cache_00003" not in order
    policy.insert(brief(3))
    assert next(policy.ranking()) == "cache_00003"


def test_the_bandwidth_follows_the_memory_every_500_entries() -> None:
    """It is half the median gap; between two looks it stays."""
    rng = np.random.default_rng(3)
    policy = RkeSwap()
    near, far = rng.standard_normal(64) * 3, rng.standard_normal((700, 64))
    for number in range(1, 41):
        policy.insert(brief(number), as_embedding(near + far[number], encoder="x"))
    next(policy.ranking())
    rows = np.array([as_embedding(near + far[number]) for number in range(1, 41)], dtype=np.float64)
    gaps = (1 - rows @ rows.T)[np.triu_indices(40, 1)]
    narrow = policy.state()["bandwidth"]
    assert narrow == pytest.approx(np.median(gaps) / 2, rel=1e-2)
    for number in range(41, 520):
        policy.insert(brief(number), as_embedding(far[number], encoder="x"))
        policy.discard(next(policy.ranking({f"cache_{number:05d}"})))
        if number == 499:
            assert policy.state()["bandwidth"] == narrow
    assert policy.state()["bandwidth"] > 2 * narrow
    assert policy.state()["checked"] == 500


def test_the_bandwidth_is_looked_at_anew_for_another_encoder() -> None:
    """Its gaps are others."""
    rng = np.random.default_rng(4)
    policy, vectors = random_policy(RkeSwap, 20)
    next(policy.ranking())
    before = policy.state()
    narrow = rng.standard_normal(16) * 5
    for number in range(21, 41):
        policy.insert(brief(number), as_embedding(narrow + rng.standard_normal(16), encoder="y"))
    assert list(islice(policy.ranking(), 20)) == list(vectors)
    for cache_id in vectors:
        policy.discard(cache_id)
    next(policy.ranking())
    assert policy.state()["bandwidth"] < before["bandwidth"] / 4
    assert json.loads(json.dumps(policy.state()))["space"] == ["y", 16]


def test_one_entry_alone_can_go() -> None:
    """Without a pair there is nothing to compare, and still something to evict."""
    for kind in (RkeSwap, MaxMinSwap):
        policy, _ = random_policy(kind, 1)
        assert list(policy.ranking()) == ["cache_00001"]
    assert RkeSwap().crowding() == {}


def test_entries_can_all_be_the_same() -> None:
    """A loop that is stuck fills its memory with one frame; the oldest copies go."""
    for kind in (RkeSwap, MaxMinSwap):
        policy = kind()
        for number in range(1, 6):
            policy.insert(brief(number), as_embedding([1.0, 2.0, 2.0], encoder="x"))
        assert list(policy.ranking()) == [f"cache_{number:05d}" for number in range(1, 6)]


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        ({"bandwidth": 0.0}, "bandwidth"),
        ({"bandwidth": float("nan")}, "bandwidth"),
        ({"bandwidth": "wide"}, "bandwidth"),
        ({"checked": 0.5}, "checked"),
        ({"space": ["x"]}, "space"),
    ],
)
def test_options_of_rke_are_checked(options, wrong) -> None:
    """By name, with the value."""
    with pytest.raises(InputError, match=wrong):
        RkeSwap(**options)


# ------------------------------------------------------------------------------------------ maxmin


def test_maxmin_names_the_older_of_the_closest_pair_again_and_again() -> None:
    """As brute force does, through a life with removals."""
    rng = np.random.default_rng(5)
    policy, vectors = random_policy(MaxMinSwap, 25, seed=5)
    for number in range(26, 200):
        cache_id = f"cache_{number:05d}"
        vectors[cache_id] = as_embedding(rng.standard_normal(16), encoder="x")
        policy.insert(brief(number), vectors[cache_id])
        ids, rows = list(vectors), np.array(list(vectors.values()), dtype=np.float64)
        cosines = rows @ rows.T - 3 * np.eye(len(rows))
        pair = np.unravel_index(cosines.argmax(), cosines.shape)
        found = next(policy.ranking())
        assert found == ids[min(pair)]
        for gone in (found, ids[-2]) if number % 5 == 0 else (found,):
            policy.discard(gone)
            vectors.pop(gone, None)


def test_maxmin_lets_the_other_of_a_pair_go_when_one_may_not() -> None:
    """As brute force does, where the newest is skipped, as a cache does, and every fourth is pinned."""
    rng = np.random.default_rng(8)
    policy, vectors = MaxMinSwap(), {}
    for number in range(1, 150):
        newest = f"cache_{number:05d}"
        vectors[newest] = as_embedding(rng.standard_normal(12), encoder="x")
        policy.insert(brief(number, pinned=number % 4 == 0), vectors[newest])
        if number <= 60:
            continue
        ids, rows = list(vectors), np.array(list(vectors.values()), dtype=np.float64)
        loose = np.array([number_of(each) % 4 != 0 and each != newest for each in ids])
        cosines = np.where(loose[:, None] | loose, rows @ rows.T - 3 * np.eye(len(rows)), -3)
        pair = np.unravel_index(cosines.argmax(), cosines.shape)
        found = next(policy.ranking({newest}))
        assert found == ids[min(place for place in pair if loose[place])]
        policy.discard(found)
        del vectors[found]


# --------------------------------------------------------------------------------------- reservoir


def test_a_reservoir_is_an_even_sample_of_the_whole_life() -> None:
    """Over many seeds every tenth of the life is kept equally often (chi-squared, 9 degrees, p = .001)."""
    counts: Counter[int] = Counter()
    for seed in range(60):
        kept = live(Reservoir(seed=seed), np.zeros((500, 1)), 21)
        counts.update(frame // 50 for frame in kept if frame != 499)  # the newest always has a place
    total = sum(counts.values())
    expected = total / 10
    assert sum((counts[tenth] - expected) ** 2 / expected for tenth in range(10)) < 27.9


def test_a_reservoir_depends_on_its_seed_alone() -> None:
    """The same seed, the same sample, whatever the order in which it was told; another seed, another."""
    first, again, other = (live(Reservoir(seed=seed), np.zeros((300, 1)), 20) for seed in (1, 1, 2))
    assert first == again != other
    backwards = Reservoir(seed=1)
    for number in range(300, 0, -1):
        backwards.insert(brief(number))
    forwards = Reservoir(seed=1)
    for number in range(1, 301):
        forwards.insert(brief(number))
    assert list(forwards.ranking()) == list(backwards.ranking())


def test_the_seed_of_a_reservoir_is_checked() -> None:
    """A whole number, also a negative one."""
    assert list(Reservoir(seed=-1).ranking()) == []
    for bad in (0.5, True, 2**64):
        with pytest.raises(InputError, match="whole number"):
            Reservoir(seed=bad)


# ------------------------------------------------------------------------------------- what is told


@pytest.mark.parametrize("kind", [RkeSwap, MaxMinSwap])
def test_a_vector_can_be_replaced(kind) -> None:
    """Told of another vector for a known id, the old one no longer counts; the same one changes nothing."""
    policy, vectors = random_policy(kind, 10, dimensions=64)
    order = list(policy.ranking())
    for cache_id, vector in vectors.items():
        policy.insert(brief(number_of(cache_id)), vector)
    assert list(policy.ranking()) == order
    policy.insert(brief(7), vectors["cache_00002"])
    assert next(policy.ranking()) == "cache_00002"
    policy.insert(brief(7), vectors["cache_00007"])
    assert list(policy.ranking()) == order


@pytest.mark.parametrize("kind", [RkeSwap, MaxMinSwap])
def test_the_newest_entry_says_which_encoder_is_compared(kind) -> None:
    """Older ones of another encoder go first; when the newer are gone, they are compared again."""
    policy, vectors = random_policy(kind, 6)
    alone = list(policy.ranking())
    for number in (7, 8):
        policy.insert(brief(number), as_embedding(np.eye(4)[number - 7], encoder="y"))
    assert list(islice(policy.ranking(), 6)) == list(vectors)
    policy.discard("cache_00008")
    policy.discard("cache_00007")
    assert list(policy.ranking()) == alone


def test_policies_say_whether_they_need_vectors() -> None:
    """Those that do not are never given one."""
    assert [registry.load("evictions", name).needs_vectors for name in NAMES] == [
        False,
        True,
        False,
        False,
        True,
    ]
