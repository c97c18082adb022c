"""The policies: pure, seeded, and to the letter of the specification's flow chart."""

import copy
from collections import Counter

import numpy as np
import pytest

from reverie import registry
from reverie.cache.similarity import find_similar
from reverie.errors import InputError, UnknownNameError
from reverie.loop.injection import NoInjection, RandomMemory, SimilarMemory
from reverie.protocols import Observation
from reverie.vectors import EmbeddingSet, as_embedding

DIMENSIONS = 12


def near(cosine, row=1):
    """A unit vector at that cosine to the first axis."""
    vector = np.zeros(DIMENSIONS, np.float32)
    vector[0], vector[row] = cosine, np.sqrt(1 - cosine**2)
    return vector


def observe(frame=15, cosines=(0.9, 0.5, 0.8), own_id=None):
    """An observation of a frame along the first axis, with memories at these cosines to it."""
    ids = tuple(f"cache_{row:05d}" for row in range(1, len(cosines) + 1))
    matrix = np.array([near(cosine, row % 11 + 1) for row, cosine in enumerate(cosines)], np.float32)
    matrix = matrix.reshape(-1, DIMENSIONS)
    matrix.flags.writeable = False
    embedding = as_embedding(near(1.0), encoder="tiny")
    return Observation(frame, embedding, embedding[None], EmbeddingSet(ids, matrix, "tiny"), own_id)


def decisions(policy, observation, count=300, seed=0):
    """What the policy decides again and again."""
    rng = np.random.default_rng(seed)
    return [policy.decide(observation, rng) for _ in range(count)]


# ------------------------------------------------------------------------------------- all


POLICIES = {"spec": SimilarMemory, "random": RandomMemory, "none": NoInjection}


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_a_policy_has_its_name_in_the_registry(name):
    """Chosen by name, and it knows the name."""
    policy = registry.create("policies", name)
    assert type(policy) is POLICIES[name]
    assert policy.name == name


def test_an_unknown_policy_is_named_with_those_that_exist():
    """So that a typing error is mended at once."""
    with pytest.raises(UnknownNameError, match=r"'spek'.*gentle, none, random, restless, spec, wander"):
        registry.load("policies", "spek")


@pytest.mark.parametrize("name", sorted(POLICIES))
@pytest.mark.parametrize("frame", [14, 15])
def test_a_policy_is_pure(name, frame):
    """The same observation and randomness give the same decision; the observation is untouched."""
    observation = observe(frame)
    before = copy.deepcopy(observation)
    policy, again = registry.create("policies", name), registry.create("policies", name)
    first = decisions(policy, observation, 20)
    assert decisions(policy, observation, 20) == first
    assert decisions(again, observation, 20) == first
    assert observation.candidates.matrix.tobytes() == before.candidates.matrix.tobytes()
    assert observation.recent.tobytes() == before.recent.tobytes()
    assert (observation.frame, observation.past, observation.measures) == (before.frame, (), {})


@pytest.mark.parametrize("name", ["spec", "random"])
def test_the_interval_is_15_frames(name):
    """Exactly at frames 15, 30, 45...: the frame count is divisible by 15."""
    policy, rng = registry.create("policies", name), np.random.default_rng(0)
    injected = [frame for frame in range(1, 61) if policy.decide(observe(frame), rng).cache_id is not None]
    assert injected == [15, 30, 45, 60]


@pytest.mark.parametrize("name", ["spec", "random"])
def test_another_interval(name):
    """The interval is a parameter."""
    policy, rng = registry.create("policies", name, interval=4), np.random.default_rng(0)
    assert [f for f in range(1, 13) if policy.decide(observe(f), rng).cache_id is not None] == [4, 8, 12]
    assert registry.create("policies", name, interval=1).decide(observe(1), rng).cache_id is not None


@pytest.mark.parametrize("name", ["spec", "random"])
def test_waiting_says_how_long_and_draws_nothing(name):
    """Between injections the reason counts down and the randomness stays where it is."""
    policy, rng = registry.create("policies", name), np.random.default_rng(3)
    reasons = [policy.decide(observe(frame), rng).reason for frame in (1, 13, 14, 16)]
    assert reasons == [
        "next look in 14 frames",
        "next look in 2 frames",
        "next look in 1 frame",
        "next look in 14 frames",
    ]
    assert rng.random() == np.random.default_rng(3).random()


@pytest.mark.parametrize("name", ["spec", "random"])
@pytest.mark.parametrize("interval", [0, -15, 1.5, "15", None, True], ids=repr)
def test_an_interval_is_a_whole_number_of_frames(name, interval):
    """Anything else is refused when the policy is made."""
    with pytest.raises(InputError, match="interval must be a whole number of frames"):
        registry.create("policies", name, interval=interval)


