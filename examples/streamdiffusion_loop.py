"""Reverie in a StreamDiffusion loop: an adapter, and how it is called.

StreamDiffusion (0.1.1) keeps several frames in its pipeline: what comes out belongs to an input of some calls
ago. A loop through it is therefore late by itself, and what matters is that nothing waits: reverie observes
in the background, and passes over what comes while it is at work.

    stream = StreamDiffusion(pipe, t_index_list=[32, 45], torch_dtype=torch.float16)
    stream.prepare("a harbour at dusk")
    with ImageMemory("memory", encoder="clip") as memory, StreamLoop(stream, memory) as loop:
        frame = loop.start(picture)
        while running:
            frame = loop.next(frame)
            show(frame)

Nothing is imported of StreamDiffusion: anything that takes and gives tensors as it does will do.
"""

from typing import Any, Self

import torch

from reverie import ImageMemory, Injector
from reverie.pixels import ImageLike, to_pixels


class StreamLoop:
    """Feeds a stream with its own frames, and with memories when it is stuck.

    Args:
        stream: Takes ``(1, 3, h, w)`` from 0 to 1 and gives ``(1, 3, h, w)`` from -1 to 1.
        memory: Where frames are kept.
        policy: An injection policy.
        prompt: What is kept with the frames.
    """

    def __init__(self, stream: Any, memory: ImageMemory, policy: str = "wander", prompt: str = "") -> None:
        self.stream = stream
        self.prompt = prompt
        self.injector = Injector(memory, policy, background="skip")

    def start(self, picture: ImageLike) -> torch.Tensor:
        """A picture as the stream takes it."""
        device = getattr(self.stream, "device", "cpu")
        dtype = getattr(self.stream, "dtype", torch.float32)
        pixels = torch.from_numpy(to_pixels(picture).copy()).to(device)
        return (pixels.permute(2, 0, 1)[None] / 255).to(dtype)

    def next(self, frame: torch.Tensor) -> torch.Tensor:
        """The stream's next frame, or the memory that is to be its next input."""
        made = (self.stream(frame) / 2 + 0.5).clamp(0, 1)
        injection = self.injector.observe(made, prompt=self.prompt)
        return made if injection is None else injection.image

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.injector.close()
