"""Observing in the background: the loop goes on, and nothing is lost or out of order."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from loop_fakes import Script, TinyEncoder, scene
from PIL import Image

from reverie import CacheManager, ImageMemory, Injector
from reverie.errors import EmbeddingError, ImageError, InputError, ParamsError, StorageError
from reverie.loop.behind import Behind
from reverie.loop.injection import RandomMemory
from reverie.loop.transition import TransitionSettings
from reverie.pixels import to_pixels

TIMEOUT = 20


class Held(TinyEncoder):
    """Encodes when it is let."""

    def __init__(self):
        self.go, self.begun = threading.Semaphore(0), threading.Semaphore(0)

    def encode_batch(self, frames):
        """Waits first."""
        if frames:
            self.begun.release()
            assert self.go.acquire(timeout=TIMEOUT)
        return super().encode_batch(frames)


def oldest(observation):
    """The oldest memory."""
    return observation.candidates.ids[0]


def prompts(memory):
    """Of what is kept, oldest first."""
    return [entry.prompt for entry in memory.cache.get_all()]


def test_it_returns_while_the_encoder_runs(tmp_path):
    """The frame is handed over; the answer to it comes with the next one."""
    encoder = Held()
    with ImageMemory(tmp_path, encoder=encoder) as memory:
        injector = Injector(memory, Script({1: oldest}), background=True)
        assert injector.observe(scene(0), prompt="0") is None
        assert encoder.begun.acquire(timeout=TIMEOUT)  # at work, and we are here
        assert injector.last is None
        encoder.go.release(2)
        injection = injector.observe(scene(1), prompt="1")
        assert injection.entry.prompt == "0"
        assert injector.last.frame == 1
        injector.close()
        assert injector.last.frame == 2
        assert prompts(memory) == ["0", "1"]


def test_the_answers_are_those_of_the_foreground_one_frame_later(tmp_path, encoder):
    """The same frames, the same decisions, whatever the threads do: exactly one frame late."""
    frames = [scene(number % 7) for number in range(40)]
    found = {}
    for background in (False, True):
        with ImageMemory(tmp_path / str(background), 20, encoder=encoder) as memory:
            policy = RandomMemory(interval=3)
            with Injector(memory, policy, seed=5, background=background) as injector:
                answers = [injector.observe(frame) for frame in frames]
                if background:
                    answers = [*answers[1:], injector.flush()]
            found[background] = [None if each is None else each.entry.cache_id for each in answers]
            assert memory.cache.size() == 20
    assert found[True] == found[False]
    assert sum(each is not None for each in found[True]) >= 10


def test_it_waits_for_the_frame_before_and_says_so(tmp_path):
    """At most one frame is on its way: what is too fast for the encoder goes at its pace."""
    encoder = Held()
    with ImageMemory(tmp_path, encoder=encoder) as memory:
        injector = Injector(memory, Script(), background=True)
        injector.observe(scene(0))
        assert encoder.begun.acquire(timeout=TIMEOUT)
        second = threading.Thread(target=injector.observe, args=(scene(1),))
        second.start()
        assert not encoder.begun.acquire(blocking=False)  # nobody has begun with the second
        second.join(0.05)
        assert second.is_alive()
        encoder.go.release(2)
        second.join(TIMEOUT)
        assert injector.last.times_ms["wait"] >= 40
        assert injector.waited_s >= 0.04
        injector.close()


def test_what_comes_too_fast_is_passed_over_where_that_is_asked(tmp_path):
    """The loop never waits; what it handed over is observed, what it did not is counted."""
    encoder = Held()
    with ImageMemory(tmp_path, encoder=encoder) as memory:
        injector = Injector(memory, Script({1: oldest}), background="skip")
        injector.observe(scene(0), prompt="0")
        assert encoder.begun.acquire(timeout=TIMEOUT)
        assert [injector.observe(scene(number), prompt=str(number)) for number in (1, 2, 3)] == [None] * 3
        assert injector.passed_over == 3
        encoder.go.release(2)
        injector.flush()
        injector.observe(scene(4), prompt="4")
        injector.close()
        assert prompts(memory) == ["0", "4"]
        assert (injector.last.frame, injector.passed_over) == (2, 3)


def test_background_is_yes_no_or_skip(memory):
    """Anything else is a mistake."""
    with pytest.raises(InputError, match="True, False or \"skip\", got 'wait'"):
        Injector(memory, Script(), background="wait")


def test_nothing_of_a_frame_belongs_to_the_caller(tmp_path):
    """Its buffer, picture, file and parameters may be used again at once."""
    encoder = Held()
    path = tmp_path / "current.png"
    Image.fromarray(scene(2)).save(path)
    array, picture, params = scene(0), Image.fromarray(scene(1)), {"steps": 4}
    with ImageMemory(tmp_path / "cache", encoder=encoder) as memory:
        with Injector(memory, Script(), background=True) as injector:
            for frame, spoil in (
                (array, lambda: array.fill(0)),
                (picture, lambda: picture.paste((0, 0, 0), (0, 0, 16, 12))),
                (path, lambda: path.write_bytes(b"the next frame")),
            ):
                injector.observe(frame, generation_params=params)
                params["steps"] += 1
                spoil()
                encoder.go.release()
        entries = memory.cache.get_all()
        assert all(np.array_equal(to_pixels(e.image_path), scene(n)) for n, e in enumerate(entries))
        assert [entry.generation_params["steps"] for entry in entries] == [4, 5, 6]


def test_an_array_that_nobody_writes_into_is_not_copied(tmp_path, monkeypatch):
    """One that is read-only and has memory of its own; a view of another may change with that."""
    taken = []
    monkeypatch.setattr(Behind, "put", lambda _self, given: taken.append(given.pixels))
    frozen, base = scene(0), scene(1)
    frozen.flags.writeable = False
    view = base[:]
    view.flags.writeable = False
    with ImageMemory(tmp_path / "cache") as memory:
        injector = Injector(memory, Script(), background=True)
        for frame in (frozen, view, base):
            injector.observe(frame)
    assert taken[0] is frozen
    assert not any(np.shares_memory(each, base) for each in taken[1:])


def test_what_fails_is_said_at_the_next_frame(memory, encoder):
    """A frame that cannot be used is refused at once, one that cannot be kept later; the loop goes on."""
    injector = Injector(memory, Script(), background=True)
    injector.observe(scene(0), prompt="0")
    with pytest.raises(ImageError):
        injector.observe(np.zeros(3))
    with pytest.raises(EmbeddingError):
        injector.observe(scene(1), embedding=np.ones(3))
    injector.observe(scene(1), prompt="1", generation_params={"no": object()})
    with pytest.raises(ParamsError) as caught:
        injector.observe(scene(2), prompt="2")
    assert caught.value.__notes__ == [
        "of the frame before this one, which was not counted; hand this one in again"
    ]
    injector.observe(scene(2), prompt="2")
    injector.close()
    assert prompts(memory) == ["0", "2"]
    assert injector.last.frame == 2


def test_a_full_disk_loses_no_frame(memory, monkeypatch):
    """The frame is kept, tried again, and the order stays."""
    injector = Injector(memory, Script(), background=True)
    injector.observe(scene(0), prompt="0")
    real, full = CacheManager.add_many, [True]

    def add_many(self, entries):
        if full[0]:
            raise StorageError("the disk is full")
        return real(self, entries)

    injector.flush()
    monkeypatch.setattr(CacheManager, "add_many", add_many)
    injector.observe(scene(1), prompt="1")
    for _ in range(2):
        with pytest.raises(StorageError, match="full") as caught:
            injector.observe(scene(2), prompt="2")
        assert caught.value.__notes__[-1].startswith("of the frame before this one: it is kept")
    with pytest.raises(StorageError, match="full"):
        injector.close()
    full[0] = False
    injector.observe(scene(2), prompt="2")
    injector.close()
    injector.close()
    assert prompts(memory) == ["0", "1", "2"]
    assert injector.last.frame == 3


def test_a_frame_cannot_be_made_again(memory):
    """The generator is at work on the next one by then."""
    injector = Injector(memory, "wander", background=True)
    with pytest.raises(InputError, match="background=False"):
        injector.observe(scene(0), again=lambda source, **_how: source)
    with pytest.raises(InputError, match="cannot be gone on with"):
        injector.state()
    assert injector.last is None


class Ramp(Script):
    """Goes there in three frames, under a cap that a running loop would keep."""

    transition = TransitionSettings("ramp", frames=3, longest=3, cap=0.01, arrived=1.0)


def test_a_way_begins_with_the_frame_that_was_made_of_it(memory):
    """The frame that was under way when it was decided is none of it: it is kept, and has no parent there."""
    injector = Injector(memory, Ramp({2: oldest}), background=True)
    seen, frame = [], scene(0)
    for number in range(8):
        injection = injector.observe(frame, prompt=str(number + 1))
        if injector.last is not None:
            seen.append(injector.last)
        frame = scene(number + 1) if injection is None else injection.image
    injector.close()
    seen.append(injector.last)
    assert [each.frame for each in seen] == list(range(1, 9))
    steps = {each.frame: each.decision.reason for each in seen}
    assert steps[2] == "in the script"
    assert "on the way" in steps[3]
    kept = {each.frame for each in seen if each.cache_id is not None}
    assert {1, 2, 3} <= kept
    assert not {4, 5, 6, 7} & kept  # made of the inputs that were decided at 2 to 5
    assert 8 in kept
    parents = {each.frame: dict(zip(each.parents, each.weights, strict=True)) for each in seen}
    assert parents[3] == {"cache_00002": 1.0}
    assert parents[4]["cache_00001"] == pytest.approx(1 / 3)
    assert next(each.frame for each in seen if each.arrived) == 6
    assert all(each.shown is None for each in seen)  # the cap is not kept


def test_frames_that_were_handed_in_are_there_at_the_end_of_the_program(tmp_path):
    """Without a close, too."""
    code = f"""
