"""From a PNG to pixels, and from pixels to a network's input: ours against Pillow, imagecodecs, transformers.

All sides give the same bits; that is checked before anything is timed.
"""

from __future__ import annotations

import io
from pathlib import Path

import imagecodecs
import numpy as np
from PIL import Image
from transformers import CLIPImageProcessorPil

from bench_cache import frame
from measure import Row, arguments, header, interleave, scratch, show
from reverie.encoders.clip_pixels import preprocess
from reverie.generators.seed_images import built_in_seeds
from reverie.models.cards import card_of
from reverie.pixels import Pixels, to_pixels


def pictures() -> dict[str, Pixels]:
    """A noisy frame of 512, a scene of 512 and one of 1024."""
    scene = Image.fromarray(built_in_seeds(256)[3])
    sizes = {f"scene {side}": np.asarray(scene.resize((side, side))) for side in (512, 1024)}
    return {"noisy 512": frame(), **sizes}


def decoding(folder: Path, rounds: int) -> list[Row]:
    """`to_pixels` of a file against Pillow's own decoder and libspng."""
    found = []
    for name, pixels in pictures().items():
        path = folder / f"{name}.png"
        Image.fromarray(pixels).save(path)
        sides = {
            "ours": lambda path=path: to_pixels(path),
            "pillow": lambda path=path: np.asarray(Image.open(io.BytesIO(path.read_bytes())).convert("RGB")),
            "spng": lambda path=path: imagecodecs.spng_decode(path.read_bytes()),
        }
        assert all(np.array_equal(side(), pixels) for side in sides.values())
        taken = interleave(sides, rounds=rounds, calls=4)
        found.append(Row(f"PNG to pixels, {name}, against Pillow", taken["ours"], taken["pillow"]))
        found.append(Row("- against imagecodecs (spng)", taken["ours"], taken["spng"]))
    return found


def preprocessing(rounds: int) -> list[Row]:
    """A frame in memory to the input of CLIP, against transformers' Pillow processor."""
    settings, theirs = card_of("clip-vit-b32").preprocessing, CLIPImageProcessorPil()
    found = []
    for name, pixels in pictures().items():
        sides = {
            "ours": lambda pixels=pixels: preprocess([pixels], settings),
            "peer": lambda pixels=pixels: theirs(images=pixels, return_tensors="np")["pixel_values"],
        }
        assert np.array_equal(sides["ours"](), sides["peer"]())
        taken = interleave(sides, rounds=rounds, calls=4)
        found.append(
            Row(f"pixels to CLIP's input, {name}, against transformers", taken["ours"], taken["peer"])
        )
    return found


def main() -> None:
    """Print the table."""
    options = arguments("Time decoding and preprocessing.")
    rounds = 4 if options.quick else 20
    print(header(options.folder), "\n")
    with scratch(options.folder) as folder:
        show(decoding(folder, rounds))
        show(preprocessing(rounds), head=False)


if __name__ == "__main__":
    main()
