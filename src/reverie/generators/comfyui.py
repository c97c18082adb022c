"""The generator ``comfyui``, whose libraries are loaded when one is made."""

from __future__ import annotations

import os
from importlib import import_module
from importlib.util import find_spec
from inspect import signature
from typing import Any

from reverie.errors import InputError
from reverie.protocols import Generator

__all__ = ["make"]

for _library in ("httpx", "websockets"):
    if find_spec(_library) is None:
        raise ImportError(f"{_library} is not installed")


def make(seeds: str | os.PathLike[str] | None = None, *, variant: str = "", **options: Any) -> Generator:
    """Any workflow of a running ComfyUI (``comfyui``).

    Args:
        seeds: Folder of pictures to start from; None takes the 24 built-in ones.
        variant: Address of the server; ``http://127.0.0.1:8188`` where none is named.
        **options: As `reverie.generators.comfyui_generator.ComfyGenerator` takes them.

    Raises:
        InputError: It does not take these options.

        And what making it raises.
    """
    generator = import_module("reverie.generators.comfyui_generator").ComfyGenerator
    try:
        signature(generator).bind(seeds, variant=variant, **options)
    except TypeError as exc:
        raise InputError(f"the generator 'comfyui' cannot be made like that: {exc}") from exc
    made: Generator = generator(seeds, variant=variant, **options)
    return made
