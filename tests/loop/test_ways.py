"""The injector on the way: no step above the cap, frames that are marked, where they come from, errors."""

import numpy as np
import pytest
from loop_fakes import SIZE, TinyEncoder, scene
from PIL import Image

from reverie import DreamLoop, ImageMemory, Injector
from reverie.admission import MaximumSimilarity
from reverie.diversity import steps
from reverie.loop.transition import TransitionSettings
from reverie.pixels import to_pixels
from reverie.protocols import Decision

BLOOM = TransitionSettings("bloom", frames=4, longest=9, arrived=0.95, cap=0.2)


class Way:
    """A policy with a script and a way: frame number to a decision."""

    name = "way"

    def __init__(self, decisions, transition=BLOOM):
        self.decisions = decisions
        self.transition = transition
        self.observations = []

    def decide(self, observation, rng):
        """The scripted decision, or none."""
        self.observations.append(observation)
        return self.decisions.get(observation.frame, Decision(None, "not in the script"))


class Still:
    """A generator whose frames are nearly its inputs."""

    name, size, seeds = "still", SIZE, ()

    def __init__(self, jump=0):
        self.calls = []
        self._jump = jump

    def generate(self, frame, *, prompt, strength, seed):
        """The frame, moved a little by its noise; a strength of 1 is a scene of its own."""
        self.calls.append((strength, seed))
        if strength == 1.0:
            return scene(seed % 97)
        noise = np.random.default_rng(seed).normal(0, 4 + self._jump * strength, frame.shape)
        return np.clip(frame + noise, 0, 255).astype(np.uint8)


@pytest.fixture
def archive(tmp_path):
    """A memory of two pinned scenes."""
    with ImageMemory(tmp_path / "cache", encoder=TinyEncoder()) as memory:
        for number in (3, 7):
            memory.remember(scene(number), pinned=True)
        yield memory


def loop_of(memory, policy, generator=None, start=0):
    """A loop of a still generator."""
    return DreamLoop(generator or Still(), Injector(memory, policy), start=scene(start), strength=0.5)


def to(cache_id, **more):
    """A decision for a memory."""
    return Decision(cache_id, "go", 0.1, **more)


def test_no_shown_step_is_above_the_cap_and_the_loop_arrives(archive):
    """From a scene to one far from it, in small steps, each frame made by the generator."""
    policy = Way({3: to("cache_00001")})
    loop = loop_of(archive, policy)
    done = [loop.step() for _ in range(16)]
    rows = np.stack([one.observed.embedding for one in done])
    assert max(steps(rows)) <= 0.2 + 1e-6
    target = TinyEncoder().encode_batch([scene(3)])[0]
    assert rows[2] @ target < 0.6
    assert max(rows @ target) >= 0.95
    (arrived,) = [one.frame for one in done if one.observed.arrived]
    assert [one.injection.step for one in done if one.injection] == list(range(1, arrived - 2))
    assert {one.injection.kind for one in done if one.injection} == {"memory"}
    past = policy.observations[-1].past
    assert [(each.frame, each.cache_id, each.ended) for each in past] == [(3, "cache_00001", arrived)]


def test_frames_on_the_way_are_not_kept(archive):
    """They are half of something else; the frame of arrival too. Before and after, frames are kept."""
    loop = loop_of(archive, Way({3: to("cache_00001")}))
    done = [loop.step() for _ in range(16)]
    (arrived,) = [one.frame for one in done if one.observed.arrived]
    kept = [one.frame for one in done if one.observed.cache_id]
    assert kept == [1, 2, 3, *range(arrived + 1, 17)]
    assert all(not one.observed.stored for one in done if not one.observed.cache_id)
    assert "on the way" in done[4].observed.decision.reason


def test_lineage_has_weights(archive):
    """More and more of the target; generations grow by one, and come down with what is taken from a seed."""
    loop = loop_of(archive, Way({3: to("cache_00001")}))
    done = [loop.step().observed for _ in range(12)]
    shares = [dict(zip(one.parents, one.weights, strict=True)).get("cache_00001", 0.0) for one in done]
    assert shares[:3] == [0.0, 0.0, 0.0]
    way = [share for share in shares[3:8] if share]
    assert way == sorted(way)
    assert way[-1] > 0.6
    assert [one.depth for one in done[:3]] == [1.0, 2.0, 3.0]
    assert min(one.depth for one in done[4:9]) < 3.5
    assert all(sum(one.weights) == pytest.approx(1.0) for one in done if one.parents)


def test_something_imagined_is_a_target_too(tmp_path):
    """With an empty memory: made at the strength asked for, not shown itself, newer than what is known."""
    generator = Still()
    with ImageMemory(tmp_path, encoder=TinyEncoder()) as memory:
        loop = loop_of(memory, Way({4: Decision(None, "nothing", reheat=1.0)}), generator)
        done = [loop.step() for _ in range(14)]
    begun = done[3]
    assert (begun.injection.kind, begun.injection.entry, begun.injection.step) == ("imagined", None, 1)
    assert begun.observed.target.pixels.shape == (*SIZE, 3)
    assert begun.observed.decision.numbers["imagined"] > 0.1
    assert [strength for strength, _ in generator.calls].count(1.0) == 2
    assert begun.observed.decision.reason.startswith("nothing; imagined, ")
    assert any(one.observed.arrived for one in done)


