"""Frames of programs that are no Python loops: OpenCV captures, and TouchDesigner's Script TOP.

OpenCV has blue first: `from_opencv` and `to_opencv` turn the channels around. TouchDesigner has float32 RGBA
from 0 to 1 with the lowest row first: in the callbacks of a Script TOP whose input is the loop's output

    memory = ImageMemory(project.folder + "/memory")
    injector = Injector(memory, "wander", background="skip")

    def onCook(scriptOp):
        frame = scriptOp.inputs[0].numpyArray()
        injection = injector.observe(from_touchdesigner(frame))
        scriptOp.copyNumpyArray(frame if injection is None else to_touchdesigner(injection.image))

A camera (or any other source that is not made of its own frames) has nothing to be steered by its memory:
`watch` only remembers what is new, and says when a source stands still.
"""

from typing import Any

import numpy as np

from reverie import ImageMemory, Injector
from reverie.admission import MaximumSimilarity


def from_opencv(frame: np.ndarray) -> np.ndarray:
    """``(h, w, 3)`` uint8 BGR as RGB."""
    return np.ascontiguousarray(frame[..., ::-1])


def to_opencv(pixels: np.ndarray) -> np.ndarray:
    """``(h, w, 3)`` uint8 RGB as BGR."""
    return np.ascontiguousarray(pixels[..., ::-1])


def from_touchdesigner(frame: np.ndarray) -> np.ndarray:
    """``(h, w, 4)`` float32 RGBA, lowest row first, as ``(h, w, 3)`` uint8 RGB."""
    return np.rint(np.clip(frame[::-1, :, :3], 0, 1) * 255).astype(np.uint8)


def to_touchdesigner(pixels: np.ndarray) -> np.ndarray:
    """``(h, w, 3)`` uint8 RGB as ``(h, w, 4)`` float32 RGBA, lowest row first."""
    opaque = np.full((*pixels.shape[:2], 1), 255, np.uint8)
    return np.concatenate([pixels, opaque], axis=2)[::-1].astype(np.float32) / 255


def watch(capture: Any, folder: str = "memory", limit: float = 0.97) -> int:
    """Remember the frames of a capture that are unlike all that is remembered; how many that were.

    Args:
        capture: Gives ``(True, frame)`` or ``(False, None)`` by `read`, as `cv2.VideoCapture` does.
        folder: Where they are kept.
        limit: Cosine to the nearest memory from which on a frame is nothing new.
    """
    with (
        ImageMemory(folder, max_size=None, admission=MaximumSimilarity(limit)) as memory,
        Injector(
            memory, "none", on_alarm=lambda seen: print(f"frame {seen.frame}: {seen.state.why}")
        ) as injector,
    ):
        before = len(memory)
        while True:
            more, frame = capture.read()
            if not more:
                return len(memory) - before
            injector.observe(from_opencv(frame))


if __name__ == "__main__":
    import sys

    import cv2

    print(watch(cv2.VideoCapture(sys.argv[1])), "frames remembered")
