"""The policy of data: on which occasion, which memory, and what after it was of no use."""

import dataclasses
import re

import numpy as np
import pytest

from reverie.errors import InputError, UnknownNameError
from reverie.loop.choosing import Which
from reverie.loop.memory_policy import MemoryPolicy
from reverie.loop.occasion import When
from reverie.loop.presets import PRESETS, memory_settings, policy
from reverie.loop.transition import TransitionSettings
from reverie.protocols import Observation, PastInjection
from reverie.vectors import EmbeddingSet, as_embedding

D = 16
ALWAYS = When("interval", interval=1)


def axis(number, tilt=0.0):
    """A unit vector along an axis, tilted towards the next."""
    vector = np.zeros(D)
    vector[number], vector[(number + 1) % D] = 1.0, tilt
    return as_embedding(vector)


def rows(*vectors):
    """Stacked."""
    return np.stack([np.asarray(vector) for vector in vectors])


def seen(recent, memories=(), frame=None, **more):
    """An observation: the last frames, and memories by id ``m0``, ``m1``..."""
    ids = tuple(f"m{number}" for number in range(len(memories)))
    matrix = rows(*memories) if len(memories) else np.empty((0, 0), np.float32)  # as a cache gives it
    frame = len(recent) if frame is None else frame
    defaults = {"unrelated": 0.03, **more}
    return Observation(frame, as_embedding(recent[-1]), rows(*recent), EmbeddingSet(ids, matrix), **defaults)


def decided(observation, which=None, when=ALWAYS, seed=0):
    """What a policy decides."""
    return MemoryPolicy(when, which or Which()).decide(observation, np.random.default_rng(seed))


def chosen(observation, which, draws=200):
    """How often each memory is chosen."""
    made = MemoryPolicy(ALWAYS, which)
    rng = np.random.default_rng(0)
    ids = [made.decide(observation, rng).cache_id for _ in range(draws)]
    return {each: ids.count(each) for each in sorted(set(ids), key=str)}


# -------------------------------------------------------------------------------------- occasions


def test_the_alarm_goes_on_when_the_last_frames_are_alike():
    """Mean pairwise cosine of the window above ``on``: not while it moves, nor before ``least`` frames."""
    still, moving = [axis(0)] * 20, [axis(number % D) for number in range(20)]
    assert decided(seen(still[:9], [axis(5)]), when=When()).reason == "too few frames to judge by"
    go = decided(seen(still, [axis(5)]), when=When())
    assert (go.cache_id, go.numbers["alike"], go.numbers["alarm"]) == ("m0", 1.0, 1.0)
    stay = decided(seen(moving, [axis(5)]), when=When())
    assert stay.cache_id is None
    assert stay.reason.startswith("the loop moves: mean cosine 0.02, memory steps in above 0.40")


def test_the_alarm_stays_on_down_to_off():
    """Between the thresholds it is what it was; worked out from the frames alone."""
    tilted = [axis(0, tilt) for tilt in np.random.default_rng(1).normal(0, 1.35, 60)]
    middle = When(on=0.9, off=0.2)
    assert decided(seen(tilted, [axis(9)]), when=middle).cache_id is None
    latched = decided(seen([axis(0)] * 30 + tilted[:25], [axis(9)]), when=middle)
    assert latched.cache_id == "m0"
    assert re.match(
        r"the last frames are still alike \(mean cosine 0\.\d+, not yet below 0\.20\)", latched.reason
    )
    after = [axis(0)] * 30 + [axis(number % D) for number in range(30)] + tilted[:25]
    assert decided(seen(after, [axis(9)]), when=middle).cache_id is None


def test_after_an_injection_it_waits():
    """``cooldown`` frames from its end to the next beginning."""
    still, when = [axis(0)] * 30, When(cooldown=4)
    reasons = [
        decided(seen(still, [axis(5)], past=(PastInjection(20, "m0", ended),)), when=when).reason
        for ended in (26, 28, 30)
    ]
    assert reasons[0].startswith("the last frames are alike")
    assert reasons[1:] == [
        "the frames are alike, but an injection ended 2 frames ago",
        "the frames are alike, but an injection ended 0 frames ago",
    ]


def test_the_promised_alarm_is_followed_once():
    """When it is raised; while the policy rests afterwards; not for what an injection followed already."""
    when, still = When("promise", cooldown=4), [axis(0)] * 30

    def reason(raised, ended=None):
        past = () if ended is None else (PastInjection(ended - 1, "m0", ended),)
        measures = {} if raised is None else {"alarm": 5.0, "since_alarm": float(raised)}
        made = decided(seen(still, [axis(5)], past=past, measures=measures), when=when)
        return made.cache_id is not None, made.reason

    assert reason(None) == (False, "the loop moves: evidence against it 0")
    assert reason(0)[0]
    assert reason(3)[0]
    assert reason(3, ended=20)[0]
    assert reason(3, ended=27) == (False, "the loop moves: evidence against it 5")
    assert reason(1, ended=28) == (False, "alarm, but an injection ended 2 frames ago")


