"""Ways to a target: how much of it is in each input, and what the steps between frames are."""

from itertools import pairwise

import numpy as np
import pytest
from loop_fakes import TinyEncoder, scene

from reverie.errors import InputError
from reverie.loop.step_cap import capped
from reverie.loop.transition import Bloom, Transition, TransitionSettings, blend, slerp
from reverie.vectors import as_embedding

BLACK, WHITE = np.zeros((48, 64, 3), np.uint8), np.full((48, 64, 3), 255, np.uint8)


def embed(pixels):
    """A stamped vector of the tiny encoder."""
    return as_embedding(TinyEncoder().encode_batch([pixels])[0], encoder="tiny-v1")


def way(**settings):
    """From black to white."""
    return Transition(WHITE, embed(WHITE), TransitionSettings(**settings), seed=1)


class Halves:
    """Latents that are the pixels, halved."""

    def encode(self, pixels):
        """Float of half the size of numbers."""
        return pixels.astype(np.float32) / 2

    def decode(self, latent):
        """Back."""
        return np.rint(np.clip(latent * 2, 0, 255)).astype(np.uint8)


@pytest.mark.parametrize("path", ["ramp", "bloom"])
def test_every_frame_takes_an_equal_part(path):
    """An undisturbed way of four frames: quarters of the area, or of what is faded in, and then all of it."""
    transition, shown, means = way(path=path, frames=4), BLACK, []
    for _ in range(6):
        transition.advance()
        shown = transition.input(shown)
        means.append(shown.mean() / 255)
        transition.took(1.0, embed(BLACK))
    assert means == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1], abs=0.05)
    assert transition.covered == 1.0


def test_what_was_not_taken_is_spread_over_the_frames_left():
    """After a frame of which nothing was shown, the others take more."""
    transition = way(path="bloom", frames=4)
    transition.advance()
    transition.took(0.0, embed(BLACK))
    transition.advance()
    assert transition.part() == pytest.approx(1 / 3)
    transition.took(0.5, embed(BLACK))
    assert transition.covered == pytest.approx(1 / 6)


@pytest.mark.parametrize("path", ["ramp", "bloom", "slerp"])
def test_at_no_share_the_input_is_what_is_shown(path):
    """Also in the middle of a way: what grew before and has changed since is no step by itself."""
    transition, shown = way(path=path, frames=4), scene(5, *BLACK.shape[:2])
    for _ in range(2):
        transition.advance()
        transition.took(1.0, embed(shown))
    transition.advance()
    assert np.abs(transition.input(shown, 0.0).astype(int) - shown).max() <= 1
    assert not np.array_equal(transition.input(shown, 0.5), shown)


def test_a_cut_takes_all_at_once():
    """Whatever the number of frames says."""
    transition = way(path="cut", frames=8, cap=0.2)
    transition.advance()
    assert transition.part() == 1.0
    assert transition.input(BLACK).min() == 255


def test_a_bloom_is_of_one_picture_or_the_other():
    """Half way, nearly all places show one of the two: it is no double exposure."""
    mixed = Bloom(48, 64, TransitionSettings("bloom", softness=0.05), seed=3)(BLACK, WHITE, 0.5)
    between = np.mean((mixed > 20) & (mixed < 235))
    assert between < 0.15
    assert np.mean(mixed > 127) == pytest.approx(0.5, abs=0.03)


def test_the_forms_are_the_seeds():
    """The same seed grows the same patches, another one others; and they only ever grow."""
    settings = TransitionSettings("bloom")
    one, same, other = (Bloom(48, 64, settings, seed) for seed in (3, 3, 4))
    assert np.array_equal(one(BLACK, WHITE, 0.4), same(BLACK, WHITE, 0.4))
    assert not np.array_equal(one(BLACK, WHITE, 0.4), other(BLACK, WHITE, 0.4))
    growing = [one(BLACK, WHITE, share).astype(int) for share in np.linspace(0, 1, 9)]
    assert all((after >= before).all() for before, after in pairwise(growing))
    assert (growing[0].max(), growing[-1].min()) == (0, 255)


