"""The injector: one call a frame, in the order of the specification's flow chart."""

import numpy as np
import pytest
from loop_fakes import SIZE, Script, TinyEncoder, scene
from PIL import Image

from reverie import ImageMemory, Injector
from reverie.encoders.descriptor import DescriptorEncoder
from reverie.errors import (
    CacheFullError,
    EmbeddingError,
    EncoderMismatchError,
    ImageError,
    InputError,
    ParamsError,
    StorageError,
    UnknownNameError,
)
from reverie.loop.injection import NoInjection
from reverie.loop.monitor import Monitor
from reverie.loop.spectator import Spectator
from reverie.pixels import fit
from reverie.vectors import as_embedding


def first(observation):
    """The oldest memory."""
    return observation.candidates.ids[0]


def observe(injector, count, start=0):
    """The injections of some scenes, one a frame."""
    return [injector.observe(scene(start + number)) for number in range(count)]


# ---------------------------------------------------------------------------------------- flow


def test_a_frame_is_encoded_then_added_then_decided_about(memory, monkeypatch):
    """The flow chart's order, every frame."""
    done = []
    policy = Script()

    def note(owner, name, step):
        original = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *a, **k: done.append(step) or original(*a, **k))

    note(memory.matcher, "encode_image", "encode")
    note(memory.cache, "add_many", "add")
    note(policy, "decide", "decide")
    observe(Injector(memory, policy), 3)
    assert done == ["encode", "add", "decide"] * 3


def test_a_vector_that_is_there_is_not_made_again(memory, monkeypatch):
    """It is taken, once it is of this memory's encoder; a frame with any other was not counted."""
    injector, vector = Injector(memory, Script()), memory.matcher.encode_image(scene(1))
    monkeypatch.setattr(memory.matcher, "encode_image", None)
    injector.observe(scene(1), embedding=vector)
    assert injector.last.embedding.tobytes() == vector.tobytes()
    with pytest.raises(EncoderMismatchError, match="other-v1"):
        injector.observe(scene(2), embedding=as_embedding(vector, encoder="other-v1"))
    with pytest.raises(EmbeddingError, match="12"):
        injector.observe(scene(2), embedding=np.ones(3))
    assert (injector.last.frame, len(memory)) == (1, 1)


def test_the_policy_sees_the_current_frame_among_the_memories(memory):
    """It is in the cache by then, under its own id."""
    policy = Script()
    observe(Injector(memory, policy), 3)
    for number, seen in enumerate(policy.observations, start=1):
        assert seen.frame == number
        assert seen.candidates.ids == tuple(f"cache_{n:05d}" for n in range(1, number + 1))
        assert seen.own_id == seen.candidates.ids[-1]
        assert seen.candidates.matrix[-1].tobytes() == seen.embedding.tobytes()
        assert seen.recent.shape == (number, 12)
        assert seen.recent[-1].tobytes() == seen.embedding.tobytes()
        assert seen.embedding.encoder == seen.candidates.encoder == "tiny-v1"


def test_the_policy_sees_the_monitors_measures(memory):
    """Those that there are: None is left out."""
    policy, monitor = Script(), Monitor()
    observe(Injector(memory, policy), 12)
    for seen in policy.observations:
        measures = monitor.observe(seen.embedding)
        measured = {name: value for name, value in measures.items() if value is not None}
        assert seen.measures.items() >= measured.items()
        colours = {"colour_drift", "lightness", "tint_a", "tint_b", "contrast", "saturation"}
        assert seen.measures.keys() - {"since_alarm"} == measured.keys() | {"alarm", "alarms"} | colours
    assert "step" not in policy.observations[0].measures
    assert {"step", "pairwise", "effective_images", "novelty"} <= policy.observations[-1].measures.keys()


