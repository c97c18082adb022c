"""The monitor: what it says frame by frame is what the measures say of the frames it has seen."""

import numpy as np
import pytest

from reverie.diversity import hard_cuts, mean_pairwise, motifs, novelty, steps, travel, vendi
from reverie.errors import InputError
from reverie.loop.monitor import Monitor
from reverie.vectors import as_embedding


@pytest.fixture
def rows(unit):
    """40 unit vectors, ``(40, 24)``, in five groups that look alike."""
    apart = unit(40, 24, seed=5) + 2 * unit(5, 24, seed=6).repeat(8, axis=0)
    return (apart / np.linalg.norm(apart, axis=1, keepdims=True)).astype(np.float32)


def observed(monitor, rows):
    """What the monitor says of each row."""
    return [monitor.observe(as_embedding(row, encoder="tiny")) for row in rows]


def test_streaming_equals_batch(rows):
    """Every measure at every frame is the pure measure of the right frames, to rounding."""
    said = observed(Monitor(window=5, horizon=12, history=20, gap=3), rows)
    for last, measures in enumerate(said):
        seen = rows[: last + 1]
        earlier = rows[max(0, last - 20) : max(0, last - 2)]  # kept, and at least 3 frames back
        expected = {
            "step": steps(seen)[-1] if last else None,
            "pairwise": mean_pairwise(seen[-5:]) if last else None,
            "effective_images": vendi(seen[-12:]),
            "rke": vendi(seen[-12:], 2.0),
            "life_rke": vendi(seen, 2.0),
            "novelty": novelty(seen[-1], earlier) if last >= 3 else None,
            "travel": travel(seen[-5:]) if last >= 4 else None,
            "displacement": float(np.mean(1 - seen[-9:-3] @ seen[-1])) if last >= 3 else None,
            "drift": float(np.mean(1 - seen[1:] @ seen[0])) if last else None,
            "motifs": float(motifs(seen)),
            "hard_cuts": float(hard_cuts(seen)) if last else None,
        }
        for name, value in expected.items():
            assert measures[name] == (value if value is None else pytest.approx(value, abs=1e-5)), name


def test_too_few_frames_have_no_measure(rows):
    """None, not a number that looks like one: a step needs 2 frames, novelty 11 by default."""
    said = observed(Monitor(), rows[:12])
    first = {"step": None, "pairwise": None, "effective_images": 1.0, "novelty": None, "travel": None}
    assert {name: said[0][name] for name in first} == first
    assert [measures["novelty"] is None for measures in said] == [True] * 10 + [False] * 2
    assert None not in [measures["step"] for measures in said[1:]]
    assert None not in [measures["pairwise"] for measures in said[1:]]


def test_a_loop_that_stands_still(rows):
    """One image, no steps, nothing new."""
    said = observed(Monitor(gap=1), rows[[0] * 30])[-1]
    still = {"step": 0, "pairwise": 1, "effective_images": 1, "novelty": 0, "rke": 1, "life_rke": 1}
    assert {name: said[name] for name in still} == pytest.approx(still, abs=1e-6)


def test_novelty_forgets_what_is_older_than_the_history(rows):
    """A frame that comes back is new again once the history has passed it."""
    visits = [0, *[8] * 6, 0]
    remembered = observed(Monitor(window=1, horizon=1, history=7, gap=2), rows[visits])[-1]
    forgotten = observed(Monitor(window=1, horizon=1, history=6, gap=2), rows[visits])[-1]
    assert remembered["novelty"] == pytest.approx(0.0, abs=1e-6)
    assert forgotten["novelty"] > 0.1


def test_memory_is_bounded(rows):
    """However long the loop runs, no more frames are kept than the history."""
    monitor = Monitor(window=2, horizon=5, history=8)
    observed(monitor, np.concatenate([rows] * 3))
    assert np.array_equal(monitor.recent(10**6), rows[-8:])


def test_recent_gives_the_last_frames(rows):
    """Oldest first; fewer when there are fewer; none before the first frame."""
    monitor = Monitor()
    assert monitor.recent(5).shape == (0, 0)
    observed(monitor, rows[:3])
    assert np.array_equal(monitor.recent(2), rows[1:3])
    assert np.array_equal(monitor.recent(9), rows[:3])
    assert len(monitor.recent(0)) == 0


@pytest.mark.parametrize(
    "sizes",
    [
        {"window": 0},
        {"horizon": 0},
        {"gap": 0},
        {"history": 99},
        {"window": 30, "horizon": 10, "history": 20},
    ],
    ids=str,
)
def test_sizes_that_make_no_sense_are_refused(sizes):
    """Each at least 1, and the history as long as what is measured."""
    with pytest.raises(InputError, match="must be at least 1"):
        Monitor(**sizes)