def test_a_memory_that_is_newer_than_what_is_imagined_is_taken(archive):
    """Both were looked at."""
    policy = Way({3: to("cache_00001", reheat=1.0, freshness=2.0), 15: to("cache_00002", reheat=1.0)})
    loop = loop_of(archive, policy)
    done = [loop.step() for _ in range(16)]
    assert done[2].injection.entry.cache_id == "cache_00001"
    assert "imagined" in done[2].observed.decision.numbers
    assert done[14].injection.kind == "imagined"


def test_a_loop_that_cannot_imagine_says_so(archive):
    """Without a way to make a frame again; a memory is then the way out."""
    injector = Injector(
        archive, Way({1: Decision(None, "why", reheat=1.0), 2: to("cache_00001", reheat=1.0)})
    )
    assert injector.observe(scene(1)) is None
    assert injector.last.decision.reason == "why; cannot help: this loop cannot imagine anything"
    assert injector.observe(scene(1)).entry.cache_id == "cache_00001"


def test_without_a_way_to_make_a_frame_again_it_is_blended(archive):
    """For loops that hand in frames only: what is to be shown is in `last`, and is the next input."""
    injector = Injector(archive, Way({}))
    injector.observe(scene(1))
    injection = injector.observe(scene(5))
    shown = injector.last.shown
    assert (injection.kind, injection.entry, injection.step, shown.how) == ("shown", None, 0, "blend")
    assert np.array_equal(injection.image, shown.pixels)
    assert "more than 0.2 from the one before: blended with it" in injection.reason
    assert injector.last.cache_id is None


def test_a_restless_generator_is_calmed(archive):
    """Free frames that would jump are made again at less strength, with the same noise, and kept as shown."""
    generator = Still(jump=400)
    loop = loop_of(archive, Way({}), generator)
    done = [loop.step() for _ in range(12)]
    calm = [one for one in done if one.observed.shown is not None and one.observed.shown.how == "calm"]
    assert calm
    for one in calm:
        used = [strength for strength, seed in generator.calls if seed == one.seed]
        assert used[0] == 0.5
        assert 0.5 * one.observed.shown.share in used[1:]
        assert np.array_equal(to_pixels(one.injection.image), one.pixels)
        assert np.array_equal(archive.image(one.observed.cache_id), one.pixels)


def test_a_stop_is_passed_on_the_way(archive):
    """First the stop, then the target: one injection, its steps counted through."""
    loop = loop_of(archive, Way({3: to("cache_00002", via=("cache_00001",))}))
    done = [loop.step() for _ in range(24)]
    rows = np.stack([one.observed.embedding for one in done])
    stop, target = TinyEncoder().encode_batch([scene(3), scene(7)])
    (arrived,) = [one.frame for one in done if one.observed.arrived]
    assert int(np.argmax(rows[:arrived] @ stop)) + 1 < arrived
    assert max(rows[:arrived] @ stop) >= 0.95
    assert rows[arrived - 1] @ target >= 0.95
    assert [one.injection.step for one in done[:arrived] if one.injection] == list(range(1, arrived - 2))


def test_a_frame_that_could_not_be_kept_may_be_handed_in_again(archive, monkeypatch):
    """On the way or not: nothing of it was counted, no step of the way taken."""
    from reverie.errors import StorageError

    injector, add = Injector(archive, Way({2: to("cache_00001")})), archive.cache.add_many
    injector.observe(scene(1))

    def fail(*args, **kwargs):
        monkeypatch.setattr(archive.cache, "add_many", add)
        raise StorageError("full")

    monkeypatch.setattr(archive.cache, "add_many", fail)
    with pytest.raises(StorageError):
        injector.observe(scene(1))
    assert injector.observe(scene(1)).step == 1
    assert injector.last.frame == 2


def test_a_loop_that_changes_its_size_gives_the_way_up(archive):
    """There is no way from the one size to the other; it goes on."""
    injector = Injector(archive, Way({1: to("cache_00001")}))
    assert injector.observe(scene(1)).image.shape == (*SIZE, 3)
    assert injector.observe(scene(1, 20, 30)) is None
    assert injector.last.arrived
    assert injector.observe(scene(1, 20, 30)) is None


def test_pil_frames_get_pil_inputs_all_the_way(archive):
    """And the last shown frame is there as an array."""
    injector = Injector(archive, Way({1: to("cache_00001")}))
    image = Image.fromarray(scene(1))
    for _ in range(3):
        injection = injector.observe(image)
        assert isinstance(injection.image, Image.Image)
        image = injection.image


def test_what_was_rejected_is_said(tmp_path):
    """A frame that memory has already leaves no entry, and its descendants descend from its parents."""
    with ImageMemory(tmp_path, encoder=TinyEncoder(), admission=MaximumSimilarity(0.9)) as memory:
        injector = Injector(memory, Way({}))
        said = []
        for number in (1, 1, 2):
            injector.observe(scene(number))
            said.append((injector.last.stored, injector.last.cache_id, injector.last.parents))
    assert said[:2] == [("new", "cache_00001", ()), ("rejected", None, ("cache_00001",))]
    assert injector.last.shown is None or said[2][0] == ""


def test_a_text_or_picture_to_tend_to(archive):
    """Encoded once; the policy sees its vector."""
    policy = Way({})
    injector = Injector(archive, policy, towards=scene(7))
    injector.observe(scene(1))
    assert policy.observations[0].towards.tobytes() == TinyEncoder().encode_batch([scene(7)])[0].tobytes()
    assert policy.observations[0].pinned == {"cache_00001", "cache_00002"}
