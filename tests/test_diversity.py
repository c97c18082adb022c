"""The measures of variety: closed forms, bounds, and what they say of nothing."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from reverie.diversity import hard_cuts, mean_pairwise, motifs, novelty, replay, steps, vendi
from reverie.errors import InputError

EMPTY = np.empty((0, 8), np.float32)
OVER_SETS = {
    "vendi": vendi,
    "mean_pairwise": mean_pairwise,
    "steps": steps,
    "hard_cuts": hard_cuts,
    "replay": replay,
    "motifs": motifs,
}


def units(rows):
    """Rows divided by their lengths, float32."""
    rows = np.asarray(rows, dtype=np.float64)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def turned(*degrees):
    """Unit vectors in the plane, at angles."""
    return np.array([(math.cos(math.radians(a)), math.sin(math.radians(a))) for a in degrees], np.float32)


def axes(*chosen, dimensions=8):
    """Unit vectors along axes."""
    return np.eye(dimensions, dtype=np.float32)[list(chosen)]


some_units = (
    st.tuples(st.integers(1, 12), st.integers(1, 6))
    .flatmap(lambda shape: arrays(np.float64, shape, elements=st.integers(-4, 4).map(float)))
    .filter(lambda rows: bool((np.abs(rows).max(axis=1) > 0).all()))
    .map(units)
)

# --------------------------------------------------------------------------------------- vendi


@pytest.mark.parametrize("count", [1, 2, 5, 40])
def test_identical_images_count_as_one(count, unit):
    """However many there are: exactly 1 for one, 1 up to rounding for more."""
    rows = np.repeat(unit(1, 64, seed=count), count, axis=0)
    assert vendi(rows) == pytest.approx(1.0, abs=1e-9)
    assert vendi(rows) >= 1.0


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_unrelated_images_count_each(count):
    """Orthogonal vectors count n."""
    assert vendi(axes(*range(count))) == pytest.approx(count, abs=1e-9)


@pytest.mark.parametrize("clusters", [1, 2, 3, 8])
def test_equal_clusters_count_each(clusters):
    """A set of k equally large groups of the same image counts k."""
    assert vendi(axes(*list(range(clusters)) * 7)) == pytest.approx(clusters, abs=1e-9)


def test_unequal_clusters_count_by_their_entropy():
    """Shares of 3/4 and 1/4 count exp of their entropy."""
    expected = math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    assert vendi(axes(0, 0, 1, 0)) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("cosine", [0.0, 0.3, 0.9, 0.999])
def test_two_images_in_closed_form(cosine):
    """The eigenvalues of two rows at cosine c are (1 + c)/2 and (1 - c)/2."""
    shares = (1 + cosine) / 2, (1 - cosine) / 2
    rows = np.array([[1.0, 0.0], [cosine, math.sqrt(1 - cosine**2)]], np.float32)
    assert vendi(rows) == pytest.approx(math.exp(-sum(s * math.log(s) for s in shares)), abs=1e-5)


def primal(rows):
    """Equation 2 of the paper, from the n x n matrix whatever its size."""
    shares = np.linalg.eigvalsh(rows.astype(np.float64) @ rows.T.astype(np.float64) / len(rows))
    shares = shares[shares > 1e-12]
    return math.exp(-np.sum(shares * np.log(shares)))


@pytest.mark.parametrize(("count", "dimensions"), [(30, 64), (64, 64), (65, 64), (300, 20)])
def test_many_images_of_few_numbers_equal_the_paper(count, dimensions, unit):
    """Past d rows the d x d matrix is used; the score is that of the n x n one."""
    rows = unit(count, dimensions, seed=2)
    assert vendi(rows) == pytest.approx(primal(rows), rel=1e-6)


@given(rows=some_units, order=st.randoms(use_true_random=False))
def test_vendi_is_bounded_and_blind_to_order(rows, order):
    """Between 1 and min(n, d), also in the last digit; the order of the images does not matter."""
    score = vendi(rows)
    assert 1.0 <= score <= min(rows.shape)
    shuffled = order.sample(range(len(rows)), len(rows))
    assert vendi(rows[shuffled]) == pytest.approx(score, rel=1e-6)


@given(rows=some_units)
def test_repeating_a_set_changes_no_score(rows):
    """The same images twice are as varied as once."""
    assert vendi(np.concatenate([rows, rows])) == pytest.approx(vendi(rows), rel=1e-6)


# ------------------------------------------------------------------------------- mean_pairwise


def naive_pairwise(rows):
    """The mean over all pairs, one by one."""
    exact = rows.astype(np.float64)
    cosines = [float(exact[i] @ exact[j]) for i in range(len(exact)) for j in range(i)]
    return sum(cosines) / len(cosines)


@given(rows=some_units.filter(lambda rows: len(rows) > 1))
def test_mean_pairwise_equals_the_double_loop(rows):
    """The O(nd) form gives the mean of all n(n-1)/2 cosines, in [-1, 1]."""
    assert mean_pairwise(rows) == pytest.approx(naive_pairwise(rows), abs=1e-6)
    assert -1.0 <= mean_pairwise(rows) <= 1.0


def test_mean_pairwise_in_closed_form():
    """Identical rows 1, orthogonal 0, opposite -1, all corners of a triangle -1/2."""
    assert mean_pairwise(axes(3, 3, 3)) == 1.0
    assert mean_pairwise(axes(0, 1, 2)) == 0.0
    assert mean_pairwise(turned(0, 180)) == pytest.approx(-1.0, abs=1e-7)
    assert mean_pairwise(turned(0, 120, 240)) == pytest.approx(-0.5, abs=1e-6)


# ----------------------------------------------------------------------------- steps, hard_cuts


def test_a_step_is_one_minus_the_cosine_to_the_frame_before():
    """0 for no change, 1 for something unrelated, 2 for the opposite."""
    assert steps(turned(0, 0, 90, 270, 210)) == pytest.approx([0, 1, 2, 0.5], abs=1e-6)


@given(rows=some_units)
def test_steps_stay_between_0_and_2(rows):
    """One fewer than rows, and rounding never takes one out of bounds."""
    doubled = np.repeat(rows, 2, axis=0)
    assert len(steps(doubled)) == len(doubled) - 1
    assert all(0.0 <= step <= 2.0 for step in steps(doubled))
    assert max(steps(doubled)[::2]) < 1e-6
    assert all(0.0 <= step <= 2.0 for step in steps(np.concatenate([rows, -rows])))


def test_hard_cuts_counts_steps_larger_than_the_cut():
    """A step of exactly the cut is none."""
    rows = axes(0, 0, 1, 1, 2)
    assert hard_cuts(rows) == 2
    assert hard_cuts(rows, cut=1.0) == 0
    assert hard_cuts(rows, cut=0.99) == 2
    assert hard_cuts(turned(0, 40, 90)) == 1  # steps of .234 and .357


# ------------------------------------------------------------------------------------- novelty


def test_novelty_is_the_distance_to_the_nearest_earlier_one():
    """0 for what was there before, 1 for something unrelated, 2 for the opposite of all there was."""
    earlier = axes(0, 1)
    assert novelty(axes(1)[0], earlier) == 0.0
    assert novelty(axes(5)[0], earlier) == 1.0
    assert novelty(-axes(0)[0], axes(0)) == 2.0
    assert novelty(turned(60)[0], turned(0, 180)) == pytest.approx(0.5, abs=1e-6)


def test_everything_is_new_at_first():
    """With nothing earlier, novelty is 1."""
    assert novelty(axes(0)[0], EMPTY) == 1.0


@given(rows=some_units)
def test_novelty_stays_between_0_and_2(rows):
    """Rounding never takes it out of bounds."""
    for row in rows:
        assert 0.0 <= novelty(row, rows) < 1e-6
        assert 0.0 <= novelty(row, -rows) <= 2.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_novelty_refuses_what_is_no_number(bad):
    """In the vector and among the earlier ones."""
    broken = axes(0, 1)
    broken[1, 0] = bad
    with pytest.raises(InputError, match="NaN or infinity"):
        novelty(axes(0)[0], broken)
    with pytest.raises(InputError, match="NaN or infinity"):
        novelty(broken[1], axes(0, 1))


# -------------------------------------------------------------------------------------- replay


def test_replay_is_the_share_of_frames_that_were_there_long_ago():
    """A loop of period 4, looked at from 4 frames on: all of it; one that never repeats: nothing."""
    assert replay(axes(*[0, 1, 2, 3] * 5), lag=4) == 1.0
    assert replay(axes(0, 1, 2, 3, 4, 5, 6, 7), lag=4) == 0.0
    assert replay(axes(0, 1, 2, 0, 4, 5, 6, 1), lag=3) == 2 / 5


def test_a_repetition_counts_from_exactly_the_lag_on():
    """At least ``lag`` frames before, not one fewer."""
    rows = axes(0, 1, 2, 0)
    assert replay(rows, lag=3) == 1.0
    assert replay(axes(1, 0, 2, 0), lag=3) == 0.0


def test_nearly_the_same_is_above_the_limit():
    """A cosine of .95 is near enough only for a lower limit."""
    rows = turned(0, 90, 18.1)  # cos 18.1 degrees = .9505
    assert replay(rows, lag=2) == 1.0
    assert replay(rows, lag=2, same=0.951) == 0.0


def test_short_runs_replay_nothing():
    """With no more rows than the lag there is nothing to repeat; the default lag is 30."""
    assert replay(axes(*[0] * 30)) == 0.0
    assert replay(axes(*[0] * 31)) == 1.0


@pytest.mark.parametrize("lag", [0, -1])
def test_a_lag_is_at_least_1(lag):
    """Each frame is its own repetition."""
    with pytest.raises(InputError, match="lag must be at least 1"):
        replay(axes(0, 1), lag=lag)


# -------------------------------------------------------------------------------------- motifs


def test_motifs_counts_what_is_apart_from_all_leaders():
    """Identical rows are one motif, orthogonal ones n, in any order of visits."""
    assert motifs(axes(0, 0, 0)) == 1
    assert motifs(axes(0, 1, 2, 3)) == 4
    assert motifs(axes(0, 1, 0, 1, 2, 0)) == 3


def test_a_motif_is_led_by_its_first_frame():
    """Greedy: rows compare with leaders only, so the order decides."""
    assert motifs(turned(0, 40, 80)) == 2  # the second belongs to the first, the third is apart from it
    assert motifs(turned(40, 0, 80)) == 1  # both belong to the first


def test_a_motif_begins_below_the_limit():
    """A cosine that is exactly the limit belongs to the old motif."""
    rows = np.array([[1, 0], [0.5, math.sqrt(0.75)]], np.float32)
    assert motifs(rows, apart=0.5) == 1
    assert motifs(rows, apart=0.501) == 2


@given(rows=some_units)
def test_motifs_are_between_1_and_n(rows):
    """At least the first leads; no more than there are rows."""
    assert 1 <= motifs(rows) <= len(rows)
    assert motifs(rows, apart=-1.1) == 1


# --------------------------------------------------------------------------- empty, one, broken


def test_no_images():
    """An empty set has no variety and no steps, and cannot differ."""
    assert {name: measure(EMPTY) for name, measure in OVER_SETS.items()} == {
        "vendi": 0.0,
        "mean_pairwise": 1.0,
        "steps": [],
        "hard_cuts": 0,
        "replay": 0.0,
        "motifs": 0,
    }


def test_one_image():
    """One image is one image."""
    assert {name: measure(axes(4)) for name, measure in OVER_SETS.items()} == {
        "vendi": 1.0,
        "mean_pairwise": 1.0,
        "steps": [],
        "hard_cuts": 0,
        "replay": 0.0,
        "motifs": 1,
    }


@pytest.mark.parametrize("measure", OVER_SETS.values(), ids=OVER_SETS)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf], ids=str)
def test_what_is_no_number_is_refused(measure, bad):
    """NaN or infinity in any row would quietly spoil a whole run's figures."""
    rows = axes(0, 1, 2)
    rows[1, 3] = bad
    with pytest.raises(InputError, match="NaN or infinity"):
        measure(rows)


@pytest.mark.parametrize("measure", OVER_SETS.values(), ids=OVER_SETS)
def test_one_vector_is_no_set(measure):
    """A set is ``(n, d)``."""
    with pytest.raises(InputError, match=r"shape \(n, d\), got shape \(8,\)"):
        measure(axes(0)[0])


def test_measures_leave_the_vectors_alone(unit):
    """Read-only rows are fine, and nothing is written to them."""
    rows = unit(40, 16)
    rows.flags.writeable = False
    for measure in OVER_SETS.values():
        measure(rows)
    novelty(rows[0], rows)
