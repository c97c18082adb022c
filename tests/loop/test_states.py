"""What a loop is said to do: names, sentences, hysteresis, other encoders, going on."""

import pytest

from reverie.loop.calibration import Calibration
from reverie.loop.states import States


def said(states, count=1, **measures):
    """The state after so many frames of these measures."""
    given = {"pairwise": 0.5, "novelty": 0.5, "returns": 0.0, "cycle": 0.0, "drift_rate": 0.0, **measures}
    for _ in range(count):
        state = states.observe(given)
    return state


def warm(**measures):
    """States that have seen 30 frames of these."""
    states = States()
    said(states, 30, **measures)
    return states


def test_too_few_frames_are_warming_up():
    """Until the window is full, and while there is nothing to judge by."""
    states = States()
    assert states.last.name == "warming up"
    assert said(states, 19, pairwise=1.0, novelty=0.0).why == "19 of 20 frames"
    assert said(states, 1, pairwise=1.0, novelty=0.0).name == "stuck"
    assert said(States(), 40, pairwise=None).name == "warming up"


@pytest.mark.parametrize(
    ("measures", "name", "why"),
    [
        ({}, "healthy", "it moves"),
        ({"pairwise": 0.65}, "healthy", "it moves"),
        (
            {"pairwise": 0.9, "novelty": 0.03},
            "stuck",
            "mean cosine of the last frames 0.90, novelty 3% of an",
        ),
        ({"pairwise": 0.6, "novelty": 0.15}, "converging", "alike, and little that is new"),
        ({"pairwise": 0.9, "novelty": 0.5}, "healthy", "it moves"),
        (
            {"returns": 0.8, "cycle": 7.0},
            "cycling",
            "back where it was at 80% of the last frames, after 7 frames",
        ),
    ],
)
def test_states_and_why(measures, name, why):
    """Each with the numbers it was made from."""
    state = warm(**measures).last
    assert state.name == name
    assert why in state.why


def test_drifting_takes_a_hundred_frames():
    """Leaving the start is no drift; going on and on is."""
    states = States()
    assert said(states, 90, drift_rate=0.01).name == "healthy"
    state = said(states, 20, drift_rate=0.01)
    assert (state.name, state.since) == ("drifting", 100)
    assert "by 1.0% of the way a frame" in state.why


def test_a_state_is_left_at_a_lower_level_than_it_is_entered():
    """Stuck above .7, until below .6; and so for novelty."""
    states = warm(pairwise=0.75, novelty=0.05)
    assert states.last.name == "stuck"
    assert said(states, 30, pairwise=0.65, novelty=0.05).name == "stuck"
    assert said(states, 60, pairwise=0.65, novelty=0.125).name == "stuck"
    assert said(states, 1, pairwise=0.55, novelty=0.05).name == "converging"
    assert said(states, 1, pairwise=0.65, novelty=0.05).name == "converging"
    assert said(states, 60, pairwise=0.35, novelty=0.22).name == "converging"
    assert said(states, 60, pairwise=0.35, novelty=0.3).name == "healthy"
    assert said(states, 60, pairwise=0.35, novelty=0.22).name == "healthy"


def test_since_is_the_frame_it_began():
    """However often it is said."""
    states = warm()
    assert (states.last.since, said(states, 5).since) == (20, 20)
    assert said(states, 50, pairwise=0.9, novelty=0.0).since > 36


def test_the_levels_are_the_encoders():
    """To an encoder for which unrelated pictures have .5, a mean of .6 is no convergence."""
    for calibration, name in ((Calibration(), "converging"), (Calibration().moved(0.5), "healthy")):
        states = States(calibration)
        assert said(states, 40, pairwise=0.6, novelty=0.09).name in (name, "stuck")
    assert said(States(Calibration().moved(0.5)), 40, pairwise=0.6, novelty=0.09).name == "healthy"


def test_it_is_gone_on_with():
    """From its state, the same is said of the same frames."""
    states, again = warm(pairwise=0.6, novelty=0.15), States()
    again.restore(states.state())
    assert again.last == states.last
    for novelty in (0.2, 0.3, 0.1, 0.0):
        assert said(again, 3, pairwise=0.6, novelty=novelty) == said(states, 3, pairwise=0.6, novelty=novelty)
