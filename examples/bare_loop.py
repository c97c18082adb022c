"""The smallest loop there is: a function that makes a frame of a frame, and one call of reverie a frame.

    python examples/bare_loop.py [FRAMES]

`img2img` stands for your model: anything that makes a picture of a picture will do.
"""

import sys

import numpy as np

from reverie import ImageMemory, Injector
from reverie.registry import create

patches = create("generators", "patches", size=96)  # a small model that needs no weights


def img2img(frame: np.ndarray, seed: int) -> np.ndarray:
    """Your model: ``(h, w, 3)`` uint8 in, the same out."""
    return patches.generate(frame, prompt="", strength=0.5, seed=seed)


def main(frames: int = 120, folder: str = "bare-loop") -> int:
    """Run the loop; how often a memory was the next input."""
    injected = 0
    with ImageMemory(folder, max_size=75, eviction="rke") as memory, Injector(memory, "wander") as injector:
        frame = patches.seeds[0]
        for number in range(frames):
            frame = img2img(frame, number)
            injection = injector.observe(frame, prompt="tide pools", generation_params={"strength": 0.5})
            if injection is not None:
                frame, injected = injection.image, injected + 1
            if number % 20 == 19:
                state = injector.last.state
                print(f"{number + 1:4d}  {state.name}: {state.why}")
    print(f"{injected} of {frames} frames were made of memories, or on the way to one")
    return injected


if __name__ == "__main__":
    main(*(int(text) for text in sys.argv[1:2]))