def test_thresholds_move_with_the_encoder():
    """With an encoder to which unrelated pictures have .5, a mean cosine of .6 is no alarm at .4."""
    base = np.zeros(D)
    base[0] = 1.2
    frames = [as_embedding(base + np.eye(D)[1 + number % (D - 1)]) for number in range(30)]
    observation = seen(frames, [axis(5)])
    assert decided(observation, when=When()).cache_id == "m0"
    assert decided(dataclasses.replace(observation, unrelated=0.5), when=When()).cache_id is None


def test_an_interval_and_a_probability():
    """Every so many frames; at each frame with a chance."""
    still = [axis(0)] * 30
    frames = [n for n in range(1, 31) if decided(seen(still, [axis(5)], n), when=When("interval")).cache_id]
    assert frames == [15, 30]
    made = MemoryPolicy(When("probability", probability=0.25), Which())
    rng = np.random.default_rng(0)
    drawn = [made.decide(seen(still, [axis(5)]), rng).cache_id is not None for _ in range(400)]
    assert np.mean(drawn) == pytest.approx(0.25, abs=0.05)


# ---------------------------------------------------------------------------------- which memory


def test_the_least_visited():
    """Where the last frames were not; of two such, either."""
    observation = seen([axis(0)] * 20, [axis(0, 0.9), axis(4), axis(8)])
    counts = chosen(observation, Which())
    assert counts.keys() == {"m1", "m2"}
    assert min(counts.values()) > 60


def test_what_was_used_is_chosen_less_and_that_is_forgotten():
    """Each use lowers the weight by a factor of two; after thousands of frames no longer."""
    past = (PastInjection(10, "m0", 10), PastInjection(12, "m0", 12))
    observation = seen([axis(0)] * 20, [axis(4), axis(8)], past=past)
    assert chosen(observation, Which())["m0"] / 200 == pytest.approx(1 / (1 + np.exp(1.4)), abs=0.08)
    late = dataclasses.replace(observation, frame=8000)
    assert chosen(late, Which())["m0"] / 200 == pytest.approx(0.5, abs=0.1)


def test_what_was_just_kept_is_left_alone():
    """For ``rest`` frames."""
    observation = seen([axis(0)] * 40, [axis(4), axis(8)], kept={"m0": 30, "m1": 25})
    assert chosen(observation, Which(rest=15)) == {"m1": 200}
    assert decided(seen([axis(0)] * 20, [axis(4)], kept={"m0": 19})).cache_id is None


@pytest.mark.parametrize(
    ("choice", "expected"),
    [("dissimilar", "m2"), ("similar", "m0"), ("text", "m1")],
)
def test_by_likeness(choice, expected):
    """Unlike the frame, like it, or like what was asked for."""
    memories = [axis(0, 0.4), axis(0, 1.2), axis(5)]
    observation = seen([axis(0)] * 20, memories, towards=axis(1))
    which = Which(choice, escalate=False, threshold=0.8)
    counts = chosen(observation, which)
    assert max(counts, key=counts.get) == expected


def test_a_band_leaves_out_both_ends():
    """Only what is between the percentiles."""
    memories = [axis(0, tilt) for tilt in (0.1, 0.8, 1.0, 1.2, 9.0)]
    counts = chosen(seen([axis(0)] * 20, memories), Which("band", band=(20, 80), escalate=False))
    assert counts.keys() == {"m1", "m2", "m3"}


def test_random_is_even_and_novel_by_novelty():
    """Random draws evenly from what is not near; novel in proportion to the distance."""
    memories = [axis(4), axis(0, 1.0)]
    even = chosen(seen([axis(0)] * 20, memories), Which("random", repeat=0), 1000)
    assert even["m0"] / 1000 == pytest.approx(0.5, abs=0.05)
    new = chosen(seen([axis(0)] * 20, memories), Which("novel"), 1000)
    assert new["m0"] / 1000 == pytest.approx(1 / (2 - np.sqrt(0.5)), abs=0.05)


def test_deep_memories_can_be_avoided():
    """By the logarithm of their generations."""
    observation = seen([axis(0)] * 20, [axis(4), axis(8)], depths={"m0": 255.0})
    assert chosen(observation, Which(depth=0.0))["m0"] > 60
    assert chosen(observation, Which(depth=1.0)) == {"m1": 200}


