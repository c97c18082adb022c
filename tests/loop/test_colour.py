"""The colour meter: five numbers of a frame, and how far they are outside of what the anchors span."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loop_fakes import scene

from reverie.errors import InputError
from reverie.loop.colour import ABOUT, ColourMeter, Colours, Span, colours_of, measured
from reverie.oklab import recoloured, to_oklab


def plain(*rgb, size=(20, 30)):
    """A picture of one colour."""
    return np.broadcast_to(np.array(rgb, np.uint8), (*size, 3)).copy()


def picture(seed=0, size=(70, 90)):
    """Coarse and fine structure in soft colours, ``(h, w, 3)`` uint8."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(70, 190, (-(-size[0] // 10), -(-size[1] // 10), 3)).repeat(10, 0).repeat(10, 1)
    return np.rint(coarse[: size[0], : size[1]] + rng.normal(0, 12, (*size, 3))).clip(0, 255).astype(np.uint8)


def changed(frame, *, light=0.0, a=0.0, b=0.0, contrast=1.0, colour=1.0):
    """A frame with other statistics."""
    now = colours_of(frame)

    def change(lab):
        return np.stack(
            [
                now.lightness + light + contrast * (lab[0] - now.lightness),
                now.tint_a + a + colour * (lab[1] - now.tint_a),
                now.tint_b + b + colour * (lab[2] - now.tint_b),
            ]
        ).astype(np.float32)

    return recoloured(frame, change)


def test_the_five_numbers():
    """Means of L, a and b, standard deviation of L, mean chroma; of all pixels of a small picture."""
    frame = picture(size=(40, 50))
    lab = to_oklab(frame.reshape(-1, 3).T)
    expected = [*lab.mean(axis=1), lab[0].std(), np.hypot(lab[1], lab[2]).mean()]
    assert colours_of(frame) == pytest.approx(expected, abs=1e-6)


def test_a_large_picture_is_judged_by_a_part_of_it():
    """As near to all of it as is said, and a pattern of the pixel grid is not overlooked."""
    frame = picture(size=(500, 700))
    frame[::8, ::8] = 0
    whole = measured(to_oklab(frame.reshape(-1, 3).T))
    assert colours_of(frame) == pytest.approx(whole, abs=0.005)


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (64, 64), (3, 3000)])
def test_any_size(size):
    """From one pixel on."""
    assert colours_of(plain(90, 90, 90, size=size)) == pytest.approx(colours_of(plain(90, 90, 90)), abs=1e-6)


@pytest.mark.parametrize(("rgb", "light"), [((0, 0, 0), 0), ((255, 255, 255), 1), ((119, 119, 119), 0.57)])
def test_grey_has_no_colour_and_no_contrast(rgb, light):
    """Nothing is divided by either."""
    colours = colours_of(plain(*rgb))
    assert colours == pytest.approx((light, 0, 0, 0, 0), abs=0.01)


def test_black_and_white_has_all_the_contrast():
    """Half of each: the most that there is."""
    frame = np.zeros((10, 10, 3), np.uint8)
    frame[:5] = 255
    assert colours_of(frame) == pytest.approx((0.5, 0, 0, 0.5, 0), abs=1e-4)


# ---------------------------------------------------------------------------------------- span


def test_one_anchor_leaves_some_room():
    """As much on either side as a picture of about its colours needs; beyond it is drift."""
    anchor = colours_of(picture())
    span = Span.of([anchor])
    for number, name in enumerate(Colours._fields):
        for sign in (-1, 1):
            inside, outside = list(anchor), list(anchor)
            inside[number] += 0.99 * sign * ABOUT[number]
            outside[number] += 1.5 * sign * ABOUT[number]
            assert span.drift(Colours(*inside)).amount == 0.0
            drift = span.drift(Colours(*outside))
            assert getattr(drift.excess, name) == pytest.approx(0.5 * sign * ABOUT[number])
            assert drift.amount == pytest.approx(0.5 * ABOUT[number])


