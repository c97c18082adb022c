"""A loop through the HTTP API of stable-diffusion-webui (AUTOMATIC1111, Forge; start it with --api).

    python examples/a1111_loop.py http://127.0.0.1:7860 start.png "a harbour at dusk" 300

Only the standard library is needed. The server's frames come as PNG with their parameters in them: they are
kept as they are.
"""

import base64
import io
import json
import sys
import urllib.request
from typing import Any

from PIL import Image

from reverie import ImageMemory, Injector


def img2img(url: str, picture: Image.Image, **settings: Any) -> tuple[Image.Image, dict[str, Any]]:
    """One img2img call: the picture, and what the server says it was made with."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    body = {"init_images": [base64.b64encode(buffer.getvalue()).decode()], **settings}
    request = urllib.request.Request(
        f"{url.rstrip('/')}/sdapi/v1/img2img",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=600) as response:
        answer = json.load(response)
    data = answer["images"][0].rpartition(",")[2]  # some versions put "data:image/png;base64," before it
    made = Image.open(io.BytesIO(base64.b64decode(data)))
    made.load()
    return made, json.loads(answer["info"])


def main(url: str, start: str, prompt: str, frames: int = 300, folder: str = "memory") -> Injector:
    """Run the loop."""
    frame = Image.open(start).convert("RGB")
    settings = {"prompt": prompt, "denoising_strength": 0.5, "steps": 20, "cfg_scale": 6}
    with (
        ImageMemory(folder, max_size=150, eviction="rke") as memory,
        Injector(memory, "wander", on_injection=lambda injection, _: print(injection.reason)) as injector,
    ):
        for number in range(frames):
            size = {"width": frame.width, "height": frame.height}
            frame, info = img2img(url, frame, seed=number, **size, **settings)
            params = {name: info[name] for name in ("seed", "sampler_name", "sd_model_name") if name in info}
            injection = injector.observe(frame, prompt=prompt, generation_params={**settings, **params})
            if injection is not None:
                frame = injection.image
    return injector


if __name__ == "__main__":
    main(*sys.argv[1:4], *(int(text) for text in sys.argv[4:5]))
