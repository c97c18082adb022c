"""Generators of heavy libraries: that these are there is known at once, they are loaded when one is made."""

from __future__ import annotations

import os
from importlib import import_module
from importlib.util import find_spec
from inspect import signature
from typing import Any

from reverie.errors import InputError
from reverie.protocols import Generator

__all__ = ["construct", "need"]


def need(*libraries: str) -> None:
    """Raise ImportError when a library is not installed; none is loaded."""
    for library in libraries:
        if find_spec(library) is None:
            raise ImportError(f"{library} is not installed")


def construct(
    name: str, target: str, seeds: str | os.PathLike[str] | None, variant: str, options: dict[str, Any]
) -> Generator:
    """Load a generator's module and make one.

    Args:
        name: What it is registered as.
        target: ``module:Class`` of this package.
        seeds: Its folder of pictures to start from.
        variant: What followed the colon of its name.
        options: Its other arguments.

    Raises:
        InputError: It does not take these options.
    """
    module, _, kind = target.partition(":")
    generator = getattr(import_module(f"reverie.generators.{module}"), kind)
    try:
        signature(generator).bind(seeds, variant=variant, **options)
    except TypeError as exc:
        raise InputError(f"the generator {name!r} cannot be made like that: {exc}") from exc
    made: Generator = generator(seeds, variant=variant, **options)
    return made
