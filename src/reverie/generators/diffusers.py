"""The generator ``diffusers``, whose libraries are loaded when one is made: that takes some seconds."""

from __future__ import annotations

import os
from importlib import import_module
from importlib.util import find_spec
from inspect import signature
from typing import Any

from reverie.errors import InputError
from reverie.protocols import Generator

__all__ = ["make"]

for _library in ("diffusers", "torch", "transformers"):
    if find_spec(_library) is None:
        raise ImportError(f"{_library} is not installed")


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
    generator = import_module("reverie.generators.diffusers_pipeline").DiffusersGenerator
    try:
        signature(generator).bind(seeds, variant=variant, **options)
    except TypeError as exc:
        raise InputError(f"the generator 'diffusers' cannot be made like that: {exc}") from exc
    made: Generator = generator(seeds, variant=variant, **options)
    return made
