"""Admission: which frames are worth a place in memory."""

from __future__ import annotations

import json

import numpy as np
import pytest

from reverie.admission import AdmissionRate, MaximumSimilarity
from reverie.errors import InputError
from reverie.vectors import EmbeddingSet, as_embedding, normalise


def archive(*rows) -> EmbeddingSet:
    """A memory of these vectors."""
    matrix = normalise(np.array(rows, dtype=float)) if rows else np.empty((0, 0), np.float32)
    return EmbeddingSet(tuple(f"cache_{number:05d}" for number in range(1, len(rows) + 1)), matrix, "x")


def at(cosine: float):
    """A vector with that cosine to (1, 0)."""
    return as_embedding([cosine, np.sqrt(1 - cosine**2)])


def shares(rate: AdmissionRate, scores: np.ndarray) -> np.ndarray:
    """Whether each of the frames with these cosines to memory is admitted."""
    memory = archive([1, 0])
    return np.array([rate.judge(at(score), memory).admitted for score in scores])


# ------------------------------------------------------------------------------ maximum similarity


def test_what_is_too_like_memory_is_rejected_and_the_reason_has_the_numbers():
    """The highest cosine counts, wherever it is; at the threshold a frame is still admitted."""
    admission = MaximumSimilarity(0.5)
    memory = archive([0, 1], [1, 0])
    near, far = admission.judge(at(0.953), memory), MaximumSimilarity(0.96).judge(at(0.953), memory)
    assert (near.admitted, far.admitted) == (False, True)
    assert near.reason == "its highest cosine to memory is 0.953 (cache_00002), above 0.5"
    assert far.reason == "its highest cosine to memory is 0.953 (cache_00002), at most 0.96"
    assert MaximumSimilarity(1.0).judge(at(1.0), memory).admitted


@pytest.mark.parametrize("admission", [MaximumSimilarity(-1.0), AdmissionRate(0.1)])
def test_an_empty_memory_admits_everything(admission):
    """There is nothing to be like."""
    verdict = admission.judge(at(0.5), archive())
    assert (verdict.admitted, verdict.reason) == (True, "memory is empty")


@pytest.mark.parametrize("threshold", [1.5, -2, float("nan"), "high", None, True])
def test_a_threshold_is_a_cosine(threshold):
    """Anything else is refused."""
    with pytest.raises(InputError, match="threshold"):
        MaximumSimilarity(threshold)


def test_maximum_similarity_keeps_no_state():
    """There is nothing to restore."""
    MaximumSimilarity().restore(MaximumSimilarity().state())
    with pytest.raises(InputError, match="level"):
        MaximumSimilarity().restore({"level": 0.1})


# ---------------------------------------------------------------------------------- admission rate


@pytest.mark.parametrize("target", [0.05, 0.1, 0.5])
@pytest.mark.parametrize(("low", "high"), [(-0.5, 0.9), (0.4, 0.6), (0.97, 0.999)])
def test_the_share_tends_to_the_target_whatever_the_scale(target, low, high):
    """Within a hundredth after 4,000 frames, for encoders with wide and with narrow cosines."""
    scores = np.random.default_rng(0).uniform(low, high, 4000)
    admitted = shares(AdmissionRate(target), scores)
    assert abs(admitted.mean() - target) < 0.01
    assert scores[admitted].mean() < scores[~admitted].mean() - 0.3 * (high - low)


def test_only_the_order_of_the_cosines_matters():
    """A rising change of the scale gives the same answers."""
    scores = np.random.default_rng(1).uniform(0.1, 0.9, 600)
    assert np.array_equal(shares(AdmissionRate(), scores), shares(AdmissionRate(), scores**3))


@pytest.mark.parametrize("shape", ["all the same", "ever more alike", "ever less alike", "sudden"])
def test_the_bound_holds_for_any_frames(shape):
    """|share - target| <= (1 + 2 step) / (step T): also for a loop that is stuck, converges or travels."""
    frames = 1500
    scores = {
        "all the same": np.full(frames, 0.99),
        "ever more alike": np.linspace(0.0, 0.99, frames),
        "ever less alike": np.linspace(0.99, 0.0, frames),
        "sudden": np.repeat([0.2, 0.95, 0.4], frames // 3),
    }[shape]
    for step in (0.02, 0.2):
        rate = AdmissionRate(0.2, step=step)
        share = shares(rate, scores).mean()
        assert abs(share - 0.2) <= (1 + 2 * step) / (step * frames)
        assert -step <= rate.level <= 1 + step


def test_a_saved_state_goes_on_bit_for_bit():
    """Through JSON, into a new object."""
    scores = np.random.default_rng(2).uniform(0.1, 0.9, 700)
    whole, first, second = (AdmissionRate(0.3, window=50) for _ in range(3))
    expected = shares(whole, scores)
    begun = shares(first, scores[:333])
    second.restore(json.loads(json.dumps(first.state())))
    assert np.array_equal(np.concatenate([begun, shares(second, scores[333:])]), expected)
    assert second.state() == whole.state()


@pytest.mark.parametrize(
    "state", [{}, {"level": 0.1}, {"level": "x", "seen": []}, {"level": 1, "seen": [None]}]
)
def test_a_state_that_is_none_is_refused(state):
    """And the object goes on as it was."""
    rate = AdmissionRate(0.3)
    shares(rate, np.array([0.1, 0.2]))
    before = rate.state()
    with pytest.raises(InputError, match="not the state"):
        rate.restore(state)
    assert rate.state() == before


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"target": 0}, "target"),
        ({"target": 1}, "target"),
        ({"target": "some"}, "target"),
        ({"step": 0}, "step"),
        ({"step": 1.5}, "step"),
        ({"window": 0}, "window"),
        ({"window": 1.5}, "window"),
    ],
)
def test_options_are_checked(options, named):
    """By name."""
    with pytest.raises(InputError, match=named):
        AdmissionRate(**options)


def test_the_ends_of_the_options_are_allowed():
    """A step of 1 and a window of one frame; a threshold of -1 is tested above."""
    assert shares(AdmissionRate(0.5, step=1, window=1), np.array([0.5, 0.6, 0.4])).tolist() == [
        True,
        False,
        True,
    ]


def test_half_of_the_equal_frames_count_for_the_rank():
    """A frame like all before it has the middle rank, and is not admitted at that level."""
    rate = AdmissionRate(0.5)
    shares(rate, np.array([0.3, 0.3]))
    seen = rate.state()["seen"]
    for level, admitted in ((0.5, False), (0.501, True)):
        rate.restore({"level": level, "seen": seen})
        assert rate.judge(at(0.3), archive([1, 0])).admitted == admitted


def test_the_reason_of_a_rate_has_its_numbers():
    """Cosine, whose, rank and level."""
    rate = AdmissionRate(0.1)
    shares(rate, np.array([0.5, 0.6, 0.7]))
    verdict = rate.judge(at(0.65), archive([1, 0]))
    assert not verdict.admitted
    assert verdict.reason.startswith("its highest cosine to memory is 0.650 (cache_00001), more than 67% of")