def test_the_policy_sees_earlier_injections(memory):
    """Frame and id of each that happened, oldest first."""
    policy = Script({2: first, 4: first})
    observe(Injector(memory, policy), 5)
    past = [[(p.frame, p.cache_id) for p in seen.past] for seen in policy.observations]
    assert past == [
        [],
        [],
        [(2, "cache_00001")],
        [(2, "cache_00001")],
        [(2, "cache_00001"), (4, "cache_00001")],
    ]


def test_the_policy_sees_the_last_frames_only(tmp_path):
    """A bounded window, however long the loop."""
    policy = Script()
    with ImageMemory(tmp_path, 3, TinyEncoder(), index="sqlite") as memory:
        observe(Injector(memory, policy), 125)
    assert len(policy.observations[-1].recent) == 120
    assert len(policy.observations[-1].candidates) == 3


def test_a_frame_is_kept_with_its_prompt_and_parameters(memory):
    """And with its embedding, so that it can be found."""
    injector = Injector(memory, "none")
    injector.observe(scene(1), prompt="a rose", generation_params={"denoise": 0.4})
    (entry,) = memory.cache.get_all()
    assert (entry.prompt, entry.generation_params) == ("a rose", {"denoise": 0.4})
    assert entry.embedding.tobytes() == injector.last.embedding.tobytes()
    assert memory.image(entry.cache_id).tolist() == scene(1).tolist()


def test_last_holds_everything_about_the_frame(memory):
    """Number, vector, measures, decision, id, parents and times."""
    injector = Injector(memory, Script({2: first}))
    assert injector.last is None
    observe(injector, 2)
    last = injector.last
    assert (last.frame, last.cache_id, last.parents) == (2, "cache_00002", ("cache_00001",))
    assert (last.decision.cache_id, last.decision.reason) == ("cache_00001", "in the script")
    assert last.measures["step"] > 0
    assert set(last.times_ms) == {"encode", "store", "decide"}
    assert all(time >= 0 for time in last.times_ms.values())


# ------------------------------------------------------------------------------------- lineage


def test_a_frame_descends_from_the_frame_before_or_the_injected_memory(memory):
    """The first from nothing; after an injection, from what was injected."""
    injector = Injector(memory, Script({3: first}))
    observe(injector, 5)
    parents = [entry.parents for entry in memory.cache.get_all()]
    assert parents == [(), ("cache_00001",), ("cache_00002",), ("cache_00001",), ("cache_00004",)]
    assert injector.last.parents == ("cache_00004",)


# ----------------------------------------------------------------------------------- injections


def test_an_injection_is_the_memory_with_its_reason(memory):
    """Picture, entry, similarity and why."""
    injections = observe(Injector(memory, Script({3: first})), 3)
    assert injections[:2] == [None, None]
    injection = injections[2]
    assert injection.image.tolist() == scene(0).tolist()
    assert injection.entry.cache_id == "cache_00001"
    assert (injection.similarity, injection.reason) == (0.5, "in the script")


def test_the_current_frame_can_be_what_is_injected(memory):
    """The specification's flow chart allows it: then the loop goes on from the frame itself."""
    injector = Injector(memory, Script({1: lambda seen: seen.own_id}))
    injection = injector.observe(scene(4))
    assert injection.image.tolist() == scene(4).tolist()
    assert injection.entry.cache_id == injector.last.cache_id


def test_an_injection_counts_as_a_use(tmp_path):
    """What is injected stays in memory longer."""
    with ImageMemory(tmp_path, 2, TinyEncoder()) as memory:
        observe(Injector(memory, Script({2: first})), 3)
        assert [entry.cache_id for entry in memory.cache] == ["cache_00001", "cache_00003"]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P"])
def test_a_pil_frame_gets_a_pil_picture(memory, mode):
    """RGB, as large as the frame."""
    injector = Injector(memory, Script({1: first}))
    image = injector.observe(Image.fromarray(scene(1)).convert(mode)).image
    assert isinstance(image, Image.Image)
    assert (image.mode, image.size) == ("RGB", SIZE[::-1])


