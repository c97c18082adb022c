"""The generator ``comfyui``, whose libraries are loaded when one is made."""

from __future__ import annotations

import os
from typing import Any

from reverie.generators.late import construct, need
from reverie.protocols import Generator

__all__ = ["make"]

need("httpx", "websockets")


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
    return construct("comfyui", "comfyui_generator:ComfyGenerator", seeds, variant, options)
