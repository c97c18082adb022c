"""The second descriptor: an encoder, to which unrelated pictures are apart and changed ones are not."""

import numpy as np
import pytest

from reverie.generators.seed_images import built_in_seeds
from reverie.study.judge import ScatteringEncoder
from reverie.testing import EncoderSuite


@pytest.fixture(scope="module")
def judge():
    """It keeps no state."""
    return ScatteringEncoder()


class TestScatteringEncoder(EncoderSuite):
    """What every encoder has to do."""

    def make(self):
        """A new one."""
        return ScatteringEncoder()


def test_unrelated_pictures_are_about_orthogonal(judge):
    """Mean cosine of all pairs of the seeds near 0, the tenth most alike pairs below .3."""
    rows = judge.encode_batch(built_in_seeds(128))
    cosines = (rows @ rows.T)[np.triu_indices(24, 1)]
    assert abs(cosines.mean()) < 0.1
    assert np.quantile(cosines, 0.9) < 0.3


@pytest.mark.parametrize(
    ("change", "least"),
    [
        (lambda frame: np.clip(frame.astype(int) + 8, 0, 255).astype(np.uint8), 0.98),
        (lambda frame: np.roll(frame, 4, axis=1), 0.95),
        (lambda frame: np.ascontiguousarray(frame[4:-4, 4:-4]), 0.95),
    ],
    ids=["lighter", "moved", "cropped"],
)
def test_small_changes_are_small(judge, change, least):
    """On average over the seeds."""
    seeds = built_in_seeds(128)
    before, after = judge.encode_batch(seeds), judge.encode_batch([change(seed) for seed in seeds])
    assert np.vecdot(before, after).mean() > least


def test_texture_is_seen_that_the_mean_colour_does_not_show(judge):
    """Stripes of two directions with the same mean."""
    grid = np.indices((64, 64))
    across, along = (np.where(grid[axis] // 4 % 2, 220, 40).astype(np.uint8)[..., None] for axis in (0, 1))
    a, b = judge.encode_batch([across.repeat(3, axis=2), along.repeat(3, axis=2)])
    assert a @ b < 0.8
