"""A tiny encoder and a tiny generator: as small as they can be and still collapse, remember and repeat."""

import numpy as np

from reverie.protocols import Decision

SIZE = (12, 16)


def scene(seed=0, height=SIZE[0], width=SIZE[1]):
    """Two blocks of colour, ``(h, w, 3)`` uint8."""
    rng = np.random.default_rng([7, seed])
    frame = np.empty((height, width, 3), np.uint8)
    frame[:, : width // 2], frame[:, width // 2 :] = rng.integers(0, 256, (2, 3))
    return frame


class TinyEncoder:
    """Mean colours of the four quarters of a picture: 12 numbers."""

    name = "tiny-v1"
    dimensions = 12

    def encode_batch(self, frames):
        """One unit row a frame."""
        rows = np.array([self._quarters(frame) for frame in frames]).reshape(len(frames), 12)
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    def _quarters(self, frame):
        y, x = -(-frame.shape[0] // 2), -(-frame.shape[1] // 2)
        parts = frame[:y, :x], frame[:y, -x:], frame[-y:, :x], frame[-y:, -x:]
        return np.concatenate([part.mean(axis=(0, 1)) - 127.2 for part in parts])


class TinyGenerator:
    """Mixes the frame with a scene drawn from the seed; notes every call.

    Args:
        seeds: Pictures to start from; None makes three scenes.
        size: Height and width, or one number as the registry's generators take it.
        returns: Called with each frame before it is returned.
    """

    name = "tiny"

    def __init__(self, seeds=None, *, size=SIZE, returns=lambda frame: frame):
        self.size = (size, size) if isinstance(size, int) else size
        self.seeds = [scene(seed, *self.size) for seed in range(3)] if seeds is None else list(seeds)
        self.calls = []
        self._returns = returns

    def generate(self, frame, *, prompt, strength, seed):
        """``strength`` of something new, the rest of the frame."""
        self.calls.append((frame.copy(), prompt, strength, seed))
        new = scene(seed, *self.size)
        mixed = (1 - strength) * frame.astype(np.float64) + strength * new
        return self._returns(np.rint(mixed).astype(np.uint8))


class Script:
    """A policy that chooses what it is told: frame number to a function of the observation."""

    name = "script"

    def __init__(self, choices=None):
        self.choices = choices or {}
        self.observations = []

    def decide(self, observation, rng):
        """The scripted choice, or none."""
        self.observations.append(observation)
        choose = self.choices.get(observation.frame)
        if choose is None:
            return Decision(None, "not in the script")
        return Decision(choose(observation), "in the script", 0.5, {"chosen": 1.0})