def test_a_large_picture_has_soft_forms_too():
    """Forms are drawn small and enlarged: no steps at a thousand pixels."""
    black, white = (np.full((700, 900, 3), value, np.uint8) for value in (0, 255))
    mixed = Bloom(700, 900, TransitionSettings("bloom", softness=0.2), seed=0)(black, white, 0.5)
    assert np.abs(np.diff(mixed[..., 0].astype(int), axis=0)).max() < 40


def test_slerp_goes_along_the_arc():
    """Half way between orthogonal vectors of length 2 the length is still 2; the ends are the ends."""
    a, b = np.array([2.0, 0], np.float32), np.array([0, 2.0], np.float32)
    assert np.linalg.norm(slerp(a, b, 0.5)) == pytest.approx(2)
    assert slerp(a, b, 0.0) == pytest.approx(a)
    assert slerp(a, b, 1.0) == pytest.approx(b)
    assert slerp(a, a, 0.3) == pytest.approx(a)
    assert slerp(a, -a, 0.25) == pytest.approx(a / 2)  # no arc is the arc: straight through
    assert slerp(np.zeros(2, np.float32), b, 0.5) == pytest.approx(b / 2)


def test_slerp_blends_in_the_latents_and_fades_without():
    """With latents through them; else as a ramp."""
    settings = TransitionSettings("slerp", frames=2)
    red, blue = np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4, 3), np.uint8)
    red[..., 0], blue[..., 2] = 200, 200
    through = Transition(blue, embed(blue), settings, latents=Halves())
    faded = Transition(blue, embed(blue), settings)
    for each in (through, faded):
        each.advance()
    assert through.input(red)[0, 0].tolist() == [141, 0, 141]
    assert faded.input(red)[0, 0].tolist() == [100, 0, 100]


def test_a_way_ends_where_it_arrives_or_after_long_enough():
    """At the target, or at the longest."""
    transition = way(path="ramp", frames=2, longest=3, arrived=0.75)
    transition.advance()
    assert transition.over(embed(WHITE))
    assert not transition.over(embed(BLACK))
    transition.advance()
    transition.advance()
    assert transition.over(embed(BLACK))


def test_a_way_is_gone_on_with():
    """State and the same seed give the same inputs."""
    whole = way(path="bloom", frames=5)
    for _ in range(2):
        whole.advance()
        whole.took(0.7, embed(BLACK))
    whole.advance()
    again = way(path="bloom", frames=5)
    again.restore(whole.state())
    assert np.array_equal(again.input(BLACK), whole.input(BLACK))
    assert again.state() == whole.state()


def test_a_way_that_comes_no_nearer_is_given_up():
    """After its frames, when for so many the likeness did not rise; not while it rises."""
    target = np.asarray(embed(WHITE), dtype=np.float64)
    across = np.zeros_like(target)
    across[0], across[1] = target[1], -target[0]
    across /= np.linalg.norm(across)
    near = [
        as_embedding(cosine * target + np.sqrt(1 - cosine**2) * across) for cosine in np.arange(0, 0.5, 0.05)
    ]
    transition = way(path="bloom", frames=4, longest=40, patience=3, arrived=0.9)
    for embedding in near:
        transition.advance()
        transition.took(1.0, embedding)
        assert not transition.over(embedding)
    idle = [transition.took(1.0, near[0]) or transition.over(near[0]) for _ in range(3)]
    assert idle == [False, False, True]


@pytest.mark.parametrize(
    "wrong",
    [
        {"path": "jump"},
        {"frames": 0},
        {"frames": 9, "longest": 8},
        {"forms": 0},
        {"softness": 0.0},
        {"cap": 0.0},
        {"cap": 2.5},
    ],
)
def test_settings_out_of_range_are_refused(wrong):
    """With the value."""
    with pytest.raises(InputError):
        TransitionSettings(**wrong)


# -------------------------------------------------------------------------------------- the step cap


def encode(frames):
    """Unit vectors in the plane: the mean grey value is an angle, 255 a right one."""
    angles = [frame.mean() / 255 * np.pi / 2 for frame in frames]
    return [as_embedding([np.cos(angle), np.sin(angle)]) for angle in angles]


def grey(value):
    """A frame of one grey value, with its vector."""
    pixels = np.full((4, 4, 3), round(value), np.uint8)
    return pixels, encode([pixels])[0]


def step(a, b):
    """1 - cosine."""
    return 1 - float(np.dot(a, b))


