"""What reading a picture's metadata adds to the time of adding its file.

Run ``python benchmarks/bench_metadata.py [--quick]``: files of about 400 kB, 512 x 512, without texts, with
A1111's, and with a ComfyUI graph of 60 nodes and its workflow. The peer is Pillow's reading of the texts
alone. Asked: at most .3 ms each.
"""

from __future__ import annotations

import io
import json
from functools import partial

import numpy as np
from PIL import Image, PngImagePlugin

from measure import Bar, Row, arguments, header, interleave, show
from reverie.metadata import read_metadata

INFOTEXT = (
    "a harbour at dusk, boats, rain\nNegative prompt: blurry, people\nSteps: 20, Sampler: DPM++ 2M Karras, "
    'CFG scale: 6.5, Seed: 965400086, Size: 512x512, Model: sd_xl_base, Lora hashes: "a: 1f2e"'
)


def graph() -> dict[str, object]:
    """A sampler with texts, and a chain of sixty nodes before them."""
    nodes: dict[str, object] = {
        str(number): {
            "class_type": "Chain",
            "inputs": {"conditioning": [str(number + 1), 0], "strength": 0.5},
        }
        for number in range(100, 160)
    }
    nodes["160"] = {"class_type": "CLIPTextEncode", "inputs": {"text": "a harbour at dusk", "clip": ["4", 1]}}
    sampler = {"seed": 5, "steps": 20, "cfg": 7, "positive": ["100", 0], "negative": ["160", 0]}
    nodes["3"] = {"class_type": "KSampler", "inputs": {**sampler, "latent_image": ["5", 0]}}
    nodes["9"] = {"class_type": "SaveImage", "inputs": {"images": ["3", 0]}}
    return nodes


def png(texts: dict[str, str]) -> bytes:
    """A picture of about 400 kB with these texts."""
    pixels = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8) // 16 * 16
    info = PngImagePlugin.PngInfo()
    for name, text in texts.items():
        info.add_text(name, text)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", pnginfo=info, compress_level=1)
    return buffer.getvalue()


def pillow(data: bytes) -> object:
    """The texts as Pillow has them before the pixels are decoded."""
    with Image.open(io.BytesIO(data)) as image:
        return dict(image.info)


def main() -> None:
    """Print the table."""
    options = arguments("Time the reading of metadata.")
    print(header(options.folder), end="\n\n")
    files = {
        "no texts": png({}),
        "A1111": png({"parameters": INFOTEXT}),
        "ComfyUI": png({"prompt": json.dumps(graph()), "workflow": json.dumps({"nodes": ["x" * 80] * 400})}),
    }
    sides = {name: partial(read_metadata, data) for name, data in files.items()}
    sides |= {f"{name}, Pillow": partial(pillow, data) for name, data in files.items()}
    taken = interleave(sides, rounds=5 if options.quick else 30, calls=40)
    show(
        [
            Row(f"metadata: {name}", taken[name], taken[f"{name}, Pillow"], Bar(at_most=0.3e-3))
            for name in files
        ]
    )


if __name__ == "__main__":
    main()