def test_nothing_to_choose_is_said():
    """No memory, or none that is allowed."""
    assert decided(seen([axis(0)] * 20)).reason.endswith("cannot help: there is nothing to remember")
    none = decided(seen([axis(0)] * 20, [axis(5)]), Which("similar"))
    assert none.cache_id is None
    assert none.reason.endswith("cannot help: no memory is like that")


# ------------------------------------------------------------------------- imagining, escalating


def test_something_new_is_imagined_when_the_memory_has_nothing_new():
    """From nothing at all, or when the newest memory was visited or used; the memory stays the way out."""
    fresh = decided(seen([axis(0)] * 20, [axis(5)]), Which(reheat=0.9))
    assert (fresh.cache_id, fresh.reheat) == ("m0", None)
    stale = decided(seen([axis(5)] + [axis(0)] * 20, [axis(5)]), Which(reheat=0.9))
    assert (stale.cache_id, stale.reheat, stale.freshness) == ("m0", 0.9, pytest.approx(0.0))
    empty = decided(seen([axis(0)] * 20), Which(reheat=0.9))
    assert (empty.cache_id, empty.reheat) == (None, 0.9)


def stuck(count):
    """A loop that so many injections left where it was, one every 10 frames."""
    frames = [axis(0)] * 60
    past = tuple(PastInjection(60 - 10 * back, "m9", 60 - 10 * back) for back in range(count, 0, -1))
    memories = [axis(0, 0.9), axis(0, 3.0), axis(7)]
    return seen(frames, memories, past=past, pinned=frozenset({"m1"}))


def test_what_did_not_help_is_followed_by_something_stronger():
    """First what is unlike the frame, then a pinned seed, then something new."""
    which = Which("band", band=(0.0, 1.0), reheat=0.8)
    said = [decided(stuck(count), which) for count in range(4)]
    assert [one.numbers["tries"] for one in said] == [0, 1, 2, 3]
    assert [one.cache_id for one in said[1:3]] == ["m2", "m1"]
    assert "1 injection did not free it, so a memory unlike this frame" in said[1].reason
    assert "2 injections did not free it, so a pinned seed" in said[2].reason
    assert "3 injections did not free it, so something new" in said[3].reason
    assert (said[3].reheat, said[3].freshness) == (0.8, -1.0)
    assert said[0].reheat is None
    assert decided(stuck(3), dataclasses.replace(which, escalate=False)).numbers["tries"] == 0


def test_an_injection_that_freed_the_loop_ends_the_count():
    """The loop is elsewhere than it was."""
    frames = [axis(0)] * 30 + [axis(5)] * 30
    past = (PastInjection(20, "m9", 20), PastInjection(30, "m9", 32))
    assert decided(seen(frames, [axis(9)], past=past)).numbers["tries"] == 0


def test_a_stop_on_the_way_where_one_is_near_both():
    """A memory between the frame and the target; none when none is."""
    between = as_embedding(np.asarray(axis(0)) + np.asarray(axis(5)))
    observation = seen([axis(0)] * 20, [between, axis(5)], kept={})
    to = [decided(observation, Which("dissimilar", stops=1), seed=seed) for seed in range(5)]
    assert {(one.cache_id, one.via) for one in to} == {("m1", ("m0",))}
    assert decided(seen([axis(0)] * 20, [axis(5), axis(9)]), Which(stops=1)).via == ()


# ----------------------------------------------------------------------------------------- presets


def test_presets_are_data():
    """Each makes the policy of its name, and any of its numbers can be changed."""
    for name, preset in PRESETS.items():
        made = policy(name)
        assert (made.name, made.transition) == (name, preset.transition)
        assert preset.about.endswith(".")
    assert policy("wander", cap=0.1, frames=3).transition == TransitionSettings(
        "bloom", frames=3, longest=22, cap=0.1
    )
    with pytest.raises(InputError, match="'wander' has no speed"):
        policy("wander", speed=3)
    with pytest.raises(UnknownNameError, match="gentle, restless, wander"):
        policy("wonder")
    assert memory_settings("wander").eviction == "rke"
    assert memory_settings("spec").eviction == "lru"


@pytest.mark.parametrize(
    ("part", "wrong"),
    [
        (When, {"occasion": "never"}),
        (When, {"on": 0.2, "off": 0.3}),
        (When, {"least": 1}),
        (When, {"window": 61}),
        (When, {"cooldown": -1}),
        (When, {"interval": 0}),
        (When, {"probability": 1.5}),
        (Which, {"choice": "best"}),
        (Which, {"band": (60, 20)}),
        (Which, {"reheat": 0.0}),
        (Which, {"repeat": -1}),
        (Which, {"back": 0}),
        (Which, {"stops": 2}),
    ],
)
def test_wrong_data_is_refused(part, wrong):
    """When it is made."""
    with pytest.raises(InputError):
        part(**wrong)