def test_other_frames_get_an_array(memory, tmp_path):
    """Also when the frame was a path."""
    injector = Injector(memory, Script({1: first, 2: first}))
    Image.fromarray(scene(1)).save(tmp_path / "frame.png")
    for frame in (scene(1), tmp_path / "frame.png"):
        image = injector.observe(frame).image
        assert (type(image), image.dtype, image.shape) == (np.ndarray, np.uint8, (*SIZE, 3))


@pytest.mark.parametrize("size", [(12, 16), (16, 12), (40, 24), (5, 7)])
def test_a_memory_of_another_size_is_fitted_to_the_frame(memory, size):
    """Scaled to cover it, the centre cut; a loop may change its size."""
    injector = Injector(memory, Script({2: first}))
    injector.observe(scene(1))
    image = injector.observe(scene(2, *size)).image
    assert image.tolist() == fit(scene(1), *size).tolist()


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda path: path.unlink(), "gone"),
        (lambda path: path.write_bytes(b""), "cache_00001"),
        (lambda path: path.write_bytes(path.read_bytes()[:40]), "cache_00001"),
        (lambda path: path.symlink_to(path.rename(path.parents[2] / "outside.png")), "link"),
        (lambda path: (path.unlink(), path.mkdir()), "cache_00001"),
    ],
    ids=["gone", "empty", "cut", "link out", "folder"],
)
def test_a_picture_that_cannot_be_had_costs_an_injection_not_the_loop(memory, spoil, why):
    """The loop goes on from the frame, and the reason says why."""
    injector = Injector(memory, Script({2: first, 4: lambda seen: seen.candidates.ids[2]}))
    injector.observe(scene(0))
    spoil(memory.cache.get("cache_00001").image_path)
    assert injector.observe(scene(1)) is None
    decision = injector.last.decision
    assert (decision.cache_id, decision.similarity) == (None, None)
    assert decision.reason.startswith("in the script; but ")
    assert why in decision.reason
    assert decision.numbers == {"chosen": 1.0}
    assert injector.observe(scene(2)) is None
    assert injector.last.parents == ("cache_00002",)
    assert injector.observe(scene(3)).entry.cache_id == "cache_00003"
    assert [(p.frame, p.cache_id) for p in injector._past] == [(4, "cache_00003")]


def test_a_memory_that_is_gone_altogether(memory):
    """Another process took it out between the decision and the reading."""

    def take_out(observation):
        memory.cache.remove("cache_00001")
        return "cache_00001"

    injector = Injector(memory, Script({2: take_out}))
    assert observe(injector, 2) == [None, None]
    assert "cache_00001" in injector.last.decision.reason
    assert injector.last.decision.cache_id is None


# ---------------------------------------------------------------------------- errors, and again


def failing(memory, error):
    """Makes the next add fail once."""
    add = memory.cache.add_many

    def fail(*args, **kwargs):
        memory.cache.add_many = add
        raise error

    memory.cache.add_many = fail


def test_a_frame_that_could_not_be_kept_was_not_counted(memory):
    """After the error the same frame may be handed in again; numbers and lineage go on."""
    policy = Script()
    injector = Injector(memory, policy)
    injector.observe(scene(1))
    failing(memory, StorageError("cannot write: the disk is full"))
    with pytest.raises(StorageError, match="disk is full"):
        injector.observe(scene(2))
    assert injector.last.frame == 1
    injector.observe(scene(2))
    assert (injector.last.frame, injector.last.parents) == (2, ("cache_00001",))
    assert [seen.frame for seen in policy.observations] == [1, 2]
    assert len(policy.observations[-1].recent) == 2


