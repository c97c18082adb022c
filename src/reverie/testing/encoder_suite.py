"""What every encoder must do, as tests."""

from __future__ import annotations

import numpy as np
import pytest

from reverie.protocols import Encoder
from reverie.testing.samples import picture

__all__ = ["EncoderSuite"]


class EncoderSuite:
    """Tests of an `Encoder`; a subclass says how to make one.

    Attributes:
        frame_size: ``(height, width)`` of most test frames.
    """

    frame_size = (48, 64)

    def make(self) -> Encoder:
        """The encoder."""
        raise NotImplementedError

    @pytest.fixture
    def encoder(self) -> Encoder:
        """The encoder under test; where making one is slow, let `make` keep it."""
        return self.make()

    def test_it_is_named(self, encoder: Encoder) -> None:
        """Its name is stamped on vectors, so it is a text; its dimensions are a positive number."""
        assert isinstance(encoder, Encoder)
        assert isinstance(encoder.name, str)
        assert encoder.name
        assert encoder.dimensions > 0

    def test_rows_are_unit_vectors_in_order(self, encoder: Encoder) -> None:
        """``(n, d)`` float32 rows of length 1; row i is of frame i."""
        frames = [picture(seed, *self.frame_size) for seed in range(3)]
        rows = encoder.encode_batch(frames)
        assert rows.shape == (3, encoder.dimensions)
        assert rows.dtype == np.float32
        assert np.allclose(np.linalg.norm(rows.astype(np.float64), axis=1), 1.0, atol=1e-5)
        assert np.array_equal(encoder.encode_batch(frames[::-1]), rows[::-1])

    def test_no_frames_give_no_rows(self, encoder: Encoder) -> None:
        """The empty case keeps its width."""
        rows = encoder.encode_batch([])
        assert rows.shape == (0, encoder.dimensions)
        assert rows.dtype == np.float32

    def test_a_frame_encodes_alone_as_in_a_batch(self, encoder: Encoder) -> None:
        """Bit-equal, whatever else is in the batch, and again in a second encoder."""
        frames = [picture(seed, *self.frame_size) for seed in range(4)]
        together = encoder.encode_batch(frames)
        alone = np.concatenate([encoder.encode_batch([frame]) for frame in frames])
        assert np.array_equal(together, alone)
        assert np.array_equal(together, self.make().encode_batch(frames))

    @pytest.mark.parametrize("size", [(1, 1), (2, 300), (300, 2), (37, 53), (512, 512)])
    def test_frames_of_any_size(self, encoder: Encoder, size: tuple[int, int]) -> None:
        """Tiny, thin and large frames, also one colour only, all have a direction."""
        frames = [picture(1, *size), np.zeros((*size, 3), np.uint8), np.full((*size, 3), 255, np.uint8)]
        rows = encoder.encode_batch(frames)
        assert np.isfinite(rows).all()
        assert np.allclose(np.linalg.norm(rows.astype(np.float64), axis=1), 1.0, atol=1e-5)

    def test_frames_are_not_changed(self, encoder: Encoder) -> None:
        """Read-only and strided frames are fine and stay as they are."""
        frame = picture(5, 96, 128)[::2, ::2]
        frame.setflags(write=False)
        before = frame.copy()
        rows = encoder.encode_batch([frame])
        assert np.array_equal(frame, before)
        assert np.array_equal(rows, encoder.encode_batch([before]))

    def test_like_is_nearer_than_unlike(self, encoder: Encoder) -> None:
        """A frame with a little noise is nearer to itself than to another frame."""
        scene, different = _scene(0), _scene(1)
        noise = np.random.default_rng(0).integers(-3, 4, scene.shape)
        noisy = np.clip(scene.astype(np.int64) + noise, 0, 255).astype(np.uint8)
        a, b, c = encoder.encode_batch([scene, noisy, different])
        assert float(a @ b) > float(a @ c)


def _scene(kind: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """A red slope to the right, or blue stripes."""
    y, x = np.mgrid[0:64, 0:64]
    flat = np.zeros((64, 64))
    bands = [x * 4, flat, flat] if kind == 0 else [flat, flat, 255 * ((y // 4) % 2)]
    return np.stack(bands, axis=-1).astype(np.uint8)