import numpy as np
from reverie import ImageMemory, Injector
memory = ImageMemory({str(tmp_path / "cache")!r})
injector = Injector(memory, "none", background=True)
for number in range(5):
    injector.observe(np.full((32, 32, 3), 40 * number, np.uint8), prompt=str(number))
"""
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    with CacheManager(tmp_path / "cache") as cache:
        assert [entry.prompt for entry in cache.get_all()] == list("01234")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_fork_has_a_thread_of_its_own(memory):
    """The parent's frame stays the parent's business."""
    injector = Injector(memory, Script(), background=True)
    injector.observe(scene(0))
    injector.flush()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            injector.observe(scene(1))
            injector.close()
            code = 0 if injector.last.frame == 2 else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    injector.close()
    assert injector.last.frame == 1


def test_callbacks(memory):
    """One a way, and one an alarm; in the caller's thread, with what was observed."""
    alarms, set_out = [], []

    def note(injection, observed):
        set_out.append((observed.frame, injection.entry.cache_id, threading.current_thread()))

    injector = Injector(memory, Ramp({2: oldest}), background=True, on_alarm=alarms.append, on_injection=note)
    for _ in range(300):
        injector.observe(scene(0))
    injector.close()
    assert set_out == [(2, "cache_00001", threading.main_thread())]
    assert alarms
    assert all(each.measures["since_alarm"] == 0 for each in alarms)
    assert len(alarms) == injector.last.measures["alarms"]


def test_what_a_callback_raises_comes_out_and_the_frame_counts(memory):
    """In the foreground at that frame."""

    def stop(_injection, _observed):
        raise RuntimeError("enough")

    injector = Injector(memory, Script({2: oldest}), on_injection=stop)
    injector.observe(scene(0))
    with pytest.raises(RuntimeError, match="enough"):
        injector.observe(scene(1))
    assert (injector.last.frame, len(memory)) == (2, 2)
    injector.observe(scene(2))
    assert injector.last.frame == 3


def test_what_a_callback_raises_in_the_background_loses_no_frame(memory):
    """It comes out at the next frame, which was handed over before."""

    def stop(_injection, _observed):
        raise RuntimeError("enough")

    injector = Injector(memory, Script({1: oldest}), background=True, on_injection=stop)
    injector.observe(scene(0), prompt="0")
    with pytest.raises(RuntimeError, match="enough"):
        injector.observe(scene(1), prompt="1")
    injector.close()
    assert prompts(memory) == ["0", "1"]
    assert injector.last.frame == 2
