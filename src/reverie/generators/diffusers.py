"""The generator ``diffusers``, whose libraries are loaded when one is made: that takes some seconds."""

from __future__ import annotations

import os
from typing import Any

from reverie.generators.late import construct, need
from reverie.protocols import Generator

__all__ = ["make"]

need("diffusers", "torch", "transformers")


def make(seeds: str | os.PathLike[str] | None = None, *, variant: str = "", **options: Any) -> Generator:
    """Img2img pipelines of diffusers: Stable Diffusion, SDXL, turbo and LCM models (``diffusers``).

    Args:
        seeds: Folder of pictures to start from; None takes the 24 built-in ones.
        variant: The model: a repository of the Hub, or a folder.
        **options: As `reverie.generators.diffusers_pipeline.DiffusersGenerator` takes them.

    Raises:
        InputError: It does not take these options.

        And what making it raises.
    """
    return construct("diffusers", "diffusers_pipeline:DiffusersGenerator", seeds, variant, options)
