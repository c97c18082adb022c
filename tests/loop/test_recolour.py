"""The correction: statistics moved into the span, nothing broken, nothing touched that is inside."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_colour import changed, picture, plain

from reverie.errors import UnknownNameError
from reverie.loop.colour import ABOUT, Colours, Span, colours_of
from reverie.loop.recolour import check_correction, corrected, moved_to
from reverie.oklab import to_oklab

CHANGES = {
    "darker": {"light": -0.15},
    "brighter": {"light": 0.12},
    "magenta": {"a": 0.06, "b": -0.04},
    "burnt": {"contrast": 1.7, "colour": 1.6},
    "faded": {"contrast": 0.5, "colour": 0.5},
    "all": {"light": -0.1, "a": 0.05, "b": -0.03, "contrast": 1.5, "colour": 1.4},
}


def span_of(*frames):
    """What these pictures span."""
    return Span.of([colours_of(frame) for frame in frames])


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_hard_goes_back_to_the_span_and_soft_a_part_of_the_way(change):
    """Hard leaves no drift; soft a fifth less."""
    span, frame = span_of(picture()), changed(picture(), **change)
    before = span.drift(colours_of(frame)).amount
    hard, soft = (corrected(frame, span, how) for how in ("hard", "soft"))
    assert before > 0.01
    assert span.drift(colours_of(hard.pixels)).amount == 0.0
    assert span.drift(colours_of(soft.pixels)).amount == pytest.approx(0.8 * before, abs=0.004)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_hard_twice_is_hard_once(change):
    """What was put right is inside, and left as it is, bit for bit."""
    span = span_of(picture())
    once = corrected(changed(picture(), **change), span, "hard").pixels
    assert corrected(once, span, "hard") is None


def test_frames_inside_are_left_alone():
    """And everything is with ``off``."""
    span = span_of(picture(), changed(picture(), light=-0.2))
    for frame in (picture(), changed(picture(), light=-0.1), changed(picture(), contrast=1.1)):
        assert corrected(frame, span, "hard") is None
        assert corrected(frame, span, "soft") is None
    assert corrected(changed(picture(), light=0.3), span, "off") is None


def test_only_what_drifted_is_moved():
    """A frame that is too dark is brightened: its contrast, tint and saturation stay."""
    frame = changed(picture(), light=-0.15)
    before, after = colours_of(frame), colours_of(corrected(frame, span_of(picture()), "hard").pixels)
    assert after.lightness - before.lightness == pytest.approx(0.15 - ABOUT.lightness, abs=0.004)
    assert after[1:] == pytest.approx(before[1:], abs=0.004)


def test_several_anchors_leave_the_room_between_them():
    """The nearest point of the range, not the mean: a frame below all of them comes up to the darkest."""
    dark, bright = changed(picture(), light=-0.15), changed(picture(), light=0.1)
    after = corrected(changed(picture(), light=-0.3), span_of(dark, bright), "hard").pixels
    assert colours_of(after).lightness == pytest.approx(colours_of(dark).lightness - 0.05, abs=0.003)


def test_the_reason_is_in_words():
    """Which correction, what was wrong, and how much."""
    found = corrected(changed(picture(), light=-0.25), span_of(picture()), "hard")
    assert found.reason.startswith("colours put right (hard): much darker, 0.2")
    assert found.reason.endswith(" outside the anchors")


def test_hues_keep_their_order():
    """Both colour axes get one factor: around the mean, no hue is turned."""
    frame = changed(picture(), colour=1.5)
    lab, after = (
        to_oklab(each.reshape(-1, 3).T)[1:]
        for each in (frame, corrected(frame, span_of(picture()), "hard").pixels)
    )
    one, two = (np.arctan2(*(each - each.mean(axis=1, keepdims=True))) for each in (lab, after))
    strong = np.hypot(*(lab - lab.mean(axis=1, keepdims=True))) > 0.05
    turned = np.abs(np.angle(np.exp(1j * (one - two))))[strong]
    assert np.quantile(turned, 0.95) < 0.1


def test_no_steps_in_a_gradient():
    """Highlights are bent, not cut: a grey ramp that is brightened rises everywhere, but for rounding."""
    ramp = np.repeat(np.linspace(0, 255, 256).astype(np.uint8)[None, :, None], 3, axis=2)
    goal = colours_of(ramp)._replace(lightness=colours_of(ramp).lightness + 0.15)
    made = moved_to(np.repeat(ramp, 8, axis=0), goal)[0, :, 0].astype(int)
    assert np.diff(made).min() >= 0
    assert (made == 255).sum() <= 6
    assert len(np.unique(made)) > 130


# ---------------------------------------------------------------------------------- properties


colours = st.builds(
    Colours, st.floats(0, 1), st.floats(-0.2, 0.2), st.floats(-0.2, 0.2), st.floats(0, 0.4), st.floats(0, 0.3)
)


@st.composite
def frames(draw):
    """Pictures of any size: noise, grey noise, black and white, one colour, structure."""
    size = (draw(st.integers(1, 40)), draw(st.integers(1, 40)))
    rng = np.random.default_rng(draw(st.integers(0, 9)))
    kind = draw(st.sampled_from(["noise", "grey", "black and white", "one colour", "picture"]))
    if kind == "one colour":
        return plain(*rng.integers(0, 256, 3), size=size)
    if kind == "picture":
        return picture(int(rng.integers(9)), size)
    if kind == "noise":
        return rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    grey = rng.integers(0, 256, (*size, 1)) if kind == "grey" else 255 * rng.integers(0, 2, (*size, 1))
    return np.repeat(grey, 3, axis=2).astype(np.uint8)


@settings(max_examples=80, deadline=None)
@given(frames(), st.lists(colours, min_size=1, max_size=3), st.sampled_from(["soft", "hard"]))
def test_a_correction_never_makes_it_worse(frame, anchors, how):
    """Whatever is asked of whatever picture: uint8 of its size, no warning, and no more drift than before."""
    span = Span.of(anchors)
    before, untouched = span.drift(colours_of(frame)).amount, frame.copy()
    found = corrected(frame, span, how)
    assert np.array_equal(frame, untouched)
    if found is None:
        return
    assert before > 0
    assert (found.pixels.shape, found.pixels.dtype) == (frame.shape, np.uint8)
    assert span.drift(colours_of(found.pixels)).amount <= before + 0.02


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 20), st.sampled_from(sorted(CHANGES)), st.floats(0.3, 1.0))
def test_hard_is_idempotent(seed, name, much):
    """Where the goal can be shown there is nothing left to do; else hardly anything."""
    neutral = {"contrast": 1.0, "colour": 1.0}
    change = {k: neutral.get(k, 0.0) + much * (v - neutral.get(k, 0.0)) for k, v in CHANGES[name].items()}
    frame, span = changed(picture(seed), **change), span_of(picture(seed))
    once = corrected(frame, span, "hard")
    if once is None:
        assert span.drift(colours_of(frame)).amount == 0.0
        return
    twice = corrected(once.pixels, span, "hard")
    if twice is not None:
        assert np.abs(twice.pixels.astype(int) - once.pixels).max() <= 3
    assert span.drift(colours_of(once.pixels)).amount < 0.002


def test_a_flat_picture_gets_no_contrast_and_no_colours():
    """There is none to be made more of: it is moved as a whole, its noise stays what it is."""
    rng = np.random.default_rng(0)
    flat = (plain(90, 88, 91, size=(40, 40)) + rng.integers(0, 3, (40, 40, 3))).astype(np.uint8)
    after = corrected(flat, span_of(picture()), "hard").pixels
    assert after.astype(float).std(axis=(0, 1)).max() < 3.0
    goal = Span.of([colours_of(picture())]).nearest(colours_of(flat))
    assert colours_of(after).lightness == pytest.approx(goal.lightness, abs=0.01)


def test_an_unknown_correction_is_refused():
    """With the names that exist."""
    assert check_correction("soft") == "soft"
    with pytest.raises(
        UnknownNameError, match="no colour correction is called 'medium'; there are: off, soft"
    ):
        check_correction("medium")