def test_a_small_step_is_shown_as_it_is():
    """Also the first frame, and any frame without a cap."""
    near, far = grey(30), grey(255)
    assert capped(grey(0), near, 0.2, encode).how == "frame"
    assert capped(None, far, 0.2, encode).how == "frame"
    assert capped(grey(0), far, None, encode).share == 1.0


def test_a_large_step_is_made_again_from_a_nearer_input():
    """From a share of what is new in it that makes a step of .7 to all of the cap, found in a few tries."""
    made = []

    def again(source, calm):
        made.append(calm)
        return source

    shown = capped(grey(0), grey(255), 0.2, encode, again=again, inputs=lambda share: grey(255 * share)[0])
    assert (shown.how, shown.made, shown.taken) == ("input", len(made), shown.share)
    assert set(made) == {1.0}
    assert len(made) <= 3
    assert 0.14 <= step(shown.embedding, grey(0)[1]) <= 0.2


def test_where_a_nearer_input_is_of_no_use_the_strength_is_less():
    """A generator that leaps whatever it is given: what is new in its input stays there."""

    def leaps(source, calm):
        return grey(min(255.0, float(source.mean()) + 255 * calm**2))[0]

    shown = capped(grey(0), grey(255), 0.2, encode, again=leaps, inputs=lambda share: grey(40 * share)[0])
    assert (shown.how, shown.taken) == ("calm", 1.0)
    assert 0.14 <= step(shown.embedding, grey(0)[1]) <= 0.2
    assert shown.made <= 6


def test_what_is_far_by_itself_is_taken_in_part():
    """Of an input beyond the cap as much as is well within it."""

    def leaps(source, calm):
        return grey(min(255.0, float(source.mean()) + 255 * calm**2))[0]

    shown = capped(grey(0), grey(255), 0.2, encode, again=leaps, inputs=lambda share: grey(150 * share)[0])
    assert (shown.how, shown.taken) == ("calm", 0.5)


def test_off_the_way_the_frame_before_is_made_again_at_less_strength():
    """Nothing new is in it then."""
    shown = capped(
        grey(0), grey(255), 0.2, encode, again=lambda source, calm: grey(source.mean() + 255 * calm**2)[0]
    )
    assert (shown.how, shown.taken) == ("calm", 0.0)
    assert shown.made <= 3
    assert 0.14 <= step(shown.embedding, grey(0)[1]) <= 0.2


def test_only_then_it_is_blended():
    """The strongest blend that keeps the cap, in batches; the loop goes on from it."""
    batches = []

    def counted(frames):
        batches.append(len(frames))
        return encode(frames)

    shown = capped(grey(0), grey(255), 0.2, counted, again=lambda _source, calm: grey(255 - calm)[0])
    assert (shown.how, batches[-3:], shown.made) == ("blend", [4, 4, 4], 3)
    assert step(shown.embedding, grey(0)[1]) <= 0.2
    assert step(encode([blend(grey(0)[0], grey(255)[0], shown.share + 0.02)])[0], grey(0)[1]) > 0.2
    assert np.array_equal(shown.pixels, blend(grey(0)[0], grey(255)[0], shown.share))


def test_tries_are_few_and_stop_where_nothing_helps():
    """An input whose step on the line through two tries is above the cap at nothing new is given up."""
    made = []

    def again(source, calm):
        made.append((float(source.mean()), calm))
        return grey(200 + source.mean() / 5)[0] if calm == 1.0 else grey(60 * calm)[0]

    shown = capped(grey(0), grey(255), 0.2, encode, again=again, inputs=lambda share: grey(255 * share)[0])
    assert shown.how == "calm"
    assert [calm for _, calm in made].count(1.0) == 1


def test_the_frame_before_is_shown_again_when_nothing_else_keeps_the_cap():
    """An encoder that jumps at the faintest blend."""

    def jumpy(frames):
        return [as_embedding([1.0, 0.0] if frame.max() == 0 else [0.0, 1.0]) for frame in frames]

    before = (BLACK, jumpy([BLACK])[0])
    shown = capped(before, (scene(1, 48, 64), jumpy([WHITE])[0]), 0.2, jumpy)
    assert (shown.how, shown.share) == ("blend", 0.0)
    assert np.array_equal(shown.pixels, BLACK)
