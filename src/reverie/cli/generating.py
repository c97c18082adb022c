"""Options of a command that are arguments of its generator."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import click

__all__ = ["generator_options", "spelled", "taken_out"]

Command = TypeVar("Command", bound=Callable[..., Any])


def _argument(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> dict[str, Any]:
    """``NAME=VALUE`` each, the value as JSON where it is, else as text; anything else is wrong usage."""
    found: dict[str, Any] = {}
    for text in values:
        name, equals, value = text.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not name.isidentifier():
            raise click.BadParameter(f"{text!r} is not NAME=VALUE, such as steps=4")
        if name in found:
            raise click.BadParameter(f"{name} is given twice")
        try:
            found[name] = json.loads(value)
        except (ValueError, RecursionError):
            found[name] = value
    return found


_OPTIONS = (
    click.option(
        "--option",
        "arguments",
        multiple=True,
        callback=_argument,
        metavar="NAME=VALUE",
        help="Any argument of the generator by its name, repeatable.",
    ),
)


def generator_options(command: Command) -> Command:
    """The options; what is given of them is found by `taken_out`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def taken_out(chosen: dict[str, Any]) -> dict[str, Any]:
    """Take the options of `generator_options` out of a command's; gives the generator's arguments by name."""
    return dict(chosen.pop("arguments"))


def spelled(arguments: Mapping[str, Any]) -> Iterator[str]:
    """The words of a command line that give a generator these arguments."""
    for name, value in arguments.items():
        text = value if isinstance(value, str) and not _is_json(value) else json.dumps(value)
        yield from ("--option", f"{name}={text}")


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