# ------------------------------------------------------------------------------------ none


def test_none_never_injects():
    """Whatever is in memory."""
    for decision in decisions(NoInjection(), observe(15), 5):
        assert (decision.cache_id, decision.similarity) == (None, None)
        assert decision.reason == "this policy never injects"


# ------------------------------------------------------------------------------------ spec


def test_spec_draws_from_the_similar_in_proportion():
    """Of memories at .9, .5 and .8, those from .7 on, each in proportion to its similarity."""
    chosen = Counter(decision.cache_id for decision in decisions(SimilarMemory(), observe(), 4000))
    assert set(chosen) == {"cache_00001", "cache_00003"}
    expected = {"cache_00001": 4000 * 0.9 / 1.7, "cache_00003": 4000 * 0.8 / 1.7}
    chi_square = sum((chosen[name] - want) ** 2 / want for name, want in expected.items())
    assert chi_square < 10.83  # p = .001 for one degree of freedom


def test_spec_takes_no_more_than_the_five_most_similar():
    """``top_k`` of many, 5 by default."""
    cosines = (0.71, 0.95, 0.72, 0.9, 0.73, 0.99, 0.8, 0.85)
    best = {"cache_00006", "cache_00002", "cache_00004", "cache_00008", "cache_00007"}
    observation = observe(cosines=cosines)
    assert {d.cache_id for d in decisions(SimilarMemory(), observation)} == best
    assert {d.cache_id for d in decisions(SimilarMemory(top_k=1), observation, 50)} == {"cache_00006"}


def test_spec_threshold_is_inclusive():
    """A memory at exactly the threshold is similar enough."""
    assert SimilarMemory(threshold=0.5).decide(observe(cosines=[0.5]), np.random.default_rng()).cache_id
    assert not SimilarMemory(threshold=0.51).decide(observe(cosines=[0.5]), np.random.default_rng()).cache_id


def test_spec_includes_the_current_frame():
    """The flow chart adds the frame to the cache first: it is among its own candidates."""
    observation = observe(cosines=[0.2, 1.0], own_id="cache_00002")
    decision = SimilarMemory().decide(observation, np.random.default_rng(0))
    assert (decision.cache_id, decision.similarity) == ("cache_00002", pytest.approx(1.0))


def test_spec_says_what_it_decided_from():
    """The similarity is that of the chosen memory; reason and numbers are for the journal."""
    observation = observe()
    similar = dict(find_similar(observation.embedding, observation.candidates))
    for decision in decisions(SimilarMemory(), observation, 20):
        assert decision.similarity == similar[decision.cache_id]
        assert decision.reason == "every 15 frames: one of 2 memories like this frame"
        assert decision.numbers == {"candidates": 3.0, "similar": 2.0}


@pytest.mark.parametrize("cosines", [(), (0.6, 0.1)], ids=["empty", "unlike"])
def test_spec_without_anything_similar(cosines):
    """No injection, and the reason says that nothing was similar enough."""
    decision = SimilarMemory().decide(observe(cosines=cosines), np.random.default_rng(0))
    assert (decision.cache_id, decision.similarity) == (None, None)
    assert decision.reason == "no memory is 0.7 or more similar"
    assert decision.numbers == {"candidates": float(len(cosines)), "similar": 0.0}


@pytest.mark.parametrize("wrong", [{"threshold": float("nan")}, {"top_k": -1}, {"top_k": 2.5}], ids=str)
def test_spec_checks_its_numbers_at_once(wrong):
    """Not at the fifteenth frame."""
    with pytest.raises(InputError, match=r"threshold|top_k"):
        SimilarMemory(**wrong)


# ---------------------------------------------------------------------------------- random


def test_random_draws_evenly():
    """Every memory has the same chance, whatever its similarity."""
    cosines = (0.99, 0.5, 0.0, -0.9)
    found = decisions(RandomMemory(), observe(cosines=cosines), 4000)
    chosen = Counter(decision.cache_id for decision in found)
    assert len(chosen) == 4
    assert sum((count - 1000) ** 2 / 1000 for count in chosen.values()) < 16.27  # p = .001, 3 degrees
    assert {decision.similarity for decision in found} == {float(np.float32(cosine)) for cosine in cosines}
    assert found[0].reason == "every 15 frames: a random one of 4 memories"
    assert found[0].numbers == {"candidates": 4.0}


def test_random_with_an_empty_memory():
    """No injection, and the reason says so."""
    decision = RandomMemory().decide(observe(cosines=()), np.random.default_rng(0))
    assert (decision.cache_id, decision.reason) == (None, "the memory is empty")
