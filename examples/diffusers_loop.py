"""A loop of your own around a diffusers pipeline, in the pipeline's own tensors, observed in the background.

    pip install "reverie[clip]" diffusers transformers accelerate
    python examples/diffusers_loop.py stabilityai/sd-turbo "a harbour at dusk" 600

`reverie dream --generator diffusers:stabilityai/sd-turbo` does all of this by itself; this is for people who
own their loop. Frames stay on the GPU; reverie fetches a quarter of their bytes, encodes and stores them in a
thread, and the answer comes one frame later. `Ctrl-C` ends it; the next start goes on with the same memory.
"""

import sys
from typing import Any

import torch

from reverie import ImageMemory, Injector
from reverie.registry import create

STEPS, STRENGTH = 2, 0.5  # steps x strength must be at least 1


def load(model: str) -> Any:
    """The pipeline, in half precision where there is a GPU."""
    from diffusers import AutoPipelineForImage2Image

    if torch.cuda.is_available():
        return AutoPipelineForImage2Image.from_pretrained(model, torch_dtype=torch.float16).to("cuda")
    return AutoPipelineForImage2Image.from_pretrained(model)


def main(
    pipe: Any,
    prompt: str,
    frames: int = 600,
    *,
    size: int = 512,
    folder: str = "memory",
    encoder: str = "clip",
) -> Injector:
    """Dream; `pipe` is any img2img pipeline."""
    pipe.set_progress_bar_config(disable=True)
    start = create("generators", "patches", size=size).seeds[0]
    frame = torch.from_numpy(start.copy()).permute(2, 0, 1)[None] / 255
    settings = {"strength": STRENGTH, "num_inference_steps": STEPS, "guidance_scale": 0.0}
    with (
        ImageMemory(folder, max_size=300, encoder=encoder, eviction="rke") as memory,
        Injector(memory, "wander", background=True, live=f"{folder}/live") as injector,
    ):
        for number in range(frames):
            noise = torch.Generator("cpu").manual_seed(number)
            made = pipe(prompt, image=frame, generator=noise, output_type="pt", **settings)
            frame = made.images
            injection = injector.observe(frame, prompt=prompt, generation_params={"seed": number, **settings})
            if injection is not None:
                frame = injection.image  # a tensor as the frame is, on its device
    return injector


if __name__ == "__main__":
    main(load(sys.argv[1]), sys.argv[2], *(int(text) for text in sys.argv[3:4]))