def test_what_lies_between_anchors_is_no_drift():
    """Far from their mean and from each of them, and yet inside: a range, not a point."""
    dark, bright = colours_of(changed(picture(), light=-0.3)), colours_of(changed(picture(), light=0.3))
    span = Span.of([dark, bright])
    assert span.drift(colours_of(picture())).amount == 0.0
    assert span.drift(dark).amount == span.drift(bright).amount == 0.0
    assert span.drift(colours_of(changed(picture(), light=-0.4))).excess.lightness < -0.02


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(*[st.floats(0, 1)] * 5), min_size=1, max_size=6),
    st.tuples(*[st.floats(-1, 2)] * 5),
    st.floats(0, 0.01),
)
def test_the_nearest_in_the_span_is_in_the_span(anchors, colours, margin):
    """And what is inside is its own nearest; no anchor is drifted; more anchors never mean more drift."""
    anchors, colours = [Colours(*each) for each in anchors], Colours(*colours)
    span = Span.of(anchors)
    nearest = span.nearest(colours, margin)
    assert span.drift(nearest).amount == 0.0
    assert span.nearest(nearest, margin) == nearest
    assert all(span.drift(each).amount == 0.0 for each in anchors)
    assert span.drift(colours).amount <= Span.of(anchors[:1]).drift(colours).amount + 1e-12


def test_no_anchors_span_nothing():
    """It is said, not guessed."""
    with pytest.raises(InputError, match="no anchors"):
        Span.of([])


# --------------------------------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, "within the colours of the anchors"),
        ({"light": -0.1}, "darker"),
        ({"light": 0.1}, "brighter"),
        ({"light": -0.06}, "slightly darker"),
        ({"light": -0.2}, "much darker"),
        ({"a": 0.045, "b": -0.026}, "more magenta"),
        ({"a": -0.045}, "more cyan"),
        ({"contrast": 1.5}, "more contrast"),
        ({"contrast": 0.5}, "less contrast"),
    ],
)
def test_drift_in_words(change, words):
    """Which way, and whether it is little or much."""
    frame = picture()
    assert words in Span.of([colours_of(frame)]).drift(colours_of(changed(frame, **change))).words


def test_burnt_and_washed_out():
    """Contrast and saturation up together is burnt, both down is washed out; the rest is said beside it."""
    anchor = Colours(0.5, 0.0, 0.0, 0.15, 0.08)
    span = Span.of([anchor])
    burnt = span.drift(Colours(0.4, 0.05, -0.01, 0.22, 0.15))
    assert burnt.words == "burnt: more contrast and more saturated, darker, more pink"
    faded = span.drift(Colours(0.5, 0.0, 0.0, 0.1, 0.02))
    assert faded.words == "washed out: less contrast and paler"
    split = span.drift(Colours(0.5, 0.0, 0.0, 0.22, 0.02))
    assert split.words == "more contrast, paler"


# --------------------------------------------------------------------------------------- meter


def test_without_anchors_the_first_frame_is_the_anchor():
    """It is not drifted; later ones may be."""
    meter = ColourMeter()
    assert meter.observe(picture()).amount == 0.0
    drift = meter.observe(changed(picture(), light=-0.2))
    assert drift.amount == pytest.approx(0.15, abs=0.01)
    assert drift.measures() == {"colour_drift": drift.amount, **drift.colours._asdict()}
    assert math.hypot(*drift.excess) == drift.amount


def test_anchors_may_be_changed_between_frames():
    """The next frame is measured against the new ones."""
    meter = ColourMeter([colours_of(scene(1))])
    dark = changed(picture(), light=-0.3)
    assert meter.observe(dark).amount > 0.0
    meter.anchors = (colours_of(dark),)
    assert meter.observe(dark).amount == 0.0


def test_a_meter_goes_on_where_another_was():
    """Its state goes through JSON without losing a bit; one that never measured begins anew."""
    meter, other = ColourMeter(), ColourMeter()
    assert meter.state() == {"start": None}
    meter.observe(picture(1))
    other.restore(json.loads(json.dumps(meter.state())))
    assert other.start == meter.start
    assert other.observe(picture(2)) == meter.observe(picture(2))
    other.restore({})
    assert other.start is None
