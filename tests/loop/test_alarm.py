"""The alarm with a promise: kept for healthy loops of any kind, and soon raised when a loop is stuck."""

import json

import numpy as np
import pytest

from reverie.errors import InputError
from reverie.loop.alarm import Alarm

HEALTHY = 0.2


def first_alarm(displacements, run_length):
    """Frames until it is raised; how many there are when it is not."""
    alarm = Alarm(HEALTHY, run_length)
    return next(
        (number for number, one in enumerate(displacements, start=1) if alarm.observe(one)),
        len(displacements),
    )


def constant(rng, count):
    """Always what is just healthy."""
    return np.full(count, HEALTHY)


def rare(rng, count):
    """No way off, and now and then the widest there is."""
    return (rng.random(count) < HEALTHY).astype(float)


def moody(rng, count):
    """Dependent: long calm and long wild times around the same conditional mean."""
    wild = np.cumsum(rng.random(count) < 0.02) % 2
    spread = np.where(wild, HEALTHY, 0.02)
    return HEALTHY + spread * rng.choice([-1.0, 1.0], count)


@pytest.mark.parametrize("stream", [constant, rare, moody])
def test_the_promise_is_kept(stream):
    """The mean run length of healthy loops, at the very edge of healthy, is not below what was promised."""
    rng, promised = np.random.default_rng(0), 40
    lengths = [first_alarm(stream(rng, 400), promised) for _ in range(250)]
    assert np.mean(lengths) >= promised


def test_a_loop_that_is_stuck_raises_it_soon():
    """From healthy to .06 at once: within 25 frames, at its defaults; and again after it."""
    rng = np.random.default_rng(1)
    alarm = Alarm()
    assert not any(alarm.observe(value) for value in rng.uniform(0.3, 0.8, 2000))
    raised = [number for number in range(1, 200) if alarm.observe(0.06)]
    assert raised[0] <= 25
    assert raised[1] - raised[0] <= 25
    assert alarm.raised == len(raised)


def test_evidence_is_what_it_is_raised_by():
    """0 at first and after an alarm; one fair bet a frame in between."""
    alarm = Alarm(HEALTHY, 2)
    assert alarm.evidence == 0.0
    assert not alarm.observe(HEALTHY)
    assert alarm.evidence == 1.0
    assert alarm.observe(HEALTHY)
    assert (alarm.evidence, alarm.raised) == (0.0, 1)


def test_no_displacement_changes_nothing():
    """While there are too few frames."""
    alarm = Alarm()
    assert not alarm.observe(None)
    assert alarm.evidence == 0.0


def test_it_is_gone_on_with():
    """Bit for bit, through JSON."""
    rng = np.random.default_rng(2)
    alarm, again = Alarm(), Alarm()
    for value in rng.random(20) / 5:
        alarm.observe(value)
    again.restore(json.loads(json.dumps(alarm.state())))
    for value in rng.random(200) / 20:
        assert alarm.observe(value) == again.observe(value)
        assert alarm.evidence == again.evidence


@pytest.mark.parametrize("wrong", [{"healthy": 0.0}, {"healthy": 1.0}, {"run_length": 0.5}])
def test_wrong_promises_are_refused(wrong):
    """With the range."""
    with pytest.raises(InputError):
        Alarm(**wrong)


@pytest.mark.parametrize("displacement", [-0.1, 1.1, float("nan")])
def test_what_is_no_displacement_is_refused(displacement):
    """It would break the promise."""
    with pytest.raises(InputError, match=r"displacement must be in \[0, 1\]"):
        Alarm().observe(displacement)