def test_a_broken_frame_was_not_counted(memory, tmp_path):
    """Nothing of it is kept."""
    injector = Injector(memory, "none")
    with pytest.raises(ImageError, match="no image at"):
        injector.observe(tmp_path / "missing.png")
    with pytest.raises(ParamsError):
        injector.observe(scene(1), generation_params={"a": object()})
    injector.observe(scene(1))
    assert (injector.last.frame, len(memory)) == (1, 1)


def test_a_memory_full_of_pins_says_so(tmp_path):
    """The error is the cache's own."""
    with ImageMemory(tmp_path, 1, TinyEncoder()) as memory:
        memory.remember(scene(1), pinned=True)
        with pytest.raises(CacheFullError, match="pinned"):
            Injector(memory).observe(scene(2))


# ------------------------------------------------------------------------------------- policies


def test_a_policy_by_name_with_its_options(memory):
    """``spec`` by default, every 15 frames; the options are the policy's."""
    assert Injector(memory).policy_name == "spec"
    injector = Injector(memory, "random", interval=2)
    assert injector.policy_name == "random"
    assert [injection is not None for injection in observe(injector, 6)] == [False, True] * 3


def test_an_unknown_policy_is_refused(memory):
    """With the names that exist."""
    with pytest.raises(UnknownNameError, match="gentle, none, random, restless, spec, wander"):
        Injector(memory, "sepc")


@pytest.mark.parametrize("policy", [3, None, object(), NoInjection])
def test_what_is_no_policy_is_refused(memory, policy):
    """Neither a name nor an object that decides: the names that there are are in the message."""
    with pytest.raises(InputError, match=r"registered name .*wander.* got "):
        Injector(memory, policy)


def test_options_of_a_finished_policy_are_refused(memory):
    """They would be ignored."""
    with pytest.raises(InputError, match="interval: a policy that exists already takes no options"):
        Injector(memory, Script(), interval=3)


def run(folder, seed, encoder, frames=40):
    """What an injector does with a seeded walk of frames: injections, reasons and the pictures' bytes."""
    with ImageMemory(folder, encoder=encoder, seed=0) as memory:
        injector = Injector(memory, "random", seed=seed, interval=3)
        done = []
        for number in range(frames):
            injection = injector.observe(scene(number))
            done.append(
                (
                    None if injection is None else (injection.entry.cache_id, injection.image.tobytes()),
                    injector.last.decision,
                    injector.last.measures,
                    injector.last.embedding.tobytes(),
                )
            )
    return done


@pytest.mark.parametrize("encoder", [TinyEncoder(), DescriptorEncoder()], ids=lambda encoder: encoder.name)
def test_seeded_runs_are_bit_equal(tmp_path, encoder):
    """The same seed and frames give the same injections, measures and bits; another does not."""
    once = run(tmp_path / "a", 5, encoder)
    assert run(tmp_path / "b", 5, encoder) == once
    assert run(tmp_path / "c", 6, encoder) != once


# ------------------------------------------------------------------------------------ spectator


def test_a_spectator_watches_and_keeps_nothing(encoder):
    """Numbers, vectors and measures as an injector's; never an injection."""
    spectator, monitor = Spectator(encoder), Monitor()
    assert (spectator.last, spectator.policy_name) == (None, "none")
    for number in range(1, 17):
        assert spectator.observe(scene(number), prompt="p", generation_params={"a": 1}) is None
        last = spectator.last
        assert last.frame == number
        assert last.measures.items() >= monitor.observe(last.embedding).items()
        assert (last.state.name, last.state.since) == ("warming up", 1)
        assert (last.cache_id, last.parents, last.decision.cache_id) == (None, (), None)
        assert last.decision.reason == "no memory: frames are only watched"
        assert set(last.times_ms) == {"encode"}


def test_a_spectator_does_not_count_a_broken_frame(encoder):
    """As the injector."""
    spectator = Spectator(encoder)
    with pytest.raises(ImageError):
        spectator.observe(np.zeros((2, 2)))
    spectator.observe(scene(1))
    assert spectator.last.frame == 1
